//! Device and inode numbers of files, where the program knows some by others than the kernel's (`zap_engine::inodes`): fstat(2),
//! ftok(3), and what others ask here for what the kernel has told.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::next_of;
use core::ffi::{c_char, c_int, c_long, c_void, CStr};
use core::mem::offset_of;
use libc::{dirent, statx};
use zap_engine::inodes::{self, differ, List};
use zap_engine::next::{self, Next};
use zap_engine::{private, state};
use zap_sys::{fd, RawFd};

/// What `stat` says of a file, as the program knows it.
///
/// # Safety
/// The kernel has filled it, in the life of `list`.
#[cold]
pub unsafe fn see(list: List, stat: *mut libc::stat) {
    // SAFETY: the caller's promise; it may lie anywhere.
    let mut own = unsafe { stat.read_unaligned() };
    (own.st_dev, own.st_ino) = list.known().known((own.st_dev, own.st_ino));
    // SAFETY: as above.
    unsafe { stat.write_unaligned(own) };
}

/// As [`see`], for what statx(2) tells.
///
/// # Safety
/// As above.
#[cold]
pub unsafe fn see_extended(list: List, place: *mut statx) {
    // SAFETY: the caller's promise.
    let mut own = unsafe { place.read_unaligned() };
    let device = libc::makedev(own.stx_dev_major, own.stx_dev_minor);
    let (device, inode) = list.known().known((device, own.stx_ino));
    (own.stx_dev_major, own.stx_dev_minor, own.stx_ino) = (libc::major(device), libc::minor(device), inode);
    // SAFETY: as above.
    unsafe { place.write_unaligned(own) };
}

/// The result of `call`, which only asks, and is made again if a restart comes in between; `see` puts what it has told into the
/// program's view.
#[inline(always)]
pub fn seen<R: Copy>(call: impl Fn() -> R, has_failed: impl Fn(R) -> bool, see: impl Fn(List)) -> R {
    loop {
        let list = inodes::now();
        let result = call();
        if inodes::now() == list {
            if !list.is_empty() && !has_failed(result) {
                see(list);
            }
            return result;
        }
    }
}

/// The number by which the entry `name` of `directory` is known, of which the kernel tells `inode`. It is asked for anew: what lists
/// directories keeps what the kernel has told for long, also over a restart.
#[cold]
fn entry(directory: RawFd, name: &CStr, inode: u64) -> Option<u64> {
    if !state::active() {
        return None;
    }
    loop {
        let list = inodes::now();
        if list.is_empty() {
            return None;
        }
        let own = || fd::fstat(directory).ok();
        let found = match fd::numbers_at(directory, name) {
            _ if name == c"." => own().map(|stat| (stat.st_dev, stat.st_ino)),
            Ok(Some(found)) => Some(found),
            // A list tells of what is mounted over; and what may not be asked for is there, too.
            _ => own().map(|stat| (stat.st_dev, inode)),
        };
        if inodes::now() == list {
            return found.map(|found| list.known().known(found).1);
        }
    }
}

/// As [`see`], for what readdir(3) gives of the stream of `directory`.
///
/// # Safety
/// An entry, which may be written to.
#[cold]
pub unsafe fn see_entry(directory: RawFd, place: *mut dirent) {
    // SAFETY: the caller's promise; there is no more of it than its name needs.
    let name = unsafe { CStr::from_ptr((&raw const (*place).d_name).cast()) };
    // SAFETY: as above.
    if let Some(inode) = entry(directory, name, unsafe { (*place).d_ino }) {
        // SAFETY: as above.
        unsafe { (*place).d_ino = inode };
    }
}

