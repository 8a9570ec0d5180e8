//! The coordinator's actions, one by one. What fails comes back to the core as an event.

use super::examine::{examine, Known, FILTERED};
use super::images::{Images, Job};
use super::keep::Wanted;
use super::process::{self, Process};
use super::{compare, keep, random, reach, store, Server};
use crate::core::{Action, Event, Millis, Pod, PodState, Verdict};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::Builder;
use zap_client::error::reason;
use zap_client::store::{put_away, Held};
use zap_client::MappedTable;
use zap_sys::errno::Errno;
use zap_sys::{RealPid, VirtualPid};
use zap_wire::message::{CheckpointRecord, PodSettings, Restart, SaveOrder, StreamId};
use zap_wire::private::{self, By, Private};
use zap_wire::table::{Entry as TableEntry, CLOSED, HALT_CONTINUED, HALT_FOUND, HALT_WOKEN, PRIVATE_LENGTH, READY};
use zap_wire::{FromCoordinator, Phase};

/// How long every thread of a process may block the signal when none can be unblocked.
const BLOCKED_LIMIT: Millis = 1_000;

/// How long a process that has been signalled may wait for a child that it has made with vfork.
const HELD_LIMIT: Millis = 5_000;

/// What is known of the images that a restart is made from.
pub fn record_of(request: &Restart) -> CheckpointRecord {
    let metadata: Vec<_> = request.images.iter().filter_map(|path| std::fs::metadata(path).ok()).collect();
    CheckpointRecord {
        generation: request.generation,
        time: metadata.iter().map(|image| image.mtime().max(0) as u64).max().unwrap_or(0),
        stop_us: 0,
        bytes: metadata.iter().map(|image| image.len()).sum(),
        images: request.images.clone(),
    }
}

/// A file without a name that holds the order.
fn in_memory(order: &SaveOrder) -> Result<OwnedFd, String> {
    let bytes = zap_wire::encode_order(order)?;
    let file = zap_sys::fd::memfd_create(c"zap-order", libc::MFD_CLOEXEC).map_err(|error| error.to_string())?;
    let file = super::door::own(file);
    zap_sys::fd::pwrite_all(file.as_raw_fd(), &bytes, 0).map_err(|error| error.to_string())?;
    Ok(file)
}

/// What is said of a process that cannot be opened, though it lives.
pub fn unwatchable(error: &std::io::Error) -> String {
    format!("the coordinator cannot watch one more process: {}", zap_client::error::reason(error))
}

/// Why the process of `entry` cannot be checkpointed any more, if it has said so in the pod's table.
pub fn failure(table: &MappedTable, entry: &TableEntry) -> Option<String> {
    table.reason(entry).map(|reason| {
        let length = reason.iter().position(|c| *c == 0).unwrap_or(reason.len());
        String::from_utf8_lossy(&reason[..length]).into_owned()
    })
}

