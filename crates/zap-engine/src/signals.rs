//! Signal dispositions and pending signals: read from the kernel at each checkpoint, set again at a restart.
//!
//! Masks and alternate stacks need nothing here: they are in each thread's signal frame, and rt_sigreturn sets them.
//!
//! # Safety
//! What is installed at a restart is what the program had installed, at the same addresses.
#![allow(unsafe_code)]

use crate::guard::Guard;
use crate::state::{self, Owned};
use crate::suspend;
use crate::threads;
use crate::{blocking, identity, overdue};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::libc;
use zap_sys::signal::{bit, Info, KernelAction, Mask};
use zap_sys::RealPid;

/// Number of signals on Linux.
pub const COUNT: usize = 64;

struct Saved {
    actions: [KernelAction; COUNT],
    /// Signals that wait for the process.
    pending: Mask,
    /// Those of them that could be read, real-time ones in order, with their values and senders.
    queued: Vec<Taken>,
}

static SAVED: Owned<Saved> = Owned::new(Saved {
    actions: [KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 }; COUNT],
    pending: 0,
    queued: Vec::new(),
});

/// The program's handlers: the kernel knows [`handle`] in their place.
static HANDLERS: [AtomicU64; COUNT] = [const { AtomicU64::new(0) }; COUNT];
/// glibc's signals for cancellation and for setuid and its kind.
const LIBCS: [i32; 2] = [32, 33];

/// The handler by which the kernel is to know the program's own, `handler`, of `signal`.
pub fn kernels_handler(signal: i32, handler: u64) -> u64 {
    let own = handle as *const () as u64;
    let place = usize::try_from(signal - 1).ok().and_then(|at| HANDLERS.get(at));
    match place {
        // Neither SIG_DFL nor SIG_IGN. Libc's own handlers want to hear of the kernel's ids.
        Some(place) if handler > 1 && handler != own && !LIBCS.contains(&signal) => {
            place.store(handler, Ordering::Release);
            own
        }
        _ => handler,
    }
}

/// By which the kernel knows handlers that are called by way of [`handle`].
pub fn own_handler() -> u64 {
    handle as *const () as u64
}

/// The program's handler of `signal`, which the kernel knows as `handler`.
pub fn programs_handler(signal: i32, handler: u64) -> u64 {
    let place = usize::try_from(signal - 1).ok().and_then(|at| HANDLERS.get(at));
    match place {
        Some(place) if handler == handle as *const () as u64 => place.load(Ordering::Acquire),
        _ => handler,
    }
}

/// Calls the program's handler, with the sender's id as the program knows it. When it returns, the call that it has
/// interrupted is marked: Zap must not make it again. A handler may be left by an exception, or by a cancellation.
extern "C-unwind" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let handler = programs_handler(signal, handle as *const () as u64);
    if handler <= 1 {
        return;
    }
    // SAFETY: the kernel's structure, in the frame of this signal: words 2 and 4 are si_code and, of those that have a
    // sender, si_pid.
    let words = unsafe { &mut *info.cast::<[i32; 5]>() };
    let guard = Guard::enter();
    words[4] = identity::virtual_sender(signal, words[2], words[4]);
    drop(guard);
    // SAFETY: the program's handler. One without SA_SIGINFO does not look at what else the kernel always gives.
    let handler: extern "C-unwind" fn(i32, *mut libc::siginfo_t, *mut libc::c_void) =
        unsafe { core::mem::transmute(handler as usize) };
    handler(signal, info, context);
    blocking::note_interrupted(context as u64);
}

/// Whether a thread that is to go on at `instruction` is at the beginning of [`handle`], as when the kernel tells it of a signal and
/// of Zap's at once: the sender's id is not yet the program's.
pub fn is_beginning(instruction: u64) -> bool {
    /// Bytes of code up to the guarded section, which begins after 101 of them as objdump(1) shows, and ends after 196.
    const LENGTH: u64 = 128;
    (own_handler()..own_handler() + LENGTH).contains(&instruction)
}

