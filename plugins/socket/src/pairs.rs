//! Unix socket pairs: messages in flight with their boundaries, buffer sizes, shut-down halves, closed peers.
//!
//! Messages are read without being taken (SO_PEEK_OFF, unix(7)), so that a failed checkpoint has nothing to put back.
//! Descriptors in flight (SCM_RIGHTS) are descriptions like the process's own, and sent again when all have been made.

use crate::diag;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::context::IN_FLIGHT;
use zap_plugin::sys::{credentials, fd, libc, net, process, RawFd, SysError};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "socket.pairs";
const VERSION: u32 = 5;

/// A pair, or what is left of one.
#[derive(Serialize, Deserialize)]
struct Pair {
    kind: i32,
    first: End,
    second: Second,
}

/// The other end.
#[derive(Serialize, Deserialize)]
enum Second {
    Closed,
    Here(End),
    /// In another process; `leads`: the pair is made in this one.
    Elsewhere {
        object: u64,
        leads: bool,
    },
}

/// Parts of the object, for the process that does not make the pair: its own end, and the other one.
const OWN: u32 = 0;
const OTHER: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(crate) struct End {
    pub id: u32,
    /// Of the socket itself (fchmod(2)), which a file for its name is made with.
    mode: u32,
    pub flags: i32,
    pub send_buffer: i32,
    pub receive_buffer: i32,
    pass_credentials: bool,
    /// SO_RCVTIMEO and SO_SNDTIMEO: seconds, microseconds.
    timeouts: [(i64, i64); 2],
    /// As `diag::UnixSocket::shutdown`.
    pub shutdown: u8,
    /// The other end has closed before it had received all, and the program has not been told yet (ECONNRESET).
    pub reset: bool,
    /// What waits to be received here. A stream's messages are just parts.
    pub waiting: Vec<Message>,
    /// Memory in bytes that the kernel had taken for what waits, of a stream; 0 where that is not known. It says how much more
    /// the other end can send.
    weight: u32,
}

impl End {
    /// Bytes that wait.
    fn length(&self) -> usize {
        self.waiting.iter().map(|message| message.bytes.len()).sum()
    }

    pub fn carries(&self) -> bool {
        self.waiting.iter().any(|message| !message.carried.is_empty())
    }
}

/// What was sent at once.
#[derive(Serialize, Deserialize)]
pub(crate) struct Message {
    bytes: Vec<u8>,
    /// The descriptions that it carries.
    carried: Vec<u32>,
}

/// Parts of what is held for the refill, by the id of the first end: both ends.
pub(crate) const FIRST: u32 = 0;
pub(crate) const SECOND: u32 = 1;

/// Largest message of a Unix socket that is read at once: more than any send buffer allows by default.
const LARGEST_MESSAGE: usize = 1 << 20;

