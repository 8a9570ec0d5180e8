//! libc's own signal for setuid(2) and its kind (SIGSETXID of glibc), whose number Zap's signal shares unless the user has
//! chosen another.
//!
//! It is the one number that no program needs: libc's functions neither set a handler for it nor block it (sigaction(2) and
//! sigfillset(3) of glibc), and libc leaves it unblocked even in its helper threads, which block all others. libc sends it by
//! tgkill(2), as Zap never does: by that they are told apart. Its handler libc sets when the first thread is made
//! (nptl/pthread_create.c, late_init); then Zap's is set again, see [`first_thread`].
//!
//! # Safety
//! Calls the handler that libc has set, with what the kernel has given for it.
#![allow(unsafe_code)]

use crate::{state, suspend};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zap_sys::libc;
use zap_sys::signal::{bit, KernelAction, SA_RESTORER};
pub use zap_wire::DEFAULT_SIGNAL as NUMBER;

/// The handler that libc has set; 0 and 1 as SIG_DFL and SIG_IGN.
static LIBCS: AtomicU64 = AtomicU64::new(0);

/// Who has taken libc's place, see [`take`]; 0 for nobody.
#[link_section = ".zap.child"]
static TAKER: AtomicU64 = AtomicU64::new(0);

/// libc has made its first thread, and does not set its handler again. A fork keeps it, as libc does.
static FIRST_THREAD_MADE: AtomicBool = AtomicBool::new(false);

fn is_shared() -> bool {
    state::signal() == NUMBER
}

/// `handler` had the number before Zap's.
pub fn displaced(handler: u64) {
    if is_shared() {
        LIBCS.store(handler, Ordering::Release);
    }
}

/// The handler that a program sees which asks the kernel for that of `signal`; `None` where it is not libc's.
pub fn handler(signal: i32) -> Option<&'static AtomicU64> {
    (is_shared() && signal == NUMBER).then_some(&LIBCS)
}

/// Calls libc's handler if the signal is libc's.
pub fn hand_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) -> bool {
    // SAFETY: the kernel's structure in the frame of this signal: the third word is si_code.
    let code = unsafe { (*info.cast::<[i32; 3]>())[2] };
    if signal != NUMBER || code != libc::SI_TKILL {
        return false;
    }
    let handler = match TAKER.load(Ordering::Acquire) {
        0 => LIBCS.load(Ordering::Acquire),
        taker => taker,
    };
    if handler > 1 {
        // SAFETY: libc's handler of this signal, or that of `take`.
        let handler: Handler = unsafe { core::mem::transmute(handler as usize) };
        handler(signal, info, context);
    }
    true
}

type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);

/// Takes libc's place: `handler` is called in every thread that is sent the signal by tgkill(2). Returns what [`give_back`]
/// needs.
pub fn take(handler: Handler) -> zap_sys::Result<KernelAction> {
    let handler = handler as *const () as u64;
    let libcs = zap_sys::signal::get_action(NUMBER)?;
    if !is_shared() {
        let action = KernelAction {
            handler,
            flags: (libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK) as u64 | SA_RESTORER,
            restorer: zap_sys::arch::context::signal_restorer as *const () as u64,
            mask: !bit(state::signal()),
        };
        // SAFETY: the handler is made for any moment.
        unsafe { zap_sys::signal::set_action(NUMBER, &action) }?;
    }
    TAKER.store(handler, Ordering::Release);
    Ok(libcs)
}

/// Gives libc's place back. Nobody sends the signal any more.
pub fn give_back(libcs: &KernelAction) {
    if !is_shared() {
        // SAFETY: what was set before.
        let _ = unsafe { zap_sys::signal::set_action(NUMBER, libcs) };
    }
    TAKER.store(0, Ordering::Release);
}

/// In the child of a fork: whoever had taken libc's place is not there.
#[inline(always)]
pub fn forget() {
    // A page that is not written is not copied.
    if TAKER.load(Ordering::Relaxed) != 0 {
        TAKER.store(0, Ordering::Relaxed);
    }
}

/// Whether libc may be about to make its first thread, and to set its handler.
#[inline(always)]
pub fn is_before_first_thread() -> bool {
    !FIRST_THREAD_MADE.load(Ordering::Relaxed)
}

/// libc has made its first thread, and set its handler: Zap's is set again. Called by that thread or its maker, whoever comes
/// first. What was sent between is lost with libc's; whoever sent it sends it again.
#[cold]
pub fn first_thread() {
    // A vfork child has dispositions of its own, and its parent's memory.
    if is_shared() && zap_sys::process::getpid() == state::real_pid() {
        let _ = suspend::install(NUMBER);
    }
    FIRST_THREAD_MADE.store(true, Ordering::Relaxed);
}
