//! Memory that is locked (mlock(2)), which only the program itself can tell: the frozen copy has no locks.

use crate::memory::read_all;
use crate::smaps::for_each_mapping;
use alloc::vec::Vec;
use zap_image::header::flags;
use zap_plugin::Refusal;
use zap_sys::fd;

/// Memory that is locked (mlock(2)).
#[derive(Clone, Copy)]
pub struct Locked {
    pub start: u64,
    pub end: u64,
    /// [`flags::LOCKED`] or [`flags::LOCKED_ON_FAULT`].
    pub flag: u32,
}

/// What is locked in the calling process: a fork does not tell, since its child has no locks.
pub fn locked() -> Result<Vec<Locked>, Refusal> {
    let mut buffer = [0u8; 4096];
    let status = fd::read_file(c"/proc/thread-self/status", &mut buffer)
        .map_err(|error| Refusal::new("/proc/thread-self/status", error))?;
    if zap_sys::text::field(status, b"VmLck:").is_none_or(|text| zap_sys::text::decimal(text).0 == 0) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for_each_mapping(&read_all(c"/proc/thread-self/smaps")?, |mapping, details| {
        if details.has(b"lo") {
            // Without "lf", which older kernels do not show, it is told by what is not in memory.
            let whole = !details.has(b"lf") && details.resident >= mapping.length();
            let flag = if whole { flags::LOCKED } else { flags::LOCKED_ON_FAULT };
            found.push(Locked { start: mapping.start, end: mapping.end, flag });
        }
        Ok(())
    })?;
    Ok(found)
}
