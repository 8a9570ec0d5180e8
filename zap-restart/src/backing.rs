//! The files of this host that an image relies on: they must be there, and be what they were.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zap_client::error::{reason, Error, Result};
use zap_image::layout::{FileHasher, UNKNOWN_CHECKSUM};
use zap_image::need::{needs, Need};
use zap_image::{BackingFile, Header};
use zap_sys::fd;
use zap_sys::time::stamp_ns;

/// Bytes of a file in which its build id is looked for.
const HEAD: usize = 64 << 10;

/// Checks every file that a region maps; says of each whether it is to be opened for writing too.
/// Nothing in the directories `restored` is compared: all in there has just been made as it was.
pub fn check(header: &Header, restored: &[PathBuf]) -> Result<Vec<bool>> {
    let is_restored = |file: &BackingFile| {
        let path = Path::new(OsStr::from_bytes(&file.path.0));
        restored.iter().any(|directory| path.starts_with(directory))
    };
    let check = |(need, file): (&Need, &BackingFile)| {
        check_file(&Need { contents: need.contents && !is_restored(file), ..*need }, file)
    };
    needs(header).iter().zip(&header.files).map(check).collect()
}

/// Which files of the header are not there (any more). Whatever else is wrong with one, [`check`] tells.
pub fn missing(header: &Header) -> Vec<bool> {
    let is_missing = |file: &BackingFile| {
        let metadata = std::fs::metadata(OsStr::from_bytes(&file.path.0));
        metadata.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    header.files.iter().map(is_missing).collect()
}

fn check_file(need: &Need, recorded: &BackingFile) -> Result<bool> {
    if *need == Need::default() {
        return Ok(false);
    }
    let path = Path::new(OsStr::from_bytes(&recorded.path.0));
    let refuse = |why: String| Err(Error::new(path.display(), why));
    let open = |write: bool| OpenOptions::new().read(true).write(write).custom_flags(libc::O_NONBLOCK).open(path);
    // A mapping that is only read now may be made writable later: write if we may.
    let (file, writable) = match if need.shared { open(true) } else { open(false) } {
        Ok(file) => (file, need.shared),
        Err(error) if need.shared && !need.shared_writable => match open(false) {
            Ok(file) => (file, false),
            Err(_) => return refuse(format!("the program maps this file: {}", reason(&error))),
        },
        Err(error) => return refuse(format!("the program maps this file: {}", reason(&error))),
    };
    let metadata = file.metadata().map_err(|error| Error::new(path.display(), reason(&error)))?;
    if need.contents {
        compare(recorded, &file, &metadata).map_err(|why| Error::new(path.display(), why))?;
    }
    // What lay behind the file's end at the checkpoint may do so again: a SIGBUS for who touches it.
    let length = need.length.min(recorded.size);
    if metadata.is_file() && metadata.len() < length {
        return refuse(format!("is too short now: {} bytes, the program maps {length}", metadata.len()));
    }
    Ok(writable)
}

fn compare(recorded: &BackingFile, file: &File, metadata: &std::fs::Metadata) -> std::result::Result<(), String> {
    if !recorded.build_id.0.is_empty() {
        let mut head = vec![0u8; HEAD.min(metadata.len() as usize)];
        file.read_exact_at(&mut head, 0).map_err(|error| reason(&error))?;
        return match zap_image::build_id::find(&head) {
            Some(found) if found == recorded.build_id.0 => Ok(()),
            found => Err(format!(
                "has changed since the checkpoint: build id {}, then {}",
                found.map_or("none".into(), |id| hexadecimal(&id)),
                hexadecimal(&recorded.build_id.0)
            )),
        };
    }
    let same_file = metadata.ino() == recorded.inode;
    // The process could not look at it, having become another user.
    if recorded.modified_ns == 0 && recorded.changed_ns == 0 && recorded.size == 0 {
        return if same_file {
            Ok(())
        } else {
            Err("is another file than at the checkpoint, of which no more is known".into())
        };
    }
    if metadata.len() != recorded.size {
        return Err(format!("has changed since the checkpoint: {} bytes, then {}", metadata.len(), recorded.size));
    }
    let same_time = stamp_ns(metadata.mtime(), metadata.mtime_nsec()) == recorded.modified_ns;
    if recorded.checksum.0 == UNKNOWN_CHECKSUM {
        return match (same_file, same_time) {
            (true, true) => Ok(()),
            (_, false) => Err("has changed since the checkpoint: it was written later".into()),
            (false, true) => Err("may have changed since the checkpoint: it is another file".into()),
        };
    }
    // A modification time can be set, as whoever copies files does; the change time cannot.
    if same_file && same_time && stamp_ns(metadata.ctime(), metadata.ctime_nsec()) == recorded.changed_ns {
        return Ok(());
    }
    if checksum(file)? == recorded.checksum.0[..] {
        Ok(())
    } else {
        Err("has changed since the checkpoint: it has other contents".into())
    }
}

fn checksum(file: &File) -> std::result::Result<[u8; 8], String> {
    let sum = FileHasher::sum(|buffer| fd::read_full(file.as_raw_fd(), buffer));
    sum.map(|(checksum, _)| checksum).map_err(|error| error.to_string())
}

/// Bytes as hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zap_image::header::bytes::Bytes;

    fn record(path: &Path) -> BackingFile {
        let metadata = std::fs::metadata(path).unwrap();
        BackingFile {
            path: Bytes(path.as_os_str().as_bytes().to_vec()),
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_ns: stamp_ns(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: stamp_ns(metadata.ctime(), metadata.ctime_nsec()),
            build_id: Bytes(Vec::new()),
            checksum: Bytes(UNKNOWN_CHECKSUM.to_vec()),
        }
    }

    #[test]
    fn changes_are_named() {
        let path = std::env::temp_dir().join(format!("zap-restart-backing-{}", std::process::id()));
        std::fs::write(&path, vec![1u8; 5000]).unwrap();
        let recorded = record(&path);
        let contents = Need { contents: true, length: 4096, ..Need::default() };
        let shared = Need { shared: true, shared_writable: true, length: 4096, ..Need::default() };
        assert_eq!(check_file(&contents, &recorded), Ok(false));
        assert_eq!(check_file(&shared, &recorded), Ok(true));
        assert_eq!(
            check_file(&Need::default(), &BackingFile { path: Bytes(b"/none".to_vec()), ..record(&path) }),
            Ok(false)
        );
        let later = BackingFile { modified_ns: 1, ..recorded.clone() };
        assert!(check_file(&contents, &later).unwrap_err().why.contains("written later"));
        assert_eq!(check_file(&shared, &later), Ok(true));
        let elsewhere = BackingFile { inode: 1, ..recorded.clone() };
        assert!(check_file(&contents, &elsewhere).unwrap_err().why.contains("another file"));
        let known = Bytes(checksum(&File::open(&path).unwrap()).unwrap().to_vec());
        let touched = BackingFile { changed_ns: 1, ..recorded.clone() };
        assert_eq!(check_file(&contents, &touched), Ok(false));
        for copied in [&later, &elsewhere, &touched] {
            let noted = BackingFile { checksum: known.clone(), ..copied.clone() };
            assert_eq!(check_file(&contents, &noted), Ok(false));
            let written = BackingFile { checksum: Bytes(vec![9; 8]), ..copied.clone() };
            assert!(check_file(&contents, &written).unwrap_err().why.contains("other contents"));
        }
        let other = BackingFile { build_id: Bytes(vec![1, 2]), ..recorded.clone() };
        assert!(check_file(&contents, &other).unwrap_err().why.contains("build id none, then 0102"));
        std::fs::write(&path, b"short").unwrap();
        assert!(check_file(&contents, &recorded).unwrap_err().why.contains("5 bytes, then 5000"));
        std::fs::write(&path, b"").unwrap();
        assert!(check_file(&shared, &recorded).unwrap_err().why.contains("too short"));
        let header = Header { files: vec![recorded.clone()], ..crate::sample::header(vec![]) };
        assert_eq!(missing(&header), [false]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(missing(&header), [true]);
        assert!(check_file(&contents, &recorded).unwrap_err().why.contains("no such file"));
    }
}
