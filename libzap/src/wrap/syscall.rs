//! syscall(2): the ids in its arguments and results, its clocks and deadlines, and the number that a restarted call needs.
//!
//! Defined with its full fixed arity: a variadic caller passes the same registers.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::clocks::ahead;
use super::deadlines::until_of;
use super::ids::{own_id, real_argument, virtual_result};
use super::sandbox;
use libc::{c_int, c_long, clockid_t, pid_t, timespec};
use redhook::{hook, real};
use zap_engine::{blocking, clocks, identity, inodes, private, signals, state};
use zap_sys::RealPid;

super::resolve_all!(syscall);

hook! { unsafe fn syscall(
    number: c_long,
    a: c_long,
    b: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long
) -> c_long => zap_syscall {
    if state::moved() || (super::more_ids::names_somebody(number) && state::active()) {
        let real = |id: c_long| c_long::from(real_argument(id as pid_t));
        match number {
            // SAFETY: no memory is touched.
            libc::SYS_getpgrp => return c_long::from(unsafe { libc::getpgrp() }),
            // SAFETY: no memory is touched.
            libc::SYS_setsid => return c_long::from(unsafe { libc::setsid() }),
            libc::SYS_getpid | libc::SYS_gettid => {
                // SAFETY: no arguments.
                let ask = || unsafe { real!(syscall)(number, 0, 0, 0, 0, 0, 0) } as pid_t;
                return own_id(ask, virtual_result).into();
            }
            // SAFETY: no memory is touched.
            libc::SYS_setpgid => return c_long::from(unsafe { libc::setpgid(a as pid_t, b as pid_t) }),
            // SAFETY: no memory is touched.
            libc::SYS_getpgid => return c_long::from(unsafe { libc::getpgid(a as pid_t) }),
            // SAFETY: no memory is touched.
            libc::SYS_getsid => return c_long::from(unsafe { libc::getsid(a as pid_t) }),
            libc::SYS_getppid => {
                // SAFETY: no arguments. Libc's function sets no errno where a filter makes the call fail.
                let ask = || unsafe { real!(syscall)(number, 0, 0, 0, 0, 0, 0) } as pid_t;
                return own_id(ask, |id| if id < 0 { id } else { identity::virtual_parent(RealPid(id)).0 }).into();
            }
            libc::SYS_wait4 => {
                // SAFETY: the caller's arguments.
                return c_long::from(unsafe { libc::wait4(a as pid_t, b as *mut c_int, c as c_int, d as *mut libc::rusage) });
            }
            libc::SYS_kill => {
                // SAFETY: no memory is touched.
                return unsafe { libc::kill(a as pid_t, b as c_int) }.into();
            }
            libc::SYS_tkill | libc::SYS_rt_sigqueueinfo => {
                signals::note_sent();
                // SAFETY: the caller's arguments.
                return in_one_piece(|| unsafe { raw(number, [real(a), b, c, 0, 0, 0]) });
            }
            libc::SYS_tgkill | libc::SYS_rt_tgsigqueueinfo => {
                signals::note_sent();
                // SAFETY: the caller's arguments.
                return in_one_piece(|| unsafe { raw(number, [real(a), real(b), c, d, 0, 0]) });
            }
            // SAFETY: the caller's arguments.
            _ => if let Some(result) = unsafe { super::more_ids::by_number(number, [a, b, c, d, e, f]) } {
                return result;
            },
        }
    }
    if private::by_names() && state::active() {
        // SAFETY: the caller's arguments.
        if let Some(result) = unsafe { own(number, [a, b, c, d, e, f]) } {
            return result;
        }
    }
    if number == libc::SYS_execve {
        // SAFETY: the caller's arguments.
        return unsafe { super::exec::zap_execve(a as *const _, b as *const _, c as *const _) }.into();
    }
    if number == libc::SYS_execveat {
        // SAFETY: the caller's arguments.
        return unsafe { super::exec::zap_execveat(a as c_int, b as *const _, c as *const _, d as *const _, e as c_int) }
            .into();
    }
    if number == libc::SYS_sigaltstack {
        // SAFETY: the caller's arguments.
        return c_long::from(unsafe { super::signals::alternate_stack(a as *const _, b as *mut _) });
    }
    if number == libc::SYS_rt_sigaction && state::active() && a == c_long::from(state::signal()) && d == 8 {
        // SAFETY: the caller's arguments.
        return c_long::from(unsafe { super::signals::kernels_action(a as c_int, b as *const _, c as *mut _) });
    }
    let arguments = [a, b, c, d, e, f];
    // SAFETY: the caller's arguments.
    unsafe {
        match number {
            libc::SYS_futex if state::active() => futex(arguments),
            SYS_FUTEX_WAITV | SYS_FUTEX_WAIT if state::active() => futex2(number, arguments),
            libc::SYS_clock_gettime if clocks::shifted() => clock_gettime(arguments),
            libc::SYS_clock_nanosleep if clocks::shifted() => {
                // As a system call it returns the error by errno, and libc's function by its value.
                match libc::clock_nanosleep(a as clockid_t, b as c_int, c as *const timespec, d as *mut timespec) {
                    0 => 0,
                    error => c_long::from(super::fail(error)),
                }
            }
            libc::SYS_timer_settime if state::active() => {
                let set = |new: *const libc::itimerspec| real!(syscall)(number, a, b, new as c_long, d, e, f) as c_int;
                c_long::from(super::deadlines::set_timer(a as c_int, b as c_int, c as *const libc::itimerspec, set))
            }
            libc::SYS_timer_create if state::active() => {
                in_one_piece(|| raw(number, [c_long::from(clocks::lasting(a as clockid_t)), b, c, 0, 0, 0]))
            }
            libc::SYS_timerfd_settime if clocks::shifted() => {
                let (new, old) = (c as *const libc::itimerspec, d as *mut libc::itimerspec);
                c_long::from(libc::timerfd_settime(a as c_int, b as c_int, new, old))
            }
            libc::SYS_seccomp if sandbox::confines(a) => {
                let descriptor = b & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as c_long != 0;
                sandbox::confine(|| real!(syscall)(number, a, b, c, 0, 0, 0), descriptor)
            }
            // What confines the program for good, and the kernel does not tell of.
            libc::SYS_landlock_restrict_self => sandbox::confine(|| real!(syscall)(number, a, b, c, d, e, f), false),
            libc::SYS_prctl if a == c_long::from(libc::PR_SET_SECCOMP) => {
                sandbox::confine(|| real!(syscall)(number, a, b, c, d, e, 0), false)
            }
            libc::SYS_inotify_add_watch if state::active() => {
                c_long::from(libc::inotify_add_watch(a as c_int, b as *const _, c as u32))
            }
            libc::SYS_read if state::active() => {
                let read = || real!(syscall)(number, a, b, c, d, e, f) as libc::ssize_t;
                super::watches::with_kept(a as c_int, b as *mut _, c as usize, read(), read) as c_long
            }
            _ if super::aio::is_known(number) && state::active() => super::aio::by_number(number, arguments),
            libc::SYS_fstat
            | libc::SYS_stat
            | libc::SYS_lstat
            | libc::SYS_newfstatat
            | libc::SYS_statx
            | libc::SYS_getdents64
                if state::active() || inodes::differ() =>
            {
                super::file_numbers::by_number(number, arguments, || real!(syscall)(number, a, b, c, d, e, f))
            }
            libc::SYS_clone | libc::SYS_clone3 | libc::SYS_fork if state::active() => super::fork::by_number(number, arguments),
            _ => real!(syscall)(number, a, b, c, d, e, f),
        }
    }
} }

