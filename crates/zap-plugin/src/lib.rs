//! The SDK: all that a plugin knows of Zap.
//!
//! A plugin virtualizes one subsystem. It claims the descriptors that are its own, finds their state from the kernel
//! when a checkpoint is taken, saves it as named sections of the image, and makes the descriptors again at a restart.
//! The engine calls plugins in the order of their registration before the checkpoint and in the reverse order after.
//!
//! Every method runs on one thread while all others are suspended, on a stack of Zap's own. It may allocate (from
//! Zap's memory) and make system calls through [`sys`]; it must not call libc, block, or panic: a lock that it would
//! wait for may be held by a thread that stands still.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

pub mod context;
pub mod descriptor;

pub use context::{Known, RestoreContext, SaveContext, Saved, SavedSection, WatchedPath};
pub use descriptor::{Description, DescriptorNumber, Keep, Share};
pub use zap_sys as sys;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// How a checkpoint ends for a program: in the one that goes on, or in the one that has been brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The same process goes on.
    Resume,
    /// Another process has the same memory: host-dependent names have changed.
    Restart,
}

/// Why a checkpoint or restart cannot be done, by object. Not an error of the plugin: an outcome for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The object that is in the way: `descriptor 5 (anon_inode:[io_uring])`.
    pub object: String,
    /// Why, and where there is one what to do.
    pub reason: String,
}

impl Refusal {
    /// A refusal of `object` for `reason`.
    pub fn new(object: impl fmt::Display, reason: impl fmt::Display) -> Self {
        Self { object: object.to_string(), reason: reason.to_string() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.reason)
    }
}

/// What a plugin does, phase by phase. Everything but the name and the claim has a default.
pub trait Plugin: Sync {
    /// Short name: `fs`, `pid`, `socket`.
    fn name(&self) -> &'static str;

    /// Whether this plugin will save and restore `description`. Asked of every plugin for every open file description
    /// at each checkpoint; exactly one must say yes, or the checkpoint refuses it by name.
    fn claims(&self, description: &Description) -> bool;

    /// What is made again as one thing with other descriptions, in this process or another of the pod: device and inode,
    /// or whatever else is the same for all of them and for nothing else, not both zero. The ends of a pipe are. Asked
    /// for what the plugin claims, in phase Drain.
    fn object(&self, _description: &Description) -> Option<(u64, u64)> {
        None
    }

    /// What whoever makes the object of `description` again must know of it, in the plugin's own language; nothing where
    /// the object alone says enough. All processes that have the object find it in [`SaveContext::notes`]. Asked for what
    /// the plugin claims, in phase Drain.
    fn note(&self, _description: &Description) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(None)
    }

    /// Whether descriptors are in flight to `description` (SCM_RIGHTS). Asked for what the plugin claims, in phase Drain.
    fn carries(&self, _description: &Description) -> Result<bool, Refusal> {
        Ok(false)
    }

    /// Copies of these descriptors, for each message that carries any (phase Drain). They are the engine's, which saves what
    /// they are as it saves the program's own, and closes them; the plugin finds their ids in [`Description::carried`],
    /// and at a restart, in [`Plugin::refill`], what has been made of them by [`RestoreContext::held`].
    fn copy_carried(&self, _description: &Description) -> Result<Vec<Vec<sys::RawFd>>, Refusal> {
        Ok(Vec::new())
    }

    /// Whether the regular file of `description` is kept whole beside the images: what is too large for a section, or may
    /// change later. Asked for what the plugin claims, in phase Drain; [`Description::kept`] tells in phase Save whether it
    /// is, and [`RestoreContext::fill`] copies it back. What has a name ([`SaveContext::file`]) a restart puts back by itself.
    fn keeps(&self, _description: &Description) -> Keep {
        Keep::No
    }

    /// Saves the state of the claimed descriptions into sections (phase Save). Must leave the program's objects as
    /// they are: after a refusal the program simply goes on.
    fn save(&self, context: &mut SaveContext<'_>) -> Result<(), Refusal>;

    /// Makes the claimed descriptions again, in a process that has none of them (restart only), and hands each to
    /// [`RestoreContext::install`]. A description that several processes have is claimed and made in one of them only.
    /// What is an object of several processes is published before anything is subscribed to: every process goes through
    /// the plugins in the same order, so that none waits for one that waits for it.
    fn restore(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal>;

    /// Runs when every description of every plugin is back at its numbers (restart only): what refers to other
    /// descriptors (epoll) is filled here.
    fn refill(&self, _context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// The last call before the program runs again; must not fail.
    fn resume(&self, _mode: Mode) {}
}

/// Reads a whole file of /proc. Nothing is mapped or unmapped while the file is read: the kernel walks the mappings
/// page by page of text, and one that moves or merges meanwhile can be missed.
pub fn read_all(path: &core::ffi::CStr) -> Result<Vec<u8>, Refusal> {
    let refusal = |error| Refusal::new(String::from_utf8_lossy(path.to_bytes()).into_owned(), error);
    let mut room = 128 * 1024;
    loop {
        let mut text = alloc::vec![0u8; room];
        let length = zap_sys::fd::read_file(path, &mut text).map_err(refusal)?.len();
        if length < room {
            text.truncate(length);
            return Ok(text);
        }
        room *= 4;
    }
}

/// Encodes a section's content.
pub fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Refusal> {
    zap_codec::encode(value).map_err(|error| Refusal::new("section", error))
}

/// Decodes a section's content.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let (value, _) = zap_codec::decode(bytes).map_err(|error| Refusal::new("section", error))?;
    Ok(value)
}
