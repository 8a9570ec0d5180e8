//! Ranges of addresses, cut where something else begins or ends: runs of pages, mappings, regions of an image. Pure.

use alloc::vec::Vec;
use zap_image::header::flags;
use zap_image::{Backing, Region};
use zap_sys::maps::Mapping;

/// Adds a run that lies behind all others.
pub fn add_to(runs: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match runs.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => runs.push((start, end)),
    }
}

/// What of `[start, end)` lies in none of `holes`, which are ascending.
pub fn without(start: u64, end: u64, holes: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut rest = Vec::new();
    let mut at = start;
    for hole in holes {
        if hole.0 > at {
            rest.push((at, hole.0));
        }
        at = at.max(hole.1);
    }
    if at < end {
        rest.push((at, end));
    }
    rest
}

/// `region`, cut where guards begin and end.
pub fn pieces(region: &Region, guards: &[(u64, u64)]) -> Vec<Region> {
    if guards.is_empty() {
        return alloc::vec![region.clone()];
    }
    let mut ranges: Vec<(u64, u64, u32)> =
        without(region.start, region.end, guards).into_iter().map(|(start, end)| (start, end, 0)).collect();
    ranges.extend(guards.iter().map(|(start, end)| (*start, *end, flags::GUARD)));
    ranges.sort_unstable();
    let backing = |start: u64| match region.backing {
        Backing::File { file, offset } => Backing::File { file, offset: offset + (start - region.start) },
        other => other,
    };
    ranges
        .into_iter()
        .map(|(start, end, flag)| Region {
            start,
            end,
            flags: region.flags | flag,
            backing: backing(start),
            ..region.clone()
        })
        .collect()
}

/// The parts of `mapping` that lie outside of `own`: the kernel shows anonymous memory that touches the program's and
/// is of the same kind as one mapping.
pub fn outside<'a>(mapping: Mapping<'a>, own: &[(u64, u64)]) -> Vec<Mapping<'a>> {
    let mut pieces = Vec::new();
    let mut at = mapping.start;
    for (start, end) in own.iter().filter(|(start, end)| *start < mapping.end && *end > mapping.start) {
        if *start > at {
            pieces.push((at, *start));
        }
        at = at.max(*end);
    }
    if at < mapping.end {
        pieces.push((at, mapping.end));
    }
    pieces.into_iter().map(|(start, end)| part(mapping, start, end)).collect()
}

fn part(mapping: Mapping<'_>, start: u64, end: u64) -> Mapping<'_> {
    let offset = if mapping.inode == 0 { 0 } else { mapping.offset + (start - mapping.start) };
    Mapping { start, end, offset, ..mapping }
}

/// `mapping` cut where one of `ranges` begins or ends. Memory that the program keeps out of its forks was let through for
/// this one: meanwhile the kernel shows it as one with its neighbours.
pub fn cut<'a>(mapping: Mapping<'a>, ranges: &[(u64, u64)]) -> Vec<Mapping<'a>> {
    let mut edges: Vec<u64> = ranges.iter().flat_map(|(start, end)| [*start, *end]).collect();
    edges.retain(|edge| *edge > mapping.start && *edge < mapping.end);
    edges.sort_unstable();
    edges.dedup();
    edges.push(mapping.end);
    let mut start = mapping.start;
    let piece = |end: u64| {
        let piece = part(mapping, start, end);
        start = end;
        piece
    };
    edges.into_iter().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zap_sys::maps;

    #[test]
    fn what_is_merged_is_told_apart() {
        let line = b"1000-9000 rw-p 00000000 00:00 0 ";
        let Some(mapping) = maps::parse(line).next() else { panic!() };
        for (own, expected) in [
            (vec![(0, 0)], vec![(0x1000, 0x9000)]),
            (vec![(0x1000, 0x9000)], vec![]),
            (vec![(0x1000, 0x2000), (0x3000, 0x4000)], vec![(0x2000, 0x3000), (0x4000, 0x9000)]),
            (vec![(0x8000, 0xa000)], vec![(0x1000, 0x8000)]),
            (vec![(0x9000, 0xa000)], vec![(0x1000, 0x9000)]),
        ] {
            let pieces: Vec<_> = outside(mapping, &own).iter().map(|piece| (piece.start, piece.end)).collect();
            assert_eq!(pieces, expected, "{own:x?}");
        }
    }

    #[test]
    fn guards_cut_regions() {
        let region = Region {
            start: 0x1000,
            end: 0x9000,
            protection: 3,
            flags: flags::HUGE,
            backing: Backing::File { file: 1, offset: 0x5000 },
            extents: Vec::new(),
        };
        let cut = |guards: &[(u64, u64)]| -> Vec<(u64, u64, bool, u64)> {
            let offset = |piece: &Region| match piece.backing {
                Backing::File { offset, .. } => offset,
                _ => 0,
            };
            let pieces = pieces(&region, guards);
            pieces.iter().map(|p| (p.start, p.end, p.flags & flags::GUARD != 0, offset(p))).collect()
        };
        assert_eq!(cut(&[]), [(0x1000, 0x9000, false, 0x5000)]);
        assert_eq!(cut(&[(0x1000, 0x9000)]), [(0x1000, 0x9000, true, 0x5000)]);
        assert_eq!(
            cut(&[(0x1000, 0x2000), (0x4000, 0x5000)]),
            [
                (0x1000, 0x2000, true, 0x5000),
                (0x2000, 0x4000, false, 0x6000),
                (0x4000, 0x5000, true, 0x8000),
                (0x5000, 0x9000, false, 0x9000),
            ]
        );
    }
}
