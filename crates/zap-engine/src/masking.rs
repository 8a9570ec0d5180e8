//! Masking: who is of the pod. What is not does not exist for the program, whether or not ids have been moved.
//!
//! The pod's table knows nearly everybody. It does not know threads, nor who has been made by vfork and has not begun yet, nor
//! programs that cannot be followed: they are told by whose threads or descendants they are.

use crate::guard::Guard;
use crate::{identity, state};
use zap_sys::signal::{bit, change_mask};
use zap_sys::{fd, libc, process, signal, text, RealPid};
use zap_wire::table::PodTable;

/// An id that no process has (PID_MAX_LIMIT is 2^22): what the program may not reach does not exist.
pub const NOBODY: RealPid = RealPid(i32::MAX);

/// Generations of processes that nobody in the table knows, from one that somebody knows.
const DEEPEST: usize = 32;

/// Does `work`, which opens descriptors of Zap's own, with the thread not to be suspended, and no handler of the program's to
/// leave it by siglongjmp. `work` is given the mask that the thread has otherwise.
pub fn undisturbed<R>(work: impl FnOnce(signal::Mask) -> R) -> R {
    let zap = state::signal();
    let all = if zap == 0 { !0 } else { !bit(zap) };
    let mask = change_mask(libc::SIG_BLOCK, all);
    let guard = Guard::enter();
    let result = work(mask.unwrap_or(0));
    drop(guard);
    if let Ok(mask) = mask {
        let _ = change_mask(libc::SIG_SETMASK, mask);
    }
    result
}

/// Whether the process or thread `id` is of the pod, as far as anybody can tell; also one that has ended and is still to be
/// waited for.
pub fn is_of_pod(id: RealPid) -> bool {
    let Some(table) = own_table() else { return true };
    is_member(&table, id) || signal::tgkill(state::real_pid(), id, 0).is_ok() || undisturbed(|_| belongs(&table, id))
}

/// `id` if it is of the pod.
pub fn masked(id: RealPid) -> RealPid {
    if is_of_pod(id) {
        id
    } else {
        NOBODY
    }
}

/// Whether anybody of the pod is in the process group `group`.
pub fn is_group_of_pod(group: RealPid) -> bool {
    let Some(table) = own_table() else { return true };
    is_member(&table, group)
        || process::getpgrp() == group
        || table.members().any(|(member, _)| process::group_of(member) == Ok(group))
        || undisturbed(|_| belongs(&table, group))
}

/// The pod's table, if it knows this process: in a PID namespace of its own a process has other numbers, and so have all others.
fn own_table() -> Option<state::Held<PodTable>> {
    state::table().filter(|_| state::entry().is_some())
}

fn is_member(table: &PodTable, id: RealPid) -> bool {
    // 0 would find a free entry.
    id.0 > 0 && (id == state::real_pid() || table.find(id).is_some())
}

/// Whether `id` is a thread or a descendant of a member.
fn belongs(table: &PodTable, id: RealPid) -> bool {
    let Some(first) = Kin::of(id) else {
        // Without /proc nobody can be told from anybody.
        return fd::stat(c"/proc/self").is_err();
    };
    // Zap's own, as the frozen copy of a member, which nobody's wait sees. A child that the program has made so is in the table
    // as long as it lives; when it has ended its parent may wait for it.
    if first.exit_signal == 0 {
        return first.ended && first.parent == state::real_pid();
    }
    let mut parent = first.parent;
    if first.exit_signal < 0 {
        match process_of(id) {
            Some(process) if is_member(table, process) => return true,
            Some(_) => {}
            None => return false,
        }
    }
    for _ in 0..DEEPEST {
        if is_member(table, parent) {
            return true;
        }
        if parent.0 <= 1 {
            return false;
        }
        match Kin::of(parent) {
            Some(next) => parent = next.parent,
            None => return false,
        }
    }
    false
}

/// What /proc/<id>/stat tells of where a process or thread comes from.
struct Kin {
    parent: RealPid,
    /// What its parent is told its end by: -1 for a thread that is not its process's first, 0 for nothing.
    exit_signal: i32,
    ended: bool,
}

impl Kin {
    /// `None` if there is no such process.
    fn of(id: RealPid) -> Option<Self> {
        const PARENT: usize = 4;
        const EXIT_SIGNAL: usize = 38;
        let mut buffer = [0u8; 1024];
        let stat = fd::read_file(zap_sys::small!("/proc/{id}/stat").as_c_str(), &mut buffer).ok()?;
        let field = |number| process::stat_field(stat, number) as i32;
        Some(Self {
            parent: RealPid(field(PARENT)),
            exit_signal: field(EXIT_SIGNAL),
            ended: process::state_letter(stat) == b'Z',
        })
    }
}

/// The process of the thread `id`.
fn process_of(id: RealPid) -> Option<RealPid> {
    // Its first lines are enough.
    let mut buffer = [0u8; 512];
    let status = fd::read_file(zap_sys::small!("/proc/{id}/status").as_c_str(), &mut buffer).ok()?;
    text::field(status, b"Tgid:").map(|value| RealPid(text::decimal(value).0 as i32))
}

/// The program's name of `id` in a listing of /proc; `None` for what is not of the pod.
pub fn name_of(id: RealPid) -> Option<zap_sys::VirtualPid> {
    is_of_pod(id).then(|| identity::virtual_of(id))
}
