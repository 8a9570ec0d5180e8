//! Files that are kept whole beside the images of a checkpoint (`zap_image::kept`): the coordinator writes them while the pod
//! stands, zap-restart checks them and copies back what they hold.
//!
//! Where the file system can, the blocks are shared with the original (reflink), which takes no time and no room. Holes stay
//! holes.
//!
//! # Safety
//! ioctl(2) and copy_file_range(2) are given descriptors that live, and numbers.
#![allow(unsafe_code)]

pub mod tree;

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use zap_image::header::bytes::Bytes;
use zap_image::kept::{Head, HEAD_SIZE};
use zap_image::layout::{is_zero, FileHasher};
use zap_sys::time::stamp_ns;

/// `struct file_clone_range` of linux/fs.h.
#[repr(C)]
struct CloneRange {
    source: i64,
    source_offset: u64,
    source_length: u64,
    target_offset: u64,
}

/// `_IOW(0x94, 13, struct file_clone_range)`: ioctl_ficlonerange(2).
const FICLONERANGE: libc::c_ulong = 0x4020_940d;

/// Bytes that are copied in one go.
const PIECE: u64 = 64 << 20;

/// What a kept file is of.
#[derive(Clone, Debug)]
pub struct Origin {
    pub pod_id: u64,
    pub generation: u32,
    /// What the file is called.
    pub path: Vec<u8>,
}

/// Copies `source` into the empty file `target`, behind the place of its head; `may_go_on` is asked from time to time.
/// Returns what [`finish`] needs.
pub fn take(source: &File, target: &File, origin: Origin, may_go_on: impl Fn() -> bool) -> io::Result<Head> {
    let metadata = source.metadata()?;
    let length = metadata.len();
    copy((source, 0), (target, HEAD_SIZE as u64), length, may_go_on)?;
    // Also behind a hole at the end.
    target.set_len(HEAD_SIZE as u64 + length)?;
    let Origin { pod_id, generation, path } = origin;
    Ok(Head {
        pod_id,
        generation,
        device: metadata.dev(),
        inode: metadata.ino(),
        mode: metadata.mode() & 0o7777,
        length,
        modified_ns: modified_ns(&metadata),
        checksum: Bytes::default(),
        path: Bytes(path),
    })
}

/// Reads what [`take`] has copied, and writes the head.
pub fn finish(target: &File, head: Head) -> io::Result<Head> {
    let head = Head { checksum: Bytes(contents(target, HEAD_SIZE as u64)?.to_vec()), ..head };
    let bytes = head.encode().map_err(|error| io::Error::other(error.to_string()))?;
    target.write_all_at(&bytes, 0)?;
    Ok(head)
}

/// A kept file that is open.
#[derive(Debug)]
pub struct Kept {
    pub file: File,
    pub head: Head,
}

impl Kept {
    /// Reads the head of `file`.
    pub fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut bytes = vec![0; HEAD_SIZE.min(length as usize)];
        file.read_exact_at(&mut bytes, 0)?;
        let head =
            Head::decode(&bytes, length).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.to_string()))?;
        Ok(Self { file, head })
    }

    /// Whether the contents are what they were.
    pub fn is_whole(&self) -> io::Result<bool> {
        Ok(contents(&self.file, HEAD_SIZE as u64)?[..] == self.head.checksum.0[..])
    }

    /// Whether `file` holds the same.
    pub fn is_same(&self, file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.len() == self.head.length && contents(file, 0)?[..] == self.head.checksum.0[..])
    }

    /// Copies the contents from `from` on into `target`, which holds nothing there, and gives it its length.
    pub fn pour(&self, target: &File, from: u64) -> io::Result<()> {
        let length = self.head.length.saturating_sub(from);
        copy((&self.file, HEAD_SIZE as u64 + from), (target, from), length, || true)?;
        target.set_len(self.head.length)
    }
}

/// Modification time in nanoseconds since the epoch.
pub fn modified_ns(metadata: &Metadata) -> i64 {
    stamp_ns(metadata.mtime(), metadata.mtime_nsec())
}

/// Bytes in which holes are told from data.
const BLOCK: usize = 4096;

/// The checksum of what is in `file` from `place` on, a multiple of [`BLOCK`].
fn contents(file: &File, place: u64) -> io::Result<[u8; 8]> {
    hash(file, place, file.metadata()?.len().saturating_sub(place))
}

/// The checksum of `length` bytes from `place` on, a multiple of [`BLOCK`]. Blocks of zeroes count as holes, which take no time:
/// where a copy has which is the file system's affair.
fn hash(file: &File, place: u64, length: u64) -> io::Result<[u8; 8]> {
    let end = place.saturating_add(length);
    let mut hasher = FileHasher::new();
    let mut buffer = vec![0; (256 * BLOCK).min(length.next_multiple_of(BLOCK as u64) as usize)];
    let mut at = place;
    while let Some((data, hole)) = next_data(file, at, end)? {
        at = data - (data - place) % BLOCK as u64;
        while at < hole {
            let room = buffer.len().min((end - at) as usize);
            let count = read_at(file, &mut buffer[..room], at)?;
            if count == 0 {
                break;
            }
            for (index, block) in buffer[..count].chunks(BLOCK).enumerate().filter(|(_, block)| !is_zero(block)) {
                hasher.update(&(at - place + (index * BLOCK) as u64).to_le_bytes());
                hasher.update(block);
            }
            at += count as u64;
        }
        at = at.max(hole);
    }
    hasher.update(&length.to_le_bytes());
    Ok(hasher.finish())
}

