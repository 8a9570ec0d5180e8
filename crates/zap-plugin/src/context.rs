//! What a plugin is given while it saves and restores.

use crate::descriptor::Description;
use crate::Refusal;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use zap_sys::{RawFd, RealPid, VirtualPid};

/// A named, versioned part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedSection {
    /// `plugin.noun`.
    pub name: String,
    pub version: u32,
    /// A restart that lacks the plugin, or knows only older versions, is refused.
    pub required: bool,
    pub bytes: Vec<u8>,
}

/// How the program has named a file that it watches (inotify(7)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedPath {
    /// Absolute.
    pub path: Vec<u8>,
    /// A symbolic link at its end was followed.
    pub follow: bool,
    /// It leads to a file of the same device. The kernel's own number of a device is not always that of stat(2).
    pub is_sure: bool,
}

/// What the engine tells of the process and its pod.
#[derive(Clone, Copy)]
pub struct Known {
    /// See [`SaveContext::stopped_for`].
    pub since_stop: fn() -> u64,
    /// See [`SaveContext::member`].
    pub member: fn(RealPid) -> Option<VirtualPid>,
    /// See [`SaveContext::watched`].
    pub watched: fn(u64, u64) -> Option<WatchedPath>,
    /// See [`SaveContext::terminal`].
    pub terminal: fn(u32) -> u32,
    /// See [`SaveContext::files_are_read`].
    pub files_are_read: bool,
}

/// Handed to [`crate::Plugin::save`].
pub struct SaveContext<'a> {
    /// The descriptions that the plugin has claimed.
    pub claimed: Vec<&'a Description>,
    /// Every description of the process, for what refers to others by number.
    pub all: &'a [Description],
    known: Known,
    notes: &'a [(u64, Vec<u8>)],
    saved: &'a mut Saved,
}

/// What plugins save.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    pub sections: Vec<SavedSection>,
    /// See [`SaveContext::file`]: ids of descriptions, and paths.
    pub files: Vec<(u32, Vec<u8>)>,
}

impl<'a> SaveContext<'a> {
    /// For the engine and for tests.
    pub fn new(
        all: &'a [Description],
        claimed: Vec<&'a Description>,
        known: Known,
        notes: &'a [(u64, Vec<u8>)],
        saved: &'a mut Saved,
    ) -> Self {
        Self { claimed, all, known, notes, saved }
    }

    /// Whether the coordinator has read files of the pod since phase Drain, to keep them beside the images.
    pub fn files_are_read(&self) -> bool {
        self.known.files_are_read
    }

    /// What is told ([`crate::Plugin::note`]) of each description of the object `key` ([`crate::Share::object`]) that the
    /// pod has. Nothing is told of objects that are this process's alone.
    pub fn notes(&self, key: u64) -> impl Iterator<Item = &'a [u8]> {
        let notes = self.notes;
        notes.iter().filter(move |note| note.0 == key).map(|note| note.1.as_slice())
    }

    /// Nanoseconds for which the program's clocks have stood: what is left of a timer was more by so much. To be asked
    /// after the timer.
    pub fn stopped_for(&self) -> u64 {
        (self.known.since_stop)()
    }

    /// The id by which the pod knows the process that the kernel knows as `pid`; `None` for what is none of the pod's.
    pub fn member(&self, pid: RealPid) -> Option<VirtualPid> {
        (self.known.member)(pid)
    }

    /// The number by which the pod knows the pseudo terminal that is /dev/pts/`real` for the kernel.
    pub fn terminal(&self, real: u32) -> u32 {
        (self.known.terminal)(real)
    }

    /// By which path the program watches the file that the kernel knows by these numbers, if that still leads to it.
    pub fn watched(&self, inode: u64, device: u64) -> Option<WatchedPath> {
        (self.known.watched)(inode, device)
    }

    /// Tells that a restart opens the regular file of `description` again, by `path`: it must be there then, and be no
    /// shorter. What is done about one that has changed is the restart's affair.
    pub fn file(&mut self, description: &Description, path: &[u8]) {
        self.saved.files.push((description.id, path.to_vec()));
    }

    /// Saves `bytes` as section `name` (`plugin.noun`), required at restart.
    pub fn section(&mut self, name: &str, version: u32, bytes: Vec<u8>) {
        self.saved.sections.push(SavedSection { name: name.to_string(), version, required: true, bytes });
    }
}

/// The part under which [`RestoreContext::held`] has a description that was in flight.
pub const IN_FLIGHT: u32 = u32::MAX;

/// How processes of the pod hand each other descriptors at a restart.
pub trait Exchange {
    /// See [`RestoreContext::publish`].
    fn publish(&mut self, key: u64, part: u32, fd: RawFd) -> Result<(), Refusal>;
    /// See [`RestoreContext::subscribe`].
    fn subscribe(&mut self, key: u64, part: u32) -> Result<RawFd, Refusal>;
    /// See [`RestoreContext::memory`].
    fn memory(&mut self, device: u64, inode: u64) -> Result<RawFd, Refusal>;
    /// See [`RestoreContext::close_off`].
    fn close_off(&mut self, fd: RawFd, mode: u32, seals: u32) -> Result<(), Refusal>;
    /// See [`RestoreContext::fill`].
    fn fill(&mut self, fd: RawFd, file: (u64, u64), from: u64) -> Result<(), Refusal>;
    /// See [`RestoreContext::open_barred`].
    fn open_barred(&mut self, path: &[u8], flags: i32) -> Result<RawFd, Refusal>;
    /// See [`RestoreContext::path_now`].
    fn path_now(&self, path: &[u8]) -> Option<Vec<u8>>;
    /// See [`RestoreContext::process`].
    fn process(&mut self, id: VirtualPid) -> Result<RealPid, Refusal>;
    /// See [`RestoreContext::name_terminal`].
    fn name_terminal(&mut self, real: u32, id: u32) -> Result<(), Refusal>;
    /// See [`RestoreContext::install`].
    fn install(&mut self, id: u32, fd: RawFd) -> Result<(), Refusal>;
    /// See [`RestoreContext::hold`].
    fn hold(&mut self, id: u32, part: u32, fd: RawFd);
    /// See [`RestoreContext::held`].
    fn held(&self, id: u32, part: u32) -> Option<RawFd>;
}

