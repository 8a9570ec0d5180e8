//! Blocking calls in which a thread stood when it was suspended: each goes on with what is left of its time.
//!
//! docs/blocking-calls.md lists every call and how it goes on. Here are those that return EINTR from any handler
//! (signal(7)): their frame is stepped back onto the `syscall` instruction, so that the kernel makes the call again when
//! the handler returns. Remaining times: ppoll, pselect6 and clock_nanosleep leave theirs in memory, which the repeated
//! call reads; of others a wrapper has noted the deadline. Calls that move data are left to their wrappers. Nothing is
//! repaired when a signal of the program is about to be delivered, or its handler has returned a moment ago: then EINTR is
//! what the program is owed.
//!
//! # Safety
//! The frame is the calling thread's own, on its stack, and the code around `rip` is the program's text.
#![allow(unsafe_code)]

use crate::guard::{self, ThreadBlock};
use core::sync::atomic::Ordering;
use zap_sys::arch::SYSCALL_LENGTH;
use zap_sys::libc;

/// The registers of a suspended thread that matter here.
struct Frame<'a> {
    registers: &'a mut [libc::greg_t; 23],
    /// Signals blocked when the thread goes on.
    mask: u64,
}

fn register(frame: &Frame<'_>, which: i32) -> u64 {
    frame.registers[which as usize] as u64
}

/// The address at which the thread whose signal frame is at `context` goes on.
pub fn instruction_at(context: u64) -> u64 {
    // SAFETY: the frame of the calling thread's handler, or of a suspended thread.
    unsafe { (*(context as *const libc::ucontext_t)).uc_mcontext.gregs[libc::REG_RIP as usize] as u64 }
}

/// Whether the suspended thread with the frame at `context` makes a system call as soon as it goes on.
pub fn stands_at_call(context: u64) -> bool {
    let next = instruction_at(context).wrapping_add(SYSCALL_LENGTH);
    follows_call(next)
}

/// A register of the suspended thread with the frame at `context`: `REG_RAX` …
pub fn register_at(context: u64, register: i32) -> i64 {
    // SAFETY: the frame of a suspended thread.
    unsafe { (*(context as *const libc::ucontext_t)).uc_mcontext.gregs[register as usize] }
}

