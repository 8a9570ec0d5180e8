//! Roads that one program is enough for: many generations, ways to exec, side by side, under a container's filter.

use crate::case::{failed, skipped, Case, Doing, Result, Row};
use crate::ensure;
use crate::huge_pages;
use crate::manifest::Program;
use crate::memory_group::MemoryGroup;
use crate::place::User;
use crate::process::{self, Ended};
use crate::scene::{Running, Scene, PATIENCE};
use std::fs::{self, Permissions};
use std::io::{PipeWriter, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use zap_wire::fault;

/// A program with little state of its own.
pub const SIMPLE: &str = "eventfd";

pub fn cases() -> Vec<Case> {
    let table: [Row; 31] = [
        ("ten-generations", ten_generations),
        ("image-is-gone", image_is_gone),
        ("same-numbers", same_numbers),
        ("older-generation", older_generation),
        ("watched-files-are-others", watched_files_are_others),
        ("another-life-writes-here", another_life_writes_here),
        ("exec/shell", |scene| exec_form(scene, &["/bin/sh", "-c", "exec \"$0\"", "{bin}"])),
        ("exec/wrapper-script", wrapper_script),
        ("exec/empty-environment", |scene| exec_form(scene, &["/usr/bin/env", "-i", "ZAP_TEST_GO={go}", "{bin}"])),
        ("exec/search-path", |scene| exec_form(scene, &["env", "nice", "-n", "0", "{bin}"])),
        ("side-by-side", side_by_side),
        ("like-a-container", |scene| like_a_container(scene, SIMPLE)),
        ("like-a-container/threads", |scene| like_a_container(scene, "threads")),
        ("like-a-container/timers", |scene| like_a_container(scene, "timers")),
        ("like-a-container/signals", |scene| like_a_container(scene, "signals")),
        ("like-a-container/memory", |scene| like_a_container(scene, "heap_and_mmap")),
        ("like-a-container/attributes", |scene| like_a_container(scene, "attributes")),
        ("like-a-container/processes", processes_like_in_a_container),
        ("background", background),
        ("signals-are-passed-on", signals_are_passed_on),
        ("after-reboot", after_reboot),
        ("launch-returns-at-once", launch_returns_at_once),
        ("verify-option", verify_option),
        ("name-in-use", name_in_use),
        ("strangers-sockets", strangers_sockets),
        ("descriptors-are-few", descriptors_are_few),
        ("little-address-space", little_address_space),
        ("names-of-signals", names_of_signals),
        ("absence", absence),
        ("own-streams", own_streams),
        ("signals-from-outside", signals_from_outside),
    ];
    let mut cases = vec![
        Case::new("special/huge-pages-are-missing", huge_pages_are_missing).huge_pages(8),
        Case::new("special/huge-pages-are-missing", huge_pages_are_missing).huge_pages(8).by_ordinary_user(),
    ];
    cases.push(Case::new("special/huge-pages-in-a-small-group", huge_pages_in_a_small_group).huge_pages(8));
    cases.push(Case::new("special/deleted-file-in-memory", deleted_file_in_memory));
    for (name, run) in table {
        cases.push(Case::new(format!("special/{name}"), run));
        cases.push(Case::new(format!("special/{name}"), run).by_ordinary_user());
    }
    for name in BY_PAGES {
        let older = move |scene: &Scene| without(scene, name, fault::PAGEMAP_SCAN);
        let network = move |scene: &Scene| without(scene, name, fault::IMAGE_MAPPING);
        cases.push(Case::new(format!("special/older-kernel/{name}"), older));
        cases.push(Case::new(format!("special/older-kernel/{name}"), older).by_ordinary_user());
        cases.push(Case::new(format!("special/network-file-system/{name}"), network).by_ordinary_user());
    }
    cases
}

/// Programs with all kinds of pages.
const BY_PAGES: [&str; 11] = [
    "heap_and_mmap",
    "sparse_memory",
    "reserved_memory",
    "scattered_memory",
    "file_private_mapping",
    "shared_anonymous",
    "shared_file_mapping",
    "shared_by_processes",
    "many_mappings",
    "stacks",
    "advice",
];

/// Where the kernel, or the file system of the images, does not do this.
fn without(scene: &Scene, name: &str, place: &str) -> Result {
    let mut program = scene.program(name)?;
    if name == "reserved_memory" && place == fault::PAGEMAP_SCAN {
        // Without it a word is read for every page that is reserved: seconds for each TiB.
        program.run.push("128".into());
    }
    scene.plain(&program)?;
    let refused = format!("refuse:{place}");
    scene.use_fault(Some(&refused));
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[]).doing("while it runs on")?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.wait_running(1).doing("after the restart")?;
    if place == fault::IMAGE_MAPPING {
        let length = images.iter().map(|image| Ok(fs::metadata(image)?.len())).sum::<Result<u64>>()?;
        let read = process::bytes_read(running.pid);
        ensure!(read >= length, "{read} bytes of {length} have been read");
    }
    let images = scene.checkpoint_and_kill(running).doing("after the restart")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A restarted program has zap-restart's standard input, output and error in the place of those that it had.
fn own_streams(scene: &Scene) -> Result {
    const SCRIPT: &str = "while read -r line; do echo \"out $line\"; echo \"err $line\" >&2; done; exit 5";
    let err = scene.path("err");
    let say = |mut command: std::process::Command, line: &str, out: &Path| -> Result<(Running, PipeWriter)> {
        let (reader, mut writer) = std::io::pipe()?;
        command.stdin(reader);
        let running = scene.start(command, out)?;
        writeln!(writer, "{line}")?;
        let both = || {
            let has = |path: &Path, start: &str| {
                fs::read_to_string(path).ok()?.lines().any(|said| said == format!("{start} {line}")).then_some(())
            };
            has(out, "out").and(has(&err, "err"))
        };
        scene.until(PATIENCE, &format!("{line:?} is said on both"), both)?;
        Ok((running, writer))
    };
    let mut command = scene.words(&["zap-launch", "sh", "-c", SCRIPT]);
    command.current_dir(scene.path("work"));
    let (running, writer) = say(command, "one", &scene.out())?;
    let images = scene.checkpoint_and_kill(running)?;
    drop(writer);
    let second = scene.path("second-out");
    let mut command = scene.words(&["zap-restart"]);
    command.args(&images);
    let (running, writer) = say(command, "two", &second)?;
    drop(writer);
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(5), "at the end of its new input: {ended}");
    let said = (fs::read_to_string(scene.out())?, fs::read_to_string(second)?);
    ensure!(said == ("out one\n".into(), "out two\n".into()), "on both outputs: {said:?}");
    Ok(())
}

