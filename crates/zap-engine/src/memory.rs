//! The address space as it is saved: a survey of the mappings and of the pages that hold data of the program's own.
//!
//! Runs in the frozen copy, beside the program: the mappings are those of the moment of the fork. What a fork does not
//! freeze (memory shared with others) is copied by the leader during the stop, see [`crate::shared`]. Where there is no
//! frozen copy it runs in the standing program, and changes nothing there.
//!
//! # Safety
//! The copy's memory belongs to nobody else; protections may be changed at will there.
#![allow(unsafe_code)]

use crate::collected::Aside;
use crate::image_backed;
use crate::locked::Locked;
use crate::pieces::{add_to, cut, outside, pieces, without};
use crate::shared::{self, SharedCopy};
use crate::smaps::{for_each_mapping, Details};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zap_image::header::{bytes::Bytes, flags};
use zap_image::{Backing, BackingFile, Extent, Region, SharedObject};
pub use zap_plugin::read_all;
use zap_plugin::Refusal;
use zap_sys::maps::Mapping;
use zap_sys::pagemap::{Kind, PageFinder};
use zap_sys::path::CPath;
use zap_sys::time::stamp_ns;
use zap_sys::{fd, libc, RawFd, PAGE_SIZE};

/// The memory that is to be saved.
#[derive(Clone, Copy)]
pub struct Memory<'a> {
    /// What the kernel says of it: the text of smaps.
    pub smaps: &'a [u8],
    /// What has been copied, and the regions of huge pages, of which a frozen copy has none.
    pub aside: &'a Aside,
    /// Ranges that the program keeps out of its own forks (MADV_DONTFORK), where `smaps` does not tell.
    pub kept_out: &'a [(u64, u64)],
    /// What the program has locked.
    pub locked: &'a [Locked],
    /// It is the frozen copy's, in which protections may be changed.
    pub is_copy: bool,
}

/// Where the bytes of an extent are.
#[derive(Clone, Copy)]
pub enum Source {
    /// In memory of the frozen copy's, or of Zap's own.
    At(u64),
    /// In the program's own memory, where a page that cannot be had must not end it.
    OfProgram(u64),
    /// In memory that the process may not read itself.
    Unreadable(u64),
}

/// Reads memory at an address into a buffer; returns how many bytes.
type Read = fn(u64, &mut [u8]) -> zap_sys::Result<usize>;

impl Source {
    /// Copies the bytes from `done` on that `into` has room for.
    ///
    /// # Safety
    /// What is [`Source::At`] an address is mapped and can be read.
    pub unsafe fn read(self, done: u64, into: &mut [u8]) -> zap_sys::Result<()> {
        let (start, read): (u64, Read) = match self {
            Self::At(start) => {
                // SAFETY: the caller's promise; nobody else has the buffer.
                unsafe { core::ptr::copy((start + done) as *const u8, into.as_mut_ptr(), into.len()) };
                return Ok(());
            }
            Self::OfProgram(start) => (start, zap_sys::mem::read_own),
            Self::Unreadable(start) => (start, zap_sys::mem::read_own_file),
        };
        let mut at = 0;
        while at < into.len() {
            match read(start + done + at as u64, &mut into[at..])? {
                0 => return Err(zap_sys::SysError::new("read", libc::EFAULT)),
                count => at += count,
            }
        }
        Ok(())
    }
}

/// A survey: what the header tells of memory, and where each extent's bytes are.
#[derive(Default)]
pub struct Survey {
    pub regions: Vec<Region>,
    pub files: Vec<BackingFile>,
    /// The bytes of each extent, in the order of regions and extents.
    pub sources: Vec<Source>,
    /// Bytes of all extents.
    pub extents_length: u64,
    /// Objects of shared memory.
    pub objects: Vec<SharedObject>,
    open: Vec<shared::ObjectKey>,
    is_copy: bool,
}

/// Runs of pages with data that lie closer than this (in bytes) become one extent, zeroes between them included: fewer
/// and larger extents make a faster restart.
const BRIDGE: u64 = 8 * PAGE_SIZE as u64;

