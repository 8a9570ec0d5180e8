//! exec and spawn: the new program stays in the pod.
//!
//! Zap's variables, which the program does not see in its environment, are put into the new program's, also under
//! `env -i`. Zap's signal is blocked across the exec, since the kernel resets its handler; libzap's init unblocks it.
//! The block is raw and undone when the exec fails.
//!
//! # Safety
//! As in the module's head. After vfork this code runs in a child that shares memory with its parent: it leaves
//! nothing changed but what exec itself takes away.
#![allow(unsafe_code)]

use core::ffi::{c_char, c_int, c_void, CStr};
use core::sync::atomic::Ordering;
use redhook::{hook, real};
use zap_engine::state;
use zap_sys::signal::{bit, change_mask};
use zap_wire::environment;

super::resolve_all!(execve, execvpe, fexecve, posix_spawn, posix_spawnp);

/// The environment of a new program: the caller's variables, then Zap's. Lives on the stack or, when it is large, in
/// memory of its own that is given back when the exec fails.
struct Environment {
    preload: [u8; 4096 + 256],
    table: [u8; 4096 + 32],
    few: [*mut c_char; 512],
    many: Option<(u64, u64)>,
}

extern "C" {
    static environ: *const *mut c_char;
}

impl Environment {
    fn new() -> Self {
        Self { preload: [0; 4096 + 256], table: [0; 4096 + 32], few: [core::ptr::null_mut(); 512], many: None }
    }

    /// Builds the list from `given`; `None` when there is no pod or no room, and the caller's own is to be used.
    fn build(&mut self, given: *const *mut c_char) -> Option<*const *mut c_char> {
        if !state::active() {
            return None;
        }
        let mut count = 0;
        // SAFETY: an environment ends in NULL.
        while !given.is_null() && !unsafe { *given.add(count) }.is_null() {
            count += 1;
        }
        let needed = count + 3;
        let list = if needed <= self.few.len() {
            self.few.as_mut_ptr()
        } else {
            let length = zap_sys::page_up((needed * 8) as u64);
            let memory = zap_sys::mem::map_anonymous(length as usize).ok()?;
            self.many = Some((memory, length));
            memory as *mut *mut c_char
        };
        let mut to = 0;
        let mut preload_tail: &[u8] = b"";
        for from in 0..count {
            // SAFETY: `from` is below the count of variables.
            let variable = unsafe { *given.add(from) };
            // SAFETY: variables are C strings.
            let text = unsafe { CStr::from_ptr(variable) }.to_bytes();
            let value = |name: &str| text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
            if let Some(libraries) = value(environment::LD_PRELOAD) {
                preload_tail = libraries;
            } else if value(environment::POD_TABLE).is_none() {
                // SAFETY: the list has room for every variable and three more.
                unsafe { *list.add(to) = variable };
                to += 1;
            }
        }
        let library = own_path();
        let parts: [&[u8]; 5] = [
            environment::LD_PRELOAD.as_bytes(),
            b"=",
            library,
            if preload_tail.is_empty() { b"" } else { b":" },
            preload_tail,
        ];
        let preload = join(&mut self.preload, &parts)?;
        let mut path = [0u8; 4096];
        let length = state::copy_table_path(&mut path);
        let table = join(&mut self.table, &[environment::POD_TABLE.as_bytes(), b"=", &path[..length]])?;
        for variable in [preload, table, core::ptr::null_mut()] {
            // SAFETY: as above.
            unsafe { *list.add(to) = variable };
            to += 1;
        }
        Some(list)
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        if let Some((memory, length)) = self.many {
            // SAFETY: made by `build`, used by nobody any more.
            let _ = unsafe { zap_sys::mem::unmap(memory, length) };
        }
    }
}

