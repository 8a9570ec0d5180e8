//! Mappings.
//!
//! # Safety
//! Functions that can take memory away from somebody are `unsafe`; new anonymous memory harms nobody.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::RawFd;

/// madvise(2), which libc's headers do not know yet: pages become guards, whose every access is a SIGSEGV. Linux 6.13;
/// before 6.15 for anonymous memory alone.
pub const MADV_GUARD_INSTALL: i32 = 102;

/// Maps `length` bytes of new private anonymous memory, readable and writable, wherever the kernel likes.
pub fn map_anonymous(length: usize) -> Result<u64> {
    call!(SYS_mmap, 0, length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1i64, 0)
        .map(|address| address as u64)
}

/// mmap(2).
///
/// # Safety
/// With MAP_FIXED whatever was mapped there is gone.
pub unsafe fn map(address: u64, length: u64, protection: i32, flags: i32, fd: RawFd, offset: u64) -> Result<u64> {
    call!(SYS_mmap, address, length, protection, flags, fd, offset).map(|address| address as u64)
}

/// munmap(2).
///
/// # Safety
/// Nobody uses the range any more.
pub unsafe fn unmap(address: u64, length: u64) -> Result<()> {
    call!(SYS_munmap, address, length).map(|_| ())
}

/// mprotect(2).
///
/// # Safety
/// Nobody relies on the old protection.
pub unsafe fn protect(address: u64, length: u64, protection: i32) -> Result<()> {
    call!(SYS_mprotect, address, length, protection).map(|_| ())
}

/// mremap(2) to a fixed place: MREMAP_MAYMOVE | MREMAP_FIXED.
///
/// # Safety
/// Nobody uses either range.
pub unsafe fn move_mapping(from: u64, length: u64, to: u64) -> Result<()> {
    call!(SYS_mremap, from, length, length, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to).map(|_| ())
}

/// mremap(2).
///
/// # Safety
/// As the manual page says: the old range may go, and with MREMAP_FIXED what was at the new one.
pub unsafe fn remap(old: u64, old_length: u64, new_length: u64, flags: i32, new: u64) -> Result<u64> {
    call!(SYS_mremap, old, old_length, new_length, flags, new).map(|address| address as u64)
}

/// A second mapping at `to` of the shared object that `from` shows, from there on: mremap(2) with an old length of 0.
///
/// # Safety
/// Whatever was mapped at `to` is gone.
pub unsafe fn duplicate(from: u64, length: u64, to: u64) -> Result<()> {
    call!(SYS_mremap, from, 0, length, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, to).map(|_| ())
}

/// Reads the calling process's own memory from `address` on into `buffer`, by process_vm_readv(2): what cannot be read,
/// such as pages behind the end of what is mapped, is EFAULT or a short count and not a signal.
pub fn read_own(address: u64, buffer: &mut [u8]) -> Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    let (local, remote) = (&raw const local, &raw const remote);
    match call!(SYS_process_vm_readv, crate::process::gettid().0, local, 1, remote, 1, 0) {
        // Containers forbid the call.
        Err(error) if error.is(libc::EPERM) || error.is(libc::ENOSYS) => read_own_file(address, buffer),
        other => other,
    }
}

