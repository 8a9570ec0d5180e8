//! Directories of the pod's own (`zap-launch --private`, `--root`): what programs do with files they do there too, and all of it is
//! there again on a host that has none of it. Each by other paths (names) and by namespaces.

use crate::case::{skipped, Case, Doing, Result, Row};
use crate::ensure;
use crate::jobs;
use crate::manifest::{Kind, Manifest, Program};
use crate::process::Ended;
use crate::scene::{Running, Scene, PATIENCE};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What `ZAP_PRIVATE_BY` says.
const NAMES: &str = "names";
const NAMESPACES: &str = "namespaces";

/// Programs that cannot be run so, and why.
const EXCEPT: [(&str, &str); 1] =
    [("inotify", "several processes have an instance that is told of the reading of files, which the checkpoint does")];

pub fn cases(manifest: &Manifest) -> Vec<Case> {
    let mut cases = Vec::new();
    let uses_directory = |program: &&Program| program.run.iter().any(|word| word.contains("{dir}"));
    let is_fit = |program: &&Program| {
        let is_restarted = program.roads.is_empty() || program.roads.iter().any(|road| road.starts_with("restarted"));
        let is_taken = program.kind == Kind::State && is_restarted || program.kind == Kind::Job;
        is_taken && program.outputs.is_empty() && !program.long && EXCEPT.iter().all(|(name, _)| *name != program.name)
    };
    for program in manifest.program.iter().filter(uses_directory).filter(is_fit) {
        for by in [NAMES, NAMESPACES] {
            // Its paths have 4,095 bytes as they are, and those of the host more.
            if by == NAMES && program.name == "odd_paths" {
                continue;
            }
            let case = || {
                let own = program.clone();
                let run = move |scene: &Scene| match own.kind {
                    Kind::Job => job(scene, by, &own),
                    _ => state(scene, by, &own),
                };
                let case = Case::new(format!("private/{by}/{}", program.name), run).packages(&program.packages);
                case.order(if program.kind == Kind::Job { 7 } else { 4 }).limit(240)
            };
            cases.push(case());
            if program.kind == Kind::State {
                cases.push(case().by_ordinary_user());
            }
        }
    }
    type Both = (&'static str, fn(&Scene, &str) -> Result);
    let table: [Both; 9] = [
        ("compiler", compiler),
        ("empty-host", empty_host),
        ("nothing-is-left", nothing_is_left),
        ("copies", copies),
        ("side-by-side", side_by_side),
        ("original-and-clone", original_and_clone),
        ("saved-tree-is-checked", saved_tree_is_checked),
        ("another-coordinator", another_coordinator),
        ("joins-pod", joins_pod),
    ];
    for (name, run) in table {
        for by in [NAMES, NAMESPACES] {
            let case = || {
                Case::new(format!("private/{by}/{name}"), move |scene| {
                    use_private(scene, by).and_then(|()| run(scene, by))
                })
            };
            cases.extend([case(), case().by_ordinary_user()]);
        }
    }
    let table: [Row; 6] = [
        ("zaps-own-is-sealed", zaps_own_is_sealed),
        ("refused", refused),
        ("configuration", configuration),
        ("devices", devices),
        ("root", root),
        ("root-of-others", root_of_others),
    ];
    for (name, run) in table {
        let case = || Case::new(format!("private/{name}"), run);
        cases.extend([case(), case().by_ordinary_user()]);
    }
    cases
}

/// Has what is launched from now on see its own directories so; skipped where the host does not allow it.
fn use_private(scene: &Scene, by: &'static str) -> Result {
    if by == NAMESPACES {
        let ended = scene.run(&["unshare", "-m", "true"])?;
        let with_user = || scene.run(&["unshare", "-Um", "true"]);
        if ended.status != 0 && with_user()?.status != 0 {
            return skipped("no mount namespaces here");
        }
    }
    scene.use_variable("ZAP_PRIVATE_BY", by);
    Ok(())
}

/// The option by which the directory `name` of the scene is the pod's own.
fn own(scene: &Scene, name: &str, copy: bool) -> String {
    format!("--private={}{}", scene.path(name).display(), if copy { "=copy" } else { "" })
}

/// Takes away what is in the host's directory: another host, or another day.
fn wipe(scene: &Scene, name: &str) -> Result {
    // Not itself: the namespace knows it by itself.
    for entry in fs::read_dir(scene.path(name))? {
        let path = entry?.path();
        if fs::symlink_metadata(&path)?.is_dir() {
            fs::remove_dir_all(path)?;
        } else {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn is_empty(path: &Path) -> Result<bool> {
    Ok(fs::read_dir(path).doing(path.display())?.next().is_none())
}

fn state(scene: &Scene, by: &'static str, program: &Program) -> Result {
    use_private(scene, by)?;
    scene.plain(program)?;
    let running = scene.launch(program, &[&own(scene, "work", true)])?;
    scene.wait_ready(running, 1)?;
    wipe(scene, "work")?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1).doing("after the first restart")?;
    let images = scene.checkpoint_and_kill(running).doing("second checkpoint")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, program)?;
    ensure!(is_empty(&scene.path("work"))?, "something has come into the host's directory");
    wait_empty_store(scene)
}

fn job(scene: &Scene, by: &'static str, program: &Program) -> Result {
    use_private(scene, by)?;
    scene.plain(program)?;
    scene.use_launch_options(&[&own(scene, "work", true)]);
    jobs::restarted(scene, program, 1, 3)?;
    wait_empty_store(scene)
}

/// gcc, whose temporary files are in the pod's own /tmp: killed again and again, and restarted where /tmp has none of them.
fn compiler(scene: &Scene, _: &str) -> Result {
    if !["gcc", "libc6-dev"].into_iter().all(crate::case::installed) {
        return skipped("no compiler here");
    }
    const SCRIPT: &str = "set -e; cd \"$0\"
        for number in $(seq 40); do
            printf '#include <stdio.h>\\nint main(void) { return printf(\"unit %d\\\\n\"); }\\n' $number > unit.c
            gcc -O2 -Wall -o unit-$number unit.c; ./unit-$number || echo status $?
        done; ls unit-* | wc -l";
    let plain = scene.make_directory("plain-tmp", 0o700)?;
    let expected = scene.run(&["bash", "-c", SCRIPT, &plain.display().to_string()])?.out;
    scene.use_directory(PathBuf::from("/"));
    let mut running =
        scene.start(scene.words(&["zap-launch", "--private", "/tmp", "bash", "-c", SCRIPT, "/tmp"]), &scene.out())?;
    for round in 1..=3 {
        let said = || fs::read_to_string(scene.out()).unwrap_or_default().lines().count();
        scene.until(PATIENCE, "it compiles", || (said() >= round * 16).then_some(()))?;
        let images = scene.checkpoint_and_kill(running).doing(format!("round {round}"))?;
        wait_empty_store(scene)?;
        running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1)?;
    }
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(0) && said == expected, "{ended}; {said:?} instead of {expected:?}");
    Ok(())
}

