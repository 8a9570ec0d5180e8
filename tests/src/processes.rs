//! Roads of pods of several processes: what a terminal and a shell do to zap-restart, a first process that has ended, and
//! members that Zap cannot take.

use crate::case::{failed, skipped, Case, Doing, Result, Row};
use crate::ensure;
use crate::manifest::Program;
use crate::place::NOBODY;
use crate::process::{self, Ended};
use crate::scene::{Running, Scene, PATIENCE};
use crate::special::{is_root, SIMPLE};
use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

pub fn cases() -> Vec<Case> {
    let table: [Row; 19] = [
        ("terminal-keys", |scene| terminal(scene, "keys")),
        ("terminal-hangup", |scene| terminal(scene, "hangup")),
        ("hangup-by-signal", hangup_by_signal),
        ("first-has-ended", first_has_ended),
        ("first-was-killed", first_was_killed),
        ("first-has-ended-in-background", first_has_ended_in_background),
        ("wall-timers-passed", wall_timers_passed),
        ("static-member", static_member),
        ("setuid-member", setuid_member),
        ("traced-member", traced_member),
        ("other-pid-namespace", other_pid_namespace),
        ("other-namespaces", other_namespaces),
        ("launched-in-namespace", launched_in_namespace),
        ("chroot", chroot),
        ("directory-of-process", directory_of_process),
        ("without-privilege/limit", limit_without_privilege),
        ("without-privilege/nice", nice_without_privilege),
        ("without-privilege/real-time", |scene| of_root(scene, &["chrt", "-f", "10"], "real-time scheduling: ")),
        ("without-privilege/io-priority", |scene| of_root(scene, &["ionice", "-c", "1", "-n", "4"], "I/O priority: ")),
    ];
    let mut cases = Vec::new();
    for (name, run) in table {
        cases.push(Case::new(format!("processes/{name}"), run));
        cases.push(Case::new(format!("processes/{name}"), run).by_ordinary_user());
        // Both in a short run: what only root can do is skipped as another user.
        cases.push(Case::new(format!("processes/{name}"), run).virtual_ids());
        cases.push(Case::new(format!("processes/{name}"), run).virtual_ids().by_ordinary_user());
    }
    cases
}

/// A program that is not in the manifest.
fn program(scene: &Scene, words: &[&str]) -> Result<Program> {
    let run = words.iter().map(|word| word.to_string()).collect();
    Ok(Program { run, ..scene.program(SIMPLE)? })
}

fn built(scene: &Scene, name: &str) -> Result<String> {
    let path = scene.place.built(name);
    if path.exists() {
        return Ok(path.to_string_lossy().into_owned());
    }
    skipped(format!("{name} could not be built: no compiler"))
}

