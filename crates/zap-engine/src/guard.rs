//! The per-thread block and the guarded section: where a thread must not be suspended.
//!
//! A wrapper's own work (taking one of Zap's locks, allocating from Zap's arena) happens in a guarded section. Zap's
//! signal that arrives inside one is noted and raised again at the section's end. A section is short and never spans a
//! real call that can block: pthread_cancel and siglongjmp skip destructors, and would leave it open for ever.
//!
//! # Safety
//! The block lies in the calling thread's static TLS, is zero at first, and only this thread and its own signal
//! handler touch it (another thread may while this one is suspended); all its fields are atomics.
#![allow(unsafe_code)]

use crate::own_ids::OwnIds;
use crate::state::Identity;
use crate::{blocking, signals, stragglers};
use core::sync::atomic::{AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use zap_sys::arch::tls;
use zap_sys::libc;

/// What Zap keeps for each thread. All-zero is the initial state.
#[repr(C)]
pub struct ThreadBlock {
    /// Guarded sections that the thread is in.
    depth: AtomicU32,
    /// Stack address of the outermost of them.
    outermost: AtomicU64,
    /// Zap's signal came during a guarded section.
    deferred: AtomicU32,
    /// The program believes that it blocks Zap's signal.
    pub believes_blocked: AtomicU32,
    /// Times that the thread has been suspended: a wrapper that sees it change knows why a call came back early.
    pub suspensions: AtomicU32,
    /// System call that a wrapper is about to make, plus one; 0 for none. See [`crate::blocking`].
    pub call: AtomicI64,
    /// Stack pointer of that wrapper, by which a stale record is told from a live one.
    pub call_stack: AtomicU64,
    /// Deadline on CLOCK_MONOTONIC in nanoseconds of a call with a relative time-out.
    pub deadline: AtomicU64,
    /// Where a repeated call reads what is left of its time: seconds, nanoseconds.
    pub remaining: [AtomicI64; 2],
    /// Stack addresses of the words that say whether a wrapper has real ids in hand; 0 for none. See [`with_ids`] and
    /// [`with_wait`].
    ids: [AtomicU64; 2],
    /// Address of the innermost record of [`crate::deadline`], 0 for none.
    pub deadlines: AtomicU64,
    /// Nanoseconds between the program's CPU time of this thread and the kernel's. See [`crate::clocks`].
    pub cpu_offset: AtomicI64,
    /// The thread's newest substitute for an alternate stack. See [`crate::alternate_stacks`].
    pub substitutes: AtomicU64,
    /// Start and length of memory for the environment of an exec. See [`crate::exec_memory`].
    pub exec_memory: [AtomicU64; 2],
    /// Where a panic of the agent leads back to, 0 for nowhere; and whether one has. See [`crate::breakdown`].
    pub way_back: AtomicU64,
    pub abandoned: AtomicU32,
    /// The helper that runs on the thread's stack while it waits, 0 for none. See [`crate::beside`].
    pub helper: AtomicU32,
    /// The thread looks libc's functions up. See [`crate::next`].
    pub looking_up: AtomicU32,
    /// Stack address of the wrapper that has lent libc the thread's real id, 0 for none; and the id that comes back. See
    /// [`crate::identity::lend`].
    pub lender: AtomicU64,
    pub lent_id: AtomicI32,
    /// The thread's real id, and by which the program knows it; 0 while that is not known. See
    /// [`crate::identity::virtual_of_caller`].
    pub known_tid: [AtomicI32; 2],
    /// What the thread need not ask the kernel for.
    pub own_ids: OwnIds,
    /// Who the process is, in the block of its first thread. See [`crate::state::keep_identity_in`].
    pub identity: Identity,
}

const _: () = assert!(core::mem::size_of::<ThreadBlock>() <= tls::BLOCK_SIZE);

/// The calling thread's block.
#[inline(always)]
pub fn block() -> &'static ThreadBlock {
    // SAFETY: aligned to 64, large enough (checked above), zero-initialized, alive as long as the thread runs.
    unsafe { &*tls::thread_block().cast::<ThreadBlock>() }
}