/// What the pod's directories held is gone with it.
fn wait_empty_store(scene: &Scene) -> Result {
    let stores = scene.runtime().join("private");
    scene.until(PATIENCE, "the pod's store is removed", || is_empty(&stores).ok()?.then_some(()))
}

/// A shell that does `before`, says READY, waits to be told to go on, and does `after`.
fn start(scene: &Scene, options: &[String], before: &str, after: &str, out: &Path) -> Result<Running> {
    const WAIT: &str = "echo READY; while [ ! -e \"$ZAP_TEST_GO\" ]; do sleep 0.01; done";
    let script = format!("set -e; cd /; {before}\n{WAIT}\n{after}");
    let mut command = scene.words(&["zap-launch"]);
    command.args(options).args(["bash", "-c", &script]);
    scene.start(command, out)
}

/// The text that came after READY, when the program has ended well.
fn said_after(scene: &Scene, running: Running, out: &Path) -> Result<String> {
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(out)?;
    ensure!(ended == Ended::Exited(0), "{ended}; it said {said:?}; {}", scene.context());
    Ok(said.rsplit_once("READY\n").map(|(_, after)| after.to_string()).unwrap_or(said))
}

/// Names, contents, links, modes, times, working directories, pipes.
fn empty_host(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o700)?;
    let dir = dir.display();
    let before = format!(
        "cd {dir}; echo contents > file; ln file other; ln -s {dir}/file absolute; ln -s file relative; mkdir -p a/b
         mkfifo pipe; truncate -s 5G holes; touch -d '2001-02-03 04:05:06.789' a/b; chmod 500 a; chmod 640 file
         exec 5>>log 6<file; echo one >&5; read -r first <&6; cd a/b; touch ../../mark"
    );
    let after = format!(
        "pwd; echo two >&5; cat {dir}/log; cat ../../absolute ../../relative
         stat -c '%n %a %h %s %F %Y' {dir}/file {dir}/a {dir}/a/b {dir}/pipe {dir}/holes {dir}/absolute | sed 's,.*/,,'
         [ $(stat -c %i {dir}/file) = $(stat -c %i {dir}/other) ] && echo one file
         readlink {dir}/absolute; ls -A {dir} | tr '\\n' ' '; readlink /proc/self/cwd; chmod 700 {dir}/a"
    );
    let running = start(scene, &[own(scene, "own", false)], &before, &after, &scene.out())?;
    scene.wait_ready(running, 1)?;
    ensure!(is_empty(&scene.path("own"))?, "something has come into the host's directory");
    let images = scene.checkpoint_and_kill(running)?;
    wait_empty_store(scene)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    let expected = format!(
        "{dir}/a/b\none\ntwo\ncontents\ncontents\nfile 640 2 9 regular file MODIFIED\na 500 3 SIZE directory MODIFIED\n\
         b 755 2 SIZE directory 981173106\npipe 644 1 0 fifo MODIFIED\nholes 644 1 5368709120 regular file MODIFIED\n\
         absolute 777 1 LENGTH symbolic link MODIFIED\none file\n{dir}/file\n\
         a absolute file holes log mark other pipe relative {dir}/a/b\n"
    );
    compare(&said, &expected)?;
    ensure!(is_empty(&scene.path("own"))?, "something has come into the host's directory");
    wait_empty_store(scene)
}

