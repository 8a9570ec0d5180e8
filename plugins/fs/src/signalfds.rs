//! signalfd(2): which signals it tells of. Whose they are, whoever reads it decides; what waits is the process's.

use crate::{keeps_nothing, no_object, nothing_to_refill, Noun};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::text::{field, hex};
use zap_plugin::sys::{fd, libc};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun =
    Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.signalfds";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// A bit for each signal, from the lowest: signal 1.
    mask: u64,
    nonblocking: bool,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none() && description.link == b"anon_inode:[signalfd]"
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let mask = field(&description.info, b"sigmask:")
            .ok_or_else(|| Refusal::new(description.name(), "the kernel does not tell its signals"))?;
        let nonblocking = description.status_flags() & libc::O_NONBLOCK != 0;
        states.push(State { id: description.id, mask: hex(mask).0, nonblocking });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let flags = libc::SFD_CLOEXEC | if state.nonblocking { libc::SFD_NONBLOCK } else { 0 };
        let own = fd::signalfd(state.mask, flags).map_err(|error| Refusal::new("signalfd", error))?;
        context.install(state.id, own)?;
    }
    Ok(())
}
