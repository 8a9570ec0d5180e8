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

/// The lists for `files`: the kernel's numbers, and those by which they are known. Nothing if all are the same.
pub fn encode(files: impl IntoIterator<Item = (FileId, FileId)>) -> Vec<u64> {
    let (mut by_real, mut taken) = (BTreeMap::new(), BTreeSet::new());
    for (real, known) in files {
        // Two files never have one number.
        if !by_real.contains_key(&real) && taken.insert(known) {
            by_real.insert(real, known);
        }
    }
    if by_real.iter().all(|(real, known)| real == known) {
        return Vec::new();
    }
    let devices = devices(&by_real);
    let mut words = Vec::from([devices.len() as u64, by_real.len() as u64]);
    words.extend(devices.into_iter().flat_map(|(real, known)| [real, known]));
    words.extend(by_real.into_iter().flat_map(|(real, known)| [real.0, real.1, known.0, known.1]));
    words.extend(taken.into_iter().flat_map(|known| [known.0, known.1]));
    words
}

/// By which number a device is known: by that by which most of its files are. If it is another one's here, that one gets its number:
/// what is on two devices stays on two.
fn devices(files: &BTreeMap<FileId, FileId>) -> BTreeMap<u64, u64> {
    let mut counts: BTreeMap<u64, BTreeMap<u64, usize>> = BTreeMap::new();
    for (real, known) in files {
        *counts.entry(real.0).or_default().entry(known.0).or_default() += 1;
    }
    let mut devices = BTreeMap::new();
    for (real, counts) in counts {
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        devices.insert(real, most.map_or(real, |(known, _)| known));
    }
    let changed: Vec<_> = devices.iter().filter(|(real, known)| real != known).map(|(a, b)| (*a, *b)).collect();
    for (real, known) in changed {
        if !devices.values().any(|other| *other == real) {
            devices.entry(known).or_insert(real);
        }
    }
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

    /// Whether the numbers of devices differ.
    pub fn has_devices(&self) -> bool {
        !self.devices.is_empty()
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
        // No file system here counts so far.
        let mut mark = 1 << 62;
        while mark > 1 << 56 && self.is_taken((device, inode)) {
            inode = real.1 | mark;
            mark >>= 1;
        }
        (device, inode)
    }

    /// Whether a file with this inode may be known by another one, on whatever device.
    pub fn may_differ(&self, inode: u64) -> bool {
        !self.is_empty() && {
            let mut devices = self.devices_of_files();
            devices.any(|device| {
                self.files.binary_search_by_key(&(device, inode), |[device, inode, ..]| (*device, *inode)).is_ok()
                    || self.is_taken((self.device(device), inode))
            })
        }
    }

    /// The kernel's devices on which there are files, each once.
    fn devices_of_files(&self) -> impl Iterator<Item = u64> + 'a {
        let files = self.files;
        let mut at = 0;
        core::iter::from_fn(move || {
            let [device, ..] = *files.get(at)?;
            at = files.partition_point(|[other, ..]| *other <= device);
            Some(device)
        })
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
        assert!(!inodes.has_devices());
        assert!(inodes.may_differ(50) && inodes.may_differ(10) && !inodes.may_differ(70));
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
        assert!(inodes.has_devices() && inodes.may_differ(1));
        // In a circle.
        let words = encode([((1, 1), (2, 1)), ((2, 1), (3, 1)), ((3, 1), (1, 1))]);
        let inodes = Inodes::read(&words).unwrap();
        assert_eq!([1, 2, 3].map(|device| inodes.device(device)), [2, 3, 1]);
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
