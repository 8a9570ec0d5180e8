//! Interval timers and POSIX timers: found in the kernel at each checkpoint, made again with what was left of them.
//!
//! A POSIX timer's id is the kernel's, and ids count upwards within a process: at a restart timers are made and deleted
//! until the wanted id comes, as CRIU does.

use crate::state::Owned;
use crate::{clocks, identity, overdue, signals, threads};
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::signal::Info;
use zap_sys::text::{decimal, hex};
use zap_sys::time::{self, TimerEvent};
use zap_sys::{libc, RealPid, VirtualPid};

#[derive(Clone)]
struct PosixTimer {
    id: i32,
    clock: i32,
    signal: i32,
    value: u64,
    notify: i32,
    /// Virtual id of the thread for SIGEV_THREAD_ID, else 0.
    thread: i32,
    setting: libc::itimerspec,
    /// When it expires by its clock, in nanoseconds: by that of the wall, or by the program's own CPU time.
    deadline: Option<u64>,
    /// How often it has expired, ticking, and nobody has been told.
    overdue: u64,
}

impl PosixTimer {
    fn is_armed(&self) -> bool {
        time::to_ns(&self.setting.it_value) != 0
    }

    /// Adds so many nanoseconds to what is left, unless it has a deadline.
    fn shift(&mut self, by: i64) {
        if self.is_armed() && self.deadline.is_none() {
            self.setting.it_value = time::from_ns(time::to_ns(&self.setting.it_value).saturating_add_signed(by).max(1));
        }
    }
}

struct Saved {
    intervals: [Option<libc::itimerval>; 3],
    posix: Vec<PosixTimer>,
    /// Interval timers, as they were before signals were read.
    before: [Option<libc::itimerval>; 3],
    /// POSIX timers that were to expire once, and had not before signals were read, ascending.
    once: Vec<i32>,
}

/// What is left of a timer that is to expire at once: 0 would be none.
const AT_ONCE: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 1 };

static SAVED: Owned<Saved> =
    Owned::new(Saved { intervals: [None; 3], posix: Vec::new(), before: [None; 3], once: Vec::new() });

/// Most timer ids that are tried to reach a wanted one.
const LARGEST_ID: i32 = 100_000;

/// Which timers have been set to a time of the wall, a bit for each id: the kernel tells what is left only.
static BY_THE_WALL: [AtomicU64; (LARGEST_ID as usize).div_ceil(64)] =
    [const { AtomicU64::new(0) }; (LARGEST_ID as usize).div_ceil(64)];

/// Has `set` set the timer that the kernel knows as `id`, and notes whether to a time of a clock, of any kind. What was
/// noted stays if `set` fails.
pub fn note_setting<R>(id: i32, absolute: bool, set: impl FnOnce() -> (R, bool)) -> R {
    // Both or none, to a checkpoint.
    let _guard = crate::guard::Guard::enter();
    let (result, done) = set();
    let place = usize::try_from(id).ok().and_then(|id| Some((BY_THE_WALL.get(id / 64)?, 1u64 << (id % 64))));
    match place {
        Some((word, bit)) if done && absolute => drop(word.fetch_or(bit, Ordering::Relaxed)),
        // Not written where nothing changes: a page of its own.
        Some((word, bit)) if done && word.load(Ordering::Relaxed) & bit != 0 => {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
        _ => {}
    }
    result
}

fn is_by_the_wall(timer: &PosixTimer) -> bool {
    is_walls(timer.clock) && timer.is_armed() && noted_wall(timer.id)
}

fn is_walls(clock: i32) -> bool {
    matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_ALARM | libc::CLOCK_TAI)
}

/// Whether the timer was last set to a time of its clock.
fn noted_wall(id: i32) -> bool {
    let word = usize::try_from(id).ok().and_then(|id| BY_THE_WALL.get(id / 64));
    word.is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (id % 64)) != 0)
}

/// Whether a clock is that of a thread which has ended.
fn stands(clock: i32) -> bool {
    clocks::thread_of(clock).is_some_and(|thread| !threads::knows(thread))
}

fn is_by_processor(timer: &PosixTimer) -> bool {
    timer.clock == clocks::OWN_CPU || clocks::thread_of(timer.clock).is_some()
}

const WHICH: [i32; 3] = [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF];

/// Signals of the interval timers of [`WHICH`].
const SIGNALS: [i32; 3] = [libc::SIGALRM, libc::SIGVTALRM, libc::SIGPROF];

