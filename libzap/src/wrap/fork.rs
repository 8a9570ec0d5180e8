//! fork: the child is a process of the pod like any other, and says so in the pod's table.
//!
//! vfork needs no wrapper: its child shares memory with the parent, and must not write to it.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use libc::pid_t;
use redhook::{hook, real};
use zap_engine::{init, state};

super::resolve_all!(fork);

hook! { unsafe fn fork() -> pid_t => zap_fork {
    // SAFETY: the caller's call.
    let child = unsafe { real!(fork)() };
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
    child
} }
