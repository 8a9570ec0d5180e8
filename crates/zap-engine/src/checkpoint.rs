//! The leader's road: from suspension to release, phase by phase, at the coordinator's word.
//!
//! Whatever goes wrong here ends with the program running as if nothing had happened. Only the leader thread runs; no
//! libc, no panic.

use crate::agent::{on_wire, Agent};
use crate::collected::{collect, Saved, Saving};
use crate::fault;
use crate::frozen_copy::{self, NotForked};
use crate::halted;
use crate::in_place;
use crate::registry;
use crate::restart;
use crate::shared;
use crate::state::{self, Owned};
use crate::{aio, attributes, breakdown, credentials, descriptors, huge_pages, suspend};
use alloc::vec::Vec;
use zap_plugin::{Mode, Refusal};
use zap_sys::{fd, libc, RawFd};
use zap_wire::message::{Note, SaveOrder};
use zap_wire::{fault as faults, FromCoordinator, Phase, ToCoordinator};

/// How far the leader has come, for [`clean_up`].
struct Road {
    /// The SIGCONT that has let a stopped process come here is taken back.
    continuation_taken: bool,
    /// The coordinator has heard the last word.
    told: bool,
}

static ROAD: Owned<Road> = Owned::new(Road { continuation_taken: false, told: false });

/// After a panic on the leader's road: puts back what it had in hand, and tells the coordinator. The caller releases the
/// program.
pub fn clean_up() {
    crate::arena::drop_scratch();
    let (taken, told) = ROAD.with(|road| (road.continuation_taken, road.told));
    if !taken {
        suspend::take_continuation();
    }
    crate::stragglers::forbid_tracing();
    shared::clean_up();
    frozen_copy::clean_up();
    attributes::adopt_again();
    crate::arena::drop_large();
    let refusal = breakdown::refusal().unwrap_or_else(|| Refusal::new("image", "there is no memory to write it with"));
    match crate::agent::left_open() {
        Some(agent) => {
            if agent.say(&ToCoordinator::Refused { phase: Phase::Save, refusal: on_wire(refusal) }).is_ok() {
                agent.await_abandon();
            }
            agent.close();
        }
        None if !told => refuse_beside(refusal),
        None => {}
    }
    zap_sys::opened::close_left();
    descriptors::forget_copies();
    credentials::close_again();
    attributes::give_room_back();
    // They stop when the coordinator has heard.
    halted::settle();
}

/// Leads one checkpoint. The calling thread's signal frame is at `context`. Returns with every thread still suspended;
/// the caller releases them.
pub fn lead(context: u64) {
    let begun = zap_sys::time::monotonic_ns();
    ROAD.with(|road| {
        road.continuation_taken = false;
        road.told = false;
    });
    let suspended = breakdown::refusal().map_or_else(|| suspend::suspend_others(context), Err);
    ROAD.with(|road| road.continuation_taken = true);
    suspend::take_continuation();
    let threads = match suspended {
        Ok(threads) => threads,
        Err(refusal) => return refuse_beside(refusal),
    };
    zap_sys::opened::note(true);
    crate::arena::note_large(true);
    fault::point(faults::PROGRAM_SUSPENDED);
    attributes::make_room();
    credentials::open_up();
    lead_suspended(threads, begun);
    halted::settle();
    attributes::adopt_again();
    credentials::close_again();
    attributes::give_room_back();
    fault::point(faults::PROGRAM_RESUMING);
    note_nothing();
    crate::signals::let_ignored_go();
}