/// Compares word by word; a word in capitals stands for any.
fn compare(said: &str, expected: &str) -> Result {
    let is_any = |word: &str| word.len() > 3 && word.bytes().all(|c| c.is_ascii_uppercase());
    let (words, wanted): (Vec<_>, Vec<_>) = (said.split_whitespace().collect(), expected.split_whitespace().collect());
    let is_same =
        words.len() == wanted.len() && words.iter().zip(&wanted).all(|(word, wanted)| is_any(wanted) || word == wanted);
    ensure!(is_same, "{said:?} instead of {expected:?}");
    Ok(())
}

/// Whatever becomes of a pod, its directories go with it.
fn nothing_is_left(scene: &Scene, _: &str) -> Result {
    scene.make_directory("own", 0o700)?;
    let options = [own(scene, "own", false)];
    let barred = "mkdir DIR/barred; touch DIR/barred/file; chmod 0 DIR/barred";
    let before = barred.replace("DIR", &scene.path("own").display().to_string());
    let running = start(scene, &options, &before, "true", &scene.out())?;
    scene.wait_ready(running, 1)?;
    let stores = scene.runtime().join("private");
    ensure!(fs::read_dir(&stores)?.count() == 1, "{:?}", fs::read_dir(&stores)?.collect::<Vec<_>>());
    scene.go()?;
    said_after(scene, running, &scene.out())?;
    wait_empty_store(scene).doing("after the program's end")?;
    fs::remove_file(scene.path("go"))?;
    let running = start(scene, &options, "true", "true", &scene.out())?;
    scene.wait_ready(running, 2)?;
    scene.run(&["zap-command", "--kill"])?.expect(0, "")?;
    scene.wait(running)?;
    wait_empty_store(scene).doing("after --kill")?;
    for (words, status) in [(["/no/such"], 127), (["/etc"], 126)] {
        let said = scene.run(&[&["zap-launch", &options[0]], &words[..]].concat())?;
        ensure!(said.status == status, "{said:?}");
        wait_empty_store(scene).doing("after a launch that failed")?;
    }
    Ok(())
}

/// `=copy`: what the host has is there, and stays as it is on the host.
fn copies(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o750)?;
    let script =
        "cd \"$0\"; echo host > file; ln file other; mkdir -p a/b; ln -s ../file a/link; mkfifo pipe; chmod 751 a";
    scene.finish({
        let mut command = scene.words(&["bash", "-c", script]);
        command.arg(&dir);
        command
    })?;
    let listing = "find . | sort | tr '\\n' ' '; stat -c '%a %h' . file a";
    let plain = scene.run(&["bash", "-c", &format!("cd {}; {listing}", dir.display())])?.out;
    let text = dir.display();
    let after = format!("cd {text}; {listing}; cat a/link; echo pod > a/link; rm other; cat file");
    let running = start(scene, &[own(scene, "own", true)], "true", &after, &scene.out())?;
    scene.wait_ready(running, 1)?;
    fs::write(dir.join("new"), "")?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    ensure!(said == format!("{plain}host\npod\n"), "{said:?} instead of {plain:?}");
    ensure!(fs::read_to_string(dir.join("file"))? == "host\n" && dir.join("other").exists(), "the host's is another");
    ensure!(fs::metadata(&dir)?.permissions().mode() & 0o777 == 0o750, "its mode");
    Ok(())
}

