//! eventfd(2): the count, and whether reads take one at a time.

use crate::{keeps_nothing, no_object, nothing_to_refill, Noun};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::text::{decimal, field, hex};
use zap_plugin::sys::{fd, libc};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun =
    Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.eventfds";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    count: u64,
    semaphore: bool,
    nonblocking: bool,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none() && description.link == b"anon_inode:[eventfd]"
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let count = field(&description.info, b"eventfd-count:")
            .ok_or_else(|| Refusal::new(description.name(), "the kernel does not tell its count"))?;
        // Linux 6.5 tells whether it is a semaphore; before, it is found out.
        let semaphore = match field(&description.info, b"eventfd-semaphore:") {
            Some(text) => decimal(text).0 != 0,
            None => probe_semaphore(description)?,
        };
        states.push(State {
            id: description.id,
            count: hex(count).0,
            semaphore,
            nonblocking: description.status_flags() & libc::O_NONBLOCK != 0,
        });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// A read of a semaphore takes one, of a counter all: with two in it, the two differ. The count is put back.
fn probe_semaphore(description: &Description) -> Result<bool, Refusal> {
    let refusal = |error| Refusal::new(description.name(), error);
    let own = description.fd();
    let flags = fd::fcntl(own, libc::F_GETFL, 0).map_err(refusal)?;
    let probe = || {
        fd::fcntl(own, libc::F_SETFL, flags | libc::O_NONBLOCK as usize)?;
        fd::write(own, &2u64.to_ne_bytes())?;
        let mut taken = [0u8; 8];
        fd::read(own, &mut taken)?;
        let taken = u64::from_ne_bytes(taken);
        if taken == 1 {
            fd::read(own, &mut [0; 8])?;
        } else if taken > 2 {
            fd::write(own, &(taken - 2).to_ne_bytes())?;
        }
        Ok(taken == 1)
    };
    let result = probe();
    fd::fcntl(own, libc::F_SETFL, flags).map_err(refusal)?;
    result.map_err(refusal)
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let refusal = |error| Refusal::new("eventfd", error);
        let mut flags = libc::EFD_CLOEXEC;
        if state.semaphore {
            flags |= libc::EFD_SEMAPHORE;
        }
        if state.nonblocking {
            flags |= libc::EFD_NONBLOCK;
        }
        let own = fd::eventfd(0, flags).map_err(refusal)?;
        if state.count != 0 {
            fd::write(own, &state.count.to_ne_bytes()).map_err(refusal)?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}
