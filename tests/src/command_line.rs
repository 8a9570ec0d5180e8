//! What users see of the tools: outcomes, exit statuses, messages.

use crate::case::{skipped, Case, Result, Row};
use crate::ensure;
use crate::manifest::Program;
use crate::place::{User, NOBODY};
use crate::process::{self, Ended};
use crate::scene::{Scene, PATIENCE};
use crate::special::{is_root, start_simple, SIMPLE};
use std::fs::{self, Permissions};
use std::os::unix::fs::{chown, symlink, PermissionsExt};
use std::path::Path;

pub fn cases() -> Vec<Case> {
    let table: [Row; 34] = [
        ("launch/not-found", |scene| launch_refused(scene, "no-such-program", 127, "not found")),
        ("launch/no-interpreter", no_interpreter),
        ("launch/static", static_program),
        ("launch/setuid", setuid_program),
        ("launch/setuid-to-oneself", setuid_to_oneself),
        ("launch/unreadable", unreadable_program),
        ("launch/deleted-directory", deleted_directory),
        ("launch/unreadable-ckpt-dir", unreadable_ckpt_dir),
        ("launch/go", |scene| unserved(scene, "go_section", "is a Go program")),
        ("launch/sanitizer", |scene| unserved(scene, "sanitized", "is built with a sanitizer")),
        ("launch/sanitizer-inside", |scene| unserved(scene, "sanitized_inside", "is built with a sanitizer")),
        ("launch/valgrind", valgrind),
        ("launch/exit-status", exit_status),
        ("launch/odd-environment", odd_environment),
        ("launch/stays-in-pod", |scene| stays_in_pod(scene, "")),
        ("launch/stays-in-pod-by-exec", |scene| stays_in_pod(scene, "exec ")),
        ("launch/stays-in-pod-virtual-ids", |scene| {
            scene.use_virtual_ids();
            stays_in_pod(scene, "")
        }),
        ("launch/other-pod-inside", other_pod_inside),
        ("launch/keep", keep),
        ("launch/ckpt-dir", ckpt_dir),
        ("launch/unfit-ckpt-dir", unfit_ckpt_dir),
        ("runtime/symlink", |scene| bad_runtime(scene, |path| Ok(symlink("/tmp", path)?))),
        ("runtime/too-open", |scene| {
            bad_runtime(scene, |path| {
                fs::create_dir(path)?;
                Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
            })
        }),
        ("runtime/not-for-zap-alone", not_for_zap_alone),
        ("runtime/not-ours", not_ours),
        ("command/status", status),
        ("command/status-after-restart", status_after_restart),
        ("command/nothing-runs", nothing_runs),
        ("command/several-pods", several_pods),
        ("command/kill", kill),
        ("command/interval", interval),
        ("command/quit", quit),
        ("command/usage", usage),
        ("command/version", version),
    ];
    let mut cases = Vec::new();
    for (name, run) in table {
        cases.push(Case::new(name, run));
        cases.push(Case::new(name, run).by_ordinary_user());
    }
    cases
}

fn launch_refused(scene: &Scene, program: &str, status: i32, why: &str) -> Result {
    let said = scene.run(&["zap-launch", program])?;
    said.expect(status, why)?;
    ensure!(said.err.starts_with("zap-launch: "), "a message of zap-launch names it: {:?}", said.err);
    ensure!(said.err.contains(program), "the message does not name {program}: {:?}", said.err);
    Ok(())
}

