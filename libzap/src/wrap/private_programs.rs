//! Programs that are executed, where the pod has directories of its own: by which path the kernel finds them, and what libc and the
//! kernel look for inside, which is done here: the search in PATH, and the interpreter of a script.
//!
//! # Safety
//! As in the module's head. This runs in the child of a vfork too, on its parent's memory.
#![allow(unsafe_code)]

use super::exec_target;
use core::ffi::{c_char, c_int, CStr};
use zap_engine::path_rooms::{self, Room};
use zap_engine::private_paths::{self, HostPath, Last, Leads};
use zap_sys::arch::syscall::syscall;
use zap_sys::path::PATH_MAX;
use zap_sys::{fd, mem};

type Strings = *const *mut c_char;

/// Interpreters of interpreters that are followed, as the kernel does.
const DEEPEST: u32 = 5;

/// Bytes of a script's first line that count (BINPRM_BUF_SIZE).
const LINE: usize = 256;

/// What has been found of a program.
struct Program {
    path: HostPath,
    differs: bool,
}

impl Program {
    fn find(path: *const c_char) -> Result<Self, c_int> {
        let mut own = Self { path: HostPath::new(), differs: false };
        let find = |room: &mut Room| {
            private_paths::find(libc::AT_FDCWD, path as usize, Last::Followed, &mut own.path, &mut room.rest)
        };
        match path_rooms::with(find) {
            Leads::AsItIs => {}
            Leads::Elsewhere => own.differs = true,
            Leads::Nowhere(errno) => return Err(errno),
        }
        Ok(own)
    }

    /// The path to hand to the kernel for the program's.
    fn path_for(&self, path: *const c_char) -> *const c_char {
        if self.differs {
            self.path.as_c_str().as_ptr()
        } else {
            path
        }
    }
}

/// Executes, or spawns, what `path` names by `call`, which is given the path and the arguments. `Err` with an error number where the
/// path leads nowhere.
///
/// # Safety
/// The caller's arguments of execve(2).
#[cold]
#[inline(never)]
pub unsafe fn run(
    path: *const c_char,
    arguments: Strings,
    call: &dyn Fn(*const c_char, Strings) -> c_int,
) -> Result<c_int, c_int> {
    // SAFETY: the caller's promise.
    unsafe { run_deeper(path, arguments, DEEPEST, call) }
}

unsafe fn run_deeper(
    path: *const c_char,
    arguments: Strings,
    left: u32,
    call: &dyn Fn(*const c_char, Strings) -> c_int,
) -> Result<c_int, c_int> {
    let program = Program::find(path)?;
    let own = program.path_for(path);
    let mut line = [0; LINE];
    if let Some((interpreter, word)) = script(own, &mut line) {
        if program.differs || leads_elsewhere(interpreter) {
            let Some(left) = left.checked_sub(1) else { return Err(libc::ELOOP) };
            let words = [interpreter.as_ptr(), word.map_or(core::ptr::null(), CStr::as_ptr), path];
            let run = |arguments| {
                // SAFETY: strings that outlive the call, and a list of them.
                unsafe { run_deeper(interpreter.as_ptr(), arguments, left, call) }
            };
            // SAFETY: the caller's list.
            return unsafe { with_words(words, arguments, &run) };
        }
    }
    Ok(call(own, arguments))
}

/// In a frame of its own, which is gone when the program is run.
#[inline(never)]
fn leads_elsewhere(interpreter: &CStr) -> bool {
    Program::find(interpreter.as_ptr()).is_ok_and(|found| found.differs)
}

/// Interpreter and its argument, if `path`, of the host's, is a script that may be executed (execve(2)).
fn script(path: *const c_char, line: &mut [u8; LINE]) -> Option<(&CStr, Option<&CStr>)> {
    if !may_access(path, libc::X_OK) {
        return None;
    }
    let file = exec_target::open_regular(libc::AT_FDCWD, path)?;
    let read = fd::pread(file, &mut line[..LINE - 1], 0).unwrap_or(0);
    let _ = fd::close(file);
    let end = line[..read].iter().position(|c| *c == b'\n').unwrap_or(read);
    if !line.starts_with(b"#!") {
        return None;
    }
    let is_blank = |c: &u8| matches!(c, b' ' | b'\t');
    let end = line[..end].iter().rposition(|c| !is_blank(c)).map_or(0, |at| at + 1);
    let begin = 2 + line.get(2..end)?.iter().position(|c| !is_blank(c))?;
    let word = begin + line[begin..end].iter().position(is_blank).unwrap_or(end - begin);
    let rest = line[word..end].iter().position(|c| !is_blank(c)).map(|at| word + at);
    line[end] = 0;
    line[word] = 0;
    let interpreter = CStr::from_bytes_until_nul(&line[begin..]).ok()?;
    Some((interpreter, rest.and_then(|at| CStr::from_bytes_until_nul(&line[at..]).ok())))
}

/// Arguments for which there is room on the stack.
const FEW: usize = 128;

