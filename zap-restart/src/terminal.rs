//! The foreground of the terminal in which zap-restart runs: the pod's process group gets it that had it at the checkpoint.
//!
//! # Safety
//! ioctl(2) with integers of this file's own.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use zap_sys::{fd, libc, process, signal, RawFd, RealPid, SysError};

/// Whether another group than zap-restart's has the terminal because of [`hand_over`].
static HANDED_OVER: AtomicBool = AtomicBool::new(false);

/// Puts `group` into the foreground, if zap-restart is there itself: what it was started as, a job in the background say,
/// it stays.
pub fn hand_over(group: RealPid) {
    let own = process::getpgrp();
    if group != own && process::foreground() == Some(own) && with_terminal(|terminal| set(terminal, group)).is_ok() {
        HANDED_OVER.store(true, Ordering::Relaxed);
    }
}

/// Puts zap-restart's own group into the foreground again: not every caller is a shell that does.
pub fn take_back() {
    if HANDED_OVER.swap(false, Ordering::Relaxed) {
        // From the background it would be stopped (tcsetpgrp(3)).
        let _ = signal::change_mask(libc::SIG_BLOCK, signal::bit(libc::SIGTTOU));
        let _ = with_terminal(|terminal| set(terminal, process::getpgrp()));
    }
}

fn with_terminal(work: impl FnOnce(RawFd) -> Result<(), SysError>) -> Result<(), SysError> {
    let terminal = fd::open(c"/dev/tty", libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC, 0)?;
    let result = work(terminal);
    let _ = fd::close(terminal);
    result
}

fn set(terminal: RawFd, group: RealPid) -> Result<(), SysError> {
    // SAFETY: the kernel reads the integer.
    unsafe { fd::ioctl(terminal, libc::TIOCSPGRP, (&raw const group.0) as usize) }.map(|_| ())
}
