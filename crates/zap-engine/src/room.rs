//! How much memory there is for copies: what the host has left, and each control group that the process is in (cgroups(7)),
//! whose limits end with the kernel killing one of its processes too. The coordinator adds up what all processes of the
//! pod want.

use crate::memory::read_all;
use crate::mounts::Mounts;
use alloc::string::String;
use alloc::vec::Vec;
use zap_sys::path::CPath;
use zap_sys::text::{decimal, field};
use zap_sys::{fd, PAGE_SIZE};
use zap_wire::message::MemoryLimit;

/// The files of a control group: its limits, what it has taken, and in memory.stat what of that it can give back.
struct Files {
    limits: &'static [&'static [u8]],
    taken: &'static [u8],
    cached: &'static [u8],
}

/// Version 2: above memory.high nobody is killed, but nobody gets on either.
const UNIFIED: Files =
    Files { limits: &[b"memory.max", b"memory.high"], taken: b"memory.current", cached: b"inactive_file " };
/// Version 1.
const MEMORY: Files =
    Files { limits: &[b"memory.limit_in_bytes"], taken: b"memory.usage_in_bytes", cached: b"total_inactive_file " };

/// All that limits the memory of the calling process, as far as it can be seen from here.
pub fn limits() -> Vec<MemoryLimit> {
    let mut found: Vec<MemoryLimit> = host().into_iter().collect();
    let groups = read_all(c"/proc/thread-self/cgroup").unwrap_or_default();
    let mounts = Mounts::read();
    for line in groups.split(|c| *c == b'\n') {
        // hierarchy:controllers:path; no controllers are version 2.
        let mut parts = line.splitn(3, |c| *c == b':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let has_memory = |list: &[u8]| list.split(|c| *c == b',').any(|name| name == b"memory");
        let (files, kind): (_, &[u8]) = match controllers {
            b"" => (&UNIFIED, b"cgroup2"),
            list if has_memory(list) => (&MEMORY, b"cgroup"),
            _ => continue,
        };
        for mount in mounts.iter().filter(|mount| mount.kind == kind) {
            if kind == b"cgroup2" || has_memory(mount.options) {
                for directory in directories(&mount.root(), &mount.point(), path) {
                    found.extend(group(&directory, files));
                }
            }
        }
    }
    found
}

fn host() -> Option<MemoryLimit> {
    let text = read_all(c"/proc/meminfo").ok()?;
    let available = (decimal(field(&text, b"MemAvailable:")?).0 as u64).saturating_mul(1024);
    Some(MemoryLimit { group: (0, 0), path: String::new(), available })
}

/// The directories of the group `path` and of those above it, where the hierarchy's directory `root` is mounted at `point`.
/// A container sees its part of the hierarchy only.
fn directories(root: &[u8], point: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    let below = match path.strip_prefix(root) {
        Some(below) if below.is_empty() || below.starts_with(b"/") => below,
        _ => return Vec::new(),
    };
    let below = below.strip_suffix(b"/").unwrap_or(below);
    let mut found = Vec::new();
    let mut end = below.len();
    loop {
        found.push([point, &below[..end]].concat());
        match below[..end].iter().rposition(|c| *c == b'/') {
            Some(at) => end = at,
            None => return found,
        }
    }
}

/// What a control group leaves; nothing if it has no limit.
fn group(directory: &[u8], files: &Files) -> Option<MemoryLimit> {
    let mut buffer = alloc::vec![0u8; 2 * PAGE_SIZE];
    let mut read = |name: &[u8]| -> Option<Vec<u8>> {
        let path = CPath::new(&[directory, b"/", name].concat())?;
        Some(fd::read_file(path.as_c_str(), &mut buffer).ok()?.to_vec())
    };
    let number = |text: Vec<u8>| text.first().is_some_and(u8::is_ascii_digit).then(|| decimal(&text).0 as u64);
    // Without one it says "max".
    let limit = files.limits.iter().filter_map(|name| read(name).and_then(number)).min()?;
    let taken = read(files.taken).and_then(number)?;
    let cached = read(b"memory.stat").and_then(|text| Some(decimal(field(&text, files.cached)?).0 as u64));
    let stat = fd::stat(CPath::new(directory)?.as_c_str()).ok()?;
    Some(MemoryLimit {
        group: (stat.st_dev, stat.st_ino),
        path: String::from_utf8_lossy(directory).into_owned(),
        available: limit.saturating_sub(taken.saturating_sub(cached.unwrap_or(0))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_above() {
        for (root, path, expected) in [
            ("/", "/", &["/g"][..]),
            ("/", "/a/b", &["/g/a/b", "/g/a", "/g"]),
            ("/docker/1", "/docker/1", &["/g"]),
            ("/docker/1", "/docker/1/x", &["/g/x", "/g"]),
            ("/docker/1", "/docker/12", &[]),
            ("/docker/1", "/other", &[]),
        ] {
            let found = directories(root.as_bytes(), b"/g", path.as_bytes());
            assert!(
                found.iter().map(|path| &path[..]).eq(expected.iter().map(|path| path.as_bytes())),
                "{root} {path}"
            );
        }
    }

    #[test]
    fn what_a_group_leaves() {
        let directory = std::env::temp_dir().join(format!("zap-room-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        let left = || {
            let path = directory.to_str().unwrap().as_bytes();
            group(path, &UNIFIED).map(|limit| limit.available)
        };
        assert_eq!(left(), None);
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left(), None, "no limit");
        write("memory.high", "1000\n");
        assert_eq!(left(), Some(300));
        write("memory.max", "900\n");
        assert_eq!(left(), Some(200));
        write("memory.stat", "anon 600\nfile 100\ninactive_file 90\n");
        assert_eq!(left(), Some(290));
        write("memory.max", "100\n");
        assert_eq!(left(), Some(0));
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn this_machine() {
        assert!(limits().iter().any(|limit| limit.group == (0, 0) && limit.available > 0));
    }
}
