//! Device and inode numbers by which a pod's programs know files that have others here: a restart has made them anew, or found
//! them on another host.
//!
//! They lie behind the pod's table, in the same file, and do not change as long as the pod lives: a file that comes later is known
//! by its own numbers, unless those are another's already.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Device and inode, as in `struct stat`.
pub type FileId = (u64, u64);

/// What [`encode`] has written, in place.
#[derive(Clone, Copy, Debug)]
pub struct Inodes<'a> {
    /// Devices that are known by another number, in ascending order: the kernel's, and the other one.
    devices: &'a [[u64; 2]],
    /// Files, in ascending order of the kernel's device and inode, which come first.
    files: &'a [[u64; 4]],
    /// The numbers by which files are known, in ascending order.
    known: &'a [[u64; 2]],
}

/// Words before the lists: the lengths of the first two.
const HEAD: usize = 2;

/// More words than these are no lists: some 20 million files.
pub const MOST_WORDS: u64 = 1 << 27;

/// The lists for `files`: the kernel's numbers, and those by which they are known. Nothing if all are the same.
pub fn encode(files: impl IntoIterator<Item = (FileId, FileId)>) -> Vec<u64> {
    let (mut by_real, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (real, known) in files {
        // Two files never have one number.
        if !by_real.contains_key(&real) && taken.insert(known) {
            by_real.insert(real, known);
        }
    }
    let devices = devices(&by_real);
    // What is known by its own numbers on a device that is known by its own is no other's.
    by_real.retain(|real, known| real != known || devices.contains_key(&real.0));
    if by_real.is_empty() {
        return Vec::new();
    }
    let taken: BTreeSet<FileId> = by_real.values().copied().collect();
    let mut words = Vec::from([devices.len() as u64, by_real.len() as u64]);
    words.extend(devices.into_iter().flat_map(|(real, known)| [real, known]));
    words.extend(by_real.into_iter().flat_map(|(real, known)| [real.0, real.1, known.0, known.1]));
    words.extend(taken.into_iter().flat_map(|known| [known.0, known.1]));
    words
}

/// By which number each device is known that has another one here: by that by which most of its files are, unless there are more of
/// that on another device. It is a permutation: what is on two devices stays on two, whether or not it is in the lists.
fn devices(files: &BTreeMap<FileId, FileId>) -> BTreeMap<u64, u64> {
    let mut counts: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for (real, known) in files {
        *counts.entry((real.0, known.0)).or_default() += 1;
    }
    let mut claims: Vec<_> = counts.into_iter().map(|(pair, count)| (core::cmp::Reverse(count), pair)).collect();
    claims.sort_unstable();
    let (mut devices, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (_, (real, known)) in claims {
        if !devices.contains_key(&real) && taken.insert(known) {
            devices.insert(real, known);
        }
    }
    // Those whose number is another's now get one that is nobody's any more, of which there are as many.
    let others: BTreeSet<u64> = files.keys().map(|real| real.0).filter(|real| !devices.contains_key(real)).collect();
    let mut free = devices.keys().filter(|real| !taken.contains(real));
    let displaced = taken.iter().chain(&others).copied().collect::<BTreeSet<u64>>();
    let displaced = displaced.into_iter().filter(|one| taken.contains(one) && !devices.contains_key(one));
    let moved: Vec<(u64, u64)> = displaced.zip(free.by_ref().copied()).collect();
    devices.extend(moved);
    devices.retain(|real, known| real != known);
    devices
}

impl<'a> Inodes<'a> {
    /// Nothing known.
    pub const NONE: Self = Self { devices: &[], files: &[], known: &[] };

    /// What [`encode`] has written, with anything behind it. `None` if it is something else.
    pub fn read(words: &'a [u64]) -> Option<Self> {
        let (head, lists) = words.split_at_checked(HEAD)?;
        let (devices, files) = (usize::try_from(head[0]).ok()?, usize::try_from(head[1]).ok()?);
        let (first, lists) = lists.split_at_checked(devices.checked_mul(2)?)?;
        let (second, lists) = lists.split_at_checked(files.checked_mul(4)?)?;
        let third = lists.get(..files.checked_mul(2)?)?;
        Some(Self { devices: first.as_chunks().0, files: second.as_chunks().0, known: third.as_chunks().0 })
    }

    /// Whether every file is known by its own numbers.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// By which number the device is known.
    #[inline]
    pub fn device(&self, real: u64) -> u64 {
        let found = self.devices.binary_search_by_key(&real, |[real, _]| *real);
        found.ok().and_then(|at| self.devices.get(at)).map_or(real, |[_, known]| *known)
    }

    /// By which numbers the file is known.
    pub fn known(&self, real: FileId) -> FileId {
        let found = self.files.binary_search_by_key(&real, |[device, inode, ..]| (*device, *inode));
        if let Some([_, _, device, inode]) = found.ok().and_then(|at| self.files.get(at)) {
            return (*device, *inode);
        }
        let (device, mut inode) = (self.device(real.0), real.1);
        // Few file systems count so far (overlayfs with xino, some network file systems): a bit that is set marks nothing.
        let mut marks = (56..=62).rev().map(|bit| 1 << bit).filter(|mark| real.1 & mark == 0);
        while self.is_taken((device, inode)) {
            let Some(mark) = marks.next() else { break };
            inode = real.1 | mark;
        }
        (device, inode)
    }

    fn is_taken(&self, known: FileId) -> bool {
        self.known.binary_search_by_key(&known, |[device, inode]| (*device, *inode)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_what_they_were_and_no_two_by_one() {
        let words = encode([((1, 50), (1, 10)), ((1, 60), (1, 11)), ((1, 11), (1, 60)), ((1, 70), (1, 10))]);
        let inodes = Inodes::read(&words).unwrap();
        assert_eq!(inodes.known((1, 50)), (1, 10));
        assert_eq!(inodes.known((1, 60)), (1, 11));
        assert_eq!(inodes.known((1, 11)), (1, 60));
        // It came later, and another one is known by its number.
        assert_eq!(inodes.known((1, 10)), (1, 10 | 1 << 62));
        assert_eq!(inodes.known((1, 70)), (1, 70));
        assert_eq!(inodes.known((2, 10)), (2, 10));
        let words = encode([((1, 50), (1, 10)), ((1, 51), (1, 10 | 1 << 62))]);
        assert_eq!(Inodes::read(&words).unwrap().known((1, 10)), (1, 10 | 1 << 61));
    }

    #[test]
    fn devices_are_known_by_what_most_of_their_files_are() {
        let words = encode([((7, 1), (3, 1)), ((7, 2), (3, 2)), ((7, 3), (4, 3)), ((8, 1), (8, 1))]);
        let inodes = Inodes::read(&words).unwrap();
        assert_eq!(inodes.known((7, 3)), (4, 3));
        assert_eq!(inodes.known((7, 9)), (3, 9));
        assert_eq!(inodes.known((3, 9)), (7, 9));
        assert_eq!(inodes.known((8, 9)), (8, 9));
    }

    #[test]
    fn two_devices_stay_two() {
        type Pairs = &'static [(u64, u64)];
        let table: [(Pairs, Pairs); 7] = [
            (&[(1, 2), (2, 3), (3, 1)], &[(1, 2), (2, 3), (3, 1)]),
            (&[(7, 3)], &[(7, 3), (3, 7)]),
            (&[(7, 3), (7, 3), (8, 3)], &[(7, 3), (8, 8), (3, 7)]),
            (&[(7, 3), (7, 3), (3, 3)], &[(7, 3), (3, 7)]),
            (&[(7, 3), (3, 3), (3, 3)], &[(7, 7), (3, 3)]),
            (&[(7, 3), (8, 7)], &[(7, 3), (8, 7), (3, 8)]),
            (&[(7, 7), (7, 9)], &[(7, 7), (9, 9)]),
        ];
        for (pairs, expected) in table {
            let files = pairs.iter().enumerate().map(|(at, (real, known))| ((*real, at as u64), (*known, at as u64)));
            let words = encode(files);
            let inodes = Inodes::read(&words).unwrap();
            for (real, known) in expected {
                assert_eq!(inodes.device(*real), *known, "{pairs:?}");
            }
            let all: BTreeSet<u64> = (0..20).map(|device| inodes.device(device)).collect();
            assert_eq!(all.len(), 20, "{pairs:?}");
        }
    }

    #[test]
    fn what_is_the_same_takes_no_room_and_what_is_cut_is_refused() {
        assert!(encode([((1, 1), (1, 1)), ((2, 5), (2, 5))]).is_empty());
        let words = encode([((1, 1), (2, 1)), ((2, 5), (2, 5))]);
        assert!((0..words.len()).all(|length| Inodes::read(&words[..length]).is_none()));
        assert!(Inodes::read(&[u64::MAX, u64::MAX]).is_none());
        assert!(Inodes::NONE.is_empty() && Inodes::NONE.known((5, 6)) == (5, 6));
    }
}
