//! POSIX timers that tick, and whose signal waits: a checkpoint reads it by taking it, and the kernel then lets the timer tick
//! on, which until then only counts (posix_timer_fn and common_hrtimer_rearm, kernel/time/posix-timers.c). Queued again, the
//! signal would come once with a part of the expirations, and once with the rest.
//!
//! So the timer is set to when it first expired and nobody has been told: the kernel sends the signal anew, and counts from
//! there. A signal of it that has come meanwhile goes with that (from Linux 6.13 on), or becomes the new one.
//!
//! What ticks after the signals have been read, and before the timers are, is counted too.

use crate::state::Owned;
use crate::timers::{self, Look};
use alloc::vec::Vec;
use zap_sys::libc;
use zap_sys::signal::Info;
use zap_sys::time;

/// A timer that ticks.
struct Overdue {
    id: i32,
    /// The kernel's.
    clock: i32,
    interval: u64,
    /// When it first expires, or has, and nobody has been told, by its clock, in nanoseconds.
    first: u64,
}

static LIST: Owned<Vec<Overdue>> = Owned::new(Vec::new());

/// A checkpoint begins to look at timers.
pub fn begin() {
    LIST.with(Vec::clear);
}

/// The timer `id`, by the kernel's `clock`, ticks.
pub fn note(id: i32, clock: i32, look: &Look) {
    let interval = time::to_ns(&look.setting.it_interval);
    LIST.with(|list| list.push(Overdue { id, clock, interval, first: look.next }));
}

/// Whether a signal is that of the timer `id`.
pub fn is_of(info: &Info, id: i32) -> bool {
    sender(info).is_some_and(|sender| sender.0 == id)
}

/// The timer that has sent a signal, and how often it had expired then.
fn sender(info: &Info) -> Option<(i32, u64)> {
    // Of a timer's signal, words 4 and 5 are si_timerid and si_overrun.
    let [_, _, code, _, id, overrun, ..] = info.map(|word| word as i32);
    (code == libc::SI_TIMER).then_some((id, u64::from(overrun.max(0) as u32) + 1))
}

/// Whether `one` and `other` are of the same timer.
pub fn is_of_same(one: &Info, other: &Info) -> bool {
    matches!((sender(one), sender(other)), (Some(one), Some(other)) if one.0 == other.0)
}

/// Has the timer that has sent `infos`, all that waited of its signals and have been taken by `taken_ns` (CLOCK_MONOTONIC), expire
/// again as it first did. Returns whether it does: then they must not be queued again. It does not if it expires once, if it has
/// been set anew since, and where its clock has not counted what it has (one of CPU time begins anew in a restarted process).
pub fn expire_again<'a>(infos: impl Iterator<Item = &'a Info> + Clone, taken_ns: u64) -> bool {
    let Some((id, _)) = infos.clone().next().and_then(sender) else { return false };
    let count = infos.filter_map(sender).fold(0u64, |sum, (_, count)| sum.saturating_add(count));
    LIST.with(|list| {
        let Some(timer) = list.iter_mut().find(|timer| timer.id == id) else { return false };
        let Ok(look) = timers::look(id, timer.clock) else { return false };
        let taken = look.now.saturating_sub(time::monotonic_ns().saturating_sub(taken_ns));
        let untold = after(taken, look.next, timer.interval);
        let first = first(untold, timer.interval, count).filter(|first| *first <= look.now);
        let setting = first.map(|first| libc::itimerspec { it_value: time::from_ns(first), ..look.setting });
        let is_set = setting
            .filter(|_| timers::is_movable(id, timer.clock))
            .is_some_and(|setting| time::timer_settime(id, libc::TIMER_ABSTIME, &setting).is_ok());
        timer.first = first.filter(|_| is_set).unwrap_or(untold);
        is_set
    })
}

/// The first time after `moment` at which what expires at `next` expires.
fn after(moment: u64, next: u64, interval: u64) -> u64 {
    let between = next.saturating_sub(moment).saturating_sub(1);
    next - between / interval * interval
}

/// When what expires at `next` has expired `count` times before, if the clock had begun then.
pub fn first(next: u64, interval: u64, count: u64) -> Option<u64> {
    next.checked_sub(interval.checked_mul(count)?).filter(|first| *first != 0)
}

/// How often the timer `id`, which expires next at `next` by the kernel's clock, has expired and nobody has been told.
pub fn count(id: i32, next: u64) -> u64 {
    LIST.with(|list| {
        let known = list.iter().find(|one| one.id == id);
        known.map_or(0, |one| (next.saturating_sub(one.first).saturating_add(one.interval / 2)) / one.interval)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expirations_of_a_ticking_timer() {
        // Moment, next: what comes first after the moment, every 10.
        for (moment, next, expected) in
            [(95, 100, 100), (90, 100, 100), (89, 100, 90), (70, 100, 80), (100, 100, 100), (105, 100, 100)]
        {
            assert_eq!(after(moment, next, 10), expected, "{moment} {next}");
        }
        for (next, count, expected) in
            [(100, 3, Some(70)), (100, 9, Some(10)), (100, 10, None), (100, 11, None), (100, u64::MAX, None)]
        {
            assert_eq!(first(next, 10, count), expected, "{next} {count}");
        }
    }
}
