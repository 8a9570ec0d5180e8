//! Whether this process runs in a pod itself.
//!
//! # Safety
//! libzap is asked by a function that it exports for this.
#![allow(unsafe_code)]

use crate::MappedTable;
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use zap_wire::environment;
use zap_wire::private::{decode, By};

/// The table of the pod in which this process already runs: libzap, which is then in it, knows. Neither the environment nor
/// /proc says so, since libzap's init takes its variables out; nor does the process's id, which a PID namespace changes.
pub fn pod() -> Option<PathBuf> {
    // SAFETY: a NUL-terminated name.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, environment::TABLE_FUNCTION.as_ptr()) };
    // SAFETY: the function of that name has this type, and a null pointer is `None`.
    let function: Option<extern "C" fn() -> *const libc::c_char> = unsafe { std::mem::transmute(found) };
    let path = function?();
    // SAFETY: null, or a C string that is not changed while this process has one thread.
    (!path.is_null()).then(|| PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes())))
}

/// Whether that pod sees other files than the host: what is started here would see them too.
pub fn is_in_namespaces() -> bool {
    let Some(table) = pod().and_then(|path| MappedTable::open(&path).ok()) else { return false };
    let text: Vec<u8> = table.private().collect();
    decode(&text).is_some_and(|(by, ..)| by != By::Names)
}
