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

use super::private_paths::Own;
use super::{exec_target, private_programs};
use core::ffi::{c_char, c_int, c_void, CStr};
use core::sync::atomic::Ordering;
use redhook::{hook, real};
use zap_engine::private_paths::Last;
use zap_engine::{clocks, exec_memory, identity, private, state, suspend};
use zap_sys::signal::{bit, change_mask};
use zap_sys::VirtualPid;
use zap_wire::environment;
use zap_wire::table::{Kind, READY};

super::resolve_all!(execve, execvpe, fexecve, posix_spawn, posix_spawnp, posix_spawn_file_actions_addopen);

/// Variables, Zap's among them, and bytes of LD_PRELOAD that fit on the stack. A program may exec from the smallest
/// thread stack that POSIX allows, 16 KiB.
const FEW: usize = 192;
const SHORT: usize = 512;

/// Bytes of the variable that names the coordinator's door.
const LONGEST_DOOR: usize = 32;

/// The environment of a new program: the caller's variables, then Zap's. Lives on the stack or, when it is large, in
/// memory of its own.
struct Environment {
    few: [*mut c_char; FEW],
    short: [u8; SHORT],
    door: [u8; LONGEST_DOOR],
}

extern "C" {
    static environ: *const *mut c_char;
}

impl Environment {
    fn new() -> Self {
        Self { few: [core::ptr::null_mut(); FEW], short: [0; SHORT], door: [0; LONGEST_DOOR] }
    }

    /// Builds the list from `given`; `None` when there is no pod or no room, or when the list is none, which is for the
    /// kernel to say: the caller's own is to be used.
    fn build(&mut self, given: *const *mut c_char) -> Option<*const *mut c_char> {
        if !state::active() {
            return None;
        }
        let mut count = 0;
        // The user's own libraries, and which variable names them: of several the loader takes the last.
        let mut users: Option<(usize, &[u8])> = None;
        let mut readable = Readable::default();
        loop {
            // SAFETY: null, or readable as far as it has been looked at.
            if !given.is_null() && !(readable.holds(unsafe { given.add(count) } as u64, 8)) {
                return None;
            }
            // SAFETY: an environment ends in NULL.
            let Some(start) = (unsafe { pointer(given, count) }) else { break };
            if !readable.holds(start as u64, 1) {
                return None;
            }
            // SAFETY: variables are C strings.
            let text = unsafe { CStr::from_ptr(start) }.to_bytes();
            users = value(text, environment::LD_PRELOAD).map(|libraries| (count, libraries)).or(users);
            count += 1;
        }
        let own = own_preload();
        // Where the user's own is there and empty it stays so.
        let (separator, tail): (&[u8], &[u8]) = users.map_or((b"", b""), |(_, libraries)| (b":", libraries));
        let preload_length = own.len() + separator.len() + tail.len() + 1;
        let needed = count + 5;
        let (list, preload): (*mut *mut c_char, &mut [u8]) = if needed <= FEW && preload_length <= SHORT {
            (self.few.as_mut_ptr(), &mut self.short)
        } else {
            let memory = exec_memory::take(needed * 8 + preload_length)?;
            // SAFETY: the memory has room for the list and, behind it, for the text.
            let text = unsafe { core::slice::from_raw_parts_mut((memory as *mut u8).add(needed * 8), preload_length) };
            (memory as *mut *mut c_char, text)
        };
        let preload = join(preload, &[own, separator, tail])?;
        let (mut to, mut placed) = (0, false);
        for from in 0..count {
            // SAFETY: `from` is below the count of variables.
            let Some(text) = (unsafe { variable(given, from) }) else { break };
            let own = [environment::LD_PRELOAD, environment::POD_TABLE, environment::EVEN, environment::POD_DOOR];
            // What the user preloads is left where it is.
            let is_users = users.is_some_and(|(at, _)| at == from);
            if is_users || own.iter().all(|name| value(text, name).is_none()) {
                // SAFETY: the list has room for every variable and five more.
                unsafe { *list.add(to) = if is_users { preload } else { *given.add(from) } };
                placed |= is_users;
                to += 1;
            }
        }
        let door = door_variable(&mut self.door);
        let taken_out = usize::from(users.is_none()) + 1 + usize::from(door.is_some());
        let even = (taken_out % 2 == 1).then_some(EVEN.as_ptr().cast_mut());
        let added = [even, (!placed).then_some(preload), Some(state::table_variable()), door];
        for variable in added.into_iter().flatten().chain([core::ptr::null_mut()]) {
            // SAFETY: as above.
            unsafe { *list.add(to) = variable };
            to += 1;
        }
        Some(list)
    }
}