/// To a shell, env(1) and nohup(1) a script whose interpreter is not there is not there itself.
fn no_interpreter(scene: &Scene) -> Result {
    let path = scene.path("work/script");
    fs::write(&path, "#!/no/such/interpreter\n")?;
    scene.own(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    let path = path.to_string_lossy().into_owned();
    scene.run(&["env", &path])?.expect(127, "")?;
    launch_refused(scene, &path, 127, "its interpreter /no/such/interpreter: no such file or directory")
}

fn static_program(scene: &Scene) -> Result {
    let (source, target) = (scene.path("work/still.c"), scene.path("work/still"));
    fs::write(&source, "int main(void) { return 0; }\n")?;
    let built = std::process::Command::new("gcc").arg("-static").arg("-o").args([&target, &source]).output();
    if !built.is_ok_and(|output| output.status.success()) {
        return skipped("no compiler for static programs");
    }
    launch_refused(scene, &target.to_string_lossy(), 126, "static")
}

/// What is in the environment, and in which order, is the caller's: also for what the program executes.
fn odd_environment(scene: &Scene) -> Result {
    let helper = scene.place.built("odd_environment").to_string_lossy().into_owned();
    let launch = scene.place.tool("zap-launch").to_string_lossy().into_owned();
    let seen = |words: &[&str]| -> Result<Vec<String>> {
        let said = scene.run(&[&[helper.as_str()], words].concat())?;
        said.expect(0, "")?;
        // Zap's own settings are not the program's.
        Ok(said.out.lines().filter(|line| !line.starts_with("ZAP_")).map(str::to_string).collect())
    };
    let plain = seen(&["env"])?;
    ensure!(plain.starts_with(&["TWICE=1", "=x", "alone", "", "LD_PRELOAD="].map(str::to_string)), "plain: {plain:?}");
    for words in [&[launch.as_str(), "env"][..], &[&launch, "env", "env"], &[&launch, "nice", "env", "env"]] {
        let launched = seen(words)?;
        ensure!(launched == plain, "by {words:?}: {launched:?} instead of {plain:?}");
    }
    Ok(())
}

/// A program that is refused at launch, and that a shell execs in a pod: it runs there, and a checkpoint is refused.
fn unserved(scene: &Scene, name: &str, why: &str) -> Result {
    let path = scene.place.built(name).to_string_lossy().into_owned();
    launch_refused(scene, &path, 126, why)?;
    let program =
        Program { run: vec!["/bin/sh".into(), "-c".into(), format!("exec {path}")], ..scene.program(SIMPLE)? };
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, why)?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended.to_string() == "exit status 7", "{name}: {ended}");
    Ok(())
}

/// Known by its name: what has that name here is another program, which a refusal does not run.
fn valgrind(scene: &Scene) -> Result {
    let path = scene.path("work/valgrind");
    fs::copy("/bin/true", &path)?;
    scene.own(&path)?;
    launch_refused(scene, &path.to_string_lossy(), 126, "emulation")
}

fn setuid_program(scene: &Scene) -> Result {
    if process::user() != 0 {
        return skipped("only root can make a program of another user");
    }
    let path = scene.path("work/raised");
    fs::copy("/bin/true", &path)?;
    let owner = if is_root(scene) { NOBODY } else { 0 };
    chown(&path, Some(owner), Some(owner))?;
    fs::set_permissions(&path, Permissions::from_mode(0o4755))?;
    launch_refused(scene, &path.to_string_lossy(), 126, "set-user-id")
}

/// Set-user-id to the one who runs it: that gives nothing, and the loader takes libzap in.
fn setuid_to_oneself(scene: &Scene) -> Result {
    let mut program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let path = scene.path("work/raised");
    fs::copy(scene.place.built(SIMPLE), &path)?;
    scene.own(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o4755))?;
    program.run[0] = path.to_string_lossy().into_owned();
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A program that may be executed and not be read is refused at launch, and inside a pod the checkpoint is.
fn unreadable_program(scene: &Scene) -> Result {
    if is_root(scene) {
        return skipped("root can read every file");
    }
    let path = scene.path("work/unreadable");
    fs::copy("/bin/sleep", &path)?;
    scene.own(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o111))?;
    let path = path.to_string_lossy().into_owned();
    launch_refused(scene, &path, 126, "cannot be read")?;
    let run = vec!["/bin/sh".into(), "-c".into(), format!("echo READY; exec {path} 1000")];
    let running = scene.launch(&Program { run, ..scene.program(SIMPLE)? }, &[])?;
    scene.wait_ready(running, 1)?;
    scene.until(PATIENCE, "it has been executed", || {
        fs::read_to_string(format!("/proc/{}/comm", running.pid)).is_ok_and(|name| name == "unreadable\n").then_some(())
    })?;
    scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, "cannot be read")?;
    ensure!(process::lives(running.pid), "a refused checkpoint has ended the program");
    scene.run(&["zap-command", "--kill"])?.expect(0, "")?;
    scene.wait(running)?;
    Ok(())
}

