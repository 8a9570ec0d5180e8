//! A compressed image → its extents as they were in memory, in a file that nobody else sees and that lives as long as
//! something of it is mapped.
//!
//! The file has no name (O_TMPFILE) and lies beside the image: there its pages can leave memory again, as those of a raw
//! image can, so that a restart takes no more memory than the program touches. Where no such file can be made it is in
//! memory (memfd). A full disk is refused, before anything starts: to take memory instead could be worse.
//!
//! # Safety
//! The descriptor of the memfd is new, and nobody else's.
#![allow(unsafe_code)]

use crate::chunks;
use crate::image::Image;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use zap_client::error::{reason, Error, Result};
use zap_image::layout::is_zero;
use zap_sys::signal;

/// Unpacks and checks all of a compressed image, and goes on with that.
pub fn unpack(image: &mut Image) -> Result<()> {
    // A limit on the size of files is an error, not the end. When there is one, the signal stays pending and blocked
    // until this process has said so and ends.
    let mask = signal::change_mask(libc::SIG_BLOCK, signal::bit(libc::SIGXFSZ));
    let beside = if image.is_remote() { None } else { beside(&image.path)? };
    let in_memory = beside.is_none();
    let (place, file) = match beside {
        Some((directory, file)) => (format!("{directory}: to unpack the image there"), file),
        None => ("memory: to unpack the image there".to_string(), memory_file(&image.path)?),
    };
    let length = image.prelude.extents_length;
    let failed = |error: &io::Error| {
        Error::new(&place, format_args!("{}; {} MiB are needed", reason(error), length.div_ceil(1 << 20)))
    };
    file.set_len(length).map_err(|error| failed(&error))?;
    chunks::each(image, |offset, bytes| {
        // Which a file has without being written to.
        if is_zero(bytes) {
            return Ok(());
        }
        file.write_all_at(bytes, offset).map_err(|error| failed(&error))
    })?;
    image.use_unpacked(file, in_memory);
    if let Ok(mask) = mask {
        let _ = signal::change_mask(libc::SIG_SETMASK, mask);
    }
    Ok(())
}

/// A file without a name in the image's directory; `None` where there can be none.
fn beside(image: &Path) -> Result<Option<(String, File)>> {
    let path = image.canonicalize().map_err(|error| Error::new(image.display(), reason(&error)))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    let options = &mut OpenOptions::new();
    let options = options.read(true).write(true).mode(0o600).custom_flags(libc::O_TMPFILE);
    match options.open(directory) {
        Ok(file) => Ok(Some((directory.display().to_string(), file))),
        // EISDIR is what file systems say that have never heard of it (open(2)).
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::EACCES | libc::EPERM | libc::EROFS | libc::EOPNOTSUPP | libc::EISDIR | libc::ENOENT)
            ) =>
        {
            Ok(None)
        }
        Err(error) => {
            Err(Error::new(directory.display(), format_args!("to unpack the image there: {}", reason(&error))))
        }
    }
}

/// A file in memory.
fn memory_file(image: &Path) -> Result<File> {
    let failed = |error: zap_sys::SysError| Error::new(image.display(), error);
    let number = zap_sys::fd::memfd_create(c"zap-image", libc::MFD_CLOEXEC).map_err(failed)?;
    // SAFETY: a new descriptor that nobody else knows.
    Ok(unsafe { File::from_raw_fd(number) })
}