/// As [`read_all`], by a helper that shares memory but not descriptors: for moments when the program runs and could see one
/// come and go. The caller is in a guarded section.
pub fn read_all_beside(path: &core::ffi::CStr) -> Result<Vec<u8>, Refusal> {
    let mut job: (&core::ffi::CStr, Option<Result<Vec<u8>, Refusal>>) = (path, None);
    crate::beside::run(&mut job, |(path, result)| *result = Some(read_all(path)));
    job.1.unwrap_or_else(|| read_all(path))
}

/// Lets ranges through a fork (MADV_DOFORK), or keeps them out again (MADV_DONTFORK).
pub fn let_through(ranges: &[(u64, u64)], through: bool) {
    let advice = if through { libc::MADV_DOFORK } else { libc::MADV_DONTFORK };
    for (start, end) in ranges {
        // SAFETY: changes what forks do, not what is there.
        let _ = unsafe { zap_sys::mem::advise(*start, end - start, advice) };
    }
}

/// Surveys the address space of the calling process. `open`: files that are open in the pod.
pub fn survey(memory: &Memory<'_>, open: &[shared::ObjectKey]) -> Result<Survey, Refusal> {
    let Memory { smaps, aside: Aside { copies, huge, .. }, kept_out, locked, is_copy } = *memory;
    let pagemap = fd::open(c"/proc/thread-self/pagemap", libc::O_RDONLY | libc::O_CLOEXEC, 0)
        .map_err(|error| Refusal::new("/proc/thread-self/pagemap", error))?;
    crate::fault::point(zap_wire::fault::WRITER_SURVEYING);
    let mut survey = Survey { open: open.to_vec(), is_copy, ..Survey::default() };
    let mut finder = PageFinder::new(pagemap, !crate::fault::refuses(zap_wire::fault::PAGEMAP_SCAN));
    let own = own_memory(copies);
    let mut edges = kept_out.to_vec();
    edges.extend(locked.iter().map(|found| (found.start, found.end)));
    let mut huge = huge.iter().peekable();
    let result = for_each_mapping(smaps, |mapping, details| {
        while let Some(region) = huge.next_if(|region| region.start <= mapping.start) {
            survey.add_huge(region, copies);
            if region.start == mapping.start && details.has(b"ht") {
                return Ok(());
            }
        }
        let mut pieces = outside(*mapping, &own).into_iter().flat_map(|piece| cut(piece, &edges));
        pieces.try_for_each(|piece| survey.add(&piece, details, copies, &mut finder))
    });
    let _ = fd::close(pagemap);
    huge.for_each(|region| survey.add_huge(region, copies));
    for region in &mut survey.regions {
        if kept_out.iter().any(|(start, end)| *start < region.end && *end > region.start) {
            region.flags |= flags::DONT_FORK;
        }
        if let Some(found) = locked.iter().find(|found| found.start < region.end && found.end > region.start) {
            region.flags |= found.flag;
        }
    }
    result.map(|()| survey)
}

impl Survey {
    fn add_huge(&mut self, region: &Region, copies: &[SharedCopy]) {
        let mut region = region.clone();
        self.push_copied(&mut region, copies);
        self.regions.push(region);
    }

