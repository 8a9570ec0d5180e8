//! The numbers by which the program knows files that have others here (`zap_wire::inodes`), which come from behind the pod's table.
//!
//! A list is of one life of the process. A thread that a checkpoint meets between a call and the look-up has the kernel's answer of
//! the life before in hand, and after a restart still looks it up in that life's list: both are copies in the program's memory, and
//! the one before is kept. Who takes the list before the call and finds another one after it, makes the call anew.
//!
//! # Safety
//! Lists are noted at init and at a restart, when the process has no other thread, and each is in place until the restart after next.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, Ordering};
use zap_sys::mem;
use zap_wire::inodes::Inodes;
use zap_wire::table::{PodTable, SIZE};

/// The list of this life; null if every file is known by its own numbers. Its first word is its length in words.
static WORDS: AtomicPtr<u64> = AtomicPtr::new(core::ptr::null_mut());

/// The list of the life before, with its length in bytes.
struct Former(UnsafeCell<(u64, u64)>);

// SAFETY: used while there is one thread alone.
unsafe impl Sync for Former {}

static FORMER: Former = Former(UnsafeCell::new((0, 0)));

/// The list of one life.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List(*const u64);

/// Whether there are files that the program knows by other numbers than the kernel's.
#[inline(always)]
pub fn differ() -> bool {
    !WORDS.load(Ordering::Relaxed).is_null()
}

/// The list of this life.
#[inline(always)]
pub fn now() -> List {
    List(WORDS.load(Ordering::Acquire))
}

/// What is known now.
#[cold]
pub fn known() -> Inodes<'static> {
    now().known()
}

impl List {
    /// Whether every file is known by its own numbers.
    #[inline(always)]
    pub fn is_empty(self) -> bool {
        self.0.is_null()
    }

    /// What is known in this life.
    #[cold]
    pub fn known(self) -> Inodes<'static> {
        if self.is_empty() {
            return Inodes::NONE;
        }
        // SAFETY: `learn` has written so many, behind their number.
        let words = unsafe { core::slice::from_raw_parts(self.0.add(1), *self.0 as usize) };
        Inodes::read(words).unwrap_or(Inodes::NONE)
    }
}

/// Notes what lies behind `table`, of which `length` bytes are mapped. Without memory for it files are known by their own numbers.
///
/// # Safety
/// So many bytes are mapped there.
pub(crate) unsafe fn learn(table: &PodTable, length: usize) {
    let room = length.saturating_sub(SIZE) / size_of::<u64>();
    let count = usize::try_from(table.inodes.load(Ordering::Acquire)).unwrap_or(0).min(room);
    let size = (count + 1) * size_of::<u64>();
    let place = if count == 0 { None } else { mem::map_anonymous(size).ok() };
    let words = place.map_or(core::ptr::null_mut(), |address| address as *mut u64);
    if !words.is_null() {
        // SAFETY: the caller's promise, and a mapping of our own.
        unsafe {
            let source = core::ptr::from_ref(table).cast::<u8>().add(SIZE).cast::<u64>();
            *words = count as u64;
            core::ptr::copy_nonoverlapping(source, words.add(1), count);
        }
    }
    let last = WORDS.swap(words, Ordering::AcqRel);
    // SAFETY: there is one thread; nobody looks into the list before the last any more.
    unsafe {
        let former = &mut *FORMER.0.get();
        if former.0 != 0 {
            let _ = mem::unmap(former.0, former.1);
        }
        *former = match last.is_null() {
            true => (0, 0),
            false => (last as u64, (*last + 1) * size_of::<u64>() as u64),
        };
    }
}
