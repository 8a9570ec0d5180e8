//! A raw image → a compressed one: a pipeline whose threads take the chunks in turn, and whose end writes them in order.
//!
//! The raw image is only read, and what is read is compared with its checksums: what is damaged is never packed up.

use super::head::Failure;
use crossbeam::channel::{bounded, Receiver, Sender};
use std::fs::File;
use std::os::unix::fs::FileExt;
use zap_image::header::bytes::Bytes;
use zap_image::layout::is_zero;
use zap_image::{
    checksum, encode_packed_head, ChunkSums, Compression, FormatError, Header, Prelude, StoredChunks, CHUNK_SIZE,
};
use zap_wire::Compress;

/// Chunks that each thread may be ahead of the writer.
const AHEAD: usize = 2;

/// A chunk as it is stored, and its checksum.
struct Packed {
    bytes: Vec<u8>,
    checksum: u64,
}

/// Writes the raw image `raw`, whose head is given, to the empty file `target`, compressed. Calls `halfway` when half of
/// it is written.
pub fn pack(
    raw: &File,
    (prelude, mut header): (Prelude, Header),
    target: &File,
    compress: Compress,
    halfway: impl FnOnce(),
) -> Result<(), Failure> {
    let length = prelude.extents_length;
    let mut stored = StoredChunks::for_length(length);
    header.stored_chunks = Bytes(stored.clone().into_bytes());
    let compression = compression(compress);
    let encode = |header: &Header| encode_packed_head(header, length, compression).map_err(Failure::Format);
    let head_length = encode(&header)?.len() as u64;
    let sums = ChunkSums::from_bytes(header.chunk_sums.0.clone());
    let task = Task { raw, prelude: &prelude, sums: &sums, compress };
    let count = sums.count();
    let threads = std::thread::available_parallelism().map_or(1, |number| number.get()).min(count.max(1));
    let scoped = crossbeam::thread::scope(|scope| {
        let lines: Vec<Receiver<Result<Packed, Failure>>> = (0..threads)
            .map(|first| {
                let (line, end) = bounded(AHEAD);
                let task = &task;
                scope.spawn(move |_| task.work((first..count).step_by(threads), &line));
                end
            })
            .collect();
        let mut halfway = Some(halfway);
        let mut place = head_length;
        for number in 0..count {
            if number == count / 2 {
                if let Some(halfway) = halfway.take() {
                    halfway();
                }
            }
            let Ok(packed) = lines[number % threads].recv() else {
                return Err(Failure::Compressor("a thread has ended".into()));
            };
            let packed = packed?;
            target.write_all_at(&packed.bytes, place).map_err(|error| Failure::System("write", error))?;
            place += packed.bytes.len() as u64;
            stored.set(number, packed.bytes.len() as u32, packed.checksum);
        }
        Ok(())
    });
    scoped.unwrap_or_else(|_| Err(Failure::Compressor("a thread has ended".into())))?;
    header.stored_chunks = Bytes(stored.into_bytes());
    let head = encode(&header)?;
    if head.len() as u64 != head_length {
        return Err(Failure::Compressor("the header has changed its length".into()));
    }
    target.write_all_at(&head, 0).map_err(|error| Failure::System("write", error))
}

/// The format's word for a pod's choice.
fn compression(compress: Compress) -> Compression {
    match compress {
        Compress::None => Compression::None,
        Compress::Lz4 => Compression::Lz4,
        Compress::Zstd(_) => Compression::Zstd,
    }
}

/// What all threads of a pipeline know.
struct Task<'a> {
    raw: &'a File,
    prelude: &'a Prelude,
    sums: &'a ChunkSums,
    compress: Compress,
}

impl Task<'_> {
    /// Packs these chunks, until there is an error or nobody takes them any more.
    fn work(&self, numbers: impl Iterator<Item = usize>, line: &Sender<Result<Packed, Failure>>) {
        let mut compressor = match Compressor::new(self.compress) {
            Ok(compressor) => compressor,
            Err(failure) => {
                let _ = line.send(Err(failure));
                return;
            }
        };
        let mut buffer = vec![0u8; CHUNK_SIZE as usize];
        for number in numbers {
            let packed = self.chunk(number, &mut buffer, &mut compressor);
            let failed = packed.is_err();
            if line.send(packed).is_err() || failed {
                return;
            }
        }
    }

    fn chunk(&self, number: usize, buffer: &mut [u8], compressor: &mut Compressor) -> Result<Packed, Failure> {
        let start = number as u64 * CHUNK_SIZE;
        let length = CHUNK_SIZE.min(self.prelude.extents_length - start) as usize;
        let bytes = &mut buffer[..length];
        let place = self.prelude.head_length + start;
        self.raw.read_exact_at(bytes, place).map_err(|error| Failure::System("read", error))?;
        if self.sums.get(number) != Some(checksum(bytes)) {
            return Err(Failure::Format(FormatError::Damaged(format!("memory at offset {place}, {length} bytes"))));
        }
        let bytes = if is_zero(bytes) { Vec::new() } else { compressor.compress(bytes)? };
        Ok(Packed { checksum: checksum(&bytes), bytes })
    }
}

/// What one thread compresses with.
enum Compressor {
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Compressor {
    fn new(compress: Compress) -> Result<Self, Failure> {
        match compress {
            Compress::Zstd(level) => zstd::bulk::Compressor::new(level)
                .map(|compressor| Self::Zstd(Box::new(compressor)))
                .map_err(|error| Failure::Compressor(error.to_string())),
            Compress::None | Compress::Lz4 => Ok(Self::Lz4),
        }
    }

    /// The bytes compressed, or as they are if that is not shorter.
    fn compress(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Failure> {
        let packed = match self {
            Self::Lz4 => lz4_flex::block::compress(bytes),
            Self::Zstd(compressor) => {
                compressor.compress(bytes).map_err(|error| Failure::Compressor(error.to_string()))?
            }
        };
        Ok(if packed.len() < bytes.len() { packed } else { bytes.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back() {
        let text: Vec<u8> = (0..CHUNK_SIZE as usize).map(|at| (at / 100 % 7) as u8).collect();
        let mut state = 88_172_645_463_325_252u64;
        let noise: Vec<u8> = (0..50_000)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        for compress in [Compress::Lz4, Compress::Zstd(1), Compress::Zstd(19)] {
            let mut compressor = Compressor::new(compress).unwrap();
            let packed = compressor.compress(&text).unwrap();
            assert!(packed.len() < text.len() / 50, "{compress}: {}", packed.len());
            let unpacked = match compress {
                Compress::Zstd(_) => zstd::bulk::decompress(&packed, text.len()).unwrap(),
                _ => lz4_flex::block::decompress(&packed, text.len()).unwrap(),
            };
            assert!(unpacked == text, "{compress}");
            assert!(compressor.compress(&noise).unwrap() == noise, "{compress}: what does not shrink stays as it is");
        }
    }
}
