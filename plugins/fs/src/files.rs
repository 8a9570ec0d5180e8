//! Regular files and directories, by path: offset, flags, sharing by dup; record locks.
//!
//! A file whose path does not lead to it any more (deleted, replaced) is refused at the checkpoint.

use crate::{nothing_to_refill, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::{fd, libc};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.files";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    path: Vec<u8>,
    /// Access mode and status flags of F_GETFL.
    flags: i32,
    position: u64,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none() && matches!(description.file_type(), libc::S_IFREG | libc::S_IFDIR)
        && description.link.starts_with(b"/") && !description.link.starts_with(b"/proc/")
        && !description.link.starts_with(b"/memfd:")
}

/// Flags that open(2) takes and that are to be had again; those that make or cut a file are not.
const KEPT: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_NOATIME
    | libc::O_DIRECTORY
    | libc::O_PATH;

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let path = CPath::new(&description.link).ok_or_else(|| Refusal::new(description.name(), "path too long"))?;
        let found = fd::stat(path.as_c_str());
        let same = found
            .is_ok_and(|stat| stat.st_ino == description.stat.st_ino && stat.st_dev == description.stat.st_dev);
        if !same {
            return Err(Refusal::new(description.name(), "the file has been deleted or replaced"));
        }
        states.push(State {
            id: description.id,
            path: description.link.clone(),
            flags: description.status_flags() & KEPT,
            position: description.position(),
        });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let name = || format!("file {}", String::from_utf8_lossy(&state.path));
        let path = CPath::new(&state.path).ok_or_else(|| Refusal::new(name(), "path too long"))?;
        let own = fd::open(path.as_c_str(), state.flags | libc::O_CLOEXEC, 0)
            .map_err(|error| Refusal::new(name(), error))?;
        if state.flags & libc::O_PATH == 0 {
            fd::seek(own, state.position as i64, libc::SEEK_SET).map_err(|error| Refusal::new(name(), error))?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}
