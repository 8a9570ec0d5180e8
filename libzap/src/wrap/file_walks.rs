//! glob(3), ftw(3) and nftw(3), which look at files by libc's own functions inside: where the pod has directories of its own, or knows
//! files by other numbers, they look by those that the program calls.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, c_void, CStr};
use libc::{dirent, DIR};
use redhook::{hook, real};
use std::vec::Vec;
use zap_engine::{inodes, private, state};

super::resolve_all!(glob, glob64, ftw, ftw64, nftw, nftw64);

type Failed = Option<unsafe extern "C" fn(*const c_char, c_int) -> c_int>;

/// `glob_t` of glibc, whose functions are the program's business only with GLOB_ALTDIRFUNC.
#[repr(C)]
pub struct Globbed {
    count: usize,
    paths: *mut *mut c_char,
    reserved: usize,
    flags: c_int,
    close: Option<unsafe extern "C" fn(*mut c_void)>,
    read: Option<unsafe extern "C" fn(*mut c_void) -> *mut dirent>,
    open: Option<unsafe extern "C" fn(*const c_char) -> *mut c_void>,
    link_stat: Option<unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int>,
    stat: Option<unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int>,
}

const GLOB_ALTDIRFUNC: c_int = 1 << 9;

unsafe extern "C" fn open(path: *const c_char) -> *mut c_void {
    // SAFETY: libc's string.
    unsafe { libc::opendir(path).cast() }
}

unsafe extern "C" fn read(stream: *mut c_void) -> *mut dirent {
    // SAFETY: what `open` has given.
    unsafe { libc::readdir(stream.cast()) }
}

unsafe extern "C" fn close(stream: *mut c_void) {
    // SAFETY: as above.
    unsafe { libc::closedir(stream.cast()) };
}

/// Makes `call` with functions in the place of libc's own.
///
/// # Safety
/// The caller's argument of glob(3).
#[cold]
unsafe fn by_wrappers(flags: c_int, globbed: *mut Globbed, call: &dyn Fn(c_int) -> c_int) -> c_int {
    if flags & GLOB_ALTDIRFUNC != 0 || globbed.is_null() || !state::active() {
        return call(flags);
    }
    // SAFETY: the caller's structure.
    let globbed = unsafe { &mut *globbed };
    let own = (globbed.close, globbed.read, globbed.open, globbed.link_stat, globbed.stat);
    globbed.close = Some(close);
    globbed.read = Some(read);
    globbed.open = Some(open);
    globbed.link_stat = Some(libc::lstat);
    globbed.stat = Some(libc::stat);
    let result = call(flags | GLOB_ALTDIRFUNC);
    (globbed.close, globbed.read, globbed.open, globbed.link_stat, globbed.stat) = own;
    globbed.flags &= !GLOB_ALTDIRFUNC;
    result
}

hook! { unsafe fn glob(pattern: *const c_char, flags: c_int, failed: Failed, globbed: *mut Globbed) -> c_int => zap_glob {
    // SAFETY: the caller's arguments.
    let call = |flags| unsafe { real!(glob)(pattern, flags, failed, globbed) };
    if private::by_names() {
        // SAFETY: the caller's arguments.
        return unsafe { by_wrappers(flags, globbed, &call) };
    }
    call(flags)
} }

hook! { unsafe fn glob64(pattern: *const c_char, flags: c_int, failed: Failed, globbed: *mut Globbed) -> c_int
=> zap_glob64 {
    // SAFETY: the caller's arguments.
    let call = |flags| unsafe { real!(glob64)(pattern, flags, failed, globbed) };
    if private::by_names() {
        // SAFETY: the caller's arguments.
        return unsafe { by_wrappers(flags, globbed, &call) };
    }
    call(flags)
} }

/// `struct FTW`.
#[repr(C)]
pub struct Level {
    base: c_int,
    level: c_int,
}

type Visit = unsafe extern "C" fn(*const c_char, *const libc::stat, c_int) -> c_int;
type VisitLevel = unsafe extern "C" fn(*const c_char, *const libc::stat, c_int, *mut Level) -> c_int;

/// What the program wants to be called.
#[derive(Clone, Copy)]
enum Visitor {
    Old(Visit),
    New(VisitLevel),
}

// Types of files, and flags (ftw.h).
const FILE: c_int = 0;
const DIRECTORY: c_int = 1;
const UNREADABLE: c_int = 2;
const NO_STAT: c_int = 3;
const LINK: c_int = 4;
const DIRECTORY_DONE: c_int = 5;
const DANGLING: c_int = 6;
const PHYSICAL: c_int = 1;
const ON_ONE_DEVICE: c_int = 2;
const CHANGES_DIRECTORY: c_int = 4;
const DEPTH_FIRST: c_int = 8;
const ACTIONS: c_int = 16;
/// What a function may return with FTW_ACTIONRETVAL.
const SKIP_SUBTREE: c_int = 2;
const SKIP_SIBLINGS: c_int = 3;

