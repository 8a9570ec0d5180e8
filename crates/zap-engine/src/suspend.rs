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
use crate::state::{self, zero};
use crate::stragglers;
use crate::threads::{self, MISSED, PARKED, SIGNALLED};
use crate::{blocking, breakdown, broadcast, fault, libcs_signal, vdso};
use alloc::format;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::libc;
use zap_sys::signal::{bit, KernelAction, Mask, SA_RESTORER};
use zap_sys::RealPid;
use zap_wire::fault as faults;
use zap_wire::table::{Entry, HALT_CONTINUED, HALT_SIGNAL, HALT_WOKEN, STANDS, TO_STOP_AGAIN};

/// Size of the leader's stack in bytes; untouched pages cost nothing.
const LEADER_STACK: usize = 512 * 1024;

/// How long a thread may take to park.
const PARK_LIMIT_NS: u64 = 5_000_000_000;

/// When threads that have not parked are looked at for the first time, and how often after that.
const FIRST_LOOK_NS: u64 = 1_500_000;
const LOOK_EVERY_NS: u64 = 20_000_000;

/// When the process as a whole is signalled, though each of its threads has been.
const LAST_RESORT_NS: u64 = 500_000_000;

/// A thread could not be signalled by itself: there is no place in the queue of signals.
static NO_ROOM: AtomicBool = AtomicBool::new(false);

/// 0: no suspension; otherwise its number. Parked threads wait for it to change.
#[link_section = ".zap.child"]
static SUSPENSION: AtomicU32 = AtomicU32::new(0);
static NEXT_SUSPENSION: AtomicU32 = AtomicU32::new(1);
/// Counts parked threads, for the leader to wait on.
static PARKED_COUNT: AtomicU32 = AtomicU32::new(0);
static LEADER_STACK_TOP: AtomicU64 = AtomicU64::new(0);
#[link_section = ".zap.child"]
static LEADER_TID: AtomicU32 = AtomicU32::new(0);
/// By which signal the process was stopped, that runs only for this checkpoint's sake; 0 for one that was not. Part of the
/// image: a restart stops it too.
static STOPPED: AtomicI32 = AtomicI32::new(0);

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
    let before = unsafe { zap_sys::signal::set_action(signal, &action) }?;
    if before.handler != action.handler {
        libcs_signal::displaced(before.handler);
    }
    Ok(())
}

extern "C" fn on_signal(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if libcs_signal::hand_on(signal, info, context) {
        return;
    }
    if !breakdown::guarded(take_part, context as usize) {
        stand_all_the_same();
    }
    // Whatever the signal was for, and if it was for nothing: the program must not see it.
    crate::blocking::repair(context as u64);
}

/// A thread that has failed as it parked: it stands, so that the leader does not wait for it, and can say why.
fn stand_all_the_same() {
    let suspension = SUSPENSION.load(Ordering::Acquire);
    let listed = threads::find(zap_sys::process::gettid());
    if let Some(slot) = listed.filter(|slot| suspension != 0 && slot.state.load(Ordering::Acquire) == SIGNALLED) {
        stand(slot, suspension);
    }
}

