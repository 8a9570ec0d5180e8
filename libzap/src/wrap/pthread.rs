//! pthread functions that hand a thread's id, which glibc keeps in the thread's control block, to the kernel.
//!
//! The control block keeps the virtual id, since locks that are held have it written in them; so while virtual and
//! real ids differ these calls are made here, with the real one. Until the first restart libc's own do the work.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_void;
use libc::{c_char, c_int, cpu_set_t, pthread_attr_t, pthread_t, sched_param, size_t};
use redhook::{hook, real};
use zap_engine::guard::with_ids;
use zap_engine::{clocks, identity, libcs_signal, signals, state};
use zap_sys::arch::syscall::syscall;
use zap_sys::{process, signal, RealPid};

super::resolve_all!(
    pthread_create,
    thrd_create,
    pthread_kill,
    pthread_sigqueue,
    pthread_cancel,
    pthread_setname_np,
    pthread_getname_np,
    pthread_getaffinity_np,
    pthread_setaffinity_np,
    pthread_getattr_np,
    pthread_getschedparam,
    pthread_setschedparam,
    pthread_setschedprio,
);

/// glibc's signal for cancellation (SIGCANCEL).
const CANCEL_SIGNAL: c_int = 32;

/// What is known of a thread while ids are translated.
enum Target {
    /// No translation is in force: libc's own function will do.
    Libc,
    /// The thread has ended.
    Ended,
    Real(RealPid),
}

fn target(thread: pthread_t) -> Target {
    if !state::moved() {
        return Target::Libc;
    }
    // SAFETY: the caller's promise about its thread handle.
    match unsafe { identity::tid_of_pthread(thread) } {
        None => Target::Libc,
        Some(id) if id.0 == 0 => Target::Ended,
        Some(id) => Target::Real(identity::real_of_thread(thread, id)),
    }
}

/// The error number of a call that returns it, as pthread functions do.
fn number(result: Result<usize, zap_sys::Errno>) -> c_int {
    result.map_or_else(|errno| errno.0, |_| 0)
}

hook! { unsafe fn pthread_kill(thread: pthread_t, signal_number: c_int) -> c_int => zap_pthread_kill {
    signals::note_sent();
    if thread as u64 == zap_sys::arch::tls::thread_pointer() && signal_number != CANCEL_SIGNAL {
        // By the kernel's own ids of now, as libc does, but in one piece.
        let result = with_ids(|| {
            if state::moved() && signal_number != 0 {
                let sender = (state::virtual_pid().0, super::ids::user());
                return signal::tell_self(signal_number, libc::SI_TKILL, sender);
            }
            signal::tgkill(process::getpid(), process::gettid(), signal_number)
        });
        return result.map_or_else(|error| error.errno.0, |()| 0);
    }
    with_ids(|| match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_kill)(thread, signal_number) },
        Target::Ended => 0,
        Target::Real(_) if signal_number == CANCEL_SIGNAL || signal_number == CANCEL_SIGNAL + 1 => libc::EINVAL,
        Target::Real(tid) => signal::tgkill(process::getpid(), tid, signal_number).map_or_else(|e| e.errno.0, |()| 0),
    })
} }

hook! { unsafe fn pthread_sigqueue(thread: pthread_t, signal_number: c_int, value: libc::sigval) -> c_int
=> zap_pthread_sigqueue {
    signals::note_sent();
    let user = super::ids::user();
    with_ids(|| match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_sigqueue)(thread, signal_number, value) },
        Target::Ended => libc::ESRCH,
        Target::Real(_) if signal_number == CANCEL_SIGNAL || signal_number == CANCEL_SIGNAL + 1 => libc::EINVAL,
        Target::Real(tid) => {
            let (sender, value) = ((state::virtual_pid().0, user), value.sival_ptr as u64);
            let result = signal::queue_value_to(process::getpid(), tid, signal_number, sender, value);
            result.map_or_else(|error| error.errno.0, |()| 0)
        }
    })
} }

