//! The files of /proc in which ids stand, where ids differ: what is opened is a copy, in memory, with the program's ids.
//!
//! It is as old as the open: a program that reads the same descriptor again reads the same text again. The fs plugin knows the
//! copies by their name, and brings them along.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, CStr};
use zap_engine::inodes;
use zap_engine::proc_texts::{self, File, Files, Role};
use zap_engine::{identity, masking, private};
use zap_sys::{fd, process, text, RawFd, RealPid, SysError};
use zap_wire::table::Kind;

/// Longest text: the groups of a process may be many.
const LONGEST: usize = 1 << 18;

/// Whether a copy does for what a file is opened for with `flags`.
pub fn is_for_reading(flags: c_int) -> bool {
    const OTHER: c_int = libc::O_ACCMODE | libc::O_PATH | libc::O_DIRECTORY | libc::O_CREAT | libc::O_TRUNC;
    flags & OTHER == libc::O_RDONLY
}

/// The same for fopen(3) with `mode`.
pub fn is_stream_for_reading(mode: usize) -> bool {
    if !super::readable(mode as *const [u8; 2]) {
        return false;
    }
    // SAFETY: the caller's string.
    let text = unsafe { CStr::from_ptr(mode as *const c_char) }.to_bytes();
    text.first() == Some(&b'r') && !text.contains(&b'+') && !text.contains(&b',')
}

/// Opens the copy of the file at `path`, of `process`. `None` if it is not to be read alone, or has no ids in it.
pub fn open(path: &CStr, file: File, process: Option<RealPid>, flags: c_int) -> Option<Result<usize, c_int>> {
    if !is_for_reading(flags) {
        return None;
    }
    // Room of its own: a handler of the program's may have interrupted whoever takes memory from Zap's arena.
    let made = masking::undisturbed(|mask| {
        let length = LONGEST + proc_texts::room_for(LONGEST);
        let room = match zap_sys::mem::map_anonymous(length) {
            Ok(room) => room,
            Err(error) => return Some(Err(error.errno.0)),
        };
        // SAFETY: just mapped, and nobody else's.
        let bytes = unsafe { core::slice::from_raw_parts_mut(room as *mut u8, length) };
        let made = match file {
            File::Mappings => make_mappings(path, flags, bytes),
            _ => make(path, file, process, flags, mask, bytes),
        };
        // SAFETY: the last use of it is over.
        let _ = unsafe { zap_sys::mem::unmap(room, length as u64) };
        made
    });
    made.map(|made| made.map(|fd| fd as usize))
}

/// As [`open`], for fopen(3) with `mode`.
pub fn open_stream(path: &CStr, file: File, process: Option<RealPid>, mode: usize) -> Option<Result<usize, c_int>> {
    if !is_stream_for_reading(mode) {
        return None;
    }
    // SAFETY: the caller's string.
    let text = unsafe { CStr::from_ptr(mode as *const c_char) }.to_bytes();
    let flags = if text.contains(&b'e') { libc::O_CLOEXEC } else { 0 };
    let made = match open(path, file, process, flags)? {
        Ok(made) => made as c_int,
        Err(errno) => return Some(Err(errno)),
    };
    // SAFETY: a descriptor that is nobody's, and the caller's mode.
    let stream = unsafe { libc::fdopen(made, mode as *const c_char) };
    if stream.is_null() {
        let _ = fd::close(made);
        return Some(Err(libc::ENOMEM));
    }
    Some(Ok(stream as usize))
}

/// The program's id of `id`, which stands in a file of `process`.
fn known(role: Role, about: Option<RealPid>, id: c_int) -> c_int {
    let real = RealPid(id);
    match role {
        Role::Process => identity::virtual_of(real).0,
        Role::Parent => identity::virtual_parent_of(about, real).0,
        Role::Group | Role::Foreground => identity::virtual_group_of(Kind::Group, real).0,
        Role::Session => identity::virtual_group_of(Kind::Session, real).0,
        Role::Tracer | Role::Holder => masking::name_of(real).map_or(0, |id| id.0),
    }
}

/// Makes the copy, with room for the text and for its translation. `mask` is what the calling thread blocks.
fn make(
    path: &CStr,
    file: File,
    process: Option<RealPid>,
    flags: c_int,
    mask: u64,
    bytes: &mut [u8],
) -> Option<Result<RawFd, c_int>> {
    let (text, translated) = bytes.split_at_mut(LONGEST);
    let text = match fd::read_file(path, text) {
        Ok(text) => text,
        // It has ended since.
        Err(error) if error.is(libc::ESRCH) => return Some(Err(libc::ENOENT)),
        Err(error) => return Some(Err(error.errno.0)),
    };
    if !file.has_ids(text) {
        return None;
    }
    let is_own = text::field(text, b"Pid:").is_some_and(|id| text::decimal(id).0 == i64::from(process::gettid().0));
    let other = |role, id| known(role, process, id);
    let device = if file == File::Descriptor { device_of(path) } else { 0 };
    let files = Files { inodes: inodes::known(), device };
    let length = proc_texts::translate(file, text, is_own.then_some(mask), translated, files, other);
    Some(copy(&translated[..length.min(translated.len())], flags).map_err(|error| error.errno.0))
}

