//! libzap_restorer.so: rebuilds a program's memory inside a fresh exec of that program.
//!
//! The loader loads it for `LD_AUDIT` and calls [`la_version`] before any other library is opened and any constructor
//! has run (rtld-audit(7)). From there on nothing of the loader is used: no libc, no thread-local storage, no
//! allocation, no lock. [`take_over`] moves this library's own code into the hole that the plan names; [`rebuild`] then
//! replaces all memory around it and jumps into the frozen copy. Neither decides anything: zap-restart has decided.
//!
//! # Safety
//! The exported names are those that the loader and the compiler look for; each does what its documentation demands.
#![no_std]
#![allow(unsafe_code)]

mod own_image;
mod rebuild;
mod report;
mod take_over;

zap_sys::define_memory_functions!();

/// The loader's first call into an audit library. Never returns when a plan waits.
///
/// Without one somebody has set LD_AUDIT by hand: 0 makes the loader ignore this library.
#[no_mangle]
pub extern "C" fn la_version(_version: u32) -> u32 {
    take_over::take_over();
    0
}

/// A panic is a mistake in this library: there is nothing to go back to.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    report::fail(format_args!("restorer: {info}"))
}

/// The precompiled core library names this function in its unwind tables; nothing here unwinds.
#[no_mangle]
pub extern "C" fn rust_eh_personality() {}
