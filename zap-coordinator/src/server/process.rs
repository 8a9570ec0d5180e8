//! Processes as the coordinator holds them: by pidfd, which cannot come to mean another process.
//!
//! # Safety
//! pidfd calls with numbers only; descriptors that they return are new.
#![allow(unsafe_code)]

use super::examine::number;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;
use zap_sys::{process, RealPid};

/// Descriptors that processes may not take.
const RESERVE: u64 = 256;

/// A living process.
#[derive(Debug)]
pub struct Process {
    descriptor: OwnedFd,
    /// In clock ticks after boot.
    started: u64,
}

impl Process {
    /// Opens the process `pid`, if it lives and, when `start_time` is known, has started then. What fails says nothing about
    /// the process.
    pub fn open(pid: i32, start_time: u64) -> io::Result<Option<Self>> {
        // SAFETY: numbers only; the result is a new descriptor, close-on-exec by itself.
        let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if number < 0 {
            let error = io::Error::last_os_error();
            // There is none, or the number is another process's thread's by now (pidfd_open(2)).
            let is_gone = matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL | libc::ENOENT));
            return if is_gone { Ok(None) } else { Err(error) };
        }
        // SAFETY: just opened, nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number as i32) };
        // Read after opening: if it matches, the pidfd means the process that was meant.
        let process = Self { descriptor, started: process::start_time(RealPid(pid)).unwrap_or(0) };
        let same = start_time == 0 || process.started == start_time;
        Ok((same && !process.has_ended()).then_some(process))
    }

    /// The process, to be held for as long as it lives, if that leaves descriptors with which tools and members are
    /// answered.
    pub fn watched(self) -> io::Result<Self> {
        let limit = process::limit(libc::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        // The lowest number that was free.
        if self.descriptor() as u64 >= limit - RESERVE.min(limit / 4) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(self)
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

    /// As [`Process::signal`], for the process's first thread alone where that can take it. Of a signal for the process another thread
    /// may be woken than the one that takes it, and a call of that one which the kernel does not make again ends for nothing
    /// (sigwaitinfo(2), epoll_wait(2)).
    pub fn signal_first(&self, pid: i32, signal: i32) -> io::Result<()> {
        // Linux 6.9.
        const PIDFD_SIGNAL_THREAD: u32 = 1;
        let status = text(format!("/proc/{pid}/status")).unwrap_or_default();
        let blocked = super::examine::number(&status, "SigBlk:", 16) & (1 << (signal - 1)) != 0;
        if !blocked && super::examine::field(&status, "State:").starts_with(['R', 'S']) {
            let mut info = [0u32; 32];
            (info[0], info[2]) = (signal as u32, libc::SI_QUEUE as u32);
            // SAFETY: numbers, and a siginfo_t of 128 bytes.
            let result = unsafe {
                libc::syscall(
                    libc::SYS_pidfd_send_signal,
                    self.descriptor(),
                    signal,
                    info.as_ptr(),
                    PIDFD_SIGNAL_THREAD,
                )
            };
            if result == 0 {
                return Ok(());
            }
        }
        self.signal(signal)
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

/// Whether `signal` waits to be taken by the process.
pub fn has_pending(pid: i32, signal: i32) -> bool {
    let status = text(format!("/proc/{pid}/status")).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap_or_default();
    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (signal - 1)) != 0)
}

/// What is known of a process's memory, and of what it does with a signal.
#[derive(Clone, Debug, Default)]
struct Sight {
    /// The text of its maps; `None` where that cannot be read: it has become another user, or undumpable.
    maps: Option<Vec<u8>>,
    environment: Vec<u8>,
    status: String,
}

impl Sight {
    fn of(pid: i32) -> Self {
        Self {
            maps: fs::read(format!("/proc/{pid}/maps")).ok(),
            environment: fs::read(format!("/proc/{pid}/environ")).unwrap_or_default(),
            // Everybody may read that.
            status: text(format!("/proc/{pid}/status")).unwrap_or_default(),
        }
    }

    fn maps(&self, name: &[u8]) -> bool {
        let lines = self.maps.iter().flat_map(|maps| maps.split(|byte| *byte == b'\n'));
        // A file's name, whole but for what the kernel says of one that is gone.
        lines.map(|line| line.strip_suffix(b" (deleted)").unwrap_or(line)).any(|line| ends_with_file(line, name))
    }

    fn is_told(&self, name: &[u8]) -> bool {
        self.environment.split(|byte| *byte == 0).any(|variable| ends_with_file(variable, name))
    }

    fn has(&self, mask: &str, signal: i32) -> bool {
        number(&self.status, mask, 16) & zap_sys::signal::bit(signal) != 0
    }

    /// Whether it is in a pod by itself: it has the table mapped, or has been told of it and is about to.
    ///
    /// One whose memory cannot be read has at least Zap's handler. One that has no memory is a kernel thread, which has not;
    /// or ends, or its first thread has ended. One that is just becoming another program has the signal blocked, and no
    /// environment yet.
    fn belongs(&self, name: &[u8], signal: i32) -> bool {
        let is_visible = self.maps.as_ref().is_some_and(|maps| !maps.is_empty());
        let execs = self.environment.is_empty() && self.has("SigBlk:", signal);
        // libzap wipes the environment before it maps the table.
        let starts = self.maps(b"libzap.so") && self.has("SigBlk:", signal);
        let may_exec = execs && (!is_visible || !self.has("SigCgt:", signal));
        self.maps(name) || self.is_told(name) || starts || may_exec || (!is_visible && self.has("SigCgt:", signal))
    }

    /// Whether it has come by a fork, and has not exec'ed since.
    fn is_copy(&self, name: &[u8], signal: i32) -> bool {
        self.maps(name) || (self.maps.is_none() && self.has("SigCgt:", signal))
    }
}

fn ends_with_file(path: &[u8], name: &[u8]) -> bool {
    path.strip_suffix(name).is_some_and(|directory| directory.ends_with(b"/"))
}

/// Whether the process that is there now may be the one that was entered into the pod's table as `name`, by itself or by
/// its parent. Which of two it is does not follow from a number.
pub fn may_belong(pid: i32, name: &[u8], signal: i32) -> bool {
    Sight::of(pid).belongs(name, signal)
}

/// Whether the process, a member's child, is a copy of a member.
pub fn is_copy(pid: i32, name: &[u8], signal: i32) -> bool {
    Sight::of(pid).is_copy(name, signal)
}

/// The text of a file in /proc. It has names in it, which may be any bytes.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The name of a process's program (comm).
pub fn name(pid: i32) -> String {
    text(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn who_belongs_by_table() {
        let (name, signal) = (&b"1f.table"[..], 62);
        let mapped = "7f00-7f10 rw-s 00000000 00:1 9  /run/zap/pods/1f.table\n";
        let gone = "7f00-7f10 rw-s 00000000 00:1 9  /run/zap/pods/1f.table (deleted)\n7f20-7f30 rw-p 0 0 0\n";
        let other = "7f00-7f10 rw-s 00000000 00:1 9  /run/zap/pods/21f.table\n";
        let (has, lacks) = ("2000000000000000", "0000000000000000");
        // maps, environment, blocked, caught; whether it belongs, whether it is a copy of a member.
        let table = [
            (Some(mapped), "A=b\0", lacks, has, true, true),
            (Some(gone), "", lacks, has, true, true),
            (Some(other), "A=b\0", lacks, has, false, false),
            (Some(other), "ZAP=/run/zap/pods/1f.table\0", lacks, lacks, true, false),
            (Some(other), "ZAP=/run/zap/pods/21f.table\0", lacks, lacks, false, false),
            // Just becoming another program; and a stranger that blocks the signal.
            (Some(other), "", has, lacks, true, false),
            (Some(other), "A=b\0", has, lacks, false, false),
            (Some(other), "", has, has, false, false),
            (Some("7f00-7f10 r-xp 0 0 0 /opt/zap/libzap.so\n"), "A=b\0", has, lacks, true, false),
            // A kernel thread; one that ends.
            (Some(""), "", lacks, lacks, false, false),
            (Some(""), "", lacks, has, true, false),
            // Another user's; a member that has become one.
            (None, "", lacks, lacks, false, false),
            (None, "", lacks, has, true, true),
            (None, "", has, lacks, true, false),
        ];
        for (at, (maps, environment, blocked, caught, belongs, is_copy)) in table.into_iter().enumerate() {
            let sight = Sight {
                maps: maps.map(|text| text.as_bytes().to_vec()),
                environment: environment.as_bytes().to_vec(),
                status: format!("Name:\tx\nSigBlk:\t{blocked}\nSigCgt:\t{caught}\n"),
            };
            let found = (sight.belongs(name, signal), sight.is_copy(name, signal));
            assert_eq!(found, (belongs, is_copy), "row {at}");
        }
    }

    #[test]
    fn a_kernel_thread_belongs_to_nobody() {
        // In a namespace of its own, number 2 is something else, which is no member either.
        assert!(!may_belong(2, b"1f.table", 62));
        assert!(may_belong(std::process::id() as i32, own_name().as_bytes(), 62));
    }

    fn own_name() -> String {
        std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned()
    }

    #[test]
    fn a_process_is_what_it_was() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let started = process::start_time(RealPid(pid)).unwrap();
        assert!(Process::open(pid, started + 1).unwrap().is_none());
        let held = Process::open(pid, started).unwrap().unwrap();
        assert!(!held.has_ended());
        held.signal(libc::SIGKILL).unwrap();
        child.wait().unwrap();
        assert!(held.has_ended());
        assert!(Process::open(pid, started).unwrap().is_none());
        assert!(Process::open(i32::MAX, 0).unwrap().is_none());
    }
}
