//! Standing in for the program: once it runs, signals go through to it, and its end becomes zap-restart's own. Before
//! that there is nobody else for whom a signal could be meant: it ends zap-restart.
//!
//! # Safety
//! libc's signal calls on local values; the signals are blocked, so that no handler runs.
#![allow(unsafe_code)]

use crate::terminal;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use zap_client::MappedTable;
use zap_sys::signal::{self, Mask};
use zap_sys::{process, RealPid};

/// Signals that are passed on when they are sent to zap-restart: all but those that cannot be, that are zap-restart's own
/// affair (its children), and that libc keeps to itself.
fn passed_on() -> impl Iterator<Item = i32> {
    const OWN: [i32; 5] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, 32, 33];
    (1..=64).filter(|number| !OWN.contains(number))
}

/// Blocks what [`wait`] will wait for, so that nothing gets lost in between; returns the mask as it was.
pub fn block() -> Mask {
    let mask = passed_on().fold(signal::bit(libc::SIGCHLD), |mask, number| mask | signal::bit(number));
    // A caller that ignores SIGCHLD would have the kernel throw the exit status away.
    // SAFETY: the default action runs no code.
    let _ = unsafe { signal::set_action(libc::SIGCHLD, &signal::KernelAction::default()) };
    signal::change_mask(libc::SIG_BLOCK, mask).unwrap_or(0)
}

/// Signals that end zap-restart as long as the program does not run.
const ENDING: [i32; 4] = [libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];

/// What has ended a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Indices of those that have something to say.
    Reports(Vec<usize>),
    Signal(i32),
}

/// The wait for a restart, which a signal cuts short.
#[derive(Debug)]
pub struct Patience {
    signals: Mask,
    descriptor: OwnedFd,
}

impl Patience {
    /// `mask` is that with which zap-restart was started. What it blocks, or what is ignored, was not to end
    /// zap-restart; it stays pending for the program, as all else does that [`block`] blocks.
    pub fn new(mask: Mask) -> zap_sys::Result<Self> {
        let ends = |number: &i32| {
            // SIG_IGN is 1.
            mask & signal::bit(*number) == 0 && signal::get_action(*number).is_ok_and(|action| action.handler != 1)
        };
        let signals = ENDING.into_iter().filter(ends).fold(0, |all, number| all | signal::bit(number));
        // SAFETY: the kernel's own set of eight bytes, read during the call.
        let number =
            unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const signals, size_of::<Mask>(), libc::SFD_CLOEXEC) };
        if number < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL);
            return Err(zap_sys::SysError::new("signalfd4", errno));
        }
        // SAFETY: a new descriptor that nobody else knows.
        Ok(Self { signals, descriptor: unsafe { OwnedFd::from_raw_fd(number as i32) } })
    }

    /// Waits until there is something to read in one of `reports`, or a signal has come.
    pub fn wait(&self, reports: &[RawFd]) -> Woken {
        loop {
            let entry = |fd: &i32| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 };
            let own = self.descriptor.as_raw_fd();
            let mut set: Vec<libc::pollfd> = reports.iter().chain([&own]).map(entry).collect();
            // SAFETY: the set lives until the call returns.
            let count = unsafe { libc::poll(set.as_mut_ptr(), set.len() as libc::nfds_t, -1) };
            let interrupted = || std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
            if count < 0 && !interrupted() {
                // A wait that fails is no wait: reading the reports then says what is wrong.
                return Woken::Reports((0..reports.len()).collect());
            }
            let spoken: Vec<usize> = (0..reports.len()).filter(|index| set[*index].revents != 0).collect();
            if count > 0 && !spoken.is_empty() {
                return Woken::Reports(spoken);
            }
            if let Some(number) = self.pending() {
                return Woken::Signal(number);
            }
        }
    }

    /// A signal that has come. It stays pending, and so takes effect as soon as it is not blocked any more.
    pub fn pending(&self) -> Option<i32> {
        let pending = signal::pending() & self.signals;
        (pending != 0).then(|| pending.trailing_zeros() as i32 + 1)
    }
}

/// Waits until `child` has ended, and ends as it did.
pub fn wait(child: RealPid) -> ! {
    loop {
        if let Some(status) = look_after(child) {
            terminal::take_back();
            end_as(status);
        }
        if let Some(signal) = next_signal(None) {
            signal.pass_on(child);
        }
    }
}

