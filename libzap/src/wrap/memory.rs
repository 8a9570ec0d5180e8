//! mlockall, of which the kernel does not tell what it says of mappings to come; and madvise and mremap: not wrapped by name, since libc calls its own from inside; the engine redirects libc's functions
//! to these in a process that has memory mapped from an image. See `zap_engine::image_backed`.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use redhook::{hook, real};
use zap_engine::image_backed::{self, Detour};
use zap_engine::state;

/// Finds libc's functions.
pub fn resolve() {
    let _ = (real!(mlockall), real!(munlockall));
    let (madvise, mremap) = (super::optional(c"madvise"), super::optional(c"mremap"));
    if !madvise.is_null() && !mremap.is_null() {
        image_backed::register([
            Detour { function: madvise as u64, replacement: zap_madvise as *const () as u64 },
            Detour { function: mremap as u64, replacement: zap_mremap as *const () as u64 },
        ]);
    }
}

hook! { unsafe fn mlockall(flags: c_int) -> c_int => zap_mlockall {
    // SAFETY: the caller's argument.
    let result = unsafe { real!(mlockall)(flags) };
    if result == 0 {
        state::note_lock_all(flags);
    }
    result
} }

hook! { unsafe fn munlockall() -> c_int => zap_munlockall {
    // SAFETY: no arguments.
    let result = unsafe { real!(munlockall)() };
    if result == 0 {
        state::note_lock_all(0);
    }
    result
} }

unsafe extern "C" fn zap_madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int {
    // SAFETY: the caller's arguments.
    match unsafe { image_backed::advise(address as u64, length as u64, advice) } {
        Ok(()) => 0,
        Err(error) => super::fail(error.errno.0),
    }
}

/// Variadic in libc; the fifth argument is in its register whether it was given or not.
unsafe extern "C" fn zap_mremap(
    old: *mut c_void,
    old_length: usize,
    new_length: usize,
    flags: c_int,
    new: *mut c_void,
) -> *mut c_void {
    // SAFETY: the caller's arguments.
    match unsafe { image_backed::remap(old as u64, old_length as u64, new_length as u64, flags, new as u64) } {
        Ok(address) => address as *mut c_void,
        Err(error) => {
            super::fail(error.errno.0);
            libc::MAP_FAILED
        }
    }
}
