//! What waits in a pair to be read, in both directions. The kernel shows it to nobody who does not take it: it is taken, and put
//! back at once, while all processes of the pod stand.
//!
//! What is typed arrives at the slave by way of its line discipline, which makes lines of it (N_TTY, termios(3)). To take a line that
//! is half typed, and to put everything back as it was, the modes are others for that time. The line discipline works on what is
//! typed when it gets to it (flush_to_ldisc of drivers/tty/tty_buffer.c), and the program's modes must not be set again before: its
//! echo tells when.

use alloc::format;
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

/// Bytes for which the line discipline has room (N_TTY_BUF_SIZE, and receive_room): what is more stays before it, where how much
/// there is room for depends on how it was written. Only what is surely less can be put back.
const ROOM: usize = 4095;

/// Of typed lines, behind which half a line may wait that is not counted (TIOCINQ of n_tty_ioctl).
const ROOM_FOR_LINES: usize = 2048;

/// More than can wait in one direction.
const MOST: usize = 1 << 16;

/// Takes what waits in the pair of `master`, and puts it back. Also the permission bits of the slave.
pub fn look(master: RawFd, is_locked: bool, modes: &Modes) -> Result<(Unread, u32), Why> {
    let flags = fd::fcntl(master, libc::F_GETFL, 0)?;
    if is_locked {
        terminal::set_locked(master, false)?;
    }
    let slave = terminal::open_peer(master, libc::O_RDWR | libc::O_NOCTTY | libc::O_NONBLOCK);
    if is_locked {
        let _ = terminal::set_locked(master, true);
    }
    let slave = slave?;
    let result = check(master, slave, modes).and_then(|()| {
        let mode = fd::fstat(slave)?.st_mode & 0o7777;
        // Before anything is taken.
        let mut buffer = alloc::vec![0u8; MOST];
        fd::fcntl(master, libc::F_SETFL, flags | libc::O_NONBLOCK as usize)?;
        let (unread, taken) = take(master, slave, modes, &mut buffer);
        // Even if not all could be taken.
        let put = put_back(master, slave, modes, &unread);
        terminal::set_modes(master, modes)?;
        taken.and(put)?;
        Ok((unread, mode))
    });
    let _ = fd::fcntl(master, libc::F_SETFL, flags);
    let _ = fd::close(slave);
    result
}

/// Whether all that waits can be put back.
fn check(master: RawFd, slave: RawFd, modes: &Modes) -> Result<(), Why> {
    let has_room = |end| fd::poll_now(end, libc::POLLOUT).map(|events| events & libc::POLLOUT != 0);
    if !has_room(slave)? {
        return Err(Why::Text("its output is stopped (Ctrl-S), or too much of it waits to be read".into()));
    }
    if !has_room(master)? {
        return Err(Why::Text("too much that is typed waits to be read".into()));
    }
    // What is typed comes first, since it may just be echoed.
    let room_typed = if makes_lines(modes) { ROOM_FOR_LINES } else { ROOM };
    for (end, room, what) in [(slave, room_typed, "that is typed"), (master, ROOM, "of its output")] {
        let mut before = 0;
        loop {
            // Has the kernel move on what has been written, or it is about to.
            fd::poll_now(end, libc::POLLIN)?;
            let waiting = fd::bytes_readable(end)?;
            if waiting >= room {
                return Err(Why::Text(format!("too much {what} waits to be read")));
            }
            if waiting == before {
                break;
            }
            before = waiting;
            // A millisecond.
            fd::poll_for(end, 0, 1)?;
        }
    }
    Ok(())
}

fn makes_lines(modes: &Modes) -> bool {
    modes.local & libc::ICANON != 0
}

/// What is typed to end a file where the program has no character for it, though one waits.
const END_OF_FILE: u8 = 4;

/// The characters that end lines, as the kernel looks at them (n_tty_receive_char_special of drivers/tty/n_tty.c).
struct Ends {
    /// At the end of the line that is read: '\n', VEOL, and VEOL2 with IEXTEN. 0 is none.
    lines: [u8; 3],
    file: u8,
    /// Makes the next character one like others (VLNEXT), and is none that waits. 0 if all wait.
    literal: u8,
}

impl Ends {
    fn new(modes: &Modes, unread: &Unread) -> Self {
        let character = |place: usize| modes.characters[place];
        let second = if modes.local & libc::IEXTEN == 0 { 0 } else { character(libc::VEOL2) };
        let lines = [b'\n', character(libc::VEOL), second];
        let file = if character(libc::VEOF) == 0 { END_OF_FILE } else { character(libc::VEOF) };
        let waits = |one: &u8| unread.lines.iter().chain([&unread.typed]).any(|text| text.contains(one));
        let is_free = |one: &u8| !lines.contains(one) && *one != file && !waits(one);
        Self { lines, file, literal: (1..=u8::MAX).find(is_free).unwrap_or(0) }
    }

    fn is_special(&self, character: u8) -> bool {
        character != 0 && (self.lines.contains(&character) || character == self.file)
    }