hook! { unsafe fn raise(signal_number: c_int) -> c_int => zap_raise {
    // SAFETY: the calling thread.
    match unsafe { libc::pthread_kill(libc::pthread_self(), signal_number) } {
        0 => 0,
        error => super::fail(error),
    }
} }

/// Sends libc's signal to a thread that libc has marked as cancelled.
#[cold]
fn tell_of_cancellation(thread: pthread_t) -> c_int {
    loop {
        let generation = clocks::generation();
        if let Target::Real(tid) = target(thread) {
            let _ = signal::tgkill(process::getpid(), tid, CANCEL_SIGNAL);
        }
        if clocks::generation() == generation {
            return 0;
        }
    }
}

hook! { unsafe fn pthread_cancel(thread: pthread_t) -> c_int => zap_pthread_cancel {
    signals::note_sent();
    let generation = clocks::generation();
    let Target::Real(tid) = target(thread) else {
        // SAFETY: the caller's argument.
        let result = unsafe { real!(pthread_cancel)(thread) };
        // A restart has come in between: libc may have sent its signal to the thread's id of before.
        return if clocks::generation() == generation { result } else { tell_of_cancellation(thread) };
    };
    // SAFETY: the caller's promise about its thread handle.
    let id = unsafe { identity::tid_of_pthread(thread) }.map_or(tid.0, |id| id.0);
    // SAFETY: the caller's argument. libc marks the thread as cancelled; where ids differ its own signal reaches nobody.
    let result = unsafe { real!(pthread_cancel)(thread) };
    if id == tid.0 && clocks::generation() == generation {
        return result;
    }
    // The thread may have ended, and its handle with it.
    let _ = signal::tgkill(process::getpid(), tid, CANCEL_SIGNAL);
    match clocks::generation() == generation {
        true => 0,
        false => tell_of_cancellation(thread),
    }
} }

/// A thread's function: it may be left by pthread_exit, a cancellation or an exception.
type Start<R> = extern "C-unwind" fn(*mut c_void) -> R;

/// What a new thread is to do: the function, which returns `R`, and its argument.
struct Beginning<R> {
    start: Start<R>,
    argument: *mut c_void,
}

/// The first function of the first thread that libc makes, and of each new one of a restarted program.
extern "C-unwind" fn begin<R>(beginning: *mut c_void) -> R {
    // SAFETY: made by `create` below for this thread alone.
    let Beginning { start, argument } = *unsafe { Box::from_raw(beginning.cast::<Beginning<R>>()) };
    if libcs_signal::is_before_first_thread() {
        libcs_signal::first_thread();
    }
    if state::moved() {
        identity::take_own_id();
    }
    start(argument)
}

/// Whether threads need no beginning of Zap's.
#[inline(always)]
fn is_usual() -> bool {
    !state::moved() && !libcs_signal::is_before_first_thread()
}

/// Has `real` make a thread that does what the caller wants, after [`begin`]. It returns 0 if it has made one.
#[cold]
fn create<R>(start: Start<R>, argument: *mut c_void, real: impl FnOnce(Start<R>, *mut c_void) -> c_int) -> c_int {
    let beginning = Box::into_raw(Box::new(Beginning { start, argument }));
    let result = real(begin::<R>, beginning.cast());
    if libcs_signal::is_before_first_thread() {
        libcs_signal::first_thread();
    }
    if result != 0 {
        // SAFETY: no thread has been made that would free it.
        drop(unsafe { Box::from_raw(beginning) });
    }
    result
}

hook! { unsafe fn pthread_create(
    thread: *mut pthread_t,
    attributes: *const pthread_attr_t,
    start: Start<*mut c_void>,
    argument: *mut c_void
) -> c_int => zap_pthread_create {
    if is_usual() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(pthread_create)(thread, attributes, start, argument) };
    }
    // SAFETY: the caller's arguments but for the function, which calls the caller's.
    create(start, argument, |begin, beginning| unsafe { real!(pthread_create)(thread, attributes, begin, beginning) })
} }

