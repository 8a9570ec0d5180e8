//! Files that are not what they were when a pod comes back: `zap-restart --files`, `--map`, `zap-launch --snapshot-files`.

use crate::case::{failed, Case, Doing, Result, Row};
use crate::ensure;
use crate::manifest::Program;
use crate::process;
use crate::scene::{Running, Scene, PATIENCE};
use crate::special::is_root;
use crate::storage;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use zap_wire::fault;

pub fn cases() -> Vec<Case> {
    let table: [Row; 23] = [
        ("grown-output-is-cut", grown_output_is_cut),
        ("again-and-again", again_and_again),
        ("kept-when-asked", |scene| kept(scene, &["--files", "keep"], "6 bytes longer")),
        ("kept-under-another-name", |scene| kept(scene, &["--pod", "other"], "the pod has another name")),
        ("kept-while-others-write", kept_while_others_write),
        ("kept-beside-the-original", kept_beside_the_original),
        ("cut-when-asked", cut_when_asked),
        ("not-cut-when-the-restart-fails", not_cut_when_the_restart_fails),
        ("no-room-for-the-rest", no_room_for_the_rest),
        ("input-has-changed", input_has_changed),
        ("in-the-way", in_the_way),
        ("another-kind", another_kind),
        ("names-are-harmless", names_are_harmless),
        ("full-runtime-directory", full_runtime_directory),
        ("snapshot", snapshot),
        ("snapshot-is-undone", snapshot_is_undone),
        ("snapshot-is-undone-at-a-signal", snapshot_is_undone_at_a_signal),
        ("files-of-one-number", files_of_one_number),
        ("snapshot-of-a-living-pod", snapshot_of_a_living_pod),
        ("snapshots-of-older-generations", snapshots_of_older_generations),
        ("kept-files-are-checked", kept_files_are_checked),
        ("directory-has-moved", directory_has_moved),
        ("copies-keep-their-numbers", copies_keep_their_numbers),
    ];
    let both = |(name, run): Row| {
        let case = || Case::new(format!("files/{name}"), run);
        [case(), case().by_ordinary_user()]
    };
    table.into_iter().flat_map(both).collect()
}

const BEFORE: &str = "READY\n";

/// What the program says after READY.
fn said(data: &str, input: &str, log: &str, out: &str) -> String {
    format!("{BEFORE}data: {data} \ninput: {input} \nlog: {log} \nout: {out} \nOK\n")
}

/// A checkpoint in the middle of the program, which then runs to its end.
fn write_on(scene: &Scene, options: &[&str]) -> Result<Vec<PathBuf>> {
    let program = scene.program("changing_files")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, options)?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    scene.go()?;
    scene.expect_end(running, &program).doing("the first run")?;
    fs::write(scene.out(), BEFORE)?;
    scene.own(&scene.out())?;
    Ok(images)
}

/// Restarts the pod, and compares what it says up to its end with `expected`; what zap-restart says.
fn restart_and_end(scene: &Scene, options: &[&str], images: &[PathBuf], expected: &str) -> Result<String> {
    let mut command = scene.words(&["zap-restart"]);
    command.args(options).args(images);
    let ended = scene.finish(command)?;
    let all = format!("{BEFORE}{}", ended.out);
    ensure!(
        ended.status == 7 && all == expected,
        "exit status {}, {all:?} instead of {expected:?}; zap-restart: {:?}",
        ended.status,
        ended.err
    );
    Ok(ended.err)
}

fn read(scene: &Scene, name: &str) -> Result<String> {
    fs::read_to_string(scene.path("work").join(name)).doing(name)
}

