//! Real applications: checkpoints while they work, and a restart in the middle of their work.
//!
//! "A third of the way" is told by the processor time that a plain run took, not by the clock.

use crate::case::{failed, Case, Doing, Result, Stop};
use crate::manifest::{Kind, Manifest, Program};
use crate::process;
use crate::scene::{Running, Scene, PATIENCE};
use std::time::{Duration, Instant};

/// Times that each job is restarted in a `--long` run.
const LONG: u32 = 6;
/// Checkpoints of a job while it runs on.
const CHECKPOINTS: u32 = 3;
/// The job whose moments are drawn by lot: its processes come and go all the time. So many lots in a run, and with `--long`.
const LOTS: (&str, u32, u32) = ("make_project", 2, 40);
/// Names the lot of a failed run, to draw it again.
const LOT: &str = "ZAP_TEST_LOT";
/// Jobs of one process, which ids are nothing to: with others than the kernel's in a `--long` run only.
const ALONE: [&str; 20] = [
    "python_pure",
    "python_threads",
    "python_asyncio",
    "python_numpy",
    "perl",
    "ruby_threads",
    "sqlite_memory",
    "sqlite_file",
    "xz",
    "zstd",
    "rust_threads",
    "cpp_exceptions",
    "octave_matrix",
    "r_statistics",
    "guile_threads",
    "php_generators",
    "ocaml_threads",
    "lua_coroutines",
    "tcl_events",
    "sbcl",
];

pub fn cases(manifest: &Manifest) -> Vec<Case> {
    let mut cases = Vec::new();
    for program in manifest.program.iter().filter(|program| program.kind == Kind::Job) {
        let name = &program.name;
        let mut add = |road: &str, order, run: fn(&Scene, &Program) -> Result| {
            let own = program.clone();
            let case = Case::new(format!("job/{name}/{road}"), move |scene| run(scene, &own));
            let case = case.packages(&program.packages).order(order).limit(240);
            cases.push(if road == "restarted-twice" { case.long() } else { case });
        };
        add("plain", 6, |scene, program| scene.plain(program).map(|_| ()));
        add("resumed", 7, resumed);
        add("restarted", 7, |scene, program| restarted(scene, program, 1, 3));
        add("restarted-twice", 7, restarted_twice);
        let own = program.clone();
        let case = Case::new(format!("job/{name}"), move |scene| virtually_restarted(scene, &own)).virtual_ids();
        let case = case.packages(&program.packages).order(7).limit(240);
        cases.push(if ALONE.contains(&name.as_str()) { case.long() } else { case });
        if name == LOTS.0 {
            for number in 1..=LOTS.2 {
                let own = program.clone();
                let case = Case::new(format!("job/{name}/by-lot-{number}"), move |scene| by_lot(scene, &own));
                let case = case.packages(&program.packages).order(8).limit(240);
                let case = if number % 2 == 0 { case.by_ordinary_user() } else { case };
                cases.push(if number > LOTS.1 { case.long() } else { case });
            }
        }
        for number in 1..=LONG {
            let own = program.clone();
            let run = move |scene: &Scene| restarted(scene, &own, number, LONG + 2);
            let case = Case::new(format!("job/{name}/restarted-at-{number}-of-{LONG}"), run);
            cases.push(case.packages(&program.packages).order(8).limit(240).long());
        }
    }
    cases
}

/// Waits until the job has taken `part`/`whole` of the processor time of a plain run.
fn wait_part(scene: &Scene, running: Running, program: &Program, part: u32, whole: u32) -> Result {
    let wanted = scene.plain(program)?.processor_time * part / whole;
    let seen = scene.until(PATIENCE * 2, &format!("the job has worked for {wanted:?}"), || {
        match process::processor_time(running.pid) {
            Some(time) if time >= wanted && process::lives(running.pid) => Some(true),
            _ if !process::lives(running.pid) => Some(false),
            _ => None,
        }
    })?;
    match seen {
        true => Ok(()),
        false => failed(format!("the job ended before it had worked for {wanted:?}")),
    }
}

/// Runs a road of a job, whose argument divides the moments of its checkpoints. On a machine that is busy with other things
/// a job may be done, as it should be, before its checkpoint, or while the images of the one before go to a slow disk: then
/// it is begun anew with more work, and with checkpoints that come sooner.
fn in_time(scene: &Scene, program: &Program, road: impl Fn(u32) -> Result<Option<()>>) -> Result {
    for (haste, scale) in [(1, 1), (3, 2), (9, 4)] {
        scene.use_scale(scale);
        scene.plain(program)?;
        if road(haste)?.is_some() {
            return Ok(());
        }
        scene.begin_anew()?;
    }
    failed("three times the job was done before its checkpoint")
}

/// What a step has come to; `None` if the job was done before it, in the right way.
fn unless_done<T>(scene: &Scene, running: Running, program: &Program, step: Result<T>) -> Result<Option<T>> {
    match step {
        Err(Stop::Failed(why)) if !process::lives(running.pid) => {
            scene.expect_end(running, program).doing(why).map(|()| None)
        }
        other => other.map(Some),
    }
}

