//! Plugin pty: pseudo terminals whose master is in the pod.
//!
//! Saved are number, modes, size, lock, and what waits in both directions: typed lines, a line that is half typed, and what has been
//! printed and not read. A restart makes the pair again with the number that it had, since programs know terminals by their
//! names; where somebody else has that number the pod knows another one by it.
//!
//! Refused by name, too: a pair that is the controlling terminal of a session, one in packet mode, one whose output is stopped, and
//! a slave whose master is outside of the pod. What is typed while nobody of the pod has the slave open, and has never had, is not
//! kept: looking at it would take opening it, which the program sees when it is closed again.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

mod pairs;
mod unread;

use alloc::vec::Vec;
use zap_plugin::sys::libc;
use zap_plugin::{Description, Plugin, Refusal, RestoreContext, SaveContext};

/// The plugin.
pub struct Pty;

/// Device number of /dev/ptmx (devices.txt).
const MULTIPLEXER: (u32, u32) = (5, 2);

/// Major numbers of slaves, of 256 each as far as anybody sees them in a stat structure.
const SLAVES: core::ops::RangeInclusive<u32> = 136..=143;

/// In the place of a device number: no file has it.
const OBJECT: u64 = u64::from_be_bytes(*b"zap-ptys");

fn is_master(description: &Description) -> bool {
    let device = description.stat.st_rdev;
    (libc::major(device), libc::minor(device)) == MULTIPLEXER
}

fn is_slave(description: &Description) -> bool {
    SLAVES.contains(&libc::major(description.stat.st_rdev))
}

impl Plugin for Pty {
    fn name(&self) -> &'static str {
        "pty"
    }

    fn claims(&self, description: &Description) -> bool {
        description.stream.is_none()
            && description.file_type() == libc::S_IFCHR
            && description.status_flags() & libc::O_PATH == 0
            && (is_master(description) || is_slave(description))
    }

    fn object(&self, description: &Description) -> Option<(u64, u64)> {
        if pairs::is_hung_up_slave(description) {
            return None;
        }
        // Not 0: the first pair of a host has that number.
        pairs::number_of(description).ok().map(|number| (OBJECT, u64::from(number) + 1))
    }

    fn note(&self, description: &Description) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(Some([pairs::SLAVE_NOTE, pairs::MASTER_NOTE][usize::from(is_master(description))].to_vec()))
    }

    fn save(&self, context: &mut SaveContext<'_>) -> Result<(), Refusal> {
        pairs::save(context)
    }

    fn restore(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        pairs::restore(context)
    }
}