/// `left`: ends of which the other is closed, each with its type, that are pairs no more than in this.
pub(crate) fn save(own: &[&Description], left: Vec<(i32, End)>, context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let left = left.into_iter().map(|(kind, first)| Pair { kind, first, second: Second::Closed });
    let mut pairs: Vec<Pair> = left.collect();
    let mut done: Vec<u32> = Vec::new();
    let mut unconnected = Vec::new();
    for one in own {
        if done.contains(&one.id) {
            continue;
        }
        let refusal = |error| Refusal::new(one.name(), error);
        refuse_named(one)?;
        let kind = net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_TYPE).map_err(refusal)?;
        let socket = diag::query(one.stat.st_ino as u32).map_err(refusal)?;
        if socket.is_unconnected {
            unconnected.push((*one, kind));
            done.push(one.id);
            continue;
        }
        let first = save_end(one, kind, socket.shutdown, Some(socket.peer))?;
        done.push(one.id);
        let mut first = first;
        let share = one.share;
        let second = if socket.peer == 0 {
            Second::Closed
        } else if let Some(peer) = own.iter().find(|other| other.stat.st_ino as u32 == socket.peer) {
            done.push(peer.id);
            refuse_named(peer)?;
            let socket = diag::query(peer.stat.st_ino as u32).map_err(refusal)?;
            let mut second = save_end(peer, kind, socket.shutdown, Some(socket.peer))?;
            // What is taken must be sendable again.
            if kind == libc::SOCK_DGRAM && first.shutdown == 0 && second.shutdown == 0 {
                first.waiting = take_and_return(one, peer, first.waiting)?;
                second.waiting = take_and_return(peer, one, second.waiting)?;
            }
            Second::Here(second)
        } else if first.reset {
            return Err(Refusal::new(one.name(), "an error waits to be told to the program: repeat"));
        } else if share.object == 0 {
            return Err(Refusal::new(one.name(), "is connected to a socket outside of the pod"));
        } else if kind == libc::SOCK_DGRAM && socket.shutdown != 0 {
            // Not told to the other end, which does the last step.
            return Err(Refusal::new(
                one.name(),
                "a datagram pair of two processes with a half shut is not supported yet",
            ));
        } else if first.carries() && socket.shutdown != 0 {
            // The other end may be shut before the messages are sent again.
            return Err(Refusal::new(
                one.name(),
                "descriptors are in flight between two processes in a socket with a half shut: not supported yet; repeat",
            ));
        } else {
            Second::Elsewhere { object: share.object, leads: share.leads_object }
        };
        pairs.push(Pair { kind, first, second });
    }
    if !pairs.is_empty() {
        context.section(SECTION, VERSION, encode(&pairs)?);
    }
    crate::unconnected::save(&unconnected, context)
}

/// Both ends of a pair are one object: the smaller inode names it.
pub(crate) fn object(one: &Description) -> Option<(u64, u64)> {
    let own = one.stat.st_ino;
    let peer = diag::query(own as u32).map_or(0, |socket| u64::from(socket.peer));
    Some((one.stat.st_dev, if peer == 0 { own } else { own.min(peer) }))
}

/// Datagram sockets with a name, or connected to one that has, are no pairs.
fn refuse_named(one: &Description) -> Result<(), Refusal> {
    let mut name = [0u8; 128];
    // An unnamed socket's address is the family alone.
    let local = net::local_name(one.fd(), &mut name).map_err(|error| Refusal::new(one.name(), error))?;
    let peer = net::peer_name(one.fd(), &mut name).unwrap_or(2);
    if local > 2 || peer > 2 {
        return Err(Refusal::new(one.name(), "datagram sockets with a name are not supported yet"));
    }
    Ok(())
}

/// `peer` is the inode of the other end, 0 if that has been closed; `None` where nothing can wait to be received.
pub(crate) fn save_end(one: &Description, kind: i32, shutdown: u8, peer: Option<u32>) -> Result<End, Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    let option = |name| net::get_option(one.fd(), libc::SOL_SOCKET, name).map_err(refusal);
    let reset = peer.is_some() && is_reset(one, kind)?;
    let waiting = if peer.is_some() { peek(one, kind)? } else { Vec::new() };
    let pass_credentials = option(libc::SO_PASSCRED)? != 0;
    // An empty datagram is passed over by whoever looks a second time.
    let is_empty = |message: &Message| message.bytes.is_empty();
    let waits = || fd::poll_now(one.fd(), libc::POLLIN).map_or(0, |events| events & libc::POLLIN) != 0;
    let unseen = kind == libc::SOCK_DGRAM && (waiting.iter().any(is_empty) || waiting.is_empty() && waits());
    if pass_credentials && peer.is_some() && (unseen || !waiting.is_empty() && tells_of_others(one, kind)?) {
        return Err(Refusal::new(
            one.name(),
            "messages wait there that tell of another sender (SO_PASSCRED): not supported yet; repeat",
        ));
    }
    let weight = match peer {
        Some(peer) if peer != 0 && kind == libc::SOCK_STREAM && !waiting.is_empty() => {
            diag::query(peer).map_or(0, |socket| socket.sent)
        }
        _ => 0,
    };
    Ok(End {
        id: one.id,
        mode: one.stat.st_mode & 0o7777,
        flags: one.status_flags(),
        send_buffer: option(libc::SO_SNDBUF)?,
        receive_buffer: option(libc::SO_RCVBUF)?,
        pass_credentials,
        timeouts: [get_timeout(one, libc::SO_RCVTIMEO)?, get_timeout(one, libc::SO_SNDTIMEO)?],
        shutdown,
        reset,
        waiting,
        weight,
    })
}

