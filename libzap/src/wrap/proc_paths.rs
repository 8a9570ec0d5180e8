//! Paths that begin with /proc/<id>: the id is the program's, the kernel is given its own.
//!
//! Whatever the function, its arguments are numbers and addresses: each is handed on as it is but for the path.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_long;
use zap_engine::next::{self, Next};
use zap_engine::{identity, state};
use zap_sys::path::PATH_MAX;
use zap_sys::VirtualPid;

/// Stands in for every function here, from inside a look-up.
extern "C" fn missing() -> isize {
    super::fail(libc::ENOSYS) as isize
}

type Arguments = [usize; 5];
type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize) -> usize;

macro_rules! path_functions {
    ($($next:ident $name:ident $at:literal;)*) => {
        $(
            static $next: Next = {
                const NAME: &core::ffi::CStr =
                    match core::ffi::CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                        Ok(name) => name,
                        Err(_) => c"",
                    };
                Next::new(NAME, || missing as *const () as usize)
            };

            /// The libc function of this name.
            ///
            /// # Safety
            /// As the libc function.
            #[no_mangle]
            pub unsafe extern "C" fn $name(a: usize, b: usize, c: usize, d: usize, e: usize) -> usize {
                // SAFETY: the caller's arguments.
                unsafe { call(&$next, $at, [a, b, c, d, e]) }
            }
        )*

        static FAMILY: &[&Next] = &[$(&$next),*];
    };
}

// With the place of the path among the arguments.
path_functions! {
    OPEN open 0;
    OPEN64 open64 0;
    OPENAT openat 1;
    OPENAT64 openat64 1;
    OPEN_2 __open_2 0;
    OPEN64_2 __open64_2 0;
    OPENAT_2 __openat_2 1;
    OPENAT64_2 __openat64_2 1;
    FOPEN fopen 0;
    FOPEN64 fopen64 0;
    OPENDIR opendir 0;
    STAT stat 0;
    STAT64 stat64 0;
    LSTAT lstat 0;
    LSTAT64 lstat64 0;
    FSTATAT fstatat 1;
    FSTATAT64 fstatat64 1;
    STATX statx 1;
    XSTAT __xstat 1;
    LXSTAT __lxstat 1;
    XSTAT64 __xstat64 1;
    LXSTAT64 __lxstat64 1;
    ACCESS access 0;
    FACCESSAT faccessat 1;
    READLINK readlink 0;
    READLINKAT readlinkat 1;
    READLINK_CHK __readlink_chk 0;
    CHDIR chdir 0;
}

#[inline(always)]
fn address(next: &Next) -> usize {
    match next.known() {
        0 => next::find(FAMILY, next, |name| super::optional(name) as usize),
        address => address,
    }
}

/// Finds every function now.
pub fn resolve() {
    address(&OPEN);
}

/// # Safety
/// Arguments of the function `next`, the path at place `at`.
#[inline(always)]
unsafe fn call(next: &Next, at: usize, arguments: Arguments) -> usize {
    let address = match address(next) {
        0 => missing as *const () as usize,
        address => address,
    };
    // SAFETY: a function that takes no more than five numbers and addresses.
    let function: Function = unsafe { core::mem::transmute(address) };
    let call = |[a, b, c, d, e]: Arguments| {
        // SAFETY: the caller's arguments.
        unsafe { function(a, b, c, d, e) }
    };
    // Not under a filter of the program's own: looking at a path may take a system call.
    if state::moved() && state::active() && begins_with_proc(arguments[at]) {
        translated(at, arguments, call)
    } else {
        call(arguments)
    }
}

/// The bytes of the program's path at `path`, up to its end or to where it cannot be read.
fn bytes(path: usize) -> impl Iterator<Item = u8> {
    (path..).map_while(move |address| {
        let is_first = address == path || address % zap_sys::PAGE_SIZE == 0;
        if address == 0 || (is_first && !super::readable(address as *const u8)) {
            return None;
        }
        // SAFETY: it can be read.
        Some(unsafe { *(address as *const u8) }).filter(|byte| *byte != 0)
    })
}

