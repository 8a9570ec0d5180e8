//! Header → plan: every decision about the restored program's memory. Pure: the restorer acts, the host is asked before.
//!
//! Small contents are read, large ones mapped from the image, so that the time until the program runs does not grow
//! with its memory, and clones share what they do not write.

use crate::objects::{objects, Object, Stretch};
use crate::places;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zap_client::error::{Error, Result};
use zap_image::header::flags;
use zap_image::{Backing, Extent, Header, Region};
use zap_restorer::hole::Hole;
use zap_restorer::plan::{self, Operation, Source, HEADER_SIZE, MAILBOX_OVERHEAD, RECORD_SIZE};
use zap_sys::libc::{
    MADV_DONTDUMP, MADV_DONTFORK, MADV_HUGEPAGE, MADV_MERGEABLE, MADV_NOHUGEPAGE, MADV_RANDOM, MADV_SEQUENTIAL,
    MADV_WIPEONFORK, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_HUGETLB, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, MAP_STACK,
    O_CLOEXEC, O_RDONLY, O_RDWR, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE,
};
use zap_sys::{page_down, RawFd};
use zap_wire::restart::MAILBOX_SIZE;

/// Extents from this size on may be mapped instead of read.
const LARGE: u64 = 2 << 20;

/// Bytes in large extents that are read all the same, smallest extents first: reading them costs less than the page
/// faults that mapping them would spread over the program's next second.
const EAGER_BUDGET: u64 = 16 << 20;

/// Most mappings of the image: their list must fit into the mailbox.
const MOST_MAPPED: usize = 600;

/// A process may have 65,530 mappings (vm.max_map_count); an image mapped inside a region costs two more.
const MOST_MAPPINGS: usize = 65_000;

/// mmap(2) of Linux 6.11.
const MAP_DROPPABLE: i32 = 8;

/// The main stack gets at most this much room at once; beyond it grows as any stack does.
const LONGEST_STACK: u64 = 64 << 20;

/// Distance between the main stack's room and the region below.
const STACK_GAP: u64 = 1 << 20;

/// What the host says of the image and of the files that the regions map.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where the extents begin in the image's file.
    pub extents_start: u64,
    /// Whether memory may stay backed by the image.
    pub mappable: bool,
    /// For each object of shared memory of the header: where it is found when other processes have it too.
    pub commons: Vec<Option<PathBuf>>,
    /// For each file of the header: whether it is opened for writing too.
    pub writable_files: Vec<bool>,
}

/// A plan that lacks only what is known just before the exec.
#[derive(Clone, Debug)]
pub struct Planned {
    operations: Vec<Operation>,
    /// NUL-terminated paths; the operations' places are offsets in here.
    paths: Vec<u8>,
    candidates: Vec<u64>,
    /// Ranges that stay backed by the image: start and length, ascending.
    pub image_backed: Vec<(u64, u64)>,
}

/// Plans the process whose header this is.
pub fn plan(header: &Header, facts: &Facts) -> Result<Planned> {
    check_mailbox(header)?;
    let mut planned =
        Planned { operations: Vec::new(), paths: Vec::new(), candidates: Vec::new(), image_backed: vec![] };
    let mapped = choose_mapped(header, facts.mappable);
    let mut occupied = occupied(header);
    let objects = objects(header);
    let temporary = temporary_place(&occupied, &objects)?;
    let mut maker = Maker { header, facts, mapped: &mapped, planned: &mut planned, current: None };
    for object in &objects {
        maker.object(object, temporary.0);
    }
    for (region, (start, _)) in header.regions.iter().zip(&occupied) {
        maker.region(region, *start);
    }
    if maker.current.is_some() {
        maker.push(Operation::Close);
    }
    // When all else is done: nothing can be changed behind a seal, and what is locked would be read twice.
    header.regions.iter().for_each(|region| maker.fix(region));
    // Nor may the restorer lie where shared memory is made.
    let at = occupied.partition_point(|range| *range < temporary);
    occupied.insert(at, temporary);
    let longest = longest_plan(&planned, header);
    planned.candidates = places::candidates(&occupied, Hole { start: 0, plan_length: longest }.length());
    if planned.candidates.is_empty() {
        return Err(Error::new("address space", "no room for the restorer beside the program's memory"));
    }
    Ok(planned)
}

