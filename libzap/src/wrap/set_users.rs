//! setuid(2) and its kind in a program with threads: the kernel changes one thread, libc has all others do the same. It finds
//! them by the ids in their control blocks, which after a restart nobody has: they would stay who they were, unseen. So where
//! ids differ this is done here, by libc's own signal for it, which no thread blocks.
//!
//! # Safety
//! As in the module's head. The handler makes one system call.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use libc::{c_char, c_int, c_long, gid_t, size_t, uid_t};
use redhook::{hook, real};
use std::vec::Vec;
use zap_engine::guard::Guard;
use zap_engine::state;
use zap_sys::signal::{self, bit, KernelAction, SA_RESTORER};
use zap_sys::{process, RealPid};

super::resolve_all!(setuid, setgid, seteuid, setegid, setreuid, setregid, setresuid, setresgid, setgroups, initgroups,);

/// glibc's signal for this (SIGSETXID).
const SIGNAL: c_int = 33;

/// One broadcast at a time.
static BUSY: AtomicU32 = AtomicU32::new(0);
static NUMBER: AtomicUsize = AtomicUsize::new(0);
static ARGUMENTS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
/// Threads that have made the call; what it has said to one with which it failed.
static DONE: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicI32 = AtomicI32::new(0);

extern "C" fn follow(_: c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let [a, b, c] = [0, 1, 2].map(|at: usize| ARGUMENTS[at].load(Ordering::Relaxed));
    // SAFETY: a call that has succeeded in another thread; its arguments outlive the broadcast.
    let result =
        unsafe { zap_sys::arch::syscall::syscall(NUMBER.load(Ordering::Acquire) as c_long, [a, b, c, 0, 0, 0]) };
    if let Err(errno) = result {
        FAILED.store(errno.0, Ordering::Relaxed);
    }
    DONE.fetch_add(1, Ordering::AcqRel);
    zap_sys::futex::wake(&DONE, 1);
}

/// The numbers of the process's threads.
fn threads() -> Vec<i32> {
    let _guard = Guard::enter();
    let mut found = Vec::new();
    // A thread that is missed stays who it was, which libc holds to be worse than anything.
    if zap_sys::fd::each_number(c"/proc/self/task", |tid| found.push(tid)).is_err() {
        found.clear();
    }
    found
}

/// Has every other thread make the call; its arguments are in place.
fn broadcast(own: RealPid) {
    let action = KernelAction {
        handler: follow as *const () as u64,
        flags: (libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK) as u64 | SA_RESTORER,
        restorer: zap_sys::arch::context::signal_restorer as *const () as u64,
        mask: !bit(state::signal()),
    };
    let libcs = signal::get_action(SIGNAL);
    // SAFETY: the handler is made for any moment.
    if unsafe { signal::set_action(SIGNAL, &action) }.is_err() {
        return;
    }
    let mut told: Vec<i32> = Vec::new();
    let mut expected = 0;
    DONE.store(0, Ordering::Relaxed);
    FAILED.store(0, Ordering::Relaxed);
    loop {
        let fresh: Vec<i32> = threads().into_iter().filter(|tid| *tid != own.0 && !told.contains(tid)).collect();
        if fresh.is_empty() {
            break;
        }
        for tid in fresh {
            told.push(tid);
            // One that has ended meanwhile needs nothing.
            expected += u32::from(signal::tgkill(process::getpid(), RealPid(tid), SIGNAL).is_ok());
        }
        let (mut done, mut idle) = (DONE.load(Ordering::Acquire), 0);
        while done < expected {
            let _ = zap_sys::futex::wait(&DONE, done, Some(&zap_sys::time::from_ns(1_000_000)));
            let now = DONE.load(Ordering::Acquire);
            idle = if now == done { idle + 1 } else { 0 };
            done = now;
            // A thread may have ended with the signal still waiting for it.
            if idle > 20 {
                let lives = |tid: &&i32| signal::tgkill(process::getpid(), RealPid(**tid), 0).is_ok();
                expected = expected.min(told.iter().filter(lives).count() as u32).max(done);
            }
        }
    }
    if let Ok(libcs) = libcs {
        // SAFETY: what was set before.
        let _ = unsafe { signal::set_action(SIGNAL, &libcs) };
    }
    if FAILED.load(Ordering::Relaxed) != 0 {
        // As libc does: threads with different rights are a hole.
        // SAFETY: ends the program.
        unsafe { libc::abort() };
    }
}

