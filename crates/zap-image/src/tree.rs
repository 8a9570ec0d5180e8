//! The pod's own directories (`zap-launch --private`) as they were at the checkpoint: one file beside the images.
//!
//! ```text
//! head      4096 bytes   magic, version, place, length and checksum of the list, zeroes, checksum of all before
//! contents               of each regular file, from a multiple of 4096 on, holes left out where the file system can
//! list                   MessagePack
//! ```

use crate::header::bytes::Bytes;
use crate::layout::checksum;
use crate::validate::FormatError;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Bytes before the contents; the contents of a file begin at a multiple of it.
pub const HEAD_SIZE: usize = 4096;

/// First eight bytes.
const MAGIC: [u8; 8] = *b"ZAPTREE\n";

/// Version of the format that this code writes. A later one is refused.
const VERSION: u32 = 2;

/// Longest list that is read, in bytes.
const LONGEST: u64 = 1 << 30;

/// Ending of the name.
pub const SUFFIX: &str = ".ztree";

/// Where the list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub place: u64,
    pub length: u64,
    pub checksum: u64,
}

/// What a pod's own directories held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub pod_id: u64,
    pub generation: u32,
    /// Directories come before what is in them.
    pub entries: Vec<Entry>,
}

/// One name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Number of the directory, and what follows it: `0`, `0/a`.
    pub path: Bytes,
    /// As in `struct stat`, with the type.
    pub mode: u32,
    pub user: u32,
    pub group: u32,
    /// Modification time in nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Of a regular file, in bytes.
    pub size: u64,
    /// Where its contents are.
    pub place: u64,
    /// Of the contents, as in [`crate::kept::Head`].
    pub checksum: Bytes,
    /// What a symbolic link says.
    pub target: Bytes,
    /// Of a device node, as in `struct stat`.
    pub device: u64,
    /// The earlier entry, by its number, of which this one is another name.
    pub same_as: Option<u32>,
    /// Extended attributes (xattr(7)).
    pub attributes: Vec<(Bytes, Bytes)>,
    /// Device and inode by which the pod's programs know it; zeroes, in version 1, if that is not recorded.
    #[serde(default)]
    pub known: (u64, u64),
}

impl Head {
    /// As it is written: [`HEAD_SIZE`] bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = alloc::vec![0; HEAD_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, number) in [(16, self.place), (24, self.length), (32, self.checksum)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = checksum(&bytes[..HEAD_SIZE - 8]);
        bytes[HEAD_SIZE - 8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the first [`HEAD_SIZE`] bytes of a file that is `file_length` bytes long.
    pub fn decode(bytes: &[u8], file_length: u64) -> Result<Self, FormatError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(FormatError::NotAnImage);
        }
        let (Some(body), true) = (bytes.get(..HEAD_SIZE - 8), bytes.len() == HEAD_SIZE) else {
            return Err(FormatError::Truncated);
        };
        let number = |at: usize| bytes[at..at + 8].iter().rev().fold(0u64, |all, byte| all << 8 | u64::from(*byte));
        if number(8) as u32 > VERSION {
            let version = number(8) as u32;
            return Err(FormatError::Damaged(format!("format version {version}, this Zap reads version {VERSION}")));
        }
        if checksum(body).to_le_bytes() != bytes[HEAD_SIZE - 8..] {
            return Err(FormatError::Damaged("head".to_string()));
        }
        let head = Self { place: number(16), length: number(24), checksum: number(32) };
        if head.length > LONGEST || head.place.checked_add(head.length) != Some(file_length) {
            return Err(FormatError::Truncated);
        }
        Ok(head)
    }
}

/// S_IFMT and S_IFDIR of inode(7).
const KIND: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;

impl Entry {
    fn is_directory(&self) -> bool {
        self.mode & KIND == DIRECTORY && self.same_as.is_none()
    }
}

impl Tree {
    /// The list, as it is written; not one that would not be read.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let bytes = zap_codec::encode(self).map_err(FormatError::Encoding)?;
        match bytes.len() as u64 {
            0..=LONGEST => Ok(bytes),
            _ => Err(FormatError::Encoding("too many files".to_string())),
        }
    }

    /// Reads the list that `head` tells of. Nothing in it leads out of the directories, or behind the contents.
    pub fn decode(bytes: &[u8], head: &Head) -> Result<Self, FormatError> {
        if checksum(bytes) != head.checksum {
            return Err(FormatError::Damaged("list of files".to_string()));
        }
        let (tree, _): (Self, _) = zap_codec::decode(bytes).map_err(FormatError::Encoding)?;
        match tree.is_sound(head) {
            true => Ok(tree),
            false => Err(FormatError::Damaged("list of files".to_string())),
        }
    }

    /// Whether every name lies in a directory that comes before it, and all contents before the list.
    fn is_sound(&self, head: &Head) -> bool {
        let mut known = BTreeMap::new();
        for (number, entry) in self.entries.iter().enumerate() {
            let path = entry.path.0.as_slice();
            let is_inside = path.split(|c| *c == b'/').all(|name| !matches!(name, b"" | b"." | b".."));
            // No link is on the way.
            let parent = path.iter().rposition(|c| *c == b'/').and_then(|at| path.get(..at));
            let is_in_directory = parent.is_none_or(|parent| known.get(parent) == Some(&true));
            let end = entry.place.checked_add(entry.size);
            let is_link_to_file = entry.same_as.is_none_or(|other| {
                let original = self.entries.get(other as usize).filter(|_| (other as usize) < number);
                original.is_some_and(|original| !original.is_directory())
            });
            let is_sound = is_inside
                && is_in_directory
                && is_link_to_file
                && !path.contains(&0)
                && end.is_some_and(|end| end <= head.place);
            if !is_sound || known.insert(path, entry.is_directory()).is_some() {
                return false;
            }
        }
        true
    }
}

