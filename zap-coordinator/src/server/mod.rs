//! The coordinator's hands: sockets, tables, pidfds, files. Every event goes to [`crate::core`], every action comes from
//! there; one thread does it all but for compressing and syncing images, which may take long.
//!
//! # Safety
//! poll(2), eventfd(2) and getrandom(2) on local values; descriptors are new.
#![allow(unsafe_code)]

mod act;
mod clock;
mod compare;
mod contents;
mod directory;
mod door;
mod examine;
mod faults;
mod head;
mod images;
mod keep;
mod names;
mod pack;
mod process;
mod reach;
mod room;
mod seniority;
mod socket;
mod store;

use crate::arguments::CoordinatorArguments;
use crate::core::{Core, Event, Kept, Limits, Member, Millis, Now};
use clock::Clock;
use crossbeam::channel::{unbounded, Receiver, Sender};
use door::{Door, Way, STRANGERS, STRANGERS_PATIENCE};
use faults::Faults;
use images::{Images, Job, Tools};
use keep::{Copied, Copying};
use process::Process;
use seniority::Kin;
use socket::{Listener, NotListening, Received};
use std::collections::btree_map::{Entry, VacantEntry};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use zap_client::store::Held;
use zap_client::{Error, MappedTable, Result, RuntimeDir};
use zap_sys::RealPid;
use zap_wire::table::Entry as TableEntry;
use zap_wire::{FromCoordinator, ToCoordinator};

/// Runs the coordinator until it ends.
pub fn run(arguments: &CoordinatorArguments) -> Result<()> {
    // SAFETY: the descriptor was given to this process for this very purpose.
    let mut ready = arguments.ready_descriptor.map(|number| unsafe { File::from_raw_fd(number) });
    let outcome = Server::start(arguments.foreground);
    if let Some(ready) = &mut ready {
        let _ = match &outcome {
            Ok(_) => ready.write_all(&[0]),
            Err(error) => ready.write_all(error.to_string().as_bytes()),
        };
    }
    drop(ready);
    match outcome? {
        Some(mut server) => server.serve(),
        // Another one serves, which is just as well for whoever started this one.
        None if arguments.foreground => Err(Error::new("zap-coordinator", "another one serves this runtime directory")),
        None => Ok(()),
    }
}

/// All that the coordinator holds.
struct Server {
    core: Core,
    runtime: RuntimeDir,
    listener: Listener,
    door: Option<Door>,
    faults: Arc<Faults>,
    clock: Clock,
    queue: VecDeque<Event>,
    next_peer: u64,
    peers: BTreeMap<u64, Connected>,
    tables: BTreeMap<u64, MappedTable>,
    /// Members by (pod, pid).
    members: BTreeMap<(u64, i32), Process>,
    requesters: BTreeMap<u64, Process>,
    /// The pods' hold on what their own directories hold.
    stores: BTreeMap<u64, Held>,
    /// A living pod's could not be held: none is taken for one that has been left behind.
    leaves_stores: bool,
    images: BTreeMap<u64, Images>,
    /// Processes whose every thread blocks the signal and that cannot be helped, and since when.
    unreachable: BTreeMap<i32, Millis>,
    /// Processes that have been signalled and wait for a child that they have made with vfork; and since when.
    held: BTreeMap<i32, (i32, Millis)>,
    /// Pods for which a launch has failed and been answered.
    refused: BTreeSet<u64>,
    jobs: Sender<(Job, Images)>,
    done: Receiver<(u64, std::result::Result<Kept, String>)>,
    /// Pods whose files are being copied, and how the copies come back.
    copying: BTreeMap<u64, Copying>,
    copied: (Sender<Copied>, Receiver<Copied>),
    copiers: Vec<JoinHandle<()>>,
    /// Readable when something is done.
    bell: Arc<OwnedFd>,
    exiting: bool,
    /// When the runtime directory was last looked at.
    looked: Instant,
    /// When there was no room for one more connection.
    crowded: Option<Instant>,
    /// Pods with living processes for which there was no room: nobody says when they end.
    unwatched: BTreeSet<u64>,
}