impl Planned {
    /// The plan's bytes, with the descriptors as they will be after the exec and the encoded `RestartParts`.
    pub fn encode(&self, header: &Header, image: RawFd, report: RawFd, parts: &[u8]) -> Result<Vec<u8>> {
        if parts.len() + MAILBOX_OVERHEAD > MAILBOX_SIZE {
            return Err(Error::new("restart parts", format_args!("{} bytes do not fit the mailbox", parts.len())));
        }
        let process = &header.process;
        let auxv = &process.auxv.0;
        let paths_at = (HEADER_SIZE + self.operations.len() * RECORD_SIZE) as u64;
        let auxv_at = paths_at + self.paths.len() as u64;
        let parts_at = auxv_at + auxv.len() as u64;
        let mut candidates = [0; plan::CANDIDATES];
        candidates.iter_mut().zip(&self.candidates).for_each(|(to, from)| *to = *from);
        let bounds = &process.bounds;
        let head = plan::Header {
            magic: plan::MAGIC,
            length: parts_at + parts.len() as u64,
            count: self.operations.len() as u64,
            image: image as u64,
            report: report as u64,
            candidates,
            bounds: [
                bounds.start_code,
                bounds.end_code,
                bounds.start_data,
                bounds.end_data,
                bounds.start_brk,
                bounds.brk,
                bounds.start_stack,
                bounds.arg_start,
                bounds.arg_end,
                bounds.env_start,
                bounds.env_end,
            ],
            auxv: [auxv_at, auxv.len() as u64],
            fs_base: process.entry.fs_base,
            gs_base: process.entry.gs_base,
            stack_pointer: process.entry.stack_pointer,
            instruction_pointer: process.entry.instruction_pointer,
            mailbox: process.mailbox,
            parts: [parts_at, parts.len() as u64],
        };
        let mut bytes = Vec::with_capacity(head.length as usize);
        bytes.extend_from_slice(&head.to_bytes());
        for operation in &self.operations {
            let operation = match *operation {
                Operation::Open { place, length, flags } => Operation::Open { place: place + paths_at, length, flags },
                other => other,
            };
            bytes.extend_from_slice(&operation.to_bytes());
        }
        bytes.extend_from_slice(&self.paths);
        bytes.extend_from_slice(auxv);
        bytes.extend_from_slice(parts);
        Ok(bytes)
    }
}

/// What the restored program occupies, region by region: (start, end).
fn occupied(header: &Header) -> Vec<(u64, u64)> {
    let mut below = 0;
    let start = |region: &Region| {
        let start = stack_start(region, below, header.process.stack_limit);
        below = region.end;
        (start, region.end)
    };
    header.regions.iter().map(start).collect()
}

/// Where objects without a home are made, one after the other: (start, end), an empty range if there are none.
fn temporary_place(occupied: &[(u64, u64)], objects: &[Object]) -> Result<(u64, u64)> {
    let longest = objects.iter().filter(|object| object.home.is_none()).map(Object::length).max();
    let Some(length) = longest else { return Ok((0, 0)) };
    // The best places are left for the restorer.
    match places::candidates(occupied, length).last() {
        Some(start) => Ok((*start, *start + length)),
        None => Err(Error::new("address space", "no room to make the program's shared memory in")),
    }
}

/// The longest that the encoded plan can be, whatever the parts are.
fn longest_plan(planned: &Planned, header: &Header) -> u64 {
    let length = HEADER_SIZE + planned.operations.len() * RECORD_SIZE + planned.paths.len();
    (length + header.process.auxv.0.len() + MAILBOX_SIZE) as u64
}

