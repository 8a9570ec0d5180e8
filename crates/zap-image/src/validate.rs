//! Whether a header makes sense: checked before anybody acts on it, so that those who act need not.

use crate::header::{flags, Backing, Header, Region};
use crate::prelude::Prelude;
use crate::{Compression, SharedObject, StoredChunks, CHUNK_SIZE};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use zap_sys::PAGE_SIZE;

/// Why bytes are not an image that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// No image of Zap at all.
    NotAnImage,
    /// Shorter than it says.
    Truncated,
    /// A checksum or an invariant does not hold; of what.
    Damaged(String),
    /// Written by a version of Zap with another format.
    Version { found: u32 },
    /// From another processor architecture (ELF machine number).
    Machine { found: u32 },
    /// Not the MessagePack that was expected.
    Encoding(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage => write!(f, "not an image of Zap"),
            Self::Truncated => write!(f, "image is truncated"),
            Self::Damaged(what) => write!(f, "image is damaged: {what}"),
            Self::Version { found } => {
                write!(f, "image has format version {found}, this Zap reads version {}", crate::FORMAT_VERSION)
            }
            Self::Machine { found } => write!(
                f,
                "image is from another architecture (ELF machine {found}, here {})",
                zap_sys::arch::ELF_MACHINE
            ),
            Self::Encoding(why) => write!(f, "image is damaged: header: {why}"),
        }
    }
}

impl core::error::Error for FormatError {}

/// One past the highest user address on x86-64 with four-level page tables.
const ADDRESS_LIMIT: u64 = 1 << 47;

/// The largest huge page that any processor has: 16 GiB.
const LARGEST_HUGE_PAGE: u64 = 16 << 30;

fn require(condition: bool, what: &str) -> Result<(), FormatError> {
    if condition {
        Ok(())
    } else {
        Err(FormatError::Damaged(String::from(what)))
    }
}

/// Whether a region can be of huge pages of `size` bytes: private anonymous memory of no other kind, of whole pages.
fn is_of_huge_pages(region: &Region, size: u64) -> bool {
    let others = flags::SHARED | flags::GROWS_DOWN | flags::WIPE_ON_FORK | flags::DROPPABLE | flags::GUARD;
    (PAGE_SIZE as u64 + 1..=LARGEST_HUGE_PAGE).contains(&size)
        && region.start.is_multiple_of(size)
        && region.end.is_multiple_of(size)
        && region.backing == Backing::Anonymous
        && region.flags & others == 0
}

