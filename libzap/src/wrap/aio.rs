//! Asynchronous I/O of the kernel: what io_setup(2) and io_submit(2) have done is noted, and io_getevents(2) goes on with what
//! is left of its time and of its events.
//!
//! The calls come by syscall(2), by which newer versions of libaio make them too, and by the functions of older ones, which
//! make them by an instruction of their own.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::clocks::{ahead, kernel_now_ns};
use super::signals::Stripped;
use super::syscall::{in_one_piece, plain, raw};
use core::ffi::CStr;
use core::sync::atomic::{AtomicUsize, Ordering};
use libc::{c_int, c_long, sigset_t, size_t, timespec};
use zap_engine::blocking::{self, SYS_IO_PGETEVENTS};
use zap_engine::{aio, guard};

/// Whether the system call `number` is one of those that are looked at here.
#[inline(always)]
pub fn is_known(number: c_long) -> bool {
    matches!(number, libc::SYS_io_setup | libc::SYS_io_submit | libc::SYS_io_getevents | SYS_IO_PGETEVENTS)
}

/// Makes one of these calls, as syscall(2) does.
///
/// # Safety
/// The caller's arguments.
pub unsafe fn by_number(number: c_long, arguments: [c_long; 6]) -> c_long {
    let [context, second, ..] = arguments;
    match number {
        libc::SYS_io_setup => in_one_piece(|| {
            // SAFETY: the caller's arguments.
            let result = unsafe { raw(number, arguments) }?;
            // SAFETY: the kernel has written there.
            let made = unsafe { core::ptr::read_unaligned(second as *const u64) };
            aio::note_made(made, context as u32);
            Ok(result)
        }),
        libc::SYS_io_submit => in_one_piece(|| {
            // SAFETY: the caller's arguments.
            let submit = || unsafe { raw(number, arguments) };
            aio::submitting(context as u64, arguments[2] as u64, second, submit)
        }),
        // SAFETY: the caller's arguments.
        SYS_IO_PGETEVENTS => unsafe { with_mask(arguments) },
        // SAFETY: the caller's arguments.
        _ => unsafe { reap(number, arguments) },
    }
}

/// struct __aio_sigset.
#[repr(C)]
struct Masked {
    set: *const sigset_t,
    length: size_t,
}

/// io_pgetevents(2): the mask must not hold Zap's signal.
unsafe fn with_mask(mut arguments: [c_long; 6]) -> c_long {
    let given = arguments[5] as *const Masked;
    if given.is_null() || !super::readable(given) {
        // SAFETY: the caller's arguments.
        return unsafe { reap(SYS_IO_PGETEVENTS, arguments) };
    }
    // SAFETY: it can be read.
    let given = unsafe { core::ptr::read_unaligned(given) };
    let stripped = Stripped::new(given.set);
    let own = Masked { set: stripped.pointer(), length: given.length };
    arguments[5] = &raw const own as c_long;
    // SAFETY: the caller's arguments, and a set that outlives the call.
    unsafe { reap(SYS_IO_PGETEVENTS, arguments) }
}

/// Bytes of struct io_event.
const EVENT: c_long = core::mem::size_of::<zap_sys::aio::Event>() as c_long;

/// io_getevents(2) and io_pgetevents(2). When a signal comes they end with what events there are, fewer than the program waits
/// for: if it was Zap's, the others are waited for.
unsafe fn reap(number: c_long, arguments: [c_long; 6]) -> c_long {
    let [context, least, most, events, timeout, mask] = arguments;
    let timed = timeout != 0 && super::readable(timeout as *const timespec);
    // SAFETY: it can be read.
    let mut time = if timed { unsafe { *(timeout as *const timespec) } } else { zap_sys::time::from_ns(0) };
    let end = if timed && (time.tv_sec, time.tv_nsec) != (0, 0) { ahead(&time) } else { None };
    let (mut done, mut place) = (0, timeout);
    loop {
        let before = guard::block().suspensions.load(Ordering::Relaxed);
        match end {
            Some(_) => blocking::note(number, zap_sys::time::to_ns(&time), kernel_now_ns()),
            None => blocking::note(number, 0, 0),
        }
        let into = events.wrapping_add(done * EVENT);
        // SAFETY: the caller's arguments, less what has been done; a time that outlives the call.
        let result = unsafe { plain(number, [context, least - done, most - done, into, place, mask]) };
        blocking::note_end();
        if result <= 0 {
            return if done > 0 { done } else { result };
        }
        done += result;
        if done >= least || guard::block().suspensions.load(Ordering::Relaxed) == before {
            return done;
        }
        if let Some(end) = end {
            let Some(left) = left_until(&end) else { return done };
            time = left;
            place = &raw const time as c_long;
        } else if timeout != 0 {
            return done;
        }
    }
}

/// What is left until a point of the program's monotonic time; `None` when it has come.
fn left_until(end: &timespec) -> Option<timespec> {
    let now = ahead(&zap_sys::time::from_ns(0))?;
    let left = zap_sys::time::to_ns(end).saturating_sub(zap_sys::time::to_ns(&now));
    (left > 0).then(|| zap_sys::time::from_ns(left))
}

/// A function of libaio's. Another library's of this name must be called as if there were none here.
struct Named {
    name: &'static CStr,
    version: &'static CStr,
    /// [`UNKNOWN`], [`LIBAIO`], or another library's function.
    next: AtomicUsize,
}

const UNKNOWN: usize = 0;
const LIBAIO: usize = 1;

