//! Unix socket pairs: messages in flight with their boundaries, buffer sizes, shut-down halves, closed peers.
//!
//! Messages are read without being taken (SO_PEEK_OFF, unix(7)), so that a failed checkpoint has nothing to put back.

use crate::diag;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{fd, libc, net, RawFd, SysError};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "socket.pairs";
const VERSION: u32 = 2;

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
    id: u32,
    flags: i32,
    send_buffer: i32,
    receive_buffer: i32,
    pass_credentials: bool,
    /// SO_RCVTIMEO and SO_SNDTIMEO: seconds, microseconds.
    timeouts: [(i64, i64); 2],
    /// As `diag::UnixSocket::shutdown`.
    shutdown: u8,
    /// What waits to be received here. A stream's messages are just parts.
    waiting: Vec<Vec<u8>>,
}

/// Largest message of a Unix socket that is read at once: more than any send buffer allows by default.
const LARGEST_MESSAGE: usize = 1 << 20;

pub(crate) fn save(context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let own = context.claimed.clone();
    let mut pairs: Vec<Pair> = Vec::new();
    let mut done: Vec<u32> = Vec::new();
    let mut unconnected = Vec::new();
    for one in &own {
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
        let first = save_end(one, kind, socket.shutdown, true)?;
        done.push(one.id);
        let mut first = first;
        let share = one.share;
        let second = if socket.peer == 0 {
            Second::Closed
        } else if let Some(peer) = own.iter().find(|other| other.stat.st_ino as u32 == socket.peer) {
            done.push(peer.id);
            refuse_named(peer)?;
            let socket = diag::query(peer.stat.st_ino as u32).map_err(refusal)?;
            let mut second = save_end(peer, kind, socket.shutdown, true)?;
            // What is taken must be sendable again.
            if kind == libc::SOCK_DGRAM && first.shutdown == 0 && second.shutdown == 0 {
                first.waiting = take_and_return(one, peer, first.waiting)?;
                second.waiting = take_and_return(peer, one, second.waiting)?;
            }
            Second::Here(second)
        } else if share.object == 0 {
            return Err(Refusal::new(one.name(), "is connected to a socket outside of the pod"));
        } else if kind == libc::SOCK_DGRAM && socket.shutdown != 0 {
            // Not told to the other end, which does the last step.
            return Err(Refusal::new(
                one.name(),
                "a datagram pair of two processes with a half shut is not supported yet",
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

/// Named and listening sockets are no pairs.
fn refuse_named(one: &Description) -> Result<(), Refusal> {
    let mut name = [0u8; 128];
    // An unnamed socket's address is the family alone.
    let local = net::local_name(one.fd(), &mut name).map_err(|error| Refusal::new(one.name(), error))?;
    let peer = net::peer_name(one.fd(), &mut name).unwrap_or(2);
    if local > 2 || peer > 2 {
        return Err(Refusal::new(one.name(), "Unix sockets with a name are not supported yet"));
    }
    Ok(())
}

/// `connected`: something may wait to be received.
pub(crate) fn save_end(one: &Description, kind: i32, shutdown: u8, connected: bool) -> Result<End, Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    let option = |name| net::get_option(one.fd(), libc::SOL_SOCKET, name).map_err(refusal);
    Ok(End {
        id: one.id,
        flags: one.status_flags(),
        send_buffer: option(libc::SO_SNDBUF)?,
        receive_buffer: option(libc::SO_RCVBUF)?,
        pass_credentials: option(libc::SO_PASSCRED)? != 0,
        timeouts: [get_timeout(one, libc::SO_RCVTIMEO)?, get_timeout(one, libc::SO_SNDTIMEO)?],
        shutdown,
        waiting: if connected { peek(one, kind)? } else { Vec::new() },
    })
}

/// A datagram pair with messages, some of which may be empty: those can only be counted by taking all messages, which the
/// other end then sends again. `peeked` is what was seen without taking.
fn take_and_return(to: &Description, from: &Description, peeked: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Refusal> {
    let refusal = |error| Refusal::new(to.name(), error);
    if fd::poll_now(to.fd(), libc::POLLIN).map_err(refusal)? & libc::POLLIN == 0 {
        return Ok(peeked);
    }
    let mut messages = Vec::new();
    let mut buffer = vec![0u8; LARGEST_MESSAGE];
    loop {
        match net::receive(to.fd(), &mut buffer, libc::MSG_DONTWAIT) {
            Ok(length) => messages.push(buffer[..length].to_vec()),
            Err(error) if error.is(libc::EAGAIN) => break,
            Err(error) => return Err(refusal(error)),
        }
    }
    refill(from.fd(), &messages)?;
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

/// Reads all messages that wait at `one` without taking them.
fn peek(one: &Description, kind: i32) -> Result<Vec<Vec<u8>>, Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    let before = net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF).map_err(refusal)?;
    net::set_option(one.fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, &0i32).map_err(refusal)?;
    let result = peek_all(one.fd(), kind);
    net::set_option(one.fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, &before).map_err(refusal)?;
    result.map_err(|error| match error {
        Some(error) => refusal(error),
        None => Refusal::new(one.name(), "descriptors are in flight in it"),
    })
}

/// `None` as the error means that a message carries descriptors.
fn peek_all(socket: RawFd, kind: i32) -> Result<Vec<Vec<u8>>, Option<SysError>> {
    let mut messages = Vec::new();
    let mut buffer = vec![0u8; LARGEST_MESSAGE];
    loop {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        match net::receive_with_descriptors(socket, &mut buffer, flags) {
            Ok((length, descriptors, flags)) => {
                for descriptor in descriptors.as_slice() {
                    let _ = fd::close(*descriptor);
                }
                if !descriptors.as_slice().is_empty() {
                    return Err(None);
                }
                if flags & libc::MSG_TRUNC != 0 {
                    return Err(Some(SysError::new("recvmsg", libc::EMSGSIZE)));
                }
                // The end of a stream reads as an empty message. An empty datagram is looked at once and then skipped
                // by the kernel, so that a second checkpoint would not see it: see `take_and_return`.
                if length == 0 && kind != libc::SOCK_DGRAM {
                    return Ok(messages);
                }
                messages.push(buffer[..length].to_vec());
            }
            Err(error) if error.is(libc::EAGAIN) => return Ok(messages),
            // The peer is gone, with or without unread data of ours.
            Err(error) if error.is(libc::ECONNRESET) => return Ok(messages),
            Err(error) => return Err(Some(error)),
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
    refill(second, &pair.first.waiting)?;
    match &pair.second {
        Second::Here(state) => {
            refill(first, &state.waiting)?;
            shut(first, pair.first.shutdown).map_err(refusal)?;
            shut(second, state.shutdown).map_err(refusal)?;
            hand_over(second, state, context)?;
        }
        Second::Closed => fd::close(second).map_err(refusal)?,
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
    refill(other, &pair.first.waiting)?;
    shut(own, pair.first.shutdown).map_err(refusal)?;
    fd::close(other).map_err(refusal)?;
    hand_over(own, &pair.first, context)
}

/// The kernel doubles what it is given and shows the double (socket(7)).
fn set_send_buffer(socket: RawFd, shown: i32) -> zap_plugin::sys::Result<()> {
    net::set_option(socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &(shown / 2))
}

pub(crate) fn set_up(socket: RawFd, state: &End) -> Result<(), Refusal> {
    let set = |name, value: i32| net::set_option(socket, libc::SOL_SOCKET, name, &value);
    set_send_buffer(socket, state.send_buffer)
        .and_then(|()| set(libc::SO_RCVBUF, state.receive_buffer / 2))
        .and_then(|()| set(libc::SO_PASSCRED, i32::from(state.pass_credentials)))
        .and_then(|()| set_timeout(socket, libc::SO_RCVTIMEO, state.timeouts[0]))
        .and_then(|()| set_timeout(socket, libc::SO_SNDTIMEO, state.timeouts[1]))
        .map_err(|error| Refusal::new("socket pair", error))
}

/// Sends from one end what had been waiting at the other.
fn refill(from: RawFd, messages: &[Vec<u8>]) -> Result<(), Refusal> {
    for message in messages {
        let mut rest = message.as_slice();
        loop {
            let sent = net::send(from, rest, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
                .map_err(|error| Refusal::new(format!("socket pair with {} bytes waiting", message.len()), error))?;
            rest = &rest[sent..];
            if rest.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// Shuts the halves of an end that were. Where the peer has closed, that has done it.
fn shut(socket: RawFd, shutdown: u8) -> zap_plugin::sys::Result<()> {
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