/// As [`lead`], with all `threads` suspended.
fn lead_suspended(threads: u32, begun: u64) {
    let agent = match Agent::connect() {
        Ok(agent) => agent,
        Err(error) => {
            tell_trouble(error.errno.0);
            note_nothing();
            return;
        }
    };
    match converse(&agent, threads, begun) {
        Ok(Saved::Here) => agent.close(),
        // Another process, in which the connection's number means nothing. Does not come back.
        Ok(Saved::Restarted) => restart::go_on(),
        Err(_) => agent.close(),
    }
    descriptors::drop_copies();
    ROAD.with(|road| road.told = true);
    registry::plugins().iter().rev().for_each(|plugin| {
        fault::point(faults::PLUGINS_RESUMING);
        plugin.resume(Mode::Resume);
    });
}

/// What is opened from here on stays.
fn note_nothing() {
    zap_sys::opened::note(false);
    crate::arena::note_large(false);
}

/// Leaves an error number where the coordinator looks for one.
fn tell_trouble(errno: i32) {
    if let Some(entry) = state::agents_entry() {
        entry.trouble.store(errno as u16, core::sync::atomic::Ordering::Release);
    }
}

/// Says why not every thread stands. Those that do not may close or use any descriptor: the connection is a helper's,
/// and nothing of it is in the program.
fn refuse_beside(refusal: Refusal) {
    fn say(refusal: &mut Option<Refusal>) {
        let Some(refusal) = refusal.take() else { return };
        let agent = match Agent::connect() {
            Ok(agent) => agent,
            Err(error) => return tell_trouble(error.errno.0),
        };
        // The coordinator knows the helper by its parent, and must find it alive: it is to answer.
        let message = ToCoordinator::Refused { phase: Phase::Suspend, refusal: on_wire(refusal) };
        if agent.say(&message).is_ok() {
            agent.await_abandon();
        }
        agent.close();
    }
    if !crate::beside::run(&mut Some(refusal), say) {
        tell_trouble(libc::EAGAIN);
    }
}

/// Says and does what the coordinator asks until it says Resume, or until anything fails.
fn converse(agent: &Agent, threads: u32, begun: u64) -> Result<Saved, Refusal> {
    // One whose checkpoint ended before anybody watched it is nobody's affair any more.
    frozen_copy::forget();
    halted::note();
    let table_id = state::agents_table().map_or(0, |table| table.pod_id.load(core::sync::atomic::Ordering::Relaxed));
    agent.say(&ToCoordinator::Suspended { pod_id: table_id, virtual_pid: state::virtual_pid().0, threads })?;
    loop {
        frozen_copy::watch(agent)?;
        let (message, given) = agent.hear()?;
        let FromCoordinator::Proceed { phase } = message else {
            given.close();
            return Ok(Saved::Here);
        };
        let result = match (phase, given.0) {
            (Phase::Drain, _) => {
                let result = drain(agent).map(|()| Saved::Here);
                fault::point(faults::PROGRAM_DRAINED);
                result
            }
            (Phase::Save, [Some(image), Some(order)]) => match read_order(order) {
                Ok(order) => save_process(agent, &order, image),
                Err(refusal) => {
                    let _ = fd::close(image);
                    Err(refusal)
                }
            },
            (Phase::Save, _) => {
                given.close();
                Err(Refusal::new("coordinator", "sent no image to save to"))
            }
            (Phase::Refill, _) => {
                fault::point(faults::PROGRAM_REFILLING);
                // Before any process runs, which might wait for the end of a pipe, or end.
                descriptors::drop_copies();
                attributes::adopt_again();
                Ok(Saved::Here)
            }
            (Phase::Suspend | Phase::Resume, _) => Ok(Saved::Here),
        };
        if phase != Phase::Save {
            given.close();
        }
        match result {
            Ok(Saved::Restarted) => return Ok(Saved::Restarted),
            Ok(Saved::Here) => {
                let stop_ns = zap_sys::time::monotonic_ns().saturating_sub(begun);
                agent.say(&ToCoordinator::Reached { phase, stop_ns })?;
            }
            Err(refusal) => agent.say(&ToCoordinator::Refused { phase, refusal: on_wire(refusal) })?,
        }
        if phase == Phase::Resume {
            return Ok(Saved::Here);
        }
    }
}

