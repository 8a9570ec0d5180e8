//! Descriptors and what is done with them.
//!
//! # Safety
//! Pointers handed to the kernel come from slices and references that outlive the call. A descriptor number may name
//! anything: these calls can disturb a program's descriptors, never its memory.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::opened;
use core::ffi::CStr;
use core::mem::MaybeUninit;

/// A descriptor's number. Whose it is, and who closes it, is said where it is kept.
pub type RawFd = i32;

/// Relative paths start at the working directory.
pub const AT_FDCWD: RawFd = libc::AT_FDCWD;

/// openat(2).
pub fn open_at(directory: RawFd, path: &CStr, flags: i32, mode: u32) -> Result<RawFd> {
    call!(SYS_openat, directory, path.as_ptr(), flags, mode).map(|fd| opened::come(fd as RawFd))
}

/// open(2).
pub fn open(path: &CStr, flags: i32, mode: u32) -> Result<RawFd> {
    open_at(AT_FDCWD, path, flags, mode)
}

/// openat2(2) with O_PATH of a path in which there is no symbolic link: ELOOP if there is one.
pub fn open_without_links(directory: RawFd, path: &CStr) -> Result<RawFd> {
    // SAFETY: all-zero is a valid `open_how`.
    let mut how: libc::open_how = unsafe { core::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS;
    let length = core::mem::size_of::<libc::open_how>();
    call!(SYS_openat2, directory, path.as_ptr(), &raw const how, length).map(|fd| opened::come(fd as RawFd))
}

/// close(2).
pub fn close(fd: RawFd) -> Result<()> {
    opened::go(fd);
    call!(SYS_close, fd).map(|_| ())
}

/// Closes every descriptor of this process from `first` to `last` (close_range(2), Linux 5.9; else one by one).
pub fn close_range(first: u32, last: u32) -> Result<()> {
    if call!(SYS_close_range, first, last, 0).is_ok() {
        return Ok(());
    }
    let limit = crate::process::limit(libc::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft.min(1 << 20)) as u32;
    for number in first..=last.min(limit) {
        let _ = close(number as RawFd);
    }
    Ok(())
}

/// Leaves the descriptors that the calling process shares with another one (CLONE_FILES), for an empty table of its own
/// (close_range(2), Linux 5.9). Within the call it holds those below 64.
///
/// When the other one is the only one left to have the shared table and leaves it for a copy (execve(2)), the record locks
/// that it has by it are gone.
pub fn leave_shared() -> Result<()> {
    const CLOSE_RANGE_UNSHARE: u32 = 2;
    call!(SYS_close_range, 0, u32::MAX, CLOSE_RANGE_UNSHARE).map(|_| ())
}

/// read(2), once.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    call!(SYS_read, fd, buffer.as_mut_ptr(), buffer.len())
}

