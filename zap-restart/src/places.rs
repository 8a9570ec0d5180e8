//! Where the restorer may work: addresses that are free in the image's map. Whether they are free in the fresh exec
//! too, only the restorer can tell; so it gets many, far apart.

use zap_restorer::plan::CANDIDATES;
use zap_sys::{page_up, PAGE_SIZE};

/// Lowest address that is used: above what any `vm.mmap_min_addr` forbids.
const LOWEST: u64 = 1 << 20;

/// One past the highest address that can be mapped.
const HIGHEST: u64 = (1 << 47) - PAGE_SIZE as u64;

/// Distances that are kept to the program's own memory, if possible: the kernel's vDSO stays in the hole for good, and
/// heap, stacks and shadow memory shall not meet it when they grow.
const MARGINS: [u64; 4] = [16 << 30, 1 << 30, 16 << 20, 0];

/// First addresses of holes of `length` bytes between `occupied` ranges (start, end; ascending), best first; at most
/// [`CANDIDATES`].
pub fn candidates(occupied: &[(u64, u64)], length: u64) -> Vec<u64> {
    let mut gaps = Vec::new();
    let mut from = LOWEST;
    for (start, end) in occupied {
        if *start > from {
            gaps.push((from, *start));
        }
        from = from.max(*end);
    }
    if HIGHEST > from {
        gaps.push((from, HIGHEST));
    }
    let mut found: Vec<u64> = Vec::new();
    for margin in MARGINS {
        for preferred in preferred() {
            let place = gaps.iter().find_map(|(start, end)| {
                let place = page_up(start.saturating_add(margin).max(preferred));
                (place.saturating_add(length).saturating_add(margin) <= *end).then_some(place)
            });
            let apart = |place: &u64| found.iter().all(|other| other.abs_diff(*place) >= length);
            if let Some(place) = place.filter(apart) {
                found.push(place);
                if found.len() == CANDIDATES {
                    return found;
                }
            }
        }
    }
    found
}

/// Addresses spread over all user memory, those first where neither executables (0x55…) nor libraries (0x7f…) lie.
fn preferred() -> impl Iterator<Item = u64> {
    [0x60, 0x40, 0x20, 0x10, 0x30, 0x50, 0x68, 0x70, 0x48, 0x38, 0x28, 0x18, 0x08, 0x04, 0x02, 0x00, 0x78, 0x7c]
        .into_iter()
        .map(|high: u64| high << 40)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(occupied: &[(u64, u64)], length: u64) -> Vec<u64> {
        let found = candidates(occupied, length);
        for place in &found {
            assert_eq!(place % PAGE_SIZE as u64, 0);
            assert!(*place >= LOWEST && place + length <= HIGHEST);
            assert!(occupied.iter().all(|(start, end)| place + length <= *start || *place >= *end));
        }
        found
    }

    #[test]
    fn ordinary_program() {
        let occupied = [(0x5555_5555_4000, 0x5555_5560_0000), (0x7fff_0000_0000, 0x7fff_ffff_0000)];
        assert_eq!(check(&occupied, 4 << 20).len(), CANDIDATES);
        assert_eq!(check(&occupied, 4 << 20)[0], 0x6000_0000_0000);
    }

    #[test]
    fn nearly_everything_taken() {
        let length = 4 << 20;
        let occupied = [(0, 0x6100_0000_0000), (0x6100_0000_0000 + length, 1 << 47)];
        assert_eq!(check(&occupied, length), [0x6100_0000_0000]);
        assert!(check(&[(0, 1 << 47)], length).is_empty());
        assert!(check(&[], 1 << 50).is_empty());
    }

    #[test]
    fn shadow_memory() {
        // As AddressSanitizer lays it out.
        let occupied = [(0x7fff_7000, 0x1000_7fff_8000), (0x6000_0000_0000, 0x6400_0000_0000)];
        assert!(check(&occupied, 4 << 20).len() >= 8);
    }
}
