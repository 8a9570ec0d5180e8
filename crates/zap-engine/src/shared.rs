//! Memory that is shared (MAP_SHARED) and not in a file that stays: a fork does not freeze it, so the leader copies it
//! during the stop. Each page of an object is copied once, however often the program has mapped it.
//!
//! Two kinds are copied: what no path leads to (anonymous memory, and files that have been deleted, in memory or on a
//! disk), whose contents are nowhere else; and small files mapped writable, in case they are gone at the restart. And
//! private memory of huge pages, which no fork may have: see [`crate::huge_pages`].
//!
//! # Safety
//! Called while nobody but the leader runs; the copies are the leader's own memory.
#![allow(unsafe_code)]

use crate::memory::{path_of, read_all};
use crate::mounts::Mounts;
use crate::names;
use crate::smaps::for_each_mapping;
use crate::state::{self, Owned};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use zap_image::Region;
use zap_plugin::Refusal;
use zap_sys::maps::{self, Mapping};
use zap_sys::pagemap::PageFinder;
use zap_sys::path::CPath;
use zap_sys::{fd, libc, mem, page_down, PAGE_SIZE};
use zap_wire::message::{FileName, Hold, Stretch};

/// A private copy of a part of a shared object, or of memory of huge pages, as it was during the stop.
pub struct SharedCopy {
    /// Where the program has mapped it.
    pub start: u64,
    pub length: u64,
    /// Where the copy is.
    pub copy: u64,
    /// What of it is to be saved: start and end, addresses of the program, ascending. The rest is zeroes, or lies
    /// behind the object's end.
    pub runs: Vec<(u64, u64)>,
}

/// What tells one object from another: device and inode, as /proc/thread-self/maps shows them.
pub type ObjectKey = (u64, u64);

/// The object that `mapping` shows.
pub fn object_key(mapping: &Mapping<'_>) -> ObjectKey {
    (libc::makedev(mapping.device.0, mapping.device.1), mapping.inode)
}

/// What the coordinator is told, which knows the other processes.
#[derive(Default)]
pub struct Found {
    /// What [`copy_shared`] would copy: several processes may show the same.
    pub memory: Vec<Stretch>,
    /// What the files are called that are open or mapped: one that has lost a name is saved as memory, and must be known by
    /// no other.
    pub names: Vec<FileName>,
}

/// Finds what is shared, when it is known what is open ([`crate::descriptors::find`]).
pub fn find() -> Result<Found, Refusal> {
    let text = read_all(c"/proc/thread-self/maps")?;
    let mut found = Found::default();
    let mut mounts = None;
    let (mut lost, mut mapped) = (BTreeSet::new(), BTreeSet::new());
    let name = |mapping: &Mapping<'_>, hold| FileName { file: object_key(mapping), path: path_of(mapping), hold };
    for mapping in maps::parse(&text).filter(|mapping| mapping.shared) {
        let is_object = is_object(&mapping);
        if is_object || is_small_file(&mapping) {
            let (start, end) = (mapping.offset, mapping.offset + mapping.length());
            found.memory.push(Stretch { object: object_key(&mapping), start, end });
        }
        if is_object && !is_shared_anonymous(&mapping) && !is_memfd(&mapping) {
            let one_device = mounts.get_or_insert_with(Mounts::read).is_one_device(object_key(&mapping).0);
            if lost.insert(name(&mapping, Hold::Lost { one_device })) {
                names::refuse_another(&mapping)?;
            }
        } else if !is_object && mapping.inode != 0 {
            mapped.insert(name(&mapping, Hold::Mapped));
        }
    }
    // What is mapped privately matters only to this process's own: every library is.
    let keys: BTreeSet<ObjectKey> = lost.iter().map(|file: &FileName| file.file).collect();
    let is_one =
        |mapping: &Mapping<'_>| !mapping.shared && keys.contains(&object_key(mapping)) && !has_lost_name(mapping);
    mapped.extend(maps::parse(&text).filter(is_one).map(|mapping| name(&mapping, Hold::Mapped)));
    found.names = lost.into_iter().chain(mapped).chain(crate::descriptors::open_files()).collect();
    Ok(found)
}

