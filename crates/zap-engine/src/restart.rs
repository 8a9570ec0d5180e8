//! After a restart: the leader goes on in a new process, on the stack that the frozen copy had, and makes the process
//! whole again before any code of the program runs.
//!
//! State is what the image has saved and is in memory again; parts ([`RestartParts`]) are what zap-restart supplied
//! anew, through the mailbox. The thread that gets here is the new process's only one. It carries the leader's thread
//! pointer; in the end it becomes the main thread, whichever thread the leader was.
//!
//! # Safety
//! The mailbox is filled by the restorer before it jumps here.
#![allow(unsafe_code)]

use crate::agent::Agent;
use crate::collected::COLLECTED;
use crate::state::{self, Owned};
use crate::threads::{self, Slot};
use crate::{
    aio, attributes, children, clocks, credentials, descriptors, fault, halted, identity, image_backed, init,
    io_owners, locks, priorities, registry, signals, suspend, terminals, timer_helper, timers, vdso, waits, watched,
};
use alloc::format;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use zap_plugin::context::Exchange;
use zap_plugin::{Mode, Refusal, RestoreContext};
use zap_sys::{fd, libc, process, RawFd, RealPid, VirtualPid};
use zap_wire::restart::{Moved, Order, Report, RestartParts, MAILBOX_SIZE};
use zap_wire::ToCoordinator;

/// Where the restorer leaves what zap-restart supplies: a length word, that many bytes of [`RestartParts`], and then
/// four words: start and length of the restorer's memory, start and length of the kernel's vDSO with its data.
#[repr(C, align(4096))]
struct Mailbox {
    bytes: UnsafeCell<[u8; MAILBOX_SIZE]>,
}

// SAFETY: written by the restorer before any thread exists, read by the one thread of a restart.
unsafe impl Sync for Mailbox {}

static MAILBOX: Mailbox = Mailbox { bytes: UnsafeCell::new([0; MAILBOX_SIZE]) };

/// Parts of the present restart, for the plugins' contexts.
static STREAMS: Owned<[RawFd; 3]> = Owned::new([-1; 3]);
/// Directories that are elsewhere now.
static MOVED: Owned<Vec<Moved>> = Owned::new(Vec::new());

/// Where a path of the checkpoint leads now, if it has moved.
pub fn path_now(path: &[u8]) -> Option<Vec<u8>> {
    MOVED.with(|moved| zap_wire::restart::path_now(moved, path))
}

/// The mailbox's address, for the image.
pub fn mailbox_address() -> u64 {
    MAILBOX.bytes.get() as u64
}

fn read_mailbox() -> Result<RestartParts, Refusal> {
    // SAFETY: the restorer has filled the mailbox, and nobody else writes to it.
    let bytes = unsafe { core::slice::from_raw_parts(MAILBOX.bytes.get().cast::<u8>().cast_const(), MAILBOX_SIZE) };
    let word = |at: usize| bytes.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_ne_bytes);
    let length = word(0) as usize;
    let message = bytes.get(8..length.saturating_add(8)).ok_or_else(|| Refusal::new("mailbox", "holds no message"))?;
    let mut parts: RestartParts = zap_wire::decode(message).map_err(|why| Refusal::new("mailbox", why))?;
    let after = 8 + length;
    parts.restorer = (word(after), word(after + 8));
    parts.vdso = (word(after + 16), word(after + 24));
    Ok(parts)
}

/// A restart is under way: a panic ends the process.
static UNDER_WAY: AtomicBool = AtomicBool::new(false);
/// Where zap-restart waits for word; -1 while that is not known.
static REPORT: AtomicI32 = AtomicI32::new(-1);

/// Whether a restart is under way.
pub fn is_under_way() -> bool {
    UNDER_WAY.load(Ordering::Relaxed)
}

/// The program is about to run.
pub fn end() {
    if is_under_way() {
        UNDER_WAY.store(false, Ordering::Relaxed);
    }
}

/// Ends a process that cannot be restarted. Also from a panic, on any thread.
pub fn fail(refusal: Refusal) -> ! {
    let _ = report(REPORT.load(Ordering::Relaxed), &Report::Refused { object: refusal.object, reason: refusal.reason });
    process::exit_process(125)
}

