//! Damaged, incomplete, foreign and future images, and files of the host that are not what they were.

use crate::case::{failed, skipped, Case, Doing, Result};
use crate::ensure;
use crate::process::{self, Ended};
use crate::scene::Scene;
use crate::special::{start_simple, SIMPLE};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zap_image::{Prelude, PRELUDE_SIZE};

/// Mutated copies, each of which zap-image and zap-restart are given.
const MUTATIONS: usize = 2000;
/// Mutations of the image itself, in its place.
const IN_PLACE: usize = 20;
/// Mutations at places that are spread evenly over the image.
const EVENLY: usize = 60;
/// Images that zap-image reads in one go.
const BATCH: usize = 50;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("images/mutations", |scene| damage(scene, &[])).limit(240),
        Case::new("images/future-version", |scene| patched(scene, |prelude| prelude.version += 1, "version")),
        Case::new("images/foreign-architecture", |scene| {
            patched(scene, |prelude| prelude.machine = 183, "ELF machine 183")
        }),
        Case::new("images/not-an-image", not_an_image),
        Case::new("images/several-pods", several_pods),
        Case::new("images/newest-generation", newest_generation),
        Case::new("images/newest-generation-is-damaged", newest_is_damaged),
        Case::new("images/newest-generation-is-incomplete", newest_is_incomplete),
        Case::new("images/show", show),
        Case::new("images/private", private),
        Case::new("images/library-changed", library_changed),
        Case::new("images/executable-changed", executable_changed),
        Case::new("images/open-file-shorter", open_file_shorter),
        Case::new("images/data-file", |scene| data_file(scene, "none")),
        Case::new("images/data-file", |scene| data_file(scene, "zstd")).by_ordinary_user(),
    ]
}

/// A whole image of the killed simple program.
fn image(scene: &Scene) -> Result<PathBuf> {
    image_of(scene, &[])
}

/// The same, launched with these options.
fn image_of(scene: &Scene, options: &[&str]) -> Result<PathBuf> {
    let (_, running) = start_simple(scene, options)?;
    // An earlier program's READY may be in the same output.
    scene.wait_running(1)?;
    Ok(scene.checkpoint_and_kill(running)?.remove(0))
}

