//! A file that is kept whole beside the images: what a deleted file holds that is too large for an image, or a file that was
//! open for writing, as it was at the checkpoint.
//!
//! ```text
//! head      8192 bytes   magic, version, length, MessagePack, zeroes, checksum of all before
//! contents               as in the file, holes left out where the file system can
//! ```

use crate::header::bytes::Bytes;
use crate::layout::checksum;
use crate::validate::FormatError;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Bytes before the contents: a whole number of blocks, so that they can be shared with the file (reflink).
pub const HEAD_SIZE: usize = 8192;

/// First eight bytes.
const MAGIC: [u8; 8] = *b"ZAPFILE\n";

/// Version of the format that this code writes. A later one is refused.
const VERSION: u32 = 1;

/// Magic, version, length.
const FIXED: usize = 16;

/// Ending of the name.
pub const SUFFIX: &str = ".zfile";

/// What a kept file is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub pod_id: u64,
    pub generation: u32,
    /// Of the file at the checkpoint.
    pub device: u64,
    pub inode: u64,
    /// Permission bits.
    pub mode: u32,
    /// In bytes.
    pub length: u64,
    /// Modification time in nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Of the contents ([`crate::layout::FileHasher`]), eight bytes: of each block of 4,096 that is not all zeroes, behind its
    /// offset, and of the length.
    pub checksum: Bytes,
    /// What the file was called, for people.
    pub path: Bytes,
}

impl Head {
    /// As it is written: [`HEAD_SIZE`] bytes.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let body = zap_codec::encode(self).map_err(FormatError::Encoding)?;
        if FIXED + body.len() > HEAD_SIZE - 8 {
            return Err(FormatError::Damaged("head: longer than its place".to_string()));
        }
        let mut bytes = alloc::vec![0; HEAD_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..FIXED].copy_from_slice(&(body.len() as u32).to_le_bytes());
        bytes[FIXED..FIXED + body.len()].copy_from_slice(&body);
        let sum = checksum(&bytes[..HEAD_SIZE - 8]);
        bytes[HEAD_SIZE - 8..].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads the first [`HEAD_SIZE`] bytes of a file that is `file_length` bytes long.
    pub fn decode(bytes: &[u8], file_length: u64) -> Result<Self, FormatError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(FormatError::NotAnImage);
        }
        let (Some(body), true) = (bytes.get(..HEAD_SIZE - 8), bytes.len() == HEAD_SIZE) else {
            return Err(FormatError::Truncated);
        };
        let word = |at: usize| bytes[at..at + 4].iter().rev().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        if word(8) > VERSION {
            return Err(FormatError::Damaged(format!("format version {}, this Zap reads version {VERSION}", word(8))));
        }
        if checksum(body).to_le_bytes() != bytes[HEAD_SIZE - 8..] {
            return Err(FormatError::Damaged("head".to_string()));
        }
        let body = body.get(FIXED..FIXED + word(12) as usize).ok_or(FormatError::Truncated)?;
        let (head, _): (Self, _) = zap_codec::decode(body).map_err(FormatError::Encoding)?;
        if head.length.checked_add(HEAD_SIZE as u64) != Some(file_length) {
            return Err(FormatError::Truncated);
        }
        Ok(head)
    }
}

/// The parts of a kept file's name: `ckpt_<pod id>_<device>-<inode>_<generation>.zfile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptName {
    pub pod_id: u64,
    pub device: u64,
    pub inode: u64,
    pub generation: u32,
}

impl KeptName {
    /// The file name.
    pub fn format(&self) -> String {
        let Self { pod_id, device, inode, generation } = self;
        format!("ckpt_{pod_id:016x}_{device:x}-{inode:x}_{generation}{SUFFIX}")
    }

    /// Reads a file name (no directories).
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_prefix("ckpt_")?.strip_suffix(SUFFIX)?.split('_');
        let pod_id = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (device, inode) = parts.next()?.split_once('-')?;
        let (device, inode) = (u64::from_str_radix(device, 16).ok()?, u64::from_str_radix(inode, 16).ok()?);
        let generation = parts.next()?.parse().ok()?;
        parts.next().is_none().then_some(Self { pod_id, device, inode, generation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            pod_id: 7,
            generation: 2,
            device: 0x801,
            inode: 12,
            mode: 0o640,
            length: 5,
            modified_ns: -3,
            checksum: Bytes([1; 8].to_vec()),
            path: Bytes(alloc::vec![b'x'; 4096]),
        }
    }

    #[test]
    fn heads_round_trip_and_damage_is_found() {
        let bytes = head().encode().unwrap();
        let length = HEAD_SIZE as u64 + 5;
        assert_eq!((bytes.len(), Head::decode(&bytes, length).unwrap()), (HEAD_SIZE, head()));
        assert!(Head::decode(&bytes, length - 1).is_err());
        assert!(Head::decode(&bytes[..100], length).is_err());
        for at in [0, 9, 13, 20, 4000, HEAD_SIZE - 1] {
            let mut other = bytes.clone();
            other[at] ^= 0x40;
            assert!(Head::decode(&other, length).is_err(), "{at}");
        }
        let long = Head { path: Bytes(alloc::vec![0; HEAD_SIZE]), ..head() };
        assert!(long.encode().is_err());
    }

    #[test]
    fn names() {
        let name = KeptName { pod_id: 0xab, device: 0x801, inode: 0x1f, generation: 3 };
        assert_eq!(name.format(), "ckpt_00000000000000ab_801-1f_3.zfile");
        assert_eq!(KeptName::parse(&name.format()), Some(name));
        for other in ["ckpt_app_00000000000000ab_12_3.zimg", "ckpt_1_2-3_4_5.zfile", "ckpt_1_2_3.zfile", "x.zfile"] {
            assert_eq!(KeptName::parse(other), None, "{other}");
        }
    }
}