/// Handed to [`crate::Plugin::restore`] and [`crate::Plugin::refill`].
pub struct RestoreContext<'a> {
    sections: &'a [SavedSection],
    streams: [RawFd; 3],
    since_start: fn() -> u64,
    exchange: &'a mut dyn Exchange,
}

impl<'a> RestoreContext<'a> {
    /// For the engine and for tests.
    pub fn new(
        sections: &'a [SavedSection],
        streams: [RawFd; 3],
        since_start: fn() -> u64,
        exchange: &'a mut dyn Exchange,
    ) -> Self {
        Self { sections, streams, since_start, exchange }
    }

    /// Nanoseconds for which the program's clocks have gone on: what is left of a timer is less by so much. To be asked
    /// before the timer is set.
    pub fn running_for(&self) -> u64 {
        (self.since_start)()
    }

    /// The section `name` if the image has it in `version`; another version is refused.
    pub fn section(&self, name: &str, version: u32) -> Result<Option<&'a [u8]>, Refusal> {
        match self.sections.iter().find(|section| section.name == name) {
            None => Ok(None),
            Some(section) if section.version == version => Ok(Some(&section.bytes)),
            Some(section) => Err(Refusal::new(
                alloc::format!("section {name}"),
                alloc::format!("has version {}, this Zap knows version {version}", section.version),
            )),
        }
    }

    /// Hands over `fd`, a new descriptor for description `id`. It is moved to all the numbers that the description had;
    /// the plugin must not use it afterwards.
    pub fn install(&mut self, id: u32, fd: RawFd) -> Result<(), Refusal> {
        self.exchange.install(id, fd)
    }

    /// Hands part `part` of the object `key` ([`crate::Share::object`]) to the other processes that ask for it. The
    /// descriptor stays the caller's.
    pub fn publish(&mut self, key: u64, part: u32, fd: RawFd) -> Result<(), Refusal> {
        self.exchange.publish(key, part, fd)
    }

    /// Waits for what another process publishes under this name: a new descriptor of the same open file description.
    pub fn subscribe(&mut self, key: u64, part: u32) -> Result<RawFd, Refusal> {
        self.exchange.subscribe(key, part)
    }

    /// The file without a name that was this one at the checkpoint, and is mapped ([`crate::Share::mapped`]): a new
    /// descriptor. It holds what was mapped, and is at least as long.
    pub fn memory(&mut self, device: u64, inode: u64) -> Result<RawFd, Refusal> {
        self.exchange.memory(device, inode)
    }

    /// Gives the file `fd`, which stays the caller's, its mode and seals (F_ADD_SEALS, fcntl(2)) when all processes of the pod
    /// are whole: until then others open it by way of /proc, map it and write to it, and a mode may keep its owner out.
    pub fn close_off(&mut self, fd: RawFd, mode: u32, seals: u32) -> Result<(), Refusal> {
        self.exchange.close_off(fd, mode, seals)
    }

    /// Copies into the file `fd`, which stays the caller's, what the kept file ([`crate::Plugin::keeps`]) that was `file` at
    /// the checkpoint (device, inode) holds from offset `from` on. Waits until that is done.
    pub fn fill(&mut self, fd: RawFd, file: (u64, u64), from: u64) -> Result<(), Refusal> {
        self.exchange.fill(fd, file, from)
    }

    /// Opens the regular file at `path` with `flags` of open(2), though its own mode keeps its owner out: it was made so
    /// (O_CREAT), or has become so while it was open. The mode stays.
    pub fn open_barred(&mut self, path: &[u8], flags: i32) -> Result<RawFd, Refusal> {
        self.exchange.open_barred(path, flags)
    }

    /// Where a path of the checkpoint leads now: the user may have said that directories are elsewhere (`zap-restart --map`).
    pub fn path_now(&self, path: Vec<u8>) -> Vec<u8> {
        self.exchange.path_now(&path).unwrap_or(path)
    }

    /// The kernel's id of the process that the pod knows as `id` ([`SaveContext::member`]). Waits until that is there.
    pub fn process(&mut self, id: VirtualPid) -> Result<RealPid, Refusal> {
        self.exchange.process(id)
    }

    /// Has the pod know /dev/pts/`real` by the number `id` ([`SaveContext::terminal`]).
    pub fn name_terminal(&mut self, real: u32, id: u32) -> Result<(), Refusal> {
        self.exchange.name_terminal(real, id)
    }

    /// Leaves `fd` for [`crate::Plugin::refill`], after which it is closed: part `part` of what belongs to description `id`.
    pub fn hold(&mut self, id: u32, part: u32, fd: RawFd) {
        self.exchange.hold(id, part, fd);
    }

    /// What has been left under these numbers. It stays the engine's.
    pub fn held(&self, id: u32, part: u32) -> Option<RawFd> {
        self.exchange.held(id, part)
    }

    /// The new standard stream `number` (0, 1, 2), or -1. It stays the engine's: duplicate it to install it.
    pub fn stream(&self, number: u8) -> RawFd {
        self.streams.get(usize::from(number)).copied().unwrap_or(-1)
    }
}
