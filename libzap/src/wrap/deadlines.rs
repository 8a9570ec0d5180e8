//! Calls with an absolute time-out: what the kernel gets is a deadline in its own time, which a restart can move while
//! the thread waits. See `zap_engine::deadline`.
//!
//! Times of the wall clock are left alone: it tells the true time.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicU32, Ordering};
use libc::{c_int, c_void, clockid_t, itimerspec, pthread_cond_t, pthread_t, timespec};
use libc::{pthread_rwlock_t, sem_t};
use redhook::{hook, real};
use zap_engine::clocks;
use zap_engine::deadline::Deadline;
use zap_engine::guard::Guard;
use zap_engine::state;

super::resolve_all!(
    pthread_rwlock_clockrdlock,
    pthread_rwlock_clockwrlock,
    sem_clockwait,
    pthread_clockjoin_np,
    timerfd_settime,
    timer_settime,
);

/// Makes `call` with the deadline `time` on the program's `clock` as the kernel is to have it.
///
/// # Safety
/// `time` is null or a time.
#[inline]
pub(super) unsafe fn until<R>(clock: clockid_t, time: *const timespec, call: impl FnOnce(*const timespec) -> R) -> R {
    if time.is_null() || !state::active() || !clocks::moves(clock) {
        return call(time);
    }
    // SAFETY: the caller's promise.
    let mut deadline = Deadline::new(clock, unsafe { &*time });
    let result = call(deadline.note());
    deadline.end();
    result
}

/// As [`until`], for a time that the kernel alone reads: where it lies may be no memory, and the kernel is to say so.
///
/// # Safety
/// None: what cannot be read is left to the kernel.
#[inline]
pub(super) unsafe fn until_of<R>(
    clock: clockid_t,
    time: *const timespec,
    call: impl FnOnce(*const timespec) -> R,
) -> R {
    if time.is_null() || !state::active() || !clocks::moves(clock) || !super::readable(time) {
        return call(time);
    }
    // SAFETY: it can be read.
    unsafe { until(clock, time, call) }
}

/// Bytes of a `pthread_cond_t`.
const CONDITION: usize = core::mem::size_of::<pthread_cond_t>();

/// Where a condition variable says that its clock is the monotonic one: byte, and bits in it; 0 bits when unknown.
static CLOCK_BYTE: AtomicU32 = AtomicU32::new(0);
static CLOCK_BITS: AtomicU32 = AtomicU32::new(0);

/// Finds out where libc keeps a condition variable's clock, by making one of each kind: the place has changed between
/// versions of glibc.
pub fn learn_conditions() {
    type Initialize = unsafe extern "C" fn(*mut c_void, *const c_void) -> c_int;
    type SetClock = unsafe extern "C" fn(*mut c_void, clockid_t) -> c_int;
    let initialize = super::optional(c"pthread_cond_init");
    let set_clock = super::optional(c"pthread_condattr_setclock");
    if initialize.is_null() || set_clock.is_null() {
        return;
    }
    // SAFETY: libc's functions of these names.
    let initialize: Initialize = unsafe { core::mem::transmute(initialize) };
    // SAFETY: as above.
    let set_clock: SetClock = unsafe { core::mem::transmute(set_clock) };
    let mut attributes = [0u64; 8];
    let mut conditions = [[0u64; CONDITION / 8]; 2];
    // SAFETY: zeroes are default attributes, in more room than they need.
    unsafe { set_clock(attributes.as_mut_ptr().cast(), libc::CLOCK_MONOTONIC) };
    // SAFETY: room for a condition variable, which nobody uses.
    unsafe { initialize(conditions[0].as_mut_ptr().cast(), core::ptr::null()) };
    // SAFETY: as above.
    unsafe { initialize(conditions[1].as_mut_ptr().cast(), attributes.as_ptr().cast()) };
    let bytes = |which: usize| conditions[which].iter().flat_map(|word| word.to_le_bytes());
    if let Some((at, (a, b))) = bytes(0).zip(bytes(1)).enumerate().find(|(_, (a, b))| a != b) {
        CLOCK_BYTE.store(at as u32, Ordering::Relaxed);
        CLOCK_BITS.store(u32::from(a ^ b), Ordering::Relaxed);
    }
}

/// The clock of the condition variable's timed wait.
///
/// # Safety
/// `condition` is a condition variable.
pub(super) unsafe fn clock_of(condition: *const pthread_cond_t) -> clockid_t {
    let (at, bits) = (CLOCK_BYTE.load(Ordering::Relaxed), CLOCK_BITS.load(Ordering::Relaxed));
    // SAFETY: inside the caller's condition variable; other threads change other bits of the byte.
    let byte = unsafe { condition.cast::<u8>().add(at as usize).read_volatile() };
    if u32::from(byte) & bits != 0 {
        libc::CLOCK_MONOTONIC
    } else {
        libc::CLOCK_REALTIME
    }
}

hook! { unsafe fn pthread_rwlock_clockrdlock(
    lock: *mut pthread_rwlock_t,
    clock: clockid_t,
    time: *const timespec
) -> c_int => zap_pthread_rwlock_clockrdlock {
    // SAFETY: the caller's arguments.
    unsafe { until(clock, time, |time| real!(pthread_rwlock_clockrdlock)(lock, clock, time)) }
} }

