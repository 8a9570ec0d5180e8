//! Regular files and directories, by path: offset, flags, sharing by dup; record locks.
//!
//! A file whose path does not lead to it any more (deleted, replaced) is refused at the checkpoint.

use crate::Noun;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::text::decimal;
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, save, restore, refill };

const SECTION: &str = "fs.files";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// One of its numbers.
    fd: RawFd,
    path: Vec<u8>,
    /// Access mode and status flags of F_GETFL.
    flags: i32,
    position: u64,
    locks: Vec<Lock>,
}

/// A lock as /proc/self/fdinfo shows it.
#[derive(Serialize, Deserialize)]
struct Lock {
    kind: LockKind,
    exclusive: bool,
    start: i64,
    /// 0 for up to the end of the file, however long it becomes.
    length: i64,
}

/// Who owns a lock: the process (fcntl), or the open file description.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum LockKind {
    Process,
    Description,
    Flock,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none()
        && matches!(description.file_type(), libc::S_IFREG | libc::S_IFDIR)
        && description.link.starts_with(b"/")
        && !description.link.starts_with(b"/proc/")
        && !description.link.starts_with(b"/memfd:")
}

/// Flags that open(2) takes and that are to be had again; those that make or cut a file are not.
const KEPT: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_NOATIME
    | libc::O_DIRECTORY
    | libc::O_PATH;

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let path = CPath::new(&description.link).ok_or_else(|| Refusal::new(description.name(), "path too long"))?;
        let found = fd::stat(path.as_c_str());
        let same =
            found.is_ok_and(|stat| stat.st_ino == description.stat.st_ino && stat.st_dev == description.stat.st_dev);
        if !same {
            return Err(Refusal::new(description.name(), "the file has been deleted or replaced"));
        }
        states.push(State {
            id: description.id,
            fd: description.fd(),
            path: description.link.clone(),
            flags: description.status_flags() & KEPT,
            position: description.position(),
            locks: locks(description)?,
        });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// Parses lines such as `lock:\t1: POSIX  ADVISORY  WRITE 1234 fd:00:12345 0 EOF`.
fn locks(description: &Description) -> Result<Vec<Lock>, Refusal> {
    let mut locks = Vec::new();
    for line in description.info.split(|c| *c == b'\n').filter_map(|line| line.strip_prefix(b"lock:")) {
        let mut words = line.split(|c| c.is_ascii_whitespace()).filter(|word| !word.is_empty()).skip(1);
        let kind = match words.next() {
            Some(b"POSIX") => LockKind::Process,
            Some(b"OFDLCK") => LockKind::Description,
            Some(b"FLOCK") => LockKind::Flock,
            _ => return Err(Refusal::new(description.name(), "has a lock or lease of a kind that is not supported")),
        };
        let exclusive = words.nth(1) == Some(b"WRITE");
        let start = decimal(words.nth(2).unwrap_or_default()).0;
        let length = match words.next() {
            Some(b"EOF") | None => 0,
            Some(end) => decimal(end).0.wrapping_sub(start).wrapping_add(1),
        };
        locks.push(Lock { kind, exclusive, start, length });
    }
    Ok(locks)
}

/// Takes a lock again. Somebody else's in its place refuses the restart.
fn take(own: RawFd, lock: &Lock) -> zap_plugin::sys::Result<()> {
    if lock.kind == LockKind::Flock {
        return fd::flock(own, libc::LOCK_NB | if lock.exclusive { libc::LOCK_EX } else { libc::LOCK_SH });
    }
    let command = if lock.kind == LockKind::Process { libc::F_SETLK } else { libc::F_OFD_SETLK };
    let mut request = libc::flock {
        l_type: if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: lock.start,
        l_len: lock.length,
        l_pid: 0,
    };
    fd::fcntl_lock(own, command, &mut request)
}

/// Takes the locks when every descriptor is at its number: closing any descriptor of a file drops the process's locks.
fn refill(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in &states {
        for lock in &state.locks {
            take(state.fd, lock)
                .map_err(|error| Refusal::new(format!("lock of {}", String::from_utf8_lossy(&state.path)), error))?;
        }
    }
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let name = || format!("file {}", String::from_utf8_lossy(&state.path));
        let path = CPath::new(&state.path).ok_or_else(|| Refusal::new(name(), "path too long"))?;
        let own =
            fd::open(path.as_c_str(), state.flags | libc::O_CLOEXEC, 0).map_err(|error| Refusal::new(name(), error))?;
        if state.flags & libc::O_PATH == 0 {
            fd::seek(own, state.position as i64, libc::SEEK_SET).map_err(|error| Refusal::new(name(), error))?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}
