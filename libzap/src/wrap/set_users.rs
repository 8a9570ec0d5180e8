//! setuid(2) and its kind in a program with threads: the kernel changes one thread, libc has all others do the same. It finds
//! them by the ids in their control blocks, which after a restart nobody has: they would stay who they were, unseen. So where
//! ids differ this is done here, by libc's own signal for it, which no thread blocks.
//!
//! # Safety
//! As in the module's head. The handler makes one system call.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering};
use libc::{c_char, c_int, c_long, gid_t, size_t, uid_t};
use redhook::{hook, real};
use zap_engine::broadcast::broadcast;
use zap_engine::guard::Guard;
use zap_engine::{identity, libcs_signal, state};
use zap_sys::signal::{self, KernelAction};
use zap_sys::{process, RawFd, RealPid, VirtualPid};

super::resolve_all!(setuid, setgid, seteuid, setegid, setreuid, setregid, setresuid, setresgid, setgroups, initgroups,);

/// One broadcast at a time.
#[link_section = ".zap.child"]
static BUSY: AtomicU32 = AtomicU32::new(0);
static NUMBER: AtomicUsize = AtomicUsize::new(0);
static ARGUMENTS: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
/// The threads that are told: [`MOST_THREADS`] places, of which the first so many are taken.
static TOLD: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);
/// Changes whenever a thread has made the call; what it has said to one with which it failed.
static DONE: AtomicU32 = AtomicU32::new(0);
static FAILED: AtomicI32 = AtomicI32::new(0);

/// Most threads that a broadcast reaches; with more the call fails.
const MOST_THREADS: usize = 1 << 16;

/// The places in use: a thread's id as the program knows it, which a restart meanwhile does not change; negative when the thread
/// has made the call.
fn told() -> &'static [AtomicI32] {
    let (start, count) = (TOLD.load(Ordering::Acquire), COUNT.load(Ordering::Acquire));
    // SAFETY: null, or a mapping of that many words, which lasts as long as a broadcast.
    unsafe {
        core::slice::from_raw_parts(
            core::ptr::with_exposed_provenance(start.max(4)),
            if start == 0 { 0 } else { count },
        )
    }
}

extern "C" fn follow(_: c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let [a, b, c] = [0, 1, 2].map(|at: usize| ARGUMENTS[at].load(Ordering::Relaxed));
    // SAFETY: a call that has succeeded in another thread; its arguments outlive the broadcast.
    let result =
        unsafe { zap_sys::arch::syscall::syscall(NUMBER.load(Ordering::Acquire) as c_long, [a, b, c, 0, 0, 0]) };
    if let Err(errno) = result {
        FAILED.store(errno.0, Ordering::Relaxed);
    }
    let own = {
        let _guard = Guard::enter();
        identity::virtual_of(process::gettid()).0
    };
    // Nothing of the broadcast is touched after this.
    let place = told().iter().find(|place| place.load(Ordering::Relaxed) == own);
    DONE.fetch_add(1, Ordering::AcqRel);
    if let Some(place) = place {
        place.store(-own, Ordering::Release);
    }
    zap_sys::futex::wake(&DONE, 1);
}

/// Whether `real` is the main thread and has ended by pthread_exit: it is there until the process ends.
fn is_ended_main(real: i32) -> bool {
    let mut text = [0u8; 512];
    real == process::getpid().0
        && zap_sys::fd::read_file(zap_sys::small!("/proc/self/task/{real}/stat").as_c_str(), &mut text)
            .is_ok_and(|stat| matches!(process::state_letter(stat), b'Z' | b'X'))
}

/// What a broadcast needs, had before the call, since nothing may fail after it: a thread that stays who it was is a hole.
struct Broadcast {
    tasks: RawFd,
    memory: u64,
    libcs: KernelAction,
}

const MEMORY: u64 = (MOST_THREADS * size_of::<AtomicI32>()) as u64;

