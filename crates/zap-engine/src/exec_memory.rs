//! Memory for the environment that an exec is given, when it is too large for the stack.
//!
//! A successful exec in the child of a vfork frees nothing: what it has mapped stays in the parent. So each thread keeps
//! one such mapping, which the next child of the same thread, or the thread itself, uses again and gives back: a thread
//! stands still until the child of its vfork has exec'ed.
//!
//! # Safety
//! The mapping is noted in the block of the thread that uses it, and nowhere else.
#![allow(unsafe_code)]

use crate::{guard, state};
use core::sync::atomic::Ordering;
use zap_sys::{mem, page_up, process};

/// At least `length` bytes for the calling thread.
pub fn take(length: usize) -> Option<u64> {
    let [start, known] = &guard::block().exec_memory;
    let length = page_up(length as u64);
    if known.load(Ordering::Relaxed) < length {
        unmap();
        start.store(mem::map_anonymous(length as usize).ok()?, Ordering::Relaxed);
        known.store(length, Ordering::Relaxed);
    }
    Some(start.load(Ordering::Relaxed))
}

/// The exec has failed, or the spawn is done. In the child of a vfork the memory stays its parent's.
pub fn give_back() {
    if guard::block().exec_memory[1].load(Ordering::Relaxed) != 0 && process::getpid() == state::real_pid() {
        unmap();
    }
}

fn unmap() {
    let [start, length] = &guard::block().exec_memory;
    let length = length.swap(0, Ordering::Relaxed);
    if length != 0 {
        // SAFETY: a mapping that `take` has made and nobody uses any more.
        let _ = unsafe { mem::unmap(start.load(Ordering::Relaxed), length) };
    }
}