/// A program can be launched where the working directory is gone; it is the checkpoint that needs one.
fn deleted_directory(scene: &Scene) -> Result {
    let launch = scene.place.tool("zap-launch").to_string_lossy().into_owned();
    let script = "mkdir gone && cd gone && rmdir ../gone && \"$0\" /bin/sh -c 'echo it runs; exit 4'";
    let mut command = scene.words(&["/bin/sh", "-c", script, &launch]);
    command.env_remove("ZAP_CKPT_DIR");
    let said = scene.finish(command)?;
    said.expect(4, "")?;
    ensure!(said.out == "it runs\n", "{said:?}");
    Ok(())
}

/// A directory that others may write into and not read, as a drop box.
fn unreadable_ckpt_dir(scene: &Scene) -> Result {
    let directory = scene.make_directory("box", 0o333)?;
    let (program, running) = start_simple(scene, &["--ckpt-dir", &directory.to_string_lossy()])?;
    for kill in [&[][..], &[], &["--kill"]] {
        let said = scene.run(&[&["zap-command", "--checkpoint"], kill].concat())?;
        said.expect(0, "")?;
    }
    scene.wait(running)?;
    fs::set_permissions(&directory, Permissions::from_mode(0o700))?;
    let mut images: Vec<_> = fs::read_dir(&directory)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    images.sort();
    ensure!(images.iter().all(|image| image.extension().is_some_and(|end| end == "zimg")), "{images:?}");
    let running = scene.restart(&[], &images[images.len() - 1..], &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

fn exit_status(scene: &Scene) -> Result {
    scene.run(&["zap-launch", "/bin/sh", "-c", "exit 3"])?.expect(3, "")?;
    let command = scene.words(&["zap-launch", "/bin/sh", "-c", "kill -9 $$"]);
    let ended = scene.start(command, &scene.out()).and_then(|running| scene.wait(running))?.ended;
    ensure!(ended == Ended::Killed(9), "a program that kills itself: {ended}");
    let said = scene.run(&["zap-launch", "/bin/sh", "-c", "echo out; echo err >&2"])?;
    ensure!(said.out == "out\n" && said.err == "err\n", "Zap has written into a program's streams: {said:?}");
    Ok(())
}

fn keep(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &["--keep", "2"])?;
    for wanted in [1, 2, 2, 2] {
        scene.checkpoint(&[])?;
        let count = fs::read_dir(scene.images())?.count();
        ensure!(count == wanted, "--keep 2: {count} images instead of {wanted}");
    }
    scene.go()?;
    scene.expect_end(running, &program)
}

/// What is launched inside a pod is a process of that pod, also in a restarted one, and by its name.
fn stays_in_pod(scene: &Scene, how: &str) -> Result {
    let inner = "echo READY; until test -e \"$0\"; do :; done; echo went; exit 7";
    let launch = |options: &str, go: &str| format!("\"$0\" {options} /bin/sh -c '{inner}' \"${go}\"");
    // The first one runs beside the shell, or becomes it.
    let (script, processes, out, status) = match how {
        "" => {
            let (one, two) = (launch("", "1"), launch("--pod outer", "2"));
            let script = format!("{one} & wait $!; echo $?; {two}; echo $?; exit 3");
            (script, 2, "READY\nwent\n7\nREADY\nwent\n7\n", 3)
        }
        how => (format!("{how}{}", launch("", "1")), 1, "READY\nwent\n", 7),
    };
    let (tool, go) = (scene.place.tool("zap-launch"), [scene.path("go"), scene.path("go-2")]);
    let mut command = scene.words(&["zap-launch", "--pod", "outer", "/bin/sh", "-c", &script]);
    command.arg(&tool).args(&go);
    let mut running = scene.start(command, &scene.out())?;
    for (stage, go) in go.iter().take(processes).enumerate() {
        scene.wait_ready(running, stage + 1)?;
        let pods = scene.wait_running(1)?;
        let seen = pods[0]["processes"].as_array().map_or(0, Vec::len);
        ensure!(pods[0]["name"] == "outer" && seen == processes, "stage {stage}: {processes} in one pod; {pods:?}");
        let images = scene.checkpoint_and_kill(running)?;
        ensure!(images.len() == processes, "{images:?}");
        running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1)?;
        fs::write(go, "")?;
    }
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(status) && said == out, "{ended}, {said:?}");
    Ok(())
}

