//! kill -9 of the program, the coordinator, zap-command or the writing copy, at every place of `zap_wire::fault`.
//!
//! The program is a shell that, after a first checkpoint, becomes the simple program with the fault armed: so there is
//! an older generation at every place, and it must survive.

use crate::case::{failed, Case, Doing, Result};
use crate::ensure;
use crate::manifest::Program;
use crate::process::{self, Ended};
use crate::scene::{Running, Scene, PATIENCE};
use crate::special::SIMPLE;
use std::fs;
use std::path::PathBuf;
use zap_wire::fault;

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Program,
    Coordinator,
    Command,
    Writer,
    /// Nobody: everything goes on where it stood.
    Nobody,
}

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for point in fault::ALL {
        let victims: &[(&str, Victim)] = match point {
            fault::RESTART_PLANNED | fault::PROGRAM_RESTORING => &[],
            fault::WRITER_WRITING => &[
                ("program", Victim::Program),
                ("coordinator", Victim::Coordinator),
                ("command", Victim::Command),
                ("writer", Victim::Writer),
                ("nobody", Victim::Nobody),
            ],
            _ => &[
                ("program", Victim::Program),
                ("coordinator", Victim::Coordinator),
                ("command", Victim::Command),
                ("nobody", Victim::Nobody),
            ],
        };
        for (name, victim) in victims {
            let victim = *victim;
            cases.push(Case::new(format!("fault/{point}/{name}-killed"), move |scene| kill_at(scene, point, victim)));
        }
    }
    cases.push(Case::new(format!("fault/{}/restart-killed", fault::RESTART_PLANNED), restart_planned));
    cases.push(Case::new(format!("fault/{}/file-gone", fault::RESTART_PLANNED), file_gone));
    cases.push(Case::new(format!("fault/{}/program-killed", fault::PROGRAM_RESTORING), program_restoring));
    cases.push(Case::new(format!("fault/{}/restart-killed", fault::PROGRAM_RESTORING), restart_killed));
    cases.push(Case::new(format!("fault/{}/restart-signalled", fault::PROGRAM_RESTORING), restart_signalled));
    cases
}

/// The program under zap-launch, with a generation behind it and the fault armed in what it will be next.
fn start(scene: &Scene, point: &str) -> Result<(Running, Vec<PathBuf>)> {
    let program = scene.program(SIMPLE)?;
    let mut bin = scene.line(&program, &scene.path("work"))?;
    let script = format!(
        "echo FIRST; until test -e '{}'; do :; done; ZAP_FAULT={point} exec '{}'",
        scene.path("become").display(),
        bin.remove(0)
    );
    let compress = if point == fault::COORDINATOR_PACKING { "zstd" } else { "none" };
    let command = scene.words(&["zap-launch", "--keep", "9", "--compress", compress, "--", "/bin/sh", "-c", &script]);
    let running = scene.start(command, &scene.out())?;
    scene.until(PATIENCE, "the shell says FIRST", || (fs::read(scene.out()).ok()? == b"FIRST\n").then_some(()))?;
    Ok((running, scene.checkpoint(&[]).doing("the older generation")?))
}

fn stopped() -> Option<i32> {
    let own = std::process::id() as i32;
    process::descendants(own).into_iter().find(|pid| process::state(*pid) == Some('T'))
}