/// First of the signals that queue.
const FIRST_REAL_TIME: i32 = 32;

fn is_fixed(signal: i32) -> bool {
    signal == libc::SIGKILL || signal == libc::SIGSTOP || signal == state::signal()
}

/// Real-time signals, which queue.
const REAL_TIME: Mask = !0 << (FIRST_REAL_TIME - 1);

/// Signals that do more than wait when they are sent: they take each other away.
const STOPPING: Mask =
    bit(libc::SIGCONT) | bit(libc::SIGSTOP) | bit(libc::SIGTSTP) | bit(libc::SIGTTIN) | bit(libc::SIGTTOU);

/// Signals that are neither of those, nor of an interval timer which goes on when the kernel hands its signal over: what came
/// along with them is read by taking them. Of the others only that they wait is known.
static TAKEABLE: AtomicU64 = AtomicU64::new(0);

/// A signal that has been taken.
pub struct Taken {
    info: Info,
    /// It comes again by itself: see [`overdue`].
    by_timer: bool,
}

impl Taken {
    fn new(mut info: Info) -> Self {
        know_sender(&mut info);
        Self { info, by_timer: false }
    }

    fn signal(&self) -> i32 {
        self.info[0] as i32
    }
}

fn takeable() -> Mask {
    TAKEABLE.load(Ordering::Relaxed)
}

/// Whether the last that have been taken are all of one timer: it ticks as fast as they are taken.
fn never_ends(taken: &[Taken]) -> bool {
    const MANY: usize = 8;
    let Some((last, others)) = taken.split_last() else { return false };
    others.len() >= MANY && others.iter().rev().take(MANY).all(|other| overdue::is_of_same(&other.info, &last.info))
}

/// All of one signal that waited in a queue has been `taken`: what timers sent that tick comes again by itself.
fn leave_to_timers(taken: &mut [Taken]) {
    let now = zap_sys::time::monotonic_ns();
    for at in 0..taken.len() {
        let (before, rest) = taken.split_at_mut(at);
        let Some(one) = rest.first().map(|one| one.info) else { return };
        if before.iter().any(|other| overdue::is_of_same(&other.info, &one)) {
            continue;
        }
        let of_same = rest.iter().map(|other| &other.info).filter(|other| overdue::is_of_same(other, &one));
        if overdue::expire_again(of_same, now) {
            rest.iter_mut()
                .filter(|other| overdue::is_of_same(&other.info, &one))
                .for_each(|other| other.by_timer = true);
        }
    }
}

/// A thread has been sent a signal while others stood: one that stood may have it.
static SENT_LATE: AtomicBool = AtomicBool::new(false);

/// The program has made a timer that sends its signal to one thread.
static HAS_THREADS_TIMER: AtomicBool = AtomicBool::new(false);

/// The calling thread is about to send a signal to one thread.
#[inline]
pub fn note_sent() {
    if suspend::current() != 0 {
        SENT_LATE.store(true, Ordering::Release);
    }
}

/// The program makes a timer that sends its signal to one thread.
pub fn note_threads_timer() {
    HAS_THREADS_TIMER.store(true, Ordering::Release);
}

/// Reads dispositions, and the signals that wait for the process and for each thread. Queued ones can only be read by
/// taking them; they are queued again at once.
pub fn save() -> Result<(), Refusal> {
    crate::fault::point(zap_wire::fault::SAVING_SIGNALS);
    let ticks =
        zap_sys::time::get_itimer(libc::ITIMER_REAL).map_or(true, |timer| !zap_sys::time::is_zero(&timer.it_interval));
    let alarm = if ticks { bit(libc::SIGALRM) } else { 0 };
    TAKEABLE.store(!(STOPPING | alarm), Ordering::Relaxed);
    read()
}

