//! Signals, by the kernel's own structures.
//!
//! # Safety
//! Functions that install code or change what the program is told are `unsafe` or say so; pointers outlive the calls.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::ids::RealPid;

/// A signal set of the kernel: bit `n - 1` is signal `n`.
pub type Mask = u64;

/// The bit of `signal` in a [`Mask`].
pub const fn bit(signal: i32) -> Mask {
    1 << (signal - 1)
}

/// The kernel's `struct sigaction` on x86-64 (not libc's).
#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct KernelAction {
    /// SIG_DFL 0, SIG_IGN 1, or an address.
    pub handler: u64,
    /// SA_* and SA_RESTORER.
    pub flags: u64,
    /// Address of the code that calls rt_sigreturn.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: Mask,
}

/// SA_RESTORER: the kernel's flag that says `restorer` is set.
pub const SA_RESTORER: u64 = 0x0400_0000;

/// Reads the disposition of `signal`.
pub fn get_action(signal: i32) -> Result<KernelAction> {
    let mut old = KernelAction::default();
    call!(SYS_rt_sigaction, signal, 0, &mut old as *mut KernelAction, 8)?;
    Ok(old)
}

/// Sets the disposition of `signal`, and returns the one before.
///
/// # Safety
/// The handler and restorer are code that may run at any time from now on.
pub unsafe fn set_action(signal: i32, action: &KernelAction) -> Result<KernelAction> {
    let mut old = KernelAction::default();
    call!(SYS_rt_sigaction, signal, action as *const KernelAction, &mut old as *mut KernelAction, 8)?;
    Ok(old)
}

/// rt_sigprocmask(2): `how` is SIG_BLOCK, SIG_UNBLOCK or SIG_SETMASK; returns the old mask.
pub fn change_mask(how: i32, mask: Mask) -> Result<Mask> {
    let mut old: Mask = 0;
    call!(SYS_rt_sigprocmask, how, &mask as *const Mask, &mut old as *mut Mask, 8)?;
    Ok(old)
}

/// An alternate stack that is none: what sigaltstack(2) tells of a thread without one.
pub fn no_stack() -> libc::stack_t {
    libc::stack_t { ss_sp: core::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 }
}

/// sigaltstack(2): sets `new`, if it is given, and tells what was.
///
/// # Safety
/// The kernel writes signal frames to the new stack from now on.
pub unsafe fn set_alternate_stack(new: Option<&libc::stack_t>, old: &mut libc::stack_t) -> Result<()> {
    let new = new.map_or(core::ptr::null(), |new| new as *const libc::stack_t);
    call!(SYS_sigaltstack, new, old as *mut libc::stack_t).map(|_| ())
}

/// Signals that are pending for the calling thread or its process.
pub fn pending() -> Mask {
    let mut mask: Mask = 0;
    let _ = call!(SYS_rt_sigpending, &mut mask as *mut Mask, 8);
    mask
}

/// Sends `signal` to one thread of this process. Fails with EAGAIN when the user's quota of queued signals is used up
/// (RLIMIT_SIGPENDING), unless the thread is the caller: only for itself may a thread say SI_USER, which needs no
/// place in the queue (rt_tgsigqueueinfo(2), kernel/signal.c).
pub fn signal_thread(process: RealPid, thread: RealPid, signal: i32) -> Result<()> {
    let mut info = [0u32; 32];
    info[0] = signal as u32;
    info[2] = if thread == crate::process::gettid() { libc::SI_USER } else { libc::SI_QUEUE } as u32; // si_code
    info[4] = process.0 as u32; // si_pid
    call!(SYS_rt_tgsigqueueinfo, process.0, thread.0, signal, info.as_ptr()).map(|_| ())
}

/// Whether the calling thread is on its alternate stack.
pub fn is_on_alternate_stack() -> bool {
    let mut stack = no_stack();
    // SAFETY: no new stack is set.
    unsafe { set_alternate_stack(None, &mut stack) }.is_ok() && stack.ss_flags & libc::SS_ONSTACK != 0
}

/// tgkill(2).
pub fn tgkill(process: RealPid, thread: RealPid, signal: i32) -> Result<()> {
    call!(SYS_tgkill, process.0, thread.0, signal).map(|_| ())
}

