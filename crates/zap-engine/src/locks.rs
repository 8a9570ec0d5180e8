//! Mutexes in which the kernel reads the owner's id: robust ones, and those with priority inheritance.
//!
//! glibc writes the owner's thread id into every lock. For most only glibc reads it, and the virtual id does
//! ([`crate::identity`]). The futex words of robust and PI mutexes are read by the kernel too, which knows real ids: so
//! wrappers let libc take these with the real id in the control block, and a restart writes the new ids over the old
//! ones. Held robust mutexes are found by the threads' robust lists (get_robust_list(2)), PI mutexes in a list of all
//! that have been initialized.
//!
//! Offsets are those of glibc's `struct __pthread_mutex_s` on x86-64, which is part of its ABI: word 0, owner 8, kind 16,
//! list node 32 (the address of its `__next`, which is what the robust list links).
//!
//! # Safety
//! Addresses from lists of the program's are read and written through the kernel, which answers EFAULT.
#![allow(unsafe_code)]

use crate::guard::Guard;
use crate::threads;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use zap_sys::futex::FutexLock;
use zap_sys::{mem, process};

const OWNER: u64 = 8;
const KIND: u64 = 16;

/// Bits of a mutex's kind (glibc's pthreadP.h).
const ROBUST: i32 = 0x10;
const INHERITS_PRIORITY: i32 = 0x20;

/// FUTEX_TID_MASK of linux/futex.h; the two bits above say that somebody waits, and that an owner has died.
const ID_MASK: u32 = 0x3fff_ffff;

/// Longest robust list that is walked: the kernel's own limit (ROBUST_LIST_LIMIT).
const LONGEST_LIST: usize = 2048;

/// Addresses of the PI mutexes that have been initialized and not destroyed.
#[link_section = ".zap.child"]
static INHERITING: FutexLock<Vec<u64>> = FutexLock::new(Vec::new());

/// Whether the kernel reads the ids in the mutex at `address`.
///
/// # Safety
/// `address` is a mutex.
#[inline]
pub unsafe fn concerns_kernel(address: u64) -> bool {
    // SAFETY: the caller's promise.
    let kind = unsafe { core::ptr::read_volatile((address + KIND) as *const i32) };
    kind & (ROBUST | INHERITS_PRIORITY) != 0
}

/// Notes that the mutex at `address` has just been initialized.
///
/// # Safety
/// As [`concerns_kernel`].
pub unsafe fn note(address: u64) {
    // SAFETY: the caller's promise.
    let kind = unsafe { core::ptr::read_volatile((address + KIND) as *const i32) };
    if kind & INHERITS_PRIORITY != 0 {
        let _guard = Guard::enter();
        let mut list = INHERITING.lock();
        if !list.contains(&address) {
            list.push(address);
        }
    }
}

/// Forgets a mutex that is being destroyed.
pub fn forget(address: u64) {
    let _guard = Guard::enter();
    INHERITING.lock().retain(|known| *known != address);
}

/// In the child of a fork: nobody holds the list's lock.
#[inline]
pub fn begin_in_child() {
    if INHERITING.reset() {
        // Copied half changed.
        core::mem::forget(core::mem::take(&mut *INHERITING.lock()));
    }
}

/// Gives the mutex at `address`, which the calling thread has just been given, the thread's present id: it has waited
/// for it since before a restart, with the id of that time.
///
/// # Safety
/// As [`concerns_kernel`], and the caller holds the mutex.
pub unsafe fn settle(address: u64) {
    let own = process::gettid().0;
    // SAFETY: the caller's promise; the kernel and other threads read and write the word.
    let word = unsafe { &*(address as *const AtomicI32) };
    let mut seen = word.load(Ordering::Relaxed);
    while seen as u32 & ID_MASK != own as u32 {
        let wanted = (seen as u32 & !ID_MASK) | own as u32;
        match word.compare_exchange(seen, wanted as i32, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => break,
            Err(now) => seen = now,
        }
    }
    // SAFETY: as above; only the owner writes here.
    let owner = unsafe { &*((address + OWNER) as *const AtomicI32) };
    if owner.load(Ordering::Relaxed) != 0 {
        owner.store(own, Ordering::Relaxed);
    }
}

/// After a restart: writes the threads' new ids over the old ones. Every thread exists, none runs.
pub fn restore() {
    for slot in threads::slots() {
        crate::identity::renew_lent(slot);
        each_robust(slot.robust_list.load(Ordering::Relaxed), renew);
    }
    // Nobody holds the list's lock: its holders are in guarded sections, where nobody is suspended.
    INHERITING.lock().retain(|address| {
        // Freed memory, if it is no mutex any more: many programs never destroy theirs.
        let kind = read_words::<1>(*address + KIND).map_or(0, |[word]| word as u32 as i32);
        let is_mutex = kind & INHERITS_PRIORITY != 0 && kind & !KINDS == 0 && owner_agrees(*address);
        if is_mutex {
            renew(*address);
        }
        is_mutex
    });
}

/// Every bit that glibc uses in a mutex's kind: type, robust, PI, PP, shared, elision.
const KINDS: i32 = 0x3f3;

/// Whether word and owner of the mutex at `address` name the same thread, or none.
fn owner_agrees(address: u64) -> bool {
    let (Some([word]), Some([owner])) = (read_words::<1>(address), read_words::<1>(address + OWNER)) else {
        return false;
    };
    let (word, owner) = (word as u32 & ID_MASK, owner as u32);
    owner == 0 || word == owner
}

/// Calls `work` with the address of each mutex in the robust list whose head is at `head`.
fn each_robust(head: u64, work: impl Fn(u64)) {
    // struct robust_list_head: first node, distance from a node to its word, node of an operation under way.
    let Some([first, distance, pending]) = read_words::<3>(head) else { return };
    // The lowest bit of a node's address marks PI.
    let mutex = |node: u64| (node & !1).wrapping_add(distance);
    if pending != 0 {
        work(mutex(pending));
    }
    let mut node = first;
    for _ in 0..LONGEST_LIST {
        if node & !1 == head || node == 0 {
            return;
        }
        work(mutex(node));
        let Some([next]) = read_words::<1>(node & !1) else { return };
        node = next;
    }
}

fn read_words<const N: usize>(address: u64) -> Option<[u64; N]> {
    let mut words = [0u64; N];
    for (index, word) in words.iter_mut().enumerate() {
        let mut bytes = [0u8; 8];
        let at = address.checked_add(index as u64 * 8)?;
        if address == 0 || mem::read_own(at, &mut bytes) != Ok(8) {
            return None;
        }
        *word = u64::from_ne_bytes(bytes);
    }
    Some(words)
}

/// Writes the owner's new id into the mutex at `address`, if a thread of this process had it.
fn renew(address: u64) {
    let (Some([word]), Some([owner])) = (read_words::<1>(address), read_words::<1>(address + OWNER)) else { return };
    let (word, owner) = (word as u32, owner as u32);
    let new = |id: u32| {
        threads::slots()
            .find(|slot| id != 0 && slot.last_tid.load(Ordering::Relaxed) as u32 == id)
            .map(|slot| slot.real_tid.load(Ordering::Relaxed) as u32)
    };
    if let Some(id) = new(word & ID_MASK) {
        let _ = mem::write_own(address, &((word & !ID_MASK) | id).to_ne_bytes());
    }
    if let Some(id) = new(owner) {
        let _ = mem::write_own(address + OWNER, &id.to_ne_bytes());
    }
}