fn read() -> Result<(), Refusal> {
    let (process, leader) = (zap_sys::process::getpid(), zap_sys::process::gettid());
    let mut own = None;
    // What has come since this thread stands: a child may have ended while other processes were being suspended.
    if let Some(slot) = threads::find(leader) {
        slot.pending.fetch_or(zap_sys::signal::pending(), Ordering::Relaxed);
    }
    SAVED.with(|saved| {
        for signal in 1..=COUNT as i32 {
            let action = zap_sys::signal::get_action(signal).unwrap_or_default();
            let handler = programs_handler(signal, action.handler);
            saved.actions[signal as usize - 1] = KernelAction { handler, ..action };
        }
        saved.pending = 0;
        saved.queued.clear();
        let mut has_room = false;
        // What has come for a thread that stood already it has not seen.
        let every = SENT_LATE.swap(false, Ordering::AcqRel) || HAS_THREADS_TIMER.load(Ordering::Acquire);
        let may_wait =
            |slot: &&threads::Slot| every || slot.pending.load(Ordering::Relaxed) & !bit(state::signal()) != 0;
        for slot in threads::slots().filter(may_wait) {
            let tid = slot.real_tid.load(Ordering::Relaxed);
            let (alone, shared) = waiting(&zap_sys::small!("/proc/{process}/task/{tid}/status"));
            slot.pending.store(alone, Ordering::Relaxed);
            saved.pending = shared;
            if alone & takeable() == 0 {
                continue;
            }
            if !core::mem::replace(&mut has_room, true) {
                check_room()?;
            }
            if tid == leader.0 {
                // First: what is taken by number is the thread's own as long as there is any.
                save_own(slot);
                own = Some(slot);
            } else {
                suspend::ask_for_signals(slot).inspect_err(|_| own.into_iter().for_each(requeue_own))?;
            }
        }
        // Only the main thread may say again what the kernel or another process has said.
        let readable = if leader == process { takeable() } else { REAL_TIME };
        if saved.pending & readable != 0 && !has_room {
            check_room()?;
        }
        for signal in 1..=COUNT as i32 {
            let from = saved.queued.len();
            while saved.pending & readable & bit(signal) != 0 && !never_ends(&saved.queued[from..]) {
                let Some(info) = zap_sys::signal::take_info(signal) else { break };
                saved.queued.push(Taken::new(info));
            }
            leave_to_timers(&mut saved.queued[from..]);
            // They were before the others.
            if let Some(slot) = own {
                requeue(slot, bit(signal));
            }
            put_back(process, &saved.queued[from..]);
        }
        Ok(())
    })
}

/// Queues again what has been taken of one signal. Of those that queue it is to stay before what has come since: what waits for
/// one thread is taken before what waits for all, and a thread that does not block the signal could have got it as well as any
/// other. Where all block it, it waits for whoever will take it, as before, and what has come in this moment is before it.
fn put_back(process: RealPid, taken: &[Taken]) {
    let own = zap_sys::process::gettid().0;
    let Some(signal) = taken.first().map(Taken::signal) else { return };
    let infos = || taken.iter().filter(|one| !one.by_timer).map(|one| &one.info);
    // Only a thread itself may tell it everything (rt_tgsigqueueinfo(2)).
    let by_programs = infos().all(|info| (info[2] as i32) < 0 && info[2] as i32 != libc::SI_TKILL);
    let takes = |slot: &&threads::Slot| {
        let mask = blocking::mask_at(slot.context.load(Ordering::Relaxed));
        mask & bit(signal) == 0 && (by_programs || slot.real_tid.load(Ordering::Relaxed) == own)
    };
    let thread = threads::slots().find(takes).filter(|_| signal >= FIRST_REAL_TIME);
    let thread = thread.map(|slot| RealPid(slot.real_tid.load(Ordering::Relaxed)));
    for info in infos() {
        let queued = thread.map(|thread| zap_sys::signal::queue_info_for_thread(process, thread, info));
        if !matches!(queued, Some(Ok(()))) {
            let _ = zap_sys::signal::queue_info(process, info);
        }
    }
}

