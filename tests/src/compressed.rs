//! Compressed images: programs with much and with shared memory on the same roads as with raw ones, and what is asked of
//! the images themselves.

use crate::case::{failed, skipped, Case, Doing, Result};
use crate::ensure;
use crate::images::{damage, refuse};
use crate::manifest::Manifest;
use crate::scene::Scene;
use crate::special::{is_root, start_simple};
use crate::state::ROADS;
use crate::storage::{fill_up_to, mount};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zap_image::{Compression, Prelude};

/// Programs whose memory goes every way that memory can go.
const PROGRAMS: [&str; 5] =
    ["heap_and_mmap", "threads", "shared_anonymous", "shared_file_mapping", "file_private_mapping"];

/// What zap-launch is told, and what the images then are.
const WAYS: [(&str, &str, Compression); 2] = [("lz4", "lz4", Compression::Lz4), ("zstd", "zstd:1", Compression::Zstd)];

pub fn cases(manifest: &Manifest) -> Vec<Case> {
    let mut cases = Vec::new();
    for ordinary in [false, true] {
        let own = |case: Case| if ordinary { case.by_ordinary_user() } else { case };
        for (name, option, compression) in WAYS {
            for program in PROGRAMS.iter().filter_map(|name| manifest.find(name)) {
                let roads = ROADS.into_iter().filter(|(road, _)| match *road {
                    // The one is without Zap, the other about clocks.
                    "plain" | "earlier-boot" => false,
                    "clone" => program.alone.is_empty(),
                    _ => true,
                });
                for (road, run) in roads {
                    let program = program.clone();
                    let case = Case::new(format!("compressed/{name}/{}/{road}", program.name), move |scene| {
                        scene.plain(&program)?;
                        scene.use_launch_options(&["--compress", option]);
                        run(scene, &program)
                    });
                    cases.push(own(case));
                }
            }
            let case = |name: String, run: fn(&Scene, &str, Compression) -> Result| {
                own(Case::new(name, move |scene| run(scene, option, compression)))
            };
            cases.push(case(format!("compressed/{name}/sizes"), sizes));
            cases.push(case(format!("compressed/{name}/setting-stays"), setting_stays));
            cases.push(case(format!("compressed/{name}/read-only-directory"), read_only_directory));
        }
    }
    cases.push(Case::new("compressed/lz4/mutations", |scene| damage(scene, &["--compress", "lz4"])).limit(240));
    cases.push(Case::new("compressed/zstd/mutations", |scene| damage(scene, &["--compress", "zstd"])).limit(240));
    cases.push(Case::new("compressed/no-room-to-unpack", no_room_to_unpack));
    cases.push(Case::new("compressed/usage", usage));
    cases.push(Case::new("compressed/usage", usage).by_ordinary_user());
    cases
}

fn prelude(path: &Path) -> Result<Prelude> {
    let bytes = fs::read(path)?;
    Prelude::decode(&bytes, bytes.len() as u64).or_else(|error| failed(format!("{}: {error}", path.display())))
}

/// A compressed image of the simple program, which is killed.
fn image(scene: &Scene, option: &str) -> Result<PathBuf> {
    let (_, running) = start_simple(scene, &["--compress", option])?;
    Ok(scene.checkpoint_and_kill(running)?.remove(0))
}

