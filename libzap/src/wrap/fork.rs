//! fork and the libc functions that fork inside: the child is a process of the pod like any other, and says so in the
//! pod's table.
//!
//! vfork's child shares memory with the parent, and must not write to it: only its id is translated, for the parent.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::virtual_result;
use core::ffi::c_void;
use core::sync::atomic::{AtomicUsize, Ordering};
use libc::{c_char, c_int, c_long, pid_t, termios, winsize};
use redhook::{hook, real};
use zap_engine::guard::{self, with_place, Guard, Unsuspended};
use zap_engine::{children, clocks, init, own_ids, state};

/// libc's fork(2); 0 before init.
static FORK: AtomicUsize = AtomicUsize::new(0);

#[cold]
fn find_fork() -> usize {
    let found = super::optional(c"fork") as usize;
    FORK.store(found, Ordering::Release);
    found
}

/// Finds the real functions of this family.
pub fn resolve() {
    find_fork();
    let _ = (real!(daemon), real!(forkpty), real!(clone));
}

/// Forks by `call`; returns what the program is to see.
#[inline(always)]
fn make(call: impl FnOnce() -> pid_t) -> pid_t {
    zap_plugin_fs::unread::begin_fork();
    let generation = clocks::generation();
    let child = call();
    settle(generation, child)
}

/// After a fork that was begun in the life `generation`, in both: `child` is what the fork returned, and the result what the
/// program is to see.
#[inline(always)]
fn settle(generation: u32, child: pid_t) -> pid_t {
    if !state::active() || child < 0 {
        return child;
    }
    if child == 0 {
        begin_in_child();
        return 0;
    }
    learn(generation, child, init::note_child)
}

/// The program's id of `child`, of which the kernel has told a call that was begun in the life `generation`; entered into the
/// pod's table by `note`.
#[inline]
fn learn(generation: u32, child: pid_t, note: fn(&Unsuspended, pid_t)) -> pid_t {
    // Before the first restart both have the same ids.
    let noted = with_place(|proof| {
        let same = !state::moved() && clocks::generation() == generation;
        if same {
            note(proof, child);
        }
        same
    });
    if noted {
        return child;
    }
    let guard = Guard::enter();
    // A restart between the system call and here has made the child anew, in whose place another may stand.
    if clocks::generation() != generation {
        if let Some(id) = children::known_before(child) {
            return id.0;
        }
    }
    note(&guard, child);
    virtual_result(child)
}

/// What the program is to see of `child`, which a call begun in the life `generation` has made, and which shares this memory or
/// becomes another program.
pub fn spawned(generation: u32, child: pid_t) -> pid_t {
    if !state::active() || child <= 0 || (generation == clocks::generation() && !state::moved()) {
        return child;
    }
    learn(generation, child, init::note_spawned)
}

/// Inlined, like most that it calls: a child pays for each page of code that it comes to.
#[inline(always)]
fn begin_in_child() {
    init::begin_in_child();
    super::shell::begin_in_child();
    super::set_users::begin_in_child();
}

/// fork(2). Not by `hook!`, which cannot say where its code is to lie: beside what the loader looks at when the child comes to
/// its first function, so that the kernel maps both at once.
///
/// # Safety
/// As the libc function.
#[no_mangle]
#[link_section = ".zap.fork"]
pub unsafe extern "C" fn fork() -> pid_t {
    // A constructor of another library may fork before init.
    let address = match FORK.load(Ordering::Acquire) {
        0 => find_fork(),
        address => address,
    };
    // SAFETY: libc's function of this name.
    let real: unsafe extern "C" fn() -> pid_t = unsafe { core::mem::transmute(address) };
    // SAFETY: the caller's call.
    make(|| unsafe { real() })
}

/// The result of vfork(2) in the parent, whose child has exec'ed or ended.
extern "C" fn vforked(result: isize, generation: u32) -> c_int {
    own_ids::end_sharing();
    // The child has used this thread's block, and been killed perhaps.
    guard::leave_below((&raw const result) as u64);
    if result < 0 {
        return super::fail(-result as c_int);
    }
    spawned(generation, result as pid_t)
}

/// Before it.
extern "C" fn vforks() {
    own_ids::begin_sharing();
}

zap_sys::vfork_shim!(vfork, vforks, clocks::GENERATION, vforked);
zap_sys::vfork_shim!(__vfork, vforks, clocks::GENERATION, vforked);

hook! { unsafe fn forkpty(terminal: *mut c_int, name: *mut c_char, modes: *const termios, size: *const winsize) -> pid_t
=> zap_forkpty {
    // SAFETY: the caller's arguments.
    let child = make(|| unsafe { real!(forkpty)(terminal, name, modes, size) });
    if child >= 0 {
        // SAFETY: libc has put a name there, if the caller wants it.
        unsafe { super::terminal_names::see_name(name) };
    }
    child
} }

hook! { unsafe fn daemon(stay: c_int, keep: c_int) -> c_int => zap_daemon {
    // SAFETY: the caller's arguments. It returns in the child: the parent has ended inside.
    let result = unsafe { real!(daemon)(stay, keep) };
    if state::active() && zap_sys::process::getpid() != state::real_pid() {
        init::note_child(&Guard::enter(), zap_sys::process::getpid().0);
        begin_in_child();
    }
    result
} }