/// Makes the process whole and lets the program run.
pub(crate) fn go_on() -> ! {
    UNDER_WAY.store(true, Ordering::Relaxed);
    crate::breakdown::note_copy(false);
    REPORT.store(-1, Ordering::Relaxed);
    zap_sys::opened::forget();
    crate::arena::note_large(false);
    crate::shared::forget();
    descriptors::forget_copies();
    // No handler of the program may run before the program does. Each thread gets its own mask back in the end.
    let _ = zap_sys::signal::change_mask(libc::SIG_SETMASK, !0);
    suspend::forget_leader();
    crate::agent::forget();
    let parts = match read_mailbox() {
        Ok(parts) => parts,
        Err(_) => process::exit_process(125),
    };
    REPORT.store(parts.report, Ordering::Relaxed);
    let parts = match relocate(&parts) {
        Ok(parts) => parts,
        Err(refusal) => fail(refusal),
    };
    match rebuild(&parts) {
        Ok(main) => {
            let others = threads::slots().count() - usize::from(main.is_some());
            threads::wait_until_prepared(others);
            // Now that nothing can go wrong any more.
            if let Err(refusal) = await_others(&parts) {
                fail(refusal);
            }
            // Everybody runs from here on; this kernel thread is the main thread's.
            match main {
                Some(slot) => threads::enter_and_release(slot),
                // The main thread had ended by pthread_exit: it does so again.
                None => threads::end_main_and_release(),
            }
        }
        Err(refusal) => fail(refusal),
    }
}

fn report(to: RawFd, report: &Report) -> Result<(), Refusal> {
    say(to, report, &[])
}

fn say(to: RawFd, report: &Report, descriptors: &[RawFd]) -> Result<(), Refusal> {
    let bytes = zap_wire::encode(report).map_err(|why| Refusal::new("zap-restart", why))?;
    zap_sys::net::send_with_descriptors(to, &bytes, descriptors, libc::MSG_NOSIGNAL)
        .map(|_| ())
        .map_err(|error| Refusal::new("zap-restart", error))
}

/// Waits for what zap-restart says; the descriptor that comes along.
fn hear(from: RawFd) -> Result<(Order, Option<RawFd>), Refusal> {
    let mut buffer = [0u8; 256];
    loop {
        match zap_sys::net::receive_with_descriptors(from, &mut buffer, 0) {
            Ok((0, ..)) => return Err(Refusal::new("zap-restart", "has ended")),
            Ok((length, descriptors, _)) => {
                let order = zap_wire::decode(&buffer[..length]).map_err(|why| Refusal::new("zap-restart", why))?;
                return Ok((order, descriptors.as_slice().first().copied()));
            }
            Err(error) if error.is(libc::EINTR) => {}
            Err(error) => return Err(Refusal::new("zap-restart", error)),
        }
    }
}

/// Waits until every process of the pod is whole; closes all that is Zap's, and translates what had to wait for the
/// others' ids.
fn await_others(parts: &RestartParts) -> Result<(), Refusal> {
    io_owners::restore_own()?;
    report(parts.report, &Report::Ready)?;
    let (order, descriptor) = hear(parts.report)?;
    if order != Order::Go || descriptor.is_some() {
        return Err(Refusal::new("zap-restart", "said something else"));
    }
    REPORT.store(-1, Ordering::Relaxed);
    let streams = STREAMS.with(|streams| *streams);
    for descriptor in streams.into_iter().chain([parts.report]).chain(parts.spare.iter().copied()) {
        if descriptor >= 0 {
            let _ = fd::close(descriptor);
        }
    }
    identity::restore_relations();
    terminals::look();
    children::restore_groups();
    waits::restore();
    aio::restore_polls()?;
    io_owners::restore_others()?;
    if let Some(entry) = state::agents_entry() {
        entry.ready.store(zap_wire::table::READY, Ordering::Release);
    }
    attributes::restore_limits();
    Ok(())
}

/// The kernel's id of a process that comes back with this one. Each enters the table before it waits for anything; one that cannot
/// takes all with it.
pub fn await_member(id: VirtualPid) -> Result<RealPid, Refusal> {
    const LOOK_NS: u64 = 50_000;
    // In the table may still be who had the id in an attempt that has been given up.
    let lives = |entry: &&zap_wire::table::Entry| !matches!(process::state(entry.real_pid()), None | Some(b'Z' | b'X'));
    loop {
        let table = state::agents_table();
        let mut members = table.iter().flat_map(|table| table.members()).map(|(_, entry)| entry);
        if let Some(entry) = members.find(|entry| entry.virtual_pid() == id && lives(entry)) {
            return Ok(entry.real_pid());
        }
        let events = fd::poll_now(REPORT.load(Ordering::Relaxed), libc::POLLRDHUP).unwrap_or(libc::POLLHUP);
        if events & (libc::POLLHUP | libc::POLLRDHUP | libc::POLLERR) != 0 {
            return Err(Refusal::new("zap-restart", "has ended"));
        }
        zap_sys::time::sleep_ns(LOOK_NS);
    }
}

