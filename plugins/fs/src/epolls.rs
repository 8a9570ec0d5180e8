//! epoll(7): the watches, put back when every other descriptor is.
//!
//! A watch belongs to an open file description and the number it was added under. Where that number has been closed or
//! used again since, the description is found under another number, and lent its old one while the watch is added.

use crate::{keeps_nothing, no_object, Noun};
use alloc::format;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::text::{decimal, hex, skip_blanks};
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill };

const SECTION: &str = "fs.epolls";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// A number of the epoll itself.
    fd: RawFd,
    watches: Vec<Watch>,
}

#[derive(Serialize, Deserialize)]
struct Watch {
    /// The number that it was added under.
    fd: RawFd,
    /// A number that the watched description has now.
    at: RawFd,
    events: u32,
    data: u64,
    /// It has an event that was not reported yet. Matters for edge-triggered and one-shot watches only.
    due: bool,
}

/// Flags of watches that report an event once.
const ONCE: u32 = (libc::EPOLLET | libc::EPOLLONESHOT) as u32;

fn claims(description: &Description) -> bool {
    description.stream.is_none() && description.link == b"anon_inode:[eventpoll]"
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let mut watches: Vec<Watch> = Vec::new();
        for line in description.info.split(|c| *c == b'\n').filter(|line| line.starts_with(b"tfd:")) {
            let (number, rest) = decimal(skip_blanks(&line[4..]));
            let (events, rest) = hex(value_after(rest, b"events:"));
            let (data, rest) = hex(value_after(rest, b"data:"));
            let inode = hex(value_after(rest, b"ino:")).0;
            let number = number as RawFd;
            // Several descriptions may have been added under one number, one after the other.
            let order = watches.iter().filter(|watch| watch.fd == number).count();
            let at = find(description, context.all, number, order as u32, inode).ok_or_else(|| {
                Refusal::new(
                    description.name(),
                    format!("watches what was descriptor {number}, which is open in another process only"),
                )
            })?;
            watches.push(Watch { fd: number, at, events: events as u32, data, due: false });
        }
        let mut state = State { id: description.id, fd: description.fd(), watches };
        find_due(&mut state).map_err(|error| Refusal::new(description.name(), error))?;
        states.push(state);
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// Finds the events that have not been reported: the kernel tells only by reporting them. They are made due again.
fn find_due(state: &mut State) -> zap_plugin::sys::Result<()> {
    if !state.watches.iter().any(|watch| watch.events & ONCE != 0) {
        return Ok(());
    }
    let mut events = alloc::vec![libc::epoll_event { events: 0, u64: 0 }; state.watches.len()];
    let count = fd::epoll_take(state.fd, &mut events)?;
    for watch in &mut state.watches {
        let reported = events[..count].iter().any(|event| {
            let data = event.u64;
            data == watch.data
        });
        if reported && watch.events & ONCE != 0 {
            watch.due = true;
            with_old_number(watch, |number| fd::epoll_modify(state.fd, number, watch.events, watch.data))?;
        }
    }
    Ok(())
}

fn value_after<'a>(text: &'a [u8], key: &[u8]) -> &'a [u8] {
    text.windows(key.len()).position(|part| part == key).map_or(&[], |at| skip_blanks(&text[at + key.len()..]))
}

/// A number through which the watched description can be reached: the one it was added under if that is still it.
fn find(epoll: &Description, all: &[Description], number: RawFd, order: u32, inode: u64) -> Option<RawFd> {
    let own = all.iter().filter(|one| one.numbers.iter().any(|known| known.fd == number));
    for candidate in own.chain(all) {
        let same = match fd::is_watched(epoll.fd(), number, order, candidate.fd()) {
            Ok(same) => same,
            // kcmp(2) is forbidden here: the inode must do.
            Err(_) => candidate.stat.st_ino == inode,
        };
        if same {
            let has_number = candidate.numbers.iter().any(|known| known.fd == number);
            return Some(if has_number { number } else { candidate.fd() });
        }
    }
    None
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let own = fd::epoll_create(libc::EPOLL_CLOEXEC).map_err(|error| Refusal::new("epoll", error))?;
        context.install(state.id, own)?;
    }
    Ok(())
}

fn refill(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in &states {
        for watch in &state.watches {
            with_old_number(watch, |number| fd::epoll_add(state.fd, number, watch.events, watch.data))
                .map_err(|error| Refusal::new(format!("epoll watch of descriptor {}", watch.fd), error))?;
        }
    }
    // A new watch of something ready has an event, whether it had been reported before or not.
    for state in &states {
        let refusal = |error| Refusal::new(format!("epoll descriptor {}", state.fd), error);
        if state.watches.iter().any(|watch| watch.events & ONCE != 0) {
            let mut events = alloc::vec![libc::epoll_event { events: 0, u64: 0 }; state.watches.len()];
            fd::epoll_take(state.fd, &mut events).map_err(refusal)?;
        }
        for watch in state.watches.iter().filter(|watch| watch.due) {
            with_old_number(watch, |number| fd::epoll_modify(state.fd, number, watch.events, watch.data))
                .map_err(refusal)?;
        }
    }
    Ok(())
}

/// Calls `work` while the watched description can be reached under the number that it was added under.
fn with_old_number(
    watch: &Watch,
    work: impl FnOnce(RawFd) -> zap_plugin::sys::Result<()>,
) -> zap_plugin::sys::Result<()> {
    if watch.at == watch.fd {
        return work(watch.fd);
    }
    let flags = fd::fcntl(watch.fd, libc::F_GETFD, 0);
    let occupant = match flags {
        Ok(_) => Some(fd::dup_above(watch.fd, watch.fd + 1)?),
        Err(_) => None,
    };
    fd::dup3(watch.at, watch.fd, libc::O_CLOEXEC)?;
    let result = work(watch.fd);
    match (occupant, flags) {
        (Some(occupant), Ok(flags)) => {
            let flags = if flags & libc::FD_CLOEXEC as usize != 0 { libc::O_CLOEXEC } else { 0 };
            fd::dup3(occupant, watch.fd, flags)?;
            fd::close(occupant)?;
        }
        _ => fd::close(watch.fd)?,
    }
    result
}