/// Writes `parts` one after the other and a NUL; `None` when they do not fit.
fn join(into: &mut [u8], parts: &[&[u8]]) -> Option<*mut c_char> {
    let mut at = 0;
    for part in parts {
        into.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    *into.get_mut(at)? = 0;
    Some(into.as_mut_ptr().cast())
}

static OWN_PATH: zap_engine::state::SetOnce<&'static [u8]> = zap_engine::state::SetOnce::new();

/// Finds the library's path, at init: dladdr takes the loader's lock, which exec must not.
pub fn note_own_path() {
    OWN_PATH.set(find_own_path());
}

/// The path under which this library was loaded.
fn own_path() -> &'static [u8] {
    OWN_PATH.get().copied().unwrap_or(b"libzap.so")
}

fn find_own_path() -> &'static [u8] {
    // SAFETY: all-zero is a valid Dl_info.
    let mut info: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: the address of a function of this library.
    let found = unsafe { libc::dladdr(find_own_path as *const c_void, &mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return b"libzap.so";
    }
    // SAFETY: the loader's own string, which lives as long as the library.
    unsafe { CStr::from_ptr(info.dli_fname) }.to_bytes()
}

/// What surrounds an exec of the calling process: not ready to be signalled, Zap's signal blocked.
struct Crossing {
    old_mask: Option<u64>,
    entered: bool,
}

impl Crossing {
    fn begin() -> Self {
        if !state::active() {
            return Self { old_mask: None, entered: false };
        }
        // In a vfork child this is the parent's entry: it must stay as it is.
        let own = zap_sys::process::getpid() == state::real_pid();
        if let Some(entry) = state::entry().filter(|_| own) {
            entry.ready.store(0, Ordering::Release);
        }
        Self { old_mask: change_mask(libc::SIG_BLOCK, bit(state::signal())).ok(), entered: own }
    }

    /// The exec has failed: back to what was.
    fn failed(self) {
        if let Some(old) = self.old_mask {
            let _ = change_mask(libc::SIG_SETMASK, old);
        }
        if let Some(entry) = state::entry().filter(|_| self.entered) {
            entry.ready.store(1, Ordering::Release);
        }
    }
}

/// Execs by `call`, which is given the environment.
fn cross(given: *const *mut c_char, call: impl FnOnce(*const *mut c_char) -> c_int) -> c_int {
    let mut environment = Environment::new();
    let list = environment.build(given).unwrap_or(given);
    let crossing = Crossing::begin();
    let result = call(list);
    crossing.failed();
    result
}

type Strings = *const *mut c_char;

hook! { unsafe fn execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int => zap_execve {
    // SAFETY: the caller's arguments.
    cross(environment, |list| unsafe { real!(execve)(path, arguments, list) })
} }

hook! { unsafe fn execv(path: *const c_char, arguments: Strings) -> c_int => zap_execv {
    // SAFETY: the caller's arguments and environment.
    cross(unsafe { environ }, |list| unsafe { real!(execve)(path, arguments, list) })
} }

hook! { unsafe fn execvp(file: *const c_char, arguments: Strings) -> c_int => zap_execvp {
    // SAFETY: the caller's arguments and environment.
    cross(unsafe { environ }, |list| unsafe { real!(execvpe)(file, arguments, list) })
} }

hook! { unsafe fn execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int => zap_execvpe {
    // SAFETY: the caller's arguments.
    cross(environment, |list| unsafe { real!(execvpe)(file, arguments, list) })
} }

hook! { unsafe fn fexecve(fd: c_int, arguments: Strings, environment: Strings) -> c_int => zap_fexecve {
    // SAFETY: the caller's arguments.
    cross(environment, |list| unsafe { real!(fexecve)(fd, arguments, list) })
} }

hook! { unsafe fn execveat(fd: c_int, path: *const c_char, arguments: Strings, environment: Strings, flags: c_int)
-> c_int => zap_execveat {
    cross(environment, |list| {
        let arguments = [fd as usize, path as usize, arguments as usize, list as usize, flags as usize, 0];
        // SAFETY: the caller's arguments; made by system call, since glibc before 2.34 has no such function.
        match unsafe { zap_sys::arch::syscall::syscall(libc::SYS_execveat, arguments) } {
            Ok(_) => 0,
            Err(errno) => super::fail(errno.0),
        }
    })
} }

