//! timerfd_create(2): clock, what is left, interval, expirations not yet read.

use crate::{keeps_nothing, no_object, nothing_to_refill, Noun};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::text::{decimal, field};
use zap_plugin::sys::{fd, libc, time};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun =
    Noun { claims, keeps: keeps_nothing, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.timerfds";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    clock: i32,
    nonblocking: bool,
    /// Expirations that have not been read.
    ticks: u64,
    /// TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET.
    flags: i32,
    /// Nanoseconds: what is left, or for an absolute timer on a clock of the wall the time itself; 0 when disarmed.
    value: u64,
    interval: u64,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none() && description.link == b"anon_inode:[timerfd]"
}

fn is_wall_clock(clock: i32) -> bool {
    clock == libc::CLOCK_REALTIME || clock == libc::CLOCK_REALTIME_ALARM
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let refusal = |error| Refusal::new(description.name(), error);
        // What fdinfo showed before is stale after this: an interval that has passed counts only now.
        let mut current = fd::timerfd_gettime(description.fd()).map_err(refusal)?;
        // A repeating one with nothing left is disarmed, or due this very moment: then it goes on in the next.
        let mut looks = 0;
        while time::to_ns(&current.it_value) == 0 && time::to_ns(&current.it_interval) != 0 && looks < 50 {
            time::sleep_ns(20_000);
            current = fd::timerfd_gettime(description.fd()).map_err(refusal)?;
            looks += 1;
        }
        let path = zap_plugin::sys::small!("/proc/thread-self/fdinfo/{}", description.fd());
        let mut buffer = [0u8; 1024];
        let info = fd::read_file(path.as_c_str(), &mut buffer).map_err(refusal)?;
        let number = |key: &[u8]| field(info, key).map_or(0, |text| decimal(text).0);
        let octal = field(info, b"settime flags:").unwrap_or_default();
        let flags = octal.iter().fold(0, |value, c| value * 8 + i32::from(c.wrapping_sub(b'0') & 7));
        let clock = number(b"clockid:") as i32;
        let left = time::to_ns(&current.it_value);
        let interval = time::to_ns(&current.it_interval);
        let mut ticks = number(b"ticks:") as u64;
        let value = if left != 0 && flags & libc::TFD_TIMER_ABSTIME != 0 && is_wall_clock(clock) {
            time::to_ns(&time::now(libc::CLOCK_REALTIME)).saturating_add(left)
        } else if left != 0 {
            // It has gone on while the program's clocks stood.
            let (since, value) = undo(left, interval, context.stopped_for(), ticks);
            ticks = ticks.saturating_sub(since);
            value
        } else {
            0
        };
        states.push(State {
            id: description.id,
            clock,
            nonblocking: description.status_flags() & libc::O_NONBLOCK != 0,
            ticks,
            flags,
            value,
            interval,
        });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let refusal = |error| Refusal::new("timerfd", error);
        let nonblocking = if state.nonblocking { libc::TFD_NONBLOCK } else { 0 };
        let own = fd::timerfd_create(state.clock, libc::TFD_CLOEXEC | nonblocking).map_err(refusal)?;
        let mut ticks = state.ticks;
        if state.value != 0 {
            let absolute = state.flags & libc::TFD_TIMER_ABSTIME != 0 && is_wall_clock(state.clock);
            let value = if absolute {
                state.value
            } else {
                let (since, value) = advance(state.value, state.interval, context.running_for());
                ticks += since;
                value
            };
            let setting =
                libc::itimerspec { it_value: time::from_ns(value), it_interval: time::from_ns(state.interval) };
            let flags = if absolute { state.flags } else { 0 };
            fd::timerfd_settime(own, flags, &setting).map_err(refusal)?;
        }
        if ticks != 0 {
            fd::timerfd_set_ticks(own, ticks).map_err(refusal)?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}

/// A timer with `left` until its next expiration, so many nanoseconds later: how often it has expired meanwhile, and what is
/// left then. One without an interval expires when it is set.
fn advance(left: u64, interval: u64, by: u64) -> (u64, u64) {
    if by < left {
        return (0, left - by);
    }
    match (by - left).checked_div(interval) {
        Some(more) => (1 + more, interval - (by - left) % interval),
        None => (0, 1),
    }
}

/// The same, so many nanoseconds earlier: how often it had not yet expired then, which is no more often than it has
/// without having been read, and what was left.
fn undo(left: u64, interval: u64, by: u64, ticks: u64) -> (u64, u64) {
    let before = left.saturating_add(by);
    let since = (before - 1).checked_div(interval).unwrap_or(0).min(ticks);
    (since, before - since * interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_and_does_not() {
        for (left, interval, by, expected) in [
            (10, 0, 4, (0, 6)),
            (10, 0, 10, (0, 1)),
            (10, 0, 99, (0, 1)),
            (10, 20, 9, (0, 1)),
            (10, 20, 10, (1, 20)),
            (10, 20, 29, (1, 1)),
            (10, 20, 30, (2, 20)),
        ] {
            assert_eq!(advance(left, interval, by), expected, "{left} {interval} {by}");
        }
        for (left, interval, by, ticks, expected) in [
            (10, 0, 4, 1, (0, 14)),
            (10, 20, 4, 1, (0, 14)),
            (10, 20, 10, 1, (0, 20)),
            (10, 20, 11, 1, (1, 1)),
            (10, 20, 45, 9, (2, 15)),
            (10, 20, 45, 0, (0, 55)),
        ] {
            assert_eq!(undo(left, interval, by, ticks), expected, "{left} {interval} {by}");
        }
    }
}