/// Two pods with the same file and the same socket.
fn side_by_side(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o700)?;
    let dir = dir.display();
    let server = format!(
        "import os, socket, sys\nos.chdir('{dir}')\nopen('pid', 'x').write(sys.argv[1])\n\
         s = socket.socket(socket.AF_UNIX); s.bind('{dir}/socket'); s.listen()\n\
         print('READY', flush=True)\nimport time\nwhile not os.path.exists(os.environ['ZAP_TEST_GO']): time.sleep(0.01)\n\
         c = socket.socket(socket.AF_UNIX); c.connect('{dir}/socket'); a, _ = s.accept()\n\
         a.send(open('{dir}/pid').read().encode()); print(c.recv(100).decode(), s.getsockname(), c.getpeername())\n"
    );
    let server = &server;
    let outs = [scene.path("out-1"), scene.path("out-2")];
    let mut all = Vec::new();
    for (number, out) in outs.iter().enumerate() {
        let mut command = scene.words(&["zap-launch", "--pod", &format!("pod-{number}")]);
        command.args([&own(scene, "own", false), "python3", "-c", server, &format!("own-{number}")]);
        let running = scene.start(command, out)?;
        scene.wait_ready_in(out, running, 1)?;
        all.push(running);
    }
    let mut restarted = Vec::new();
    for (number, running) in all.into_iter().enumerate() {
        let images = scene.checkpoint(&["--pod", &format!("pod-{number}"), "--kill"])?;
        scene.wait(running)?;
        restarted.push(scene.restart(&[], &images, &outs[number])?);
    }
    scene.go()?;
    for (number, running) in restarted.into_iter().enumerate() {
        let said = said_after(scene, running, &outs[number])?;
        ensure!(said == format!("own-{number} {dir}/socket {dir}/socket\n"), "{said:?}");
    }
    wait_empty_store(scene)
}

/// A restart beside the living original: each has its own.
fn original_and_clone(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o700)?;
    let dir = dir.display();
    let before = format!("cd {dir}; exec 5>>log; echo before >&5");
    let after = "echo after >&5; cat log; mkdir only-once && rmdir only-once; mkdir made";
    let running = start(scene, &[own(scene, "own", false)], &before, after, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    let out = scene.path("out-clone");
    let clone = scene.restart(&[], &images, &out)?;
    scene.wait_running(2)?;
    scene.go()?;
    for (running, out) in [(running, scene.out()), (clone, out)] {
        let said = said_after(scene, running, &out)?;
        ensure!(said == "before\nafter\n", "{said:?}");
    }
    wait_empty_store(scene)
}

fn tree_of(scene: &Scene) -> Result<PathBuf> {
    for entry in fs::read_dir(scene.images())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "ztree") {
            return Ok(path);
        }
    }
    crate::case::failed("no saved tree beside the images")
}

/// Without what the directories held nothing is started, and nothing left.
fn saved_tree_is_checked(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o700)?;
    let before = format!("cd {}; exec 5>>log; echo before >&5", dir.display());
    let running = start(scene, &[own(scene, "own", false)], &before, "echo after >&5; cat log", &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let tree = tree_of(scene)?;
    let whole = fs::read(&tree)?;
    let restart = || {
        let mut command = scene.words(&["zap-restart"]);
        command.args(&images);
        scene.finish(command)
    };
    for at in [0, 20, 4096, whole.len() - 1] {
        let mut other = whole.clone();
        other[at] ^= 1;
        fs::write(&tree, &other)?;
        restart()?.expect(125, &tree.display().to_string()).doing(format!("byte {at}"))?;
        let said = scene.run(&[Path::new("zap-image"), Path::new("verify"), &images[0]])?;
        said.expect(1, &tree.display().to_string()).doing(format!("byte {at}"))?;
    }
    fs::write(&tree, &whole[..whole.len() - 1])?;
    restart()?.expect(125, "truncated").or_else(|_| restart()?.expect(125, &tree.display().to_string()))?;
    fs::remove_file(&tree)?;
    restart()?.expect(125, "is missing: it belongs to the images")?;
    wait_empty_store(scene)?;
    fs::write(&tree, &whole)?;
    scene.run(&[Path::new("zap-image"), Path::new("verify"), &images[0]])?.expect(0, "")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    ensure!(said == "before\nafter\n", "{said:?}");
    Ok(())
}

