//! Pipes inside the pod: contents, capacity, packet mode, ends that are gone.
//!
//! Contents are read without being taken: tee(2) duplicates them into a pipe of ours. Of the processes that have ends of
//! a pipe one saves the contents and makes the pipe again; the others get the ends from it. A pipe whose other end is in
//! a process outside of the pod is refused.
//!
//! A FIFO is a pipe with a name, by which a restart finds it. Where others have it open then, what waits in it would be theirs
//! too: it must have been empty.

use crate::files::named_path;
use crate::{keeps_nothing, nothing_to_refill, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, keeps: keeps_nothing, object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.pipes";
const VERSION: u32 = 4;

#[derive(Serialize, Deserialize)]
struct State {
    /// Of a FIFO; empty for a pipe, and for a FIFO whose name has been removed.
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    /// A FIFO in which nothing waits, and that nobody has open for writing: each process opens it by itself.
    awaits_writer: bool,
    /// A writer has gone since a reader here has opened it, which sees that (poll(2), POLLHUP).
    hung_up: bool,
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

/// Status flags that F_SETFL sets.
const STATUS: i32 = libc::O_NONBLOCK | libc::O_DIRECT | libc::O_APPEND | libc::O_ASYNC;

/// A description of one of the pipe's ends.
#[derive(Serialize, Deserialize)]
struct End {
    id: u32,
    /// Access mode and status flags.
    flags: i32,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none()
        && description.file_type() == libc::S_IFIFO
        && description.status_flags() & libc::O_PATH == 0
        && (description.link.starts_with(b"pipe:") || is_fifo(description))
}

fn is_fifo(description: &Description) -> bool {
    description.link.starts_with(b"/")
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
    let path = if is_fifo(any) && any.stat.st_nlink > 0 { named_path(any)? } else { Vec::new() };
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
    // With only one end in the pod, the other must be gone: then poll says so, but for a FIFO that nobody has written to yet.
    let is_gone = ends.iter().any(|end| fd::poll_now(end.fd(), 0).is_ok_and(|events| events & gone != 0));
    let awaits_writer = gone == libc::POLLHUP && !path.is_empty() && fd::bytes_readable(any.fd()) == Ok(0);
    if gone != 0 && if awaits_writer { !has_no_writer(any.fd()) } else { !is_gone } {
        return Err(Refusal::new(any.name(), "the other end is in a process outside of the pod"));
    }
    let hung_up = awaits_writer && is_gone;
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
    Ok(State { path, awaits_writer, hung_up, capacity, contents, packets, full, ends, object: share.object, leads })
}

/// Whether nobody has the empty FIFO open for writing of which `reader` is an end.
fn has_no_writer(reader: RawFd) -> bool {
    let path = zap_plugin::sys::small!("/proc/thread-self/fd/{reader}");
    let Ok(own) = fd::open(path.as_c_str(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC, 0) else {
        return false;
    };
    // It would be an end of file; a writer makes it EAGAIN. Nothing waits that would be lost.
    let is_at_end = fd::bytes_readable(own) == Ok(0) && fd::read(own, &mut [0]) == Ok(0);
    let _ = fd::close(own);
    is_at_end
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
    let mut states: Vec<State> = decode(bytes)?;
    for state in states.iter_mut().filter(|state| !state.path.is_empty()) {
        state.path = context.path_now(core::mem::take(&mut state.path));
    }
    // All that others wait for comes first.
    let made = states.iter().filter(|state| state.leads).try_for_each(|state| {
        if state.awaits_writer {
            return reopen(state, context);
        }
        let (reader, writer) = make(state)?;
        if state.object != 0 {
            context.publish(state.object, READER, reader)?;
            context.publish(state.object, WRITER, writer)?;
        }
        hand_over(state, reader, writer, context)
    });
    made?;
    states.iter().filter(|state| !state.leads).try_for_each(|state| {
        if state.awaits_writer {
            return reopen(state, context);
        }
        let reader = context.subscribe(state.object, READER)?;
        let writer = context.subscribe(state.object, WRITER)?;
        hand_over(state, reader, writer, context)
    })
}

/// Opens the ends of a FIFO for reading of which nobody has the other.
fn reopen(state: &State, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new(name_of(state), error);
    for end in &state.ends {
        let own = open_fifo(&state.path, libc::O_RDONLY)?;
        fd::fcntl(own, libc::F_SETFL, (end.flags & STATUS) as usize).map_err(refusal)?;
        context.install(end.id, own)?;
    }
    if state.hung_up {
        fd::close(open_fifo(&state.path, libc::O_WRONLY)?).map_err(refusal)?;
    }
    Ok(())
}

fn name_of(state: &State) -> String {
    if state.path.is_empty() {
        "pipe".into()
    } else {
        format!("FIFO {}", String::from_utf8_lossy(&state.path))
    }
}

/// Opens the FIFO at `path`, waiting for nobody.
fn open_fifo(path: &[u8], access: i32) -> Result<RawFd, Refusal> {
    let refusal = |why: &dyn core::fmt::Display| Refusal::new(format!("FIFO {}", String::from_utf8_lossy(path)), why);
    let own = CPath::new(path).ok_or_else(|| refusal(&"path too long"))?;
    // What has taken its place must not be opened: a device may do anything.
    let stat = fd::stat(own.as_c_str()).map_err(|error| refusal(&error))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFIFO {
        return Err(refusal(&"is no longer a FIFO"));
    }
    fd::open(own.as_c_str(), access | libc::O_NONBLOCK | libc::O_CLOEXEC, 0).map_err(|error| refusal(&error))
}

/// The ends of a FIFO, and whether nobody else has it open.
fn open_both(path: &[u8]) -> Result<(RawFd, RawFd, bool), Refusal> {
    // ENXIO where nobody reads (fifo(7)).
    let early = open_fifo(path, libc::O_WRONLY);
    let opened = open_fifo(path, libc::O_RDONLY).and_then(|reader| {
        let is_unused = early.is_err() && has_no_writer(reader);
        let writer = early.clone().or_else(|_| open_fifo(path, libc::O_WRONLY));
        writer.map(|writer| (reader, writer, is_unused)).inspect_err(|_| {
            let _ = fd::close(reader);
        })
    });
    if let (Err(_), Ok(writer)) = (&opened, early) {
        let _ = fd::close(writer);
    }
    opened
}

fn make(state: &State) -> Result<(RawFd, RawFd), Refusal> {
    let refusal = |error| Refusal::new(name_of(state), error);
    let mode = if state.packets { libc::O_DIRECT } else { 0 };
    let (reader, writer) = if state.path.is_empty() {
        fd::pipe2(libc::O_CLOEXEC | libc::O_NONBLOCK | mode).map_err(refusal)?
    } else {
        let (reader, writer, is_unused) = open_both(&state.path)?;
        if !is_unused {
            return match state.contents.is_empty() {
                true => Ok((reader, writer)),
                false => Err(Refusal::new(name_of(state), "others have it open, who would get what waits in it")),
            };
        }
        fd::fcntl(writer, libc::F_SETFL, (libc::O_NONBLOCK | mode) as usize).map_err(refusal)?;
        (reader, writer)
    };
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
    let refusal = |error| Refusal::new(name_of(state), error);
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
        fd::fcntl(own, libc::F_SETFL, (end.flags & STATUS) as usize).map_err(refusal)?;
        context.install(end.id, own)?;
    }
    fd::close(reader).map_err(refusal)?;
    fd::close(writer).map_err(refusal)
}
