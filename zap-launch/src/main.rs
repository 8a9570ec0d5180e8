//! zap-launch: runs a program in a pod, becoming it by exec.
//!
//! Without Rust's own `main`: its start ignores SIGPIPE and opens closed standard streams, and the program would
//! inherit both.
//!
//! # Safety
//! `main` is the C entry point of the process, defined once; std reads the arguments on its own.
#![no_main]
#![allow(unsafe_code)]

/// The entry point that libc's start code calls.
#[no_mangle]
pub extern "C" fn main(_count: i32, _arguments: *const *const u8) -> i32 {
    zap_launch::launch::run()
}