/// Proof that the calling thread is not suspended for as long as this is borrowed.
pub struct Unsuspended(());

/// A guarded section: from here to the guard's end the thread is not suspended.
pub struct Guard {
    block: &'static ThreadBlock,
    proof: Unsuspended,
}

impl core::ops::Deref for Guard {
    type Target = Unsuspended;
    #[inline(always)]
    fn deref(&self) -> &Unsuspended {
        &self.proof
    }
}

impl Guard {
    /// Enters a guarded section. Sections nest.
    #[inline]
    pub fn enter() -> Self {
        let block = block();
        let depth = block.depth.load(Ordering::Relaxed);
        if depth == 0 {
            let here = 0u8;
            block.outermost.store(&raw const here as u64, Ordering::Relaxed);
        }
        block.depth.store(depth + 1, Ordering::Relaxed);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        Self { block, proof: Unsuspended(()) }
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        let depth = self.block.depth.load(Ordering::Relaxed) - 1;
        self.block.depth.store(depth, Ordering::Relaxed);
        if depth == 0 {
            raise_noted(self.block);
        }
    }
}

/// Farthest that the stack reaches below the frame of [`with_ids`].
const REACH: u64 = 16 << 10;

/// What the word of [`with_ids`] holds while ids are in hand.
const IN_HAND: u64 = 0x5a41_5020_6964_7321;

/// What it holds during [`with_place`].
const PLACE_IN_HAND: u64 = 0x5a41_5020_706c_6163;

/// What it holds during [`with_wait`]: not the same, since its word may come to lie where another section's was, whose address
/// is still noted.
const IN_WAIT: u64 = 0x5a41_5020_7761_6974;

/// Makes `call`, which finds real ids and gives them to the kernel: in between the thread is not suspended, since a
/// restart makes them those of nobody, or of the original beside its clone. No guarded section, because a handler of the
/// program's may run before `call` returns, and leave by siglongjmp: what was noted is believed only with the stack just
/// below. Sections do not nest.
///
/// The word that begins and ends the section is on the stack, and its address is noted once: after a fork the parent pays for
/// each page that it writes, and it writes its stack anyway.
#[inline(always)]
pub fn with_ids<R>(call: impl FnOnce() -> R) -> R {
    section(0, IN_HAND, call)
}

/// As [`with_ids`] for work on the pod's table: it makes no call that blocks, and the thread is not suspended either while a
/// handler of the program's runs on top of it, since a restart takes the table away.
#[inline(always)]
pub fn with_place<R>(work: impl FnOnce(&Unsuspended) -> R) -> R {
    section(0, PLACE_IN_HAND, || work(&Unsuspended(())))
}

/// As [`with_ids`] for wait4(2) and waitid(2), which may block: the thread is suspended where it is in the call, whose
/// argument [`crate::waits`] knows, but not when the call has told of a child.
#[inline(always)]
pub fn with_wait<R>(call: impl FnOnce() -> R) -> R {
    section(WAIT, IN_WAIT, call)
}

/// Which of [`ThreadBlock::ids`] is that of [`with_wait`]: a program that forks and waits makes both in turn, and each writes
/// its address once.
const WAIT: usize = 1;

#[inline(always)]
fn section<R>(kind: usize, mark: u64, call: impl FnOnce() -> R) -> R {
    let mut word = mark;
    let place = &raw mut word;
    let noted = &block().ids[kind];
    if noted.load(Ordering::Relaxed) != place as u64 {
        noted.store(place as u64, Ordering::Relaxed);
    }
    // SAFETY: the word of this frame; volatile, since nobody but the signal handler reads it.
    unsafe { place.write_volatile(mark) };
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    let result = call();
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { place.write_volatile(0) };
    core::sync::atomic::compiler_fence(Ordering::SeqCst);
    // A sender of signals is interrupted nowhere else, since it gives way to whom it wakes.
    raise_noted(block());
    result
}

