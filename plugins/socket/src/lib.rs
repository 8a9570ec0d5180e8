//! Plugin socket: conversations inside the pod.
//!
//! Unix sockets are saved with what is in flight and made again: pairs whose both ends are in the pod (or whose other end
//! is closed), those that are not connected yet, and those with a name, which listen, have been accepted, or have called.
//! Every other socket is refused by name.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

mod diag;
mod named;
mod names;
mod pairs;
mod plan;
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
        named::object(description).or_else(|| pairs::object(description))
    }

    fn note(&self, description: &Description) -> Result<Option<Vec<u8>>, Refusal> {
        named::note(description)
    }

    fn carries(&self, description: &Description) -> Result<bool, Refusal> {
        Ok(!named::listens(description) && pairs::carries(description)?)
    }

    fn copy_carried(&self, description: &Description) -> Result<Vec<Vec<RawFd>>, Refusal> {
        pairs::copy_carried(description)
    }

    fn save(&self, context: &mut SaveContext<'_>) -> Result<(), Refusal> {
        let (named, others): (Vec<&Description>, Vec<_>) =
            context.claimed.iter().copied().partition(|one| named::is_named(one));
        let left = named::save(&named, context)?;
        pairs::save(&others, left, context)
    }

    fn restore(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        // What others wait for comes first.
        named::make(context)?;
        pairs::restore(context)?;
        unconnected::restore(context)?;
        named::take(context)
    }

    fn refill(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        pairs::refill_carrying(context)?;
        named::refill_carrying(context)
    }
}
