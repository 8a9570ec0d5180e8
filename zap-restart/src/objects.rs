//! Shared anonymous memory: which regions show the same object, and where the object is made. Pure.
//!
//! An object is made once, filled, and then mapped a second time wherever else it was seen. Where one stretch of
//! regions shows all of it, it is made at its place there; else at a temporary one.

use std::ops::Range;
use zap_image::{Backing, Extent, Header};

/// A stretch of memory that shows a part of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    pub address: u64,
    pub length: u64,
    /// Offset of the first byte in the object.
    pub offset: u64,
    /// It was mapped by a descriptor that was open for writing.
    pub writable: bool,
}

/// An object, as far as the program has mapped it. Parts of one object between which nothing is mapped are objects of
/// their own: no byte can be seen through both, and what is made is never longer than what the program had mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its number in the header.
    pub number: u32,
    /// Offsets that are mapped.
    pub range: Range<u64>,
    /// The stretch that shows all of it, if there is one.
    pub home: Option<Stretch>,
    /// The other stretches.
    pub others: Vec<Stretch>,
    /// Contents; the addresses are offsets in the object.
    pub contents: Vec<Extent>,
    /// Some region was mapped with MAP_NORESERVE.
    pub no_reserve: bool,
}

impl Object {
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// One region's part of an object.
struct Part {
    object: u32,
    stretch: Stretch,
    /// Index of the region.
    region: usize,
}

/// The objects of shared anonymous memory that the header's regions show.
pub fn objects(header: &Header) -> Vec<Object> {
    let mut parts: Vec<Part> = header.regions.iter().enumerate().filter_map(part).collect();
    parts.sort_by_key(|part| (part.object, part.stretch.offset, part.stretch.address));
    let mut objects = Vec::new();
    let mut rest = &parts[..];
    while let Some(first) = rest.first() {
        // Parts that overlap or touch, one after the other.
        let mut end = first.stretch.offset;
        let mut count = 0;
        while let Some(Part { stretch, .. }) =
            rest.get(count).filter(|part| part.object == first.object && part.stretch.offset <= end)
        {
            end = end.max(stretch.offset + stretch.length);
            count += 1;
        }
        let (these, later) = rest.split_at(count);
        objects.push(object(header, these, first.stretch.offset..end));
        rest = later;
    }
    objects
}

fn part((region, found): (usize, &zap_image::Region)) -> Option<Part> {
    let Backing::Shared { object, offset } = found.backing else { return None };
    let writable = found.flags & zap_image::header::flags::READ_ONLY == 0;
    let stretch = Stretch { address: found.start, length: found.end - found.start, offset, writable };
    Some(Part { object, stretch, region })
}

fn object(header: &Header, parts: &[Part], range: Range<u64>) -> Object {
    let mut stretches: Vec<Stretch> = parts.iter().map(|part| part.stretch).collect();
    stretches.sort_by_key(|stretch| stretch.address);
    // A range that was split by protections is one stretch.
    stretches.dedup_by(|next, last| {
        let follows = last.address + last.length == next.address
            && last.offset + last.length == next.offset
            && last.writable == next.writable;
        if follows {
            last.length += next.length;
        }
        follows
    });
    let home = stretches.iter().position(|s| s.offset == range.start && s.length == range.end - range.start);
    let home = home.map(|index| stretches.remove(index));
    let mut contents: Vec<Extent> = Vec::new();
    for part in parts {
        let region = &header.regions[part.region];
        contents.extend(
            region
                .extents
                .iter()
                .map(|extent| Extent { address: part.stretch.offset + (extent.address - region.start), ..*extent }),
        );
    }
    contents.sort_by_key(|extent| extent.offset);
    let no_reserve =
        parts.iter().any(|part| header.regions[part.region].flags & zap_image::header::flags::NO_RESERVE != 0);
    let number = parts.first().map_or(0, |part| part.object);
    Object { number, range, home, others: stretches, contents, no_reserve }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{header, shared, RW};

    const PAGE: u64 = 0x1000;

    #[test]
    fn table() {
        let (a, b, c) = (0x5000_0000, 0x6000_0000, 0x6800_0000);
        // (address, pages, object, first page), and the objects: (range in pages, home, other stretches' addresses)
        type Given = (u64, u64, u32, u64);
        type Expected = (Range<u64>, Option<u64>, Vec<u64>);
        let table: Vec<(&str, Vec<Given>, Vec<Expected>)> = vec![
            ("none", vec![], vec![]),
            ("one", vec![(a, 4, 0, 0)], vec![(0..4, Some(a), vec![])]),
            ("not from its beginning", vec![(a, 4, 0, 9)], vec![(9..13, Some(a), vec![])]),
            ("two objects", vec![(a, 4, 0, 0), (b, 4, 1, 0)], vec![(0..4, Some(a), vec![]), (0..4, Some(b), vec![])]),
            ("two mappings", vec![(a, 4, 0, 0), (b, 4, 0, 0)], vec![(0..4, Some(a), vec![b])]),
            ("the second shows more", vec![(a, 4, 0, 1), (b, 8, 0, 0)], vec![(0..8, Some(b), vec![a])]),
            ("split", vec![(a, 1, 0, 0), (a + PAGE, 2, 0, 1)], vec![(0..3, Some(a), vec![])]),
            (
                "split twice",
                vec![(a, 1, 0, 0), (a + PAGE, 2, 0, 1), (b, 2, 0, 0), (b + 2 * PAGE, 1, 0, 2)],
                vec![(0..3, Some(a), vec![b])],
            ),
            (
                "side by side, out of order",
                vec![(a, 1, 0, 1), (a + PAGE, 1, 0, 0)],
                vec![(0..2, None, vec![a, a + PAGE])],
            ),
            ("overlapping", vec![(a, 4, 0, 2), (b, 4, 0, 0)], vec![(0..6, None, vec![a, b])]),
            ("touching", vec![(a, 2, 0, 0), (b, 2, 0, 2)], vec![(0..4, None, vec![a, b])]),
            (
                "nothing between",
                vec![(a, 2, 0, 0), (b, 2, 0, 1 << 40), (c, 1, 0, 1)],
                vec![(0..2, Some(a), vec![c]), (1 << 40..(1 << 40) + 2, Some(b), vec![])],
            ),
        ];
        for (name, given, expected) in table {
            let regions = given
                .iter()
                .map(|(at, pages, number, first)| shared(*at, pages * PAGE, RW, (*number, first * PAGE), &[]));
            let found: Vec<Expected> = objects(&header(regions.collect()))
                .into_iter()
                .map(|object| {
                    let range = object.range.start / PAGE..object.range.end / PAGE;
                    (
                        range,
                        object.home.map(|home| home.address),
                        object.others.iter().map(|stretch| stretch.address).collect(),
                    )
                })
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_written_to_is_a_stretch_of_its_own() {
        let of = |at, first, flags| {
            let region = shared(at, PAGE, RW, (0, first * PAGE), &[]);
            zap_image::Region { protection: 1, flags: region.flags | flags, ..region }
        };
        let a = 0x5000_0000;
        let found = objects(&header(vec![of(a, 0, 0), of(a + PAGE, 1, zap_image::header::flags::READ_ONLY)]));
        let stretches: Vec<(u64, bool)> = found[0].others.iter().map(|one| (one.address, one.writable)).collect();
        assert_eq!((found.len(), found[0].home, stretches), (1, None, vec![(a, true), (a + PAGE, false)]));
    }

    #[test]
    fn contents_are_told_by_offset() {
        let (a, b) = (0x5000_0000, 0x6000_0000);
        let regions = vec![
            shared(a, 4 * PAGE, RW, (0, 6 * PAGE), &[(a + PAGE, PAGE, 0)]),
            shared(b, 8 * PAGE, RW, (0, 4 * PAGE), &[(b, PAGE, PAGE)]),
        ];
        let found = objects(&header(regions));
        let extent = |page: u64, offset: u64| Extent { address: page * PAGE, length: PAGE, offset };
        assert_eq!(found[0].contents, [extent(7, 0), extent(4, PAGE)]);
    }
}
