//! Names of pseudo terminals, where those that the program knows are not the kernel's.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::cell::UnsafeCell;
use core::ffi::{c_char, CStr};
use libc::{c_int, size_t};
use redhook::{hook, real};
use zap_engine::terminals::{self, number_in};
use zap_sys::text::SmallString;

super::resolve_all!(ptsname, ptsname_r, __ptsname_r_chk, ttyname, ttyname_r, __ttyname_r_chk);

/// A path of a slave.
pub type Name = SmallString<32>;

fn name(number: u32) -> Name {
    Name::format(format_args!("/dev/pts/{number}"))
}

/// The kernel's path of what the program knows as `path`, if both differ; there is nothing by an empty one.
#[cold]
pub fn real_path(path: &[u8]) -> Option<Name> {
    let number = number_in(path)?;
    match terminals::real_of(number) {
        Some(real) => (real != number).then(|| name(real)),
        None => Some(Name::format(format_args!(""))),
    }
}

/// The program's path of what the kernel knows as `path`, if both differ.
#[cold]
pub fn known_path(path: &[u8]) -> Option<Name> {
    let number = number_in(path)?;
    let known = terminals::virtual_of(number);
    (known != number).then(|| name(known))
}

/// After a function that has put a path into `buffer` of `room` bytes, and has returned the error number `result`.
///
/// # Safety
/// If it has not failed, `buffer` holds a string.
unsafe fn see(result: c_int, buffer: *mut c_char, room: size_t) -> c_int {
    if result != 0 || !terminals::differ() {
        return result;
    }
    // SAFETY: the caller's promise.
    let Some(known) = known_path(unsafe { CStr::from_ptr(buffer) }.to_bytes()) else { return 0 };
    let text = known.as_c_str().to_bytes_with_nul();
    if text.len() > room {
        super::fail(libc::ERANGE);
        return libc::ERANGE;
    }
    // SAFETY: the caller's buffer has so much room.
    unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast(), text.len()) };
    0
}

/// After libc has put a name into `name`, for which it knows no length; null if the caller does not want it.
///
/// # Safety
/// Null, or a string.
pub unsafe fn see_name(name: *mut c_char) {
    if !name.is_null() {
        // SAFETY: the caller's promise. Its room is for any name, or nobody knows how much it is (openpty(3)).
        unsafe { see(0, name, usize::MAX) };
    }
}

// In libutil before glibc 2.34: found when it is called, by a program that has it.
hook! { unsafe fn openpty(
    master: *mut c_int,
    slave: *mut c_int,
    name: *mut c_char,
    modes: *const libc::termios,
    size: *const libc::winsize
) -> c_int => zap_openpty {
    // SAFETY: the caller's arguments.
    let result = unsafe { real!(openpty)(master, slave, name, modes, size) };
    if result == 0 {
        // SAFETY: libc has put a name there, if the caller wants it.
        unsafe { see_name(name) };
    }
    result
} }

/// What a function of libc returns that gives a pointer to memory of its own: the next call changes it, from whatever thread.
struct Own(UnsafeCell<[u8; 32]>);

// SAFETY: as POSIX has it, ptsname(3) and ttyname(3) need not be safe in threads.
unsafe impl Sync for Own {}

impl Own {
    /// # Safety
    /// `found` is null or a string.
    unsafe fn see(&self, found: *mut c_char) -> *mut c_char {
        if found.is_null() || !terminals::differ() {
            return found;
        }
        // SAFETY: the caller's promise.
        let Some(known) = known_path(unsafe { CStr::from_ptr(found) }.to_bytes()) else { return found };
        let text = known.as_c_str().to_bytes_with_nul();
        let place = self.0.get().cast::<u8>();
        // SAFETY: a name has no more than 32 bytes.
        unsafe { core::ptr::copy_nonoverlapping(text.as_ptr(), place, text.len().min(32)) };
        place.cast()
    }
}

static OF_MASTER: Own = Own(UnsafeCell::new([0; 32]));
static OF_TERMINAL: Own = Own(UnsafeCell::new([0; 32]));

hook! { unsafe fn ptsname(fd: c_int) -> *mut c_char => zap_ptsname {
    // SAFETY: the caller's argument.
    unsafe { OF_MASTER.see(real!(ptsname)(fd)) }
} }

hook! { unsafe fn ttyname(fd: c_int) -> *mut c_char => zap_ttyname {
    // SAFETY: the caller's argument.
    unsafe { OF_TERMINAL.see(real!(ttyname)(fd)) }
} }

hook! { unsafe fn ptsname_r(fd: c_int, buffer: *mut c_char, room: size_t) -> c_int => zap_ptsname_r {
    // SAFETY: the caller's arguments.
    unsafe { see(real!(ptsname_r)(fd, buffer, room), buffer, room) }
} }

hook! { unsafe fn __ptsname_r_chk(fd: c_int, buffer: *mut c_char, room: size_t, whole: size_t) -> c_int
=> zap_ptsname_r_checked {
    // SAFETY: the caller's arguments.
    unsafe { see(real!(__ptsname_r_chk)(fd, buffer, room, whole), buffer, room) }
} }

hook! { unsafe fn ttyname_r(fd: c_int, buffer: *mut c_char, room: size_t) -> c_int => zap_ttyname_r {
    // SAFETY: the caller's arguments.
    unsafe { see(real!(ttyname_r)(fd, buffer, room), buffer, room) }
} }

hook! { unsafe fn __ttyname_r_chk(fd: c_int, buffer: *mut c_char, room: size_t, whole: size_t) -> c_int
=> zap_ttyname_r_checked {
    // SAFETY: the caller's arguments.
    unsafe { see(real!(__ttyname_r_chk)(fd, buffer, room, whole), buffer, room) }
} }
