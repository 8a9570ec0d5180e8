//! Children of the process: a living one that is not of the pod refuses the checkpoint; one that has ended and is not
//! waited for yet is made again at a restart, by a child that ends in the same way.
//!
//! The signal that tells a parent of its child's end is given by clone(2) alone, and exec makes it SIGCHLD: a member of the
//! pod, which a restart makes by exec, cannot have another one again, and refuses the checkpoint.
//!
//! # Safety
//! The child of the raw fork makes system calls only and ends.
#![allow(unsafe_code)]

use crate::state::{self, Owned};
use crate::{accounts, identity};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use zap_plugin::Refusal;
use zap_sys::{fd, libc, process, RealPid, SysError, VirtualPid};
use zap_wire::table::Kind;

struct Zombie {
    virtual_pid: i32,
    /// As wait(2) gives it.
    status: i32,
    /// That tells the parent of its end; 0 for none.
    exit_signal: i32,
    /// Its process group.
    group: VirtualPid,
    /// The child that has been made in its place.
    real: RealPid,
}

static SAVED: Owned<Vec<Zombie>> = Owned::new(Vec::new());

/// A child that there was at the last checkpoint, living or ended.
struct Known {
    real: RealPid,
    id: VirtualPid,
}

static KNOWN: Owned<Vec<Known>> = Owned::new(Vec::new());

/// Finds the children. A living one that is none of the `members` of the checkpoint, by virtual id and program, refuses, and
/// so does one whose exit signal cannot be had again.
pub fn save(members: &[(i32, String)]) -> Result<(), Refusal> {
    let mut zombies = Vec::new();
    let mut known = Vec::new();
    let mut refusal = None;
    accounts::begin();
    // Every thread stands: none can have gone, and a kernel that does not tell must not be taken for one without.
    let at_each = || crate::fault::point(zap_wire::fault::SAVING_CHILDREN);
    for pid in ids(at_each).map_err(|error| Refusal::new("children", error))? {
        let path = zap_sys::small!("/proc/{pid}/stat");
        let mut stat = [0u8; 1024];
        let Ok(stat) = zap_sys::fd::read_file(path.as_c_str(), &mut stat) else { continue };
        let id = identity::virtual_of(pid);
        known.push(Known { real: pid, id });
        accounts::note(id, stat);
        let exit_signal = process::stat_field(stat, 38) as i32;
        let is_member = members.iter().any(|(member, _)| *member == id.0);
        let reason = if is_member {
            // Also one whose first thread has ended, which /proc calls a zombie.
            (exit_signal != libc::SIGCHLD).then(|| {
                format!("was made by clone(2) with exit signal {exit_signal}, and a restart could only give it SIGCHLD")
            })
        } else if process::has_ended(stat) {
            let status = process::stat_field(stat, 52) as i32;
            let group = identity::virtual_group_of(Kind::Group, RealPid(process::stat_field(stat, 5) as i32));
            zombies.push(Zombie { virtual_pid: id.0, status, exit_signal, group, real: pid });
            let why = "has ended, and would tell of its end again, by exit signal";
            (!may_come_again(exit_signal)).then(|| format!("{why} {exit_signal} of clone(2)"))
        } else {
            Some("is not in the pod".into())
        };
        if let Some(reason) = reason {
            let name = stat.iter().position(|c| *c == b'(').map_or(&[][..], |at| &stat[at + 1..]);
            let length = name.iter().rposition(|c| *c == b')').unwrap_or(0);
            let name = String::from_utf8_lossy(&name[..length]);
            refusal = Some(Refusal::new(format!("child {pid} ({name})"), reason));
        }
    }
    SAVED.with(|saved| *saved = zombies);
    KNOWN.with(|before| {
        // A fork may be under way for more than one life.
        before.retain(|old| !known.iter().any(|new| new.real == old.real) && known.iter().any(|new| new.id == old.id));
        before.append(&mut known);
    });
    refusal.map_or(Ok(()), Err)
}