/// The descriptor that was asked for.
fn given(from: RawFd) -> Result<RawFd, Refusal> {
    match hear(from)? {
        (Order::Given, Some(descriptor)) => Ok(descriptor),
        _ => Err(Refusal::new("zap-restart", "said something else")),
    }
}

/// Descriptors from and for other processes of the pod, by way of zap-restart.
struct ByReport;

impl Exchange for ByReport {
    fn publish(&mut self, key: u64, part: u32, fd: RawFd) -> Result<(), Refusal> {
        say(REPORT.load(Ordering::Relaxed), &Report::Publish { key, part }, &[fd])
    }

    fn subscribe(&mut self, key: u64, part: u32) -> Result<RawFd, Refusal> {
        let to = REPORT.load(Ordering::Relaxed);
        report(to, &Report::Subscribe { key, part })?;
        given(to)
    }

    fn memory(&mut self, device: u64, inode: u64) -> Result<RawFd, Refusal> {
        let to = REPORT.load(Ordering::Relaxed);
        report(to, &Report::Memory { device, inode })?;
        given(to)
    }

    fn close_off(&mut self, fd: RawFd, mode: u32, seals: u32) -> Result<(), Refusal> {
        say(REPORT.load(Ordering::Relaxed), &Report::CloseOff { mode, seals }, &[fd])
    }

    fn fill(&mut self, fd: RawFd, (device, inode): (u64, u64), from: u64) -> Result<(), Refusal> {
        let to = REPORT.load(Ordering::Relaxed);
        say(to, &Report::Fill { device, inode, from }, &[fd])?;
        match hear(to)? {
            (Order::Filled, None) => Ok(()),
            _ => Err(Refusal::new("zap-restart", "said something else")),
        }
    }

    fn open_barred(&mut self, path: &[u8], flags: i32) -> Result<RawFd, Refusal> {
        let to = REPORT.load(Ordering::Relaxed);
        report(to, &Report::Open { path: path.to_vec(), flags })?;
        given(to)
    }

    fn path_now(&self, path: &[u8]) -> Option<Vec<u8>> {
        path_now(path)
    }

    fn process(&mut self, id: VirtualPid) -> Result<RealPid, Refusal> {
        await_member(id)
    }

    fn name_terminal(&mut self, real: u32, id: u32) -> Result<(), Refusal> {
        terminals::name(real, id)
    }

    fn install(&mut self, id: u32, fd: RawFd) -> Result<(), Refusal> {
        descriptors::install(id, fd, |key, fd| self.publish(key, WHOLE, fd))
    }

    fn hold(&mut self, id: u32, part: u32, fd: RawFd) {
        descriptors::hold(id, part, fd);
    }

    fn held(&self, id: u32, part: u32) -> Option<RawFd> {
        descriptors::held(id, part)
    }
}

/// The part under which a whole description is published.
const WHOLE: u32 = u32::MAX;

/// Restores everything but the running of threads. Returns the slot of the main thread, unless it had ended.
fn rebuild(parts: &RestartParts) -> Result<Option<&'static Slot>, Refusal> {
    let start = clocks::Start::at(parts.started_ns);
    let virtual_pid = state::virtual_pid();
    let old_main = virtual_pid.0;
    let real = process::getpid();
    state::set_identity(real, virtual_pid);
    vdso::settle(parts.vdso)?;
    init::join_table(parts.table.as_bytes(), None, Some(virtual_pid)).map_err(|why| Refusal::new("pod table", why))?;
    suspend::will_stop();
    suspend::install(state::signal()).map_err(|error| Refusal::new("signal handler", error))?;
    fault::point(zap_wire::fault::PROGRAM_RESTORING);
    image_backed::note(&parts.image_backed)?;
    if parts.restorer.1 != 0 {
        // SAFETY: the restorer has jumped here for good; nothing of it is used any more.
        let _ = unsafe { zap_sys::mem::unmap(parts.restorer.0, parts.restorer.1) };
    }
    attributes::restore()?;
    if MOVED.with(|moved| !moved.is_empty()) {
        watched::move_paths(path_now);
    }
    threads::check_registers()?;
    restore_descriptors()?;
    // What needs a privilege that the program had given up, or that it had got from somebody.
    attributes::lift_limits()?;
    priorities::take(old_main)?;
    credentials::restore()?;
    attributes::restore_parent_death_signal()?;
    signals::restore();
    children::restore()?;
    clocks::restore(start);
    aio::restore()?;
    threads::expect_entering(threads::slots().count());
    let is_main = |slot: &Slot| slot.virtual_tid.load(Ordering::Relaxed) == old_main;
    threads::note_main(threads::slots().any(is_main));
    let main = respawn_threads(old_main, real)?;
    identity::set_pairs();
    locks::restore();
    timer_helper::restore();
    timers::restore()?;
    announce(parts);
    halted::note_restarted()?;
    registry::plugins().iter().rev().for_each(|plugin| plugin.resume(Mode::Restart));
    Ok(main)
}

