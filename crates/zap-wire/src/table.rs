//! The pod table: one file per pod in the runtime directory, mapped by the coordinator and by every process of the pod.
//!
//! It is how a coordinator that has just been started finds the processes of pods that it has never seen, and how a
//! process knows what a signal means without a system call. Entries are read lock-free and entered by compare-and-swap
//! keyed on the real pid, by the process itself or by whoever makes it, whichever comes first; the coordinator drops
//! them when the process has ended.

use core::sync::atomic::{AtomicI32, AtomicU16, AtomicU32, AtomicU64, AtomicU8, Ordering};
use zap_sys::{RealPid, VirtualPid};

/// First word of the file.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ZAPTABLE");

/// Version of this layout.
pub const VERSION: u32 = 11;

/// Value of [`Entry::ready`]: libzap's handler stands.
pub const READY: u32 = 1;

/// Value of [`Entry::ready`]: the program sets a seccomp filter of its own. Whoever has asked it for a checkpoint before
/// gets one; nobody may signal it any more.
pub const CLOSED: u32 = 2;

/// Number of entries.
pub const CAPACITY: usize = 4096;

/// The mapped file. All-zero bytes are a valid, not yet initialized table.
#[repr(C)]
pub struct PodTable {
    pub magic: AtomicU64,
    pub version: AtomicU32,
    /// Zap's signal in this pod.
    pub signal: AtomicI32,
    pub pod_id: AtomicU64,
    /// (device, inode) of the standard streams that the pod was launched with.
    pub streams: [[AtomicU64; 2]; 3],
    /// Not 0: the pod has been restarted here, and virtual ids may differ from real ones.
    pub moved: AtomicU32,
    /// Counts the virtual ids that had to be made up, see [`PodTable::free_id`].
    made_up: AtomicI32,
    /// Name of the coordinator's socket without a path, NUL-padded: for members that cannot reach the other one.
    pub door: [AtomicU8; DOOR_LENGTH],
    /// What a new process's virtual id has more than its real one: 0, or [`OFFSET`] where both are to differ from the start.
    pub offset: AtomicI32,
    /// Inode of the PID namespace whose ids these are; 0 if that is not known.
    pub pid_namespace: AtomicU32,
    /// Inodes of the namespaces in which the pod began, or was restarted ([`zap_sys::process::NAMESPACES`]); 0 if not known.
    pub namespaces: [AtomicU32; zap_sys::process::NAMESPACES.len()],
    /// Not 0: a process of the pod has been found stopped, see [`Entry::halt`].
    pub halted: AtomicU32,
    /// How many words (8 bytes) lie behind the table in its file: [`crate::inodes`]. Set once, before there are processes.
    pub inodes: AtomicU64,
    padding: [u8; 4096 - 120 - DOOR_LENGTH],
    pub entries: [Entry; CAPACITY],
    /// For each entry, why its process cannot be checkpointed any more: text, NUL-padded.
    pub reasons: [[AtomicU8; REASON_LENGTH]; CAPACITY],
    /// Ids of processes, process groups and sessions that differ from the kernel's; those that bear them may have ended.
    pub aliases: [Alias; ALIASES],
    /// The pod's own directories, as [`crate::private::encode`] writes them; zeroes if it has none.
    private: [AtomicU8; PRIVATE_LENGTH],
}

/// Bytes for the names of the pod's own directories.
pub const PRIVATE_LENGTH: usize = 8192;

/// Longest name of the socket without a path: the kernel's own choice has five digits (unix(7), autobind).
pub const DOOR_LENGTH: usize = 8;

/// Number of aliases.
pub const ALIASES: usize = 512;

/// An id that may not be a process's any more.
#[repr(C)]
pub struct Alias {
    /// As the kernel knows it; 0 for a free place.
    real: AtomicI32,
    virtual_id: AtomicI32,
    /// A [`Kind`].
    kind: AtomicU32,
}

/// What an id is of. A number that is two of these may have two virtual ids: the process group and the session into
/// which a pod is restarted need not be one, as those were that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Process = 1,
    Group = 2,
    Session = 3,
    /// Of the parent, none of the pod's, of the process that has the real id.
    ParentOf = 4,
    /// Of the same parent, the kernel's: as long as that one is the parent it goes by the other id.
    RealParentOf = 5,
    /// The number of a pseudo terminal, and 1: see [`PodTable::terminal_of`]. No id of a process.
    Terminal = 6,
}

