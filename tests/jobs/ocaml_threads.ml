(* OCaml: threads under its master lock, which a thread of its own hands round, conditions, exceptions, hash tables, big
   and small blocks for its collectors, lazy sequences. Run with: ocaml -I +threads unix.cma threads.cma *)

let scale = try float_of_string (Sys.getenv "ZAP_JOB_SCALE") with Not_found -> 1.0
let rounds = int_of_float (90.0 *. scale)

exception Thrown of int * string

let next state =
  state := ((!state * 1103515245) + 12345) land 0x7fffffff;
  !state lsr 8

type tree = Leaf | Node of tree * int * tree

let rec insert value = function
  | Leaf -> Node (Leaf, value, Leaf)
  | Node (left, here, right) as whole ->
    if value < here then Node (insert value left, here, right)
    else if value > here then Node (left, here, insert value right)
    else whole

let rec walk tree rest () =
  match tree with
  | Leaf -> rest ()
  | Node (left, value, right) -> walk left (fun () -> Seq.Cons (value, walk right rest)) ()

let compute item =
  let state = ref (item * 7919) and table = Hashtbl.create 16 in
  let tree = ref Leaf in
  for i = 1 to 1200 do
    let value = next state in
    tree := insert value !tree;
    Hashtbl.replace table (Printf.sprintf "%x" (value mod 499)) (i, Bytes.create (value mod 300))
  done;
  let sum = Seq.fold_left (fun sum value -> ((sum * 31) + value) mod 1000000007) 7 (walk !tree Seq.empty) in
  let digest = ref (string_of_int sum) in
  Hashtbl.to_seq table |> Seq.map (fun (key, (i, bytes)) -> (key, i, Bytes.length bytes)) |> List.of_seq
  |> List.sort compare
  |> List.iter (fun (key, i, length) -> digest := Digest.to_hex (Digest.string (Printf.sprintf "%s%s%d%d" !digest key i length)));
  if item mod 7 = 0 then raise (Thrown (item, !digest)) else !digest

let guard = Mutex.create ()
let arrived = Condition.create ()
let tasks = Queue.create ()
let results : (int, string) Hashtbl.t = Hashtbl.create 64
let caught = ref 0

let worker () =
  let rec loop () =
    Mutex.lock guard;
    while Queue.is_empty tasks do Condition.wait arrived guard done;
    let task = Queue.pop tasks in
    Mutex.unlock guard;
    match task with
    | None -> ()
    | Some item ->
      let result, thrown = try (compute item, 0) with Thrown (_, digest) -> (digest, 1) in
      Mutex.lock guard;
      Hashtbl.replace results item result;
      caught := !caught + thrown;
      Condition.broadcast arrived;
      Mutex.unlock guard;
      loop ()
  in
  loop ()

let () =
  let workers = List.init 4 (fun _ -> Thread.create worker ()) in
  let add task = Mutex.lock guard; Queue.push task tasks; Condition.broadcast arrived; Mutex.unlock guard in
  let total = ref "" in
  for round = 1 to rounds do
    let items = List.init 12 (fun i -> (round * 12) + i) in
    List.iter (fun item -> add (Some item)) items;
    List.iter (fun item ->
        Mutex.lock guard;
        while not (Hashtbl.mem results item) do Condition.wait arrived guard done;
        total := Digest.to_hex (Digest.string (!total ^ Hashtbl.find results item));
        Mutex.unlock guard) items;
    Thread.delay 0.001;
    if round mod 10 = 0 then begin
      if round mod 20 = 0 then Gc.compact ();
      Printf.printf "round %d: %s\n%!" round !total
    end
  done;
  List.iter (fun _ -> add None) workers;
  List.iter Thread.join workers;
  Printf.printf "result: %d tasks, %d caught, %s\n%!" (Hashtbl.length results) !caught !total;
  exit 26