/// Has libc make its first thread, one that does nothing, and waits until it has ended.
#[cold]
pub fn make_first() {
    extern "C-unwind" fn nothing(argument: *mut c_void) -> *mut c_void {
        argument
    }
    let mut thread: pthread_t = 0;
    let make = |begin, beginning| {
        // SAFETY: a place of our own, and the default attributes.
        unsafe { real!(pthread_create)(&mut thread, core::ptr::null(), begin, beginning) }
    };
    if create(nothing, core::ptr::null_mut(), make) == 0 {
        // SAFETY: made above, joined by nobody else.
        let _ = unsafe { libc::pthread_join(thread, core::ptr::null_mut()) };
    }
}

// C11's, which libc makes past pthread_create.
hook! { unsafe fn thrd_create(thread: *mut pthread_t, start: Start<c_int>, argument: *mut c_void)
-> c_int => zap_thrd_create {
    if is_usual() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(thrd_create)(thread, start, argument) };
    }
    // SAFETY: as above. 0 is thrd_success.
    create(start, argument, |begin, beginning| unsafe { real!(thrd_create)(thread, begin, beginning) })
} }

/// Runs `work` on the descriptor of the thread's name in /proc.
fn with_name_file(tid: RealPid, flags: c_int, work: impl FnOnce(c_int) -> zap_sys::Result<()>) -> c_int {
    let path = zap_sys::small!("/proc/self/task/{tid}/comm");
    let result = zap_sys::fd::open(path.as_c_str(), flags | libc::O_CLOEXEC, 0).and_then(|file| {
        let result = work(file);
        let _ = zap_sys::fd::close(file);
        result
    });
    result.map_or_else(|error| error.errno.0, |()| 0)
}

hook! { unsafe fn pthread_setname_np(thread: pthread_t, name: *const c_char) -> c_int => zap_pthread_setname_np {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_setname_np)(thread, name) },
        Target::Ended => libc::ESRCH,
        Target::Real(tid) => {
            // SAFETY: the caller's string.
            let name = unsafe { core::ffi::CStr::from_ptr(name) }.to_bytes();
            if name.len() > 15 {
                return libc::ERANGE;
            }
            with_name_file(tid, libc::O_RDWR, |file| zap_sys::fd::write(file, name).map(|_| ()))
        }
    }
} }

hook! { unsafe fn pthread_getname_np(thread: pthread_t, buffer: *mut c_char, size: size_t) -> c_int
=> zap_pthread_getname_np {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_getname_np)(thread, buffer, size) },
        Target::Ended => libc::ESRCH,
        Target::Real(_) if size < 16 => libc::ERANGE,
        Target::Real(tid) => with_name_file(tid, libc::O_RDONLY, |file| {
            // SAFETY: the caller's buffer of at least 16 bytes.
            let buffer = unsafe { core::slice::from_raw_parts_mut(buffer.cast::<u8>(), 16) };
            let length = zap_sys::fd::read(file, buffer)?;
            // The kernel ends the name with a newline.
            buffer[length.saturating_sub(1).min(15)] = 0;
            Ok(())
        }),
    }
} }

hook! { unsafe fn pthread_getaffinity_np(thread: pthread_t, size: size_t, set: *mut cpu_set_t) -> c_int
=> zap_pthread_getaffinity_np {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_getaffinity_np)(thread, size, set) },
        Target::Ended => libc::ESRCH,
        Target::Real(tid) => {
            let arguments = [tid.0 as usize, size.min(i32::MAX as usize), set as usize, 0, 0, 0];
            // SAFETY: the caller's buffer.
            match unsafe { syscall(libc::SYS_sched_getaffinity, arguments) } {
                Ok(filled) => {
                    // SAFETY: the kernel fills part of the caller's buffer; the rest reads as zero.
                    unsafe { core::ptr::write_bytes(set.cast::<u8>().add(filled), 0, size - filled) };
                    0
                }
                Err(errno) => errno.0,
            }
        }
    }
} }

