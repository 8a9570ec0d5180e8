//! The coordinator's life: how it is started, what happens when it cannot be, when it is killed, and when it ends by itself.

use crate::case::{Case, Doing, Result, Row};
use crate::ensure;
use crate::process::{self, Ended};
use crate::scene::{Scene, PATIENCE};
use crate::special::{start_simple, SIMPLE};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub fn cases() -> Vec<Case> {
    let table: [Row; 10] = [
        ("found-again", found_again),
        ("directory-removed", directory_removed),
        ("foreground", foreground),
        ("ends-when-idle", ends_when_idle),
        ("is-not-there", |scene| cannot_be_started(scene, None, "zap-coordinator: not found beside")),
        ("cannot-be-run", |scene| {
            cannot_be_started(scene, Some(("", 0o644)), "/zap-coordinator: ended before it was ready")
        }),
        ("ends-at-once", |scene| {
            cannot_be_started(
                scene,
                Some(("#!/bin/sh\nexit 1\n", 0o755)),
                "/zap-coordinator: ended before it was ready",
            )
        }),
        ("says-nothing", says_nothing),
        ("detached", detached),
        ("many-end-at-once", many_end_at_once),
    ];
    let mut cases = Vec::new();
    for (name, run) in table {
        cases.push(Case::new(format!("coordinator/{name}"), run));
        cases.push(Case::new(format!("coordinator/{name}"), run).by_ordinary_user());
    }
    cases
}

/// The runtime directory goes while a program runs: it is made again, and the program found in it.
fn directory_removed(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let coordinator = scene.coordinator()?;
    let found = || scene.status().ok()?.len().eq(&1).then_some(());
    let lost: [fn(&Path) -> std::io::Result<()>; 4] = [
        |runtime| fs::remove_dir_all(runtime),
        |runtime| fs::rename(runtime, runtime.with_extension("moved")),
        |runtime| fs::remove_file(runtime.join("coordinator.sock")),
        |runtime| fs::remove_dir_all(runtime.join("pods")),
    ];
    for (number, lose) in lost.iter().enumerate() {
        lose(&scene.runtime())?;
        let whole = || scene.runtime().join("pods").read_dir().ok()?.count().eq(&2).then_some(());
        scene.until(PATIENCE, &format!("what was lost ({number}) is made again"), whole)?;
        scene.until(PATIENCE, &format!("the pod is found again ({number})"), found)?;
        ensure!(scene.coordinator()? == coordinator, "another coordinator has started");
        scene.checkpoint(&[])?;
    }
    // Another coordinator may be faster, and is waited for.
    fs::remove_dir_all(scene.runtime())?;
    let mut command = scene.words(&["zap-launch", "true"]);
    command.env("ZAP_IDLE_SECONDS", "0.1");
    scene.finish(command)?.expect(0, "")?;
    scene.until(PATIENCE, "the pod is found after another coordinator's", || {
        (scene.status().ok()?.first()?["name"] == "eventfd").then_some(())
    })?;
    // What execs, and who joins, finds the table by its name.
    scene.run(&["zap-launch", "--pod", "eventfd", "/bin/sh", "-c", "exec true"])?.expect(0, "")?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A program whose coordinator was killed runs on, and is found by the next one.
fn found_again(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let first = scene.coordinator()?;
    process::kill(first, libc::SIGKILL);
    scene.until(PATIENCE, "the coordinator is dead", || (!process::lives(first)).then_some(()))?;
    let pods = scene.wait_running(1).doing("with a new coordinator")?;
    ensure!(pods[0]["processes"][0]["pid"] == running.pid, "found {pods:?}");
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)?;
    Ok(())
}