/// Calls with paths in them, where the pod has directories of its own; `None` for others.
///
/// # Safety
/// The caller's arguments.
#[cold]
unsafe fn own(number: c_long, arguments: [c_long; 6]) -> Option<c_long> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller's promise.
    unsafe {
        Some(match number {
            libc::SYS_bind => libc::bind(a as c_int, b as *const _, c as u32).into(),
            libc::SYS_connect => libc::connect(a as c_int, b as *const _, c as u32).into(),
            libc::SYS_sendto => {
                libc::sendto(a as c_int, b as *const _, c as usize, d as c_int, e as *const _, f as u32) as c_long
            }
            libc::SYS_sendmsg => libc::sendmsg(a as c_int, b as *const _, c as c_int) as c_long,
            libc::SYS_recvfrom => {
                libc::recvfrom(a as c_int, b as *mut _, c as usize, d as c_int, e as *mut _, f as *mut _) as c_long
            }
            libc::SYS_recvmsg => libc::recvmsg(a as c_int, b as *mut _, c as c_int) as c_long,
            libc::SYS_accept => libc::accept(a as c_int, b as *mut _, c as *mut _).into(),
            libc::SYS_accept4 => libc::accept4(a as c_int, b as *mut _, c as *mut _, d as c_int).into(),
            libc::SYS_getsockname => libc::getsockname(a as c_int, b as *mut _, c as *mut _).into(),
            libc::SYS_getpeername => libc::getpeername(a as c_int, b as *mut _, c as *mut _).into(),
            _ => return super::private_paths::by_number(number, arguments),
        })
    }
}