extern "C" fn take_part(context: usize) {
    let context = context as u64;
    // The child of a fork that has not begun: what is known here is its parent's, the entry, and a suspension that had just
    // been ordered. It would take up its parent's request, or wait for a leader that it has not. It is signalled again.
    if zap_sys::process::getpid() != state::real_pid() {
        return;
    }
    let block = guard::block();
    if !guard::may_suspend(block) {
        return;
    }
    if SUSPENSION.load(Ordering::Acquire) != 0 {
        park(context);
        return;
    }
    let Some(entry) = state::agents_entry() else { return };
    // A stopped process must not run on for it.
    let stopped = entry.stopped.load(Ordering::Acquire) == TO_STOP_AGAIN;
    if !stopped && must_leave(context) {
        // The coordinator sees that nobody has answered, and signals again.
        return;
    }
    let requested = entry.requested.load(Ordering::Acquire);
    if requested == entry.answered.load(Ordering::Acquire) {
        // Unless another thread has taken the lead since the first look.
        if SUSPENSION.load(Ordering::Acquire) != 0 {
            park(context);
        }
        return;
    }
    let number = NEXT_SUSPENSION.load(Ordering::Relaxed).max(1);
    if SUSPENSION.compare_exchange(0, number, Ordering::SeqCst, Ordering::Acquire).is_err() {
        park(context);
        return;
    }
    // The process is stopped in the middle of one, or the leader comes a moment later.
    if !stopped && broadcast::is_under_way() {
        SUSPENSION.store(0, Ordering::SeqCst);
        zap_sys::futex::wake(&SUSPENSION, i32::MAX);
        return;
    }
    // Another thread is about to exec, which ends this one: the new program answers.
    if entry.ready.load(Ordering::SeqCst) == 0 {
        SUSPENSION.store(0, Ordering::SeqCst);
        zap_sys::futex::wake(&SUSPENSION, i32::MAX);
        return;
    }
    // The leader of a restart goes on from the leader's stack, a moment after it has let the others go. Where that takes too
    // long nobody has answered, and the coordinator signals again.
    if !threads::wait_until_entered() {
        return release();
    }
    NEXT_SUSPENSION.store(number.wrapping_add(1), Ordering::Relaxed);
    entry.answered.store(requested, Ordering::Release);
    let own = zap_sys::process::gettid();
    LEADER_TID.store(own.0 as u32, Ordering::Relaxed);
    let stopped = entry.stopped.swap(0, Ordering::AcqRel) == TO_STOP_AGAIN;
    if !stopped {
        entry.halt.store(0, Ordering::Release);
    }
    STOPPED.store(if stopped { stop_signal(entry) } else { 0 }, Ordering::Relaxed);
    // Every thread blocked the signal, and the coordinator has unblocked it in this one.
    if entry.unblocked.compare_exchange(own.0, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
        crate::blocking::put_back(context);
    }
    let stack = LEADER_STACK_TOP.load(Ordering::Relaxed);
    // SAFETY: the stack is ours, and one leader at a time uses it (the exchange above).
    if !unsafe { breakdown::guarded_on(stack, lead, context as usize) } {
        // SAFETY: as above; nothing is left on it.
        unsafe { breakdown::guarded_on(stack, clean_up, 0) };
    }
    LEADER_TID.store(0, Ordering::Relaxed);
    crate::agent::hang_up_abandoned();
    stop_again();
    release();
}

extern "C" fn lead(context: usize) {
    crate::checkpoint::lead(context as u64);
}

extern "C" fn clean_up(_: usize) {
    crate::checkpoint::clean_up();
}

fn park(context: u64) {
    // Read before the slot is looked for: once its leader waits for us, this is the suspension that has made it.
    let suspension = SUSPENSION.load(Ordering::Acquire);
    if suspension == 0 {
        return;
    }
    let Some(slot) = await_slot(suspension, context) else { return };
    // A stopped process must not run on for it.
    if STOPPED.load(Ordering::Relaxed) == 0 && must_leave(context) {
        slot.state.store(MISSED, Ordering::Release);
        PARKED_COUNT.fetch_add(1, Ordering::AcqRel);
        zap_sys::futex::wake(&PARKED_COUNT, 1);
        return;
    }
    if slot.put_back.load(Ordering::Acquire) != 0 {
        crate::blocking::put_back(context);
    }
    slot.context.store(context, Ordering::Relaxed);
    // Whatever comes of it, the thread stands: the leader looks whether all has gone well.
    breakdown::guarded(describe, core::ptr::from_ref(slot) as usize);
    stand(slot, suspension);
}

/// Whether the calling thread must not stand where it was interrupted: it has in hand what a restart makes wrong.
fn must_leave(context: u64) -> bool {
    vdso::must_leave(blocking::instruction_at(context)) || guard::has_ids(context)
}

extern "C" fn describe(slot: usize) {
    // SAFETY: the address of a slot, handed over by `park`; slots live for ever.
    let slot = unsafe { &*(slot as *const threads::Slot) };
    fault::point(faults::THREAD_PARKING);
    threads::describe_self(slot, slot.context.load(Ordering::Relaxed));
}

