//! Ids against the rest of the host: tools that look for processes see and hit the pod alone, old numbers that others have
//! now, many copies of one pod at once.

use crate::case::{skipped, Case, Doing, Result};
use crate::ensure;
use crate::place::User;
use crate::process::{self, Ended};
use crate::scene::{Scene, PATIENCE};
use std::collections::BTreeSet;
use std::fs;

/// A program of processes and threads that looks at all that /proc says of them.
const FAMILY: &str = "proc_ids";

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, packages: &[&str], run: fn(&Scene, bool) -> Result, yes: bool| {
        let packages: Vec<String> = packages.iter().map(|name| name.to_string()).collect();
        for ordinary in [false, true] {
            let case = Case::new(name.clone(), move |scene: &Scene| run(scene, yes)).packages(&packages).limit(120);
            cases.push(if ordinary { case.by_ordinary_user() } else { case });
        }
    };
    const TOOLS: &[&str] = &["procps", "psmisc"];
    add("ids/tools".to_string(), TOOLS, tools, false);
    add("ids/tools-restarted".to_string(), TOOLS, tools, true);
    add("ids/tools-virtual".to_string(), TOOLS, tools_virtual, false);
    add("ids/tools-virtual-restarted".to_string(), TOOLS, tools_virtual, true);
    add("ids/numbers-in-use".to_string(), &[], numbers_in_use, false);
    add("ids/numbers-of-others-in-use".to_string(), &[], numbers_in_use, true);
    add("ids/numbers-that-begin-anew".to_string(), &[], numbers_that_begin_anew, false);
    add("ids/namespace-inside".to_string(), &["procps"], namespace_inside, false);
    add("ids/twenty-clones".to_string(), &[], twenty_clones, false);
    add("ids/twenty-clones-virtual".to_string(), &[], twenty_clones, true);
    cases
}

/// Makes two processes named slumberer, and looks for them by tools once the file to go on is there. What
/// tells of processes is written to a file first: those of a pipeline begin when they like.
const SCRIPT: &str = r#"
./slumberer 600 & a=$!
./slumberer 600 & b=$!
echo READY
until test -e "$ZAP_TEST_GO"; do :; done
is() { test "$2" = "$3" || echo "$1: $2 instead of $3"; }
sorted=$(for id in $a $b; do echo $id; done | sort -n | xargs)
is pgrep "$(pgrep -x slumberer | sort -n | xargs)" "$sorted"
is pidof "$(pidof slumberer | xargs -n 1 | sort -n | xargs)" "$sorted"
ps -A -o comm= >list
is "the programs of ps" "$(sort -u list | xargs)" "ps sh slumberer"
is "the line of ps" "$(ps -o pid=,ppid= -p $$ | xargs)" "$$ $PPID"
is "a child's line" "$(ps -o pid=,ppid=,comm= -p $a | xargs)" "$a $$ slumberer"
ps -o pid=,comm= --ppid $$ >list
is "children" "$(sed -n 's/ *\([0-9]*\) slumberer$/\1/p' list | sort -n | xargs)" "$sorted"
is "the tree" "$(pstree -A $$ | grep -c slumberer)" 1
for path in /proc/[0-9]*; do
    case " $$ $a $b " in *" ${path#/proc/} "*) ;; *) echo "$path is there" ;; esac
done
kill -0 1 2>/dev/null && echo "init is there"
test -e /proc/1/stat && echo "init is in /proc"
pkill -0 -x stranger && echo "the stranger is there"
killall -q stranger && echo "the stranger could be killed"
echo "seen"
pkill -x slumberer
wait $a; echo "pkill: $?"
wait $b; echo "pkill: $?"
./slumberer 600 & c=$!
until pgrep -x slumberer >/dev/null; do :; done
killall slumberer
wait $c; echo "killall: $?"
exit 7
"#;

const EXPECTED: &str = "READY\nseen\npkill: 143\npkill: 143\nkillall: 143\n";

