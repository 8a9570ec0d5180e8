//! Process and thread ids: virtual on the program's side, real on the kernel's.
//!
//! Until the first restart both are equal and these wrappers make just the system call that libc would; a thread that asks
//! often for its own remembers them ([`zap_engine::own_ids`]).
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use libc::{c_int, cpu_set_t, pid_t, size_t};
use redhook::{hook, real};
use zap_engine::guard::with_ids;
use zap_engine::{identity, masking, own_ids, signals, state};
use zap_sys::{process, RealPid, VirtualPid};
use zap_wire::table::Kind;

super::resolve_all!(
    getpgid,
    getsid,
    setpgid,
    setsid,
    tcgetpgrp,
    tcgetsid,
    tcsetpgrp,
    sched_getaffinity,
    sched_setaffinity
);

/// An id of the caller's: by `ask` what the kernel says, by `translate` what the program is to see where that differs. A restart
/// in between makes what the kernel has said another's, so it is asked again then.
#[inline(always)]
pub fn own_id(ask: impl Fn() -> pid_t, translate: impl FnOnce(pid_t) -> pid_t) -> pid_t {
    let id = ask();
    if !state::moved() {
        return id;
    }
    ask_again(ask, translate)
}

/// Out of the way of those whose ids are the kernel's.
#[cold]
#[inline(never)]
fn ask_again(ask: impl Fn() -> pid_t, translate: impl FnOnce(pid_t) -> pid_t) -> pid_t {
    with_ids(|| translate(ask()))
}

hook! { unsafe fn getpid() -> pid_t => zap_getpid {
    match own_ids::process() {
        Some(id) => id,
        None => ask_for_process(),
    }
} }

#[inline(never)]
fn ask_for_process() -> pid_t {
    let real = process::getpid();
    own_ids::asked();
    if !state::moved() {
        return real.0;
    }
    // Right also where a restart has come in between, since it is the same process then.
    if real == state::real_pid() {
        return state::virtual_pid().0;
    }
    ask_again(|| process::getpid().0, |id| identity::virtual_of(RealPid(id)).0)
}

hook! { unsafe fn gettid() -> pid_t => zap_gettid {
    match own_ids::thread() {
        Some(id) => id,
        None => ask_for_thread(),
    }
} }

#[inline(never)]
fn ask_for_thread() -> pid_t {
    let real = process::gettid();
    own_ids::asked();
    if !state::moved() {
        return real.0;
    }
    match identity::known_of_caller(real) {
        Some(id) => id.0,
        None => ask_again(|| process::gettid().0, |id| identity::virtual_of_caller(RealPid(id)).0),
    }
}

hook! { unsafe fn getppid() -> pid_t => zap_getppid {
    // SAFETY: no arguments. A filter of the program's own may make it fail.
    let ask = || unsafe { real!(getppid)() };
    own_id(ask, |id| if id >= 0 { identity::virtual_parent(RealPid(id)).0 } else { id })
} }

/// The real form of an argument that names a process group; 0 means the caller's.
fn real_group(id: pid_t) -> pid_t {
    if id > 0 {
        identity::real_group_of(Kind::Group, VirtualPid(id)).0
    } else {
        id
    }
}

/// The virtual form of a result that names a process group or session.
fn virtual_group(kind: Kind, id: pid_t) -> pid_t {
    if id >= 0 {
        identity::virtual_group_of(kind, RealPid(id)).0
    } else {
        id
    }
}

/// The real form of an id argument; ids that are 0 or negative mean the caller, a group or everybody. One that is not of the
/// pod is nobody's.
pub fn real_argument(id: pid_t) -> pid_t {
    match id {
        1.. if state::moved() => identity::real_of(VirtualPid(id)).0,
        1.. if state::active() => masking::masked(RealPid(id)).0,
        _ => id,
    }
}