fn stand(slot: &threads::Slot, suspension: u32) {
    slot.state.store(PARKED, Ordering::Release);
    PARKED_COUNT.fetch_add(1, Ordering::AcqRel);
    zap_sys::futex::wake(&PARKED_COUNT, 1);
    while SUSPENSION.load(Ordering::Acquire) == suspension {
        if slot.order.load(Ordering::Acquire) == COLLECT {
            breakdown::guarded(collect_signals, core::ptr::from_ref(slot) as usize);
            slot.order.store(0, Ordering::Release);
            PARKED_COUNT.fetch_add(1, Ordering::AcqRel);
            zap_sys::futex::wake(&PARKED_COUNT, 1);
        }
        let _ = zap_sys::futex::wait(&SUSPENSION, suspension, None);
    }
}

/// The order to read the signals that wait for the thread alone: nobody else can.
const COLLECT: u32 = 1;

extern "C" fn collect_signals(slot: usize) {
    // SAFETY: as in `describe`.
    let slot = unsafe { &*(slot as *const threads::Slot) };
    crate::signals::save_own(slot);
    crate::signals::requeue_own(slot);
}

/// Has the standing thread of `slot` read its own signals, and waits until it has.
pub fn ask_for_signals(slot: &threads::Slot) -> Result<(), Refusal> {
    slot.order.store(COLLECT, Ordering::Release);
    zap_sys::futex::wake(&SUSPENSION, i32::MAX);
    let begun = zap_sys::time::monotonic_ns();
    while slot.order.load(Ordering::Acquire) != 0 {
        if zap_sys::time::monotonic_ns().saturating_sub(begun) > PARK_LIMIT_NS {
            let object = format!("thread {}", slot.virtual_tid.load(Ordering::Relaxed));
            return Err(Refusal::new(object, "did not tell which signals wait for it within 5 s"));
        }
        let count = PARKED_COUNT.load(Ordering::Acquire);
        if slot.order.load(Ordering::Acquire) != 0 {
            let _ = zap_sys::futex::wait(&PARKED_COUNT, count, Some(&zap_sys::time::from_ns(100_000)));
            // It may have begun to sleep just after it had looked.
            zap_sys::futex::wake(&SUSPENSION, i32::MAX);
        }
    }
    Ok(())
}

/// Waits until the leader has listed and signalled the calling thread. It may have come here by an earlier signal, and
/// must not go on: the threads of a stopped process are not to run any code of the program. `None` when the suspension
/// has ended, or this thread has parked in it already.
fn await_slot(suspension: u32, context: u64) -> Option<&'static threads::Slot> {
    let own = zap_sys::process::gettid();
    let mut pause = 10_000;
    loop {
        if SUSPENSION.load(Ordering::Acquire) != suspension {
            return None;
        }
        let made_now = |slot: &&threads::Slot| slot.suspension.load(Ordering::Relaxed) == suspension;
        if let Some(slot) = threads::find(own).filter(made_now) {
            match slot.state.load(Ordering::Acquire) {
                SIGNALLED => return Some(slot),
                PARKED => return None,
                // Sent away by [`must_leave`], and here again by a signal that was on its way, or by its own when it had
                // left: where it still must not stand it would for as long as one signal follows upon the other.
                MISSED if must_leave(context) => return None,
                MISSED
                    if slot.state.compare_exchange(MISSED, SIGNALLED, Ordering::AcqRel, Ordering::Acquire).is_ok() =>
                {
                    return Some(slot);
                }
                _ => {}
            }
        }
        let _ = zap_sys::futex::wait(&SUSPENSION, suspension, Some(&zap_sys::time::from_ns(pause)));
        pause = (pause * 2).min(1_000_000);
    }
}

/// Takes back the SIGCONT that has let a stopped process come here: no handler of the program is to see it. The caller has
/// every signal blocked.
pub fn take_continuation() {
    if STOPPED.load(Ordering::Relaxed) != 0 {
        zap_sys::signal::take_pending(libc::SIGCONT);
    }
}

