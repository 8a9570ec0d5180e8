//! What an exec is about to run: whether that program's loader can preload libzap.
//!
//! One of another kind cannot: glibc's for 32 bits complains on the program's standard error, and musl's ends the program, since
//! libzap asks for what musl has not. Such a program gets its environment as it was given, and runs beside the pod, whose
//! checkpoint is refused by name while it lives. In doubt a program gets Zap's environment: exec itself will say what is wrong.
//!
//! # Safety
//! Paths are the caller's and go to the kernel as they are. What libc would search for is read here too; the variables that it
//! is searched by are the program's own.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, CStr};
use zap_engine::guard::Guard;
use zap_sys::arch::syscall::syscall;
use zap_sys::elf::{self, Segment, Table};
use zap_sys::{fd, RawFd};

/// Bytes from the start of an executable, among which the loader's path is as a rule.
const HEAD: usize = 1024;
/// Longest path that is looked at.
const LONGEST: usize = 512;
/// Interpreters that are followed, as the kernel does.
const DEEPEST: usize = 4;
/// Program headers that are looked at.
const HEADERS: u64 = 64;

/// Whether the loader of what `path` names, seen from `directory`, can preload libzap.
pub fn takes_libzap(directory: c_int, path: *const c_char) -> bool {
    let _guard = Guard::enter();
    open_regular(directory, path).is_none_or(look)
}

/// The same of what libc finds by `file` in the directories of `search`, the value of PATH.
pub fn takes_libzap_by_search(file: *const c_char, search: Option<&[u8]>) -> bool {
    if file.is_null() {
        return true;
    }
    // SAFETY: libc reads the name too.
    let name = unsafe { CStr::from_ptr(file) }.to_bytes();
    if name.contains(&b'/') {
        return takes_libzap(libc::AT_FDCWD, file);
    }
    let _guard = Guard::enter();
    let mut path = [0u8; LONGEST];
    for directory in search.unwrap_or(b"/bin:/usr/bin").split(|c| *c == b':') {
        let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
        let Some(path) = super::exec::join(&mut path, &[directory, separator, name]) else { continue };
        if let Some(file) = open_regular(libc::AT_FDCWD, path) {
            return look(file);
        }
    }
    true
}

/// The same of an open file, which is left open.
pub fn descriptor_takes_libzap(file: RawFd) -> bool {
    let _guard = Guard::enter();
    let path = zap_sys::small!("/proc/self/fd/{file}");
    open_regular(libc::AT_FDCWD, path.as_c_str().as_ptr()).is_none_or(look)
}

/// Opens a regular file that somebody may execute. To open anything else could block, or do something.
pub fn open_regular(directory: c_int, path: *const c_char) -> Option<RawFd> {
    // SAFETY: all-zero is a valid stat.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    let arguments = [directory as usize, path as usize, &raw mut stat as usize, 0, 0, 0];
    // SAFETY: the kernel looks at the path, and fills this frame's own structure.
    unsafe { syscall(libc::SYS_newfstatat, arguments) }.ok()?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_mode & 0o111 == 0 {
        return None;
    }
    let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: as above.
    unsafe { syscall(libc::SYS_openat, [directory as usize, path as usize, flags as usize, 0, 0, 0]) }
        .ok()
        .map(|file| file as RawFd)
}

/// Looks at an executable and its interpreters, and closes them.
fn look(mut file: RawFd) -> bool {
    let mut head = [0u8; HEAD];
    let mut path = [0u8; LONGEST];
    for _ in 0..=DEEPEST {
        let count = fd::pread(file, &mut head, 0).unwrap_or(0);
        let head = &head[..count];
        let Some(word) = elf::interpreter(head) else {
            let takes = judge(head, |offset, into| fd::pread(file, into, offset) == Ok(into.len()));
            let _ = fd::close(file);
            return takes;
        };
        let _ = fd::close(file);
        let next = super::exec::join(&mut path, &[word]).and_then(|path| open_regular(libc::AT_FDCWD, path));
        let Some(next) = next else { return true };
        file = next;
    }
    let _ = fd::close(file);
    true
}

/// Whether an executable with this head has no loader, or one that can. `read` fills a buffer from an offset.
fn judge(head: &[u8], read: impl Fn(u64, &mut [u8]) -> bool) -> bool {
    let Some(table) = Table::find(head) else { return true };
    let fill = |offset: u64, into: &mut [u8]| match head.get(offset as usize..).and_then(|rest| rest.get(..into.len()))
    {
        Some(bytes) => {
            into.copy_from_slice(bytes);
            true
        }
        None => read(offset, into),
    };
    let mut header = [0u8; Segment::WIDE];
    for index in 0..table.count.min(HEADERS) {
        // What lies behind a narrow one is zero.
        let length = if table.is_wide { Segment::WIDE } else { Segment::NARROW };
        if !fill(table.offset.wrapping_add(index * table.size), &mut header[..length]) {
            return true;
        }
        let Some(loader) = Segment::read(&header).filter(|segment| segment.kind == libc::PT_INTERP) else { continue };
        if !table.is_wide {
            return false;
        }
        let mut path = [0u8; LONGEST];
        let path = &mut path[..(loader.length as usize).min(LONGEST)];
        return !(fill(loader.offset, path) && elf::is_musls(path));
    }
    true
}
