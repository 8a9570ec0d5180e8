//! Paths as the kernel wants them: bytes that end in NUL.

use core::ffi::CStr;

/// Longest path the kernel takes, with its terminating NUL (limits.h).
pub const PATH_MAX: usize = 4096;

/// A NUL-terminated copy of a path, on the stack.
pub struct CPath {
    bytes: [u8; PATH_MAX],
}

impl CPath {
    /// Copies `path`. `None` when it is too long or holds a NUL byte.
    pub fn new(path: &[u8]) -> Option<Self> {
        if path.len() >= PATH_MAX || path.contains(&0) {
            return None;
        }
        let mut bytes = [0; PATH_MAX];
        bytes[..path.len()].copy_from_slice(path);
        Some(Self { bytes })
    }

    /// The path as a C string.
    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}