/// Makes the system call on every thread. As libc's functions: -1 with errno set where it fails.
fn everywhere(number: c_long, arguments: [usize; 3]) -> c_int {
    let [a, b, c] = arguments;
    // SAFETY: the caller's arguments.
    let call = || unsafe { zap_sys::arch::syscall::syscall(number, [a, b, c, 0, 0, 0]) };
    // The child of a vfork has no other thread.
    if process::getpid() != state::real_pid() {
        return call().map_or_else(|errno| super::fail(errno.0), |_| 0);
    }
    // No handler of the program may come in between, and leave by siglongjmp; Zap's signal may.
    let old = signal::change_mask(libc::SIG_BLOCK, !bit(state::signal()) & !bit(SIGNAL));
    while BUSY.swap(1, Ordering::Acquire) != 0 {
        let _ = zap_sys::futex::wait(&BUSY, 1, Some(&zap_sys::time::from_ns(1_000_000)));
    }
    // First here: where it fails, nobody follows.
    let result = call();
    if result.is_ok() {
        NUMBER.store(number as usize, Ordering::Release);
        ARGUMENTS.iter().zip(arguments).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
        broadcast(process::gettid());
    }
    BUSY.store(0, Ordering::Release);
    zap_sys::futex::wake(&BUSY, 1);
    if let Ok(old) = old {
        let _ = signal::change_mask(libc::SIG_SETMASK, old);
    }
    result.map_or_else(|errno| super::fail(errno.0), |_| 0)
}

/// In the child of a fork.
pub fn begin_in_child() {
    if BUSY.load(Ordering::Relaxed) != 0 {
        BUSY.store(0, Ordering::Relaxed);
    }
}

/// "No change" in the calls of several ids.
const KEPT: u32 = u32::MAX;

macro_rules! set_ids {
    ($($name:ident($($argument:ident: $type:ty),*) $hooked:ident = $number:ident[$a:expr, $b:expr, $c:expr] $(unless $wrong:expr)?;)*) => {
        $(
            hook! { unsafe fn $name($($argument: $type),*) -> c_int => $hooked {
                $(if state::moved() && $wrong {
                    return super::fail(libc::EINVAL);
                })?
                if state::moved() {
                    return everywhere(libc::$number, [$a as usize, $b as usize, $c as usize]);
                }
                // SAFETY: the caller's arguments.
                unsafe { real!($name)($($argument),*) }
            } }
        )*
    };
}

set_ids! {
    setuid(user: uid_t) zap_setuid = SYS_setuid[user, 0, 0];
    setgid(group: gid_t) zap_setgid = SYS_setgid[group, 0, 0];
    seteuid(user: uid_t) zap_seteuid = SYS_setresuid[KEPT, user, KEPT] unless user == KEPT;
    setegid(group: gid_t) zap_setegid = SYS_setresgid[KEPT, group, KEPT] unless group == KEPT;
    setreuid(user: uid_t, effective: uid_t) zap_setreuid = SYS_setreuid[user, effective, 0];
    setregid(group: gid_t, effective: gid_t) zap_setregid = SYS_setregid[group, effective, 0];
    setresuid(user: uid_t, effective: uid_t, saved: uid_t) zap_setresuid = SYS_setresuid[user, effective, saved];
    setresgid(group: gid_t, effective: gid_t, saved: gid_t) zap_setresgid = SYS_setresgid[group, effective, saved];
    setgroups(count: size_t, groups: *const gid_t) zap_setgroups = SYS_setgroups[count, groups, 0];
}

hook! { unsafe fn initgroups(user: *const c_char, group: gid_t) -> c_int => zap_initgroups {
    if !state::moved() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(initgroups)(user, group) };
    }
    /// NGROUPS_MAX of Linux.
    const MOST: usize = 65536;
    let mut groups: Vec<gid_t> = Vec::new();
    let mut count: c_int = 64;
    loop {
        groups.resize(count as usize, 0);
        // SAFETY: the caller's string, and a list of that length.
        if unsafe { libc::getgrouplist(user, group, groups.as_mut_ptr(), &mut count) } >= 0 {
            break;
        }
        if count as usize <= groups.len() {
            count = groups.len() as c_int * 2;
        }
        if count as usize > MOST {
            return super::fail(libc::EINVAL);
        }
    }
    // The kernel may be made to allow fewer than the user is in: then libc leaves the last ones out.
    loop {
        // SAFETY: a list of our own.
        let result = unsafe { libc::setgroups(count as size_t, groups.as_ptr()) };
        // SAFETY: errno's address is valid in every thread.
        if result != -1 || unsafe { *libc::__errno_location() } != libc::EINVAL || count <= 1 {
            return result;
        }
        count -= 1;
    }
} }