/// As [`real_argument`] where the kernel itself knows of the caller's own alone.
pub fn real_of_own(id: pid_t) -> pid_t {
    if state::moved() {
        real_argument(id)
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

/// Signals each of the pod's processes that `concerns` says; the caller last, if it is one of them.
#[cold]
fn kill_members(signal: c_int, concerns: impl Fn(RealPid) -> bool) -> c_int {
    let own = process::getpid();
    let (mut reached, mut error) = (false, libc::ESRCH);
    let mut tell = |member: RealPid| match zap_sys::signal::kill(member.0, signal) {
        Ok(()) => reached = true,
        // One that has just ended is none of those that are meant.
        Err(failed) if failed.is(libc::ESRCH) => {}
        Err(failed) => error = failed.errno.0,
    };
    if let Some(table) = state::table() {
        table.members().filter(|(member, _)| *member != own && concerns(*member)).for_each(|(member, _)| tell(member));
    }
    if concerns(own) {
        tell(own);
    }
    if reached {
        0
    } else {
        error
    }
}

/// Signals the process group `group`, of which those that are not of the pod, as zap-restart, are not meant.
fn kill_group(group: RealPid, signal: c_int) -> c_int {
    // 0: of another PID namespace.
    if state::moved() && state::table().is_some_and(|table| group.0 == 0 || table.find(group).is_none()) {
        return kill_members(signal, |member| process::group_of(member) == Ok(group));
    }
    if !state::moved() && state::active() && !masking::is_group_of_pod(group) {
        return libc::ESRCH;
    }
    number(zap_sys::signal::kill(-group.0, signal))
}

hook! { unsafe fn kill(pid: pid_t, signal: c_int) -> c_int => zap_kill {
    as_c(with_ids(|| {
        let own = process::getpid();
        // The kernel would say that another process has sent it, unless nobody but the main thread asks it not to.
        if signal != 0 && state::moved() && pid == state::virtual_pid().0 && process::gettid() == own {
            return number(zap_sys::signal::tell_own_process(signal, (pid, user())));
        }
        match pid {
            // Everybody but the caller: the pod is all that there is.
            -1 if state::active() => kill_members(signal, |member| member != own),
            0 => kill_group(process::getpgrp(), signal),
            ..-1 => kill_group(RealPid(real_group(pid.saturating_neg())), signal),
            _ => match real_argument(pid) {
                // A parent outside of the pod has a number that the program knows, and may ask whether it lives.
                NOBODY if signal == 0 => parent_lives(pid),
                real => number(zap_sys::signal::kill(real, signal)),
            },
        }
    }))
} }

const NOBODY: pid_t = masking::NOBODY.0;

/// What kill(2) with signal 0 says of the caller's parent, if that is `id`.
#[cold]
fn parent_lives(id: pid_t) -> c_int {
    let real = process::getppid();
    if real.0 != 0 && identity::virtual_parent(real).0 == id {
        number(zap_sys::signal::kill(real.0, 0))
    } else {
        libc::ESRCH
    }
}

hook! { unsafe fn killpg(group: pid_t, signal: c_int) -> c_int => zap_killpg {
    if group < 0 {
        return super::fail(libc::EINVAL);
    }
    as_c(with_ids(|| match group {
        0 => kill_group(process::getpgrp(), signal),
        _ => kill_group(RealPid(real_group(group)), signal),
    }))
} }

hook! { unsafe fn getpgrp() -> pid_t => zap_getpgrp {
    with_ids(|| virtual_group(Kind::Group, process::getpgrp().0))
} }

hook! { unsafe fn setpgid(pid: pid_t, group: pid_t) -> c_int => zap_setpgid {
    with_ids(|| {
        // The group that a process is to lead bears its id.
        let group = if group > 0 && group == pid { real_argument(group) } else { real_group(group) };
        // SAFETY: no memory is touched.
        unsafe { real!(setpgid)(real_argument(pid), group) }
    })
} }

hook! { unsafe fn setsid() -> pid_t => zap_setsid {
    // SAFETY: no memory is touched.
    with_ids(|| virtual_group(Kind::Session, unsafe { real!(setsid)() }))
} }

hook! { unsafe fn tcgetpgrp(terminal: c_int) -> pid_t => zap_tcgetpgrp {
    // SAFETY: no memory is touched.
    with_ids(|| virtual_group(Kind::Group, unsafe { real!(tcgetpgrp)(terminal) }))
} }

hook! { unsafe fn tcgetsid(terminal: c_int) -> pid_t => zap_tcgetsid {
    // SAFETY: no memory is touched.
    with_ids(|| virtual_group(Kind::Session, unsafe { real!(tcgetsid)(terminal) }))
} }

hook! { unsafe fn tcsetpgrp(terminal: c_int, group: pid_t) -> c_int => zap_tcsetpgrp {
    // SAFETY: no memory is touched.
    with_ids(|| unsafe { real!(tcsetpgrp)(terminal, real_group(group)) })
} }

hook! { unsafe fn tgkill(process: pid_t, thread: pid_t, signal: c_int) -> c_int => zap_tgkill {
    signals::note_sent();
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
    with_ids(|| virtual_group(Kind::Group, unsafe { real!(getpgid)(real_argument(pid)) }))
} }

hook! { unsafe fn getsid(pid: pid_t) -> pid_t => zap_getsid {
    // SAFETY: no memory is touched.
    with_ids(|| virtual_group(Kind::Session, unsafe { real!(getsid)(real_argument(pid)) }))
} }

hook! { unsafe fn sigqueue(pid: pid_t, number: c_int, value: libc::sigval) -> c_int => zap_sigqueue {
    // As libc would, but for the sender's id, which the receiver is to know.
    let user = user();
    as_c(with_ids(|| {
        let sender = virtual_result(process::getpid().0);
        let value = value.sival_ptr as u64;
        self::number(zap_sys::signal::queue_value(real_argument(pid), number, (sender, user), value))
    }))
} }

hook! { unsafe fn sched_getaffinity(pid: pid_t, size: size_t, set: *mut cpu_set_t) -> c_int
=> zap_sched_getaffinity {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(sched_getaffinity)(real_argument(pid), size, set) })
} }

hook! { unsafe fn sched_setaffinity(pid: pid_t, size: size_t, set: *const cpu_set_t) -> c_int
=> zap_sched_setaffinity {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(sched_setaffinity)(real_argument(pid), size, set) })
} }