/// Makes `call` with the list of `words`, of which null ones are left out, before all `arguments` but the first.
///
/// # Safety
/// The caller's list.
unsafe fn with_words<const COUNT: usize>(
    words: [*const c_char; COUNT],
    arguments: Strings,
    call: &dyn Fn(Strings) -> Result<c_int, c_int>,
) -> Result<c_int, c_int> {
    // One that cannot be read is none.
    let is_readable = |at: usize| !arguments.is_null() && super::readable(arguments.wrapping_add(at));
    // SAFETY: the list ends in NULL.
    let count = (0..).take_while(|at| is_readable(*at) && !unsafe { *arguments.add(*at) }.is_null()).count();
    let needed = count + COUNT + 1;
    let mut few = [core::ptr::null_mut(); FEW];
    let mut taken = None;
    let list: *mut *mut c_char = if needed <= FEW {
        few.as_mut_ptr()
    } else {
        // The child of a vfork leaves it to its parent.
        let memory = mem::map_anonymous(needed * size_of::<usize>()).map_err(|error| error.errno.0)?;
        taken = Some(memory);
        memory as *mut *mut c_char
    };
    let mut at = 0;
    // SAFETY: in both lists, of which one has room for the other and the words.
    unsafe {
        for word in words.into_iter().filter(|word| !word.is_null()) {
            *list.add(at) = word.cast_mut();
            at += 1;
        }
        for index in 1..count {
            *list.add(at) = *arguments.add(index);
            at += 1;
        }
        *list.add(at) = core::ptr::null_mut();
    }
    let result = call(list);
    if let Some(memory) = taken {
        // SAFETY: ours, and nobody uses it any more.
        let _ = unsafe { mem::unmap(memory, (needed * size_of::<usize>()) as u64) };
    }
    result
}

/// Where libc looks if there is no PATH (confstr(3), _CS_PATH).
const STANDARD: &[u8] = b"/bin:/usr/bin";

/// What libc runs where the kernel knows no program in a file (execvp(3)).
const SHELL: &CStr = c"/bin/sh";

/// Executes `file`, as execvpe(3) finds it in the directories of `search`.
///
/// # Safety
/// As [`run`].
#[cold]
#[inline(never)]
pub unsafe fn run_by_search(
    file: *const c_char,
    arguments: Strings,
    search: Option<&[u8]>,
    call: &dyn Fn(*const c_char, Strings) -> c_int,
) -> c_int {
    let run_one = |path: *const c_char| {
        // SAFETY: the caller's promise.
        let result = unsafe { run(path, arguments, call) }.unwrap_or_else(super::fail);
        // SAFETY: errno's address is valid in every thread.
        if result != -1 || unsafe { *libc::__errno_location() } != libc::ENOEXEC {
            return result;
        }
        // SAFETY: as above.
        let by_shell = |arguments| unsafe { run(SHELL.as_ptr(), arguments, call) };
        // SAFETY: as above.
        unsafe { with_words([SHELL.as_ptr(), path], arguments, &by_shell) }.unwrap_or_else(super::fail)
    };
    // SAFETY: the caller's string.
    let name = unsafe { CStr::from_ptr(file) }.to_bytes();
    if name.contains(&b'/') {
        return run_one(file);
    }
    if name.is_empty() {
        return super::fail(libc::ENOENT);
    }
    let mut path = [0; PATH_MAX];
    let (mut why, mut denied) = (libc::ENOENT, false);
    for directory in search.unwrap_or(STANDARD).split(|c| *c == b':') {
        let Some(path) = join(&mut path, directory, name) else {
            why = libc::ENAMETOOLONG;
            continue;
        };
        if !is_there(path) {
            continue;
        }
        let result = run_one(path);
        // SAFETY: errno's address is valid in every thread.
        why = unsafe { *libc::__errno_location() };
        match why {
            _ if result != -1 => return result,
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ESTALE | libc::ENOTDIR | libc::ENODEV | libc::ETIMEDOUT => {}
            _ => return result,
        }
    }
    super::fail(if denied { libc::EACCES } else { why })
}

/// Spawns `file`, as posix_spawnp(3) finds it in the directories of `search`. Returns the error number.
///
/// # Safety
/// As [`run`].
#[cold]
#[inline(never)]
pub unsafe fn spawn_by_search(
    file: *const c_char,
    arguments: Strings,
    search: Option<&[u8]>,
    call: &dyn Fn(*const c_char, Strings) -> c_int,
) -> c_int {
    // SAFETY: the caller's string.
    let name = unsafe { CStr::from_ptr(file) }.to_bytes();
    let mut path = [0; PATH_MAX];
    let mut found = file;
    if !name.contains(&b'/') {
        let mut why = libc::ENOENT;
        found = core::ptr::null();
        for directory in search.unwrap_or(STANDARD).split(|c| *c == b':') {
            let Some(path) = join(&mut path, directory, name).filter(|path| is_there(*path)) else { continue };
            if may_be_run(path) {
                found = path;
                break;
            }
            why = libc::EACCES;
        }
        if found.is_null() {
            return why;
        }
    }
    // SAFETY: the caller's promise.
    unsafe { run(found, arguments, call) }.unwrap_or_else(|errno| errno)
}

/// A name in a directory of the search; an empty directory is the working directory.
fn join(into: &mut [u8], directory: &[u8], name: &[u8]) -> Option<*const c_char> {
    if name.is_empty() {
        return None;
    }
    let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    super::exec::join(into, &[directory, separator, name]).map(<*mut c_char>::cast_const)
}

#[inline(never)]
fn is_there(path: *const c_char) -> bool {
    asked(path, libc::F_OK)
}

#[inline(never)]
fn may_be_run(path: *const c_char) -> bool {
    asked(path, libc::X_OK)
}

fn asked(path: *const c_char, mode: c_int) -> bool {
    Program::find(path).is_ok_and(|found| may_access(found.path_for(path), mode))
}

/// access(2) of a path that only the kernel looks at.
fn may_access(path: *const c_char, mode: c_int) -> bool {
    let arguments = [libc::AT_FDCWD as usize, path as usize, mode as usize, 0, 0, 0];
    // SAFETY: the kernel reads the path, if that can be read.
    unsafe { syscall(libc::SYS_faccessat, arguments) }.is_ok()
}
