//! Stateless character devices: opened again by path.

use crate::{no_object, nothing_to_refill, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::{fd, libc};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.devices";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    path: Vec<u8>,
    flags: i32,
}

/// Minor numbers of major 1 that hold no state (devices.txt): null, zero, full, random, urandom.
const STATELESS_MINORS: [u32; 5] = [3, 5, 7, 8, 9];

fn claims(description: &Description) -> bool {
    let device = description.stat.st_rdev;
    description.stream.is_none()
        && description.file_type() == libc::S_IFCHR
        && libc::major(device) == 1
        && STATELESS_MINORS.contains(&libc::minor(device))
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let states: Vec<State> = own
        .iter()
        .map(|description| State {
            id: description.id,
            path: description.link.clone(),
            flags: description.status_flags() & (libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK | libc::O_PATH),
        })
        .collect();
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let name = || format!("device {}", String::from_utf8_lossy(&state.path));
        let path = CPath::new(&state.path).ok_or_else(|| Refusal::new(name(), "path too long"))?;
        let own = fd::open(path.as_c_str(), state.flags | libc::O_CLOEXEC | libc::O_NOCTTY, 0)
            .map_err(|error| Refusal::new(name(), error))?;
        context.install(state.id, own)?;
    }
    Ok(())
}