/// zap-restart must refuse this with 125 and a message with `why`, and start nothing.
pub fn refuse(scene: &Scene, images: &[PathBuf], why: &str) -> Result {
    let before = fs::read(scene.out()).unwrap_or_default();
    let mut command = scene.words(&["zap-restart"]);
    command.args(images);
    let said = scene.finish(command)?;
    said.expect(125, why)?;
    ensure!(!said.err.is_empty(), "refused without a message");
    ensure!(said.out.is_empty(), "something was started: {:?}", said.out);
    ensure!(fs::read(scene.out()).unwrap_or_default() == before, "a program was started");
    Ok(())
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

/// Any byte of an image that differs, and any byte that is missing, is noticed; the image is of a program that was
/// launched with these options.
pub fn damage(scene: &Scene, options: &[&str]) -> Result {
    let path = image_of(scene, options)?;
    let bytes = fs::read(&path)?;
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_nanos());
    let seed = std::env::var("ZAP_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(time as u64 | 1);
    let mut random = Random(seed);
    in_place(scene, &path, &bytes, &mut random).doing(format!("seed {seed}"))?;
    truncations(scene, &bytes)?;
    let directory = scene.make_directory("mutated", 0o700)?;
    let mut descriptions = Vec::new();
    let mut paths: Vec<PathBuf> = Vec::new();
    for number in 0..MUTATIONS {
        let mut damaged = bytes.clone();
        descriptions.push(match number % 4 {
            0 => {
                damaged.truncate(random.below(bytes.len()));
                format!("truncated to {} bytes", damaged.len())
            }
            // Half of the flips in the head, which is small and matters most.
            kind => {
                let at = random.below(if kind == 1 { bytes.len() } else { bytes.len().min(16384) });
                let flip = 1 + random.below(255) as u8;
                damaged[at] ^= flip;
                format!("byte {at} xor {flip}")
            }
        });
        let path = directory.join(format!("ckpt_x_0000000000000001_{number}_1.zimg"));
        fs::write(&path, damaged)?;
        scene.own(&path)?;
        paths.push(path);
        if paths.len() == BATCH {
            verify(scene, &paths, &descriptions).doing(format!("seed {seed}"))?;
            for (path, description) in paths.drain(..).zip(descriptions.drain(..)) {
                scene
                    .quietly(|| refuse(scene, std::slice::from_ref(&path), ""))
                    .doing(format!("zap-restart, seed {seed}, {description}"))?;
                fs::remove_file(path)?;
            }
        }
    }
    for number in 0..EVENLY {
        let mut damaged = bytes.clone();
        let at = bytes.len() * number / EVENLY;
        if number % 2 == 0 {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 0x40;
        }
        let path = directory.join("ckpt_x_0000000000000001_1_1.zimg");
        fs::write(&path, damaged)?;
        scene.quietly(|| refuse(scene, &[path], "")).doing(format!("zap-restart, place {at}"))?;
    }
    Ok(())
}

/// A byte that is changed in the image itself is noticed too, though the file has its inode, its length and its time: it
/// has been touched since the coordinator noted it as whole, and is read before it is mapped. As it was, it restarts.
fn in_place(scene: &Scene, path: &Path, bytes: &[u8], random: &mut Random) -> Result {
    let mut file = fs::File::options().write(true).open(path)?;
    let before = file.metadata()?;
    let modified = before.modified()?;
    let mut put = |at: usize, byte: u8| -> Result {
        file.seek(SeekFrom::Start(at as u64))?;
        file.write_all(&[byte])?;
        Ok(file.set_modified(modified)?)
    };
    let head = match Prelude::decode(bytes, bytes.len() as u64) {
        Ok(prelude) => prelude.head_length as usize,
        Err(error) => return failed(format!("a whole image has no prelude: {error:?}")),
    };
    // The coordinator, for one.
    let own = std::process::id() as i32;
    let there = process::descendants(own);
    for turn in 0..IN_PLACE {
        // Half of them in the pages of memory, which nobody reads of an image that is as it was left.
        let at = if turn % 2 == 0 { random.below(head) } else { head + random.below(bytes.len() - head) };
        let flip = 1 + random.below(255) as u8;
        let what = format!("in place, byte {at} xor {flip}");
        put(at, bytes[at] ^ flip)?;
        let now = fs::metadata(path)?;
        let same = now.ino() == before.ino() && now.len() == before.len() && now.modified()? == modified;
        ensure!(same, "the test itself: {what}: another file, length or time");
        refuse(scene, &[path.to_path_buf()], "").doing(&what)?;
        let pods = scene.status()?;
        ensure!(pods.is_empty(), "{what}: a pod is left: {pods:?}");
        let mut left = process::descendants(own);
        left.retain(|pid| process::lives(*pid) && !there.contains(pid));
        ensure!(left.is_empty(), "{what}: processes {left:?} are left");
        put(at, bytes[at])?;
    }
    ensure!(fs::read(path)? == bytes, "the test itself: the image is not what it was");
    let running = scene.restart(&[], &[path.to_path_buf()], &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &scene.program(SIMPLE)?).doing("the restart of the image as it was")
}

/// Lengths at which something ends, and one byte more and less.
fn truncations(scene: &Scene, bytes: &[u8]) -> Result {
    let prelude = match Prelude::decode(bytes, bytes.len() as u64) {
        Ok(prelude) => prelude,
        Err(error) => return failed(format!("a whole image has no prelude: {error:?}")),
    };
    let head = prelude.head_length as usize;
    let header = PRELUDE_SIZE + prelude.header_length as usize;
    let extents = [head + 4096, head + (1 << 20), (head + bytes.len()) / 2];
    let ends = [0, 8, 16, PRELUDE_SIZE / 2, PRELUDE_SIZE, (PRELUDE_SIZE + header) / 2, header, head, bytes.len()];
    let mut lengths: Vec<usize> =
        ends.into_iter().chain(extents).flat_map(|end| [end.saturating_sub(1), end, end + 1]).collect();
    lengths.retain(|length| *length != bytes.len());
    lengths.sort_unstable();
    lengths.dedup();
    let directory = scene.make_directory("truncated", 0o700)?;
    let (mut paths, mut descriptions) = (Vec::new(), Vec::new());
    for length in lengths {
        let mut damaged = bytes.to_vec();
        damaged.resize(length, 0);
        let path = directory.join(format!("ckpt_x_0000000000000001_{length}_1.zimg"));
        fs::write(&path, damaged)?;
        scene.own(&path)?;
        refuse(scene, std::slice::from_ref(&path), "").doing(format!("zap-restart, {length} bytes"))?;
        paths.push(path);
        descriptions.push(format!("{length} bytes instead of {}", bytes.len()));
    }
    verify(scene, &paths, &descriptions)
}

/// zap-image must call each of these damaged.
fn verify(scene: &Scene, paths: &[PathBuf], descriptions: &[String]) -> Result {
    let mut command = scene.words(&["zap-image", "verify", "--json"]);
    command.args(paths);
    let said = scene.finish(command)?;
    ensure!(said.status == 1, "zap-image verify of damaged images: exit status {}, {:?}", said.status, said.err);
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
    let Some(list) = json["images"].as_array() else { return failed(format!("no list of images: {:?}", said.out)) };
    ensure!(list.len() == paths.len(), "{} results of {}", list.len(), paths.len());
    for (result, description) in list.iter().zip(descriptions) {
        ensure!(result["whole"] == false, "zap-image calls an image whole: {description}");
    }
    Ok(())
}

/// An image with another prelude, rightly checksummed.
fn patched(scene: &Scene, change: fn(&mut Prelude), why: &str) -> Result {
    let path = image(scene)?;
    let mut bytes = fs::read(&path)?;
    let mut prelude = match Prelude::decode(&bytes, bytes.len() as u64) {
        Ok(prelude) => prelude,
        Err(error) => return failed(format!("a whole image has no prelude: {error:?}")),
    };
    change(&mut prelude);
    bytes[..PRELUDE_SIZE].copy_from_slice(&prelude.encode());
    fs::write(&path, bytes)?;
    scene.run(&[Path::new("zap-image"), Path::new("verify"), &path])?.expect(1, why)?;
    refuse(scene, &[path], why)
}

fn not_an_image(scene: &Scene) -> Result {
    let path = scene.path("ckpt_x_0000000000000001_1_1.zimg");
    for content in ["", "Z", "hello\n", "ZAPIMAGE"] {
        fs::write(&path, content)?;
        refuse(scene, std::slice::from_ref(&path), "").doing(format!("{content:?}"))?;
    }
    refuse(scene, &[scene.path("nowhere")], "nowhere")?;
    refuse(scene, &[scene.images()], "").doing("an empty directory")
}

fn several_pods(scene: &Scene) -> Result {
    let one = image(scene)?;
    let two = image(scene)?;
    refuse(scene, &[one, two], "pod")?;
    refuse(scene, &[scene.images()], "pod")
}

/// Of three generations in a directory the newest one is restarted.
fn newest_generation(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &["--keep", "3"])?;
    for _ in 0..3 {
        scene.checkpoint(&[])?;
    }
    let newest = scene.checkpoint_and_kill(running)?;
    let count = fs::read_dir(scene.images())?.count();
    ensure!(count == 3, "--keep 3 left {count} files after four checkpoints");
    let running = scene.restart(&[], &[scene.images()], &scene.out())?;
    let pods = scene.wait_running(1)?;
    let images = scene.checkpoint(&[])?;
    ensure!(
        images[0].to_string_lossy().ends_with("_5.zimg"),
        "after generation 4 ({newest:?}) comes 5, seen {images:?}, {pods:?}"
    );
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A newest generation that is damaged is refused by name, though an older one is there: what was done since would be lost
/// without a word. Whoever gives the older one gets it.
fn newest_is_damaged(scene: &Scene) -> Result {
    let (program, running) = start_simple(scene, &["--keep", "2"])?;
    let older = scene.checkpoint(&[])?;
    let newest = scene.checkpoint_and_kill(running)?.remove(0);
    let mut bytes = fs::read(&newest)?;
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&newest, bytes)?;
    refuse(scene, &[scene.images()], &newest.to_string_lossy())?;
    ensure!(scene.status()?.is_empty(), "a refused restart has left a pod");
    let running = scene.restart(&[], &older, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// A newest generation that is not whole, as a crash between two renames leaves it, is passed over, and zap-restart says so.
fn newest_is_incomplete(scene: &Scene) -> Result {
    let program = scene.program(SIMPLE)?;
    for pod in [["--pod", "two", "--keep", "2"], ["--pod", "two", "--keep", "2"]] {
        scene.launch(&program, &pod)?;
    }
    scene.until(crate::scene::PATIENCE, "both are ready", || {
        (fs::read_to_string(scene.out()).ok()?.lines().count() == 2).then_some(())
    })?;
    let older = scene.checkpoint(&[])?;
    let newest = scene.checkpoint(&["--kill"])?;
    ensure!(older.len() == 2 && newest.len() == 2, "{older:?}, {newest:?}");
    scene.until(crate::scene::PATIENCE, "the pod has ended", || scene.status().ok()?.is_empty().then_some(()))?;
    fs::remove_file(&newest[1])?;
    refuse(scene, &newest[..1], "checkpoint 2 is incomplete")?;
    let (mut command, out, err) = (scene.words(&["zap-restart"]), scene.out(), scene.path("err"));
    command.arg(scene.images());
    let running = scene.start(command, &out)?;
    let pods = scene.wait_running(1)?;
    let members = pods[0]["processes"].as_array().map_or(0, Vec::len);
    let restarted = pods[0]["last_checkpoint"]["images"][0].as_str().map(PathBuf::from);
    ensure!(members == 2 && restarted.as_ref() == Some(&older[0]), "{pods:?}");
    let said = fs::read_to_string(err)?;
    let wanted = format!("zap-restart: {}: checkpoint 2 is incomplete: ", newest[0].display());
    ensure!(said.contains(&wanted) && said.ends_with("; restarting checkpoint 1\n"), "{said:?} instead of {wanted:?}");
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    ensure!(ended == Ended::Exited(program.status), "{ended}");
    Ok(())
}

/// What the image shows is what the program had.
fn show(scene: &Scene) -> Result {
    let data = scene.path("work/data");
    fs::write(&data, "one\ntwo\n")?;
    scene.own(&data)?;
    let script =
        "import os, sys, threading, mmap, time\nos.dup2(os.open('data', os.O_RDONLY), 77); os.lseek(77, 4, 0)\n\
        os.dup2(77, 78); r, w = os.pipe(); os.dup2(r, 80); held = mmap.mmap(-1, 5 << 20, mmap.MAP_PRIVATE)\n\
        for at in range(0, 3 << 20, 4096): held[at] = 1\n\
        [threading.Thread(target=time.sleep, args=(1000,), daemon=True).start() for _ in range(3)]\n\
        print('READY', flush=True); time.sleep(1000)";
    if !Path::new("/usr/bin/python3").exists() {
        return skipped("there is no Python");
    }
    let running = scene.start(scene.words(&["zap-launch", "/usr/bin/python3", "-c", script]), &scene.out())?;
    scene.wait_ready(running, 1)?;
    let path = scene.checkpoint_and_kill(running)?.remove(0);
    let text = scene.run(&[Path::new("zap-image"), Path::new("show"), &path])?;
    let data = data.to_string_lossy();
    for line in [format!("  descriptor 77 file {data} at 4\n"), format!("  descriptor 78 file {data} at 4\n")] {
        ensure!(text.status == 0 && text.out.contains(&line), "zap-image show has no {line:?}: {text:?}");
    }
    ensure!(text.out.contains("  checksums  of the head: right; of memory: "), "zap-image show: {text:?}");
    let said = scene.run(&[Path::new("zap-image"), Path::new("show"), Path::new("--json"), &path])?;
    let json: serde_json::Value = match serde_json::from_str(&said.out) {
        Ok(json) => json,
        Err(error) => return failed(format!("zap-image show --json is no JSON: {error}: {said:?}")),
    };
    let image = &json["images"][0];
    let none = Vec::new();
    let list = |name: &str| image[name].as_array().unwrap_or(&none);
    let descriptor = |number: i32| list("descriptors").iter().find(|one| one["number"] == number);
    for number in [77, 78] {
        let seen = descriptor(number).cloned().unwrap_or_default();
        ensure!(seen["kind"] == "file" && seen["target"] == *data && seen["offset"] == 4, "{number}: {seen}");
        ensure!(Some(&seen["description"]) == descriptor(77).map(|one| &one["description"]), "{number}: {seen}");
    }
    let pipe = descriptor(80).cloned().unwrap_or_default();
    let target = pipe["target"].as_str().unwrap_or_default();
    ensure!(pipe["kind"] == "pipe" && target.starts_with("pipe:[") && pipe["offset"].is_null(), "{pipe}");
    let out = descriptor(1).cloned().unwrap_or_default();
    ensure!(out["standard_stream"] == 1 && out["target"] == *scene.out().to_string_lossy(), "{out}");
    ensure!(descriptor(79).is_none(), "79 was not open: {}", image["descriptors"]);
    ensure!(list("threads").len() == 4, "four threads: {}", image["threads"]);
    let (size, full) = (5 << 20, 3 << 20);
    let holds = |region: &&serde_json::Value| {
        region["bytes"].as_u64().is_some_and(|bytes| bytes >= size) && region["saved"].as_u64() >= Some(full)
    };
    ensure!(
        list("regions").iter().any(|region| holds(&region)),
        "no region with what was written: {}",
        image["regions"]
    );
    let saved: u64 = list("regions").iter().filter_map(|region| region["saved"].as_u64()).sum();
    let chunks = image["checksums"]["chunks"].as_u64().unwrap_or(0);
    ensure!(chunks >= saved.div_ceil(1 << 20) && saved > full, "{chunks} chunks of {saved} bytes");
    ensure!(image["checksums"]["memory"] == "not verified", "{}", image["checksums"]);
    scene.run(&[Path::new("zap-image"), Path::new("verify"), &path])?.expect(0, "")
}

/// Only the user may read the images, whatever the umask.
fn private(scene: &Scene) -> Result {
    use std::os::unix::fs::PermissionsExt;
    let path = image(scene)?;
    let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "an image has mode {mode:o}");
    Ok(())
}

/// Compiles in the scene; false if there is no compiler.
fn compile(scene: &Scene, words: &[&str]) -> Result {
    match std::process::Command::new("gcc").args(words).current_dir(scene.path("work")).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => failed(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(_) => skipped("no compiler"),
    }
}

const LIBRARY: &str = "int number(void) { return NUMBER; }\n";
const CALLER: &str = "#include <stdio.h>\n#include <unistd.h>\nint number(void);\nint main(void) {\n\
    puts(\"READY\"); fflush(stdout);\n while (access(GO, F_OK)) usleep(1000);\n\
    printf(\"%d\\n\", number());\n return 0;\n}\n";

/// A program with a library of its own, READY, then killed by a checkpoint.
fn with_library(scene: &Scene) -> Result<Vec<PathBuf>> {
    let work = scene.path("work");
    fs::write(work.join("own.c"), LIBRARY)?;
    fs::write(work.join("caller.c"), CALLER)?;
    compile(scene, &["-shared", "-fPIC", "-DNUMBER=1", "-o", "libown.so", "own.c"])?;
    let go = format!("-DGO=\"{}\"", scene.path("go").display());
    compile(scene, &[&go, "-o", "caller", "caller.c", "-L.", "-lown", "-Wl,-rpath,$ORIGIN"])?;
    let command = scene.words(&[Path::new("zap-launch"), &work.join("caller")]);
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    scene.checkpoint_and_kill(running)
}

/// A library that was rebuilt since is named; rebuilt to the very same, it is accepted.
fn library_changed(scene: &Scene) -> Result {
    let images = with_library(scene)?;
    let library = scene.path("work/libown.so");
    fs::remove_file(&library)?;
    refuse(scene, &images, "libown.so").doing("the library is gone")?;
    compile(scene, &["-shared", "-fPIC", "-DNUMBER=2", "-o", "libown.so", "own.c"])?;
    refuse(scene, &images, "libown.so").doing("the library has changed")?;
    fs::remove_file(&library)?;
    compile(scene, &["-shared", "-fPIC", "-DNUMBER=1", "-o", "libown.so", "own.c"])?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let out = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(0) && out == "READY\n1\n", "with the same library again: {ended}, {out:?}");
    Ok(())
}