/// syscall(2), libc's own.
///
/// # Safety
/// As the libc function.
pub unsafe fn plain(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: the caller's arguments.
    unsafe { real!(syscall)(number, a, b, c, d, e, f) }
}

/// Newer calls than libc's table knows (Linux 5.16 and 6.7).
const SYS_FUTEX_WAITV: c_long = 449;
const SYS_FUTEX_WAIT: c_long = 455;

/// Makes the system call here: in libc's function the thread could be suspended between the ids and the call.
#[inline(always)]
pub unsafe fn raw(number: c_long, arguments: [c_long; 6]) -> Result<usize, zap_sys::Errno> {
    // SAFETY: the caller's arguments.
    unsafe { zap_sys::arch::syscall::syscall(number, arguments.map(|argument| argument as usize)) }
}

#[inline(always)]
pub fn in_one_piece(call: impl FnOnce() -> Result<usize, zap_sys::Errno>) -> c_long {
    match zap_engine::guard::with_ids(call) {
        Ok(result) => result as c_long,
        Err(errno) => c_long::from(super::fail(errno.0)),
    }
}

/// futex(2): deadlines on the monotonic clock are noted, and a wait for a duration becomes one for a deadline, of
/// which a suspension takes nothing away.
unsafe fn futex(arguments: [c_long; 6]) -> c_long {
    let [word, operation, value, timeout, word2, bits] = arguments;
    let command = operation as c_int & libc::FUTEX_CMD_MASK;
    let by_wall = operation as c_int & libc::FUTEX_CLOCK_REALTIME != 0;
    let time = timeout as *const timespec;
    let call = |operation: c_long, timeout: *const timespec, bits: c_long| {
        blocking::note(libc::SYS_futex, 0, 0);
        // SAFETY: the caller's arguments, and a time that outlives the call.
        let result = unsafe { real!(syscall)(libc::SYS_futex, word, operation, value, timeout as c_long, word2, bits) };
        blocking::note_end();
        result
    };
    match command {
        libc::FUTEX_WAIT if !time.is_null() && !by_wall && super::readable(time) => {
            // SAFETY: it can be read.
            let Some(end) = ahead(unsafe { &*time }) else {
                return call(operation, time, bits);
            };
            let operation = operation & !c_long::from(libc::FUTEX_CMD_MASK) | c_long::from(libc::FUTEX_WAIT_BITSET);
            // SAFETY: a time of our own.
            unsafe { until_of(libc::CLOCK_MONOTONIC, &end, |time| call(operation, time, EVERY_BIT)) }
        }
        libc::FUTEX_WAIT_BITSET | FUTEX_WAIT_REQUEUE_PI | FUTEX_LOCK_PI2 if !by_wall => {
            // SAFETY: the caller's argument.
            unsafe { until_of(libc::CLOCK_MONOTONIC, time, |time| call(operation, time, bits)) }
        }
        // Nothing to be noted of calls that do not wait, nor is a pointer what the others have in its place.
        _ => call(operation, time, bits),
    }
}

const FUTEX_WAIT_REQUEUE_PI: c_int = 11;
const FUTEX_LOCK_PI2: c_int = 13;
/// FUTEX_BITSET_MATCH_ANY: with it a wait is what FUTEX_WAIT is.
const EVERY_BIT: c_long = 0xffff_ffff;

/// futex_waitv and futex_wait: both have their time-out before the clock that it is on.
unsafe fn futex2(number: c_long, arguments: [c_long; 6]) -> c_long {
    let at = if number == SYS_FUTEX_WAITV { 3 } else { 4 };
    // SAFETY: the caller's arguments.
    unsafe {
        until_of(arguments[at + 1] as clockid_t, arguments[at] as *const timespec, |time| {
            let mut own = arguments;
            own[at] = time as c_long;
            let [a, b, c, d, e, f] = own;
            real!(syscall)(number, a, b, c, d, e, f)
        })
    }
}

/// clock_gettime(2) by number: the program's own time, as the vDSO tells it.
unsafe fn clock_gettime(arguments: [c_long; 6]) -> c_long {
    let (mut result, mut offset);
    loop {
        let generation = clocks::generation();
        let clock;
        (clock, offset) = clocks::translate(arguments[0] as clockid_t);
        // SAFETY: the caller's arguments.
        result = unsafe { real!(syscall)(libc::SYS_clock_gettime, c_long::from(clock), arguments[1], 0, 0, 0, 0) };
        if clocks::generation() == generation {
            break;
        }
    }
    if result == 0 {
        // SAFETY: the kernel has written there.
        let time = unsafe { &mut *(arguments[1] as *mut timespec) };
        *time = zap_sys::time::shifted(time, offset);
    }
    result
}
