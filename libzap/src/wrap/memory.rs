//! madvise and mremap: not wrapped by name, since libc calls its own from inside; the engine redirects libc's functions
//! to these in a process that has memory mapped from an image. See `zap_engine::image_backed`.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use zap_engine::image_backed::{self, Detour};

/// Finds libc's functions.
pub fn resolve() {
    let (madvise, mremap) = (super::optional(c"madvise"), super::optional(c"mremap"));
    if !madvise.is_null() && !mremap.is_null() {
        image_backed::register([
            Detour { function: madvise as u64, replacement: zap_madvise as *const () as u64 },
            Detour { function: mremap as u64, replacement: zap_mremap as *const () as u64 },
        ]);
    }
}

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
