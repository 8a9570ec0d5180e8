//! What libc tells of time without the vDSO: the program's own, see `zap_engine::clocks`. Clocks themselves need no
//! wrapper, since the program's vDSO leads to the engine after a restart.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use libc::{c_int, clock_t, rusage, sysinfo as sysinfo_t, timespec, tms};
use redhook::{hook, real};
use zap_engine::clocks;

super::resolve_all!(times, getrusage, sysinfo);

/// Microseconds of a tick of times(2): USER_HZ is 100 on every architecture that is supported.
const TICK_US: i64 = 10_000;

/// The kernel's monotonic time in nanoseconds, by the vDSO.
pub(super) fn kernel_now_ns() -> u64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of our own.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let offset = clocks::translate(libc::CLOCK_MONOTONIC).1;
    zap_sys::time::to_ns(&now).saturating_add_signed(offset.wrapping_neg())
}

/// The point of the program's monotonic time that lies `duration` ahead; `None` when it is no duration.
pub(super) fn ahead(duration: &timespec) -> Option<timespec> {
    if duration.tv_sec < 0 || !(0..1_000_000_000).contains(&duration.tv_nsec) {
        return None;
    }
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of our own.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    let nanoseconds = now.tv_nsec + duration.tv_nsec;
    let carry = i64::from(nanoseconds >= 1_000_000_000);
    let tv_sec = now.tv_sec.saturating_add(duration.tv_sec).saturating_add(carry);
    Some(timespec { tv_sec, tv_nsec: nanoseconds - carry * 1_000_000_000 })
}

hook! { unsafe fn times(into: *mut tms) -> clock_t => zap_times {
    // SAFETY: the caller's argument.
    let result = unsafe { real!(times)(into) };
    if !clocks::shifted() || result == -1 {
        return result;
    }
    let (own, children) = (clocks::added(libc::RUSAGE_SELF), clocks::added(libc::RUSAGE_CHILDREN));
    if !into.is_null() {
        // SAFETY: libc has filled it.
        let used = unsafe { &mut *into };
        used.tms_utime = (used.tms_utime + own.user / TICK_US).max(0);
        used.tms_stime = (used.tms_stime + own.system / TICK_US).max(0);
        used.tms_cutime = (used.tms_cutime + children.user / TICK_US).max(0);
        used.tms_cstime = (used.tms_cstime + children.system / TICK_US).max(0);
    }
    result + clocks::added_ticks()
} }

hook! { unsafe fn getrusage(who: c_int, into: *mut rusage) -> c_int => zap_getrusage {
    // SAFETY: the caller's arguments.
    let result = unsafe { real!(getrusage)(who, into) };
    if result == 0 && clocks::shifted() {
        // SAFETY: libc has filled it.
        clocks::added(who).add_to(unsafe { &mut *into });
    }
    result
} }

hook! { unsafe fn sysinfo(into: *mut sysinfo_t) -> c_int => zap_sysinfo {
    // SAFETY: the caller's argument.
    let result = unsafe { real!(sysinfo)(into) };
    if result == 0 && clocks::shifted() {
        let (clock, offset) = clocks::translate(libc::CLOCK_BOOTTIME);
        let boot = zap_sys::time::shifted(&zap_sys::time::now(clock), offset);
        // SAFETY: libc has filled it. The kernel rounds up.
        unsafe { (*into).uptime = boot.tv_sec + i64::from(boot.tv_nsec != 0) };
    }
    result
} }
