//! What zap-restart supplies anew to a restored process: the counterpart of what its image has saved.
//!
//! The restorer copies these bytes to the image's mailbox; the engine reads them as its first act after a restart.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Largest encoding of [`RestartParts`] in bytes: the size of the mailbox.
pub const MAILBOX_SIZE: usize = 16 * 1024;

/// Parts of a restored process that belong to this host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestartParts {
    pub pod_id: u64,
    /// Path of the pod's table here.
    pub table: String,
    /// Descriptors, in the restored process, of its new standard streams; -1 where there is none.
    pub streams: [i32; 3],
    /// Descriptor of the report channel ([`Report`], [`Order`]); closing it before [`Order::Go`] means death.
    pub report: i32,
    /// Every other descriptor that the engine must close.
    pub spare: Vec<i32>,
    /// First address and length of the restorer's own memory, to be unmapped.
    pub restorer: (u64, u64),
    /// First address and length of the kernel's vDSO and its data in this process.
    pub vdso: (u64, u64),
    /// CLOCK_REALTIME in nanoseconds, when the restart began: here the clocks of all processes go on.
    pub started_ns: u64,
    /// Ranges of memory that are backed by the image, in ascending order: (start, length).
    pub image_backed: Vec<(u64, u64)>,
    /// Directories that are elsewhere now, the first that fits counts.
    pub moved: Vec<Moved>,
}

/// A directory that is elsewhere now: absolute paths, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    #[serde(with = "serde_bytes")]
    pub from: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pub to: Vec<u8>,
}

/// Where `path` is now, by the first of `moved` that it lies in.
pub fn path_now(moved: &[Moved], path: &[u8]) -> Option<Vec<u8>> {
    moved.iter().find_map(|Moved { from, to }| {
        let rest = path.strip_prefix(from.as_slice()).filter(|rest| rest.is_empty() || rest[0] == b'/')?;
        let path = [to, rest].concat();
        // The root directory is the one without a name.
        Some(if path.is_empty() { b"/".to_vec() } else { path })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_have_moved() {
        let moved = |from: &str, to: &str| Moved { from: from.into(), to: to.into() };
        let moved = [moved("/data/old", "/new"), moved("/data", "/d"), moved("/gone", "")];
        for (path, now) in [
            ("/data/old/a", Some("/new/a")),
            ("/data/old", Some("/new")),
            ("/data/older", Some("/d/older")),
            ("/gone", Some("/")),
            ("/gone/a", Some("/a")),
            ("/other", None),
            ("data/old", None),
        ] {
            assert_eq!(path_now(&moved, path.as_bytes()), now.map(|now| now.as_bytes().to_vec()), "{path}");
        }
    }
}

/// What a process says on the report channel, once its engine runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Report {
    /// It is whole again, and waits for [`Order::Go`].
    Ready,
    /// It cannot go on: which object, and why. Nothing of the program has run.
    Refused { object: String, reason: String },
    /// For others that need it: the descriptor that comes along.
    Publish { key: u64, part: u32 },
    /// Asks for what another process publishes; answered by [`Order::Given`].
    Subscribe { key: u64, part: u32 },
    /// Asks for the file that stands for this object of shared memory (`zap_image::SharedObject`); answered likewise.
    Memory { device: u64, inode: u64 },
    /// The file whose descriptor comes along gets this mode, and then these seals (F_ADD_SEALS, fcntl(2)), when all processes
    /// are whole: until then it must let everybody in who makes it a part of itself.
    CloseOff { mode: u32, seals: u32 },
    /// The file whose descriptor comes along gets what a kept file (`zap_image::kept`) holds from this offset on; answered
    /// by [`Order::Filled`].
    Fill { device: u64, inode: u64, from: u64 },
    /// Asks for the regular file at `path`, opened with these flags of open(2), from which its own mode keeps its owner out;
    /// answered by [`Order::Given`]. One process does it for all, so that none finds the mode that another has set for it.
    Open {
        #[serde(with = "serde_bytes")]
        path: Vec<u8>,
        flags: i32,
    },
}

/// What zap-restart says to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The descriptor that was asked for comes along.
    Given,
    /// The file holds what it is to hold.
    Filled,
    /// Every process of the pod is ready: the program runs.
    Go,
}
