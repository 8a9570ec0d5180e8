//! wait: children that a restart has made again answer to the ids that the program knows.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::{real_argument, virtual_result};
use libc::{c_int, id_t, idtype_t, pid_t, rusage, siginfo_t};
use redhook::{hook, real};
use zap_engine::{identity, state};
use zap_sys::RealPid;

super::resolve_all!(wait, waitpid, wait3, wait4, waitid);

/// Translates the result of a wait that has taken a child away.
fn taken(pid: pid_t, status: *const c_int) -> pid_t {
    if pid <= 0 || !state::moved() {
        return pid;
    }
    let id = virtual_result(pid);
    // SAFETY: where the caller gave a place for the status, libc has filled it.
    let ended = status.is_null() || unsafe { libc::WIFEXITED(*status) || libc::WIFSIGNALED(*status) };
    if ended {
        identity::drop_child(RealPid(pid));
    }
    id
}

hook! { unsafe fn wait(status: *mut c_int) -> pid_t => zap_wait {
    // SAFETY: the caller's argument.
    taken(unsafe { real!(wait)(status) }, status)
} }

hook! { unsafe fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t => zap_waitpid {
    // SAFETY: the caller's arguments.
    taken(unsafe { real!(waitpid)(real_argument(pid), status, options) }, status)
} }

hook! { unsafe fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t => zap_wait3 {
    // SAFETY: the caller's arguments.
    taken(unsafe { real!(wait3)(status, options, usage) }, status)
} }

hook! { unsafe fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t => zap_wait4 {
    // SAFETY: the caller's arguments.
    taken(unsafe { real!(wait4)(real_argument(pid), status, options, usage) }, status)
} }

hook! { unsafe fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int => zap_waitid {
    let real = if kind == libc::P_PID { real_argument(id as pid_t) as id_t } else { id };
    // SAFETY: the caller's arguments.
    let result = unsafe { real!(waitid)(kind, real, info, options) };
    if result == 0 && !info.is_null() && state::moved() {
        // SAFETY: libc has filled the caller's structure; si_pid is the fourth word for SIGCHLD.
        let place = unsafe { &mut *info.cast::<pid_t>().add(4) };
        // SAFETY: as above.
        let code = unsafe { (*info).si_code };
        let pid = *place;
        *place = virtual_result(pid);
        let ended = matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED);
        if pid > 0 && ended && options & libc::WNOWAIT == 0 {
            identity::drop_child(RealPid(pid));
        }
    }
    result
} }