/// Whether the next look beyond all that waits is told ECONNRESET. Nothing may look there: it is told once.
fn is_reset(one: &Description, kind: i32) -> Result<bool, Refusal> {
    let events = fd::poll_now(one.fd(), libc::POLLIN).map_err(|error| Refusal::new(one.name(), error))?;
    let is_reset = events & libc::POLLERR != 0 && !is_interrupted(one)?;
    // There it is told before what waits, and a look at that would take it away.
    if is_reset && kind != libc::SOCK_STREAM {
        return Err(Refusal::new(
            one.name(),
            "its other end has closed without receiving all, which the program has not been told yet: \
             not supported where messages have boundaries; repeat",
        ));
    }
    Ok(is_reset)
}

/// Whether the error that waits is the suspension of a thread in recvmmsg(2), which the kernel notes as one when something has
/// been received (net/socket.c, do_recvmmsg): then it waits no more. While its other end lives, a socket has no other that a
/// look could take away, but one whose other end has connected elsewhere.
fn is_interrupted(one: &Description) -> Result<bool, Refusal> {
    const RESTART: i32 = 512;
    let refusal = |error| Refusal::new(one.name(), error);
    let peer = diag::query(one.stat.st_ino as u32).map_err(refusal)?.peer;
    Ok(peer != 0 && net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_ERROR).map_err(refusal)? == RESTART)
}

/// Of an end that is to be told ECONNRESET: leaves something unread in the other end, which is to be closed.
pub(crate) fn prepare_reset(own: RawFd, end: &End) -> Result<(), Refusal> {
    if !end.reset {
        return Ok(());
    }
    net::send(own, b"\0", libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
        .map(|_| ())
        .map_err(|error| Refusal::new("socket", error))
}

/// A datagram pair with messages, some of which may be empty: those can only be counted by taking all messages, which the
/// other end then sends again. `peeked` is what was seen without taking.
fn take_and_return(to: &Description, from: &Description, peeked: Vec<Message>) -> Result<Vec<Message>, Refusal> {
    let refusal = |error| Refusal::new(to.name(), error);
    if fd::poll_now(to.fd(), libc::POLLIN).map_err(refusal)? & libc::POLLIN == 0 {
        return Ok(peeked);
    }
    let mut messages = Vec::new();
    let mut buffer = vec![0u8; LARGEST_MESSAGE];
    loop {
        match net::receive(to.fd(), &mut buffer, libc::MSG_DONTWAIT) {
            Ok(length) => messages.push(Message { bytes: buffer[..length].to_vec(), carried: Vec::new() }),
            Err(error) if error.is(libc::EAGAIN) => break,
            Err(error) => return Err(refusal(error)),
        }
    }
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    messages.iter().try_for_each(|message| net::send(from.fd(), &message.bytes, flags).map(|_| ())).map_err(refusal)?;
    Ok(messages)
}

fn get_timeout(one: &Description, name: i32) -> Result<(i64, i64), Refusal> {
    let mut bytes = [0u8; 16];
    net::get_option_bytes(one.fd(), libc::SOL_SOCKET, name, &mut bytes)
        .map_err(|error| Refusal::new(one.name(), error))?;
    let (seconds, microseconds) = bytes.split_at(8);
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, i64::from_ne_bytes);
    Ok((word(seconds), word(microseconds)))
}

