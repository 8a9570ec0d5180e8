//! The numbers by which the program knows files that have others here (`zap_wire::inodes`): they lie behind the pod's table.
//!
//! # Safety
//! What is known is noted at init and at a restart, when the process has no other thread, and mapped for good.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use zap_wire::inodes::Inodes;
use zap_wire::table::{PodTable, SIZE};

/// The words behind the table; null if there are none.
static WORDS: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether there are files that the program knows by other numbers than the kernel's.
#[inline(always)]
pub fn differ() -> bool {
    !WORDS.load(Ordering::Relaxed).is_null()
}

/// Notes what lies behind `table`, of which `length` bytes are mapped.
///
/// # Safety
/// So many bytes are mapped there, for good, and nobody changes those behind the table.
pub(crate) unsafe fn learn(table: &PodTable, length: usize) {
    let room = length.saturating_sub(SIZE) / size_of::<u64>();
    let count = usize::try_from(table.inodes.load(Ordering::Acquire)).unwrap_or(0).min(room);
    // SAFETY: the caller's promise.
    let words = unsafe { core::ptr::from_ref(table).cast::<u8>().add(SIZE) }.cast_mut().cast::<u64>();
    COUNT.store(count, Ordering::Relaxed);
    WORDS.store(if count == 0 { core::ptr::null_mut() } else { words }, Ordering::Relaxed);
}

/// What is known.
#[cold]
pub fn known() -> Inodes<'static> {
    let words = WORDS.load(Ordering::Relaxed);
    if words.is_null() {
        return Inodes::NONE;
    }
    // SAFETY: `learn` was promised so many.
    let words = unsafe { core::slice::from_raw_parts(words, COUNT.load(Ordering::Relaxed)) };
    Inodes::read(words).unwrap_or(Inodes::NONE)
}