/// Reads memory of the calling process, also where it has no permission to read; EFAULT where nothing can be read.
pub fn read_own_file(address: u64, buffer: &mut [u8]) -> Result<usize> {
    let file = crate::fd::open(c"/proc/thread-self/mem", libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let read = crate::fd::pread(file, buffer, address);
    let _ = crate::fd::close(file);
    // What cannot be read is EIO here.
    read.map_err(|error| if error.is(libc::EIO) { crate::SysError::new("pread64", libc::EFAULT) } else { error })
}

/// Writes `bytes` to the calling process's own memory at `address`, by process_vm_writev(2): memory that is not there, or
/// that must not be written, is EFAULT and not a signal.
pub fn write_own(address: u64, bytes: &[u8]) -> Result<()> {
    let local = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    let (local, remote) = (&raw const local, &raw const remote);
    match call!(SYS_process_vm_writev, crate::process::gettid().0, local, 1, remote, 1, 0) {
        // Containers forbid the call.
        Err(error) if error.is(libc::EPERM) || error.is(libc::ENOSYS) => write_own_file(address, bytes),
        other => other.map(|_| ()),
    }
}

fn write_own_file(address: u64, bytes: &[u8]) -> Result<()> {
    let file = crate::fd::open(c"/proc/thread-self/mem", libc::O_WRONLY | libc::O_CLOEXEC, 0)?;
    let written = call!(SYS_pwrite64, file, bytes.as_ptr(), bytes.len(), address);
    let _ = crate::fd::close(file);
    written.map(|_| ())
}

/// Whether `length` bytes from `address` on can be read: what a system call that reads them finds out with EFAULT, and a
/// look of our own by a signal. Most arguments lie in the frame of who calls, which is on the stack's page, as this one
/// is; for others the kernel is asked, by an rt_sigprocmask(2) that reads a set and then does not know what to do with it.
#[inline(always)]
pub fn is_readable(address: u64, length: usize) -> bool {
    let here = 0u8;
    let page = |address: u64| address / crate::PAGE_SIZE as u64;
    let (own, last) = (page(&raw const here as u64), address.wrapping_add(length as u64).wrapping_sub(1));
    (page(address) == own && page(last) == own) || kernel_reads(address, last)
}

/// Whether the kernel can read the bytes at `first` and `last`, which are on one page or on two that follow each other.
#[cold]
#[inline(never)]
fn kernel_reads(first: u64, last: u64) -> bool {
    /// No `how` of rt_sigprocmask(2): EINVAL, once the set has been read.
    const NOTHING: i32 = -1;
    const SET: u64 = 8;
    // Sets that lie on the pages of those bytes, whole.
    let reads = |address: u64| {
        let set = address & !(SET - 1);
        call!(SYS_rt_sigprocmask, NOTHING, set, 0, SET).is_err_and(|error| error.is(libc::EINVAL))
    };
    reads(first) && (first / crate::PAGE_SIZE as u64 == last / crate::PAGE_SIZE as u64 || reads(last))
}

/// As [`is_readable`], for memory that is about to be written to: its first and last bytes may be lost.
#[inline(always)]
pub fn is_writable(address: u64, length: usize) -> bool {
    let here = 0u8;
    let page = |address: u64| address / crate::PAGE_SIZE as u64;
    let (own, last) = (page(&raw const here as u64), address.wrapping_add(length as u64).wrapping_sub(8));
    let writes = |address: u64| call!(SYS_rt_sigprocmask, libc::SIG_BLOCK, 0, address, 8).is_ok();
    (page(address) == own && page(last.wrapping_add(7)) == own) || (writes(address) && writes(last))
}

/// madvise(2).
///
/// # Safety
/// Some advice (MADV_DONTNEED) throws contents away.
pub unsafe fn advise(address: u64, length: u64, advice: i32) -> Result<()> {
    call!(SYS_madvise, address, length, advice).map(|_| ())
}

/// mlock2(2), `flags` being 0 or MLOCK_ONFAULT.
pub fn lock(address: u64, length: u64, flags: u32) -> Result<()> {
    call!(SYS_mlock2, address, length, flags).map(|_| ())
}

/// mlockall(2).
pub fn lock_all(flags: i32) -> Result<()> {
    call!(SYS_mlockall, flags).map(|_| ())
}

/// mseal(2), Linux 6.10.
pub fn seal(address: u64, length: u64) -> Result<()> {
    call!(SYS_mseal, address, length, 0).map(|_| ())
}

/// mincore(2): one byte per page, bit 0 of it set when the page is in memory.
pub fn in_memory(address: u64, pages: &mut [u8]) -> Result<()> {
    call!(SYS_mincore, address, pages.len() * crate::PAGE_SIZE, pages.as_mut_ptr()).map(|_| ())
}

/// The end of the heap: brk(2) with an argument that is never granted.
pub fn program_break() -> u64 {
    call!(SYS_brk, 0).unwrap_or(0) as u64
}

/// The bounds that the kernel keeps of a program's address space: `struct prctl_mm_map` (prctl(2), PR_SET_MM_MAP).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MmMap {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
    /// Address of the auxiliary vector to be shown in /proc/self/auxv.
    pub auxv: u64,
    /// Its length in bytes.
    pub auxv_size: u32,
    /// Executable to be shown in /proc/self/exe; `u32::MAX` leaves it.
    pub exe_fd: u32,
}

/// Sets the bounds (needs CONFIG_CHECKPOINT_RESTORE, no privilege but for `exe_fd`).
///
/// # Safety
/// The bounds describe what is mapped.
pub unsafe fn set_bounds(bounds: &MmMap) -> Result<()> {
    const PR_SET_MM: i32 = 35;
    const PR_SET_MM_MAP: i32 = 14;
    call!(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, bounds as *const MmMap, core::mem::size_of::<MmMap>(), 0).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_read() {
        let page = crate::PAGE_SIZE as u64;
        let memory = map_anonymous(3 * page as usize).unwrap();
        // SAFETY: a mapping of this test's.
        unsafe { protect(memory + 2 * page, page, libc::PROT_NONE) }.unwrap();
        let local = [0u64; 2];
        let table = [
            (&raw const local as u64, 16, true),
            (memory, 16, true),
            (memory + page - 8, 16, true),
            (memory + 2 * page - 16, 16, true),
            (memory + 2 * page - 8, 16, false),
            (memory + 2 * page - 1, 1, true),
            (memory + 2 * page, 16, false),
            (1, 16, false),
            (0, 8, false),
            (u64::MAX, 1, false),
            (u64::MAX - 7, 16, false),
        ];
        let before = crate::signal::change_mask(libc::SIG_BLOCK, 0);
        for (address, length, expected) in table {
            assert_eq!(is_readable(address, length), expected, "{address:x} {length}");
        }
        assert_eq!(crate::signal::change_mask(libc::SIG_BLOCK, 0), before);
    }
}
