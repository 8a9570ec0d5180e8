//! Images that cannot be written: the checkpoint fails and says why, the program goes on, older images are intact.

use crate::case::{failed, skipped, Case, Doing, Result};
use crate::ensure;
use crate::process;
use crate::scene::{Running, Scene};
use crate::special::{is_root, start_simple};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Name, what makes writing impossible, what makes it possible again, a word of the message.
struct Trouble {
    name: &'static str,
    /// Of zap-launch.
    options: &'static [&'static str],
    root_only: bool,
    ordinary_only: bool,
    before: fn(&Scene) -> Result,
    make: fn(&Scene, Running) -> Result,
    /// None where it stays as it is.
    undo: Option<fn(&Scene, Running) -> Result>,
    why: &'static str,
}

pub fn cases() -> Vec<Case> {
    let nothing: fn(&Scene) -> Result = |_| Ok(());
    let table = || {
        [
            Trouble {
                name: "disk-full",
                options: &[],
                root_only: true,
                ordinary_only: false,
                before: |scene| mount(&scene.images(), "size=3m,mode=0700"),
                make: |scene, _| fill(&scene.images().join("ballast")),
                undo: Some(|scene, _| Ok(fs::remove_file(scene.images().join("ballast"))?)),
                why: "space",
            },
            Trouble {
                name: "disk-full-when-compressing",
                options: &["--compress", "lz4"],
                root_only: true,
                ordinary_only: false,
                before: |scene| mount(&scene.images(), "size=50m,mode=0700"),
                // The raw image fits, and nothing else.
                make: |scene, _| {
                    let raw = unpacked_bytes(scene)?;
                    fill_up_to(&scene.images().join("ballast"), raw + 8 * 4096)
                },
                undo: Some(|scene, _| Ok(fs::remove_file(scene.images().join("ballast"))?)),
                why: "compressing: write: no space",
            },
            Trouble {
                name: "quota",
                options: &[],
                root_only: true,
                ordinary_only: false,
                before: mount_with_quotas,
                make: |scene, _| limit_quota(scene, "64k"),
                undo: Some(|scene, _| limit_quota(scene, "none")),
                why: "quota",
            },
            Trouble {
                name: "read-only-file-system",
                options: &[],
                root_only: true,
                ordinary_only: false,
                before: |scene| mount(&scene.images(), "size=3m,mode=0700"),
                make: |scene, _| mount(&scene.images(), "remount,ro"),
                undo: Some(|scene, _| mount(&scene.images(), "remount,rw")),
                why: "read-only",
            },
            Trouble {
                name: "file-size-limit",
                options: &[],
                root_only: false,
                ordinary_only: false,
                before: nothing,
                // The hard limit: nobody without CAP_SYS_RESOURCE raises that again.
                make: |scene, running| limit_file_size(scene, running, "65536:65536"),
                undo: None,
                why: "image: pwrite64: file too large",
            },
            Trouble {
                name: "file-size-limit-when-compressing",
                options: &["--compress", "lz4"],
                root_only: false,
                ordinary_only: false,
                before: nothing,
                make: |scene, _| limit_file_size(scene, Running { pid: scene.coordinator()? }, "4096:"),
                undo: Some(|scene, _| limit_file_size(scene, Running { pid: scene.coordinator()? }, "unlimited:")),
                why: "compressing: write: file too large",
            },
            Trouble {
                name: "unwritable-directory",
                options: &[],
                root_only: false,
                ordinary_only: true,
                before: nothing,
                make: |scene, _| Ok(fs::set_permissions(scene.images(), Permissions::from_mode(0o500))?),
                undo: Some(|scene, _| Ok(fs::set_permissions(scene.images(), Permissions::from_mode(0o700))?)),
                why: "permission denied",
            },
            Trouble {
                name: "directory-gone",
                options: &[],
                root_only: false,
                ordinary_only: false,
                before: nothing,
                make: |scene, _| Ok(fs::rename(scene.images(), scene.path("images-moved"))?),
                undo: Some(|scene, _| Ok(fs::rename(scene.path("images-moved"), scene.images())?)),
                why: "no such file",
            },
        ]
    };
    let mut cases = Vec::new();
    for ordinary in [false, true] {
        for trouble in table() {
            let name = format!("storage/{}", trouble.name);
            if ordinary && trouble.root_only {
                continue;
            }
            let case = Case::new(name, move |scene| run(scene, &trouble));
            cases.push(if ordinary { case.by_ordinary_user() } else { case });
        }
    }
    cases
}