/// What is taken must find room again: the limit counts all signals of this user that wait, and the program may have lowered
/// its own below their number.
fn check_room() -> Result<(), Refusal> {
    let mut buffer = [0u8; 4096];
    let status = zap_sys::fd::read_file(c"/proc/self/status", &mut buffer).unwrap_or_default();
    let Some(text) = zap_sys::text::field(status, b"SigQ:") else { return Ok(()) };
    let (count, rest) = zap_sys::text::decimal(text);
    let limit = zap_sys::text::decimal(rest.strip_prefix(b"/").unwrap_or_default()).0;
    // One without limit is -1 here.
    if limit < 0 || count <= limit {
        return Ok(());
    }
    let why = alloc::format!(
        "{count} are queued for this user, and by its hard limit (ulimit -Hi) {limit} may be: they can only \
                              be read by taking them, and could not be put back"
    );
    Err(Refusal::new("signals that wait", why))
}

/// Makes a sender of the pod the one that the program knows.
fn know_sender(info: &mut Info) {
    info[4] = identity::virtual_sender(info[0] as i32, info[2] as i32, info[4] as i32) as u32;
}

/// Signals that wait for the thread whose status file is `path` alone, and for its process; Zap's own is not among them.
fn waiting(path: &zap_sys::text::SmallString<128>) -> (Mask, Mask) {
    let mut buffer = [0u8; 4096];
    let status = zap_sys::fd::read_file(path.as_c_str(), &mut buffer).unwrap_or_default();
    let mask = |key: &[u8]| zap_sys::text::field(status, key).map_or(0, |text| zap_sys::text::hex(text).0);
    (mask(b"SigPnd:") & !bit(state::signal()), mask(b"ShdPnd:") & !bit(state::signal()))
}

