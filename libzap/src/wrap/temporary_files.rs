//! mkstemp(3), tmpfile(3) and their kin, whose work libc does inside, and shared memory of POSIX (shm_open(3)), of which it knows the
//! directory: where the pod has directories of its own.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::private_paths::Own;
use core::ffi::{c_char, c_int, c_uint, CStr};
use libc::FILE;
use redhook::{hook, real};
use zap_engine::private;
use zap_engine::private_paths::Last;

super::resolve_all!(
    mkstemp,
    mkstemp64,
    mkostemp,
    mkostemp64,
    mkstemps,
    mkstemps64,
    mkostemps,
    mkostemps64,
    mkdtemp,
    mktemp,
    tmpfile,
    tmpfile64,
    tmpnam,
    tempnam,
    shm_open,
    shm_unlink,
);

/// Bytes of the letters that libc fills in.
const FILLED: usize = 6;

/// Makes `call` with the host's path of a template, whose letters stand before `suffix` bytes at its end; what libc fills in is
/// copied back.
///
/// # Safety
/// The caller's template, which libc changes.
#[inline(always)]
unsafe fn filled<R: From<i8>>(template: *mut c_char, suffix: c_int, call: impl Fn(*mut c_char) -> R) -> R {
    if !private::by_names() {
        return call(template);
    }
    // SAFETY: the caller's promise.
    unsafe { fill(template, suffix, &call) }
}

#[cold]
unsafe fn fill<R: From<i8>>(template: *mut c_char, suffix: c_int, call: &dyn Fn(*mut c_char) -> R) -> R {
    let mut own = Own::new();
    let path = match own.of(template, Last::Kept) {
        Ok(path) => path.cast_mut(),
        Err(errno) => {
            super::fail(errno);
            return R::from(-1);
        }
    };
    // SAFETY: errno's address is valid in every thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    unsafe { *errno = 0 };
    let result = call(path);
    // A literal is not written to: libc looks at it first, and says EINVAL.
    // SAFETY: as above.
    if path != template && unsafe { *errno } != libc::EINVAL {
        // SAFETY: two strings, of which libc has changed one, but not its length.
        unsafe {
            let (from, to) = (CStr::from_ptr(path).to_bytes(), CStr::from_ptr(template).to_bytes().len());
            let length = FILLED + usize::try_from(suffix).unwrap_or(0);
            if let Some(end) = from.len().checked_sub(length).and_then(|at| from.get(at..)).filter(|_| length <= to) {
                core::ptr::copy_nonoverlapping(end.as_ptr(), template.add(to - length).cast(), length);
            }
        }
    }
    result
}

hook! { unsafe fn mkstemp(template: *mut c_char) -> c_int => zap_mkstemp {
    // SAFETY: the caller's arguments, here and below.
    unsafe { filled(template, 0, |path| real!(mkstemp)(path)) }
} }

hook! { unsafe fn mkstemp64(template: *mut c_char) -> c_int => zap_mkstemp64 {
    // SAFETY: as above.
    unsafe { filled(template, 0, |path| real!(mkstemp64)(path)) }
} }

hook! { unsafe fn mkostemp(template: *mut c_char, flags: c_int) -> c_int => zap_mkostemp {
    // SAFETY: as above.
    unsafe { filled(template, 0, |path| real!(mkostemp)(path, flags)) }
} }

hook! { unsafe fn mkostemp64(template: *mut c_char, flags: c_int) -> c_int => zap_mkostemp64 {
    // SAFETY: as above.
    unsafe { filled(template, 0, |path| real!(mkostemp64)(path, flags)) }
} }

hook! { unsafe fn mkstemps(template: *mut c_char, suffix: c_int) -> c_int => zap_mkstemps {
    // SAFETY: as above.
    unsafe { filled(template, suffix, |path| real!(mkstemps)(path, suffix)) }
} }

hook! { unsafe fn mkstemps64(template: *mut c_char, suffix: c_int) -> c_int => zap_mkstemps64 {
    // SAFETY: as above.
    unsafe { filled(template, suffix, |path| real!(mkstemps64)(path, suffix)) }
} }

