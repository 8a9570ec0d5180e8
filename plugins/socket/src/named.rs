//! Unix stream and seqpacket sockets with a name: those that listen, that were accepted or have called, and that are bound
//! and nothing else yet.
//!
//! An end that was accepted bears its listener's name, and only accept(2) gives it that: so connections are made through
//! a socket that listens under the name, the program's own or one for the moment. A name can be bound once at a time,
//! whatever processes have a part in it. So all named sockets of a pod are one object, whose leader makes them all, and
//! the others get theirs from it. What it must know of them they tell ([`Note`]).
//!
//! What waits to be received is saved and sent again by whoever has the end, as with pairs. Who waits to be accepted calls
//! again, before anybody else can.

use crate::diag;
use crate::pairs::{self, hand_over, save_end, set_up, set_up_receiving, End, FIRST, SECOND};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::{CPath, PATH_MAX};
use zap_plugin::sys::{credentials, fd, libc, net, process, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "socket.named";
const VERSION: u32 = 1;

/// No device has this number.
const OBJECT: (u64, u64) = (u64::MAX, 1);

/// A name, and where it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
    /// As `sun_path` has it; a name without a path begins with a NUL.
    #[serde(with = "serde_bytes")]
    name: Vec<u8>,
    /// Where a relative path begins.
    #[serde(with = "serde_bytes")]
    directory: Vec<u8>,
    /// The file at the path; nothing when it has been removed.
    place: Option<Place>,
}

/// A socket in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    mode: u32,
    user: u32,
    group: u32,
}

/// User and group (SO_PEERCRED).
type Ids = (u32, u32);

/// What is told of a socket to whoever makes it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    inode: u32,
    kind: i32,
    role: Role,
    /// Its own name, and that of the other end.
    own: Address,
    other: Address,
    send_buffer: i32,
    ids: Ids,
    /// Of the process itself.
    process: Ids,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Role {
    Bound,
    /// As [`diag::UnixSocket::listens`].
    Listens {
        backlog: u32,
        waiting: Vec<u32>,
    },
    /// As `peer` and `shutdown` of [`diag::UnixSocket`]; `is_heard`: all that it has sent has been received.
    Connected {
        peer: u32,
        shutdown: u8,
        is_heard: bool,
    },
}

/// What there is for an end at the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Other {
    /// It is not connected.
    Nothing,
    /// The listener at which it waits to be accepted has not done so: the listener's inode.
    Waits(u32),
    Closed,
    /// The inode of the other end.
    End(u32),
}

/// What the leader makes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    listeners: Vec<Listener>,
}

/// A socket with a name, and who has connected to it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Listener {
    kind: i32,
    address: Address,
    /// The program's own; nothing when it is there for the moment only.
    part: Option<u32>,
    /// Nothing when it does not listen (any more).
    backlog: Option<u32>,
    ids: Option<Ids>,
    accepted: Vec<Connection>,
    waiting: Vec<Caller>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Connection {
    /// Nothing when it has been closed; with its send buffer.
    accepted: Option<(u32, i32)>,
    caller: Caller,
}

/// The end that has called.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Caller {
    /// As [`Connection::accepted`].
    part: Option<(u32, i32)>,
    /// Empty unless it was bound before it called.
    address: Address,
    /// As whom it called; nothing where nobody can ask.
    ids: Option<Ids>,
}

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
    states: Vec<State>,
    /// In the process that makes them.
    plan: Option<Plan>,
}

/// The parts are numbered by the inodes, so that all processes number them alike: each has two, itself and, when its other
/// end is closed, that one.
fn part_of(inode: u32, notes: &[Note]) -> Option<u32> {
    notes.binary_search_by_key(&inode, |note| note.inode).ok().map(|index| 2 * index as u32)
}

const CLOSED_END: u32 = 1;