fn check_mailbox(header: &Header) -> Result<()> {
    let range = header.process.mailbox..header.process.mailbox.saturating_add(MAILBOX_SIZE as u64);
    let fits = |region: &Region| {
        region.start <= range.start
            && range.end <= region.end
            && region.protection & PROT_WRITE as u32 != 0
            && region.flags & flags::SHARED == 0
    };
    if header.regions.iter().any(fits) {
        Ok(())
    } else {
        Err(Error::new("mailbox", "does not lie in writable memory of the image"))
    }
}

/// Offsets (in the extents) of those extents that are mapped from the image, ascending.
fn choose_mapped(header: &Header, mappable: bool) -> Vec<u64> {
    if !mappable {
        return Vec::new();
    }
    let bounds = &header.process.bounds;
    let heap = bounds.start_brk..bounds.brk.max(bounds.start_brk + 1);
    let eligible = header.regions.iter().filter(|region| may_be_mapped(region, &heap));
    let mut large: Vec<Extent> =
        eligible.flat_map(|region| &region.extents).filter(|extent| extent.length >= LARGE).copied().collect();
    large.sort_by_key(|extent| (extent.length, extent.offset));
    let mut eager = 0;
    let mut mapped: Vec<Extent> = large
        .into_iter()
        .skip_while(|extent| {
            eager += extent.length;
            eager <= EAGER_BUDGET
        })
        .collect();
    // The largest come last.
    let most = MOST_MAPPED.min(MOST_MAPPINGS.saturating_sub(header.regions.len()) / 2);
    let mut offsets: Vec<u64> =
        mapped.split_off(mapped.len().saturating_sub(most)).iter().map(|extent| extent.offset).collect();
    offsets.sort_unstable();
    offsets
}

/// Whether parts of a region may show the image itself: private anonymous memory of no special kind. The heap stays
/// anonymous throughout, since it grows by merging, and code is never mapped from where `noexec` may come.
fn may_be_mapped(region: &Region, heap: &Range<u64>) -> bool {
    // Locked memory is in memory as a whole, and the image is only ever read on demand.
    let locked = flags::LOCKED | flags::LOCKED_ON_FAULT;
    let special = flags::SHARED | flags::GROWS_DOWN | flags::WIPE_ON_FORK | flags::DROPPABLE | flags::HUGE_PAGES;
    region.backing == Backing::Anonymous
        && region.flags & (special | locked) == 0
        && region.protection & PROT_EXEC as u32 == 0
        && !(region.start < heap.end && heap.start < region.end)
}

struct Maker<'a> {
    header: &'a Header,
    facts: &'a Facts,
    mapped: &'a [u64],
    planned: &'a mut Planned,
    /// File that is open at this point of the plan.
    current: Option<u32>,
}

