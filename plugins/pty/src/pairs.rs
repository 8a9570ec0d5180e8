//! A pair: who saves it, what is saved, how it is made again.
//!
//! The process that has the master saves the pair and makes it again; every process opens its slaves by itself.

use crate::is_master;
use crate::unread::{self, Unread};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::terminal::{self, Modes, Size};
use zap_plugin::sys::{fd, libc, RawFd, SysError};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "pty.pairs";
const VERSION: u32 = 1;

/// The part of the object that is published.
const MASTER: u32 = 0;

/// Status flags that F_SETFL sets.
const STATUS: i32 = libc::O_NONBLOCK | libc::O_APPEND | libc::O_ASYNC;

#[derive(Serialize, Deserialize)]
struct State {
    pairs: Vec<Pair>,
    slaves: Vec<Slave>,
}

/// A pair whose master is this process's.
#[derive(Serialize, Deserialize)]
struct Pair {
    id: u32,
    /// Access mode and status flags.
    flags: i32,
    /// By which the master has been opened.
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    /// Of the slave's name, /dev/pts/<number>, as the pod knows it.
    number: u32,
    /// The pair's name in the pod, 0 when all of it is here.
    object: u64,
    is_locked: bool,
    /// All slaves that there have been are closed.
    hung_up: bool,
    modes: SavedModes,
    /// Rows, columns, and both in pixels.
    size: [u16; 4],
    /// Permission bits of the slave; `None` where nobody has opened it.
    mode: Option<u32>,
    unread: Unread,
}

/// c_iflag, c_oflag, c_cflag and c_lflag, c_line and c_cc (termios(3)).
#[derive(Serialize, Deserialize)]
struct SavedModes([u32; 4], u8, [u8; 19]);

impl SavedModes {
    fn new(modes: &Modes) -> Self {
        Self([modes.input, modes.output, modes.control, modes.local], modes.line, modes.characters)
    }

    fn get(&self) -> Modes {
        let Self([input, output, control, local], line, characters) = *self;
        Modes { input, output, control, local, line, characters }
    }
}

#[derive(Serialize, Deserialize)]
struct Slave {
    id: u32,
    flags: i32,
    number: u32,
    /// As of its pair.
    object: u64,
    hung_up: bool,
}

/// The number of the pair that the description is an end of.
pub fn number_of(description: &Description) -> Result<u32, Refusal> {
    if is_master(description) {
        return terminal::number(description.fd()).map_err(|error| Refusal::new(description.name(), error));
    }
    let device = description.stat.st_rdev;
    Ok((libc::major(device) - crate::SLAVES.start()) * 256 + libc::minor(device))
}

/// What all processes are told of each end.
pub const MASTER_NOTE: &[u8] = b"master";
pub const SLAVE_NOTE: &[u8] = b"slave";

pub fn save(context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let claimed = context.claimed.clone();
    if claimed.is_empty() {
        return Ok(());
    }
    let has = |one: &Description, number: u32, note: &[u8]| {
        let is_it = |other: &&&Description| {
            is_master(other) == (note == MASTER_NOTE) && !is_hung_up_slave(other) && number_of(other) == Ok(number)
        };
        match one.share.object {
            0 => claimed.iter().any(|other| is_it(&other)),
            object => context.notes(object).any(|found| found == note),
        }
    };
    let (mut pairs, mut slaves) = (Vec::new(), Vec::new());
    for one in claimed.iter().copied() {
        let number = number_of(one)?;
        let known = context.terminal(number);
        if is_master(one) {
            pairs.push(save_one(one, known, has(one, number, SLAVE_NOTE))?);
            continue;
        }
        let hung_up = is_hung_up_slave(one);
        if !hung_up && !has(one, number, MASTER_NOTE) {
            return Err(Refusal::new(one.name(), "the other end is in a process outside of the pod"));
        }
        slaves.push(Slave { id: one.id, flags: one.status_flags(), number: known, object: one.share.object, hung_up });
    }
    context.section(SECTION, VERSION, encode(&State { pairs, slaves })?);
    Ok(())
}

/// Whether the master of a slave has been closed: then it is nobody's any more, and its number may be another pair's.
pub fn is_hung_up_slave(one: &Description) -> bool {
    !is_master(one) && fd::poll_now(one.fd(), 0).is_ok_and(|events| events & libc::POLLHUP != 0)
}

