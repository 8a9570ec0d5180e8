//! Seccomp filters that the program sets, and Landlock domains: from then on Zap leaves it alone, since a filter may end the program for any
//! call that the program itself does not make.
//!
//! The entry in the pod's table says so before the filter is there, so that no coordinator signals the process; a
//! checkpoint that has been asked for is waited for. Then the library becomes inert: its functions do what libc's do,
//! and nothing of Zap is handed to children and new programs. Filters that were there before the program began, a
//! container's, are none of this: Zap works under them. A filter that is set by a system call past libc is seen by the
//! coordinator, in /proc.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::real_argument;
use core::sync::atomic::Ordering;
use libc::{c_int, c_long, c_ulong};
use redhook::{hook, real};
use zap_engine::{own_ids, state, suspend};
use zap_wire::table::{CLOSED, READY};

super::resolve_all!(prctl);

/// How long a checkpoint that was asked for may take to come: a coordinator that has died signals no more.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Whether seccomp(2) with these arguments confines the caller.
pub fn confines(operation: c_long) -> bool {
    operation == c_long::from(libc::SECCOMP_SET_MODE_STRICT) || operation == c_long::from(libc::SECCOMP_SET_MODE_FILTER)
}

/// Sets a filter by `call`, whose result is negative, or the id of a thread that cannot take the filter, if it fails.
pub fn confine(call: impl FnOnce() -> c_long, returns_descriptor: bool) -> c_long {
    // A vfork child shares this memory, and confines nobody but itself.
    let own = state::active() && zap_sys::process::getpid() == state::real_pid();
    if !own {
        return call();
    }
    own_ids::stop_mapping();
    close();
    let result = call();
    if result == 0 || (result > 0 && returns_descriptor) {
        state::set_signal(0);
    } else if let Some(entry) = state::entry() {
        entry.ready.store(READY, Ordering::Release);
    }
    result
}

/// Says that the process must not be signalled any more, and waits until nobody has meant to.
fn close() {
    let begun = zap_sys::time::monotonic_ns();
    loop {
        // Looked up each time: after a restart it is another one.
        let Some(entry) = state::entry() else { return };
        entry.ready.swap(CLOSED, Ordering::SeqCst);
        let asked = entry.requested.load(Ordering::SeqCst) != entry.answered.load(Ordering::SeqCst);
        drop(entry);
        let waited = zap_sys::time::monotonic_ns().saturating_sub(begun);
        if (!asked && suspend::current() == 0) || waited > PATIENCE_NS {
            return;
        }
        zap_sys::time::sleep_ns(1_000_000);
    }
}

hook! { unsafe fn prctl(option: c_int, a: c_ulong, b: c_ulong, c: c_ulong, d: c_ulong) -> c_int => zap_prctl {
    if option == libc::PR_SET_PTRACER {
        // 0 is nobody, -1 anybody.
        let real = if (1..=i32::MAX as c_ulong).contains(&a) { real_argument(a as c_int) as c_ulong } else { a };
        // SAFETY: no memory is touched.
        let result = unsafe { real!(prctl)(option, real, b, c, d) };
        if result == 0 {
            state::set_tracer(real as usize);
        }
        return result;
    }
    // SAFETY: the caller's arguments; registers that a variadic caller has not set are not looked at.
    let call = || unsafe { real!(prctl)(option, a, b, c, d) };
    if option == libc::PR_SET_SECCOMP {
        return confine(|| c_long::from(call()), false) as c_int;
    }
    call()
} }
