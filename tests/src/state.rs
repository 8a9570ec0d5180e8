//! The state programs, each through every road a checkpoint can take.

use crate::case::{Case, Doing, Result};
use crate::ensure;
use crate::manifest::{Kind, Manifest, Program};
use crate::place::User;
use crate::process;
use crate::scene::{Running, Scene};
use std::fs;

pub type Road = fn(&Scene, &Program) -> Result;

/// The roads, and whether root alone can take them.
pub const ROADS: [(&str, Road); 11] = [
    ("plain", plain),
    ("resumed", resumed),
    ("virtual", virtually),
    ("virtual-restarted", virtually_restarted),
    ("restarted", restarted),
    ("restarted-twice", restarted_twice),
    ("clone", clone),
    ("elsewhere", elsewhere),
    ("namespaces", namespaces),
    ("earlier-boot", earlier_boot),
    ("in-place", in_place),
];

/// Roads on which root sees what everybody sees: a short run takes them as an ordinary user alone.
const AGAIN: [&str; 3] = ["virtual", "restarted-twice", "elsewhere"];

pub fn cases(manifest: &Manifest) -> Vec<Case> {
    let mut cases = Vec::new();
    for ordinary in [false, true] {
        for program in manifest
            .program
            .iter()
            .filter(|program| matches!(program.kind, Kind::State | Kind::Refused | Kind::Confined))
        {
            let roads: Vec<(&str, Road)> = match program.kind {
                Kind::Refused => vec![("plain", plain), ("refused", refused)],
                Kind::Confined => {
                    vec![("plain", plain), ("confined", confined), ("restarted-confined", confined_later)]
                }
                _ => ROADS.into_iter().filter(|(name, _)| *name != "clone" || program.alone.is_empty()).collect(),
            };
            let taken = |name: &str| program.roads.is_empty() || program.roads.iter().any(|road| road == name);
            let roads = roads.into_iter().filter(|(name, _)| taken(name));
            // An ordinary user cannot make a time namespace without one of users, in which ids are others.
            for (name, road) in roads.filter(|(name, _)| !ordinary || *name != "earlier-boot") {
                let own = program.clone();
                let case = Case::new(format!("state/{}/{name}", program.name), move |scene| {
                    scene.plain(&own)?;
                    road(scene, &own)
                });
                let case = case.packages(&program.packages).huge_pages(program.huge_pages);
                let again = !ordinary && process::user() == 0 && !program.of_root && AGAIN.contains(&name);
                let case = if again || program.long { case.long() } else { case };
                let case = case.order(if name == "plain" { 1 } else { 3 });
                cases.push(if ordinary { case.by_ordinary_user() } else { case });
            }
        }
    }
    cases
}

fn plain(_: &Scene, _: &Program) -> Result {
    Ok(())
}

/// Three checkpoints while it runs on.
fn resumed(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    for number in 1..=3 {
        scene.checkpoint(&[]).doing(format!("checkpoint {number}"))?;
    }
    scene.go()?;
    scene.expect_end(running, program)
}

/// Ids differ from the start; a checkpoint while it runs on.
fn virtually(scene: &Scene, program: &Program) -> Result {
    scene.use_virtual_ids();
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    scene.go()?;
    scene.expect_end(running, program)
}

/// Ids differ from the start, and are others after a restart.
fn virtually_restarted(scene: &Scene, program: &Program) -> Result {
    scene.use_virtual_ids();
    restarted(scene, program)
}

fn restarted(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, program)
}

/// No frozen copy can be made: the standing program writes its image itself.
fn in_place(scene: &Scene, program: &Program) -> Result {
    scene.use_fault(Some(crate::panics::IN_PLACE));
    let running = scene.launch(program, &[])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[]).doing("while it runs on")?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1).doing("after the restart")?;
    scene.checkpoint(&[]).doing("after the restart")?;
    scene.go()?;
    scene.expect_end(running, program)
}

fn restarted_twice(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1).doing("after the first restart")?;
    let images = scene.checkpoint_and_kill(running).doing("second checkpoint")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, program)
}