/// How long nobody is accepted when there is no room.
const CROWDED: Duration = Duration::from_millis(50);

/// A connection.
struct Connected {
    socket: OwnedFd,
    pid: i32,
    way: Way,
}

/// What a descriptor in the poll set means.
#[derive(Clone, Copy)]
enum Source {
    Listener,
    Door,
    Bell,
    Peer(u64),
    Member(u64, i32),
    Requester(u64),
}

impl Server {
    /// Takes over the runtime directory; `None` if another coordinator has it.
    fn start(foreground: bool) -> Result<Option<Self>> {
        let runtime = RuntimeDir::open_or_create()?;
        let _ = zap_sys::process::umask(0o077);
        // Whoever started this one may have limited the size of files: a write that fails, not the coordinator's end.
        // Blocked, not ignored, and before there are threads.
        let _ = zap_sys::signal::change_mask(libc::SIG_BLOCK, zap_sys::signal::bit(libc::SIGXFSZ));
        if !foreground {
            // Fails for the leader of a process group, which then keeps its session.
            let _ = zap_sys::process::setsid();
            let _ = zap_sys::process::chdir(c"/");
        }
        // A descriptor for each member, and two more while it is checkpointed. The members keep limits of their own.
        let _ = zap_sys::process::raise_descriptor_limit();
        runtime.make_private(&runtime.pods_dir())?;
        let listener = match Listener::bind(&runtime) {
            Ok(listener) => listener,
            Err(NotListening::Another) => return Ok(None),
            Err(NotListening::Failed(error)) => return Err(error),
        };
        let faults = Arc::new(Faults::from_environment());
        // SAFETY: numbers only; the result is checked.
        let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if bell < 0 {
            return Err(Error::last("zap-coordinator", "eventfd"));
        }
        // SAFETY: a new descriptor.
        let bell = Arc::new(unsafe { OwnedFd::from_raw_fd(bell) });
        let tools = Tools { runtime: runtime.clone(), faults: faults.clone(), contents: Arc::default() };
        let (jobs, done) = workers(&tools, &bell);
        let mut server = Self {
            core: Core::new(limits()),
            runtime,
            listener,
            // Without it, members that become another user are not reached.
            door: Door::open().ok(),
            faults,
            clock: Clock::new(),
            queue: VecDeque::new(),
            next_peer: 1,
            peers: BTreeMap::new(),
            tables: BTreeMap::new(),
            members: BTreeMap::new(),
            requesters: BTreeMap::new(),
            stores: BTreeMap::new(),
            leaves_stores: false,
            images: BTreeMap::new(),
            unreachable: BTreeMap::new(),
            held: BTreeMap::new(),
            refused: BTreeSet::new(),
            jobs,
            done,
            copying: BTreeMap::new(),
            copied: unbounded(),
            copiers: Vec::new(),
            bell,
            exiting: false,
            looked: Instant::now(),
            crowded: None,
            unwatched: BTreeSet::new(),
        };
        server.adopt();
        Ok(Some(server))
    }

    /// Takes over the pods that another coordinator has left.
    fn adopt(&mut self) {
        for (pod, table) in store::scan(&self.runtime, self.millis(), |id| self.tables.contains_key(&id)) {
            let id = pod.id;
            store::clean(&pod);
            self.tell_door(&table);
            self.tables.insert(id, table);
            // Members first: a pod without any is removed as soon as the core hears of it.
            let members = self.scan(id);
            if members.is_empty() {
                self.tables.remove(&id);
                let _ = store::remove(&self.runtime, id);
                continue;
            }
            let store = self.runtime.store_path(pod.settings.private.store);
            self.leaves_stores |= self.hold_store(id, &pod.settings.private).is_err() && store.exists();
            let mut pod = pod;
            pod.members = members;
            self.queue.push_back(Event::Adopted { pod: Box::new(pod) });
        }
        self.queue.push_back(Event::Tick);
        self.work();
        if !self.leaves_stores {
            store::remove_left_behind(&self.runtime);
        }
    }

    /// Tells the members of a pod where the door is.
    fn tell_door(&self, table: &MappedTable) {
        if let Some(door) = &self.door {
            table.set_door(&door.name);
        }
    }

