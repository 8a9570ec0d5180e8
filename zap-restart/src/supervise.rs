//! Standing in for the program while it runs: signals go through to it, its end becomes zap-restart's own.
//!
//! # Safety
//! libc's signal calls on local values; the signals are blocked, so that no handler runs.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use zap_sys::signal::{self, Mask};
use zap_sys::{process, RealPid};

/// Signals that are passed on when they are sent to zap-restart.
const PASSED_ON: [i32; 8] = [
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Blocks what [`wait`] will wait for, so that nothing gets lost in between; returns the mask as it was.
pub fn block() -> Mask {
    let mut mask = signal::bit(libc::SIGCHLD);
    for number in PASSED_ON {
        mask |= signal::bit(number);
    }
    // A caller that ignores SIGCHLD would have the kernel throw the exit status away.
    // SAFETY: the default action runs no code.
    let _ = unsafe { signal::set_action(libc::SIGCHLD, &signal::KernelAction::default()) };
    signal::change_mask(libc::SIG_BLOCK, mask).unwrap_or(0)
}

/// Waits until `child` has ended, and ends as it did.
pub fn wait(child: RealPid) -> ! {
    loop {
        while let Ok((pid, status)) = process::wait(child.0, libc::WNOHANG | libc::WUNTRACED) {
            if pid.0 == 0 {
                break;
            }
            if libc::WIFSTOPPED(status) {
                // Whoever watches zap-restart, a shell for instance, shall see it stopped too.
                let _ = signal::kill(process::getpid().0, libc::SIGSTOP);
                // A shell continues the whole process group; its handler for it shall run once.
                let _ = signal::take_pending(libc::SIGCONT);
                if is_stopped(child) {
                    let _ = signal::kill(child.0, libc::SIGCONT);
                }
                continue;
            }
            end_as(status);
        }
        if let Some(number) = next_signal() {
            let _ = signal::kill(child.0, number);
        }
    }
}

fn is_stopped(child: RealPid) -> bool {
    let stat = std::fs::read(format!("/proc/{child}/stat")).unwrap_or_default();
    process::state_letter(&stat) == b'T'
}

/// Ends this process with the wait status of another: the same exit status, or death by the same signal.
pub fn end_as(status: i32) -> ! {
    if libc::WIFSIGNALED(status) {
        let number = libc::WTERMSIG(status);
        // The program has written its core, if any: this one would be in its way.
        let _ = process::set_limit(libc::RLIMIT_CORE, 0, 0);
        // SAFETY: the default action runs no code.
        let _ = unsafe { signal::set_action(number, &signal::KernelAction::default()) };
        let _ = signal::change_mask(libc::SIG_UNBLOCK, signal::bit(number));
        let _ = signal::kill(process::getpid().0, number);
        process::exit_process(128 + number);
    }
    process::exit_process(libc::WEXITSTATUS(status))
}

/// Waits for the next signal; returns it if the program is to get it from here. What the terminal sends, it sends to
/// both (si_code SI_KERNEL).
fn next_signal() -> Option<i32> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: initializes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for number in PASSED_ON.into_iter().chain([libc::SIGCHLD]) {
        // SAFETY: an initialized set and a valid signal.
        unsafe { libc::sigaddset(set.as_mut_ptr(), number) };
    }
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: an initialized set, and a siginfo to be filled.
    let number = unsafe { libc::sigwaitinfo(set.as_ptr(), info.as_mut_ptr()) };
    // SAFETY: all-zero is a valid siginfo.
    let info = unsafe { info.assume_init() };
    const SI_KERNEL: i32 = 0x80;
    (PASSED_ON.contains(&number) && info.si_code != SI_KERNEL).then_some(number)
}
