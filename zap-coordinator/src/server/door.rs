//! A second way in, for members that cannot reach the runtime directory any more: they have become another user, or have
//! been confined. A socket without a path, whose name is in the pods' tables.
//!
//! Anybody on the host can connect to it: only known members are let in, whose ids the kernel tells, and only with what a
//! member has to say. While a pod is restarted, a stranger may be one of it: that one may say so, and must know the pod's id,
//! which is a secret. A program that is in a pod, or whose parent is, may ask for the pod's table: its parent had it.
//!
//! # Safety
//! Descriptors that calls return are new.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use zap_client::connection;
use zap_sys::{net, SysError};
use zap_wire::table::DOOR_LENGTH;
use zap_wire::ToCoordinator;

/// The listening socket.
#[derive(Debug)]
pub struct Door {
    descriptor: OwnedFd,
    /// The name that the kernel has given it, without the leading NUL (unix(7), autobind).
    pub name: [u8; DOOR_LENGTH],
}

impl Door {
    /// Opens it.
    pub fn open() -> Result<Self, SysError> {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let number = net::socket(libc::AF_UNIX, kind, 0)?;
        let descriptor = own(number);
        net::listen_anywhere(number)?;
        let mut address = [0u8; 128];
        let length = net::local_name(number, &mut address)?;
        let mut name = [0; DOOR_LENGTH];
        // The family, a NUL, the name.
        let found = address.get(3..length).unwrap_or_default();
        if found.is_empty() || found.len() > DOOR_LENGTH {
            return Err(SysError::new("getsockname", libc::EPROTO));
        }
        name[..found.len()].copy_from_slice(found);
        Ok(Self { descriptor, name })
    }

    /// The socket's number, readable when somebody connects.
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Accepts a connection; (connection, process id). `None` if nobody waits.
    pub fn accept(&self) -> Option<(OwnedFd, i32)> {
        let accepted = own(net::accept(self.descriptor(), libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK).ok()?);
        let (pid, _) = connection::peer(accepted.as_fd()).ok()?;
        Some((accepted, pid))
    }
}

fn own(number: i32) -> OwnedFd {
    // SAFETY: as the callers got it from the kernel.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// How a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the socket in the runtime directory.
    Front,
    /// By the door, by a member.
    Member,
    /// By the door, by somebody who may be a member that a restart is making, or that a member has made just now.
    Stranger,
}

/// Whether somebody who has come by this way may say this.
pub fn may_say(way: Way, message: &ToCoordinator) -> bool {
    if way != Way::Member {
        return way == Way::Front || matches!(message, ToCoordinator::Restarted { .. } | ToCoordinator::Table);
    }
    matches!(
        message,
        ToCoordinator::Suspended { .. }
            | ToCoordinator::Open { .. }
            | ToCoordinator::Reached { .. }
            | ToCoordinator::Refused { .. }
            | ToCoordinator::Written { .. }
            | ToCoordinator::WriteFailed { .. }
            | ToCoordinator::Restarted { .. }
            | ToCoordinator::Table
    )
}