/// The device of the file that a descriptor is of, of which `path` tells: that of the file of the same name in `fd`.
fn device_of(path: &CStr) -> u64 {
    const INFO: &[u8] = b"fdinfo/";
    let path = path.to_bytes();
    let place = inodes::differ().then(|| path.windows(INFO.len()).rposition(|part| part == INFO)).flatten();
    let Some(place) = place else { return 0 };
    let mut link = text::SmallString::<96>::default();
    [&path[..place], b"fd/", &path[place + INFO.len()..]].into_iter().for_each(|part| link.push(part));
    fd::stat(link.as_c_str()).map_or(0, |stat| stat.st_dev)
}

/// As [`make`], for one in which paths stand, of any length. `None` if there are none of the store, and no numbers that
/// are known by others.
fn make_mappings(path: &CStr, flags: c_int, bytes: &mut [u8]) -> Option<Result<RawFd, c_int>> {
    let (text, written) = bytes.split_at_mut(LONGEST);
    let source = fd::open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()?;
    let made = match fd::memfd_create(fd::PROC_COPY, libc::MFD_CLOEXEC) {
        Ok(made) => made,
        Err(error) => {
            let _ = fd::close(source);
            return Some(Err(error.errno.0));
        }
    };
    let found = copy_mappings(source, made, text, written);
    let _ = fd::close(source);
    match found {
        Ok(true) => Some(finish(made, flags).map_err(|error| error.errno.0)),
        other => {
            let _ = fd::close(made);
            other.err().map(|error| Err(error.errno.0))
        }
    }
}

/// Copies the lines of `source` to `made`; whether anything in them differs.
fn copy_mappings(source: RawFd, made: RawFd, text: &mut [u8], written: &mut [u8]) -> Result<bool, SysError> {
    let (mut left, mut found) = (0, false);
    loop {
        let read = fd::read(source, &mut text[left..])?;
        let end = left + read;
        // At the end of the file what is left is a line, too.
        let whole = match text[..end].iter().rposition(|c| *c == b'\n') {
            Some(at) if read > 0 => at + 1,
            _ if read == 0 || end == text.len() => end,
            _ => 0,
        };
        let mut length = 0;
        for line in text[..whole].split_inclusive(|c| *c == b'\n') {
            let numbers = proc_texts::before_file(line).filter(|_| inodes::differ()).and_then(|(head, rest)| {
                let known = proc_texts::file_numbers(rest, b' ', |file| inodes::known().known(file));
                known.map(|(numbers, rest)| (head, numbers, rest))
            });
            let (head, numbers, rest) = match &numbers {
                Some((head, numbers, rest)) => (*head, numbers.as_bytes(), *rest),
                None => (&b""[..], &b""[..], line),
            };
            let path = Some(rest).filter(|_| private::by_names());
            let parts = path.and_then(|rest| proc_texts::path_line(rest, private::seen));
            found |= parts.is_some() || !numbers.is_empty();
            for part in [head, numbers].into_iter().chain(parts.unwrap_or([rest, b"", b""])) {
                // What a path of the pod's is longer by has room: a line is many times as long as its path may grow.
                if let Some(place) = written.get_mut(length..length + part.len()) {
                    place.copy_from_slice(part);
                    length += part.len();
                }
            }
        }
        fd::write_all(made, &written[..length])?;
        text.copy_within(whole..end, 0);
        left = end - whole;
        if read == 0 {
            return Ok(found);
        }
    }
}

/// A descriptor, the lowest that is free, from which `text` can be read.
fn copy(text: &[u8], flags: c_int) -> Result<RawFd, SysError> {
    let made = fd::memfd_create(fd::PROC_COPY, libc::MFD_CLOEXEC)?;
    if let Err(error) = fd::write_all(made, text) {
        let _ = fd::close(made);
        return Err(error);
    }
    finish(made, flags)
}

/// Makes `made`, which has been written, one that is to be read alone.
fn finish(made: RawFd, flags: c_int) -> Result<RawFd, SysError> {
    let filled = (|| {
        fd::change_mode(made, 0o444)?;
        // Another description of it, which cannot be written to, in the place of the first.
        let path = zap_sys::small!("/proc/thread-self/fd/{made}");
        let reader = fd::open(path.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC | (flags & libc::O_NONBLOCK), 0)?;
        let placed = fd::dup3(reader, made, flags & libc::O_CLOEXEC);
        let _ = fd::close(reader);
        placed
    })();
    if filled.is_err() {
        let _ = fd::close(made);
    }
    filled
}