fn set_timeout(socket: RawFd, name: i32, (tv_sec, tv_usec): (i64, i64)) -> zap_plugin::sys::Result<()> {
    net::set_option(socket, libc::SOL_SOCKET, name, &libc::timeval { tv_sec, tv_usec })
}

/// Whether descriptors are in flight to `one`.
pub(crate) fn carries(one: &Description) -> Result<bool, Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    if fd::poll_now(one.fd(), libc::POLLIN).map_err(refusal)? & libc::POLLIN == 0 {
        return Ok(false);
    }
    let kind = net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_TYPE).map_err(refusal)?;
    is_reset(one, kind)?;
    let mut found = false;
    peeking(one, || {
        each_message(one.fd(), kind, |message| {
            found |= message.carries;
            Ok(())
        })
    })?;
    // Those that are empty can only be counted by taking all (`take_and_return`), and so what these carry.
    if found && kind == libc::SOCK_DGRAM {
        return Err(Refusal::new(
            one.name(),
            "descriptors are in flight in a datagram socket: not supported yet; repeat",
        ));
    }
    Ok(found)
}

/// Copies of the descriptors that are in flight to `one`, for each message that carries any.
pub(crate) fn copy_carried(one: &Description) -> Result<Vec<Vec<RawFd>>, Refusal> {
    let kind = net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_TYPE);
    let kind = kind.map_err(|error| Refusal::new(one.name(), error))?;
    let mut copies: Vec<Vec<RawFd>> = Vec::new();
    let result = peeking(one, || {
        each_message(one.fd(), kind, |message| {
            if !message.carries {
                return Ok(());
            }
            peek_from(one.fd(), message.at)?;
            let mut buffer = vec![0u8; message.bytes.len().max(1)];
            let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
            let (_, descriptors, flags) = net::receive_with_descriptors(one.fd(), &mut buffer, flags)?;
            copies.push(descriptors.as_slice().to_vec());
            // Of what it carries, not all has found a place.
            if flags & libc::MSG_CTRUNC != 0 || descriptors.as_slice().is_empty() {
                return Err(SysError::new("recvmsg", libc::EMFILE));
            }
            Ok(())
        })
    });
    if result.is_err() {
        for number in copies.iter().flatten() {
            let _ = fd::close(*number);
        }
    }
    result.map(|()| copies)
}

/// Reads all messages that wait at `one` without taking them.
fn peek(one: &Description, kind: i32) -> Result<Vec<Message>, Refusal> {
    let mut messages = Vec::new();
    let mut carried = one.carried.iter();
    peeking(one, || {
        each_message(one.fd(), kind, |message| {
            let known = if message.carries { carried.next() } else { None };
            let carried = known.cloned().unwrap_or_default();
            // It carries what is not known: credentials of a kind that is not looked for, a security label.
            if message.carries && carried.is_empty() {
                return Err(SysError::new("recvmsg", libc::ENOTSUP));
            }
            messages.push(Message { bytes: message.bytes.to_vec(), carried });
            Ok(())
        })
    })?;
    Ok(messages)
}

/// The process id with a message that tells of nobody, as when the option was set later.
const NOBODY: i32 = 0;

