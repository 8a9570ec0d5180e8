//! A program whose threads are in libc's locks most of the time, checkpointed many times in a row.

use crate::case::{Case, Doing, Result};
use crate::scene::Scene;

/// Checkpoints in a normal run and in a `--long` one.
const COUNT: u32 = 60;
const LONG: u32 = 300;

pub fn cases() -> Vec<Case> {
    let case = |count: u32| {
        Case::new(format!("stress/libc/{count}-checkpoints"), move |scene: &Scene| run(scene, count)).limit(240)
    };
    let long = || case(LONG).long();
    vec![case(COUNT), case(COUNT).by_ordinary_user(), long(), long().by_ordinary_user()]
}

fn run(scene: &Scene, count: u32) -> Result {
    let program = scene.program("libc_locks")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for number in 1..count {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
    }
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    scene.checkpoint(&[]).doing("after the restart")?;
    scene.go()?;
    scene.expect_end(running, &program)
}