    fn serve(&mut self) -> Result<()> {
        let mut buffer = Vec::new();
        loop {
            if self.exiting && self.leave()? {
                return Ok(());
            }
            let mut left = BTreeSet::new();
            for source in self.wait()? {
                match source {
                    Source::Listener => {
                        while let Some((socket, pid)) = self.accept() {
                            let peer = self.next_peer;
                            self.next_peer += 1;
                            self.peers.insert(peer, Connected { socket, pid: self.speaker(pid), way: Way::Front });
                        }
                    }
                    Source::Door => self.answer_the_door(),
                    Source::Bell => {
                        let _ = zap_sys::fd::read(self.bell.as_raw_fd(), &mut [0u8; 8]);
                        while let Ok((pod, outcome)) = self.done.try_recv() {
                            self.queue.push_back(Event::Committed { pod, outcome });
                        }
                        while let Ok(copied) = self.copied.1.try_recv() {
                            self.kept(copied);
                        }
                    }
                    Source::Peer(peer) => self.listen_to(peer, &mut buffer),
                    Source::Member(pod, pid) => {
                        // An earlier event of the same round may have put a later one in its place.
                        if self.members.get(&(pod, pid)).is_some_and(Process::has_ended) {
                            self.note_first(pod, pid);
                            self.forget(pod, pid);
                        }
                        left.insert(pod);
                    }
                    Source::Requester(pod) => {
                        self.requesters.remove(&pod);
                        self.rescan(pod);
                        self.queue.push_back(Event::RequesterGone { pod });
                    }
                }
                self.work();
            }
            // Once for all that have ended: a look at each of those that are left, at every end, would take longer than
            // processes of a pod that makes many live, and leave more to be done each time.
            for pod in left {
                self.rescan(pod);
            }
            self.work();
            self.look_after_directory();
            if self.core.deadline().is_some_and(|deadline| deadline <= self.millis()) {
                // A checkpoint by interval must know the processes of its pod.
                let now = self.millis();
                let due: Vec<u64> = self.core.pods().filter(|pod| pod.is_due(now)).map(|pod| pod.id).collect();
                for pod in due {
                    self.rescan(pod);
                }
                self.queue.push_back(Event::Tick);
                self.work();
            }
        }
    }

    /// Accepts a connection, if there is one and room for it.
    fn accept(&mut self) -> Option<(OwnedFd, i32)> {
        let accepted = self.listener.accept();
        if accepted.is_err() {
            self.crowded = Some(Instant::now());
        }
        accepted.ok().flatten()
    }

    /// In how many milliseconds those who connect are looked at again.
    fn crowded(&self) -> Option<Millis> {
        let left = CROWDED.saturating_sub(self.crowded?.elapsed()).as_millis() as Millis;
        (left > 0).then_some(left)
    }

