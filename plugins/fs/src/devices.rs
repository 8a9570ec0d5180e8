//! Stateless character devices, and the controlling terminal (/dev/tty): opened again by path.

use crate::{keeps_nothing, no_object, nothing_to_refill, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::{fd, libc, process};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun =
    Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill: nothing_to_refill };

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

/// /dev/tty (tty(4)): another terminal in each session.
const CONTROLLING_TERMINAL: (u32, u32) = (5, 0);

fn claims(description: &Description) -> bool {
    let device = description.stat.st_rdev;
    let is_stateless = || libc::major(device) == 1 && STATELESS_MINORS.contains(&libc::minor(device));
    description.stream.is_none()
        && description.file_type() == libc::S_IFCHR
        && (is_terminal(description) || is_stateless())
}

fn is_terminal(description: &Description) -> bool {
    let device = description.stat.st_rdev;
    (libc::major(device), libc::minor(device)) == CONTROLLING_TERMINAL
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    // A restart makes such a session anew, without a terminal.
    let has_own_session = || context.member(process::getsid()).is_some();
    if let Some(terminal) = own.iter().find(|description| is_terminal(description)).filter(|_| has_own_session()) {
        let reason =
            "is the terminal of a session that a process of the pod leads: start zap-launch as a job of a shell";
        return Err(Refusal::new(terminal.name(), reason));
    }
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
        let own =
            fd::open(path.as_c_str(), state.flags | libc::O_CLOEXEC | libc::O_NOCTTY, 0).map_err(
                |error| match error.is(libc::ENXIO) {
                    true => Refusal::new(name(), "there is no controlling terminal: start zap-restart in one"),
                    false => Refusal::new(name(), error),
                },
            )?;
        context.install(state.id, own)?;
    }
    Ok(())
}
