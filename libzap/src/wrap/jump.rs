//! longjmp and its kind: a handler that leaves by one of them the call that it has interrupted leaves nothing of Zap's
//! behind. That is the thread's real id, which is lent to libc during calls on robust mutexes and on those with priority
//! inheritance (see `zap_engine::identity::lend`).
//!
//! libc's own functions do run clean-up handlers of frames that they leave, but not of those that lie below the handler's
//! in the thread's stack (nptl/cleanup_compat.c): not when the handler's stack, an alternate one, is an array in a frame.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::{c_int, c_void};
use zap_engine::next::{self, Next};
use zap_engine::{guard, identity, state};

static LONGJMP: Next = Next::new(c"longjmp", || super::optional(c"longjmp") as usize);
static UNDERSCORE: Next = Next::new(c"_longjmp", || super::optional(c"_longjmp") as usize);
static SIGNAL: Next = Next::new(c"siglongjmp", || super::optional(c"siglongjmp") as usize);
static CHECKED: Next = Next::new(c"__longjmp_chk", || super::optional(c"__longjmp_chk") as usize);
static CONTEXT: Next = Next::new(c"setcontext", || super::optional(c"setcontext") as usize);

static FAMILY: [&Next; 5] = [&LONGJMP, &UNDERSCORE, &SIGNAL, &CHECKED, &CONTEXT];

fn address(next: &Next) -> usize {
    match next.known() {
        0 => next::find(&FAMILY, next, |name| super::optional(name) as usize),
        address => address,
    }
}

/// Finds every function now.
pub fn resolve() {
    address(&LONGJMP);
}

type Jump = unsafe extern "C" fn(*const u64, c_int) -> !;

/// # Safety
/// `environment` has been filled by setjmp(3) or sigsetjmp(3).
unsafe fn jump(next: &Next, environment: *const u64, value: c_int) -> ! {
    // SAFETY: the caller's promise.
    let stack = unsafe { zap_sys::arch::stack_of_jump(environment) };
    guard::leave_below(stack);
    if state::moved() {
        identity::take_abandoned(stack);
    }
    // SAFETY: a function of this type.
    let function: Jump = unsafe { core::mem::transmute(address(next)) };
    // SAFETY: the caller's arguments.
    unsafe { function(environment, value) }
}

/// longjmp(3).
///
/// # Safety
/// As the libc function; so for all that follow.
#[no_mangle]
pub unsafe extern "C" fn longjmp(environment: *const u64, value: c_int) -> ! {
    // SAFETY: the caller's arguments.
    unsafe { jump(&LONGJMP, environment, value) }
}

/// _longjmp(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn _longjmp(environment: *const u64, value: c_int) -> ! {
    // SAFETY: the caller's arguments.
    unsafe { jump(&UNDERSCORE, environment, value) }
}

/// siglongjmp(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn siglongjmp(environment: *const u64, value: c_int) -> ! {
    // SAFETY: the caller's arguments.
    unsafe { jump(&SIGNAL, environment, value) }
}

/// What all of them are with _FORTIFY_SOURCE.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn __longjmp_chk(environment: *const u64, value: c_int) -> ! {
    // SAFETY: the caller's arguments.
    unsafe { jump(&CHECKED, environment, value) }
}

/// setcontext(3).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn setcontext(context: *const libc::ucontext_t) -> c_int {
    if !context.is_null() {
        // SAFETY: the caller's context.
        let stack = unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] } as u64;
        guard::leave_below(stack);
        if state::moved() {
            identity::take_abandoned(stack);
        }
    }
    type Function = unsafe extern "C" fn(*const c_void) -> c_int;
    // SAFETY: libc's function of this name.
    let function: Function = unsafe { core::mem::transmute(address(&CONTEXT)) };
    // SAFETY: the caller's argument.
    unsafe { function(context.cast()) }
}