    /// Waits until something happens or is due.
    fn wait(&mut self) -> Result<Vec<Source>> {
        let dismissal = self.dismiss_strangers();
        self.work();
        let mut sources = vec![Source::Bell];
        let mut numbers = vec![self.bell.as_raw_fd()];
        let crowded = self.crowded();
        if crowded.is_none() {
            sources.push(Source::Listener);
            numbers.push(self.listener.descriptor());
        }
        let is_open = crowded.is_none() && self.strangers().count() < STRANGERS;
        if let Some(door) = self.door.as_ref().filter(|_| is_open) {
            sources.push(Source::Door);
            numbers.push(door.descriptor());
        }
        for (peer, connected) in &self.peers {
            sources.push(Source::Peer(*peer));
            numbers.push(connected.socket.as_raw_fd());
        }
        for ((pod, pid), process) in &self.members {
            sources.push(Source::Member(*pod, *pid));
            numbers.push(process.descriptor());
        }
        for (pod, process) in &self.requesters {
            sources.push(Source::Requester(*pod));
            numbers.push(process.descriptor());
        }
        let mut set: Vec<libc::pollfd> =
            numbers.into_iter().map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
        let left = self.core.deadline().map(|deadline| deadline.saturating_sub(self.millis()));
        let left = left.into_iter().chain(self.directory_deadline()).chain(crowded).chain(dismissal).min();
        let timeout = left.map_or(-1, |left| left.min(3_600_000) as i32);
        // SAFETY: the set lives until the call returns.
        let count = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, timeout) };
        self.clock.waited(timeout);
        if count < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(Error::system("zap-coordinator", "poll", &error));
            }
            return Ok(Vec::new());
        }
        Ok(sources.into_iter().zip(&set).filter(|(_, entry)| entry.revents != 0).map(|(source, _)| source).collect())
    }

    /// Takes one message of a connection in.
    fn listen_to(&mut self, peer: u64, buffer: &mut Vec<u8>) {
        // An earlier event of the same round may have closed it.
        let Some(connected) = self.peers.get(&peer) else { return };
        let (pid, way) = (connected.pid, connected.way);
        match socket::receive(&connected.socket, buffer) {
            Received::Nothing => {}
            Received::HungUp => self.hang_up(peer),
            Received::Nonsense(why) => {
                let why = format!("zap-coordinator: message not understood: {why}");
                self.send(peer, &FromCoordinator::Failed { why, usage: false });
                self.hang_up(peer);
            }
            Received::Message(message) if !door::may_say(way, &message) => self.hang_up(peer),
            Received::Message(message) if !self.is_true(pid, &message) => self.hang_up(peer),
            Received::Message(message) => match *message {
                ToCoordinator::Launch(request) => {
                    // Only who asks for a certain pod may already be in another one, having entered by fork.
                    if request.pod.is_some() {
                        self.rescan_all();
                    }
                    self.queue.push_back(Event::Launch { peer, pid, request });
                }
                ToCoordinator::Restart(request) => {
                    let record = act::record_of(&request);
                    self.queue.push_back(Event::Restart { peer, pid, request, record });
                }
                ToCoordinator::Table => self.give_table(peer, pid),
                message => {
                    let is_command = matches!(
                        message,
                        ToCoordinator::Checkpoint { .. }
                            | ToCoordinator::Status
                            | ToCoordinator::Kill { .. }
                            | ToCoordinator::Interval { .. }
                            | ToCoordinator::Quit { .. }
                    );
                    if is_command {
                        // Processes that have come by fork entered themselves, and those that have gone did not say.
                        self.rescan_all();
                    }
                    self.queue.push_back(Event::Message { peer, pid, message });
                }
            },
        }
    }

    /// Whether a process that says it has been restarted has: then it has entered itself into the pod's table.
    fn is_true(&self, pid: i32, message: &ToCoordinator) -> bool {
        let ToCoordinator::Restarted { pod_id, virtual_pid } = message else { return true };
        let Some(table) = self.tables.get(pod_id) else { return false };
        let entered = table.find(RealPid(pid)).map(|entry| entry.virtual_pid.load(Ordering::Acquire));
        let signal = table.signal.load(Ordering::Relaxed).clamp(1, 64);
        entered == Some(*virtual_pid) && process::may_belong(pid, &self.table_name(*pod_id), signal)
    }

    /// Strangers that have come by the door, and until when they are heard.
    fn strangers(&self) -> impl Iterator<Item = (u64, Instant)> + '_ {
        self.peers.iter().filter_map(|(peer, connected)| match connected.way {
            Way::Stranger(until) => Some((*peer, until)),
            _ => None,
        })
    }

    /// Hangs up on strangers that have had their time; in how many milliseconds the next one will have had it.
    fn dismiss_strangers(&mut self) -> Option<Millis> {
        let now = Instant::now();
        let late: Vec<u64> = self.strangers().filter(|(_, until)| *until <= now).map(|(peer, _)| peer).collect();
        for peer in late {
            self.hang_up(peer);
        }
        self.strangers().map(|(_, until)| until.duration_since(now).as_millis() as Millis + 1).min()
    }

    /// The process that a connection of `pid` speaks for: a member for itself, also one that the program has made without an
    /// exit signal, as Zap makes its helpers.
    fn speaker(&self, pid: i32) -> i32 {
        let is_it = |((_, member), process): (&(u64, i32), &Process)| *member == pid && !process.has_ended();
        if self.members.iter().any(is_it) {
            pid
        } else {
            reach::speaker(pid)
        }
    }

    /// Lets in members of the pods; others are turned away.
    fn answer_the_door(&mut self) {
        while self.strangers().count() < STRANGERS {
            let (socket, pid) = match self.door.as_ref().map(Door::accept) {
                Some(Ok(Some(accepted))) => accepted,
                Some(Err(_)) => return self.crowded = Some(Instant::now()),
                Some(Ok(None)) | None => return,
            };
            let pid = self.speaker(pid);
            let way = if self.members.keys().any(|(_, member)| *member == pid) {
                Way::Member
            } else if self.core.pods().any(crate::core::Pod::is_restarting) || self.pod_of(pid).is_some() {
                Way::Stranger(Instant::now() + STRANGERS_PATIENCE)
            } else {
                continue;
            };
            self.peers.insert(self.next_peer, Connected { socket, pid, way });
            self.next_peer += 1;
        }
    }

    /// The pod in whose table a process is, or its parent: what a member has made may not be in it yet.
    fn pod_of(&self, pid: i32) -> Option<u64> {
        let own = RealPid(pid);
        let parent = zap_sys::process::parent_of(own).filter(|parent| parent.0 > 0);
        let is_in = |table: &MappedTable, pid| table.find(pid).is_some();
        let has = |table: &MappedTable| is_in(table, own) || parent.is_some_and(|parent| is_in(table, parent));
        self.tables.iter().find(|(_, table)| has(table)).map(|(pod, _)| *pod)
    }

    /// Gives the pod's table to a program that cannot open it by its path.
    fn give_table(&mut self, peer: u64, pid: i32) {
        let table = self
            .pod_of(pid)
            .and_then(|pod| std::fs::OpenOptions::new().read(true).write(true).open(self.runtime.table_path(pod)).ok());
        if let (Some(table), Some(connected)) = (table, self.peers.get(&peer)) {
            let bytes = zap_wire::encode(&FromCoordinator::Table).unwrap_or_default();
            let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
            let socket = connected.socket.as_raw_fd();
            // Whoever does not take it has hung up.
            let _ = zap_sys::net::send_with_descriptors(socket, &bytes, &[table.as_raw_fd()], flags);
        }
        self.hang_up(peer);
    }

    fn hang_up(&mut self, peer: u64) {
        self.peers.remove(&peer);
        self.queue.push_back(Event::HungUp { peer });
    }

    /// Sends a message; whoever does not take it has hung up.
    fn send(&mut self, peer: u64, message: &FromCoordinator) -> bool {
        let Some(connected) = self.peers.get(&peer) else { return false };
        let too_long = || FromCoordinator::Failed { why: "the answer is too long".into(), usage: false };
        let bytes = zap_wire::encode(message).or_else(|_| zap_wire::encode(&too_long())).unwrap_or_default();
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        let sent = zap_sys::net::send(connected.socket.as_raw_fd(), &bytes, flags).is_ok();
        if !sent {
            self.hang_up(peer);
        }
        sent
    }

    /// Lets the core decide about everything that has happened, and acts.
    fn work(&mut self) {
        while let Some(event) = self.queue.pop_front() {
            let now = self.now();
            for action in self.core.handle(now, event) {
                self.act(action);
            }
        }
    }

    /// Tells the core who is in each pod's table.
    fn rescan_all(&mut self) {
        for pod in self.tables.keys().copied().collect::<Vec<_>>() {
            self.rescan(pod);
        }
    }

    /// Tells the core who is in the pod's table.
    fn rescan(&mut self, pod: u64) {
        if self.tables.contains_key(&pod) {
            let members = self.scan(pod);
            self.queue.push_back(Event::Members { pod, members });
        }
    }

    /// The living processes in a pod's table; entries of others are dropped, new ones are watched.
    fn scan(&mut self, pod: u64) -> Vec<Member> {
        let Some(table) = self.tables.get(&pod) else { return Vec::new() };
        let (name, signal) = (self.table_name(pod), table.signal.load(Ordering::Relaxed).clamp(1, 64));
        self.unwatched.remove(&pod);
        let mut unwatched = BTreeMap::new();
        let mut strangers = Vec::new();
        for (pid, entry) in table.members() {
            // Whoever looks a process up finds the first entry. While it is being entered it has two for a moment.
            let Some(first) = table.find(pid) else { continue };
            if !std::ptr::eq(first, entry) {
                if [first, entry].iter().all(|one| one.virtual_pid.load(Ordering::Acquire) != 0) {
                    entry.drop_entry();
                }
                continue;
            }
            if let Entry::Vacant(place) = self.members.entry((pod, pid.0)) {
                // Every member can write every word of the table, and what was entered before has perhaps ended: no number
                // there makes anybody a member.
                let belongs = |_: &Process| process::may_belong(pid.0, &name, signal);
                match Process::open(pid.0, 0).map(|process| process.filter(belongs)) {
                    Ok(None) => strangers.push((pid, entry)),
                    found => watch(place, entry, found).unwrap_or_else(|why| drop(unwatched.insert(pid.0, why))),
                }
            }
        }
        // A member's child may be seen between its fork and its exec's end.
        loop {
            let is_child = |(pid, _): &(RealPid, &TableEntry)| {
                let parent = zap_sys::process::parent_of(*pid);
                parent.is_some_and(|parent| self.members.contains_key(&(pod, parent.0)))
            };
            let (children, others): (Vec<_>, Vec<_>) = strangers.into_iter().partition(is_child);
            strangers = others;
            for (pid, entry) in &children {
                if let Entry::Vacant(place) = self.members.entry((pod, pid.0)) {
                    let found = Process::open(pid.0, 0);
                    watch(place, entry, found).unwrap_or_else(|why| drop(unwatched.insert(pid.0, why)));
                }
            }
            if children.is_empty() {
                break;
            }
        }
        for (_, entry) in strangers {
            entry.drop_entry();
        }
        if !unwatched.is_empty() {
            self.unwatched.insert(pod);
        }
        let mut members = Vec::new();
        let mut kin = BTreeMap::new();
        for (pid, entry) in table.members() {
            if !self.members.contains_key(&(pod, pid.0)) && !unwatched.contains_key(&pid.0) {
                // Entered since.
                continue;
            }
            let bytes = entry.name_bytes();
            let length = bytes.iter().position(|c| *c == 0).unwrap_or(bytes.len());
            let mut program = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if program.is_empty() {
                program = process::name(pid.0);
            }
            let stat = zap_sys::process::stat(pid);
            kin.extend(stat.map(|stat| (pid.0, Kin { parent: stat.parent.0, started: stat.started })));
            let (virtual_pid, stopped) = (entry.virtual_pid().0, stat.is_some_and(|stat| stat.is_stopped()));
            let not_checkpointable = act::failure(table, entry).or_else(|| unwatched.remove(&pid.0));
            members.push(Member { pid: pid.0, virtual_pid, program, stopped, not_checkpointable });
        }
        let first = self.core.pod(pod).filter(|pod| pod.ended.is_none()).map_or(0, |pod| pod.first);
        members.sort_by_cached_key(|member| seniority::of(member.pid, &kin, first));
        members
    }

    /// The name of a pod's table, by which members have it: the directory may have been moved.
    fn table_name(&self, pod: u64) -> Vec<u8> {
        let path = self.runtime.table_path(pod);
        path.file_name().map(|name| name.as_bytes().to_vec()).unwrap_or_default()
    }

    /// Notes how a pod's first process has ended: a restart ends as it did.
    fn note_first(&mut self, pod: u64, pid: i32) {
        let is_first = self.core.pod(pod).is_some_and(|known| known.first == pid && known.ended.is_none());
        let status = self.members.get(&(pod, pid)).filter(|_| is_first).and_then(|process| process.status(pid));
        if let Some(status) = status {
            self.queue.push_back(Event::FirstEnded { pod, status });
        }
    }

    /// Drops a process from the table and from the watch.
    fn forget(&mut self, pod: u64, pid: i32) {
        let watched = self.members.remove(&(pod, pid));
        // A later process of the same number may have the entry by now.
        let now = zap_sys::process::start_time(RealPid(pid)).ok();
        if watched.is_some_and(|process| now.is_some_and(|now| process.is_before(now))) {
            return;
        }
        if let Some(entry) = self.tables.get(&pod).and_then(|table| table.find(RealPid(pid))) {
            entry.drop_entry();
        }
    }

    /// Ends, unless somebody has connected at the last moment: then life goes on. True if it is over.
    fn leave(&mut self) -> Result<bool> {
        self.listener.hide();
        let Some((socket, pid)) = self.accept() else {
            self.end_keeping();
            return Ok(true);
        };
        self.core.stay();
        self.exiting = false;
        let mut accepted = Some((socket, pid));
        while let Some((socket, pid)) = accepted {
            self.peers.insert(self.next_peer, Connected { socket, pid, way: Way::Front });
            self.next_peer += 1;
            accepted = self.accept();
        }
        self.listener.reopen()?;
        Ok(false)
    }

    fn millis(&self) -> Millis {
        self.clock.millis()
    }

    fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { millis: self.millis(), epoch: since.as_secs(), epoch_ns: since.as_nanos() as u64, random: random() }
    }
}