/// Mounts a part of a btrfs, which has quotas wherever it is, on the images' directory. All of it is at `whole`: in a part
/// that is full the limit cannot be changed.
fn mount_with_quotas(scene: &Scene) -> Result {
    let (disk, whole) = (scene.path("disk"), scene.path("whole"));
    let part = whole.join("part");
    fs::File::create(&disk)?.set_len(128 << 20)?;
    fs::create_dir(&whole)?;
    process::private_mounts()?;
    let succeeds = |words: &[&str], paths: &[&Path]| {
        let output = Command::new(words[0]).args(&words[1..]).args(paths).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !succeeds(&["mkfs.btrfs", "-q"], &[&disk]) {
        return skipped("no mkfs.btrfs");
    }
    if !succeeds(&["mount", "-t", "btrfs", "-o", "loop"], &[&disk, &whole]) {
        return skipped("a btrfs cannot be mounted here");
    }
    let made = succeeds(&["btrfs", "quota", "enable"], &[&whole])
        && succeeds(&["btrfs", "subvolume", "create"], &[&part])
        && succeeds(&["mount", "--bind"], &[&part, &scene.images()]);
    ensure!(made, "a part with a quota cannot be made");
    Ok(fs::set_permissions(scene.images(), Permissions::from_mode(0o700))?)
}

fn limit_quota(scene: &Scene, bytes: &str) -> Result {
    /// The first part of a btrfs (BTRFS_FIRST_FREE_OBJECTID).
    const PART: &str = "0/256";
    let limited = Command::new("btrfs").args(["qgroup", "limit", bytes, PART]).arg(scene.path("whole")).status()?;
    ensure!(limited.success(), "the quota cannot be limited");
    Ok(())
}

fn run(scene: &Scene, trouble: &Trouble) -> Result {
    if trouble.root_only && !is_root(scene) {
        return skipped("only root can mount");
    }
    if trouble.ordinary_only && is_root(scene) {
        return skipped("root may write everywhere; runs as an ordinary user");
    }
    (trouble.before)(scene)?;
    let (program, running) = start_simple(scene, &[&["--keep", "9"], trouble.options].concat())?;
    let older = scene.checkpoint(&[])?;
    let bytes = fs::read(&older[0])?;
    let count = || fs::read_dir(scene.images()).map(|list| list.count());
    let files = count()?;
    (trouble.make)(scene, running)?;
    scene.run(&["zap-command", "--checkpoint"])?.expect(1, trouble.why)?;
    scene.run(&["zap-command", "--checkpoint", "--kill"])?.expect(1, trouble.why)?;
    ensure!(process::lives(running.pid), "the program has died of a checkpoint that could not be written");
    if let Some(undo) = trouble.undo {
        undo(scene, running)?;
    }
    ensure!(count()? == files, "the failed checkpoint left something behind");
    ensure!(fs::read(&older[0])? == bytes, "the older image has changed");
    if trouble.undo.is_some() {
        scene.checkpoint(&[]).doing("when it can be written again")?;
    }
    scene.go()?;
    scene.expect_end(running, &program)?;
    let out = scene.path("out-older");
    fs::write(&out, "READY\n")?;
    scene.own(&out)?;
    let again = scene.restart(&[], &older, &out)?;
    scene.expect_end_in(again, &program, &out).doing("the older image")
}

/// Length of the only image there is, if it were not compressed.
fn unpacked_bytes(scene: &Scene) -> Result<u64> {
    let entry = fs::read_dir(scene.images())?.next().ok_or(std::io::Error::other("no image"))??;
    let bytes = fs::read(entry.path())?;
    match zap_image::Prelude::decode(&bytes, bytes.len() as u64) {
        Ok(prelude) => Ok(prelude.head_length + prelude.extents_length),
        Err(error) => failed(format!("{}: {error}", entry.path().display())),
    }
}

/// Moves the limits on the size of files of the running program: `SOFT:HARD`.
fn limit_file_size(scene: &Scene, running: Running, limit: &str) -> Result {
    let pid = running.pid.to_string();
    scene.run(&["prlimit", "--pid", &pid, &format!("--fsize={limit}")])?.expect(0, "")
}

/// Mounts a tmpfs, or changes a mount, in a mount namespace that only this test has.
pub fn mount(path: &Path, options: &str) -> Result {
    if !options.starts_with("remount") {
        process::private_mounts()?;
    }
    let path = path.to_string_lossy();
    let status = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs", &*path]).status()?;
    if !status.success() {
        return skipped("a tmpfs cannot be mounted here");
    }
    Ok(())
}

/// Fills the file system of `path` but for some pages.
fn fill(path: &Path) -> Result {
    fill_up_to(path, 10 * 4096)
}

/// Fills the file system of `path` but for `left` bytes.
pub fn fill_up_to(path: &Path, left: u64) -> Result {
    use std::io::Write;
    let mut file = fs::File::create(path)?;
    let block = [1u8; 4096];
    let mut written = 0u64;
    while file.write_all(&block).is_ok() {
        written += 4096;
    }
    file.set_len(written.saturating_sub(left))?;
    Ok(())
}
