//! By which paths the program watches files (inotify(7)): the kernel tells device and inode number of a watch alone.
//!
//! # Safety
//! A static is placed in a section of the library's own.
#![allow(unsafe_code)]

use crate::guard::Guard;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ffi::CStr;
use zap_plugin::WatchedPath;
use zap_sys::fd;
use zap_sys::futex::FutexLock;
use zap_sys::path::{CPath, PATH_MAX};

/// How many are noted before it is looked which of them are still there.
const FIRST_LOOK: usize = 1024;

/// More are not noted: watches of theirs are refused by name at a checkpoint.
const MOST: usize = 1 << 18;

struct All {
    /// By inode number and device.
    paths: BTreeMap<(u64, u64), WatchedPath>,
    look_at: usize,
}

impl All {
    const fn new() -> Self {
        Self { paths: BTreeMap::new(), look_at: FIRST_LOOK }
    }
}

#[link_section = ".zap.child"]
static ALL: FutexLock<All> = FutexLock::new(All::new());

/// The program watches the file `path` now, or, where it does not `follow`, the symbolic link.
pub fn note(path: &CStr, follow: bool) {
    // By a handler on top of another call of this thread.
    if ALL.is_held_here() {
        return;
    }
    let Some(path) = absolute(path.to_bytes()).map(|path| WatchedPath { path, follow }) else { return };
    let Some(name) = identity(&path) else { return };
    let _guard = Guard::enter();
    let mut all = ALL.lock();
    if all.paths.len() >= all.look_at {
        all.paths.retain(|name, path| identity(path) == Some(*name));
        all.look_at = (all.paths.len() * 2).clamp(FIRST_LOOK, MOST);
    }
    if all.paths.len() < MOST {
        all.paths.insert(name, path);
    }
}

/// The path by which a file was watched that still is there; `device` decides among files of the same number (the kernel's own
/// name of a file system is not always that of stat(2)). To be asked while the program is suspended.
pub fn path_of(inode: u64, device: u64) -> Option<WatchedPath> {
    let all = ALL.lock();
    let is_there = |(name, path): &(&(u64, u64), &WatchedPath)| identity(path) == Some(**name);
    let of_number = || all.paths.range((inode, 0)..=(inode, u64::MAX)).filter(is_there);
    let mut others = of_number();
    match (of_number().find(|(name, _)| name.1 == device), others.next(), others.next()) {
        (Some((_, path)), ..) | (None, Some((_, path)), None) => Some(path.clone()),
        _ => None,
    }
}

/// In the child of a fork: nobody holds the list's lock.
#[inline]
pub fn begin_in_child() {
    if ALL.reset() {
        // Copied half changed.
        core::mem::forget(core::mem::replace(&mut *ALL.lock(), All::new()));
    }
}

fn absolute(path: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    if !path.starts_with(b"/") {
        let mut buffer = [0u8; PATH_MAX];
        whole.extend_from_slice(fd::current_directory(&mut buffer).ok()?);
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    Some(whole)
}

/// Inode number and device of what the path names now.
fn identity(path: &WatchedPath) -> Option<(u64, u64)> {
    let name = CPath::new(&path.path)?;
    let stat = if path.follow { fd::stat(name.as_c_str()) } else { fd::link_stat(name.as_c_str()) };
    stat.ok().map(|stat| (stat.st_ino, stat.st_dev))
}
