//! fork and the libc functions that fork inside: the child is a process of the pod like any other, and says so in the
//! pod's table.
//!
//! vfork needs no wrapper: its child shares memory with the parent, and must not write to it.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::virtual_result;
use libc::{c_char, c_int, pid_t, termios, winsize};
use redhook::{hook, real};
use zap_engine::{init, state};

super::resolve_all!(fork, daemon, forkpty);

/// After a fork, in both: `child` is what fork returned.
#[inline]
fn settle(child: pid_t) {
    if state::active() {
        match child {
            -1 => {}
            0 => {
                crate::ARENA.forget_after_fork();
                init::begin_in_child();
            }
            _ => init::note_child(child),
        }
    }
}

hook! { unsafe fn fork() -> pid_t => zap_fork {
    // SAFETY: the caller's call.
    let child = unsafe { real!(fork)() };
    settle(child);
    virtual_result(child)
} }

hook! { unsafe fn forkpty(terminal: *mut c_int, name: *mut c_char, modes: *const termios, size: *const winsize) -> pid_t
=> zap_forkpty {
    // SAFETY: the caller's arguments.
    let child = unsafe { real!(forkpty)(terminal, name, modes, size) };
    settle(child);
    virtual_result(child)
} }

hook! { unsafe fn daemon(stay: c_int, keep: c_int) -> c_int => zap_daemon {
    // SAFETY: the caller's arguments. It returns in the child: the parent has ended inside.
    let result = unsafe { real!(daemon)(stay, keep) };
    if state::active() && zap_sys::process::getpid() != state::real_pid() {
        init::note_child(zap_sys::process::getpid().0);
        settle(0);
    }
    result
} }
