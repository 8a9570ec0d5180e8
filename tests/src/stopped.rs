//! Checkpoints of a stopped process: no code of the program runs, it stays stopped, and a restart brings it back so.

use crate::case::{failed, Case, Doing, Result};
use crate::ensure;
use crate::manifest::Program;
use crate::process::{self, Ended};
use crate::scene::{Running, Scene, PATIENCE};
use std::fs;

const PROGRAMS: [&str; 2] = ["continued_handler", "continued_default"];

type Road = fn(&Scene, &Program) -> Result;

pub fn cases() -> Vec<Case> {
    let roads: [(&str, Road); 5] = [
        ("resumed", resumed),
        ("restarted", restarted),
        ("restarted-twice", restarted_twice),
        ("background", background),
        ("continued-meanwhile", continued_meanwhile),
    ];
    let mut cases = Vec::new();
    for name in PROGRAMS {
        for (road_name, road) in roads {
            let case = || {
                Case::new(format!("stopped/{name}/{road_name}"), move |scene: &Scene| {
                    let program = scene.program(name)?;
                    scene.plain(&program)?;
                    road(scene, &program)
                })
            };
            cases.push(case());
            cases.push(case().by_ordinary_user());
        }
    }
    cases
}

/// Launches the program, stops it, and tells it to go on: it prints as soon as it runs.
fn start_stopped(scene: &Scene, program: &Program) -> Result<Running> {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    process::kill(running.pid, libc::SIGSTOP);
    scene.wait_stopped(running.pid, "the program")?;
    scene.go()?;
    Ok(running)
}

/// Stopped, and nothing said since READY.
fn expect_stopped(scene: &Scene, pid: i32) -> Result {
    scene.wait_stopped(pid, "the program")?;
    let said = fs::read_to_string(scene.out())?;
    ensure!(said == "READY\n", "the program ran while it was stopped: {said:?}");
    Ok(())
}

/// Process id of the pod's only process, once it stands stopped.
fn stopped_member(scene: &Scene) -> Result<i32> {
    let pid = scene.until(PATIENCE, "the restarted process is stopped", || {
        let pods = scene.status().ok()?;
        let member = pods.first()?["processes"].get(0)?.clone();
        (member["state"] == "stopped").then_some(member["pid"].as_i64()?)
    })?;
    Ok(pid as i32)
}

fn resumed(scene: &Scene, program: &Program) -> Result {
    let running = start_stopped(scene, program)?;
    for number in 1..=3 {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
        expect_stopped(scene, running.pid)?;
    }
    process::kill(running.pid, libc::SIGCONT);
    scene.expect_end(running, program)
}

fn restarted(scene: &Scene, program: &Program) -> Result {
    let running = start_stopped(scene, program)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    let member = stopped_member(scene)?;
    scene.wait_stopped(running.pid, "zap-restart")?;
    expect_stopped(scene, member)?;
    process::kill(running.pid, libc::SIGCONT);
    scene.expect_end(running, program)
}

fn restarted_twice(scene: &Scene, program: &Program) -> Result {
    let running = start_stopped(scene, program)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    expect_stopped(scene, stopped_member(scene)?)?;
    scene.wait_stopped(running.pid, "zap-restart")?;
    let images = scene.checkpoint(&["--kill"])?;
    process::kill(running.pid, libc::SIGCONT);
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Killed(9), "zap-restart of a killed program: {ended}");
    let running = scene.restart(&[], &images, &scene.out())?;
    expect_stopped(scene, stopped_member(scene)?)?;
    scene.wait_stopped(running.pid, "zap-restart")?;
    process::kill(running.pid, libc::SIGCONT);
    scene.expect_end(running, program)
}

/// Continued itself, without zap-restart.
fn background(scene: &Scene, program: &Program) -> Result {
    let running = start_stopped(scene, program)?;
    let images = scene.checkpoint_and_kill(running)?;
    let restart = scene.restart(&["--background"], &images, &scene.out())?;
    let ended = scene.wait(restart)?.ended;
    ensure!(ended == Ended::Exited(0), "zap-restart --background: {ended}");
    let member = stopped_member(scene)?;
    expect_stopped(scene, member)?;
    process::kill(member, libc::SIGCONT);
    // Its parent has ended, so this test has become its parent.
    scene.expect_end(Running { pid: member }, program)
}

/// Continued while a checkpoint is under way: then it runs on.
fn continued_meanwhile(scene: &Scene, program: &Program) -> Result {
    scene.use_fault(Some(zap_wire::fault::PROGRAM_DRAINED));
    let running = start_stopped(scene, program)?;
    scene.use_fault(None);
    let checkpoint = scene.start(scene.words(&["zap-command", "--checkpoint"]), &scene.path("checkpoint"))?;
    // Continued by the coordinator, it stops itself in the middle; continued again from there, it works on.
    scene.until(PATIENCE, "the program has been suspended", || {
        let suspended = scene.status().ok()?.first()?["processes"].get(0)?["state"] == "suspended";
        suspended.then_some(())
    })?;
    scene.wait_stopped(running.pid, "the program, in the middle,")?;
    process::kill(running.pid, libc::SIGCONT);
    let ended = scene.wait(checkpoint)?.ended;
    if ended != Ended::Exited(0) {
        return failed(format!("the checkpoint: {ended}"));
    }
    scene.expect_end(running, program)
}
