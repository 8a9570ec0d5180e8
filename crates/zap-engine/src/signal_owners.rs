//! Who is told by a signal that something can be done with an open file: F_SETOWN, F_SETSIG of fcntl(2).

use crate::identity;
use crate::state::Owned;
use alloc::vec::Vec;
use zap_sys::{fd, libc, RawFd, RealPid, VirtualPid};
use zap_wire::table::Kind;

/// linux/fcntl.h.
const F_SETSIG: i32 = 10;
const F_GETSIG: i32 = 11;
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

/// After a restart, when all ids are known. An owner that has ended is none any more.
pub fn restore() {
    SAVED.with(|saved| {
        for owner in saved.iter() {
            let id = VirtualPid(owner.named.id);
            let real = match owner.named.kind {
                _ if id.0 == 0 => RealPid(0),
                F_OWNER_PGRP => identity::real_group_of(Kind::Group, id),
                _ => identity::real_of(id),
            };
            let named = Named { id: real.0, ..owner.named };
            let _ = fd::fcntl(owner.number, F_SETSIG, owner.signal);
            if real.0 > 0 {
                let _ = fd::fcntl(owner.number, F_SETOWN_EX, &raw const named as usize);
            }
            announce_by(owner.number);
        }
    });
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