/// The parts of the file's name: `ckpt_<pod id>_private_<generation>.ztree`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeName {
    pub pod_id: u64,
    pub generation: u32,
}

impl TreeName {
    /// The file name.
    pub fn format(&self) -> String {
        format!("ckpt_{:016x}_private_{}{SUFFIX}", self.pod_id, self.generation)
    }

    /// Reads a file name (no directories).
    pub fn parse(name: &str) -> Option<Self> {
        let (pod, generation) = name.strip_prefix("ckpt_")?.strip_suffix(SUFFIX)?.split_once("_private_")?;
        Some(Self { pod_id: u64::from_str_radix(pod, 16).ok()?, generation: generation.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn tree(path: &[u8]) -> Tree {
        let directory = Entry { path: Bytes(b"0".to_vec()), mode: DIRECTORY, ..Entry::default() };
        let entry = Entry { path: Bytes(path.to_vec()), place: 4096, size: 10, ..Entry::default() };
        Tree { pod_id: 1, generation: 2, entries: vec![directory, entry] }
    }

    #[test]
    fn what_version_1_wrote_is_read() {
        let bytes = |text: &[u8]| Bytes(text.to_vec());
        let entry = (bytes(b"0"), DIRECTORY, 1u32, 2u32, 3i64, 0u64, 0u64, bytes(b""), bytes(b""), 0u64, None::<u32>);
        let (path, mode, user, group, modified, size, place, checksum, target, device, same) = entry.clone();
        let attributes: Vec<(Bytes, Bytes)> = Vec::new();
        let old = (path, mode, user, group, modified, size, place, checksum, target, device, same, attributes);
        let (tree, _): (Tree, _) = zap_codec::decode(&zap_codec::encode(&(7u64, 1u32, vec![old])).unwrap()).unwrap();
        assert_eq!(
            tree.entries[0],
            Entry { path: entry.0, mode: DIRECTORY, user: 1, group: 2, modified_ns: 3, ..Entry::default() }
        );
        let file = (bytes(b"/a"), 1u64, 2u64, 3u64, 4u64, 5i64, true, false, true);
        let old = (vec![file], Vec::<(u64, u64)>::new(), true);
        let (open, _): (crate::header::OpenFiles, _) = zap_codec::decode(&zap_codec::encode(&old).unwrap()).unwrap();
        assert!(open.keeps && open.files[0].at_end && open.files[0].inode == 2 && open.files[0].known == (0, 0));
    }

    #[test]
    fn heads_round_trip_and_damage_is_found() {
        let head = Head { place: 8192, length: 77, checksum: 5 };
        let bytes = head.encode();
        assert_eq!(Head::decode(&bytes, 8192 + 77).unwrap(), head);
        assert!(Head::decode(&bytes, 8192 + 76).is_err() && Head::decode(&bytes[..9], 8192 + 77).is_err());
        for at in [0, 8, 16, 24, 32, 1000, HEAD_SIZE - 1] {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(Head::decode(&other, 8192 + 77).is_err(), "{at}");
        }
    }

    #[test]
    fn lists_stay_inside() {
        let decode = |tree: &Tree| {
            let bytes = tree.encode().unwrap();
            let head = Head { place: 8192, length: bytes.len() as u64, checksum: checksum(&bytes) };
            Tree::decode(&bytes, &head)
        };
        assert_eq!(decode(&tree(b"0/a")).unwrap(), tree(b"0/a"));
        for path in [&b"0/../a"[..], b"/0", b"0/", b"0//a", b"", b"0/a\0", b".", b"0", b"1/a"] {
            assert!(decode(&tree(path)).is_err(), "{path:?}");
        }
        let mut other = tree(b"0/a");
        other.entries[1].size = 4097;
        assert!(decode(&other).is_err());
        let mut other = tree(b"0/a");
        other.entries[1].same_as = Some(0);
        assert!(decode(&other).is_err());
        let mut other = tree(b"0/a");
        other.entries[1].mode = 0o120_777;
        other.entries.push(Entry { path: Bytes(b"0/a/b".to_vec()), ..Entry::default() });
        assert!(decode(&other).is_err());
        let bytes = other.encode().unwrap();
        assert!(Tree::decode(&bytes, &Head { place: 8192, length: bytes.len() as u64, checksum: 1 }).is_err());
    }

    #[test]
    fn names() {
        let name = TreeName { pod_id: 0xab, generation: 3 };
        assert_eq!(name.format(), "ckpt_00000000000000ab_private_3.ztree");
        assert_eq!(TreeName::parse(&name.format()), Some(name));
        for other in ["ckpt_1_2-3_4.zfile", "ckpt_app_00000000000000ab_12_3.zimg", "ckpt_1_private_x.ztree", ".ztree"] {
            assert_eq!(TreeName::parse(other), None, "{other}");
        }
    }
}