/// [`environment::EVEN`].
const EVEN: &CStr = c"ZAP_EVEN=";

/// Names the coordinator's door, by which a program that runs as another user finds the pod's table.
fn door_variable(into: &mut [u8]) -> Option<*mut c_char> {
    let name = state::table()?.door();
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    if length == 0 {
        return None;
    }
    join(into, &[environment::POD_DOOR.as_bytes(), b"=", &name[..length]])
}

impl Drop for Environment {
    fn drop(&mut self) {
        exec_memory::give_back();
    }
}

/// The text of variable `index`; `None` at the list's end.
///
/// # Safety
/// `list` is null or an environment, and `index` not beyond its end.
unsafe fn variable<'a>(list: *const *mut c_char, index: usize) -> Option<&'a [u8]> {
    if list.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { pointer(list, index) }?;
    // SAFETY: variables are C strings.
    Some(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// The start of variable `index`; `None` at the list's end.
///
/// # Safety
/// As [`variable`].
unsafe fn pointer(list: *const *mut c_char, index: usize) -> Option<*const c_char> {
    if list.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { *list.add(index) };
    (!text.is_null()).then_some(text.cast_const())
}

/// Pages that have been found readable: variables, and pointers to them, lie side by side.
#[derive(Default)]
struct Readable {
    pages: [u64; 4],
    next: usize,
}

impl Readable {
    /// Whether `length` bytes from `address` on, of one page, can be read.
    fn holds(&mut self, address: u64, length: usize) -> bool {
        let page = address / zap_sys::PAGE_SIZE as u64;
        if page != 0 && self.pages.contains(&page) {
            return true;
        }
        let readable = zap_sys::mem::is_readable(address, length);
        if readable {
            self.pages[self.next] = page;
            self.next = (self.next + 1) % self.pages.len();
        }
        readable
    }
}

fn value<'a>(text: &'a [u8], name: &str) -> Option<&'a [u8]> {
    text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
}

/// Writes `parts` one after the other and a NUL; `None` when they do not fit.
pub fn join(into: &mut [u8], parts: &[&[u8]]) -> Option<*mut c_char> {
    let mut at = 0;
    for part in parts {
        into.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    *into.get_mut(at)? = 0;
    Some(into.as_mut_ptr().cast())
}

/// `LD_PRELOAD=` and this library's path.
static OWN_PRELOAD: zap_engine::state::SetOnce<std::vec::Vec<u8>> = zap_engine::state::SetOnce::new();

/// Finds the library's path, at init: dladdr takes the loader's lock, which exec must not.
pub fn note_own_path() {
    OWN_PRELOAD.set([environment::LD_PRELOAD.as_bytes(), b"=", find_own_path()].concat());
}

fn own_preload() -> &'static [u8] {
    OWN_PRELOAD.get().map_or(b"LD_PRELOAD=libzap.so", std::vec::Vec::as_slice)
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
        loop {
            // Looked up each time: after a restart it is another one.
            if let Some(entry) = own.then(state::entry).flatten() {
                entry.ready.store(0, Ordering::SeqCst);
            }
            let old_mask = change_mask(libc::SIG_BLOCK, bit(state::signal())).ok();
            // The exec ends every other thread, and whoever leads a suspension must not be ended. It looks, once it leads,
            // whether the process is ready: one of both sees the other.
            if !own || suspend::current() == 0 {
                return Self { old_mask, entered: own };
            }
            Self { old_mask, entered: own }.failed();
            suspend::wait_until_over();
        }
    }

    /// The exec has failed: back to what was.
    fn failed(self) {
        if let Some(old) = self.old_mask {
            let _ = change_mask(libc::SIG_SETMASK, old);
        }
        if let Some(entry) = self.entered.then(state::entry).flatten() {
            entry.ready.store(READY, Ordering::SeqCst);
        }
    }
}

