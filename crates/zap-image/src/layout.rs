//! Where the extents lie and how they are checksummed.

use alloc::vec::Vec;

/// Extents are checksummed in chunks of this many bytes, counted from the first byte after the head. The chunks cover
/// every byte up to the end of the file, gaps between extents too.
pub const CHUNK_SIZE: u64 = 1 << 20;

/// XXH3 with 64 bits: catches damage, not malice.
pub fn checksum(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

/// Whether there is nothing but zeroes. Memory that has other contents mostly says so in its first bytes.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == 0) && bytes.get(1..).is_none_or(|rest| *rest == bytes[..rest.len()])
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

/// A chunk as a compressed image stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredChunk {
    /// Offset from the first byte after the head.
    pub offset: u64,
    /// Bytes in the file. 0: the chunk is zeroes. As many as the chunk has: it is stored as it is. Else compressed.
    pub length: u32,
    /// Checksum of those bytes.
    pub checksum: u64,
}

/// The chunks of a compressed image, one behind the other without gaps: four little-endian bytes of length and eight of
/// checksum each, of fixed length for a given number of chunks as [`ChunkSums`] are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredChunks {
    bytes: Vec<u8>,
}

/// Bytes of a chunk in the table.
const STORED_SIZE: usize = 12;

impl StoredChunks {
    /// As many empty entries as `extents_length` bytes need.
    pub fn for_length(extents_length: u64) -> Self {
        Self { bytes: alloc::vec![0; extents_length.div_ceil(CHUNK_SIZE) as usize * STORED_SIZE] }
    }

    /// Wraps what a header holds.
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What a header holds.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Enters what the chunk `index` has become.
    pub fn set(&mut self, index: usize, length: u32, checksum: u64) {
        if let Some(entry) = self.bytes.get_mut(index * STORED_SIZE..(index + 1) * STORED_SIZE) {
            entry[..4].copy_from_slice(&length.to_le_bytes());
            entry[4..].copy_from_slice(&checksum.to_le_bytes());
        }
    }

    /// The chunks in order.
    pub fn iter(&self) -> impl Iterator<Item = StoredChunk> + '_ {
        let mut offset = 0;
        self.bytes.chunks_exact(STORED_SIZE).map(move |entry| {
            let mut length = [0; 4];
            let mut checksum = [0; 8];
            length.copy_from_slice(&entry[..4]);
            checksum.copy_from_slice(&entry[4..]);
            let length = u32::from_le_bytes(length);
            let chunk = StoredChunk { offset, length, checksum: u64::from_le_bytes(checksum) };
            offset += u64::from(length);
            chunk
        })
    }

    /// Bytes that all chunks take in the file.
    pub fn total(&self) -> u64 {
        self.iter().map(|chunk| u64::from(chunk.length)).sum()
    }

    /// Whether the table fits extents of this length: as many chunks, none longer than its contents.
    pub(crate) fn fits(&self, extents_length: u64) -> bool {
        let mut left = extents_length;
        let fits = self.iter().all(|chunk| {
            let whole = left.min(CHUNK_SIZE);
            left -= whole;
            u64::from(chunk.length) <= whole
        });
        self.bytes.len() as u64 == extents_length.div_ceil(CHUNK_SIZE) * STORED_SIZE as u64 && fits
    }
}

/// Checksum of a whole file that comes piece by piece.
pub struct FileHasher(xxhash_rust::xxh3::Xxh3);

impl FileHasher {
    pub fn new() -> Self {
        Self(xxhash_rust::xxh3::Xxh3::new())
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Checksum and length of all that `read` puts into buffers until it has nothing more; its error if it fails.
    pub fn sum<E>(mut read: impl FnMut(&mut [u8]) -> Result<usize, E>) -> Result<([u8; 8], u64), E> {
        let (mut hasher, mut length) = (Self::new(), 0);
        let mut buffer = alloc::vec![0u8; 1 << 20];
        loop {
            match read(&mut buffer)? {
                0 => return Ok((hasher.finish(), length)),
                count => {
                    hasher.update(&buffer[..count]);
                    length += count as u64;
                }
            }
        }
    }

    /// As [`crate::BackingFile`] holds it. Never [`UNKNOWN_CHECKSUM`].
    pub fn finish(&self) -> [u8; 8] {
        self.0.digest().max(1).to_le_bytes()
    }
}

impl Default for FileHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// In place of a file's checksum: nobody has taken it.
pub const UNKNOWN_CHECKSUM: [u8; 8] = [0; 8];

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

    #[test]
    fn a_file_comes_in_pieces() {
        let mut whole = FileHasher::new();
        whole.update(b"abcde");
        let mut rest = &b"abcde"[..];
        let sum = FileHasher::sum(|buffer| {
            let count = rest.len().min(2);
            buffer[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            Ok::<usize, ()>(count)
        });
        assert_eq!(sum, Ok((whole.finish(), 5)));
        assert_eq!(FileHasher::sum(|_| Err("gone")), Err("gone"));
    }

    #[test]
    fn stored_chunks_follow_each_other() {
        let mut chunks = StoredChunks::for_length(2 * CHUNK_SIZE + 4096);
        chunks.set(0, 100, 7);
        chunks.set(2, 4096, 9);
        let chunk = |offset, length, checksum| StoredChunk { offset, length, checksum };
        assert!(chunks.iter().eq([chunk(0, 100, 7), chunk(100, 0, 0), chunk(100, 4096, 9)]));
        assert_eq!(chunks.total(), 4196);
        assert!(chunks.fits(2 * CHUNK_SIZE + 4096));
        for other in [0, 4096, 2 * CHUNK_SIZE, 3 * CHUNK_SIZE + 4096] {
            assert!(!chunks.fits(other), "{other}");
        }
        chunks.set(2, 4097, 9);
        assert!(!chunks.fits(2 * CHUNK_SIZE + 4096), "longer than its contents");
    }

    #[test]
    fn zeroes() {
        for (bytes, expected) in
            [(&[][..], true), (&[0], true), (&[1], false), (&[0; 99], true), (&[0, 0, 1], false), (&[1, 1], false)]
        {
            assert_eq!(is_zero(bytes), expected, "{bytes:?}");
        }
    }
}
