//! Reads an image's extents and compares their checksums, on two threads: hashing and copying then overlap.

use crate::image::Image;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use zap_client::error::{reason, Error, Result};
use zap_image::{checksum, ChunkSums, CHUNK_SIZE};

/// Threads that read.
const THREADS: usize = 2;

/// Checks every chunk of the image.
pub fn extents(image: &Image) -> Result<()> {
    let sums = ChunkSums::from_bytes(image.header.chunk_sums.0.clone());
    let next = AtomicU64::new(0);
    let failure: Mutex<Option<(u64, Error)>> = Mutex::new(None);
    let count = sums.count() as u64;
    let work = || {
        let mut buffer = vec![0u8; CHUNK_SIZE as usize];
        loop {
            let chunk = next.fetch_add(1, Ordering::Relaxed);
            if chunk >= count {
                return;
            }
            if let Err(error) = check(image, &sums, chunk, &mut buffer) {
                next.store(count, Ordering::Relaxed);
                let mut failure = failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                if failure.as_ref().is_none_or(|(earlier, _)| *earlier > chunk) {
                    *failure = Some((chunk, error));
                }
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..THREADS.min(count.max(1) as usize) {
            scope.spawn(work);
        }
        work();
    });
    match failure.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        None => Ok(()),
        Some((_, error)) => Err(error),
    }
}

fn check(image: &Image, sums: &ChunkSums, chunk: u64, buffer: &mut [u8]) -> Result<()> {
    let start = chunk * CHUNK_SIZE;
    let length = CHUNK_SIZE.min(image.prelude.extents_length - start) as usize;
    let place = image.prelude.head_length + start;
    let read = image.file.read_exact_at(&mut buffer[..length], place);
    read.map_err(|error| Error::new(image.path.display(), reason(&error)))?;
    if sums.get(chunk as usize) != Some(checksum(&buffer[..length])) {
        let why = format!("image is damaged: memory at offset {place}, {length} bytes");
        return Err(Error::new(image.path.display(), why));
    }
    Ok(())
}