/// Takes a member under watch, if it lives: else its entry goes. Why it cannot be watched.
fn watch(
    place: VacantEntry<(u64, i32), Process>,
    entry: &TableEntry,
    found: std::io::Result<Option<Process>>,
) -> std::result::Result<(), String> {
    let (_, pid) = *place.key();
    let found = found.and_then(|process| process.map(Process::watched).transpose());
    match found.map_err(|error| act::unwatchable(&error))? {
        Some(process) => {
            entry.start_time.store(zap_sys::process::start_time(RealPid(pid)).unwrap_or(0), Ordering::Relaxed);
            place.insert(process);
        }
        None => entry.drop_entry(),
    }
    Ok(())
}

/// Pods whose images are compressed and synced at the same time.
const WORKERS: usize = 4;

/// The threads that compress, sync and rename, so that the others can be served meanwhile.
#[allow(clippy::type_complexity)]
fn workers(
    tools: &Tools,
    bell: &Arc<OwnedFd>,
) -> (Sender<(Job, Images)>, Receiver<(u64, std::result::Result<Kept, String>)>) {
    let (jobs, incoming) = unbounded::<(Job, Images)>();
    let (outgoing, done) = unbounded();
    for _ in 0..WORKERS {
        let (tools, bell) = (tools.clone(), bell.clone());
        let (incoming, outgoing) = (incoming.clone(), outgoing.clone());
        std::thread::spawn(move || {
            for (job, images) in incoming {
                let outcome = images.commit(&job, &tools).map_err(|error| error.to_string());
                if outgoing.send((job.pod, outcome)).is_err() {
                    return;
                }
                let _ = zap_sys::fd::write(bell.as_raw_fd(), &1u64.to_ne_bytes());
            }
        });
    }
    (jobs, done)
}

/// syncfs(2).
fn sync_file_system(file: &File) -> std::io::Result<()> {
    // SAFETY: an open descriptor.
    match unsafe { libc::syncfs(file.as_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A random number, never zero.
fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: eight bytes are there to be written.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if count != 8 {
        // Only before the kernel's pool is ready. Ids need to be different, not secret.
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        bytes = (time.as_nanos() as u64).to_ne_bytes();
    }
    u64::from_ne_bytes(bytes).max(1)
}

/// The limits of time, as tests may have changed them.
fn limits() -> Limits {
    let seconds = |name: &str| {
        let value: f64 = std::env::var(name).ok()?.parse().ok()?;
        (value.is_finite() && value >= 0.0).then_some((value * 1000.0) as Millis)
    };
    let mut limits = Limits::default();
    limits.answer = seconds("ZAP_TIMEOUT_SECONDS").unwrap_or(limits.answer);
    limits.idle = seconds("ZAP_IDLE_SECONDS").unwrap_or(limits.idle);
    limits
}