/// Descriptions, or stretches of memory, in one message: it stays far below its limit.
const AT_ONCE: usize = 1000;

/// Bytes of notes, which may have paths in them, and whoever waits at a listener.
const BYTES_AT_ONCE: usize = zap_wire::LONGEST_MESSAGE / 2;
/// What a note has at most beside its bytes.
const NOTE_HEAD: usize = 16;

/// The order to save, from the file in which it came.
fn read_order(file: RawFd) -> Result<SaveOrder, Refusal> {
    let refusal = |error| Refusal::new("order to save", error);
    let read = || {
        let length = fd::fstat(file).map_err(refusal)?.st_size as usize;
        if length > zap_wire::LONGEST_ORDER {
            return Err(Refusal::new("order to save", "too long"));
        }
        let mut bytes = alloc::vec![0u8; length];
        fd::seek(file, 0, libc::SEEK_SET).map_err(refusal)?;
        let count = fd::read_full(file, &mut bytes).map_err(refusal)?;
        zap_wire::decode(&bytes[..count]).map_err(|why| Refusal::new("order to save", why))
    };
    let order = read();
    let _ = fd::close(file);
    order
}

/// Names of files, each of which is a path.
const NAMES_AT_ONCE: usize = 20;

/// Tells the coordinator what other processes may have too.
fn drain(agent: &Agent) -> Result<(), Refusal> {
    // All that were stopped have been continued.
    halted::hush();
    attributes::adopt_nobody();
    aio::settle()?;
    let (seen, notes) = descriptors::find(&[agent.socket()])?;
    let shared::Found { memory, names } = shared::find()?;
    let bytes = huge_pages::find()?;
    if bytes > 0 {
        agent.say(&ToCoordinator::Copying { bytes, limits: crate::room::limits() })?;
    }
    names.chunks(NAMES_AT_ONCE).try_for_each(|part| agent.say(&ToCoordinator::Names { files: part.to_vec() }))?;
    let say = |descriptions, memory, notes| agent.say(&ToCoordinator::Open { descriptions, memory, notes });
    seen.chunks(AT_ONCE).try_for_each(|part| say(part.to_vec(), Vec::new(), Vec::new()))?;
    memory.chunks(AT_ONCE).try_for_each(|part| say(Vec::new(), part.to_vec(), Vec::new()))?;
    let mut notes = notes.into_iter().peekable();
    while notes.peek().is_some() {
        let mut bytes = 0;
        // One that is longer by itself goes alone.
        let fits = |note: &Note| {
            let is_first = bytes == 0;
            bytes += note.bytes.len() + NOTE_HEAD;
            is_first || bytes <= BYTES_AT_ONCE
        };
        let part = core::iter::from_fn({
            let (notes, mut fits) = (&mut notes, fits);
            move || notes.next_if(|note| fits(note))
        });
        let part = part.collect();
        say(Vec::new(), Vec::new(), part)?;
    }
    Ok(())
}

/// Collects the process's state and has a frozen copy write it, or where none can be made the leader itself.
fn save_process(agent: &Agent, order: &SaveOrder, image: RawFd) -> Result<Saved, Refusal> {
    let collected = collect(order);
    let result = collected.and_then(|aside| {
        let saving = Saving { agent, order, image, aside: &aside };
        let result = match frozen_copy::fork(&saving) {
            Err(NotForked::NoProcess) => in_place::write(&saving),
            Err(NotForked::Refused(refusal)) => Err(refusal),
            Ok(saved) => Ok(saved),
        };
        // In a restarted process they are not there: they were no part of the image.
        if !matches!(result, Ok(Saved::Restarted)) {
            shared::drop_copies(&aside.copies);
        }
        result
    });
    if !matches!(result, Ok(Saved::Restarted)) {
        let _ = fd::close(image);
        fault::point(faults::PROGRAM_SAVED);
    }
    result
}
