//! Places where a test makes the process stop itself: see `zap_wire::fault`.

use crate::state;

/// Stops the whole process (SIGSTOP) when `ZAP_FAULT` named this place; the first time only.
pub fn point(name: &'static str) {
    if state::take_fault(name) {
        let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, zap_sys::libc::SIGSTOP);
    }
}
