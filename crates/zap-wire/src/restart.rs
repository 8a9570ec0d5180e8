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
    /// Descriptor on which the engine says why it cannot go on ([`Outcome`]); closing it unsaid means death.
    pub report: i32,
    /// Every other descriptor that the engine must close.
    pub spare: Vec<i32>,
    /// First address and length of the restorer's own memory, to be unmapped.
    pub restorer: (u64, u64),
    /// First address and length of the kernel's vDSO and its data in this process.
    pub vdso: (u64, u64),
    /// Ranges of memory that are backed by the image, in ascending order: (start, length).
    pub image_backed: Vec<(u64, u64)>,
}

/// The one message on the report descriptor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// The program runs again.
    Started,
    /// It does not: which object, and why. Nothing of the program has run.
    Refused { object: String, reason: String },
}
