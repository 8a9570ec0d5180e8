//! From plans to a running pod: its processes are made, restore themselves, and run when all have.
//!
//! Descriptors that several processes have go through here: one publishes what it has made, others ask for it.
//!
//! # Safety
//! Descriptors that come with messages are new, and this process's own.
#![allow(unsafe_code)]

use crate::barred;
use crate::commons::Commons;
use crate::grow::Family;
use crate::image::Image;
use crate::kept::KeptFiles;
use crate::measures::{Changes, Measures};
use crate::planner::Planned;
use crate::program::{Numbers, Program};
use crate::supervise::{self, Patience, Woken};
use crate::terminal::{self, Front};
use crate::tree::Tree;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zap_client::error::{reason, Error, Result};
use zap_client::{executable, Connection, MappedTable, RuntimeDir};
use zap_restorer::{REPORT_FAILED, REPORT_FILE_GONE, REPORT_NO_PLACE};
use zap_sys::signal::Mask;
use zap_sys::{fd, net, process, signal, RealPid, SysError, VirtualPid};
use zap_wire::restart::{Moved, Order, Report, RestartParts};
use zap_wire::ToCoordinator;

/// How often execs are tried whose addresses, which the kernel chooses at random, are in the way.
const ATTEMPTS: u32 = 5;

/// What the pod's coordinator has said.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: u64,
    pub name: String,
    pub table: String,
}

/// Circumstances of the new processes.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// In a session of their own.
    pub background: bool,
    /// The signal mask with which zap-restart was started.
    pub mask: Mask,
    /// What is done about the files that they have open, before they run, and has been done.
    pub measures: &'a Measures,
    pub changes: &'a Changes,
    /// What files without a name hold.
    pub kept: &'a KeptFiles,
    /// Directories that are elsewhere now.
    pub moved: &'a [Moved],
}

/// How a start has gone that has not failed for good.
pub enum Start {
    /// The pod's first process.
    Runs(RealPid),
    /// A file that a plan maps has gone since the plan was made.
    FileGone(Error),
}

/// A process that is to be restarted.
#[derive(Debug)]
pub struct Candidate {
    pub image: Image,
    pub planned: Planned,
}

/// What a process is started with.
pub struct Ready<'a> {
    pub image: &'a Image,
    pub program: Program,
    pub plan: File,
}

/// Starts the pod of `candidates`, which `tree` describes; returns when all of it runs. A signal meanwhile ends this
/// process, and what it has made.
pub fn start(
    candidates: &[Candidate],
    commons: &Commons,
    tree: &Tree,
    pod: &Pod,
    circumstances: Circumstances<'_>,
) -> Result<Start> {
    let numbers = Numbers::below_limit();
    let started_ns = zap_sys::time::to_ns(&zap_sys::time::now(libc::CLOCK_REALTIME));
    let ready = candidates
        .iter()
        .map(|one| make_ready(one, pod, numbers, (started_ns, circumstances.moved)))
        .collect::<Result<Vec<_>>>()?;
    let patience = Patience::new(circumstances.mask).map_err(|error| Error::new("signals", error))?;
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match attempt(&ready, commons, tree, pod, numbers, circumstances, &patience)? {
            Attempt::Started(first) => return Ok(Start::Runs(first)),
            Attempt::FileGone(error) => return Ok(Start::FileGone(error)),
            Attempt::NoPlace(error) if left == 0 => return Err(error),
            Attempt::NoPlace(_) => {}
        }
    }
}

fn make_ready<'a>(
    candidate: &'a Candidate,
    pod: &Pod,
    numbers: Numbers,
    (started_ns, moved): (u64, &[Moved]),
) -> Result<Ready<'a>> {
    let Candidate { image, planned } = candidate;
    let parts = RestartParts {
        pod_id: pod.id,
        table: pod.table.clone(),
        streams: [0, 1, 2],
        report: numbers.report,
        spare: Vec::new(),
        // Only the restorer knows these two; it writes them behind the parts (`zap_restorer::plan::Trailer`).
        restorer: (0, 0),
        vdso: (0, 0),
        started_ns,
        image_backed: planned.image_backed.clone(),
        moved: moved.to_vec(),
    };
    let parts = zap_wire::encode(&parts).map_err(|why| Error::new("restart parts", why))?;
    let plan = planned.encode(&image.header, numbers.image, numbers.report, &parts)?;
    Ok(Ready { image, program: Program::new(image)?, plan: in_memory(&plan)? })
}