/// `known` is the number by which the pod knows it. `is_open`: the pod has descriptions of the slave.
fn save_one(master: &Description, known: u32, is_open: bool) -> Result<Pair, Refusal> {
    let refusal = |error: SysError| Refusal::new(master.name(), error);
    let refuse = |why: &str| Err(Refusal::new(master.name(), why));
    let own = master.fd();
    if terminal::session(own).is_ok() {
        return refuse("is the controlling terminal of a session");
    }
    if terminal::is_in_packet_mode(own).map_err(refusal)? {
        return refuse("is in packet mode (TIOCPKT)");
    }
    if terminal::is_exclusive(own).map_err(refusal)? {
        return refuse("is in exclusive mode (TIOCEXCL)");
    }
    if master.status_flags() & libc::O_ACCMODE != libc::O_RDWR {
        return refuse("is not open for reading and writing");
    }
    let hung_up = fd::poll_now(own, 0).map_err(refusal)? & libc::POLLHUP != 0;
    let (modes, size) = (terminal::modes(own).map_err(refusal)?, terminal::size(own).map_err(refusal)?);
    if modes.line != 0 || modes.local & libc::EXTPROC != 0 {
        return refuse("has a line discipline of its own (TIOCSETD, EXTPROC)");
    }
    let mut pair = Pair {
        id: master.id,
        flags: master.status_flags(),
        path: master.link.clone(),
        number: known,
        object: master.share.object,
        is_locked: terminal::is_locked(own).map_err(refusal)?,
        hung_up,
        modes: SavedModes::new(&modes),
        size: [size.rows, size.columns, size.width, size.height],
        mode: None,
        unread: Unread::default(),
    };
    if hung_up || is_open {
        let (unread, mode) = unread::look(own, pair.is_locked, &modes).map_err(|why| why.of(master.name()))?;
        (pair.unread, pair.mode) = (unread, Some(mode));
    }
    Ok(pair)
}

fn name_of(number: u32) -> String {
    format!("pseudo terminal /dev/pts/{number}")
}

pub fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let State { pairs, slaves } = decode(bytes)?;
    // All that others wait for comes first.
    let mut masters = Vec::new();
    for pair in &pairs {
        let master = make(pair, context)?;
        if pair.object != 0 {
            context.publish(pair.object, MASTER, master)?;
        }
        masters.push((pair.number, master));
    }
    for slave in &slaves {
        let refusal = |error| Refusal::new(name_of(slave.number), error);
        let of_own = masters.iter().find(|(number, _)| *number == slave.number && !slave.hung_up);
        let master = match of_own {
            Some((_, master)) => *master,
            None if slave.hung_up => unlocked().map_err(refusal)?,
            None => context.subscribe(slave.object, MASTER)?,
        };
        let opened = open_slave(master, slave.flags & (libc::O_ACCMODE | STATUS));
        if of_own.is_none() {
            fd::close(master).map_err(refusal)?;
        }
        context.install(slave.id, opened.map_err(refusal)?)?;
    }
    for (pair, (_, master)) in pairs.iter().zip(masters) {
        finish(pair, master).map_err(|error| Refusal::new(name_of(pair.number), error))?;
        context.install(pair.id, master)?;
    }
    Ok(())
}

/// A new pair, of any number, whose slave can be opened.
fn unlocked() -> Result<RawFd, SysError> {
    let master = fd::open(c"/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC, 0)?;
    terminal::set_locked(master, false)?;
    Ok(master)
}

/// The slave of `master`, which is not locked.
fn open_slave(master: RawFd, flags: i32) -> Result<RawFd, SysError> {
    let slave = terminal::open_peer(master, (flags & libc::O_ACCMODE) | libc::O_NOCTTY | libc::O_NONBLOCK)?;
    fd::fcntl(slave, libc::F_SETFL, (flags & STATUS) as usize)?;
    Ok(slave)
}

/// Highest number that is tried to be had again: all that are free below it are taken for a moment.
const HIGHEST: u32 = 64;

/// The master of a new pair, unlocked. It has the number that it had where that is free, and else one that the pod knows by it.
/// The kernel gives the lowest that is free.
fn make(pair: &Pair, context: &mut RestoreContext<'_>) -> Result<RawFd, Refusal> {
    let refuse = |why: &dyn core::fmt::Display| Refusal::new(name_of(pair.number), why);
    let path = CPath::new(&pair.path).ok_or_else(|| refuse(&"path too long"))?;
    let flags = (pair.flags & libc::O_ACCMODE) | libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let open = || fd::open(path.as_c_str(), flags, 0);
    let mut master = open().map_err(|error| refuse(&error))?;
    let mut others = Vec::new();
    let mut number = terminal::number(master);
    while number.as_ref().is_ok_and(|number| *number < pair.number.min(HIGHEST)) {
        let Ok(next) = open() else { break };
        others.push(core::mem::replace(&mut master, next));
        number = terminal::number(master);
    }
    for other in others {
        let _ = fd::close(other);
    }
    let number = number.map_err(|error| refuse(&error))?;
    if number != pair.number {
        context.name_terminal(number, pair.number)?;
    }
    terminal::set_locked(master, false).map_err(|error| refuse(&error))?;
    Ok(master)
}

/// What is the pair's own, when all its slaves that are this process's are open.
fn finish(pair: &Pair, master: RawFd) -> Result<(), SysError> {
    let [rows, columns, width, height] = pair.size;
    let modes = pair.modes.get();
    terminal::set_size(master, &Size { rows, columns, width, height })?;
    if let Some(mode) = pair.mode {
        let slave = open_slave(master, libc::O_RDWR)?;
        let done = unread::put_back(master, slave, &modes, &pair.unread).and_then(|()| fd::change_mode(slave, mode));
        fd::close(slave)?;
        done?;
    }
    terminal::set_modes(master, &modes)?;
    terminal::set_locked(master, pair.is_locked)?;
    fd::fcntl(master, libc::F_SETFL, (pair.flags & STATUS) as usize).map(|_| ())
}
