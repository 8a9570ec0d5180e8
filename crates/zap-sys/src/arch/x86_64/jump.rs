//! What glibc's setjmp(3) leaves in a `jmp_buf`.
//!
//! # Safety
//! Reads the caller's buffer, and the guard that glibc keeps in the thread's control block.
#![allow(unsafe_code)]

use core::arch::asm;

/// Index of the stack pointer among the buffer's words (JB_RSP of jmpbuf-offsets.h).
const STACK: usize = 6;

/// The stack pointer with which a longjmp(3) to `environment` goes on.
///
/// # Safety
/// `environment` has been filled by setjmp(3) or sigsetjmp(3).
pub unsafe fn stack_of_jump(environment: *const u64) -> u64 {
    // SAFETY: the caller's promise.
    let mangled = unsafe { environment.add(STACK).read() };
    let guard: u64;
    // SAFETY: reads a word of the control block.
    unsafe {
        // pointer_guard of tcbhead_t, with which PTR_MANGLE hides addresses
        asm!("mov {0}, qword ptr fs:[0x30]", out(reg) guard, options(nostack, pure, readonly, preserves_flags));
    }
    mangled.rotate_right(17) ^ guard
}