type Actions = *const libc::posix_spawn_file_actions_t;
type Attributes = *const libc::posix_spawnattr_t;

/// Spawns by `call` with Zap's signal blocked, as the child inherits it.
fn spawn(given: Strings, call: impl FnOnce(Strings) -> c_int) -> c_int {
    let mut environment = Environment::new();
    let list = environment.build(given).unwrap_or(given);
    if !state::active() {
        return call(list);
    }
    let old = change_mask(libc::SIG_BLOCK, bit(state::signal()));
    let result = call(list);
    if let Ok(old) = old {
        let _ = change_mask(libc::SIG_SETMASK, old);
    }
    result
}

hook! { unsafe fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: Actions,
    attributes: Attributes,
    arguments: Strings,
    environment: Strings
) -> c_int => zap_posix_spawn {
    // SAFETY: the caller's arguments.
    spawn(environment, |list| unsafe { real!(posix_spawn)(pid, path, actions, attributes, arguments, list) })
} }

hook! { unsafe fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: Actions,
    attributes: Attributes,
    arguments: Strings,
    environment: Strings
) -> c_int => zap_posix_spawnp {
    // SAFETY: the caller's arguments.
    spawn(environment, |list| unsafe { real!(posix_spawnp)(pid, file, actions, attributes, arguments, list) })
} }

/// Longest argument list of the execl family that is taken: POSIX's ARG_MAX has no room for many more.
const MOST_ARGUMENTS: usize = 4096;

/// Collects a variadic argument list, which ends in NULL, from the registers and the stack of the call. Returns what
/// follows the NULL (execle's environment), or `None` when the list is too long.
///
/// # Safety
/// The pointers come from a variadic shim.
unsafe fn collect(
    list: &mut [*mut c_char; MOST_ARGUMENTS],
    registers: *const *mut c_char,
    stack: *const *mut c_char,
) -> Option<*mut c_char> {
    // The first register is the path or file; the other five, then the stack, are the variable arguments.
    let argument = |index: usize| {
        // SAFETY: the shim saved six registers; beyond them the caller's stack holds the rest up to the NULL.
        unsafe {
            if index < 5 {
                *registers.add(1 + index)
            } else {
                *stack.add(index - 5)
            }
        }
    };
    for (index, place) in list.iter_mut().enumerate() {
        *place = argument(index);
        if place.is_null() {
            return Some(argument(index + 1));
        }
    }
    None
}

extern "C" fn execl_collected(registers: *const *mut c_char, stack: *const *mut c_char) -> c_int {
    let mut list = [core::ptr::null_mut(); MOST_ARGUMENTS];
    // SAFETY: called by the shim.
    if unsafe { collect(&mut list, registers, stack) }.is_none() {
        return super::fail(libc::E2BIG);
    }
    // SAFETY: the first register holds the path.
    unsafe { zap_execv(*registers, list.as_ptr()) }
}

extern "C" fn execlp_collected(registers: *const *mut c_char, stack: *const *mut c_char) -> c_int {
    let mut list = [core::ptr::null_mut(); MOST_ARGUMENTS];
    // SAFETY: called by the shim.
    if unsafe { collect(&mut list, registers, stack) }.is_none() {
        return super::fail(libc::E2BIG);
    }
    // SAFETY: the first register holds the file.
    unsafe { zap_execvp(*registers, list.as_ptr()) }
}

extern "C" fn execle_collected(registers: *const *mut c_char, stack: *const *mut c_char) -> c_int {
    let mut list = [core::ptr::null_mut(); MOST_ARGUMENTS];
    // SAFETY: called by the shim.
    let Some(environment) = (unsafe { collect(&mut list, registers, stack) }) else {
        return super::fail(libc::E2BIG);
    };
    // SAFETY: the first register holds the path; execle's list is followed by the environment.
    unsafe { zap_execve(*registers, list.as_ptr(), environment.cast()) }
}

zap_sys::variadic_shim!(execl, execl_collected);
zap_sys::variadic_shim!(execlp, execlp_collected);
zap_sys::variadic_shim!(execle, execle_collected);