impl Broadcast {
    fn prepare() -> zap_sys::Result<Self> {
        let tasks = zap_sys::fd::open(c"/proc/self/task", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        let rest = || {
            // Nothing may fail after the call.
            let mut count = 0;
            zap_sys::fd::each_number_in(tasks, |_| count += 1)?;
            if count > MOST_THREADS / 2 {
                return Err(zap_sys::SysError::new("setuid", libc::EAGAIN));
            }
            // SAFETY: new memory wherever the kernel likes.
            let memory = unsafe { zap_sys::mem::map(0, MEMORY, protection, flags, -1, 0) }?;
            match libcs_signal::take(follow) {
                Ok(libcs) => Ok((memory, libcs)),
                Err(error) => {
                    // SAFETY: mapped above, used by nobody.
                    let _ = unsafe { zap_sys::mem::unmap(memory, MEMORY) };
                    Err(error)
                }
            }
        };
        match rest() {
            Ok((memory, libcs)) => {
                COUNT.store(0, Ordering::Relaxed);
                TOLD.store(memory as usize, Ordering::Release);
                FAILED.store(0, Ordering::Relaxed);
                Ok(Self { tasks, memory, libcs })
            }
            Err(error) => {
                let _ = zap_sys::fd::close(tasks);
                Err(error)
            }
        }
    }

    /// Has every other thread make the call; its arguments are in place.
    fn send(&self) {
        // Until no thread is found that has not been told: those may have made others.
        loop {
            let before = COUNT.load(Ordering::Relaxed);
            let mut whole = true;
            // Whoever waits is not in a guarded section: a thread that stands could not make the call.
            let guard = Guard::enter();
            let own = process::gettid();
            let found = zap_sys::fd::each_number_in(self.tasks, |real| {
                let count = COUNT.load(Ordering::Relaxed);
                let tid = identity::virtual_of(RealPid(real)).0;
                if real == own.0
                    || is_ended_main(real)
                    || told().iter().any(|place| place.load(Ordering::Relaxed).abs() == tid)
                {
                    return;
                }
                whole = count < MOST_THREADS;
                if whole {
                    COUNT.store(count + 1, Ordering::Release);
                    told()[count].store(tid, Ordering::Release);
                    // One that has ended meanwhile needs nothing. Without a place in the queue of signals it would stay who it is.
                    while signal::tgkill(process::getpid(), RealPid(real), libcs_signal::NUMBER)
                        .is_err_and(|error| error.is(libc::EAGAIN))
                    {
                        zap_sys::time::sleep_ns(1_000_000);
                    }
                }
            });
            drop(guard);
            if found.is_err() || !whole {
                FAILED.store(libc::EAGAIN, Ordering::Relaxed);
            }
            if COUNT.load(Ordering::Relaxed) == before {
                break;
            }
            self.await_all();
        }
        if FAILED.load(Ordering::Relaxed) != 0 {
            // As libc does: threads with different rights are a hole.
            // SAFETY: ends the program.
            unsafe { libc::abort() };
        }
    }

    /// Waits until every thread that has been told has made the call, or has ended.
    fn await_all(&self) {
        let mut round = 0;
        loop {
            let done = DONE.load(Ordering::Acquire);
            let lives = |tid: i32| {
                let _guard = Guard::enter();
                let real = identity::real_of(VirtualPid(tid));
                signal::tgkill(process::getpid(), real, 0).is_ok() && !is_ended_main(real.0)
            };
            let waits = |place: &&AtomicI32| {
                let tid = place.load(Ordering::Acquire);
                // Whether they live is asked now and then: most only need a moment.
                tid > 0 && (round % 16 != 15 || lives(tid))
            };
            if told().iter().find(waits).is_none() {
                return;
            }
            let _ = zap_sys::futex::wait(&DONE, done, Some(&zap_sys::time::from_ns(1_000_000)));
            round += 1;
        }
    }

    fn end(self) {
        libcs_signal::give_back(&self.libcs);
        TOLD.store(0, Ordering::Release);
        // SAFETY: mapped by `prepare`; every thread that has been told is past it, or has ended.
        let _ = unsafe { zap_sys::mem::unmap(self.memory, MEMORY) };
        let _ = zap_sys::fd::close(self.tasks);
    }
}

/// Does `libcs`, the call of libc's own function, or where ids differ the system call on every thread.
fn in_every_thread(libcs: impl FnOnce() -> c_int, number: c_long, arguments: [usize; 3]) -> c_int {
    match state::moved() {
        // There is only this thread, or nobody who would suspend any.
        false if libcs_signal::is_before_first_thread() || !state::active() => libcs(),
        // The child of a vfork has no other, and its parent's memory.
        false if process::getpid() != state::real_pid() => libcs(),
        false => broadcast(libcs),
        true => {
            let [a, b, c] = arguments;
            // SAFETY: the caller's arguments.
            let call = || unsafe { zap_sys::arch::syscall::syscall(number, [a, b, c, 0, 0, 0]) };
            let result = if process::getpid() != state::real_pid() {
                call()
            } else {
                broadcast(|| everywhere(call, number, arguments))
            };
            result.map_or_else(|errno| super::fail(errno.0), |_| 0)
        }
    }
}

/// Makes `call` here and then on every other thread. EAGAIN where the threads cannot be listed.
fn everywhere(
    call: impl FnOnce() -> Result<usize, zap_sys::Errno>,
    number: c_long,
    arguments: [usize; 3],
) -> Result<usize, zap_sys::Errno> {
    while BUSY.swap(1, Ordering::Acquire) != 0 {
        let _ = zap_sys::futex::wait(&BUSY, 1, Some(&zap_sys::time::from_ns(1_000_000)));
    }
    let result = Broadcast::prepare().map_err(|_| zap_sys::Errno(libc::EAGAIN)).and_then(|broadcast| {
        // First here: where it fails, nobody follows.
        let result = call();
        if result.is_ok() {
            NUMBER.store(number as usize, Ordering::Release);
            ARGUMENTS.iter().zip(arguments).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
            broadcast.send();
        }
        broadcast.end();
        result
    });
    BUSY.store(0, Ordering::Release);
    zap_sys::futex::wake(&BUSY, 1);
    result
}

/// In the child of a fork.
#[inline(always)]
pub fn begin_in_child() {
    if BUSY.load(Ordering::Relaxed) != 0 {
        BUSY.store(0, Ordering::Relaxed);
    }
    libcs_signal::forget();
    zap_engine::broadcast::forget();
}

/// "No change" in the calls of several ids.
const KEPT: u32 = u32::MAX;

macro_rules! set_ids {
    ($($name:ident($($argument:ident: $type:ty),*) $hooked:ident = $number:ident[$a:expr, $b:expr, $c:expr] $(unless $wrong:expr)?;)*) => {
        $(
            hook! { unsafe fn $name($($argument: $type),*) -> c_int => $hooked {
                $(if $wrong {
                    return super::fail(libc::EINVAL);
                })?
                // SAFETY: the caller's arguments.
                let libcs = || unsafe { real!($name)($($argument),*) };
                in_every_thread(libcs, libc::$number, [$a as usize, $b as usize, $c as usize])
            } }
        )*
    };
}

set_ids! {
    setuid(user: uid_t) zap_setuid = SYS_setuid[user, 0, 0];
    setgid(group: gid_t) zap_setgid = SYS_setgid[group, 0, 0];
    seteuid(user: uid_t) zap_seteuid = SYS_setresuid[KEPT, user, KEPT] unless user == KEPT;
    setegid(group: gid_t) zap_setegid = SYS_setresgid[KEPT, group, KEPT] unless group == KEPT;
    setreuid(user: uid_t, effective: uid_t) zap_setreuid = SYS_setreuid[user, effective, 0];
    setregid(group: gid_t, effective: gid_t) zap_setregid = SYS_setregid[group, effective, 0];
    setresuid(user: uid_t, effective: uid_t, saved: uid_t) zap_setresuid = SYS_setresuid[user, effective, saved];
    setresgid(group: gid_t, effective: gid_t, saved: gid_t) zap_setresgid = SYS_setresgid[group, effective, saved];
    setgroups(count: size_t, groups: *const gid_t) zap_setgroups = SYS_setgroups[count, groups, 0];
}

hook! { unsafe fn initgroups(user: *const c_char, group: gid_t) -> c_int => zap_initgroups {
    if !state::moved() && libcs_signal::is_before_first_thread() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(initgroups)(user, group) };
    }
    /// NGROUPS_MAX of Linux.
    const MOST: usize = 65536;
    const LENGTH: u64 = (MOST * size_of::<gid_t>()) as u64;
    extern "C" fn give_back(memory: *mut c_void) {
        // SAFETY: mapped below, and used by nobody any more.
        let _ = unsafe { zap_sys::mem::unmap(memory as u64, LENGTH) };
    }
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: new memory wherever the kernel likes.
    let Ok(memory) = (unsafe { zap_sys::mem::map(0, LENGTH, protection, flags, -1, 0) }) else {
        return super::fail(libc::ENOMEM);
    };
    let groups = memory as *mut gid_t;
    let result = super::mutex::with_cleanup(give_back, groups.cast(), || {
        let mut count = MOST as c_int;
        // SAFETY: the caller's string, and room for as many as there can be.
        if unsafe { libc::getgrouplist(user, group, groups, &mut count) } < 0 {
            return super::fail(libc::EINVAL);
        }
        // The kernel may be made to allow fewer than the user is in: then libc leaves the last ones out.
        loop {
            // SAFETY: a list of our own.
            let result = unsafe { libc::setgroups(count as size_t, groups) };
            // SAFETY: errno's address is valid in every thread.
            if result != -1 || unsafe { *libc::__errno_location() } != libc::EINVAL || count <= 1 {
                return result;
            }
            count -= 1;
        }
    });
    // unmap is a system call of Zap's own: errno stays.
    give_back(groups.cast());
    result
} }
