%% Erlang: a virtual machine with schedulers, a helper process that starts ports, and ports to other programs.
-module(erlang_processes).
-export([main/1]).

main(_) ->
    Parent = self(),
    Count = 800,
    Workers = [spawn_link(fun() -> work(Parent, N) end) || N <- lists:seq(1, 20)],
    [lists:nth(1 + N rem 20, Workers) ! {item, N} || N <- lists:seq(1, Count)],
    Sum = lists:sum([receive {result, Value} -> Value end || _ <- lists:seq(1, Count)]),
    io:format("workers: ~p~n", [Sum rem 1000003]),
    Ports = [string:trim(os:cmd("expr " ++ integer_to_list(N) ++ " \\* 3")) || N <- lists:seq(1, 150)],
    io:format("ports: ~p~n", [lists:sum([list_to_integer(P) || P <- Ports])]),
    Port = open_port({spawn, "cat"}, [binary, stream]),
    Echo = [echo(Port, N) || N <- lists:seq(1, 300)],
    port_close(Port),
    io:format("cat: ~p~n", [lists:sum(Echo)]),
    halt(51).

echo(Port, N) ->
    port_command(Port, [integer_to_list(N), $\n]),
    receive {Port, {data, Data}} -> binary_to_integer(string:trim(Data)) end.

work(Parent, Number) ->
    receive {item, N} -> Parent ! {result, compute(N, 20000)} end,
    work(Parent, Number).

compute(X, 0) -> X;
compute(X, N) -> compute((X * 1103515245 + 12345) rem 2147483648, N - 1).
