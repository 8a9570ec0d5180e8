//! Listings of /proc: the pod's processes, by the ids by which the program knows them, and nobody else's; so of the threads in
//! /proc/<id>/task.
//!
//! Nothing is remembered of a directory: only a name that is an id makes anybody ask what directory it is in.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::file_numbers::{see_entries, see_entry};
use super::private_paths::Own;
use super::proc_paths::{self, Folder};
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void, CStr};
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicUsize, Ordering};
use libc::{dirent, dirent64, size_t, ssize_t, DIR};
use redhook::{hook, real};
use zap_engine::private_paths::Last;
use zap_engine::{identity, inodes, masking, private, state};
use zap_sys::{fd, RawFd, RealPid, VirtualPid};

super::resolve_all!(readdir, readdir64, readdir_r, readdir64_r, scandir, scandir64, scandirat, scandirat64, getdents64,);

// One function serves both.
const _: () = assert!(size_of::<dirent>() == size_of::<dirent64>());

/// What becomes of an entry.
enum Fate {
    Stays,
    /// It is none of the pod's.
    Goes,
    /// A thread by the number that it had before a restart, which came since libc has read the directory.
    Stale,
    Named(VirtualPid),
}

/// Whether an entry may be a process or thread.
fn may_be(kind: u8, first: u8) -> bool {
    matches!(kind, libc::DT_DIR | libc::DT_UNKNOWN) && matches!(first, b'1'..=b'9')
}

/// What becomes of the entry `name` of `directory`.
#[cold]
fn fate(directory: RawFd, name: &[u8]) -> Fate {
    let Some(id) = proc_paths::id(name) else { return Fate::Stays };
    match fd::file_system(directory) {
        Ok(libc::PROC_SUPER_MAGIC) => {
            let folder = Folder::of(directory);
            match fate_in(folder, id) {
                Fate::Stays if folder == Some(Folder::Tasks) && state::moved() && is_gone(directory, id) => Fate::Stale,
                fate => fate,
            }
        }
        _ => Fate::Stays,
    }
}

/// Whether the directory has no such name any more.
fn is_gone(directory: RawFd, id: VirtualPid) -> bool {
    let name = zap_sys::small!("{id}");
    fd::stat_at(directory, name.as_c_str()).is_err_and(|error| error.is(libc::ENOENT))
}

fn fate_in(folder: Option<Folder>, id: VirtualPid) -> Fate {
    let real = RealPid(id.0);
    let known = match folder {
        Some(Folder::Root) => masking::name_of(real),
        Some(Folder::Tasks) => Some(identity::virtual_of(real)),
        None => return Fate::Stays,
    };
    match known {
        Some(known) if known == id => Fate::Stays,
        Some(known) => Fate::Named(known),
        None => Fate::Goes,
    }
}

/// An entry under another name, which has no room where libc has it. It lasts until the next one of the same stream.
struct Renamed {
    stream: AtomicUsize,
    entry: UnsafeCell<dirent>,
}

// SAFETY: whoever reads a stream has it to itself, readdir(3) says; and so its place, as long as no more streams of /proc
// are read at a time than there are places.
unsafe impl Sync for Renamed {}

const STREAMS: usize = 32;

static RENAMED: [Renamed; STREAMS] = [const {
    // SAFETY: all-zero is a valid entry.
    Renamed { stream: AtomicUsize::new(0), entry: UnsafeCell::new(unsafe { core::mem::zeroed() }) }
}; STREAMS];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The place of `stream`.
fn place_of(stream: usize) -> *mut dirent {
    let known = RENAMED.iter().find(|place| place.stream.load(Ordering::Relaxed) == stream);
    let place = known.unwrap_or_else(|| {
        let place = &RENAMED[NEXT.fetch_add(1, Ordering::Relaxed) % STREAMS];
        place.stream.store(stream, Ordering::Relaxed);
        place
    });
    place.entry.get()
}

/// Writes `entry` as it is but for its name to `place`.
///
/// # Safety
/// `place` has room for a whole entry.
unsafe fn rename(entry: &dirent, id: VirtualPid, place: *mut dirent) {
    let mut own = *entry;
    let text = zap_sys::small!("{id}");
    own.d_name.iter_mut().zip(text.as_bytes().iter().chain(&[0])).for_each(|(to, from)| *to = *from as c_char);
    own.d_reclen = record_length(text.as_bytes().len()) as u16;
    // SAFETY: the caller's promise.
    unsafe { place.write(own) };
}