#[inline(always)]
fn raise_noted(block: &ThreadBlock) {
    if block.deferred.load(Ordering::Relaxed) != 0 {
        raise_deferred(block);
    }
}

/// Whether the calling thread, whose signal frame is at `context`, has real ids in hand. Then the signal is noted, and raised
/// again when it has not.
pub fn has_ids(context: u64) -> bool {
    let block = block();
    let instruction = blocking::instruction_at(context);
    let [ids, wait] = [0, WAIT].map(|kind| move || is_live(block, context, kind));
    // What was noted may be stale (an exception of a handler's): a thread that waits with ids in hand does so in this library's
    // code alone, or in a call of [`with_wait`].
    let in_hand = if stragglers::is_own_text(instruction) {
        ids() || wait()
    } else if blocking::stands_at_call(context) {
        ids()
    } else {
        // A call that has failed has brought no id.
        let failed =
            || blocking::follows_call(instruction) && blocking::register_at(context, libc::REG_RAX).is_negative();
        (ids() || wait()) && !failed()
    };
    if in_hand || has_place(block) || signals::is_beginning(instruction) {
        block.deferred.store(1, Ordering::Relaxed);
        return true;
    }
    false
}

fn is_live(block: &ThreadBlock, context: u64, kind: usize) -> bool {
    let (stack, noted) = (blocking::stack_at(context), block.ids[kind].load(Ordering::Relaxed));
    let mark = if kind == WAIT { IN_WAIT } else { IN_HAND };
    noted >= stack && noted - stack < REACH && word_at(noted) == Some(mark)
}

/// Whether a place of the pod's table is in hand: believed wherever the thread is, also under a handler of the program's.
fn has_place(block: &ThreadBlock) -> bool {
    let noted = block.ids[0].load(Ordering::Relaxed);
    noted != 0 && word_at(noted) == Some(PLACE_IN_HAND)
}

/// By the kernel: it may have been on another stack, which is gone.
fn word_at(noted: u64) -> Option<u64> {
    let mut word = [0u8; 8];
    (zap_sys::mem::read_own(noted, &mut word) == Ok(word.len())).then(|| u64::from_ne_bytes(word))
}

/// Before the thread goes on with the stack pointer `stack`, by a jump or when a child that was made with vfork has ended: what
/// was begun below is left.
pub fn leave_below(stack: u64) {
    let block = block();
    for noted in &block.ids {
        if (1..stack).contains(&noted.load(Ordering::Relaxed)) {
            noted.store(0, Ordering::Relaxed);
        }
    }
    if block.depth.load(Ordering::Relaxed) != 0 && block.outermost.load(Ordering::Relaxed) < stack {
        leave_all(block);
    }
}

/// Asked by the signal handler: whether the thread may be suspended here. If not, the signal is noted.
pub fn may_suspend(block: &ThreadBlock) -> bool {
    if block.depth.load(Ordering::Relaxed) == 0 {
        return true;
    }
    block.deferred.store(1, Ordering::Relaxed);
    false
}

/// After a panic that has skipped the ends of sections, in the signal handler: the thread is in none.
pub fn leave_all(block: &ThreadBlock) {
    block.depth.store(0, Ordering::Relaxed);
}

#[cold]
fn raise_deferred(block: &ThreadBlock) {
    block.deferred.store(0, Ordering::Relaxed);
    signal_self();
}

/// Sends Zap's signal to the calling thread.
#[cold]
pub fn signal_self() {
    let process = zap_sys::process::getpid();
    let thread = zap_sys::process::gettid();
    let _ = zap_sys::signal::signal_thread(process, thread, crate::state::signal());
}