/// Signals that a process outside of the pod queues all the time come once each, in their order, whether the program stands
/// or not.
fn signals_from_outside(scene: &Scene) -> Result {
    const EACH: i32 = 300;
    let program = scene.program("signal_counter")?;
    scene.plain(&program)?;
    let number = libc::SIGRTMIN() + 3;
    let send = |pid: i32, first: i32| {
        for value in first..first + EACH {
            process::queue(pid, number, value);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    };
    let mut running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for life in 0..2 {
        let pid = scene.first_process()?;
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| send(pid, life * EACH + 1));
            while !sender.is_finished() {
                scene.checkpoint(&[])?;
            }
            Ok::<_, crate::case::Stop>(())
        })?;
        if life == 0 {
            let images = scene.checkpoint_and_kill(running)?;
            running = scene.restart(&[], &images, &scene.out())?;
        }
    }
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    let expected = format!("READY\n{} signals, the last with {0}, 0 out of order\nOK\n", 2 * EACH);
    ensure!(ended == Ended::Exited(program.status) && said == expected, "{ended}, {said:?}");
    Ok(())
}

/// The simple program under zap-launch, READY.
pub fn start_simple(scene: &Scene, options: &[&str]) -> Result<(Program, Running)> {
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let running = scene.launch(&program, options)?;
    scene.wait_ready(running, 1)?;
    Ok((program, running))
}

