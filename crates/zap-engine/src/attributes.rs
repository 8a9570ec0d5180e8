//! Attributes of the process that the kernel keeps: working directory, file mode mask.

use crate::state::Owned;
use alloc::vec::Vec;
use zap_plugin::Refusal;
use zap_sys::path::{CPath, PATH_MAX};

struct Saved {
    directory: Vec<u8>,
    umask: u32,
}

static SAVED: Owned<Saved> = Owned::new(Saved { directory: Vec::new(), umask: 0 });

/// Reads the attributes.
pub fn save() -> Result<(), Refusal> {
    let mut buffer = [0u8; PATH_MAX];
    let directory = zap_sys::fd::read_link(c"/proc/thread-self/cwd", &mut buffer)
        .map_err(|error| Refusal::new("working directory", error))?;
    if directory.ends_with(b" (deleted)") {
        return Err(Refusal::new("working directory", "it has been deleted"));
    }
    // The mask can only be read by setting it.
    let umask = zap_sys::process::umask(0o77);
    zap_sys::process::umask(umask);
    SAVED.with(|saved| *saved = Saved { directory: directory.to_vec(), umask });
    Ok(())
}

/// Sets them again.
pub fn restore() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        zap_sys::process::umask(saved.umask);
        let name = alloc::string::String::from_utf8_lossy(&saved.directory).into_owned();
        let path = CPath::new(&saved.directory).ok_or_else(|| Refusal::new("working directory", "path too long"))?;
        zap_sys::process::chdir(path.as_c_str())
            .map_err(|error| Refusal::new(alloc::format!("working directory {name}"), error))
    })
}
