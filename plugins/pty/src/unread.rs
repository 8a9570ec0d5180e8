//! What waits in a pair to be read, in both directions. The kernel shows it to nobody who does not take it: it is taken, and put
//! back at once, while all processes of the pod stand.
//!
//! What is typed arrives at the slave by way of its line discipline, which makes lines of it (N_TTY, termios(3)). To take a line that
//! is half typed, and to put everything back as it was, the modes are others for that time. The line discipline works on what is
//! typed when it gets to it (flush_to_ldisc of drivers/tty/tty_buffer.c), and the program's modes must not be set again before: its
//! echo tells when.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::terminal::{self, Modes};
use zap_plugin::sys::{fd, libc, RawFd, SysError};
use zap_plugin::Refusal;

#[derive(Default, Serialize, Deserialize)]
pub struct Unread {
    /// Typed lines, each with the character that ends it; none ends one that an end of file has ended (VEOF).
    lines: Vec<serde_bytes::ByteBuf>,
    /// What is typed and is no line yet; all that is typed where no lines are made (ICANON is off).
    typed: serde_bytes::ByteBuf,
    /// What has been printed.
    printed: serde_bytes::ByteBuf,
}

/// Why it cannot be had.
pub enum Why {
    Failed(SysError),
    Text(String),
}

impl Why {
    /// The refusal of a checkpoint by the object `name`.
    pub fn of(self, name: String) -> Refusal {
        match self {
            Self::Failed(error) => Refusal::new(name, error),
            Self::Text(text) => Refusal::new(name, text),
        }
    }
}

impl From<SysError> for Why {
    fn from(error: SysError) -> Self {
        Self::Failed(error)
    }
}

/// Most bytes that wait in one direction: 64 KiB in the kernel's buffers and 4 KiB in the line discipline's, and then some.
const MOST: usize = 1 << 17;

/// Takes what waits in the pair of `master`, and puts it back.
pub fn look(master: RawFd, is_locked: bool, modes: &Modes) -> Result<Unread, Why> {
    let flags = fd::fcntl(master, libc::F_GETFL, 0)?;
    if is_locked {
        terminal::set_locked(master, false)?;
    }
    let slave = terminal::open_peer(master, libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK);
    if is_locked {
        terminal::set_locked(master, true)?;
    }
    let slave = slave?;
    let has_room = |end| fd::poll_now(end, libc::POLLOUT).map(|events| events & libc::POLLOUT != 0);
    let result = match has_room(slave).and_then(|room| Ok((room, has_room(master)?))) {
        // What has been written in small pieces takes less room than when it is put back: where there is none, not all may fit.
        Ok((false, _)) => Err(Why::Text("its output is stopped (Ctrl-S), or too much of it waits to be read".into())),
        Ok((_, false)) => Err(Why::Text("too much that is typed waits to be read".into())),
        Ok((true, true)) => fd::fcntl(master, libc::F_SETFL, flags | libc::O_NONBLOCK as usize)
            .and_then(|_| {
                let (unread, taken) = take(master, slave, modes);
                // Even if not all could be taken.
                let put = put_back(master, slave, modes, &unread);
                terminal::set_modes(master, modes)?;
                taken.and(put).map(|()| unread)
            })
            .map_err(Why::from),
        Err(error) => Err(error.into()),
    };
    let _ = fd::fcntl(master, libc::F_SETFL, flags);
    let _ = fd::close(slave);
    result
}

fn makes_lines(modes: &Modes) -> bool {
    modes.local & libc::ICANON != 0
}

/// What is typed to end a file while all is put back: the program's own character, unless that has been typed as one of a line
/// (VLNEXT). The kernel keeps none of it.
fn end_of_file(modes: &Modes, unread: &Unread) -> u8 {
    let endings = [0, b'\n', modes.characters[libc::VEOL], modes.characters[libc::VEOL2]];
    let is_typed = |character| unread.lines.iter().chain([&unread.typed]).any(|text| text.contains(&character));
    let own = modes.characters[libc::VEOF];
    let mut characters = [own].into_iter().chain(1..=u8::MAX);
    characters.find(|character| !endings.contains(character) && !is_typed(*character)).unwrap_or(own)
}

/// What can be read from `end` at once, of which each read is one entry.
fn read_all(end: RawFd, into: &mut Vec<serde_bytes::ByteBuf>) -> Result<(), SysError> {
    let mut buffer = alloc::vec![0u8; MOST];
    let mut left = MOST;
    loop {
        match fd::read(end, &mut buffer) {
            Ok(length) => {
                into.push(serde_bytes::ByteBuf::from(&buffer[..length]));
                left = left.saturating_sub(length + 1);
            }
            // Nobody has the slave open, and all is read (EIO).
            Err(error) if error.is(libc::EAGAIN) || error.is(libc::EIO) => return Ok(()),
            Err(error) => return Err(error),
        }
        if left == 0 {
            return Err(SysError::new("read", libc::ENOBUFS));
        }
    }
}

