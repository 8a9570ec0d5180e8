//! The program's own time: clocks that stand still while it does not exist, and go on at its restart.
//!
//! CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the host's boot, CPU-time clocks from the start of a process; to a
//! restarted program both would leap or go back. So each has an offset, which [`crate::vdso`] adds to what the kernel
//! tells, and which wrappers subtract from deadlines that the program gives to the kernel. All offsets are zero until
//! the first restart. CLOCK_REALTIME and CLOCK_TAI tell the true time.
//!
//! What has passed on a clock is noted when the program stands ([`save`]); the offset is the difference to the new
//! kernel's reading, taken as the program's last act of coming back ([`restore`]).

use crate::guard;
use crate::identity;
use crate::state::{self, Owned};
use core::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use zap_sys::usage::{self, Usage};
use zap_sys::{libc, time, RealPid, VirtualPid};

/// Nanoseconds between the program's clock and the kernel's.
static MONOTONIC: AtomicI64 = AtomicI64::new(0);
static MONOTONIC_RAW: AtomicI64 = AtomicI64::new(0);
static BOOTTIME: AtomicI64 = AtomicI64::new(0);
static PROCESS_CPU: AtomicI64 = AtomicI64::new(0);
/// Ticks between the program's times(2) and the kernel's.
static TICKS: AtomicI64 = AtomicI64::new(0);
/// How the kernel's clocks have moved at the last restart: see [`Shift`].
static SHIFT: [AtomicI64; 2] = [AtomicI64::new(0), AtomicI64::new(0)];
/// Number of restarts; see [`generation`].
#[allow(unsafe_code)] // A section in which nothing but such words stand.
#[link_section = ".zap.child"]
pub static GENERATION: AtomicU32 = AtomicU32::new(0);

/// What had passed when the program was stopped, in its own time.
struct Saved {
    monotonic: i64,
    monotonic_raw: i64,
    boottime: i64,
    process_cpu: i64,
    ticks: i64,
    own: Usage,
    children: Usage,
}

static SAVED: Owned<Saved> = Owned::new(Saved {
    monotonic: 0,
    monotonic_raw: 0,
    boottime: 0,
    process_cpu: 0,
    ticks: 0,
    own: Usage::NONE,
    children: Usage::NONE,
});

/// What getrusage(2) must add: for the process itself, and for its children.
static USED: [Addition; 2] = [const { Addition::new() }; 2];

/// A [`Usage`] that wrappers read in any thread.
struct Addition {
    user: AtomicI64,
    system: AtomicI64,
    max_rss: AtomicI64,
    counts: [AtomicI64; 6],
}

impl Addition {
    const fn new() -> Self {
        Self {
            user: AtomicI64::new(0),
            system: AtomicI64::new(0),
            max_rss: AtomicI64::new(0),
            counts: [const { AtomicI64::new(0) }; 6],
        }
    }

    fn set(&self, usage: &Usage) {
        self.user.store(usage.user, Ordering::Relaxed);
        self.system.store(usage.system, Ordering::Relaxed);
        self.max_rss.store(usage.max_rss, Ordering::Relaxed);
        self.counts.iter().zip(usage.counts).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
    }

    fn add(&self, usage: &Usage) {
        self.user.fetch_add(usage.user, Ordering::Relaxed);
        self.system.fetch_add(usage.system, Ordering::Relaxed);
    }

    fn get(&self) -> Usage {
        let mut counts = [0; 6];
        counts.iter_mut().zip(&self.counts).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
        Usage {
            user: self.user.load(Ordering::Relaxed),
            system: self.system.load(Ordering::Relaxed),
            max_rss: self.max_rss.load(Ordering::Relaxed),
            counts,
        }
    }
}

fn kernel_ns(clock: i32) -> i64 {
    time::to_ns(&time::now(clock)) as i64
}

/// When the clocks have stopped, or gone on: on the clock of the wall, which is the one that all processes of a pod share
/// whatever time namespace they are in (time_namespaces(7)).
static MOMENT: AtomicI64 = AtomicI64::new(0);

