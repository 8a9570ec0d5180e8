//! Robust mutexes, and those with priority inheritance: libc takes and gives them with the thread's real id. See
//! `zap_engine::locks`. All others go straight through.
//!
//! The next functions are not found by `real!`: these are called before libzap's init, by other libraries' constructors
//! and by allocators, from inside the very look-up that `real!` guards by a lock of its own.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_void;
use libc::{c_int, clockid_t, pthread_cond_t, pthread_mutex_t, pthread_mutexattr_t, timespec};
use zap_engine::next::{self, Next};
use zap_engine::{clocks, identity, locks, state};

/// Stands in for every function here: nobody else is in an allocator that is called by the look-up.
extern "C" fn done() -> c_int {
    0
}

const fn next(name: &'static core::ffi::CStr) -> Next {
    Next::new(name, || done as *const () as usize)
}

static LOCK: Next = next(c"pthread_mutex_lock");
static TRYLOCK: Next = next(c"pthread_mutex_trylock");
static TIMEDLOCK: Next = next(c"pthread_mutex_timedlock");
static CLOCKLOCK: Next = next(c"pthread_mutex_clocklock");
static UNLOCK: Next = next(c"pthread_mutex_unlock");
static CONSISTENT: Next = next(c"pthread_mutex_consistent");
static SETPRIOCEILING: Next = next(c"pthread_mutex_setprioceiling");
static INIT: Next = next(c"pthread_mutex_init");
static DESTROY: Next = next(c"pthread_mutex_destroy");
static WAIT: Next = next(c"pthread_cond_wait");
static TIMEDWAIT: Next = next(c"pthread_cond_timedwait");
static CLOCKWAIT: Next = next(c"pthread_cond_clockwait");
static PUSH: Next = next(c"_pthread_cleanup_push");
static POP: Next = next(c"_pthread_cleanup_pop");

static FAMILY: [&Next; 14] = [
    &LOCK,
    &TRYLOCK,
    &TIMEDLOCK,
    &CLOCKLOCK,
    &UNLOCK,
    &CONSISTENT,
    &SETPRIOCEILING,
    &INIT,
    &DESTROY,
    &WAIT,
    &TIMEDWAIT,
    &CLOCKWAIT,
    &PUSH,
    &POP,
];

#[inline(always)]
fn address(next: &Next) -> usize {
    match next.known() {
        0 => next::find(&FAMILY, next, |name| super::optional(name) as usize),
        address => address,
    }
}

/// Finds every function now.
pub fn resolve() {
    address(&LOCK);
}

type OnMutex = unsafe extern "C" fn(*mut pthread_mutex_t) -> c_int;

/// # Safety
/// `next` is a function of this type.
#[inline(always)]
unsafe fn plain(next: &Next, mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's promise.
    let function: OnMutex = unsafe { core::mem::transmute(address(next)) };
    // SAFETY: the program's mutex.
    unsafe { function(mutex) }
}

/// glibc's `struct _pthread_cleanup_buffer`.
#[repr(C)]
struct CleanupBuffer {
    routine: usize,
    argument: usize,
    cancel_type: c_int,
    previous: usize,
}

type Push = unsafe extern "C" fn(*mut CleanupBuffer, extern "C" fn(*mut c_void), *mut c_void);
type Pop = unsafe extern "C" fn(*mut CleanupBuffer, c_int);

extern "C" fn give_back(_: *mut c_void) {
    identity::give_back();
}

/// Makes `call`; should the thread be cancelled inside, `routine` runs with `argument` before the program's own cleanup
/// handlers do.
pub fn with_cleanup<R>(routine: extern "C" fn(*mut c_void), argument: *mut c_void, call: impl FnOnce() -> R) -> R {
    let (push, pop) = (address(&PUSH), address(&POP));
    let mut buffer = CleanupBuffer { routine: 0, argument: 0, cancel_type: 0, previous: 0 };
    if push != 0 && pop != 0 {
        // SAFETY: libc's function of this name.
        let push: Push = unsafe { core::mem::transmute(push) };
        // SAFETY: the buffer outlives the pop below, or is used by the unwinding that skips it.
        unsafe { push(&mut buffer, routine, argument) };
    }
    let result = call();
    if push != 0 && pop != 0 {
        // SAFETY: libc's function of this name.
        let pop: Pop = unsafe { core::mem::transmute(pop) };
        // SAFETY: pushed above.
        unsafe { pop(&mut buffer, 0) };
    }
    result
}

/// Makes `call` with the thread's real id lent to libc. Should the thread be cancelled inside, it has its own id back
/// before the program's cleanup handlers run; should a handler leave by siglongjmp, see [`super::jump`].
fn lent<R>(call: impl FnOnce() -> R) -> R {
    if !identity::may_lend() {
        return call();
    }
    with_cleanup(give_back, core::ptr::null_mut(), || {
        // Within: asynchronous cancellation finds the id lent, or not, and either way what puts it right.
        identity::lend();
        let result = call();
        identity::give_back();
        result
    })
}

