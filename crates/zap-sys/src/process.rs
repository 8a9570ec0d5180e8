//! Processes and threads.
//!
//! # Safety
//! Pointers handed to the kernel come from references that outlive the call; what ends or redirects a thread is
//! `unsafe`.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::ids::RealPid;
use core::cmp::Ordering;

/// Makes a process that ends at once, so that its number is used up; returns the number. The process shares memory with
/// the caller, and nobody but its `wait` sees it.
pub fn use_up_number() -> Option<i32> {
    let helper = make_ended().ok()?.0;
    let _ = wait(helper, libc::__WALL);
    Some(helper)
}

/// A descriptor of a process that has ended and been waited for (pidfd_open(2)).
pub fn open_ended() -> Result<crate::RawFd> {
    let helper = make_ended()?;
    let opened = crate::fd::open_process(helper);
    let _ = wait(helper.0, libc::__WALL);
    opened
}

/// A child that has ended, and that nobody has waited for.
fn make_ended() -> Result<RealPid> {
    extern "C" fn nothing(_: usize) {}
    // SAFETY: the function does nothing, below the caller's frame, while the caller waits.
    let helper =
        unsafe { crate::arch::context::run_beside(nothing, 0, crate::arch::context::BESIDE | libc::CLONE_FILES) };
    if helper <= 0 {
        return Err(crate::SysError::new("clone", -helper as i32));
    }
    Ok(RealPid(helper as i32))
}

/// What kcmp(2) KCMP_FILE says of descriptors of two processes: whether they are one open file description, and else, which
/// is before the other in an order that holds until the next boot.
pub fn compare_descriptions(a: (RealPid, crate::RawFd), b: (RealPid, crate::RawFd)) -> Result<Ordering> {
    // KCMP_FILE is 0.
    match call!(SYS_kcmp, a.0 .0, b.0 .0, 0, a.1, b.1)? {
        0 => Ok(Ordering::Equal),
        1 => Ok(Ordering::Less),
        2 => Ok(Ordering::Greater),
        // "Not equal, but ordering information is unavailable": of no kernel so far.
        _ => Err(crate::SysError::new("kcmp", libc::EOPNOTSUPP)),
    }
}

/// The parent of the process `pid`, as /proc/<pid>/stat tells; `None` if there is no such process.
pub fn parent_of(pid: RealPid) -> Option<RealPid> {
    stat(pid).map(|stat| stat.parent)
}

/// Whether the caller has a child of this number, living or ended.
pub fn is_child(pid: RealPid) -> bool {
    is_any_child(libc::P_PID, pid)
}

/// Whether the caller has a child, living or ended, in this process group.
pub fn has_child_in(group: RealPid) -> bool {
    is_any_child(libc::P_PGID, group)
}

fn is_any_child(kind: libc::idtype_t, id: RealPid) -> bool {
    let options = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    call!(SYS_waitid, kind, id.0, 0, options, 0).is_ok()
}

/// getpid(2), from the kernel.
#[inline(always)]
pub fn getpid() -> RealPid {
    RealPid(call!(SYS_getpid).unwrap_or(0) as i32)
}

/// getppid(2), from the kernel.
pub fn getppid() -> RealPid {
    RealPid(call!(SYS_getppid).unwrap_or(0) as i32)
}

/// getpgid(2) of the caller, from the kernel.
pub fn getpgrp() -> RealPid {
    RealPid(call!(SYS_getpgid, 0).unwrap_or(0) as i32)
}

/// getpgid(2).
pub fn group_of(pid: RealPid) -> Result<RealPid> {
    call!(SYS_getpgid, pid.0).map(|group| RealPid(group as i32))
}

/// getsid(2).
pub fn session_of(pid: RealPid) -> Result<RealPid> {
    call!(SYS_getsid, pid.0).map(|session| RealPid(session as i32))
}

/// getsid(2) of the caller, from the kernel.
pub fn getsid() -> RealPid {
    RealPid(call!(SYS_getsid, 0).unwrap_or(0) as i32)
}

/// The process group in the foreground of the caller's controlling terminal (tpgid of proc_pid_stat(5)), if there is one.
pub fn foreground() -> Option<RealPid> {
    let mut buffer = [0u8; 1024];
    let text = crate::fd::read_file(c"/proc/thread-self/stat", &mut buffer).ok()?;
    Some(RealPid(stat_field(text, 8) as i32)).filter(|group| group.0 > 0)
}