impl Kind {
    /// Whether an id of this kind tells of another process than the one that has the real id.
    fn is_of_parent(self) -> bool {
        matches!(self, Self::ParentOf | Self::RealParentOf)
    }
}

/// [`PodTable::offset`] of a pod whose virtual ids differ from the start (ZAP_FORCE_VIRTUAL): above those that are made up. A
/// multiple of [`CAPACITY`], so that an entry is found by both ids in one place.
pub const OFFSET: i32 = 1 << 23;

const _: () = assert!((OFFSET as usize).is_multiple_of(CAPACITY));

/// What stands in [`Alias::real`] for 0: a group or session whose leader is in another PID namespace (pid_namespaces(7)).
const OUTSIDE: i32 = -1;

/// Virtual id of an alias that has none any more.
const GONE: i32 = -1;

/// First of the virtual ids that are made up: above what the kernel gives (PID_MAX_LIMIT, 2^22).
const FIRST_MADE_UP: i32 = 1 << 22;

/// Bytes of a reason.
pub const REASON_LENGTH: usize = 256;

/// How often an entry is looked at for its virtual id, at once and with 100 µs between two looks: about a second.
const SPINS: u32 = 1000;
const SLEEPS: u32 = 10_000;

/// Length of the run of entries in which a process's may lie.
const RUN: usize = 64;

/// Size of the table in bytes; its file may be longer, see [`PodTable::inodes`]. It is sparse: an entry that was never used takes no
/// space.
pub const SIZE: usize = core::mem::size_of::<PodTable>();

/// It has been continued for the checkpoint's sake, and is to stop itself again.
pub const TO_STOP_AGAIN: u32 = 1;

/// It has stopped itself again, its threads in Zap's handler, where every signal is blocked.
pub const STANDS: u32 = 2;

/// The coordinator has found the process stopped. Bits of [`Entry::halt`], of which the lowest are the number of the signal that
/// has stopped it, where its parent has not been told of that (wait(2), WUNTRACED).
pub const HALT_FOUND: u16 = 1 << 8;

/// It runs, and has been brought back: it is to stop and to go on, of which its parent had not been told yet (WCONTINUED).
pub const HALT_CONTINUED: u16 = 1 << 9;

/// It has been continued for the checkpoint's sake, and is to stop again.
pub const HALT_WOKEN: u16 = 1 << 10;

/// The bits of the signal.
pub const HALT_SIGNAL: u16 = 0x7f;

/// One process.
#[repr(C, align(64))]
pub struct Entry {
    /// The process as this host knows it; 0 for a free entry.
    real_pid: AtomicI32,
    pub virtual_pid: AtomicI32,
    /// Start time in clock ticks after boot, 0 while unknown: with the pid it names a process for good.
    pub start_time: AtomicU64,
    /// Number of the last checkpoint that the coordinator asked for.
    pub requested: AtomicU32,
    /// Number of the last request that the process has taken up.
    pub answered: AtomicU32,
    /// Seccomp filters when libzap began: more of them later means the program has set one.
    pub filters: AtomicU32,
    /// Whether it may be signalled: 0 before libzap's handler stands in it, then [`READY`], or [`CLOSED`].
    pub ready: AtomicU32,
    /// Errno of a process that could not even reach the coordinator, 0 for none.
    pub trouble: AtomicU16,
    /// What its parent shall not notice of a stopped process's part in a checkpoint; 0 for one that runs. See [`HALT_FOUND`].
    pub halt: AtomicU16,
    /// Thread in which the coordinator has unblocked Zap's signal, because every thread blocked it; 0 for none.
    pub unblocked: AtomicI32,
    /// Of a process that was stopped (SIGSTOP) when it was asked: [`TO_STOP_AGAIN`] or [`STANDS`], else 0.
    pub stopped: AtomicU32,
    /// Name of the program, NUL-padded, in four words.
    pub name: [AtomicU32; 4],
    /// Not 0: libzap has failed in this process, which cannot be checkpointed any more. See [`PodTable::reason`].
    failed: AtomicU32,
}

impl PodTable {
    /// Whether the bytes are a table of this version.
    pub fn is_valid(&self) -> bool {
        self.magic.load(Ordering::Acquire) == MAGIC && self.version.load(Ordering::Relaxed) == VERSION
    }