/// Longest time, in nanoseconds, that is taken for the time since the moment: more comes of a wall clock that is set.
const LONGEST: i64 = 300_000_000_000;

/// The clocks of the whole pod have stopped at `stopped_ns` (CLOCK_REALTIME).
pub fn stop(stopped_ns: u64) {
    MOMENT.store(stopped_ns as i64, Ordering::Relaxed);
}

/// Nanoseconds since [`stop`], or since the clocks have gone on by [`Start`]. What is left of a timer is more by the one,
/// and less by the other.
pub fn since_moment() -> u64 {
    until(kernel_ns(libc::CLOCK_REALTIME)) as u64
}

fn until(wall_ns: i64) -> i64 {
    (wall_ns - MOMENT.load(Ordering::Relaxed)).clamp(0, LONGEST)
}

/// What the kernel's `clock` said at the moment: least and most. Two clocks cannot be read at once, and the thread may lose the
/// processor in between: of several looks the shortest counts.
fn at_moment(clock: i32) -> (i64, i64) {
    const LOOKS: u32 = 20;
    const SHORT: i64 = 2_000;
    let look = || {
        let before = until(kernel_ns(libc::CLOCK_REALTIME));
        let reading = kernel_ns(clock);
        (reading - until(kernel_ns(libc::CLOCK_REALTIME)), reading - before)
    };
    let mut best = look();
    for _ in 1..LOOKS {
        if best.1 - best.0 <= SHORT {
            break;
        }
        let next = look();
        if next.1 - next.0 < best.1 - best.0 {
            best = next;
        }
    }
    best
}

/// Notes the clocks as they were when they have stopped. Every thread stands, and has noted its own CPU time
/// ([`thread_cpu`]).
pub fn save() {
    SAVED.with(|saved| {
        // Neither here nor in [`Start`] may the program lose time: a timer would be over before it.
        saved.monotonic = at_moment(libc::CLOCK_MONOTONIC).1 + MONOTONIC.load(Ordering::Relaxed);
        saved.monotonic_raw = at_moment(libc::CLOCK_MONOTONIC_RAW).1 + MONOTONIC_RAW.load(Ordering::Relaxed);
        saved.boottime = at_moment(libc::CLOCK_BOOTTIME).1 + BOOTTIME.load(Ordering::Relaxed);
        saved.process_cpu = kernel_ns(libc::CLOCK_PROCESS_CPUTIME_ID) + PROCESS_CPU.load(Ordering::Relaxed);
        saved.ticks = usage::ticks() + TICKS.load(Ordering::Relaxed);
        saved.own = usage::of(libc::RUSAGE_SELF).plus(&added(libc::RUSAGE_SELF));
        saved.children = usage::of(libc::RUSAGE_CHILDREN).plus(&added(libc::RUSAGE_CHILDREN));
    });
}

/// The kernel's clocks at which those of the program go on.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    monotonic: i64,
    monotonic_raw: i64,
    boottime: i64,
}

impl Start {
    /// As they were at `started_ns` (CLOCK_REALTIME): the same moment for all processes of a pod, and before any timer is
    /// set anew.
    pub fn at(started_ns: u64) -> Self {
        MOMENT.store(started_ns as i64, Ordering::Relaxed);
        Self {
            monotonic: at_moment(libc::CLOCK_MONOTONIC).0,
            monotonic_raw: at_moment(libc::CLOCK_MONOTONIC_RAW).0,
            boottime: at_moment(libc::CLOCK_BOOTTIME).0,
        }
    }
}

