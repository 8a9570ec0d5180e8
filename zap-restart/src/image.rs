//! An image file: opened, found to be ours, its head read and checked. The extents are not looked at here.
//!
//! # Safety
//! statfs(2) and fstatvfs(3) fill structs of plain numbers.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zap_client::error::{reason, Error, Result};
use zap_image::{Compression, Header, Prelude, PRELUDE_SIZE};

/// An image whose head is whole.
#[derive(Debug)]
pub struct Image {
    /// As the user named it.
    pub path: PathBuf,
    pub file: File,
    pub prelude: Prelude,
    pub header: Header,
    /// Where the extents begin in `file`.
    pub extents_start: u64,
    /// `file` is a copy in memory.
    in_memory: bool,
}

impl Image {
    /// Opens `path` and reads its head.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |error: io::Error| Error::new(path.display(), reason(&error));
        // Non-blocking, so that a FIFO by that name does not hold us up.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let refuse = |why: String| Err(Error::new(path.display(), why));
        if !metadata.is_file() {
            return refuse("is not a regular file".into());
        }
        let mut bytes = [0u8; PRELUDE_SIZE];
        let length = (metadata.len() as usize).min(PRELUDE_SIZE);
        file.read_exact_at(&mut bytes[..length], 0).map_err(failed)?;
        let damaged = |error: zap_image::FormatError| Error::new(path.display(), error);
        let prelude = Prelude::decode(&bytes[..length], metadata.len()).map_err(damaged)?;
        let mut head = vec![0u8; prelude.head_length as usize];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let header = zap_image::decode_header(&prelude, &head).map_err(damaged)?;
        let extents_start = prelude.head_length;
        Ok(Self { path: path.to_path_buf(), file, prelude, header, extents_start, in_memory: false })
    }

    /// Refuses an image that somebody else could have written: it decides what runs as this user.
    pub fn check_owner(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(|error| Error::new(self.path.display(), reason(&error)))?;
        let user = zap_client::runtime::effective_user();
        if metadata.uid() != user && metadata.uid() != 0 {
            let why = format!("belongs to user {}, not restarted as user {user}", metadata.uid());
            return Err(Error::new(self.path.display(), why));
        }
        if metadata.mode() & 0o002 != 0 {
            return Err(Error::new(self.path.display(), "anybody may write to it, not restarted; chmod o-w it"));
        }
        Ok(())
    }

    /// Whether the file's memory can be mapped and relied upon: a local file system, mounted without `noexec` (which
    /// would forbid the program to make its own memory executable).
    pub fn is_mappable(&self) -> bool {
        if self.in_memory {
            return true;
        }
        let mut values = MaybeUninit::<libc::statvfs>::zeroed();
        // SAFETY: a descriptor of our own and a struct to be filled.
        let result = unsafe { libc::fstatvfs(self.file.as_raw_fd(), values.as_mut_ptr()) };
        // SAFETY: all-zero is a valid statvfs.
        let values = unsafe { values.assume_init() };
        result == 0 && values.f_flag & libc::ST_NOEXEC == 0
    }

    /// Whether the file lies on a file system that may go away while the program runs.
    pub fn is_remote(&self) -> bool {
        let mut values = MaybeUninit::<libc::statfs>::zeroed();
        // SAFETY: a descriptor of our own and a struct to be filled.
        let result = unsafe { libc::fstatfs(self.file.as_raw_fd(), values.as_mut_ptr()) };
        // SAFETY: all-zero is a valid statfs.
        let values = unsafe { values.assume_init() };
        crate::fault::refuses(zap_wire::fault::IMAGE_MAPPING) || result == 0 && is_remote_type(values.f_type as u32)
    }

    /// Reads the whole image into memory of this host, and goes on with that.
    pub fn take_in(&mut self) -> Result<()> {
        let failed = |error: zap_sys::SysError| Error::new(self.path.display(), error);
        let number = zap_sys::fd::memfd_create(c"zap-image", libc::MFD_CLOEXEC).map_err(failed)?;
        // SAFETY: a new descriptor that nobody else knows.
        let mut copy = unsafe { File::from_raw_fd(number) };
        let mut from = &self.file;
        let count = io::copy(&mut from, &mut copy).map_err(|error| Error::new(self.path.display(), reason(&error)))?;
        if count != self.prelude.head_length + self.prelude.stored_length {
            return Err(Error::new(self.path.display(), "has changed while it was read"));
        }
        self.file = copy;
        self.in_memory = true;
        Ok(())
    }

    /// Whether the extents must be unpacked before they can be used.
    pub fn is_compressed(&self) -> bool {
        self.prelude.compression != Compression::None
    }

    /// Goes on with `file`, which holds the extents and nothing else.
    pub fn use_unpacked(&mut self, file: File, in_memory: bool) {
        self.file = file;
        self.extents_start = 0;
        self.in_memory = in_memory;
    }
}

/// The images that the arguments name: files as they are, directories by what is in them.
pub fn find(arguments: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in arguments {
        if !path.is_dir() {
            // Whoever names all that a checkpoint has left means its images.
            let name = path.file_name().and_then(|name| name.to_str());
            if name.is_none_or(|name| zap_image::kept::KeptName::parse(name).is_none()) {
                found.push(path.clone());
            }
            continue;
        }
        let failed = |error: io::Error| Error::new(path.display(), reason(&error));
        let mut inside = Vec::new();
        for entry in fs::read_dir(path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| zap_image::name::ImageName::parse(name).is_some()) {
                inside.push(entry.path());
            }
        }
        if inside.is_empty() {
            return Err(Error::new(path.display(), "holds no images (ckpt_*.zimg)"));
        }
        inside.sort();
        found.append(&mut inside);
    }
    Ok(found)
}

/// Magic numbers of statfs(2): NFS, SMB, CIFS, SMB2, FUSE, 9p, Ceph, AFS.
fn is_remote_type(kind: u32) -> bool {
    const REMOTE: [u32; 8] =
        [0x6969, 0x517b, 0xff53_4d42, 0xfe53_4d42, 0x6573_5546, 0x0102_1997, 0x00c3_6400, 0x5346_414f];
    REMOTE.contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_by_table() {
        let (nfs, fuse, ext4, tmpfs, btrfs) = (0x6969, 0x6573_5546, 0xef53, 0x0102_1994, 0x9123_683e);
        for (kind, expected) in [(nfs, true), (fuse, true), (ext4, false), (tmpfs, false), (btrfs, false)] {
            assert_eq!(is_remote_type(kind), expected, "{kind:x}");
        }
    }
}
