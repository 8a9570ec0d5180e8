//! A pod's store: what its own directories hold (`zap_wire::private`), below the runtime directory.
//!
//! # Safety
//! flock(2) on a descriptor of this value's own; getrandom(2) fills a buffer that lives.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use crate::runtime::RuntimeDir;
use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// What a store's name ends in when it is being removed.
const GONE: &str = "gone";

/// A store that is being filled.
#[derive(Debug)]
pub struct Store {
    pub number: u64,
    pub path: PathBuf,
    _held: Held,
}

impl Store {
    /// A new one, empty.
    pub fn create(runtime: &RuntimeDir) -> Result<Self> {
        runtime.make_private(&runtime.stores_dir())?;
        loop {
            let number = random()?;
            let path = runtime.store_path(number);
            runtime.make_private(&path)?;
            // A coordinator may have taken it for one that was left behind, before it was held.
            let held = Held::take(&path).map_err(|error| Error::system(path.display(), "open", &error))?;
            if let Some(held) = held {
                return Ok(Self { number, path, _held: held });
            }
        }
    }
}

/// Somebody's hold on a store. As long as it lasts, nobody takes the store for one that has been left behind.
#[derive(Debug)]
pub struct Held {
    _file: File,
}

impl Held {
    /// A hold on the store at `path`, beside those of others; `None` if there is no such store. A file system without
    /// flock(2) is as good: no store on it is ever taken for one left behind.
    pub fn take(path: &Path) -> std::io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // SAFETY: a descriptor of our own.
        while unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_SH) } != 0 {
            match std::io::Error::last_os_error() {
                error if error.kind() == ErrorKind::Interrupted => {}
                error if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOLCK | libc::ENOSYS)) => break,
                error => return Err(error),
            }
        }
        Ok(path.exists().then_some(Self { _file: file }))
    }
}

/// Renames a store, so that nobody finds it at `path` any more, and returns where it is to be removed.
pub fn put_away(path: &Path) -> std::io::Result<PathBuf> {
    let gone = path.with_extension(GONE);
    std::fs::rename(path, &gone).map(|()| gone)
}

/// Does the same, unless somebody holds it.
pub fn put_away_unheld(path: &Path) -> Option<PathBuf> {
    if path.extension().is_some_and(|extension| extension == GONE) {
        return Some(path.into());
    }
    let file = File::open(path).ok()?;
    // Until it is renamed: whoever takes hold of it then, sees that it is gone.
    // SAFETY: a descriptor of our own, with which the lock goes.
    let is_free = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 };
    is_free.then(|| put_away(path).ok()).flatten()
}

fn random() -> Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the buffer lives until the call returns.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
        8 => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Error::last("store", "getrandom")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch;

    #[test]
    fn a_store_is_put_away_when_everybody_has_let_it_go() {
        let scratch = scratch();
        let runtime = RuntimeDir::at(&scratch.join("run")).unwrap();
        let store = Store::create(&runtime).unwrap();
        let path = runtime.store_path(store.number);
        assert!(path == store.path && path.is_dir() && put_away_unheld(&path).is_none());
        let held = Held::take(&path).unwrap();
        drop(store);
        assert!(held.is_some() && put_away_unheld(&path).is_none() && path.is_dir());
        drop(held);
        let gone = put_away_unheld(&path).unwrap();
        assert!(gone.is_dir() && !path.exists() && put_away_unheld(&gone) == Some(gone));
        assert!(Held::take(&path).unwrap().is_none() && put_away_unheld(&path).is_none());
    }
}
