//! What the tools share: the runtime directory, the coordinator's socket and how a coordinator is found or started, pod
//! tables as mapped files, which images are known to be untouched, what kind of program a file is, and the form of what is
//! said of a command line.
//!
//! The tools' side only: nothing here runs inside a user's program, and nothing knows what a checkpoint is.

pub mod connection;
pub mod error;
pub mod executable;
pub mod install;
pub mod namespaces;
pub mod present;
pub mod runtime;
mod start;
pub mod store;
pub mod table;
pub mod trusted;
pub mod usage;

pub use connection::Connection;
pub use error::{Error, Result};
pub use runtime::RuntimeDir;
pub use table::MappedTable;

/// What `--version` of every tool says: the version, and the commit in a build from a git checkout (`build.rs`).
pub const VERSION: &str = env!("ZAP_VERSION");

#[cfg(test)]
mod test {
    use std::ops::Deref;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A directory of one test, removed with the value.
    pub struct Scratch(PathBuf);

    impl Deref for Scratch {
        type Target = Path;
        fn deref(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    pub fn scratch() -> Scratch {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("zap-client-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}