impl Maker<'_> {
    fn push(&mut self, operation: Operation) {
        self.planned.operations.push(operation);
    }

    /// Adds what makes a shared object and its mappings, readable and writable; their protections come with the
    /// regions. Second mappings are made before any advice, which they would inherit.
    fn object(&mut self, object: &Object, temporary: u64) {
        if let Some(path) = self.facts.commons.get(object.number as usize).and_then(Option::as_ref) {
            return self.common(object, path);
        }
        let (home, length) = (object.home.map_or(temporary, |home| home.address), object.length());
        let flags = MAP_SHARED | MAP_ANONYMOUS | if object.no_reserve { MAP_NORESERVE } else { 0 };
        let protection = PROT_READ | PROT_WRITE;
        self.push(Operation::Map { address: home, length, protection, flags, source: Source::Anonymous, offset: 0 });
        for extent in &object.contents {
            self.read_extent(&Extent { address: home + (extent.address - object.range.start), ..*extent });
        }
        for Stretch { address, length, offset, .. } in &object.others {
            let from = home + (offset - object.range.start);
            self.push(Operation::Duplicate { from, length: *length, to: *address });
        }
        if object.home.is_none() {
            self.push(Operation::Unmap { address: home, length });
        }
    }

    /// Adds the mappings of an object that is there already, with its contents.
    fn common(&mut self, object: &Object, path: &Path) {
        let flags = MAP_SHARED | if object.no_reserve { MAP_NORESERVE } else { 0 };
        for writable in [true, false] {
            let stretches = object.home.iter().chain(&object.others).filter(|stretch| stretch.writable == writable);
            let mut stretches = stretches.copied().peekable();
            if stretches.peek().is_none() {
                continue;
            }
            // What may be written to, also by mprotect(2), could not be sealed (F_SEAL_WRITE, fcntl(2)).
            let (access, protection) = if writable { (O_RDWR, PROT_READ | PROT_WRITE) } else { (O_RDONLY, PROT_READ) };
            self.push_open(path.as_os_str().as_bytes(), O_CLOEXEC | access);
            for Stretch { address, length, offset, .. } in stretches {
                self.push(Operation::Map { address, length, protection, flags, source: Source::File, offset });
            }
            self.push(Operation::Close);
        }
    }

    fn push_open(&mut self, path: &[u8], flags: i32) {
        let place = self.planned.paths.len() as u64;
        self.planned.paths.extend_from_slice(path);
        self.planned.paths.push(0);
        self.push(Operation::Open { place, length: path.len() as u64 + 1, flags });
    }

    /// Adds what makes `region` from `start` on. Shared anonymous memory is there already.
    fn region(&mut self, region: &Region, start: u64) {
        if let Backing::Shared { .. } = region.backing {
            let (protection, length) = (region.protection as i32, region.end - start);
            self.advise(region, start);
            if protection != PROT_READ | PROT_WRITE {
                self.push(Operation::Protect { address: start, length, protection });
            }
            return;
        }
        let shared = region.flags & flags::SHARED != 0;
        let wiped = region.flags & flags::WIPE_ON_FORK != 0;
        let shows_file = matches!(region.backing, Backing::File { .. });
        // What is shared through a file is in the file.
        let extents: &[Extent] = if wiped || (shared && shows_file) { &[] } else { &region.extents };
        let final_protection = region.protection as i32;
        let is_mapped = |extent: &Extent| self.mapped.binary_search(&extent.offset).is_ok();
        let is_read = extents.iter().any(|extent| !is_mapped(extent));
        let protection = if is_read { PROT_READ | PROT_WRITE } else { final_protection };
        let whole = matches!(extents, [extent] if is_mapped(extent) && extent.length == region.end - region.start);
        if !whole {
            self.map_region(region, start, protection, extents.is_empty());
        }
        for extent in extents.iter().filter(|extent| is_mapped(extent)) {
            self.map_extent(extent, protection);
        }
        self.advise(region, start);
        for extent in extents.iter().filter(|extent| !is_mapped(extent)) {
            self.read_extent(extent);
        }
        if protection != final_protection {
            self.push(Operation::Protect { address: start, length: region.end - start, protection: final_protection });
        }
    }

    fn map_region(&mut self, region: &Region, address: u64, protection: i32, empty: bool) {
        let shared = region.flags & flags::SHARED != 0;
        let droppable = region.flags & flags::DROPPABLE != 0;
        let mut map_flags = match (shared, droppable) {
            (true, _) => MAP_SHARED,
            (false, true) => MAP_DROPPABLE,
            (false, false) => MAP_PRIVATE,
        };
        let huge = region.flags & flags::HUGE_PAGES != 0;
        // What nobody can touch costs no memory, but for huge pages: those are taken from the host when they are mapped.
        if region.flags & flags::NO_RESERVE != 0 || (region.protection as i32 == PROT_NONE && empty && !huge) {
            map_flags |= MAP_NORESERVE;
        }
        if huge {
            // The size is in the same bits.
            map_flags |= MAP_HUGETLB | (region.flags >> flags::HUGE_SHIFT << flags::HUGE_SHIFT) as i32;
        }
        let length = region.end - address;
        let (source, offset) = match region.backing {
            Backing::Anonymous => {
                map_flags |= MAP_ANONYMOUS;
                if region.flags & flags::GROWS_DOWN != 0 {
                    map_flags |= MAP_GROWSDOWN | MAP_STACK | MAP_NORESERVE;
                }
                (Source::Anonymous, 0)
            }
            Backing::File { file, offset } => {
                self.open(file);
                (Source::File, offset)
            }
            // Made with its object.
            Backing::Shared { .. } => return,
        };
        self.push(Operation::Map { address, length, protection, flags: map_flags, source, offset });
    }

    fn map_extent(&mut self, extent: &Extent, protection: i32) {
        let Extent { address, length, offset } = *extent;
        let offset = self.facts.extents_start + offset;
        self.push(Operation::Map { address, length, protection, flags: MAP_PRIVATE, source: Source::Image, offset });
        match self.planned.image_backed.last_mut() {
            Some((start, so_far)) if *start + *so_far == address => *so_far += length,
            _ => self.planned.image_backed.push((address, length)),
        }
    }

    fn read_extent(&mut self, extent: &Extent) {
        let offset = self.facts.extents_start + extent.offset;
        if let Some(Operation::Read { address, length, offset: from }) = self.planned.operations.last_mut() {
            if *address + *length == extent.address && *from + *length == offset {
                *length += extent.length;
                return;
            }
        }
        self.push(Operation::Read { address: extent.address, length: extent.length, offset });
    }

    fn advise(&mut self, region: &Region, address: u64) {
        // Transparent huge pages, the merging of pages and read-ahead are matters of speed, and not for every kernel.
        for (flag, advice, required) in [
            (flags::WIPE_ON_FORK, MADV_WIPEONFORK, true),
            (flags::DONT_FORK, MADV_DONTFORK, true),
            (flags::DONT_DUMP, MADV_DONTDUMP, true),
            (flags::HUGE, MADV_HUGEPAGE, false),
            (flags::NO_HUGE, MADV_NOHUGEPAGE, false),
            (flags::MERGEABLE, MADV_MERGEABLE, false),
            (flags::SEQUENTIAL, MADV_SEQUENTIAL, false),
            (flags::RANDOM, MADV_RANDOM, false),
            (flags::GUARD, zap_sys::mem::MADV_GUARD_INSTALL, true),
        ] {
            if region.flags & flag != 0 {
                self.push(Operation::Advise { address, length: region.end - address, advice, required });
            }
        }
    }

    /// Adds locks and seals; not for the room of a stack below what it had grown to.
    fn fix(&mut self, region: &Region) {
        let (address, length) = (region.start, region.end - region.start);
        if region.flags & (flags::LOCKED | flags::LOCKED_ON_FAULT) != 0 {
            self.push(Operation::Lock { address, length, on_fault: region.flags & flags::LOCKED == 0 });
        }
        if region.flags & flags::SEALED != 0 {
            self.push(Operation::Seal { address, length });
        }
    }

    fn open(&mut self, file: u32) {
        if self.current == Some(file) {
            return;
        }
        self.current = Some(file);
        let writable = self.facts.writable_files.get(file as usize).copied().unwrap_or(false);
        let header = self.header;
        let flags = O_CLOEXEC | if writable { O_RDWR } else { O_RDONLY };
        self.push_open(&header.files[file as usize].path.0, flags);
    }
}