/// However many processes of a pod end at the same moment, it soon knows who is left: it looks at those once, not at each end.
fn many_end_at_once(scene: &Scene) -> Result {
    const CROWD: usize = 800;
    let script = format!("exec 2>/dev/null; for n in $(seq {CROWD}); do sleep 1000 & done; wait; echo all");
    let running = scene.start(scene.words(&["zap-launch", "/bin/sh", "-c", &script]), &scene.out())?;
    let all = scene.until(PATIENCE, "all processes are known", || {
        let pods = scene.status().ok()?;
        let all = pods.first()?["processes"].as_array()?.clone();
        (all.len() == CROWD + 1).then_some(all)
    })?;
    let coordinator = scene.coordinator()?;
    let used = || process::processor_time(coordinator).unwrap_or_default();
    let before = used();
    for pid in all.iter().filter_map(|one| one["pid"].as_i64()).filter(|pid| *pid != i64::from(running.pid)) {
        process::kill(pid as i32, libc::SIGKILL);
    }
    scene.until(PATIENCE, "the pod is known to have ended", || scene.status().ok()?.is_empty().then_some(()))?;
    let used = used().saturating_sub(before);
    ensure!(used < Duration::from_millis(300), "that took the coordinator {used:?}");
    let outcome = scene.wait(running)?;
    ensure!(outcome.ended == Ended::Exited(0), "the shell ended with {}", outcome.ended);
    let said = fs::read_to_string(scene.out())?;
    ensure!(said == "all\n", "the shell said {said:?}");
    Ok(())
}

