//! A pod's table as a mapped file: shared with the coordinator and with every process of the pod.
//!
//! # Safety
//! The mapping covers exactly one `PodTable`, whose fields are atomics and for which all bytes are valid; it lives as
//! long as the value. The file is never truncated, and lies in a directory that only its owner can enter: a symbolic
//! link in it is the coordinator's own.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{symlink, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use zap_sys::RealPid;
use zap_wire::inodes::MOST_WORDS;
use zap_wire::table::{PodTable, SIZE};

/// A mapped pod table.
#[derive(Debug)]
pub struct MappedTable {
    address: NonNull<PodTable>,
    file: File,
}

// SAFETY: a pod table is made of atomics; other processes use it at the same time anyway.
unsafe impl Send for MappedTable {}
// SAFETY: as above.
unsafe impl Sync for MappedTable {}

/// Gives the file its length, and all of it a place: who writes through a mapping to what has none, when the disk is full, gets
/// SIGBUS, and processes of the pod write there.
fn allocate(file: &File, length: usize) -> std::io::Result<()> {
    // SAFETY: an open descriptor, and numbers.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length as i64) } == 0 {
        return Ok(());
    }
    match std::io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => file.set_len(length as u64),
        error => Err(error),
    }
}

impl MappedTable {
    /// Makes the table of a new pod, mode 0600, that the process `first` begins or brings back; `path` must not exist.
    pub fn create(path: &Path, pod_id: u64, signal: i32, streams: &[(u64, u64); 3], first: RealPid) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| Error::system(path.display(), "open", &error))?;
        allocate(&file, SIZE).map_err(|error| {
            let _ = fs::remove_file(path);
            Error::system(path.display(), "fallocate", &error)
        })?;
        let table = Self::map(path, file)?;
        table.initialize(pod_id, signal, streams);
        table.pid_namespace.store(zap_sys::process::pid_namespace(), Ordering::Relaxed);
        for (place, inode) in table.namespaces.iter().zip(zap_sys::process::namespaces_of(first)) {
            place.store(inode, Ordering::Relaxed);
        }
        Ok(table)
    }

    /// Maps an existing table; refuses what is none.
    pub fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let file = file.map_err(|error| Error::system(path.display(), "open", &error))?;
        let length = file.metadata().map_err(|error| Error::system(path.display(), "fstat", &error))?.len();
        if length < SIZE as u64 {
            return Err(Error::new(path.display(), "is not a pod table of this version of Zap"));
        }
        let table = Self::map(path, file)?;
        if !table.is_valid() {
            return Err(Error::new(path.display(), "is not a pod table of this version of Zap"));
        }
        Ok(table)
    }

    /// Tells the pod's processes, of which there are none yet, by which numbers they know files (`zap_wire::inodes::encode`).
    pub fn set_inodes(&self, path: &Path, words: &[u64]) -> Result<()> {
        if words.len() as u64 > MOST_WORDS || self.inodes.load(Ordering::Acquire) != 0 {
            return Err(Error::new(path.display(), "has no room for the numbers of so many files"));
        }
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let written =
            allocate(&self.file, SIZE + bytes.len()).and_then(|()| self.file.write_all_at(&bytes, SIZE as u64));
        written.map_err(|error| Error::system(path.display(), "write", &error))?;
        self.inodes.store(words.len() as u64, Ordering::Release);
        Ok(())
    }

    /// What [`MappedTable::set_inodes`] has written; nothing if it cannot be read.
    pub fn inodes(&self) -> Vec<u64> {
        let length = self.file.metadata().map_or(0, |metadata| metadata.len()).saturating_sub(SIZE as u64) / 8;
        // Members can write there, too.
        let count = self.inodes.load(Ordering::Acquire).min(length).min(MOST_WORDS) as usize;
        let mut bytes = Vec::new();
        if count == 0 || bytes.try_reserve_exact(count * 8).is_err() {
            return Vec::new();
        }
        bytes.resize(count * 8, 0);
        match self.file.read_exact_at(&mut bytes, SIZE as u64) {
            Ok(()) => bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect(),
            Err(_) => Vec::new(),
        }
    }

    /// Whether `path` leads to this table.
    pub fn is_at(&self, path: &Path) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        fs::metadata(path).map(identity).ok() == self.file.metadata().map(identity).ok()
    }

    /// Makes a table whose name is gone be found at `path` again, for as long as this process lives. A file without a
    /// name gets none any more (linkat(2)), and a copy would be another table than the one that processes have mapped.
    pub fn put_back(&self, path: &Path) -> Result<()> {
        let _ = fs::remove_file(path);
        let own = format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd());
        symlink(own, path).map_err(|error| Error::system(path.display(), "symlink", &error))
    }

    fn map(path: &Path, file: File) -> Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice; the file has SIZE bytes.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(address.cast::<PodTable>()) {
            Some(address) if address.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { address, file }),
            _ => Err(Error::last(path.display(), "mmap")),
        }
    }
}

impl Deref for MappedTable {
    type Target = PodTable;

    fn deref(&self) -> &PodTable {
        // SAFETY: mapped, page-aligned, SIZE bytes long, and any bytes are a valid PodTable.
        unsafe { self.address.as_ref() }
    }
}

impl Drop for MappedTable {
    fn drop(&mut self) {
        // SAFETY: this value's own mapping, to which no reference outlives it.
        unsafe { libc::munmap(self.address.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch;
    use zap_sys::{RealPid, VirtualPid};

    #[test]
    fn two_mappings_see_the_same() {
        let scratch = scratch();
        let path = scratch.join("1.table");
        let first = MappedTable::create(&path, 1, 62, &[(1, 1), (2, 2), (3, 3)], RealPid(1)).unwrap();
        assert!(MappedTable::create(&path, 1, 62, &[(0, 0); 3], RealPid(1)).is_err());
        let second = MappedTable::open(&path).unwrap();
        first.enter(RealPid(5), VirtualPid(6)).unwrap();
        assert_eq!(second.find(RealPid(5)).unwrap().virtual_pid(), VirtualPid(6));
        assert!(second.inodes().is_empty());
        first.set_inodes(&path, &[1, 2, 3]).unwrap();
        assert_eq!(second.inodes(), [1, 2, 3]);
        assert_eq!(MappedTable::open(&path).unwrap().inodes(), [1, 2, 3]);
    }

    #[test]
    fn a_table_without_a_name_is_put_back() {
        let scratch = scratch();
        let path = scratch.join("1.table");
        let table = MappedTable::create(&path, 1, 62, &[(0, 0); 3], RealPid(1)).unwrap();
        assert!(table.is_at(&path));
        fs::remove_file(&path).unwrap();
        assert!(!table.is_at(&path));
        table.put_back(&path).unwrap();
        assert!(table.is_at(&path));
        table.enter(RealPid(5), VirtualPid(6)).unwrap();
        assert!(MappedTable::open(&path).unwrap().find(RealPid(5)).is_some());
    }

    #[test]
    fn other_files_are_no_tables() {
        let scratch = scratch();
        let path = scratch.join("1.table");
        std::fs::write(&path, "short").unwrap();
        assert!(MappedTable::open(&path).is_err());
        File::create(&path).unwrap().set_len(SIZE as u64).unwrap();
        assert!(MappedTable::open(&path).is_err());
    }
}