/// The kernel's ids of all children, living or ended. All threads stand; `at_each` of them something else may happen.
pub fn ids(at_each: impl Fn()) -> Result<Vec<RealPid>, SysError> {
    let (mut tasks, mut all) = (Vec::new(), Vec::new());
    let note = |tid| {
        at_each();
        tasks.push(tid);
    };
    fd::each_number(c"/proc/self/task", note)?;
    for tid in tasks {
        let path = zap_sys::small!("/proc/self/task/{tid}/children");
        fd::each_number_of(path.as_c_str(), |pid| all.push(RealPid(pid)))?;
    }
    Ok(all)
}

/// Whether the end of a child that is made again may be told by this signal, which is then taken back: not by one that cannot
/// be blocked, nor by one of which several wait at a time.
fn may_come_again(exit_signal: i32) -> bool {
    const FIRST_REAL_TIME: i32 = 32;
    (0..FIRST_REAL_TIME).contains(&exit_signal) && !matches!(exit_signal, libc::SIGKILL | libc::SIGSTOP)
}

/// Makes the ended children again. Every signal is blocked; those that this causes are taken back.
pub fn restore() -> Result<(), Refusal> {
    accounts::restore();
    SAVED.with(|saved| {
        for zombie in saved.iter_mut() {
            let refusal = |error| Refusal::new(format!("ended child {}", zombie.virtual_pid), error);
            // SAFETY: the child only ends.
            let pid = unsafe { process::fork_raw(zombie.exit_signal) }.map_err(refusal)?;
            if pid.0 == 0 {
                end_with(zombie.status);
            }
            process::await_end(pid).map_err(refusal)?;
            zombie.real = pid;
            if let Some(table) = state::agents_table().filter(|_| pid.0 != zombie.virtual_pid) {
                table.add_alias(Kind::Process, pid, VirtualPid(zombie.virtual_pid));
                state::set_moved();
            }
            if zombie.exit_signal != 0 && !crate::signals::was_pending(zombie.exit_signal) {
                zap_sys::signal::take_pending(zombie.exit_signal);
            }
        }
        Ok(())
    })
}

/// Has the ended children in their process groups, when those are known that living ones have made. One that was in another
/// session than its parent cannot be: it stays in its parent's.
pub fn restore_groups() {
    SAVED.with(|saved| {
        let leads = |zombie: &Zombie| zombie.group.0 == zombie.virtual_pid;
        let (leaders, others): (Vec<&Zombie>, Vec<&Zombie>) = saved.iter().partition(|zombie| leads(zombie));
        for zombie in leaders.into_iter().chain(others) {
            // It is in its parent's, which is that of a process outside.
            if zombie.group == identity::relations().group {
                continue;
            }
            let group = identity::real_group_of(Kind::Group, zombie.group);
            if process::setpgid(zombie.real, group).is_ok() || process::setpgid(zombie.real, zombie.real).is_err() {
                continue;
            }
            // Of its group there are ended ones alone.
            if let Some(table) = state::agents_table().filter(|_| zombie.real.0 != zombie.group.0) {
                table.add_alias(Kind::Group, zombie.real, zombie.group);
                state::set_moved();
            }
        }
    });
}

/// The program's id of the child that a fork has made which began before the last restart, and of which the kernel has said
/// `real`. `None` if the fork itself came after the restart.
#[cold]
pub fn known_before(real: i32) -> Option<VirtualPid> {
    let guard = crate::guard::Guard::enter();
    KNOWN.look(&guard, |known| {
        let found = known.iter().find(|child| child.real.0 == real)?.id;
        let now = identity::virtual_of(RealPid(real));
        let is_made_again = known.iter().any(|child| child.id == now) && now.0 != real;
        (is_made_again || !process::is_child(RealPid(real))).then_some(found)
    })
}

/// Ends the calling process so that its parent's wait() gives `status`.
fn end_with(status: i32) -> ! {
    let signal = status & 0x7f;
    if signal == 0 {
        process::exit_process((status >> 8) & 0xff);
    }
    let _ = process::set_limit(libc::RLIMIT_CORE, 0, 0);
    // SAFETY: the default disposition runs no code.
    let _ = unsafe { zap_sys::signal::set_action(signal, &zap_sys::signal::KernelAction::default()) };
    let _ = zap_sys::signal::kill(process::getpid().0, signal);
    let _ = zap_sys::signal::change_mask(libc::SIG_UNBLOCK, zap_sys::signal::bit(signal));
    process::exit_process(255)
}