    fn add(
        &mut self,
        mapping: &Mapping<'_>,
        details: &Details<'_>,
        copies: &[SharedCopy],
        finder: &mut PageFinder,
    ) -> Result<(), Refusal> {
        if is_excluded(mapping) {
            return Ok(());
        }
        let name =
            || format!("mapping {:x}-{:x} ({})", mapping.start, mapping.end, String::from_utf8_lossy(mapping.name));
        let mut region = Region {
            start: mapping.start,
            end: mapping.end,
            protection: mapping.protection as u32,
            flags: details.region_flags(),
            backing: Backing::Anonymous,
            extents: Vec::new(),
        };
        if is_vdso_data(mapping) {
            region.flags = 0;
            self.regions.push(region);
            return Ok(());
        }
        if crate::aio::is_ring(mapping) {
            // Keeps the place, at which the restart makes the ring anew; memory of zeroes is none, and serves where there is no
            // context.
            region.flags = 0;
            self.regions.push(region);
            return Ok(());
        }
        if let Some(reason) = details.unsupported(mapping) {
            return Err(Refusal::new(name(), reason));
        }
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut guards: Vec<(u64, u64)> = Vec::new();
        let mut behind = None;
        if mapping.shared {
            region.flags |= flags::SHARED;
            region.backing = if shared::is_object(mapping) {
                if !details.has(b"mw") {
                    region.flags |= flags::READ_ONLY;
                }
                Backing::Shared { object: self.object(mapping), offset: mapping.offset }
            } else {
                self.shared_file(mapping).map_err(|why| Refusal::new(name(), why))?
            };
            self.push_copied(&mut region, copies);
        } else if mapping.name == b"[vdso]" {
            runs.push((mapping.start, mapping.end));
        } else {
            let whole = is_whole(mapping);
            if mapping.inode != 0 && !whole && mapping.name != b"/dev/zero" {
                region.backing = Backing::File { file: self.file(mapping), offset: mapping.offset };
            }
            let bridge = if region.backing == Backing::Anonymous { BRIDGE } else { 0 };
            let mut last_guard = 0;
            finder
                .private_pages(mapping.start, mapping.end, |start, end, kind| match (kind, runs.last_mut()) {
                    (Kind::Guard, _) => {
                        last_guard = end;
                        add_to(&mut guards, start, end);
                    }
                    (Kind::Data, Some(last)) if start - last.1 <= bridge && last.1 >= last_guard => last.1 = end,
                    (Kind::Data, _) => runs.push((start, end)),
                })
                .map_err(|error| Refusal::new(name(), error))?;
            if region.flags & flags::WIPE_ON_FORK != 0 {
                runs.clear();
            } else if whole {
                // Guards cannot be read either, and would be taken for the file's end.
                let end = if guards.is_empty() { readable_end(mapping, self.is_copy) } else { Ok(mapping.end) };
                let end = end.map_err(|error| Refusal::new(name(), error))?;
                if end < mapping.end {
                    behind = Some(Region { start: end, backing: self.behind_a_file()?, ..region.clone() });
                    region.end = end;
                }
                runs = without(mapping.start, end, &guards);
            }
        }
        let mut source: fn(u64) -> Source = if self.is_copy { Source::At } else { Source::OfProgram };
        if !runs.is_empty() && mapping.protection & libc::PROT_READ == 0 {
            if self.is_copy && region.flags & flags::SEALED == 0 {
                // SAFETY: the frozen copy's own memory; its protection matters to nobody but the reader.
                unsafe { zap_sys::mem::protect(mapping.start, mapping.length(), libc::PROT_READ) }
                    .map_err(|error| Refusal::new(name(), error))?;
            } else {
                source = Source::Unreadable;
            }
        }
        let mut runs = runs.into_iter().peekable();
        for piece in pieces(&region, &guards) {
            let mut piece = piece;
            while let Some((start, end)) = runs.next_if(|run| run.0 < piece.end) {
                self.push_extent(&mut piece, start, end - start, source(start));
            }
            if piece.start < piece.end {
                self.regions.push(piece);
            }
        }
        self.regions.extend(behind);
        Ok(())
    }

    /// What to map where a mapping is longer than its file, which is gone: there every access is a SIGBUS, and must be
    /// again. So it is behind the end of another file, the program's own, that is there at any restart.
    fn behind_a_file(&mut self) -> Result<Backing, Refusal> {
        let refusal = |error| Refusal::new("executable", error);
        let mut buffer = [0u8; zap_sys::path::PATH_MAX];
        let name = fd::read_link(c"/proc/thread-self/exe", &mut buffer).map_err(refusal)?;
        let path = CPath::new(name).ok_or_else(|| Refusal::new("executable", "path too long"))?;
        let stat = fd::stat(path.as_c_str()).map_err(refusal)?;
        let (start, end) = (0, 0);
        let (protection, shared, offset, device) = (0, false, zap_sys::page_up(stat.st_size as u64), (0, 0));
        let file = self.file(&Mapping { start, end, protection, shared, offset, device, inode: stat.st_ino, name });
        Ok(Backing::File { file, offset })
    }