/// Whether messages wait at `one`, a socket with SO_PASSCRED, that somebody else has sent: sent again, or put back, they would be
/// this process's.
fn tells_of_others(one: &Description, kind: i32) -> Result<bool, Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    // The kernel tells the real ids (unix(7)).
    let [user, ..] = credentials::users().map_err(refusal)?;
    let [group, ..] = credentials::groups().map_err(refusal)?;
    let is_own = |of: libc::ucred| of.pid == process::getpid().0 && of.uid == user && of.gid == group;
    let mut others = false;
    peeking(one, || {
        let all = fd::bytes_readable(one.fd())?;
        let mut buffer = vec![0u8; LARGEST_MESSAGE];
        net::set_option(one.fd(), libc::SOL_SOCKET, libc::SO_PASSCRED, &1i32)?;
        let mut at = 0;
        // A stream's messages of one sender are read together.
        while !others && (kind != libc::SOCK_STREAM || at < all) {
            match net::receive_credentials(one.fd(), &mut buffer, libc::MSG_PEEK | libc::MSG_DONTWAIT) {
                Ok((length, from)) => {
                    others = from.is_some_and(|from| from.pid != NOBODY && !is_own(from));
                    at += length;
                    if length == 0 {
                        break;
                    }
                }
                Err(error) if error.is(libc::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    Ok(others)
}

/// How often a socket that another process looks at is tried, and the nanoseconds in between.
const TRIES: u32 = 5000;
const PAUSE_NS: u64 = 1_000_000;

/// Does `work` while `one` can be read without being taken from. SO_PEEK_OFF is the socket's, and other processes that
/// have the socket look at it too, at the same time: one after the other, by a lock that a process loses when it ends.
fn peeking(one: &Description, work: impl FnOnce() -> zap_plugin::sys::Result<()>) -> Result<(), Refusal> {
    let lock = |kind: i32| fd::lock_record(one.fd(), kind);
    let mut tries = 0;
    while let Err(error) = lock(libc::F_WRLCK) {
        tries += 1;
        if !(error.is(libc::EAGAIN) || error.is(libc::EACCES)) || tries == TRIES {
            return Err(Refusal::new(one.name(), error));
        }
        zap_plugin::sys::time::sleep_ns(PAUSE_NS);
    }
    let result = peeking_alone(one, work);
    let _ = lock(libc::F_UNLCK);
    result
}

fn peeking_alone(one: &Description, work: impl FnOnce() -> zap_plugin::sys::Result<()>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    let get = |name| net::get_option(one.fd(), libc::SOL_SOCKET, name).map_err(refusal);
    let set = |name, value: i32| net::set_option(one.fd(), libc::SOL_SOCKET, name, &value).map_err(refusal);
    let offset = get(libc::SO_PEEK_OFF)?;
    // Each message would seem to carry something.
    let credentials = get(libc::SO_PASSCRED)?;
    if credentials != 0 {
        set(libc::SO_PASSCRED, 0)?;
    }
    let result = peek_from(one.fd(), 0).and_then(|()| work());
    set(libc::SO_PEEK_OFF, offset)?;
    if credentials != 0 {
        set(libc::SO_PASSCRED, credentials)?;
    }
    result.map_err(refusal)
}

/// Where the next look without taking begins.
fn peek_from(socket: RawFd, at: usize) -> zap_plugin::sys::Result<()> {
    net::set_option(socket, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &(at as i32))
}

/// A message that waits; of a stream: what was sent with descriptors, or anything between two of those.
struct Waiting<'a> {
    /// Bytes before it.
    at: usize,
    bytes: &'a [u8],
    carries: bool,
}

/// How many of the bytes from `at` on were sent before what carries descriptors. The kernel reads them together, whose
/// end is that of `buffer`, and shows the descriptors with any of these bytes. But it takes up only what can be copied as a
/// whole: where the last byte has no place, the part that carries is left out, and there is nothing before it or this.
fn sent_before(socket: RawFd, at: usize, buffer: &mut [u8]) -> zap_plugin::sys::Result<usize> {
    let last = buffer.len().saturating_sub(1);
    peek_from(socket, at)?;
    match net::receive_without_last(socket, &mut buffer[..last], libc::MSG_PEEK | libc::MSG_DONTWAIT) {
        Ok((length, flags)) if flags & libc::MSG_CTRUNC == 0 => Ok(length),
        Ok(_) => Err(SysError::new("recvmsg", libc::ENOTSUP)),
        Err(error) if error.is(libc::EFAULT) => Ok(0),
        Err(error) => Err(error),
    }
}

/// Hands each message that waits at `socket` to `see`, within [`peeking`].
fn each_message(
    socket: RawFd,
    kind: i32,
    mut see: impl FnMut(&Waiting<'_>) -> zap_plugin::sys::Result<()>,
) -> zap_plugin::sys::Result<()> {
    let mut at = 0;
    // Of a datagram socket, the first message alone; else no message is longer, and a program may have many sockets.
    let all = fd::bytes_readable(socket)?;
    let room = if kind == libc::SOCK_DGRAM { LARGEST_MESSAGE } else { all.clamp(1, LARGEST_MESSAGE) };
    let mut buffer = vec![0u8; room];
    let look = |buffer: &mut [u8]| -> zap_plugin::sys::Result<(usize, bool, bool)> {
        let (length, flags) = net::receive_flags(socket, buffer, libc::MSG_PEEK | libc::MSG_DONTWAIT)?;
        Ok((length, flags & libc::MSG_TRUNC != 0, flags & libc::MSG_CTRUNC != 0))
    };
    loop {
        // Behind the last byte of a stream there may be an error, which whoever looks takes away.
        if kind == libc::SOCK_STREAM && at >= all {
            return Ok(());
        }
        let (length, truncated, carries) = match look(&mut buffer) {
            Ok(seen) => seen,
            // Something that is not shown so (MSG_OOB).
            Err(error) if error.is(libc::EAGAIN) && kind == libc::SOCK_STREAM => {
                return Err(SysError::new("recvmsg", libc::ENOTSUP));
            }
            Err(error) if error.is(libc::EAGAIN) => return Ok(()),
            Err(error) => return Err(error),
        };
        if truncated {
            return Err(SysError::new("recvmsg", libc::EMSGSIZE));
        }
        // The end of a stream reads as an empty message. An empty datagram is looked at once and then skipped by the
        // kernel, so that a second checkpoint would not see it: see `take_and_return`.
        if length == 0 && kind != libc::SOCK_DGRAM {
            return if carries || at < all { Err(SysError::new("recvmsg", libc::ENOTSUP)) } else { Ok(()) };
        }
        let mut start = 0;
        if carries && kind == libc::SOCK_STREAM {
            start = sent_before(socket, at, &mut buffer[..length])?;
            if start > 0 {
                see(&Waiting { at, bytes: &buffer[..start], carries: false })?;
            }
        }
        see(&Waiting { at: at + start, bytes: &buffer[start..length], carries })?;
        at += length;
        if carries {
            peek_from(socket, at)?;
        }
    }
}

pub(crate) fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let pairs: Vec<Pair> = decode(bytes)?;
    // All that others wait for comes first.
    let waits = |pair: &&Pair| matches!(pair.second, Second::Elsewhere { leads: false, .. });
    pairs.iter().filter(|pair| !waits(pair)).try_for_each(|pair| make(pair, context))?;
    pairs.iter().filter(waits).try_for_each(|pair| take_over(pair, context))
}

fn make(pair: &Pair, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("socket pair", error);
    let (first, second) =
        net::socketpair(libc::AF_UNIX, pair.kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0).map_err(refusal)?;
    set_up(first, &pair.first)?;
    match &pair.second {
        Second::Here(state) => set_up(second, state)?,
        // What had been sent must fit through the successor of the end that had sent it.
        _ => set_send_buffer(second, pair.first.receive_buffer.max(pair.first.send_buffer)).map_err(refusal)?,
    }
    let later = is_refilled_later(pair);
    if later {
        hold_both(pair, first, second, context)?;
    } else {
        refill_pair(pair, first, second, context)?;
    }
    match &pair.second {
        Second::Here(state) => hand_over(second, state, context)?,
        Second::Closed => {
            prepare_reset(first, &pair.first)?;
            fd::close(second).map_err(refusal)?;
        }
        Second::Elsewhere { object, .. } => {
            context.publish(*object, OWN, second)?;
            context.publish(*object, OTHER, first)?;
            fd::close(second).map_err(refusal)?;
        }
    }
    hand_over(first, &pair.first, context)
}

/// In the process that has one end, while another has made the pair. What is shut at one end is shut at the other too
/// (unix(7)), and that comes last.
fn take_over(pair: &Pair, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Second::Elsewhere { object, .. } = pair.second else { return Ok(()) };
    let refusal = |error| Refusal::new("socket pair", error);
    let own = context.subscribe(object, OWN)?;
    let other = context.subscribe(object, OTHER)?;
    set_up(own, &pair.first)?;
    if is_refilled_later(pair) {
        hold_both(pair, own, other, context)?;
    } else {
        refill_pair(pair, own, other, context)?;
    }
    fd::close(other).map_err(refusal)?;
    hand_over(own, &pair.first, context)
}

/// The kernel doubles what it is given and shows the double (socket(7)).
pub(crate) fn set_send_buffer(socket: RawFd, shown: i32) -> zap_plugin::sys::Result<()> {
    net::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &(shown / 2))
}

pub(crate) fn set_up(socket: RawFd, state: &End) -> Result<(), Refusal> {
    set_send_buffer(socket, state.send_buffer).map_err(|error| Refusal::new("socket", error))?;
    set_up_receiving(socket, state)
}

/// All but the send buffer, which belongs to what the other end has to receive.
pub(crate) fn set_up_receiving(socket: RawFd, state: &End) -> Result<(), Refusal> {
    let set = |name, value: i32| net::set_option(socket, libc::SOL_SOCKET, name, &value);
    set(libc::SO_RCVBUF, state.receive_buffer / 2)
        .and_then(|()| set(libc::SO_PASSCRED, i32::from(state.pass_credentials)))
        .and_then(|()| set_timeout(socket, libc::SO_RCVTIMEO, state.timeouts[0]))
        .and_then(|()| set_timeout(socket, libc::SO_SNDTIMEO, state.timeouts[1]))
        .and_then(|()| fd::change_mode(socket, state.mode))
        .map_err(|error| Refusal::new("socket", error))
}

/// Whether a pair has to wait for what is in flight in it.
fn is_refilled_later(pair: &Pair) -> bool {
    pair.first.carries() || matches!(&pair.second, Second::Here(end) if end.carries())
}

/// Keeps both ends until all descriptions have been made.
fn hold_both(pair: &Pair, first: RawFd, second: RawFd, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    for (part, end) in [(FIRST, first), (SECOND, second)] {
        let copy = fd::dup_above(end, 0).map_err(|error| Refusal::new("socket pair", error))?;
        context.hold(pair.first.id, part, copy);
    }
    Ok(())
}

/// Fills the pairs that had to wait.
pub(crate) fn refill_carrying(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let pairs: Vec<Pair> = decode(bytes)?;
    pairs.iter().filter(|pair| is_refilled_later(pair)).try_for_each(|pair| {
        let held = |part| context.held(pair.first.id, part).ok_or_else(|| Refusal::new("socket pair", "is not held"));
        refill_pair(pair, held(FIRST)?, held(SECOND)?, context)
    })
}

/// Sends what had been waiting at the ends that are this process's, and shuts what was shut. What another process has to
/// send or shut, it does.
fn refill_pair(pair: &Pair, first: RawFd, second: RawFd, context: &RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("socket pair", error);
    refill(second, &pair.first, context)?;
    match &pair.second {
        Second::Here(state) => {
            refill(first, state, context)?;
            shut(first, pair.first.shutdown).map_err(refusal)?;
            shut(second, state.shutdown).map_err(refusal)
        }
        Second::Elsewhere { leads: false, .. } => shut(first, pair.first.shutdown).map_err(refusal),
        Second::Closed | Second::Elsewhere { .. } => Ok(()),
    }
}

/// More than any send buffer allows.
const LARGEST_BUFFER: i32 = 64 << 20;

/// Sends from one end what had been waiting at the other, `to`.
pub(crate) fn refill(from: RawFd, to: &End, context: &RestoreContext<'_>) -> Result<(), Refusal> {
    if to.waiting.is_empty() {
        return Ok(());
    }
    let refusal = |error| Refusal::new(format!("Unix socket with {} bytes waiting", to.length()), error);
    // What was sent may be more than may be sent now.
    let buffer = net::get_option(from, libc::SOL_SOCKET, libc::SO_SNDBUF).map_err(refusal)?;
    set_send_buffer(from, LARGEST_BUFFER).map_err(refusal)?;
    // What carries descriptors is received at once as it was sent.
    let weight = if to.carries() { 0 } else { to.weight as usize };
    let mut load = Load { weight, smallest: 0, rest: to.length() };
    for message in &to.waiting {
        let missing = || Refusal::new("descriptor in flight", "has not been made");
        let carried = message.carried.iter().map(|id| context.held(*id, IN_FLIGHT).ok_or_else(missing));
        let carried = carried.collect::<Result<Vec<_>, _>>()?;
        send_all(from, message, &carried, &mut load).map_err(refusal)?;
    }
    set_send_buffer(from, buffer).map_err(refusal)
}

/// How a stream's bytes are divided so that they weigh what they did: the kernel counts memory, of which many small pieces need
/// more. A socket that was full is full again.
struct Load {
    /// What all is to weigh; 0 where that does not matter.
    weight: usize,
    /// What the smallest piece weighs.
    smallest: usize,
    /// Bytes that are still to be sent.
    rest: usize,
}

impl Load {
    /// How many bytes to send next of those that are left, after pieces that weigh `now`.
    fn piece(&mut self, now: usize) -> usize {
        /// The kernel needs no more memory for larger ones (SKB_MAX_ALLOC and pages, net/unix/af_unix.c).
        const LARGEST: usize = 32768;
        if self.weight == 0 {
            return self.rest;
        }
        if self.smallest == 0 {
            // The first piece is one byte, and tells.
            self.smallest = now;
            if now == 0 {
                return 1;
            }
        }
        let excess = (self.rest * self.smallest).saturating_sub(self.weight.saturating_sub(now));
        (excess / self.smallest.max(1)).clamp(1, LARGEST)
    }
}

/// Sends one message. Of a stream's, the descriptors go with its first byte.
fn send_all(from: RawFd, message: &Message, carried: &[RawFd], load: &mut Load) -> zap_plugin::sys::Result<()> {
    let (mut rest, mut carried) = (message.bytes.as_slice(), carried);
    loop {
        let piece = match load.weight {
            0 => rest.len(),
            _ => load.piece(net::unreceived(from)?).min(rest.len()),
        };
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let sent = net::send_with_descriptors(from, &rest[..piece], carried, flags)?;
        (rest, carried) = (&rest[sent..], &[]);
        load.rest -= sent.min(load.rest);
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Shuts the halves of an end that were. Where the peer has closed, that has done it.
pub(crate) fn shut(socket: RawFd, shutdown: u8) -> zap_plugin::sys::Result<()> {
    match shutdown & 3 {
        1 => net::shutdown(socket, libc::SHUT_RD),
        2 => net::shutdown(socket, libc::SHUT_WR),
        3 => net::shutdown(socket, libc::SHUT_RDWR),
        _ => Ok(()),
    }
}

pub(crate) fn hand_over(socket: RawFd, state: &End, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let flags = state.flags & (libc::O_NONBLOCK | libc::O_ASYNC);
    fd::fcntl(socket, libc::F_SETFL, flags as usize).map_err(|error| Refusal::new("socket pair", error))?;
    context.install(state.id, socket)
}