/// Refuses an executable into which the restorer would not be loaded: it would run from its beginning instead.
pub fn check_executable(image: &Image) -> Result<()> {
    let path = Path::new(OsStr::from_bytes(&image.header.process.executable.0));
    let inspection = executable::inspect(path)?;
    match (inspection.kind, inspection.file == path) {
        (executable::Kind::Dynamic, true) => Ok(()),
        (kind, _) => Err(Error::new(path.display(), kind.refusal().unwrap_or("is not the program it was"))),
    }
}

enum Attempt {
    /// The pod's first process.
    Started(RealPid),
    /// The kernel's choice of addresses was in the way.
    NoPlace(Error),
    /// As [`Start::FileGone`].
    FileGone(Error),
}

/// What comes of a process's word that ends an attempt.
enum Failure {
    NoPlace(Error),
    FileGone(Error),
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

fn attempt(
    ready: &[Ready<'_>],
    commons: &Commons,
    tree: &Tree,
    pod: &Pod,
    numbers: Numbers,
    circumstances: Circumstances<'_>,
    patience: &Patience,
) -> Result<Attempt> {
    let mut reports = Vec::new();
    let mut theirs = Vec::new();
    for one in ready {
        let failed = |error: SysError| Error::new(one.image.path.display(), error);
        let pair = net::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).map_err(failed)?;
        // SAFETY: new descriptors that nobody else knows.
        let (ours, other) = unsafe { (OwnedFd::from_raw_fd(pair.0), OwnedFd::from_raw_fd(pair.1)) };
        reports.push(ours);
        theirs.push(other);
    }
    let sources = |index: usize| Numbers {
        plan: ready[index].plan.as_raw_fd(),
        image: ready[index].image.file.as_raw_fd(),
        report: theirs[index].as_raw_fd(),
    };
    let family = Family::grow(ready, tree, &sources, numbers, circumstances)?;
    drop(theirs);
    let mut exchange = Exchange {
        ready,
        commons,
        kept: circumstances.kept,
        changes: circumstances.changes,
        reports: &reports,
        published: BTreeMap::new(),
        open: Vec::new(),
        waiting: Vec::new(),
        whole: 0,
    };
    let result = exchange.serve(&family, patience).and_then(|()| {
        enter_aliases(&family, tree, pod)?;
        let front = front(ready, &family).filter(|_| !circumstances.background);
        let resized = front.filter(|front| terminal::hand_over(front.clone()));
        exchange.close_off()?;
        circumstances.measures.cut_back(circumstances.changes)?;
        let told = tell_coordinator(pod)?;
        exchange.go()?;
        if let Some(front) = resized {
            tell_of_size(front.group.unwrap_or(front.leader));
        }
        // Whoever knows that this process has ended, or gone into the background, finds the pod running.
        if let Some(connection) = told {
            let _ = connection.receive();
        }
        Ok(())
    });
    match result {
        Ok(()) => Ok(Attempt::Started(family.pid(0))),
        Err(failure) => {
            family.abandon();
            terminal::take_back();
            // A terminal's signal goes to all, and may have ended one of the others first.
            if let Some(number) = patience.pending() {
                circumstances.changes.undo();
                supervise::end_by(number);
            }
            match failure {
                Failure::NoPlace(error) => Ok(Attempt::NoPlace(error)),
                Failure::FileGone(error) => Ok(Attempt::FileGone(error)),
                Failure::Final(error) => Err(error),
            }
        }
    }
}

/// Tells the coordinator that the pod runs. Signals are the program's from here on. `None` if there is none any more: one that
/// comes after it takes the pod for running anyhow.
fn tell_coordinator(pod: &Pod) -> Result<Option<Connection>> {
    let Some(runtime) = RuntimeDir::open()? else { return Ok(None) };
    let Some(connection) = Connection::connect(&runtime)? else { return Ok(None) };
    let sent = connection.send(&ToCoordinator::Runs { pod_id: pod.id })?;
    Ok(sent.then_some(connection))
}

/// Who had the terminal: the process group that was in its foreground, if it is one of the pod's.
fn front(ready: &[Ready<'_>], family: &Family) -> Option<Front> {
    let header = &ready.first()?.image.header;
    let first = &header.process;
    let leader = process::group_of(family.pid(0)).ok()?;
    if first.foreground == 0 {
        return Some(Front { group: None, leader, saved: Some(header.terminal()?) });
    }
    let is_in_front = |one: &Ready<'_>| {
        let process = &one.image.header.process;
        (process.group, process.session) == (first.foreground, first.session)
    };
    let index = ready.iter().position(is_in_front)?;
    let process = family.pid(index);
    // One that leads a session has a new one, without this terminal.
    let is_here = process::session_of(process).is_ok_and(|session| session == process::getsid());
    let group = process::group_of(process).ok().filter(|_| is_here);
    Some(Front { group, leader, saved: ready[index].image.header.terminal() })
}

/// Tells `group` that its terminal has another size.
fn tell_of_size(group: RealPid) {
    let _ = signal::kill(-group.0, libc::SIGWINCH);
    // In a group with the program zap-restart would pass it on.
    if group == process::getpgrp() {
        signal::take_pending(libc::SIGWINCH);
    }
}

/// Enters ids of process groups and sessions into the pod's table; those of processes are entered by themselves.
fn enter_aliases(family: &Family, tree: &Tree, pod: &Pod) -> Result<()> {
    let table = MappedTable::open(Path::new(&pod.table))?;
    for (kind, real, id) in family.groups_and_sessions(tree) {
        if real.0 != id && !table.add_alias(kind, real, VirtualPid(id)) {
            return Err(Error::new("pod table", "has no room for more ids"));
        }
    }
    Ok(())
}

/// A file without a name, and what it gets when all processes are whole ([`Report::CloseOff`]).
struct OpenFile {
    file: File,
    mode: u32,
    seals: u32,
}

/// The conversation with all processes.
struct Exchange<'a> {
    ready: &'a [Ready<'a>],
    commons: &'a Commons,
    kept: &'a KeptFiles,
    changes: &'a Changes,
    reports: &'a [OwnedFd],
    published: BTreeMap<(u64, u32), OwnedFd>,
    /// Files that let everybody in until all are whole.
    open: Vec<OpenFile>,
    /// Who waits for what: index of the process, and key.
    waiting: Vec<(usize, (u64, u32))>,
    /// Processes that are whole.
    whole: usize,
}