/// Length of an entry whose name has `length` bytes.
fn record_length(length: usize) -> usize {
    (offset_of!(dirent, d_name) + length + 1).next_multiple_of(8)
}

/// The next entry of `stream`, by `read`.
#[inline(always)]
fn next(stream: *mut DIR, read: impl Fn() -> *mut dirent) -> *mut dirent {
    let mut read_again = false;
    loop {
        let entry = read();
        if inodes::differ() && !entry.is_null() {
            // SAFETY: the caller's stream, and libc's own entry of it.
            unsafe { see_entry(libc::dirfd(stream), entry) };
        }
        // SAFETY: libc has given it; it may be shorter than the type, and no more is read than is there.
        if entry.is_null() || !unsafe { may_be((*entry).d_type, (*entry).d_name[0] as u8) } || !state::active() {
            return entry;
        }
        // SAFETY: as above.
        match unsafe { fate_of(stream, entry) } {
            Fate::Stays => return entry,
            Fate::Stale if read_again => return entry,
            Fate::Stale => {
                read_again = true;
                // Threads are listed by their places: libc forgets what it has read, and begins with this one.
                // SAFETY: the caller's stream; the entry is libc's own.
                unsafe { libc::seekdir(stream, (*entry).d_off - 1) };
            }
            Fate::Goes => {}
            Fate::Named(id) => {
                let place = place_of(stream as usize);
                // SAFETY: a place of our own.
                unsafe { rename(&whole(entry), id, place) };
                return place;
            }
        }
    }
}

/// # Safety
/// An entry of the stream.
unsafe fn fate_of(stream: *mut DIR, entry: *const dirent) -> Fate {
    // SAFETY: the caller's promise.
    let (directory, name) = unsafe { (libc::dirfd(stream), CStr::from_ptr((&raw const (*entry).d_name).cast())) };
    fate(directory, name.to_bytes())
}

/// A copy of an entry, which may be shorter than the type, without its name.
///
/// # Safety
/// An entry as libc gives it.
unsafe fn whole(entry: *const dirent) -> dirent {
    // SAFETY: all-zero is a valid entry.
    let mut own: dirent = unsafe { core::mem::zeroed() };
    // SAFETY: the fields before the name are always there.
    unsafe { (own.d_ino, own.d_off, own.d_type) = ((*entry).d_ino, (*entry).d_off, (*entry).d_type) };
    own
}

hook! { unsafe fn readdir(stream: *mut DIR) -> *mut dirent => zap_readdir {
    // SAFETY: the caller's argument.
    next(stream, || unsafe { real!(readdir)(stream) })
} }

hook! { unsafe fn readdir64(stream: *mut DIR) -> *mut dirent64 => zap_readdir64 {
    // SAFETY: the caller's argument.
    next(stream, || unsafe { real!(readdir64)(stream).cast() }).cast()
} }

/// As [`next`], for readdir_r(3).
#[inline(always)]
unsafe fn next_into(stream: *mut DIR, into: *mut dirent, result: *mut *mut dirent, read: impl Fn() -> c_int) -> c_int {
    loop {
        let error = read();
        // SAFETY: the caller's arguments, which libc has filled.
        unsafe {
            if inodes::differ() && error == 0 && !(*result).is_null() {
                see_entry(libc::dirfd(stream), into);
            }
            if error != 0 || (*result).is_null() || !may_be((*into).d_type, (*into).d_name[0] as u8) || !state::active()
            {
                return error;
            }
            match fate_of(stream, into) {
                Fate::Stays | Fate::Stale => return error,
                Fate::Goes => {}
                Fate::Named(id) => {
                    rename(&whole(into), id, into);
                    return error;
                }
            }
        }
    }
}

hook! { unsafe fn readdir_r(stream: *mut DIR, entry: *mut dirent, result: *mut *mut dirent) -> c_int => zap_readdir_r {
    // SAFETY: the caller's arguments.
    unsafe { next_into(stream, entry, result, || real!(readdir_r)(stream, entry, result)) }
} }

hook! { unsafe fn readdir64_r(stream: *mut DIR, entry: *mut dirent64, result: *mut *mut dirent64) -> c_int
=> zap_readdir64_r {
    // SAFETY: the caller's arguments.
    unsafe { next_into(stream, entry.cast(), result.cast(), || real!(readdir64_r)(stream, entry, result)) }
} }