/// The signal by which a process that was stopped is to stop again: that of which its parent has not been told yet.
fn stop_signal(entry: &Entry) -> i32 {
    match i32::from(entry.halt.load(Ordering::Acquire) & HALT_SIGNAL) {
        signal @ (libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU) => signal,
        _ => libc::SIGSTOP,
    }
}

/// In a restarted process: tells those that come back with it whether it is going to stop.
pub fn will_stop() {
    if let Some(entry) = state::agents_entry().filter(|_| STOPPED.load(Ordering::Relaxed) != 0) {
        entry.halt.store(HALT_WOKEN, Ordering::Release);
    }
}

/// Stops a process that was stopped before, all its threads still suspended. Comes back when somebody continues it; at
/// once if somebody has meanwhile: that signal waits, since every thread blocks it. One that was to stop and to go on does.
pub fn stop_again() {
    let signal = STOPPED.swap(0, Ordering::Relaxed);
    let entry = state::agents_entry();
    if signal == 0 {
        if let Some(entry) = entry.filter(|entry| entry.halt.load(Ordering::Acquire) & HALT_CONTINUED != 0) {
            stop_and_go_on();
            entry.halt.store(0, Ordering::Release);
        }
        return;
    }
    let runs = || zap_sys::signal::pending() & bit(libc::SIGCONT) != 0;
    if !runs() {
        if let Some(entry) = &entry {
            entry.stopped.store(STANDS, Ordering::Release);
        }
        stop_by(signal);
        // Where nobody has continued it, that was not to be: in an orphaned process group the terminal's signals stop nobody.
        if signal != libc::SIGSTOP && !runs() {
            stop_by(libc::SIGSTOP);
        }
    }
    if let Some(entry) = &entry {
        // Unless it was continued for the next checkpoint.
        if entry.stopped.compare_exchange(STANDS, 0, Ordering::AcqRel, Ordering::Relaxed) != Err(TO_STOP_AGAIN) {
            entry.halt.store(0, Ordering::Release);
        }
    }
}

