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
use std::path::{Path, PathBuf};
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
            // With --kill no program resumes, unless somebody is killed.
            if victim != Victim::Nobody && point != fault::PROGRAM_RESUMING {
                let name = format!("fault/{point}/{name}-killed/kill");
                cases.push(Case::new(name, move |scene| kill_at_kill(scene, point, victim)));
            }
        }
    }
    for point in [fault::RESTART_PLANNED, fault::PROGRAM_RESTORING] {
        let name = format!("fault/{point}/coordinator-killed");
        cases.push(Case::new(name, move |scene| restart_without_coordinator(scene, point)));
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

/// A program whose checkpoint stood at a place until somebody was killed there. All goes on since.
struct Killed {
    program: Running,
    command: Running,
    older: PathBuf,
    /// What is in it.
    older_bytes: Vec<u8>,
}

/// Takes a checkpoint with these options, and kills when somebody stands at `point`.
fn checkpoint_and_kill_at(scene: &Scene, point: &str, victim: Victim, options: &[&str]) -> Result<Killed> {
    let (running, mut older) = start(scene, point)?;
    let older = older.remove(0);
    let older_bytes = fs::read(&older)?;
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
    let words = [&["zap-command", "--checkpoint"], options].concat();
    let command = scene.start(scene.words(&words), &scene.path("command-out"))?;
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
    Ok(Killed { program: running, command, older, older_bytes })
}

fn kill_at(scene: &Scene, point: &'static str, victim: Victim) -> Result {
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let killed = checkpoint_and_kill_at(scene, point, victim, &[])?;
    let (running, command) = (killed.program, killed.command);
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
        right_end(scene, running, &program)?;
    }
    older_is_whole(scene, &killed, &program)
}

/// The program, and nothing of its output is there twice or missing.
fn right_end(scene: &Scene, running: Running, program: &Program) -> Result {
    let plain = scene.plain(program)?;
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
    Ok(())
}

/// The older image is what it was, and can be restarted, when no program waits any more.
fn older_is_whole(scene: &Scene, killed: &Killed, program: &Program) -> Result {
    let seen = fs::read(&killed.older).ok();
    ensure!(seen.as_ref() == Some(&killed.older_bytes), "the older image has changed or is gone");
    let out = scene.path("out-older");
    let again = scene.restart(&["--pod", "older"], std::slice::from_ref(&killed.older), &out)?;
    scene.expect_end_in(again, program, &out).doing("the restart of the older image")
}

/// A checkpoint that is to end the program: afterwards either that lives, and can be checkpointed, or it has ended, and the
/// new image is whole and restarts; zap-command has not said that all is well unless the latter is true.
fn kill_at_kill(scene: &Scene, point: &'static str, victim: Victim) -> Result {
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let killed = checkpoint_and_kill_at(scene, point, victim, &["--kill"])?;
    let running = killed.program;
    let said = scene.wait(killed.command).doing("zap-command")?.ended;
    let fits = match victim {
        Victim::Writer => said == Ended::Exited(1),
        Victim::Command => said == Ended::Killed(9) || matches!(said, Ended::Exited(0 | 1)),
        _ => matches!(said, Ended::Exited(0 | 1)),
    };
    ensure!(fits, "with {victim:?} killed at {point}, zap-command --checkpoint --kill ended with {said}");
    let lives = victim != Victim::Program && lives_on(scene, running)?;
    if lives {
        ensure!(said != Ended::Exited(0), "zap-command --checkpoint --kill succeeded, and the program lives");
        let strays = strays(scene)?;
        ensure!(strays.is_empty(), "after the next checkpoint unfinished files are left: {strays:?}");
        scene.go()?;
        right_end(scene, running, &program)?;
    } else {
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Killed(9), "the program that was to be killed: {ended}");
        scene.until(PATIENCE, "the pod of the killed program is gone", || {
            scene.status().ok()?.is_empty().then_some(())
        })?;
        let new = images_but(scene, &killed.older)?;
        // A program that the test has killed before its image was there has nothing but the older one.
        let owed = victim != Victim::Program || said == Ended::Exited(0);
        ensure!(new.len() == 1 || !owed && new.is_empty(), "the program has ended, its new images are {new:?}");
        scene.go()?;
        if !new.is_empty() {
            scene.run(&[Path::new("zap-image"), Path::new("verify"), &new[0]])?.expect(0, "")?;
            let again = scene.restart(&[], &new, &scene.out())?;
            right_end(scene, again, &program).doing("the restart of the new image")?;
        }
    }
    older_is_whole(scene, &killed, &program)
}

