//! Functions that answer with a path: getcwd(3) and its kin, realpath(3). Where the pod has directories of its own the answer is in
//! its view.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_long, CStr};
use libc::size_t;
use redhook::{hook, real};
use zap_engine::path_rooms::{self, Room};
use zap_engine::private_paths;
use zap_engine::{private, state};
use zap_sys::fd;
use zap_sys::path::PATH_MAX;

super::resolve_all!(
    getcwd,
    getwd,
    get_current_dir_name,
    realpath,
    canonicalize_file_name,
    __getcwd_chk,
    __getwd_chk,
    __realpath_chk,
);

/// What `answer` makes of the working directory in the pod's view. `None` where libc is to find it.
#[cold]
fn with_own<R>(answer: impl FnOnce(&CStr) -> R) -> Option<R> {
    if !state::active() {
        return None;
    }
    path_rooms::with(|Room { host, .. }| {
        let read = |buffer: &mut [u8]| fd::current_directory(buffer).ok().map(|path| path.len());
        let is_own = host.read_by(read) && private::below_store(host.as_bytes()).is_some();
        is_own.then(|| {
            host.see();
            answer(host.as_c_str())
        })
    })
}

/// Copies `path` into `room` bytes at `buffer`, or into memory for the caller. `None` with errno set.
fn give(path: &CStr, buffer: *mut c_char, room: Option<size_t>) -> Option<*mut c_char> {
    let bytes = path.to_bytes_with_nul();
    if room.is_some_and(|room| room < bytes.len()) {
        super::fail(libc::ERANGE);
        return None;
    }
    let place = if buffer.is_null() {
        // SAFETY: the caller frees it.
        unsafe { libc::malloc(room.unwrap_or(bytes.len())).cast() }
    } else {
        buffer
    };
    if place.is_null() {
        super::fail(libc::ENOMEM);
        return None;
    }
    // SAFETY: room for it, as has been seen.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), place.cast(), bytes.len()) };
    Some(place)
}

/// getcwd(3) in the pod's view. `None` where libc is to find it.
#[cold]
fn directory(buffer: *mut c_char, room: size_t) -> Option<*mut c_char> {
    if room == 0 && !buffer.is_null() {
        return None;
    }
    let room = Some(room).filter(|room| *room != 0);
    with_own(|path| give(path, buffer, room).unwrap_or(core::ptr::null_mut()))
}

hook! { unsafe fn getcwd(buffer: *mut c_char, room: size_t) -> *mut c_char => zap_getcwd {
    if private::by_names() {
        if let Some(answer) = directory(buffer, room) {
            return answer;
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(getcwd)(buffer, room) }
} }

hook! { unsafe fn __getcwd_chk(buffer: *mut c_char, size: size_t, room: size_t) -> *mut c_char => zap_getcwd_checked {
    if private::by_names() && size <= room {
        // SAFETY: the caller's arguments.
        return unsafe { zap_getcwd(buffer, size) };
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(__getcwd_chk)(buffer, size, room) }
} }

/// getwd(3) in the pod's view.
#[cold]
fn short_directory(buffer: *mut c_char) -> Option<*mut c_char> {
    directory(buffer, if buffer.is_null() { 0 } else { PATH_MAX })
}

hook! { unsafe fn getwd(buffer: *mut c_char) -> *mut c_char => zap_getwd {
    if private::by_names() && !buffer.is_null() {
        if let Some(answer) = short_directory(buffer) {
            return answer;
        }
    }
    // SAFETY: the caller's argument.
    unsafe { real!(getwd)(buffer) }
} }

hook! { unsafe fn __getwd_chk(buffer: *mut c_char, room: size_t) -> *mut c_char => zap_getwd_checked {
    if private::by_names() && !buffer.is_null() {
        if let Some(answer) = directory(buffer, room.min(PATH_MAX)) {
            return answer;
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(__getwd_chk)(buffer, room) }
} }

/// get_current_dir_name(3): what the variable PWD says, if that is the working directory.
#[cold]
fn named_directory() -> *mut c_char {
    // SAFETY: a constant name; the text is copied before anybody changes it.
    let named = unsafe { libc::getenv(c"PWD".as_ptr()) };
    // SAFETY: all-zero is a valid structure; the calls fill them.
    unsafe {
        let (mut here, mut there): (libc::stat, libc::stat) = core::mem::zeroed();
        if !named.is_null()
            && libc::stat(c".".as_ptr(), &mut here) == 0
            && libc::stat(named, &mut there) == 0
            && (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
        {
            return libc::strdup(named);
        }
        zap_getcwd(core::ptr::null_mut(), 0)
    }
}

hook! { unsafe fn get_current_dir_name() -> *mut c_char => zap_get_current_dir_name {
    if private::by_names() {
        return named_directory();
    }
    // SAFETY: no arguments.
    unsafe { real!(get_current_dir_name)() }
} }

/// getcwd(2) by number: the length with the NUL. `None` where the kernel is to answer.
#[cold]
pub fn by_number([buffer, room, ..]: [c_long; 6]) -> Option<c_long> {
    with_own(|path| {
        let bytes = path.to_bytes_with_nul();
        if (room as usize) < bytes.len() {
            return super::fail(libc::ERANGE).into();
        }
        if !zap_sys::mem::is_writable(buffer as u64, bytes.len()) {
            return super::fail(libc::EFAULT).into();
        }
        // SAFETY: the caller's buffer has room for it.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer as *mut u8, bytes.len()) };
        bytes.len() as c_long
    })
}

/// realpath(3) in the pod's view. `None` where libc is to find it.
#[cold]
fn real_path(path: *const c_char, buffer: *mut c_char) -> Option<*mut c_char> {
    if path.is_null() || !state::active() {
        return None;
    }
    path_rooms::with(|Room { host, rest }| {
        let found = private_paths::find_real(path as usize, host, rest)?;
        host.see();
        if let Err(errno) = found {
            if !buffer.is_null() {
                // As glibc has it: how far it has come.
                let _ = give(host.as_c_str(), buffer, Some(PATH_MAX));
            }
            super::fail(errno);
            return Some(core::ptr::null_mut());
        }
        Some(give(host.as_c_str(), buffer, None).unwrap_or(core::ptr::null_mut()))
    })
}

hook! { unsafe fn realpath(path: *const c_char, buffer: *mut c_char) -> *mut c_char => zap_realpath {
    if private::by_names() {
        if let Some(answer) = real_path(path, buffer) {
            return answer;
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(realpath)(path, buffer) }
} }

hook! { unsafe fn __realpath_chk(path: *const c_char, buffer: *mut c_char, room: size_t) -> *mut c_char
=> zap_realpath_checked {
    if private::by_names() && room >= PATH_MAX {
        // SAFETY: the caller's arguments.
        return unsafe { zap_realpath(path, buffer) };
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(__realpath_chk)(path, buffer, room) }
} }

hook! { unsafe fn canonicalize_file_name(path: *const c_char) -> *mut c_char => zap_canonicalize_file_name {
    if private::by_names() {
        // SAFETY: the caller's argument.
        return unsafe { zap_realpath(path, core::ptr::null_mut()) };
    }
    // SAFETY: the caller's argument.
    unsafe { real!(canonicalize_file_name)(path) }
} }
