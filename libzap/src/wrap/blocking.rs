//! Calls that end with EINTR whenever a handler has run: what the engine needs to continue them is left for it here.
//!
//! poll becomes ppoll, and the sleeps get a place for the remaining time, because there the kernel itself keeps account
//! of what is left; epoll_wait's deadline is noted. See `zap_engine::blocking`.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::deadlines::until;
use core::sync::atomic::Ordering;
use libc::{c_int, c_uint, c_void, epoll_event, nfds_t, pollfd, sigset_t, size_t, ssize_t, timespec};
use redhook::{hook, real};
use zap_engine::{blocking, clocks, guard, state};

super::resolve_all!(poll, epoll_wait, epoll_pwait, nanosleep, clock_nanosleep, recv);

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

fn note_timeout(number: i64, timeout: c_int) {
    blocking::note(number, timeout as u64 * 1_000_000, zap_sys::time::monotonic_ns());
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
        return unsafe { until(clock, request, |time| real!(clock_nanosleep)(kernel_clock, flags, time, remain)) };
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

hook! { unsafe fn recv(socket: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t => zap_recv {
    let plain = flags & libc::MSG_WAITALL == 0 || flags & libc::MSG_PEEK != 0 || !state::active();
    // Messages with boundaries are not to be joined.
    if plain || zap_sys::net::get_option(socket, libc::SOL_SOCKET, libc::SO_TYPE) != Ok(libc::SOCK_STREAM) {
        // SAFETY: the caller's arguments.
        return unsafe { real!(recv)(socket, buffer, length, flags) };
    }
    // The kernel hands over what has come so far when a handler runs: after a suspension the rest is waited for.
    let mut done = 0;
    loop {
        let before = guard::block().suspensions.load(Ordering::Relaxed);
        // SAFETY: the part of the caller's buffer that is not filled yet.
        let result = unsafe { real!(recv)(socket, buffer.cast::<u8>().add(done).cast(), length - done, flags) };
        if result <= 0 {
            return if done > 0 { done as ssize_t } else { result };
        }
        done += result as usize;
        if done >= length || guard::block().suspensions.load(Ordering::Relaxed) == before {
            return done as ssize_t;
        }
    }
} }