/// Whether the program lives when all that was asked for before is done: a checkpoint that is asked for now comes after it.
fn lives_on(scene: &Scene, running: Running) -> Result<bool> {
    let next = scene.start(scene.words(&["zap-command", "--checkpoint"]), &scene.path("next-out"))?;
    let ended = scene.until(PATIENCE, "the next checkpoint ends", || {
        // The writing copy disarms its own copy of the fault only.
        stopped().into_iter().for_each(|halted| process::kill(halted, libc::SIGCONT));
        process::try_wait(next.pid).ok().flatten().map(|outcome| outcome.ended)
    })?;
    if ended == Ended::Exited(0) {
        ensure!(process::lives(running.pid), "after the next checkpoint the program has ended");
        scene.wait_running(1).doing("after the next checkpoint")?;
        return Ok(true);
    }
    // It was about to end.
    scene.until(PATIENCE, &format!("the program ends, whose next checkpoint failed ({ended})"), || {
        (!process::lives(running.pid)).then_some(false)
    })
}

/// The images beside this one.
fn images_but(scene: &Scene, older: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(scene.images())? {
        paths.push(entry?.path());
    }
    paths.retain(|path| path != older && path.extension().is_some_and(|extension| extension == "zimg"));
    Ok(paths)
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

/// The coordinator is killed in the middle of a restart: either the program runs, and the next coordinator finds it, or
/// zap-restart says what is wrong, and leaves nothing half restored.
fn restart_without_coordinator(scene: &Scene, point: &'static str) -> Result {
    let (program, images) = if point == fault::PROGRAM_RESTORING {
        stops_when_restored(scene)?
    } else {
        let (program, running) = crate::special::start_simple(scene, &[])?;
        (program, scene.checkpoint_and_kill(running)?)
    };
    let before = fs::read(&images[0])?;
    scene.use_fault((point == fault::RESTART_PLANNED).then_some(point));
    let restart = scene.restart(&[], &images, &scene.out())?;
    scene.use_fault(None);
    let halted = scene.until(PATIENCE, &format!("a process stops itself at {point}"), stopped)?;
    // One that has ended of itself meanwhile is started anew where there is a pod.
    scene.status()?;
    let coordinator = scene.coordinator()?;
    process::kill(coordinator, libc::SIGKILL);
    scene.until(PATIENCE, "the coordinator is gone", || (!process::lives(coordinator)).then_some(()))?;
    process::kill(halted, libc::SIGCONT);
    let runs = scene.until(PATIENCE, "the program runs, or zap-restart has ended", || {
        let pods = scene.status().ok()?;
        let runs = pods.len() == 1 && pods[0]["state"] == "running";
        (runs || !process::lives(restart.pid)).then_some(runs)
    })?;
    if runs {
        scene.wait_running(1).doing("after the kill")?;
        scene.checkpoint(&[]).doing("after the restart")?;
        scene.go()?;
        scene.expect_end(restart, &program)?;
    } else {
        let ended = scene.wait(restart)?.ended;
        ensure!(ended == Ended::Exited(125), "zap-restart without a coordinator: {ended}");
        ensure!(!fs::read(scene.path("err"))?.is_empty(), "zap-restart ended without a message");
        let pods = scene.status()?;
        ensure!(pods.is_empty(), "a pod is left: {pods:?}");
        ensure!(halted == restart.pid || !process::lives(halted), "the half restored program lives on");
        scene.go()?;
    }
    ensure!(runs || fs::read(&images[0])? == before, "the image has changed");
    Ok(())
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
