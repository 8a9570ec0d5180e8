//! Locks of fcntl(2) that belong to the process, whatever description they were taken through: also through one that another
//! process saves.

use crate::files::{self, Lock};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "fs.record_locks";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    /// One of the description's numbers.
    fd: RawFd,
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    locks: Vec<Lock>,
}

pub(crate) fn save(context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in context.all.iter().filter(|description| files::claims(description)) {
        let locks: Vec<Lock> = files::locks(description)?.into_iter().filter(Lock::is_process_s).collect();
        if !locks.is_empty() {
            states.push(State { fd: description.fd(), path: description.link.clone(), locks });
        }
    }
    if !states.is_empty() {
        context.section(SECTION, VERSION, encode(&states)?);
    }
    Ok(())
}

/// Takes them when every descriptor is at its number: closing any descriptor of a file drops the process's locks. Somebody
/// else's in its place refuses the restart.
pub(crate) fn refill(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in &states {
        for lock in &state.locks {
            fd::fcntl_lock(state.fd, libc::F_SETLK, &mut lock.request())
                .map_err(|error| Refusal::new(format!("lock of {}", String::from_utf8_lossy(&state.path)), error))?;
        }
    }
    Ok(())
}
