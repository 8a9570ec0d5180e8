//! wait: children that a restart has made again answer to the ids that the program knows.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::{real_of_own, virtual_result};
use core::ptr::null_mut;
use libc::{c_int, id_t, idtype_t, pid_t, rusage, siginfo_t};
use redhook::{hook, real};
use zap_engine::guard::with_wait;
use zap_engine::{accounts, clocks, identity, state};
use zap_sys::VirtualPid;
use zap_wire::table::Kind;

super::resolve_all!(wait, waitpid, wait3, wait4, waitid);

/// The real form of the id that says which children are meant: a child, or with its sign changed a process group.
fn real_choice(id: pid_t) -> pid_t {
    if id < -1 && state::moved() {
        -identity::real_group_of(Kind::Group, VirtualPid(-id)).0
    } else {
        real_of_own(id)
    }
}

/// Waits by `call`, which translates its arguments and its result. A restart while a handler runs that has interrupted the system
/// call makes its argument nobody's.
fn wait_for<R: Into<i64> + Copy>(mut call: impl FnMut() -> R) -> R {
    loop {
        let generation = clocks::generation();
        let result = with_wait(&mut call);
        // SAFETY: errno's address is valid in every thread.
        let fails = || result.into() == -1 && unsafe { *libc::__errno_location() } == libc::ECHILD;
        if generation == clocks::generation() || !fails() {
            return result;
        }
    }
}

/// The program's form of `result`, for which a wait has asked by the program's `id`: a certain child is the one that was meant,
/// whatever number it had in the life in which the system call was made.
fn virtual_answer(id: pid_t, result: pid_t) -> pid_t {
    if id > 0 && result > 0 {
        id
    } else {
        virtual_result(result)
    }
}

/// Waits by `call` for a child that the program knows as it is told, and whose end is put where it wants it. After a restart that
/// knows of more than the kernel: see [`accounts`].
unsafe fn wait_for_child(status: *mut c_int, usage: *mut rusage, mut call: impl FnMut(*mut c_int) -> pid_t) -> pid_t {
    let mut own = 0;
    let place = if status.is_null() { &raw mut own } else { status };
    wait_for(|| {
        let child = call(place);
        // Together: a checkpoint in between would find neither the child nor that its parent has been told.
        if child > 0 && clocks::shifted() {
            // SAFETY: the kernel has written there.
            unsafe { settle(child, &mut *place, usage) };
        }
        child
    })
}

/// # Safety
/// `usage` is null, or libc has filled it.
#[cold]
unsafe fn settle(child: pid_t, status: &mut c_int, usage: *mut rusage) {
    if libc::WIFSTOPPED(*status) || libc::WIFCONTINUED(*status) {
        return;
    }
    let before = accounts::tell(VirtualPid(child), Some(status), false);
    clocks::add_childs(&before);
    if !usage.is_null() {
        // SAFETY: the caller's promise.
        before.add_to(unsafe { &mut *usage });
    }
}

hook! { unsafe fn wait(status: *mut c_int) -> pid_t => zap_wait {
    // SAFETY: the caller's argument.
    unsafe { wait_for_child(status, null_mut(), |status| virtual_result(real!(wait)(status))) }
} }

hook! { unsafe fn waitpid(pid: pid_t, status: *mut c_int, options: c_int) -> pid_t => zap_waitpid {
    // SAFETY: the caller's arguments.
    let call = |status| virtual_answer(pid, unsafe { real!(waitpid)(real_choice(pid), status, options) });
    // SAFETY: the caller's arguments.
    unsafe { wait_for_child(status, null_mut(), call) }
} }

hook! { unsafe fn wait3(status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t => zap_wait3 {
    // SAFETY: the caller's arguments.
    unsafe { wait_for_child(status, usage, |status| virtual_result(real!(wait3)(status, options, usage))) }
} }

hook! { unsafe fn wait4(pid: pid_t, status: *mut c_int, options: c_int, usage: *mut rusage) -> pid_t => zap_wait4 {
    // SAFETY: the caller's arguments.
    let call = |status| virtual_answer(pid, unsafe { real!(wait4)(real_choice(pid), status, options, usage) });
    // SAFETY: the caller's arguments.
    unsafe { wait_for_child(status, usage, call) }
} }

hook! { unsafe fn waitid(kind: idtype_t, id: id_t, info: *mut siginfo_t, options: c_int) -> c_int => zap_waitid {
    let real = || match kind {
        libc::P_PID => real_of_own(id as pid_t) as id_t,
        libc::P_PGID if id != 0 && state::moved() => identity::real_group_of(Kind::Group, VirtualPid(id as pid_t)).0 as id_t,
        _ => id,
    };
    // SAFETY: all-zero is valid.
    let mut own: siginfo_t = unsafe { core::mem::zeroed() };
    let info = if info.is_null() { &raw mut own } else { info };
    wait_for(|| {
        // SAFETY: the caller's arguments, or a place of our own.
        let result = unsafe { real!(waitid)(kind, real(), info, options) };
        if result == 0 && state::moved() {
            // SAFETY: libc has filled the structure; si_pid is the fourth word for SIGCHLD.
            let place = unsafe { &mut *info.cast::<pid_t>().add(4) };
            let asked = if kind == libc::P_PID { id as pid_t } else { 0 };
            *place = virtual_answer(asked, *place);
        }
        if result == 0 && clocks::shifted() {
            // SAFETY: as above.
            settle_told(unsafe { &mut *info }, options & libc::WNOWAIT != 0);
        }
        result
    })
} }

/// As [`settle`] of what waitid(2) has told.
#[cold]
fn settle_told(info: &mut siginfo_t, stays: bool) {
    if !matches!(info.si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
        return;
    }
    // SAFETY: these are of a child's end.
    let child = unsafe { info.si_pid() };
    let mut status = 0;
    clocks::add_childs(&accounts::tell(VirtualPid(child), Some(&mut status), stays));
    if status != 0 {
        info.si_code = libc::CLD_DUMPED;
    }
}