/// Started by a launch it has nothing of its caller's: session, terminal, directory, descriptors.
fn detached(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let coordinator = scene.coordinator()?;
    let (session, own) = (process::session(coordinator), process::session(std::process::id() as i32));
    ensure!(session.is_some() && session != own, "its session is {session:?}, its caller's {own:?}");
    ensure!(!process::has_terminal(coordinator), "it has a terminal");
    let link = |name: &str| fs::read_link(format!("/proc/{coordinator}/{name}"));
    ensure!(link("cwd")? == Path::new("/"), "its directory is {:?}", link("cwd"));
    for number in ["fd/0", "fd/1", "fd/2"] {
        ensure!(link(number)? == Path::new("/dev/null"), "{number} is {:?}", link(number));
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// In the foreground it stays in its caller's session and directory, serves as any other, and ends with its work. There is one
/// per runtime directory.
fn foreground(scene: &Scene) -> Result {
    let coordinator = scene.start(scene.words(&["zap-coordinator", "--foreground"]), &scene.path("coordinator-out"))?;
    scene.until(PATIENCE, "its socket is there", || scene.runtime().join("coordinator.sock").exists().then_some(()))?;
    let (program, running) = start_simple(scene, &[])?;
    ensure!(scene.coordinator()? == coordinator.pid, "another coordinator has been started");
    let (session, own) = (process::session(coordinator.pid), process::session(std::process::id() as i32));
    ensure!(session == own && session.is_some(), "its session is {session:?}, its caller's {own:?}");
    let directory = fs::read_link(format!("/proc/{}/cwd", coordinator.pid))?;
    ensure!(directory == scene.path("work"), "it has gone to {}", directory.display());
    let another = "another one serves this runtime directory";
    scene.run(&["zap-coordinator", "--foreground"])?.expect(1, another)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)?;
    ensure!(scene.coordinator()? == coordinator.pid, "another coordinator has been started");
    scene.run(&["zap-command", "--quit"])?.expect(0, "")?;
    let ended = scene.wait(coordinator)?.ended;
    ensure!(ended == Ended::Exited(0), "zap-coordinator --foreground: {ended}");
    Ok(())
}

/// It lives as long as a pod does, and not much longer; then the next launch starts another one.
fn ends_when_idle(scene: &Scene) -> Result {
    const IDLE: Duration = Duration::from_millis(700);
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let mut command = scene.words(&["zap-launch"]);
    command.args(scene.line(&program, &scene.path("work"))?).env("ZAP_IDLE_SECONDS", IDLE.as_secs_f64().to_string());
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let coordinator = scene.coordinator()?;
    let end = Instant::now() + IDLE * 3;
    scene.until(PATIENCE, "three times as long as it waits when idle", || (Instant::now() > end).then_some(()))?;
    ensure!(process::lives(coordinator), "it has ended, and its pod lives");
    // Before the program is told to end: a pod that lives keeps it however late this process is told of anything.
    let told = Instant::now();
    scene.go()?;
    scene.expect_end(running, &program)?;
    scene.until(PATIENCE, "it ends", || (!process::lives(coordinator)).then_some(()))?;
    ensure!(told.elapsed() >= IDLE, "it has ended after {} ms", told.elapsed().as_millis());
    let left: Vec<PathBuf> = fs::read_dir(scene.runtime())?.flatten().map(|entry| entry.path()).collect();
    ensure!(!left.iter().any(|path| path.ends_with("coordinator.sock")), "left in the runtime directory: {left:?}");
    ensure!(fs::read_dir(scene.runtime().join("pods"))?.count() == 0, "tables are left");
    scene.run(&["zap-launch", "/bin/echo", "again"])?.expect(0, "")?;
    ensure!(scene.coordinator()? != coordinator, "the coordinator that has ended");
    Ok(())
}

/// An installation in which zap-coordinator has this text and mode, or is missing.
fn installation(scene: &Scene, coordinator: Option<(&str, u32)>) -> Result<PathBuf> {
    let dist = scene.make_directory("broken", 0o755)?;
    for name in
        ["bin/zap-launch", "bin/zap-restart", "bin/zap-command", "lib/zap/libzap.so", "lib/zap/libzap_restorer.so"]
    {
        let target = dist.join(name);
        fs::create_dir_all(target.parent().unwrap_or(&dist))?;
        fs::copy(scene.place.root.join("dist").join(name), &target)?;
    }
    for name in ["bin", "lib", "lib/zap"] {
        fs::set_permissions(dist.join(name), Permissions::from_mode(0o755))?;
    }
    if let Some((text, mode)) = coordinator {
        let path = dist.join("bin/zap-coordinator");
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(dist.join("bin"))
}

/// A tool of such an installation says why it fails in one line, and starts nothing.
fn refused(scene: &Scene, tool: &Path, arguments: &[&Path], status: i32, why: &str) -> Result {
    let mut command = scene.command(tool);
    command.args(arguments);
    let said = scene.finish(command)?;
    said.expect(status, why)?;
    let name = tool.file_name().unwrap_or_default().to_string_lossy();
    let lines = said.err.lines().count();
    ensure!(lines == 1 && said.err.starts_with(&format!("{name}: ")), "{name} says {:?}", said.err);
    ensure!(said.out.is_empty(), "{name} has started something: {:?}", said.out);
    Ok(())
}

/// One that neither listens nor ends is not waited for without end.
fn says_nothing(scene: &Scene) -> Result {
    let bin = installation(scene, Some(("#!/bin/sh\nexec sleep 1000\n", 0o755)))?;
    let echo = [Path::new("/bin/echo"), Path::new("started")];
    refused(scene, &bin.join("zap-launch"), &echo, 125, "zap-coordinator: not ready after 10 s")
}

/// The tools say which coordinator could not be started and why, start no program, and leave a living pod alone.
fn cannot_be_started(scene: &Scene, coordinator: Option<(&str, u32)>, why: &str) -> Result {
    let bin = installation(scene, coordinator)?;
    let tool = |name: &str, arguments: &[&Path], status: i32| refused(scene, &bin.join(name), arguments, status, why);
    tool("zap-launch", &[Path::new("/bin/echo"), Path::new("started")], 125)?;
    let (program, running) = start_simple(scene, &[])?;
    let images = scene.checkpoint(&[])?;
    let served = scene.coordinator()?;
    process::kill(served, libc::SIGKILL);
    scene.until(PATIENCE, "the coordinator is dead", || (!process::lives(served)).then_some(()))?;
    tool("zap-restart", &[Path::new("--pod"), Path::new("copy"), &images[0]], 125)?;
    tool("zap-command", &[Path::new("--checkpoint")], 1)?;
    // One that can be started finds all as it was.
    let pods = scene.wait_running(1)?;
    ensure!(pods[0]["processes"][0]["pid"] == running.pid, "{pods:?}");
    scene.checkpoint(&[])?;
    scene.go()?;
    scene.expect_end(running, &program)
}
