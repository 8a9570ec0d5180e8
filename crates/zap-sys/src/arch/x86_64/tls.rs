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

global_asm!(
    ".section .rodata.zap_thread_block_offset,\"a\",@progbits",
    ".balign 8",
    ".globl zap_thread_block_offset",
    ".hidden zap_thread_block_offset",
    "zap_thread_block_offset:",
    ".quad zap_thread_block@DTPOFF", // of the block in the library's own part of static TLS
    ".text",
);

/// Defines `__tls_get_addr` for the library alone, for the thread-local variables of the precompiled standard library:
/// libc's may take the loader's lock and allocate after a dlopen, which a panic in the agent must not.
#[macro_export]
macro_rules! define_tls_look_up {
    () => {
        core::arch::global_asm!(
            ".text",
            ".globl __tls_get_addr",
            ".hidden __tls_get_addr",
            ".type __tls_get_addr,@function",
            "__tls_get_addr:", // (module, offset) at rdi: the module is this one
            "mov rax, qword ptr [rip + zap_thread_block@GOTTPOFF]", // the block, from the thread pointer
            "sub rax, qword ptr [rip + zap_thread_block_offset]", // the beginning of the library's part
            "add rax, qword ptr fs:[0]",
            "add rax, qword ptr [rdi + 8]",
            "ret",
            ".size __tls_get_addr, . - __tls_get_addr",
        );
    };
}

/// Sets the calling thread's variables of the standard library to what they were at the thread's start: after a panic
/// that has been left behind, it would take the next one for a panic in its hook.
pub fn reset_standard_library() {
    extern "C" {
        /// The ELF header of the library (ld's symbol), and the offset of the block in its TLS.
        static __ehdr_start: [u8; 64];
        static zap_thread_block_offset: u64;
    }
    const PT_TLS: u32 = 7;
    const PROGRAM_HEADER: usize = 56;
    // SAFETY: 64 bytes that the linker has put there.
    let header = unsafe { &__ehdr_start };
    let base = header.as_ptr();
    let half = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
    // e_phoff and e_phnum of elf(5); the table lies close behind the header.
    let (table, count) = (usize::from(half(32)), usize::from(half(56)));
    for index in 0..count {
        let word = |at: usize| {
            // SAFETY: inside the table of program headers, which is mapped with the header.
            unsafe { base.add(table + index * PROGRAM_HEADER + at).cast::<u64>().read_unaligned() }
        };
        if word(0) as u32 != PT_TLS {
            continue;
        }
        // p_vaddr, p_filesz, p_memsz
        let (image, initialized, length) = (word(16) as usize, word(32) as usize, word(40) as usize);
        // SAFETY: a constant of the linker's.
        let block = unsafe { zap_thread_block_offset } as usize;
        let start = (thread_block() as usize).wrapping_sub(block) as *mut u8;
        for at in (0..length).filter(|at| !(block..block + BLOCK_SIZE).contains(at)) {
            let value = if at < initialized {
                // SAFETY: the image of the TLS segment, mapped with the library.
                unsafe { *base.add(image + at) }
            } else {
                0
            };
            // SAFETY: inside the library's part of the calling thread's static TLS.
            unsafe { start.add(at).write_volatile(value) };
        }
    }
}

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