/// What is typed at a terminal reaches the pod of a zap-restart that a shell has started there, and the shell sees it
/// stop and end.
fn terminal(scene: &Scene, how: &str) -> Result {
    let (keys, job) = (built(scene, "keys")?, built(scene, "terminal_job")?);
    let file = scene.path("work/hung-up").to_string_lossy().into_owned();
    let running = scene.launch(&program(scene, &[&keys, &file])?, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let mut command = scene.words(&[&job, how]);
    if how == "hangup" {
        command.arg(&file);
    }
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let said = scene.finish(command)?;
    ensure!(said.status == 0 && said.out == "OK\n", "terminal_job {how}: {said:?}");
    Ok(())
}

/// What a program that is started `by` something has, and zap-restart by `with` may not give, refuses the restart by name; with
/// the privilege it comes back.
fn without_privilege(scene: &Scene, by: &[&str], with: &[&str], why: &str) -> Result {
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let running = scene.launch_by(by, &program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let mut command = scene.words(with);
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let said = scene.finish(command)?;
    ensure!(said.status == 125 && said.err.contains(why), "zap-restart by {with:?}: {said:?}");
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// The same of what only root can have.
fn of_root(scene: &Scene, by: &[&str], why: &str) -> Result {
    if !is_root(scene) {
        return skipped("needs root");
    }
    without_privilege(scene, by, &["setpriv", "--bounding-set", "-sys_nice,-sys_admin"], why)
}

fn limit_without_privilege(scene: &Scene) -> Result {
    const FEW: [&str; 5] = ["setpriv", "--bounding-set", "-sys_resource", "prlimit", "--nofile=200:200"];
    let with = if is_root(scene) { &FEW[..] } else { &FEW[3..] };
    without_privilege(scene, &[], with, "limit RLIMIT_NOFILE of ")
}

fn nice_without_privilege(scene: &Scene) -> Result {
    match is_root(scene) {
        true => of_root(scene, &["nice", "-n", "-5"], "nice value -5: "),
        false => without_privilege(scene, &[], &["nice", "-n", "5"], "nice value 0: "),
    }
}

/// SIGHUP that is sent to zap-restart alone reaches the first process, as it would if that had been started instead.
fn hangup_by_signal(scene: &Scene) -> Result {
    let (_, running) = crate::special::start_simple(scene, &[])?;
    let images = scene.checkpoint_and_kill(running)?;
    for number in [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1] {
        let running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1)?;
        process::kill(running.pid, number);
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Killed(number), "expected death by signal {number}, seen {ended}");
        scene.until(PATIENCE, "the pod is gone", || scene.status().is_ok_and(|pods| pods.is_empty()).then_some(()))?;
    }
    Ok(())
}

/// A pod whose first process has ended as `ending` says, with a last one that waits for the file; its images.
fn without_first(scene: &Scene, ending: &str) -> Result<Vec<PathBuf>> {
    let orphan = "until test -e \"$ZAP_TEST_GO\"; do sleep 0.05; done; echo the last; exit 9";
    let first = "until test -e \"$ZAP_TEST_GO.first\"; do sleep 0.02; done";
    let script = format!("sh -c '{orphan}' & echo READY; {first}; {ending}");
    let running = scene.launch(&program(scene, &["/bin/sh", "-c", &script])?, &[])?;
    scene.wait_ready(running, 1)?;
    fs::write(scene.path("go.first"), "")?;
    scene.wait(running)?;
    // Whoever asks at the same moment as the end is told to the coordinator may be heard first.
    scene.checkpoint(&[])?;
    scene.checkpoint(&["--kill"])
}

/// Restarts without its first process, twice: zap-restart waits for the last, and ends as the first has.
fn expect_end_of_first(scene: &Scene, ending: &str, expected: Ended) -> Result {
    let images = without_first(scene, ending)?;
    scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint(&["--kill"]).doing("after the first restart")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == expected, "expected {expected}, seen {ended}");
    let out = fs::read_to_string(scene.out())?;
    ensure!(out == "READY\nthe last\n", "it has not waited for the last: {out:?}");
    Ok(())
}

fn first_has_ended(scene: &Scene) -> Result {
    expect_end_of_first(scene, "exit 3", Ended::Exited(3))
}

fn first_was_killed(scene: &Scene) -> Result {
    expect_end_of_first(scene, "kill -TERM $$", Ended::Killed(libc::SIGTERM))
}

fn first_has_ended_in_background(scene: &Scene) -> Result {
    let images = without_first(scene, "exit 3")?;
    let restart = scene.restart(&["--background"], &images, &scene.out())?;
    let ended = scene.wait(restart)?.ended;
    ensure!(ended == Ended::Exited(0), "zap-restart --background: {ended}");
    scene.wait_running(1)?;
    scene.go()?;
    scene.until(PATIENCE, "the pod is gone", || scene.status().is_ok_and(|pods| pods.is_empty()).then_some(()))
}

/// Timers by the wall whose time passes while their program does not exist.
fn wall_timers_passed(scene: &Scene) -> Result {
    let timers = scene.program("wall_timers")?;
    let mut run = timers.run.clone();
    run.push("passed".into());
    let timers = Program { run, ..timers };
    let running = scene.launch(&timers, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    // What is waited for is the time itself.
    std::thread::sleep(Duration::from_millis(4500));
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(timers.status), "{ended}: {}", fs::read_to_string(scene.out())?);
    Ok(())
}

