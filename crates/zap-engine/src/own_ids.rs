//! The caller's own process and thread id, remembered: getpid and gettid without a system call.
//!
//! What a thread has remembered lies in its block, and is right as long as a number there equals the one on a page that the
//! kernel empties in the child of every fork (MADV_WIPEONFORK, Linux 4.14), also of one that goes past libc, and that no
//! image has: a restart empties it too. A child that shares this memory (vfork, CLONE_VM) has its parent's block, whose
//! thread then remembers nothing until that child has another program: see [`begin_sharing`]. A child made so past libc sees
//! its parent's ids in these two functions.
//!
//! The page is mapped by the first thread that asks often. Each mapping more makes every fork dearer, and most programs ask
//! once or twice.
//!
//! # Safety
//! The page, once mapped, stays for good.
#![allow(unsafe_code)]

use crate::guard::block;
use crate::{identity, state};
use core::sync::atomic::{compiler_fence, AtomicI32, AtomicPtr, AtomicU32, Ordering};
use zap_sys::{libc, mem, process, PAGE_SIZE};

/// What a thread remembers, in its block. All-zero is the initial state.
pub struct OwnIds {
    /// The number that was on the page; 0 when nothing is remembered.
    number: AtomicU32,
    process: AtomicI32,
    thread: AtomicI32,
    /// How often it has asked the kernel, up to [`OFTEN`].
    asked: AtomicU32,
    /// Children that share the block.
    shared: AtomicU32,
}

/// How often a thread asks the kernel before it remembers.
const OFTEN: u32 = 64;

/// On the page that is not mapped yet.
static NOTHING: AtomicU32 = AtomicU32::new(0);

/// The page's first word.
static PAGE: AtomicPtr<AtomicU32> = AtomicPtr::new((&raw const NOTHING).cast_mut());

/// Last of the numbers that were given: those of other processes that have this memory from the same parent do not matter.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Whether there is a page: [`ABSENT`], [`BEING_MAPPED`], [`MAPPED`] or [`NEVER`].
static STATE: AtomicU32 = AtomicU32::new(ABSENT);
const ABSENT: u32 = 0;
const BEING_MAPPED: u32 = 1;
const MAPPED: u32 = 2;
const NEVER: u32 = 3;

/// What the calling thread remembers.
#[inline(always)]
fn remembered() -> Option<&'static OwnIds> {
    let own = &block().own_ids;
    // SAFETY: a static, or the page, which stays.
    let number = unsafe { &*PAGE.load(Ordering::Relaxed) }.load(Ordering::Relaxed);
    (number != 0 && own.number.load(Ordering::Relaxed) == number).then_some(own)
}

/// The program's id of the process, if the calling thread remembers it.
#[inline(always)]
pub fn process() -> Option<i32> {
    remembered().map(|own| own.process.load(Ordering::Relaxed))
}

/// The program's id of the calling thread, if it remembers it.
#[inline(always)]
pub fn thread() -> Option<i32> {
    remembered().map(|own| own.thread.load(Ordering::Relaxed))
}

/// The calling thread has had to ask the kernel: it remembers what it is told, if it asks often.
#[inline]
pub fn asked() {
    let own = &block().own_ids;
    let asked = own.asked.load(Ordering::Relaxed);
    if asked < OFTEN {
        own.asked.store(asked + 1, Ordering::Relaxed);
    } else {
        remember(own);
    }
}

#[cold]
fn remember(own: &OwnIds) {
    // Not in a child that has not begun yet, nor in one made past libc that has this very block.
    if is_shared() || !state::active() || process::getpid() != state::real_pid() {
        return;
    }
    let Some(page) = page() else { return };
    // Before the ids are asked for: those of before a restart or a fork go with a number that is on no page any more.
    let mut number = page.load(Ordering::Relaxed);
    if number == 0 {
        let next = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        number = match page.compare_exchange(0, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(other) => other,
        };
    }
    own.number.store(0, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    own.process.store(identity::virtual_of(process::getpid()).0, Ordering::Relaxed);
    own.thread.store(identity::virtual_of_caller(process::gettid()).0, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    own.number.store(number, Ordering::Relaxed);
}

/// The page's first word; `None` where there cannot be one.
fn page() -> Option<&'static AtomicU32> {
    if STATE.compare_exchange(ABSENT, BEING_MAPPED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        let page = map();
        if let Some(page) = page {
            PAGE.store(page as *mut AtomicU32, Ordering::Release);
        }
        STATE.store(if page.is_some() { MAPPED } else { NEVER }, Ordering::Release);
    }
    // SAFETY: the page, which stays.
    (STATE.load(Ordering::Acquire) == MAPPED).then(|| unsafe { &*PAGE.load(Ordering::Acquire) })
}

fn map() -> Option<u64> {
    let page = mem::map_anonymous(PAGE_SIZE).ok()?;
    // SAFETY: the page is new.
    if unsafe { mem::advise(page, PAGE_SIZE as u64, libc::MADV_WIPEONFORK) }.is_err() {
        // SAFETY: nobody knows of it.
        let _ = unsafe { mem::unmap(page, PAGE_SIZE as u64) };
        return None;
    }
    Some(page)
}

/// Before the program forbids itself system calls: no page is mapped any more. Where another thread has died in the middle of
/// it (a fork has no other threads), that is not waited for.
pub fn stop_mapping() {
    for _ in 0..100 {
        if STATE.compare_exchange(ABSENT, NEVER, Ordering::AcqRel, Ordering::Acquire) != Err(BEING_MAPPED) {
            return;
        }
        zap_sys::time::sleep_ns(10_000);
    }
}

/// In the child of a fork: its parent's ids are not its own, and no child shares its block.
#[inline]
pub fn begin_in_child() {
    let own = &block().own_ids;
    own.number.store(0, Ordering::Relaxed);
    own.shared.store(0, Ordering::Relaxed);
}

/// Before the calling thread makes a child that shares its block: neither of them remembers, until [`end_sharing`] or for good.
pub fn begin_sharing() {
    let own = &block().own_ids;
    own.number.store(0, Ordering::Relaxed);
    own.shared.fetch_add(1, Ordering::Relaxed);
}

/// Whether a child shares the calling thread's block.
#[inline]
pub fn is_shared() -> bool {
    block().own_ids.shared.load(Ordering::Relaxed) != 0
}

/// The child has another program, or has ended. One that was killed between a [`begin_sharing`] of its own and its end
/// leaves that behind: then nothing is remembered in this thread any more.
pub fn end_sharing() {
    let _ = block().own_ids.shared.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
}
