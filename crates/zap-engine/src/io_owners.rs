//! Who is told by a signal that something can be done with an open file: F_SETOWN, F_SETSIG of fcntl(2).
//!
//! Saved with the descriptors; set again when they are in place, before the other processes of the pod run. An owner that is
//! another process, or a process group, is set when all ids are known: others may run by then, and what they do in these
//! microseconds tells nobody. Of a description that is only in flight (SCM_RIGHTS) the owner is not kept.

use crate::state::Owned;
use crate::{identity, state, threads};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use zap_plugin::Refusal;
use zap_sys::{fd, libc, RawFd, RealPid, VirtualPid};
use zap_wire::table::Kind;

/// linux/fcntl.h.
pub const F_SETSIG: i32 = 10;
pub const F_GETSIG: i32 = 11;
const F_SETOWN_EX: i32 = 15;
const F_GETOWN_EX: i32 = 16;
const F_OWNER_PGRP: i32 = 2;

/// `struct f_owner_ex`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Named {
    kind: i32,
    id: i32,
}

/// The owner of an open file description.
struct Owner {
    /// One of its descriptors.
    number: RawFd,
    /// By the program's id.
    named: Named,
    signal: usize,
}

static SAVED: Owned<Vec<Owner>> = Owned::new(Vec::new());

/// Notes the owners of the descriptions that these descriptors refer to.
pub fn save(numbers: impl Iterator<Item = RawFd>) {
    let owners = numbers.filter_map(find).collect();
    SAVED.with(|saved| *saved = owners);
}

fn find(number: RawFd) -> Option<Owner> {
    let mut named = Named::default();
    // O_PATH has none (EBADF).
    fd::fcntl(number, F_GETOWN_EX, &raw mut named as usize).ok()?;
    let signal = fd::fcntl(number, F_GETSIG, 0).ok()?;
    if named.id != 0 {
        let real = RealPid(named.id);
        named.id = match named.kind {
            F_OWNER_PGRP => identity::virtual_group_of(Kind::Group, real).0,
            _ => identity::virtual_of(real).0,
        };
    }
    (named.id != 0 || signal != 0).then_some(Owner { number, named, signal })
}

impl Owner {
    /// Whether it is this process, or a thread of it, whose ids are known first; or nobody.
    fn is_here(&self) -> bool {
        let is = |number: i32| number == self.named.id;
        self.named.kind != F_OWNER_PGRP
            && (is(0)
                || is(state::virtual_pid().0)
                || threads::slots().any(|slot| is(slot.virtual_tid.load(Ordering::Relaxed))))
    }

    fn set(&self) -> zap_sys::Result<()> {
        let id = VirtualPid(self.named.id);
        let real = match self.named.kind {
            _ if id.0 == 0 => return Ok(()),
            F_OWNER_PGRP => identity::real_group_of(Kind::Group, id),
            _ => identity::real_of(id),
        };
        let named = Named { id: real.0, ..self.named };
        match fd::fcntl(self.number, F_SETOWN_EX, &raw const named as usize) {
            // It has ended.
            Err(error) if !error.is(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }
}

fn refusal(owner: &Owner, error: zap_sys::SysError) -> Refusal {
    Refusal::new(alloc::format!("owner of descriptor {}", owner.number), error)
}

/// In a restart, with the descriptors in place: signals, and owners that are here.
pub fn restore_own() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        for owner in saved.iter() {
            let set = fd::fcntl(owner.number, F_SETSIG, owner.signal).map(|_| announce_by(owner.number));
            let set = set.and_then(|()| if owner.is_here() { owner.set() } else { Ok(()) });
            set.map_err(|error| refusal(owner, error))?;
        }
        Ok(())
    })
}

/// In a restart, when all ids are known: the other owners.
pub fn restore_others() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        let others = saved.iter().filter(|owner| !owner.is_here());
        others.into_iter().try_for_each(|owner| owner.set().map_err(|error| refusal(owner, error)))
    })
}

/// The signal names the descriptor by which O_ASYNC was set (`si_fd`): that is not the one by which a description is made again.
fn announce_by(number: RawFd) {
    let Ok(flags) = fd::fcntl(number, libc::F_GETFL, 0) else { return };
    let without = flags & !(libc::O_ASYNC as usize);
    if flags != without {
        let _ = fd::fcntl(number, libc::F_SETFL, without);
        let _ = fd::fcntl(number, libc::F_SETFL, flags);
    }
}