/// Sets a register of the suspended thread with the frame at `context`.
pub fn set_register_at(context: u64, register: i32, value: i64) {
    // SAFETY: the frame of a suspended thread.
    unsafe { (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs[register as usize] = value };
}

/// Makes the thread with the frame at `context` block Zap's signal again when it goes on: it had, by a system call of its
/// own.
pub fn put_back(context: u64) {
    // SAFETY: the kernel's ucontext of this thread's own handler; the set's first word is the kernel's mask.
    let mask = unsafe { &mut *(&raw mut (*(context as *mut libc::ucontext_t)).uc_sigmask).cast::<u64>() };
    *mask |= zap_sys::signal::bit(crate::state::signal());
}

/// The signals that the thread with the frame at `context` blocks when it goes on.
pub fn mask_at(context: u64) -> zap_sys::signal::Mask {
    // SAFETY: the frame of a suspended thread; the set's first word is the kernel's mask.
    unsafe { *(&raw const (*(context as *const libc::ucontext_t)).uc_sigmask).cast::<u64>() }
}

/// The stack pointer of the thread whose signal frame is at `context`.
pub fn stack_at(context: u64) -> u64 {
    // SAFETY: as `instruction_at`.
    unsafe { (*(context as *const libc::ucontext_t)).uc_mcontext.gregs[libc::REG_RSP as usize] as u64 }
}

/// What RCX holds after a system call that a handler of the program's has interrupted. The instruction leaves its own address
/// plus 2 there (Intel SDM, SYSCALL), of which no compiler makes use; this is no address.
const INTERRUPTED: i64 = 0x5a41_5000_4549_4e54;

/// Marks the system call, if any, that ends with EINTR when the handler with the frame at `context` returns: Zap's signal may
/// come before the program's next instruction, and find the thread as if it had interrupted the call itself.
pub fn note_interrupted(context: u64) {
    // SAFETY: the kernel's ucontext of a handler of this thread that is about to return.
    let registers = unsafe { &mut (*(context as *mut libc::ucontext_t)).uc_mcontext.gregs };
    let ended = registers[libc::REG_RAX as usize] == -i64::from(libc::EINTR);
    if ended && follows_call(registers[libc::REG_RIP as usize] as u64) {
        registers[libc::REG_RCX as usize] = INTERRUPTED;
    }
}

/// Repairs the call, if any, that the thread with the frame at `context` was interrupted in. Called on that thread,
/// as the last thing before it goes on.
pub fn repair(context: u64) {
    // SAFETY: the kernel's ucontext of this thread's own handler; libc's type begins with the same fields.
    let context = unsafe { &mut *(context as *mut libc::ucontext_t) };
    // SAFETY: the first word of the set is the kernel's mask.
    let mask = unsafe { *core::ptr::addr_of!(context.uc_sigmask).cast::<u64>() };
    let mut frame = Frame { registers: &mut context.uc_mcontext.gregs, mask };
    let own = zap_sys::signal::bit(crate::state::signal());
    let coming = zap_sys::signal::pending() & !frame.mask & !own;
    if coming != 0
        && (1..=64).any(|signal| coming & zap_sys::signal::bit(signal) != 0 && !crate::signals::is_ignored(signal))
    {
        return;
    }
    // Elsewhere the thread stands between calls, or the kernel itself makes the call again.
    if !follows_call(register(&frame, libc::REG_RIP)) {
        return;
    }
    if register(&frame, libc::REG_RCX) as i64 == INTERRUPTED {
        return;
    }
    let block = guard::block();
    block.suspensions.fetch_add(1, Ordering::Relaxed);
    if register(&frame, libc::REG_RAX) as i64 != -i64::from(libc::EINTR) {
        return;
    }
    let at = register(&frame, libc::REG_RIP).wrapping_sub(SYSCALL_LENGTH);
    // What the code says is true; a record may be stale (siglongjmp, cancellation).
    let (decoded, recorded) = (decode(at), recorded(block, &frame));
    let is_noted = decoded.is_none() || decoded == recorded;
    let number = match (decoded, recorded) {
        // Its wrapper does the rest.
        (None, Some(TRANSFER)) => return,
        (Some(number), Some(TRANSFER)) if is_transfer(number) => return,
        (Some(number), _) | (None, Some(number)) => number,
        (None, None) => return,
    };
    if prepare(number, is_noted.then_some(block), &mut frame) {
        frame.registers[libc::REG_RAX as usize] = number;
        frame.registers[libc::REG_RIP as usize] = at as i64;
    }
}

/// Whether the instruction before `address` is a system call: the thread comes back from one.
pub fn follows_call(address: u64) -> bool {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let before = address.wrapping_sub(SYSCALL_LENGTH);
    let mut code = [0u8; SYSCALL.len()];
    if address % zap_sys::PAGE_SIZE as u64 >= SYSCALL_LENGTH {
        // SAFETY: on the page of the next instruction, which is mapped.
        code = unsafe { core::ptr::read_unaligned(before as *const [u8; 2]) };
    } else if zap_sys::mem::read_own(before, &mut code) != Ok(code.len()) {
        return false;
    }
    code == SYSCALL
}

/// The call that a wrapper noted, if the thread is still inside that wrapper.
fn recorded(block: &ThreadBlock, frame: &Frame<'_>) -> Option<i64> {
    let number = block.call.load(Ordering::Relaxed) - 1;
    let noted = block.call_stack.load(Ordering::Relaxed);
    let stack = register(frame, libc::REG_RSP);
    (number >= 0 && stack <= noted && noted - stack < 1024).then_some(number)
}

/// Longest distance, in bytes, between the load of the call's number and the call.
const REACH: u64 = 32;

/// Reads the call's number from the code before the `syscall` instruction at `at`: libc loads it as a constant,
/// `mov eax, imm32` (b8 imm32), shortly before.
fn decode(at: u64) -> Option<i64> {
    let read = |address: u64| {
        // SAFETY: `at` is in mapped text. Reading back stays on its page, see below.
        unsafe { *(address as *const u8) }
    };
    // Text before the instruction on the same page is as mapped as the instruction itself.
    let reach = REACH.min(at % zap_sys::PAGE_SIZE as u64);
    (5..=reach).find_map(|back| {
        let code = at - back;
        (read(code) == 0xb8 && read(code + 3) == 0 && read(code + 4) == 0)
            .then(|| i64::from(read(code + 1)) | (i64::from(read(code + 2)) << 8))
            .filter(|number| is_repairable(*number))
    })
}

/// Not in libc's table.
pub const SYS_IO_PGETEVENTS: i64 = 333;

fn is_repairable(number: i64) -> bool {
    matches!(
        number,
        libc::SYS_poll
            | libc::SYS_ppoll
            | libc::SYS_select
            | libc::SYS_pselect6
            | libc::SYS_epoll_wait
            | libc::SYS_epoll_pwait
            | libc::SYS_epoll_pwait2
            | libc::SYS_nanosleep
            | libc::SYS_clock_nanosleep
            | libc::SYS_futex
            | libc::SYS_pause
            | libc::SYS_rt_sigsuspend
            | libc::SYS_rt_sigtimedwait
            | libc::SYS_semop
            | libc::SYS_semtimedop
            | libc::SYS_io_getevents
            | SYS_IO_PGETEVENTS
            | libc::SYS_msgrcv
            | libc::SYS_msgsnd
    ) || is_transfer(number)
}

/// Calls that move data, or wait for a connection: a socket's time-out ends them.
fn is_transfer(number: i64) -> bool {
    matches!(
        number,
        libc::SYS_read
            | libc::SYS_readv
            | libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_recvfrom
            | libc::SYS_recvmsg
            | libc::SYS_recvmmsg
            | libc::SYS_sendto
            | libc::SYS_sendmsg
            | libc::SYS_sendmmsg
            | libc::SYS_accept
            | libc::SYS_accept4
            | libc::SYS_connect
    )
}

/// Makes the arguments right for a second call. False when the call cannot be repeated. `noted` holds the deadline that a
/// wrapper has noted, if one has.
fn prepare(number: i64, noted: Option<&ThreadBlock>, frame: &mut Frame<'_>) -> bool {
    match number {
        libc::SYS_poll => (register(frame, libc::REG_RDX) as i32) <= 0,
        // The kernel has written the remaining time over the one that was asked for.
        libc::SYS_ppoll | libc::SYS_select | libc::SYS_pselect6 => true,
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => {
            if register(frame, libc::REG_R10) as i32 > 0 {
                match remaining(noted, frame) {
                    // Rounded up: a time-out never comes early.
                    Some(left) => {
                        frame.registers[libc::REG_R10 as usize] = left.div_ceil(1_000_000).min(i32::MAX as u64) as i64;
                    }
                    None => return false,
                }
            }
            true
        }
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => {
            register(frame, libc::REG_R10) == 0 || give_remaining(noted, frame, libc::REG_R10)
        }
        libc::SYS_io_getevents | SYS_IO_PGETEVENTS => {
            let timeout = register(frame, libc::REG_R8);
            // With a time-out of 0 too it ends with EINTR.
            timeout == 0 || is_zero(timeout) || give_remaining(noted, frame, libc::REG_R8)
        }
        libc::SYS_nanosleep => take_remaining(frame, libc::REG_RDI, libc::REG_RSI),
        libc::SYS_clock_nanosleep => {
            register(frame, libc::REG_RSI) as i32 & libc::TIMER_ABSTIME != 0
                || take_remaining(frame, libc::REG_RDX, libc::REG_R10)
        }
        libc::SYS_futex => {
            let operation = register(frame, libc::REG_RSI) as i32 & libc::FUTEX_CMD_MASK;
            // FUTEX_WAIT's time-out is relative; the others' are points in time.
            register(frame, libc::REG_R10) == 0 || operation != libc::FUTEX_WAIT
        }
        libc::SYS_rt_sigtimedwait => register(frame, libc::REG_RDX) == 0 || give_remaining(noted, frame, libc::REG_RDX),
        _ => true,
    }
}

/// Whether the time-out at `address` is 0.
fn is_zero(address: u64) -> bool {
    let mut time = [0u8; core::mem::size_of::<libc::timespec>()];
    zap_sys::mem::read_own(address, &mut time) == Ok(time.len()) && time.iter().all(|byte| *byte == 0)
}

/// Makes a sleep read the time that the kernel left in its second timespec. Without one, the time is not known.
fn take_remaining(frame: &mut Frame<'_>, request: i32, remain: i32) -> bool {
    let left = register(frame, remain);
    if left == 0 {
        return false;
    }
    frame.registers[request as usize] = left as i64;
    true
}

/// Makes a call read what is left until the deadline that a wrapper has noted.
fn give_remaining(noted: Option<&ThreadBlock>, frame: &mut Frame<'_>, request: i32) -> bool {
    let (Some(block), Some(left)) = (noted, remaining(noted, frame)) else { return false };
    let left = zap_sys::time::from_ns(left);
    block.remaining[0].store(left.tv_sec, Ordering::Relaxed);
    block.remaining[1].store(left.tv_nsec, Ordering::Relaxed);
    frame.registers[request as usize] = core::ptr::from_ref(&block.remaining) as i64;
    true
}

fn remaining(noted: Option<&ThreadBlock>, frame: &Frame<'_>) -> Option<u64> {
    let block = noted?;
    recorded(block, frame)?;
    let deadline = block.deadline.load(Ordering::Relaxed);
    (deadline != 0).then(|| deadline.saturating_sub(zap_sys::time::monotonic_ns()))
}

/// Notes, from a wrapper, that the calling thread is about to make the system call `number` with a relative time-out of
/// `timeout_ns` (0 for none). The record is believed only while the stack is just below the wrapper's frame, so it need
/// not survive, nor be undone by, cancellation and siglongjmp.
#[inline]
pub fn note(number: i64, timeout_ns: u64, now_ns: u64) {
    let block = guard::block();
    let marker = 0u8;
    block.call_stack.store(core::ptr::from_ref(&marker) as u64 + 256, Ordering::Relaxed);
    block.deadline.store(if timeout_ns == 0 { 0 } else { now_ns.saturating_add(timeout_ns) }, Ordering::Relaxed);
    block.call.store(number + 1, Ordering::Relaxed);
}

/// Stands for all calls that move data; no system call has this number.
const TRANSFER: i64 = 1 << 32;

/// Notes, from a wrapper, that the calling thread is about to move data through a descriptor that may have a time-out,
/// since `begun_ns` on the kernel's monotonic clock; `None`: it goes on with what it has noted before.
#[inline]
pub fn note_transfer(begun_ns: Option<u64>) {
    let begun = begun_ns.unwrap_or_else(|| guard::block().deadline.load(Ordering::Relaxed));
    // A time-out of 0 stands for none.
    note(TRANSFER, 1, begun.saturating_sub(1));
}

/// For how many nanoseconds the transfer that was noted last has been under way, the time of absence not counted.
pub fn transfer_age() -> u64 {
    // A restart has moved it as the clocks have moved.
    zap_sys::time::monotonic_ns().saturating_sub(guard::block().deadline.load(Ordering::Relaxed))
}

/// Ends what [`note`] began.
#[inline]
pub fn note_end() {
    guard::block().call.store(0, Ordering::Relaxed);
}
