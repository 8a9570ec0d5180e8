//! Getting Zap's signal to a process that does not take it by itself: every thread of it blocks the signal, or it is
//! stopped.
//!
//! A stopped process must not run any code of the program. So each of its threads gets a signal of its own before it is
//! continued: they are taken, in the order of signal(7), before SIGCONT is, and the process stops itself again.

use super::examine::{field, number};
use std::fs;
use std::sync::atomic::Ordering;
use std::thread;
use zap_sys::{process, ptrace, signal, RealPid, SysError};
use zap_wire::table::{Entry, HALT_WOKEN, READY, TO_STOP_AGAIN};

/// One of the threads of the process `pid`, if all that live block `signal`.
fn all_block(pid: i32, signal: i32) -> Option<RealPid> {
    let mut found = None;
    for (tid, status) in threads(pid) {
        if number(&status, "SigBlk:", 16) & signal::bit(signal) == 0 {
            return None;
        }
        found = found.or(Some(tid));
    }
    found
}

/// The living threads of the process `pid` with the text of their status.
fn threads(pid: i32) -> Vec<(RealPid, String)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let read = |task: fs::DirEntry| {
        let tid = task.file_name().to_str()?.parse().ok()?;
        let status = super::process::text(task.path().join("status")).ok()?;
        (!field(&status, "State:").starts_with(['Z', 'X'])).then_some((RealPid(tid), status))
    };
    tasks.filter_map(read).collect()
}

/// Unblocks `signal` in one thread, if all of them block it. The thread puts it back when it has taken the signal, which
/// must be on its way already.
pub fn unblock(pid: i32, signal: i32, entry: &Entry) -> Result<(), SysError> {
    let Some(tid) = all_block(pid, signal) else { return Ok(()) };
    let may_change = |instruction| {
        // In the handler the mask is the handler's own.
        if is_taken(entry) || entry.ready.load(Ordering::Acquire) != READY || is_in_libzap(pid, tid, instruction) {
            return false;
        }
        // A program that has just begun has no handler yet, and would be ended.
        let status = super::process::text(format!("/proc/{pid}/status")).unwrap_or_default();
        if number(&status, "SigCgt:", 16) & signal::bit(signal) == 0 {
            return false;
        }
        entry.unblocked.store(tid.0, Ordering::Release);
        true
    };
    // The kernel knows a thread as tracer: whatever goes wrong, its end lets the traced one go.
    let result = thread::scope(|scope| scope.spawn(|| ptrace::unblock(tid, signal, may_change)).join());
    match result.unwrap_or_else(|_| Err(SysError::new("ptrace", libc::EIO))) {
        Ok(_) => Ok(()),
        Err(error) => {
            entry.unblocked.store(0, Ordering::Release);
            Err(error)
        }
    }
}

/// Whether `address` of the thread `tid` is in libzap's code.
fn is_in_libzap(pid: i32, tid: RealPid, address: u64) -> bool {
    let maps = fs::read(format!("/proc/{pid}/task/{tid}/maps")).unwrap_or_default();
    let found = zap_sys::maps::parse(&maps).find(|mapping| (mapping.start..mapping.end).contains(&address));
    let names: [&[u8]; 2] = [b"/libzap.so", b"/libzap.so (deleted)"];
    found.is_some_and(|mapping| names.iter().any(|name| mapping.name.ends_with(name)))
}

/// Whether the process has taken up the coordinator's last request.
pub fn is_taken(entry: &Entry) -> bool {
    entry.requested.load(Ordering::Acquire) == entry.answered.load(Ordering::Acquire)
}

/// Whether every thread stands stopped.
pub fn stands(pid: i32) -> bool {
    let mut threads = threads(pid).into_iter().peekable();
    threads.peek().is_some() && threads.all(|(_, status)| field(&status, "State:").starts_with('T'))
}

/// Continues the process `pid`, if it is stopped, into Zap's handler in each of its threads. It has been signalled.
pub fn wake(pid: i32, signal: i32, entry: &Entry) -> Result<(), SysError> {
    if !stands(pid) {
        entry.stopped.store(0, Ordering::Release);
        return Ok(());
    }
    // It was faster, and somebody has stopped it since: so it is to stay.
    if is_taken(entry) {
        return Ok(());
    }
    for (tid, _) in threads(pid) {
        match signal::signal_thread(RealPid(pid), tid, signal) {
            Err(error) if !error.is(libc::ESRCH) => return Err(error),
            _ => {}
        }
    }
    // Continued by somebody else meanwhile: then it is to run on.
    if !stands(pid) || is_taken(entry) {
        return Ok(());
    }
    if entry.halt.load(Ordering::Acquire) != 0 {
        entry.halt.fetch_or(HALT_WOKEN, Ordering::AcqRel);
    }
    entry.stopped.store(TO_STOP_AGAIN, Ordering::Release);
    // It may have come before this: then what stands there now is for nobody.
    if is_taken(entry) {
        if entry.stopped.compare_exchange(TO_STOP_AGAIN, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            entry.halt.store(0, Ordering::Release);
        }
        return Ok(());
    }
    signal::kill(pid, libc::SIGCONT)
}

/// The process that a connection of `pid`, which is no member, speaks for: itself, or its parent when it is one of Zap's
/// helpers, which have no exit signal (field 38 of proc_pid_stat(5)).
pub fn speaker(pid: i32) -> i32 {
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    if stat.is_empty() || process::stat_field(&stat, 38) != 0 {
        return pid;
    }
    process::stat_field(&stat, 4) as i32
}