/// Reads until the buffer is full or the file ends; returns the number of bytes read.
pub fn read_full(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match read(fd, &mut buffer[done..]) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.is(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Reads a whole small file (of /proc, usually) into `buffer`; a longer one is cut.
pub fn read_file<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let fd = open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let count = read_full(fd, buffer);
    let _ = close(fd);
    Ok(&buffer[..count?])
}

/// write(2), once.
pub fn write(fd: RawFd, buffer: &[u8]) -> Result<usize> {
    call!(SYS_write, fd, buffer.as_ptr(), buffer.len())
}

/// Writes all of `buffer`.
pub fn write_all(fd: RawFd, buffer: &[u8]) -> Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        match write(fd, rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.is(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// pread(2), once.
pub fn pread(fd: RawFd, buffer: &mut [u8], offset: u64) -> Result<usize> {
    call!(SYS_pread64, fd, buffer.as_mut_ptr(), buffer.len(), offset)
}

/// Reads exactly `length` bytes at file offset `offset` to address `address`, which need not be Rust's memory.
///
/// # Safety
/// The range is mapped, and nobody relies on what it holds.
pub unsafe fn pread_to(fd: RawFd, address: u64, length: u64, offset: u64) -> Result<()> {
    let mut done = 0;
    while done < length {
        let count = call!(SYS_pread64, fd, address + done, length - done, offset + done)?;
        if count == 0 {
            return Err(crate::SysError::new("pread64", libc::EIO));
        }
        done += count as u64;
    }
    Ok(())
}

/// Writes exactly `length` bytes of the memory at `address` to file offset `offset`. The kernel reads the memory, so
/// that a page which cannot be read is an error (EFAULT) and not a crash.
pub fn pwrite_from(fd: RawFd, address: u64, length: u64, offset: u64) -> Result<()> {
    let mut done = 0;
    while done < length {
        match call!(SYS_pwrite64, fd, address + done, length - done, offset + done) {
            Ok(0) => return Err(crate::SysError::new("pwrite64", libc::ENOSPC)),
            Ok(count) => done += count as u64,
            Err(error) if error.is(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `buffer` at file offset `offset`.
pub fn pwrite_all(fd: RawFd, buffer: &[u8], offset: u64) -> Result<()> {
    pwrite_from(fd, buffer.as_ptr() as u64, buffer.len() as u64, offset)
}

/// lseek(2).
pub fn seek(fd: RawFd, offset: i64, whence: i32) -> Result<u64> {
    call!(SYS_lseek, fd, offset, whence).map(|at| at as u64)
}

/// fchmod(2).
pub fn change_mode(fd: RawFd, mode: u32) -> Result<()> {
    call!(SYS_fchmod, fd, mode).map(|_| ())
}

/// ftruncate(2).
pub fn truncate(fd: RawFd, length: u64) -> Result<()> {
    call!(SYS_ftruncate, fd, length).map(|_| ())
}

/// The kind of file system that a descriptor's file is on: fstatfs(2)'s f_type.
pub fn file_system(fd: RawFd) -> Result<i64> {
    file_system_id(fd).map(|(kind, _)| kind)
}

/// The kind of file system, and its own number (f_fsid), 0 where it has none.
pub fn file_system_id(fd: RawFd) -> Result<(i64, u64)> {
    let mut info = core::mem::MaybeUninit::<libc::statfs>::zeroed();
    call!(SYS_fstatfs, fd, info.as_mut_ptr())?;
    // SAFETY: zeroes are a valid value, and the kernel has filled it.
    let info = unsafe { info.assume_init() };
    // SAFETY: two ints, whose names libc keeps to itself.
    Ok((info.f_type, unsafe { core::mem::transmute::<libc::fsid_t, u64>(info.f_fsid) }))
}

/// fstat(2).
pub fn fstat(fd: RawFd) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_fstat, fd, stat.as_mut_ptr())?;
    // SAFETY: all-zero is a valid stat, and the kernel has filled it.
    Ok(unsafe { stat.assume_init() })
}

/// stat(2).
pub fn stat(path: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_newfstatat, AT_FDCWD, path.as_ptr(), stat.as_mut_ptr(), 0)?;
    // SAFETY: all-zero is a valid stat, and the kernel has filled it.
    Ok(unsafe { stat.assume_init() })
}

/// fstatat(2), of `name` in the open directory `directory`.
pub fn stat_at(directory: RawFd, name: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_newfstatat, directory, name.as_ptr(), stat.as_mut_ptr(), 0)?;
    // SAFETY: all-zero is a valid stat, and the kernel has filled it.
    Ok(unsafe { stat.assume_init() })
}

/// Device and inode of an entry of a directory, as far as they are known without asking a server; `None` of what is mounted there
/// (statx(2); STATX_ATTR_MOUNT_ROOT: Linux 5.8).
pub fn numbers_at(directory: RawFd, name: &CStr) -> Result<Option<(u64, u64)>> {
    const FLAGS: i32 = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | libc::AT_STATX_DONT_SYNC;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    call!(SYS_statx, directory, name.as_ptr(), FLAGS, libc::STATX_INO, found.as_mut_ptr())?;
    // SAFETY: all-zero is a valid structure, and the kernel has filled it.
    let found = unsafe { found.assume_init() };
    let device = libc::makedev(found.stx_dev_major, found.stx_dev_minor);
    let is_mounted = found.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0;
    Ok(Some((device, found.stx_ino)).filter(|_| !is_mounted))
}

/// lstat(2).
pub fn link_stat(path: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::zeroed();
    call!(SYS_newfstatat, AT_FDCWD, path.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW)?;
    // SAFETY: all-zero is a valid stat, and the kernel has filled it.
    Ok(unsafe { stat.assume_init() })
}

/// chmod(2).
pub fn change_mode_at(path: &CStr, mode: u32) -> Result<()> {
    call!(SYS_fchmodat, AT_FDCWD, path.as_ptr(), mode).map(|_| ())
}

/// Changes the owner of what `fd` refers to, which may have been opened with O_PATH (fchownat(2), AT_EMPTY_PATH).
pub fn change_owner_of(fd: RawFd, user: u32, group: u32) -> Result<()> {
    call!(SYS_fchownat, fd, c"".as_ptr(), user, group, libc::AT_EMPTY_PATH).map(|_| ())
}

/// readlink(2) into `buffer`; returns the bytes of the link. A longer link is cut.
pub fn read_link<'a>(path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let length = call!(SYS_readlinkat, AT_FDCWD, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())?;
    Ok(&buffer[..length])
}

/// readlinkat(2), as [`read_link`].
pub fn read_link_at<'a>(directory: RawFd, path: &CStr, buffer: &'a mut [u8]) -> Result<&'a [u8]> {
    let length = call!(SYS_readlinkat, directory, path.as_ptr(), buffer.as_mut_ptr(), buffer.len())?;
    Ok(&buffer[..length])
}

