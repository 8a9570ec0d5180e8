//! The leader's road: from suspension to release, phase by phase, at the coordinator's word.
//!
//! Whatever goes wrong here ends with the program running as if nothing had happened. Only the leader thread runs; no
//! libc, no panic.
//!
//! # Safety
//! Forks the frozen copy, whose continuation in another process is a restart.
#![allow(unsafe_code)]

use crate::agent::{on_wire, Agent};
use crate::fault;
use crate::memory;
use crate::registry;
use crate::restart;
use crate::shared::{self, SharedCopy};
use crate::state::{self, Owned};
use crate::{
    attributes, breakdown, children, clocks, credentials, descriptors, huge_pages, identity, signals, suspend, timers,
    waits, writer,
};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use zap_image::Region;
use zap_plugin::{Description, Mode, Refusal, SaveContext, SavedSection};
use zap_sys::arch::context::{self, SnapshotContext, RESTARTED};
use zap_sys::{fd, libc, process, RawFd};
use zap_wire::message::{Note, SaveOrder};
use zap_wire::{fault as faults, FromCoordinator, Phase, ToCoordinator};

/// What the leader has collected for the image; kept for the restart that may continue from it.
pub(crate) struct Collected {
    pub sections: Vec<SavedSection>,
}

pub(crate) static COLLECTED: Owned<Collected> = Owned::new(Collected { sections: Vec::new() });

/// How saving ended.
enum Saved {
    /// In the process that was saved.
    Here,
    /// In a new process with its memory.
    Restarted,
}

/// How far the leader has come, for [`clean_up`].
struct Road {
    /// The SIGCONT that has let a stopped process come here is taken back.
    continuation_taken: bool,
    /// The coordinator has heard the last word.
    told: bool,
    /// The program is a subreaper, and has been made none for the moment.
    subreaper: bool,
    /// Memory that the program keeps out of its forks, and that is let through for the moment.
    let_through: Vec<(u64, u64)>,
    /// Memory of huge pages that is kept out of forks for the moment.
    kept_out: Vec<(u64, u64)>,
}

static ROAD: Owned<Road> = Owned::new(Road {
    continuation_taken: false,
    told: false,
    subreaper: false,
    let_through: Vec::new(),
    kept_out: Vec::new(),
});