    /// Writes the head of a new table.
    pub fn initialize(&self, pod_id: u64, signal: i32, streams: &[(u64, u64); 3]) {
        self.version.store(VERSION, Ordering::Relaxed);
        self.signal.store(signal, Ordering::Relaxed);
        self.pod_id.store(pod_id, Ordering::Relaxed);
        for (to, from) in self.streams.iter().zip(streams) {
            to[0].store(from.0, Ordering::Relaxed);
            to[1].store(from.1, Ordering::Relaxed);
        }
        self.magic.store(MAGIC, Ordering::Release);
    }

    /// Stores the name of the coordinator's socket without a path.
    pub fn set_door(&self, name: &[u8; DOOR_LENGTH]) {
        self.door.iter().zip(name).for_each(|(to, from)| to.store(*from, Ordering::Release));
    }

    /// The name of the coordinator's socket without a path, with its padding.
    pub fn door(&self) -> [u8; DOOR_LENGTH] {
        core::array::from_fn(|at| self.door[at].load(Ordering::Acquire))
    }

    /// Stores what [`crate::private::encode`] has written. False if there is no room for it. Before any process reads it.
    pub fn set_private(&self, text: &[u8]) -> bool {
        self.private.iter().zip(text).for_each(|(to, from)| to.store(*from, Ordering::Release));
        text.len() <= PRIVATE_LENGTH
    }