    /// The contents of shared memory or of huge pages, as copied during the stop: each page in the first region that shows
    /// it.
    fn push_copied(&mut self, region: &mut Region, copies: &[SharedCopy]) {
        let (region_start, region_end) = (region.start, region.end);
        let first = copies.partition_point(|copy| copy.start + copy.length <= region_start);
        for copy in copies[first..].iter().take_while(|copy| copy.start < region_end) {
            for (start, end) in &copy.runs {
                let (start, end) = ((*start).max(region_start), (*end).min(region_end));
                if start < end {
                    self.push_extent(region, start, end - start, Source::At(copy.copy + (start - copy.start)));
                }
            }
        }
    }

    /// The number of the object that a shared mapping shows to which no path leads, giving it one when it is new.
    fn object(&mut self, mapping: &Mapping<'_>) -> u32 {
        let (device, inode) = shared::object_key(mapping);
        let is_open = self.open.contains(&(device, inode)) && !shared::is_shared_anonymous(mapping);
        let path = if is_open { shared::path_once(mapping) } else { Vec::new() };
        let object = SharedObject { device, inode, path: Bytes(path) };
        let index =
            self.objects.iter().position(|known| (known.device, known.inode) == (device, inode)).unwrap_or_else(|| {
                self.objects.push(object);
                self.objects.len() - 1
            });
        index as u32
    }

    fn push_extent(&mut self, region: &mut Region, address: u64, length: u64, source: Source) {
        region.extents.push(Extent { address, length, offset: self.extents_length });
        self.sources.push(source);
        self.extents_length += length;
    }

