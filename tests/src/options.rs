//! Options of zap-launch and zap-restart, and what holds without them, each seen by its effect.

use crate::case::{failed, skipped, Case, Doing, Result, Row};
use crate::ensure;
use crate::process::{self, Ended};
use crate::scene::{Running, Scene, PATIENCE};
use crate::special::{is_root, start_simple, SIMPLE};
use std::fs;
use std::os::unix::fs::{chown, MetadataExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

pub fn cases() -> Vec<Case> {
    let table: [Row; 6] = [
        ("launch/signal", signal),
        ("launch/directory", directory),
        ("launch/pod-names", pod_names),
        ("launch/joins-pod", joins_pod),
        ("restart/directory", restart_directory),
        ("restart/verify", restart_verify),
    ];
    let mut cases = vec![Case::new("runtime/default", default_runtime)];
    for (name, run) in table {
        cases.push(Case::new(name, run));
        cases.push(Case::new(name, run).by_ordinary_user());
    }
    cases
}

/// The signals that a process catches, as the kernel has them: the first one is the lowest bit (proc(5)).
fn caught(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let word = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default().trim();
    match u64::from_str_radix(word, 16) {
        Ok(set) => Ok(set),
        Err(error) => failed(format!("SigCgt {word:?} of process {pid}: {error}")),
    }
}

/// The signal that is asked for is the one that Zap has, also after a restart, and no other. A signal that nobody catches would
/// have ended the program.
fn signal(scene: &Scene) -> Result {
    const ASKED: i32 = 41;
    let only = |pid: i32, signal: i32| -> Result {
        let set = caught(pid)?;
        ensure!(set == 1 << (signal - 1), "caught are {set:#x}, expected only {signal}");
        Ok(())
    };
    let (_, running) = start_simple(scene, &[])?;
    only(running.pid, zap_wire::DEFAULT_SIGNAL).doing("without --signal")?;
    scene.run(&["zap-command", "--kill"])?.expect(0, "")?;
    scene.wait(running)?;
    fs::remove_file(scene.out())?;
    let (program, running) = start_simple(scene, &["--signal", &ASKED.to_string()])?;
    only(running.pid, ASKED)?;
    scene.checkpoint(&[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    only(scene.first_process()?, ASKED).doing("after a restart")?;
    scene.checkpoint(&[])?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Images go to where zap-launch stood, and not to where the program or the coordinator goes.
fn directory(scene: &Scene) -> Result {
    let (here, there) = (scene.make_directory("here", 0o700)?, scene.make_directory("there", 0o700)?);
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let mut command = scene.words(&["zap-launch", "/bin/sh", "-c", "cd \"$0\" && exec \"$1\""]);
    command.arg(&there).args(scene.line(&program, &here)?).env_remove("ZAP_CKPT_DIR").current_dir(&here);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    ensure!(images[0].parent() == Some(&here), "{images:?} are not in {}", here.display());
    ensure!(fs::read_dir(&there)?.count() == 0, "something is in {}", there.display());
    scene.go()?;
    scene.expect_end(running, &program)
}

/// After a restart they go to where the images were that it came from, which need not be where they were written, and not to
/// where zap-restart stands.
fn restart_directory(scene: &Scene) -> Result {
    let (here, there) = (scene.make_directory("here", 0o700)?, scene.make_directory("there", 0o700)?);
    let (program, running) = start_simple(scene, &["--ckpt-dir", &here.to_string_lossy()])?;
    let image = scene.checkpoint_and_kill(running)?.remove(0);
    let moved = there.join(image.file_name().unwrap_or_default());
    fs::rename(&image, &moved)?;
    let mut command = scene.words(&["zap-restart"]);
    command.arg(&moved).env_remove("ZAP_CKPT_DIR").current_dir(scene.path("work"));
    let running = scene.start(command, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint(&[])?;
    ensure!(images[0].parent() == Some(&there), "{images:?} are not in {}", there.display());
    for directory in [&here, &scene.path("work"), &scene.images()] {
        ensure!(fs::read_dir(directory)?.count() == 0, "something is in {}", directory.display());
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Names of the pods that run.
fn names(scene: &Scene, count: usize) -> Result<Vec<String>> {
    let pods = scene.wait_running(count)?;
    let mut names: Vec<String> = pods.iter().map(|pod| pod["name"].as_str().unwrap_or_default().to_string()).collect();
    names.sort();
    Ok(names)
}

/// Each launch is a pod of its own, with the program's name and a number; a clone has the name of what it was taken from, and a number.
fn pod_names(scene: &Scene) -> Result {
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let mut all = Vec::new();
    for count in 1..=3 {
        all.push(scene.launch(&program, &[])?);
        scene.wait_ready(all[count - 1], count)?;
        let wanted: Vec<&str> = ["eventfd", "eventfd-2", "eventfd-3"][..count].to_vec();
        let seen = names(scene, count)?;
        ensure!(seen == wanted, "pods {seen:?} instead of {wanted:?}");
    }
    let images = scene.checkpoint(&["--pod", "eventfd-2"])?;
    let clone = scene.restart(&[], &images, &scene.path("out-clone"))?;
    let seen = names(scene, 4)?;
    ensure!(seen == ["eventfd", "eventfd-2", "eventfd-2-2", "eventfd-3"], "pods {seen:?} with a clone of eventfd-2");
    scene.run(&["zap-command", "--pod", "eventfd-2", "--kill"])?.expect(0, "")?;
    let ended = scene.wait(all[1])?.ended;
    ensure!(ended == Ended::Killed(9), "eventfd-2: {ended}");
    let seen = names(scene, 3)?;
    ensure!(seen == ["eventfd", "eventfd-2-2", "eventfd-3"], "pods {seen:?} without eventfd-2");
    scene.go()?;
    for running in [all[0], all[2], clone] {
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Exited(program.status), "{ended}");
    }
    Ok(())
}

/// A second launch into a pod: both are one pod, are checkpointed as one, and come back as one.
fn joins_pod(scene: &Scene) -> Result {
    let program = scene.program(SIMPLE)?;
    let plain = scene.plain(&program)?;
    let both: Vec<Running> = (0..2).map(|_| scene.launch(&program, &["--pod", "both"])).collect::<Result<_>>()?;
    scene.wait_ready(both[0], 2)?;
    let members = |doing: &str| -> Result<Vec<i64>> {
        let pods = scene.wait_running(1).doing(doing)?;
        let list = pods[0]["processes"].as_array().cloned().unwrap_or_default();
        ensure!(pods[0]["name"] == "both" && list.len() == 2, "{doing}: {pods:?}");
        Ok(list.iter().filter_map(|one| one["pid"].as_i64()).collect())
    };
    let seen = members("launched")?;
    ensure!(both.iter().all(|one| seen.contains(&i64::from(one.pid))), "members {seen:?}, started {both:?}");
    let images = scene.checkpoint_and_kill(both[0])?;
    ensure!(images.len() == 2, "{images:?}");
    let ended = scene.wait(both[1])?.ended;
    ensure!(ended == Ended::Killed(9), "the second one: {ended}");
    let running = scene.restart(&[], &images, &scene.out())?;
    members("restarted")?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(program.status), "{ended}");
    // zap-restart ends with the first of the two.
    scene.until(PATIENCE, "the pod has ended", || scene.status().ok()?.is_empty().then_some(()))?;
    let lines = |bytes: &[u8]| -> Vec<String> {
        let mut lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_string).collect();
        lines.sort();
        lines
    };
    let (seen, expected) = (lines(&fs::read(scene.out())?), lines(&[plain.out.as_slice(), &plain.out].concat()));
    ensure!(seen == expected, "the output of both: {seen:?} instead of {expected:?}");
    Ok(())
}

/// Without ZAP_RUNTIME_DIR it is /tmp/zap-UID, whatever a session offers that ends with a logout. Only a user of whom nobody
/// has ever heard has none yet.
fn default_runtime(scene: &Scene) -> Result {
    if !is_root(scene) {
        return skipped("only root can be another user");
    }
    let user = 1_900_000_000 + std::process::id();
    let runtime = PathBuf::from(format!("/tmp/zap-{user}"));
    ensure!(!runtime.exists(), "{} is there already", runtime.display());
    let result = in_default_runtime(scene, user, &runtime);
    let _ = fs::remove_dir_all(&runtime);
    result
}

fn in_default_runtime(scene: &Scene, user: u32, runtime: &Path) -> Result {
    let program = scene.program(SIMPLE)?;
    let session = scene.make_directory("session", 0o700)?;
    for path in [&session, &scene.images()] {
        chown(path, Some(user), Some(user))?;
    }
    chown(&scene.dir, Some(user), Some(user))?;
    let by_user = |words: &[&str]| {
        let mut command = scene.words(words);
        command.env_remove("ZAP_RUNTIME_DIR").env("XDG_RUNTIME_DIR", &session).env("TMPDIR", &session);
        command.env("HOME", &session).env("ZAP_IDLE_SECONDS", "0.1").current_dir(&session).uid(user).gid(user);
        command
    };
    let mut command = by_user(&["zap-launch"]);
    command.args(scene.line(&program, &session)?);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let found = fs::symlink_metadata(runtime).doing("the default runtime directory")?;
    ensure!(found.is_dir() && found.mode() & 0o7777 == 0o700 && found.uid() == user, "{found:?}");
    ensure!(runtime.join("coordinator.sock").exists(), "no socket in {}", runtime.display());
    ensure!(fs::read_dir(&session)?.count() == 0, "something is in the session's directory");
    scene.finish(by_user(&["zap-command", "--checkpoint"]))?.expect(0, "")?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(program.status), "{ended}");
    scene
        .until(PATIENCE, "the coordinator has ended", || (!runtime.join("coordinator.sock").exists()).then_some(()))?;
    scene.until(PATIENCE, "nobody of this user is left", || {
        let own = std::process::id() as i32;
        process::descendants(own).into_iter().all(|pid| !process::lives(pid)).then_some(())
    })
}

/// An image that nobody has touched since it was written is not read as a whole, unless `--verify` asks for that.
fn restart_verify(scene: &Scene) -> Result {
    let program = scene.program("heap_and_mmap")?;
    scene.plain(&program)?;
    let mut running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let mut read = Vec::new();
    for options in [&[][..], &["--verify"]] {
        let images = scene.checkpoint_and_kill(running)?;
        let length = fs::metadata(&images[0])?.len();
        running = scene.restart(options, &images, &scene.out())?;
        scene.wait_running(1)?;
        read.push((process::bytes_read(running.pid), length));
    }
    let [(without, _), (with, length)] = read[..] else { return failed("two restarts") };
    ensure!(
        with >= length && with >= without + length / 2,
        "read {with} bytes of {length}, {without} without --verify"
    );
    scene.go()?;
    scene.expect_end(running, &program)
}