/// Stops the process, which a helper continues: its parent can wait for that (WCONTINUED). No code of the program runs, and no
/// handler of it. Where no helper is to be had it does not stop.
fn stop_and_go_on() {
    const STOPPING: [i32; 3] = [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let (process, thread) = (zap_sys::process::getpid(), zap_sys::process::gettid());
    let pending = zap_sys::signal::pending();
    // SAFETY: the child makes system calls and ends.
    let Ok(helper) = (unsafe { zap_sys::process::fork_raw(0) }) else { return };
    if helper.0 == 0 {
        continue_when_stopped(process, thread);
    }
    stop_by(libc::SIGSTOP);
    // Where somebody else has continued it first the helper would wait for ever.
    let _ = zap_sys::signal::kill(helper.0, libc::SIGKILL);
    let _ = zap_sys::process::wait(helper.0, libc::__WALL);
    match zap_sys::signal::take_info(libc::SIGCONT) {
        // Word 4 is si_pid. That of somebody else is the program's.
        Some(info) if info[4] as i32 != helper.0 => drop(zap_sys::signal::queue_info(process, &info)),
        _ => {}
    }
    // They have taken each other away.
    for signal in STOPPING.into_iter().chain([libc::SIGCONT]).filter(|signal| pending & bit(*signal) != 0) {
        let _ = zap_sys::signal::kill(process.0, signal);
    }
    crate::halted::await_told(process);
}

/// In a helper: a signal that came before the process stands would keep it from stopping.
fn continue_when_stopped(process: RealPid, thread: RealPid) -> ! {
    const LOOK_NS: u64 = 50_000;
    let path = zap_sys::small!("/proc/{process}/task/{thread}/stat");
    let mut buffer = [0u8; 1024];
    while let Ok(stat) = zap_sys::fd::read_file(path.as_c_str(), &mut buffer) {
        if zap_sys::process::state_letter(stat) == b'T' {
            let _ = zap_sys::signal::kill(process.0, libc::SIGCONT);
            break;
        }
        zap_sys::time::sleep_ns(LOOK_NS);
    }
    zap_sys::process::exit_process(0)
}

/// [`halted::settle`](crate::halted::settle) on a thread that has hardly a stack of its own, in a restarted process whose first
/// thread has left that of the leader for good.
pub fn settle_on_leaders_stack() {
    extern "C" fn settle(_: usize) {
        crate::halted::settle();
    }
    // SAFETY: nobody else is on it before the release.
    unsafe { breakdown::guarded_on(LEADER_STACK_TOP.load(Ordering::Relaxed), settle, 0) };
}

/// Sends the calling thread, which blocks every signal, one that stops the process.
fn stop_by(signal: i32) {
    let default = zap_sys::signal::KernelAction::default();
    // SAFETY: the default disposition runs no code.
    let action = (signal != libc::SIGSTOP).then(|| unsafe { zap_sys::signal::set_action(signal, &default) });
    // To itself, so that it has stopped when the call returns; kill(2) would leave that to any thread, some time.
    let _ = zap_sys::signal::tgkill(zap_sys::process::getpid(), zap_sys::process::gettid(), signal);
    if let Some(Ok(action)) = action {
        let _ = zap_sys::signal::change_mask(libc::SIG_UNBLOCK, bit(signal));
        let _ = zap_sys::signal::change_mask(libc::SIG_BLOCK, bit(signal));
        // SAFETY: the program's own action, as it was.
        let _ = unsafe { zap_sys::signal::set_action(signal, &action) };
    }
}

/// Lets every suspended thread go on.
pub fn release() {
    crate::restart::end();
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

/// Whether the coordinator has asked for a suspension that nobody has taken the lead of yet.
pub fn is_wanted() -> bool {
    state::agents_entry()
        .is_some_and(|entry| entry.requested.load(Ordering::Acquire) != entry.answered.load(Ordering::Acquire))
}

/// The number of the suspension that is in force; 0 for none.
pub fn current() -> u32 {
    SUSPENSION.load(Ordering::SeqCst)
}

/// Waits until no suspension is in force: by a thread that stands in it, when its signal has come, like all others.
pub fn wait_until_over() {
    loop {
        match current() {
            0 => return,
            suspension => {
                let _ = zap_sys::futex::wait(&SUSPENSION, suspension, None);
            }
        }
    }
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
    NO_ROOM.store(false, Ordering::Relaxed);
    let own = zap_sys::process::gettid();
    let leader = threads::add(own, PARKED).map_err(|error| Refusal::new("threads", error))?;
    threads::describe_self(leader, context);
    fault::point(faults::SUSPEND_BEGUN);
    let begun = zap_sys::time::monotonic_ns();
    loop {
        let fresh = threads::TASKS.with(signal_new_threads)?;
        if fresh == 0 && threads::TASKS.with(|tasks| tasks.is_complete()) {
            break;
        }
        fault::point(faults::SUSPEND_SIGNALLED);
        wait_until_parked(begun)?;
        if zap_sys::time::monotonic_ns().saturating_sub(begun) > PARK_LIMIT_NS {
            return Err(Refusal::new("threads", "their list did not come to an end within 5 s"));
        }
        // Whoever was being created when the list was read shows up in the next one.
    }
    breakdown::refusal().map_or(Ok(threads::slots().count() as u32), Err)
}

fn signal_new_threads(tasks: &mut threads::TaskList) -> Result<usize, Refusal> {
    threads::list(tasks).map_err(|error| match error.is(libc::ENOENT) {
        // It is this process's own: /proc is not there.
        true => {
            Refusal::new("root directory", "/proc is not there: a program that has called chroot is not supported yet")
        }
        false => Refusal::new("threads", error),
    })?;
    fault::point(faults::SUSPEND_LISTED);
    let mut fresh = 0;
    for tid in tasks.tids().iter().map(|tid| RealPid(*tid)) {
        fresh += usize::from(signal_thread(tid)?);
    }
    Ok(fresh)
}

/// Makes a slot for the thread `tid` and signals it; false when it has one, or when there is no such thread of this process.
fn signal_thread(tid: RealPid) -> Result<bool, Refusal> {
    if threads::find(tid).is_some() {
        return Ok(false);
    }
    let slot = threads::add(tid, SIGNALLED).map_err(|error| Refusal::new("threads", error))?;
    match zap_sys::signal::signal_thread(zap_sys::process::getpid(), tid, state::signal()) {
        Ok(()) => Ok(true),
        // No place in the queue of signals: see `wait_until_parked`.
        Err(error) if error.is(libc::EAGAIN) => {
            NO_ROOM.store(true, Ordering::Relaxed);
            Ok(true)
        }
        // It has ended since: nothing to suspend.
        Err(error) if error.is(libc::ESRCH) => {
            slot.state.store(threads::FREE, Ordering::Release);
            Ok(false)
        }
        Err(error) => Err(Refusal::new(format!("thread {tid}"), error)),
    }
}

fn wait_until_parked(begun: u64) -> Result<(), Refusal> {
    let round = zap_sys::time::monotonic_ns();
    let (mut checked, mut looked) = (round, round);
    loop {
        let count = PARKED_COUNT.load(Ordering::Acquire);
        let missing = |slot: &&threads::Slot| matches!(slot.state.load(Ordering::Acquire), SIGNALLED | MISSED);
        let Some(missing) = threads::slots().find(missing) else {
            return Ok(());
        };
        if !signal_missed() {
            let _ = zap_sys::futex::wait(&PARKED_COUNT, count, Some(&zap_sys::time::from_ns(2_000_000)));
        }
        let now = zap_sys::time::monotonic_ns();
        if now.saturating_sub(checked) > 2_000_000 {
            checked = now;
            drop_ended_threads();
            // A signal for the process, as kill(2) sends it, needs no place in the queue, and goes to any thread that
            // does not block it: all that stand do. Where another than that one takes it, a call that is not made again by
            // the kernel has ended for nothing: so only where it is needed, or nothing else helps.
            if NO_ROOM.load(Ordering::Relaxed) || now.saturating_sub(round) > LAST_RESORT_NS {
                let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, state::signal());
            }
        }
        if now.saturating_sub(looked) > LOOK_EVERY_NS || looked == round && now.saturating_sub(round) > FIRST_LOOK_NS {
            stragglers::look(now.saturating_sub(begun))?;
            looked = now;
        }
        if now.saturating_sub(begun) > PARK_LIMIT_NS {
            return Err(stragglers::describe(missing));
        }
    }
}

/// Signals those again that had to go on, a moment later: at once they would take the signal where they were. False if
/// there are none.
fn signal_missed() -> bool {
    const MOMENT_NS: u64 = 20_000;
    let missed = |slot: &&threads::Slot| slot.state.load(Ordering::Acquire) == MISSED;
    if !threads::slots().any(|slot| missed(&slot)) {
        return false;
    }
    zap_sys::time::sleep_ns(MOMENT_NS);
    for slot in threads::slots().filter(missed) {
        // Unless it has come by itself.
        if slot.state.compare_exchange(MISSED, SIGNALLED, Ordering::AcqRel, Ordering::Acquire).is_err() {
            continue;
        }
        let tid = RealPid(slot.real_tid.load(Ordering::Relaxed));
        // One that has ended, or for which there is no place in the queue, is seen to by `wait_until_parked`.
        let _ = zap_sys::signal::signal_thread(zap_sys::process::getpid(), tid, state::signal());
    }
    true
}

/// A thread that ended before it took the signal never parks.
fn drop_ended_threads() {
    let process = zap_sys::process::getpid();
    for slot in threads::slots().filter(|slot| slot.state.load(Ordering::Acquire) == SIGNALLED) {
        let tid = RealPid(slot.real_tid.load(Ordering::Relaxed));
        if zap_sys::signal::tgkill(process, tid, 0).is_err_and(|error| error.is(libc::ESRCH)) {
            slot.state.store(threads::FREE, Ordering::Release);
        }
    }
}