/// A fork by syscall(2): SYS_fork, and SYS_clone and SYS_clone3 where they make a process with memory of its own.
///
/// # Safety
/// As the system call.
#[cold]
pub unsafe fn by_number(number: c_long, arguments: [c_long; 6]) -> c_long {
    /// Of `struct clone_args` (linux/sched.h), in words.
    const CHILD_TID: usize = 2;
    const PARENT_TID: usize = 3;
    const STACK: usize = 5;
    let [first, second, third, fourth, ..] = arguments;
    // SAFETY: of clone3, word `at` of the caller's structure, which has been found readable.
    let word = |at: usize| unsafe { *(first as *const u64).add(at) };
    let (flags, stack, parent_place, child_place) = match number {
        libc::SYS_clone => (first as u64, second as u64, third as u64, fourth as u64),
        libc::SYS_clone3 if super::readable(first as *const [u64; 8]) => {
            (word(0), word(STACK), word(PARENT_TID), word(CHILD_TID))
        }
        libc::SYS_clone3 => (libc::CLONE_VM as u64, 0, 0, 0),
        _ => (0, 0, 0, 0),
    };
    let has = |flag: c_int| flags & flag as u64 != 0;
    zap_plugin_fs::unread::begin_fork();
    let generation = clocks::generation();
    // SAFETY: the caller's arguments.
    let result = with_shared_block(flags as c_int, || unsafe { super::syscall::plain(number, arguments) });
    // A thread; or what goes on elsewhere than here.
    if has(libc::CLONE_VFORK) && result > 0 {
        return c_long::from(spawned(generation, result as pid_t));
    }
    if has(libc::CLONE_VM) || stack != 0 {
        return if result > 0 { c_long::from(virtual_result(result as pid_t)) } else { result };
    }
    let id = settle(generation, result as pid_t);
    let told = |place: u64, id: pid_t| {
        if id > 0 && state::moved() {
            // SAFETY: the kernel has written the id there.
            unsafe { *(place as *mut pid_t) = id };
        }
    };
    match result {
        0 if has(libc::CLONE_CHILD_SETTID) => told(child_place, virtual_result(zap_sys::process::getpid().0)),
        // With CLONE_PIDFD clone(2) has a descriptor there.
        1.. if has(libc::CLONE_PARENT_SETTID) && (number == libc::SYS_clone3 || !has(libc::CLONE_PIDFD)) => {
            told(parent_place, id);
        }
        _ => {}
    }
    c_long::from(id)
}

/// Makes `call`, which is clone(2) with these flags, where the child may have the caller's thread-local memory.
fn with_shared_block(flags: c_int, call: impl FnOnce() -> c_long) -> c_long {
    if flags & (libc::CLONE_VM | libc::CLONE_SETTLS) != libc::CLONE_VM {
        return call();
    }
    own_ids::begin_sharing();
    let result = call();
    // The child, where it is 0, is still in the middle of it.
    if result < 0 || (result > 0 && flags & libc::CLONE_VFORK != 0) {
        own_ids::end_sharing();
    }
    result
}

type Start = extern "C" fn(*mut c_void) -> c_int;

/// What the child of clone(2) is to do; on the stack of its parent, of which it has a copy.
struct Beginning {
    start: Start,
    argument: *mut c_void,
}

extern "C" fn begin(beginning: *mut c_void) -> c_int {
    begin_in_child();
    // SAFETY: made below.
    let Beginning { start, argument } = *unsafe { &*beginning.cast::<Beginning>() };
    start(argument)
}

hook! { unsafe fn clone(
    start: Start,
    stack: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
    parent_place: *mut pid_t,
    tls: *mut c_void,
    child_place: *mut pid_t
) -> c_int => zap_clone {
    if !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(clone)(start, stack, flags, argument, parent_place, tls, child_place) };
    }
    if flags & libc::CLONE_VM != 0 {
        let generation = clocks::generation();
        // SAFETY: the caller's arguments.
        let call = || unsafe { real!(clone)(start, stack, flags, argument, parent_place, tls, child_place) }.into();
        let child = with_shared_block(flags, call) as c_int;
        if flags & (libc::CLONE_THREAD | libc::CLONE_VFORK) == libc::CLONE_VFORK {
            return spawned(generation, child);
        }
        return virtual_result(child);
    }
    let beginning = Beginning { start, argument };
    let own = (&raw const beginning).cast_mut().cast();
    // SAFETY: the caller's arguments but for the function, which calls the caller's.
    let child = make(|| unsafe { real!(clone)(begin, stack, flags, own, parent_place, tls, child_place) });
    if child > 0 && flags & libc::CLONE_PARENT_SETTID != 0 && flags & libc::CLONE_PIDFD == 0 && state::moved() {
        // SAFETY: the kernel has written the id there.
        unsafe { *parent_place = child };
    }
    child
} }

/// _Fork(3) (glibc 2.34), which runs no handlers of pthread_atfork(3). Not by `hook!`, whose look-up panics on a libc without
/// it.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn _Fork() -> pid_t {
    let function = UNDERSCORE.load(Ordering::Relaxed);
    if function == 0 {
        return super::fail(libc::ENOSYS);
    }
    // SAFETY: libc's function of this name.
    let function: unsafe extern "C" fn() -> pid_t = unsafe { core::mem::transmute(function) };
    // SAFETY: the caller's call.
    make(|| unsafe { function() })
}

/// libc's _Fork, 0 where it has none.
static UNDERSCORE: AtomicUsize = AtomicUsize::new(0);

/// Finds the function that not every libc has.
pub fn resolve_newer() {
    UNDERSCORE.store(super::optional(c"_Fork") as usize, Ordering::Relaxed);
}