/// getcwd(2): the path without its NUL. ENOENT for a directory that has been removed.
pub fn current_directory(buffer: &mut [u8]) -> Result<&[u8]> {
    let length = call!(SYS_getcwd, buffer.as_mut_ptr(), buffer.len())?;
    Ok(&buffer[..length.saturating_sub(1)])
}

/// unlink(2).
pub fn unlink(path: &CStr) -> Result<()> {
    call!(SYS_unlinkat, AT_FDCWD, path.as_ptr(), 0).map(|_| ())
}

/// symlink(2): `path` leads to `target`.
pub fn make_link(target: &CStr, path: &CStr) -> Result<()> {
    call!(SYS_symlinkat, target.as_ptr(), AT_FDCWD, path.as_ptr()).map(|_| ())
}

/// getdents64(2): fills `buffer` with directory entries; 0 at the end. Walk it with [`entries`].
pub fn get_dents(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    call!(SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len())
}

/// The names in a buffer filled by [`get_dents`].
pub fn entries(buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    numbered_entries(buffer).map(|(_, name)| name)
}

/// As [`entries`], with inode numbers.
pub fn numbered_entries(buffer: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    // struct linux_dirent64: ino u64, off u64, reclen u16, type u8, name (NUL-terminated).
    let mut rest = buffer;
    core::iter::from_fn(move || {
        let inode = u64::from_ne_bytes(rest.get(..8)?.try_into().ok()?);
        let length = usize::from(u16::from_ne_bytes([*rest.get(16)?, *rest.get(17)?]));
        let name = rest.get(19..length)?;
        rest = rest.get(length..)?;
        Some((inode, name.split(|c| *c == 0).next().unwrap_or(name)))
    })
}

/// Calls `each` with every numeric name in the directory `path` (`/proc/self/fd`, `/proc/self/task`). The descriptor
/// used for reading is not among them when `path` is the descriptor directory.
pub fn each_number(path: &CStr, mut each: impl FnMut(i32)) -> Result<()> {
    let fd = open(path, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC, 0)?;
    let own = path.to_bytes().ends_with(b"/fd");
    let result = each_entry(fd, |number| {
        if !(own && number == fd) {
            each(number);
        }
    });
    let _ = close(fd);
    result
}

/// As [`each_number`], of a directory that is open, from its beginning.
pub fn each_number_in(fd: RawFd, each: impl FnMut(i32)) -> Result<()> {
    seek(fd, 0, libc::SEEK_SET)?;
    each_entry(fd, each)
}

fn each_entry(fd: RawFd, mut each: impl FnMut(i32)) -> Result<()> {
    let mut buffer = [0u8; 4096];
    loop {
        match get_dents(fd, &mut buffer)? {
            0 => return Ok(()),
            length => entries(&buffer[..length])
                .filter(|name| name.first().is_some_and(u8::is_ascii_digit))
                .for_each(|name| each(crate::text::decimal(name).0 as i32)),
        }
    }
}