    /// What is to be typed for `text`, in which no character is special.
    fn quoted(&self, text: &[u8]) -> Vec<u8> {
        let quote = |one: &u8| (self.is_special(*one) && self.literal != 0).then_some(self.literal);
        text.iter().flat_map(|one| quote(one).into_iter().chain([*one])).collect()
    }
}

/// What can be read from `end` at once, of which each read is one entry.
fn read_all(end: RawFd, into: &mut Vec<serde_bytes::ByteBuf>, buffer: &mut [u8]) -> Result<(), SysError> {
    for _ in 0..MOST {
        match fd::read(end, buffer) {
            Ok(length) => into.push(serde_bytes::ByteBuf::from(buffer.get(..length).unwrap_or_default())),
            // Nobody has the slave open, and all is read (EIO).
            Err(error) if error.is(libc::EAGAIN) || error.is(libc::EIO) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Err(SysError::new("read", libc::ENOBUFS))
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
fn plain_lines(modes: &Modes, ends: &Ends) -> Modes {
    let mut plain = plain(modes);
    if makes_lines(modes) {
        plain.local = libc::ICANON | libc::IEXTEN;
        plain.characters[libc::VMIN] = 0;
        let characters = [libc::VEOF, libc::VEOL, libc::VEOL2, libc::VLNEXT];
        for (place, character) in characters.into_iter().zip([ends.file, ends.lines[1], ends.lines[2], ends.literal]) {
            plain.characters[place] = character;
        }
    }
    plain
}

/// Takes all, as far as it goes.
fn take(master: RawFd, slave: RawFd, modes: &Modes, buffer: &mut [u8]) -> (Unread, Result<(), SysError>) {
    let mut unread = Unread::default();
    let (mut typed, mut printed) = (Vec::new(), Vec::new());
    let result = (|| {
        if makes_lines(modes) {
            read_all(slave, &mut unread.lines, buffer)?;
        }
        terminal::set_modes(master, &plain(modes))?;
        read_all(slave, &mut typed, buffer)?;
        // Last, since what was typed may just have been echoed.
        read_all(master, &mut printed, buffer)
    })();
    unread.typed = joined(&typed);
    unread.printed = joined(&printed);
    (unread, result)
}

/// Puts back what has been taken, into a pair in which nothing waits. Leaves modes behind that are not the program's. Where the echo
/// of something does not come in time all is there, and it fails.
pub fn put_back(master: RawFd, slave: RawFd, modes: &Modes, unread: &Unread) -> Result<(), SysError> {
    let ends = Ends::new(modes, unread);
    let plain = plain_lines(modes, &ends);
    terminal::set_modes(master, &Modes { local: plain.local | libc::ECHO, ..plain })?;
    let mut typist = Typist { master, plain, room: ROOM, patience: PATIENCE };
    for line in &unread.lines {
        match line.split_last() {
            Some((last, text)) if *last != 0 && ends.lines.contains(last) => {
                typist.put(text, Some(&ends))?;
                typist.put(&[*last], None)?;
            }
            _ => {
                typist.put(line, Some(&ends))?;
                // It has no echo: that of what follows tells of it, or it is the last, and ends a file by the program's modes too.
                write_all(master, &[ends.file])?;
                typist.room = typist.room.saturating_sub(1);
            }
        }
    }
    typist.put(&unread.typed, makes_lines(modes).then_some(&ends))?;
    terminal::set_modes(master, &plain)?;
    write_all(slave, &unread.printed)?;
    match typist.patience {
        0 => Err(SysError::new("write", libc::ETIMEDOUT)),
        _ => Ok(()),
    }
}

/// Bytes that are written before their echo is awaited: fewer than there is room for.
const PIECE: usize = 512;

/// How long echoes, and room, are awaited at most, in milliseconds.
const PATIENCE: i32 = 2000;

/// Types at a terminal.
struct Typist {
    master: RawFd,
    /// Modes without echo.
    plain: Modes,
    /// Bytes that the line discipline takes at once. It does not get to what comes after them before the program has read.
    room: usize,
    /// Milliseconds for which echoes are still awaited.
    patience: i32,
}

impl Typist {
    /// Types `bytes`, and takes their echo.
    fn put(&mut self, bytes: &[u8], quotes: Option<&Ends>) -> Result<(), SysError> {
        let write = |text: &[u8]| match quotes {
            Some(ends) => write_all(self.master, &ends.quoted(text)),
            None => write_all(self.master, text),
        };
        let (now, later) = bytes.split_at(bytes.len().min(self.room));
        self.room -= now.len();
        for piece in now.chunks(PIECE) {
            write(piece)?;
            let mut awaited = piece.len();
            while awaited > 0 && self.patience > 0 {
                if fd::poll_for(self.master, libc::POLLIN, 1)? & libc::POLLIN == 0 {
                    self.patience -= 1;
                    continue;
                }
                let length = fd::read(self.master, &mut [0u8; PIECE][..awaited])?;
                awaited = awaited.saturating_sub(length.max(1));
            }
        }
        if later.is_empty() {
            return Ok(());
        }
        terminal::set_modes(self.master, &self.plain)?;
        write(later)
    }
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