fn executable_changed(scene: &Scene) -> Result {
    let images = with_library(scene)?;
    let path = scene.path("work/caller");
    fs::remove_file(&path)?;
    refuse(scene, &images, "caller").doing("the executable is gone")?;
    let go = format!("-DGO=\"{}\"", scene.path("other").display());
    compile(scene, &[&go, "-o", "caller", "caller.c", "-L.", "-lown", "-Wl,-rpath,$ORIGIN"])?;
    refuse(scene, &images, "caller").doing("the executable has changed")
}

const READER: &str = "#include <fcntl.h>\n#include <stdio.h>\n#include <sys/mman.h>\n#include <unistd.h>\n\
    int main(void) {\n char *data = mmap(NULL, 16384, PROT_READ, MAP_PRIVATE, open(DATA, O_RDONLY), 0);\n\
    close(3);\n puts(\"READY\"); fflush(stdout);\n while (access(GO, F_OK)) usleep(1000);\n\
    printf(\"%c%c\\n\", data[0], data[16383]);\n return 0;\n}\n";

/// A file without a build id of which a program has mapped clean pages: recognised by inode, size and time, else by its
/// contents, else refused by name.
fn data_file(scene: &Scene, compress: &str) -> Result {
    let (work, data) = (scene.path("work"), scene.path("work/data"));
    let (right, wrong) = ([b'x'; 16384], [[b'x'; 8192], [b'y'; 8192]].concat());
    fs::write(&data, right)?;
    scene.own(&data)?;
    let modified = fs::metadata(&data)?.modified()?;
    fs::write(work.join("reader.c"), READER)?;
    let (go, name) = (format!("-DGO=\"{}\"", scene.path("go").display()), format!("-DDATA=\"{}\"", data.display()));
    compile(scene, &[&go, &name, "-o", "reader", "reader.c"])?;
    let words = [Path::new("zap-launch"), Path::new("--compress"), Path::new(compress), &work.join("reader")];
    let running = scene.start(scene.words(&words), &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    scene.go()?;
    let accept = |what: &str| {
        let out = scene.path("out-again");
        fs::write(&out, "READY\n")?;
        scene.own(&out)?;
        let running = scene.restart(&[], &images, &out)?;
        let ended = scene.wait(running)?.ended;
        let said = fs::read_to_string(&out)?;
        ensure!(ended == Ended::Exited(0) && said == "READY\nxx\n", "{what}: {ended}, {said:?}");
        Ok(())
    };
    let copied = |contents: &[u8]| -> Result {
        let copy = work.join("copy");
        fs::write(&copy, contents)?;
        fs::File::options().write(true).open(&copy)?.set_modified(modified)?;
        scene.own(&copy)?;
        Ok(fs::rename(&copy, &data)?)
    };
    accept("as it was")?;
    fs::write(&data, right)?;
    accept("written again with the same contents")?;
    fs::write(&data, &wrong)?;
    refuse(scene, &images, "work/data: has changed since the checkpoint: it has other contents")?;
    copied(&right)?;
    accept("a copy with the same time")?;
    copied(&wrong)?;
    refuse(scene, &images, "work/data: has changed since the checkpoint: it has other contents")
        .doing("another file with the same size and time")?;
    copied(&right[..16000])?;
    refuse(scene, &images, "work/data: has changed since the checkpoint: 16000 bytes")?;
    fs::remove_file(&data)?;
    refuse(scene, &images, "work/data").doing("the file is gone")
}

/// An open file that was cut since is refused by name; as long as it was, or longer, it is taken.
fn open_file_shorter(scene: &Scene) -> Result {
    let script = "exec 3<data; read line <&3; echo READY; until test -e \"$0\"; do :; done; read line <&3; echo $line";
    let data = scene.path("work/data");
    fs::write(&data, "one\ntwo\n")?;
    scene.own(&data)?;
    let mut command = scene.words(&["zap-launch", "/bin/sh", "-c", script]);
    command.arg(scene.path("go"));
    let running = scene.start(command, &scene.out())?;
    scene.wait_ready(running, 1)?;
    let images = scene.checkpoint_and_kill(running)?;
    for shorter in ["one\ntwo", "one\n", ""] {
        fs::write(&data, shorter)?;
        refuse(scene, &images, "work/data: is shorter than at the checkpoint")?;
    }
    // Opened, it would wait for its other end.
    let aside = scene.path("aside");
    fs::rename(&data, &aside)?;
    ensure!(scene.run(&["mkfifo", &data.to_string_lossy()])?.status == 0, "mkfifo");
    refuse(scene, &images, "work/data: is no longer a regular file")?;
    fs::remove_file(&data)?;
    fs::rename(&aside, &data)?;
    fs::write(&data, "one\ntwo\nthree\n")?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    let ended = scene.wait(running)?.ended;
    let out = fs::read_to_string(scene.out())?;
    ensure!(ended == Ended::Exited(0) && out == "READY\ntwo\n", "with a longer file: {ended}, {out:?}");
    Ok(())
}