/// Reads until the buffer is full, or the file ends.
fn read_at(file: &File, buffer: &mut [u8], place: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], place + done as u64)? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

/// Copies `length` bytes from one place to another, which is a hole.
pub fn copy(
    (source, from): (&File, u64),
    (target, to): (&File, u64),
    length: u64,
    may_go_on: impl Fn() -> bool,
) -> io::Result<()> {
    if length == 0 || clone(source, from, target, to, length) {
        return Ok(());
    }
    let end = from + length;
    let mut at = from;
    while let Some((data, hole)) = next_data(source, at, end)? {
        at = data;
        while at < hole {
            if !may_go_on() {
                return Err(ErrorKind::Interrupted.into());
            }
            match copy_piece(source, at, target, to + (at - from), PIECE.min(hole - at))? {
                // It has become shorter.
                0 => return Ok(()),
                count => at += count,
            }
        }
    }
    Ok(())
}

/// Shares the blocks: a matter of the file system, and of where block boundaries are.
fn clone(source: &File, from: u64, target: &File, to: u64, length: u64) -> bool {
    let source_length =
        if source.metadata().is_ok_and(|metadata| metadata.len() == from + length) { 0 } else { length };
    let range =
        CloneRange { source: i64::from(source.as_raw_fd()), source_offset: from, source_length, target_offset: to };
    // SAFETY: descriptors that live, and a struct that is read.
    unsafe { libc::ioctl(target.as_raw_fd(), FICLONERANGE, &raw const range) == 0 }
}

/// The next stretch that is no hole: lseek(2).
fn next_data(file: &File, from: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    let seek = |place: u64, whence| {
        // SAFETY: numbers only.
        match unsafe { libc::lseek(file.as_raw_fd(), place as i64, whence) } {
            -1 => Err(io::Error::last_os_error()),
            found => Ok(found as u64),
        }
    };
    if from >= end {
        return Ok(None);
    }
    match seek(from, libc::SEEK_DATA) {
        Ok(data) if data >= end => Ok(None),
        Ok(data) => Ok(Some((data, seek(data, libc::SEEK_HOLE)?.min(end)))),
        // Nothing but a hole up to the end.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Some((from, end))),
        Err(error) => Err(error),
    }
}

/// Copies at most `length` bytes; how many, 0 at the end.
fn copy_piece(source: &File, from: u64, target: &File, to: u64, length: u64) -> io::Result<u64> {
    let (mut from_place, mut to_place) = (from as i64, to as i64);
    // SAFETY: descriptors that live; both places are read and written.
    let count = unsafe {
        let (source, target) = (source.as_raw_fd(), target.as_raw_fd());
        libc::copy_file_range(source, &mut from_place, target, &mut to_place, length as usize, 0)
    };
    if count > 0 {
        return Ok(count as u64);
    }
    // Between some file systems it is not done, and of some files it says that they are empty.
    let mut buffer = vec![0; length.min(1 << 20) as usize];
    let count = source.read_at(&mut buffer, from)?;
    target.write_all_at(&buffer[..count], to)?;
    Ok(count as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};
    use std::path::PathBuf;

    fn file(name: &str) -> (PathBuf, File) {
        let path = std::env::temp_dir().join(format!("zap-kept-{}-{name}", std::process::id()));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        (path, file)
    }

    #[test]
    fn what_is_taken_is_poured_back() {
        let (source_path, source) = file("source");
        let (target_path, target) = file("target");
        let (again_path, again) = file("again");
        source.write_all_at(b"begin", 0).unwrap();
        source.write_all_at(b"middle", 40 << 20).unwrap();
        source.set_len(50 << 20).unwrap();
        let origin = Origin { pod_id: 1, generation: 2, path: b"/source".to_vec() };
        let head = take(&source, &target, origin.clone(), || true).unwrap();
        finish(&target, head).unwrap();
        let kept = Kept::open(File::open(&target_path).unwrap()).unwrap();
        assert!(kept.is_whole().unwrap() && kept.is_same(&source).unwrap());
        assert!(target.metadata().unwrap().blocks() < 1000, "holes are holes");
        kept.pour(&again, 0).unwrap();
        assert!(kept.is_same(&again).unwrap());
        // A part that is there already.
        again.set_len(4096).unwrap();
        kept.pour(&again, 4096).unwrap();
        assert!(kept.is_same(&again).unwrap());
        again.write_all_at(b"M", 40 << 20).unwrap();
        assert!(!kept.is_same(&again).unwrap());
        target.write_all_at(b"M", (40 << 20) + HEAD_SIZE as u64).unwrap();
        assert!(!kept.is_whole().unwrap());
        assert!(Kept::open(File::open(&source_path).unwrap()).is_err());
        assert!(take(&again, &source, origin, || false).is_err() || again.metadata().unwrap().len() == 0);
        [source_path, target_path, again_path].iter().for_each(|path| fs::remove_file(path).unwrap());
    }
}