/// Execs by `call`, which is given the environment: Zap's, if the program `takes` libzap.
fn cross(given: *const *mut c_char, takes: bool, call: impl FnOnce(*const *mut c_char) -> c_int) -> c_int {
    let mut environment = Environment::new();
    let list = takes.then(|| environment.build(given)).flatten().unwrap_or(given);
    let crossing = Crossing::begin();
    let result = call(list);
    crossing.failed();
    result
}

type Strings = *const *mut c_char;

/// Whether what is at `path` takes libzap. A relative path is seen from here, also where a spawned child would look from
/// another directory.
fn path_takes(path: *const c_char) -> bool {
    !state::active() || exec_target::takes_libzap(libc::AT_FDCWD, path)
}

/// The same of what libc will find by `file`.
fn file_takes(file: *const c_char) -> bool {
    !state::active() || exec_target::takes_libzap_by_search(file, search_path())
}

/// The value of PATH by which libc searches: the caller's own, not the new program's.
fn search_path() -> Option<&'static [u8]> {
    // SAFETY: the program's own list, which execvp(3) reads too.
    let list = unsafe { environ };
    // SAFETY: the list ends in NULL.
    let mut variables = (0..).map_while(|index| unsafe { variable(list, index) });
    variables.find_map(|text| value(text, "PATH"))
}

/// Whether paths are not the kernel's.
#[inline(always)]
fn by_names() -> bool {
    private::by_names() && state::active()
}

hook! { unsafe fn execve(path: *const c_char, arguments: Strings, environment: Strings) -> c_int => zap_execve {
    let execute = |path, arguments| {
        // SAFETY: the caller's arguments.
        cross(environment, path_takes(path), |list| unsafe { real!(execve)(path, arguments, list) })
    };
    if by_names() {
        // SAFETY: the caller's arguments.
        return unsafe { private_programs::run(path, arguments, &execute) }.unwrap_or_else(super::fail);
    }
    execute(path, arguments)
} }

hook! { unsafe fn execv(path: *const c_char, arguments: Strings) -> c_int => zap_execv {
    // SAFETY: the caller's arguments and environment.
    unsafe { zap_execve(path, arguments, environ) }
} }

hook! { unsafe fn execvp(file: *const c_char, arguments: Strings) -> c_int => zap_execvp {
    // SAFETY: the caller's arguments and environment.
    unsafe { zap_execvpe(file, arguments, environ) }
} }

hook! { unsafe fn execvpe(file: *const c_char, arguments: Strings, environment: Strings) -> c_int => zap_execvpe {
    if by_names() {
        let execute = |path, arguments| {
            // SAFETY: the caller's arguments.
            cross(environment, path_takes(path), |list| unsafe { real!(execve)(path, arguments, list) })
        };
        // SAFETY: the caller's arguments.
        return unsafe { private_programs::run_by_search(file, arguments, search_path(), &execute) };
    }
    // SAFETY: the caller's arguments.
    cross(environment, file_takes(file), |list| unsafe { real!(execvpe)(file, arguments, list) })
} }

