//! Work in a short-lived process that shares memory and has descriptors of its own: what it opens never appears in the
//! program, though threads of it may be running.
//!
//! The helper has no exit signal, so that only wait(2) with `__WALL` sees it; the caller reaps it at once.
//!
//! # Safety
//! The helper runs below the caller's frame while the caller sleeps; it makes system calls, allocates from the shared
//! arena at most, and ends.
#![allow(unsafe_code)]

use zap_sys::arch::context;
use zap_sys::libc;

struct Call<'a, T> {
    job: &'a mut T,
    work: fn(&mut T),
}

extern "C" fn enter<T>(call: usize) {
    // SAFETY: the address of the caller's value, which lives until this process has ended.
    let call = unsafe { &mut *(call as *mut Call<'_, T>) };
    (call.work)(call.job);
}

/// Runs `work(job)` beside the program and waits for its end. False when no helper could be made.
pub fn run<T>(job: &mut T, work: fn(&mut T)) -> bool {
    // The helper is in the program's process group and has its handlers: none may run there too.
    let mask = zap_sys::signal::change_mask(libc::SIG_SETMASK, !0);
    let mut call = Call { job, work };
    // SAFETY: see the file's head.
    let helper = unsafe { context::run_beside(enter::<T>, core::ptr::from_mut(&mut call) as usize) };
    if helper > 0 {
        let _ = zap_sys::process::wait(helper as i32, libc::__WALL);
    }
    if let Ok(mask) = mask {
        let _ = zap_sys::signal::change_mask(libc::SIG_SETMASK, mask);
    }
    helper > 0
}
