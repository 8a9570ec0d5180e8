//! Work in a short-lived process that shares memory and has descriptors of its own: what it opens never appears in the
//! program, though threads of it may be running.
//!
//! The helper has no exit signal, so that only wait(2) with `__WALL` sees it; the caller reaps it at once.
//!
//! # Safety
//! The helper runs below the caller's frame while the caller sleeps; it makes system calls, allocates from the shared
//! arena at most, and ends.
#![allow(unsafe_code)]

use crate::{breakdown, guard};
use core::sync::atomic::Ordering;
use zap_sys::arch::context;
use zap_sys::libc;

struct Call<'a, T> {
    job: &'a mut T,
    work: fn(&mut T),
}

extern "C" fn enter<T>(call: usize) {
    // SAFETY: the address of the caller's value, which lives until this process has ended.
    let call = unsafe { &mut *(call as *mut Call<'_, T>) };
    // Not a copy of them: threads of the program may be running, and what one closes must be closed.
    let _ = zap_sys::fd::leave_shared();
    guard::block().helper.store(zap_sys::process::gettid().0 as u32, Ordering::Relaxed);
    (call.work)(call.job);
}

/// Runs `work(job)` beside the program and waits for its end. False when no helper could be made.
pub fn run<T>(job: &mut T, work: fn(&mut T)) -> bool {
    // The helper is in the program's process group and has its handlers: none may run there too.
    let mask = zap_sys::signal::change_mask(libc::SIG_SETMASK, !0);
    let mut call = Call { job, work };
    // What it opens is not the program's, and what it leaves open by a panic is nobody's.
    let noting = zap_sys::opened::note(false);
    // SAFETY: see the file's head.
    let helper = unsafe { context::run_beside(enter::<T>, core::ptr::from_mut(&mut call) as usize) };
    let ended = (helper > 0).then(|| zap_sys::process::wait(helper as i32, libc::__WALL));
    zap_sys::opened::note(noting);
    guard::block().helper.store(0, Ordering::Relaxed);
    if let Ok(mask) = mask {
        let _ = zap_sys::signal::change_mask(libc::SIG_SETMASK, mask);
    }
    // The thread of a helper that has failed in the agent's work fails with it.
    let failed = matches!(ended, Some(Ok((_, status))) if status >> 8 == breakdown::HELPER_STATUS);
    if failed && guard::block().way_back.load(Ordering::Relaxed) != 0 {
        panic!("a helper has failed");
    }
    helper > 0
}