/// Takes the signals that wait for the calling thread alone. [`requeue_own`] puts them back.
pub fn save_own(slot: &threads::Slot) {
    let mut taken = Vec::new();
    let (process, tid) = (zap_sys::process::getpid(), zap_sys::process::gettid());
    let path = zap_sys::small!("/proc/{process}/task/{tid}/status");
    for signal in (1..=COUNT as i32).filter(|signal| takeable() & bit(*signal) != 0) {
        let from = taken.len();
        // The next may be the process's: each is looked at before it is taken.
        while waiting(&path).0 & bit(signal) != 0 && !never_ends(&taken[from..]) {
            let Some(info) = zap_sys::signal::take_info(signal) else { break };
            taken.push(Taken::new(info));
        }
        leave_to_timers(&mut taken[from..]);
    }
    let old = slot.queue.swap(Box::into_raw(Box::new(taken)), Ordering::AcqRel);
    if !old.is_null() {
        // SAFETY: made here at an earlier checkpoint.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// Queues again, for the calling thread, what [`save_own`] took.
pub fn requeue_own(slot: &threads::Slot) {
    requeue(slot, !0);
}

fn requeue(slot: &threads::Slot, mask: Mask) {
    // SAFETY: null, or made by `save_own` and not freed while the slot is the thread's.
    let Some(queue) = (unsafe { slot.queue.load(Ordering::Acquire).as_ref() }) else { return };
    let (process, thread) = (zap_sys::process::getpid(), zap_sys::process::gettid());
    for taken in queue.iter().filter(|taken| !taken.by_timer && mask & bit(taken.signal()) != 0) {
        let _ = match taken.signal() == LIBCS[0] {
            // Libc's handler believes only what comes from the id that the process has now.
            true => zap_sys::signal::tgkill(process, thread, LIBCS[0]),
            false => zap_sys::signal::queue_info_for_thread(process, thread, &taken.info),
        };
    }
}

/// Makes pending again what waited for the thread of `slot`. Called on that thread, with every signal blocked.
pub fn restore_own(slot: &threads::Slot) {
    let pending = slot.pending.load(Ordering::Relaxed) & !takeable() & !REAL_TIME;
    let (process, thread) = (zap_sys::process::getpid(), zap_sys::process::gettid());
    for signal in (1..FIRST_REAL_TIME).filter(|signal| pending & bit(*signal) != 0) {
        let _ = zap_sys::signal::tgkill(process, thread, signal);
    }
    requeue_own(slot);
}

/// Sets dispositions, and makes pending what was. The caller has every signal blocked.
pub fn restore() {
    SAVED.with(|saved| {
        for signal in (1..=COUNT as i32).filter(|signal| !is_fixed(*signal)) {
            let action = saved.actions[signal as usize - 1];
            let handler = kernels_handler(signal, action.handler);
            // SAFETY: the program's own handler, in the program's own memory.
            let _ = unsafe { zap_sys::signal::set_action(signal, &KernelAction { handler, ..action }) };
        }
        let process = zap_sys::process::getpid();
        let is_queued = |signal: &i32| saved.queued.iter().any(|taken| taken.signal() == *signal);
        let rest = (1..FIRST_REAL_TIME).filter(|signal| saved.pending & bit(*signal) != 0);
        for signal in rest.filter(|signal| !is_queued(signal)) {
            let _ = zap_sys::signal::kill(process.0, signal);
        }
        for taken in saved.queued.iter().filter(|taken| !taken.by_timer) {
            let _ = zap_sys::signal::queue_info(process, &taken.info);
        }
    });
}

/// Whether nothing is made of `signal` (signal(7)): it interrupts no call. While it is blocked, as all are in a thread that
/// stands, it waits all the same.
pub fn is_ignored(signal: i32) -> bool {
    let ignored = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    match zap_sys::signal::get_action(signal).map_or(0, |action| action.handler) {
        0 => ignored.contains(&signal),
        handler => handler == 1,
    }
}

/// Lets signals go of which nothing is made, and which no thread of the program's blocks, before the first thread goes on: the
/// kernel would end its next call with EINTR for one that waits, or that comes while the main thread has not gone on (whether
/// that blocks one decides whether it waits: sig_ignored, kernel/signal.c). Every other thread stands; nobody installs a handler
/// before this one has let them go.
pub fn let_ignored_go() {
    let masks = threads::slots().map(|slot| blocking::mask_at(slot.context.load(Ordering::Relaxed)));
    let blocked = masks.fold(bit(libc::SIGCONT) | bit(state::signal()), |all, mask| all | mask);
    let may_go = |signal: &i32| blocked & bit(*signal) == 0 && is_ignored(*signal);
    let ignored = (1..=COUNT as i32).filter(may_go).fold(0, |mask, signal| mask | bit(signal));
    if zap_sys::process::gettid() == zap_sys::process::getpid() {
        let _ = zap_sys::signal::change_mask(libc::SIG_UNBLOCK, ignored);
        return;
    }
    let waiting = zap_sys::signal::pending() & ignored;
    for signal in (1..=COUNT as i32).filter(|signal| waiting & bit(*signal) != 0) {
        zap_sys::signal::take_pending(signal);
    }
}

/// `signal` has come for the process since signals were saved.
pub fn note_pending(signal: i32) {
    SAVED.with(|saved| saved.pending |= bit(signal));
}

/// Whether among the signals that were saved is one of the timer `id`, which sends `signal`.
pub fn tell_of(id: i32, signal: i32) -> bool {
    let is_its = |taken: &Taken| overdue::is_of(&taken.info, id);
    // SAFETY: as in `requeue`.
    let queue_of = |slot: &threads::Slot| unsafe { slot.queue.load(Ordering::Acquire).as_ref() };
    wait_unread(signal)
        || SAVED.with(|saved| saved.queued.iter().any(is_its))
        || threads::slots().filter_map(queue_of).any(|queue| queue.iter().any(is_its))
}

/// Whether of `signal` only that it waits was saved: not how often, nor who has sent it.
pub fn wait_unread(signal: i32) -> bool {
    SAVED.with(|saved| {
        saved.pending & bit(signal) & !REAL_TIME != 0 && !saved.queued.iter().any(|taken| taken.signal() == signal)
    })
}

/// Whether `signal` was pending for the process when it was saved.
pub fn was_pending(signal: i32) -> bool {
    SAVED.with(|saved| saved.pending & bit(signal) != 0)
}
