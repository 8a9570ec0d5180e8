//! The ground floor: the Linux system-call interface as types.
//!
//! Everything here talks to the kernel directly, never to libc: these calls cannot re-enter Zap's own wrappers, do not
//! touch `errno`, take no lock and never allocate, so they are safe while the program is suspended and in a process
//! that shares memory with a running program. All assembly of Zap lives below `arch/`.
//!
//! Not here: any policy, any knowledge of images, coordinators or plugins.
#![cfg_attr(not(test), no_std)]

pub mod aio;
pub mod arch;
pub mod credentials;
pub mod elf;
pub mod errno;
pub mod fd;
pub mod futex;
pub mod ids;
pub mod maps;
pub mod mem;
pub mod net;
pub mod opened;
pub mod pagemap;
pub mod path;
pub mod process;
pub mod ptrace;
pub mod signal;
pub mod terminal;
pub mod text;
pub mod time;
pub mod usage;

pub use errno::{Errno, Result, SysError};
pub use fd::RawFd;
pub use ids::{RealPid, VirtualPid};
pub use libc;

/// Size of a small page on every platform that Zap supports so far (x86-64).
pub const PAGE_SIZE: usize = 4096;

/// Rounds `value` up to a whole number of pages. Saturates instead of wrapping, so that a hostile length stays huge.
pub const fn page_up(value: u64) -> u64 {
    value.saturating_add(PAGE_SIZE as u64 - 1) & !(PAGE_SIZE as u64 - 1)
}

/// Rounds `value` down to a whole number of pages.
pub const fn page_down(value: u64) -> u64 {
    value & !(PAGE_SIZE as u64 - 1)
}