/// A shell that has made a process which Zap cannot take: the checkpoint is refused with one of `whys` as long as it lives,
/// and the pod runs on; afterwards a checkpoint works.
fn refused_while_it_lives(scene: &Scene, other: &[&str], whys: &[&str]) -> Result {
    let script = "\"$@\" & echo READY; until test -e \"$ZAP_TEST_GO\"; do sleep 0.05; done; kill -9 $!; wait $!; \
                  echo READY; until test -e \"$ZAP_TEST_GO.2\"; do sleep 0.05; done; exit 7";
    let words: Vec<&str> = ["/bin/sh", "-c", script, "sh"].iter().chain(other).copied().collect();
    let running = scene.launch(&program(scene, &words)?, &[])?;
    scene.wait_ready(running, 1)?;
    // Before it is what it becomes by exec, it may be taken.
    let said = scene.until(PATIENCE, "a checkpoint is refused", || {
        let said = scene.run(&["zap-command", "--checkpoint"]).ok()?;
        (said.status == 1).then_some(said)
    })?;
    let named = whys.iter().any(|why| said.err.to_lowercase().contains(&why.to_lowercase()));
    ensure!(named, "refused, but not for {whys:?}: {}", said.err);
    scene.go()?;
    scene.wait_ready(running, 2)?;
    expect_restart(scene, running)
}

/// What has been refused works now.
fn expect_restart(scene: &Scene, running: Running) -> Result {
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    fs::write(scene.path("go.2"), "")?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(7), "{ended}");
    Ok(())
}

fn static_member(scene: &Scene) -> Result {
    let (source, target) = (scene.path("work/still.c"), scene.path("work/still"));
    fs::write(&source, "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")?;
    let built = std::process::Command::new("gcc").arg("-static").arg("-o").args([&target, &source]).output();
    if !built.is_ok_and(|output| output.status.success()) {
        return skipped("no compiler for static programs");
    }
    scene.own(&target)?;
    refused_while_it_lives(scene, &[&target.to_string_lossy()], &["static"])
}

/// Set-user-id to another user than the one that runs it, so that the loader leaves libzap out.
fn setuid_member(scene: &Scene) -> Result {
    if process::user() != 0 {
        return skipped("only root can make a program of another user");
    }
    let path = scene.path("work/raised");
    fs::copy("/bin/sleep", &path)?;
    let owner = if is_root(scene) { NOBODY } else { 0 };
    chown(&path, Some(owner), Some(owner))?;
    fs::set_permissions(&path, Permissions::from_mode(0o4755))?;
    refused_while_it_lives(scene, &[&path.to_string_lossy(), "1000"], &["set-user-id"])
}

/// A member, not the first one, is traced by a process that is none of the pod.
fn traced_member(scene: &Scene) -> Result {
    let tracer = built(scene, "tracer")?;
    let script = "sleep 1000 & echo $! >\"$1\"; echo READY; until test -e \"$ZAP_TEST_GO.2\"; do sleep 0.05; done; \
                  kill $!; exit 7";
    let (number, end) = (scene.path("work/number"), scene.path("work/end"));
    let running = scene.launch(&program(scene, &["/bin/sh", "-c", script, "sh", &number.to_string_lossy()])?, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[]).doing("before it is traced")?;
    let pid = real_id(scene, fs::read_to_string(&number)?.trim())?;
    let out = scene.path("out-tracer");
    let traces = scene.start(scene.words(&[&tracer, &pid, &end.to_string_lossy().into_owned()]), &out)?;
    let look = || {
        let text = fs::read_to_string(&out).unwrap_or_default();
        (!text.is_empty()).then_some(text)
    };
    let text = scene.until(PATIENCE, "the tracer says something", look)?;
    if text.contains("errno 1 ") {
        return skipped("this user may not trace here");
    }
    ensure!(text == "traces\n", "the tracer: {text}");
    for _ in 0..2 {
        let why = format!("process {} traces it", traces.pid);
        scene.run(&["zap-command", "--checkpoint"])?.expect(1, &why)?;
    }
    fs::write(&end, "")?;
    let ended = scene.wait(traces)?.ended;
    ensure!(ended == Ended::Exited(0), "the tracer: {ended}");
    expect_restart(scene, running)
}