/// Calls `each` with every number in the text file `path`, which blanks follow (`/proc/self/task/<tid>/children`).
pub fn each_number_of(path: &CStr, mut each: impl FnMut(i32)) -> Result<()> {
    let fd = open(path, libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let (mut buffer, mut number) = ([0u8; 512], None);
    let result = loop {
        match read_full(fd, &mut buffer) {
            Ok(0) => break Ok(()),
            Ok(length) => buffer[..length].iter().for_each(|byte| match byte.is_ascii_digit() {
                true => number = Some(number.unwrap_or(0i32).wrapping_mul(10).wrapping_add(i32::from(byte - b'0'))),
                false => number.take().into_iter().for_each(&mut each),
            }),
            Err(error) => break Err(error),
        }
    };
    let _ = close(fd);
    result
}

/// fcntl(2) with an integer argument.
pub fn fcntl(fd: RawFd, command: i32, argument: usize) -> Result<usize> {
    call!(SYS_fcntl, fd, command, argument)
}

/// fcntl(2) with a lock: F_SETLK, F_GETLK, F_OFD_SETLK …
pub fn fcntl_lock(fd: RawFd, command: i32, lock: &mut libc::flock) -> Result<()> {
    call!(SYS_fcntl, fd, command, lock as *mut libc::flock).map(|_| ())
}

/// Locks all of what `fd` refers to for this process, or with F_UNLCK gives it back, without waiting: F_SETLK.
pub fn lock_record(fd: RawFd, kind: i32) -> Result<()> {
    // SAFETY: all-zero is a valid flock: from the start on, without end.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    fcntl_lock(fd, libc::F_SETLK, &mut lock)
}

/// flock(2).
pub fn flock(fd: RawFd, operation: i32) -> Result<()> {
    call!(SYS_flock, fd, operation).map(|_| ())
}

/// Duplicates `fd` to the lowest free number not below `least`, close-on-exec.
pub fn dup_above(fd: RawFd, least: RawFd) -> Result<RawFd> {
    fcntl(fd, libc::F_DUPFD_CLOEXEC, least as usize).map(|fd| opened::come(fd as RawFd))
}

/// dup3(2); `flags` is 0 or O_CLOEXEC.
pub fn dup3(from: RawFd, to: RawFd, flags: i32) -> Result<RawFd> {
    call!(SYS_dup3, from, to, flags).map(|fd| fd as RawFd)
}

/// pipe2(2): (read end, write end).
pub fn pipe2(flags: i32) -> Result<(RawFd, RawFd)> {
    let mut ends = [0 as RawFd; 2];
    call!(SYS_pipe2, ends.as_mut_ptr(), flags)?;
    Ok((opened::come(ends[0]), opened::come(ends[1])))
}

/// tee(2): duplicates up to `length` bytes from one pipe into another without consuming them.
pub fn tee(from: RawFd, to: RawFd, length: usize, flags: u32) -> Result<usize> {
    call!(SYS_tee, from, to, length, flags)
}

/// splice(2) from one pipe to another. Returns the number of bytes.
pub fn splice(from: RawFd, to: RawFd, length: usize, flags: u32) -> Result<usize> {
    call!(SYS_splice, from, 0, to, 0, length, flags)
}

/// Name of the copies of files of /proc that stand in for those that a program opens: memory, brought along like a file that
/// has no name.
pub const PROC_COPY: &CStr = c"zap-proc";

/// How the kernel shows a memfd, before its name.
pub const MEMFD: &[u8] = b"/memfd:";

/// Where a file without a name may be made when nothing above its directory will do.
const TEMPORARY: [&CStr; 2] = [c"/var/tmp", c"/tmp"];

/// A new file without a name, which nobody but its owner may open: a memfd where `path` is that of one, else (O_TMPFILE,
/// open(2)) in the directory that `path` is in. Where that is gone, or barred, nobody can tell the file from one that was
/// made in a directory above it, or among temporary files.
pub fn make_nameless(path: &[u8]) -> Result<RawFd> {
    if let Some(name) = path.strip_prefix(MEMFD) {
        let name = crate::path::CPath::new(name).ok_or(crate::SysError::new("memfd_create", libc::ENAMETOOLONG))?;
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // Whatever vm.memfd_noexec says: its mode is known later. Linux before 6.3 knows no other.
        return memfd_create(name.as_c_str(), flags | libc::MFD_EXEC).or_else(|_| memfd_create(name.as_c_str(), flags));
    }
    let make = |directory: &CStr| open(directory, libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC, 0o600);
    let above = |path: &[u8]| path.iter().rposition(|c| *c == b'/').map_or(0, |at| at.max(1));
    let is_barred = |error: &crate::SysError| {
        [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::EPERM, libc::EROFS].iter().any(|number| error.is(*number))
    };
    let mut end = above(path);
    let directory = crate::path::CPath::new(&path[..end]).ok_or(crate::SysError::new("open", libc::ENAMETOOLONG))?;
    let first = match make(directory.as_c_str()) {
        Err(error) if is_barred(&error) => error,
        made => return made,
    };
    while end > 1 {
        end = above(&path[..end]);
        let Some(directory) = crate::path::CPath::new(&path[..end]) else { break };
        match make(directory.as_c_str()) {
            // The root directory is another file system than most.
            Ok(file) if end > 1 => return Ok(file),
            Ok(file) => drop(close(file)),
            Err(_) => {}
        }
    }
    TEMPORARY.iter().find_map(|directory| make(directory).ok()).ok_or(first)
}

/// What has been sealed of a file in memory (F_GET_SEALS, fcntl(2)). Fails with EINVAL for one that cannot be.
pub fn seals(fd: RawFd) -> Result<u32> {
    fcntl(fd, libc::F_GET_SEALS, 0).map(|seals| seals as u32)
}

/// memfd_create(2).
pub fn memfd_create(name: &CStr, flags: u32) -> Result<RawFd> {
    call!(SYS_memfd_create, name.as_ptr(), flags).map(|fd| fd as RawFd)
}

/// ioctl(2) with a pointer or number argument.
///
/// # Safety
/// `argument` is what `request` expects.
pub unsafe fn ioctl(fd: RawFd, request: u64, argument: usize) -> Result<usize> {
    call!(SYS_ioctl, fd, request, argument)
}

/// Bytes that can be read at once (FIONREAD).
pub fn bytes_readable(fd: RawFd) -> Result<usize> {
    let mut count = 0i32;
    call!(SYS_ioctl, fd, libc::FIONREAD, &mut count as *mut i32)?;
    Ok(count.max(0) as usize)
}

/// eventfd2(2).
pub fn eventfd(count: u32, flags: i32) -> Result<RawFd> {
    call!(SYS_eventfd2, count, flags).map(|fd| fd as RawFd)
}

/// inotify_init1(2).
pub fn inotify(flags: i32) -> Result<RawFd> {
    call!(SYS_inotify_init1, flags).map(|fd| fd as RawFd)
}

/// inotify_add_watch(2).
pub fn add_watch(inotify: RawFd, path: &CStr, mask: u32) -> Result<i32> {
    call!(SYS_inotify_add_watch, inotify, path.as_ptr(), mask).map(|number| number as i32)
}

/// inotify_rm_watch(2).
pub fn remove_watch(inotify: RawFd, number: i32) -> Result<()> {
    call!(SYS_inotify_rm_watch, inotify, number).map(|_| ())
}

/// INOTIFY_IOC_SETNEXTWD (Linux 4.16, with CONFIG_CHECKPOINT_RESTORE): the next watch is counted from `number` on. EINVAL for one
/// that is none, where the kernel knows the request.
pub fn set_next_watch(inotify: RawFd, number: i32) -> Result<()> {
    /// `_IOW('I', 0, __s32)`.
    const INOTIFY_IOC_SETNEXTWD: usize = 0x4004_4900;
    call!(SYS_ioctl, inotify, INOTIFY_IOC_SETNEXTWD, number).map(|_| ())
}

/// signalfd4(2): a new descriptor for the signals of `mask`.
pub fn signalfd(mask: crate::signal::Mask, flags: i32) -> Result<RawFd> {
    call!(SYS_signalfd4, -1i32, &mask as *const crate::signal::Mask, 8, flags).map(|fd| fd as RawFd)
}

/// mq_open(2) of a queue that is there; `name` without the slash that mq_open(3) takes.
pub fn open_queue(name: &CStr, flags: i32) -> Result<RawFd> {
    call!(SYS_mq_open, name.as_ptr(), flags, 0, 0).map(|fd| opened::come(fd as RawFd))
}

/// epoll_create1(2).
pub fn epoll_create(flags: i32) -> Result<RawFd> {
    call!(SYS_epoll_create1, flags).map(|fd| fd as RawFd)
}

/// epoll_ctl(2), EPOLL_CTL_ADD.
pub fn epoll_add(epoll: RawFd, fd: RawFd, events: u32, data: u64) -> Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_ADD, fd, &mut event as *mut libc::epoll_event).map(|_| ())
}

