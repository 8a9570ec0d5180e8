//! Threads that have been signalled and do not park: why, and what can be done about it.
//!
//! Looked at from beside the program, since its threads may still run: see [`crate::beside`]. A thread that blocks
//! Zap's signal by a system call of its own (glibc's helper for SIGEV_THREAD does) gets it unblocked by ptrace(2); its
//! handler puts the mask back. A main thread that has ended by pthread_exit stays in the list as a zombie: it has
//! nothing to save. The parent of a vfork cannot take a signal until its child execs or ends.
//!
//! # Safety
//! The linker's symbols are only taken the address of.
#![allow(unsafe_code)]

use crate::state;
use crate::threads::{self, Slot, ENDED, FREE, SIGNALLED};
use crate::{beside, identity};
use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicBool, Ordering};
use zap_plugin::Refusal;
use zap_sys::signal::bit;
use zap_sys::{libc, process, RealPid};

/// How long a thread may block the signal when nobody can unblock it.
const BLOCKED_LIMIT_NS: u64 = 1_000_000_000;

/// How long one may block it that does not sleep in a call: libc does so while a thread begins or ends, and is better
/// not interrupted there.
const BUSY_LIMIT_NS: u64 = 50_000_000;

struct Look {
    process: RealPid,
    signal: i32,
    waited_ns: u64,
}

/// Looks at every thread that has not parked, and unblocks the signal where it can. Refuses when there is one that
/// cannot be helped; `waited_ns` is how long they have been waited for.
pub fn look(waited_ns: u64) -> Result<(), Refusal> {
    let mut job = Look { process: process::getpid(), signal: state::signal(), waited_ns };
    if !beside::run(&mut job, Look::at_all) {
        return Ok(());
    }
    let is_forbidden = |slot: &Slot| slot.trouble.load(Ordering::Relaxed) == libc::EPERM;
    if waiting().any(is_forbidden) {
        // Yama forbids a child to trace its parent, unless the parent names a process whose descendants may: itself.
        if process::set_tracer(job.process.0 as usize).is_ok() {
            MAY_TRACE.store(true, Ordering::Relaxed);
            beside::run(&mut job, Look::at_all);
            forbid_tracing();
        }
    }
    let hopeless = waiting().find(|slot| slot.trouble.load(Ordering::Relaxed) != 0);
    match hopeless.filter(|_| waited_ns > BLOCKED_LIMIT_NS) {
        Some(slot) => Err(describe(slot)),
        None => Ok(()),
    }
}

/// The program has been made to name itself as its tracer.
static MAY_TRACE: AtomicBool = AtomicBool::new(false);

/// Names whom the program has named, if that was changed.
pub fn forbid_tracing() {
    if MAY_TRACE.swap(false, Ordering::Relaxed) {
        let _ = process::set_tracer(state::tracer());
    }
}

fn waiting() -> impl Iterator<Item = &'static Slot> {
    threads::slots().filter(|slot| slot.state.load(Ordering::Acquire) == SIGNALLED)
}

/// Why the thread of `slot` does not park, in the words of a refusal.
pub fn describe(slot: &Slot) -> Refusal {
    let load = |word: &core::sync::atomic::AtomicI32| word.load(Ordering::Relaxed);
    let object = format!("thread {}", identity::virtual_of(RealPid(load(&slot.real_tid))));
    let (trouble, child, letter) = (load(&slot.trouble), load(&slot.vfork_child), load(&slot.letter));
    if trouble != 0 {
        let errno = zap_sys::Errno(trouble);
        let reason = format!("blocks Zap's signal by a system call of its own, and ptrace cannot unblock it: {errno}");
        return Refusal::new(object, reason);
    }
    if child != 0 {
        let reason = format!("waits for process {child}, which it made with vfork, to exec or to end");
        return Refusal::new(object, reason);
    }
    let letter = char::from_u32(letter as u32)
        .filter(char::is_ascii_graphic)
        .map_or(String::new(), |letter| format!(" (state {letter})"));
    Refusal::new(object, format!("did not stop within 5 s{letter}"))
}

impl Look {
    fn at_all(&mut self) {
        waiting().for_each(|slot| self.at(slot));
    }

    fn at(&self, slot: &Slot) {
        crate::fault::point(zap_wire::fault::HELPER_LOOKING);
        let (process, tid) = (self.process, RealPid(slot.real_tid.load(Ordering::Relaxed)));
        let mut buffer = [0u8; 2048];
        let path = zap_sys::small!("/proc/{process}/task/{tid}/status");
        let text = match zap_sys::fd::read_file(path.as_c_str(), &mut buffer) {
            Ok(text) => text,
            Err(error) => {
                if error.is(libc::ENOENT) || error.is(libc::ESRCH) {
                    drop_ended(slot, FREE);
                }
                return;
            }
        };
        let letter = zap_sys::text::field(text, b"State:").and_then(<[u8]>::first).copied().unwrap_or(b'?');
        slot.letter.store(i32::from(letter), Ordering::Relaxed);
        if matches!(letter, b'Z' | b'X') {
            drop_ended(slot, if tid == process { ENDED } else { FREE });
            return;
        }
        slot.vfork_child.store(if letter == b'D' { self.child_of(tid) } else { 0 }, Ordering::Relaxed);
        let blocked = zap_sys::text::field(text, b"SigBlk:").map_or(0, |mask| zap_sys::text::hex(mask).0);
        let busy = letter != b'S' && self.waited_ns < BUSY_LIMIT_NS;
        if blocked & bit(self.signal) == 0 || letter == b'D' || busy {
            slot.trouble.store(0, Ordering::Relaxed);
            return;
        }
        let unblocked = zap_sys::ptrace::unblock(tid, self.signal, |instruction| {
            // On its way into the handler its mask is the handler's own.
            let change = slot.state.load(Ordering::Acquire) == SIGNALLED && !is_own_text(instruction);
            slot.put_back.store(u32::from(change), Ordering::Release);
            change
        });
        let errno = match unblocked {
            Err(error) if !error.is(libc::ESRCH) && !error.is(libc::EBUSY) => error.errno.0,
            _ => 0,
        };
        slot.trouble.store(errno, Ordering::Relaxed);
    }

    /// A child of the thread `tid`, which sleeps uninterruptibly: it has made it with vfork. 0 when it has none.
    fn child_of(&self, tid: RealPid) -> i32 {
        let path = zap_sys::small!("/proc/{}/task/{tid}/children", self.process);
        let mut buffer = [0u8; 4096];
        let text = zap_sys::fd::read_file(path.as_c_str(), &mut buffer).unwrap_or_default();
        text.rsplit(|c| *c == b' ')
            .find(|word| !word.is_empty())
            .map_or(0, |word| zap_sys::text::decimal(word).0 as i32)
    }
}

/// Whether `address` is in the code of the library that this is a part of.
pub fn is_own_text(address: u64) -> bool {
    extern "C" {
        /// First byte of the library's image and end of its code (ld's symbols).
        static __ehdr_start: u8;
        static etext: u8;
    }
    (&raw const __ehdr_start as u64..&raw const etext as u64).contains(&address)
}

fn drop_ended(slot: &Slot, state: u32) {
    // One that has parked meanwhile is not dead.
    let _ = slot.state.compare_exchange(SIGNALLED, state, Ordering::AcqRel, Ordering::Acquire);
}
