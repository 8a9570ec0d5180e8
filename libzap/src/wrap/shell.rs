//! system(3) and popen(3): libc's own spawn the shell past the wrappers, which then is not in the pod. Here they are made
//! anew upon the wrapped calls, with what glibc does in each case (sysdeps/posix/system.c, libio/iopopen.c).
//!
//! # Safety
//! As in the module's head. What lies under [`LOCK`] is touched by its holder alone.
#![allow(unsafe_code)]

use super::mutex::with_cleanup;
use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int, c_void, CStr};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use libc::{pid_t, sigset_t, FILE};
use redhook::{hook, real};
use zap_engine::state;

super::resolve_all!(system, popen, pclose, fclose);

const SHELL: &CStr = c"/bin/sh";

/// libc's status of a shell that could not be run (W_EXITCODE (127, 0)).
const NOT_RUN: c_int = 127 << 8;

/// A lock like libc's own of these functions: it is not held while anybody waits for a child.
struct Lock(AtomicU32);

impl Lock {
    fn with<R>(&self, work: impl FnOnce() -> R) -> R {
        while self.0.swap(1, Ordering::Acquire) != 0 {
            let _ = zap_sys::futex::wait(&self.0, 1, Some(&zap_sys::time::from_ns(1_000_000)));
        }
        let result = work();
        self.0.store(0, Ordering::Release);
        zap_sys::futex::wake(&self.0, 1);
        result
    }
}

#[link_section = ".zap.child"]
static LOCK: Lock = Lock(AtomicU32::new(0));

/// In the child of a fork: the lock may have been held by a thread that the child has not.
#[inline(always)]
pub fn begin_in_child() {
    // A page that is not written need not be copied.
    if LOCK.0.load(Ordering::Relaxed) != 0 {
        LOCK.0.store(0, Ordering::Relaxed);
    }
    if CALLS.load(Ordering::Relaxed) != 0 {
        CALLS.store(0, Ordering::Relaxed);
    }
}

/// Calls of system(3) that are under way; the first has saved the dispositions, the last puts them back.
#[link_section = ".zap.child"]
static CALLS: AtomicU32 = AtomicU32::new(0);

/// SIGINT's and SIGQUIT's dispositions while they are ignored.
struct Saved(UnsafeCell<[libc::sigaction; 2]>);

// SAFETY: touched under LOCK alone.
unsafe impl Sync for Saved {}

// SAFETY: all-zero is a valid action.
static SAVED: Saved = Saved(UnsafeCell::new(unsafe { core::mem::zeroed() }));

const IGNORED: [c_int; 2] = [libc::SIGINT, libc::SIGQUIT];

/// Ignores both signals; whether each was ignored before.
fn ignore() -> [bool; 2] {
    LOCK.with(|| {
        // SAFETY: under the lock.
        let saved = unsafe { &mut *SAVED.0.get() };
        if CALLS.fetch_add(1, Ordering::Relaxed) == 0 {
            // SAFETY: all-zero is a valid action.
            let mut action: libc::sigaction = unsafe { core::mem::zeroed() };
            action.sa_sigaction = libc::SIG_IGN;
            for (number, old) in IGNORED.into_iter().zip(saved.iter_mut()) {
                // SAFETY: two actions of our own.
                unsafe { libc::sigaction(number, &action, old) };
            }
        }
        saved.map(|old| old.sa_sigaction == libc::SIG_IGN)
    })
}

/// Undoes [`ignore`].
fn heed() {
    LOCK.with(|| {
        if CALLS.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SAFETY: under the lock.
            let saved = unsafe { &*SAVED.0.get() };
            for (number, old) in IGNORED.into_iter().zip(saved) {
                // SAFETY: the program's own action.
                unsafe { libc::sigaction(number, old, core::ptr::null_mut()) };
            }
        }
    });
}

/// Spawns the shell with `command`. `Err` with an error number.
fn spawn_shell(
    command: *const c_char,
    actions: *const libc::posix_spawn_file_actions_t,
    attributes: *const libc::posix_spawnattr_t,
) -> Result<pid_t, c_int> {
    extern "C" {
        static environ: *const *mut c_char;
    }
    let words = [c"sh".as_ptr().cast_mut(), c"-c".as_ptr().cast_mut(), command.cast_mut(), core::ptr::null_mut()];
    let mut child = 0;
    // SAFETY: strings that outlive the call, and the program's environment.
    match unsafe { libc::posix_spawn(&mut child, SHELL.as_ptr(), actions, attributes, words.as_ptr(), environ) } {
        0 => Ok(child),
        error => Err(error),
    }
}