    /// What [`PodTable::set_private`] has stored, with zeroes behind it.
    pub fn private(&self) -> impl Iterator<Item = u8> + '_ {
        self.private.iter().map(|byte| byte.load(Ordering::Acquire))
    }

    /// The entry of `pid`, if it has one.
    pub fn find(&self, pid: RealPid) -> Option<&Entry> {
        self.places(pid).find(|entry| entry.real_pid.load(Ordering::Acquire) == pid.0)
    }

    /// The entries that `pid` may be in: a short run that depends on the pid, so that a fork touches one or two cache
    /// lines and not the whole table.
    pub fn places(&self, pid: RealPid) -> impl Iterator<Item = &Entry> {
        (0..RUN).filter_map(move |step| self.entries.get((pid.0 as usize).wrapping_add(step) % CAPACITY))
    }

    /// The entry of `pid`, taking a free one when it has none. `None` when its part of the table is full.
    pub fn enter(&self, pid: RealPid, virtual_pid: VirtualPid) -> Option<&Entry> {
        self.enter_as(pid, || virtual_pid).map(|(entry, _)| entry)
    }

    /// As [`PodTable::enter`]; and whether the entry is new. The id is chosen by who is the first of several that enter the
    /// process.
    pub fn enter_as(&self, pid: RealPid, virtual_pid: impl FnOnce() -> VirtualPid) -> Option<(&Entry, bool)> {
        if let Some(entry) = self.find(pid) {
            return Some((entry, false));
        }
        for entry in self.places(pid) {
            match entry.real_pid.compare_exchange(0, pid.0, Ordering::SeqCst, Ordering::Acquire) {
                Ok(_) => {
                    if let Some(other) = self.entered_elsewhere(pid, entry) {
                        // Nobody has been told of this one.
                        entry.real_pid.store(0, Ordering::Release);
                        return Some((other, false));
                    }
                    entry.virtual_pid.store(virtual_pid().0, Ordering::Release);
                    return Some((entry, true));
                }
                Err(other) if other == pid.0 => return Some((entry, false)),
                Err(_) => {}
            }
        }
        None
    }

    /// The entry in which `pid` stays, when it is not `own`, which has just been taken for it: a place of a process that has
    /// ended becomes free between the looks of two who enter the same one, and each has a place of its own then.
    ///
    /// Each has taken its place before it looks here, so at least one sees the other. Who is first in the run stays, unless
    /// the other one has not seen it and is through, which its virtual id tells.
    fn entered_elsewhere(&self, pid: RealPid, own: &Entry) -> Option<&Entry> {
        let mut is_before = true;
        for entry in self.places(pid) {
            if core::ptr::eq(entry, own) {
                is_before = false;
            } else if entry.real_pid.load(Ordering::SeqCst) == pid.0 {
                // Waits until the other one is through, or has given its place up.
                if is_before || (entry.virtual_pid().0 != 0 && entry.real_pid() == pid) {
                    return Some(entry);
                }
            }
        }
        None
    }

    /// The entry of the process that the pod knows as `id`.
    pub fn find_virtual(&self, id: VirtualPid) -> Option<&Entry> {
        let is_it = |entry: &&Entry| {
            entry.virtual_pid.load(Ordering::Acquire) == id.0 && entry.real_pid.load(Ordering::Acquire) != 0
        };
        // Most processes have the number that they were made with; every other one has an alias.
        let by_alias = || {
            let candidates =
                self.aliases(Kind::Process).filter(|alias| alias.virtual_id.load(Ordering::Acquire) == id.0);
            candidates.filter_map(|alias| self.find(alias.real())).find(is_it)
        };
        let crowded = || self.aliases.last().is_some_and(|alias| alias.real.load(Ordering::Acquire) != 0);
        let by_search = || crowded().then(|| self.entries.iter().find(is_it)).flatten();
        self.places(RealPid(id.0)).find(is_it).or_else(by_alias).or_else(by_search)
    }

    /// The kernel's id of what the pod knows as `id`. Of a process also when it has ended: then the number may be that of
    /// another one.
    pub fn real_of(&self, kind: Kind, id: VirtualPid) -> Option<RealPid> {
        let alias =
            |kind| self.aliases(kind).find(|alias| alias.virtual_id.load(Ordering::Acquire) == id.0).map(Alias::real);
        let own = if kind == Kind::Process { None } else { alias(kind) };
        // An entry may be dropped at any moment.
        let living = || self.find_virtual(id).map(Entry::real_pid).filter(|real| real.0 != 0);
        own.or_else(living).or_else(|| alias(Kind::Process))
    }

    /// The pod's id of what the kernel knows as `id`.
    pub fn virtual_of(&self, kind: Kind, id: RealPid) -> Option<VirtualPid> {
        let alias = |kind| {
            let found = self.aliases(kind).find(|alias| alias.real() == id)?;
            Some(VirtualPid(found.virtual_id.load(Ordering::Acquire))).filter(|id| id.0 != GONE)
        };
        let own = if kind == Kind::Process { None } else { alias(kind) };
        let living = || {
            let entry = self.find(id)?;
            // It may be dropped at any moment, and be another's then.
            let found = entry.virtual_pid();
            (entry.real_pid() == id && found.0 != 0).then_some(found)
        };
        own.or_else(living).or_else(|| alias(Kind::Process))
    }

    /// By which id the process `child` knows its parent, which is none of the pod's; noted as [`Kind::ParentOf`].
    pub fn outer_parent_of(&self, child: RealPid) -> Option<VirtualPid> {
        let found = self.aliases(Kind::ParentOf).find(|alias| alias.real() == child)?;
        Some(VirtualPid(found.virtual_id.load(Ordering::Acquire)))
    }

    /// The kernel's id of the parent of `child` that [`PodTable::outer_parent_of`] tells of.
    pub fn real_outer_parent_of(&self, child: RealPid) -> Option<RealPid> {
        let found = self.aliases(Kind::RealParentOf).find(|alias| alias.real() == child)?;
        Some(RealPid(found.virtual_id.load(Ordering::Acquire)))
    }

    /// The pod's number of the pseudo terminal /dev/pts/`real`, if that is noted.
    pub fn terminal_of(&self, real: u32) -> Option<u32> {
        let found = self.aliases(Kind::Terminal).find(|alias| alias.real().0 as u32 == real + 1)?;
        let id = found.virtual_id.load(Ordering::Acquire);
        (id != GONE).then(|| id as u32 - 1)
    }

    /// The kernel's number of the pseudo terminal that the pod knows as `id`, if that is noted.
    pub fn real_terminal_of(&self, id: u32) -> Option<u32> {
        let is_it = |alias: &&Alias| alias.virtual_id.load(Ordering::Acquire) as u32 == id + 1;
        self.aliases(Kind::Terminal).find(is_it).map(|alias| alias.real().0 as u32 - 1)
    }

    /// Whether numbers of pseudo terminals differ.
    pub fn has_terminals(&self) -> bool {
        self.aliases(Kind::Terminal).next().is_some()
    }

    /// Notes the pod's number of /dev/pts/`real`. False if there is no room.
    pub fn name_terminal(&self, real: u32, id: u32) -> bool {
        self.add_alias(Kind::Terminal, RealPid(real as i32 + 1), VirtualPid(id as i32 + 1))
    }

    fn aliases(&self, kind: Kind) -> impl Iterator<Item = &Alias> {
        self.aliases
            .iter()
            .take_while(|alias| alias.real.load(Ordering::Acquire) != 0)
            .filter(move |alias| alias.kind.load(Ordering::Acquire) == kind as u32)
    }

    /// Notes an id that differs from the real one. False if there is no room.
    pub fn add_alias(&self, kind: Kind, real: RealPid, id: VirtualPid) -> bool {
        let stored = if real.0 == 0 { OUTSIDE } else { real.0 };
        // Of an attempt to restart that has been given up: whoever bore the id then has been ended.
        let given_up = |alias: &&Alias| {
            !kind.is_of_parent() && alias.real() != real && alias.virtual_id.load(Ordering::Acquire) == id.0
        };
        for alias in self.aliases(kind).filter(given_up) {
            alias.virtual_id.store(GONE, Ordering::Release);
        }
        for alias in &self.aliases {
            if alias.kind.load(Ordering::Acquire) == kind as u32 && alias.real() == real {
                alias.virtual_id.store(id.0, Ordering::Release);
                return true;
            }
            if alias.real.compare_exchange(0, stored, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                alias.virtual_id.store(id.0, Ordering::Release);
                alias.kind.store(kind as u32, Ordering::Release);
                return true;
            }
        }
        false
    }

    /// The virtual id for a new process: its real one (and [`PodTable::offset`]), unless that is known already for another.
    pub fn free_id(&self, real: RealPid) -> VirtualPid {
        let id = VirtualPid(real.0.wrapping_add(self.offset.load(Ordering::Relaxed)));
        if self.moved.load(Ordering::Acquire) == 0 {
            return id;
        }
        // The kernel has given the number anew, which it does only when no process, group or session has it any more: it
        // belongs to none of those that bore it.
        let kinds = [Kind::Process, Kind::Group, Kind::Session];
        for alias in kinds.into_iter().flat_map(|kind| self.aliases(kind)).filter(|alias| alias.real() == real) {
            alias.virtual_id.store(GONE, Ordering::Release);
        }
        let known = |kind| self.real_of(kind, id).is_some_and(|known| known != real);
        if !kinds.into_iter().any(known) {
            return id;
        }
        let id = VirtualPid(FIRST_MADE_UP + self.made_up.fetch_add(1, Ordering::Relaxed));
        self.add_alias(Kind::Process, real, id);
        id
    }

    /// Enters the child that a fork of `parent` has just made. `None` when its part of the table is full.
    pub fn enter_child(&self, child: RealPid, parent: Option<&Entry>) -> Option<&Entry> {
        let (entry, is_new) = self.enter_new(child, parent)?;
        if is_new {
            entry.ready.store(READY, Ordering::Release);
        }
        Some(entry)
    }

    /// As [`PodTable::enter_child`] for a child that is about to become another program, which says itself when it is ready.
    pub fn enter_spawned(&self, child: RealPid, parent: Option<&Entry>) -> Option<&Entry> {
        self.enter_new(child, parent).map(|(entry, _)| entry)
    }

    fn enter_new(&self, child: RealPid, parent: Option<&Entry>) -> Option<(&Entry, bool)> {
        // Nobody has been asked for anything whose entry is new: a free one says neither that it has nor that it is ready.
        let (entry, is_new) = self.enter_as(child, || self.free_id(child))?;
        if let Some(parent) = parent.filter(|_| is_new) {
            entry.filters.store(parent.filters.load(Ordering::Relaxed), Ordering::Relaxed);
            for (to, from) in entry.name.iter().zip(&parent.name) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            if let Some(reason) = self.reason(parent) {
                self.set_reason(entry, &reason);
            }
        }
        Some((entry, is_new))
    }

    /// Notes why the process of `entry` cannot be checkpointed any more.
    pub fn set_reason(&self, entry: &Entry, reason: &[u8]) {
        let Some(place) = self.reasons.get(self.index_of(entry)) else { return };
        let padded = reason.iter().copied().chain(core::iter::repeat(0));
        place.iter().zip(padded).for_each(|(to, byte)| to.store(byte, Ordering::Relaxed));
        entry.failed.store(1, Ordering::Release);
    }

    /// Why the process of `entry` cannot be checkpointed any more, with its padding; `None` if it can.
    pub fn reason(&self, entry: &Entry) -> Option<[u8; REASON_LENGTH]> {
        if entry.failed.load(Ordering::Acquire) == 0 {
            return None;
        }
        let place = self.reasons.get(self.index_of(entry))?;
        Some(core::array::from_fn(|at| place[at].load(Ordering::Relaxed)))
    }

    fn index_of(&self, entry: &Entry) -> usize {
        let distance = (core::ptr::from_ref(entry) as usize).wrapping_sub(self.entries.as_ptr() as usize);
        distance / core::mem::size_of::<Entry>()
    }

    /// Every process in the table.
    pub fn members(&self) -> impl Iterator<Item = (RealPid, &Entry)> {
        self.entries.iter().filter_map(|entry| {
            let pid = entry.real_pid.load(Ordering::Acquire);
            (pid != 0).then_some((RealPid(pid), entry))
        })
    }
}

