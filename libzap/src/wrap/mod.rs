//! The wrapped libc functions, one file for each family.
//!
//! A wrapper is four beats: guard, dispatch, the real function, translation back. It keeps errno, holds nothing across
//! a call that can block (cancellation and siglongjmp skip destructors), and speaks C: return value and errno are the
//! manual page's. `dlsym` is never wrapped: its result depends on the caller. Nor do `dlopen` and `dlmopen` return here.
//!
//! # Safety
//! Every wrapper has its libc function's contract; its callers owe what they would owe libc.
#![allow(unsafe_code)]

mod aio;
mod blocking;
mod clocks;
mod credentials;
mod deadlines;
mod exec;
mod exec_target;
mod file_numbers;
mod file_walks;
mod fork;
mod helper_threads;
mod ids;
mod jump;
pub mod loader;
mod memory;
mod more_ids;
mod mutex;
mod private_paths;
mod private_programs;
mod proc_contents;
mod proc_listing;
mod proc_paths;
mod pthread;
mod sandbox;
mod set_users;
mod shell;
mod signals;
mod socket_names;
mod syscall;
mod temporary_files;
mod terminal_names;
mod transfer;
mod wait;
mod watches;
mod working_directory;

use core::ffi::{c_int, c_void, CStr};

/// Finds every real function now, before any code of the program runs: later, the look-up could find the loader's lock
/// held by a thread that stands still.
pub fn resolve() {
    blocking::resolve();
    blocking::resolve_newer();
    clocks::resolve();
    credentials::resolve();
    deadlines::resolve();
    deadlines::learn_conditions();
    exec::resolve();
    exec::note_own_path();
    file_numbers::resolve();
    file_walks::resolve();
    fork::resolve();
    helper_threads::resolve();
    fork::resolve_newer();
    ids::resolve();
    jump::resolve();
    loader::resolve();
    memory::resolve();
    more_ids::resolve();
    mutex::resolve();
    private_paths::resolve();
    proc_listing::resolve();
    proc_paths::resolve();
    pthread::resolve();
    sandbox::resolve();
    set_users::resolve();
    shell::resolve();
    signals::resolve();
    socket_names::resolve();
    syscall::resolve();
    temporary_files::resolve();
    terminal_names::resolve();
    transfer::resolve();
    wait::resolve();
    watches::resolve();
    working_directory::resolve();
}

/// The next definition of `name` after this library, or null where this libc has none.
pub fn optional(name: &CStr) -> *mut c_void {
    // SAFETY: a plain look-up at init.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// Whether the caller's argument can be looked at. Where libc does not look itself the answer to a bad pointer is EFAULT,
/// the kernel's, and no signal: it is passed on as it is.
#[inline(always)]
fn readable<T>(argument: *const T) -> bool {
    zap_sys::mem::is_readable(argument as u64, core::mem::size_of::<T>())
}

/// Sets errno and returns -1: how a libc function fails.
fn fail(errno: c_int) -> c_int {
    // SAFETY: errno's address is valid in every thread.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// The next function of this name ([`zap_engine::next`]), for which `missing` stands in from inside a look-up.
macro_rules! next_of {
    ($name:ident, $missing:ident) => {{
        const NAME: &core::ffi::CStr =
            match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => c"",
            };
        zap_engine::next::Next::new(NAME, || $missing as *const () as usize)
    }};
}
use next_of;

/// Evaluates `real!` of each function once.
macro_rules! resolve_all {
    ($($name:ident),* $(,)?) => {
        /// Finds the real functions of this family.
        pub fn resolve() {
            $( let _ = redhook::real!($name); )*
        }
    };
}
use resolve_all;
