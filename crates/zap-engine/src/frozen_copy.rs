//! The frozen copy: a fork of the standing program, which writes the image while the program runs on.
//!
//! A helper forks it and ends, so that it is nobody's child. It has descriptors and a working directory of its own, and
//! waits for the word to begin until what it lacks has been found.
//!
//! # Safety
//! The copy's continuation in another process is a restart.
#![allow(unsafe_code)]

use crate::agent::{on_wire, Agent};
use crate::collected::{Saved, Saving};
use crate::locked::Locked;
use crate::memory::{self, Memory};
use crate::state::Owned;
use crate::{breakdown, fault, huge_pages, shared};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};
use zap_plugin::Refusal;
use zap_sys::arch::context::{self, SnapshotContext, RESTARTED};
use zap_sys::{fd, libc, process, RawFd, RealPid, SysError, PAGE_SIZE};
use zap_wire::{fault as faults, ToCoordinator};

/// What is changed for the fork, and to be put back.
struct Changed {
    /// Memory that the program keeps out of its forks, and that is let through for the moment.
    let_through: Vec<(u64, u64)>,
    /// Memory of huge pages that is kept out of forks for the moment.
    kept_out: Vec<(u64, u64)>,
}

static CHANGED: Owned<Changed> = Owned::new(Changed { let_through: Vec::new(), kept_out: Vec::new() });

/// Puts back what the fork has changed: at its end, and after a panic in the middle of it.
pub fn clean_up() {
    CHANGED.with(|changed| {
        memory::let_through(&core::mem::take(&mut changed.let_through), false);
        memory::let_through(&core::mem::take(&mut changed.kept_out), true);
    });
}

/// Why there is no frozen copy.
pub enum NotForked {
    /// The kernel makes no process: a limit, or no memory for it.
    NoProcess,
    Refused(Refusal),
}

