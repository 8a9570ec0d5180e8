//! Calls that end with EINTR whenever a handler has run: what the engine needs to continue them is left for it here.
//!
//! poll becomes ppoll, and the sleeps get a place for the remaining time, because there the kernel itself keeps account
//! of what is left; epoll_wait's deadline is noted. See `zap_engine::blocking`.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::clocks::kernel_now_ns;
use super::deadlines::until_of;
use core::sync::atomic::{AtomicUsize, Ordering};
use libc::{c_int, c_uint, epoll_event, nfds_t, pollfd, sembuf, sigset_t, size_t, timespec};
use redhook::{hook, real};
use zap_engine::{blocking, clocks, state};

super::resolve_all!(poll, __poll_chk, epoll_wait, epoll_pwait, nanosleep, clock_nanosleep, semtimedop);

hook! { unsafe fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int => zap_poll {
    if timeout <= 0 || !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(poll)(fds, count, timeout) };
    }
    let time = timespec {
        tv_sec: i64::from(timeout / 1000),
        tv_nsec: i64::from(timeout % 1000) * 1_000_000,
    };
    // SAFETY: the caller's arguments, and a time that libc copies.
    unsafe { libc::ppoll(fds, count, &time, core::ptr::null()) }
} }

hook! { unsafe fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int
=> zap_poll_checked {
    if (room / core::mem::size_of::<pollfd>()) < count as usize {
        // SAFETY: libc ends the program for it.
        return unsafe { real!(__poll_chk)(fds, count, timeout, room) };
    }
    // SAFETY: the caller's arguments.
    unsafe { libc::poll(fds, count, timeout) }
} }

fn note_timeout(number: i64, timeout: c_int) {
    blocking::note(number, timeout as u64 * 1_000_000, kernel_now_ns());
}

/// Makes `call`, the system call `number` with a relative time-out, of which a suspension takes nothing away.
fn noted<R>(number: i64, timeout: *const timespec, call: impl FnOnce() -> R) -> R {
    if timeout.is_null() || !state::active() || !super::readable(timeout) {
        return call();
    }
    // SAFETY: it can be read.
    blocking::note(number, zap_sys::time::to_ns(unsafe { &*timeout }), kernel_now_ns());
    let result = call();
    blocking::note_end();
    result
}

hook! { unsafe fn semtimedop(set: c_int, operations: *mut sembuf, count: size_t, timeout: *const timespec) -> c_int
=> zap_semtimedop {
    // SAFETY: the caller's arguments.
    noted(libc::SYS_semtimedop, timeout, || unsafe { real!(semtimedop)(set, operations, count, timeout) })
} }

type EpollWait2 = unsafe extern "C" fn(c_int, *mut epoll_event, c_int, *const timespec, *const sigset_t) -> c_int;

/// libc's epoll_pwait2 (glibc 2.35), 0 where it has none.
static EPOLL_PWAIT2: AtomicUsize = AtomicUsize::new(0);

/// Finds the functions that not every libc has.
pub fn resolve_newer() {
    EPOLL_PWAIT2.store(super::optional(c"epoll_pwait2") as usize, Ordering::Relaxed);
}

/// epoll_pwait2(2). Not by `hook!`, whose look-up panics on a libc without it.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn epoll_pwait2(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
) -> c_int {
    let function = EPOLL_PWAIT2.load(Ordering::Relaxed);
    if function == 0 {
        return super::fail(libc::ENOSYS);
    }
    // SAFETY: libc's function of this name.
    let function: EpollWait2 = unsafe { core::mem::transmute(function) };
    let mask = super::signals::Stripped::new(mask);
    // SAFETY: the caller's arguments.
    noted(libc::SYS_epoll_pwait2, timeout, || unsafe { function(epoll, events, most, timeout, mask.pointer()) })
}

hook! { unsafe fn epoll_wait(epoll: c_int, events: *mut epoll_event, most: c_int, timeout: c_int) -> c_int
=> zap_epoll_wait {
    if timeout <= 0 || !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(epoll_wait)(epoll, events, most, timeout) };
    }
    note_timeout(libc::SYS_epoll_wait, timeout);
    // SAFETY: the caller's arguments.
    let result = unsafe { real!(epoll_wait)(epoll, events, most, timeout) };
    blocking::note_end();
    result
} }

hook! { unsafe fn epoll_pwait(
    epoll: c_int,
    events: *mut epoll_event,
    most: c_int,
    timeout: c_int,
    mask: *const sigset_t
) -> c_int => zap_epoll_pwait {
    let mask = super::signals::Stripped::new(mask);
    if timeout <= 0 || !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(epoll_pwait)(epoll, events, most, timeout, mask.pointer()) };
    }
    note_timeout(libc::SYS_epoll_pwait, timeout);
    // SAFETY: the caller's arguments.
    let result = unsafe { real!(epoll_pwait)(epoll, events, most, timeout, mask.pointer()) };
    blocking::note_end();
    result
} }

hook! { unsafe fn nanosleep(request: *const timespec, remain: *mut timespec) -> c_int => zap_nanosleep {
    let mut own = timespec { tv_sec: 0, tv_nsec: 0 };
    let place = if remain.is_null() { &mut own } else { remain };
    // SAFETY: the caller's arguments, or a place of our own for the remaining time.
    unsafe { real!(nanosleep)(request, place) }
} }

hook! { unsafe fn clock_nanosleep(
    clock: libc::clockid_t,
    flags: c_int,
    request: *const timespec,
    remain: *mut timespec
) -> c_int => zap_clock_nanosleep {
    let mut own = timespec { tv_sec: 0, tv_nsec: 0 };
    let (kernel_clock, _) = clocks::translate(clock);
    if flags & libc::TIMER_ABSTIME != 0 {
        // SAFETY: the caller's arguments.
        return unsafe { until_of(clock, request, |time| real!(clock_nanosleep)(kernel_clock, flags, time, remain)) };
    }
    let place = if remain.is_null() { &mut own } else { remain };
    // SAFETY: as nanosleep.
    unsafe { real!(clock_nanosleep)(kernel_clock, flags, request, place) }
} }

hook! { unsafe fn usleep(microseconds: c_uint) -> c_int => zap_usleep {
    let request =
        timespec { tv_sec: i64::from(microseconds / 1_000_000), tv_nsec: i64::from(microseconds % 1_000_000) * 1000 };
    let mut remain = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: two times of our own.
    unsafe { libc::nanosleep(&request, &mut remain) }
} }