fn tools(scene: &Scene, restarted: bool) -> Result {
    for name in ["slumberer", "stranger"] {
        let path = scene.path("work").join(name);
        fs::copy("/bin/sleep", &path)?;
        scene.own(&path)?;
    }
    // By the name that is looked for, by one that only masking keeps from being hit.
    let mut strangers = Vec::new();
    for name in ["slumberer", "stranger"] {
        let mut command = scene.command(scene.path("work").join(name));
        command.arg("600");
        strangers.push(scene.start(command, &scene.path("out-strangers"))?);
    }
    let mut command = scene.words(&["zap-launch", "/bin/sh", "-c", SCRIPT]);
    command.current_dir(scene.path("work"));
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let running = if restarted {
        let images = scene.checkpoint_and_kill(running)?;
        scene.restart(&[], &images, &scene.out())?
    } else {
        scene.checkpoint(&[])?;
        running
    };
    scene.wait_running(1)?;
    scene.go()?;
    let ended = scene.wait_within(running, PATIENCE * 2)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(7) && said == EXPECTED, "{ended}, and it said {said:?}");
    for stranger in strangers {
        ensure!(process::lives(stranger.pid), "a process outside of the pod has been hit");
        process::kill(stranger.pid, libc::SIGKILL);
        scene.wait(stranger)?;
    }
    Ok(())
}

fn tools_virtual(scene: &Scene, restarted: bool) -> Result {
    scene.use_virtual_ids();
    tools(scene, restarted)
}

/// In a PID namespace in which every number that the pod has had, and all others about there, are somebody else's.
fn numbers_in_use(scene: &Scene, others: bool) -> Result {
    let program = scene.program(if others { "other_ids" } else { FAMILY })?;
    scene.plain(&program)?;
    let mut unshare = vec!["unshare"];
    if process::user() != 0 || scene.user == User::Nobody {
        unshare.extend(["-U", "--map-current-user"]);
    }
    unshare.extend(["-pmn", "--fork", "--mount-proc"]);
    let probe: Vec<&str> = unshare.iter().copied().chain(["true"]).collect();
    if scene.run(&probe)?.status != 0 {
        return skipped("this user cannot make namespaces here");
    }
    let inside = |script: &str| {
        let mut command = scene.words(&unshare);
        command.args(["sh", "-c", script]);
        command
    };
    let mut command = inside(
        "command=$1 out=$2; shift 2; \"$0\" \"$@\" & until grep -qs READY \"$out\"; do :; done; \
         \"$command\" --checkpoint --kill >\"$out.said\"; wait $!",
    );
    command.args([scene.place.tool("zap-launch"), scene.place.tool("zap-command"), scene.out()]);
    command.args(scene.line(&program, &scene.path("work"))?);
    let running = scene.start(command, &scene.out())?;
    scene.wait(running)?;
    let images: Vec<_> =
        fs::read_dir(scene.images())?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    ensure!(images.len() >= 2, "images {images:?}");
    crate::state::empty_runtime(scene)?;
    let ids: Vec<String> = images.iter().filter_map(|image| virtual_id(&image.to_string_lossy())).collect();
    ensure!(ids.len() == images.len(), "ids in the names of {images:?}");
    scene.go()?;
    let mut command = inside(
        "n=0; while test $n -lt 300; do sleep 600 & n=$((n + 1)); done; for id in $1; do kill -0 $id || exit 99; done; \
         restart=$0; shift; \"$restart\" \"$@\"; exit $?",
    );
    command.arg(scene.place.tool("zap-restart")).arg(ids.join(" ")).args(&images);
    let running = scene.start(command, &scene.out())?;
    scene.expect_end(running, &program)
}