/// Files up to this length are copied when they are mapped shared and writable. Such files are statistics and locks
/// that a program makes for itself and removes when it ends (a JVM's hsperfdata is 32 KiB): cheap to save, and gone
/// when they are needed. Larger files are data; who removes those between checkpoint and restart is told.
const SMALL_FILE: i64 = 256 << 10;

/// Runs with zeroes between them that are shorter than this (in bytes) are saved as one.
const BRIDGE: u64 = 8 * PAGE_SIZE as u64;

/// Bytes that are read in one go.
const BUFFER: usize = 64 << 10;

/// What a part is copied of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Whether it is in memory alone: what of it is not there is nowhere. A file of a disk may have been written there.
    Object {
        is_memory: bool,
    },
    File,
    HugePages,
}

/// Copies what is shared and may be gone at the restart, but for what other processes save, and the regions `huge` of huge
/// pages; `text` is that of the maps. By the leader, during the stop.
pub fn copy_shared(text: &[u8], elsewhere: &[Stretch], huge: &[Region]) -> Result<Vec<SharedCopy>, Refusal> {
    let mut copies = Vec::new();
    let result = copy_into(&mut copies, text, elsewhere, huge);
    if result.is_err() {
        drop_copies(&copies);
    }
    result.map(|()| copies)
}

fn copy_into(copies: &mut Vec<SharedCopy>, text: &[u8], elsewhere: &[Stretch], huge: &[Region]) -> Result<(), Refusal> {
    let mut seen: BTreeMap<ObjectKey, Ranges> = BTreeMap::new();
    for stretch in elsewhere {
        seen.entry(stretch.object).or_default().add(stretch.start, stretch.end);
    }
    let mut huge = huge.iter().peekable();
    let mut mounts = None;
    for mapping in maps::parse(text) {
        if huge.next_if(|region| region.start == mapping.start).is_some() {
            copy_part(copies, &mapping, mapping.start, mapping.length(), Kind::HugePages)?;
            continue;
        }
        let kind = match mapping.shared {
            true if is_object(&mapping) => {
                let mut is_file_in_memory =
                    || mounts.get_or_insert_with(Mounts::read).is_memory(object_key(&mapping).0);
                let is_memory = is_shared_anonymous(&mapping) || is_memfd(&mapping) || is_file_in_memory();
                Kind::Object { is_memory }
            }
            true if is_small_file(&mapping) => Kind::File,
            _ => continue,
        };
        let (from, to) = (mapping.offset, mapping.offset + mapping.length());
        for (from, to) in seen.entry(object_key(&mapping)).or_default().add(from, to) {
            copy_part(copies, &mapping, mapping.start + (from - mapping.offset), to - from, kind)?;
        }
    }
    Ok(())
}

fn copy_part(
    copies: &mut Vec<SharedCopy>,
    mapping: &Mapping<'_>,
    start: u64,
    length: u64,
    kind: Kind,
) -> Result<(), Refusal> {
    let refusal = |error| Refusal::new(format!("copy of shared memory at {start:x}"), error);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new memory wherever the kernel likes.
    let copy = unsafe { mem::map(0, length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) }.map_err(refusal)?;
    // Before it is filled, so that it is given back whatever happens.
    LIVE.with(|live| live.push((copy, length)));
    copies.push(SharedCopy { start, length, copy, runs: Vec::new() });
    copies.last_mut().map_or(Ok(()), |copy| {
        readable(mapping, || match kind {
            Kind::Object { is_memory } => copy.fill(false, is_memory),
            Kind::File => copy.fill(true, false),
            Kind::HugePages => copy.fill_huge(),
        })
    })
}

