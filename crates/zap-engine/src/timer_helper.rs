//! The word in which libc keeps the id of its helper thread, which tells of timers with SIGEV_THREAD.
//!
//! glibc makes this thread once, with the first such timer, and gives its id, the kernel's, to the kernel with each further
//! one, by a system call that no wrapper sees. The word has no name outside (`__timer_helper_tid`, a static of libc.so since
//! 2.34). So it is found by what stands in it: when a timer has been made, the kernel tells which thread it signals, and of
//! libc's variables one alone has that number. A restart writes the thread's new id there, before any thread runs.
//!
//! Nothing but the address is remembered. That is right in the child of a fork too: the word lies where it lay, and libc has
//! set it to 0, until a timer of the child's own makes a new helper thread.

use crate::guard::Guard;
use crate::{threads, timers};
use core::sync::atomic::{AtomicU64, Ordering};
use zap_sys::mem;

/// Address of the word; 0 while it is not known.
static WORD: AtomicU64 = AtomicU64::new(0);

/// Bytes that are looked at in one go: the caller's stack may be small.
const PIECE: usize = 1024;
const WORD_LENGTH: usize = 4;

/// Whether the word has been found.
pub fn is_known() -> bool {
    WORD.load(Ordering::Relaxed) != 0
}

/// Looks for the word in libc's writable segments, each `(address, length)`, when libc has just made the timer that the kernel
/// knows as `timer`. Where not exactly one word has the thread's id, nothing is remembered: a later timer may find it.
pub fn learn(timer: i32, segments: &[(u64, u64)]) {
    // The thread's id stays what it is, and the memory's reader may need a descriptor.
    let _guard = Guard::enter();
    let Some(id) = timers::thread_of(timer) else { return };
    let mut found = None;
    for &(start, length) in segments {
        let end = start.saturating_add(length);
        let mut at = start.next_multiple_of(WORD_LENGTH as u64);
        while at.saturating_add(WORD_LENGTH as u64) <= end {
            let mut bytes = [0u8; PIECE];
            let wanted = PIECE.min((end - at) as usize);
            let Ok(read) = mem::read_own(at, &mut bytes[..wanted]) else { break };
            for (index, word) in bytes[..read.min(wanted)].chunks_exact(WORD_LENGTH).enumerate() {
                if *word == id.0.to_ne_bytes() && found.replace(at + (index * WORD_LENGTH) as u64).is_some() {
                    return;
                }
            }
            if read < wanted {
                break;
            }
            at += PIECE as u64;
        }
    }
    if let Some(address) = found {
        WORD.store(address, Ordering::Relaxed);
    }
}

/// After a restart: writes the helper thread's new id over the old one. Every thread exists, none runs.
pub fn restore() {
    let address = WORD.load(Ordering::Relaxed);
    let mut bytes = [0u8; WORD_LENGTH];
    if address == 0 || mem::read_own(address, &mut bytes) != Ok(WORD_LENGTH) {
        return;
    }
    // 0 is no thread's: libc has made none yet in this process.
    let old = i32::from_ne_bytes(bytes);
    if let Some(slot) = threads::slots().find(|slot| old != 0 && slot.last_tid.load(Ordering::Relaxed) == old) {
        let _ = mem::write_own(address, &slot.real_tid.load(Ordering::Relaxed).to_ne_bytes());
    }
}