hook! { unsafe fn fexecve(fd: c_int, arguments: Strings, environment: Strings) -> c_int => zap_fexecve {
    // SAFETY: the caller's arguments.
    cross(environment, !state::active() || exec_target::descriptor_takes_libzap(fd), |list| unsafe { real!(fexecve)(fd, arguments, list) })
} }

hook! { unsafe fn execveat(fd: c_int, path: *const c_char, arguments: Strings, environment: Strings, flags: c_int)
-> c_int => zap_execveat {
    let mut own = Own::new();
    let last = if flags & libc::AT_SYMLINK_NOFOLLOW == 0 { Last::Followed } else { Last::Kept };
    let path = if by_names() {
        if fd == libc::AT_FDCWD && flags == 0 {
            // SAFETY: the caller's arguments.
            return unsafe { zap_execve(path, arguments, environment) };
        }
        match own.find(fd, path, last) {
            Ok(path) => path,
            Err(errno) => return super::fail(errno),
        }
    } else {
        path
    };
    let by_descriptor = flags & libc::AT_EMPTY_PATH != 0;
    let takes = !state::active()
        || if by_descriptor { exec_target::descriptor_takes_libzap(fd) } else { exec_target::takes_libzap(fd, path) };
    cross(environment, takes, |list| {
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

/// Spawns by `call` with Zap's signal blocked, as the child inherits it. The id that libc leaves in `pid` becomes the
/// program's.
fn spawn(pid: *mut libc::pid_t, given: Strings, takes: bool, call: impl FnOnce(Strings) -> c_int) -> c_int {
    let mut environment = Environment::new();
    let list = takes.then(|| environment.build(given)).flatten().unwrap_or(given);
    if !state::active() {
        return call(list);
    }
    let generation = clocks::generation();
    let old = change_mask(libc::SIG_BLOCK, bit(state::signal()));
    let result = call(list);
    if let Ok(old) = old {
        let _ = change_mask(libc::SIG_SETMASK, old);
    }
    if result == 0 && !pid.is_null() {
        // SAFETY: libc has written there.
        let place = unsafe { &mut *pid };
        *place = super::fork::spawned(generation, *place);
    }
    result
}

/// The attributes with the kernel's id of the process group that they name, in `copy` where that differs.
fn with_kernels_group(attributes: Attributes, copy: &mut Option<libc::posix_spawnattr_t>) -> Attributes {
    let (mut flags, mut group) = (0, 0);
    if attributes.is_null() || !state::moved() {
        return attributes;
    }
    // SAFETY: the caller's attributes, which libc reads too.
    unsafe {
        libc::posix_spawnattr_getflags(attributes, &mut flags);
        libc::posix_spawnattr_getpgroup(attributes, &mut group);
    }
    if i32::from(flags) & libc::POSIX_SPAWN_SETPGROUP == 0 || group == 0 {
        return attributes;
    }
    let real = identity::real_group_of(Kind::Group, VirtualPid(group));
    // SAFETY: plain data, that nobody writes to meanwhile.
    let copy = copy.insert(unsafe { *attributes });
    // SAFETY: this frame's own.
    unsafe { libc::posix_spawnattr_setpgroup(copy, real.0) };
    copy
}

hook! { unsafe fn posix_spawn(
    pid: *mut libc::pid_t,
    path: *const c_char,
    actions: Actions,
    attributes: Attributes,
    arguments: Strings,
    environment: Strings
) -> c_int => zap_posix_spawn {
    let mut copy = None;
    let attributes = with_kernels_group(attributes, &mut copy);
    let execute = |path, arguments| {
        // SAFETY: the caller's arguments.
        spawn(pid, environment, path_takes(path), |list| unsafe { real!(posix_spawn)(pid, path, actions, attributes, arguments, list) })
    };
    if by_names() {
        // SAFETY: the caller's arguments.
        return unsafe { private_programs::run(path, arguments, &execute) }.unwrap_or_else(|errno| errno);
    }
    execute(path, arguments)
} }

hook! { unsafe fn posix_spawnp(
    pid: *mut libc::pid_t,
    file: *const c_char,
    actions: Actions,
    attributes: Attributes,
    arguments: Strings,
    environment: Strings
) -> c_int => zap_posix_spawnp {
    let mut copy = None;
    let attributes = with_kernels_group(attributes, &mut copy);
    if by_names() {
        let execute = |path, arguments| {
            // SAFETY: the caller's arguments.
            spawn(pid, environment, path_takes(path), |list| unsafe { real!(posix_spawn)(pid, path, actions, attributes, arguments, list) })
        };
        // SAFETY: the caller's arguments.
        return unsafe { private_programs::spawn_by_search(file, arguments, search_path(), &execute) };
    }
    // SAFETY: the caller's arguments.
    spawn(pid, environment, file_takes(file), |list| unsafe { real!(posix_spawnp)(pid, file, actions, attributes, arguments, list) })
} }

/// The path of a file action, which the child will see from where it stands then: one that is relative may have to wait for that.
fn of_action(own: &mut Own, path: *const c_char, last: Last) -> Result<*const c_char, c_int> {
    // SAFETY: libc copies the caller's string too.
    let is_absolute = private::by_names() && !path.is_null() && unsafe { *path } == b'/' as c_char;
    if is_absolute {
        own.of(path, last)
    } else {
        Ok(path)
    }
}

hook! { unsafe fn posix_spawn_file_actions_addopen(
    actions: *mut libc::posix_spawn_file_actions_t,
    fd: c_int,
    path: *const c_char,
    flags: c_int,
    mode: libc::mode_t
) -> c_int => zap_posix_spawn_file_actions_addopen {
    let last = if super::private_paths::keeps(flags) { Last::Kept } else { Last::Followed };
    let mut own = Own::new();
    match of_action(&mut own, path, last) {
        // SAFETY: the caller's arguments.
        Ok(path) => unsafe { real!(posix_spawn_file_actions_addopen)(actions, fd, path, flags, mode) },
        Err(errno) => errno,
    }
} }

/// posix_spawn_file_actions_addchdir_np (glibc 2.29). Not by `hook!`, whose look-up panics on a libc without it.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn posix_spawn_file_actions_addchdir_np(
    actions: *mut libc::posix_spawn_file_actions_t,
    path: *const c_char,
) -> c_int {
    type Function = unsafe extern "C" fn(*mut libc::posix_spawn_file_actions_t, *const c_char) -> c_int;
    let found = super::optional(c"posix_spawn_file_actions_addchdir_np");
    if found.is_null() {
        return libc::ENOSYS;
    }
    let mut own = Own::new();
    // SAFETY: the libc function of this name.
    let function: Function = unsafe { core::mem::transmute(found) };
    match of_action(&mut own, path, Last::Followed) {
        // SAFETY: the caller's arguments.
        Ok(path) => unsafe { function(actions, path) },
        Err(errno) => errno,
    }
}

extern "C" fn execl_listed(path: *const c_char, list: Strings) -> c_int {
    // SAFETY: called by the shim.
    unsafe { zap_execv(path, list) }
}

extern "C" fn execlp_listed(file: *const c_char, list: Strings) -> c_int {
    // SAFETY: called by the shim.
    unsafe { zap_execvp(file, list) }
}

extern "C" fn execle_listed(path: *const c_char, list: Strings) -> c_int {
    let mut count = 0;
    // SAFETY: the list ends in NULL.
    while !unsafe { *list.add(count) }.is_null() {
        count += 1;
    }
    // SAFETY: execle's list is followed by the environment.
    unsafe { zap_execve(path, list, (*list.add(count + 1)).cast()) }
}

zap_sys::variadic_shim!(execl, execl_listed);
zap_sys::variadic_shim!(execlp, execlp_listed);
zap_sys::variadic_shim!(execle, execle_listed);
