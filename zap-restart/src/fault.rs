//! Places where a test can make this tool stop itself, or go another way: see `zap_wire::fault`.

use zap_sys::{process, signal};
use zap_wire::environment;
use zap_wire::fault::Fault;

/// Stops the process here if the environment asks for it.
pub fn reach(place: &str) {
    if std::env::var_os(environment::FAULT).is_some_and(|wanted| wanted == place) {
        let _ = signal::kill(process::getpid().0, zap_sys::libc::SIGSTOP);
    }
}

/// Whether what is done at this place is not to be done, as `ZAP_FAULT` says.
pub fn refuses(place: &str) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let wanted = std::env::var_os(environment::FAULT).and_then(|wanted| zap_wire::fault::parse(wanted.as_bytes()));
    matches!(wanted, Some(Fault::Refuse(refused)) if refused == place)
}