type Other = unsafe extern "C" fn(c_long, c_long, c_long, c_long, c_long, c_long) -> c_long;

impl Named {
    const fn new(name: &'static CStr, version: &'static CStr) -> Self {
        Self { name, version, next: AtomicUsize::new(UNKNOWN) }
    }

    fn is_libaios(&self) -> bool {
        match self.next.load(Ordering::Relaxed) {
            UNKNOWN => keeping_errno(|| self.find()).0 == LIBAIO,
            next => next == LIBAIO,
        }
    }

    fn find(&self) -> usize {
        // SAFETY: a plain look-up, at the program's own call.
        let libaios = unsafe { libc::dlvsym(libc::RTLD_NEXT, self.name.as_ptr(), self.version.as_ptr()) };
        // Where none is found it is a library of its own scope, which is loaded later: libaio.
        let next = if libaios.is_null() { super::optional(self.name) as usize } else { LIBAIO };
        self.next.store(next.max(LIBAIO), Ordering::Relaxed);
        next.max(LIBAIO)
    }

    /// Makes the system call `number`, as libaio does: errors are what it returns, and errno stays.
    unsafe fn call(&self, number: c_long, arguments: [c_long; 6]) -> c_long {
        if !self.is_libaios() {
            // SAFETY: the function that the caller means; all its arguments that are in registers are passed on.
            let other: Other = unsafe { core::mem::transmute::<usize, Other>(self.next.load(Ordering::Relaxed)) };
            let [a, b, c, d, e, f] = arguments;
            // SAFETY: the caller's arguments.
            return unsafe { other(a, b, c, d, e, f) };
        }
        let [a, b, c, d, e, f] = arguments;
        // SAFETY: the caller's arguments.
        match keeping_errno(|| unsafe { libc::syscall(number, a, b, c, d, e, f) }) {
            (-1, error) => -c_long::from(error),
            (result, _) => result,
        }
    }
}

/// What `call` returns, and the error that it leaves; the program's stays.
fn keeping_errno<R>(call: impl FnOnce() -> R) -> (R, c_int) {
    // SAFETY: errno's address is valid in every thread.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let before = unsafe { place.read() };
    let result = call();
    // SAFETY: as above.
    let error = unsafe { place.replace(before) };
    (result, error)
}

/// Whether a program that does not wait (a time-out of 0) is told without a system call that there are no events, as libaio
/// does it.
///
/// # Safety
/// libaio too looks at the context's ring, and at the time-out.
unsafe fn has_nothing(context: c_long, timeout: c_long) -> bool {
    const MAGIC: u32 = 0xa10a_10a1;
    if context == 0 || timeout == 0 {
        return false;
    }
    // SAFETY: the caller's promise; the kernel changes the ring meanwhile.
    let (ring, time) = unsafe {
        (core::ptr::read_volatile(context as *const zap_sys::aio::Ring), core::ptr::read(timeout as *const timespec))
    };
    ring.magic == MAGIC && (time.tv_sec, time.tv_nsec) == (0, 0) && ring.head == ring.tail
}

static SETUP: Named = Named::new(c"io_setup", c"LIBAIO_0.4");
static SUBMIT: Named = Named::new(c"io_submit", c"LIBAIO_0.1");
static GETEVENTS: Named = Named::new(c"io_getevents", c"LIBAIO_0.4");
static PGETEVENTS: Named = Named::new(c"io_pgetevents", c"LIBAIO_0.5");

/// libaio's io_setup.
///
/// # Safety
/// As libaio's function; so for all that follow.
#[no_mangle]
pub unsafe extern "C" fn io_setup(
    events: c_long,
    context: c_long,
    c: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: the caller's arguments.
    unsafe { SETUP.call(libc::SYS_io_setup, [events, context, c, d, e, f]) }
}

/// libaio's io_submit.
///
/// # Safety
/// As libaio's function.
#[no_mangle]
pub unsafe extern "C" fn io_submit(
    context: c_long,
    count: c_long,
    list: c_long,
    d: c_long,
    e: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: the caller's arguments.
    unsafe { SUBMIT.call(libc::SYS_io_submit, [context, count, list, d, e, f]) }
}

/// libaio's io_getevents.
///
/// # Safety
/// As libaio's function.
#[no_mangle]
pub unsafe extern "C" fn io_getevents(
    context: c_long,
    least: c_long,
    most: c_long,
    events: c_long,
    timeout: c_long,
    f: c_long,
) -> c_long {
    // SAFETY: the caller's arguments.
    unsafe {
        if GETEVENTS.is_libaios() && has_nothing(context, timeout) {
            return 0;
        }
        GETEVENTS.call(libc::SYS_io_getevents, [context, least, most, events, timeout, f])
    }
}

/// libaio's io_pgetevents.
///
/// # Safety
/// As libaio's function.
#[no_mangle]
pub unsafe extern "C" fn io_pgetevents(
    context: c_long,
    least: c_long,
    most: c_long,
    events: c_long,
    timeout: c_long,
    set: *const sigset_t,
) -> c_long {
    // Of the kernel's set, in bytes.
    let masked = Masked { set, length: 8 };
    let own = PGETEVENTS.is_libaios();
    let last = if own { &raw const masked as c_long } else { set as c_long };
    // SAFETY: the caller's arguments, and a place that outlives the call.
    unsafe {
        if own && has_nothing(context, timeout) {
            return 0;
        }
        PGETEVENTS.call(SYS_IO_PGETEVENTS, [context, least, most, events, timeout, last])
    }
}