hook! { unsafe fn pthread_setaffinity_np(thread: pthread_t, size: size_t, set: *const cpu_set_t) -> c_int
=> zap_pthread_setaffinity_np {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_setaffinity_np)(thread, size, set) },
        Target::Ended => libc::ESRCH,
        Target::Real(tid) => {
            // SAFETY: the caller's set.
            number(unsafe { syscall(libc::SYS_sched_setaffinity, [tid.0 as usize, size, set as usize, 0, 0, 0]) })
        }
    }
} }

hook! { unsafe fn pthread_getattr_np(thread: pthread_t, attributes: *mut libc::pthread_attr_t) -> c_int
=> zap_pthread_getattr_np {
    // SAFETY: the caller's arguments. libc fills in all but the processors, for which it asks with the virtual id.
    let result = unsafe { real!(pthread_getattr_np)(thread, attributes) };
    let Target::Real(tid) = target(thread) else { return result };
    if result != 0 && result != libc::ESRCH && result != libc::EPERM {
        return result;
    }
    let mut processors = process::Processors::default();
    let size = core::mem::size_of_val(&processors);
    let arguments = [tid.0 as usize, size, processors.as_mut_ptr() as usize, 0, 0, 0];
    // SAFETY: the kernel fills the set.
    match unsafe { syscall(libc::SYS_sched_getaffinity, arguments) } {
        // SAFETY: initialized attributes, and a set of that size.
        Ok(_) => unsafe { libc::pthread_attr_setaffinity_np(attributes, size, processors.as_ptr().cast()) },
        Err(errno) => errno.0,
    }
} }

hook! { unsafe fn pthread_getschedparam(thread: pthread_t, policy: *mut c_int, parameters: *mut sched_param) -> c_int
=> zap_pthread_getschedparam {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_getschedparam)(thread, policy, parameters) },
        Target::Ended => libc::ESRCH,
        Target::Real(tid) => {
            let tid = tid.0 as usize;
            // SAFETY: the caller's structure.
            let filled = unsafe { syscall(libc::SYS_sched_getparam, [tid, parameters as usize, 0, 0, 0, 0]) };
            // SAFETY: no memory is touched.
            match filled.and_then(|_| unsafe { syscall(libc::SYS_sched_getscheduler, [tid, 0, 0, 0, 0, 0]) }) {
                Ok(found) => {
                    // SAFETY: the caller's place.
                    unsafe { *policy = found as c_int };
                    0
                }
                Err(errno) => errno.0,
            }
        }
    }
} }

hook! { unsafe fn pthread_setschedparam(thread: pthread_t, policy: c_int, parameters: *const sched_param) -> c_int
=> zap_pthread_setschedparam {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_setschedparam)(thread, policy, parameters) },
        Target::Ended => libc::ESRCH,
        Target::Real(tid) => {
            let arguments = [tid.0 as usize, policy as usize, parameters as usize, 0, 0, 0];
            // SAFETY: the caller's structure.
            number(unsafe { syscall(libc::SYS_sched_setscheduler, arguments) })
        }
    }
} }

hook! { unsafe fn pthread_setschedprio(thread: pthread_t, priority: c_int) -> c_int => zap_pthread_setschedprio {
    match target(thread) {
        // SAFETY: the caller's arguments.
        Target::Libc => unsafe { real!(pthread_setschedprio)(thread, priority) },
        Target::Ended => libc::ESRCH,
        Target::Real(tid) => {
            let parameters = sched_param { sched_priority: priority };
            // SAFETY: a structure of our own.
            number(unsafe { syscall(libc::SYS_sched_setparam, [tid.0 as usize, &raw const parameters as usize, 0, 0, 0, 0]) })
        }
    }
} }
