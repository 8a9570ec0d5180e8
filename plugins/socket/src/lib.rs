//! Plugin socket: Unix socket pairs inside the process.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

use zap_plugin::{Description, Plugin, Refusal, RestoreContext, SaveContext};

/// The plugin.
pub struct Socket;

impl Plugin for Socket {
    fn name(&self) -> &'static str {
        "socket"
    }

    fn claims(&self, _description: &Description) -> bool {
        false
    }

    fn save(&self, _context: &mut SaveContext<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn restore(&self, _context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}
