//! Places at which a test makes the coordinator stop itself: see `zap_wire::fault`.

use std::sync::atomic::{AtomicBool, Ordering};
use zap_wire::environment;

/// The one place that the environment names.
#[derive(Debug, Default)]
pub struct Faults {
    name: Option<String>,
    done: AtomicBool,
}

impl Faults {
    /// Reads the environment.
    pub fn from_environment() -> Self {
        Self { name: std::env::var(environment::FAULT).ok(), done: AtomicBool::new(false) }
    }

    /// Stops this process if `name` is the place, once.
    pub fn stop_at(&self, name: &str) {
        if self.name.as_deref() == Some(name) && !self.done.swap(true, Ordering::Relaxed) {
            let _ = zap_sys::signal::kill(zap_sys::process::getpid().0, libc::SIGSTOP);
        }
    }
}
