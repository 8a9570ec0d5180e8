//! Checksums of the files that a process maps and relies on, when they have no build id: by them a restart recognises a
//! file that has been copied or touched since.
//!
//! Taken behind the program's back, which may use much of a file or little, and once for each state of a file. What
//! cannot be read, or is not any more what the process has mapped, has none: nothing is guessed, and nothing fails.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Mutex;
use zap_image::header::bytes::Bytes;
use zap_image::layout::{FileHasher, UNKNOWN_CHECKSUM};
use zap_image::need::needs;
use zap_image::{BackingFile, Header};
use zap_sys::fd;
use zap_sys::time::stamp_ns;

/// Longest file that is read: one that is longer must keep its inode and time.
const LONGEST: u64 = 1 << 30;

/// Most files that are remembered.
const MOST: usize = 10_000;

/// A state of a file: device, inode, size, times of modification and change.
type State = (u64, u64, u64, i64, i64);

/// The checksums that are known.
#[derive(Debug, Default)]
pub struct Contents {
    known: Mutex<BTreeMap<State, [u8; 8]>>,
}

impl Contents {
    /// Enters the checksums into a header; says whether there are any.
    pub fn enter(&self, header: &mut Header) -> bool {
        let needs = needs(header);
        let wanted = header.files.iter_mut().zip(&needs).filter(|(file, need)| {
            need.contents && file.build_id.0.is_empty() && file.checksum.0 == UNKNOWN_CHECKSUM && file.size <= LONGEST
        });
        let mut any = false;
        for (file, _) in wanted {
            if let Ok(Some(checksum)) = self.of(file) {
                file.checksum = Bytes(checksum.to_vec());
                any = true;
            }
        }
        any
    }

    /// The checksum of a file that is still as recorded.
    fn of(&self, recorded: &BackingFile) -> io::Result<Option<[u8; 8]>> {
        let path = OsStr::from_bytes(&recorded.path.0);
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let before = file.metadata()?;
        let same = before.dev() == recorded.device
            && before.len() == recorded.size
            && stamp_ns(before.mtime(), before.mtime_nsec()) == recorded.modified_ns
            && stamp_ns(before.ctime(), before.ctime_nsec()) == recorded.changed_ns;
        if !before.is_file() || !same {
            return Ok(None);
        }
        let state = state(&before);
        let locked = || self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(checksum) = locked().get(&state) {
            return Ok(Some(*checksum));
        }
        let (checksum, length) =
            FileHasher::sum(|buffer| fd::read_full(file.as_raw_fd(), buffer)).map_err(io::Error::other)?;
        if length != recorded.size || self::state(&file.metadata()?) != state {
            return Ok(None);
        }
        let mut known = locked();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(state, checksum);
        Ok(Some(checksum))
    }
}

fn state(metadata: &Metadata) -> State {
    let modified = stamp_ns(metadata.mtime(), metadata.mtime_nsec());
    let changed = stamp_ns(metadata.ctime(), metadata.ctime_nsec());
    (metadata.dev(), metadata.ino(), metadata.len(), modified, changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn only_of_what_is_as_recorded() {
        let path = std::env::temp_dir().join(format!("zap-coordinator-contents-{}", std::process::id()));
        fs::write(&path, b"contents").unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let recorded = BackingFile {
            path: Bytes(path.as_os_str().as_bytes().to_vec()),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_ns: stamp_ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: stamp_ns(metadata.ctime(), metadata.ctime_nsec()),
            build_id: Bytes::default(),
            checksum: Bytes(UNKNOWN_CHECKSUM.to_vec()),
        };
        let contents = Contents::default();
        let first = contents.of(&recorded).unwrap();
        assert!(first.is_some_and(|checksum| checksum != UNKNOWN_CHECKSUM));
        assert_eq!(contents.of(&recorded).unwrap(), first, "remembered");
        assert_eq!(contents.known.lock().unwrap().len(), 1);
        for other in [
            BackingFile { size: 9, ..recorded.clone() },
            BackingFile { modified_ns: 1, ..recorded.clone() },
            BackingFile { changed_ns: 1, ..recorded.clone() },
            BackingFile { device: 0, ..recorded.clone() },
        ] {
            assert_eq!(contents.of(&other).unwrap(), None);
        }
        fs::remove_file(&path).unwrap();
        assert!(contents.of(&recorded).is_err());
    }
}
