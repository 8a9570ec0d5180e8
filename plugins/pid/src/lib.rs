//! Plugin pid: descriptors of processes (pidfd_open(2)). The ids that calls take and give are the engine's.
//!
//! A pidfd is made again when its process is there. That of one which has ended, and for which nobody has waited, is refused by
//! name: it comes back after the descriptors.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::text::{decimal, field};
use zap_plugin::sys::{fd, libc, process, RealPid, VirtualPid};
use zap_plugin::{decode, encode, Description, Plugin, Refusal, RestoreContext, SaveContext};

/// The plugin.
pub struct Pid;

const SECTION: &str = "pid.descriptors";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// The program's id of the process; `None` if that has ended and been waited for.
    process: Option<i32>,
    nonblocking: bool,
}

/// PIDFD_THREAD of pidfd_open(2), which F_GETFL shows (Linux 6.9).
const OF_THREAD: i32 = libc::O_EXCL;

impl Plugin for Pid {
    fn name(&self) -> &'static str {
        "pid"
    }

    fn claims(&self, description: &Description) -> bool {
        // The second is Linux 6.9's.
        let is_its = description.link == b"anon_inode:[pidfd]" || description.link.starts_with(b"pidfd:[");
        description.stream.is_none() && is_its
    }

    fn save(&self, context: &mut SaveContext<'_>) -> Result<(), Refusal> {
        if context.claimed.is_empty() {
            return Ok(());
        }
        let mut states = Vec::new();
        for description in &context.claimed {
            let refusal = |reason| Refusal::new(description.name(), reason);
            let text = field(&description.info, b"Pid:");
            let pid = decimal(text.ok_or_else(|| refusal("the kernel does not tell its process"))?).0;
            let process = match pid {
                // pidfd_show_fdinfo, kernel/fork.c and fs/pidfs.c.
                -1 => None,
                0 => return Err(refusal("its process is in another PID namespace")),
                _ if description.status_flags() & OF_THREAD != 0 => return Err(refusal("it is a thread's")),
                _ => Some(member(RealPid(pid as i32), context).map_err(refusal)?.0),
            };
            let nonblocking = description.status_flags() & libc::O_NONBLOCK != 0;
            states.push(State { id: description.id, process, nonblocking });
        }
        context.section(SECTION, VERSION, encode(&states)?);
        Ok(())
    }

    fn restore(&self, context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
        let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
        let states: Vec<State> = decode(bytes)?;
        for state in states {
            let refusal = |error| Refusal::new("pidfd", error);
            let own = match state.process {
                Some(id) => fd::open_process(context.process(VirtualPid(id))?),
                None => process::open_ended(),
            };
            let own = own.map_err(refusal)?;
            if state.nonblocking {
                let flags = fd::fcntl(own, libc::F_GETFL, 0).map_err(refusal)?;
                fd::fcntl(own, libc::F_SETFL, flags | libc::O_NONBLOCK as usize).map_err(refusal)?;
            }
            context.install(state.id, own)?;
        }
        Ok(())
    }
}

/// The id by which the pod knows the process `pid`; why there is none that a restart could find.
fn member(pid: RealPid, context: &SaveContext<'_>) -> Result<VirtualPid, &'static str> {
    let mut buffer = [0u8; 1024];
    let path = zap_plugin::sys::small!("/proc/{pid}/stat");
    if fd::read_file(path.as_c_str(), &mut buffer).is_ok_and(process::has_ended) {
        return Err("its process has ended, and nobody has waited for it yet; repeat the checkpoint");
    }
    context.member(pid).ok_or("its process is none of the pod's")
}
