//! By which paths the program watches files (inotify(7)): the kernel tells device and inode number of a watch alone.
//!
//! Noted when the program begins to watch, for as long as the path leads somewhere. What it leads to may have another number
//! since: a restart may find other files.
//!
//! # Safety
//! A static is placed in a section of the library's own.
#![allow(unsafe_code)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ffi::CStr;
use core::ops::Bound;
use zap_plugin::WatchedPath;
use zap_sys::futex::FutexLock;
use zap_sys::path::{CPath, PATH_MAX};
use zap_sys::{fd, libc, signal};

/// More are not noted: their watches are refused by name at a checkpoint.
const MOST: usize = 1 << 16;

/// After so many new ones as many are looked at whether they are still there, in turn.
const PORTION: usize = 32;

/// Inode number and device.
type Name = (u64, u64);

/// A path, and whether a symbolic link at its end is followed.
type Path = (Vec<u8>, bool);

struct All {
    paths: BTreeSet<Path>,
    /// What they led to at the last checkpoint.
    leads: BTreeMap<Name, Path>,
    noted: usize,
    /// The last that has been looked at.
    looked: Option<Path>,
}

impl All {
    const fn new() -> Self {
        Self { paths: BTreeSet::new(), leads: BTreeMap::new(), noted: 0, looked: None }
    }

    /// The path that leads to a file now; one of the same number on another device is not sure.
    fn find(&self, name: Name) -> Option<WatchedPath> {
        let still = |(name, path): &(&Name, &Path)| identity(path) == Some(**name);
        let watched = |path: &Path, is_sure| WatchedPath { path: path.0.clone(), follow: path.1, is_sure };
        if let Some((_, path)) = self.leads.get_key_value(&name).filter(still) {
            return Some(watched(path, true));
        }
        let mut others = self.leads.range((name.0, 0)..=(name.0, u64::MAX)).filter(still);
        match (others.next(), others.next()) {
            (Some((_, path)), None) => Some(watched(path, false)),
            _ => None,
        }
    }
}

#[link_section = ".zap.child"]
static ALL: FutexLock<All> = FutexLock::new(All::new());

/// Works on the list while no signal comes: a handler of the program's might watch something too, fork, or never return.
fn alone<R>(work: impl FnOnce(&mut All) -> R) -> Option<R> {
    let mask = signal::change_mask(libc::SIG_BLOCK, !0).ok()?;
    let result = work(&mut ALL.lock());
    let _ = signal::change_mask(libc::SIG_SETMASK, mask);
    Some(result)
}

/// The program watches the file `path` now, or, where it does not `follow`, the symbolic link.
pub fn note(path: &CStr, follow: bool) {
    let Some(path) = lasting(path.to_bytes(), follow) else { return };
    let due = alone(|all| {
        if all.paths.len() < MOST {
            all.paths.insert((path, follow));
        }
        all.noted = all.noted.wrapping_add(1);
        all.noted % PORTION == 0
    });
    if due == Some(true) {
        look();
    }
}

/// Looks at the next few, and forgets those that lead nowhere. Not while the list is held: a path may lead to a file system that
/// does not answer.
fn look() {
    let portion = alone(|all| {
        let after = all.looked.take().map_or(Bound::Unbounded, Bound::Excluded);
        let portion: Vec<Path> = all.paths.range((after, Bound::Unbounded)).take(PORTION).cloned().collect();
        all.looked = portion.last().cloned();
        portion
    });
    for path in portion.unwrap_or_default() {
        if identity(&path).is_none() {
            alone(|all| all.paths.remove(&path));
        }
    }
}

/// The path by which a file was watched, and that leads to it now. To be asked while the program is suspended.
pub fn path_of(inode: u64, device: u64) -> Option<WatchedPath> {
    alone(|all| {
        all.find((inode, device)).or_else(|| {
            all.leads = all.paths.iter().filter_map(|path| Some((identity(path)?, path.clone()))).collect();
            all.find((inode, device))
        })
    })?
}

/// After a restart: directories may be elsewhere.
pub fn move_paths(path_now: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    alone(|all| {
        let moved = |(path, follow): Path| (path_now(&path).unwrap_or(path), follow);
        all.paths = core::mem::take(&mut all.paths).into_iter().map(moved).collect();
        // What they lead to now is found anew.
        all.leads.clear();
        all.looked = None;
    });
}

/// In the child of a fork: nobody holds the list's lock.
#[inline]
pub fn begin_in_child() {
    if ALL.reset() {
        // Copied half changed.
        core::mem::forget(core::mem::replace(&mut *ALL.lock(), All::new()));
    }
}

/// The path in a form that a restart finds too: absolute, and not by way of the process's own descriptors and ids.
fn lasting(path: &[u8], follow: bool) -> Option<Vec<u8>> {
    let mut buffer = [0u8; PATH_MAX];
    let mut whole = Vec::new();
    if !path.starts_with(b"/") {
        whole.extend_from_slice(fd::current_directory(&mut buffer).ok()?);
        whole.push(b'/');
    }
    whole.extend_from_slice(path);
    if ![b"/proc/".as_slice(), b"/dev/fd/"].iter().any(|passing| whole.starts_with(passing)) {
        return Some(whole);
    }
    let name = CPath::new(&whole).filter(|_| follow)?;
    let link = fd::read_link(name.as_c_str(), &mut buffer).ok()?;
    link.starts_with(b"/").then(|| link.to_vec())
}

/// What the path leads to now.
fn identity((path, follow): &Path) -> Option<Name> {
    let name = CPath::new(path)?;
    let stat = if *follow { fd::stat(name.as_c_str()) } else { fd::link_stat(name.as_c_str()) };
    stat.ok().map(|stat| (stat.st_ino, stat.st_dev))
}
