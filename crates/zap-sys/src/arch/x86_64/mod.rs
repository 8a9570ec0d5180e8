//! x86-64: system calls, the per-thread block, and the few control transfers that no compiler can express.

pub mod context;
pub mod extended_state;
pub mod memory;
pub mod syscall;
pub mod tls;
mod unwind;

/// The architecture's number in an image's prelude (the ELF machine number, `EM_X86_64`).
pub const ELF_MACHINE: u32 = 62;

/// Length of the `syscall` instruction in bytes: stepping `rip` back by this repeats the call.
pub const SYSCALL_LENGTH: u64 = 2;