/// Waits for the end of `child`; its status, or -1 with errno set.
fn await_child(child: pid_t) -> c_int {
    let mut status = -1;
    loop {
        // SAFETY: a place of our own.
        let found = unsafe { libc::waitpid(child, &mut status, 0) };
        if found == child {
            return status;
        }
        // SAFETY: errno's address is valid in every thread.
        if found != -1 || unsafe { *libc::__errno_location() } != libc::EINTR {
            return -1;
        }
    }
}

/// The thread is cancelled while it waits for the shell `child`.
extern "C" fn abandon(child: *mut c_void) {
    let child = child as usize as pid_t;
    // SAFETY: no memory is touched.
    unsafe { libc::kill(child, libc::SIGKILL) };
    without_cancellation(|| await_child(child));
    heed();
}

fn without_cancellation<R>(call: impl FnOnce() -> R) -> R {
    extern "C" {
        fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
    }
    /// PTHREAD_CANCEL_DISABLE.
    const DISABLE: c_int = 1;
    let mut state = 0;
    // SAFETY: a place of our own.
    unsafe { pthread_setcancelstate(DISABLE, &mut state) };
    let result = call();
    // SAFETY: no memory is touched.
    unsafe { pthread_setcancelstate(state, core::ptr::null_mut()) };
    result
}

fn run(command: *const c_char) -> c_int {
    let were_ignored = ignore();
    // SAFETY: all-zero is a valid set; the calls fill them.
    let (mut block, mut old, mut reset): (sigset_t, sigset_t, sigset_t) = unsafe { core::mem::zeroed() };
    // SAFETY: sets and attributes of our own.
    let spawned = unsafe {
        libc::sigemptyset(&mut block);
        libc::sigaddset(&mut block, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &block, &mut old);
        libc::sigemptyset(&mut reset);
        for (number, was_ignored) in IGNORED.into_iter().zip(were_ignored) {
            if !was_ignored {
                libc::sigaddset(&mut reset, number);
            }
        }
        let mut attributes: libc::posix_spawnattr_t = core::mem::zeroed();
        libc::posix_spawnattr_init(&mut attributes);
        libc::posix_spawnattr_setsigmask(&mut attributes, &old);
        libc::posix_spawnattr_setsigdefault(&mut attributes, &reset);
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        libc::posix_spawnattr_setflags(&mut attributes, flags as libc::c_short);
        let spawned = spawn_shell(command, core::ptr::null(), &attributes);
        libc::posix_spawnattr_destroy(&mut attributes);
        spawned
    };
    let status = match spawned {
        Ok(child) => with_cleanup(abandon, child as usize as *mut c_void, || await_child(child)),
        Err(_) => NOT_RUN,
    };
    // SAFETY: errno's address is valid in every thread.
    let errno = unsafe { *libc::__errno_location() };
    heed();
    // SAFETY: a set of our own.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &old, core::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = spawned.err().unwrap_or(errno) };
    status
}

hook! { unsafe fn system(command: *const c_char) -> c_int => zap_system {
    if !state::active() {
        // SAFETY: the caller's argument.
        return unsafe { real!(system)(command) };
    }
    // Without a command: whether there is a shell.
    if command.is_null() { c_int::from(run(c"exit 0".as_ptr()) == 0) } else { run(command) }
} }

/// A stream of popen(3).
struct Opened {
    stream: *mut FILE,
    descriptor: c_int,
    child: pid_t,
    next: *mut Opened,
}

/// The streams that are open, under [`LOCK`].
static OPENED: AtomicPtr<Opened> = AtomicPtr::new(core::ptr::null_mut());

/// Takes `stream` out of the list, if it is in it: (descriptor, child).
fn take(stream: *mut FILE) -> Option<(c_int, pid_t)> {
    if OPENED.load(Ordering::Relaxed).is_null() {
        return None;
    }
    LOCK.with(|| {
        let mut place: *mut *mut Opened = OPENED.as_ptr();
        loop {
            // SAFETY: the list's head, or the link of one that is in the list; under the lock.
            let opened = unsafe { *place };
            if opened.is_null() {
                return None;
            }
            // SAFETY: made by `open`, and taken out before it is freed.
            if unsafe { (*opened).stream } == stream {
                // SAFETY: as above; nobody else finds it any more.
                let taken = unsafe { Box::from_raw(opened) };
                // SAFETY: as above.
                unsafe { *place = taken.next };
                return Some((taken.descriptor, taken.child));
            }
            // SAFETY: as above.
            place = unsafe { &raw mut (*opened).next };
        }
    })
}

/// What the mode of popen(3) says: whether the caller reads, and whether the descriptor is closed on exec. `None` for
/// what is no mode.
fn parse(mode: &[u8]) -> Option<(bool, bool)> {
    let (mut reads, mut writes, mut closes) = (false, false, false);
    for letter in mode {
        match letter {
            b'r' => reads = true,
            b'w' => writes = true,
            b'e' => closes = true,
            _ => return None,
        }
    }
    (reads != writes).then_some((reads, closes))
}