/// Checks every invariant that a restart relies on.
pub(crate) fn header(header: &Header, prelude: &Prelude) -> Result<(), FormatError> {
    let page = PAGE_SIZE as u64;
    let aligned = |value: u64| value.is_multiple_of(page);
    let chunks = prelude.extents_length.div_ceil(CHUNK_SIZE);
    require(header.chunk_sums.0.len() as u64 == chunks * 8, "number of checksums")?;
    require(aligned(prelude.extents_length), "length of extents")?;
    let stored = StoredChunks::from_bytes(header.stored_chunks.0.clone());
    if prelude.compression == Compression::None {
        require(header.stored_chunks.0.is_empty(), "table of chunks")?;
    } else {
        require(stored.fits(prelude.extents_length), "table of chunks")?;
        require(stored.total() == prelude.stored_length, "table of chunks")?;
    }
    require(header.files.iter().all(|file| file.checksum.0.len() == 8), "checksum of a file")?;
    let is_path = |object: &SharedObject| object.path.0.is_empty() || object.path.0.starts_with(b"/");
    require(header.objects.iter().all(is_path), "path of shared memory")?;
    let mut last_end = 0;
    let mut last_offset = 0;
    // (kind and number of object, start, end) of what extents say of shared objects: a page has one content.
    let mut shared_pages = Vec::new();
    for region in &header.regions {
        let place = || format!("region {:x}-{:x}", region.start, region.end);
        let check = |condition: bool| if condition { Ok(()) } else { Err(FormatError::Damaged(place())) };
        check(aligned(region.start) && aligned(region.end) && region.start < region.end)?;
        check(region.start >= last_end && region.end <= ADDRESS_LIMIT && region.start >= page)?;
        let size = region.flags >> flags::HUGE_SHIFT << flags::HUGE_SHIFT;
        check(region.protection & !7 == 0 && region.flags & !flags::ALL == size)?;
        check(region.huge_page().map_or(size == 0, |huge| is_of_huge_pages(region, huge)))?;
        check(region.flags & flags::GUARD == 0 || region.extents.is_empty())?;
        let shared = region.flags & flags::SHARED != 0;
        check(region.flags & flags::READ_ONLY == 0 || shared && region.protection & 2 == 0)?;
        // What the region shows, when it is shared: kind and number of the object, and the offset in it.
        let object = match region.backing {
            Backing::Anonymous => {
                check(!shared)?;
                None
            }
            Backing::File { file, offset } => {
                check((file as usize) < header.files.len() && aligned(offset) && offset < 1 << 62)?;
                shared.then_some((0, file, offset))
            }
            Backing::Shared { object, offset } => {
                check((object as usize) < header.objects.len() && aligned(offset) && offset < 1 << 62)?;
                check(shared && region.flags & (flags::GROWS_DOWN | flags::WIPE_ON_FORK) == 0)?;
                Some((1, object, offset))
            }
        };
        let mut at = region.start;
        for extent in &region.extents {
            let end = extent.address.checked_add(extent.length).ok_or_else(|| FormatError::Damaged(place()))?;
            check(aligned(extent.address) && aligned(extent.length) && extent.length > 0)?;
            check(extent.address >= at && end <= region.end)?;
            let stop = extent.offset.checked_add(extent.length).ok_or_else(|| FormatError::Damaged(place()))?;
            // Extents lie in the file in the order of their addresses and never overlap.
            check(aligned(extent.offset) && extent.offset >= last_offset && stop <= prelude.extents_length)?;
            if let Some((kind, number, offset)) = object {
                let from = offset + (extent.address - region.start);
                shared_pages.push((kind, number, from, from + extent.length));
            }
            at = end;
            last_offset = stop;
        }
        last_end = region.end;
    }
    shared_pages.sort_unstable();
    let twice =
        |pair: &[(u8, u32, u64, u64)]| (pair[0].0, pair[0].1) == (pair[1].0, pair[1].1) && pair[0].3 > pair[1].2;
    require(!shared_pages.windows(2).any(twice), "shared memory is there twice")?;
    let inside = |address: u64, length: u64| {
        header
            .regions
            .iter()
            .any(|region| address >= region.start && address.checked_add(length).is_some_and(|end| end <= region.end))
    };
    let entry = &header.process.entry;
    require(inside(entry.stack_pointer, 8), "entry stack pointer")?;
    require(inside(entry.instruction_pointer, 1), "entry instruction pointer")?;
    require(header.process.mailbox != 0, "mailbox")?;
    let (vdso, length) = header.process.vdso;
    require(aligned(vdso) && aligned(length) && (length == 0 || inside(vdso, length)), "vDSO")?;
    require(header.process.auxv.0.len() <= 4096, "auxiliary vector")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::bytes::Bytes;
    use crate::{BackingFile, Bounds, Entry, Extent, Pod, Process};

    const PAGE: u64 = PAGE_SIZE as u64;

    fn region(page: u64, flags: u32, backing: Backing, extents: &[(u64, u64)]) -> Region {
        let start = page * PAGE;
        let extents =
            extents.iter().map(|(page, offset)| Extent { address: page * PAGE, length: PAGE, offset: offset * PAGE });
        Region { start, end: start + 4 * PAGE, protection: 3, flags, backing, extents: extents.collect() }
    }

    fn sample(regions: Vec<Region>) -> Header {
        let entry =
            Entry { stack_pointer: regions[0].start, instruction_pointer: regions[0].start, fs_base: 0, gs_base: 0 };
        let file = BackingFile {
            path: Bytes(b"/a".to_vec()),
            device: 1,
            inode: 2,
            size: 3,
            modified_ns: 4,
            changed_ns: 5,
            build_id: Bytes::default(),
            checksum: Bytes(vec![0; 8]),
        };
        Header {
            pod: Pod {
                id: 1,
                name: "p".into(),
                generation: 1,
                time: 0,
                interval: 0,
                keep: 1,
                compress: "none".into(),
                signal: 62,
                members: Vec::new(),
            },
            process: Process {
                virtual_pid: 1,
                program: "p".into(),
                executable: Bytes(b"/p".to_vec()),
                entry,
                bounds: Bounds::default(),
                auxv: Bytes::default(),
                vdso: (0, 0),
                mailbox: PAGE,
                zap_version: String::new(),
                kernel: String::new(),
                stack_limit: 0,
                parent: 1,
                group: 2,
                session: 3,
                foreground: 2,
            },
            threads: Vec::new(),
            files: vec![file],
            objects: vec![
                SharedObject { device: 1, inode: 70, path: Bytes::default() },
                SharedObject { device: 1, inode: 71, path: Bytes(b"/tmp/gone".to_vec()) },
            ],
            regions,
            sections: Vec::new(),
            chunk_sums: Bytes(vec![0; 8]),
            stored_chunks: Bytes::default(),
        }
    }

    #[test]
    fn shared_memory() {
        let shared = flags::SHARED;
        let object = |object, offset| Backing::Shared { object, offset: offset * PAGE };
        let file = Backing::File { file: 0, offset: 0 };
        let two = |a: Region, b: Region| vec![a, b];
        for (name, regions, expected) in [
            ("one", vec![region(16, shared, object(0, 0), &[(16, 0)])], true),
            (
                "second mapping",
                two(region(16, shared, object(0, 0), &[(16, 0)]), region(32, shared, object(0, 0), &[])),
                true,
            ),
            (
                "other pages",
                two(region(16, shared, object(0, 0), &[(16, 0)]), region(32, shared, object(0, 0), &[(33, 1)])),
                true,
            ),
            (
                "other object",
                two(region(16, shared, object(0, 0), &[(16, 0)]), region(32, shared, object(1, 0), &[(32, 1)])),
                true,
            ),
            (
                "the same page twice",
                two(region(16, shared, object(1, 2), &[(16, 0)]), region(32, shared, object(1, 0), &[(34, 1)])),
                false,
            ),
            (
                "the same page of a file twice",
                two(region(16, shared, file, &[(16, 0)]), region(32, shared, file, &[(32, 1)])),
                false,
            ),
            ("private pages of a file", two(region(16, 0, file, &[(16, 0)]), region(32, 0, file, &[(32, 1)])), true),
            ("not marked as shared", vec![region(16, 0, object(0, 0), &[])], false),
            ("shared without an object", vec![region(16, shared, Backing::Anonymous, &[])], false),
            ("shared stack", vec![region(16, shared | flags::GROWS_DOWN, object(0, 0), &[])], false),
            ("number of the object", vec![region(16, shared, object(2, 0), &[])], false),
            ("offset", vec![region(16, shared, Backing::Shared { object: 0, offset: 5 }, &[])], false),
            ("far offset", vec![region(16, shared, Backing::Shared { object: 0, offset: 1 << 62 }, &[])], false),
        ] {
            let header = sample(regions);
            let head = crate::encode_head(&header, 2 * PAGE).unwrap();
            let prelude = Prelude::decode(&head, head.len() as u64 + 2 * PAGE).unwrap();
            let decoded = crate::decode_header(&prelude, &head);
            assert_eq!(decoded.is_ok(), expected, "{name}: {decoded:?}");
            if expected {
                assert_eq!(decoded, Ok(header), "{name}");
            }
        }
    }

    #[test]
    fn huge_pages() {
        const MIB: u64 = 1 << 20;
        const GIB: u64 = 1 << 30;
        let of = flags::huge_pages;
        let anonymous = Backing::Anonymous;
        for (name, start, length, flags, backing, expected) in [
            ("2 MiB", 2 * MIB, 4 * MIB, of(2 * MIB), anonymous, true),
            ("1 GiB", GIB, GIB, of(GIB) | flags::NO_RESERVE, anonymous, true),
            ("start", 2 * MIB + PAGE, 4 * MIB, of(2 * MIB), anonymous, false),
            ("length", 2 * MIB, 2 * MIB + PAGE, of(2 * MIB), anonymous, false),
            ("smaller than a page", 2 * MIB, 2 * MIB, of(1), anonymous, false),
            ("no larger than a page", 2 * MIB, 2 * MIB, of(PAGE), anonymous, false),
            ("largest", 16 * GIB, 16 * GIB, of(16 * GIB), anonymous, true),
            ("too large", 32 * GIB, 32 * GIB, of(32 * GIB), anonymous, false),
            ("larger than any address", 2 * MIB, 2 * MIB, of(1 << 63), anonymous, false),
            ("size without pages", 2 * MIB, 2 * MIB, of(2 * MIB) & !flags::HUGE_PAGES, anonymous, false),
            ("pages without size", 2 * MIB, 2 * MIB, flags::HUGE_PAGES, anonymous, false),
            ("bit between", 2 * MIB, 2 * MIB, of(2 * MIB) | 1 << 17, anonymous, false),
            ("stack", 2 * MIB, 2 * MIB, of(2 * MIB) | flags::GROWS_DOWN, anonymous, false),
            ("wiped on fork", 2 * MIB, 2 * MIB, of(2 * MIB) | flags::WIPE_ON_FORK, anonymous, false),
            ("guards", 2 * MIB, 2 * MIB, of(2 * MIB) | flags::GUARD, anonymous, false),
            ("file", 2 * MIB, 2 * MIB, of(2 * MIB), Backing::File { file: 0, offset: 0 }, false),
            ("shared", 2 * MIB, 2 * MIB, of(2 * MIB) | flags::SHARED, Backing::Shared { object: 0, offset: 0 }, false),
        ] {
            let region = Region { start, end: start + length, protection: 3, flags, backing, extents: Vec::new() };
            let head = crate::encode_head(&sample(vec![region]), 2 * PAGE).unwrap();
            let prelude = Prelude::decode(&head, head.len() as u64 + 2 * PAGE).unwrap();
            assert_eq!(crate::decode_header(&prelude, &head).is_ok(), expected, "{name}");
        }
    }

    #[test]
    fn paths_of_objects() {
        for (path, expected) in [("", true), ("/gone", true), ("/", true), ("gone", false), ("../gone", false)] {
            let mut header = sample(vec![region(16, 0, Backing::Anonymous, &[])]);
            header.objects[1].path = Bytes(path.into());
            let head = crate::encode_head(&header, 2 * PAGE).unwrap();
            let prelude = Prelude::decode(&head, head.len() as u64 + 2 * PAGE).unwrap();
            assert_eq!(crate::decode_header(&prelude, &head).is_ok(), expected, "{path}");
        }
    }

    #[test]
    fn tables_of_chunks() {
        let (length, entry) = (CHUNK_SIZE + PAGE, |length: u32| [&length.to_le_bytes()[..], &[5; 8]].concat());
        for (name, compression, entries, expected) in [
            ("two chunks", Compression::Lz4, vec![entry(10), entry(20)], true),
            ("zeroes, and as it is", Compression::Zstd, vec![entry(0), entry(PAGE as u32)], true),
            ("longer than its contents", Compression::Zstd, vec![entry(10), entry(PAGE as u32 + 1)], false),
            ("too few", Compression::Lz4, vec![entry(10)], false),
            ("too many", Compression::Lz4, vec![entry(10), entry(20), entry(0)], false),
            ("a table where there is nothing to say", Compression::None, vec![entry(10), entry(20)], false),
        ] {
            let mut header = sample(vec![region(16, 0, Backing::Anonymous, &[])]);
            header.chunk_sums = Bytes(vec![0; 16]);
            header.stored_chunks = Bytes(entries.concat());
            let head = match compression {
                Compression::None => crate::encode_head(&header, length),
                compression => crate::encode_packed_head(&header, length, compression),
            };
            let head = head.unwrap();
            let stored = if compression == Compression::None {
                length
            } else {
                StoredChunks::from_bytes(header.stored_chunks.0.clone()).total()
            };
            let prelude = Prelude::decode(&head, head.len() as u64 + stored).unwrap();
            assert_eq!(crate::decode_header(&prelude, &head).is_ok(), expected, "{name}");
        }
    }
}
