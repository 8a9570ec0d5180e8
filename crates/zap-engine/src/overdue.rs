//! POSIX timers that tick, and whose signal waits: a checkpoint reads it by taking it, and the kernel then lets the timer tick
//! on, which until then only counts (posix_timer_fn and common_hrtimer_rearm, kernel/time/posix-timers.c). Queued again, the
//! signal would come once with a part of the expirations, and once with the rest.
//!
//! So the timer is set to when it first expired and nobody has been told: the kernel sends the signal anew, and counts from
//! there.

use crate::clocks;
use crate::state::Owned;
use alloc::vec::Vec;
use zap_sys::libc;
use zap_sys::signal::Info;
use zap_sys::time;

struct Overdue {
    id: i32,
    /// The kernel's.
    clock: i32,
    interval: u64,
    /// When it expires next, by the kernel's clock, in nanoseconds.
    next: u64,
    /// How often it has before, and nobody has been told.
    count: u64,
    is_stopped: bool,
}

static LIST: Owned<Vec<Overdue>> = Owned::new(Vec::new());

/// A checkpoint begins to read signals.
pub fn begin() {
    LIST.with(Vec::clear);
}

/// Stops the timer that has sent `info`, a signal that has been taken, until [`go_on`]. Returns whether it is one that ticks, and
/// whose clock has counted what it has: then the signal must not be queued again. (A clock of CPU time begins anew in a restarted
/// process: what was before is told of apart.)
pub fn stop(info: &Info) -> bool {
    // Of a timer's signal, words 4 and 5 are si_timerid and si_overrun.
    let [_, _, code, _, id, overrun, ..] = info.map(|word| word as i32);
    if code != libc::SI_TIMER {
        return false;
    }
    let count = u64::from(overrun.max(0) as u32) + 1;
    LIST.with(|list| {
        if let Some(known) = list.iter_mut().find(|known| known.id == id && known.is_stopped) {
            let has_counted = first(known.next, known.interval, known.count + count).is_some();
            known.count += if has_counted { count } else { 0 };
            return has_counted;
        }
        // No timer is stopped for which there is no memory.
        if list.try_reserve(1).is_err() {
            return false;
        }
        let Some(clock) = crate::timers::kernels_clock(id).filter(|clock| !clocks::is_of_nobody(*clock)) else {
            return false;
        };
        let next =
            |setting: libc::itimerspec| time::to_ns(&time::now(clock)).saturating_add(time::to_ns(&setting.it_value));
        let Ok(setting) = time::timer_gettime(id) else { return false };
        let interval = time::to_ns(&setting.it_interval);
        if interval == 0 || first(next(setting), interval, count).is_none() {
            return false;
        }
        let Ok(old) = time::timer_exchange(id, &time::TIMER_OFF) else { return false };
        let next = next(old);
        list.push(Overdue { id, clock, interval, next, count, is_stopped: true });
        true
    })
}

/// When what expires at `next` has expired `count` times before, if the clock had begun then.
pub fn first(next: u64, interval: u64, count: u64) -> Option<u64> {
    next.checked_sub(interval.checked_mul(count)?).filter(|first| *first != 0)
}

/// Has each timer that has been stopped expire again, as it first did.
pub fn go_on() {
    LIST.with(|list| {
        for one in list.iter_mut().filter(|one| one.is_stopped) {
            one.is_stopped = false;
            let setting = libc::itimerspec {
                it_value: time::from_ns(first(one.next, one.interval, one.count).unwrap_or(1)),
                it_interval: time::from_ns(one.interval),
            };
            let _ = time::timer_settime(one.id, libc::TIMER_ABSTIME, &setting);
        }
    });
}

/// How often the timer `id`, which expires next when `left` nanoseconds have passed, has expired and nobody has been told.
pub fn count(id: i32, left: u64) -> u64 {
    LIST.with(|list| {
        list.iter().find(|one| one.id == id).map_or(0, |one| {
            let next = time::to_ns(&time::now(one.clock)).saturating_add(left);
            // It has gone on since.
            let more = next.saturating_sub(one.next).saturating_add(one.interval / 2) / one.interval;
            one.count.saturating_add(more)
        })
    })
}