/// Makes the clocks go on from `start`. No thread of the program runs yet.
pub fn restore(start: Start) {
    SAVED.with(|saved| {
        let before = (MONOTONIC.load(Ordering::Relaxed), BOOTTIME.load(Ordering::Relaxed));
        let now = (saved.monotonic - start.monotonic, saved.boottime - start.boottime);
        MONOTONIC.store(now.0, Ordering::Relaxed);
        BOOTTIME.store(now.1, Ordering::Relaxed);
        MONOTONIC_RAW.store(saved.monotonic_raw - start.monotonic_raw, Ordering::Relaxed);
        PROCESS_CPU.store(saved.process_cpu - kernel_ns(libc::CLOCK_PROCESS_CPUTIME_ID), Ordering::Relaxed);
        TICKS.store(saved.ticks - usage::ticks(), Ordering::Relaxed);
        USED[0].set(&saved.own.minus(&usage::of(libc::RUSAGE_SELF)));
        USED[1].set(&saved.children.minus(&usage::of(libc::RUSAGE_CHILDREN)));
        GENERATION.fetch_add(1, Ordering::Release);
        SHIFT[0].store(before.0 - now.0, Ordering::Relaxed);
        SHIFT[1].store(before.1 - now.1, Ordering::Relaxed);
    })
}

/// In the child of a fork: its CPU time and usage begin anew, its other clocks are its parent's.
#[inline]
pub fn begin_in_child() {
    if GENERATION.load(Ordering::Relaxed) != 0 {
        PROCESS_CPU.store(0, Ordering::Relaxed);
        guard::block().cpu_offset.store(0, Ordering::Relaxed);
        USED.iter().for_each(|usage| usage.set(&Usage::NONE));
    }
}

/// How the kernel's clocks have moved between two lives, in nanoseconds: what is to be added to a deadline that the
/// kernel of the last life was given.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    pub monotonic: i64,
    pub boottime: i64,
}

/// How the kernel's clocks have moved at the last restart.
pub fn shift() -> Shift {
    Shift { monotonic: SHIFT[0].load(Ordering::Relaxed), boottime: SHIFT[1].load(Ordering::Relaxed) }
}

/// Changes with every restart.
#[inline]
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Acquire)
}

/// Whether the program's clocks differ from the kernel's.
#[inline]
pub fn shifted() -> bool {
    generation() != 0
}

/// Whether a restart moves `clock`: then a deadline on it has to be noted.
#[inline]
pub fn moves(clock: i32) -> bool {
    matches!(clock, libc::CLOCK_MONOTONIC | libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM)
}

/// The point `time` of the program's `clock` in the kernel's time.
pub fn to_kernel(clock: i32, time: &libc::timespec) -> libc::timespec {
    time::shifted(time, -translate(clock).1)
}

/// The kernel's clock for the program's `clock`, and what to add to its time in nanoseconds.
#[inline]
pub fn translate(clock: i32) -> (i32, i64) {
    let offset = match clock {
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE => &MONOTONIC,
        libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => &BOOTTIME,
        libc::CLOCK_MONOTONIC_RAW => &MONOTONIC_RAW,
        libc::CLOCK_PROCESS_CPUTIME_ID => &PROCESS_CPU,
        libc::CLOCK_THREAD_CPUTIME_ID => &guard::block().cpu_offset,
        clock if clock < 0 => return translate_dynamic(clock),
        clock => return (clock, 0),
    };
    (clock, offset.load(Ordering::Relaxed))
}

/// Bits of a clock that belongs to a process or thread (the kernel's posix-timers_types.h): its id, inverted, above
/// three bits, of which the third says that it is a thread's. All three set: a descriptor's clock.
const THREAD_CLOCK: i32 = 4;
const KIND_MASK: i32 = 7;
const DESCRIPTOR_CLOCK: i32 = 3;

/// The kernel's name for the process's own CPU clock: what it tells of timers on CLOCK_PROCESS_CPUTIME_ID.
pub const OWN_CPU: i32 = (!0 << 3) | SCHEDULED;
/// A clock of all CPU time (CPUCLOCK_SCHED of the kernel's posix-timers_types.h).
const SCHEDULED: i32 = 2;

/// The CPU clock of the process `id`, by the program's id.
pub fn of_process(id: VirtualPid) -> i32 {
    (!id.0 << 3) | SCHEDULED
}

fn is_descriptors(clock: i32) -> bool {
    clock & KIND_MASK == DESCRIPTOR_CLOCK
}