const PROC: &[u8] = b"/proc/";

fn begins_with_proc(path: usize) -> bool {
    let mut bytes = bytes(path);
    PROC.iter().all(|wanted| bytes.next() == Some(*wanted))
}

/// A path as the kernel is to be given it.
struct Path {
    text: [u8; PATH_MAX + 32],
    length: usize,
}

impl Path {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // One place is left for the end; what is too long for the kernel stays so.
            if self.length + 1 < self.text.len() {
                self.text[self.length] = *byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, number: i32) {
        let mut digits = [0u8; 12];
        let (mut at, mut rest) = (digits.len(), number.unsigned_abs());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.push(&digits[at..]);
    }
}

/// An id as a name in /proc: no sign, no leading zero.
fn id(name: &[u8]) -> Option<VirtualPid> {
    let is_id = (1..=10).contains(&name.len()) && name[0] != b'0' && name.iter().all(u8::is_ascii_digit);
    let value = if is_id { zap_sys::text::decimal(name).0 } else { return None };
    i32::try_from(value).ok().map(VirtualPid)
}

/// Writes the path at `path` into `into` with the kernel's ids. False if there is none in it.
fn translate(path: usize, into: &mut Path) -> bool {
    let (mut found, mut part, mut name, mut length) = (false, 0, [0u8; 12], 0);
    let mut is_task = false;
    into.push(PROC);
    let mut end_part = |part: usize, name: &[u8], is_task: bool, into: &mut Path| {
        // /proc/<id>, /proc/<any>/task/<id>.
        match id(name).filter(|_| part == 0 || (part == 2 && is_task)) {
            Some(id) => {
                found = true;
                into.push_number(identity::real_of(id).0);
            }
            None => into.push(name),
        }
    };
    // Names that are longer than an id are passed on as they come.
    for byte in bytes(path).skip(PROC.len()) {
        if byte == b'/' {
            if length <= name.len() {
                end_part(part, &name[..length], is_task, into);
                is_task = part == 1 && &name[..length] == b"task";
            }
            // Several slashes are as one.
            part += usize::from(length > 0);
            length = 0;
            into.push(b"/");
            continue;
        }
        if length < name.len() {
            name[length] = byte;
        } else {
            if length == name.len() {
                into.push(&name);
            }
            into.push(&[byte]);
        }
        length += 1;
    }
    if length <= name.len() {
        end_part(part, &name[..length], is_task, into);
    }
    found
}

#[cold]
#[inline(never)]
fn translated(at: usize, mut arguments: Arguments, call: impl FnOnce(Arguments) -> usize) -> usize {
    let mut path = Path { text: [0; PATH_MAX + 32], length: 0 };
    if translate(arguments[at], &mut path) {
        arguments[at] = path.text.as_ptr() as usize;
    }
    call(arguments)
}

/// The same by syscall(2); `None` for other calls, and for other paths.
pub fn by_number(number: c_long, arguments: [c_long; 6]) -> Option<c_long> {
    let at = match number {
        libc::SYS_open | libc::SYS_stat | libc::SYS_lstat | libc::SYS_access | libc::SYS_readlink | libc::SYS_chdir => {
            0
        }
        libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_newfstatat
        | libc::SYS_statx
        | libc::SYS_faccessat
        | libc::SYS_faccessat2
        | libc::SYS_readlinkat => 1,
        _ => return None,
    };
    if !begins_with_proc(arguments[at] as usize) {
        return None;
    }
    let [a, b, c, d, e, _] = arguments.map(|argument| argument as usize);
    // SAFETY: the caller's arguments.
    let call = |[a, b, c, d, e]: Arguments| unsafe { zap_sys::arch::syscall::syscall(number, [a, b, c, d, e, 0]) };
    let mut result = Ok(0);
    translated(at, [a, b, c, d, e], |own| {
        result = call(own);
        0
    });
    Some(match result {
        Ok(result) => result as c_long,
        Err(errno) => super::fail(errno.0).into(),
    })
}