/// The image is smaller than memory, says so, and the status counts what is on disk.
fn sizes(scene: &Scene, option: &str, compression: Compression) -> Result {
    let (program, running) = start_simple(scene, &["--compress", option])?;
    let path = scene.checkpoint(&[])?.remove(0);
    let (prelude, on_disk) = (prelude(&path)?, fs::metadata(&path)?.len());
    ensure!(prelude.compression == compression, "the image is stored as {:?}", prelude.compression);
    ensure!(on_disk < prelude.extents_length / 2, "{on_disk} bytes of {} are on disk", prelude.extents_length);
    let last = scene.wait_running(1)?[0]["last_checkpoint"].clone();
    ensure!(last["bytes"] == on_disk, "{on_disk} bytes on disk, in the status: {last}");
    let said = scene.run(&[Path::new("zap-image"), Path::new("show"), Path::new("--json"), &path])?;
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
    let shown = &json["images"][0];
    let unpacked = prelude.head_length + prelude.extents_length;
    ensure!(
        shown["compression"] == compression.name() && shown["bytes"] == on_disk && shown["unpacked_bytes"] == unpacked,
        "zap-image show --json: {} {} {}",
        shown["compression"],
        shown["bytes"],
        shown["unpacked_bytes"]
    );
    let said = scene.run(&[Path::new("zap-image"), Path::new("show"), &path])?;
    ensure!(said.out.contains(&format!("compressed {}, {unpacked} bytes", compression.name())), "{}", said.out);
    scene.run(&[Path::new("zap-image"), Path::new("verify"), &path])?.expect(0, "")?;
    let left = fs::read_dir(scene.images())?.count();
    ensure!(left == 1, "beside the image {} files are left", left - 1);
    let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
    ensure!(mode == 0o600, "the image has mode {mode:o}");
    scene.go()?;
    scene.expect_end(running, &program)
}

/// After a restart, with and without `--verify`, the next images are compressed too.
fn setting_stays(scene: &Scene, option: &str, compression: Compression) -> Result {
    let (program, running) = start_simple(scene, &["--compress", option])?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&["--verify"], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let after = prelude(&images[0])?.compression;
    ensure!(after == compression, "the image after the restart is stored as {after:?}");
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)
}

/// Where nothing can be unpacked beside the image it is unpacked in memory.
fn read_only_directory(scene: &Scene, option: &str, _: Compression) -> Result {
    if is_root(scene) {
        // Root may write everywhere but to what is mounted so.
        mount(&scene.images(), "size=50m,mode=0700")?;
    }
    let (program, running) = start_simple(scene, &["--compress", option])?;
    let images = scene.checkpoint_and_kill(running)?;
    if is_root(scene) {
        mount(&scene.images(), "remount,ro")?;
    } else {
        fs::set_permissions(scene.images(), Permissions::from_mode(0o500))?;
    }
    let next = scene.make_directory("next", 0o700)?;
    let running = scene.restart(&["--ckpt-dir", &next.to_string_lossy()], &images, &scene.out())?;
    scene.wait_running(1)?;
    let images = scene.checkpoint_and_kill(running)?;
    let running = scene.restart(&[], &images, &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program)?;
    fs::set_permissions(scene.images(), Permissions::from_mode(0o700)).or_else(|error| match is_root(scene) {
        true => Ok(()),
        false => Err(error),
    })?;
    Ok(())
}

/// A full disk: refused with 125 before anything starts, and the image is as it was.
fn no_room_to_unpack(scene: &Scene) -> Result {
    if !is_root(scene) {
        return skipped("only root can mount");
    }
    mount(&scene.images(), "size=50m,mode=0700")?;
    let path = image(scene, "zstd")?;
    let before = fs::read(&path)?;
    let ballast = scene.images().join("ballast");
    fill_up_to(&ballast, 10 * 4096)?;
    refuse(scene, std::slice::from_ref(&path), "unpack")?;
    ensure!(fs::read(&path)? == before, "the image has changed");
    fs::remove_file(ballast)?;
    let program = scene.program(crate::special::SIMPLE)?;
    let running = scene.restart(&[], &[path], &scene.out())?;
    scene.go()?;
    scene.expect_end(running, &program).doing("when there is room")
}

fn usage(scene: &Scene) -> Result {
    for wrong in ["gzip", "zstd:0", "zstd:23", "lz4:1", ""] {
        scene.run(&["zap-launch", "--compress", wrong, "true"])?.expect(125, "zstd").doing(wrong)?;
    }
    Ok(())
}