impl From<Refusal> for NotForked {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// The frozen copy that writes; 0 when none is to be watched.
static COPY: AtomicI32 = AtomicI32::new(0);

/// There is none any more.
pub fn forget() {
    COPY.store(0, Ordering::Relaxed);
}

/// While the coordinator says nothing because it waits for the image (with --kill): tells it when the copy has ended. It
/// has the same connection as this process, so that its end is no hang-up. What it has said itself came before.
pub fn watch(agent: &Agent) -> Result<(), Refusal> {
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

/// Forks the copy. Memory that the program keeps out of forks (MADV_DONTFORK) is found by what the copy lacks; it is
/// let through for a second fork. Huge pages, which have been copied, are kept out of all.
pub fn fork(saving: &Saving<'_>) -> Result<Saved, NotForked> {
    let huge = &saving.aside.huge;
    let not_forked = huge_pages::forked(huge);
    CHANGED.with(|changed| changed.kept_out.clone_from(&not_forked));
    let result = huge_pages::keep_out(&not_forked)
        .and_then(|()| crate::locked::locked())
        .map_err(NotForked::Refused)
        .and_then(|locked| fork_whole(saving, &locked));
    if matches!(result, Ok(Saved::Restarted)) {
        // Memory is as its regions say.
        CHANGED.with(|changed| {
            changed.let_through.clear();
            changed.kept_out.clear();
        });
    }
    clean_up();
    result
}

fn fork_whole(saving: &Saving<'_>, locked: &[Locked]) -> Result<Saved, NotForked> {
    let huge: Vec<(u64, u64)> = saving.aside.huge.iter().map(|region| (region.start, region.end)).collect();
    let mut comparison = crate::comparison::Comparison::prepare()?;
    let mut kept_out: Vec<(u64, u64)> = Vec::new();
    loop {
        let mut gate = Gate::new(saving.aside.holds_files).map_err(|error| Refusal::new("frozen copy", error))?;
        fault::point(faults::COPY_FORKING);
        let copy = match fork_once(&CopyTask { saving, kept_out: &kept_out, locked, gate: &gate }) {
            Ok(Forked::Restarted) => return Ok(Saved::Restarted),
            Ok(Forked::Copy(copy)) => Some(copy),
            Err(_) => None,
        };
        fault::point(faults::COPY_FORKED);
        let missing = match copy {
            Some(copy) => gate
                .list(copy, comparison.room())
                .and_then(|length| comparison.missing_in(length, &huge))
                .map_err(NotForked::Refused),
            None => Err(NotForked::NoProcess),
        };
        let go = matches!(&missing, Ok(missing) if missing.is_empty() || !kept_out.is_empty());
        gate.open(go);
        let missing = missing?;
        match missing.first() {
            None => {
                COPY.store(copy.map_or(0, |copy| copy.0), Ordering::Relaxed);
                return Ok(Saved::Here);
            }
            Some((start, _)) if !kept_out.is_empty() => {
                return Err(Refusal::new(alloc::format!("memory at {start:x}"), "does not come along in a fork").into());
            }
            Some(_) => {
                CHANGED.with(|changed| changed.let_through.clone_from(&missing));
                memory::let_through(&missing, true);
                kept_out = missing;
            }
        }
    }
}

/// The word that lets the frozen copy begin.
const GO: &[u8] = b"g";
/// The word by which it is asked for its mappings.
const TELL: &[u8] = b"t";
/// What follows them, and stands in no line: a list without it is none.
const ALL_TOLD: &[u8] = b"\n\n";

/// What the program and its frozen copy say to each other: pipes' read and write ends.
struct Gate {
    /// The copy waits here for [`GO`].
    go: (RawFd, RawFd),
    /// The program waits here until the copy has let go of the files in its memory: where there are any.
    let_go: Option<(RawFd, RawFd)>,
    /// The copy tells here what mappings it has, when it is asked.
    mappings: (RawFd, RawFd),
}

impl Gate {
    /// How long the program waits for its copy, in milliseconds: far longer than it takes, but not for ever.
    const PATIENCE: i32 = 5000;

    fn new(holds_files: bool) -> zap_sys::Result<Self> {
        let go = fd::pipe2(libc::O_CLOEXEC)?;
        let mappings = fd::pipe2(libc::O_CLOEXEC).inspect_err(|_| close_both(go))?;
        let let_go = holds_files.then(|| fd::pipe2(libc::O_CLOEXEC)).transpose().inspect_err(|_| {
            close_both(go);
            close_both(mappings);
        })?;
        Ok(Self { go, let_go, mappings })
    }

    /// In the program, after the fork: lists the mappings of `copy` into `room` as /proc/PID/maps does; its length. Where the
    /// program may not look into its copy (ptrace(2), "Ptrace access mode checking": its user ids differ, or it has put
    /// capabilities aside), the copy is asked.
    fn list(&mut self, copy: RealPid, room: &mut [u8]) -> Result<usize, Refusal> {
        let path = zap_sys::small!("/proc/{copy}/maps");
        let length = match fd::read_file(path.as_c_str(), room).map(|list| list.len()) {
            Err(error) if error.is(libc::EACCES) || error.is(libc::EPERM) => self.ask(room),
            other => other,
        };
        match length {
            Ok(length) if length == 0 || length == room.len() => {
                Err(Refusal::new("frozen copy", "its mappings cannot be listed"))
            }
            Ok(length) => Ok(length),
            Err(error) => Err(Refusal::new("frozen copy", error)),
        }
    }

    /// What the copy tells, 0 if that is not all.
    fn ask(&mut self, room: &mut [u8]) -> zap_sys::Result<usize> {
        // A copy that ends, or fails, ends the list.
        fd::close(core::mem::replace(&mut self.mappings.1, -1))?;
        fd::write(self.go.1, TELL)?;
        let mut length = 0;
        while length < room.len() && fd::poll_for(self.mappings.0, libc::POLLIN, Self::PATIENCE)? != 0 {
            match fd::read(self.mappings.0, &mut room[length..])? {
                0 => break,
                count => length += count,
            }
            if let Some(list) = room[..length].strip_suffix(ALL_TOLD) {
                return Ok(list.len());
            }
        }
        Ok(0)
    }

    /// In the program, after the fork: lets the copy begin, or end.
    fn open(self, go: bool) {
        let _ = fd::write(self.go.1, if go { GO } else { b"x" });
        close_both(self.go);
        close_both(self.mappings);
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
        while fd::read(self.go.0, &mut word) == Ok(1) {
            if word != TELL {
                return word == GO;
            }
            if self.tell_mappings().is_err() {
                break;
            }
        }
        false
    }

    /// In the copy: tells what mappings it has.
    fn tell_mappings(&self) -> zap_sys::Result<()> {
        let maps = fd::open(c"/proc/thread-self/maps", libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
        // As much as the kernel gives at once.
        let mut buffer = [0u8; PAGE_SIZE];
        loop {
            match fd::read(maps, &mut buffer)? {
                0 => break,
                count => fd::write_all(self.mappings.1, &buffer[..count])?,
            }
        }
        fd::write_all(self.mappings.1, ALL_TOLD)?;
        fd::close(maps)
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
    Copy(RealPid),
    Restarted,
}

/// What the frozen copy is told.
struct CopyTask<'a> {
    saving: &'a Saving<'a>,
    /// Ranges that the program keeps out of its own forks.
    kept_out: &'a [(u64, u64)],
    /// What it has locked.
    locked: &'a [Locked],
    gate: &'a Gate,
}

/// One fork, as its helper and the copy find it.
struct Fork<'a> {
    task: &'a CopyTask<'a>,
    context: SnapshotContext,
    /// The frozen copy's process id. The helper fills it in, through shared memory.
    copy: Result<RealPid, SysError>,
}

fn fork_once(task: &CopyTask<'_>) -> Result<Forked, SysError> {
    let none = SysError::new("clone", libc::EAGAIN);
    if fault::refuses(faults::COPY_FORKING) {
        return Err(none);
    }
    let mut fork = Fork { task, context: SnapshotContext::default(), copy: Err(none) };
    let fork = &raw mut fork;
    // The helper closes what the program has open still.
    let noting = zap_sys::opened::note(false);
    // SAFETY: the context is valid, all other threads are suspended, and what the copy is told outlives it: it is part
    // of it.
    let result = unsafe { context::call_in_snapshot(&raw mut (*fork).context, make_helper, fork as usize) };
    zap_sys::opened::note(noting);
    if result == RESTARTED {
        crate::arena::forget_scratch();
        return Ok(Forked::Restarted);
    }
    // SAFETY: this frame's own; the helper has ended.
    unsafe { (*fork).copy }.map(Forked::Copy)
}

extern "C" fn make_helper(fork: usize) {
    // SAFETY: the helper shares memory and runs below this frame, which waits for it.
    let helper = unsafe { context::run_beside(fork_copy, fork, context::BESIDE) };
    if helper > 0 {
        let _ = process::wait(helper as i32, libc::__WALL);
    } else {
        // SAFETY: the address of a value in a frame above, which nobody else uses now.
        unsafe { (*(fork as *mut Fork<'_>)).copy = Err(SysError::new("clone", -helper as i32)) };
    }
}

/// In the helper, while the program sleeps: what the copy does not need it must not have when the program goes on. A pipe
/// would have no end, a lock would stay, and a file that has just been written could not be executed (ETXTBSY) until the
/// copy came to close it. The file system of the working directory could not be unmounted.
extern "C" fn fork_copy(fork: usize) {
    // SAFETY: as in `make_helper`.
    let fork = unsafe { &mut *(fork as *mut Fork<'_>) };
    let CopyTask { saving, gate, .. } = *fork.task;
    let let_go = gate.let_go.map_or(saving.image, |(_, write)| write);
    memory::close_all_but([saving.agent.socket(), saving.image, gate.go.0, let_go, gate.mappings.1]);
    let _ = process::chdir(c"/");
    // SAFETY: all other threads stand outside of what the copy uses.
    match unsafe { process::fork_raw(0) } {
        Ok(RealPid(0)) => live(fork),
        result => fork.copy = result,
    }
}

/// The frozen copy's whole life.
fn live(fork: &Fork<'_>) -> ! {
    let &CopyTask { saving, kept_out, locked, gate } = fork.task;
    breakdown::note_copy(true);
    if !gate.pass() {
        process::exit_process(0);
    }
    let has_scratch = crate::arena::begin_scratch();
    // Out of the program's process group: what is typed at the terminal is not for the writer.
    let _ = process::setsid();
    process::set_thread_name(b"zap-writer\0\0\0\0\0\0");
    let write = || {
        if !has_scratch {
            return Err(Refusal::new("frozen copy", "the limit of address space leaves it no memory"));
        }
        let smaps = memory::read_all(c"/proc/thread-self/smaps")?;
        shared::let_go_of_files(&smaps);
        gate.say_let_go();
        let memory = Memory { smaps: &smaps, aside: saving.aside, kept_out, locked, is_copy: true };
        saving.write(memory, &fork.context)
    };
    let written = write();
    fault::point(faults::WRITER_SAYING);
    let message = match written {
        Ok(bytes) => ToCoordinator::Written { bytes },
        Err(refusal) => ToCoordinator::WriteFailed { refusal: on_wire(refusal) },
    };
    let status = i32::from(saving.agent.say(&message).is_err());
    process::exit_process(status)
}