/// Does `read` while `mapping` can be read.
fn readable(mapping: &Mapping<'_>, read: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    if mapping.protection & libc::PROT_READ != 0 {
        return read();
    }
    let refusal = |error| Refusal::new(format!("copy of shared memory at {:x}", mapping.start), error);
    // SAFETY: nobody runs; the old protection is put back below.
    unsafe { mem::protect(mapping.start, mapping.length(), libc::PROT_READ) }.map_err(refusal)?;
    READABLE.with(|readable| *readable = Some((mapping.start, mapping.length(), mapping.protection)));
    let result = read();
    READABLE.with(|readable| *readable = None);
    // SAFETY: as above.
    unsafe { mem::protect(mapping.start, mapping.length(), mapping.protection) }.map_err(refusal)?;
    result
}

impl SharedCopy {
    /// Copies the memory; `whole` notes pages of zeroes too, `is_memory` says that what is not in memory is nowhere. A
    /// mapping may be longer than its object: pages behind the end cannot be read by anybody.
    fn fill(&mut self, whole: bool, is_memory: bool) -> Result<(), Refusal> {
        crate::fault::point(zap_wire::fault::COPYING_SHARED);
        let (start, end) = (self.start, self.start + self.length);
        let mut buffer = alloc::vec![0u8; BUFFER];
        if !whole && is_memory && may_trust_presence() {
            let mut presence = Presence::default();
            let mut at = presence.next_present(start, end);
            while at < end {
                let to = (at + BUFFER as u64).min(end);
                if self.take(at, to, whole, &mut buffer)? < to {
                    break;
                }
                at = presence.next_present(to, end);
            }
            return Ok(());
        }
        let (stop, last) = (self.take(start, end, whole, &mut buffer)?, end - PAGE_SIZE as u64);
        if stop < last && mem::read_own(last, &mut buffer[..PAGE_SIZE]).is_ok() {
            return Err(unreadable(stop, zap_sys::SysError::new("process_vm_readv", libc::EFAULT)));
        }
        Ok(())
    }

    /// Copies what is in memory of huge pages: reading any other would take one from the host. What the kernel says of
    /// presence is to be relied on, since huge pages are never swapped out.
    fn fill_huge(&mut self) -> Result<(), Refusal> {
        crate::fault::point(zap_wire::fault::COPYING_SHARED);
        let first = self.start;
        let pagemap = fd::open(c"/proc/thread-self/pagemap", libc::O_RDONLY | libc::O_CLOEXEC, 0);
        let pagemap = pagemap.map_err(|error| Refusal::new("/proc/thread-self/pagemap", error))?;
        let mut present: Vec<(u64, u64)> = Vec::new();
        let found = PageFinder::new(pagemap, !crate::fault::refuses(zap_wire::fault::PAGEMAP_SCAN)).private_pages(
            first,
            first + self.length,
            |start, end, _| {
                crate::pieces::add_to(&mut present, start, end);
            },
        );
        let _ = fd::close(pagemap);
        found.map_err(|error| unreadable(first, error))?;
        let mut buffer = alloc::vec![0u8; BUFFER];
        for (start, end) in present {
            let stop = self.take(start, end, false, &mut buffer)?;
            if stop < end {
                return Err(unreadable(stop, zap_sys::SysError::new("process_vm_readv", libc::EFAULT)));
            }
        }
        Ok(())
    }

    /// Copies the pages from `start` to `end`, those of zeroes only if `whole`. Returns the first one that cannot be read, or
    /// `end`.
    fn take(&mut self, start: u64, end: u64, whole: bool, buffer: &mut [u8]) -> Result<u64, Refusal> {
        // SAFETY: the copy is new memory of this length, which nobody else uses.
        let copy = unsafe { core::slice::from_raw_parts_mut(self.copy as *mut u8, self.length as usize) };
        let (mut at, mut step) = (start, buffer.len() as u64);
        while at < end {
            let want = step.min(end - at) as usize;
            match mem::read_own(at, &mut buffer[..want]).map(|count| page_down(count as u64) as usize) {
                Ok(count) if count > 0 => {
                    for page in buffer[..count].chunks_exact(PAGE_SIZE) {
                        if whole || !is_zero(page) {
                            let place = (at - self.start) as usize;
                            copy[place..place + PAGE_SIZE].copy_from_slice(page);
                            self.note(at);
                        }
                        at += PAGE_SIZE as u64;
                    }
                }
                Ok(_) if want > PAGE_SIZE => step = PAGE_SIZE as u64,
                Err(error) if error.is(libc::EFAULT) && want > PAGE_SIZE => step = PAGE_SIZE as u64,
                Ok(_) => break,
                Err(error) if error.is(libc::EFAULT) => break,
                Err(error) => return Err(unreadable(self.start, error)),
            }
        }
        Ok(at)
    }