impl Alias {
    fn real(&self) -> RealPid {
        let real = self.real.load(Ordering::Acquire);
        RealPid(if real == OUTSIDE { 0 } else { real })
    }
}

impl Entry {
    /// Frees the entry: its process has ended.
    pub fn drop_entry(&self) {
        self.virtual_pid.store(0, Ordering::Relaxed);
        for word in [&self.requested, &self.answered, &self.filters, &self.ready, &self.stopped, &self.failed] {
            word.store(0, Ordering::Relaxed);
        }
        self.start_time.store(0, Ordering::Relaxed);
        self.trouble.store(0, Ordering::Relaxed);
        self.halt.store(0, Ordering::Relaxed);
        self.unblocked.store(0, Ordering::Relaxed);
        self.real_pid.store(0, Ordering::Release);
    }

    /// Forgets that libzap has failed: the process has become another program.
    pub fn forget_failure(&self) {
        self.failed.store(0, Ordering::Release);
    }

    /// The process's real id.
    pub fn real_pid(&self) -> RealPid {
        RealPid(self.real_pid.load(Ordering::Acquire))
    }

    /// The process's virtual id; 0 if the entry has been dropped.
    pub fn virtual_pid(&self) -> VirtualPid {
        // Whoever enters a process stores it soon after the real one, unless the kernel lets others go first, or it is killed.
        for round in 0..SPINS + SLEEPS {
            match self.virtual_pid.load(Ordering::Acquire) {
                0 if self.real_pid.load(Ordering::Relaxed) == 0 => break,
                0 if round < SPINS => core::hint::spin_loop(),
                0 => zap_sys::time::sleep_ns(100_000),
                id => return VirtualPid(id),
            }
        }
        VirtualPid(0)
    }

