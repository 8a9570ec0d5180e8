//! Terminals: modes and size (termios(3), ioctl_tty(2)).
//!
//! # Safety
//! ioctl(2) with structures of this file's own, of the kernel's layout.
#![allow(unsafe_code)]

use crate::{fd, libc, RawFd, RealPid, Result};

/// The kernel's `struct termios` (asm-generic/termbits.h), which is not libc's.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Modes {
    pub input: u32,
    pub output: u32,
    pub control: u32,
    pub local: u32,
    pub line: u8,
    pub characters: [u8; 19],
}

/// `struct winsize`: rows and columns, and pixels, that hardly anybody sets.
#[repr(C)]
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
    pub width: u16,
    pub height: u16,
}

/// The modes of `terminal` (TCGETS).
pub fn modes(terminal: RawFd) -> Result<Modes> {
    let mut modes = Modes::default();
    // SAFETY: the kernel writes the structure.
    unsafe { fd::ioctl(terminal, libc::TCGETS, (&raw mut modes) as usize) }.map(|_| modes)
}

/// Sets the modes of `terminal` at once (TCSETS). From the background that stops a process that has not blocked SIGTTOU.
pub fn set_modes(terminal: RawFd, modes: &Modes) -> Result<()> {
    // SAFETY: the kernel reads the structure.
    unsafe { fd::ioctl(terminal, libc::TCSETS, core::ptr::from_ref(modes) as usize) }.map(|_| ())
}

/// The size of `terminal` (TIOCGWINSZ).
pub fn size(terminal: RawFd) -> Result<Size> {
    let mut size = Size::default();
    // SAFETY: the kernel writes the structure.
    unsafe { fd::ioctl(terminal, libc::TIOCGWINSZ, (&raw mut size) as usize) }.map(|_| size)
}

/// Puts the process group `group` into the foreground of `terminal` (TIOCSPGRP). From the background as with [`set_modes`].
pub fn set_foreground(terminal: RawFd, group: RealPid) -> Result<()> {
    // SAFETY: the kernel reads the integer.
    unsafe { fd::ioctl(terminal, libc::TIOCSPGRP, (&raw const group.0) as usize) }.map(|_| ())
}

/// Sets the size of `terminal` (TIOCSWINSZ); the group in its foreground is told of another one (SIGWINCH).
pub fn set_size(terminal: RawFd, size: &Size) -> Result<()> {
    // SAFETY: the kernel reads the structure.
    unsafe { fd::ioctl(terminal, libc::TIOCSWINSZ, core::ptr::from_ref(size) as usize) }.map(|_| ())
}

/// An integer that the kernel tells of `terminal`.
fn integer(terminal: RawFd, request: u64) -> Result<i32> {
    let mut value = 0;
    // SAFETY: the kernel writes an integer for each of the requests of this file.
    unsafe { fd::ioctl(terminal, request, (&raw mut value) as usize) }.map(|_| value)
}

/// The number of the pseudo terminal of `master` (TIOCGPTN of ioctl_tty(2)).
pub fn number(master: RawFd) -> Result<u32> {
    integer(master, libc::TIOCGPTN).map(|number| number as u32)
}

/// Whether the slave of `master` cannot be opened (TIOCGPTLCK, Linux 3.8).
pub fn is_locked(master: RawFd) -> Result<bool> {
    integer(master, libc::TIOCGPTLCK).map(|locked| locked != 0)
}

/// Locks the slave of `master`, or unlocks it (TIOCSPTLCK).
pub fn set_locked(master: RawFd, locked: bool) -> Result<()> {
    let value = i32::from(locked);
    // SAFETY: the kernel reads the integer.
    unsafe { fd::ioctl(master, libc::TIOCSPTLCK, (&raw const value) as usize) }.map(|_| ())
}

/// Whether reads from `master` are in packet mode (TIOCGPKT, Linux 3.8).
pub fn is_in_packet_mode(master: RawFd) -> Result<bool> {
    integer(master, libc::TIOCGPKT).map(|mode| mode != 0)
}

/// Whether nobody else can open the slave of `master` (TIOCGEXCL, Linux 3.8).
pub fn is_exclusive(master: RawFd) -> Result<bool> {
    integer(master, libc::TIOCGEXCL).map(|mode| mode != 0)
}

/// The session whose controlling terminal the pair of `master` is (TIOCGSID); fails with ENOTTY if it is none's.
pub fn session(master: RawFd) -> Result<RealPid> {
    integer(master, libc::TIOCGSID).map(RealPid)
}

/// The slave of `master`, opened with `flags` (TIOCGPTPEER, Linux 4.13), closed on exec. Fails with EIO where it is locked.
pub fn open_peer(master: RawFd, flags: i32) -> Result<RawFd> {
    // With O_CLOEXEC the kernel would leave that among the description's flags (ptm_open_peer of drivers/tty/pty.c).
    // SAFETY: the argument is no address.
    let slave = unsafe { fd::ioctl(master, TIOCGPTPEER, flags as usize) }? as RawFd;
    fd::fcntl(slave, libc::F_SETFD, libc::FD_CLOEXEC as usize).map(|_| slave)
}

/// _IO('T', 0x41) (asm-generic/ioctls.h).
const TIOCGPTPEER: u64 = 0x5441;

/// Calls `work` with the controlling terminal of the calling process; fails where there is none.
pub fn with_controlling<R>(work: impl FnOnce(RawFd) -> Result<R>) -> Result<R> {
    let terminal = fd::open(c"/dev/tty", libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC, 0)?;
    let result = work(terminal);
    let _ = fd::close(terminal);
    result
}
