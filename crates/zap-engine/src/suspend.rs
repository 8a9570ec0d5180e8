//! Zap's signal: who leads, who parks, and how all are released.
//!
//! The handler runs with every signal blocked, so that no handler of the program can run on top of it. The leader is
//! the thread that takes the coordinator's signal; it lists the threads, signals each, and waits until all have parked
//! in their own handlers. A parked thread waits on one word and then returns as from any signal.
//!
//! # Safety
//! The handler receives pointers from the kernel; the leader moves to a stack of Zap's own.
#![allow(unsafe_code)]

use crate::guard;
use crate::state::{self, zero, Owned};
use crate::threads::{self, PARKED, SIGNALLED};
use alloc::format;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::libc;
use zap_sys::signal::{bit, KernelAction, Mask, SA_RESTORER};
use zap_sys::RealPid;

/// Size of the leader's stack in bytes; untouched pages cost nothing.
const LEADER_STACK: usize = 512 * 1024;

/// How long a thread may take to park.
const PARK_LIMIT_NS: u64 = 5_000_000_000;

/// 0: no suspension; otherwise its number. Parked threads wait for it to change.
static SUSPENSION: AtomicU32 = AtomicU32::new(0);
static NEXT_SUSPENSION: AtomicU32 = AtomicU32::new(1);
/// Counts parked threads, for the leader to wait on.
static PARKED_COUNT: AtomicU32 = AtomicU32::new(0);
static LEADER_STACK_TOP: AtomicU64 = AtomicU64::new(0);
static WAY_BACK: AtomicU64 = AtomicU64::new(0);
static LEADER_TID: AtomicU32 = AtomicU32::new(0);

/// Bits of the signals that the handler blocks: all of them.
const ALL_SIGNALS: Mask = !0;

/// Maps the leader's stack.
pub fn map_stack() -> zap_sys::Result<()> {
    let stack = zap_sys::mem::map_anonymous(LEADER_STACK)?;
    LEADER_STACK_TOP.store(stack + LEADER_STACK as u64, Ordering::Relaxed);
    Ok(())
}

/// Installs the handler of `signal`.
pub fn install(signal: i32) -> zap_sys::Result<()> {
    let action = KernelAction {
        handler: on_signal as *const () as u64,
        flags: (libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK) as u64 | SA_RESTORER,
        restorer: zap_sys::arch::context::signal_restorer as *const () as u64,
        mask: ALL_SIGNALS,
    };
    // SAFETY: the handler is made for any moment; see the file's head.
    unsafe { zap_sys::signal::set_action(signal, &action) }
}

/// Whether the calling thread is the one that leads a suspension.
pub fn is_leader() -> bool {
    LEADER_TID.load(Ordering::Relaxed) == zap_sys::process::gettid().0 as u32
}

/// From a panic on the leader's road: back to the handler, which releases the program.
pub fn abandon_leader() -> ! {
    // SAFETY: only called on the leader's stack, whose entry stored the way back.
    unsafe { zap_sys::arch::context::abandon_stack(WAY_BACK.load(Ordering::Relaxed)) }
}

extern "C" fn on_signal(_signal: i32, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    take_part(context as u64);
    // Whatever the signal was for, and if it was for nothing: the program must not see it.
    crate::blocking::repair(context as u64);
}