/// Nothing leaves a pod for another one, and its settings are not changed from inside; what comes to the same is no reason.
fn other_pod_inside(scene: &Scene) -> Result {
    let tries = [
        "--pod other",
        "--signal 40",
        "--interval 5",
        "--keep 2",
        "--compress lz4",
        "--ckpt-dir /tmp",
        "--pod own",
        "",
    ];
    let mut script = String::new();
    for options in tries {
        script += &format!("\"$0\" {options} /bin/true; echo $?; ");
    }
    script += "\"$0\" no-such-program; echo $?; echo READY; until test -e \"$1\"; do :; done";
    let mut command = scene.words(&["zap-launch", "--pod", "own", "/bin/sh", "-c", &script]);
    command.arg(scene.place.tool("zap-launch")).arg(scene.path("go"));
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let said = fs::read_to_string(scene.out())?;
    ensure!(said == "125\n".repeat(6) + "0\n0\n127\nREADY\n", "exit statuses: {said:?}");
    let why = fs::read_to_string(scene.path("err"))?;
    let inside = "is inside a pod already, and what is launched there stays in it";
    ensure!(why.contains(&format!("zap-launch: --pod other: {inside} (own); launch it from outside\n")), "{why:?}");
    for option in ["--signal", "--interval", "--keep", "--compress", "--ckpt-dir"] {
        ensure!(why.contains(&format!("zap-launch: {option}: {inside}, as the pod was launched\n")), "{why:?}");
    }
    let pods = scene.wait_running(1)?;
    ensure!(pods[0]["name"] == "own", "{pods:?}");
    scene.checkpoint(&[])?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(0), "{ended}");
    Ok(())
}

