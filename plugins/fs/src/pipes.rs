//! Pipes inside the process: contents, capacity, packet mode, ends that are gone.
//!
//! Contents are read without being taken: tee(2) duplicates them into a pipe of ours. A pipe whose other end is in
//! another process is refused.

use crate::{nothing_to_refill, Noun};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.pipes";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    capacity: usize,
    /// One entry for each write in packet mode, else one for all.
    contents: Vec<Vec<u8>>,
    packets: bool,
    ends: Vec<End>,
}

/// A description of one of the pipe's ends.
#[derive(Serialize, Deserialize)]
struct End {
    id: u32,
    /// Access mode and status flags.
    flags: i32,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none() && description.file_type() == libc::S_IFIFO && description.link.starts_with(b"pipe:")
}

fn is_writer(description: &Description) -> bool {
    description.status_flags() & libc::O_ACCMODE == libc::O_WRONLY
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    let mut inodes: Vec<u64> = own.iter().map(|description| description.stat.st_ino).collect();
    inodes.sort_unstable();
    inodes.dedup();
    for inode in inodes {
        let ends: Vec<&Description> =
            own.iter().copied().filter(|description| description.stat.st_ino == inode).collect();
        states.push(save_one(&ends)?);
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

fn save_one(ends: &[&Description]) -> Result<State, Refusal> {
    let any = ends[0];
    let refusal = |error| Refusal::new(any.name(), error);
    let reader = ends.iter().find(|end| !is_writer(end));
    let writer = ends.iter().find(|end| is_writer(end));
    // With only one end here, the other must be gone: then poll says so.
    let (alone, gone) = match (reader, writer) {
        (Some(_), Some(_)) => (None, 0),
        (Some(reader), None) => (Some(reader), libc::POLLHUP),
        (None, Some(writer)) => (Some(writer), libc::POLLERR),
        (None, None) => (None, 0),
    };
    if let Some(alone) = alone {
        if fd::poll_now(alone.fd(), 0).map_err(refusal)? & gone == 0 {
            return Err(Refusal::new(alone.name(), "the other end is in a process outside of the pod"));
        }
    }
    let capacity = fd::fcntl(any.fd(), libc::F_GETPIPE_SZ, 0).map_err(refusal)?;
    let packets = ends.iter().any(|end| end.status_flags() & libc::O_DIRECT != 0);
    let contents = match reader {
        Some(reader) => peek(reader.fd(), capacity, packets).map_err(refusal)?,
        None => Vec::new(),
    };
    let ends = ends.iter().map(|end| End { id: end.id, flags: end.status_flags() }).collect();
    Ok(State { capacity, contents, packets, ends })
}

fn peek(reader: RawFd, capacity: usize, packets: bool) -> zap_plugin::sys::Result<Vec<Vec<u8>>> {
    if fd::bytes_readable(reader)? == 0 {
        return Ok(Vec::new());
    }
    let (from, to) = fd::pipe2(libc::O_CLOEXEC | libc::O_NONBLOCK)?;
    let copy = || {
        fd::fcntl(to, libc::F_SETPIPE_SZ, capacity)?;
        fd::tee(reader, to, capacity.max(1 << 30), libc::SPLICE_F_NONBLOCK)?;
        let mut contents: Vec<Vec<u8>> = Vec::new();
        let mut buffer = alloc::vec![0u8; capacity];
        loop {
            match fd::read(from, &mut buffer) {
                Ok(0) => break,
                Ok(length) if packets || contents.is_empty() => contents.push(buffer[..length].to_vec()),
                Ok(length) => contents[0].extend_from_slice(&buffer[..length]),
                Err(error) if error.is(libc::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        let copied: usize = contents.iter().map(Vec::len).sum();
        // What did not fit into our pipe would be lost.
        if copied == fd::bytes_readable(reader)? {
            Ok(contents)
        } else {
            Err(zap_plugin::sys::SysError::new("tee", libc::ENOBUFS))
        }
    };
    let result = copy();
    let _ = fd::close(from);
    let _ = fd::close(to);
    result
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    states.iter().try_for_each(|state| restore_one(state, context))
}

fn restore_one(state: &State, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("pipe", error);
    let mode = if state.packets { libc::O_DIRECT } else { 0 };
    let (reader, writer) = fd::pipe2(libc::O_CLOEXEC | libc::O_NONBLOCK | mode).map_err(refusal)?;
    fd::fcntl(writer, libc::F_SETPIPE_SZ, state.capacity)
        .map_err(|error| Refusal::new(format!("pipe of {} bytes", state.capacity), error))?;
    for content in &state.contents {
        let written = fd::write(writer, content).map_err(refusal)?;
        if written != content.len() {
            return Err(Refusal::new("pipe", "its contents do not fit into it"));
        }
    }
    let mut taken = [false; 2];
    for end in &state.ends {
        let writes = end.flags & libc::O_ACCMODE == libc::O_WRONLY;
        let original = if writes { writer } else { reader };
        let own = if core::mem::replace(&mut taken[usize::from(writes)], true) {
            // Another description of the same end, as an open of /proc/thread-self/fd/N makes.
            let path = zap_plugin::sys::small!("/proc/thread-self/fd/{original}");
            fd::open(path.as_c_str(), (end.flags & libc::O_ACCMODE) | libc::O_CLOEXEC, 0).map_err(refusal)?
        } else {
            fd::dup_above(original, 0).map_err(refusal)?
        };
        let flags = end.flags & (libc::O_NONBLOCK | libc::O_DIRECT | libc::O_APPEND | libc::O_ASYNC);
        fd::fcntl(own, libc::F_SETFL, flags as usize).map_err(refusal)?;
        context.install(end.id, own)?;
    }
    fd::close(reader).map_err(refusal)?;
    fd::close(writer).map_err(refusal)
}