/// A walk through a tree of files.
struct Walk {
    visitor: Visitor,
    flags: c_int,
    device: libc::dev_t,
    /// With a NUL behind it.
    path: Vec<u8>,
    /// Directories that have been entered, where links are followed: they may lead in circles.
    seen: Vec<(libc::dev_t, libc::ino_t)>,
}

/// How it goes on.
enum Goes {
    On,
    /// Past what is left of the directory.
    Up,
    /// To its end, with this result.
    Over(c_int),
}

impl Walk {
    fn path(&self) -> *const c_char {
        self.path.as_ptr().cast()
    }

    fn visit(&self, stat: &libc::stat, kind: c_int, base: usize, level: c_int) -> c_int {
        let mut place = Level { base: base as c_int, level };
        // SAFETY: the program's function, with a path and structures that outlive the call.
        unsafe {
            match self.visitor {
                Visitor::Old(visit) => visit(self.path(), stat, kind),
                Visitor::New(visit) => visit(self.path(), stat, kind, &mut place),
            }
        }
    }

    /// What a result of the program's function says of what is not a directory.
    fn goes(&self, result: c_int) -> Goes {
        match result {
            0 => Goes::On,
            SKIP_SUBTREE if self.flags & ACTIONS != 0 => Goes::On,
            SKIP_SIBLINGS if self.flags & ACTIONS != 0 => Goes::Up,
            other => Goes::Over(other),
        }
    }

    /// By which name the file is to be looked at: the directory has been changed to the one it lies in.
    fn name(&self, base: usize) -> *const c_char {
        if self.flags & CHANGES_DIRECTORY != 0 {
            self.path.get(base..).map_or(self.path(), |name| name.as_ptr().cast())
        } else {
            self.path()
        }
    }

    /// Visits the file at the path, whose name begins at `base`.
    fn file(&mut self, base: usize, level: c_int) -> Goes {
        // SAFETY: all-zero is a valid structure; the calls fill it.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        let name = self.name(base);
        let is_physical = self.flags & PHYSICAL != 0;
        // SAFETY: strings and structures of our own.
        let (found, is_link) = unsafe {
            if is_physical {
                (libc::lstat(name, &mut stat) == 0, stat.st_mode & libc::S_IFMT == libc::S_IFLNK)
            } else if libc::stat(name, &mut stat) == 0 {
                (true, false)
            } else {
                (libc::lstat(name, &mut stat) == 0, stat.st_mode & libc::S_IFMT == libc::S_IFLNK)
            }
        };
        if !found {
            // SAFETY: errno's address is valid in every thread.
            let errno = unsafe { *libc::__errno_location() };
            if level == 0 || !matches!(errno, libc::EACCES | libc::ENOENT) {
                return Goes::Over(-1);
            }
            let result = self.visit(&stat, NO_STAT, base, level);
            return self.goes(result);
        }
        if self.flags & ON_ONE_DEVICE != 0 && level > 0 && stat.st_dev != self.device {
            return Goes::On;
        }
        if level == 0 {
            self.device = stat.st_dev;
        }
        if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            return self.directory(&stat, base, level);
        }
        let kind = match (is_link, is_physical, self.visitor) {
            (false, ..) => FILE,
            (true, true, _) => LINK,
            (true, false, Visitor::New(_)) => DANGLING,
            (true, false, Visitor::Old(_)) => NO_STAT,
        };
        let result = self.visit(&stat, kind, base, level);
        self.goes(result)
    }

    fn directory(&mut self, stat: &libc::stat, base: usize, level: c_int) -> Goes {
        if self.flags & PHYSICAL == 0 {
            if self.seen.contains(&(stat.st_dev, stat.st_ino)) {
                return Goes::On;
            }
            self.seen.push((stat.st_dev, stat.st_ino));
        }
        // SAFETY: a string of our own.
        let stream = unsafe { libc::opendir(self.name(base)) };
        if stream.is_null() {
            // SAFETY: errno's address is valid in every thread.
            if unsafe { *libc::__errno_location() } != libc::EACCES {
                return Goes::Over(-1);
            }
            let result = self.visit(stat, UNREADABLE, base, level);
            return self.goes(result);
        }
        let is_before = self.flags & DEPTH_FIRST == 0;
        if is_before {
            let result = self.visit(stat, DIRECTORY, base, level);
            if result != 0 {
                // SAFETY: a stream of our own.
                unsafe { libc::closedir(stream) };
                return self.goes(result);
            }
        }
        let changed = self.flags & CHANGES_DIRECTORY != 0;
        let inside = if changed {
            // SAFETY: as above.
            unsafe { self.entries_from_inside(stream, level) }
        } else {
            self.entries(stream, level)
        };
        // SAFETY: as above.
        unsafe { libc::closedir(stream) };
        if let Goes::Over(result) = inside {
            return Goes::Over(result);
        }
        if is_before {
            return Goes::On;
        }
        let result = self.visit(stat, DIRECTORY_DONE, base, level);
        self.goes(result)
    }

    /// As [`Walk::entries`], in the directory, from which it comes back.
    ///
    /// # Safety
    /// A stream of our own.
    unsafe fn entries_from_inside(&mut self, stream: *mut DIR, level: c_int) -> Goes {
        let Some(back) = here() else { return Goes::Over(-1) };
        // SAFETY: the caller's promise, and a descriptor of our own.
        unsafe {
            let inside = match libc::fchdir(libc::dirfd(stream)) {
                0 => self.entries(stream, level),
                _ => Goes::Over(-1),
            };
            let returned = libc::fchdir(back);
            libc::close(back);
            if returned == 0 {
                inside
            } else {
                Goes::Over(-1)
            }
        }
    }

    fn entries(&mut self, stream: *mut DIR, level: c_int) -> Goes {
        let length = self.path.len() - 1;
        loop {
            // SAFETY: a stream of our own.
            let entry = unsafe { libc::readdir(stream) };
            if entry.is_null() {
                return Goes::On;
            }
            // SAFETY: libc's entry.
            let name = unsafe { CStr::from_ptr((&raw const (*entry).d_name).cast()) }.to_bytes_with_nul();
            if matches!(name, b".\0" | b"..\0") {
                continue;
            }
            self.path.truncate(length);
            if !self.path.ends_with(b"/") {
                self.path.push(b'/');
            }
            let base = self.path.len();
            self.path.extend_from_slice(name);
            let goes = self.file(base, level + 1);
            self.path.truncate(length);
            self.path.push(0);
            match goes {
                Goes::On => {}
                Goes::Up => return Goes::On,
                Goes::Over(result) => return Goes::Over(result),
            }
        }
    }
}

