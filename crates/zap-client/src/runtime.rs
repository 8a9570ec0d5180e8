//! The runtime directory: the coordinator's socket, the pod tables and the list of untouched images of one user.
//!
//! Whoever can enter it can act on every pod, so one that others could have made, or could enter, is refused.
//!
//! # Safety
//! geteuid(2) has no arguments and cannot fail.
#![allow(unsafe_code)]

use crate::error::{reason, Error, Result};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zap_wire::environment;

/// Names of all that Zap puts into a runtime directory.
const OWN: [&str; 6] = [
    environment::SOCKET_NAME,
    "coordinator.lock",
    "lock",
    environment::PODS_DIRECTORY,
    TRUSTED_DIRECTORY,
    PRIVATE_DIRECTORY,
];

/// Directory of notes about untouched images in the runtime directory.
const TRUSTED_DIRECTORY: &str = "trusted";

/// Directory of what pods have for themselves (`zap-launch --private`) in the runtime directory.
const PRIVATE_DIRECTORY: &str = "private";

/// A runtime directory that has been found safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeDir {
    path: PathBuf,
}

impl RuntimeDir {
    /// The directory that the environment names, or the user's default; made if it is not there.
    pub fn open_or_create() -> Result<Self> {
        Self::at(&wanted()?)
    }

    /// As [`Self::open_or_create`], but `None` if there is none yet.
    pub fn open() -> Result<Option<Self>> {
        let path = wanted()?;
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            _ => Self::at(&path).map(Some),
        }
    }

    /// The directory `path`, which must be absolute; made if it is not there.
    pub fn at(path: &Path) -> Result<Self> {
        let runtime = Self { path: path.to_path_buf() };
        // sun_path holds 108 bytes with the NUL.
        let length = runtime.socket_path().as_os_str().len();
        if length > 107 {
            let why = format!("path too long: the socket in it would take {length} bytes of at most 107");
            return Err(Error::new(path.display(), why));
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => runtime.create()?,
            _ => {}
        }
        runtime.check()?;
        Ok(runtime)
    }

    /// The directory's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The coordinator's socket.
    pub fn socket_path(&self) -> PathBuf {
        self.path.join(environment::SOCKET_NAME)
    }

    /// The directory of the pod tables.
    pub fn pods_dir(&self) -> PathBuf {
        self.path.join(environment::PODS_DIRECTORY)
    }

    /// The table of a pod.
    pub fn table_path(&self, pod_id: u64) -> PathBuf {
        self.pods_dir().join(format!("{pod_id:016x}{}", environment::TABLE_SUFFIX))
    }

    /// The directory of notes about untouched images.
    pub fn trusted_dir(&self) -> PathBuf {
        self.path.join(TRUSTED_DIRECTORY)
    }

    /// The directory of the pods' stores.
    pub fn stores_dir(&self) -> PathBuf {
        self.path.join(PRIVATE_DIRECTORY)
    }

    /// A pod's store: what its own directories hold ([`zap_wire::private`]).
    pub fn store_path(&self, number: u64) -> PathBuf {
        self.stores_dir().join(format!("{number:016x}"))
    }

    /// Makes the directory `path` in here, private, if it is not there.
    pub fn make_private(&self, path: &Path) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(Error::system(path.display(), "mkdir", &error))
            }
            _ => Ok(()),
        }
    }

    fn create(&self) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.path) {
            // The umask may have taken bits that the owner needs.
            Ok(()) => fs::set_permissions(&self.path, Permissions::from_mode(0o700))
                .map_err(|error| Error::system(self.path.display(), "chmod", &error)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Error::new(self.path.display(), format!("cannot make it: {}", reason(&error)))),
        }
    }

    fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::new(self.path.display(), why));
        let metadata = match fs::symlink_metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => return refuse(reason(&error)),
        };
        if metadata.file_type().is_symlink() {
            return refuse("is a symbolic link, not used as runtime directory".into());
        }
        if !metadata.is_dir() {
            return refuse("is not a directory".into());
        }
        if metadata.uid() != effective_user() {
            return refuse(format!(
                "belongs to user {}, not used as runtime directory; set {} to one of your own",
                metadata.uid(),
                environment::RUNTIME_DIR
            ));
        }
        if metadata.mode() & 0o077 != 0 {
            let next = if self.holds_nothing_else() {
                "chmod 700 it".to_string()
            } else {
                format!("it holds other things too, so set {} to a directory for Zap alone", environment::RUNTIME_DIR)
            };
            return refuse(format!("too open: mode {:o} lets others in; {next}", metadata.mode() & 0o7777));
        }
        Ok(())
    }
}

impl RuntimeDir {
    /// Whether all that is in it is Zap's, or nothing is. Any other directory may have to be open: /tmp, a home.
    fn holds_nothing_else(&self) -> bool {
        let Ok(mut entries) = fs::read_dir(&self.path) else { return false };
        entries.all(|entry| entry.is_ok_and(|entry| OWN.iter().any(|own| entry.file_name() == *own)))
    }
}

/// The calling process's effective user id.
pub fn effective_user() -> u32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::geteuid() }
}

/// The path that is asked for, made absolute.
fn wanted() -> Result<PathBuf> {
    match std::env::var_os(environment::RUNTIME_DIR).filter(|value| !value.is_empty()) {
        None => Ok(PathBuf::from(format!("/tmp/zap-{}", effective_user()))),
        Some(value) => {
            // A trailing slash would make lstat follow a symbolic link.
            let bytes = value.as_bytes();
            let end = bytes.iter().rposition(|c| *c != b'/').map_or(1, |at| at + 1);
            let path = Path::new(OsStr::from_bytes(&bytes[..end]));
            std::path::absolute(path).map_err(|error| Error::system(path.display(), "getcwd", &error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch;

    #[test]
    fn made_private_and_found_again() {
        let scratch = scratch();
        let path = scratch.join("run");
        let runtime = RuntimeDir::at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert_eq!(RuntimeDir::at(&path).unwrap(), runtime);
        assert_eq!(runtime.table_path(0xab), path.join("pods/00000000000000ab.table"));
        assert_eq!(
            zap_wire::environment::socket_of_table(runtime.table_path(1).as_os_str().as_bytes()).unwrap(),
            runtime.socket_path().as_os_str().as_bytes()
        );
    }

    #[test]
    fn unsafe_directories_are_refused_by_name() {
        let scratch = scratch();
        let real = scratch.join("real");
        RuntimeDir::at(&real).unwrap();
        let link = scratch.join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(RuntimeDir::at(&link).unwrap_err().why.contains("symbolic link"));
        fs::set_permissions(&real, Permissions::from_mode(0o750)).unwrap();
        assert!(RuntimeDir::at(&real).unwrap_err().why.contains("too open: mode 750 lets others in; chmod 700 it"));
        fs::create_dir(real.join("pods")).unwrap();
        assert!(RuntimeDir::at(&real).unwrap_err().why.contains("chmod 700 it"));
        fs::write(real.join("letters"), "").unwrap();
        let why = RuntimeDir::at(&real).unwrap_err().why;
        assert!(why.contains("set ZAP_RUNTIME_DIR to a directory for Zap alone") && !why.contains("chmod"), "{why}");
        let file = scratch.join("file");
        fs::write(&file, "").unwrap();
        assert!(RuntimeDir::at(&file).unwrap_err().why.contains("not a directory"));
        let long = scratch.join("x".repeat(120));
        assert!(RuntimeDir::at(&long).unwrap_err().why.contains("too long"));
        assert!(!long.exists());
    }
}
