//! A panic in libzap, at every place of `zap_wire::fault::PANICS`: the program does not notice, and the user is told.

use crate::case::{Case, Doing, Result};
use crate::ensure;
use crate::process::{self, Ended};
use crate::scene::{Scene, PATIENCE};
use std::fs;
use zap_wire::fault;

/// The frozen copy panics: only its image is lost.
const COPY: [&str; 4] =
    [fault::WRITER_SURVEYING, fault::WRITER_LAYING_OUT, fault::WRITER_WRITING, fault::WRITER_SAYING];

/// No frozen copy can be made.
pub const IN_PLACE: &str = "refuse:copy-forking";

/// The coordinator has heard the last word, and the image is whole.
const AFTER: [&str; 2] = [fault::PLUGINS_RESUMING, fault::PROGRAM_RESUMING];

/// A process that is being restarted panics: nothing of it is left.
const RESTART: [&str; 5] = [
    fault::PROGRAM_RESTORING,
    fault::RESTORING_DESCRIPTORS,
    fault::RESTORING_THREADS,
    fault::THREAD_ENTERING,
    fault::RESTORING_TIMERS,
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for place in fault::PANICS {
        let case = || {
            Case::new(format!("panic/{place}"), move |scene: &Scene| {
                if RESTART.contains(&place) {
                    restarted(scene, place)
                } else {
                    resumed(scene, place)
                }
            })
        };
        cases.push(case());
        cases.push(case().by_ordinary_user());
    }
    cases.push(Case::new("panic/no-memory", |scene| no_memory(scene, false)));
    cases.push(Case::new("panic/no-memory-at-first", |scene| no_memory(scene, true)));
    for place in [fault::WRITER_SURVEYING, fault::WRITER_LAYING_OUT, fault::WRITER_WRITING] {
        let case = Case::new(format!("panic/in-place/{place}"), move |scene: &Scene| panics(scene, place, true));
        cases.push(case);
    }
    cases.push(Case::new("panic/in-place/none", writes_in_place));
    cases.push(Case::new("panic/in-place/given-up", given_up));
    cases
}

/// The program's own process writes the image, and nothing is left of that.
fn writes_in_place(scene: &Scene) -> Result {
    let program = scene.program("panics")?;
    scene.plain(&program)?;
    scene.use_fault(Some(IN_PLACE));
    let running = scene.launch(&program, &["--keep", "9"])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    scene.go()?;
    scene.wait_ready(running, 2)?;
    for number in 1..=3 {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
    }
    fs::write(scene.path("go.2"), "")?;
    scene.expect_end(running, &program)
}

/// The coordinator dies while the program's own process writes: that stops at once, and the program runs on.
fn given_up(scene: &Scene) -> Result {
    let program = scene.program("panics")?;
    scene.plain(&program)?;
    scene.use_fault(Some(&format!("{IN_PLACE},{}", fault::WRITER_WRITING)));
    let running = scene.launch(&program, &[])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    let command = scene.start(scene.words(&["zap-command", "--checkpoint"]), &scene.path("command-out"))?;
    scene.wait_stopped(running.pid, "the program that writes")?;
    process::kill(scene.coordinator()?, libc::SIGKILL);
    process::kill(running.pid, libc::SIGCONT);
    scene.wait(command)?;
    scene.wait_running(1).doing("after the coordinator's death")?;
    scene.checkpoint(&[]).doing("the next one")?;
    scene.go()?;
    scene.wait_ready(running, 2)?;
    fs::write(scene.path("go.2"), "")?;
    scene.expect_end(running, &program)
}

/// A program that has no memory left, and none for Zap; `at_first`: which then has not taken what it keeps, either.
fn no_memory(scene: &Scene, at_first: bool) -> Result {
    let program = scene.program("panics")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &["--keep", "9"])?;
    scene.wait_ready(running, 1)?;
    if !at_first {
        scene.checkpoint(&[]).doing("without a limit")?;
    }
    scene.go()?;
    scene.wait_ready(running, 2)?;
    process::limit_memory(running.pid, true)?;
    let said = scene.run(&["zap-command", "--checkpoint"])?;
    scene.run(&["zap-command", "--status"])?;
    said.expect(1, "memory")?;
    process::limit_memory(running.pid, false)?;
    fs::write(scene.path("go.2"), "")?;
    scene.expect_end(running, &program)
}