/// nftw(3), and ftw(3).
///
/// # Safety
/// The caller's string and function.
#[cold]
unsafe fn walk(path: *const c_char, visitor: Visitor, flags: c_int) -> c_int {
    // SAFETY: the caller's string.
    let mut text = unsafe { CStr::from_ptr(path) }.to_bytes().to_vec();
    if text.is_empty() {
        return super::fail(libc::ENOENT);
    }
    while text.len() > 1 && text.ends_with(b"/") {
        text.pop();
    }
    let base = text.iter().rposition(|c| *c == b'/').map_or(0, |at| at + 1).min(text.len() - 1);
    text.push(0);
    let mut walk = Walk { visitor, flags, device: 0, path: text, seen: Vec::new() };
    let goes = if flags & CHANGES_DIRECTORY == 0 { walk.file(base, 0) } else { from_its_directory(&mut walk, base) };
    match goes {
        Goes::On | Goes::Up => 0,
        Goes::Over(result) => result,
    }
}

/// The working directory.
fn here() -> Option<c_int> {
    // SAFETY: a constant string.
    let here = unsafe { libc::open(c".".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    (here != -1).then_some(here)
}

/// Walks from the directory in which the first file lies.
fn from_its_directory(walk: &mut Walk, base: usize) -> Goes {
    let Some(back) = here() else { return Goes::Over(-1) };
    let mut above = walk.path.get(..base).unwrap_or_default().to_vec();
    above.push(0);
    // SAFETY: strings and a descriptor of our own.
    unsafe {
        let goes =
            if base > 0 && libc::chdir(above.as_ptr().cast()) != 0 { Goes::Over(-1) } else { walk.file(base, 0) };
        let errno = *libc::__errno_location();
        libc::fchdir(back);
        libc::close(back);
        *libc::__errno_location() = errno;
        goes
    }
}

/// Whether libc's own way does not do.
#[inline(always)]
fn is_own() -> bool {
    (private::by_names() || inodes::differ()) && state::active()
}

hook! { unsafe fn ftw(path: *const c_char, visit: Visit, most: c_int) -> c_int => zap_ftw {
    if is_own() {
        // SAFETY: the caller's arguments, here and below.
        return unsafe { walk(path, Visitor::Old(visit), 0) };
    }
    // SAFETY: as above.
    unsafe { real!(ftw)(path, visit, most) }
} }

hook! { unsafe fn ftw64(path: *const c_char, visit: Visit, most: c_int) -> c_int => zap_ftw64 {
    if is_own() {
        // SAFETY: as above.
        return unsafe { walk(path, Visitor::Old(visit), 0) };
    }
    // SAFETY: as above.
    unsafe { real!(ftw64)(path, visit, most) }
} }

hook! { unsafe fn nftw(path: *const c_char, visit: VisitLevel, most: c_int, flags: c_int) -> c_int => zap_nftw {
    if is_own() {
        // SAFETY: as above.
        return unsafe { walk(path, Visitor::New(visit), flags) };
    }
    // SAFETY: as above.
    unsafe { real!(nftw)(path, visit, most, flags) }
} }

hook! { unsafe fn nftw64(path: *const c_char, visit: VisitLevel, most: c_int, flags: c_int) -> c_int => zap_nftw64 {
    if is_own() {
        // SAFETY: as above.
        return unsafe { walk(path, Visitor::New(visit), flags) };
    }
    // SAFETY: as above.
    unsafe { real!(nftw64)(path, visit, most, flags) }
} }
