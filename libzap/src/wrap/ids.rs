//! Process and thread ids: virtual on the program's side, real on the kernel's.
//!
//! Until the first restart both are equal and these wrappers make just the system call that libc would. It is made
//! anew each time, since a cached id would be wrong in the children of vfork and of raw clone.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use libc::{c_int, cpu_set_t, pid_t, size_t};
use redhook::{hook, real};
use zap_engine::guard::with_ids;
use zap_engine::{identity, state};
use zap_sys::{process, RealPid, VirtualPid};

super::resolve_all!(getpgid, getsid, sched_getaffinity, sched_setaffinity);

hook! { unsafe fn getpid() -> pid_t => zap_getpid {
    let real = process::getpid();
    if state::moved() { identity::virtual_of(real).0 } else { real.0 }
} }

hook! { unsafe fn gettid() -> pid_t => zap_gettid {
    let real = process::gettid();
    if state::moved() { identity::virtual_of(real).0 } else { real.0 }
} }

/// The real form of an id argument; ids that are 0 or negative mean the caller, a group or everybody.
pub fn real_argument(id: pid_t) -> pid_t {
    if id > 0 && state::moved() {
        identity::real_of(VirtualPid(id)).0
    } else {
        id
    }
}

/// The virtual form of an id result.
pub fn virtual_result(id: pid_t) -> pid_t {
    if id > 0 && state::moved() {
        identity::virtual_of(RealPid(id)).0
    } else {
        id
    }
}

/// The caller's real user id.
pub fn user() -> libc::uid_t {
    // SAFETY: no arguments.
    unsafe { libc::getuid() }
}

fn number(result: zap_sys::Result<()>) -> c_int {
    result.map_or_else(|error| error.errno.0, |()| 0)
}

fn as_c(error: c_int) -> c_int {
    if error == 0 {
        0
    } else {
        super::fail(error)
    }
}

hook! { unsafe fn kill(pid: pid_t, signal: c_int) -> c_int => zap_kill {
    as_c(with_ids(|| {
        let own = process::getpid();
        // The kernel would say that another process has sent it, unless nobody but the main thread asks it not to.
        if signal != 0 && state::moved() && pid == state::virtual_pid().0 && process::gettid() == own {
            return number(zap_sys::signal::tell_own_process(signal, (pid, user())));
        }
        number(zap_sys::signal::kill(real_argument(pid), signal))
    }))
} }

hook! { unsafe fn tgkill(process: pid_t, thread: pid_t, signal: c_int) -> c_int => zap_tgkill {
    as_c(with_ids(|| {
        let (process, thread) = (RealPid(real_argument(process)), RealPid(real_argument(thread)));
        if signal != 0 && state::moved() && thread == zap_sys::process::gettid() && process == zap_sys::process::getpid() {
            return number(zap_sys::signal::tell_self(signal, libc::SI_TKILL, (state::virtual_pid().0, user())));
        }
        number(zap_sys::signal::tgkill(process, thread, signal))
    }))
} }

hook! { unsafe fn getpgid(pid: pid_t) -> pid_t => zap_getpgid {
    // SAFETY: no memory is touched.
    virtual_result(unsafe { real!(getpgid)(real_argument(pid)) })
} }

hook! { unsafe fn getsid(pid: pid_t) -> pid_t => zap_getsid {
    // SAFETY: no memory is touched.
    virtual_result(unsafe { real!(getsid)(real_argument(pid)) })
} }

hook! { unsafe fn sigqueue(pid: pid_t, number: c_int, value: libc::sigval) -> c_int => zap_sigqueue {
    // As libc would, but for the sender's id, which the receiver is to know.
    let sender = virtual_result(process::getpid().0);
    let user = user();
    as_c(with_ids(|| {
        let value = value.sival_ptr as u64;
        self::number(zap_sys::signal::queue_value(real_argument(pid), number, (sender, user), value))
    }))
} }

hook! { unsafe fn sched_getaffinity(pid: pid_t, size: size_t, set: *mut cpu_set_t) -> c_int
=> zap_sched_getaffinity {
    // SAFETY: the caller's arguments.
    unsafe { real!(sched_getaffinity)(real_argument(pid), size, set) }
} }

hook! { unsafe fn sched_setaffinity(pid: pid_t, size: size_t, set: *const cpu_set_t) -> c_int
=> zap_sched_setaffinity {
    // SAFETY: the caller's arguments.
    unsafe { real!(sched_setaffinity)(real_argument(pid), size, set) }
} }
