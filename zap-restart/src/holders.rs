//! Who has files open, of all processes of this host that may be looked into.
//!
//! # Safety
//! statx(2) fills a struct of plain numbers.
#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use zap_client::{Connection, RuntimeDir};
use zap_sys::maps;
use zap_wire::message::PodStatus;
use zap_wire::{FromCoordinator, ToCoordinator};

/// Device and inode.
pub type FileId = (u64, u64);

/// Who else has the files `wanted` open, or mapped so that it sees what is written: a process of a living pod, or any that
/// may write to it.
pub fn find(wanted: &BTreeSet<FileId>) -> BTreeMap<FileId, String> {
    let pods = pods();
    let pod_of = |pid: i32| pods.iter().find(|pod| pod.processes.iter().any(|process| process.pid == pid));
    let own = std::process::id() as i32;
    let mut found = BTreeMap::new();
    for pid in numbers(Path::new("/proc")).into_iter().filter(|pid| *pid != own) {
        let mut note = |file: FileId, may_write: bool| {
            let name = match pod_of(pid) {
                Some(pod) => Some(format!("pod {}", pod.name)),
                None => may_write.then(|| format!("process {pid}")),
            };
            if let Some(name) = name {
                found.entry(file).or_insert(name);
            }
        };
        for number in numbers(&PathBuf::from(format!("/proc/{pid}/fd"))) {
            let file = identity(&format!("/proc/{pid}/fd/{number}"));
            if let Some(file) = file.filter(|file| wanted.contains(file)) {
                note(file, may_write(pid, number));
            }
        }
        let text = fs::read(format!("/proc/{pid}/maps")).unwrap_or_default();
        for mapping in maps::parse(&text).filter(|mapping| mapping.shared) {
            let file = (libc::makedev(mapping.device.0, mapping.device.1), mapping.inode);
            if wanted.contains(&file) {
                note(file, true);
            }
        }
    }
    found
}

/// The names in a directory that are numbers.
fn numbers(directory: &Path) -> Vec<i32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What the path leads to, as far as this host knows: a file server that does not answer is not asked.
fn identity(path: &str) -> Option<FileId> {
    let path = CString::new(path).ok()?;
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: a string, and a struct to be filled.
    let result = unsafe {
        libc::statx(libc::AT_FDCWD, path.as_ptr(), libc::AT_STATX_DONT_SYNC, libc::STATX_INO, stat.as_mut_ptr())
    };
    // SAFETY: numbers only, zeroes at first.
    let stat = unsafe { stat.assume_init() };
    (result == 0).then(|| (libc::makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}

fn may_write(pid: i32, number: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| i32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// The pods that live; none if there is no coordinator to ask.
fn pods() -> Vec<PodStatus> {
    let Ok(Some(runtime)) = RuntimeDir::open() else { return Vec::new() };
    match Connection::request(&runtime, &ToCoordinator::Status) {
        Ok(FromCoordinator::Status(status)) => status.pods,
        _ => Vec::new(),
    }
}
