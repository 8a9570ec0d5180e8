//! The per-thread block: an initial-exec TLS object.
//!
//! `thread_local!` in a cdylib compiles to `__tls_get_addr`, which may take the loader's lock and allocate. A preloaded
//! library is loaded at start, so its block lies in static TLS and one load from the GOT finds it (`@GOTTPOFF`).
//!
//! # Safety
//! The address is valid in any thread that libc made, from the moment the loader has set up TLS until the thread's end.
#![allow(unsafe_code)]

use core::arch::{asm, global_asm};

/// Size of the block in bytes.
pub const BLOCK_SIZE: usize = 256;

global_asm!(
    ".section .tbss.zap_thread_block,\"awT\",@nobits",
    ".balign 64",
    ".globl zap_thread_block",
    ".hidden zap_thread_block",
    ".type zap_thread_block,@tls_object",
    ".size zap_thread_block,256",
    "zap_thread_block:",
    ".zero 256",
    ".text",
);

/// Address of the calling thread's block of [`BLOCK_SIZE`] zero-initialized bytes, aligned to 64.
#[inline(always)]
pub fn thread_block() -> *mut u8 {
    let address: usize;
    // SAFETY: reads the GOT and the thread pointer only; both are set up before any code of a library runs.
    unsafe {
        asm!(
            "mov {0}, qword ptr [rip + zap_thread_block@GOTTPOFF]", // offset of the block from the thread pointer
            "add {0}, qword ptr fs:[0]",                            // the TCB's first word is its own address
            out(reg) address,
            options(nostack, pure, readonly, preserves_flags),
        );
    }
    address as *mut u8
}

/// The thread pointer of the calling thread (the FS base), which is also what `pthread_self` returns in glibc.
#[inline(always)]
pub fn thread_pointer() -> u64 {
    let address: u64;
    // SAFETY: reads the TCB's self pointer, which glibc keeps in the first word.
    unsafe {
        asm!("mov {0}, qword ptr fs:[0]", out(reg) address, options(nostack, pure, readonly, preserves_flags));
    }
    address
}