/// The kernel's id of a member that the pod knows by this one.
fn real_id(scene: &Scene, known: &str) -> Result<String> {
    let pods = scene.wait_running(1)?;
    let processes = pods[0]["processes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let member = processes.iter().find(|process| process["virtual_pid"].as_i64() == known.parse().ok());
    match member {
        Some(member) => Ok(member["pid"].to_string()),
        None => failed(format!("no process {known} in {pods:?}")),
    }
}

fn other_pid_namespace(scene: &Scene) -> Result {
    let mut line = vec!["unshare"];
    if !is_root(scene) {
        line.extend(["-U", "--map-current-user"]);
    }
    line.extend(["-p", "--fork", "--kill-child"]);
    let probe: Vec<&str> = line.iter().copied().chain(["true"]).collect();
    if scene.run(&probe)?.status != 0 {
        return skipped("this user cannot make namespaces here");
    }
    line.extend(["sleep", "1000"]);
    refused_while_it_lives(scene, &line, &["is in another PID namespace"])
}

/// Namespaces that come back as those of the restart, if they came back.
fn other_namespaces(scene: &Scene) -> Result {
    let mut kinds = vec![("-u", "UTS"), ("-i", "IPC"), ("-n", "network"), ("-m", "mount")];
    if !is_root(scene) {
        kinds = vec![("-U", "user")];
    }
    for (number, (option, kind)) in kinds.into_iter().enumerate() {
        if scene.run(&["unshare", option, "true"])?.status != 0 {
            return skipped("this user cannot make namespaces here");
        }
        let round = scene.path(&format!("go.{number}"));
        let script = format!("echo READY; until test -e {}; do sleep 0.05; done; exit 7", round.display());
        let running = scene.launch(&program(scene, &["/usr/bin/unshare", option, "/bin/sh", "-c", &script])?, &[])?;
        scene.wait_ready(running, 1 + number)?;
        let why = format!("is in another {kind} namespace than the pod");
        scene.run(&["zap-command", "--checkpoint"])?.expect(1, &why)?;
        fs::write(&round, "")?;
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Exited(7), "in another {kind} namespace: {ended}");
    }
    Ok(())
}

/// A pod that begins in namespaces of its own is at home there, whoever has started the coordinator.
fn launched_in_namespace(scene: &Scene) -> Result {
    if !is_root(scene) || scene.run(&["unshare", "-m", "-u", "true"])?.status != 0 {
        return skipped("this user cannot make namespaces here");
    }
    let outside = scene.launch(&program(scene, &["/bin/sleep", "1000"])?, &["--pod", "outside"])?;
    scene.wait_running(1)?;
    let launch = scene.place.tool("zap-launch").to_string_lossy().into_owned();
    let words = ["unshare", "-m", "-u", &launch, "--pod", "inside", "/bin/sleep", "1000"];
    let inside = scene.start(scene.words(&words), &scene.out())?;
    scene.wait_running(2)?;
    for (pod, running) in [("inside", inside), ("outside", outside)] {
        scene.run(&["zap-command", "--pod", pod, "--checkpoint"])?.expect(0, "")?;
        scene.run(&["zap-command", "--pod", pod, "--kill"])?.expect(0, "")?;
        scene.wait(running)?;
    }
    Ok(())
}

/// A directory of /proc that is named after a process is another one after a restart.
fn directory_of_process(scene: &Scene) -> Result {
    let script = "cd /proc/$$ && echo READY; until test -e \"$ZAP_TEST_GO.1\"; do sleep 0.05; done; exit 7";
    let running = scene.launch(&program(scene, &["/bin/sh", "-c", script])?, &[])?;
    scene.wait_ready(running, 1)?;
    scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, "working directory /proc/")?;
    scene.run(&["zap-command", "--kill"])?.expect(0, "")?;
    scene.wait(running)?;
    Ok(())
}

fn chroot(scene: &Scene) -> Result {
    if !is_root(scene) {
        return skipped("only root can call chroot");
    }
    let script = "import os, time; os.chroot('/usr'); time.sleep(1000)";
    if !PathBuf::from("/usr/bin/python3").exists() {
        return skipped("there is no Python");
    }
    match refused_while_it_lives(scene, &["/usr/bin/python3", "-c", script], &["has called chroot"]) {
        Ok(()) => Ok(()),
        Err(error) => failed(format!("a process that has called chroot: {error:?}")),
    }
}
