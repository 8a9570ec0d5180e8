//! Where the extents lie and how they are checksummed.

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
        Self { bytes: alloc::vec![0; extents_length.div_ceil(CHUNK_SIZE) as usize * 8] }
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

/// Computes chunk checksums from bytes that come in order.
pub struct ChunkHasher {
    sums: ChunkSums,
    hasher: xxhash_rust::xxh3::Xxh3,
    index: usize,
    /// Bytes in the chunk so far.
    filled: u64,
}

impl ChunkHasher {
    /// For extents of `extents_length` bytes in all.
    pub fn new(extents_length: u64) -> Self {
        Self {
            sums: ChunkSums::for_length(extents_length),
            hasher: xxhash_rust::xxh3::Xxh3::new(),
            index: 0,
            filled: 0,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let part = bytes.len().min((CHUNK_SIZE - self.filled) as usize);
            // A whole chunk in one piece needs no state.
            if self.filled == 0 && part as u64 == CHUNK_SIZE {
                self.sums.set(self.index, checksum(&bytes[..part]));
                self.index += 1;
            } else {
                self.hasher.update(&bytes[..part]);
                self.filled += part as u64;
                if self.filled == CHUNK_SIZE {
                    self.close_chunk();
                }
            }
            bytes = &bytes[part..];
        }
    }

    fn close_chunk(&mut self) {
        self.sums.set(self.index, self.hasher.digest());
        self.hasher.reset();
        self.index += 1;
        self.filled = 0;
    }

    /// The checksums of all chunks.
    pub fn finish(mut self) -> ChunkSums {
        if self.filled > 0 {
            self.close_chunk();
        }
        self.sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_do_not_depend_on_how_bytes_come() {
        let bytes: Vec<u8> = (0..(CHUNK_SIZE as usize * 2 + 77)).map(|at| (at * 31 % 251) as u8).collect();
        let mut whole = ChunkHasher::new(bytes.len() as u64);
        whole.update(&bytes);
        let mut parts = ChunkHasher::new(bytes.len() as u64);
        bytes.chunks(4099).for_each(|part| parts.update(part));
        let whole = whole.finish();
        assert_eq!(whole, parts.finish());
        assert_eq!(whole.get(2), Some(checksum(&bytes[CHUNK_SIZE as usize * 2..])));
        assert_eq!(whole.count(), 3);
    }
}