/// Both halves (RCV_SHUTDOWN, SEND_SHUTDOWN of the kernel).
const SHUT: u8 = 3;

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
            Role::Connected { peer: socket.peer, shutdown: socket.shutdown, is_heard }
        }
    };
    // Who was accepted knows what has become of its listener's file; the listener itself must be found by it.
    let must_be_there = !matches!(role, Role::Connected { .. });
    Ok(Note {
        inode,
        kind: option(libc::SO_TYPE)?,
        role,
        own: address(name(false), Some(socket.file), must_be_there).map_err(|why| Refusal::new(one.name(), why))?,
        other: address(name(true), None, false).map_err(|why| Refusal::new(one.name(), why))?,
        send_buffer: option(libc::SO_SNDBUF)?,
        ids: net::peer_ids(one.fd()).map_err(refusal)?,
        process: own_ids().map_err(refusal)?,
    })
}

/// Where `name` leads: to `file`, its inode, if that is known.
fn address(name: Vec<u8>, file: Option<u32>, must_be_there: bool) -> Result<Address, String> {
    let mut address = Address { name, ..Address::default() };
    if !address.has_path() {
        return Ok(address);
    }
    if address.name.first() != Some(&b'/') {
        let mut buffer = [0u8; PATH_MAX];
        let directory = fd::read_link(c"/proc/thread-self/cwd", &mut buffer).map_err(|error| format!("{error}"))?;
        address.directory = directory.to_vec();
    }
    let Some(path) = CPath::new(&address.name) else { return Ok(address) };
    match fd::link_stat(path.as_c_str()) {
        Ok(stat) if stat.st_mode & libc::S_IFMT == libc::S_IFSOCK && file.is_none_or(|it| it == stat.st_ino as u32) => {
            address.place = Some(Place { mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid });
            Ok(address)
        }
        Err(error) if error.is(libc::ENOENT) => Ok(address),
        _ if !must_be_there => Ok(address),
        Ok(_) => Err(format!("something else has taken the place of {}", address.shown())),
        Err(error) => Err(format!("{}: {error}", address.shown())),
    }
}

impl Address {
    fn has_path(&self) -> bool {
        self.name.first().is_some_and(|byte| *byte != 0)
    }

    /// Whether both are one name; the file may have come and gone in between.
    fn is(&self, other: &Address) -> bool {
        (&self.name, &self.directory) == (&other.name, &other.directory)
    }

    /// As `ss` and others show it.
    fn shown(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        match name.strip_prefix('\0') {
            Some(name) => format!("@{name}"),
            None => name.into_owned(),
        }
    }

    fn refusal(&self, why: impl core::fmt::Display) -> Refusal {
        Refusal::new(format!("Unix socket {}", self.shown()), why)
    }
}

/// What there is at the other end of a socket; why it cannot be saved.
fn other_of(note: &Note, notes: &[Note]) -> Result<Other, &'static str> {
    match &note.role {
        Role::Bound => Ok(Other::Nothing),
        Role::Listens { waiting, .. } if waiting.contains(&0) => {
            Err("who has hung up waits at it to be accepted: not supported yet; repeat")
        }
        Role::Listens { .. } => Ok(Other::Nothing),
        Role::Connected { peer: 0, shutdown, is_heard } => {
            let is_it = |listener: &&Note| matches!(&listener.role, Role::Listens { waiting, .. } if waiting.contains(&note.inode));
            match notes.iter().find(is_it) {
                Some(listener) if *shutdown == 0 && *is_heard => Ok(Other::Waits(listener.inode)),
                Some(_) => {
                    Err("has not been accepted yet, and has sent something or shut a half: not supported yet; repeat")
                }
                None if *shutdown == SHUT => Ok(Other::Closed),
                None => Err("waits to be accepted by a process outside of the pod"),
            }
        }
        Role::Connected { peer, .. } if part_of(*peer, notes).is_some() => Ok(Other::End(*peer)),
        Role::Connected { .. } => Err("is connected to a socket outside of the pod"),
    }
}