// libc's scandir reads directories by functions of its own.

type Filter = Option<unsafe extern "C" fn(*const dirent) -> c_int>;
type Order = Option<unsafe extern "C" fn(*mut *const dirent, *mut *const dirent) -> c_int>;

/// Whether what libc finds at the path, the program's argument, is not what the program is to see.
fn is_seen_otherwise(path: *const c_char) -> bool {
    const PROC: &[u8] = b"/proc";
    if inodes::differ() {
        return true;
    }
    if path.is_null() || !super::readable(path) {
        return false;
    }
    // SAFETY: the caller's string.
    unsafe { CStr::from_ptr(path) }.to_bytes().starts_with(PROC)
}

/// opendir(3) of a path that begins in a directory.
///
/// # Safety
/// The caller's string.
unsafe fn open_below(from: RawFd, path: *const c_char) -> *mut DIR {
    const FLAGS: c_int = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the caller's promise, and a descriptor of our own.
    unsafe {
        let directory = libc::openat(from, path, FLAGS);
        if directory == -1 {
            return core::ptr::null_mut();
        }
        let stream = libc::fdopendir(directory);
        if stream.is_null() {
            libc::close(directory);
        }
        stream
    }
}

/// scandir(3).
///
/// # Safety
/// As the libc function.
#[cold]
unsafe fn scan(from: RawFd, path: *const c_char, list: *mut *mut *mut dirent, filter: Filter, order: Order) -> c_int {
    let errno = || {
        // SAFETY: errno's address is valid in every thread.
        unsafe { &mut *libc::__errno_location() }
    };
    let before = *errno();
    // SAFETY: the caller's arguments; what is allocated is the caller's to free.
    unsafe {
        let stream = match from {
            libc::AT_FDCWD => libc::opendir(path),
            _ => open_below(from, path),
        };
        if stream.is_null() {
            return -1;
        }
        let (mut entries, mut count, mut room): (*mut *mut dirent, usize, usize) = (core::ptr::null_mut(), 0, 0);
        let failed = loop {
            *errno() = 0;
            let entry = libc::readdir(stream);
            if entry.is_null() {
                break *errno() != 0;
            }
            if filter.is_some_and(|filter| filter(entry) == 0) {
                continue;
            }
            if count == room {
                room = (room * 2).max(16);
                let more: *mut *mut dirent = libc::realloc(entries.cast(), room * size_of::<*mut dirent>()).cast();
                if more.is_null() {
                    break true;
                }
                entries = more;
            }
            let length = usize::from((*entry).d_reclen);
            let own = libc::malloc(length);
            if own.is_null() {
                break true;
            }
            core::ptr::copy_nonoverlapping(entry.cast::<u8>(), own.cast::<u8>(), length);
            *entries.add(count) = own.cast();
            count += 1;
        };
        let why = *errno();
        libc::closedir(stream);
        if failed {
            (0..count).for_each(|at| libc::free((*entries.add(at)).cast()));
            libc::free(entries.cast());
            return super::fail(why);
        }
        if let (Some(order), true) = (order, count > 1) {
            let compare: unsafe extern "C" fn(*const c_void, *const c_void) -> c_int = core::mem::transmute(order);
            libc::qsort(entries.cast(), count, size_of::<*mut dirent>(), Some(compare));
        }
        *list = entries;
        *errno() = before;
        count as c_int
    }
}

hook! { unsafe fn scandir(path: *const c_char, list: *mut *mut *mut dirent, filter: Filter, order: Order) -> c_int
=> zap_scandir {
    if state::active() && is_seen_otherwise(path) {
        // SAFETY: the caller's arguments.
        return unsafe { scan(libc::AT_FDCWD, path, list, filter, order) };
    }
    let mut own = Own::new();
    match own.of(path, Last::Followed) {
        // SAFETY: the caller's arguments.
        Ok(path) => unsafe { real!(scandir)(path, list, filter, order) },
        Err(errno) => super::fail(errno),
    }
} }

hook! { unsafe fn scandir64(path: *const c_char, list: *mut *mut *mut dirent, filter: Filter, order: Order) -> c_int
=> zap_scandir64 {
    if state::active() && is_seen_otherwise(path) {
        // SAFETY: the caller's arguments.
        return unsafe { scan(libc::AT_FDCWD, path, list, filter, order) };
    }
    let mut own = Own::new();
    match own.of(path, Last::Followed) {
        // SAFETY: the caller's arguments.
        Ok(path) => unsafe { real!(scandir64)(path, list, filter, order) },
        Err(errno) => super::fail(errno),
    }
} }