    /// Stores the program's name, cut to 15 bytes.
    pub fn set_name(&self, name: &[u8]) {
        let mut bytes = [0u8; 16];
        let length = name.len().min(15);
        bytes[..length].copy_from_slice(&name[..length]);
        for (word, part) in self.name.iter().zip(bytes.chunks_exact(4)) {
            word.store(u32::from_ne_bytes([part[0], part[1], part[2], part[3]]), Ordering::Relaxed);
        }
    }

    /// The program's name, NUL-padded.
    pub fn name_bytes(&self) -> [u8; 16] {
        let mut bytes = [0u8; 16];
        for (part, word) in bytes.chunks_exact_mut(4).zip(&self.name) {
            part.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> PodTable {
        PodTable {
            magic: AtomicU64::new(0),
            version: AtomicU32::new(0),
            signal: AtomicI32::new(0),
            pod_id: AtomicU64::new(0),
            streams: Default::default(),
            moved: AtomicU32::new(0),
            made_up: AtomicI32::new(0),
            door: Default::default(),
            offset: AtomicI32::new(0),
            pid_namespace: AtomicU32::new(0),
            namespaces: Default::default(),
            halted: AtomicU32::new(0),
            inodes: AtomicU64::new(0),
            padding: [0; 4096 - 120 - DOOR_LENGTH],
            entries: core::array::from_fn(|_| Entry {
                real_pid: AtomicI32::new(0),
                virtual_pid: AtomicI32::new(0),
                start_time: AtomicU64::new(0),
                requested: AtomicU32::new(0),
                answered: AtomicU32::new(0),
                filters: AtomicU32::new(0),
                ready: AtomicU32::new(0),
                trouble: AtomicU16::new(0),
                halt: AtomicU16::new(0),
                unblocked: AtomicI32::new(0),
                stopped: AtomicU32::new(0),
                name: Default::default(),
                failed: AtomicU32::new(0),
            }),
            reasons: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU8::new(0))),
            aliases: core::array::from_fn(|_| Alias {
                real: AtomicI32::new(0),
                virtual_id: AtomicI32::new(0),
                kind: AtomicU32::new(0),
            }),
            private: core::array::from_fn(|_| AtomicU8::new(0)),
        }
    }

