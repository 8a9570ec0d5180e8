//! Unix stream and seqpacket sockets with a name: those that listen, that were accepted or have called, and that are bound
//! and nothing else yet.
//!
//! An end that was accepted bears its listener's name, and only accept(2) gives it that: so connections are made through
//! a socket that listens under the name, the program's own or one for the moment. A name can be bound once at a time,
//! whatever processes have a part in it. So all named sockets of a pod are one object, whose leader makes them all, and
//! the others get theirs from it. What it must know of them they tell ([`Note`]).
//!
//! What waits to be received is saved and sent again by whoever has the end, as with pairs. Who waits to be accepted calls
//! again, in the same order. Whoever else calls in between is hung up on, as by any server that starts anew: at a path
//! that can only be the same user, since the file is private until all is made.

use crate::diag;
use crate::names::{self, new_socket, Address};
use crate::pairs::{self, hand_over, save_end, set_up, set_up_receiving, End, FIRST, SECOND};
use crate::plan::{part_of, Caller, Connection, Ids, Listener, Note, Other, Plan, Pod, Role, CLOSED_END};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{credentials, fd, libc, net, RawFd, SysError};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "socket.named";
const VERSION: u32 = 2;

/// No device has this number.
const OBJECT: (u64, u64) = (u64::MAX, 1);

/// A socket of this process.
#[derive(Serialize, Deserialize)]
struct State {
    part: u32,
    /// Of the end through which it gets what waits for it.
    other: Option<u32>,
    end: End,
    backlog: Option<u32>,
    ids: Ids,
    /// SO_REUSEADDR, which does nothing here but can be asked for.
    reuse: i32,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    /// The object's name in the pod, 0 when all sockets with names are this process's.
    object: u64,
    /// In the order of their parts.
    states: Vec<State>,
    /// In the process that makes them.
    plan: Option<Plan>,
}

impl Saved {
    fn state(&self, part: u32) -> Option<&State> {
        self.states.binary_search_by_key(&part, |state| state.part).ok().and_then(|index| self.states.get(index))
    }
}

/// Whether it is a stream or seqpacket socket that has a name, or is connected to one.
pub(crate) fn is_named(one: &Description) -> bool {
    let kind = net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_TYPE);
    let has_name = |peer| net::unix_name(one.fd(), peer, &mut [0; 128]).is_ok_and(|name| !name.is_empty());
    matches!(kind, Ok(libc::SOCK_STREAM | libc::SOCK_SEQPACKET)) && (has_name(false) || has_name(true))
}

pub(crate) fn listens(one: &Description) -> bool {
    net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_ACCEPTCONN).is_ok_and(|listens| listens != 0)
}

pub(crate) fn object(one: &Description) -> Option<(u64, u64)> {
    is_named(one).then_some(OBJECT)
}

pub(crate) fn note(one: &Description) -> Result<Option<Vec<u8>>, Refusal> {
    if !is_named(one) {
        return Ok(None);
    }
    encode(&note_of(one)?).map(Some)
}

fn note_of(one: &Description) -> Result<Note, Refusal> {
    let refusal = |error| Refusal::new(one.name(), error);
    let option = |name| net::get_option(one.fd(), libc::SOL_SOCKET, name).map_err(refusal);
    let inode = one.stat.st_ino as u32;
    let socket = diag::query(inode).map_err(refusal)?;
    let name = |peer| net::unix_name(one.fd(), peer, &mut [0; 128]).map(<[u8]>::to_vec).unwrap_or_default();
    let role = match socket.listens {
        Some((backlog, waiting)) => Role::Listens { backlog, waiting },
        None if socket.is_unconnected => Role::Bound,
        None => {
            let is_heard = net::unreceived(one.fd()).map_err(refusal)? == 0;
            Role::Connected { peer: socket.peer, is_heard }
        }
    };
    Ok(Note {
        inode,
        kind: option(libc::SO_TYPE)?,
        role,
        shutdown: socket.shutdown,
        own: names::find(name(false), socket.file).map_err(|why| Refusal::new(one.name(), why))?,
        other: name(true),
        send_buffer: option(libc::SO_SNDBUF)?,
        ids: net::peer_ids(one.fd()).map_err(refusal)?,
        process: own_ids().map_err(refusal)?,
    })
}