/// A clone beside the living original, both of which end rightly.
fn clone(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    let out = scene.path("out-clone");
    fs::copy(scene.out(), &out)?;
    scene.own(&out)?;
    let clone = scene.restart(&["--pod", "the-clone"], &images, &out)?;
    scene.wait_running(2)?;
    scene.go()?;
    scene.expect_end(running, program).doing("the original")?;
    scene.expect_end_in(clone, program, &out).doing("the clone")
}

/// From another directory, with the coordinator gone and the runtime directory emptied.
fn elsewhere(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    forget(scene)?;
    scene.use_directory(scene.make_directory("another", 0o755)?);
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, program)
}

/// Ends the coordinator and empties the runtime directory.
pub fn forget(scene: &Scene) -> Result {
    scene.quit(&["--kill"])?;
    empty_runtime(scene)
}

/// Empties the runtime directory, whose coordinator has ended.
pub fn empty_runtime(scene: &Scene) -> Result {
    fs::remove_dir_all(scene.runtime())?;
    scene.make_directory("runtime", 0o700)?;
    Ok(())
}

/// A host that was booted ten days earlier than this one, to its clocks: unshare(1)'s options.
const EARLIER: [&str; 5] = ["-T", "--monotonic", "864000", "--boottime", "864000"];

/// From a host that was booted ten days earlier: its clocks have gone back.
fn earlier_boot(scene: &Scene, program: &Program) -> Result {
    if process::user() != 0 || scene.user == User::Nobody {
        return crate::case::skipped("needs a time namespace");
    }
    let running = scene.launch_by(&[&["unshare"], &EARLIER[..]].concat(), program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, program)
}

/// In fresh PID, mount, network, IPC, UTS and time namespaces with an emptied runtime directory: another host, booted
/// earlier.
fn namespaces(scene: &Scene, program: &Program) -> Result {
    if process::user() != 0 || scene.user == User::Nobody {
        let probe = scene.run(&["unshare", "-U", "--map-current-user", "-pmniuT", "--fork", "--mount-proc", "true"])?;
        if probe.status != 0 {
            return crate::case::skipped("ordinary users cannot make namespaces here");
        }
    }
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    forget(scene)?;
    let mut words = vec!["unshare"];
    if process::user() != 0 || scene.user == User::Nobody {
        words.extend(["-U", "--map-current-user"]);
    }
    words.extend(EARLIER);
    words.extend(["-pmniu", "--fork", "--mount-proc"]);
    let mut command = scene.words(&words);
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let running = scene.start(command, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, program)
}

/// What cannot be saved is refused by name; the program does not notice. Then it is given up, and a checkpoint works.
fn refused(scene: &Scene, program: &Program) -> Result {
    let message = program.message.as_deref().unwrap_or_default();
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.run(&["zap-command", "--checkpoint"])?.expect(1, message)?;
    let left = fs::read_dir(scene.images())?.count();
    ensure!(left == 0, "the refused checkpoint left {left} files");
    scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, message)?;
    ensure!(process::lives(running.pid), "a refused checkpoint with --kill killed the program");
    scene.go()?;
    scene.wait_ready(running, 2)?;
    let images = scene.checkpoint_and_kill(running).doing("after it was given up")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    fs::write(scene.path("go.2"), "")?;
    scene.expect_end(running, program)
}

/// A checkpoint works in the first round; in the second it is refused, and the program does not notice.
fn confined(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    stays_confined(scene, program, running)
}

/// The same after a restart.
fn confined_later(scene: &Scene, program: &Program) -> Result {
    let running = scene.launch(program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    stays_confined(scene, program, running)
}

fn stays_confined(scene: &Scene, program: &Program, running: Running) -> Result {
    scene.go()?;
    scene.wait_ready(running, 2)?;
    for words in [&["--checkpoint"][..], &["--checkpoint", "--kill"], &["--checkpoint"]] {
        let said = scene.run(&[&["zap-command"], words].concat())?;
        said.expect(1, program.message.as_deref().unwrap_or_default())?;
        scene.run(&["zap-command", "--status"])?.expect(0, "")?;
    }
    ensure!(process::lives(running.pid), "a refused checkpoint killed the program");
    fs::write(scene.path("go.2"), "")?;
    scene.expect_end(running, program)
}