/// The program's name for the kernel's `clock` of a timer: with the program's id in it, or without one if it is the process's own
/// CPU clock.
pub fn by_program(clock: i32) -> i32 {
    let id = RealPid(!(clock >> 3));
    if clock >= 0 || is_descriptors(clock) || id.0 == 0 {
        clock
    } else if clock & THREAD_CLOCK != 0 {
        (!identity::virtual_of(id).0 << 3) | (clock & KIND_MASK)
    } else if clock == (!state::real_pid().0 << 3) | SCHEDULED {
        OWN_CPU
    } else {
        clock
    }
}

/// Whether the kernel's `clock` of a timer is the CPU clock of a thread that it does not name.
pub fn is_of_nobody(clock: i32) -> bool {
    clock < 0 && !is_descriptors(clock) && clock & THREAD_CLOCK != 0 && clock >> 3 == !0
}

/// The thread whose CPU clock the program's `clock` is, if it names one.
pub fn thread_of(clock: i32) -> Option<VirtualPid> {
    let of_thread = clock < 0 && !is_descriptors(clock) && clock & THREAD_CLOCK != 0;
    Some(VirtualPid(!(clock >> 3))).filter(|id| of_thread && id.0 != 0)
}

/// The clock that a timer is to have in place of `clock`: one that a restart can find again. The kernel tells of a timer on the
/// calling thread's CPU clock only that it is on a thread's, so it is given a name; the program's own clock by its id
/// (clock_getcpuclockid(3)) loses it.
pub fn lasting(clock: i32) -> i32 {
    if clock == of_process(state::virtual_pid()) {
        libc::CLOCK_PROCESS_CPUTIME_ID
    } else if clock == libc::CLOCK_THREAD_CPUTIME_ID || is_of_nobody(clock) {
        let kind = if clock < 0 { clock & KIND_MASK } else { THREAD_CLOCK | SCHEDULED };
        (!zap_sys::process::gettid().0 << 3) | kind
    } else if thread_of(clock).is_some() {
        translate(clock).0
    } else {
        clock
    }
}

fn translate_dynamic(clock: i32) -> (i32, i64) {
    if is_descriptors(clock) {
        return (clock, 0);
    }
    let (id, of_thread) = (VirtualPid(!(clock >> 3)), clock & THREAD_CLOCK != 0);
    if of_thread {
        let offset = if id.0 == 0 { cpu_offset() } else { identity::cpu_offset_of(id) };
        return (with_id(clock, id), offset);
    }
    let own = id.0 == 0 || id == state::virtual_pid();
    (with_id(clock, id), if own { PROCESS_CPU.load(Ordering::Relaxed) } else { 0 })
}

fn with_id(clock: i32, id: VirtualPid) -> i32 {
    let real = if id.0 == 0 { RealPid(0) } else { identity::real_of(id) };
    (!real.0 << 3) | (clock & KIND_MASK)
}

fn cpu_offset() -> i64 {
    guard::block().cpu_offset.load(Ordering::Relaxed)
}

/// CPU time of the calling thread, in nanoseconds of the program's own time.
pub fn thread_cpu() -> i64 {
    kernel_ns(libc::CLOCK_THREAD_CPUTIME_ID) + cpu_offset()
}

/// Makes `offset` what is added to the kernel's CPU time of the calling thread, a restarted one.
pub fn set_thread_cpu(offset: i64) {
    guard::block().cpu_offset.store(offset, Ordering::Relaxed);
}

/// What is to be added to getrusage(2) of `who`: RUSAGE_SELF, RUSAGE_CHILDREN or RUSAGE_THREAD.
pub fn added(who: i32) -> Usage {
    match who {
        libc::RUSAGE_SELF => USED[0].get(),
        libc::RUSAGE_CHILDREN => USED[1].get(),
        libc::RUSAGE_THREAD => Usage::of_time(cpu_offset().max(0)),
        _ => Usage::NONE,
    }
}

/// A child has been waited for that had used so much in an earlier life.
pub fn add_childs(usage: &Usage) {
    USED[1].add(usage);
}

/// What is to be added to the result of times(2), in ticks.
pub fn added_ticks() -> i64 {
    TICKS.load(Ordering::Relaxed)
}
