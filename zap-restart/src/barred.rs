//! Files from which their own mode keeps their owner out: a program has made them so, and has them open.
//!
//! # Safety
//! A new descriptor that nobody else knows.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use zap_sys::fd;
use zap_sys::path::CPath;

/// Opens the file at `path` with `flags` of open(2). Where its mode alone is in the way, and it is a regular file of this user's,
/// it has another one for a moment.
pub fn open(path: &Path, flags: i32) -> Result<File> {
    let denied = match open_plain(path, flags) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => error,
        opened => return opened,
    };
    let handle = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(path)?;
    let metadata = handle.metadata()?;
    if !metadata.is_file() || metadata.uid() != zap_client::runtime::effective_user() {
        return Err(denied);
    }
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mode = metadata.mode() & 0o7777;
    fs::set_permissions(&link, Permissions::from_mode(mode | 0o600))?;
    let opened = open_plain(Path::new(&link), flags);
    fs::set_permissions(&link, Permissions::from_mode(mode))?;
    opened
}

fn open_plain(path: &Path, flags: i32) -> Result<File> {
    let path = CPath::new(OsStr::as_bytes(path.as_os_str())).ok_or(Error::from_raw_os_error(libc::ENAMETOOLONG))?;
    let opened = fd::open(path.as_c_str(), flags | libc::O_CLOEXEC, 0);
    // SAFETY: just opened.
    opened.map(|number| unsafe { File::from_raw_fd(number) }).map_err(|error| Error::from_raw_os_error(error.errno.0))
}