fn joined(parts: &[serde_bytes::ByteBuf]) -> serde_bytes::ByteBuf {
    serde_bytes::ByteBuf::from(parts.iter().flat_map(|part| part.iter().copied()).collect::<Vec<u8>>())
}

/// Modes in which what is typed stays as it is: neither changed nor a signal.
fn plain(modes: &Modes) -> Modes {
    let mut plain = Modes { input: 0, output: 0, local: 0, characters: [0; 19], ..*modes };
    plain.characters[libc::VMIN] = 1;
    plain
}

/// As [`plain`], in which lines are made where the program has it so.
fn plain_lines(modes: &Modes, end_of_file: u8) -> Modes {
    let mut plain = plain(modes);
    if makes_lines(modes) {
        plain.local = libc::ICANON;
        plain.characters[libc::VMIN] = 0;
        plain.characters[libc::VEOF] = end_of_file;
        for ending in [libc::VEOL, libc::VEOL2] {
            plain.characters[ending] = modes.characters[ending];
        }
    }
    plain
}

/// Takes all, as far as it goes.
fn take(master: RawFd, slave: RawFd, modes: &Modes) -> (Unread, Result<(), SysError>) {
    let mut unread = Unread::default();
    let (mut typed, mut printed) = (Vec::new(), Vec::new());
    let result = (|| {
        if makes_lines(modes) {
            read_all(slave, &mut unread.lines)?;
        }
        terminal::set_modes(master, &plain(modes))?;
        read_all(slave, &mut typed)?;
        // Last, since what was typed may just have been echoed.
        read_all(master, &mut printed)
    })();
    unread.typed = joined(&typed);
    unread.printed = joined(&printed);
    (unread, result)
}

/// Puts back what has been taken, into a pair in which nothing waits. Leaves modes behind that are not the program's.
pub fn put_back(master: RawFd, slave: RawFd, modes: &Modes, unread: &Unread) -> Result<(), SysError> {
    let end_of_file = end_of_file(modes, unread);
    let plain = plain_lines(modes, end_of_file);
    terminal::set_modes(master, &Modes { local: plain.local | libc::ECHO, ..plain })?;
    let endings = [b'\n', modes.characters[libc::VEOL], modes.characters[libc::VEOL2]];
    let mut room = ROOM;
    for line in &unread.lines {
        put_typed(master, line, &mut room, &plain)?;
        let is_ended = line.last().is_some_and(|last| *last != 0 && endings.contains(last));
        if !is_ended {
            // It has no echo: that of what follows tells of it, or it is the last, and ends a file by the program's modes too.
            write_all(master, &[end_of_file])?;
            room = room.saturating_sub(1);
        }
    }
    put_typed(master, &unread.typed, &mut room, &plain)?;
    terminal::set_modes(master, &plain)?;
    write_all(slave, &unread.printed)
}

/// Bytes for which the line discipline has room (N_TTY_BUF_SIZE, and receive_room). It does not get to what comes after them before
/// the program has read.
const ROOM: usize = 4095;

/// Bytes that are written before their echo is awaited: fewer than that has room for.
const PIECE: usize = 512;

/// How long the echo of a piece, and room for another, are awaited at most, in milliseconds.
const PATIENCE: i32 = 1000;

/// Writes `bytes`, and takes their echo; what the line discipline does not get to has none, in modes `plain`.
fn put_typed(master: RawFd, bytes: &[u8], room: &mut usize, plain: &Modes) -> Result<(), SysError> {
    let (now, later) = bytes.split_at(bytes.len().min(*room));
    for piece in now.chunks(PIECE) {
        write_all(master, piece)?;
        let mut awaited = piece.len();
        while awaited > 0 && fd::poll_for(master, libc::POLLIN, PATIENCE)? & libc::POLLIN != 0 {
            let length = fd::read(master, &mut [0u8; PIECE][..awaited])?;
            awaited = awaited.saturating_sub(length.max(1));
        }
    }
    *room -= now.len();
    if later.is_empty() {
        return Ok(());
    }
    terminal::set_modes(master, plain)?;
    write_all(master, later)
}

/// Writes all. The kernel has room for less at once than for what waits, since it moves that on by and by.
fn write_all(end: RawFd, bytes: &[u8]) -> Result<(), SysError> {
    let mut left = bytes;
    let mut patience = PATIENCE;
    while !left.is_empty() {
        match fd::write(end, left) {
            Ok(length) => left = left.get(length..).unwrap_or_default(),
            Err(error) if error.is(libc::EAGAIN) && patience > 0 => {
                // A millisecond.
                fd::poll_for(end, 0, 1)?;
                patience -= 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