hook! { unsafe fn pthread_rwlock_clockwrlock(
    lock: *mut pthread_rwlock_t,
    clock: clockid_t,
    time: *const timespec
) -> c_int => zap_pthread_rwlock_clockwrlock {
    // SAFETY: the caller's arguments.
    unsafe { until(clock, time, |time| real!(pthread_rwlock_clockwrlock)(lock, clock, time)) }
} }

hook! { unsafe fn sem_clockwait(semaphore: *mut sem_t, clock: clockid_t, time: *const timespec) -> c_int
=> zap_sem_clockwait {
    // SAFETY: the caller's arguments.
    unsafe { until(clock, time, |time| real!(sem_clockwait)(semaphore, clock, time)) }
} }

hook! { unsafe fn pthread_clockjoin_np(
    thread: pthread_t,
    result: *mut *mut c_void,
    clock: clockid_t,
    time: *const timespec
) -> c_int => zap_pthread_clockjoin_np {
    // SAFETY: the caller's arguments.
    unsafe { until(clock, time, |time| real!(pthread_clockjoin_np)(thread, result, clock, time)) }
} }

hook! { unsafe fn timerfd_settime(timer: c_int, flags: c_int, new: *const itimerspec, old: *mut itimerspec) -> c_int
=> zap_timerfd_settime {
    if flags & libc::TFD_TIMER_ABSTIME == 0 || !clocks::shifted() || !super::readable(new) {
        // SAFETY: the caller's arguments.
        return unsafe { real!(timerfd_settime)(timer, flags, new, old) };
    }
    // SAFETY: the caller's argument.
    let mut own = unsafe { *new };
    own.it_value = kernel_deadline(clock_of_timer(timer), own.it_value);
    // SAFETY: the caller's arguments but for the time.
    unsafe { real!(timerfd_settime)(timer, flags, &own, old) }
} }

hook! { unsafe fn timer_settime(
    timer: *mut c_void,
    flags: c_int,
    new: *const itimerspec,
    old: *mut itimerspec
) -> c_int => zap_timer_settime {
    // SAFETY: the caller's timer.
    let id = unsafe { kernel_timer(timer) };
    set_timer(id, flags, new, |new| {
        // SAFETY: the caller's arguments but for the time.
        unsafe { real!(timer_settime)(timer, flags, new, old) }
    })
} }

/// Sets the timer that the kernel knows as `id` by `call`, which is given the time as the kernel is to have it.
pub(super) fn set_timer(
    id: c_int,
    flags: c_int,
    new: *const itimerspec,
    call: impl FnOnce(*const itimerspec) -> c_int,
) -> c_int {
    if !state::active() {
        return call(new);
    }
    let absolute = flags & libc::TIMER_ABSTIME != 0;
    let moved = absolute && clocks::shifted() && super::readable(new);
    let own = moved.then(|| zap_engine::timers::clock_of(id)).flatten().map(|clock| {
        // SAFETY: it can be read.
        let mut own = unsafe { *new };
        own.it_value = kernel_deadline(clock, own.it_value);
        own
    });
    let given = own.as_ref().map_or(new, core::ptr::from_ref);
    zap_engine::timers::note_setting(id, absolute, || {
        let result = call(given);
        (result, result == 0)
    })
}

/// The kernel's id of libc's `timer`: the handle itself, or for SIGEV_THREAD the first word of what the handle, which is
/// negative then, points to when its sign is shifted out (glibc's kernel-posix-timers.h).
pub(super) unsafe fn kernel_timer(timer: *mut c_void) -> c_int {
    let handle = timer as isize;
    if handle >= 0 {
        return handle as c_int;
    }
    // SAFETY: libc's own structure.
    unsafe { *((handle << 1) as *const c_int) }
}

/// A timer's absolute time in the kernel's. What disarms, or is no time, stays as it is; what lies before the kernel's
/// beginning has passed, and must not disarm.
fn kernel_deadline(clock: clockid_t, time: timespec) -> timespec {
    let disarms = time.tv_sec == 0 && time.tv_nsec == 0;
    if disarms || time.tv_sec < 0 || !(0..1_000_000_000).contains(&time.tv_nsec) {
        return time;
    }
    let shifted = clocks::to_kernel(clock, &time);
    let is_past = shifted.tv_sec == 0 && shifted.tv_nsec == 0;
    timespec { tv_sec: shifted.tv_sec, tv_nsec: if is_past { 1 } else { shifted.tv_nsec } }
}

/// The clock of a timerfd, which the kernel tells in its fdinfo; the wall's when it is none.
fn clock_of_timer(timer: c_int) -> clockid_t {
    let path = zap_sys::small!("/proc/thread-self/fdinfo/{timer}");
    let mut buffer = [0u8; 512];
    // Nobody is suspended with the descriptor open.
    let _guard = Guard::enter();
    let info = zap_sys::fd::read_file(path.as_c_str(), &mut buffer).unwrap_or_default();
    zap_sys::text::field(info, b"clockid:").map_or(libc::CLOCK_REALTIME, |text| zap_sys::text::decimal(text).0 as i32)
}
