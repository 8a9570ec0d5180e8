//! Attributes of the process that the kernel keeps: working directory, file mode mask, limit of descriptors.

use crate::state::Owned;
use alloc::vec::Vec;
use zap_plugin::Refusal;
use zap_sys::path::{CPath, PATH_MAX};

struct Saved {
    directory: Vec<u8>,
    umask: u32,
    /// Soft limit of RLIMIT_NOFILE.
    descriptors: Option<u64>,
}

static SAVED: Owned<Saved> = Owned::new(Saved { directory: Vec::new(), umask: 0, descriptors: None });

/// Reads the attributes.
pub fn save() -> Result<(), Refusal> {
    let mut buffer = [0u8; PATH_MAX];
    let directory = zap_sys::fd::read_link(c"/proc/thread-self/cwd", &mut buffer)
        .map_err(|error| Refusal::new("working directory", error))?;
    if directory.ends_with(b" (deleted)") {
        return Err(Refusal::new("working directory", "it has been deleted"));
    }
    crate::fault::point(zap_wire::fault::SAVING_ATTRIBUTES);
    // The mask can only be read by setting it.
    let umask = zap_sys::process::umask(0o77);
    zap_sys::process::umask(umask);
    let descriptors = zap_sys::process::limit(zap_sys::libc::RLIMIT_NOFILE).ok().map(|(soft, _)| soft);
    SAVED.with(|saved| *saved = Saved { directory: directory.to_vec(), umask, descriptors });
    Ok(())
}

/// Sets the limit of descriptors, which a restart has raised to have room beside the program's. As the last thing: no
/// descriptor of Zap's is needed any more.
pub fn restore_limit() {
    let Ok((_, hard)) = zap_sys::process::limit(zap_sys::libc::RLIMIT_NOFILE) else { return };
    if let Some(soft) = SAVED.with(|saved| saved.descriptors) {
        let _ = zap_sys::process::set_limit(zap_sys::libc::RLIMIT_NOFILE, soft.min(hard), hard);
    }
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