    /// Notes that the page at `at`, which lies behind all others, is to be saved.
    fn note(&mut self, at: u64) {
        match self.runs.last_mut() {
            Some(last) if at - last.1 <= BRIDGE => last.1 = at + PAGE_SIZE as u64,
            _ => self.runs.push((at, at + PAGE_SIZE as u64)),
        }
    }
}

fn unreadable(at: u64, error: zap_sys::SysError) -> Refusal {
    Refusal::new(format!("shared memory at {at:x}"), error)
}

/// Which pages of an object are in memory (mincore(2)). Reading any other would give the object a page there, so that
/// what was only reserved would be paid for.
#[derive(Default)]
struct Presence {
    /// Address of the first page that `pages` tells of.
    start: u64,
    pages: Vec<u8>,
}

impl Presence {
    /// Pages that are asked for in one go: 256 MiB of them.
    const PAGES: u64 = 64 << 10;

    /// The first address from `at` on that is in memory, or where that is not known; `end` if there is none.
    fn next_present(&mut self, at: u64, end: u64) -> u64 {
        let page = PAGE_SIZE as u64;
        let mut at = at;
        while at < end {
            let known = self.start..self.start + self.pages.len() as u64 * page;
            if !known.contains(&at) {
                self.start = at;
                self.pages.clear();
                self.pages.resize(((end - at) / page).min(Self::PAGES) as usize, 0);
                if mem::in_memory(at, &mut self.pages).is_err() {
                    self.pages.fill(1);
                }
            }
            let from = ((at - self.start) / page) as usize;
            match self.pages[from..].iter().position(|present| present & 1 != 0) {
                Some(ahead) => return at + ahead as u64 * page,
                None => at = self.start + self.pages.len() as u64 * page,
            }
        }
        end
    }
}

/// Whether what is not in memory is nowhere: mincore(2) does not tell of pages that are swapped out.
fn may_trust_presence() -> bool {
    let mut buffer = [0u8; 512];
    // The first line is a heading; each further one is a place to swap to.
    let text = fd::read_file(c"/proc/swaps", &mut buffer);
    text.is_ok_and(|text| text.split(|c| *c == b'\n').filter(|line| !line.is_empty()).count() <= 1)
}

fn is_zero(page: &[u8]) -> bool {
    page.chunks_exact(64).all(|line| line == [0u8; 64])
}

/// Where copies are, (start, length); and memory of the program that is readable for the moment, with its protection. For
/// [`clean_up`].
static LIVE: Owned<Vec<(u64, u64)>> = Owned::new(Vec::new());
static READABLE: Owned<Option<(u64, u64, i32)>> = Owned::new(None);

/// After a panic: gives back what copies there are, and to memory its protection.
pub fn clean_up() {
    if let Some((start, length, protection)) = READABLE.with(Option::take) {
        // SAFETY: nobody runs; this is what the program had.
        let _ = unsafe { mem::protect(start, length, protection) };
    }
    for (start, length) in LIVE.with(core::mem::take) {
        // SAFETY: a copy, used by nobody any more.
        let _ = unsafe { mem::unmap(start, length) };
    }
}

/// After a restart: there are no copies, since they were no part of the image.
pub fn forget() {
    LIVE.with(Vec::clear);
}

/// Gives the copies back.
pub fn drop_copies(copies: &[SharedCopy]) {
    LIVE.with(Vec::clear);
    for copy in copies {
        // SAFETY: made by `copy_shared`, used by nobody any more.
        let _ = unsafe { mem::unmap(copy.copy, copy.length) };
    }
}

