//! Clocks and timers, by system call: the vDSO moves at a restart, and a clock read during one must not go through it.
//!
//! # Safety
//! Pointers handed to the kernel come from references that outlive the call.
#![allow(unsafe_code)]

use crate::errno::{call, Result};

/// clock_gettime(2). A clock that does not exist reads as zero.
pub fn now(clock: i32) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = call!(SYS_clock_gettime, clock, &mut time as *mut libc::timespec);
    time
}

/// CLOCK_MONOTONIC in nanoseconds.
pub fn monotonic_ns() -> u64 {
    to_ns(&now(libc::CLOCK_MONOTONIC))
}

/// A time as nanoseconds; negative times are 0, times beyond 584 years saturate.
pub fn to_ns(time: &libc::timespec) -> u64 {
    if time.tv_sec < 0 {
        return 0;
    }
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec.max(0) as u64)
}

/// A file's time (stat(2)) as nanoseconds since the epoch, which saturate 292 years away from it.
pub fn stamp_ns(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// Nanoseconds as a time.
pub fn from_ns(ns: u64) -> libc::timespec {
    libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as i64 }
}

/// `time` moved by `ns` nanoseconds, which may be negative. What would lie before 0 is 0.
#[inline]
pub fn shifted(time: &libc::timespec, ns: i64) -> libc::timespec {
    let nanoseconds = time.tv_nsec + ns.rem_euclid(1_000_000_000);
    let carry = i64::from(nanoseconds >= 1_000_000_000);
    let tv_sec = time.tv_sec.saturating_add(ns.div_euclid(1_000_000_000)).saturating_add(carry);
    if tv_sec < 0 {
        return libc::timespec { tv_sec: 0, tv_nsec: 0 };
    }
    libc::timespec { tv_sec, tv_nsec: nanoseconds - carry * 1_000_000_000 }
}

/// Whether it is no time: a timer that is set to it is disarmed, and one whose interval it is does not tick.
pub fn is_zero(time: &libc::timeval) -> bool {
    time.tv_sec == 0 && time.tv_usec == 0
}

/// Sleeps for `ns` nanoseconds or until a signal comes.
pub fn sleep_ns(ns: u64) {
    let time = from_ns(ns);
    let _ = call!(SYS_nanosleep, &time as *const libc::timespec, 0);
}

/// getitimer(2).
pub fn get_itimer(which: i32) -> Result<libc::itimerval> {
    let zero = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut value = libc::itimerval { it_interval: zero, it_value: zero };
    call!(SYS_getitimer, which, &mut value as *mut libc::itimerval)?;
    Ok(value)
}

/// setitimer(2).
pub fn set_itimer(which: i32, value: &libc::itimerval) -> Result<()> {
    call!(SYS_setitimer, which, value as *const libc::itimerval, 0).map(|_| ())
}

/// timer_gettime(2) of a kernel timer id.
pub fn timer_gettime(id: i32) -> Result<libc::itimerspec> {
    let mut value = TIMER_OFF;
    call!(SYS_timer_gettime, id, &mut value as *mut libc::itimerspec)?;
    Ok(value)
}

/// timer_settime(2) of a kernel timer id.
pub fn timer_settime(id: i32, flags: i32, value: &libc::itimerspec) -> Result<()> {
    call!(SYS_timer_settime, id, flags, value as *const libc::itimerspec, 0).map(|_| ())
}

/// What disarms a timer.
pub const TIMER_OFF: libc::itimerspec = libc::itimerspec {
    it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
    it_value: libc::timespec { tv_sec: 0, tv_nsec: 0 },
};

/// `struct sigevent` as the kernel reads it, with the fields that timers use.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TimerEvent {
    /// `sigev_value`.
    pub value: u64,
    /// `sigev_signo`.
    pub signal: i32,
    /// SIGEV_SIGNAL, SIGEV_NONE or SIGEV_THREAD_ID.
    pub notify: i32,
    /// Real thread id for SIGEV_THREAD_ID.
    pub thread: i32,
    /// The kernel's struct is 64 bytes long.
    pub padding: [i32; 11],
}

/// timer_create(2): the id that the kernel gave. Ids count upwards in a process, which is how an old one is had again.
pub fn timer_create(clock: i32, event: &TimerEvent) -> Result<i32> {
    let mut id = 0i32;
    call!(SYS_timer_create, clock, event as *const TimerEvent, &mut id as *mut i32)?;
    Ok(id)
}

/// timer_delete(2).
pub fn timer_delete(id: i32) -> Result<()> {
    call!(SYS_timer_delete, id).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps() {
        assert_eq!(stamp_ns(-2, 5), -1_999_999_995);
        assert_eq!(stamp_ns(i64::MAX, 999_999_999), i64::MAX);
    }

    #[test]
    fn times_are_shifted_by_table() {
        let time = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
        for (from, by, to) in [
            ((5, 0), 0, (5, 0)),
            ((5, 999_999_999), 1, (6, 0)),
            ((5, 0), -1, (4, 999_999_999)),
            ((5, 500_000_000), -5_600_000_000, (0, 0)),
            ((5, 500_000_000), 2_700_000_000, (8, 200_000_000)),
            ((i64::MAX, 0), 5_000_000_000, (i64::MAX, 0)),
        ] {
            let result = shifted(&time(from.0, from.1), by);
            assert_eq!((result.tv_sec, result.tv_nsec), to, "{from:?} by {by}");
        }
    }
}