/// --ckpt-dir of zap-launch and of zap-restart; without the latter, where the images came from.
fn ckpt_dir(scene: &Scene) -> Result {
    let (one, two) = (scene.make_directory("one", 0o700)?, scene.make_directory("two", 0o700)?);
    let (program, running) = start_simple(scene, &["--ckpt-dir", &one.to_string_lossy()])?;
    let images = scene.checkpoint_and_kill(running)?;
    ensure!(images[0].starts_with(&one), "{images:?} are not in {}", one.display());
    // ZAP_CKPT_DIR says something else, but these images come from `one`.
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint_and_kill(running)?;
    ensure!(images[0].starts_with(&one), "after a restart {images:?} are not in {}", one.display());
    let running = scene.restart(&["--ckpt-dir", &two.to_string_lossy()], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint(&[])?;
    ensure!(images[0].starts_with(&two), "with --ckpt-dir {images:?} are not in {}", two.display());
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A directory for images that cannot take any is refused when it is asked for; the default is not.
fn unfit_ckpt_dir(scene: &Scene) -> Result {
    let (file, shut) = (scene.path("work/file"), scene.make_directory("shut", 0o500)?);
    fs::write(&file, "")?;
    let missing = scene.path("missing");
    let launch = |directory: &Path| scene.run(&["zap-launch", "--ckpt-dir", &directory.to_string_lossy(), "true"]);
    launch(&file)?.expect(125, &format!("--ckpt-dir {}: is not a directory", file.display()))?;
    launch(&missing)?.expect(125, &format!("--ckpt-dir {}: no such file or directory", missing.display()))?;
    ensure!(!missing.exists(), "{} was made", missing.display());
    let mut command = scene.words(&["zap-launch", "true"]);
    command.env("ZAP_CKPT_DIR", &file);
    scene.finish(command)?.expect(125, "is not a directory")?;
    ensure!(scene.status()?.is_empty(), "a refused launch has left a pod");
    if is_root(scene) {
        return Ok(());
    }
    launch(&shut)?.expect(125, &format!("--ckpt-dir {}: cannot be written to: permission denied", shut.display()))?;
    let mut command = scene.words(&["zap-launch", "true"]);
    command.env_remove("ZAP_CKPT_DIR").current_dir(&shut);
    scene.finish(command)?.expect(0, "")
}

fn bad_runtime(scene: &Scene, make: fn(&Path) -> Result) -> Result {
    let path = scene.path("bad");
    make(&path)?;
    if fs::symlink_metadata(&path)?.is_dir() {
        scene.own(&path)?;
    }
    refuse_runtime(scene, &path)
}

/// Nobody is told to shut a directory that has other things in it.
fn not_for_zap_alone(scene: &Scene) -> Result {
    let path = scene.make_directory("bad", 0o755)?;
    fs::write(path.join("letters"), "")?;
    refuse_runtime(scene, &path)?;
    let said = scene.run(&["zap-command", "--status"])?;
    said.expect(1, "set ZAP_RUNTIME_DIR")?;
    ensure!(!said.err.contains("chmod"), "{:?}", said.err);
    Ok(())
}

fn refuse_runtime(scene: &Scene, path: &Path) -> Result {
    scene.use_runtime(path.to_path_buf());
    let name = path.to_string_lossy().into_owned();
    scene.run(&["zap-launch", "/bin/echo", "started"])?.expect(125, &name)?;
    scene.run(&["zap-command", "--status"])?.expect(1, &name)?;
    ensure!(!path.join("coordinator.sock").exists(), "a socket was made in it");
    Ok(())
}

fn not_ours(scene: &Scene) -> Result {
    if process::user() != 0 {
        return skipped("only root can make a directory of somebody else's");
    }
    let path = scene.path("bad");
    fs::create_dir(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o700))?;
    if scene.user == User::Own {
        chown(&path, Some(NOBODY), Some(NOBODY))?;
    }
    refuse_runtime(scene, &path)
}

fn status(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let pods = scene.wait_running(1)?;
    ensure!(pods[0]["name"] == "eventfd", "the pod's name: {}", pods[0]["name"]);
    ensure!(pods[0]["last_checkpoint"].is_null(), "no checkpoint yet: {}", pods[0]["last_checkpoint"]);
    let first = &pods[0]["processes"][0];
    ensure!(first["pid"] == running.pid && first["program"] == "eventfd", "its process: {first}");
    ensure!(first["virtual_pid"].is_number(), "its virtual id: {first}");
    let images = scene.checkpoint(&[])?;
    let last = scene.wait_running(1)?[0]["last_checkpoint"].clone();
    ensure!(last["generation"] == 1 && last["stop_us"].is_number() && last["time"].is_number(), "{last}");
    ensure!(last["bytes"] == fs::metadata(&images[0])?.len(), "bytes: {last}");
    ensure!(last["images"][0] == images[0].to_string_lossy().as_ref(), "images: {last}");
    let said = scene.run(&["zap-command", "--status"])?;
    ensure!(said.status == 0 && said.out.contains("eventfd") && said.out.contains("running"), "{said:?}");
    scene.go()?;
    scene.expect_end(running, &program)?;
    scene.until(PATIENCE, "the ended pod is gone from the status", || scene.status().ok()?.is_empty().then_some(()))
}

/// How long the program stood is said of a checkpoint of this pod, and not made up after a restart.
fn status_after_restart(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    scene.checkpoint(&[])?;
    let said = scene.run(&["zap-command", "--status"])?;
    ensure!(said.out.contains("stopped for"), "{:?}", said.out);
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    let said = scene.run(&["zap-command", "--status"])?;
    ensure!(said.out.contains("generation 2") && !said.out.contains("stopped for"), "{:?}", said.out);
    scene.go()?;
    scene.expect_end(running, &program)
}

fn nothing_runs(scene: &Scene) -> Result {
    scene.run(&["zap-command", "--status"])?.expect(0, "")?;
    ensure!(scene.status()?.is_empty(), "pods where none is");
    scene.run(&["zap-command", "--checkpoint"])?.expect(1, "no pod")?;
    scene.run(&["zap-command", "--kill"])?.expect(1, "no pod")
}

fn several_pods(scene: &Scene) -> Result {
    let program = scene.program("eventfd")?;
    let (one, two) = (scene.launch(&program, &["--pod", "alpha"])?, scene.launch(&program, &["--pod", "beta"])?);
    scene.wait_ready(one, 2)?;
    let pods = scene.wait_running(2)?;
    ensure!(pods.len() == 2, "{pods:?}");
    for action in ["--checkpoint", "--kill"] {
        let said = scene.run(&["zap-command", action])?;
        said.expect(2, "alpha")?;
        said.expect(2, "beta")?;
    }
    scene.run(&["zap-command", "--pod", "gamma", "--checkpoint"])?.expect(1, "gamma")?;
    let listed = scene.run(&["zap-command", "--pod", "beta", "--status"])?.out;
    ensure!(listed.contains("beta") && !listed.contains("alpha"), "--pod beta --status: {listed}");
    ensure!(scene.checkpoint(&["--pod", "beta"])?.len() == 1, "--pod takes one pod");
    ensure!(scene.checkpoint(&["--all"])?.len() == 2, "--all takes both pods");
    scene.run(&["zap-command", "--pod", "alpha", "--interval", "1"])?.expect(0, "")?;
    let generation = |name: &str| {
        let pods = scene.status().ok()?;
        pods.iter().find(|pod| pod["name"] == name)?["last_checkpoint"]["generation"].as_u64()
    };
    scene.until(PATIENCE, "alpha's third checkpoint by itself", || (generation("alpha")? >= 3).then_some(()))?;
    ensure!(generation("beta") == Some(2), "--pod alpha --interval: beta too");
    scene.run(&["zap-command", "--all", "--interval", "1"])?.expect(0, "")?;
    scene.until(PATIENCE, "beta's third checkpoint by itself", || (generation("beta")? >= 3).then_some(()))?;
    scene.run(&["zap-command", "--all", "--interval", "0"])?.expect(0, "")?;
    scene.run(&["zap-command", "--pod", "alpha", "--kill"])?.expect(0, "")?;
    ensure!(scene.wait(one)?.ended == Ended::Killed(9), "alpha was not killed");
    ensure!(process::lives(two.pid), "beta was killed too");
    scene.go()?;
    let ended = scene.wait(two)?.ended;
    ensure!(ended == Ended::Exited(program.status), "beta: {ended}");
    Ok(())
}

fn kill(scene: &Scene) -> Result {
    let (_, running) = start_simple(scene, &[])?;
    scene.run(&["zap-command", "--kill"])?.expect(0, "")?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Killed(9), "--kill: {ended}");
    ensure!(fs::read_dir(scene.images())?.count() == 0, "--kill alone takes no checkpoint");
    let program = scene.program("eventfd")?;
    let pods = [scene.launch(&program, &["--pod", "one"])?, scene.launch(&program, &["--pod", "two"])?];
    scene.wait_running(2)?;
    scene.run(&["zap-command", "--all", "--kill"])?.expect(0, "")?;
    for running in pods {
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Killed(9), "--all --kill: {ended}");
    }
    Ok(())
}

