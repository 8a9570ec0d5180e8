//! Work in a short-lived process that shares memory and has an empty table of descriptors: what it opens never appears in
//! the program, though threads of it may be running, and what they close nobody holds.
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
    /// It begins with the program's descriptors, not with copies of them.
    shares: bool,
}

/// Exit status of a helper that could not leave the program's descriptors, and has done nothing.
const NO_TABLE: i32 = breakdown::HELPER_STATUS + 1;

extern "C" fn enter<T>(call: usize) {
    // SAFETY: the address of the caller's value, which lives until this process has ended.
    let call = unsafe { &mut *(call as *mut Call<'_, T>) };
    if call.shares && zap_sys::fd::leave_shared().is_err() {
        zap_sys::process::exit_process(NO_TABLE);
    }
    guard::block().helper.store(zap_sys::process::gettid().0 as u32, Ordering::Relaxed);
    (call.work)(call.job);
}

/// Runs `work(job)` beside the program and waits for its end. False when no helper could be made.
pub fn run<T>(job: &mut T, work: fn(&mut T)) -> bool {
    // The helper is in the program's process group and has its handlers: none may run there too.
    let mask = zap_sys::signal::change_mask(libc::SIG_SETMASK, !0);
    let mut call = Call { job, work, shares: true };
    // What it opens is not the program's, and what it leaves open by a panic is nobody's.
    let noting = zap_sys::opened::note(false);
    let (mut helper, mut ended) = make(&mut call, context::BESIDE | libc::CLONE_FILES);
    if status(&ended) == Some(NO_TABLE) {
        // A filter, or an old kernel. Copies of descriptors hold for a moment what the program closes.
        call.shares = false;
        (helper, ended) = make(&mut call, context::BESIDE);
    }
    zap_sys::opened::note(noting);
    // Nor is its connection.
    crate::agent::forget();
    guard::block().helper.store(0, Ordering::Relaxed);
    if let Ok(mask) = mask {
        let _ = zap_sys::signal::change_mask(libc::SIG_SETMASK, mask);
    }
    // The thread of a helper that has failed in the agent's work fails with it.
    if status(&ended) == Some(breakdown::HELPER_STATUS) && guard::block().way_back.load(Ordering::Relaxed) != 0 {
        panic!("a helper has failed");
    }
    helper > 0
}

/// How a helper ended, if there was one: its wait(2).
type Ended = Option<zap_sys::Result<(zap_sys::RealPid, i32)>>;

/// Makes the helper with these flags of clone(2); returns its id, or a negative errno, and how it ended.
fn make<T>(call: &mut Call<'_, T>, flags: i32) -> (isize, Ended) {
    // SAFETY: see the file's head.
    let helper = unsafe { context::run_beside(enter::<T>, core::ptr::from_mut(call) as usize, flags) };
    (helper, (helper > 0).then(|| zap_sys::process::wait(helper as i32, libc::__WALL)))
}

/// Its exit status, if it has exited.
fn status(ended: &Ended) -> Option<i32> {
    match ended {
        Some(Ok((_, status))) if libc::WIFEXITED(*status) => Some(libc::WEXITSTATUS(*status)),
        _ => None,
    }
}
