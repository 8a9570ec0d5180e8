//! The standard streams that the pod was launched with: after a restart they are zap-restart's own.

use crate::{keeps_nothing, no_object, nothing_to_refill, Noun};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{fd, libc};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun =
    Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.streams";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// 0, 1 or 2.
    stream: u8,
    nonblocking: bool,
}

fn claims(description: &Description) -> bool {
    description.stream.is_some()
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let states: Vec<State> = own
        .iter()
        .map(|description| State {
            id: description.id,
            stream: description.stream.unwrap_or(0),
            nonblocking: description.status_flags() & libc::O_NONBLOCK != 0,
        })
        .collect();
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let refusal = |error| Refusal::new(format!("standard stream {}", state.stream), error);
        let supplied = context.stream(state.stream);
        // A restart that has no such stream gives what a program sees that was started without: nothing to read,
        // nobody who listens.
        let own = if supplied >= 0 {
            fd::dup_above(supplied, 0).map_err(refusal)?
        } else {
            fd::open(c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0).map_err(refusal)?
        };
        if state.nonblocking {
            let flags = fd::fcntl(own, libc::F_GETFL, 0).map_err(refusal)?;
            fd::fcntl(own, libc::F_SETFL, flags | libc::O_NONBLOCK as usize).map_err(refusal)?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}