/// What a program watches (inotify) has been replaced while it was away: the paths lead to the new files, also at the next
/// checkpoint.
fn watched_files_are_others(scene: &Scene) -> Result {
    let program = scene.program("inotify")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let mut images = scene.checkpoint_and_kill(running)?;
    for round in 0..2 {
        for name in ["work/file", "work/once", "work/read"] {
            let (old, new) = (scene.path(name), scene.path("new"));
            fs::copy(&old, &new)?;
            scene.own(&new)?;
            fs::rename(&new, &old)?;
        }
        let running = scene.restart(&[], &images, &scene.out()).doing(format!("round {round}"))?;
        scene.wait_running(1)?;
        images = scene.checkpoint_and_kill(running).doing(format!("round {round}"))?;
    }
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A host without huge pages says so, and starts nothing; when it has some, the same image comes back.
fn huge_pages_are_missing(scene: &Scene) -> Result {
    let program = scene.program("huge_pages")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let number = huge_pages::number()?;
    huge_pages::set_number(0)?;
    if huge_pages::free()? > 0 {
        return crate::case::skipped("others of this host have huge pages");
    }
    let mut command = scene.words(&["zap-restart"]);
    command.args(&images);
    scene.finish(command)?.expect(125, "huge pages of 2048 KiB")?;
    let pods = scene.status()?;
    ensure!(pods.is_empty(), "a pod is there that was never started: {pods:?}");
    huge_pages::set_number(number)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Two processes in a control group that has memory for the copies of one: the checkpoint is refused, and neither is killed by
/// the kernel. Without the limit it works.
fn huge_pages_in_a_small_group(scene: &Scene) -> Result {
    let Some(group) = MemoryGroup::make() else { return crate::case::skipped("no control group for memory") };
    let program = scene.program("huge_pages_forked")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for pid in [running.pid].into_iter().chain(process::descendants(running.pid)) {
        group.add(pid)?;
    }
    group.limit(Some(6 << 20))?;
    scene.run(&["zap-command", "--checkpoint"])?.expect(1, "huge pages: 8 MiB of other memory are needed")?;
    group.limit(None)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A deleted file of a tmpfs that is mounted anywhere: a checkpoint allocates nothing of what it only reserves.
fn deleted_file_in_memory(scene: &Scene) -> Result {
    if !is_root(scene) {
        return skipped("only root can mount");
    }
    let program = scene.program("sparse_memory")?;
    scene.plain(&program)?;
    crate::storage::mount(&scene.path("work"), "size=100m,mode=0700")?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A checkpoint of a restarted program, ten times over.
fn ten_generations(scene: &Scene) -> Result {
    let program = scene.program("threads")?;
    let mut running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    for generation in 1..=10 {
        let images = scene.checkpoint_and_kill(running).doing(format!("generation {generation}"))?;
        running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1).doing(format!("restart {generation}"))?;
    }
    let left = fs::read_dir(scene.images())?.count();
    ensure!(left == 1, "one generation is kept by default, but {left} files are there");
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Memory that a restart has left in the image, and that nobody has touched, outlives the image: the next checkpoint
/// replaces it, and then all of it is looked at; and so in a restart from that next checkpoint.
fn image_is_gone(scene: &Scene) -> Result {
    let program = scene.program("heap_and_mmap")?;
    let running = scene.launch(&program, &["--keep", "1"])?;
    scene.wait_ready(running, 1)?;
    let older = scene.checkpoint_and_kill(running)?;
    let first = scene.restart(&[], &older, &scene.out())?;
    scene.wait_running(1)?;
    let newer = scene.checkpoint(&[])?;
    ensure!(older.iter().all(|image| !image.exists()), "{older:?} are still there");
    let second = scene.path("out-second");
    fs::copy(scene.out(), &second)?;
    scene.own(&second)?;
    let clone = scene.restart(&["--pod", "the-clone"], &newer, &second)?;
    scene.wait_running(2)?;
    for image in &newer {
        fs::remove_file(image)?;
    }
    scene.go()?;
    scene.expect_end(first, &program).doing("what was restarted from the older image")?;
    scene.expect_end_in(clone, &program, &second).doing("what was restarted from the newer image")
}

/// From one PID namespace to another, where threads get the numbers that others of them had before.
fn same_numbers(scene: &Scene) -> Result {
    let program = scene.program("thread_handles")?;
    scene.plain(&program)?;
    let bin = scene.line(&program, &scene.path("work"))?.remove(0);
    let mut unshare = vec!["unshare"];
    if process::user() != 0 || scene.user == User::Nobody {
        unshare.extend(["-U", "--map-current-user"]);
    }
    unshare.extend(["-pmniu", "--fork", "--mount-proc"]);
    let probe: Vec<&str> = unshare.iter().copied().chain(["true"]).collect();
    if scene.run(&probe)?.status != 0 {
        return crate::case::skipped("this user cannot make namespaces here");
    }
    let inside = |script: &str| {
        let mut command = scene.words(&unshare);
        command.args(["sh", "-c", script]);
        command
    };
    let mut command = inside(
        "\"$0\" \"$2\" & until grep -qs READY \"$3\"; do :; done; \"$1\" --checkpoint --kill >\"$3.said\"; wait $!",
    );
    command.args([scene.place.tool("zap-launch"), scene.place.tool("zap-command"), bin.into(), scene.out()]);
    let running = scene.start(command, &scene.out())?;
    scene.wait(running)?;
    let images: Vec<_> =
        fs::read_dir(scene.images())?.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    ensure!(images.len() == 1, "images {images:?}");
    scene.go()?;
    for numbers in ["", "1", "1 2 3", "1 2 3 4 5 6 7 8 9"] {
        crate::state::empty_runtime(scene)?;
        let out = scene.path(&format!("out-{}", numbers.len()));
        fs::copy(scene.out(), &out)?;
        scene.own(&out)?;
        // Each child that ends has taken one number.
        let mut command = inside("for number in $2; do /bin/true; done; \"$0\" \"$1\"; exit $?");
        command.arg(scene.place.tool("zap-restart")).arg(&images[0]).arg(numbers);
        let running = scene.start(command, &out)?;
        scene.expect_end_in(running, &program, &out).doing(format!("after the numbers {numbers:?}"))?;
    }
    Ok(())
}

/// What is restarted from an older generation numbers its images on from the newest: none is replaced.
fn older_generation(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &["--keep", "4"])?;
    let first = scene.checkpoint(&[])?;
    let second = scene.checkpoint_and_kill(running)?;
    let before = fs::read(&second[0])?;
    let running = scene.restart(&[], &first, &scene.out())?;
    scene.wait_running(1)?;
    let third = scene.checkpoint(&[])?;
    ensure!(third[0].to_string_lossy().ends_with("_3.zimg"), "the next image is {}", third[0].display());
    ensure!(fs::read(&second[0])? == before, "generation 2 has been replaced");
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Two lives of one pod that know nothing of each other, as on two hosts with one file system: neither replaces the
/// other's image.
fn another_life_writes_here(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let first = scene.checkpoint(&[])?;
    let here = scene.runtime();
    scene.use_runtime(scene.make_directory("another-runtime", 0o700)?);
    let out = scene.path("out-there");
    fs::copy(scene.out(), &out)?;
    scene.own(&out)?;
    let there = scene.restart(&[], &first, &out)?;
    scene.wait_running(1)?;
    let second = scene.checkpoint(&[])?;
    let written = fs::read(&second[0])?;
    let there_runtime = scene.runtime();
    scene.use_runtime(here);
    scene.run(&["zap-command", "--checkpoint"])?.expect(1, "another copy of this pod")?;
    ensure!(fs::read(&second[0])? == written, "the other's image has been replaced");
    scene.go()?;
    scene.expect_end(running, &program).doing("here")?;
    scene.use_runtime(there_runtime);
    scene.expect_end_in(there, &program, &out).doing("there")
}

/// Launches a command line that ends up in the simple program by exec, and takes it through a restart.
fn exec_form(scene: &Scene, line: &[&str]) -> Result {
    let program = scene.program(SIMPLE)?;
    let bin = scene.line(&program, &scene.path("work"))?.remove(0);
    let go = scene.path("go");
    let words: Vec<String> =
        line.iter().map(|word| word.replace("{bin}", &bin).replace("{go}", &go.to_string_lossy())).collect();
    let mut command = scene.words(&["zap-launch"]);
    command.args(words);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

fn wrapper_script(scene: &Scene) -> Result {
    let script = scene.path("work/wrapper");
    fs::write(&script, "#!/bin/sh\ntest -n \"$ZAP_TEST_GO\" || exit 1\nexec \"$@\"\n")?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))?;
    exec_form(scene, &[&script.to_string_lossy(), "{bin}"])
}

/// Two copies of the same images beside each other, the original gone.
fn side_by_side(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let second = scene.path("out-second");
    fs::copy(scene.out(), &second)?;
    scene.own(&second)?;
    let one = scene.restart(&["--pod", "one"], &images, &scene.out())?;
    let two = scene.restart(&["--pod", "two"], &images, &second)?;
    let pods = scene.wait_running(2)?;
    let pids: Vec<_> = pods.iter().map(|pod| pod["processes"][0]["pid"].as_i64()).collect();
    ensure!(pids[0] != pids[1], "both copies have the process id {:?}", pids[0]);
    scene.go()?;
    scene.expect_end(one, &program).doing("the first copy")?;
    scene.expect_end_in(two, &program, &second).doing("the second copy")
}

/// The command that runs others under a filter that forbids what a container's does.
fn container_filter(scene: &Scene) -> Result<String> {
    let helper = scene.place.built("container_filter");
    if !helper.exists() {
        return skipped("container_filter could not be built: no compiler");
    }
    Ok(helper.to_string_lossy().into_owned())
}

/// Everything under such a filter, from the start.
fn like_a_container(scene: &Scene, name: &str) -> Result {
    let program = scene.program(name)?;
    scene.plain(&program)?;
    let filter = container_filter(scene)?;
    let running = scene.launch_by(&[&filter], &program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[]).doing("under the filter")?;
    let images = scene.checkpoint_and_kill(running)?;
    let mut command = scene.words(&[&filter]);
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let running = scene.start(command, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Where kcmp(2) is forbidden nobody can tell whether two processes have one file open or the same one twice: refused by name,
/// and they go on.
fn processes_like_in_a_container(scene: &Scene) -> Result {
    let filter = container_filter(scene)?;
    let mut command = scene.words(&[filter]);
    command.arg(scene.place.tool("zap-launch")).args(["/bin/sh", "-c"]);
    command.args(["exec 5<>both; (until test -e \"$0\"; do :; done; exit 3) & echo READY; wait $!; exit $?"]);
    command.arg(scene.path("go"));
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, "kcmp")?;
    ensure!(process::lives(running.pid), "a refused checkpoint with --kill has killed the program");
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(3), "{ended}");
    Ok(())
}

/// `--background` returns as soon as the program runs again.
fn background(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let restart = scene.restart(&["--background"], &images, &scene.out())?;
    let ended = scene.wait(restart)?.ended;
    ensure!(ended == Ended::Exited(0), "zap-restart --background: {ended}");
    let pods = scene.wait_running(1)?;
    let Some(pid) = pods[0]["processes"][0]["pid"].as_i64() else { return failed("no process id in the status") };
    scene.go()?;
    // Its parent has ended, so this test has become its parent.
    scene.expect_end(Running { pid: pid as i32 }, &program)
}

/// A signal to zap-restart reaches the program, and its death by it is zap-restart's own.
fn signals_are_passed_on(scene: &Scene) -> Result {
    let (_, running) = start_simple(scene, &[])?;
    let images = scene.checkpoint_and_kill(running)?;
    // Rust's programs ignore SIGPIPE.
    for signal in [libc::SIGTERM, libc::SIGPIPE] {
        let running = scene.restart(&[], &images, &scene.out())?;
        scene.wait_running(1)?;
        process::kill(running.pid, signal);
        let ended = scene.wait(running)?.ended;
        ensure!(ended == Ended::Killed(signal), "expected death by signal {signal}, seen {ended}");
        scene.until(PATIENCE, "the pod is gone", || scene.status().is_ok_and(|pods| pods.is_empty()).then_some(()))?;
    }
    Ok(())
}

/// All processes of Zap killed, the runtime directory gone, other ids in use: as after a reboot.
fn after_reboot(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let images = scene.checkpoint(&[])?;
    process::kill(scene.coordinator()?, libc::SIGKILL);
    process::kill(running.pid, libc::SIGKILL);
    scene.wait(running)?;
    fs::remove_dir_all(scene.runtime())?;
    scene.make_directory("runtime", 0o700)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// `$(zap-launch echo hi)` returns at once: the coordinator holds no descriptor of its caller.
fn launch_returns_at_once(scene: &Scene) -> Result {
    let mut command = scene.command("/bin/sh");
    command.args(["-c", "x=$(\"$0\" echo hi); echo \"<$x>\""]).arg(scene.place.tool("zap-launch"));
    let said = scene.finish(command)?;
    ensure!(said.out == "<hi>\n" && said.status == 0, "expected \"<hi>\", seen {said:?}");
    Ok(())
}

/// `ulimit -v` by the shell that starts zap-launch, and zap-restart.
fn little_address_space(scene: &Scene) -> Result {
    const LIMITED: [&str; 4] = ["sh", "-c", "ulimit -v 60000; exec \"$@\"", "sh"];
    let program = scene.program(SIMPLE)?;
    scene.plain(&program)?;
    let running = scene.launch_by(&LIMITED, &program, &[])?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint(&[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let mut command = scene.words(&LIMITED);
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let running = scene.start(command, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// `kill -l` of shells and of kill(1) lists what it lists without Zap, whose signal has no name of its own.
fn names_of_signals(scene: &Scene) -> Result {
    for words in [["sh", "-c", "kill -l"], ["bash", "-c", "kill -l"], ["/bin/kill", "-l", "--"]] {
        let words = if words[2] == "--" { &words[..2] } else { &words[..] };
        let plain = scene.run(words)?;
        let ours = scene.run(&[&["zap-launch"], words].concat())?;
        ensure!(plain.status == 0 && plain.out.contains("USR1"), "{words:?}: {plain:?}");
        ensure!((plain.status, &plain.out) == (ours.status, &ours.out), "{words:?}: {plain:?} became {ours:?}");
    }
    Ok(())
}

/// Three seconds in which the program does not exist do not pass for it.
fn absence(scene: &Scene) -> Result {
    const SECONDS: u64 = 3;
    let program = scene.program("absence")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    std::thread::sleep(std::time::Duration::from_secs(SECONDS));
    fs::write(scene.path("work").join("away"), SECONDS.to_string())?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

fn verify_option(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &[])?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&["--verify"], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A copy does not take a living original's sockets away: it is refused by name, and the original goes on.
fn name_in_use(scene: &Scene) -> Result {
    let program = scene.program("named_sockets")?;
    scene.plain(&program)?;
    let running = scene.launch(&program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint(&[])?;
    let mut restart = scene.words(&["zap-restart", "--pod", "the-copy"]);
    restart.args(&images);
    scene.finish(restart)?.expect(125, "a copy cannot run beside the living original")?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Sockets whose other ends are outside of the pod: refused by name as long as those are open, and nothing that is the
/// stranger's is touched. What a stranger that has gone leaves behind comes back, also by who may not become that.
fn strangers_sockets(scene: &Scene) -> Result {
    let dir = scene.path("work");
    let at = |name: &str| dir.join(name);
    let stranger = UnixListener::bind(at("stranger"))?;
    fs::set_permissions(at("stranger"), Permissions::from_mode(0o777))?;
    let file = || fs::symlink_metadata(at("stranger")).map(|file| (file.ino(), file.ctime_nsec()));
    let before = file()?;
    let helper = scene.place.built("stranger");
    if !helper.exists() {
        return crate::case::skipped("stranger could not be built: no compiler");
    }
    let mut command = scene.words(&["zap-launch"]);
    command.arg(&helper).arg(&dir);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let refused = |message: &str| scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, message);
    let (end, _) = stranger.accept()?;
    refused("connected to a socket outside of the pod")?;
    drop(end);
    scene.run(&["zap-command", "--checkpoint"])?.expect(0, "")?;
    scene.go()?;
    scene.wait_ready(running, 2)?;
    let call = UnixStream::connect(at("inside"))?;
    refused("a process outside of the pod waits at it")?;
    fs::write(scene.path("go.2"), "")?;
    scene.wait_ready(running, 3)?;
    refused("connected to a socket outside of the pod")?;
    drop(call);
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    fs::write(scene.path("go.3"), "")?;
    let ended = scene.wait(running)?.ended;
    let said = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(7) && said.ends_with("the rest goes on\nOK\n"), "{ended}, output {said:?}");
    ensure!(file()? == before, "the stranger's file has been touched");
    Ok(())
}

/// A restart needs few descriptors beside those of the program, which may have nearly all that it is allowed to have.
fn descriptors_are_few(scene: &Scene) -> Result {
    const FEW: [&str; 2] = ["prlimit", "--nofile=900:900"];
    let program = scene.program("many_sockets")?;
    scene.plain(&program)?;
    let running = scene.launch_by(&FEW, &program, &[])?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let mut command = scene.words(&FEW);
    command.arg(scene.place.tool("zap-restart")).args(&images);
    let running = scene.start(command, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Whether programs run as root in this scene.
pub fn is_root(scene: &Scene) -> bool {
    process::user() == 0 && scene.user == User::Own
}