/// What has been put beside the images of a file called `name`, in the order in which it was.
fn beside(scene: &Scene, name: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(scene.images())? {
        let path = entry?.path();
        let own = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if own.starts_with("tail_") && own.ends_with(&format!("_{name}")) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Files that another host has copies of, with their times, are known by the numbers that they had: again after the next checkpoint.
fn copies_keep_their_numbers(scene: &Scene) -> Result {
    let mut program = scene.program("file_numbers")?;
    program.run.push("open".into());
    scene.plain(&program)?;
    let mut running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let work = scene.path("work");
    for round in 1..=3 {
        let images = scene.checkpoint_and_kill(running).doing(format!("round {round}"))?;
        let copy = scene.path(&format!("copy-{round}"));
        let (from, to) = (work.display().to_string(), copy.display().to_string());
        let copied = scene.run(&["cp", "-a", &from, &to])?;
        ensure!(copied.status == 0, "{}", copied.err);
        fs::remove_dir_all(&work)?;
        // Numbers that were theirs become others'.
        for number in 0..20 {
            fs::write(scene.path(&format!("between-{round}-{number}")), "")?;
        }
        fs::rename(&copy, &work)?;
        running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1)?;
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Output goes on without a repeat, and what was cut off is kept.
fn grown_output_is_cut(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    let told = restart_and_end(scene, &[], &images, &said("after!", "input", "before after", "before after"))?;
    for name in ["log", "out"] {
        ensure!(read(scene, name)? == "before\nafter\n", "{name}: {:?}", read(scene, name)?);
        let line = format!("{}: cut back to 7 bytes", scene.path("work").join(name).display());
        ensure!(told.contains(&line), "{line:?} is not in {told:?}");
        match &beside(scene, name)?[..] {
            [tail] => ensure!(fs::read_to_string(tail)? == "after\n", "the rest of {name}"),
            other => return failed(format!("the rest of {name}: {other:?}")),
        }
    }
    let line = "data: warning: has been written since the checkpoint (400000 bytes, then 300000 bytes), and stays";
    ensure!(told.contains(line), "{line:?} is not in {told:?}");
    ensure!(!told.contains("input"), "{told:?}");
    Ok(())
}

/// Each time what followed is kept, under a name of its own.
fn again_and_again(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    for round in 1..=3 {
        let expected = said("after!", "input", "before after", "before after");
        restart_and_end(scene, &[], &images, &expected).doing(format!("round {round}"))?;
        ensure!(beside(scene, "log")?.len() == round, "{:?}", beside(scene, "log")?);
    }
    Ok(())
}

fn kept(scene: &Scene, options: &[&str], why: &str) -> Result {
    let images = write_on(scene, &[])?;
    let expected = said("after!", "input", "before after after", "before after");
    let told = restart_and_end(scene, options, &images, &expected)?;
    ensure!(told.contains("log: kept as it is, 6 bytes longer than at the checkpoint"), "{told:?}");
    ensure!(told.contains(why), "{told:?}");
    ensure!(beside(scene, "log")?.is_empty(), "something was cut off");
    Ok(())
}

/// Whoever is no pod's, and may write to a file, keeps it as it is; who only reads it does not.
fn kept_while_others_write(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    let (log, out) = (scene.path("work/log"), scene.path("work/out"));
    let writer = stranger(scene, "exec 3>>\"$0\"", &log)?;
    let reader = File::open(&out)?;
    let expected = said("after!", "input", "before after after", "before after");
    let told = restart_and_end(scene, &[], &images, &expected)?;
    drop(reader);
    end(scene, writer)?;
    let own = format!("process {} has it open", writer.pid);
    ensure!(told.contains(&own) && told.contains("out: cut back to 7 bytes"), "{told:?}");
    Ok(())
}

/// The original lives, and goes on writing: its clone finds the files as they are.
fn kept_beside_the_original(scene: &Scene) -> Result {
    let program = scene.program("changing_files")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &["--pod", "original"])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    fs::write(scene.path("work/log"), "before\nothers\n")?;
    let mut command = scene.words(&["zap-restart", "--background"]);
    command.args(&images);
    let told = scene.finish(command)?;
    told.expect(0, "log: kept as it is, 7 bytes longer")?;
    scene.wait_running(2)?;
    ensure!(read(scene, "log")? == "before\nothers\n", "{:?}", read(scene, "log")?);
    scene.run(&["zap-command", "--all", "--kill"])?.expect(0, "")?;
    scene.wait(running)?;
    Ok(())
}

/// `--files truncate` asks nobody.
fn cut_when_asked(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    let writer = OpenOptions::new().append(true).open(scene.path("work/log"))?;
    let expected = said("after!", "input", "before after", "before after");
    restart_and_end(scene, &["--files", "truncate", "--pod", "other"], &images, &expected)?;
    drop(writer);
    Ok(())
}

/// What fails in the end has touched nothing.
fn not_cut_when_the_restart_fails(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    let input = scene.path("work/input");
    fs::rename(&input, scene.path("input"))?;
    refused(scene, &[], &images, "input: no such file or directory")?;
    ensure!(read(scene, "log")? == "before\nafter\n" && beside(scene, "log")?.is_empty(), "log");
    fs::rename(scene.path("input"), &input)?;
    restart_and_end(scene, &[], &images, &said("after!", "input", "before after", "before after"))?;
    Ok(())
}

/// Without room for what is to be cut off nothing is cut, and nothing runs.
fn no_room_for_the_rest(scene: &Scene) -> Result {
    if !is_root(scene) {
        return crate::case::skipped("only root can mount");
    }
    let images = write_on(scene, &[])?;
    let small = scene.make_directory("small", 0o700)?;
    storage::mount(&small, "size=64m,mode=0700")?;
    let copies = images.iter().map(|image| Ok(small.join(image.file_name().unwrap_or_default())));
    let copies = copies.collect::<Result<Vec<PathBuf>>>()?;
    for (image, copy) in images.iter().zip(&copies) {
        fs::copy(image, copy)?;
    }
    let mut log = OpenOptions::new().append(true).open(scene.path("work/log"))?;
    log.write_all(&vec![b'x'; 64 << 20])?;
    drop(log);
    let length = fs::metadata(scene.path("work/log"))?.len();
    refused(scene, &[], &copies, "no space left on device; --files keep leaves it as it is")?;
    ensure!(fs::metadata(scene.path("work/log"))?.len() == length, "log has been cut");
    let left = fs::read_dir(&small)?.count();
    ensure!(left == copies.len(), "{left} files are left");
    Ok(())
}

/// zap-restart refuses, says why, and has started nothing.
fn refused(scene: &Scene, options: &[&str], images: &[PathBuf], why: &str) -> Result {
    let mut command = scene.words(&["zap-restart"]);
    command.args(options).args(images);
    let ended = scene.finish(command)?;
    ended.expect(125, why)?;
    ensure!(ended.out.is_empty(), "the program has said {:?}", ended.out);
    let pods = scene.status()?;
    ensure!(pods.is_empty(), "a pod is left: {pods:?}");
    Ok(())
}

/// A file that is only read is warned about when it has another length or time.
fn input_has_changed(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    let input = scene.path("work/input");
    let file = OpenOptions::new().append(true).open(&input)?;
    file.set_modified(SystemTime::now() - Duration::from_secs(1000))?;
    let expected = said("after!", "input", "before after", "before after");
    let told = restart_and_end(scene, &[], &images, &expected)?;
    let line = "input: warning: has been written since the checkpoint, and is being read";
    ensure!(told.contains(line), "{told:?}");
    (&file).write_all(b"more\n")?;
    let told = restart_and_end(scene, &[], &images, &said("after!", "input more", "before after", "before after"))?;
    let line = "input: warning: has been written since the checkpoint (11 bytes, then 6 bytes), and is being read";
    ensure!(told.contains(line), "{told:?}");
    Ok(())
}

/// Files with which the program cannot go on.
fn in_the_way(scene: &Scene) -> Result {
    let images = write_on(scene, &[])?;
    let path = |name: &str| scene.path("work").join(name);
    let aside = scene.path("aside");
    for (name, why) in [("log", "log: no such file"), ("data", "data: no such file")] {
        fs::rename(path(name), &aside)?;
        for options in [&[][..], &["--files", "keep"], &["--files", "truncate"]] {
            refused(scene, options, &images, why).doing(name)?;
        }
        fs::create_dir(path(name))?;
        refused(scene, &[], &images, "is no longer a regular file").doing(name)?;
        fs::remove_dir(path(name))?;
        fs::write(path(name), vec![0; 300_001])?;
        scene.own(&path(name))?;
        refused(scene, &[], &images, "has been replaced since the checkpoint").doing(name)?;
        fs::rename(&aside, path(name))?;
    }
    OpenOptions::new().write(true).open(path("input"))?.set_len(3)?;
    refused(scene, &[], &images, "input: is shorter than at the checkpoint: 3 bytes, then 6")?;
    fs::write(path("input"), "input\n")?;
    let times = fs::metadata(path("data"))?.modified()?;
    fs::copy(path("data"), &aside)?;
    scene.own(&aside)?;
    OpenOptions::new().write(true).open(&aside)?.set_modified(times)?;
    fs::rename(&aside, path("data"))?;
    // It has been written to since, so that this is not what it was.
    refused(scene, &[], &images, "data: has been replaced since the checkpoint")
}

/// A directory where a file was, and the other way round.
fn another_kind(scene: &Scene) -> Result {
    let program = scene.program("moved_files")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let (work, aside) = (scene.path("work"), scene.path("aside"));
    scene.use_directory(scene.images());
    fs::rename(&work, &aside)?;
    fs::write(&work, "")?;
    refused(scene, &[], &images, &work.to_string_lossy())?;
    fs::remove_file(&work)?;
    fs::rename(&aside, &work)?;
    fs::rename(work.join("file"), &aside)?;
    fs::create_dir(work.join("file"))?;
    refused(scene, &[], &images, "file")?;
    fs::remove_dir(work.join("file"))?;
    fs::rename(&aside, work.join("file"))?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// What a file is called moves no cursor, and is no line of its own.
fn names_are_harmless(scene: &Scene) -> Result {
    let program = scene.program("changing_files")?;
    let strange = scene.make_directory("\x1b[2J\nzap-restart: all is well", 0o700)?;
    let line = scene.line(&program, &strange)?;
    let mut command = scene.words(&["zap-launch"]);
    command.args(line);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    fs::remove_file(strange.join("log"))?;
    let mut command = scene.words(&["zap-restart"]);
    command.args(&images);
    let ended = scene.finish(command)?;
    ended.expect(125, "log: no such file or directory")?;
    ensure!(ended.err.lines().count() == 1 && !ended.err.contains('\x1b'), "{:?}", ended.err);
    Ok(())
}

/// Where there is no room for one more pod, that is said, and those that are there are none the worse for it.
fn full_runtime_directory(scene: &Scene) -> Result {
    if !is_root(scene) {
        return crate::case::skipped("only root can mount");
    }
    let small = scene.make_directory("small-runtime", 0o700)?;
    storage::mount(&small, "size=5m,mode=0700")?;
    scene.use_runtime(small.clone());
    let program = scene.program("eventfd")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    fs::write(small.join("ballast"), vec![1; 5 << 20]).err();
    scene.run(&["zap-launch", "/bin/true"])?.expect(125, "no space left on device")?;
    scene.checkpoint(&[])?;
    fs::remove_file(small.join("ballast"))?;
    scene.run(&["zap-launch", "/bin/true"])?.expect(0, "")?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Everything that was open for writing becomes what it was, also what is gone; what it was replaced by is kept.
fn snapshot(scene: &Scene) -> Result {
    let images = write_on(scene, &["--snapshot-files"])?;
    let expected = said("before", "input", "before after", "before after");
    let told = restart_and_end(scene, &["--files", "snapshot"], &images, &expected)?;
    ensure!(told.contains("data: put back as at the checkpoint; what it held is in"), "{told:?}");
    match &beside(scene, "data")?[..] {
        [data] => ensure!(fs::read(data)?.starts_with(b"after!") && fs::metadata(data)?.len() == 400_000, "data"),
        other => return failed(format!("what data was: {other:?}")),
    }
    fs::remove_file(scene.path("work/data"))?;
    fs::remove_file(scene.path("work/log"))?;
    let told = restart_and_end(scene, &["--files", "snapshot"], &images, &expected).doing("when files are gone")?;
    ensure!(told.contains("data: put back as at the checkpoint\n"), "{told:?}");
    ensure!(fs::metadata(scene.path("work/data"))?.mode() & 0o7777 == 0o640, "the mode of data");
    // A directory with all that a checkpoint leaves, elsewhere.
    let there = scene.make_directory("there", 0o700)?;
    for entry in fs::read_dir(scene.images())? {
        let entry = entry?;
        let (from, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with("ckpt_") {
            fs::copy(&from, there.join(&name))?;
            scene.own(&there.join(&name))?;
        }
    }
    restart_and_end(scene, &["--files", "snapshot"], &[there], &expected).doing("from a copy of the images")?;
    Ok(())
}

/// A restart that fails after files have been put back makes them again what they were.
fn snapshot_is_undone(scene: &Scene) -> Result {
    let (program, images) = locked(scene)?;
    let path = scene.path("work/exclusive");
    fs::write(&path, "written later")?;
    // Of one who only reads: it would not be put back under somebody who writes.
    let holder = stranger(scene, "exec 3<\"$0\"; flock -s 3", &path)?;
    refused(scene, &["--files", "snapshot"], &images, "lock of")?;
    end(scene, holder)?;
    ensure!(fs::read(&path)? == b"written later", "the file is not what it was before the restart that failed");
    ensure!(beside(scene, "exclusive")?.is_empty(), "{:?}", beside(scene, "exclusive")?);
    let running = scene.restart(&["--files", "snapshot"], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// The same for a restart that is ended by a signal in its middle.
fn snapshot_is_undone_at_a_signal(scene: &Scene) -> Result {
    let program = scene.program("changing_files")?;
    scene.plain(&program)?;
    scene.use_fault(Some(fault::PROGRAM_RESTORING));
    let running = scene.launch(&program, &["--snapshot-files"])?;
    scene.use_fault(None);
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let data = scene.path("work/data");
    let before = fs::read(&data)?;
    fs::write(&data, "written later")?;
    fs::remove_file(scene.path("work/log"))?;
    let restart = scene.restart(&["--files", "snapshot"], &images, &scene.out())?;
    scene.until(PATIENCE, "the files are put back", || (fs::read(&data).ok()? == before).then_some(()))?;
    let stopped = || process::descendants(restart.pid).into_iter().find(|pid| process::state(*pid) == Some('T'));
    scene.until(PATIENCE, "the program stops in the middle of its restart", stopped)?;
    process::kill(restart.pid, libc::SIGTERM);
    let ended = scene.wait(restart)?.ended;
    ensure!(ended == process::Ended::Killed(libc::SIGTERM), "zap-restart: {ended}");
    ensure!(fs::read(&data)? == b"written later", "data is not what it was before the restart");
    ensure!(!scene.path("work/log").exists(), "log is there again");
    ensure!(beside(scene, "data")?.is_empty(), "{:?}", beside(scene, "data")?);
    Ok(())
}

/// Files without a name on two file systems, of the same inode number, are two.
fn files_of_one_number(scene: &Scene) -> Result {
    if !is_root(scene) {
        return crate::case::skipped("only root can mount");
    }
    let (one, other) = (scene.make_directory("one", 0o700)?, scene.make_directory("other", 0o700)?);
    storage::mount(&one, "size=1m,mode=0700")?;
    storage::mount(&other, "size=1m,mode=0700")?;
    let program = scene.program("nameless_twins")?;
    let mut command = scene.words(&["zap-launch"]);
    command.arg(&scene.line(&program, &one)?[0]).args([&one, &other]);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == process::Ended::Exited(7), "{ended}, {said:?}");
    Ok(())
}

/// A program that holds locks, checkpointed and killed.
fn locked(scene: &Scene) -> Result<(Program, Vec<PathBuf>)> {
    let program = scene.program("file_locks")?;
    scene.plain(&program)?;
    let running: Running = scene.launch(&program, &["--snapshot-files"])?;
    scene.wait_ready(running, 1)?;
    Ok((program, scene.checkpoint_and_kill(running)?))
}

/// A process of no pod that does this in a shell, and then rests.
fn stranger(scene: &Scene, what: &str, path: &Path) -> Result<Running> {
    let mut command = scene.words(&["/bin/sh", "-c", &format!("{what}; echo READY; exec sleep 60")]);
    command.arg(path);
    let out = scene.path("stranger");
    let running = scene.start(command, &out)?;
    scene.wait_ready_in(&out, running, 1)?;
    Ok(running)
}

fn end(scene: &Scene, running: Running) -> Result {
    process::kill(running.pid, libc::SIGKILL);
    scene.wait(running).map(|_| ())
}

/// What a living pod has open is not put back under it.
fn snapshot_of_a_living_pod(scene: &Scene) -> Result {
    let program = scene.program("changing_files")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &["--snapshot-files", "--pod", "original"])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    let mut command = scene.words(&["zap-restart", "--files", "snapshot"]);
    command.args(&images);
    scene.finish(command)?.expect(125, "is not put back, since pod original has it open")?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Kept files go with their generation, and a checkpoint without `--snapshot-files` keeps none.
fn snapshots_of_older_generations(scene: &Scene) -> Result {
    let kept = |scene: &Scene| -> Result<usize> {
        let names = fs::read_dir(scene.images())?.flatten().map(|entry| entry.file_name());
        Ok(names.filter(|name| name.to_string_lossy().contains(".zfile")).count())
    };
    let program = scene.program("changing_files")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &["--snapshot-files", "--keep", "2"])?;
    scene.wait_ready(running, 1)?;
    for (round, expected) in [3, 6, 6].into_iter().enumerate() {
        scene.checkpoint(&[])?;
        ensure!(kept(scene)? == expected, "round {round}: {} files are kept", kept(scene)?);
    }
    let images = scene.checkpoint_and_kill(running)?;
    // The setting is the pod's, also after a restart.
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    scene.checkpoint(&[])?;
    ensure!(kept(scene)? == 6, "after a restart: {} files are kept", kept(scene)?);
    scene.go()?;
    scene.expect_end(running, &program)?;
    scene.begin_anew()?;
    let _ = fs::remove_file(scene.path("go"));
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    ensure!(kept(scene)? == 0, "{} files are kept that nobody wanted", kept(scene)?);
    refused(scene, &["--files", "snapshot"], &images, "zap-launch --snapshot-files")
}

/// A kept file that is damaged, gone or another's is found before anything starts.
fn kept_files_are_checked(scene: &Scene) -> Result {
    let program = scene.program("large_nameless")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let mut files: Vec<PathBuf> = fs::read_dir(scene.images())?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "zfile"));
    files.sort();
    ensure!(files.len() == 3, "{files:?}");
    let aside = scene.path("aside");
    fs::rename(&files[0], &aside)?;
    refused(scene, &[], &images, "is missing: it belongs to the images")?;
    fs::copy(&files[1], &files[0])?;
    scene.own(&files[0])?;
    refused(scene, &[], &images, "is not what it is called")?;
    fs::rename(&aside, &files[0])?;
    let place = 8192 + (66 << 20) + 5;
    let file = OpenOptions::new().read(true).write(true).open(&files[0])?;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, place)?;
    std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], place)?;
    refused(scene, &[], &images, "is damaged")?;
    std::os::unix::fs::FileExt::write_all_at(&file, &byte, place)?;
    file.set_len(file.metadata()?.len() - 1)?;
    refused(scene, &[], &images, "truncated")?;
    file.set_len(file.metadata()?.len() + 1)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// `--map`: all that the program had of a directory is found in another place, also by the checkpoint after that.
fn directory_has_moved(scene: &Scene) -> Result {
    let program = scene.program("moved_files")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let (old, new) = (scene.path("work"), scene.path("else/where"));
    fs::create_dir(scene.path("else"))?;
    fs::rename(&old, &new)?;
    scene.use_directory(scene.path("else"));
    refused(scene, &[], &images, &old.to_string_lossy())?;
    let map = format!("{}={}", old.display(), new.display());
    let running = scene.restart(&["--map", &map], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&["--map", "/no/such=/directory"], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}