/// Looks at the timers before signals are read: what expires from here on may be neither among the signals nor, by [`save`], among
/// the timers that wait. Every thread stands.
pub fn look_before() -> Result<(), Refusal> {
    overdue::begin();
    let text = crate::memory::read_all(c"/proc/self/timers")?;
    SAVED.with(|saved| {
        saved.before = WHICH.map(|which| time::get_itimer(which).ok());
        saved.once.clear();
        let mut id = 0;
        for line in text.split(|c| *c == b'\n') {
            if line.starts_with(b"ID:") {
                id = decimal(value_of(line)).0 as i32;
            } else if line.starts_with(b"ClockID:") {
                let clock = decimal(value_of(line)).0 as i32;
                if clocks::is_of_nobody(clock) || stands(clocks::by_program(clock)) {
                    continue;
                }
                let look = look(id, clock).map_err(|error| Refusal::new(format!("POSIX timer {id}"), error))?;
                if time::to_ns(&look.setting.it_value) == 0 {
                    continue;
                }
                if time::to_ns(&look.setting.it_interval) == 0 {
                    saved.once.push(id);
                } else {
                    overdue::note(id, clock, &look);
                }
            }
        }
        saved.once.sort_unstable();
        Ok(())
    })
}

/// Whether an interval timer that was set as `before` has expired, being set as `now`: one that expires again by itself starts
/// again at once, or when its signal is delivered. Of one by CPU time that is about to expire the kernel says that a tick is left,
/// which may be more than before (get_cpu_itimer, kernel/time/itimer.c).
fn has_expired(which: i32, before: &libc::itimerval, now: &libc::itimerval) -> bool {
    const LONGEST_TICK: u64 = 10_000;
    let left = |timer: &libc::itimerval| timer.it_value.tv_sec as u64 * 1_000_000 + timer.it_value.tv_usec as u64;
    let tick = if which == libc::ITIMER_REAL { 0 } else { LONGEST_TICK };
    left(before) != 0 && (left(now) == 0 || left(now) > left(before) + tick)
}

/// Reads all timers. A timer that cannot be made again refuses.
pub fn save() -> Result<(), Refusal> {
    let text = crate::memory::read_all(c"/proc/self/timers")?;
    SAVED.with(|saved| {
        for (at, which) in WHICH.into_iter().enumerate() {
            let now = time::get_itimer(which).ok();
            if matches!((&saved.before[at], &now), (Some(before), Some(now)) if has_expired(which, before, now)) {
                signals::note_pending(SIGNALS[at]);
            }
            let place = &mut saved.intervals[at];
            *place = now;
            if let Some(left) =
                place.as_mut().filter(|left| which == libc::ITIMER_REAL && !time::is_zero(&left.it_value))
            {
                left.it_value = later(&left.it_value, clocks::since_moment() as i64);
            }
        }
        crate::fault::point(zap_wire::fault::SAVING_TIMERS);
        saved.posix.clear();
        for line in text.split(|c| *c == b'\n') {
            let value = value_of(line);
            if line.starts_with(b"ID:") {
                let id = decimal(value).0 as i32;
                let setting =
                    time::timer_gettime(id).map_err(|error| Refusal::new(format!("POSIX timer {id}"), error))?;
                saved.posix.push(PosixTimer {
                    id,
                    clock: 0,
                    signal: 0,
                    value: 0,
                    notify: 0,
                    thread: 0,
                    setting,
                    deadline: None,
                    overdue: 0,
                });
            }
            let Some(timer) = saved.posix.last_mut() else { continue };
            if line.starts_with(b"signal:") {
                let (signal, rest) = decimal(value);
                timer.signal = signal as i32;
                timer.value = hex(rest.get(1..).unwrap_or_default()).0;
            } else if line.starts_with(b"notify:") {
                timer.notify = if value.starts_with(b"none") { libc::SIGEV_NONE } else { libc::SIGEV_SIGNAL };
                if let Some(thread) = thread_in(value) {
                    timer.notify = libc::SIGEV_THREAD_ID;
                    timer.thread = identity::virtual_of(thread).0;
                }
            } else if line.starts_with(b"ClockID:") {
                timer.clock = clocks::by_program(decimal(value).0 as i32);
                if stands(timer.clock) {
                    (timer.clock, timer.setting) = (clocks::OWN_CPU, time::TIMER_OFF);
                }
                if timer.clock < 0 && !is_by_processor(timer) || timer.id > LARGEST_ID {
                    return Err(Refusal::new(
                        format!("POSIX timer {}", timer.id),
                        format!("clock {} cannot be made again", timer.clock),
                    ));
                }
            }
        }
        let once = &saved.once;
        let was_to_expire =
            |timer: &PosixTimer| timer.notify != libc::SIGEV_NONE && once.binary_search(&timer.id).is_ok();
        for timer in saved.posix.iter_mut().filter(|timer| timer.is_armed() || was_to_expire(timer)) {
            let (clock, offset) = clocks::translate(timer.clock);
            let name = || format!("POSIX timer {}", timer.id);
            let look = look(timer.id, clock).map_err(|error| Refusal::new(name(), error))?;
            timer.setting = look.setting;
            if !timer.is_armed() && !signals::tell_of(timer.id, timer.signal) {
                timer.setting.it_value = AT_ONCE;
            }
            timer.overdue = if signals::wait_unread(timer.signal) { 0 } else { overdue::count(timer.id, look.next) };
            if is_by_processor(timer) || is_by_the_wall(timer) {
                // The wall's is the kernel's own.
                timer.deadline = Some(look.next.saturating_add_signed(offset));
            }
            timer.shift(clocks::since_moment() as i64);
        }
        Ok(())
    })
}

