//! Waiting on a word of memory (futex(2)), and a lock made of one.
//!
//! # Safety
//! The kernel reads the word through a reference that is alive for the call; all other state is in atomics.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

const WAIT: i32 = libc::FUTEX_WAIT;
const WAKE: i32 = libc::FUTEX_WAKE;

/// Sleeps while `word` holds `expected`; returns at once if it does not. May return early: look at the word again.
/// Not private to the process, so that it works in memory shared between processes too.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<&libc::timespec>) -> Result<()> {
    let timeout = timeout.map_or(core::ptr::null(), |t| t as *const libc::timespec);
    call!(SYS_futex, word.as_ptr(), WAIT, expected, timeout, 0, 0).map(|_| ())
}

/// Wakes up to `count` sleepers on `word`.
pub fn wake(word: &AtomicU32, count: i32) {
    let _ = call!(SYS_futex, word.as_ptr(), WAKE, count, 0, 0, 0);
}

/// A lock for the preload's own data: three states, no poisoning, no allocation, no libc.
///
/// It must only be held inside a guarded section, since a thread that is suspended while it holds one would make the
/// checkpoint's own code wait for ever.
pub struct FutexLock<T> {
    /// 0 free, 1 held, 2 held and somebody sleeps.
    state: AtomicU32,
    /// Thread pointer of the thread that holds it; 0 for none.
    holder: AtomicU64,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reachable through the guard alone, and one guard exists at a time.
unsafe impl<T: Send> Sync for FutexLock<T> {}

impl<T> FutexLock<T> {
    /// A free lock.
    pub const fn new(value: T) -> Self {
        Self { state: AtomicU32::new(0), holder: AtomicU64::new(0), value: UnsafeCell::new(value) }
    }

    /// Frees the lock in the only thread of a forked child, whoever held it in the parent. True when somebody did: then
    /// the value may have been copied half changed. Writes nothing otherwise, since a page that the child does not write
    /// need not be copied.
    #[inline]
    pub fn reset(&self) -> bool {
        let held = self.state.load(Ordering::Acquire) != 0;
        if held {
            self.holder.store(0, Ordering::Relaxed);
            self.state.store(0, Ordering::Release);
        }
        held
    }

    /// Whether the calling thread holds the lock.
    #[inline]
    pub fn is_held_here(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == crate::arch::tls::thread_pointer()
    }

    /// Frees a lock that the calling thread holds, after a panic that has skipped the guard. True when it did: then the
    /// value may be half changed.
    pub fn give_up(&self) -> bool {
        let held = self.is_held_here();
        if held {
            drop(FutexGuard { lock: self });
        }
        held
    }

    /// Waits until the lock is ours.
    pub fn lock(&self) -> FutexGuard<'_, T> {
        if self.state.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
            while self.state.swap(2, Ordering::Acquire) != 0 {
                let _ = wait(&self.state, 2, None);
            }
        }
        self.holder.store(crate::arch::tls::thread_pointer(), Ordering::Relaxed);
        FutexGuard { lock: self }
    }
}

/// Proof that the lock is held.
pub struct FutexGuard<'a, T> {
    lock: &'a FutexLock<T>,
}

impl<T> Deref for FutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard proves that nobody else holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for FutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard proves that nobody else holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for FutexGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.holder.store(0, Ordering::Relaxed);
        if self.lock.state.swap(0, Ordering::Release) == 2 {
            wake(&self.lock.state, 1);
        }
    }
}