/// What makes all that is told of. Pure.
fn plan(notes: &[Note]) -> Result<Plan, Refusal> {
    let mut plan = Plan::default();
    let part = |inode| part_of(inode, notes).unwrap_or_default();
    for note in notes {
        let backlog = match &note.role {
            Role::Connected { .. } => continue,
            Role::Bound => None,
            Role::Listens { backlog, .. } => Some(*backlog),
        };
        plan.listeners.push(Listener {
            kind: note.kind,
            address: note.own.clone(),
            part: Some(part(note.inode)),
            backlog,
            ids: backlog.map(|_| note.ids),
            accepted: Vec::new(),
            waiting: Vec::new(),
        });
    }
    // One without a file needs the path for a moment, where another one may have its own.
    plan.listeners.sort_by_key(|listener| listener.address.place.is_some());
    let listens = |plan: &Plan, kind: i32, address: &Address| {
        let is_it = |one: &Listener| one.backlog.is_some() && one.kind == kind && one.address.is(address);
        plan.listeners.iter().position(is_it)
    };
    let mut waiting: Vec<(usize, usize, Caller)> = Vec::new();
    for note in notes.iter().filter(|note| matches!(note.role, Role::Connected { .. })) {
        let other = other_of(note, notes).map_err(|why| note.own.refusal(why))?;
        let end = |note: &Note| Some((part(note.inode), note.send_buffer));
        let has_listener = |note: &Note| listens(&plan, note.kind, &note.own).is_some();
        let (accepted, caller, address) = match other {
            Other::Nothing => continue,
            Other::Waits(inode) => {
                let caller = Caller { part: end(note), address: note.own.clone(), ids: Some(note.process) };
                let place = plan.listeners.iter().position(|one| one.part == part_of(inode, notes)).unwrap_or_default();
                let turn = notes.iter().find_map(|one| match &one.role {
                    Role::Listens { waiting, .. } if one.inode == inode => {
                        waiting.iter().position(|it| *it == note.inode)
                    }
                    _ => None,
                });
                waiting.push((place, turn.unwrap_or_default(), caller));
                continue;
            }
            Other::Closed if note.other.name.is_empty() || has_listener(note) => (Some(note), None, &note.own),
            Other::Closed => (None, Some(note), &note.other),
            Other::End(peer) => {
                let Some(peer) = notes.iter().find(|other| other.inode == peer) else { continue };
                // Of two names the one that is listened to, else any, but the same for both ends.
                let is_accepted = |one: &Note, other: &Note| {
                    !one.own.name.is_empty() && (other.own.name.is_empty() || has_listener(one) || !has_listener(other))
                };
                let (first, second) = if note.inode < peer.inode { (note, peer) } else { continue };
                let (accepted, caller) = if is_accepted(first, second) { (first, second) } else { (second, first) };
                (Some(accepted), Some(caller), &accepted.own)
            }
        };
        let caller_address = match (caller, accepted) {
            (Some(caller), _) => caller.own.clone(),
            (None, Some(accepted)) => Address { place: None, ..accepted.other.clone() },
            (None, None) => continue,
        };
        let connection = Connection {
            accepted: accepted.and_then(end),
            caller: Caller {
                part: caller.and_then(end),
                address: caller_address,
                ids: accepted.map(|accepted| accepted.ids),
            },
        };
        let index = listens(&plan, note.kind, address);
        let index = index.or_else(|| {
            let is_it = |one: &Listener| one.part.is_none() && one.kind == note.kind && one.address.is(address);
            plan.listeners.iter().position(is_it)
        });
        match index {
            Some(index) => plan.listeners[index].accepted.push(connection),
            None => plan.listeners.push(Listener {
                kind: note.kind,
                address: address.clone(),
                part: None,
                backlog: None,
                ids: caller.map(|caller| caller.ids),
                accepted: alloc::vec![connection],
                waiting: Vec::new(),
            }),
        }
    }
    waiting.sort_by_key(|(listener, turn, _)| (*listener, *turn));
    for (listener, _, caller) in waiting {
        plan.listeners[listener].waiting.push(caller);
    }
    Ok(plan)
}

