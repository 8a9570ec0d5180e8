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
use zap_engine::{children, clocks, init, state};

super::resolve_all!(fork, daemon, forkpty);

/// Forks by `call`; returns what the program is to see.
#[inline]
fn make(call: impl FnOnce() -> pid_t) -> pid_t {
    let generation = clocks::generation();
    let child = call();
    if !state::active() || child < 0 {
        return child;
    }
    if child == 0 {
        init::begin_in_child();
        return 0;
    }
    // A restart between the system call and here has made the child anew, in whose place another may stand.
    if clocks::generation() != generation {
        if let Some(id) = children::known_before(child) {
            return id.0;
        }
    }
    init::note_child(child);
    virtual_result(child)
}

hook! { unsafe fn fork() -> pid_t => zap_fork {
    // SAFETY: the caller's call.
    make(|| unsafe { real!(fork)() })
} }

hook! { unsafe fn forkpty(terminal: *mut c_int, name: *mut c_char, modes: *const termios, size: *const winsize) -> pid_t
=> zap_forkpty {
    // SAFETY: the caller's arguments.
    make(|| unsafe { real!(forkpty)(terminal, name, modes, size) })
} }

hook! { unsafe fn daemon(stay: c_int, keep: c_int) -> c_int => zap_daemon {
    // SAFETY: the caller's arguments. It returns in the child: the parent has ended inside.
    let result = unsafe { real!(daemon)(stay, keep) };
    if state::active() && zap_sys::process::getpid() != state::real_pid() {
        init::note_child(zap_sys::process::getpid().0);
        init::begin_in_child();
    }
    result
} }