/// Checkpoints come by themselves, as asked for at launch or later, and stop with 0.
fn interval(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &["--interval", "1"])?;
    let generation = || scene.status().ok()?.first()?["last_checkpoint"]["generation"].as_u64();
    scene.until(PATIENCE, "a second checkpoint by itself", || (generation()? >= 2).then_some(()))?;
    scene.run(&["zap-command", "--interval", "0"])?.expect(0, "")?;
    scene.wait_running(1)?;
    let last = generation();
    // A second more than the interval: nothing may come.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(2);
    scene.until(PATIENCE, "two seconds pass", || (std::time::Instant::now() > end).then_some(()))?;
    ensure!(generation() == last, "a checkpoint came after --interval 0");
    scene.run(&["zap-command", "--interval", "1"])?.expect(0, "")?;
    scene.until(PATIENCE, "a checkpoint after --interval 1", || (generation() > last).then_some(()))?;
    scene.go()?;
    scene.expect_end(running, &program)
}

fn quit(scene: &Scene) -> Result {
    let (_, running) = start_simple(scene, &[])?;
    let coordinator = scene.coordinator()?;
    scene.run(&["zap-command", "--quit"])?.expect(1, "eventfd")?;
    ensure!(process::lives(coordinator) && process::lives(running.pid), "--quit with a pod ended something");
    scene.quit(&["--kill"])?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Killed(9), "--quit --kill: {ended}");
    scene.run(&["zap-command", "--quit"])?.expect(1, "")
}

