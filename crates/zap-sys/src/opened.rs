//! Descriptors that Zap has open for the moment: noted while a leader works, so that a panic in the middle leaves none.
//!
//! Numbers alone do not tell Zap's descriptors from the program's. One thread notes at a time.

use crate::RawFd;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// More than are ever open at the same time: those that are in flight to the program come to [`MOST_IN_FLIGHT`].
const ROOM: usize = MOST_IN_FLIGHT + 32;

/// Most descriptors in flight to one process that a checkpoint takes in.
pub const MOST_IN_FLIGHT: usize = 256;

static NOTING: AtomicBool = AtomicBool::new(false);
/// Numbers plus one; 0 for a free place.
static OPENED: [AtomicI32; ROOM] = [const { AtomicI32::new(0) }; ROOM];

/// Notes what is opened from now on, or nothing any more. Returns whether it was noted before.
pub fn note(yes: bool) -> bool {
    NOTING.swap(yes, Ordering::Relaxed)
}

/// Forgets what is noted, and notes nothing: in a process that does not have these descriptors.
pub fn forget() {
    note(false);
    OPENED.iter().for_each(|place| place.store(0, Ordering::Relaxed));
}

/// Closes what is open still.
pub fn close_left() {
    note(false);
    for place in &OPENED {
        let number = place.swap(0, Ordering::Relaxed) - 1;
        if number >= 0 {
            let _ = crate::fd::close(number);
        }
    }
}

/// A descriptor has come: hands it on.
pub(crate) fn come(fd: RawFd) -> RawFd {
    if NOTING.load(Ordering::Relaxed) {
        if let Some(place) = OPENED.iter().find(|place| place.load(Ordering::Relaxed) == 0) {
            place.store(fd + 1, Ordering::Relaxed);
        }
    }
    fd
}

/// A descriptor goes.
pub(crate) fn go(fd: RawFd) {
    if NOTING.load(Ordering::Relaxed) {
        if let Some(place) = OPENED.iter().find(|place| place.load(Ordering::Relaxed) == fd + 1) {
            place.store(0, Ordering::Relaxed);
        }
    }
}
