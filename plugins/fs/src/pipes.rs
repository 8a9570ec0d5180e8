//! Pipes inside the pod: contents, capacity, packet mode, ends that are gone.
//!
//! Contents are read without being taken: tee(2) duplicates them into a pipe of ours. Of the processes that have ends of
//! a pipe one saves the contents and makes the pipe again; the others get the ends from it. A pipe whose other end is in
//! a process outside of the pod is refused.

use crate::{nothing_to_refill, Noun};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.pipes";
const VERSION: u32 = 3;

#[derive(Serialize, Deserialize)]
struct State {
    capacity: usize,
    /// One entry for each write in packet mode, else one for all.
    contents: Vec<Vec<u8>>,
    packets: bool,
    /// No write has room: all its buffers are in use, of which each has a page, full or not (pipe(7)).
    full: bool,
    ends: Vec<End>,
    /// The pipe's name in the pod, 0 when all of it is here.
    object: u64,
    /// It is made here.
    leads: bool,
}

/// Parts of the object.
const READER: u32 = 0;
const WRITER: u32 = 1;

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

fn object(description: &Description) -> Option<(u64, u64)> {
    Some((description.stat.st_dev, description.stat.st_ino))
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
    let share = any.share;
    let leads = share.object == 0 || share.leads_object;
    // What of the pipe the pod has, in this process or another.
    let has = |access: i32| {
        let of = |access: i32| {
            share.accesses & (1 << access) != 0 || ends.iter().any(|end| end.status_flags() & libc::O_ACCMODE == access)
        };
        // One description may be both ends (an open of /proc/self/fd/N).
        of(access) || of(libc::O_RDWR)
    };
    let gone = match (has(libc::O_RDONLY), has(libc::O_WRONLY)) {
        (true, false) => libc::POLLHUP,
        (false, true) => libc::POLLERR,
        _ => 0,
    };
    // With only one end in the pod, the other must be gone: then poll says so.
    if gone != 0 && fd::poll_now(any.fd(), 0).map_err(refusal)? & gone == 0 {
        return Err(Refusal::new(any.name(), "the other end is in a process outside of the pod"));
    }
    let capacity = fd::fcntl(any.fd(), libc::F_GETPIPE_SZ, 0).map_err(refusal)?;
    let packets = ends.iter().any(|end| end.status_flags() & libc::O_DIRECT != 0);
    let (contents, in_packets) = match ends.iter().find(|end| !is_writer(end)) {
        _ if !leads || !has(libc::O_RDONLY) => (Vec::new(), false),
        Some(reader) => peek(reader.fd(), capacity).map_err(refusal)?,
        None => {
            // The reading end is in another process: one of our own shows the same.
            let path = zap_plugin::sys::small!("/proc/thread-self/fd/{}", any.fd());
            let own = fd::open(path.as_c_str(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC, 0);
            let own = own.map_err(refusal)?;
            let contents = peek(own, capacity);
            let _ = fd::close(own);
            contents.map_err(refusal)?
        }
    };
    let full = !contents.is_empty() && !has_room(any.fd());
    let ends = ends.iter().map(|end| End { id: end.id, flags: end.status_flags() }).collect();
    let packets = packets || in_packets;
    Ok(State { capacity, contents, packets, full, ends, object: share.object, leads })
}

/// Whether a write to the pipe that `end` is an end of has room; so it is where that cannot be told.
fn has_room(end: RawFd) -> bool {
    let path = zap_plugin::sys::small!("/proc/thread-self/fd/{end}");
    let Ok(own) = fd::open(path.as_c_str(), libc::O_WRONLY | libc::O_NONBLOCK | libc::O_CLOEXEC, 0) else {
        return true;
    };
    let events = fd::poll_now(own, libc::POLLOUT);
    let _ = fd::close(own);
    events.is_ok_and(|events| events & libc::POLLOUT != 0)
}

/// What waits to be read: all at once, or by packets. Whether it is in packets its bytes tell, not the ends: the writing one may
/// be in another process.
fn peek(reader: RawFd, capacity: usize) -> zap_plugin::sys::Result<(Vec<Vec<u8>>, bool)> {
    if fd::bytes_readable(reader)? == 0 {
        return Ok((Vec::new(), false));
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
                // The buffer has room for all that waits: only the end of a packet makes a read end before.
                Ok(length) => contents.push(buffer[..length].to_vec()),
                Err(error) if error.is(libc::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        let copied: usize = contents.iter().map(Vec::len).sum();
        // What did not fit into our pipe would be lost.
        if copied != fd::bytes_readable(reader)? {
            return Err(zap_plugin::sys::SysError::new("tee", libc::ENOBUFS));
        }
        let mut in_packets = contents.len() > 1;
        if !in_packets {
            // A byte behind it is read along with it, or it is a packet. Where there is no room for one, what is left of a packet
            // when a part has been read is thrown away (pipe(2)).
            fd::tee(reader, to, capacity.max(1 << 30), libc::SPLICE_F_NONBLOCK)?;
            buffer.push(0);
            in_packets = match fd::write(to, b"x") {
                Ok(_) => fd::read(from, &mut buffer)? == copied,
                Err(_) => fd::read(from, &mut buffer[..1])? < copied && fd::bytes_readable(from)? == 0,
            };
        }
        Ok((contents, in_packets))
    };
    let result = copy();
    let _ = fd::close(from);
    let _ = fd::close(to);
    result
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    // All that others wait for comes first.
    let made = states.iter().filter(|state| state.leads).try_for_each(|state| {
        let (reader, writer) = make(state)?;
        if state.object != 0 {
            context.publish(state.object, READER, reader)?;
            context.publish(state.object, WRITER, writer)?;
        }
        hand_over(state, reader, writer, context)
    });
    made?;
    states.iter().filter(|state| !state.leads).try_for_each(|state| {
        let reader = context.subscribe(state.object, READER)?;
        let writer = context.subscribe(state.object, WRITER)?;
        hand_over(state, reader, writer, context)
    })
}

fn make(state: &State) -> Result<(RawFd, RawFd), Refusal> {
    let refusal = |error| Refusal::new("pipe", error);
    let mode = if state.packets { libc::O_DIRECT } else { 0 };
    let (reader, writer) = fd::pipe2(libc::O_CLOEXEC | libc::O_NONBLOCK | mode).map_err(refusal)?;
    fd::fcntl(writer, libc::F_SETPIPE_SZ, state.capacity)
        .map_err(|error| Refusal::new(format!("pipe of {} bytes", state.capacity), error))?;
    for content in &state.contents {
        let buffers = state.capacity / zap_plugin::sys::PAGE_SIZE;
        let is_in_pieces = state.full && !state.packets && (buffers..state.capacity).contains(&content.len());
        let moved = if is_in_pieces { fill(writer, content, buffers) } else { 0 };
        // Where no other pipe can be had it is not as full, and has all that it had.
        let rest = &content[moved..];
        let written = if rest.is_empty() { Ok(0) } else { fd::write(writer, rest) };
        if written.map_err(refusal)? != rest.len() {
            return Err(Refusal::new("pipe", "its contents do not fit into it"));
        }
    }
    Ok((reader, writer))
}

/// Writes `content` so that it takes `buffers` buffers of the pipe, each of which has at least one byte. What is moved from
/// another pipe takes one of its own, whatever its length (splice(2)). Returns the number of bytes that it has written.
fn fill(writer: RawFd, content: &[u8], buffers: usize) -> usize {
    let Ok((from, to)) = fd::pipe2(libc::O_CLOEXEC | libc::O_NONBLOCK) else { return 0 };
    let mut moved = 0;
    for left in (1..=buffers).rev() {
        let rest = &content[moved..];
        let piece = &rest[..rest.len().div_ceil(left)];
        let result = fd::write(to, piece).and_then(|length| fd::splice(from, writer, length, libc::SPLICE_F_NONBLOCK));
        match result {
            Ok(length) if length == piece.len() => moved += length,
            _ => break,
        }
    }
    let _ = fd::close(from);
    let _ = fd::close(to);
    moved
}

/// Gives the process its ends, and closes the given ones.
fn hand_over(state: &State, reader: RawFd, writer: RawFd, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("pipe", error);
    // The given ends are one description each, which whoever has made the pipe keeps.
    let mut taken = [!state.leads; 2];
    for end in &state.ends {
        let access = end.flags & libc::O_ACCMODE;
        let writes = access == libc::O_WRONLY;
        let original = if writes { writer } else { reader };
        let own = if access == libc::O_RDWR || core::mem::replace(&mut taken[usize::from(writes)], true) {
            // Another description of the same end, as an open of /proc/thread-self/fd/N makes.
            let path = zap_plugin::sys::small!("/proc/thread-self/fd/{original}");
            let flags = (end.flags & libc::O_ACCMODE) | libc::O_CLOEXEC | libc::O_NONBLOCK;
            fd::open(path.as_c_str(), flags, 0).map_err(refusal)?
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