fn usage(scene: &Scene) -> Result {
    for words in
        [&["zap-command"][..], &["zap-command", "--no-such"], &["zap-image"], &["zap-coordinator", "--no-such"]]
    {
        scene.run(words)?.expect(2, "Usage: ")?;
    }
    for words in
        [&["zap-launch"][..], &["zap-restart"], &["zap-launch", "--no-such"], &["zap-restart", "--no-such", "x"]]
    {
        scene.run(words)?.expect(125, "Usage: ")?;
    }
    for (tool, status) in
        [("zap-launch", 125), ("zap-restart", 125), ("zap-command", 2), ("zap-image", 2), ("zap-coordinator", 2)]
    {
        let said = scene.run(&[tool, "--no-such"])?;
        said.expect(status, &format!("{tool}: unexpected argument '--no-such' found"))?;
        ensure!(said.err.starts_with(tool) && said.out.is_empty(), "{said:?}");
    }
    for (words, status) in
        [(&["zap-command", "--interval", "-1"][..], 2), (&["zap-launch", "--interval", "-1", "true"], 125)]
    {
        let said = scene.run(words)?;
        said.expect(status, "'-1' for '--interval")?;
        said.expect(status, "is not a whole number of seconds from 0 on")?;
    }
    for tool in ["zap-launch", "zap-command", "zap-coordinator", "zap-restart", "zap-image"] {
        let help = scene.run(&[tool, "--help"])?;
        ensure!(help.out.contains("Exit status: "), "{tool} --help does not tell the exit status: {}", help.out);
        for option in ["--help", "--version"] {
            let said = scene.run(&[tool, option])?;
            ensure!(said.status == 0 && said.out.contains(tool), "{tool} {option}: {said:?}");
        }
    }
    Ok(())
}

/// All tools are of one build, and in a checkout the version names its commit.
fn version(scene: &Scene) -> Result {
    let mut versions = std::collections::BTreeSet::new();
    for tool in ["zap-launch", "zap-command", "zap-coordinator", "zap-restart", "zap-image"] {
        let said = scene.run(&[tool, "--version"])?;
        let version = said.out.trim().strip_prefix(tool).unwrap_or_default().trim().to_string();
        ensure!(version.starts_with(env!("CARGO_PKG_VERSION")), "{tool} --version: {said:?}");
        versions.insert(version);
    }
    ensure!(versions.len() == 1, "the tools are of several builds: {versions:?}");
    let git = |words: &[&str]| {
        let output = std::process::Command::new("git").args(words).current_dir(scene.place.tests.join("..")).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !scene.place.tests.join("../.git").exists() || !git(&["cat-file", "-e", "HEAD"]) {
        return Ok(());
    }
    let version = versions.pop_first().unwrap_or_default();
    let commit = version.split_once(" (").map_or("", |(_, rest)| rest.trim_end_matches(')'));
    ensure!(git(&["cat-file", "-e", &format!("{commit}^{{commit}}")]), "{version} names no commit of this checkout");
    Ok(())
}