hook! { unsafe fn mkostemps(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int => zap_mkostemps {
    // SAFETY: as above.
    unsafe { filled(template, suffix, |path| real!(mkostemps)(path, suffix, flags)) }
} }

hook! { unsafe fn mkostemps64(template: *mut c_char, suffix: c_int, flags: c_int) -> c_int => zap_mkostemps64 {
    // SAFETY: as above.
    unsafe { filled(template, suffix, |path| real!(mkostemps64)(path, suffix, flags)) }
} }

hook! { unsafe fn mkdtemp(template: *mut c_char) -> *mut c_char => zap_mkdtemp {
    // SAFETY: as above.
    let made = unsafe { filled(template, 0, |path| if real!(mkdtemp)(path).is_null() { -1 } else { 0 }) };
    if made == 0 { template } else { core::ptr::null_mut() }
} }

hook! { unsafe fn mktemp(template: *mut c_char) -> *mut c_char => zap_mktemp {
    if private::by_names() {
        // SAFETY: as above.
        return unsafe { own_name(template) };
    }
    // SAFETY: as above.
    unsafe { real!(mktemp)(template) }
} }

/// mktemp(3): where there is no such name the template becomes empty.
#[cold]
unsafe fn own_name(template: *mut c_char) -> *mut c_char {
    // SAFETY: the caller's template.
    unsafe {
        let made = fill(template, 0, &|path| if *real!(mktemp)(path) == 0 { -1 } else { 0 });
        if made != 0 && !template.is_null() {
            *template = 0;
        }
        template
    }
}

/// Where libc makes files without being told (P_tmpdir).
const TEMPORARY: &CStr = c"/tmp";

/// tmpfile(3).
#[cold]
fn own_file() -> *mut FILE {
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_EXCL;
    // SAFETY: strings of our own; the descriptor is nobody's but the stream's.
    unsafe {
        let mut made = libc::open(TEMPORARY.as_ptr(), flags, 0o600);
        if made == -1 {
            let mut template = *b"/tmp/tmpfXXXXXX\0";
            made = zap_mkstemp(template.as_mut_ptr().cast());
            if made == -1 {
                return core::ptr::null_mut();
            }
            libc::unlink(template.as_ptr().cast());
        }
        let stream = libc::fdopen(made, c"w+".as_ptr());
        if stream.is_null() {
            libc::close(made);
        }
        stream
    }
}

hook! { unsafe fn tmpfile() -> *mut FILE => zap_tmpfile {
    if private::by_names() {
        return own_file();
    }
    // SAFETY: no arguments.
    unsafe { real!(tmpfile)() }
} }

hook! { unsafe fn tmpfile64() -> *mut FILE => zap_tmpfile64 {
    if private::by_names() {
        return own_file();
    }
    // SAFETY: no arguments.
    unsafe { real!(tmpfile64)() }
} }

hook! { unsafe fn tmpnam(buffer: *mut c_char) -> *mut c_char => zap_tmpnam {
    // SAFETY: the caller's argument.
    let name = unsafe { real!(tmpnam)(buffer) };
    if private::by_names() && !name.is_null() {
        // SAFETY: libc has put a name there, which ends in what it has filled in.
        unsafe {
            let length = CStr::from_ptr(name).to_bytes().len();
            if length > FILLED {
                core::ptr::write_bytes(name.add(length - FILLED), b'X', FILLED);
                if *own_name(name) == 0 {
                    return core::ptr::null_mut();
                }
            }
        }
    }
    name
} }

/// tempnam(3): the directories in the order in which libc looks at them.
#[cold]
unsafe fn own_name_in(directory: *const c_char, prefix: *const c_char) -> *mut c_char {
    extern "C" {
        fn secure_getenv(name: *const c_char) -> *mut c_char;
    }
    /// Bytes of the prefix that are taken.
    const MOST: usize = 5;
    // SAFETY: the caller's strings, and those of the environment.
    unsafe {
        let is_directory = |path: &*const c_char| {
            let mut stat: libc::stat = core::mem::zeroed();
            !path.is_null() && libc::stat(*path, &mut stat) == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFDIR
        };
        let named: *const c_char = secure_getenv(c"TMPDIR".as_ptr());
        let Some(directory) = [named, directory, TEMPORARY.as_ptr()].into_iter().find(is_directory) else {
            super::fail(libc::ENOENT);
            return core::ptr::null_mut();
        };
        let directory = CStr::from_ptr(directory).to_bytes();
        let prefix = if prefix.is_null() { b"file" } else { CStr::from_ptr(prefix).to_bytes() };
        let prefix = &prefix[..prefix.len().min(MOST)];
        let parts = [directory, b"/", if prefix.is_empty() { b"file" } else { prefix }, b"XXXXXX\0"];
        let name = libc::malloc(parts.iter().map(|part| part.len()).sum()).cast::<c_char>();
        if name.is_null() {
            return name;
        }
        let mut length = 0;
        for part in parts {
            core::ptr::copy_nonoverlapping(part.as_ptr(), name.add(length).cast(), part.len());
            length += part.len();
        }
        if *own_name(name) == 0 {
            libc::free(name.cast());
            return core::ptr::null_mut();
        }
        name
    }
}

hook! { unsafe fn tempnam(directory: *const c_char, prefix: *const c_char) -> *mut c_char => zap_tempnam {
    if private::by_names() {
        // SAFETY: the caller's arguments.
        return unsafe { own_name_in(directory, prefix) };
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(tempnam)(directory, prefix) }
} }

/// The path of shared memory, if that is a private one.
#[cold]
unsafe fn shared_memory(name: *const c_char) -> Option<[u8; 300]> {
    const SHARED: &[u8] = b"/dev/shm/";
    if name.is_null() {
        return None;
    }
    // SAFETY: the caller's string.
    let name = unsafe { CStr::from_ptr(name) }.to_bytes();
    let name = &name[name.iter().take_while(|c| **c == b'/').count()..];
    let mut path = [0; 300];
    if name.is_empty() || name.contains(&b'/') {
        return None;
    }
    super::exec::join(&mut path, &[SHARED, name])?;
    let mut own = Own::new();
    let leads = own.of(path.as_ptr().cast(), Last::Kept);
    leads.is_ok_and(|leads| leads != path.as_ptr().cast()).then_some(path)
}

hook! { unsafe fn shm_open(name: *const c_char, flags: c_int, mode: c_uint) -> c_int => zap_shm_open {
    if private::by_names() {
        // SAFETY: the caller's arguments.
        if let Some(path) = unsafe { shared_memory(name) } {
            // SAFETY: a string of our own.
            return unsafe { libc::open(path.as_ptr().cast(), flags | libc::O_NOFOLLOW | libc::O_CLOEXEC, mode) };
        }
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(shm_open)(name, flags, mode) }
} }

hook! { unsafe fn shm_unlink(name: *const c_char) -> c_int => zap_shm_unlink {
    if private::by_names() {
        // SAFETY: the caller's argument.
        if let Some(path) = unsafe { shared_memory(name) } {
            // SAFETY: a string of our own.
            return unsafe { libc::unlink(path.as_ptr().cast()) };
        }
    }
    // SAFETY: the caller's argument.
    unsafe { real!(shm_unlink)(name) }
} }