impl Server {
    /// Does one thing.
    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Send { peer, message } => {
                self.send(peer, &message);
            }
            Action::Close { peer } => {
                self.peers.remove(&peer);
            }
            Action::Make { peer, pod, settings, streams } => self.make(peer, pod, &settings, &streams),
            Action::Enter { pod, pid, virtual_pid, program } => self.enter(pod, pid, virtual_pid, &program),
            Action::Leave { pod, pid } => {
                self.forget(pod, pid);
                self.rescan(pod);
            }
            Action::Welcome { peer, pod, name } => self.welcome(peer, pod, name),
            Action::Watch { pod, pid } => match Process::open(pid, 0) {
                Ok(Some(process)) => {
                    self.requesters.insert(pod, process);
                }
                // One that cannot be watched either: the restart has failed before it began.
                Ok(None) | Err(_) => self.queue.push_back(Event::RequesterGone { pod }),
            },
            Action::Record { pod } => {
                // A pod that cannot be recorded still runs; only a later coordinator would know less of it.
                if let (Some(pod), true) = (self.core.pod(pod), self.tables.contains_key(&pod)) {
                    let _ = store::record(&self.runtime, pod);
                }
            }
            Action::Remove { pod } => self.remove(pod),
            Action::Prepare { pod, directory, images } => {
                let files = self.images.entry(pod).or_insert_with(|| Images::none(&directory, random()));
                if let Err(error) = files.prepare(&images) {
                    self.queue.push_back(Event::Failed { pod, why: error.to_string() });
                }
            }
            Action::Survey { pod } => self.survey(pod),
            Action::Compare { pod, generation, keeps, open } => {
                let shares = compare::compare(&open, compare::order_of_descriptions);
                let private = self.core.pod(pod).map(|pod| pod.settings.private.clone()).unwrap_or_default();
                let table = self.tables.get(&pod).filter(|_| !private.is_empty());
                let inodes = table.map(MappedTable::inodes).unwrap_or_default();
                let store = (self.runtime.store_path(private.store), private.directories.len(), inodes);
                let store = Some(store).filter(|_| !private.is_empty());
                let open_in_pod = if store.is_some() { keep::open_in_pod(&open) } else { Default::default() };
                let wanted = Wanted { files: keep::wanted(&open, keeps, keep::size), store, open: open_in_pod };
                match shares {
                    Ok(shares) if !wanted.is_empty() => self.keep((pod, generation), wanted, shares),
                    shares => self.queue.push_back(Event::Compared { pod, shares, kept: Vec::new() }),
                }
            }
            Action::Examine { pod, pid } => {
                let verdict = self.examine(pod, pid);
                self.note_halt(pod, pid, &verdict);
                self.queue.push_back(Event::Examined { pod, pid, verdict });
            }
            Action::Signal { pod, pid } => self.signal(pod, pid),
            Action::Wake { pod, pid } => self.wake(pod, pid),
            Action::Look { pod, pid } => {
                let entry = self.tables.get(&pod).and_then(|table| table.find(RealPid(pid)));
                let trouble = entry.map_or(0, |entry| i32::from(entry.trouble.load(Ordering::Relaxed)));
                let failed = self.tables.get(&pod).zip(entry).and_then(|(table, entry)| failure(table, entry));
                if let Some(why) = failed {
                    // It may have had no memory to say it itself.
                    self.queue.push_back(Event::Trouble { pod, pid, why: format!("process: {why}") });
                    return;
                }
                if self.is_held(pod, pid) {
                    // By one of its threads: another may have taken the signal where it must not stand.
                    self.signal_again(pod, pid);
                    return;
                }
                self.help(pod, pid);
                if trouble != 0 {
                    let why = format!("process: cannot reach the coordinator: {}", Errno(trouble));
                    self.queue.push_back(Event::Trouble { pod, pid, why });
                }
                self.signal_again(pod, pid);
            }
            Action::Save { pod, pid, peer, order } => self.save(pod, pid, peer, *order),
            Action::Commit { pod, generation, keep, compress } => match self.images.remove(&pod) {
                Some(images) => {
                    let _ = self.jobs.send((Job { pod, generation, keep, compress }, images));
                }
                None => {
                    let outcome = Err("images: lost".to_string());
                    self.queue.push_back(Event::Committed { pod, outcome });
                }
            },
            Action::Discard { pod } => {
                self.stop_keeping(pod);
                self.images.remove(&pod);
            }
            Action::Kill { pod, pid } => {
                if let Some(process) = self.members.get(&(pod, pid)) {
                    let _ = process.signal(libc::SIGKILL);
                } else if let Some(entry) = self.tables.get(&pod).and_then(|table| table.find(RealPid(pid))) {
                    // For which there was no room when it was recognised.
                    let started = entry.start_time.load(Ordering::Relaxed);
                    if let Ok(Some(process)) = Process::open(pid, started.max(1)) {
                        let _ = process.signal(libc::SIGKILL);
                    }
                }
            }
            Action::Fault(name) => self.faults.stop_at(name),
            Action::Exit => self.exiting = true,
        }
    }

    fn make(&mut self, peer: u64, pod: u64, settings: &PodSettings, streams: &[StreamId; 3]) {
        // Whatever lies there has no living process: it would be a pod of this coordinator.
        let _ = store::remove(&self.runtime, pod);
        let asks = RealPid(self.peers.get(&peer).map_or(0, |connected| connected.pid));
        let store = self.runtime.store_path(settings.private.store);
        let text = private::encode(&settings.private, store.as_os_str().as_bytes());
        if text.len() > PRIVATE_LENGTH {
            self.refuse(peer, pod, "--private: the names of the directories are too long".into());
            return self.queue.push_back(Event::NotMade { pod });
        }
        if let Err(why) = self.hold_store(pod, &settings.private) {
            self.refuse(peer, pod, format!("directories of the pod's own (--private): cannot be held: {why}"));
            return self.queue.push_back(Event::NotMade { pod });
        }
        match MappedTable::create(&self.runtime.table_path(pod), pod, settings.signal, streams, asks) {
            Ok(table) => {
                table.set_private(&text);
                // Whoever asks for a new pod makes its namespaces when it is in it, and others wait for that.
                let are_made = self.core.pod(pod).is_some_and(Pod::is_restarting);
                if settings.private.by != By::Names && !are_made {
                    table.namespaces.iter().for_each(|inode| inode.store(0, Ordering::Release));
                }
                self.tell_door(&table);
                self.tables.insert(pod, table);
            }
            Err(error) => {
                self.stores.remove(&pod);
                self.refuse(peer, pod, error.to_string());
                self.queue.push_back(Event::NotMade { pod });
            }
        }
    }

    fn enter(&mut self, pod: u64, pid: i32, virtual_pid: i32, program: &str) {
        let Some(table) = self.tables.get(&pod) else { return };
        let started = zap_sys::process::start_time(RealPid(pid)).unwrap_or(0);
        if let Some(entry) = table.enter(RealPid(pid), VirtualPid(virtual_pid)) {
            entry.start_time.store(started, Ordering::Relaxed);
            entry.set_name(program.as_bytes());
        }
        // The kernel has said that it is this process which wants to be a member. It need not look like one yet: it is
        // zap-launch.
        let found = Process::open(pid, 0).and_then(|process| process.map(Process::watched).transpose());
        if let Ok(Some(process)) = found {
            let known = self.members.get(&(pod, pid));
            if known.is_none_or(Process::has_ended) {
                self.members.insert((pod, pid), process);
            }
        }
        self.rescan(pod);
    }

    fn welcome(&mut self, peer: u64, pod: u64, name: String) {
        if self.refused.remove(&pod) {
            return;
        }
        let pid = self.peers.get(&peer).map_or(0, |connected| connected.pid);
        let launching = self.core.pod(pod).is_some_and(|pod| !pod.is_restarting());
        if launching && !self.members.contains_key(&(pod, pid)) {
            let full = self.tables.get(&pod).is_some_and(|table| table.members().count() >= zap_wire::table::CAPACITY);
            let why = match Process::open(pid, 0).and_then(|process| process.map(Process::watched).transpose()) {
                _ if full => "is full".to_string(),
                Err(error) => unwatchable(&error),
                Ok(_) => "the process that was to join it has ended".to_string(),
            };
            // It becomes no program: its entry would be a member's.
            if let Some(entry) = self.tables.get(&pod).and_then(|table| table.find(RealPid(pid))) {
                entry.drop_entry();
            }
            self.refuse(peer, pod, format!("pod {name}: {why}"));
            self.refused.remove(&pod);
            if self.core.pod(pod).is_some_and(|pod| pod.state == PodState::Launching) {
                self.remove(pod);
                self.queue.push_back(Event::NotMade { pod });
            }
            return;
        }
        let table = self.runtime.table_path(pod).to_string_lossy().into_owned();
        self.send(peer, &FromCoordinator::InPod { pod_id: pod, name, table });
        self.peers.remove(&peer);
    }

    fn refuse(&mut self, peer: u64, pod: u64, why: String) {
        self.send(peer, &FromCoordinator::Failed { why, usage: false });
        self.peers.remove(&peer);
        self.refused.insert(pod);
    }

    fn remove(&mut self, pod: u64) {
        self.tables.remove(&pod);
        self.stop_keeping(pod);
        self.images.remove(&pod);
        self.requesters.remove(&pod);
        self.members.retain(|(of, _), _| *of != pod);
        self.stores.remove(&pod);
        if let Some(store) = store::remove(&self.runtime, pod) {
            self.remove_store(store);
        }
    }

    /// Keeps what a pod's own directories hold from being taken for something that has been left behind.
    pub(super) fn hold_store(&mut self, pod: u64, private: &Private) -> Result<(), String> {
        if private.is_empty() {
            return Ok(());
        }
        let held = Held::take(&self.runtime.store_path(private.store)).map_err(|error| reason(&error))?;
        self.stores.insert(pod, held.ok_or("it is not there")?);
        Ok(())
    }

    /// Removes what a pod's own directories held: that may take its time.
    fn remove_store(&mut self, store: PathBuf) {
        // At once: a restart of the pod has a store of its own, and a thread that still had the old path in hand must find nothing there.
        let store = put_away(&store).unwrap_or(store);
        let (path, runtime, all_are_held) = (store.clone(), self.runtime.clone(), !self.leaves_stores);
        // What others have left that were ended before they had a pod goes too.
        let work = move || {
            let _ = zap_kept::tree::remove(&path);
            if all_are_held {
                store::remove_left_behind(&runtime);
            }
        };
        match Builder::new().stack_size(keep::STACK).spawn(work) {
            Ok(thread) => {
                self.copiers.retain(|thread| !thread.is_finished());
                self.copiers.push(thread);
            }
            Err(_) => drop(zap_kept::tree::remove(&store)),
        }
    }

    fn examine(&self, pod: u64, pid: i32) -> Verdict {
        let Some(table) = self.tables.get(&pod) else { return Verdict::Starting { waits: true } };
        let Some(entry) = table.find(RealPid(pid)) else { return Verdict::Starting { waits: true } };
        let known = Known {
            ready: entry.ready.load(Ordering::Acquire) == READY,
            closed: entry.ready.load(Ordering::Acquire) == CLOSED,
            filters: entry.filters.load(Ordering::Relaxed),
            signal: table.signal.load(Ordering::Relaxed).clamp(1, 64),
            in_handler: entry.stopped.load(Ordering::Acquire) == zap_wire::table::STANDS,
        };
        let verdict = examine(pid, known, |child| table.find(RealPid(child)).is_some());
        let halt = entry.halt.load(Ordering::Acquire);
        let will_stop = halt & HALT_WOKEN != 0;
        match verdict {
            Verdict::Gone => Verdict::Gone,
            // It has been brought back, and stands for a moment.
            _ if halt & HALT_CONTINUED != 0 => Verdict::Starting { waits: false },
            // It has been continued for the last checkpoint, or brought back, and is about to stop.
            Verdict::Ready | Verdict::Masked if will_stop => Verdict::Starting { waits: false },
            verdict => verdict,
        }
    }

    /// Notes in the table whether the process is stopped: its parent looks there before it stands.
    fn note_halt(&self, pod: u64, pid: i32, verdict: &Verdict) {
        let Some(table) = self.tables.get(&pod) else { return };
        let Some(entry) = table.find(RealPid(pid)) else { return };
        match verdict {
            Verdict::Stopped => {
                // What stands there is of the last checkpoint, and may be waited for still.
                entry.halt.fetch_or(HALT_FOUND, Ordering::AcqRel);
                table.halted.store(1, Ordering::Release);
            }
            // It runs on since a checkpoint that was given up before its turn; in any other it has cleared that itself.
            Verdict::Ready | Verdict::Masked => {
                let stale = |halt| (halt & HALT_WOKEN == 0).then_some(0);
                let _ = entry.halt.fetch_update(Ordering::AcqRel, Ordering::Acquire, stale);
            }
            _ => {}
        }
    }

    /// The process has stopped since it was examined: it waits for its turn, as one does that was stopped before.
    fn note_stop(&mut self, pod: u64, pid: i32) {
        self.note_halt(pod, pid, &Verdict::Stopped);
        self.queue.push_back(Event::Halted { pod, pid });
    }

    /// Takes in who has been made since the table was read last. A child that a fork has just made may not be in it yet,
    /// because its parent was suspended before it could enter it.
    fn survey(&mut self, pod: u64) {
        // First, since it drops entries: who is found to be in the table below stays there.
        self.rescan(pod);
        let Some(table) = self.tables.get(&pod) else { return };
        let (name, signal) = (self.table_name(pod), table.signal.load(Ordering::Relaxed).clamp(1, 64));
        let (mut stranger, mut newcomers) = (None, false);
        for (pid, entry) in table.members() {
            for child in super::examine::living_children(pid.0) {
                if self.members.contains_key(&(pod, child)) {
                    continue;
                }
                // One that has just become another program enters itself, perhaps since the table was read.
                let entered = table.find(RealPid(child)).is_some();
                if !entered && process::is_copy(child, &name, signal) {
                    table.enter_child(RealPid(child), Some(entry));
                } else if !entered {
                    stranger = Some(super::examine::stranger(child));
                    continue;
                }
                newcomers = true;
            }
        }
        if newcomers {
            self.rescan(pod);
        } else {
            self.queue.push_back(Event::Surveyed { pod, stranger });
        }
    }

    fn signal(&mut self, pod: u64, pid: i32) {
        let Some(table) = self.tables.get(&pod) else { return };
        let (entry, process) = (table.find(RealPid(pid)), self.members.get(&(pod, pid)));
        let (Some(entry), Some(process)) = (entry, process) else { return };
        entry.trouble.store(0, Ordering::Relaxed);
        let requested = entry.requested.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        // The program says CLOSED before it sets a filter, and then looks for requests: one of us sees the other.
        if entry.ready.load(Ordering::SeqCst) == CLOSED {
            entry.answered.store(requested, Ordering::Release);
            self.queue.push_back(Event::Failed { pod, why: format!("process {pid}: seccomp filter: {FILTERED}") });
            return;
        }
        let number = table.signal.load(Ordering::Relaxed);
        let waits_its_turn = entry.halt.load(Ordering::Acquire) & HALT_FOUND != 0;
        match process.signal_first(pid, number) {
            // It has ended, as its pidfd says too.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => {
                let (name, why) = (super::process::name(pid), zap_client::error::reason(&error));
                let why = format!("{name} (pid {pid}): process: cannot be signalled: {why}");
                self.queue.push_back(Event::Failed { pod, why });
            }
            Ok(()) if waits_its_turn => {}
            Ok(()) if reach::stands(pid) => self.note_stop(pod, pid),
            Ok(()) => entry.stopped.store(0, Ordering::Release),
        }
    }

    /// Continues a process that has been signalled, if it is stopped.
    fn wake(&mut self, pod: u64, pid: i32) {
        let Some(table) = self.tables.get(&pod) else { return };
        let Some(entry) = table.find(RealPid(pid)) else { return };
        match reach::wake(pid, table.signal.load(Ordering::Relaxed), entry) {
            Ok(()) => {
                self.unreachable.remove(&pid);
            }
            Err(error) if error.is(libc::ESRCH) => {}
            Err(error) => {
                let name = super::process::name(pid);
                let why = format!("is stopped, and its threads cannot be signalled: {error}");
                self.queue.push_back(Event::Failed { pod, why: format!("{name} (pid {pid}): process: {why}") });
            }
        }
    }

    /// Helps a process that has not taken the signal: one that was stopped just when it was signalled, or in which every
    /// thread blocks the signal.
    fn help(&mut self, pod: u64, pid: i32) {
        let Some(table) = self.tables.get(&pod) else { return };
        let Some(entry) = table.find(RealPid(pid)) else { return };
        let number = table.signal.load(Ordering::Relaxed);
        let woken = entry.stopped.load(Ordering::Acquire) == zap_wire::table::TO_STOP_AGAIN;
        if reach::is_taken(entry) || woken {
            return;
        }
        // One that execs blocks the signal, which would end the new program before its library can take it. Into some no
        // library comes.
        if entry.ready.load(Ordering::Acquire) != READY {
            if let Verdict::Refused(refusal) = self.examine(pod, pid) {
                let name = super::process::name(pid);
                let why = format!("{name} (pid {pid}): {}: {}", refusal.object, refusal.reason);
                self.queue.push_back(Event::Failed { pod, why });
            }
            return;
        }
        if reach::stands(pid) {
            return self.note_stop(pod, pid);
        }
        entry.stopped.store(0, Ordering::Release);
        let now = self.clock.millis();
        let why = match reach::unblock(pid, number, entry) {
            Ok(()) => return,
            // libc blocks all signals for moments.
            Err(_) if now - *self.unreachable.entry(pid).or_insert(now) < BLOCKED_LIMIT => return,
            Err(error) => format!(
                "every thread blocks Zap's signal ({number}), and none can be unblocked: {error}; \
                 choose another with zap-launch --signal"
            ),
        };
        self.unreachable.remove(&pid);
        let name = super::process::name(pid);
        self.queue.push_back(Event::Failed { pod, why: format!("{name} (pid {pid}): process: {why}") });
    }

    /// Whether the process has made a child with vfork just before it was signalled: it takes the signal when that execs or
    /// ends, and ptrace(2) has no hold on it before. It is waited for, not for ever.
    fn is_held(&mut self, pod: u64, pid: i32) -> bool {
        let entry = self.tables.get(&pod).and_then(|table| table.find(RealPid(pid)));
        let waits = entry
            .is_some_and(|entry| entry.requested.load(Ordering::Acquire) != entry.answered.load(Ordering::Acquire));
        let verdict = if waits { self.examine(pod, pid) } else { Verdict::Ready };
        let Verdict::Held(child, refusal) = verdict else {
            self.held.remove(&pid);
            return false;
        };
        // Threads that make one child after the other hold it no longer than one does.
        let is_there = |child| {
            let is_child = zap_sys::process::parent_of(RealPid(child)) == Some(RealPid(pid));
            is_child && self.tables.get(&pod).is_some_and(|table| table.find(RealPid(child)).is_none())
        };
        let now = self.clock.millis();
        let held = self.held.get(&pid).copied().filter(|held| is_there(held.0)).unwrap_or((child, now));
        self.held.insert(pid, held);
        if now - held.1 > HELD_LIMIT {
            self.held.remove(&pid);
            let name = super::process::name(pid);
            let why = format!("{name} (pid {pid}): {}: {}", refusal.object, refusal.reason);
            self.queue.push_back(Event::Failed { pod, why });
        }
        true
    }

    /// A thread that takes the signal where it must not stand goes on as if there had been none: it is sent again, as
    /// long as none is on its way.
    fn signal_again(&mut self, pod: u64, pid: i32) {
        let Some(table) = self.tables.get(&pod) else { return };
        let signal = table.signal.load(Ordering::Relaxed);
        let waits = table.find(RealPid(pid)).is_some_and(|entry| !reach::is_taken(entry));
        if waits && !process::has_pending(pid, signal) {
            if let Some(process) = self.members.get(&(pod, pid)) {
                // One that has ended is noticed by its pidfd.
                let _ = process.signal_first(pid, signal);
            }
        }
    }

    fn save(&mut self, pod: u64, pid: i32, peer: u64, order: SaveOrder) {
        let sent = zap_wire::encode(&FromCoordinator::Proceed { phase: Phase::Save }).and_then(|bytes| {
            let order = in_memory(&order)?;
            let file = self.images.get(&pod).and_then(|images| images.file(pid)).ok_or("no image file")?;
            let connected = self.peers.get(&peer).ok_or("connection closed")?;
            let (socket, flags) = (connected.socket.as_raw_fd(), libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
            zap_sys::net::send_with_descriptors(socket, &bytes, &[file.as_raw_fd(), order.as_raw_fd()], flags)
                .map_err(|error| error.to_string())
        });
        if let Err(why) = sent {
            let why = format!("process {pid}: cannot be told to save: {why}");
            self.queue.push_back(Event::Failed { pod, why });
        }
    }
}
