//! Where no frozen copy can be made (a limit of processes, no memory for a fork), the leader writes the image itself, and the
//! program stands still until it is written.
//!
//! What the leader changes meanwhile is its own stack, and memory that is no part of the image.
//!
//! # Safety
//! The memory is saved while a function of this file runs on it; its continuation in another process is a restart.
#![allow(unsafe_code)]

use crate::arena;
use crate::collected::{Saved, Task, COLLECTED};
use crate::memory::{self, Memory};
use zap_plugin::Refusal;
use zap_sys::arch::context::{self, SnapshotContext, RESTARTED};
use zap_sys::{fd, SysError};
use zap_wire::ToCoordinator;

/// What the scratch memory must hold in any case, what for each mapping, and for each page in memory, in bytes: several
/// times what the lists take, since nothing is given back there. It may be locked memory, of which there is little.
const ROOM: usize = 2 << 20;
const ROOM_OF_MAPPING: usize = 8 << 10;
const ROOM_OF_PAGE: usize = 64;
/// How often what plugins have saved is held at once: as itself, and in buffers that grow by doubling.
const COPIES: usize = 8;

struct Writing<'a> {
    task: &'a Task<'a>,
    context: SnapshotContext,
    room: usize,
    written: Option<Result<u64, Refusal>>,
}

/// Writes the image, and tells the coordinator. `why`: what came of the fork.
pub fn write(task: &Task<'_>, why: &SysError) -> Result<Saved, Refusal> {
    let mut writing = Writing { task, context: SnapshotContext::default(), room: room()?, written: None };
    let writing = &raw mut writing;
    // SAFETY: the context is valid, and all other threads are suspended.
    let result = unsafe { context::call_in_snapshot(&raw mut (*writing).context, write_here, writing as usize) };
    if result == RESTARTED {
        arena::forget_scratch();
        return Ok(Saved::Restarted);
    }
    // SAFETY: this frame's own.
    let bytes = match unsafe { (*writing).written.take() } {
        Some(written) => written?,
        // That there is none for the list either is a matter of the same cause.
        None => return Err(Refusal::new("frozen copy", why)),
    };
    task.agent.say(&ToCoordinator::Written { bytes })?;
    Ok(Saved::Here)
}

fn room() -> Result<usize, Refusal> {
    let mappings = memory::read_all(c"/proc/thread-self/maps")?.iter().filter(|c| **c == b'\n').count();
    let mut buffer = [0u8; 128];
    let path = c"/proc/thread-self/statm";
    let text = fd::read_file(path, &mut buffer).map_err(|error| Refusal::new("/proc/thread-self/statm", error))?;
    let resident = text.split(|c| *c == b' ').nth(1).map_or(0, |text| zap_sys::text::decimal(text).0 as usize);
    let saved: usize = COLLECTED.with(|collected| collected.sections.iter().map(|section| section.bytes.len()).sum());
    Ok(ROOM + mappings * ROOM_OF_MAPPING + resident * ROOM_OF_PAGE + saved * COPIES)
}

extern "C" fn write_here(writing: usize) {
    // SAFETY: `write` passes the address of what is alive in its frame, and waits.
    let writing = unsafe { &mut *(writing as *mut Writing<'_>) };
    let &mut Writing { task, ref context, room, .. } = writing;
    let written = arena::in_scratch(room, || {
        let locked = crate::locked::locked()?;
        let smaps = memory::read_all(c"/proc/thread-self/smaps")?;
        let memory = Memory { smaps: &smaps, aside: task.aside, kept_out: &[], locked: &locked, is_copy: false };
        task.write(memory, context)
    });
    writing.written = written;
}