/// What a timer is set to.
pub struct Look {
    /// With what was left.
    pub setting: libc::itimerspec,
    /// By the kernel's clock, in nanoseconds.
    pub now: u64,
    /// When it expires next, or not before.
    pub next: u64,
}

/// Looks at the timer that the kernel knows as `id` and at its `clock`, the kernel's. Both cannot be read at once: of several looks
/// the shortest counts.
pub fn look(id: i32, clock: i32) -> zap_sys::Result<Look> {
    const LOOKS: u32 = 10;
    const SHORT: u64 = 3_000;
    let now = || time::to_ns(&time::now(clock));
    let once = || {
        let before = now();
        let setting = time::timer_gettime(id)?;
        let now = now();
        let next = now.saturating_add(time::to_ns(&setting.it_value));
        Ok((now.saturating_sub(before), Look { setting, now, next }))
    };
    let mut best = once()?;
    for _ in 1..LOOKS {
        if best.0 <= SHORT {
            break;
        }
        let next = once()?;
        if next.0 < best.0 {
            best = next;
        }
    }
    Ok(best.1)
}

/// Whether a timer may be set to a time of its `clock` without becoming another: who sets the clock of the wall moves none that was
/// set to a duration.
pub fn is_movable(id: i32, clock: i32) -> bool {
    !is_walls(clock) || noted_wall(id)
}

/// The program's clock of the timer that the kernel knows as `id`. Asked while the program runs.
pub fn clock_of(id: i32) -> Option<i32> {
    told(id, b"ClockID:", |value| Some(clocks::by_program(decimal(value).0 as i32)))
}

/// The thread that the timer which the kernel knows as `id` signals. Asked while the program runs.
pub fn thread_of(id: i32) -> Option<RealPid> {
    told(id, b"notify:", thread_in)
}

/// The thread in what the kernel tells of whom a timer notifies.
fn thread_in(value: &[u8]) -> Option<RealPid> {
    let at = value.windows(5).position(|part| part == b"/tid.")?;
    Some(RealPid(decimal(&value[at + 5..]).0 as i32))
}

/// What `read` makes of the line `name` that the kernel tells of the timer `id`.
fn told<R>(id: i32, name: &[u8], read: impl Fn(&[u8]) -> Option<R>) -> Option<R> {
    let _guard = crate::guard::Guard::enter();
    // The helper, which reads, is another process.
    let path = zap_sys::small!("/proc/{}/timers", zap_sys::process::getpid());
    let text = crate::memory::read_all_beside(path.as_c_str()).ok()?;
    line_of(&text, id, name).and_then(read)
}

/// What a line tells, after its name.
fn value_of(line: &[u8]) -> &[u8] {
    line.iter().position(|c| *c == b' ').map_or(&[][..], |at| &line[at + 1..])
}

/// What stands in the line `name` of the timer `id`, in what the kernel tells of timers.
fn line_of<'a>(text: &'a [u8], id: i32, name: &[u8]) -> Option<&'a [u8]> {
    let mut found = false;
    text.split(|c| *c == b'\n').find_map(|line| {
        let value = value_of(line);
        if line.starts_with(b"ID:") {
            found = decimal(value).0 as i32 == id;
        }
        (found && line.starts_with(name)).then_some(value)
    })
}

