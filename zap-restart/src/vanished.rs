//! Small files that the program had mapped shared and that are gone: the program keeps its memory. Pure.
//!
//! A JVM removes its hsperfdata file when it ends, and every other JVM removes those of processes that are gone. The
//! checkpoint has saved such a file's bytes as extents of the regions that map it (`zap_engine::shared`); with the file
//! nobody else can attach to that memory any more, so that it becomes shared anonymous memory of the program.
//!
//! A file that is there is mapped, and the extents are ignored: the file has what is shared.

use zap_image::header::flags;
use zap_image::{Backing, Header, Region};

/// Turns regions that map files which are `missing` into shared anonymous memory where the image has all contents of
/// the file's regions. The others stay as they are, and are refused by name when their file is looked at.
pub fn replace(header: &mut Header, missing: &[bool]) {
    let mut next = header.regions.iter().filter_map(object_of).max().map_or(0, |highest| highest + 1);
    for file in (0..header.files.len()).filter(|file| missing.get(*file) == Some(&true)) {
        let file = file as u32;
        if is_saved(header, file) {
            let regions = header.regions.iter_mut();
            for region in regions.filter(|region| file_of(region).is_some_and(|(number, _)| number == file)) {
                let Some((_, offset)) = file_of(region) else { continue };
                region.backing = Backing::Shared { object: next, offset };
            }
            next += 1;
        }
    }
}

/// Whether every page that regions map of `file` is in an extent, and all of them map it shared.
fn is_saved(header: &Header, file: u32) -> bool {
    let mut mapped = Vec::new();
    let mut saved = Vec::new();
    for region in &header.regions {
        let Some((number, offset)) = file_of(region) else { continue };
        if number != file {
            continue;
        }
        if region.flags & flags::SHARED == 0 {
            return false;
        }
        mapped.push((offset, offset + (region.end - region.start)));
        let place = |address: u64| offset + (address - region.start);
        let extents = region.extents.iter();
        saved.extend(extents.map(|extent| (place(extent.address), place(extent.address + extent.length))));
    }
    saved.sort_unstable();
    saved.dedup_by(|next, last| {
        let follows = next.0 <= last.1;
        if follows {
            last.1 = last.1.max(next.1);
        }
        follows
    });
    !mapped.is_empty() && mapped.iter().all(|(start, end)| saved.iter().any(|(from, to)| from <= start && end <= to))
}

fn file_of(region: &Region) -> Option<(u32, u64)> {
    match region.backing {
        Backing::File { file, offset } => Some((file, offset)),
        _ => None,
    }
}

fn object_of(region: &Region) -> Option<u32> {
    match region.backing {
        Backing::Shared { object, .. } => Some(object),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{header, region, shared, RW};

    #[test]
    fn table() {
        let (a, b, page) = (0x5000_0000, 0x6000_0000, 0x1000);
        let of_file = |start, pages: u64, flags, offset, extents: &[(u64, u64)]| {
            let extents: Vec<_> = extents.iter().map(|(at, pages)| (start + at * page, pages * page, 0)).collect();
            let backing = Backing::File { file: 1, offset: offset * page };
            Region { backing, ..region(start, pages * page, RW, flags, &extents) }
        };
        let anonymous = shared(0x4000_0000, page, RW, (6, 0), &[]);
        let s = flags::SHARED;
        for (name, regions, missing, expected) in [
            ("saved", vec![of_file(a, 2, s, 0, &[(0, 2)])], true, vec![Some((7, 0))]),
            ("there", vec![of_file(a, 2, s, 0, &[(0, 2)])], false, vec![None]),
            ("not saved", vec![of_file(a, 2, s, 0, &[])], true, vec![None]),
            ("saved in part", vec![of_file(a, 2, s, 0, &[(0, 1)])], true, vec![None]),
            ("saved in two parts", vec![of_file(a, 2, s, 0, &[(0, 1), (1, 1)])], true, vec![Some((7, 0))]),
            (
                "saved by another region",
                vec![of_file(a, 1, s, 1, &[]), of_file(b, 2, s, 0, &[(0, 2)])],
                true,
                vec![Some((7, page)), Some((7, 0))],
            ),
            (
                "one of two regions not saved",
                vec![of_file(a, 1, s, 2, &[]), of_file(b, 2, s, 0, &[(0, 2)])],
                true,
                vec![None, None],
            ),
            (
                "mapped privately too",
                vec![of_file(a, 1, 0, 0, &[]), of_file(b, 2, s, 0, &[(0, 2)])],
                true,
                vec![None, None],
            ),
        ] {
            let mut header = header([vec![anonymous.clone()], regions].concat());
            replace(&mut header, &[false, missing]);
            let found = header.regions.iter().filter(|region| region.start == a || region.start == b);
            let found: Vec<_> = found
                .map(|region| match region.backing {
                    Backing::Shared { object, offset } => Some((object, offset)),
                    _ => None,
                })
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
