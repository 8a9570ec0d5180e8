//! Private memory of huge pages (MAP_HUGETLB): found and copied during the stop, and kept out of the frozen copy.
//!
//! The frozen copy must never have it. There are as many huge pages as the host's administrator has set aside, and
//! programs that want them take them all: for a page that the program writes to while a copy shares it there is then no
//! second one. The kernel takes the page away from the copy, if the program has it reserved; else (MAP_NORESERVE, or
//! inherited by a fork) the program's write is a SIGBUS. So what is in the pages is copied to ordinary memory, as shared
//! memory is.
//!
//! # Safety
//! Changes what forks do with memory, not what is there.
#![allow(unsafe_code)]

use crate::memory::read_all;
use crate::smaps::for_each_mapping;
use crate::state::Owned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zap_image::header::flags;
use zap_image::{Backing, Region};
use zap_plugin::Refusal;
use zap_sys::maps::{self, Mapping};
use zap_sys::{libc, mem, text};

/// How /proc/thread-self/maps calls huge pages that are in no file.
const NAME: &[u8] = b"/anon_hugepage (deleted)";

/// Whether a mapping of huge pages is in no file.
pub fn is_anonymous(mapping: &Mapping<'_>) -> bool {
    mapping.name == NAME
}

/// The regions of huge pages, from phase Drain until they are saved: nobody can change them meanwhile.
static FOUND: Owned<Vec<Region>> = Owned::new(Vec::new());

/// Finds the regions of huge pages of the calling process, for [`take`]. Refuses what is not private and anonymous, before a
/// fork could share it. Returns how many bytes are to be copied to ordinary memory: where huge pages are used they are
/// most of the memory, and the copies of all processes must not bring the host, or a control group, down to the point where
/// the kernel kills somebody.
pub fn find() -> Result<u64, Refusal> {
    let (regions, length) = survey(&read_all(c"/proc/thread-self/maps")?)?;
    FOUND.with(|found| *found = regions);
    Ok(length)
}

/// What [`find`] has found: ascending, without contents.
pub fn take() -> Vec<Region> {
    FOUND.with(core::mem::take)
}

fn survey(maps: &[u8]) -> Result<(Vec<Region>, u64), Refusal> {
    let status = read_all(c"/proc/thread-self/status")?;
    let in_memory = text::field(&status, b"HugetlbPages:").map_or(0, |text| text::decimal(text).0);
    // The kernel walks all of the memory for smaps: it is read only if there are huge pages, in memory or by name.
    if in_memory == 0 && !maps::parse(maps).any(|mapping| is_anonymous(&mapping)) {
        return Ok((Vec::new(), 0));
    }
    let mut found = Vec::new();
    let mut length = 0;
    for_each_mapping(&read_all(c"/proc/thread-self/smaps")?, |mapping, details| {
        if !details.has(b"ht") {
            return Ok(());
        }
        if let Some(reason) = details.unsupported(mapping) {
            let name = String::from_utf8_lossy(mapping.name);
            return Err(Refusal::new(format!("mapping {:x}-{:x} ({name})", mapping.start, mapping.end), reason));
        }
        length += details.huge;
        found.push(Region {
            start: mapping.start,
            end: mapping.end,
            protection: mapping.protection as u32,
            flags: details.region_flags(),
            backing: Backing::Anonymous,
            extents: Vec::new(),
        });
        Ok(())
    })?;
    Ok((found, length))
}

/// Those of `regions` that the program's forks get: (start, end).
pub fn forked(regions: &[Region]) -> Vec<(u64, u64)> {
    let is_forked = |region: &&Region| region.flags & flags::DONT_FORK == 0;
    regions.iter().filter(is_forked).map(|region| (region.start, region.end)).collect()
}

/// Keeps ranges out of forks, until [`crate::memory::let_through`].
pub fn keep_out(ranges: &[(u64, u64)]) -> Result<(), Refusal> {
    for (start, end) in ranges {
        // SAFETY: changes what forks do, not what is there.
        let advised = unsafe { mem::advise(*start, end - start, libc::MADV_DONTFORK) };
        advised.map_err(|error| Refusal::new(format!("huge pages at {start:x}"), error))?;
    }
    Ok(())
}
