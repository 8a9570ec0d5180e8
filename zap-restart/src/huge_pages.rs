//! Huge pages: whether the host has as many as the images need, asked before anything is started.
//!
//! The kernel has the last word (others take some meanwhile, or a cgroup limits them); it says no more than ENOMEM.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use zap_client::error::{Error, Result};
use zap_image::header::flags;
use zap_image::{Header, Region};

/// Where the kernel tells of huge pages: a directory for each size, called by it.
const SIZES: &str = "/sys/kernel/mm/hugepages";

/// Refuses `headers`, which are restarted together, if this host lacks huge pages for them.
pub fn check(headers: &[&Header]) -> Result<()> {
    // Without the directory nothing is known here.
    if !Path::new(SIZES).is_dir() {
        return Ok(());
    }
    needed(headers).into_iter().try_for_each(|(size, needed)| {
        let directory = format!("{SIZES}/hugepages-{}kB", size >> 10);
        let free = free(|name| fs::read_to_string(format!("{directory}/{name}")).ok()?.trim().parse().ok());
        if needed <= free {
            return Ok(());
        }
        let why = format!("{needed} are needed, and {free} are free: raise {directory}/nr_hugepages, as root");
        Err(Error::new(format_args!("huge pages of {} KiB", size >> 10), why))
    })
}

/// How many huge pages the regions need, by size: those that are reserved (mmap(2) fails if they are not there), and else
/// those with contents.
fn needed(headers: &[&Header]) -> BTreeMap<u64, u64> {
    let mut needed = BTreeMap::new();
    for region in headers.iter().flat_map(|header| &header.regions) {
        if let Some(size) = region.huge_page() {
            let reserved = region.flags & flags::NO_RESERVE == 0;
            let count = if reserved { (region.end - region.start) / size } else { touched(region, size) };
            *needed.entry(size).or_default() += count;
        }
    }
    needed
}

/// Pages of `size` bytes in which there are extents.
fn touched(region: &Region, size: u64) -> u64 {
    let mut counted = 0;
    let mut next = 0;
    for extent in &region.extents {
        let first = (extent.address / size).max(next);
        let end = (extent.address + extent.length).div_ceil(size);
        counted += end.saturating_sub(first);
        next = end;
    }
    counted
}

/// How many pages a mapping can have: those that are free and promised to nobody, and those that the kernel may make.
fn free(number: impl Fn(&str) -> Option<u64>) -> u64 {
    let number = |name| number(name).unwrap_or(0);
    let idle = number("free_hugepages").saturating_sub(number("resv_hugepages"));
    // An administrator may allow as many as there are numbers.
    idle.saturating_add(number("nr_overcommit_hugepages").saturating_sub(number("surplus_hugepages")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{header, region, MIB, RW};

    #[test]
    fn what_is_needed() {
        let (huge, at) = (flags::huge_pages(2 * MIB), 0x4000_0000);
        let lazy = huge | flags::NO_RESERVE;
        for (name, flags, extents, expected) in [
            ("reserved", huge, vec![], 4),
            ("reserved, with contents", huge, vec![(at, 0x1000, 0)], 4),
            ("not reserved", lazy, vec![], 0),
            ("one page", lazy, vec![(at + 0x1000, 0x1000, 0), (at + 0x8000, 0x1000, 0x1000)], 1),
            ("across two pages", lazy, vec![(at + 2 * MIB - 0x1000, 0x2000, 0)], 2),
            ("and once more in the second", lazy, vec![(at, 2 * MIB + 0x1000, 0), (at + 3 * MIB, MIB, 3 * MIB)], 2),
            ("all", lazy, vec![(at, 8 * MIB, 0)], 4),
        ] {
            let header = header(vec![region(at, 8 * MIB, RW, flags, &extents)]);
            let expected_of = |count| BTreeMap::from([(2 * MIB, count)]);
            assert_eq!(needed(&[&header]), expected_of(expected), "{name}");
            assert_eq!(needed(&[&header, &header]), expected_of(2 * expected), "{name}");
        }
        assert!(needed(&[&header(vec![region(at, 8 * MIB, RW, 0, &[])])]).is_empty());
    }

    #[test]
    fn what_is_free() {
        for (idle, promised, most, surplus, expected) in [
            (0, 0, 0, 0, 0),
            (8, 3, 0, 0, 5),
            (0, 0, 4, 1, 3),
            (2, 2, 4, 4, 0),
            (3, 1, 2, 0, 4),
            (2, 1, u64::MAX, 0, u64::MAX),
        ] {
            let number = |name: &str| match name {
                "free_hugepages" => Some(idle),
                "resv_hugepages" => Some(promised),
                "nr_overcommit_hugepages" => Some(most),
                "surplus_hugepages" => Some(surplus),
                _ => None,
            };
            assert_eq!(free(number), expected);
        }
        assert_eq!(free(|_| None), 0);
    }
}
