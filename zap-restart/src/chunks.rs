//! An image's extents, chunk by chunk, as they were in memory: read, unpacked where they are compressed, and compared
//! with every checksum, on as many threads as there are processors.

use crate::image::Image;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use zap_client::error::{reason, Error, Result};
use zap_image::{checksum, ChunkSums, Compression, StoredChunk, StoredChunks, CHUNK_SIZE};

/// Hands every chunk to `take`, with its offset in the extents, in any order and on several threads. Stops at the first
/// that is damaged or not taken.
pub fn each(image: &Image, take: impl Fn(u64, &[u8]) -> Result<()> + Sync) -> Result<()> {
    let sums = ChunkSums::from_bytes(image.header.chunk_sums.0.clone());
    let stored: Vec<StoredChunk> = StoredChunks::from_bytes(image.header.stored_chunks.0.clone()).iter().collect();
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let count = sums.count();
    let work = || {
        let mut reader = Reader { image, sums: &sums, stored: &stored, buffer: Vec::new(), packed: Vec::new() };
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            let taken = reader.read(number).and_then(|bytes| take(number as u64 * CHUNK_SIZE, bytes));
            if let Err(error) = taken {
                next.store(count, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if failure.as_ref().is_none_or(|(earlier, _)| *earlier > number) {
                    *failure = Some((number, error));
                }
                return;
            }
        }
    };
    // Even on one processor two overlap reading and hashing.
    let threads = std::thread::available_parallelism().map_or(2, |number| number.get().max(2)).min(count.max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        None => Ok(()),
        Some((_, error)) => Err(error),
    }
}

/// What one thread reads with.
struct Reader<'a> {
    image: &'a Image,
    sums: &'a ChunkSums,
    stored: &'a [StoredChunk],
    buffer: Vec<u8>,
    packed: Vec<u8>,
}

impl Reader<'_> {
    /// The chunk's contents.
    fn read(&mut self, number: usize) -> Result<&[u8]> {
        let start = number as u64 * CHUNK_SIZE;
        let length = CHUNK_SIZE.min(self.image.prelude.extents_length - start) as usize;
        self.buffer.resize(length, 0);
        let place = match self.stored.get(number) {
            None => {
                let place = self.image.prelude.head_length + start;
                read_at(self.image, &mut self.buffer, place)?;
                place
            }
            Some(chunk) => {
                let place = self.image.prelude.head_length + chunk.offset;
                self.packed.resize(chunk.length as usize, 0);
                read_at(self.image, &mut self.packed, place)?;
                let whole = checksum(&self.packed) == chunk.checksum
                    && unpack(self.image.prelude.compression, &self.packed, &mut self.buffer);
                if !whole {
                    return Err(damaged(self.image, place, self.packed.len()));
                }
                place
            }
        };
        if self.sums.get(number) != Some(checksum(&self.buffer)) {
            return Err(damaged(self.image, place, length));
        }
        Ok(&self.buffer)
    }
}

fn read_at(image: &Image, buffer: &mut [u8], place: u64) -> Result<()> {
    let read = image.file.read_exact_at(buffer, place);
    read.map_err(|error| Error::new(image.path.display(), reason(&error)))
}

fn damaged(image: &Image, place: u64, length: usize) -> Error {
    let why = format!("image is damaged: memory at offset {place}, {length} bytes");
    Error::new(image.path.display(), why)
}

/// Unpacks a chunk as it is stored into a buffer that is as long as its contents; says whether it could be.
fn unpack(compression: Compression, packed: &[u8], contents: &mut [u8]) -> bool {
    if packed.is_empty() {
        contents.fill(0);
        return true;
    }
    if packed.len() == contents.len() {
        contents.copy_from_slice(packed);
        return true;
    }
    let length = match compression {
        Compression::None => None,
        Compression::Lz4 => lz4_flex::block::decompress_into(packed, contents).ok(),
        Compression::Zstd => zstd::bulk::decompress_to_buffer(packed, contents).ok(),
    };
    length == Some(contents.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_by_table() {
        let contents: Vec<u8> = (0..5000).map(|at| (at / 50) as u8).collect();
        let lz4 = lz4_flex::block::compress(&contents);
        let zstd = zstd::bulk::compress(&contents, 3).unwrap();
        for (name, compression, packed, expected) in [
            ("lz4", Compression::Lz4, &lz4[..], Some(&contents[..])),
            ("zstd", Compression::Zstd, &zstd, Some(&contents)),
            ("as it is", Compression::Zstd, &contents, Some(&contents)),
            ("zeroes", Compression::Lz4, &[], Some(&[0; 5000])),
            ("lz4 as zstd", Compression::Zstd, &lz4, None),
            ("cut lz4", Compression::Lz4, &lz4[..lz4.len() - 1], None),
            ("cut zstd", Compression::Zstd, &zstd[..zstd.len() - 1], None),
            ("not compressed", Compression::None, &lz4, None),
        ] {
            let mut found = vec![1; 5000];
            let done = unpack(compression, packed, &mut found);
            assert_eq!(done.then_some(&found[..]), expected, "{name}");
        }
        let mut short = vec![0; 4999];
        assert!(!unpack(Compression::Lz4, &lz4, &mut short) && !unpack(Compression::Zstd, &zstd, &mut short));
        let mut long = vec![0; 5001];
        assert!(!unpack(Compression::Lz4, &lz4, &mut long) && !unpack(Compression::Zstd, &zstd, &mut long));
    }
}