/// `time` and so many nanoseconds, at least a microsecond.
fn later(time: &libc::timeval, by: i64) -> libc::timeval {
    let microseconds = (time.tv_sec * 1_000_000 + time.tv_usec + by / 1000).max(1);
    libc::timeval { tv_sec: microseconds / 1_000_000, tv_usec: microseconds % 1_000_000 }
}

/// Makes all timers again; the threads that some of them signal exist.
pub fn restore() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        for (value, which) in saved.intervals.iter().zip(WHICH) {
            let Some(mut value) = *value else { continue };
            // One that has expired starts again when its signal is delivered, and shows nothing left until then.
            if time::is_zero(&value.it_value) {
                value.it_value = value.it_interval;
            } else if which == libc::ITIMER_REAL {
                value.it_value = later(&value.it_value, -(clocks::since_moment() as i64));
            }
            if !time::is_zero(&value.it_value) {
                time::set_itimer(which, &value).map_err(|error| Refusal::new("interval timer", error))?;
            }
        }
        saved.posix.sort_by_key(|timer| timer.id);
        saved.posix.iter().try_for_each(restore_one)
    })
}

/// Queues the signal of a timer that has expired `count` times, and then ticks on.
fn tell(timer: &PosixTimer, event: &TimerEvent, count: u64) {
    let mut info: Info = [0; 32];
    let overrun = i32::try_from(count.saturating_sub(1)).unwrap_or(i32::MAX);
    let words = [timer.signal, 0, libc::SI_TIMER, 0, timer.id, overrun, timer.value as i32, (timer.value >> 32) as i32];
    info.iter_mut().zip(words).for_each(|(to, word)| *to = word as u32);
    let process = zap_sys::process::getpid();
    let _ = match timer.notify {
        libc::SIGEV_NONE => Ok(()),
        libc::SIGEV_THREAD_ID => zap_sys::signal::queue_info_for_thread(process, RealPid(event.thread), &info),
        _ => zap_sys::signal::queue_info(process, &info),
    };
}

/// How timer_settime(2) is to be called for an armed timer: flags, and when it expires, in nanoseconds. Where that has passed since
/// the clocks go on, the kernel counts from there.
fn setting_of(timer: &PosixTimer, event: &TimerEvent) -> (i32, u64) {
    let (clock, offset) = clocks::translate(timer.clock);
    let left = time::to_ns(&timer.setting.it_value) as i64 - clocks::since_moment() as i64;
    let interval = time::to_ns(&timer.setting.it_interval);
    if timer.deadline.is_none() && timer.overdue == 0 && left > 0 {
        return (0, left as u64);
    }
    if timer.deadline.is_none() && is_walls(timer.clock) {
        // Set to a time of the wall, it would be moved by who sets the clock.
        let Some(whole) = left.unsigned_abs().checked_div(interval) else { return (0, 1) };
        let missed = if left > 0 { 0 } else { whole + 1 };
        tell(timer, event, timer.overdue + missed);
        return (0, (missed * interval).saturating_add_signed(left).max(1));
    }
    let next = match timer.deadline {
        Some(deadline) => deadline.saturating_add_signed(-offset),
        None => time::to_ns(&time::now(clock)).saturating_add_signed(left),
    };
    let next = next.max(1);
    let first = overdue::first(next, interval, timer.overdue);
    if first.is_none() {
        // A clock of CPU time has begun anew, or that of a host.
        tell(timer, event, timer.overdue);
    }
    (libc::TIMER_ABSTIME, first.unwrap_or(next))
}

fn restore_one(timer: &PosixTimer) -> Result<(), Refusal> {
    crate::fault::point(zap_wire::fault::RESTORING_TIMERS);
    let refusal = |error: zap_sys::SysError| Refusal::new(format!("POSIX timer {}", timer.id), error);
    let event = TimerEvent {
        value: timer.value,
        signal: timer.signal,
        notify: timer.notify,
        thread: identity::real_of(VirtualPid(timer.thread)).0,
        ..TimerEvent::default()
    };
    loop {
        let id = time::timer_create(clocks::translate(timer.clock).0, &event).map_err(refusal)?;
        if id == timer.id {
            break;
        }
        time::timer_delete(id).map_err(refusal)?;
        if id > timer.id {
            return Err(Refusal::new(format!("POSIX timer {}", timer.id), "its id is taken"));
        }
    }
    if timer.is_armed() {
        let (flags, value) = setting_of(timer, &event);
        let setting = libc::itimerspec { it_value: time::from_ns(value), ..timer.setting };
        time::timer_settime(timer.id, flags, &setting).map_err(refusal)?;
    }
    Ok(())
}
