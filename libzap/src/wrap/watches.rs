//! inotify(7): inotify_add_watch, of which the kernel does not tell the path (see `zap_engine::watched`), and reads of events that
//! had waited at a checkpoint (see `zap_plugin_fs::unread`).
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::private_paths::Own;
use core::ffi::{c_char, c_int, c_void, CStr};
use libc::{iovec, ssize_t};
use redhook::{hook, real};
use zap_engine::private_paths::Last;
use zap_engine::{masking, state, watched};
use zap_plugin_fs::unread::{self, Handed};

super::resolve_all!(inotify_add_watch);

hook! { unsafe fn inotify_add_watch(fd: c_int, path: *const c_char, mask: u32) -> c_int => zap_inotify_add_watch {
    let mut own = Own::new();
    let last = if mask & libc::IN_DONT_FOLLOW == 0 { Last::Followed } else { Last::Kept };
    let path = match own.of(path, last) {
        Ok(path) => path,
        Err(errno) => return super::fail(errno),
    };
    // SAFETY: the caller's arguments.
    let number = unsafe { real!(inotify_add_watch)(fd, path, mask) };
    if number >= 0 && state::active() {
        // SAFETY: the kernel has just read it.
        watched::note(unsafe { CStr::from_ptr(path) }, mask & libc::IN_DONT_FOLLOW == 0);
    }
    number
} }

/// After a read from `fd` of at most `length` bytes into `buffer`: events in the place of what stands for them. `again` makes the
/// call again, where there were none.
#[inline(always)]
pub fn with_kept(
    fd: c_int,
    buffer: *mut c_void,
    length: usize,
    result: ssize_t,
    again: impl Fn() -> ssize_t,
) -> ssize_t {
    if unread::is_any() && result > 0 {
        return kept(fd, &[iovec { iov_base: buffer, iov_len: length }], result, again);
    }
    result
}

/// As [`with_kept`], for a list of buffers.
///
/// # Safety
/// The kernel has read the list if there is a result.
#[inline(always)]
pub unsafe fn with_kept_in_parts(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    result: ssize_t,
    again: impl Fn() -> ssize_t,
) -> ssize_t {
    if unread::is_any() && result > 0 {
        // SAFETY: the caller's promise.
        let parts = unsafe { core::slice::from_raw_parts(parts, count as usize) };
        return kept(fd, parts, result, again);
    }
    result
}

#[cold]
fn kept(fd: c_int, parts: &[iovec], mut result: ssize_t, again: impl Fn() -> ssize_t) -> ssize_t {
    while result > 0 {
        // SAFETY: the caller's buffers, into which the kernel has just written.
        match masking::undisturbed(|_| unsafe { unread::hand_over(fd, parts, result as usize) }) {
            Handed::Bytes(length) => return length as ssize_t,
            Handed::NoRoom => return super::fail(libc::EINVAL) as ssize_t,
            Handed::Nothing => result = again(),
        }
    }
    result
}
