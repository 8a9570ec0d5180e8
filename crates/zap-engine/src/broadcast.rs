//! setuid(2) and its kind in a program with threads: libc, or after a restart Zap, has every thread make the call. No suspension
//! begins before all have: a thread that stands cannot, and a restart in the middle would leave some behind.
//!
//! A broadcast and a suspension each look for the other when they have said that they begin.
//!
//! # Safety
//! One word is placed beside others that the child of a fork writes.
#![allow(unsafe_code)]

use crate::{guard, libcs_signal, state, suspend};
use core::sync::atomic::{AtomicU32, Ordering};
use zap_sys::libc;
use zap_sys::signal::{bit, change_mask};

/// Broadcasts under way.
#[link_section = ".zap.child"]
static UNDER_WAY: AtomicU32 = AtomicU32::new(0);

/// Whether one is under way. Asked by a leader that has begun a suspension; it ends that, and is signalled again.
pub fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) != 0
}

/// Does `work`, which has every thread make a call. The program's signals are blocked: no handler of its own may leave the
/// middle of it.
pub fn broadcast<R>(work: impl FnOnce() -> R) -> R {
    let old = change_mask(libc::SIG_BLOCK, !bit(state::signal()) & !bit(libcs_signal::NUMBER));
    give_way();
    loop {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        if suspend::current() == 0 {
            break;
        }
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
        suspend::wait_until_over();
    }
    let result = work();
    if UNDER_WAY.fetch_sub(1, Ordering::SeqCst) == 1 && suspend::is_wanted() {
        // A leader may have given way.
        guard::signal_self();
    }
    if let Ok(old) = old {
        let _ = change_mask(libc::SIG_SETMASK, old);
    }
    result
}

/// Before a broadcast: a suspension that has been asked for comes first. Threads that do nothing but broadcast would keep it out.
fn give_way() {
    const TRIES: u32 = 100;
    const PAUSE_NS: u64 = 50_000;
    for _ in 0..TRIES {
        if !suspend::is_wanted() {
            return;
        }
        // This thread becomes the leader, unless another one's broadcast is under way still.
        guard::signal_self();
        zap_sys::time::sleep_ns(PAUSE_NS);
    }
}

/// In the child of a fork: whoever was at it is not there.
#[inline(always)]
pub fn forget() {
    // A page that is not written is not copied.
    if UNDER_WAY.load(Ordering::Relaxed) != 0 {
        UNDER_WAY.store(0, Ordering::Relaxed);
    }
}
