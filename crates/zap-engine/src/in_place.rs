//! Where no frozen copy can be made (a limit of processes, no memory for a fork), the leader writes the image itself, and the
//! program stands still until it is written, or until the coordinator gives it up.
//!
//! What the leader changes meanwhile is its own stack, and memory that is no part of the image.
//!
//! # Safety
//! The memory is saved while a function of this file runs on it; its continuation in another process is a restart.
#![allow(unsafe_code)]

use crate::arena;
use crate::collected::{Saved, Saving};
use crate::memory::{self, Memory};
use zap_plugin::Refusal;
use zap_sys::arch::context::{self, SnapshotContext, RESTARTED};
use zap_sys::{libc, signal};
use zap_wire::ToCoordinator;

struct Writing<'a> {
    saving: &'a Saving<'a>,
    context: SnapshotContext,
    /// Bytes of the image.
    written: Result<u64, Refusal>,
}

/// Writes the image, and tells the coordinator.
pub fn write(saving: &Saving<'_>) -> Result<Saved, Refusal> {
    let written = Err(Refusal::new("image", "was not written"));
    let mut writing = Writing { saving, context: SnapshotContext::default(), written };
    let writing = &raw mut writing;
    // SAFETY: the context is valid, and all other threads are suspended.
    let result = unsafe { context::call_in_snapshot(&raw mut (*writing).context, write_here, writing as usize) };
    if result == RESTARTED {
        arena::forget_scratch();
        return Ok(Saved::Restarted);
    }
    // SAFETY: this frame's own.
    let bytes = unsafe { (*writing).written.clone() }?;
    saving.agent.say(&ToCoordinator::Written { bytes })?;
    Ok(Saved::Here)
}

extern "C" fn write_here(writing: usize) {
    // SAFETY: `write` passes the address of what is alive in its frame, and waits.
    let writing = unsafe { &mut *(writing as *mut Writing<'_>) };
    let &mut Writing { saving, ref context, .. } = writing;
    let too_long = signal::bit(libc::SIGXFSZ);
    let waited = signal::pending() & too_long != 0;
    let written = arena::in_scratch(|| {
        let locked = crate::locked::locked()?;
        let smaps = memory::read_all(c"/proc/thread-self/smaps")?;
        let memory = Memory { smaps: &smaps, aside: saving.aside, kept_out: &[], locked: &locked, is_copy: false };
        saving.write(memory, context)
    });
    // A write beyond the limit of files' lengths, where that is a hard one, is an error and a signal.
    if !waited && signal::pending() & too_long != 0 {
        signal::take_pending(libc::SIGXFSZ);
    }
    writing.written = written;
}