fn resumed(scene: &Scene, place: &str) -> Result {
    panics(scene, place, false)
}

/// A panic in the middle of a checkpoint; `in_place`: of a program that cannot make a frozen copy.
fn panics(scene: &Scene, place: &str, in_place: bool) -> Result {
    let program = scene.program("panics")?;
    scene.plain(&program)?;
    let refused = if in_place { format!("{IN_PLACE},") } else { String::new() };
    scene.use_fault(Some(&format!("{refused}panic:{place}:2")));
    let running = scene.launch(&program, &["--keep", "9"])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    let older = scene.checkpoint(&[]).doing("the older generation")?;
    let older_bytes = fs::read(&older[0])?;
    let older_out = scene.path("out-older");
    fs::copy(scene.out(), &older_out)?;
    scene.own(&older_out)?;
    scene.go()?;
    scene.wait_ready(running, 2)?;

    let reason = format!("asked for at {place}");
    let said = scene.run(&["zap-command", "--checkpoint"])?;
    if AFTER.contains(&place) {
        said.expect(0, "")?;
    } else if place == fault::HELPER_LISTING || place == fault::HELPER_LOOKING {
        said.expect(1, "libzap has failed in this process")?;
    } else {
        said.expect(1, &reason)?;
    }
    let pods = scene.wait_running(1).doing("after the panic")?;
    let why = pods[0]["processes"][0]["not_checkpointable"].clone();
    if COPY.contains(&place) && !in_place {
        ensure!(why.is_null(), "the process is marked for a failure of its copy: {why}");
        scene.checkpoint(&[]).doing("the next one")?;
    } else {
        let names_place = why.as_str().is_some_and(|why| why.contains(".rs:") && why.contains(&reason));
        ensure!(names_place, "--status --json says {why} instead of {reason:?}");
        let said = scene.run(&["zap-command", "--status"])?;
        ensure!(said.out.contains(&reason), "--status does not say why: {:?}", said.out);
        scene.run(&["zap-command", "--checkpoint"])?.expect(1, &reason)?;
        scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, &reason)?;
        // Another coordinator knows too.
        let coordinator = scene.coordinator()?;
        process::kill(coordinator, libc::SIGKILL);
        scene.until(PATIENCE, "the coordinator is gone", || (!process::lives(coordinator)).then_some(()))?;
        scene.run(&["zap-command", "--checkpoint"])?.expect(1, &reason)?;
    }
    fs::write(scene.path("go.2"), "")?;
    scene.expect_end(running, &program)?;

    ensure!(fs::read(&older[0])? == older_bytes, "the older image has changed");
    let again = scene.restart(&["--pod", "older"], &older, &older_out)?;
    scene.expect_end_in(again, &program, &older_out).doing("the restart of the older image")
}

fn restarted(scene: &Scene, place: &str) -> Result {
    let program = scene.program("panics")?;
    scene.plain(&program)?;
    scene.use_fault(Some(&format!("panic:{place}")));
    let running = scene.launch(&program, &[])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let before = fs::read(&images[0])?;
    for _ in 0..2 {
        let out = scene.path("out-restart");
        let restart = scene.restart(&[], &images, &out)?;
        let ended = scene.wait(restart).doing("zap-restart")?.ended;
        ensure!(ended == Ended::Exited(125), "zap-restart of a program that panics: {ended}");
        ensure!(fs::read(&out)?.is_empty(), "the program has run");
        let said = fs::read_to_string(scene.path("err"))?;
        ensure!(said.contains(&format!("asked for at {place}")), "zap-restart does not say why: {said:?}");
        let pods = scene.status()?;
        ensure!(pods.is_empty(), "a pod is left: {pods:?}");
    }
    ensure!(fs::read(&images[0])? == before, "the image has changed");
    Ok(())
}
