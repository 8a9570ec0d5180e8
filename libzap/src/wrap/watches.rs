//! inotify_add_watch, of which the kernel does not tell the path: see `zap_engine::watched`.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, CStr};
use redhook::{hook, real};
use zap_engine::{state, watched};

super::resolve_all!(inotify_add_watch);

hook! { unsafe fn inotify_add_watch(fd: c_int, path: *const c_char, mask: u32) -> c_int => zap_inotify_add_watch {
    // SAFETY: the caller's arguments.
    let number = unsafe { real!(inotify_add_watch)(fd, path, mask) };
    if number >= 0 && state::active() {
        // SAFETY: the kernel has just read it.
        watched::note(unsafe { CStr::from_ptr(path) }, mask & libc::IN_DONT_FOLLOW == 0);
    }
    number
} }