fn take_part(context: u64) {
    let block = guard::block();
    if !guard::may_suspend(block) {
        return;
    }
    if SUSPENSION.load(Ordering::Acquire) != 0 {
        park(context);
        return;
    }
    let Some(entry) = state::entry() else { return };
    let requested = entry.requested.load(Ordering::Acquire);
    if requested == entry.answered.load(Ordering::Acquire) {
        return;
    }
    let number = NEXT_SUSPENSION.load(Ordering::Relaxed).max(1);
    if SUSPENSION.compare_exchange(0, number, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // Another thread took the lead this moment; it will signal us again when it has listed us.
        return;
    }
    NEXT_SUSPENSION.store(number.wrapping_add(1), Ordering::Relaxed);
    entry.answered.store(requested, Ordering::Release);
    LEADER_TID.store(zap_sys::process::gettid().0 as u32, Ordering::Relaxed);
    // SAFETY: the stack is ours, and one leader at a time uses it (the exchange above).
    unsafe {
        zap_sys::arch::context::call_on_stack(
            LEADER_STACK_TOP.load(Ordering::Relaxed),
            lead,
            context as usize,
            WAY_BACK.as_ptr(),
        );
    }
    LEADER_TID.store(0, Ordering::Relaxed);
    crate::agent::hang_up_abandoned();
    release();
}

extern "C" fn lead(context: usize) {
    crate::checkpoint::lead(context as u64);
}

fn park(context: u64) {
    let Some(slot) = threads::find(zap_sys::process::gettid()) else {
        // Not listed yet: the leader will find and signal us again.
        return;
    };
    if slot.state.load(Ordering::Acquire) != SIGNALLED {
        return;
    }
    // Read after the slot: its leader waits for us, so that this is the suspension that has made it.
    let suspension = SUSPENSION.load(Ordering::Acquire);
    if suspension == 0 {
        return;
    }
    threads::describe_self(slot, context);
    slot.state.store(PARKED, Ordering::Release);
    PARKED_COUNT.fetch_add(1, Ordering::AcqRel);
    zap_sys::futex::wake(&PARKED_COUNT, 1);
    while SUSPENSION.load(Ordering::Acquire) == suspension {
        let _ = zap_sys::futex::wait(&SUSPENSION, suspension, None);
    }
}

/// Lets every suspended thread go on.
pub fn release() {
    SUSPENSION.store(0, Ordering::Release);
    zap_sys::futex::wake(&SUSPENSION, i32::MAX);
}

/// In the child of a fork: no thread of it stands, whatever its parent's did.
#[inline]
pub fn forget() {
    zero(&SUSPENSION);
    zero(&LEADER_TID);
}

/// After a restart: the thread that led has another id.
pub fn forget_leader() {
    LEADER_TID.store(0, Ordering::Relaxed);
}

/// The number of the suspension that is in force; 0 for none.
pub fn current() -> u32 {
    SUSPENSION.load(Ordering::Acquire)
}

/// Waits on a re-made thread until the suspension `number` has ended by [`release`]; another may be in force then.
pub fn wait_for_release(number: u32) {
    while SUSPENSION.load(Ordering::Acquire) == number {
        let _ = zap_sys::futex::wait(&SUSPENSION, number, None);
    }
}

/// Suspends every thread but the caller, which has the slot of the leader with its own frame at `context`. Returns the
/// number of threads.
pub fn suspend_others(context: u64) -> Result<u32, Refusal> {
    if !threads::wait_until_entered() {
        return Err(Refusal::new("threads", "the last restart has not ended"));
    }
    threads::clear();
    PARKED_COUNT.store(0, Ordering::Relaxed);
    let own = zap_sys::process::gettid();
    let leader = threads::add(own, PARKED).map_err(|error| Refusal::new("threads", error))?;
    threads::describe_self(leader, context);
    let begun = zap_sys::time::monotonic_ns();
    loop {
        let fresh = threads::TASKS.with(signal_new_threads)?;
        if fresh == 0 && threads::TASKS.with(|tasks| tasks.is_complete()) {
            break;
        }
        wait_until_parked(begun)?;
        // Whoever was being created when the list was read shows up in the next one.
    }
    Ok(threads::slots().count() as u32)
}