/// A coordinator that comes after one that was killed knows the directories, and removes those of pods that are gone.
fn another_coordinator(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o700)?;
    let before = format!("cd {}; exec 5>>log; echo before >&5", dir.display());
    let running = start(scene, &[own(scene, "own", false)], &before, "echo after >&5; cat log", &scene.out())?;
    scene.wait_ready(running, 1)?;
    let mut command = scene.words(&["zap-launch", "--pod", "short"]);
    command.args([&own(scene, "own", false), "sleep", "1000"]);
    let short = scene.start(command, &scene.path("out-short"))?;
    scene.until(PATIENCE, "both run", || (scene.status().ok()?.len() == 2).then_some(()))?;
    crate::process::kill(scene.coordinator()?, 9);
    crate::process::kill(short.pid, 9);
    scene.wait(short)?;
    let images = scene.checkpoint_and_kill(running)?;
    wait_empty_store(scene)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    ensure!(said == "before\nafter\n", "{said:?}");
    Ok(())
}

/// What is launched into the pod sees the pod's.
fn joins_pod(scene: &Scene, _: &str) -> Result {
    let dir = scene.make_directory("own", 0o700)?;
    let text = dir.display();
    let running = start(
        scene,
        &[own(scene, "own", false), "--pod=app".into()],
        &format!("cd {text}; touch mine"),
        "cat more",
        &scene.out(),
    )?;
    scene.wait_ready(running, 1)?;
    let script = format!("cd {text}; ls -A; pwd; echo joined > more");
    let said = scene.run(&["zap-launch", "--pod", "app", "bash", "-c", &script])?;
    ensure!(said.status == 0 && said.out == format!("mine\n{text}\n"), "{said:?}");
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    let said = scene.run(&[
        "zap-launch",
        "--pod",
        "app",
        "bash",
        "-c",
        &format!("ls -A {text}; echo again >> {text}/more"),
    ])?;
    ensure!(said.status == 0 && said.out == "mine\nmore\n", "after the restart: {said:?}");
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    ensure!(said == "joined\nagain\n" && is_empty(&dir)?, "{said:?}");
    wait_empty_store(scene)
}

/// What is not possible is said at launch.
fn refused(scene: &Scene) -> Result {
    let dir = scene.make_directory("own/below", 0o700)?;
    fs::write(scene.path("file"), "")?;
    let (dir, above) = (dir.display().to_string(), scene.path("own").display().to_string());
    let file = scene.path("file").display().to_string();
    let launch = |by: &str, options: &[&str], why: &str| {
        scene.use_variable("ZAP_PRIVATE_BY", by);
        let said = scene.run(&[&["zap-launch"], options, &["true"]].concat())?;
        said.expect(125, why).doing(format!("{by} {options:?}"))
    };
    for by in [NAMES, ""] {
        launch(by, &["--private", "relative"], "is not an absolute path")?;
        launch(by, &["--private", "/no/such"], "no such file or directory")?;
        launch(by, &["--private", &file], "is not a directory")?;
        launch(by, &["--private", "/"], "the root directory cannot be private")?;
        launch(by, &["--private", "/proc"], "is the kernel's own")?;
        launch(by, &["--private", &dir, "--private", &above], "one must not lie in the other")?;
        launch(by, &["--private", &dir, "--private", &dir], "is given twice")?;
        launch(by, &["--root", "/no/such"], "no such file or directory")?;
    }
    // By namespaces, where there are any; else other words are said of it.
    let zaps = scene.runtime().display().to_string();
    scene.use_variable("ZAP_PRIVATE_BY", "");
    let said = scene.run(&["zap-launch", "--private", &zaps, "true"])?;
    ensure!(said.status == 125 || said.status == 0, "{said:?}");
    let mut command = scene.words(&["zap-launch", "--pod", "app", "--private", &dir, "sleep", "1000"]);
    command.env("ZAP_PRIVATE_BY", NAMES);
    let running = scene.start(command, &scene.out())?;
    scene.wait_running(1)?;
    scene.run(&["zap-launch", "--pod", "app", "--private", &above, "true"])?.expect(125, "the pod is there already")?;
    scene.run(&["zap-command", "--kill"])?.expect(0, "")?;
    scene.wait(running)?;
    launch(NAMES, &["--private", "/etc=copy"], "only a mount namespace")?;
    launch(NAMES, &["--private", "/usr/lib"], "only a mount namespace")?;
    launch(NAMES, &["--private", "/dev"], "only a mount namespace")?;
    launch(NAMES, &["--root", &above], "needs a mount namespace")?;
    let mut command = scene.words(&["zap-launch", "--private", &above, "true"]);
    command.env("LD_LIBRARY_PATH", &dir).env("ZAP_PRIVATE_BY", NAMES);
    scene.finish(command)?.expect(125, "LD_LIBRARY_PATH")?;
    let mut command = scene.words(&["zap-launch", "--private", &above, "true"]);
    command.env("ZAP_PRIVATE_BY", NAMES).current_dir(&dir);
    scene.finish(command)?.expect(125, "working directory")?;
    Ok(())
}