hook! { unsafe fn scandirat(
    directory: c_int,
    path: *const c_char,
    list: *mut *mut *mut dirent,
    filter: Filter,
    order: Order
) -> c_int => zap_scandirat {
    if state::active() && (inodes::differ() || private::by_names()) {
        // SAFETY: the caller's arguments.
        return unsafe { scan(directory, path, list, filter, order) };
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(scandirat)(directory, path, list, filter, order) }
} }

hook! { unsafe fn scandirat64(
    directory: c_int,
    path: *const c_char,
    list: *mut *mut *mut dirent,
    filter: Filter,
    order: Order
) -> c_int => zap_scandirat64 {
    if state::active() && (inodes::differ() || private::by_names()) {
        // SAFETY: the caller's arguments.
        return unsafe { scan(directory, path, list, filter, order) };
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(scandirat64)(directory, path, list, filter, order) }
} }

/// getdents64(2) of a directory of /proc, into `length` bytes at `buffer`; `None` for any other directory.
pub fn entries(directory: c_int, buffer: usize, length: usize) -> Option<Result<usize, c_int>> {
    /// Of an entry of the kernel's, before its name: as [`dirent`].
    const NAME: usize = offset_of!(dirent, d_name);
    const LENGTH: usize = offset_of!(dirent, d_reclen);
    if !state::active() || fd::file_system(directory) != Ok(libc::PROC_SUPER_MAGIC) {
        return None;
    }
    let folder = Folder::of(directory)?;
    let mut own = [0u8; 4096];
    // An entry grows by a third at most: from 24 bytes to 32.
    let asked = (length / 4 * 3).min(own.len());
    if asked < 64 || !zap_sys::mem::is_writable(buffer as u64, length) {
        return None;
    }
    loop {
        let read = match fd::get_dents(directory, &mut own[..asked]) {
            Ok(0) => return Some(Ok(0)),
            Ok(read) => read,
            Err(error) => return Some(Err(error.errno.0)),
        };
        let (mut at, mut done) = (0, 0);
        while let Some(record) = own.get(at..read).filter(|record| record.len() > NAME) {
            let own_length = usize::from(u16::from_ne_bytes([record[LENGTH], record[LENGTH + 1]])).max(NAME);
            let Some(record) = record.get(..own_length) else { break };
            at += own_length;
            let name = record[NAME..].split(|c| *c == 0).next().unwrap_or_default();
            let fate = match proc_paths::id(name).filter(|_| may_be(record[NAME - 1], name[0])) {
                Some(id) => fate_in(Some(folder), id),
                None => Fate::Stays,
            };
            let mut renamed = [0u8; 64];
            let record = match fate {
                Fate::Goes => continue,
                Fate::Stays | Fate::Stale => record,
                Fate::Named(id) => {
                    let text = zap_sys::small!("{id}");
                    let length = record_length(text.as_bytes().len());
                    renamed[..NAME].copy_from_slice(&record[..NAME]);
                    renamed[LENGTH..LENGTH + 2].copy_from_slice(&(length as u16).to_ne_bytes());
                    renamed[NAME..NAME + text.as_bytes().len()].copy_from_slice(text.as_bytes());
                    &renamed[..length]
                }
            };
            if done + record.len() > length {
                break;
            }
            // SAFETY: the caller's buffer, which can be written to, has room for it.
            unsafe { core::ptr::copy_nonoverlapping(record.as_ptr(), (buffer + done) as *mut u8, record.len()) };
            done += record.len();
        }
        if done > 0 {
            return Some(Ok(done));
        }
    }
}

hook! { unsafe fn getdents64(directory: c_int, buffer: *mut c_void, length: size_t) -> ssize_t => zap_getdents64 {
    match entries(directory, buffer as usize, length) {
        Some(Ok(read)) => read as ssize_t,
        Some(Err(errno)) => super::fail(errno) as ssize_t,
        // SAFETY: the caller's arguments.
        None => unsafe {
            let result = real!(getdents64)(directory, buffer, length);
            if inodes::differ() && result > 0 {
                see_entries(directory, buffer, result as usize);
            }
            result
        },
    }
} }
