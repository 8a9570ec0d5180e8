//! Functions of libc that work by threads of libc's own. The first thread of all may be one of those: libc then sets its handler
//! for the number of Zap's signal, and nobody else sees it.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_void;
use libc::{c_int, sigevent};
use redhook::{hook, real};
use zap_engine::libcs_signal;

macro_rules! with_threads {
    ($($name:ident($($argument:ident: $type:ty),*) $hooked:ident;)*) => {
        super::resolve_all!($($name),*);
        $(
            hook! { unsafe fn $name($($argument: $type),*) -> c_int => $hooked {
                // SAFETY: the caller's arguments.
                let result = unsafe { real!($name)($($argument),*) };
                look_after_first();
                result
            } }
        )*
    };
}

/// After a call that may have made libc's first thread.
#[inline(always)]
pub fn look_after_first() {
    if libcs_signal::is_before_first_thread() {
        libcs_signal::set_again();
    }
}

with_threads! {
    mq_notify(queue: c_int, event: *const sigevent) zap_mq_notify;
    aio_read(control: *mut c_void) zap_aio_read;
    aio_read64(control: *mut c_void) zap_aio_read64;
    aio_write(control: *mut c_void) zap_aio_write;
    aio_write64(control: *mut c_void) zap_aio_write64;
    aio_fsync(operation: c_int, control: *mut c_void) zap_aio_fsync;
    aio_fsync64(operation: c_int, control: *mut c_void) zap_aio_fsync64;
    lio_listio(mode: c_int, list: *const *mut c_void, count: c_int, event: *mut sigevent) zap_lio_listio;
    lio_listio64(mode: c_int, list: *const *mut c_void, count: c_int, event: *mut sigevent) zap_lio_listio64;
    getaddrinfo_a(mode: c_int, list: *mut *mut c_void, count: c_int, event: *mut sigevent) zap_getaddrinfo_a;
}
