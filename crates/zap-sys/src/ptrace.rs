//! The few calls of ptrace(2) that change a thread's signal mask from outside.
//!
//! # Safety
//! None of them reads or writes memory of the traced thread; pointers are to local values that outlive the calls.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::ids::RealPid;
use crate::signal::Mask;
use crate::SysError;

const PTRACE_PEEKUSER: u32 = 3;
const PTRACE_CONT: u32 = 7;
const PTRACE_DETACH: u32 = 17;
const PTRACE_SEIZE: u32 = 0x4206;
const PTRACE_INTERRUPT: u32 = 0x4207;
const PTRACE_GETSIGMASK: u32 = 0x420a;
const PTRACE_SETSIGMASK: u32 = 0x420b;
/// High byte of the wait status of a stop that PTRACE_INTERRUPT, or a stop signal, has caused.
const PTRACE_EVENT_STOP: i32 = 128;

/// How long a thread may take to stop for us: only one that sleeps uninterruptibly takes long.
const LONGEST_NS: u64 = 300_000_000;

/// Takes `signal` out of the mask of the thread `tid`, which must not belong to the caller's own process. Returns
/// whether it was in it. A call in which the thread waits is interrupted as by a stop signal: the kernel restarts it, or
/// ends it with EINTR if `signal` waits for the thread, whose handler then runs first.
///
/// `may_change` is asked while the thread stands, with the address of its next instruction.
pub fn unblock(tid: RealPid, signal: i32, may_change: impl FnOnce(u64) -> bool) -> Result<bool> {
    call!(SYS_ptrace, PTRACE_SEIZE, tid.0, 0, 0)?;
    let result = stop(tid).and_then(|()| change(tid, signal, may_change));
    // Of a thread that does not stand, this fails; then it is let go when the calling thread ends, as it should soon.
    let detached = call!(SYS_ptrace, PTRACE_DETACH, tid.0, 0, 0);
    result.and_then(|changed| detached.map(|_| changed))
}

fn stop(tid: RealPid) -> Result<()> {
    call!(SYS_ptrace, PTRACE_INTERRUPT, tid.0, 0, 0)?;
    let begun = crate::time::monotonic_ns();
    loop {
        let (stopped, status) = crate::process::wait(tid.0, libc::__WALL | libc::WNOHANG)?;
        if stopped.0 == 0 {
            if crate::time::monotonic_ns().saturating_sub(begun) > LONGEST_NS {
                return Err(SysError::new("ptrace", libc::EBUSY));
            }
            crate::time::sleep_ns(20_000);
        } else if !libc::WIFSTOPPED(status) {
            return Err(SysError::new("ptrace", libc::ESRCH));
        } else if status >> 16 == PTRACE_EVENT_STOP {
            return Ok(());
        } else {
            // A signal of the program came first. It is delivered, and the stop follows.
            call!(SYS_ptrace, PTRACE_CONT, tid.0, 0, libc::WSTOPSIG(status))?;
        }
    }
}

fn change(tid: RealPid, signal: i32, may_change: impl FnOnce(u64) -> bool) -> Result<bool> {
    let (mut mask, mut instruction): (Mask, u64) = (0, 0);
    let size = core::mem::size_of::<Mask>();
    call!(SYS_ptrace, PTRACE_GETSIGMASK, tid.0, size, &mut mask as *mut Mask)?;
    let place = &mut instruction as *mut u64;
    call!(SYS_ptrace, PTRACE_PEEKUSER, tid.0, crate::arch::USER_INSTRUCTION_POINTER, place)?;
    if mask & crate::signal::bit(signal) == 0 || !may_change(instruction) {
        return Ok(false);
    }
    mask &= !crate::signal::bit(signal);
    call!(SYS_ptrace, PTRACE_SETSIGMASK, tid.0, size, &mask as *const Mask)?;
    Ok(true)
}