/// Moves what zap-restart supplied to numbers that the program does not use.
fn relocate(parts: &RestartParts) -> Result<RestartParts, Refusal> {
    let highest = descriptors::highest_saved();
    descriptors::make_room(highest)?;
    let above = highest + 1;
    let moved = |descriptor: RawFd| {
        if descriptor < 0 {
            return Ok(-1);
        }
        let high = fd::dup_above(descriptor, above).map_err(|error| Refusal::new("descriptors", error))?;
        let _ = fd::close(descriptor);
        Ok(high)
    };
    let mut parts = parts.clone();
    for descriptor in parts.streams.iter_mut().chain([&mut parts.report]).chain(&mut parts.spare) {
        *descriptor = moved(*descriptor)?;
    }
    STREAMS.with(|streams| *streams = parts.streams);
    MOVED.with(|moved| *moved = parts.moved.clone());
    REPORT.store(parts.report, Ordering::Relaxed);
    Ok(parts)
}

fn restore_descriptors() -> Result<(), Refusal> {
    descriptors::reserve()?;
    let streams = STREAMS.with(|streams| *streams);
    COLLECTED.with(|collected| {
        for plugin in registry::plugins().iter().rev() {
            plugin.restore(&mut RestoreContext::new(
                &collected.sections,
                streams,
                clocks::since_moment,
                &mut ByReport,
            ))?;
        }
        for (id, key) in descriptors::followed() {
            let descriptor = ByReport.subscribe(key, WHOLE)?;
            descriptors::install(id, descriptor, |_, _| Ok(()))?;
        }
        for plugin in registry::plugins().iter().rev() {
            plugin.refill(&mut RestoreContext::new(
                &collected.sections,
                streams,
                clocks::since_moment,
                &mut ByReport,
            ))?;
        }
        descriptors::close_held();
        Ok(())
    })
}

/// Makes every thread but the main one. They wait until all is done.
///
/// None gets a number by which the program knows another one: libc would take the one for the other. Numbers ascend, so
/// those that are in the way are used up by processes that end at once; only other processes of the host can be faster.
fn respawn_threads(old_main: i32, real: RealPid) -> Result<Option<&'static Slot>, Refusal> {
    let mut main = None;
    let mut last = real.0;
    for slot in threads::slots() {
        fault::point(zap_wire::fault::RESTORING_THREADS);
        if slot.virtual_tid.load(Ordering::Relaxed) == old_main {
            slot.real_tid.store(real.0, Ordering::Relaxed);
            main = Some(slot);
        } else {
            let own = slot.virtual_tid.load(Ordering::Relaxed);
            let is_anothers = |number: i32| {
                number != own && threads::slots().any(|other| other.virtual_tid.load(Ordering::Relaxed) == number)
            };
            while is_anothers(last.wrapping_add(1)) {
                match zap_sys::process::use_up_number() {
                    Some(number) => last = number,
                    None => break,
                }
            }
            threads::respawn(slot).map_err(|error| Refusal::new(format!("thread {own}"), error))?;
            last = slot.real_tid.load(Ordering::Relaxed);
        }
    }
    Ok(main)
}

/// Tells the coordinator that the process is back, and waits until it has heard: of a process that has ended since it would
/// not believe it, and wait for it. A coordinator that has gone meanwhile finds the process by the pod's table.
fn announce(parts: &RestartParts) {
    if let Ok(agent) = Agent::connect() {
        let back = ToCoordinator::Restarted { pod_id: parts.pod_id, virtual_pid: state::virtual_pid().0 };
        if agent.say(&back).is_ok() {
            agent.await_end();
        }
        agent.close();
    }
}
