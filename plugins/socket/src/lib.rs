//! Plugin socket: conversations inside the pod.
//!
//! Unix socket pairs whose both ends are in the pod (or whose other end is closed) are saved with what is in flight
//! and made again, as are those that are not connected yet. Every other socket is refused by name.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

mod diag;
mod pairs;
mod unconnected;

use alloc::vec::Vec;
use zap_plugin::sys::{libc, net, RawFd};
use zap_plugin::{Description, Plugin, Refusal, RestoreContext, SaveContext};

/// The plugin.
pub struct Socket;

impl Plugin for Socket {
    fn name(&self) -> &'static str {
        "socket"
    }

    fn claims(&self, description: &Description) -> bool {
        description.stream.is_none()
            && description.file_type() == libc::S_IFSOCK
            && net::get_option(description.fd(), libc::SOL_SOCKET, libc::SO_DOMAIN) == Ok(libc::AF_UNIX)
    }

    fn object(&self, description: &Description) -> Option<(u64, u64)> {
        pairs::object(description)
    }

    fn carries(&self, description: &Description) -> Result<bool, Refusal> {
        pairs::carries(description)
    }

    fn copy_carried(&self, description: &Description) -> Result<Vec<Vec<RawFd>>, Refusal> {
        pairs::copy_carried(description)
    }

    fn save(&self, context: &mut SaveContext<'_>) -> Result<(), Refusal> {
        pairs::save(context)
    }

    fn restore(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        pairs::restore(context)?;
        unconnected::restore(context)
    }

    fn refill(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        pairs::refill_carrying(context)
    }
}