fn kill_at(scene: &Scene, point: &'static str, victim: Victim) -> Result {
    let program = scene.program(SIMPLE)?;
    let plain = scene.plain(&program)?;
    let (running, older) = start(scene, point)?;
    let older_bytes = fs::read(&older[0])?;
    if point.starts_with("coordinator-") {
        process::kill(scene.coordinator()?, libc::SIGKILL);
        scene.use_fault(Some(point));
        // Whoever finds no coordinator starts one, which inherits the fault.
        scene.status()?;
        scene.use_fault(None);
    }
    scene.wait_running(1).doing("before the fault")?;
    fs::write(scene.path("become"), "")?;
    scene.wait_ready(running, 1)?;
    scene.wait_running(1).doing("after exec")?;

    let coordinator = scene.coordinator()?;
    scene.use_fault((point == fault::COMMAND_REQUESTED).then_some(point));
    let command = scene.start(scene.words(&["zap-command", "--checkpoint"]), &scene.path("command-out"))?;
    scene.use_fault(None);
    let halted = scene.until(PATIENCE, &format!("a process stops itself at {point}"), stopped)?;
    let victim_pid = match victim {
        Victim::Program => running.pid,
        Victim::Coordinator => coordinator,
        Victim::Command => command.pid,
        Victim::Writer => halted,
        Victim::Nobody => 0,
    };
    process::kill(victim_pid, libc::SIGKILL);
    if halted != victim_pid {
        process::kill(halted, libc::SIGCONT);
    }
    let said = scene.wait(command).doing("zap-command")?.ended;
    let fits = match victim {
        Victim::Nobody => said == Ended::Exited(0),
        // When the command has not yet connected, a new coordinator does the work; when the program is about to resume,
        // its image may be complete, and the answer given.
        Victim::Coordinator => {
            let may_succeed = matches!(point, fault::COMMAND_REQUESTED | fault::PROGRAM_RESUMING);
            said == Ended::Exited(1) || (may_succeed && said == Ended::Exited(0))
        }
        Victim::Writer => said == Ended::Exited(1),
        Victim::Program => matches!(said, Ended::Exited(0 | 1)),
        Victim::Command => said == Ended::Killed(9) || matches!(said, Ended::Exited(0 | 1)),
    };
    ensure!(fits, "with {victim:?} killed at {point}, zap-command ended with {said}");

    if victim == Victim::Program {
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Killed(9), "the killed program: {ended}");
        scene.until(PATIENCE, "the pod of the killed program is gone", || {
            scene.status().ok()?.is_empty().then_some(())
        })?;
        scene.go()?;
    } else {
        scene.wait_running(1).doing("after the kill")?;
        next_checkpoint(scene, point)?;
        let strays = strays(scene)?;
        ensure!(strays.is_empty(), "after the next checkpoint unfinished files are left: {strays:?}");
        scene.go()?;
        let ended = scene.wait(running)?.ended;
        let said = fs::read(scene.out())?;
        let expected = [b"FIRST\n", plain.out.as_slice()].concat();
        ensure!(
            ended == plain.ended && said == expected,
            "the program: expected {} and {:?}, seen {ended} and {:?}",
            plain.ended,
            String::from_utf8_lossy(&expected),
            String::from_utf8_lossy(&said)
        );
    }
    ensure!(fs::read(&older[0]).ok().as_deref() == Some(&older_bytes[..]), "the older image has changed or is gone");
    let out = scene.path("out-older");
    let again = scene.restart(&["--pod", "older"], &older, &out)?;
    scene.expect_end_in(again, &program, &out).doing("the restart of the older image")
}

/// A checkpoint by whatever coordinator there is now. The writing copy stops itself in this one too: what it disarms is
/// its own copy of the fault.
fn next_checkpoint(scene: &Scene, point: &str) -> Result {
    let next = scene.start(scene.words(&["zap-command", "--checkpoint"]), &scene.path("next-out"))?;
    if point == fault::WRITER_WRITING {
        process::kill(scene.until(PATIENCE, "the next writer stops itself", stopped)?, libc::SIGCONT);
    }
    let ended = scene.wait(next).doing("the next checkpoint")?.ended;
    ensure!(ended == Ended::Exited(0), "the next checkpoint: {ended}");
    Ok(())
}

/// Files among the images that are none.
fn strays(scene: &Scene) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(scene.images())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| !name.ends_with(".zimg"));
    Ok(names)
}