fn open(command: *const c_char, reads: bool, closes: bool) -> Result<*mut FILE, c_int> {
    let errno = |error: zap_sys::SysError| error.errno.0;
    let (reader, writer) = zap_sys::fd::pipe2(libc::O_CLOEXEC).map_err(errno)?;
    let (own, mut other) = if reads { (reader, writer) } else { (writer, reader) };
    let standard = c_int::from(reads);
    let close = |descriptor| {
        let _ = zap_sys::fd::close(descriptor);
    };
    if other == standard {
        // It would not be a duplicate, and so be closed by the exec.
        let moved = zap_sys::fd::dup_above(other, 0);
        close(other);
        match moved {
            Ok(moved) => other = moved,
            Err(error) => {
                close(own);
                return Err(errno(error));
            }
        }
    }
    let mode = if reads { c"r" } else { c"w" };
    // SAFETY: a descriptor of our own.
    let stream = unsafe { libc::fdopen(own, mode.as_ptr()) };
    if stream.is_null() {
        close(own);
        close(other);
        return Err(libc::ENOMEM);
    }
    let spawned = LOCK.with(|| {
        // SAFETY: all-zero memory that init fills.
        let mut actions: libc::posix_spawn_file_actions_t = unsafe { core::mem::zeroed() };
        // SAFETY: actions of our own.
        unsafe { libc::posix_spawn_file_actions_init(&mut actions) };
        // SAFETY: as above.
        let mut failed = unsafe { libc::posix_spawn_file_actions_adddup2(&mut actions, other, standard) };
        let mut before = OPENED.load(Ordering::Relaxed);
        while !before.is_null() && failed == 0 {
            // SAFETY: in the list, under the lock.
            let (descriptor, next) = unsafe { ((*before).descriptor, (*before).next) };
            if descriptor != standard {
                // SAFETY: as above.
                failed = unsafe { libc::posix_spawn_file_actions_addclose(&mut actions, descriptor) };
            }
            before = next;
        }
        // Before there is a shell that could not be noted.
        // SAFETY: the layout is not of size 0.
        let place = unsafe { std::alloc::alloc(core::alloc::Layout::new::<Opened>()) }.cast::<Opened>();
        if place.is_null() {
            failed = libc::ENOMEM;
        }
        let spawned = if failed == 0 { spawn_shell(command, &actions, core::ptr::null()) } else { Err(failed) };
        // SAFETY: as above.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut actions) };
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                if !place.is_null() {
                    // SAFETY: allocated above with this layout, and nothing is in it.
                    unsafe { std::alloc::dealloc(place.cast(), core::alloc::Layout::new::<Opened>()) };
                }
                return Err(error);
            }
        };
        if !closes {
            let _ = zap_sys::fd::fcntl(own, libc::F_SETFD, 0);
        }
        let next = OPENED.load(Ordering::Relaxed);
        // SAFETY: a new place for one.
        unsafe { place.write(Opened { stream, descriptor: own, child, next }) };
        OPENED.store(place, Ordering::Relaxed);
        Ok(())
    });
    close(other);
    match spawned {
        Ok(()) => Ok(stream),
        Err(error) => {
            // SAFETY: a stream that nobody else has seen.
            unsafe { real!(fclose)(stream) };
            Err(error)
        }
    }
}

hook! { unsafe fn popen(command: *const c_char, mode: *const c_char) -> *mut FILE => zap_popen {
    if !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(popen)(command, mode) };
    }
    // SAFETY: the caller's string.
    let opened = match parse(unsafe { CStr::from_ptr(mode) }.to_bytes()) {
        Some((reads, closes)) => open(command, reads, closes),
        None => Err(libc::EINVAL),
    };
    opened.unwrap_or_else(|error| {
        super::fail(error);
        core::ptr::null_mut()
    })
} }

/// Closes `stream`, which popen has given, and waits for its shell.
fn close(stream: *mut FILE, child: pid_t) -> c_int {
    // SAFETY: the caller's stream, which is in no list any more.
    let closed = unsafe { real!(fclose)(stream) };
    // As glibc has it: what the shell says comes before what the stream says.
    match without_cancellation(|| await_child(child)) {
        0 => closed,
        status => status,
    }
}

hook! { unsafe fn pclose(stream: *mut FILE) -> c_int => zap_pclose {
    match take(stream) {
        Some((_, child)) => close(stream, child),
        // SAFETY: the caller's argument.
        None => unsafe { real!(pclose)(stream) },
    }
} }

hook! { unsafe fn fclose(stream: *mut FILE) -> c_int => zap_fclose {
    match take(stream) {
        Some((_, child)) => close(stream, child),
        // SAFETY: the caller's argument.
        None => unsafe { real!(fclose)(stream) },
    }
} }
