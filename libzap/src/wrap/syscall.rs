//! syscall(2): the ids in its arguments and results, and the number that a restarted call needs.
//!
//! Defined with its full fixed arity: a variadic caller passes the same registers.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::{real_argument, virtual_result};
use libc::{c_long, pid_t};
use redhook::{hook, real};
use zap_engine::{blocking, state};

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
    if state::moved() {
        let real = |id: c_long| c_long::from(real_argument(id as pid_t));
        match number {
            libc::SYS_getpid | libc::SYS_gettid => {
                // SAFETY: no arguments.
                let id = unsafe { real!(syscall)(number, 0, 0, 0, 0, 0, 0) };
                return c_long::from(virtual_result(id as pid_t));
            }
            libc::SYS_kill | libc::SYS_tkill => {
                // SAFETY: no memory is touched.
                return unsafe { real!(syscall)(number, real(a), b, 0, 0, 0, 0) };
            }
            libc::SYS_tgkill => {
                // SAFETY: no memory is touched.
                return unsafe { real!(syscall)(number, real(a), real(b), c, 0, 0, 0) };
            }
            _ => {}
        }
    }
    if number == libc::SYS_sigaltstack {
        // SAFETY: the caller's arguments.
        return c_long::from(unsafe { super::signals::alternate_stack(a as *const _, b as *mut _) });
    }
    let noted = state::active() && number == libc::SYS_futex;
    if noted {
        blocking::note(number, 0, 0);
    }
    // SAFETY: the caller's arguments.
    let result = unsafe { real!(syscall)(number, a, b, c, d, e, f) };
    if noted {
        blocking::note_end();
    }
    result
} }