    #[test]
    fn entries_are_entered_once() {
        // A table is larger than a test's stack.
        let test = std::thread::Builder::new().stack_size(32 << 20).spawn(enter_once).unwrap();
        test.join().unwrap();
    }

    fn enter_once() {
        let table = Box::new(empty());
        table.initialize(7, 62, &[(1, 2), (3, 4), (5, 6)]);
        assert!(table.is_valid());
        let first = table.enter(RealPid(10), VirtualPid(10)).unwrap();
        first.set_name(b"python3");
        assert!(core::ptr::eq(first, table.enter(RealPid(10), VirtualPid(99)).unwrap()));
        assert_eq!(&first.name_bytes()[..8], b"python3\0");
        assert_eq!(table.members().count(), 1);
        assert!(table.reason(first).is_none());
        table.set_reason(first, b"why");
        assert_eq!(&table.reason(first).unwrap()[..4], b"why\0");
        assert_eq!(table.free_id(RealPid(10)), VirtualPid(10));
        table.moved.store(1, Ordering::Relaxed);
        first.virtual_pid.store(500, Ordering::Relaxed);
        assert!(table.add_alias(Kind::Group, RealPid(11), VirtualPid(501)));
        assert!(table.add_alias(Kind::Session, RealPid(11), VirtualPid(502)));
        assert!(table.find_virtual(VirtualPid(500)).is_none());
        assert!(table.add_alias(Kind::Process, RealPid(10), VirtualPid(500)));
        assert!(core::ptr::eq(first, table.find_virtual(VirtualPid(500)).unwrap()));
        assert_eq!(table.real_of(Kind::Group, VirtualPid(500)), Some(RealPid(10)));
        assert_eq!(table.real_of(Kind::Group, VirtualPid(501)), Some(RealPid(11)));
        assert_eq!(table.real_of(Kind::Process, VirtualPid(501)), None);
        assert_eq!(table.virtual_of(Kind::Group, RealPid(11)), Some(VirtualPid(501)));
        assert_eq!(table.virtual_of(Kind::Session, RealPid(11)), Some(VirtualPid(502)));
        assert_eq!(table.virtual_of(Kind::Process, RealPid(11)), None);
        assert_eq!(table.real_of(Kind::Process, VirtualPid(10)), None);
        assert!(table.add_alias(Kind::Session, RealPid(0), VirtualPid(3)));
        assert_eq!(table.virtual_of(Kind::Session, RealPid(0)), Some(VirtualPid(3)));
        assert_eq!(table.real_of(Kind::Session, VirtualPid(3)), Some(RealPid(0)));
        assert!(table.add_alias(Kind::ParentOf, RealPid(10), VirtualPid(44)));
        assert_eq!(table.outer_parent_of(RealPid(10)), Some(VirtualPid(44)));
        assert_eq!(table.outer_parent_of(RealPid(11)), None);
        for child in [10, 11] {
            assert!(table.add_alias(Kind::RealParentOf, RealPid(child), VirtualPid(45)));
        }
        assert_eq!(table.real_outer_parent_of(RealPid(10)), Some(RealPid(45)));
        assert_eq!(table.virtual_of(Kind::Process, RealPid(10)), Some(VirtualPid(500)));
        assert_eq!(table.real_of(Kind::Process, VirtualPid(44)), None);
        assert_eq!(table.free_id(RealPid(12)), VirtualPid(12));
        assert_eq!(table.free_id(RealPid(500)), VirtualPid(FIRST_MADE_UP));
        // The number of a group and session that are gone: whoever has it now may become the leader of others.
        assert_eq!(table.free_id(RealPid(11)), VirtualPid(11));
        assert_eq!(table.enter(RealPid(11), VirtualPid(11)).unwrap().virtual_pid(), VirtualPid(11));
        assert_eq!(table.virtual_of(Kind::Group, RealPid(11)), Some(VirtualPid(11)));
        assert_eq!(table.virtual_of(Kind::Session, RealPid(11)), Some(VirtualPid(11)));
        assert_eq!(table.real_of(Kind::Group, VirtualPid(501)), None);
        table.find(RealPid(11)).unwrap().drop_entry();
        table.offset.store(OFFSET, Ordering::Relaxed);
        let forced = table.enter_child(RealPid(13), None).unwrap();
        assert_eq!(forced.virtual_pid(), VirtualPid(OFFSET + 13));
        assert!(core::ptr::eq(forced, table.find_virtual(VirtualPid(OFFSET + 13)).unwrap()));
        forced.drop_entry();
        first.drop_entry();
        assert!(table.reason(first).is_none());
        assert!(table.find(RealPid(10)).is_none());
    }

