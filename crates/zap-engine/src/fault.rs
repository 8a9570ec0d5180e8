//! Places where a test makes the process stop itself, or panic: see `zap_wire::fault`.

use crate::{guard, state, suspend};
use core::sync::atomic::Ordering;
use zap_wire::fault::Fault;

/// Stops the whole process (SIGSTOP), or panics, when `ZAP_FAULT` named this place; the first time only.
#[inline]
pub fn point(name: &'static str) {
    if state::fault_is_armed() {
        reach(name);
    }
}

/// As [`point`], in code that threads of the program run too: only on the agent's road.
#[inline]
pub fn in_agent(name: &'static str) {
    if state::fault_is_armed() && guard::block().way_back.load(Ordering::Relaxed) != 0 {
        reach(name);
    }
}

/// Whether the system call here is to fail, as `ZAP_FAULT` says.
pub fn refuses(name: &'static str) -> bool {
    state::is_refused(name)
}

#[cold]
fn reach(name: &'static str) {
    match state::take_fault(name, suspend::current()) {
        Some(Fault::Stop(_)) => {
            let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, zap_sys::libc::SIGSTOP);
        }
        Some(Fault::Panic { place, .. }) => panic!("asked for at {place}"),
        Some(Fault::Refuse(_)) | None => {}
    }
}