pub(crate) fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let Some(share) = own.first().map(|one| one.share) else { return Ok(()) };
    let mut notes: Vec<Note> = if share.object == 0 {
        own.iter().map(|one| note_of(one)).collect::<Result<_, _>>()?
    } else {
        context.notes(share.object).map(decode).collect::<Result<_, _>>()?
    };
    notes.sort_by_key(|note| note.inode);
    let mut states = Vec::new();
    for one in own {
        let refusal = |error| Refusal::new(one.name(), error);
        let inode = one.stat.st_ino as u32;
        let known = part_of(inode, &notes).and_then(|part| Some((part, notes.get(part as usize / 2)?)));
        let (part, note) = known.ok_or_else(|| Refusal::new(one.name(), "nothing was told of it"))?;
        let other = other_of(note, &notes).map_err(|why| Refusal::new(one.name(), why))?;
        let (is_connected, shutdown) = match &note.role {
            Role::Connected { shutdown, .. } => (!matches!(other, Other::Waits(_)), *shutdown),
            _ => (false, 0),
        };
        states.push(State {
            part,
            other: match other {
                Other::Nothing | Other::Waits(_) => None,
                Other::Closed => Some(part + CLOSED_END),
                Other::End(peer) => part_of(peer, &notes),
            },
            end: save_end(one, note.kind, shutdown, is_connected)?,
            backlog: if let Role::Listens { backlog, .. } = note.role { Some(backlog) } else { None },
            ids: note.ids,
            reuse: net::get_option(one.fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR).map_err(refusal)?,
        });
    }
    let leads = share.object == 0 || own.iter().any(|one| one.share.leads_object);
    let plan = if leads { Some(plan(&notes)?) } else { None };
    context.section(SECTION, VERSION, encode(&Saved { object: share.object, states, plan })?);
    Ok(())
}

/// What has been made and is this process's: part and descriptor.
pub(crate) struct Made {
    saved: Saved,
    have: Vec<(u32, RawFd)>,
}

/// Makes all sockets, in the process that does, and hands the others theirs.
pub(crate) fn make(context: &mut RestoreContext<'_>) -> Result<Option<Made>, Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(None) };
    let saved: Saved = decode(bytes)?;
    let mut have = Vec::new();
    if let Some(plan) = &saved.plan {
        let mut maker = Maker { context, saved: &saved, have: &mut have };
        plan.listeners.iter().try_for_each(|listener| maker.listener(listener))?;
    }
    Ok(Some(Made { saved, have }))
}

struct Maker<'a, 'b> {
    context: &'a mut RestoreContext<'b>,
    saved: &'a Saved,
    have: &'a mut Vec<(u32, RawFd)>,
}

impl Maker<'_, '_> {
    fn listener(&mut self, listener: &Listener) -> Result<(), Refusal> {
        let socket = new_socket(listener.kind).map_err(|error| listener.address.refusal(error))?;
        in_directory(&listener.address, || {
            bind(socket, &listener.address, listener.is_for_others())?;
            let made = self.connections(socket, listener);
            made.and_then(|()| settle(&listener.address)).inspect_err(|_| remove(&listener.address))
        })?;
        match listener.part {
            Some(part) => self.give(part, socket),
            None => fd::close(socket).map_err(|error| listener.address.refusal(error)),
        }
    }

