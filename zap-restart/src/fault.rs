//! Places where a test can make this tool stop itself: see `zap_wire::fault`.

use zap_sys::{process, signal};
use zap_wire::environment;

/// Stops the process here if the environment asks for it.
pub fn reach(place: &str) {
    if std::env::var_os(environment::FAULT).is_some_and(|wanted| wanted == place) {
        let _ = signal::kill(process::getpid().0, zap_sys::libc::SIGSTOP);
    }
}