/// epoll_ctl(2), EPOLL_CTL_MOD.
pub fn epoll_modify(epoll: RawFd, fd: RawFd, events: u32, data: u64) -> Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    call!(SYS_epoll_ctl, epoll, libc::EPOLL_CTL_MOD, fd, &mut event as *mut libc::epoll_event).map(|_| ())
}

/// epoll_wait(2) without waiting; returns the number of events.
pub fn epoll_take(epoll: RawFd, events: &mut [libc::epoll_event]) -> Result<usize> {
    call!(SYS_epoll_wait, epoll, events.as_mut_ptr(), events.len(), 0)
}

/// timerfd_gettime(2). Brings the count of expirations up to date, which the kernel does not do by itself.
pub fn timerfd_gettime(fd: RawFd) -> Result<libc::itimerspec> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut value = libc::itimerspec { it_interval: zero, it_value: zero };
    call!(SYS_timerfd_gettime, fd, &mut value as *mut libc::itimerspec)?;
    Ok(value)
}

/// timerfd_create(2).
pub fn timerfd_create(clock: i32, flags: i32) -> Result<RawFd> {
    call!(SYS_timerfd_create, clock, flags).map(|fd| fd as RawFd)
}

/// timerfd_settime(2).
pub fn timerfd_settime(fd: RawFd, flags: i32, value: &libc::itimerspec) -> Result<()> {
    call!(SYS_timerfd_settime, fd, flags, value as *const libc::itimerspec, 0).map(|_| ())
}

