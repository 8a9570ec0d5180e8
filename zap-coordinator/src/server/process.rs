//! Processes as the coordinator holds them: by pidfd, which cannot come to mean another process.
//!
//! # Safety
//! pidfd calls with numbers only; descriptors that they return are new.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zap_sys::{process, RealPid};

/// A living process.
#[derive(Debug)]
pub struct Process {
    descriptor: OwnedFd,
    /// In clock ticks after boot.
    started: u64,
}

impl Process {
    /// Opens the process `pid`, if it lives and, when `start_time` is known, has started then.
    pub fn open(pid: i32, start_time: u64) -> Option<Self> {
        // SAFETY: numbers only; the result is a new descriptor, close-on-exec by itself.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if number < 0 {
            return None;
        }
        // SAFETY: just opened, nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number as i32) };
        // Read after opening: if it matches, the pidfd means the process that was meant.
        let process = Self { descriptor, started: process::start_time(RealPid(pid)).unwrap_or(0) };
        let same = start_time == 0 || process.started == start_time;
        (same && !process.has_ended()).then_some(process)
    }

    /// Whether a process that has started at `time` is a later one.
    pub fn is_before(&self, time: u64) -> bool {
        self.started < time
    }

    /// Number of the pidfd, readable when the process has ended.
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Whether it has ended, waited for or not.
    pub fn has_ended(&self) -> bool {
        let mut wait = libc::pollfd { fd: self.descriptor(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive during the call.
        unsafe { libc::poll(&mut wait, 1, 0) == 1 }
    }

    /// How it has ended, as wait(2) tells it: from /proc before somebody has waited for it (proc_pid_stat(5), field 52),
    /// and after that from the pidfd (PIDFD_GET_INFO, Linux 6.15). `None` where neither tells.
    pub fn status(&self, pid: i32) -> Option<i32> {
        let unwaited = || {
            let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
            let is_it = process::stat_field(&stat, 22) as u64 == self.started;
            let ended = matches!(process::state_letter(&stat), b'Z' | b'X');
            (is_it && ended).then(|| process::stat_field(&stat, 52) as i32)
        };
        unwaited().or_else(|| self.status_by_descriptor())
    }

    fn status_by_descriptor(&self) -> Option<i32> {
        /// `struct pidfd_info` of linux/pidfd.h, as it was at the first: a mask, and at its end the status.
        #[repr(C, align(8))]
        struct Info {
            mask: u64,
            others: [u32; 13],
            status: i32,
        }
        const EXIT: u64 = 1 << 3;
        // _IOWR(0xff, 11, struct pidfd_info)
        const GET_INFO: u64 = (3 << 30) | ((size_of::<Info>() as u64) << 16) | (0xff << 8) | 11;
        let mut info = Info { mask: EXIT, others: [0; 13], status: 0 };
        // SAFETY: the structure that the call is told the length of.
        let result = unsafe { libc::ioctl(self.descriptor(), GET_INFO as libc::Ioctl, &raw mut info) };
        (result == 0 && info.mask & EXIT != 0).then_some(info.status)
    }

    /// pidfd_send_signal(2), as kill(2) would (SI_USER): delivered even when the user's quota of queued signals is
    /// used up.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        // SAFETY: numbers and a null pointer, which the call allows.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.descriptor(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

/// Whether the process is stopped by a signal or a tracer.
pub fn is_stopped(pid: i32) -> bool {
    matches!(process::state(RealPid(pid)), Some(b'T' | b't'))
}

/// Whether `signal` waits to be taken by the process.
pub fn has_pending(pid: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// Whether the process has a file mapped whose path contains `path`. True also where that cannot be read: a member that has become another
/// user's, or undumpable.
pub fn maps(pid: i32, path: &Path) -> bool {
    let Ok(maps) = fs::read(format!("/proc/{pid}/maps")) else { return true };
    let path = path.as_os_str().as_bytes();
    maps.split(|byte| *byte == b'\n').any(|line| line.windows(path.len()).any(|part| part == path))
}

/// Whether a process that was entered into the pod's table as `table` may be the one that is there now: it has the table
/// mapped, is about to (it execs), or is just ending and has no memory any more.
pub fn may_belong(pid: i32, table: &Path) -> bool {
    let is_empty = || fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.is_empty());
    let is_told = || {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let name = table.as_os_str().as_bytes();
        environment.split(|byte| *byte == 0).any(|variable| variable.ends_with(name))
    };
    maps(pid, table) || is_empty() || is_told()
}

/// The name of a process's program (comm).
pub fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn maps_names_what_is_mapped() {
        let (own, executable) = (std::process::id() as i32, std::env::current_exe().unwrap());
        assert!(maps(own, &executable));
        assert!(!maps(own, &executable.join("not")));
    }

    #[test]
    fn a_process_is_what_it_was() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let started = process::start_time(RealPid(pid)).unwrap();
        assert!(Process::open(pid, started + 1).is_none());
        let held = Process::open(pid, started).unwrap();
        assert!(!held.has_ended() && !is_stopped(pid));
        held.signal(libc::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(held.has_ended());
        assert!(Process::open(pid, started).is_none());
    }
}
