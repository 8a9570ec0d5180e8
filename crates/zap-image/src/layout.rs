//! Where the extents lie and how they are checksummed.

use alloc::vec;
use alloc::vec::Vec;

/// Extents are checksummed in chunks of this many bytes, counted from the first byte after the head. The chunks cover
/// every byte up to the end of the file, gaps between extents too.
pub const CHUNK_SIZE: u64 = 1 << 20;

/// XXH3 with 64 bits: catches damage, not malice.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// The chunks' checksums, eight little-endian bytes each: of fixed length for a given number of chunks, so that a
/// header can be measured before its checksums are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkSums {
    bytes: Vec<u8>,
}

impl ChunkSums {
    /// As many zero checksums as `extents_length` bytes need.
    pub fn for_length(extents_length: u64) -> Self {
        Self { bytes: vec![0; extents_length.div_ceil(CHUNK_SIZE) as usize * 8] }
    }

    /// Wraps what a header holds.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What a header holds.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Number of chunks.
    pub fn count(&self) -> usize {
        self.bytes.len() / 8
    }

    /// Notes the checksum of chunk `index`.
    pub fn set(&mut self, index: usize, sum: u64) {
        if let Some(place) = self.bytes.get_mut(index * 8..index * 8 + 8) {
            place.copy_from_slice(&sum.to_le_bytes());
        }
    }

    /// The checksum of chunk `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<u64> {
        let bytes = self.bytes.get(index * 8..index * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}