fn resumed(scene: &Scene, program: &Program) -> Result {
    in_time(scene, program, |haste| {
        let running = scene.launch(program, &[])?;
        // Well before the end: the same work takes more than twice the processor time on a busy machine.
        if !checkpointed(scene, running, program, CHECKPOINTS + 1, 9 * haste)? {
            return Ok(None);
        }
        scene.expect_end(running, program).map(Some)
    })
}

/// Checkpointed while it runs on, then killed when it has done this part of its work, and restarted.
pub fn restarted(scene: &Scene, program: &Program, part: u32, whole: u32) -> Result {
    in_time(scene, program, |haste| {
        let running = scene.launch(program, &[])?;
        if !checkpointed(scene, running, program, part, whole * haste)? {
            return Ok(None);
        }
        let Some(running) = killed_and_restarted(scene, running, program, part, whole * haste)? else {
            return Ok(None);
        };
        scene.expect_end(running, program).map(Some)
    })
}

/// Ids differ from the start, and are others after the restart.
fn virtually_restarted(scene: &Scene, program: &Program) -> Result {
    in_time(scene, program, |haste| {
        let running = scene.launch(program, &[])?;
        let Some(running) = killed_and_restarted(scene, running, program, 1, 3 * haste)? else { return Ok(None) };
        scene.expect_end(running, program).map(Some)
    })
}

/// Checkpointed while it runs on at one moment, and killed at another, both drawn by lot, as are whose ids it has.
fn by_lot(scene: &Scene, program: &Program) -> Result {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let given = std::env::var(LOT).ok().and_then(|lot| lot.parse::<u64>().ok());
    let lot = given.unwrap_or(now.as_nanos() as u64 % 1_000_000_000);
    // Thousandths of the work; the multiplier is that of splitmix64.
    let drawn = lot.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (one, other) = ((drawn >> 32) as u32 % 900, (drawn >> 12) as u32 % 900);
    if drawn >> 63 == 1 {
        scene.use_virtual_ids();
    }
    let run = in_time(scene, program, |haste| {
        let running = scene.launch(program, &[])?;
        let step = wait_part(scene, running, program, one.min(other), 1000 * haste)
            .and_then(|()| scene.checkpoint(&[]).doing("while it runs on"));
        if unless_done(scene, running, program, step)?.is_none() {
            return Ok(None);
        }
        let Some(running) = killed_and_restarted(scene, running, program, one.max(other), 1000 * haste)? else {
            return Ok(None);
        };
        scene.expect_end(running, program).map(Some)
    });
    run.doing(format!("{LOT}={lot}"))
}

/// Checkpoints while it runs on, spread over the time until it has done this part of its work; whether it was not done
/// before.
fn checkpointed(scene: &Scene, running: Running, program: &Program, part: u32, whole: u32) -> Result<bool> {
    for number in 1..=CHECKPOINTS {
        let step = wait_part(scene, running, program, part * number, whole * (CHECKPOINTS + 1))
            .and_then(|()| patiently(|| scene.checkpoint(&[])).doing(format!("checkpoint {number}")));
        if unless_done(scene, running, program, step)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Internet sockets are refused by name, and some programs have one for a moment (Erlang asks for the host's name when it begins): then
/// the checkpoint is asked for again.
fn patiently<T>(step: impl Fn() -> Result<T>) -> Result<T> {
    let begin = Instant::now();
    loop {
        match step() {
            Err(Stop::Failed(why)) if why.contains("(socket:[") && begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

/// Killed by a checkpoint when it has done this part of its work, and restarted.
fn killed_and_restarted(
    scene: &Scene,
    running: Running,
    program: &Program,
    part: u32,
    whole: u32,
) -> Result<Option<Running>> {
    let step =
        wait_part(scene, running, program, part, whole).and_then(|()| patiently(|| scene.checkpoint_and_kill(running)));
    let Some(images) = unless_done(scene, running, program, step)? else { return Ok(None) };
    scene.restart(&[], &images, &scene.out()).map(Some)
}

/// Killed in the first half of its work, and in the second half of what is left, with a checkpoint before that while it runs
/// on.
fn restarted_twice(scene: &Scene, program: &Program) -> Result {
    in_time(scene, program, |haste| {
        let running = scene.launch(program, &[])?;
        let Some(running) = killed_and_restarted(scene, running, program, 1, 5 * haste)? else { return Ok(None) };
        // The processes are new ones, whose time begins anew.
        let step = wait_part(scene, running, program, 1, 8 * haste).and_then(|()| scene.checkpoint(&[]));
        if unless_done(scene, running, program, step)?.is_none() {
            return Ok(None);
        }
        let Some(running) = killed_and_restarted(scene, running, program, 1, 5 * haste)? else { return Ok(None) };
        scene.expect_end(running, program).map(Some)
    })
}