/// setpgid(2).
pub fn setpgid(pid: RealPid, group: RealPid) -> Result<()> {
    call!(SYS_setpgid, pid.0, group.0).map(|_| ())
}

/// gettid(2), from the kernel.
#[inline]
pub fn gettid() -> RealPid {
    RealPid(call!(SYS_gettid).unwrap_or(0) as i32)
}

/// exit(2): ends the calling thread.
pub fn exit_thread(status: i32) -> ! {
    loop {
        let _ = call!(SYS_exit, status);
    }
}

/// exit_group(2): ends the process.
pub fn exit_process(status: i32) -> ! {
    loop {
        let _ = call!(SYS_exit_group, status);
    }
}

/// wait4(2) for one child; returns (pid, status), pid 0 when WNOHANG finds none ended.
pub fn wait(child: i32, options: i32) -> Result<(RealPid, i32)> {
    let mut status = 0i32;
    loop {
        match call!(SYS_wait4, child, &mut status as *mut i32, options, 0) {
            Ok(pid) => return Ok((RealPid(pid as i32), status)),
            Err(error) if error.is(libc::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until the child `pid`, whatever its exit signal, has ended, and leaves it to be waited for (waitid(2), WNOWAIT).
pub fn await_end(pid: RealPid) -> Result<()> {
    loop {
        match call!(SYS_waitid, libc::P_PID, pid.0, 0, libc::WEXITED | libc::WNOWAIT | libc::__WALL, 0) {
            Err(error) if error.is(libc::EINTR) => {}
            other => return other.map(|_| ()),
        }
    }
}

/// The signal by which the child `pid` has been stopped, if it stands stopped and the caller has not been told so (waitid(2),
/// WSTOPPED); with `take` it has been told now. Fails with ECHILD for what is no child.
pub fn stop_of(pid: RealPid, take: bool) -> Result<Option<i32>> {
    let mut info: crate::signal::Info = [0; 32];
    let options = libc::WSTOPPED | libc::WNOHANG | if take { 0 } else { libc::WNOWAIT };
    call!(SYS_waitid, libc::P_PID, pid.0, info.as_mut_ptr(), options, 0)?;
    Ok((info[4] != 0).then_some(info[6] as i32))
}

/// Whether a child has been continued and the caller has not waited for that yet (waitid(2), WCONTINUED).
pub fn has_continued_child() -> bool {
    let mut info: crate::signal::Info = [0; 32];
    let options = libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL;
    call!(SYS_waitid, libc::P_ALL, 0, info.as_mut_ptr(), options, 0).is_ok() && info[4] != 0
}

/// What SIGCHLD says of the child `pid`, if that has ended, stopped or been continued and the caller has not waited for that
/// yet.
pub fn news_of(pid: RealPid) -> Option<crate::signal::Info> {
    let mut info: crate::signal::Info = [0; 32];
    let options = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG | libc::WNOWAIT;
    call!(SYS_waitid, libc::P_PID, pid.0, info.as_mut_ptr(), options, 0).ok()?;
    (info[4] != 0).then_some(info)
}

/// prctl(2).
///
/// # Safety
/// The arguments are what `option` expects.
pub unsafe fn prctl(option: i32, a: usize, b: usize, c: usize, d: usize) -> Result<usize> {
    call!(SYS_prctl, option, a, b, c, d)
}

/// The name of the calling thread, up to 15 bytes and NUL.
pub fn thread_name() -> [u8; 16] {
    let mut name = [0u8; 16];
    let _ = call!(SYS_prctl, libc::PR_GET_NAME, name.as_mut_ptr(), 0, 0, 0);
    name
}

/// Sets the name of the calling thread.
pub fn set_thread_name(name: &[u8; 16]) {
    let _ = call!(SYS_prctl, libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0);
}

/// Whether the process is a child subreaper (PR_GET_CHILD_SUBREAPER).
pub fn is_subreaper() -> bool {
    let mut value = 0i32;
    let _ = call!(SYS_prctl, libc::PR_GET_CHILD_SUBREAPER, &mut value as *mut i32, 0, 0, 0);
    value != 0
}

/// Makes the process a child subreaper, or not.
pub fn set_subreaper(yes: bool) {
    let _ = call!(SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, usize::from(yes), 0, 0, 0);
}

/// Names the process whose descendants may trace the caller (PR_SET_PTRACER): an id, 0 for none, `usize::MAX` for any.
/// EINVAL where Yama is not in the kernel.
pub fn set_tracer(tracer: usize) -> Result<()> {
    call!(SYS_prctl, libc::PR_SET_PTRACER, tracer, 0, 0, 0).map(|_| ())
}

/// The address that the kernel clears when the calling thread ends (PR_GET_TID_ADDRESS, CONFIG_CHECKPOINT_RESTORE).
pub fn clear_tid_address() -> Result<u64> {
    const PR_GET_TID_ADDRESS: i32 = 40;
    let mut address = 0u64;
    call!(SYS_prctl, PR_GET_TID_ADDRESS, &mut address as *mut u64, 0, 0, 0)?;
    Ok(address)
}

/// set_tid_address(2).
///
/// # Safety
/// The kernel writes a zero there when the thread ends.
pub unsafe fn set_clear_tid_address(address: u64) {
    let _ = call!(SYS_set_tid_address, address);
}

/// get_robust_list(2) of the calling thread: (head, length).
pub fn robust_list() -> Result<(u64, u64)> {
    let (mut head, mut length) = (0u64, 0u64);
    call!(SYS_get_robust_list, 0, &mut head as *mut u64, &mut length as *mut u64)?;
    Ok((head, length))
}

/// set_robust_list(2).
///
/// # Safety
/// The kernel walks the list when the thread ends.
pub unsafe fn set_robust_list(head: u64, length: u64) -> Result<()> {
    call!(SYS_set_robust_list, head, length).map(|_| ())
}

/// Whether the calling thread has registered the rseq area at `address`, with that length and signature. Asks for an end
/// of the registration with another signature: EPERM where there is one, and EINVAL where there is none (kernel/rseq.c).
pub fn has_rseq(address: u64, length: u32, signature: u32) -> bool {
    const UNREGISTER: u32 = 1;
    call!(SYS_rseq, address, length, UNREGISTER, !signature).is_err_and(|error| error.is(libc::EPERM))
}

/// Registers the restartable-sequence area of the calling thread (rseq(2), Linux 4.18).
///
/// # Safety
/// The kernel writes to the area at every migration.
pub unsafe fn register_rseq(area: u64, length: u32, signature: u32) -> Result<()> {
    call!(SYS_rseq, area, length, 0, signature).map(|_| ())
}

/// The thread pointer's register: arch_prctl(2) ARCH_GET_FS and ARCH_GET_GS.
pub fn thread_registers() -> (u64, u64) {
    const ARCH_GET_FS: i32 = 0x1003;
    const ARCH_GET_GS: i32 = 0x1004;
    let (mut fs, mut gs) = (0u64, 0u64);
    let _ = call!(SYS_arch_prctl, ARCH_GET_FS, &mut fs as *mut u64);
    let _ = call!(SYS_arch_prctl, ARCH_GET_GS, &mut gs as *mut u64);
    (fs, gs)
}

/// Sets the thread pointer's register.
///
/// # Safety
/// All thread-local state changes with it.
pub unsafe fn set_thread_registers(fs: u64, gs: u64) {
    const ARCH_SET_FS: i32 = 0x1002;
    const ARCH_SET_GS: i32 = 0x1001;
    let _ = call!(SYS_arch_prctl, ARCH_SET_FS, fs);
    if gs != 0 {
        let _ = call!(SYS_arch_prctl, ARCH_SET_GS, gs);
    }
}

/// How a thread is scheduled: `struct sched_attr` of sched_setattr(2) in its first version.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// How the calling thread is scheduled.
pub fn scheduling() -> Result<Scheduling> {
    let mut found = Scheduling::default();
    call!(SYS_sched_getattr, 0, &mut found as *mut Scheduling, core::mem::size_of::<Scheduling>(), 0)?;
    Ok(found)
}

/// Sets how the calling thread is scheduled.
pub fn set_scheduling(wanted: &Scheduling) -> Result<()> {
    let wanted = Scheduling { size: core::mem::size_of::<Scheduling>() as u32, ..*wanted };
    call!(SYS_sched_setattr, 0, &wanted as *const Scheduling, 0).map(|_| ())
}

/// Processors, one bit each.
pub type Processors = [u64; 16];

/// On which processors the calling thread may run; an error where the kernel has more than 1,024.
pub fn processors() -> Result<Processors> {
    let mut found = Processors::default();
    call!(SYS_sched_getaffinity, 0, core::mem::size_of::<Processors>(), found.as_mut_ptr())?;
    Ok(found)
}

/// Sets on which processors the calling thread may run.
pub fn set_processors(wanted: &Processors) -> Result<()> {
    call!(SYS_sched_setaffinity, 0, core::mem::size_of::<Processors>(), wanted.as_ptr()).map(|_| ())
}

/// PR_GET_TIMERSLACK of the calling thread, in nanoseconds.
pub fn timer_slack() -> u64 {
    call!(SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0).unwrap_or(0) as u64
}

/// PR_SET_TIMERSLACK.
pub fn set_timer_slack(nanoseconds: u64) {
    let _ = call!(SYS_prctl, libc::PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0);
}

/// Which parts of the processor's extended state the process may use (Linux 5.16), as bits: x87 and SSE at
/// least; 0 where the kernel does not tell.
pub fn permitted_state() -> u64 {
    const ARCH_GET_XCOMP_PERM: i32 = 0x1022;
    let mut permitted = 0u64;
    match call!(SYS_arch_prctl, ARCH_GET_XCOMP_PERM, &mut permitted as *mut u64) {
        Ok(_) => permitted,
        Err(_) => 0,
    }
}

/// Asks for the use of part `number` of the extended state.
pub fn permit_state(number: u32) -> Result<()> {
    const ARCH_REQ_XCOMP_PERM: i32 = 0x1023;
    call!(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, number).map(|_| ())
}

/// umask(2): sets the mask and returns the old one.
pub fn umask(mask: u32) -> u32 {
    call!(SYS_umask, mask).unwrap_or(0) as u32
}

/// chdir(2).
pub fn chdir(path: &core::ffi::CStr) -> Result<()> {
    call!(SYS_chdir, path.as_ptr()).map(|_| ())
}

/// setsid(2).
pub fn setsid() -> Result<()> {
    call!(SYS_setsid).map(|_| ())
}

/// prlimit64(2) of the calling process: reads a limit as (soft, hard).
pub fn limit(resource: u32) -> Result<(u64, u64)> {
    let mut old = [0u64; 2];
    call!(SYS_prlimit64, 0, resource, 0, old.as_mut_ptr())?;
    Ok((old[0], old[1]))
}

/// prlimit64(2): sets a limit of the calling process.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let new = [soft, hard];
    call!(SYS_prlimit64, 0, resource, new.as_ptr(), 0).map(|_| ())
}

/// Raises the calling process's limit of descriptors as far as it may; what it was. Selects nothing by itself: the kernel's
/// table grows with the descriptors that there are.
pub fn raise_descriptor_limit() -> Result<(u64, u64)> {
    let (soft, hard) = limit(libc::RLIMIT_NOFILE)?;
    if soft < hard {
        set_limit(libc::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok((soft, hard))
}

/// vfork-free fork: a child with a copy of memory. Returns the child's id, 0 in the child.
///
/// # Safety
/// The child runs with libc's state as it stood; it may only make system calls and end.
pub unsafe fn fork_raw(exit_signal: i32) -> Result<RealPid> {
    call!(SYS_clone, exit_signal, 0, 0, 0, 0).map(|pid| RealPid(pid as i32))
}

/// When the process `pid` started, in clock ticks after boot (field 22 of proc_pid_stat(5)); with the pid it names
/// the process for good.
pub fn start_time(pid: RealPid) -> Result<u64> {
    with_stat(pid, |text| stat_field(text, 22))
}

/// The state letter of the process `pid`; `None` if there is none. A main thread that has ended is a zombie (Z) as long as
/// others live.
pub fn state(pid: RealPid) -> Option<u8> {
    with_stat(pid, state_letter).ok()
}

/// What `look` sees in the stat file of the process `pid`.
fn with_stat<T>(pid: RealPid, look: impl FnOnce(&[u8]) -> T) -> Result<T> {
    let path = crate::small!("/proc/{}/stat", pid.0);
    crate::fd::read_file(path.as_c_str(), &mut [0u8; 1024]).map(look)
}

/// The state letter in the text of a stat file (field 3 of proc_pid_stat(5)).
pub fn state_letter(text: &[u8]) -> u8 {
    text.iter().rposition(|c| *c == b')').and_then(|at| text.get(at + 2)).copied().unwrap_or(b'?')
}

/// Whether the process of a stat file's text has ended. One whose first thread has ended alone is a zombie there too, but has
/// more threads than one (field 20).
pub fn has_ended(text: &[u8]) -> bool {
    match state_letter(text) {
        b'X' => true,
        b'Z' => stat_field(text, 20) <= 1,
        _ => false,
    }
}

/// What proc_pid_stat(5) tells of a process: its state letter, its parent, and when it was made, in clock ticks after boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stat {
    pub state: u8,
    pub parent: RealPid,
    pub started: u64,
}

impl Stat {
    /// Whether it is stopped by a signal or a tracer.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, b'T' | b't')
    }
}

/// The [`Stat`] of the process `pid`; `None` if there is none.
pub fn stat(pid: RealPid) -> Option<Stat> {
    let fields = |text: &[u8]| Stat {
        state: state_letter(text),
        parent: RealPid(stat_field(text, 4) as i32),
        started: stat_field(text, 22),
    };
    with_stat(pid, fields).ok()
}

/// Field `number` (3 or later, as numbered in proc_pid_stat(5)) of the text of a stat file. The name in field 2 may
/// hold blanks and parentheses, so fields are counted from its last parenthesis.
pub fn stat_field(text: &[u8], number: usize) -> u64 {
    let after = text.iter().rposition(|c| *c == b')').map_or(text.len(), |at| at + 2);
    let field = text.get(after..).unwrap_or_default().split(|c| *c == b' ').nth(number - 3).unwrap_or_default();
    crate::text::decimal(field).0 as u64
}

/// Inode of the calling process's PID namespace (pid_namespaces(7)); 0 where /proc does not tell.
pub fn pid_namespace() -> u32 {
    crate::fd::stat(c"/proc/self/ns/pid").map_or(0, |stat| stat.st_ino as u32)
}

/// Kinds of namespaces in which a process may be without being another to the pod: a file of /proc/PID/ns, and what it is called.
pub const NAMESPACES: [(&str, &str); 5] =
    [("mnt", "mount"), ("net", "network"), ("uts", "UTS"), ("ipc", "IPC"), ("user", "user")];

/// Inodes of the calling thread's [`NAMESPACES`]; 0 where /proc does not tell.
pub fn namespaces() -> [u32; NAMESPACES.len()] {
    NAMESPACES.map(|(name, _)| inode_of(&crate::small!("/proc/thread-self/ns/{name}")))
}

/// As [`namespaces`], of the process `pid`.
pub fn namespaces_of(pid: RealPid) -> [u32; NAMESPACES.len()] {
    NAMESPACES.map(|(name, _)| inode_of(&crate::small!("/proc/{pid}/ns/{name}")))
}

fn inode_of<const N: usize>(path: &crate::text::SmallString<N>) -> u32 {
    crate::fd::stat(path.as_c_str()).map_or(0, |stat| stat.st_ino as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_survive_strange_names() {
        let text = b"12 (a) b (c) S 1 12 12 0 -1 4194304 100 0 0 0 3 4 0 0 20 0 1 0 777 1000";
        assert_eq!(stat_field(text, 4), 1);
        assert_eq!(stat_field(text, 22), 777);
    }

    #[test]
    fn ends_by_table() {
        let table: [(&[u8], bool); 4] = [
            (b"12 (a) S 1 12 12 0 -1 4194304 100 0 0 0 3 4 0 0 20 0 1 0 777 1000", false),
            (b"12 (a) Z 1 12 12 0 -1 4194304 100 0 0 0 3 4 0 0 20 0 1 0 777 0", true),
            // Two threads live.
            (b"12 (a) Z 1 12 12 0 -1 4194304 100 0 0 0 3 4 0 0 20 0 3 0 777 0", false),
            (b"12 (a) X 1 12 12 0 -1 4194304 100 0 0 0 3 4 0 0 20 0 0 0 777 0", true),
        ];
        for (text, expected) in table {
            assert_eq!(has_ended(text), expected, "{}", core::str::from_utf8(text).unwrap());
        }
    }

    #[test]
    fn own_start_time_and_state() {
        assert!(start_time(getpid()).unwrap() > 0);
        assert!(matches!(state(getpid()), Some(b'R' | b'S')));
        assert_eq!(state(RealPid(i32::MAX)), None);
    }
}
