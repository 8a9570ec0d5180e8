//! Signal dispositions and pending signals: read from the kernel at each checkpoint, set again at a restart.
//!
//! Masks and alternate stacks need nothing here: they are in each thread's signal frame, and rt_sigreturn sets them.
//!
//! # Safety
//! What is installed at a restart is what the program had installed, at the same addresses.
#![allow(unsafe_code)]

use crate::state::{self, Owned};
use zap_sys::libc;
use zap_sys::signal::{bit, KernelAction, Mask};

/// Number of signals on Linux.
pub const COUNT: usize = 64;

struct Saved {
    actions: [KernelAction; COUNT],
    pending: Mask,
}

static SAVED: Owned<Saved> = Owned::new(Saved {
    actions: [KernelAction { handler: 0, flags: 0, restorer: 0, mask: 0 }; COUNT],
    pending: 0,
});

fn is_fixed(signal: i32) -> bool {
    signal == libc::SIGKILL || signal == libc::SIGSTOP || signal == state::signal()
}

/// Reads dispositions, and the standard signals that wait for the process as a whole.
pub fn save() {
    SAVED.with(|saved| {
        for signal in 1..=COUNT as i32 {
            saved.actions[signal as usize - 1] = zap_sys::signal::get_action(signal).unwrap_or_default();
        }
        let mut buffer = [0u8; 4096];
        let status = zap_sys::fd::read_file(c"/proc/self/status", &mut buffer).unwrap_or_default();
        let mask = |key: &[u8]| zap_sys::text::field(status, key).map_or(0, |text| zap_sys::text::hex(text).0);
        saved.pending = mask(b"ShdPnd:") & !bit(state::signal());
    });
}

/// Sets dispositions, and makes pending what was. The caller has every signal blocked.
pub fn restore() {
    SAVED.with(|saved| {
        for signal in (1..=COUNT as i32).filter(|signal| !is_fixed(*signal)) {
            // SAFETY: the program's own handler, in the program's own memory.
            let _ = unsafe { zap_sys::signal::set_action(signal, &saved.actions[signal as usize - 1]) };
        }
        for signal in (1..=COUNT as i32).filter(|signal| saved.pending & bit(*signal) != 0) {
            let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, signal);
        }
    });
}

/// Whether `signal` was pending for the process when it was saved.
pub fn was_pending(signal: i32) -> bool {
    SAVED.with(|saved| saved.pending & bit(signal) != 0)
}