    /// The backing of a shared mapping of a file; the reason if it is not one that can be mapped again.
    fn shared_file(&mut self, mapping: &Mapping<'_>) -> Result<Backing, &'static str> {
        if mapping.name.starts_with(b"/SYSV") {
            return Err("System V shared memory is not supported");
        }
        if mapping.name.ends_with(b" (deleted)") {
            return Err("the file has been deleted, or is called so");
        }
        let device = mapping.name.starts_with(b"/dev/") && !mapping.name.starts_with(b"/dev/shm/");
        if !mapping.name.starts_with(b"/") || mapping.inode == 0 || device {
            return Err("shared memory of this kind is not supported");
        }
        Ok(Backing::File { file: self.file(mapping), offset: mapping.offset })
    }

    /// The index of the mapping's file, entering it when it is new.
    fn file(&mut self, mapping: &Mapping<'_>) -> u32 {
        let path = path_of(mapping);
        if let Some(index) = self.files.iter().rposition(|file| file.path.0 == path && file.inode == mapping.inode) {
            return index as u32;
        }
        // A process that has become another user may not get there any more: then its times stay 0.
        let stat = CPath::new(&path).and_then(|path| fd::stat(path.as_c_str()).ok());
        self.files.push(BackingFile {
            build_id: Bytes(read_build_id(&path).unwrap_or_default()),
            // Taking it may last: it is the coordinator's.
            checksum: Bytes(zap_image::layout::UNKNOWN_CHECKSUM.to_vec()),
            path: Bytes(path),
            device: stat.map_or(0, |stat| stat.st_dev),
            inode: mapping.inode,
            size: stat.map_or(0, |stat| stat.st_size as u64),
            modified_ns: stat.map_or(0, |stat| stamp_ns(stat.st_mtime, stat.st_mtime_nsec)),
            changed_ns: stat.map_or(0, |stat| stamp_ns(stat.st_ctime, stat.st_ctime_nsec)),
        });
        self.files.len() as u32 - 1
    }
}

/// The GNU build id of the ELF file `path`; `None` for other files.
fn read_build_id(path: &[u8]) -> Option<Vec<u8>> {
    let file = fd::open(CPath::new(path)?.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC, 0).ok()?;
    let mut head = alloc::vec![0u8; 2 * PAGE_SIZE];
    let length = fd::read_full(file, &mut head);
    let _ = fd::close(file);
    zap_image::build_id::find(&head[..length.ok()?])
}

/// Mappings that are not the program's: they are not in the image.
fn is_excluded(mapping: &Mapping<'_>) -> bool {
    mapping.name == b"[vsyscall]" || shared::is_agents_table(mapping)
}

/// The data of the kernel's vDSO, which is saved as zeroes: see [`crate::vdso`].
fn is_vdso_data(mapping: &Mapping<'_>) -> bool {
    mapping.name.starts_with(b"[vvar")
}

/// Private memory that serves the checkpoint only: (start, end), ascending.
fn own_memory(copies: &[SharedCopy]) -> Vec<(u64, u64)> {
    let mut own: Vec<_> = copies.iter().map(|copy| (copy.copy, copy.copy + copy.length)).collect();
    // Chunks that this list itself needs are newer than the text that tells of the mappings.
    own.extend(crate::arena::scratch());
    own.sort_unstable();
    own
}

/// Private mappings whose every page is saved: those of an older image, which may be gone at the next restart, and of
/// files that have been deleted.
fn is_whole(mapping: &Mapping<'_>) -> bool {
    mapping.inode != 0
        && (image_backed::is_image(mapping)
            || (mapping.name.ends_with(b" (deleted)") && !mapping.name.starts_with(b"/dev/zero")))
}

/// Where the part of a mapping ends that can be read: its file may have become shorter than it. What lies behind the
/// file's end is no memory for anybody, and reading it here a SIGBUS.
fn readable_end(mapping: &Mapping<'_>, is_copy: bool) -> zap_sys::Result<u64> {
    let mut read: Read = zap_sys::mem::read_own;
    if mapping.protection & libc::PROT_READ == 0 {
        if is_copy {
            // SAFETY: the frozen copy's own memory; its protection matters to nobody but its reader.
            unsafe { zap_sys::mem::protect(mapping.start, mapping.length(), libc::PROT_READ) }?;
        } else {
            read = zap_sys::mem::read_own_file;
        }
    }
    let page = PAGE_SIZE as u64;
    let can_be_read = |number: u64| match read(mapping.start + number * page, &mut [0u8; 1]) {
        Ok(count) => Ok(count == 1),
        Err(error) if error.is(libc::EFAULT) => Ok(false),
        Err(error) => Err(error),
    };
    // The first page that cannot be read lies in [low, high].
    let (mut low, mut high) = (0, mapping.length() / page);
    if high > 0 && can_be_read(high - 1)? {
        return Ok(mapping.end);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        if can_be_read(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(mapping.start + low * page)
}

/// The path by which a file was mapped. maps shows a newline in it as `\012`, and a name that holds these four characters likewise.
pub(crate) fn path_of(mapping: &Mapping<'_>) -> Vec<u8> {
    let path = unescape(mapping.name);
    let leads = |path: &[u8]| {
        CPath::new(path)
            .and_then(|path| fd::stat(path.as_c_str()).ok())
            .is_some_and(|stat| stat.st_ino == mapping.inode)
    };
    match path.len() != mapping.name.len() && leads(mapping.name) && !leads(&path) {
        true => mapping.name.to_vec(),
        false => path,
    }
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        if let Some(tail) = rest.strip_prefix(b"\\012") {
            path.push(b'\n');
            rest = tail;
        } else {
            path.push(*first);
            rest = tail;
        }
    }
    path
}

/// Bounds and auxiliary vector of the calling process, as the kernel keeps them.
pub fn bounds() -> Result<(zap_image::Bounds, Vec<u8>), Refusal> {
    let mut buffer = [0u8; 2048];
    let stat = fd::read_file(c"/proc/thread-self/stat", &mut buffer)
        .map_err(|error| Refusal::new("/proc/thread-self/stat", error))?;
    let field = |number| zap_sys::process::stat_field(stat, number);
    let bounds = zap_image::Bounds {
        start_code: field(26),
        end_code: field(27),
        start_stack: field(28),
        start_data: field(45),
        end_data: field(46),
        start_brk: field(47),
        brk: zap_sys::mem::program_break(),
        arg_start: field(48),
        arg_end: field(49),
        env_start: field(50),
        env_end: field(51),
    };
    Ok((bounds, read_all(c"/proc/thread-self/auxv")?))
}

/// Closes every descriptor of the calling process but these, which may be the same.
pub fn close_all_but<const N: usize>(mut kept: [RawFd; N]) {
    kept.sort_unstable();
    let mut first = 0;
    for kept in kept.map(|number| number as u32) {
        if kept > first {
            let _ = fd::close_range(first, kept - 1);
        }
        first = first.max(kept + 1);
    }
    let _ = fd::close_range(first, u32::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert_eq!(unescape(b"/a\\012b"), b"/a\nb");
    }
}