/// Whether two descriptors of this process are one open file description, by kcmp(2).
pub fn same_description(a: RawFd, b: RawFd) -> Result<bool> {
    let own = crate::process::getpid();
    crate::process::compare_descriptions((own, a), (own, b)).map(|order| order.is_eq())
}

/// timerfd's ioctl TFD_IOC_SET_TICKS (Linux 3.17, CONFIG_CHECKPOINT_RESTORE): sets the expirations not yet read.
pub fn timerfd_set_ticks(fd: RawFd, ticks: u64) -> Result<()> {
    // _IOW('T', 0, u64)
    const TFD_IOC_SET_TICKS: u64 = (1 << 30) | (8 << 16) | ((b'T' as u64) << 8);
    call!(SYS_ioctl, fd, TFD_IOC_SET_TICKS, &ticks as *const u64).map(|_| ())
}

/// Waits until either descriptor can be read or has ended, and tells of which that holds.
pub fn wait_for_either(one: RawFd, other: RawFd) -> Result<(bool, bool)> {
    let mut polled = [one, other].map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    call!(SYS_poll, polled.as_mut_ptr(), polled.len(), -1i32)?;
    Ok((polled[0].revents != 0, polled[1].revents != 0))
}

/// pidfd_open(2): readable when the process has ended.
pub fn open_process(pid: crate::RealPid) -> Result<RawFd> {
    call!(SYS_pidfd_open, pid.0, 0).map(|fd| fd as RawFd)
}

/// pidfd_getfd(2): a copy of the descriptor `fd` of the process of which `process` is the descriptor.
pub fn of_process(process: RawFd, fd: RawFd) -> Result<RawFd> {
    call!(SYS_pidfd_getfd, process, fd, 0).map(|fd| fd as RawFd)
}

/// poll(2) of one descriptor without waiting: the events that have happened.
pub fn poll_now(fd: RawFd, events: i16) -> Result<i16> {
    poll_for(fd, events, 0)
}

/// poll(2) of one descriptor for as many milliseconds: the events that have happened, 0 if none has.
pub fn poll_for(fd: RawFd, events: i16, milliseconds: i32) -> Result<i16> {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    call!(SYS_poll, &mut entry as *mut libc::pollfd, 1, milliseconds)?;
    Ok(entry.revents)
}

/// `struct kcmp_epoll_slot` of linux/kcmp.h.
#[repr(C)]
struct EpollSlot {
    epoll: u32,
    watched: u32,
    order: u32,
}

/// What kcmp(2) KCMP_EPOLL_TFD (Linux 4.13) says: whether `candidate` is the description that `epoll` watches as the
/// `order`th one that was added under the number `watched`.
pub fn is_watched(epoll: RawFd, watched: RawFd, order: u32, candidate: RawFd) -> Result<bool> {
    const KCMP_EPOLL_TFD: i32 = 7;
    let pid = crate::process::getpid().0;
    let slot = EpollSlot { epoll: epoll as u32, watched: watched as u32, order };
    call!(SYS_kcmp, pid, pid, KCMP_EPOLL_TFD, candidate, &slot as *const EpollSlot).map(|result| result == 0)
}

/// access(2).
pub fn access(path: &CStr, mode: i32) -> Result<()> {
    call!(SYS_faccessat, AT_FDCWD, path.as_ptr(), mode).map(|_| ())
}