/// The main stack gets its room back, so that nothing is mapped into it before it has grown again.
fn stack_start(region: &Region, below: u64, limit: u64) -> u64 {
    if region.flags & flags::GROWS_DOWN == 0 {
        return region.start;
    }
    let wanted = page_down(region.end.saturating_sub(limit.min(LONGEST_STACK)));
    wanted.max(below.saturating_add(STACK_GAP)).min(region.start)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{header, region, shared, MAILBOX, MIB, RW};

    fn facts() -> Facts {
        Facts { extents_start: 0x1000, mappable: true, commons: vec![], writable_files: vec![false, true] }
    }

    /// The operations for one region, without those of the mailbox.
    fn operations(header: &Header) -> Vec<Operation> {
        let of_mailbox = |operation: &Operation| matches!(operation, Operation::Map { address: MAILBOX, .. });
        plan(header, &facts()).unwrap().operations.into_iter().filter(|operation| !of_mailbox(operation)).collect()
    }

    fn map(address: u64, length: u64, protection: i32, flags: i32, source: Source, offset: u64) -> Operation {
        Operation::Map { address, length, protection, flags, source, offset }
    }

    #[test]
    fn flags_of_regions() {
        use Source::{Anonymous, File};
        let anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
        let backed = |region: Region, file| Region { backing: Backing::File { file, offset: 0x3000 }, ..region };
        let object = |region: Region, offset| Region { backing: Backing::Shared { object: 0, offset }, ..region };
        let at = 0x5000_0000;
        let page = 0x1000;
        let read = Operation::Read { address: at, length: page, offset: 0x1000 + 0x2000 };
        let protect = |protection| Operation::Protect { address: at, length: page, protection };
        let advise = |advice, required| Operation::Advise { address: at, length: page, advice, required };
        let open = |flags| Operation::Open { place: 0, length: 3, flags: flags | O_CLOEXEC };
        let contents = [(at, page, 0x2000)];
        let table: Vec<(&str, Region, Vec<Operation>)> = vec![
            ("zeroes", region(at, page, RW, 0, &[]), vec![map(at, page, 3, anonymous, Anonymous, 0)]),
            ("contents", region(at, page, RW, 0, &contents), vec![map(at, page, 3, anonymous, Anonymous, 0), read]),
            (
                "read-only contents",
                region(at, page, 1, 0, &contents),
                vec![map(at, page, 3, anonymous, Anonymous, 0), read, protect(1)],
            ),
            ("reserved", region(at, page, 0, 0, &[]), vec![map(at, page, 0, anonymous | MAP_NORESERVE, Anonymous, 0)]),
            (
                "shared anonymous",
                object(region(at, page, RW, flags::SHARED, &contents), 0),
                vec![map(at, page, 3, MAP_SHARED | MAP_ANONYMOUS, Anonymous, 0), read],
            ),
            (
                "shared anonymous, read-only, not reserved, from the middle of its object",
                object(region(at, page, 1, flags::SHARED | flags::NO_RESERVE | flags::DONT_DUMP, &contents), 0x7000),
                vec![
                    map(at, page, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, Anonymous, 0),
                    read,
                    advise(MADV_DONTDUMP, true),
                    protect(1),
                ],
            ),
            (
                "wiped on fork",
                region(at, page, RW, flags::WIPE_ON_FORK, &contents),
                vec![map(at, page, 3, anonymous, Anonymous, 0), advise(MADV_WIPEONFORK, true)],
            ),
            (
                "advice",
                region(at, page, RW, flags::DONT_FORK | flags::HUGE, &[]),
                vec![
                    map(at, page, 3, anonymous, Anonymous, 0),
                    advise(MADV_DONTFORK, true),
                    advise(MADV_HUGEPAGE, false),
                ],
            ),
            (
                "private file",
                backed(region(at, page, 5, 0, &[]), 0),
                vec![open(O_RDONLY), map(at, page, 5, MAP_PRIVATE, File, 0x3000), Operation::Close],
            ),
            (
                "private file with pages of its own",
                backed(region(at, page, 1, 0, &contents), 0),
                vec![open(O_RDONLY), map(at, page, 3, MAP_PRIVATE, File, 0x3000), read, protect(1), Operation::Close],
            ),
            (
                "shared file",
                backed(region(at, page, RW, flags::SHARED, &contents), 1),
                vec![open(O_RDWR), map(at, page, 3, MAP_SHARED, File, 0x3000), Operation::Close],
            ),
            (
                "huge pages that are read-only",
                region(at, 2 * MIB, 1, flags::huge_pages(2 * MIB) | flags::NO_RESERVE, &contents),
                vec![
                    map(at, 2 * MIB, 3, anonymous | MAP_HUGETLB | MAP_NORESERVE | 21 << 26, Anonymous, 0),
                    read,
                    Operation::Protect { address: at, length: 2 * MIB, protection: 1 },
                ],
            ),
            (
                "huge pages that are reserved",
                region(1 << 30, 1 << 30, 0, flags::huge_pages(1 << 30), &[]),
                vec![map(1 << 30, 1 << 30, 0, anonymous | MAP_HUGETLB | 30 << 26, Anonymous, 0)],
            ),
        ];
        for (name, region, expected) in table {
            assert_eq!(operations(&header(vec![region])), expected, "{name}");
        }
    }

    #[test]
    fn shared_memory_is_made_once() {
        let (at, far, page) = (0x5000_0000, 0x6000_0000, 0x1000);
        let flags = MAP_SHARED | MAP_ANONYMOUS;
        let make = |address, length| map(address, length, 3, flags, Source::Anonymous, 0);
        let read = |address, length, offset| Operation::Read { address, length, offset: 0x1000 + offset };
        let protect = |address, protection| Operation::Protect { address, length: page, protection };

        // The first mapping, split by a protection, shows all of the object.
        let regions = vec![
            shared(at, page, RW, (0, 0), &[(at, page, 0)]),
            shared(at + page, page, 1, (0, page), &[(at + page, page, page)]),
            shared(far, page, 0, (0, page), &[]),
        ];
        let expected = vec![
            make(at, 2 * page),
            read(at, 2 * page, 0),
            Operation::Duplicate { from: at + page, length: page, to: far },
            protect(at + page, 1),
            protect(far, 0),
        ];
        assert_eq!(operations(&header(regions)), expected);

        // None shows all.
        let regions = vec![
            shared(at, 2 * page, RW, (3, 5 * page), &[(at, page, 0)]),
            shared(far, 3 * page, RW, (3, 6 * page), &[(far + 2 * page, page, page)]),
        ];
        let header = header(regions);
        let planned = plan(&header, &facts()).unwrap();
        let Operation::Map { address: temporary, .. } = planned.operations[0] else { panic!() };
        let expected = vec![
            make(temporary, 4 * page),
            read(temporary, page, 0),
            read(temporary + 3 * page, page, page),
            Operation::Duplicate { from: temporary, length: 2 * page, to: at },
            Operation::Duplicate { from: temporary + page, length: 3 * page, to: far },
            Operation::Unmap { address: temporary, length: 4 * page },
        ];
        assert_eq!(operations(&header), expected);
        assert!(header.regions.iter().all(|region| region.end <= temporary || temporary + 4 * page <= region.start));
        let hole = Hole { start: 0, plan_length: longest_plan(&planned, &header) }.length();
        assert!(planned.candidates.iter().all(|place| place + hole <= temporary || temporary + 4 * page <= *place));
    }

    #[test]
    fn large_extents_are_mapped_past_the_budget() {
        let at = 0x2_0000_0000;
        let large = region(at, 64 * MIB, RW, 0, &[(at, 64 * MIB, 0)]);
        let planned = plan(&header(vec![large.clone()]), &facts()).unwrap();
        assert_eq!(planned.image_backed, [(at, 64 * MIB)]);
        let map_image = map(at, 64 * MIB, 3, MAP_PRIVATE, Source::Image, 0x1000);
        assert!(planned.operations.contains(&map_image));
        assert!(!planned.operations.iter().any(|operation| matches!(operation, Operation::Read { .. })));

        let not_mappable = Facts { mappable: false, ..facts() };
        assert!(plan(&header(vec![large]), &not_mappable).unwrap().image_backed.is_empty());

        // 4 + 8 MiB are read, 16 mapped; a part of a region is mapped over it.
        let parts = [(at, 8 * MIB, 0), (at + 16 * MIB, 4 * MIB, 8 * MIB), (at + 32 * MIB, 16 * MIB, 12 * MIB)];
        let planned = plan(&header(vec![region(at, 64 * MIB, RW, 0, &parts)]), &facts()).unwrap();
        assert_eq!(planned.image_backed, [(at + 32 * MIB, 16 * MIB)]);
        assert_eq!(planned.operations.iter().filter(|o| matches!(o, Operation::Read { .. })).count(), 2);
    }

    #[test]
    fn special_regions_are_never_mapped_from_the_image() {
        let at = 0x2_0000_0000;
        let whole = [(at, 64 * MIB, 0)];
        let heap = 0x1000_0000;
        for (name, region) in [
            ("heap", region(heap, 64 * MIB, RW, 0, &[(heap, 64 * MIB, 0)])),
            ("shared", shared(at, 64 * MIB, RW, (0, 0), &whole)),
            ("stack", region(at, 64 * MIB, RW, flags::GROWS_DOWN, &whole)),
            ("code", region(at, 64 * MIB, 7, 0, &whole)),
            ("huge pages", region(at, 64 * MIB, RW, flags::huge_pages(2 * MIB), &whole)),
            ("file", Region { backing: Backing::File { file: 0, offset: 0 }, ..region(at, 64 * MIB, RW, 0, &whole) }),
        ] {
            let planned = plan(&header(vec![region]), &facts()).unwrap();
            assert!(planned.image_backed.is_empty(), "{name}");
            assert!(planned.operations.iter().any(|o| matches!(o, Operation::Read { .. })), "{name}");
        }
    }

    #[test]
    fn the_stack_gets_room() {
        let end = 0x7fff_0000_0000;
        let stack = region(end - 0x21000, 0x21000, RW, flags::GROWS_DOWN, &[(end - 0x1000, 0x1000, 0)]);
        for (name, below, limit, expected) in [
            ("limit", 0, 8 * MIB, end - 8 * MIB),
            ("unlimited", 0, u64::MAX, end - 64 * MIB),
            ("neighbour", end - 4 * MIB, 8 * MIB, end - 3 * MIB),
            ("close neighbour", end - MIB, 8 * MIB, end - 0x21000),
            ("small limit", 0, 0x1000, end - 0x21000),
        ] {
            assert_eq!(stack_start(&stack, below, limit), expected, "{name}");
        }
        let made = operations(&header(vec![stack]));
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_STACK | MAP_NORESERVE;
        assert_eq!(made[0], map(end - 8 * MIB, 8 * MIB, 3, flags, Source::Anonymous, 0));
    }

    #[test]
    fn sixty_thousand_mappings() {
        let regions = (0..60_000u64).map(|n| {
            let start = 0x1_0000_0000 + n * 0x2000;
            region(start, 0x1000, if n % 2 == 0 { RW } else { 0 }, 0, &[])
        });
        let header = header(regions.collect());
        let planned = plan(&header, &facts()).unwrap();
        let bytes = planned.encode(&header, 5, 6, b"parts").unwrap();
        let head = plan::Header::read(&bytes).unwrap();
        assert_eq!(head.count, 60_001);
        assert_eq!(&bytes[head.parts[0] as usize..], b"parts");
        assert_eq!(&bytes[head.auxv[0] as usize..][..32], [7; 32]);
        assert_eq!((head.image, head.report, head.mailbox), (5, 6, MAILBOX));
    }

    #[test]
    fn paths_are_found_where_the_plan_says() {
        let backed =
            |start, file| Region { backing: Backing::File { file, offset: 0 }, ..region(start, 0x1000, 1, 0, &[]) };
        let header = header(vec![backed(0x10000, 0), backed(0x20000, 1), backed(0x30000, 1)]);
        let bytes = plan(&header, &facts()).unwrap().encode(&header, 5, 6, b"").unwrap();
        let count = plan::Header::read(&bytes).unwrap().count;
        let paths: Vec<&[u8]> = (0..count)
            .filter_map(|index| match Operation::read(&bytes, index) {
                Some(Operation::Open { place, length, .. }) => Some(&bytes[place as usize..(place + length) as usize]),
                _ => None,
            })
            .collect();
        assert_eq!(paths, [&b"/a\0"[..], b"/b\0"]);
    }

    #[test]
    fn a_mailbox_elsewhere_is_refused() {
        let mut header = header(vec![]);
        header.process.mailbox += 0x1000;
        assert!(plan(&header, &facts()).is_err());
    }

    #[test]
    fn parts_must_fit() {
        let header = header(vec![]);
        let planned = plan(&header, &facts()).unwrap();
        assert!(planned.encode(&header, 5, 6, &vec![0; MAILBOX_SIZE]).is_err());
        assert!(planned.encode(&header, 5, 6, &vec![0; MAILBOX_SIZE - MAILBOX_OVERHEAD]).is_ok());
    }
}