    fn connections(&mut self, socket: RawFd, listener: &Listener) -> Result<(), Refusal> {
        let refusal = |error| listener.address.refusal(error);
        if listener.backlog.is_none() && listener.accepted.is_empty() {
            return Ok(());
        }
        let most = listener.backlog.unwrap_or_default().max(listener.waiting.len() as u32);
        let listen = |backlog: u32| net::listen(socket, backlog.min(i32::MAX as u32) as i32);
        become_for(listener.ids, || listen(most.max(1))).map_err(refusal)?;
        for Connection { accepted, caller } in &listener.accepted {
            let theirs = call(listener, caller)?;
            let ours = accept(socket, theirs).map_err(refusal)?;
            for (end, part, other) in [(ours, accepted, &caller.part), (theirs, &caller.part, accepted)] {
                match (part, other) {
                    (Some((part, send_buffer)), _) => {
                        pairs::set_send_buffer(end, *send_buffer).map_err(refusal)?;
                        self.give(*part, end)?;
                    }
                    (None, Some((part, _))) => self.give(*part + CLOSED_END, end)?,
                    (None, None) => fd::close(end).map_err(refusal)?,
                }
            }
        }
        for caller in &listener.waiting {
            let theirs = call(listener, caller)?;
            if let Some((part, _)) = caller.part {
                self.give(part, theirs)?;
            }
        }
        if let Some(backlog) = listener.backlog {
            become_for(listener.ids, || listen(backlog)).map_err(refusal)?;
        }
        Ok(())
    }

    /// Keeps what is this process's, and hands all to the others.
    fn give(&mut self, part: u32, socket: RawFd) -> Result<(), Refusal> {
        if self.saved.object != 0 {
            self.context.publish(self.saved.object, part, socket)?;
        }
        if self.saved.states.iter().any(|state| state.part == part || state.other == Some(part)) {
            self.have.push((part, socket));
            return Ok(());
        }
        fd::close(socket).map_err(|error| Refusal::new("Unix socket", error))
    }
}

impl Listener {
    /// Whether another user connects to it.
    fn is_for_others(&self) -> bool {
        let own = own_ids().ok();
        let mut callers = self.accepted.iter().map(|connection| &connection.caller).chain(&self.waiting);
        callers.any(|caller| caller.ids.is_some_and(|ids| Some(ids) != own))
    }
}

fn new_socket(kind: i32) -> zap_plugin::sys::Result<RawFd> {
    net::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
}