/// The runtime directory lies in a directory of the pod's own, as /tmp/zap-UID does in /tmp: a program that removes all that it finds
/// there harms nobody.
fn zaps_own_is_sealed(scene: &Scene) -> Result {
    use_private(scene, NAMESPACES)?;
    let dir = scene.make_directory("all", 0o700)?;
    let runtime = scene.make_directory("all/runtime", 0o700)?;
    scene.use_runtime(runtime.clone());
    scene.make_directory("own", 0o700)?;
    let out = scene.path("out-other");
    let options = [own(scene, "own", false), "--pod=other".into()];
    let text = scene.path("own").display().to_string();
    let other = start(scene, &options, &format!("echo precious > {text}/file"), &format!("cat {text}/file"), &out)?;
    scene.wait_ready_in(&out, other, 1)?;
    let all = dir.display();
    let before = format!("cd {all}; echo mine > file; (rm -rf {all}/* || true) 2> /dev/null; echo again > file; ls {all}/runtime/private");
    let running = start(scene, &[own(scene, "all", false), "--pod=app".into()], &before, "ls; cat file", &scene.out())?;
    scene.wait_ready(running, 1)?;
    ensure!(runtime.join("lock").exists() && scene.status()?.len() == 2, "{:?}", scene.status()?);
    let images = scene.checkpoint(&["--pod", "app", "--kill"])?;
    scene.wait(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(2)?;
    let images = scene.checkpoint(&["--pod", "app", "--kill"]).doing("second checkpoint")?;
    scene.wait(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(2)?;
    scene.go()?;
    for (running, out, expected) in [(running, scene.out(), "file\nruntime\nagain\n"), (other, out, "precious\n")] {
        let said = said_after(scene, running, &out)?;
        ensure!(said == expected, "{said:?} instead of {expected:?}");
    }
    wait_empty_store(scene)
}

/// `--private /etc=copy`: what libc reads by itself is the pod's too.
fn configuration(scene: &Scene) -> Result {
    use_private(scene, NAMESPACES)?;
    let before = "echo 10.9.8.7 host-of-the-pod >> /etc/hosts; getent hosts host-of-the-pod > /dev/null";
    let after = "getent hosts host-of-the-pod; ls /etc/passwd";
    let running = start(scene, &["--private=/etc=copy".into()], before, after, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    compare(&said, "10.9.8.7 host-of-the-pod /etc/passwd")?;
    ensure!(!fs::read_to_string("/etc/hosts")?.contains("host-of-the-pod"), "the host's file has changed");
    Ok(())
}

/// `--private /dev`: only what can be checkpointed is there, and works.
fn devices(scene: &Scene) -> Result {
    use_private(scene, NAMESPACES)?;
    let before = "exec 5</dev/zero 6>/dev/null; echo shared > /dev/shm/own; ls /dev > /dev/shm/names";
    let after = "head -c 3 <&5 | wc -c; echo x >&6; cat /dev/shm/own; ls /dev | cmp - /dev/shm/names && tr '\\n' ' ' < /dev/shm/names
                 head -c 2 /dev/urandom | wc -c; echo said > /dev/stderr; (echo x > /dev/full) 2> /dev/null || echo full";
    let running = start(scene, &["--private=/dev".into()], before, after, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let said = said_after(scene, running, &scene.out())?;
    let known = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let there = |name: &&str| Path::new("/dev").join(name).exists();
    let names: Vec<_> = known.split(' ').filter(there).collect();
    compare(&said, &format!("3 shared {} 2 full", names.join(" ")))?;
    ensure!(!Path::new("/dev/shm/own").exists(), "it has come into the host's /dev/shm");
    Ok(())
}

/// A small root directory, with a shell.
fn make_root(scene: &Scene) -> Result<PathBuf> {
    let root = scene.make_directory("root", 0o755)?;
    let script = "cd \"$0\"; mkdir -p bin tmp etc srv; ln -s bin sbin
        for program in bash cat ls sleep id; do
            cp $(command -v $program) bin/
            ldd $(command -v $program) | grep -o '/[^ ]*' | while read -r library; do
                mkdir -p .${library%/*}; cp -nL $library .$library
            done
        done
        ln -s bash bin/sh; echo tree > srv/file; echo own > .hidden";
    let mut command = scene.words(&["bash", "-c", script]);
    command.arg(&root);
    scene.finish(command)?.expect(0, "")?;
    Ok(root)
}

/// A pod on a root directory of its own, which stays as it is.
fn root(scene: &Scene) -> Result {
    use_private(scene, NAMESPACES)?;
    let root = make_root(scene)?;
    let list = || {
        scene
            .run(&["find", &root.display().to_string(), "-type", "f", "-printf", "%p %m %s %T@\\n"])
            .map(|said| said.out)
    };
    let plain = list()?;
    let options = [format!("--root={}", root.display()), "--private=/tmp".into()];
    let before = "ZAP_TEST_GO=/srv/go; cd /tmp; exec 5>>log 6</srv/file; echo before >&5; (echo x > /new) 2> /dev/null && echo written || true";
    let after = "echo after >&5; cat log; read -r line <&6; echo $line; pwd; echo /*; echo /tmp/*; cat /.hidden; echo x > /dev/null
                 cat /proc/$$/comm; ls /proc/self/exe > /dev/null && echo proc; (exec -a name /bin/sh -c 'echo $0')";
    let running = start(scene, &options, before, after, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint_and_kill(running).doing("second checkpoint")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    fs::write(root.join("srv/go"), "")?;
    let said = said_after(scene, running, &scene.out())?;
    fs::remove_file(root.join("srv/go"))?;
    let libraries: String = ["lib", "lib32", "lib64"]
        .into_iter()
        .filter(|one| root.join(one).exists())
        .map(|one| format!("/{one} "))
        .collect();
    let usr = if root.join("usr").exists() { " /usr" } else { "" };
    let expected = format!(
        "before after tree /tmp /bin /dev /etc {libraries}/proc /sbin /srv /sys /tmp{usr} /tmp/log own bash proc name"
    );
    compare(&said, &expected)?;
    ensure!(list()? == plain, "the tree has changed");
    wait_empty_store(scene)
}

/// A tree that the pod's user may only read, two pods at once, and one that joins.
fn root_of_others(scene: &Scene) -> Result {
    use_private(scene, NAMESPACES)?;
    let root = make_root(scene)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o555))?;
    let outs = [scene.path("out-1"), scene.path("out-2")];
    let mut all = Vec::new();
    for (number, out) in outs.iter().enumerate() {
        let options = [format!("--root={}", root.display()), "--private=/tmp".into(), format!("--pod=pod-{number}")];
        let before = format!("ZAP_TEST_GO=/srv/go; echo own-{number} > /tmp/file");
        let running = start(scene, &options, &before, "cat /tmp/file", out)?;
        scene.wait_ready_in(out, running, 1)?;
        all.push(running);
    }
    let said = scene.run(&["zap-launch", "--pod", "pod-1", "cat", "/tmp/file"])?;
    ensure!(said.status == 0 && said.out == "own-1\n", "{said:?}");
    fs::write(root.join("srv/go"), "")?;
    for (number, running) in all.into_iter().enumerate() {
        let said = said_after(scene, running, &outs[number])?;
        ensure!(said == format!("own-{number}\n"), "{said:?}");
    }
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    wait_empty_store(scene)
}
