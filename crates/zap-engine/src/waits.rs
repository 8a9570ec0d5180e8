//! Threads that stand in wait4(2) or waitid(2) for a certain child or process group: the kernel makes the call again with
//! the number that is in the register, which after a restart must be the new one.
//!
//! # Safety
//! Frames of suspended threads, at the addresses that their slots hold; code of the program is read where a thread stands.
#![allow(unsafe_code)]

use crate::state::Owned;
use crate::{blocking, identity, threads};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use zap_sys::{libc, RealPid, VirtualPid};
use zap_wire::table::Kind;

/// A register that holds an id.
struct Wait {
    context: u64,
    register: i32,
    /// Of a process, or of a group when it is negative.
    id: i32,
    /// wait4 says that a group is meant by the sign.
    negative: bool,
}

static SAVED: Owned<Vec<Wait>> = Owned::new(Vec::new());

/// Finds the threads that wait; all are suspended.
pub fn save() {
    let mut waits = Vec::new();
    for slot in threads::slots() {
        let context = slot.context.load(Ordering::Relaxed);
        if context == 0 || !blocking::stands_at_call(context) {
            continue;
        }
        let value = |register| blocking::register_at(context, register) as i32;
        let (register, group) = match i64::from(value(libc::REG_RAX)) {
            libc::SYS_wait4 => (libc::REG_RDI, value(libc::REG_RDI) < -1),
            libc::SYS_waitid => match value(libc::REG_RDI) as u32 {
                libc::P_PID => (libc::REG_RSI, false),
                libc::P_PGID => (libc::REG_RSI, true),
                _ => continue,
            },
            _ => continue,
        };
        let real = value(register);
        let negative = real < 0;
        if real.unsigned_abs() > 1 || group {
            let real = RealPid(real.abs());
            let id = if group { identity::virtual_group_of(Kind::Group, real) } else { identity::virtual_of(real) }.0;
            waits.push(Wait { context, register, id: if group { -id } else { id }, negative });
        }
    }
    SAVED.with(|saved| *saved = waits);
}

/// Writes the new ids; when every process of the pod has one.
pub fn restore() {
    SAVED.with(|saved| {
        for wait in saved.iter() {
            let real = if wait.id < 0 {
                identity::real_group_of(Kind::Group, VirtualPid(-wait.id))
            } else {
                identity::real_of(VirtualPid(wait.id))
            };
            let value = if wait.negative { -real.0 } else { real.0 };
            blocking::set_register_at(wait.context, wait.register, i64::from(value));
        }
    });
}