/// As [`wait`], when the pod's first process had ended with `status` before the checkpoint: waits until the last has
/// ended. Signals go to `child`.
pub fn wait_for_last(child: RealPid, table: &Path, status: i32) -> ! {
    let table = MappedTable::open(table).ok();
    let lives = |pid: RealPid| !matches!(process::state(pid), None | Some(b'Z' | b'X'));
    let mut others = true;
    let mut childs = true;
    while childs || others {
        childs = childs && look_after(child).is_none();
        // Its own children tell by SIGCHLD when they end; others are whoever has forked meanwhile, or an orphan's.
        others = table.as_ref().is_some_and(|table| table.members().any(|(pid, _)| lives(pid)));
        if childs || others {
            if let Some(signal) = next_signal(Some(LOOK)) {
                signal.pass_on(child);
            }
        }
    }
    terminal::take_back();
    end_as(status)
}

/// How often it is looked whether the last process has ended, which is nobody's child here.
const LOOK: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Stops and goes on as `child` does; its status when it has ended.
fn look_after(child: RealPid) -> Option<i32> {
    while let Ok((pid, status)) = process::wait(child.0, libc::WNOHANG | libc::WUNTRACED) {
        if pid.0 == 0 {
            return None;
        }
        if !libc::WIFSTOPPED(status) {
            return Some(status);
        }
        // Whoever watches zap-restart, a shell for instance, shall see it stopped too.
        let front = terminal::in_front();
        let _ = signal::kill(process::getpid().0, libc::SIGSTOP);
        if let Some(group) = terminal::resume(front) {
            let _ = signal::kill(-group.0, libc::SIGCONT);
        }
        // A shell continues the whole process group; its handler for it shall run once.
        let _ = signal::take_pending(libc::SIGCONT);
        if process::state(child) == Some(b'T') {
            let _ = signal::kill(child.0, libc::SIGCONT);
        }
    }
    None
}

/// Ends this process with the wait status of another: the same exit status, or death by the same signal.
pub fn end_as(status: i32) -> ! {
    if libc::WIFSIGNALED(status) {
        end_by(libc::WTERMSIG(status));
    }
    process::exit_process(libc::WEXITSTATUS(status))
}

/// Ends this process by a signal.
pub fn end_by(number: i32) -> ! {
    // The program has written its core, if any: this one would be in its way.
    let _ = process::set_limit(libc::RLIMIT_CORE, 0, 0);
    // SAFETY: the default action runs no code.
    let _ = unsafe { signal::set_action(number, &signal::KernelAction::default()) };
    let _ = signal::change_mask(libc::SIG_UNBLOCK, signal::bit(number));
    let _ = signal::kill(process::getpid().0, number);
    process::exit_process(128 + number)
}

/// A signal that has come to zap-restart.
struct Passing {
    number: i32,
    /// The kernel has sent it, as it does for the terminal (SI_KERNEL).
    by_kernel: bool,
}

impl Passing {
    /// What the terminal sends, it sends to the whole process group: to the pod's too, if that is zap-restart's own. One that
    /// leads a session of its own has no terminal but zap-restart's.
    fn pass_on(&self, child: RealPid) {
        let to = match process::group_of(child) {
            Ok(group) if self.by_kernel && group == process::getpgrp() => return,
            Ok(group) if self.by_kernel => -group.0,
            _ => child.0,
        };
        let _ = signal::kill(to, self.number);
    }
}

/// Waits for the next signal, so long at most; returns it if it is one for the program.
fn next_signal(longest: Option<libc::timespec>) -> Option<Passing> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: initializes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for number in passed_on().chain([libc::SIGCHLD]) {
        // SAFETY: an initialized set and a valid signal.
        unsafe { libc::sigaddset(set.as_mut_ptr(), number) };
    }
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let longest = longest.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: an initialized set, a siginfo to be filled, and a time or null.
    let number = unsafe { libc::sigtimedwait(set.as_ptr(), info.as_mut_ptr(), longest) };
    // SAFETY: all-zero is a valid siginfo.
    let info = unsafe { info.assume_init() };
    const SI_KERNEL: i32 = 0x80;
    // SAFETY: as above; nothing but a number is read. Of what zap-restart writes to a pipe that nobody reads it is told as if it
    // had sent that itself.
    let is_own = number == libc::SIGPIPE && unsafe { info.si_pid() } == process::getpid().0;
    let is_passed_on = number > 0 && number != libc::SIGCHLD && !is_own;
    is_passed_on.then_some(Passing { number, by_kernel: info.si_code == SI_KERNEL })
}
