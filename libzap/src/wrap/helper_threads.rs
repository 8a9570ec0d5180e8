//! Functions of libc that work by threads of libc's own. The first thread of all would be one of those: libc would set its
//! handler for the number of Zap's signal, and nobody would see it. So another is made before.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_void;
use libc::{c_int, sigevent, timer_t};
use redhook::{hook, real};
use zap_engine::{clocks, libcs_signal, state, timer_helper};

macro_rules! with_threads {
    ($($name:ident($($argument:ident: $type:ty),*) $hooked:ident if $needs:expr;)*) => {
        super::resolve_all!($($name),*);
        $(
            hook! { unsafe fn $name($($argument: $type),*) -> c_int => $hooked {
                let needs_thread: fn($($type),*) -> bool = $needs;
                if libcs_signal::is_before_first_thread() && needs_thread($($argument),*) {
                    super::pthread::make_first();
                }
                // SAFETY: the caller's arguments.
                unsafe { real!($name)($($argument),*) }
            } }
        )*
    };
}

/// Whether a thread of libc's will tell of the event.
pub fn tells_by_thread(event: *const sigevent) -> bool {
    const SIGEV_THREAD: c_int = 2;
    // SAFETY: it can be read.
    !event.is_null() && super::readable(event) && unsafe { (*event).sigev_notify } == SIGEV_THREAD
}

/// Whether the event's signal is for one thread, also one of libc's.
pub fn is_for_thread(event: *const sigevent) -> bool {
    // SAFETY: it can be read.
    tells_by_thread(event)
        || !event.is_null() && super::readable(event) && unsafe { (*event).sigev_notify } == libc::SIGEV_THREAD_ID
}

/// Makes a timer of which a thread of libc's will tell, by `call`, which stores it in `timer`.
///
/// No section guards the call, since libc waits for locks of its own in it: whoever has them may stand already. A restart in
/// the middle, when libc has read its thread's old id, makes the call fail, and it is made again with the new one.
pub fn make_timer(timer: *const timer_t, call: impl Fn() -> c_int) -> c_int {
    if libcs_signal::is_before_first_thread() {
        super::pthread::make_first();
    }
    loop {
        let generation = clocks::generation();
        let result = call();
        if result == 0 && state::active() && !timer_helper::is_known() {
            // SAFETY: libc has stored it.
            let id = unsafe { super::deadlines::kernel_timer(*timer) };
            let (segments, count) = super::loader::writable_segments(super::more_ids::timers_library());
            timer_helper::learn(id, &segments[..count]);
        }
        // SAFETY: errno's address is valid in every thread.
        if result == 0 || generation == clocks::generation() || unsafe { *libc::__errno_location() } != libc::EINVAL {
            return result;
        }
    }
}

with_threads! {
    mq_notify(queue: c_int, event: *const sigevent) zap_mq_notify if |_, event| tells_by_thread(event);
    aio_read(control: *mut c_void) zap_aio_read if |_| true;
    aio_read64(control: *mut c_void) zap_aio_read64 if |_| true;
    aio_write(control: *mut c_void) zap_aio_write if |_| true;
    aio_write64(control: *mut c_void) zap_aio_write64 if |_| true;
    aio_fsync(operation: c_int, control: *mut c_void) zap_aio_fsync if |_, _| true;
    aio_fsync64(operation: c_int, control: *mut c_void) zap_aio_fsync64 if |_, _| true;
    lio_listio(mode: c_int, list: *const *mut c_void, count: c_int, event: *mut sigevent) zap_lio_listio if |_, _, _, _| true;
    lio_listio64(mode: c_int, list: *const *mut c_void, count: c_int, event: *mut sigevent) zap_lio_listio64
        if |_, _, _, _| true;
    getaddrinfo_a(mode: c_int, list: *mut *mut c_void, count: c_int, event: *mut sigevent) zap_getaddrinfo_a
        if |_, _, _, _| true;
}
