//! The fixed prelude: the first 128 bytes, readable by every version of Zap.

use crate::compression::Compression;
use crate::layout::checksum;
use crate::validate::FormatError;
use crate::LONGEST_HEADER;
use zap_sys::PAGE_SIZE;

/// Size of the prelude in bytes.
pub const PRELUDE_SIZE: usize = 128;

/// First eight bytes of every image.
pub const MAGIC: [u8; 8] = *b"ZAPIMAGE";

/// Version of the format that this code writes. An image of a later one is refused.
pub const FORMAT_VERSION: u32 = 5;

/// Where the prelude's own checksum lies: it covers the bytes before it.
const CHECKSUM_AT: usize = PRELUDE_SIZE - 8;

/// The prelude, little-endian on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prelude {
    pub version: u32,
    /// ELF machine number of the processor.
    pub machine: u32,
    /// Bytes of MessagePack after the prelude.
    pub header_length: u64,
    /// Bytes of prelude, header and padding: where the extents begin.
    pub head_length: u64,
    /// Bytes of extents, as they are in memory.
    pub extents_length: u64,
    /// Checksum of everything between prelude and extents.
    pub header_checksum: u64,
    pub compression: Compression,
    /// Bytes that the extents take in the file; `head_length + stored_length` is the file's length.
    pub stored_length: u64,
}

impl Prelude {
    /// The prelude as it is written.
    pub fn encode(&self) -> [u8; PRELUDE_SIZE] {
        let mut bytes = [0u8; PRELUDE_SIZE];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.machine.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.header_length.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.head_length.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.extents_length.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.header_checksum.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.compression.number().to_le_bytes());
        bytes[56..64].copy_from_slice(&self.stored_length.to_le_bytes());
        let sum = checksum(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads a prelude from the first bytes of a file that is `file_length` bytes long, and bounds every length.
    pub fn decode(bytes: &[u8], file_length: u64) -> Result<Self, FormatError> {
        if bytes.len() < PRELUDE_SIZE {
            return Err(if bytes.starts_with(&MAGIC) || MAGIC.starts_with(bytes) {
                FormatError::Truncated
            } else {
                FormatError::NotAnImage
            });
        }
        if bytes[..8] != MAGIC {
            return Err(FormatError::NotAnImage);
        }
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | (u64::from(u32_at(at + 4)) << 32);
        if checksum(&bytes[..CHECKSUM_AT]) != u64_at(CHECKSUM_AT) {
            return Err(FormatError::Damaged("prelude".into()));
        }
        // The version comes first: what follows may mean something else in a later one.
        let (version, machine) = (u32_at(8), u32_at(12));
        if version != FORMAT_VERSION {
            return Err(FormatError::Version { found: version });
        }
        if machine != zap_sys::arch::ELF_MACHINE {
            return Err(FormatError::Machine { found: machine });
        }
        let prelude = Self {
            version,
            machine,
            header_length: u64_at(16),
            head_length: u64_at(24),
            extents_length: u64_at(32),
            header_checksum: u64_at(40),
            compression: Compression::from_number(u32_at(48))
                .ok_or_else(|| FormatError::Damaged("compression".into()))?,
            stored_length: u64_at(56),
        };
        if prelude.compression == Compression::None && prelude.stored_length != prelude.extents_length {
            return Err(FormatError::Damaged("prelude".into()));
        }
        let whole = prelude.head_length.checked_add(prelude.stored_length).ok_or(FormatError::Truncated)?;
        let least = (PRELUDE_SIZE as u64).saturating_add(prelude.header_length);
        if prelude.head_length < least
            || prelude.head_length > LONGEST_HEADER
            || !prelude.head_length.is_multiple_of(PAGE_SIZE as u64)
        {
            return Err(FormatError::Damaged("prelude".into()));
        }
        if file_length < whole {
            return Err(FormatError::Truncated);
        }
        if file_length > whole {
            return Err(FormatError::Damaged("length".into()));
        }
        Ok(prelude)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Prelude {
        Prelude {
            version: FORMAT_VERSION,
            machine: zap_sys::arch::ELF_MACHINE,
            header_length: 100,
            head_length: 4096,
            extents_length: 8192,
            header_checksum: 42,
            compression: Compression::None,
            stored_length: 8192,
        }
    }

    #[test]
    fn round_trip() {
        assert_eq!(Prelude::decode(&sample().encode(), 4096 + 8192).unwrap(), sample());
        let packed = Prelude { compression: Compression::Zstd, stored_length: 77, ..sample() };
        assert_eq!(Prelude::decode(&packed.encode(), 4096 + 77).unwrap(), packed);
        let longer = Prelude { stored_length: 12288, ..sample() };
        assert!(Prelude::decode(&longer.encode(), 4096 + 12288).is_err(), "raw extents are stored as they are");
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[at] ^= 0x10;
            assert!(Prelude::decode(&damaged, 4096 + 8192).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_length_but_its_own_is_refused() {
        let bytes = sample().encode();
        for length in [0, 1, 7, 127] {
            assert!(Prelude::decode(&bytes[..length], length as u64).is_err());
        }
        assert!(matches!(Prelude::decode(&bytes, 4096), Err(FormatError::Truncated)));
        assert!(Prelude::decode(&bytes, 1 << 40).is_err());
    }

    #[test]
    fn other_versions_and_machines_are_named() {
        let future = Prelude { version: 9, ..sample() };
        assert!(matches!(Prelude::decode(&future.encode(), 12288), Err(FormatError::Version { found: 9 })));
        let foreign = Prelude { machine: 183, ..sample() };
        assert!(matches!(Prelude::decode(&foreign.encode(), 12288), Err(FormatError::Machine { found: 183 })));
    }
}