/// Whether a mapping shows a memfd, which has no other name than the one that it was given for show.
fn is_memfd(mapping: &Mapping<'_>) -> bool {
    mapping.name.starts_with(b"/memfd:")
}

/// The path by which the file of an object was opened that has none any more.
pub fn path_once(mapping: &Mapping<'_>) -> Vec<u8> {
    let path = path_of(mapping);
    path.strip_suffix(b" (deleted)").unwrap_or(&path).to_vec()
}

/// Whether a shared mapping is of anonymous memory.
pub fn is_shared_anonymous(mapping: &Mapping<'_>) -> bool {
    matches!(mapping.name, b"/dev/zero (deleted)" | b"/dev/zero") || mapping.name.starts_with(b"[anon_shmem:")
}

/// Whether a shared mapping shows memory that no path leads to: anonymous, of a memfd, of a file that has been deleted.
/// (Where one is still open, that is a descriptor besides, which is claimed or refused as such.) The ring of io_setup(2) and
/// the segments of shmget(2) look like it, and are more than memory.
pub fn is_object(mapping: &Mapping<'_>) -> bool {
    let is_more = || [&b"/[aio]"[..], b"/SYSV"].iter().any(|start| mapping.name.starts_with(start));
    is_shared_anonymous(mapping) || (has_lost_name(mapping) && !is_more())
}

/// Whether a mapping keeps a file open for writing, so that a copy of the process would hold it against the program, which
/// has perhaps closed it: nobody could execute it (ETXTBSY), nor seal it (memfd_create(2)), and nobody who watches it would
/// hear of its close. Private mappings of files that are open for writing do so too, and are needed.
pub fn holds_file(mapping: &Mapping<'_>) -> bool {
    // The link has the rights with which the file was opened (proc_pid_map_files(5)).
    let path = || zap_sys::small!("/proc/thread-self/map_files/{:x}-{:x}", mapping.start, mapping.end);
    shows_file(mapping) && fd::link_stat(path().as_c_str()).map_or(true, |link| link.st_mode & libc::S_IWUSR != 0)
}

/// Whether a mapping shows a file to others; without a path it is anonymous memory, which nobody else can meet.
fn shows_file(mapping: &Mapping<'_>) -> bool {
    mapping.shared && mapping.inode != 0 && !is_shared_anonymous(mapping) && !is_agents_table(mapping)
}

/// In the frozen copy, which `smaps` describes: unmaps the files that are shared memory. What is to be saved of them has been
/// copied.
pub fn let_go_of_files(smaps: &[u8]) {
    // A thread may have its stack, and with it Zap's block, in such memory.
    let own = zap_sys::arch::tls::thread_pointer();
    let _ = for_each_mapping(smaps, |mapping, _| {
        if shows_file(mapping) && !(mapping.start..mapping.end).contains(&own) {
            // SAFETY: the frozen copy's own memory; nobody reads it.
            let _ = unsafe { mem::unmap(mapping.start, mapping.length()) };
        }
        Ok(())
    });
}

/// Whether a mapping is the pod's table, which Zap has for itself.
pub fn is_agents_table(mapping: &Mapping<'_>) -> bool {
    let table = state::agents_table().map(|table| core::ptr::from_ref(table) as u64);
    table.is_some_and(|table| (table..table + zap_wire::table::SIZE as u64).contains(&mapping.start))
}

/// Whether a mapping shows a file by a name that it has no more.
fn has_lost_name(mapping: &Mapping<'_>) -> bool {
    // A file may bear such a name.
    let is_there = || {
        let path = CPath::new(&path_of(mapping));
        path.and_then(|path| fd::stat(path.as_c_str()).ok()).is_some_and(|stat| stat.st_ino == mapping.inode)
    };
    mapping.name.starts_with(b"/") && mapping.name.ends_with(b" (deleted)") && !is_there()
}