/// Returns those of which only one end of a pair is left, each with its type.
pub(crate) fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<Vec<(i32, End)>, Refusal> {
    let mut left = Vec::new();
    let Some(share) = own.first().map(|one| one.share) else { return Ok(left) };
    let notes: Vec<Note> = if share.object == 0 {
        own.iter().map(|one| note_of(one)).collect::<Result<_, _>>()?
    } else {
        context.notes(share.object).map(decode).collect::<Result<_, _>>()?
    };
    let pod = Pod::new(notes);
    let mut states = Vec::new();
    for one in own {
        let refusal = |error| Refusal::new(one.name(), error);
        let inode = one.stat.st_ino as u32;
        let known = part_of(inode, &pod.notes).and_then(|part| Some((part, pod.notes.get(part as usize / 2)?)));
        let (part, note) = known.ok_or_else(|| Refusal::new(one.name(), "nothing was told of it"))?;
        let other = pod.other_of(note).map_err(|why| Refusal::new(one.name(), why))?;
        let peer = match other {
            Other::Closed | Other::Gone => Some(0),
            Other::End(inode) => Some(inode),
            Other::Nothing | Other::Waits(..) => None,
        };
        let end = save_end(one, note.kind, note.shutdown, peer)?;
        if end.reset && !matches!(other, Other::Closed | Other::Gone) {
            return Err(Refusal::new(one.name(), "an error waits to be told to the program: repeat"));
        }
        if other == Other::Gone {
            left.push((note.kind, end));
            continue;
        }
        states.push(State {
            part,
            other: match other {
                Other::Nothing | Other::Waits(..) | Other::Gone => None,
                Other::Closed => Some(part + CLOSED_END),
                Other::End(peer) => part_of(peer, &pod.notes),
            },
            end,
            backlog: if let Role::Listens { backlog, .. } = note.role { Some(backlog) } else { None },
            ids: note.ids,
            reuse: net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR).map_err(refusal)?,
        });
    }
    states.sort_by_key(|state| state.part);
    let leads = share.object == 0 || own.iter().any(|one| one.share.leads_object);
    let bound = || diag::all_bound().map_err(|error| Refusal::new("Unix sockets", error));
    let plan = if leads { Some(pod.plan(bound)?) } else { None };
    context.section(SECTION, VERSION, encode(&Saved { object: share.object, states, plan })?);
    Ok(left)
}

/// Makes all sockets, in the process that does, takes its own, and hands the others theirs. Each is at its place before the
/// next is made: a program may have as many descriptors as it is allowed to have.
pub(crate) fn make(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let mut saved: Saved = decode(bytes)?;
    saved.plan.iter_mut().flat_map(Plan::addresses).for_each(|address| address.move_to(|path| context.path_now(path)));
    let Some(plan) = &saved.plan else { return Ok(()) };
    let (early, late, made) = (VecDeque::new(), Vec::new(), Vec::new());
    let mut maker = Maker { context, saved: &saved, early, late, made };
    let result = maker.all(plan);
    if result.is_err() {
        for (socket, address) in &maker.made {
            address.remove(*socket);
        }
    }
    let left = maker.early.iter().copied().chain(maker.made.iter().map(|(socket, _)| *socket));
    left.for_each(|socket| {
        let _ = fd::close(socket);
    });
    result
}

