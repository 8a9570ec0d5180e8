//! A second way in, for members that cannot reach the runtime directory any more: they have become another user, or have
//! been confined. A socket without a path, whose name is in the pods' tables.
//!
//! Anybody on the host can connect to it: only known members are let in, whose ids the kernel tells, and only with what a
//! member has to say. While a pod is restarted, a stranger may be one of it: that one may say so, once and at once. It is
//! believed when the pod's table knows it already, into which only members and their coordinator can write. The pod's id
//! is no secret: the names of its images hold it. A program that is in a pod, or whose parent is,
//! may ask for the pod's table: its parent had it.
//!
//! # Safety
//! Descriptors that calls return are new.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};
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

    /// Accepts a connection; (connection, process id). `None` if nobody waits. An error if there is no room for one more.
    pub fn accept(&self) -> Result<Option<(OwnedFd, i32)>, SysError> {
        let accepted = match net::accept(self.descriptor(), libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) {
            Ok(number) => own(number),
            Err(error)
                if [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM].iter().any(|code| error.is(*code)) =>
            {
                return Err(error)
            }
            Err(_) => return Ok(None),
        };
        Ok(connection::peer(accepted.as_fd()).ok().map(|(pid, _)| (accepted, pid)))
    }
}

pub(super) fn own(number: i32) -> OwnedFd {
    // SAFETY: as the callers got it from the kernel.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// How long a stranger may take.
pub const STRANGERS_PATIENCE: Duration = Duration::from_secs(1);

/// How many strangers are heard at a time. The others wait.
pub const STRANGERS: usize = 64;

/// How a connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the socket in the runtime directory.
    Front,
    /// By the door, by a member.
    Member,
    /// By the door, by somebody who may be a member that a restart is making, or that a member has made just now; and is heard
    /// until then.
    Stranger(Instant),
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
            | ToCoordinator::Names { .. }
            | ToCoordinator::Copying { .. }
            | ToCoordinator::Reached { .. }
            | ToCoordinator::Refused { .. }
            | ToCoordinator::Written { .. }
            | ToCoordinator::WriteFailed { .. }
            | ToCoordinator::Restarted { .. }
            | ToCoordinator::Table
    )
}
