//! What a restart hands to the restorer: the plan's records, the layout of the hole, the vDSO's entries.
//!
//! zap-restart decides and writes a plan; libzap_restorer.so (in `so/`) carries it out without deciding anything. Both
//! use these types, so that what they agree on lives once. No allocation and no I/O here: half of the readers have
//! neither.
#![cfg_attr(not(test), no_std)]

pub mod hole;
pub mod plan;

/// First byte of a line of text on the report descriptor: the restorer could not go on, and says why. No message of
/// the protocol begins with it (it would be a negative number).
pub const REPORT_FAILED: u8 = 0xff;

/// As [`REPORT_FAILED`], but only the addresses that the kernel chose for this exec are in the way: another exec may
/// have better luck.
pub const REPORT_NO_PLACE: u8 = 0xfe;

/// As [`REPORT_FAILED`], but a file that was there when the plan was made is gone: another plan may do without it.
pub const REPORT_FILE_GONE: u8 = 0xfd;

/// Exit status of a restorer that could not go on.
pub const FAILED_STATUS: i32 = 125;
