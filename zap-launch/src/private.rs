//! Directories of the pod's own: what `--private` says, and the directories below the runtime directory that stand for them.

use crate::launch::Failure;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use zap_client::error::reason;
use zap_client::RuntimeDir;
use zap_wire::private::{By, Directory, Private};

/// Reads each `DIR[=copy]`.
pub fn read(words: &[OsString]) -> Result<Private, Failure> {
    let mut directories: Vec<Directory> = Vec::new();
    for word in words {
        let directory = one(word).map_err(|why| refused(word, &why))?;
        let path = Path::new(OsStr::from_bytes(&directory.path));
        for other in &directories {
            let known = Path::new(OsStr::from_bytes(&other.path));
            if path == known {
                return Err(refused(word, "is given twice"));
            }
            if path.starts_with(known) || known.starts_with(path) {
                return Err(refused(
                    word,
                    &format!("{} is private too: one must not lie in the other", known.display()),
                ));
            }
        }
        directories.push(directory);
    }
    Ok(Private { by: By::Names, directories })
}

fn refused(word: &OsStr, why: &str) -> Failure {
    Failure::new(crate::launch::FAILED, format_args!("--private {}: {why}", word.display()))
}

fn one(word: &OsStr) -> Result<Directory, String> {
    let bytes = word.as_bytes();
    let (path, copied) = match bytes.strip_suffix(b"=copy") {
        Some(path) => (path, true),
        None => (bytes, false),
    };
    let path = Path::new(OsStr::from_bytes(path));
    if !path.is_absolute() {
        return Err("is not an absolute path".into());
    }
    let path = fs::canonicalize(path).map_err(|error| reason(&error))?;
    if !path.is_dir() {
        return Err("is not a directory".into());
    }
    if path == Path::new("/") {
        return Err("the root directory is none that a pod can have for itself beside others".into());
    }
    Ok(Directory { path: path.into_os_string().into_vec(), copied })
}

/// Makes what stands for each directory in the store of the pod, if it is not there: the pod is new then.
pub fn make(runtime: &RuntimeDir, pod_id: u64, private: &Private) -> Result<(), Failure> {
    if private.directories.is_empty() {
        return Ok(());
    }
    let own = |error: zap_client::Error| Failure::new(crate::launch::FAILED, error);
    let store = runtime.store_path(pod_id);
    runtime.make_private(&runtime.stores_dir()).and_then(|()| runtime.make_private(&store)).map_err(own)?;
    for (number, directory) in private.directories.iter().enumerate() {
        let host = Path::new(OsStr::from_bytes(&directory.path));
        let place = store.join(number.to_string());
        let made = match DirBuilder::new().mode(0o700).create(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            made => made,
        };
        let made = made.and_then(|()| fs::metadata(host));
        made.and_then(|host| fs::set_permissions(&place, Permissions::from_mode(host.permissions().mode() & 0o7777)))
            .map_err(|error| refused(host.as_os_str(), &reason(&error)))?;
    }
    Ok(())
}