impl Exchange<'_> {
    /// Until every process is whole.
    fn serve(&mut self, family: &Family, patience: &Patience) -> std::result::Result<(), Failure> {
        let mut is_whole = vec![false; self.reports.len()];
        while self.whole < self.reports.len() {
            // One that is whole says nothing more, and one that has ended can be read from.
            let numbers: Vec<_> = self.reports.iter().map(AsRawFd::as_raw_fd).collect();
            let indices = match patience.wait(&numbers) {
                Woken::Reports(indices) => indices,
                Woken::Signal(number) => {
                    family.abandon();
                    self.changes.undo();
                    supervise::end_by(number)
                }
            };
            for index in indices {
                if self.hear(index, family)? {
                    if std::mem::replace(&mut is_whole[index], true) {
                        return Err(self.error(index, "reported twice").into());
                    }
                    self.whole += 1;
                }
            }
        }
        Ok(())
    }

    fn error(&self, index: usize, why: impl std::fmt::Display) -> Error {
        Error::new(self.ready[index].image.path.display(), why)
    }

    /// Takes one message in; true if the process is whole.
    fn hear(&mut self, index: usize, family: &Family) -> std::result::Result<bool, Failure> {
        let mut buffer = vec![0u8; zap_wire::LONGEST_MESSAGE];
        let socket = self.reports[index].as_raw_fd();
        let received = net::receive_with_descriptors(socket, &mut buffer, 0);
        if received.as_ref().is_err_and(|error| error.is(libc::EINTR)) {
            return Ok(false);
        }
        let length = received.as_ref().map_or(0, |(length, ..)| *length);
        let descriptors = received.as_ref().map_or(&[][..], |(_, descriptors, _)| descriptors.as_slice());
        // SAFETY: new descriptors.
        let descriptors: Vec<OwnedFd> = descriptors.iter().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) }).collect();
        let mut descriptors = descriptors.into_iter();
        let said = &buffer[..length];
        let text = || String::from_utf8_lossy(said.get(1..).unwrap_or_default()).trim_end().to_string();
        match said.first() {
            None => {
                let why = match family.ending(index) {
                    Some(status) => format!("the restored program has {} at once", ending(status)),
                    None => "the restored program has ended at once".to_string(),
                };
                return Err(self.error(index, why).into());
            }
            Some(&REPORT_NO_PLACE) => return Err(Failure::NoPlace(self.error(index, text()))),
            Some(&REPORT_FILE_GONE) => return Err(Failure::FileGone(self.error(index, text()))),
            Some(&REPORT_FAILED) => return Err(self.error(index, text()).into()),
            Some(_) => {}
        }
        let said = zap_wire::decode::<Report>(said);
        match said.map_err(|why| self.error(index, format_args!("the restored program's report: {why}")))? {
            Report::Ready => return Ok(true),
            Report::Refused { object, reason } => return Err(Error::new(object, reason).into()),
            Report::Publish { key, part } => {
                let descriptor = descriptors.next().ok_or_else(|| self.error(index, "published nothing"))?;
                self.published.insert((key, part), descriptor);
            }
            Report::Memory { device, inode } => match self.commons.file(device, inode) {
                Some(file) => self.say(index, Order::Given, &[file.as_raw_fd()])?,
                None => return Err(self.error(index, "asks for memory that is in no image").into()),
            },
            Report::CloseOff { mode, seals } => {
                let descriptor = descriptors.next().ok_or_else(|| self.error(index, "gave a mode to nothing"))?;
                self.open.push(OpenFile { file: descriptor.into(), mode, seals });
            }
            Report::Fill { device, inode, from } => {
                let descriptor = descriptors.next().ok_or_else(|| self.error(index, "asks to fill nothing"))?;
                let kept = self.kept.get((device, inode));
                let kept = kept.ok_or_else(|| self.error(index, "asks for a file that is not beside the images"))?;
                let filled = kept.pour(&File::from(descriptor), from);
                let name = format_args!("file {}", String::from_utf8_lossy(&kept.head.path.0)).to_string();
                filled.map_err(|error| Error::new(name, reason(&error)))?;
                self.say(index, Order::Filled, &[])?;
            }
            Report::Open { path, flags } => {
                let path = Path::new(OsStr::from_bytes(&path));
                let opened = barred::open(path, flags);
                let file =
                    opened.map_err(|error| Error::new(format_args!("file {}", path.display()), reason(&error)))?;
                self.say(index, Order::Given, &[file.as_raw_fd()])?;
            }
            Report::Subscribe { key, part } => self.waiting.push((index, (key, part))),
        }
        let waiting = std::mem::take(&mut self.waiting);
        for (index, key) in waiting {
            match self.published.get(&key) {
                Some(descriptor) => self.say(index, Order::Given, &[descriptor.as_raw_fd()])?,
                None => self.waiting.push((index, key)),
            }
        }
        Ok(false)
    }

    fn say(&self, index: usize, order: Order, descriptors: &[i32]) -> Result<()> {
        let bytes = zap_wire::encode(&order).map_err(|why| self.error(index, why))?;
        net::send_with_descriptors(self.reports[index].as_raw_fd(), &bytes, descriptors, libc::MSG_NOSIGNAL)
            .map(|_| ())
            .map_err(|error| self.error(index, error))
    }

    /// Gives files without a name their modes and seals: nobody opens them any more.
    fn close_off(&mut self) -> Result<()> {
        for OpenFile { file, mode, seals } in self.open.drain(..) {
            let set = file.set_permissions(Permissions::from_mode(mode));
            set.map_err(|error| Error::new("mode of a file without a name", reason(&error)))?;
            if seals != 0 {
                let sealed = fd::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals as usize);
                sealed.map_err(|error| Error::new("seals of a memfd", error))?;
            }
        }
        Ok(())
    }

    /// Lets all run. Who has ended meanwhile is found by its exit status: the others run on.
    fn go(&mut self) -> Result<()> {
        // Nobody else is to have an end of a pipe.
        self.published.clear();
        (0..self.reports.len()).try_for_each(|index| self.say(index, Order::Go, &[]))
    }
}

fn ending(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("been ended by signal {}", libc::WTERMSIG(status))
    } else {
        format!("ended with status {}", libc::WEXITSTATUS(status))
    }
}

/// A new file without a name, in the directory that `path` is in.
pub fn nameless_file(path: &[u8]) -> std::result::Result<File, SysError> {
    let number = fd::make_nameless(path)?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { File::from_raw_fd(number) })
}

/// A new file without a name, in memory.
pub fn memory_file(name: &std::ffi::CStr) -> std::result::Result<File, SysError> {
    let number = fd::memfd_create(name, libc::MFD_CLOEXEC)?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { File::from_raw_fd(number) })
}

fn in_memory(bytes: &[u8]) -> Result<File> {
    let mut file = memory_file(c"zap-plan").map_err(|error| Error::new("plan", error))?;
    file.write_all(bytes).map_err(|error| Error::new("plan", reason(&error)))?;
    Ok(file)
}