/// kill(2).
pub fn kill(process: i32, signal: i32) -> Result<()> {
    call!(SYS_kill, process, signal).map(|_| ())
}

/// A `siginfo_t` as the kernel has it: 128 bytes.
pub type Info = [u32; 32];

/// Takes one pending, blocked `signal` with what came along with it (rt_sigtimedwait(2)).
pub fn take_info(signal: i32) -> Option<Info> {
    let mask = bit(signal);
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut info: Info = [0; 32];
    call!(SYS_rt_sigtimedwait, &mask as *const Mask, info.as_mut_ptr(), &zero as *const libc::timespec, 8)
        .ok()
        .map(|_| info)
}

/// Queues a signal for the calling process with what came along with it (rt_sigqueueinfo(2)). What the kernel reserves to
/// itself (a code that is not negative) only the main thread may say; from others it comes as from kill(2).
pub fn queue_info(process: RealPid, info: &Info) -> Result<()> {
    let signal = info[0] as i32;
    match call!(SYS_rt_sigqueueinfo, process.0, signal, info.as_ptr()) {
        Err(error) if error.is(libc::EPERM) => kill(process.0, signal),
        other => other.map(|_| ()),
    }
}

/// The same for one thread (rt_tgsigqueueinfo(2)), which itself may say anything of itself.
pub fn queue_info_for_thread(process: RealPid, thread: RealPid, info: &Info) -> Result<()> {
    call!(SYS_rt_tgsigqueueinfo, process.0, thread.0, info[0] as i32, info.as_ptr()).map(|_| ())
}

/// What comes along with a signal of a program's: `sender` is what its handler sees as (si_pid, si_uid).
fn info_of(signal: i32, code: i32, sender: (i32, u32), value: u64) -> Info {
    let mut info: Info = [0; 32];
    info[0] = signal as u32;
    info[2] = code as u32; // si_code
    info[4] = sender.0 as u32; // si_pid
    info[5] = sender.1; // si_uid
    info[6] = value as u32; // si_value
    info[7] = (value >> 32) as u32;
    info
}

/// Queues `signal` with a value for the process `process`: sigqueue(3) by rt_sigqueueinfo(2).
pub fn queue_value(process: i32, signal: i32, sender: (i32, u32), value: u64) -> Result<()> {
    let info = info_of(signal, libc::SI_QUEUE, sender, value);
    call!(SYS_rt_sigqueueinfo, process, signal, info.as_ptr()).map(|_| ())
}

/// The same for one thread of the calling process: pthread_sigqueue(3) by rt_tgsigqueueinfo(2).
pub fn queue_value_to(process: RealPid, thread: RealPid, signal: i32, sender: (i32, u32), value: u64) -> Result<()> {
    let info = info_of(signal, libc::SI_QUEUE, sender, value);
    call!(SYS_rt_tgsigqueueinfo, process.0, thread.0, signal, info.as_ptr()).map(|_| ())
}

/// Sends `signal` to the calling thread as tgkill(2) does (`code` SI_TKILL), but for the sender.
pub fn tell_self(signal: i32, code: i32, sender: (i32, u32)) -> Result<()> {
    let (process, thread) = (crate::process::getpid(), crate::process::gettid());
    let info = info_of(signal, code, sender, 0);
    call!(SYS_rt_tgsigqueueinfo, process.0, thread.0, signal, info.as_ptr()).map(|_| ())
}

/// Sends `signal` to the calling process as kill(2) does, but for the sender. Only the main thread may.
pub fn tell_own_process(signal: i32, sender: (i32, u32)) -> Result<()> {
    let info = info_of(signal, libc::SI_USER, sender, 0);
    call!(SYS_rt_sigqueueinfo, crate::process::getpid().0, signal, info.as_ptr()).map(|_| ())
}

/// Takes one pending, blocked `signal` away without waiting (rt_sigtimedwait(2)). Whether there was one.
pub fn take_pending(signal: i32) -> bool {
    let mask = bit(signal);
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    call!(SYS_rt_sigtimedwait, &mask as *const Mask, 0, &zero as *const libc::timespec, 8).is_ok()
}