fn signal_new_threads(tasks: &mut threads::TaskList) -> Result<usize, Refusal> {
    threads::list(tasks).map_err(|error| Refusal::new("threads", error))?;
    let process = zap_sys::process::getpid();
    let mut fresh = 0;
    for tid in tasks.tids() {
        let tid = RealPid(*tid);
        if threads::find(tid).is_some() {
            continue;
        }
        let slot = threads::add(tid, SIGNALLED).map_err(|error| Refusal::new("threads", error))?;
        match zap_sys::signal::signal_thread(process, tid, state::signal()) {
            Ok(()) => fresh += 1,
            // No place in the queue of signals: see `wait_until_parked`.
            Err(error) if error.is(libc::EAGAIN) => fresh += 1,
            // It has ended since: nothing to suspend.
            Err(error) if error.is(libc::ESRCH) => slot.state.store(threads::FREE, Ordering::Release),
            Err(error) => return Err(Refusal::new(format!("thread {tid}"), error)),
        }
    }
    Ok(fresh)
}

fn wait_until_parked(begun: u64) -> Result<(), Refusal> {
    let mut checked = begun;
    loop {
        let count = PARKED_COUNT.load(Ordering::Acquire);
        let Some(missing) = threads::slots().find(|slot| slot.state.load(Ordering::Acquire) == SIGNALLED) else {
            return Ok(());
        };
        let _ = zap_sys::futex::wait(&PARKED_COUNT, count, Some(&zap_sys::time::from_ns(2_000_000)));
        let now = zap_sys::time::monotonic_ns();
        if now.saturating_sub(checked) > 2_000_000 {
            checked = now;
            drop_ended_threads()?;
            // A signal for the process, as kill(2) sends it, needs no place in the queue, and goes to any thread that
            // does not block it: all that stand do.
            let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, state::signal());
        }
        if now.saturating_sub(begun) > PARK_LIMIT_NS {
            return Err(describe_missing(RealPid(missing.real_tid.load(Ordering::Relaxed))));
        }
    }
}

/// A thread that ended before it took the signal never parks.
fn drop_ended_threads() -> Result<(), Refusal> {
    let process = zap_sys::process::getpid();
    for slot in threads::slots().filter(|slot| slot.state.load(Ordering::Acquire) == SIGNALLED) {
        let tid = RealPid(slot.real_tid.load(Ordering::Relaxed));
        let gone = zap_sys::signal::tgkill(process, tid, 0).is_err_and(|error| error.is(libc::ESRCH));
        if gone || is_dead(process, tid) {
            slot.state.store(threads::FREE, Ordering::Release);
            if tid == process {
                return Err(Refusal::new("main thread", "has ended by pthread_exit, which is not supported yet"));
            }
        }
    }
    Ok(())
}

/// A main thread that has ended by pthread_exit stays in the list as a zombie.
fn is_dead(process: RealPid, tid: RealPid) -> bool {
    static BUFFER: Owned<[u8; 2048]> = Owned::new([0; 2048]);
    BUFFER.with(|buffer| {
        let path = zap_sys::small!("/proc/{process}/task/{tid}/status");
        match zap_sys::fd::read_file(path.as_c_str(), buffer) {
            Ok(text) => {
                zap_sys::text::field(text, b"State:").is_some_and(|state| matches!(state.first(), Some(b'Z' | b'X')))
            }
            Err(error) => error.is(libc::ENOENT) || error.is(libc::ESRCH),
        }
    })
}

fn describe_missing(tid: RealPid) -> Refusal {
    let path = zap_sys::small!("/proc/self/task/{tid}/status");
    let mut buffer = [0u8; 2048];
    let text = zap_sys::fd::read_file(path.as_c_str(), &mut buffer).unwrap_or_default();
    let state = zap_sys::text::field(text, b"State:").unwrap_or(b"unknown");
    let blocked = zap_sys::text::field(text, b"SigBlk:").map_or(0, |mask| zap_sys::text::hex(mask).0);
    let object = format!("thread {}", crate::identity::virtual_of(tid));
    if blocked & bit(state::signal()) != 0 {
        return Refusal::new(object, "blocks Zap's signal by a system call of its own");
    }
    Refusal::new(object, format!("did not stop within 5 s (state {})", alloc::string::String::from_utf8_lossy(state)))
}
