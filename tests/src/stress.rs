//! Programs that are checkpointed many times in a row: one whose threads are in libc's locks most of the time, one that
//! makes other programs, one that becomes another while its threads come and go, those that make children as fast as they
//! can, alone and several at once, one that a child signals as fast as it can, one to which everybody who holds what it has
//! let go of is an error, and one that is told of its children while another one stands.

use crate::case::{Case, Doing, Result};
use crate::ensure;
use crate::scene::Scene;

/// Checkpoints in a normal run and in a `--long` one.
const COUNT: u32 = 60;
const LONG: u32 = 300;

/// The same of pods of several processes.
const MAKERS_LONG: u32 = 500;

/// Lives, each restarted from the one before, in a normal run and in a `--long` one.
const LIVES: u32 = 20;
const LIVES_LONG: u32 = 200;

pub fn cases() -> Vec<Case> {
    let case = |count: u32| {
        Case::new(format!("stress/libc/{count}-checkpoints"), move |scene: &Scene| run(scene, count)).limit(240)
    };
    let long = || case(LONG).long();
    let spawning = || Case::new("stress/spawning/100-checkpoints".to_string(), spawning).limit(240);
    let exec = || Case::new("stress/exec/50-checkpoints".to_string(), exec_race).limit(240);
    let mut cases = vec![case(COUNT), case(COUNT).by_ordinary_user(), long(), long().by_ordinary_user()];
    cases.extend([spawning(), spawning().by_ordinary_user(), exec(), exec().by_ordinary_user()]);
    for name in ["shell_forks", "spawn_pool", "forking_family", "woken", "let_go", "job_control"] {
        let case = |count: u32| {
            let run = move |scene: &Scene| makers(scene, name, count);
            Case::new(format!("stress/{name}/{count}-checkpoints"), run).limit(600)
        };
        let all = with_virtual_ids(|| case(COUNT), || case(MAKERS_LONG)).into_iter();
        // Three of them at a time keep two processors from the kernel's own threads, and fsync waits for seconds.
        let apart = |case: Case| if name == "woken" && case.virtual_ids { case.order(8) } else { case };
        cases.extend(all.map(apart));
    }
    let vain = || Case::new(format!("stress/woken_in_vain/{COUNT}-checkpoints"), woken_in_vain).limit(600);
    cases.extend([vain(), vain().by_ordinary_user()]);
    cases.extend([exec().virtual_ids().long(), exec().virtual_ids().by_ordinary_user()]);
    for name in ["shell_forks", "spawn_pool", "forking_family", "wait_any", "job_control"] {
        let case = |count: u32| {
            let run = move |scene: &Scene| lives(scene, name, count);
            Case::new(format!("stress/{name}/{count}-lives"), run).limit(600)
        };
        cases.extend(with_virtual_ids(|| case(LIVES), || case(LIVES_LONG)));
    }
    cases
}

/// The short case and the long one, as both users, with the kernel's ids and with others. Those who wait for what they have
/// made take an id in every step; root sees in them what everybody sees.
fn with_virtual_ids(short: impl Fn() -> Case, long: impl Fn() -> Case) -> [Case; 8] {
    [
        short(),
        short().by_ordinary_user(),
        short().virtual_ids().long(),
        short().virtual_ids().by_ordinary_user(),
        long().long(),
        long().by_ordinary_user().long(),
        long().virtual_ids().long(),
        long().virtual_ids().by_ordinary_user().long(),
    ]
}

/// No wait ends for nothing, whatever moment a checkpoint comes at.
fn woken_in_vain(scene: &Scene) -> Result {
    let program = scene.program("woken_in_vain")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for number in 1..=COUNT {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Whoever is being made or ends in the moment of a checkpoint is there in the next life, living or ended.
fn lives(scene: &Scene, name: &str, count: u32) -> Result {
    let program = scene.program(name)?;
    scene.plain(&program)?;
    let mut running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for number in 1..=count {
        let images = scene.checkpoint_and_kill(running).doing(format!("life {number}"))?;
        running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1).doing(format!("life {number}"))?;
        // Somewhere else in the program each time.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(number * 7 % 40)));
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Every checkpoint is made, whatever processes come and go; none of them is lost, neither in the life that goes on nor in
/// that which begins with the last checkpoint.
fn makers(scene: &Scene, name: &str, count: u32) -> Result {
    let program = scene.program(name)?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for number in 1..count {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
    }
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    for number in 1..=5 {
        scene.checkpoint(&[]).doing(format!("checkpoint {number} after the restart"))?;
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Its children last a millisecond, but there nearly always is one. Who meets one may be refused, but by that name, and
/// at once or in bounded time; who meets none gets a checkpoint.
fn spawning(scene: &Scene) -> Result {
    let program = scene.program("spawning")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let mut made = 0;
    for number in 1..=100 {
        let said = scene.run(&["zap-command", "--checkpoint"])?;
        ensure!(said.status == 0 || said.err.contains(": child "), "checkpoint {number}: {:?}", said.err);
        made += u32::from(said.status == 0);
    }
    ensure!(made >= 5, "{made} of 100 checkpoints were made");
    scene.go()?;
    scene.expect_end(running, &program)
}

fn exec_race(scene: &Scene) -> Result {
    let program = scene.program("exec_race")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for number in 1..50 {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
    }
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    scene.go()?;
    scene.expect_end(running, &program)
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