/// A new socket that is connected to `listener`, or waits to be.
fn call(listener: &Listener, caller: &Caller) -> Result<RawFd, Refusal> {
    let refusal = |error| listener.address.refusal(error);
    let socket = new_socket(listener.kind).map_err(refusal)?;
    if !caller.address.name.is_empty() {
        in_directory(&caller.address, || {
            bind(socket, &caller.address, false)?;
            settle(&caller.address).inspect_err(|_| remove(&caller.address))
        })?;
    }
    become_for(caller.ids, || net::connect_unix(socket, &listener.address.name)).map_err(refusal)?;
    Ok(socket)
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

/// Does `work` where the address's path begins.
fn in_directory(address: &Address, work: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    if address.directory.is_empty() {
        return work();
    }
    let mut buffer = [0u8; PATH_MAX];
    let refusal = |error| address.refusal(error);
    let before = fd::read_link(c"/proc/thread-self/cwd", &mut buffer).map_err(refusal)?;
    let go = |directory: &[u8]| match CPath::new(directory) {
        Some(path) => process::chdir(path.as_c_str()).map_err(refusal),
        None => Err(address.refusal("its directory's path is too long")),
    };
    go(&address.directory)?;
    let result = work();
    go(before)?;
    result
}

fn own_ids() -> zap_plugin::sys::Result<Ids> {
    Ok((credentials::users()?[1], credentials::groups()?[1]))
}

/// Does `work` as the user and group that others are told of (SO_PEERCRED).
fn become_for<T>(ids: Option<Ids>, work: impl FnOnce() -> zap_plugin::sys::Result<T>) -> zap_plugin::sys::Result<T> {
    const SAME: u32 = u32::MAX;
    let own = own_ids()?;
    let Some((user, group)) = ids.filter(|ids| *ids != own) else { return work() };
    credentials::set_groups(&[SAME, group, SAME])?;
    let result = credentials::set_users(&[SAME, user, SAME]).and_then(|()| work());
    credentials::set_users(&[SAME, own.0, SAME])?;
    credentials::set_groups(&[SAME, own.1, SAME])?;
    result
}

/// Gives `socket` its name; in the way may be only what nobody listens to any more.
fn bind(socket: RawFd, address: &Address, is_for_others: bool) -> Result<(), Refusal> {
    const TAKEN: &str = "another process has this name: a copy cannot run beside the living original";
    let bound = |result: zap_plugin::sys::Result<()>| match result {
        Err(error) if error.is(libc::EADDRINUSE) => Err(address.refusal(TAKEN)),
        other => other.map_err(|error| address.refusal(error)),
    };
    if !address.has_path() {
        return bound(net::bind_unix(socket, &address.name));
    }
    let path = CPath::new(&address.name).ok_or_else(|| address.refusal("path too long"))?;
    match fd::link_stat(path.as_c_str()) {
        Err(_) => {}
        Ok(stat) if stat.st_mode & libc::S_IFMT != libc::S_IFSOCK => {
            return Err(address.refusal("something else has taken its place in the file system"));
        }
        Ok(stat) if is_bound(address, stat.st_mode).map_err(|error| address.refusal(error))? => {
            return Err(address.refusal(TAKEN));
        }
        Ok(_) => fd::unlink(path.as_c_str()).map_err(|error| address.refusal(error))?,
    }
    bound(net::bind_unix(socket, &address.name))?;
    // Nobody but who is to connect, until it is settled.
    let mode = if is_for_others { 0o777 } else { 0o700 };
    fd::change_mode_at(path.as_c_str(), mode).map_err(|error| address.refusal(error))
}

/// Whether a socket that is bound to the path lives. A datagram socket that connects to it is told the kind is wrong, or if
/// there is none that it is refused, and nobody else notices. Whoever owns the file may always ask: `mode` is what it has.
fn is_bound(address: &Address, mode: u32) -> zap_plugin::sys::Result<bool> {
    let probe = new_socket(libc::SOCK_DGRAM)?;
    let mut result = net::connect_unix(probe, &address.name);
    if let Some(path) = CPath::new(&address.name).filter(|_| result.is_err_and(|error| error.is(libc::EACCES))) {
        result = fd::change_mode_at(path.as_c_str(), 0o700).and_then(|()| {
            let answer = net::connect_unix(probe, &address.name);
            fd::change_mode_at(path.as_c_str(), mode & 0o7777)?;
            answer
        });
    }
    fd::close(probe)?;
    match result {
        Err(error) if error.is(libc::ECONNREFUSED) => Ok(false),
        Err(error) if error.is(libc::EPROTOTYPE) => Ok(true),
        Ok(()) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Makes the file what it was: with its mode and owner, or gone.
fn settle(address: &Address) -> Result<(), Refusal> {
    if !address.has_path() {
        return Ok(());
    }
    let Some(place) = address.place else {
        remove(address);
        return Ok(());
    };
    let path = CPath::new(&address.name).ok_or_else(|| address.refusal("path too long"))?;
    let path = path.as_c_str();
    let settle = || {
        let now = fd::link_stat(path)?;
        if (now.st_uid, now.st_gid) != (place.user, place.group) {
            fd::change_owner_at(path, place.user, place.group)?;
        }
        fd::change_mode_at(path, place.mode)
    };
    settle().map_err(|error| address.refusal(error))
}

fn remove(address: &Address) {
    if let Some(path) = CPath::new(&address.name).filter(|_| address.has_path()) {
        let _ = fd::unlink(path.as_c_str());
    }
}

/// Gives the process its sockets, with what waits for them.
pub(crate) fn take(made: Option<Made>, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(Made { saved, mut have }) = made else { return Ok(()) };
    let refusal = |error| Refusal::new("Unix socket", error);
    for part in saved.states.iter().flat_map(|state| [Some(state.part), state.other]).flatten() {
        if !have.iter().any(|(known, _)| *known == part) {
            have.push((part, context.subscribe(saved.object, part)?));
        }
    }
    let descriptor = |part: u32| have.iter().find(|(known, _)| *known == part).map_or(-1, |(_, number)| *number);
    for state in &saved.states {
        let own = descriptor(state.part);
        net::set_option(own, libc::SOL_SOCKET, libc::SO_REUSEADDR, &state.reuse).map_err(refusal)?;
        match state.other.map(descriptor) {
            None => set_up(own, &state.end)?,
            Some(other) => {
                set_up_receiving(own, &state.end)?;
                if state.end.carries() {
                    for (part, end) in [(FIRST, own), (SECOND, other)] {
                        context.hold(state.end.id, part, fd::dup_above(end, 0).map_err(refusal)?);
                    }
                } else {
                    fill(own, other, &state.end, context)?;
                }
            }
        }
        // The one that others are told of (SO_PEERCRED) is who has said last that it listens.
        if let Some(backlog) = state.backlog.filter(|_| saved.object != 0) {
            let backlog = backlog.min(i32::MAX as u32) as i32;
            become_for(Some(state.ids), || net::listen(own, backlog)).map_err(refusal)?;
        }
    }
    for (part, number) in &have {
        match saved.states.iter().find(|state| state.part == *part) {
            Some(state) => hand_over(*number, &state.end, context)?,
            None => fd::close(*number).map_err(refusal)?,
        }
    }
    Ok(())
}

/// More than any send buffer allows.
const LARGEST_BUFFER: i32 = 64 << 20;

/// Sends what waits for `own` from the other end, and shuts the half through which it came. The other half is shut with
/// that of the other end (unix(7)), when that has what waits for it.
fn fill(own: RawFd, other: RawFd, end: &End, context: &RestoreContext<'_>) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("Unix socket", error);
    if !end.waiting.is_empty() {
        // What was sent may be more than may be sent now.
        let buffer = net::get_option(other, libc::SOL_SOCKET, libc::SO_SNDBUF).map_err(refusal)?;
        pairs::set_send_buffer(other, LARGEST_BUFFER).map_err(refusal)?;
        pairs::refill(other, &end.waiting, context)?;
        pairs::set_send_buffer(other, buffer).map_err(refusal)?;
    }
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

    fn address(name: &str) -> Address {
        let place = (!name.is_empty()).then_some(Place { mode: 0o600, user: 1, group: 2 });
        Address { name: name.as_bytes().to_vec(), directory: Vec::new(), place }
    }

    fn note(inode: u32, role: Role, own: &str, other: &str) -> Note {
        let (own, other, ids) = (address(own), address(other), (inode, 0));
        Note { inode, kind: libc::SOCK_STREAM, role, own, other, send_buffer: inode as i32, ids, process: (7, 8) }
    }

    fn connected(peer: u32, shutdown: u8) -> Role {
        Role::Connected { peer, shutdown, is_heard: true }
    }

    fn listens(waiting: &[u32]) -> Role {
        Role::Listens { backlog: 5, waiting: waiting.to_vec() }
    }

    /// Parts of what is accepted and of who has called, and of who waits, for each listener with its part and name.
    type Shape = Vec<(Option<u32>, String, Vec<(Option<u32>, Option<u32>)>, Vec<u32>)>;

    fn shape(notes: &[Note]) -> Shape {
        let part = |end: &Option<(u32, i32)>| end.map(|(part, _)| part);
        let ends = |one: &Connection| (part(&one.accepted), part(&one.caller.part));
        let waiting = |one: &Listener| one.waiting.iter().filter_map(|caller| part(&caller.part)).collect();
        let listeners = plan(notes).unwrap().listeners;
        listeners
            .iter()
            .map(|one| (one.part, one.address.shown(), one.accepted.iter().map(ends).collect(), waiting(one)))
            .collect()
    }

    #[test]
    fn who_is_made_through_whom() {
        let here = || note(10, listens(&[]), "/s", "");
        let table: Vec<(&str, Vec<Note>, Shape)> = vec![
            ("a listener", vec![here()], vec![(Some(0), "/s".into(), vec![], vec![])]),
            (
                "a connection to it",
                vec![here(), note(20, connected(30, 0), "", "/s"), note(30, connected(20, 0), "/s", "")],
                vec![(Some(0), "/s".into(), vec![(Some(4), Some(2))], vec![])],
            ),
            (
                "its listener is gone",
                vec![note(20, connected(30, 0), "", "/s"), note(30, connected(20, 0), "/s", "")],
                vec![(None, "/s".into(), vec![(Some(2), Some(0))], vec![])],
            ),
            (
                "closed ends: who had called, who had been accepted",
                vec![here(), note(20, connected(0, 3), "/s", ""), note(30, connected(0, 3), "", "/s")],
                vec![(Some(0), "/s".into(), vec![(Some(2), None), (None, Some(4))], vec![])],
            ),
            (
                "both have a name",
                vec![here(), note(20, connected(30, 0), "/c", "/s"), note(30, connected(20, 0), "/s", "/c")],
                vec![(Some(0), "/s".into(), vec![(Some(4), Some(2))], vec![])],
            ),
            (
                "who waits, in the order of their calls",
                vec![
                    note(10, listens(&[30, 20]), "\0s", ""),
                    note(20, connected(0, 0), "", "\0s"),
                    note(30, connected(0, 0), "", "\0s"),
                ],
                vec![(Some(0), "@s".into(), vec![], vec![4, 2])],
            ),
            (
                "bound, and one whose file is gone, which comes first",
                vec![
                    note(10, Role::Bound, "/s", ""),
                    Note { own: Address { place: None, ..address("/s") }, ..note(20, listens(&[]), "/s", "") },
                ],
                vec![(Some(2), "/s".into(), vec![], vec![]), (Some(0), "/s".into(), vec![], vec![])],
            ),
        ];
        for (name, notes, expected) in table {
            assert_eq!(shape(&notes), expected, "{name}");
        }
        let made = plan(&[here(), note(20, connected(30, 0), "", "/s"), note(30, connected(20, 0), "/s", "")]).unwrap();
        let Listener { backlog, ids, accepted, .. } = &made.listeners[0];
        // Each end is told of the other; buffers are each end's own.
        assert_eq!((*backlog, *ids), (Some(5), Some((10, 0))));
        assert_eq!((accepted[0].accepted, accepted[0].caller.part), (Some((4, 30)), Some((2, 20))));
        assert_eq!(accepted[0].caller.ids, Some((30, 0)));
    }

    #[test]
    fn what_cannot_be_made() {
        let unheard = Role::Connected { peer: 0, shutdown: 0, is_heard: false };
        for (notes, why) in [
            (vec![note(20, connected(30, 0), "", "/s")], "connected to a socket outside"),
            (vec![note(20, connected(0, 0), "", "/s")], "accepted by a process outside"),
            (vec![note(10, listens(&[20]), "/s", ""), note(20, unheard, "", "/s")], "has sent something"),
            (vec![note(10, listens(&[20]), "/s", ""), note(20, connected(0, 2), "", "/s")], "shut a half"),
            (vec![note(10, listens(&[0]), "/s", "")], "who has hung up waits"),
        ] {
            let refused = notes.iter().find_map(|note| other_of(note, &notes).err());
            assert!(refused.is_some_and(|text| text.contains(why)), "{why}: {refused:?}");
        }
    }

    #[test]
    fn a_name_that_is_taken_is_refused() {
        let path = format!("{}/zap-named-{}", std::env::temp_dir().display(), std::process::id());
        let address = Address { place: None, ..address(&path) };
        let sockets = [(); 3].map(|()| new_socket(libc::SOCK_STREAM).unwrap());
        bind(sockets[0], &address, false).unwrap();
        assert!(bind(sockets[1], &address, false).unwrap_err().reason.contains("living original"));
        fd::close(sockets[0]).unwrap();
        // Nobody has it any more.
        bind(sockets[1], &address, false).unwrap();
        remove(&address);
        std::fs::write(&path, "").unwrap();
        assert!(bind(sockets[2], &address, false).unwrap_err().reason.contains("something else"));
        remove(&address);
        sockets[1..].iter().for_each(|socket| fd::close(*socket).unwrap());
    }
}