/// Makes `call`, after which the calling thread holds `mutex` if `holds` says so of its result.
///
/// # Safety
/// `mutex` is a mutex that [`locks::concerns_kernel`].
#[cold]
unsafe fn taking(mutex: *mut pthread_mutex_t, holds: fn(c_int) -> bool, call: impl FnOnce() -> c_int) -> c_int {
    let generation = clocks::generation();
    let result = lent(call);
    if clocks::generation() != generation && holds(result) {
        // SAFETY: the caller's mutex, which this thread holds now.
        unsafe { locks::settle(mutex as u64) };
    }
    result
}

/// Results of a lock function that come with the mutex.
fn locked(result: c_int) -> bool {
    matches!(result, 0 | libc::EOWNERDEAD)
}

/// Results of a wait on a condition variable that come with the mutex: all but those for wrong arguments.
fn waited(result: c_int) -> bool {
    !matches!(result, libc::EPERM | libc::EINVAL)
}

/// pthread_mutex_lock(3).
///
/// # Safety
/// As the libc function; so for all that follow.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_lock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        if !locks::concerns_kernel(mutex as u64) {
            return plain(&LOCK, mutex);
        }
        taking(mutex, locked, || plain(&LOCK, mutex))
    }
}

/// pthread_mutex_trylock(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_trylock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        if !locks::concerns_kernel(mutex as u64) {
            return plain(&TRYLOCK, mutex);
        }
        taking(mutex, locked, || plain(&TRYLOCK, mutex))
    }
}

/// pthread_mutex_unlock(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_unlock(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        if !state::moved() || !locks::concerns_kernel(mutex as u64) {
            return plain(&UNLOCK, mutex);
        }
        lent(|| plain(&UNLOCK, mutex))
    }
}

/// pthread_mutex_consistent(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_consistent(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    lent(|| unsafe { plain(&CONSISTENT, mutex) })
}

/// pthread_mutex_timedlock(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_timedlock(mutex: *mut pthread_mutex_t, time: *const timespec) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_mutex_t, *const timespec) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&TIMEDLOCK)) };
    // SAFETY: the caller's arguments.
    unsafe {
        if !locks::concerns_kernel(mutex as u64) {
            return function(mutex, time);
        }
        taking(mutex, locked, || function(mutex, time))
    }
}

/// pthread_mutex_clocklock(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_clocklock(
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_mutex_t, clockid_t, *const timespec) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&CLOCKLOCK)) };
    // SAFETY: the caller's arguments.
    unsafe {
        super::deadlines::until(clock, time, |time| {
            if !locks::concerns_kernel(mutex as u64) {
                return function(mutex, clock, time);
            }
            taking(mutex, locked, || function(mutex, clock, time))
        })
    }
}

/// pthread_mutex_setprioceiling(3), which locks and unlocks the mutex.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_setprioceiling(
    mutex: *mut pthread_mutex_t,
    ceiling: c_int,
    old: *mut c_int,
) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_mutex_t, c_int, *mut c_int) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&SETPRIOCEILING)) };
    // SAFETY: the caller's arguments.
    lent(|| unsafe { function(mutex, ceiling, old) })
}

/// pthread_mutex_init(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_init(
    mutex: *mut pthread_mutex_t,
    attributes: *const pthread_mutexattr_t,
) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_mutex_t, *const pthread_mutexattr_t) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&INIT)) };
    // SAFETY: the caller's arguments.
    let result = unsafe { function(mutex, attributes) };
    if result == 0 && !attributes.is_null() {
        // SAFETY: a mutex, since just now.
        unsafe { locks::note(mutex as u64) };
    }
    result
}

/// pthread_mutex_destroy(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_mutex_destroy(mutex: *mut pthread_mutex_t) -> c_int {
    // SAFETY: the caller's mutex.
    unsafe {
        if locks::concerns_kernel(mutex as u64) {
            locks::forget(mutex as u64);
        }
        plain(&DESTROY, mutex)
    }
}

/// pthread_cond_wait(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_cond_wait(condition: *mut pthread_cond_t, mutex: *mut pthread_mutex_t) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&WAIT)) };
    // SAFETY: the caller's arguments.
    unsafe {
        if !locks::concerns_kernel(mutex as u64) {
            return function(condition, mutex);
        }
        taking(mutex, waited, || function(condition, mutex))
    }
}

/// pthread_cond_timedwait(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_cond_timedwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    time: *const timespec,
) -> c_int {
    type Function = unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t, *const timespec) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&TIMEDWAIT)) };
    // SAFETY: the caller's arguments.
    unsafe {
        super::deadlines::until(super::deadlines::clock_of(condition), time, |time| {
            if !locks::concerns_kernel(mutex as u64) {
                return function(condition, mutex, time);
            }
            taking(mutex, waited, || function(condition, mutex, time))
        })
    }
}

/// pthread_cond_clockwait(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn pthread_cond_clockwait(
    condition: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    clock: clockid_t,
    time: *const timespec,
) -> c_int {
    type Function =
        unsafe extern "C" fn(*mut pthread_cond_t, *mut pthread_mutex_t, clockid_t, *const timespec) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&CLOCKWAIT)) };
    // SAFETY: the caller's arguments.
    unsafe {
        super::deadlines::until(clock, time, |time| {
            if !locks::concerns_kernel(mutex as u64) {
                return function(condition, mutex, clock, time);
            }
            taking(mutex, waited, || function(condition, mutex, clock, time))
        })
    }
}