/// As [`see`], for the `length` bytes of entries at `buffer` that getdents64(2) has read from `directory`.
///
/// # Safety
/// The kernel has written so much.
#[cold]
pub unsafe fn see_entries(directory: RawFd, buffer: *mut c_void, length: usize) {
    const NAME: usize = offset_of!(dirent, d_name);
    const LENGTH: usize = offset_of!(dirent, d_reclen);
    // SAFETY: the caller's promise.
    let bytes = unsafe { core::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    let mut at = 0;
    while let Some(record) = bytes.get_mut(at..).filter(|record| record.len() > NAME) {
        let own = usize::from(u16::from_ne_bytes([record[LENGTH], record[LENGTH + 1]]));
        let inode = u64::from_ne_bytes(core::array::from_fn(|at| record[at]));
        let known = CStr::from_bytes_until_nul(&record[NAME..]).ok().and_then(|name| entry(directory, name, inode));
        if let Some(inode) = known {
            record[..8].copy_from_slice(&inode.to_ne_bytes());
        }
        if own == 0 {
            return;
        }
        at += own;
    }
}

const _: () = assert!(offset_of!(dirent, d_ino) == 0);

/// Stands in for every function here, from inside a look-up.
extern "C" fn missing() -> isize {
    super::fail(libc::ENOSYS) as isize
}

static FSTAT: Next = next_of!(fstat, missing);
static FSTAT64: Next = next_of!(fstat64, missing);
static FXSTAT: Next = next_of!(__fxstat, missing);
static FXSTAT64: Next = next_of!(__fxstat64, missing);
static FTOK: Next = next_of!(ftok, missing);
static FAMILY: &[&Next] = &[&FSTAT, &FSTAT64, &FXSTAT, &FXSTAT64, &FTOK];

/// Finds every function now.
pub fn resolve() {
    address(&FSTAT);
}

#[inline(always)]
fn address(next: &Next) -> usize {
    match next.known() {
        0 => match next::find(FAMILY, next, |name| super::optional(name) as usize) {
            0 => missing as *const () as usize,
            address => address,
        },
        address => address,
    }
}

/// # Safety
/// Arguments of fstat(2), and the function of that kind.
#[inline(always)]
unsafe fn of_descriptor(next: &Next, fd: c_int, stat: *mut libc::stat) -> c_int {
    // SAFETY: a function with these arguments.
    let function: unsafe extern "C" fn(c_int, *mut libc::stat) -> c_int =
        unsafe { core::mem::transmute(address(next)) };
    // SAFETY: the caller's promise.
    let call = || unsafe { function(fd, stat) };
    // SAFETY: the kernel has filled it.
    seen(call, |result| result != 0, |list| unsafe { see(list, stat) })
}

/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn fstat(fd: c_int, stat: *mut libc::stat) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { of_descriptor(&FSTAT, fd, stat) }
}

/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn fstat64(fd: c_int, stat: *mut libc::stat64) -> c_int {
    // SAFETY: the caller's arguments; both structures are one.
    unsafe { of_descriptor(&FSTAT64, fd, stat.cast()) }
}

/// # Safety
/// Arguments of `__fxstat`, what fstat(2) was before glibc 2.33, and the function of that kind.
#[inline(always)]
unsafe fn of_descriptor_by_version(next: &Next, version: c_int, fd: c_int, stat: *mut libc::stat) -> c_int {
    type Function = unsafe extern "C" fn(c_int, c_int, *mut libc::stat) -> c_int;
    // SAFETY: a function with these arguments.
    let function: Function = unsafe { core::mem::transmute(address(next)) };
    // SAFETY: the caller's promise.
    let call = || unsafe { function(version, fd, stat) };
    // SAFETY: the kernel has filled it.
    seen(call, |result| result != 0, |list| unsafe { see(list, stat) })
}

/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn __fxstat(version: c_int, fd: c_int, stat: *mut libc::stat) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { of_descriptor_by_version(&FXSTAT, version, fd, stat) }
}

/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn __fxstat64(version: c_int, fd: c_int, stat: *mut libc::stat64) -> c_int {
    // SAFETY: the caller's arguments; both structures are one.
    unsafe { of_descriptor_by_version(&FXSTAT64, version, fd, stat.cast()) }
}

/// The key is made of the file's numbers: by those that the program knows it comes to the same shared memory again.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn ftok(path: *const c_char, project: c_int) -> libc::key_t {
    if (differ() || private::by_names()) && state::active() {
        // SAFETY: all zeroes are a valid structure; the call fills it.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: the caller's string, and a structure of our own.
        if unsafe { libc::stat(path, &mut stat) } != 0 {
            return -1;
        }
        let [inode, device, project] = [stat.st_ino & 0xffff, stat.st_dev & 0xff, project as u64 & 0xff];
        return (inode | device << 16 | project << 24) as libc::key_t;
    }
    // SAFETY: a function with these arguments, which are the caller's.
    unsafe {
        let function: unsafe extern "C" fn(*const c_char, c_int) -> libc::key_t = core::mem::transmute(address(&FTOK));
        function(path, project)
    }
}

/// The system call `number`, one that tells of files, by syscall(2): `call` makes it.
///
/// # Safety
/// The call's own arguments.
#[cold]
pub unsafe fn by_number(number: c_long, arguments: [c_long; 6], call: impl Fn() -> c_long) -> c_long {
    let [a, b, c, _, e, _] = arguments;
    if number == libc::SYS_getdents64 {
        let result = call();
        if result > 0 && differ() {
            // SAFETY: the kernel has written so much there.
            unsafe { see_entries(a as RawFd, b as *mut c_void, result as usize) };
        }
        return result;
    }
    let see = |list| {
        // SAFETY: the kernel has written there.
        unsafe {
            match number {
                libc::SYS_statx => see_extended(list, e as *mut statx),
                libc::SYS_newfstatat => see(list, c as *mut libc::stat),
                _ => see(list, b as *mut libc::stat),
            }
        }
    };
    seen(call, |result| result < 0, see)
}
