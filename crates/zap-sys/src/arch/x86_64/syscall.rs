//! The one instruction through which all of Zap enters the kernel.
//!
//! # Safety
//! A system call can do anything to the process. The callers (the typed functions of this crate) vouch for the
//! arguments; this file vouches only for the calling convention (System V AMD64 ABI, appendix A.2.1).
#![allow(unsafe_code)]

use crate::errno::Errno;
use core::arch::asm;

/// Makes system call `number`; the kernel's negative return values become [`Errno`].
///
/// # Safety
/// The arguments must be what the call expects: pointers valid for what it reads and writes, memory effects sound.
#[inline(always)]
pub unsafe fn syscall(number: i64, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller vouches for number and arguments; rcx and r11 are the only registers the kernel destroys.
    let value = unsafe { raw(number, args) };
    if (-4095..0).contains(&value) {
        Err(Errno(-value as i32))
    } else {
        Ok(value as usize)
    }
}

/// Makes system call `number` and hands back what the kernel put into `rax`, untranslated.
///
/// # Safety
/// As [`syscall`].
#[inline(always)]
pub unsafe fn raw(number: i64, args: [usize; 6]) -> isize {
    let value: isize;
    // SAFETY: the caller vouches for number and arguments; every register the kernel may change is declared.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => value,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    value
}