/// Restarts in a PID namespace whose next numbers are the last ones, so that children get lower numbers than their parents:
/// among each of the pod's processes, sooner or later.
fn numbers_that_begin_anew(scene: &Scene, _: bool) -> Result {
    const SCRIPT: &str = r#"
        launch=$0 command=$1 restart=$2 images=$3 out=$4 limit=$5; shift 5
        # Where a namespace has a limit of its own (Linux 6.14), it has it in its own hands.
        read -r own </proc/sys/kernel/pid_max
        if test "$own" != "$limit"; then limit=600; echo $limit >/proc/sys/kernel/pid_max || exit 97; fi
        "$launch" "$@" & until grep -qs READY "$out"; do :; done
        for before in 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do
            until "$command" --status --json | grep -q name; do sleep 0.01; done
            "$command" --checkpoint --kill >"$out.said" || exit 96
            wait $!
            echo $((limit - before)) >/proc/sys/kernel/ns_last_pid || exit 98
            "$restart" "$images"/ckpt_* &
        done
        until "$command" --status --json | grep -q name; do sleep 0.01; done
        "$command" --checkpoint >"$out.said" || exit 96
        >"$ZAP_TEST_GO"
        wait $!
    "#;
    let program = scene.program("waiting_parents")?;
    scene.plain(&program)?;
    let mut words = vec!["unshare"];
    if process::user() != 0 || scene.user == User::Nobody {
        words.extend(["-U", "--map-root-user"]);
    }
    words.extend(["-pm", "--fork", "--mount-proc"]);
    let probe = [&words[..], &["sh", "-c", "echo 400 >/proc/sys/kernel/ns_last_pid"]].concat();
    if scene.run(&probe)?.status != 0 {
        return skipped("this user cannot make namespaces here");
    }
    let mut command = scene.words(&words);
    command.args(["sh", "-c", SCRIPT]);
    command.args(["zap-launch", "zap-command", "zap-restart"].map(|tool| scene.place.tool(tool)));
    let limit = fs::read_to_string("/proc/sys/kernel/pid_max")?;
    command.args([scene.images(), scene.out(), limit.trim().into()]).args(scene.line(&program, &scene.path("work"))?);
    let running = scene.start(command, &scene.out())?;
    scene.expect_end(running, &program)
}

/// The virtual id in an image's name, `ckpt_<program>_<pod>_<id>_<generation>.zimg`.
fn virtual_id(image: &str) -> Option<String> {
    image.rsplit('_').nth(1).map(str::to_string)
}

/// What has a PID namespace of its own inside a pod cannot be checkpointed, but has its processes as ever.
fn namespace_inside(scene: &Scene, _: bool) -> Result {
    const SCRIPT: &str =
        "sleep 600 & kill -0 $! && kill $!; wait $!; echo $?; sh -c 'sleep 600 & kill $!; wait $!; echo $?'; \
                          test -e /proc/1/stat && test -e /proc/$$/stat && ps -p $$ -o pid= | xargs";
    let mut words = vec!["unshare"];
    if process::user() != 0 || scene.user == User::Nobody {
        words.extend(["-U", "--map-current-user"]);
    }
    words.extend(["-pm", "--fork", "--mount-proc", "sh", "-c", SCRIPT]);
    let plain = scene.run(&words)?;
    if plain.status != 0 {
        return skipped("this user cannot make namespaces here");
    }
    let said = scene.run(&[&["zap-launch"], &words[..]].concat())?;
    ensure!(said.status == 0 && said.out == plain.out, "instead of {:?} it said {said:?}", plain.out);
    Ok(())
}

/// Twenty copies beside the original: all know the same numbers, and none has another's.
fn twenty_clones(scene: &Scene, forced: bool) -> Result {
    const COUNT: usize = 20;
    if forced {
        scene.use_virtual_ids();
    }
    let program = scene.program(FAMILY)?;
    let original = scene.launch(&program, &[])?;
    scene.wait_ready(original, 1)?;
    let images = scene.checkpoint(&[])?;
    let mut clones = Vec::new();
    for number in 0..COUNT {
        let out = scene.path(&format!("out-{number}"));
        fs::copy(scene.out(), &out)?;
        scene.own(&out)?;
        let name = format!("clone-{number}");
        clones.push((scene.restart(&["--pod", &name], &images, &out)?, out));
    }
    let pods = scene.wait_running(COUNT + 1)?;
    let mut real = BTreeSet::new();
    let mut known = BTreeSet::new();
    for pod in &pods {
        let processes = pod["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(processes.len() == images.len(), "processes {processes:?}");
        for process in processes {
            ensure!(real.insert(process["pid"].as_i64()), "two processes with one number: {process}");
        }
        let ids: BTreeSet<_> = processes.iter().map(|process| process["virtual_pid"].as_i64()).collect();
        ensure!(ids.len() == images.len(), "two processes of a pod with one id: {processes:?}");
        known.insert(ids);
    }
    ensure!(known.len() == 1, "the pods know {known:?}");
    scene.go()?;
    scene.expect_end(original, &program).doing("the original")?;
    for (number, (clone, out)) in clones.into_iter().enumerate() {
        scene.expect_end_in(clone, &program, &out).doing(format!("clone {number}"))?;
    }
    Ok(())
}
