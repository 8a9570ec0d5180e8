//! Unix sockets that are neither connected nor named: made by socket(2) a moment ago. libc has one for an instant
//! whenever it looks for the name service's cache.

use crate::diag;
use crate::pairs::{self, hand_over, save_end, set_up, End};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::{libc, net};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

const SECTION: &str = "socket.unconnected";
const VERSION: u32 = 4;

#[derive(Serialize, Deserialize)]
struct State {
    kind: i32,
    end: End,
}

/// Saves `sockets`: each with its type.
pub(crate) fn save(sockets: &[(&Description, i32)], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    if sockets.is_empty() {
        return Ok(());
    }
    let mut states = Vec::new();
    for (one, kind) in sockets {
        let socket = diag::query(one.stat.st_ino as u32).map_err(|error| Refusal::new(one.name(), error))?;
        states.push(State { kind: *kind, end: save_end(one, *kind, socket.shutdown, None)? });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

pub(crate) fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let socket = net::socket(libc::AF_UNIX, state.kind | libc::SOCK_CLOEXEC, 0)
            .map_err(|error| Refusal::new("socket", error))?;
        set_up(socket, &state.end)?;
        pairs::shut(socket, state.end.shutdown).map_err(|error| Refusal::new("socket", error))?;
        hand_over(socket, &state.end, context)?;
    }
    Ok(())
}