/// See [`SMALL_FILE`].
fn is_small_file(mapping: &Mapping<'_>) -> bool {
    let candidate = mapping.protection & libc::PROT_WRITE != 0 && mapping.name.starts_with(b"/") && mapping.inode != 0;
    let stat = || CPath::new(&path_of(mapping)).and_then(|path| fd::stat(path.as_c_str()).ok());
    candidate
        && stat().is_some_and(|stat| {
            stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_ino == mapping.inode && stat.st_size <= SMALL_FILE
        })
}

/// Ranges that have been seen: ascending, apart.
#[derive(Default)]
struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds `[start, end)`; returns what of it is new.
    fn add(&mut self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let first = self.0.partition_point(|range| range.1 < start);
        let after = self.0.partition_point(|range| range.0 <= end);
        let mut new = Vec::new();
        let (mut at, mut whole) = (start, (start, end));
        for (from, to) in self.0.drain(first..after) {
            if from > at {
                new.push((at, from));
            }
            at = at.max(to);
            whole = (whole.0.min(from), whole.1.max(to));
        }
        if at < end {
            new.push((at, end));
        }
        self.0.insert(first, whole);
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let mut seen = Ranges::default();
        for (start, end, new, all) in [
            (10, 20, vec![(10, 20)], vec![(10, 20)]),
            (10, 20, vec![], vec![(10, 20)]),
            (30, 40, vec![(30, 40)], vec![(10, 20), (30, 40)]),
            (15, 18, vec![], vec![(10, 20), (30, 40)]),
            (5, 45, vec![(5, 10), (20, 30), (40, 45)], vec![(5, 45)]),
            (45, 50, vec![(45, 50)], vec![(5, 50)]),
            (60, 70, vec![(60, 70)], vec![(5, 50), (60, 70)]),
            (40, 65, vec![(50, 60)], vec![(5, 70)]),
            (0, 1, vec![(0, 1)], vec![(0, 1), (5, 70)]),
        ] {
            assert_eq!(seen.add(start, end), new, "{start}-{end}");
            assert_eq!(seen.0, all, "{start}-{end}");
        }
    }

    #[test]
    fn an_object_is_copied_once_and_up_to_its_end() {
        const PAGE: u64 = PAGE_SIZE as u64;
        let (writable, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: new memory wherever the kernel likes.
        let memory = unsafe { mem::map(0, 40 * PAGE, writable, flags, -1, 0) }.unwrap();
        // SAFETY: as above. Twice as long as what is left of the object.
        let second = unsafe { mem::remap(memory + 20 * PAGE, 0, 40 * PAGE, libc::MREMAP_MAYMOVE, 0) }.unwrap();
        for (page, value) in [(0u64, 1u8), (1, 2), (25, 3)] {
            // SAFETY: inside the mapping.
            unsafe { *((memory + page * PAGE) as *mut u8) = value };
        }
        // SAFETY: the mapping's own page.
        unsafe { mem::protect(memory + PAGE, PAGE, libc::PROT_NONE) }.unwrap();
        let copies = copy_shared(&read_all(c"/proc/thread-self/maps").unwrap(), &[], &[]).unwrap();
        let ours = |at: u64| (memory..memory + 40 * PAGE).contains(&at) || (second..second + 40 * PAGE).contains(&at);
        let mut found = Vec::new();
        for copy in copies.iter().filter(|copy| ours(copy.start)) {
            for (start, end) in &copy.runs {
                let address = copy.copy + (start - copy.start);
                for page in 0..(end - start) / PAGE {
                    // SAFETY: inside the copy.
                    let value = unsafe { *((address + page * PAGE) as *const u8) };
                    found.push(value);
                }
            }
        }
        found.sort_unstable();
        assert_eq!(found, [1, 2, 3]);
        drop_copies(&copies);
        // SAFETY: the test's own memory.
        unsafe { mem::unmap(memory, 40 * PAGE) }.unwrap();
        // SAFETY: as above.
        unsafe { mem::unmap(second, 40 * PAGE) }.unwrap();
    }
}