struct Maker<'a, 'b> {
    context: &'a mut RestoreContext<'b>,
    saved: &'a Saved,
    /// Callers whose names have been needed for a moment, in the order of their calls.
    early: VecDeque<RawFd>,
    /// Callers that get the names that they keep when no name is needed for a moment any more.
    late: Vec<(RawFd, &'a Address)>,
    /// What has a file, to be removed if not all can be made.
    made: Vec<(RawFd, &'a Address)>,
}

impl<'a> Maker<'a, '_> {
    fn all(&mut self, plan: &'a Plan) -> Result<(), Refusal> {
        for (kind, caller) in plan.callers().filter(|(_, caller)| caller.address.is_passing()) {
            let socket = new_socket(kind).map_err(|error| caller.address.refusal(error))?;
            self.early.push_back(socket);
            caller.address.bind(socket)?;
            caller.address.remove(socket);
        }
        plan.listeners.iter().try_for_each(|listener| self.listener(listener))?;
        while let Some((socket, address)) = self.late.pop() {
            self.made.push((socket, address));
            address.bind(socket)?;
            address.settle(socket)?;
        }
        Ok(())
    }

    fn listener(&mut self, listener: &'a Listener) -> Result<(), Refusal> {
        let refusal = |error| listener.address.refusal(error);
        let socket = new_socket(listener.kind).map_err(refusal)?;
        let made = listener.address.bind(socket).and_then(|()| {
            let made = listener.address.in_directory(|| self.connections(socket, listener));
            made.and_then(|()| listener.address.settle(socket)).inspect_err(|_| listener.address.remove(socket))
        });
        if let Err(refusal) = made {
            let _ = fd::close(socket);
            return Err(refusal);
        }
        if listener.address.place().is_some() {
            self.made.push((fd::dup_above(socket, 0).map_err(refusal)?, &listener.address));
        }
        match listener.part {
            Some(part) => self.give(part, socket),
            None => fd::close(socket).map_err(refusal),
        }
    }

    fn connections(&mut self, socket: RawFd, listener: &'a Listener) -> Result<(), Refusal> {
        let refusal = |error| listener.address.refusal(error);
        if listener.backlog.is_none() && listener.accepted.is_empty() {
            return Ok(());
        }
        let most = listener.backlog.unwrap_or_default().max(listener.waiting.len() as u32);
        let listen = |backlog: u32| net::listen(socket, backlog.min(i32::MAX as u32) as i32);
        become_for(listener.ids, || listen(most.max(1))).map_err(refusal)?;
        for connection in &listener.accepted {
            let theirs = self.call(listener, &connection.caller)?;
            let ours = accept(socket, theirs).map_err(refusal)?;
            self.give_both(connection, ours, theirs)?;
        }
        for caller in &listener.waiting {
            let theirs = self.call(listener, caller)?;
            match caller.part {
                Some((part, _)) => self.give(part, theirs)?,
                None => fd::close(theirs).map_err(refusal)?,
            }
        }
        if let Some(backlog) = listener.backlog {
            become_for(listener.ids, || listen(backlog)).map_err(refusal)?;
        }
        Ok(())
    }

    /// A socket that is connected to `listener`, or waits to be.
    fn call(&mut self, listener: &Listener, caller: &'a Caller) -> Result<RawFd, Refusal> {
        let refusal = |error| listener.address.refusal(error);
        let early = if caller.address.is_passing() { self.early.pop_front() } else { None };
        let socket = early.map_or_else(|| new_socket(listener.kind), Ok).map_err(refusal)?;
        let connect = || net::connect_unix(socket, &listener.address.name);
        let called = match become_for(caller.ids, connect) {
            // The end of who has gone: as whom it called may be known to be told, by one who may not become that.
            Err(error) if caller.part.is_none() && (error.is(libc::EPERM) || error.is(libc::EINVAL)) => connect(),
            result => result,
        };
        called.map_err(refusal)?;
        if early.is_none() && !caller.address.name.is_empty() {
            self.late.push((fd::dup_above(socket, 0).map_err(refusal)?, &caller.address));
        }
        Ok(socket)
    }

    fn give_both(&mut self, connection: &Connection, ours: RawFd, theirs: RawFd) -> Result<(), Refusal> {
        let refusal = |error| Refusal::new("Unix socket", error);
        let (accepted, caller) = (connection.accepted, connection.caller.part);
        let part = |one: Option<(u32, i32)>, other: Option<(u32, i32)>| {
            one.map(|(part, _)| part).or(other.map(|(part, _)| part + CLOSED_END))
        };
        let ends = [(ours, accepted, part(accepted, caller)), (theirs, caller, part(caller, accepted))];
        for (end, known, _) in ends {
            if let Some((_, send_buffer)) = known {
                pairs::set_send_buffer(end, send_buffer).map_err(refusal)?;
            }
        }
        // Who has one end needs the other to send through.
        if [accepted, caller].iter().flatten().any(|(part, _)| self.saved.state(*part).is_none()) {
            for (end, _, part) in ends {
                if let Some(part) = part {
                    self.context.publish(self.saved.object, part, end)?;
                }
            }
        }
        let own = ends.map(|(.., part)| part.and_then(|part| self.saved.state(part)));
        for (state, end, other) in [(own[0], ours, theirs), (own[1], theirs, ours)] {
            if let Some(state) = state {
                take_connected(state, end, other, self.context)?;
            }
        }
        for (state, end) in [(own[0], ours), (own[1], theirs)] {
            match state {
                Some(state) => hand_over(end, &state.end, self.context)?,
                None => fd::close(end).map_err(refusal)?,
            }
        }
        Ok(())
    }

    /// Keeps what is this process's, and hands what is not to the others.
    fn give(&mut self, part: u32, socket: RawFd) -> Result<(), Refusal> {
        if let Some(state) = self.saved.state(part) {
            take_alone(state, socket, self.saved.object)?;
            return hand_over(socket, &state.end, self.context);
        }
        self.context.publish(self.saved.object, part, socket)?;
        fd::close(socket).map_err(|error| Refusal::new("Unix socket", error))
    }
}

/// The other end of `caller`. Whoever has been quicker finds, as with any server that starts anew, that it is hung up on.
fn accept(listener: RawFd, caller: RawFd) -> zap_plugin::sys::Result<RawFd> {
    let inode = |socket| fd::fstat(socket).map(|stat| stat.st_ino as u32);
    let wanted = inode(caller)?;
    loop {
        let socket = net::accept(listener, libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)?;
        if diag::query(inode(socket)?)?.peer == wanted {
            return Ok(socket);
        }
        fd::close(socket)?;
    }
}

fn own_ids() -> zap_plugin::sys::Result<Ids> {
    Ok((credentials::users()?[1], credentials::groups()?[1]))
}

/// Does `work` as the user and group that others are told of (SO_PEERCRED). To the file system it remains who it was: the
/// sockets' files are its own and private.
fn become_for<T>(ids: Option<Ids>, work: impl FnOnce() -> zap_plugin::sys::Result<T>) -> zap_plugin::sys::Result<T> {
    const SAME: u32 = u32::MAX;
    let own = own_ids()?;
    let Some((user, group)) = ids.filter(|ids| *ids != own) else { return work() };
    credentials::set_groups(&[SAME, group, SAME])?;
    let result = credentials::set_users(&[SAME, user, SAME]).and_then(|()| {
        credentials::file_group(own.1);
        credentials::file_user(own.0);
        work()
    });
    credentials::set_users(&[SAME, own.0, SAME])?;
    credentials::set_groups(&[SAME, own.1, SAME])?;
    result
}

/// Gives the process the sockets that another one has made, with what waits for them.
pub(crate) fn take(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let saved: Saved = decode(bytes)?;
    if saved.plan.is_some() {
        return Ok(());
    }
    for state in &saved.states {
        let own = context.subscribe(saved.object, state.part)?;
        match state.other {
            None => take_alone(state, own, saved.object)?,
            Some(other) => {
                let other = context.subscribe(saved.object, other)?;
                take_connected(state, own, other, context)?;
                fd::close(other).map_err(|error| Refusal::new("Unix socket", error))?;
            }
        }
        hand_over(own, &state.end, context)?;
    }
    Ok(())
}

fn set_reuse(state: &State, socket: RawFd) -> Result<(), Refusal> {
    net::set_option(socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, &state.reuse)
        .map_err(|error| Refusal::new("Unix socket", error))
}

/// Makes a socket that has no other end, or none yet, what it was.
fn take_alone(state: &State, own: RawFd, object: u64) -> Result<(), Refusal> {
    let refusal = |error: SysError| Refusal::new("Unix socket", error);
    set_reuse(state, own)?;
    set_up(own, &state.end)?;
    // The one that others are told of (SO_PEERCRED) is who has said last that it listens.
    if let Some(backlog) = state.backlog.filter(|_| object != 0) {
        let backlog = backlog.min(i32::MAX as u32) as i32;
        become_for(Some(state.ids), || net::listen(own, backlog)).map_err(refusal)?;
    }
    // A listener that was shut takes no new callers. Those that wait have been put there before.
    pairs::shut(own, state.end.shutdown).map_err(refusal)
}

fn take_connected(state: &State, own: RawFd, other: RawFd, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("Unix socket", error);
    set_reuse(state, own)?;
    set_up_receiving(own, &state.end)?;
    if !state.end.carries() {
        return fill(own, other, &state.end, context);
    }
    for (part, end) in [(FIRST, own), (SECOND, other)] {
        context.hold(state.end.id, part, fd::dup_above(end, 0).map_err(refusal)?);
    }
    Ok(())
}

/// Sends what waits for `own` from the other end, and shuts the half through which it came. The other half is shut with
/// that of the other end (unix(7)), when that has what waits for it.
fn fill(own: RawFd, other: RawFd, end: &End, context: &RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("Unix socket", error);
    pairs::prepare_reset(own, end)?;
    pairs::refill(other, end, context)?;
    if end.shutdown & 1 != 0 {
        net::shutdown(own, libc::SHUT_RD).map_err(refusal)?;
    }
    Ok(())
}

/// Fills those that had to wait for descriptors in flight.
pub(crate) fn refill_carrying(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let saved: Saved = decode(bytes)?;
    saved.states.iter().filter(|state| state.end.carries()).try_for_each(|state| {
        let held = |part| context.held(state.end.id, part).ok_or_else(|| Refusal::new("Unix socket", "is not held"));
        fill(held(FIRST)?, held(SECOND)?, &state.end, context)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only this thread becomes the other user: to the kernel ids are a thread's.
    #[test]
    fn another_user_calls_at_a_file_that_is_private() {
        let other = (65534, 65534);
        let path = format!("{}/zap-private-{}", std::env::temp_dir().display(), std::process::id());
        let address = Address { name: path.clone().into_bytes(), ..Address::default() };
        let (listener, caller) = (new_socket(libc::SOCK_STREAM).unwrap(), new_socket(libc::SOCK_STREAM).unwrap());
        address.bind(listener).unwrap();
        net::listen(listener, 1).unwrap();
        let own = own_ids().unwrap();
        let connect = || net::connect_unix(caller, path.as_bytes());
        if own.0 == 0 {
            become_for(Some(other), connect).unwrap();
            let end = net::accept(listener, libc::SOCK_CLOEXEC).unwrap();
            assert_eq!((net::peer_ids(end).unwrap(), own_ids().unwrap()), (other, own));
            fd::close(end).unwrap();
        } else {
            // Who may not become the other one is told, and stays who he is.
            assert!(become_for(Some(other), connect).unwrap_err().is(libc::EPERM));
            assert_eq!(own_ids().unwrap(), own);
        }
        assert_eq!(fd::link_stat(zap_plugin::sys::small!("{path}").as_c_str()).unwrap().st_mode & 0o7777, 0o700);
        address.remove(listener);
        assert!(std::fs::symlink_metadata(&path).is_err());
        [listener, caller].into_iter().for_each(|socket| fd::close(socket).unwrap());
    }
}