/// After a panic on the leader's road: puts back what it had in hand, and tells the coordinator. The caller releases the
/// program.
pub fn clean_up() {
    let (taken, told) = ROAD.with(|road| (road.continuation_taken, road.told));
    if !taken {
        suspend::take_continuation();
    }
    crate::stragglers::forbid_tracing();
    shared::clean_up();
    ROAD.with(|road| {
        memory::let_through(&core::mem::take(&mut road.let_through), false);
        memory::let_through(&core::mem::take(&mut road.kept_out), true);
        if core::mem::take(&mut road.subreaper) {
            process::set_subreaper(true);
        }
    });
    crate::arena::drop_large();
    let refusal = breakdown::refusal().unwrap_or_else(|| Refusal::new("libzap", "has failed"));
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
    credentials::close_again();
    attributes::give_room_back();
    fault::point(faults::PROGRAM_RESUMING);
    note_nothing();
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
        entry.trouble.store(errno, core::sync::atomic::Ordering::Release);
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
            let _ = agent.hear();
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
    COPY.store(0, Ordering::Relaxed);
    let table_id = state::agents_table().map_or(0, |table| table.pod_id.load(core::sync::atomic::Ordering::Relaxed));
    agent.say(&ToCoordinator::Suspended { pod_id: table_id, virtual_pid: state::virtual_pid().0, threads })?;
    loop {
        watch_copy(agent)?;
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
                // Before any process runs, which might wait for the end of a pipe.
                descriptors::drop_copies();
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

/// The frozen copy that writes; 0 when none is to be watched.
static COPY: AtomicI32 = AtomicI32::new(0);

/// While the coordinator says nothing because it waits for the image (with --kill): tells it when the copy has ended. It
/// has the same connection as this process, so that its end is no hang-up. What it has said itself came before.
fn watch_copy(agent: &Agent) -> Result<(), Refusal> {
    let copy = COPY.swap(0, Ordering::Relaxed);
    if copy == 0 {
        return Ok(());
    }
    let ended = match fd::open_process(zap_sys::RealPid(copy)) {
        Ok(process) => {
            let ready = fd::wait_for_either(agent.socket(), process);
            let _ = fd::close(process);
            matches!(ready, Ok((false, true)))
        }
        Err(error) => error.is(libc::ESRCH),
    };
    if ended {
        let refusal = Refusal::new("frozen copy", "it has ended before the image was written");
        agent.say(&ToCoordinator::WriteFailed { refusal: on_wire(refusal) })?;
    }
    Ok(())
}

/// Collects the process's state and forks the frozen copy that writes it.
fn save_process(agent: &Agent, order: &SaveOrder, image: RawFd) -> Result<Saved, Refusal> {
    let collected = collect(order);
    let result = collected.and_then(|aside| {
        let result = fork_copy(agent, order, image, &aside);
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

/// What a fork does not freeze, or must not have.
struct Aside {
    /// What has been copied.
    copies: Vec<SharedCopy>,
    /// Regions of huge pages, which are kept out of the frozen copy.
    huge: Vec<Region>,
    /// There are files that the frozen copy would hold open: see [`shared::holds_file`].
    holds_files: bool,
}

fn collect(order: &SaveOrder) -> Result<Aside, Refusal> {
    clocks::stop(order.stopped_ns);
    children::save(&order.members)?;
    identity::save_relations();
    waits::save();
    let descriptions = descriptors::take(&order.shares);
    let owners = descriptors::claim(&descriptions)?;
    let notes: Vec<_> = order.notes.iter().map(|note| (note.object, note.bytes.clone())).collect();
    let mut sections = alloc::vec![descriptors::listed(&descriptions)?];
    for (index, plugin) in registry::plugins().iter().enumerate() {
        let own = descriptions.iter().zip(&owners).filter(|(one, owner)| **owner == index && !one.share.follows);
        let claimed: Vec<&Description> = own.map(|(one, _)| one).collect();
        plugin.save(&mut SaveContext::new(&descriptions, claimed, clocks::since_moment, &notes, &mut sections))?;
        fault::point(faults::SAVING_PLUGINS);
    }
    signals::save()?;
    clocks::save();
    timers::save()?;
    attributes::save()?;
    credentials::save()?;
    COLLECTED.with(|collected| collected.sections = sections);
    let maps = memory::read_all(c"/proc/thread-self/maps")?;
    let huge = huge_pages::take();
    let holds_files = zap_sys::maps::parse(&maps).any(|mapping| shared::holds_file(&mapping));
    let copies = shared::copy_shared(&maps, &order.elsewhere, &huge)?;
    Ok(Aside { copies, huge, holds_files })
}

/// Forks the copy. Memory that the program keeps out of forks (MADV_DONTFORK) is found by what the copy lacks; it is
/// let through for a second fork. Huge pages, which have been copied, are kept out of all.
fn fork_copy(agent: &Agent, order: &SaveOrder, image: RawFd, aside: &Aside) -> Result<Saved, Refusal> {
    let huge = &aside.huge;
    // An orphan goes to the nearest subreaper: the program must not be it while the helper ends.
    let subreaper = process::is_subreaper();
    if subreaper {
        ROAD.with(|road| road.subreaper = true);
        process::set_subreaper(false);
    }
    let huge_ranges: Vec<(u64, u64)> = huge.iter().map(|region| (region.start, region.end)).collect();
    let not_forked = huge_pages::forked(huge);
    ROAD.with(|road| road.kept_out.clone_from(&not_forked));
    let ready = huge_pages::keep_out(&not_forked).and_then(|()| crate::locked::locked());
    let mut comparison = crate::comparison::Comparison::prepare();
    let mut kept_out: Vec<(u64, u64)> = Vec::new();
    let result = loop {
        let gate = match Gate::new(aside.holds_files) {
            Ok(gate) => gate,
            Err(error) => break Err(Refusal::new("frozen copy", error)),
        };
        fault::point(faults::COPY_FORKING);
        let forked = match &ready {
            Ok(locked) => fork_once(&CopyTask { agent, order, image, aside, kept_out: &kept_out, locked, gate: &gate }),
            Err(refusal) => Err(refusal.clone()),
        };
        if !matches!(forked, Ok(Forked::Restarted)) {
            fault::point(faults::COPY_FORKED);
        }
        let missing = match &forked {
            Ok(Forked::Copy(copy)) => comparison
                .as_mut()
                .map_or_else(|refusal| Err(refusal.clone()), |comparison| comparison.missing_in(*copy, &huge_ranges)),
            Ok(Forked::Restarted) => {
                if subreaper {
                    process::set_subreaper(true);
                }
                forget_road();
                return Ok(Saved::Restarted);
            }
            Err(refusal) => Err(refusal.clone()),
        };
        let go = matches!(&missing, Ok(missing) if missing.is_empty() || !kept_out.is_empty());
        gate.open(go);
        match missing {
            Err(refusal) => break Err(refusal),
            Ok(missing) if missing.is_empty() => {
                if let Ok(Forked::Copy(copy)) = forked {
                    COPY.store(copy.0, Ordering::Relaxed);
                }
                break Ok(Saved::Here);
            }
            Ok(missing) if !kept_out.is_empty() => {
                let start = missing.first().map_or(0, |range| range.0);
                break Err(Refusal::new(alloc::format!("memory at {start:x}"), "does not come along in a fork"));
            }
            Ok(missing) => {
                ROAD.with(|road| road.let_through.clone_from(&missing));
                memory::let_through(&missing, true);
                kept_out = missing;
            }
        }
    };
    memory::let_through(&kept_out, false);
    memory::let_through(&not_forked, true);
    if subreaper {
        process::set_subreaper(true);
    }
    forget_road();
    result
}

/// Nothing that the fork has changed is to be put back any more.
fn forget_road() {
    ROAD.with(|road| {
        road.subreaper = false;
        road.let_through.clear();
        road.kept_out.clear();
    });
}

/// The word that lets the frozen copy begin.
const GO: &[u8] = b"g";

/// What the program and its frozen copy say to each other: pipes' read and write ends.
struct Gate {
    /// The copy waits here for [`GO`].
    go: (RawFd, RawFd),
    /// The program waits here until the copy has let go of the files in its memory: where there are any.
    let_go: Option<(RawFd, RawFd)>,
}

impl Gate {
    /// How long the program waits for its copy, in milliseconds: far longer than it takes, but not for ever.
    const PATIENCE: i32 = 5000;

    fn new(holds_files: bool) -> zap_sys::Result<Self> {
        let go = fd::pipe2(libc::O_CLOEXEC)?;
        let let_go = holds_files.then(|| fd::pipe2(libc::O_CLOEXEC)).transpose();
        let_go.inspect_err(|_| close_both(go)).map(|let_go| Self { go, let_go })
    }

    /// In the program, after the fork: lets the copy begin, or end.
    fn open(self, go: bool) {
        let _ = fd::write(self.go.1, if go { GO } else { b"x" });
        close_both(self.go);
        if let Some((read, write)) = self.let_go {
            let _ = fd::close(write);
            // The end of this pipe: the copy has let go, or ended.
            let _ = fd::poll_for(read, libc::POLLIN, Self::PATIENCE);
            let _ = fd::close(read);
        }
    }

    /// In the copy, which has the other ends alone: waits for the word.
    fn pass(&self) -> bool {
        let mut word = [0u8; 1];
        fd::read(self.go.0, &mut word) == Ok(1) && word == GO
    }

    /// In the copy: it has let go.
    fn say_let_go(&self) {
        if let Some((_, write)) = self.let_go {
            let _ = fd::close(write);
        }
    }
}

fn close_both((one, other): (RawFd, RawFd)) {
    let _ = fd::close(one);
    let _ = fd::close(other);
}

/// What came of one fork.
enum Forked {
    /// The frozen copy's process id.
    Copy(zap_sys::RealPid),
    Restarted,
}

fn fork_once(task: &CopyTask<'_>) -> Result<Forked, Refusal> {
    let mut context = SnapshotContext::default();
    let context = &raw mut context;
    let life = CopyLife { task, context };
    // The helper closes what the program has open still.
    let noting = zap_sys::opened::note(false);
    // SAFETY: the context is valid, all other threads are suspended, and what the copy is told outlives it: it is part
    // of it.
    let result = unsafe { context::snapshot(context, leave_files, write_image, &raw const life as usize) };
    zap_sys::opened::note(noting);
    if result == RESTARTED {
        crate::arena::end_scratch();
        return Ok(Forked::Restarted);
    }
    if result > 0 {
        let _ = process::wait(result as i32, libc::__WALL);
    }
    // SAFETY: this frame's own context, which the helper has filled through shared memory.
    let copy = if result < 0 { result as i64 } else { unsafe { (*context).copy } };
    if copy <= 0 {
        return Err(Refusal::new("frozen copy", zap_sys::SysError::new("clone", -copy as i32)));
    }
    Ok(Forked::Copy(zap_sys::RealPid(copy as i32)))
}

/// What the frozen copy is told.
struct CopyTask<'a> {
    agent: &'a Agent,
    order: &'a SaveOrder,
    image: RawFd,
    aside: &'a Aside,
    /// Ranges that the program keeps out of its own forks.
    kept_out: &'a [(u64, u64)],
    /// What it has locked.
    locked: &'a [crate::locked::Locked],
    gate: &'a Gate,
}

/// All that the frozen copy's first function is given.
struct CopyLife<'a> {
    task: &'a CopyTask<'a>,
    context: *const SnapshotContext,
}

/// In the helper that forks the frozen copy, while the program sleeps: what the copy does not need it must not have when
/// the program goes on. A pipe would have no end, a lock would stay, and a file that has just been written could not be
/// executed (ETXTBSY) until the copy came to close it. The file system of the working directory could not be unmounted.
extern "C" fn leave_files(life: usize) {
    // SAFETY: as in `write_image`.
    let &CopyLife { task, .. } = unsafe { &*(life as *const CopyLife<'_>) };
    let let_go = task.gate.let_go.map_or(task.image, |(_, write)| write);
    memory::close_all_but([task.agent.socket(), task.image, task.gate.go.0, let_go]);
    let _ = process::chdir(c"/");
}

/// The frozen copy's whole life.
extern "C" fn write_image(life: usize) -> ! {
    // SAFETY: `fork_once` passes the address of what is alive in its frame, of which this is the copy.
    let &CopyLife { task, context } = unsafe { &*(life as *const CopyLife<'_>) };
    let &CopyTask { agent, order, image, aside, kept_out, locked, gate } = task;
    breakdown::note_copy(true);
    // SAFETY: filled by `snapshot`, and not written any more.
    let context = unsafe { &*context };
    if !gate.pass() {
        process::exit_process(0);
    }
    let has_scratch = crate::arena::begin_scratch();
    // Out of the program's process group: what is typed at the terminal is not for the writer.
    let _ = process::setsid();
    process::set_thread_name(b"zap-writer\0\0\0\0\0\0");
    let written = COLLECTED.with(|collected| {
        if !has_scratch {
            return Err(Refusal::new("frozen copy", "the limit of address space leaves it no memory"));
        }
        let smaps = memory::read_all(c"/proc/thread-self/smaps")?;
        shared::let_go_of_files(&smaps);
        gate.say_let_go();
        writer::write(&writer::Task {
            order,
            sections: &collected.sections,
            smaps: &smaps,
            copies: &aside.copies,
            huge: &aside.huge,
            kept_out,
            locked,
            context,
            mailbox: restart::mailbox_address(),
            image,
        })
    });
    fault::point(faults::WRITER_SAYING);
    let message = match written {
        Ok(bytes) => ToCoordinator::Written { bytes },
        Err(refusal) => ToCoordinator::WriteFailed { refusal: on_wire(refusal) },
    };
    let status = i32::from(agent.say(&message).is_err());
    process::exit_process(status)
}