/// zap-restart killed when nothing has started yet: nothing has changed.
fn restart_planned(scene: &Scene) -> Result {
    let (program, running) = crate::special::start_simple(scene, &[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let before = fs::read(&images[0])?;
    scene.use_fault(Some(fault::RESTART_PLANNED));
    let restart = scene.restart(&[], &images, &scene.out())?;
    scene.use_fault(None);
    scene.wait_stopped(restart.pid, "zap-restart")?;
    process::kill(restart.pid, libc::SIGKILL);
    scene.wait(restart)?;
    ensure!(fs::read(&images[0])? == before, "the image has changed");
    let pods = scene.status()?;
    ensure!(pods.is_empty(), "a pod is left: {pods:?}");
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A file that the image's memory maps goes between plan and start.
fn file_gone(scene: &Scene) -> Result {
    let program = scene.program("small_shared_file")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    scene.use_fault(Some(fault::RESTART_PLANNED));
    let restart = scene.restart(&[], &images, &scene.out())?;
    scene.use_fault(None);
    scene.wait_stopped(restart.pid, "zap-restart")?;
    fs::remove_file(scene.path("work").join("counters"))?;
    process::kill(restart.pid, libc::SIGCONT);
    scene.go()?;
    scene.expect_end(restart, &program)
}

/// The simple program, and an image of it that stops itself before its plugins restore.
fn stops_when_restored(scene: &Scene) -> Result<(Program, Vec<PathBuf>)> {
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    scene.use_fault(Some(fault::PROGRAM_RESTORING));
    let running = scene.launch(&program, &[])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    Ok((program, images))
}

/// zap-restart gets a signal while the program is half restored: both end by it, and nothing is left. One that was to be
/// ignored ends neither.
fn restart_signalled(scene: &Scene) -> Result {
    let (program, images) = stops_when_restored(scene)?;
    for (number, options) in
        [(libc::SIGTERM, &[][..]), (libc::SIGINT, &["--background"]), (libc::SIGHUP, &["--pod", "other"])]
    {
        let restart = scene.restart(options, &images, &scene.out())?;
        let halted = scene.until(PATIENCE, "the restarted program stops itself", stopped)?;
        process::kill(restart.pid, number);
        let ended = scene.wait(restart).doing("zap-restart")?.ended;
        ensure!(ended == Ended::Killed(number), "zap-restart with signal {number}: {ended}");
        ensure!(!process::lives(halted), "the half restored program lives on after signal {number}");
        scene.until(PATIENCE, "its pod is gone", || scene.status().ok()?.is_empty().then_some(()))?;
    }
    let mut command = scene.words(&["sh", "-c", "trap '' INT; exec \"$@\"", "sh"]);
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let restart = scene.start(command, &scene.out())?;
    let halted = scene.until(PATIENCE, "the restarted program stops itself again", stopped)?;
    process::kill(restart.pid, libc::SIGINT);
    process::kill(restart.pid, libc::SIGTERM);
    let ended = scene.wait(restart).doing("zap-restart that ignores SIGINT")?.ended;
    ensure!(ended == Ended::Killed(libc::SIGTERM), "zap-restart that ignores SIGINT: {ended}");
    ensure!(!process::lives(halted), "the half restored program lives on");
    let running = scene.restart(&[], &images, &scene.out())?;
    process::kill(scene.until(PATIENCE, "the last restart stops itself", stopped)?, libc::SIGCONT);
    scene.go()?;
    scene.expect_end(running, &program)
}

/// zap-restart is killed while the program is half restored: that runs all the same, without a parent that knows it.
fn restart_killed(scene: &Scene) -> Result {
    let (program, images) = stops_when_restored(scene)?;
    let restart = scene.restart(&[], &images, &scene.out())?;
    let halted = scene.until(PATIENCE, "the restarted program stops itself", stopped)?;
    process::kill(restart.pid, libc::SIGKILL);
    scene.wait(restart).doing("zap-restart")?;
    process::kill(halted, libc::SIGCONT);
    scene.until(PATIENCE, "the program that nobody lets run has ended", || {
        (process::state(halted).is_none_or(|state| matches!(state, 'Z' | 'X')) && scene.status().ok()?.is_empty())
            .then_some(())
    })?;
    let running = scene.restart(&[], &images, &scene.out())?;
    process::kill(scene.until(PATIENCE, "the next one stops itself", stopped)?, libc::SIGCONT);
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A restarted program killed before its plugins restore: zap-restart says so, the image restarts again.
fn program_restoring(scene: &Scene) -> Result {
    let (program, images) = stops_when_restored(scene)?;
    let before = fs::read(&images[0])?;
    let restart = scene.restart(&[], &images, &scene.out())?;
    let halted = scene.until(PATIENCE, "the restarted program stops itself", stopped)?;
    process::kill(halted, libc::SIGKILL);
    let ended = scene.wait(restart).doing("zap-restart")?.ended;
    ensure!(ended != Ended::Exited(0), "zap-restart of a killed program ended with {ended}");
    ensure!(fs::read(&images[0])? == before, "the image has changed");
    let running = scene.restart(&[], &images, &scene.out())?;
    match scene.until(PATIENCE, "the restarted program stops itself again", stopped) {
        Ok(halted) => process::kill(halted, libc::SIGCONT),
        Err(_) => return failed("the second restart did not come to the same place"),
    }
    scene.go()?;
    scene.expect_end(running, &program)
}
