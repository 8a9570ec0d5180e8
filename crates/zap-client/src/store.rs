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

/// A store that is being filled. As long as the value lives, no coordinator takes it for one that has been left behind.
#[derive(Debug)]
pub struct Store {
    pub number: u64,
    pub path: PathBuf,
    _held: File,
}

impl Store {
    /// A new one, empty.
    pub fn create(runtime: &RuntimeDir) -> Result<Self> {
        runtime.make_private(&runtime.stores_dir())?;
        loop {
            let number = random()?;
            let path = runtime.store_path(number);
            runtime.make_private(&path)?;
            let held = File::open(&path);
            // A coordinator that has just started may have taken it for one that was left, before it was held.
            // SAFETY: a descriptor of our own.
            let is_held = held.as_ref().is_ok_and(|held| unsafe { libc::flock(held.as_raw_fd(), libc::LOCK_SH) == 0 });
            match held {
                Ok(held) if is_held && path.exists() => return Ok(Self { number, path, _held: held }),
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::system(path.display(), "open", &error));
                }
                _ => {}
            }
        }
    }
}

/// Whether somebody is filling the store at `path`.
pub fn is_held(path: &Path) -> bool {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) => return error.kind() != ErrorKind::NotFound,
    };
    // SAFETY: a descriptor of our own, with which the lock goes.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) != 0 }
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
    fn a_store_is_held_until_it_is_let_go() {
        let scratch = scratch();
        let runtime = RuntimeDir::at(&scratch.join("run")).unwrap();
        let store = Store::create(&runtime).unwrap();
        let path = runtime.store_path(store.number);
        assert!(path == store.path && path.is_dir() && is_held(&path));
        drop(store);
        assert!(path.is_dir() && !is_held(&path));
    }
}