    #[test]
    fn a_process_has_one_entry() {
        let test = std::thread::Builder::new().stack_size(32 << 20).spawn(enter_from_two_sides).unwrap();
        test.join().unwrap();
    }

    fn enter_from_two_sides() {
        let table = Box::new(empty());
        // Who came by a place that was taken has the later one: whoever comes after finds it from an earlier one.
        let (dead, pid) = (RealPid(20 + CAPACITY as i32), RealPid(20));
        table.enter(dead, VirtualPid(1)).unwrap();
        let later = table.enter(pid, VirtualPid(20)).unwrap();
        table.find(dead).unwrap().drop_entry();
        let earlier = table.places(pid).next().unwrap();
        earlier.real_pid.store(pid.0, Ordering::SeqCst);
        assert!(core::ptr::eq(table.entered_elsewhere(pid, earlier).unwrap(), later));
        assert!(core::ptr::eq(table.entered_elsewhere(pid, later).unwrap(), earlier));
        earlier.real_pid.store(0, Ordering::SeqCst);
        later.drop_entry();
        // Two at once, while the place before is given up.
        for round in 0..200 {
            // Dropped from the last one on: whoever has come by a place does not see that it becomes free.
            let dead: Vec<_> = (1..40).map(|number| RealPid(20 + number * CAPACITY as i32)).collect();
            let dead: Vec<_> = dead.into_iter().map(|pid| table.enter(pid, VirtualPid(1)).unwrap()).collect();
            let arrived = AtomicU32::new(0);
            let start = || {
                arrived.fetch_add(1, Ordering::SeqCst);
                while arrived.load(Ordering::SeqCst) < 3 {
                    core::hint::spin_loop();
                }
            };
            std::thread::scope(|scope| {
                let enter = || {
                    start();
                    let entry = table.enter(pid, VirtualPid(20)).unwrap();
                    core::ptr::from_ref(entry) as usize
                };
                let sides = [scope.spawn(enter), scope.spawn(enter)];
                start();
                (0..round % 200).for_each(|_| core::hint::spin_loop());
                dead.into_iter().rev().for_each(Entry::drop_entry);
                let [one, other] = sides.map(|side| side.join().unwrap());
                assert_eq!(one, other, "round {round}");
            });
            let all: Vec<_> = table.members().collect();
            assert_eq!(all.len(), 1, "round {round}");
            all[0].1.drop_entry();
        }
    }

    /// The layout is shared by processes of several builds of Zap: every field's place is part of the version.
    #[test]
    fn layout_is_as_committed() {
        use core::mem::{align_of, offset_of, size_of};
        let mut text = format!("MAGIC {MAGIC:#x}\nVERSION {VERSION}\nCAPACITY {CAPACITY}\nRUN {RUN}\n");
        let mut line = |name: &str, value: usize| text += &format!("{name} {value}\n");
        macro_rules! offsets {
            ($type:ident: $($field:ident)*) => {
                // Names every field, so that a new one does not compile until it is listed.
                let _ = |value: $type| { let $type { $($field: _),* } = value; };
                $(line(concat!(stringify!($type), ".", stringify!($field)), offset_of!($type, $field));)*
                line(concat!("size of ", stringify!($type)), size_of::<$type>());
                line(concat!("alignment of ", stringify!($type)), align_of::<$type>());
            };
        }
        offsets!(PodTable: magic version signal pod_id streams moved made_up door offset pid_namespace namespaces halted inodes padding entries reasons aliases private);
        offsets!(Alias: real virtual_id kind);
        offsets!(Entry: real_pid virtual_pid start_time requested answered filters ready trouble halt unblocked stopped name failed);
        crate::golden::check(&format!("table-{VERSION}.txt"), &text, "table::VERSION");
    }
}
