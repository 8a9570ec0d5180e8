//! The coordinator's socket, as a tool sees it: connect, or start a coordinator, then one request and one answer.
//!
//! Only a socket of the own user (or root's) is talked to: the runtime directory is private, and the peer's credentials
//! are checked besides.
//!
//! # Safety
//! Pointers handed to the kernel come from local values that outlive the call.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use crate::runtime::{effective_user, RuntimeDir};
use crate::start;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use zap_sys::{net, SysError};
use zap_wire::{FromCoordinator, ToCoordinator, LONGEST_MESSAGE};

/// An open connection to a coordinator. Dropping it hangs up.
#[derive(Debug)]
pub struct Connection {
    descriptor: OwnedFd,
}

impl Connection {
    /// Connects to the running coordinator; `None` if nobody listens.
    pub fn connect(runtime: &RuntimeDir) -> Result<Option<Self>> {
        let path = runtime.socket_path();
        let failed = |error: SysError| Error::new(path.display(), error);
        let number = net::socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).map_err(failed)?;
        // SAFETY: a new descriptor that nobody else knows.
        let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
        loop {
            match net::connect_unix(number, path.as_os_str().as_bytes()) {
                Ok(()) => break,
                Err(error) if error.is(libc::EINTR) => {}
                Err(error) if error.is(libc::ENOENT) || error.is(libc::ECONNREFUSED) => return Ok(None),
                Err(error) => return Err(failed(error)),
            }
        }
        let (_, user) = peer(descriptor.as_fd()).map_err(failed)?;
        if user != effective_user() && user != 0 {
            return Err(Error::new(path.display(), format_args!("user {user} listens there; not talking to it")));
        }
        Ok(Some(Self { descriptor }))
    }

    /// Connects to the coordinator, starting one if none runs. Of several callers at once only one starts it.
    pub fn connect_or_start(runtime: &RuntimeDir) -> Result<Self> {
        if let Some(connection) = Self::connect(runtime)? {
            return Ok(connection);
        }
        let _lock = start::lock(runtime)?;
        if let Some(connection) = Self::connect(runtime)? {
            return Ok(connection);
        }
        start::coordinator(runtime)?;
        let silent = || Error::new("zap-coordinator", "has started, but nobody listens at its socket");
        Self::connect(runtime)?.ok_or_else(silent)
    }

    /// Sends a request to a coordinator that is started if need be, and waits for its answer. A coordinator that ends
    /// for idleness at this very moment costs one more attempt.
    pub fn request(runtime: &RuntimeDir, request: &ToCoordinator) -> Result<FromCoordinator> {
        let first = Self::connect_or_start(runtime)?;
        match first.try_exchange(request)? {
            Some(answer) => Ok(answer),
            None => Self::connect_or_start(runtime)?.exchange(request),
        }
    }

    /// Sends a request and waits for its answer, however long that takes.
    pub fn exchange(&self, request: &ToCoordinator) -> Result<FromCoordinator> {
        self.try_exchange(request)?.ok_or_else(|| Error::new("zap-coordinator", "ended before it answered"))
    }

    /// Sends a message; false when the coordinator has hung up, and knows nothing of it.
    pub fn send(&self, message: &ToCoordinator) -> Result<bool> {
        let bytes = zap_wire::encode(message).map_err(|why| Error::new("request", why))?;
        match net::send(self.descriptor.as_raw_fd(), &bytes, libc::MSG_NOSIGNAL) {
            Err(error) if error.is(libc::EPIPE) || error.is(libc::ECONNRESET) => Ok(false),
            Err(error) => Err(failed(error)),
            Ok(_) => Ok(true),
        }
    }

    /// Waits for a message; `None` when the coordinator has hung up.
    pub fn receive(&self) -> Result<Option<FromCoordinator>> {
        let mut buffer = vec![0u8; LONGEST_MESSAGE];
        let count = loop {
            match net::receive(self.descriptor.as_raw_fd(), &mut buffer, 0) {
                Err(error) if error.is(libc::EINTR) => {}
                Err(error) if error.is(libc::ECONNRESET) => return Ok(None),
                other => break other.map_err(failed)?,
            }
        };
        if count == 0 {
            return Ok(None);
        }
        zap_wire::decode(&buffer[..count]).map(Some).map_err(|why| Error::new("zap-coordinator's answer", why))
    }

    /// The answer, or `None` when the coordinator hung up instead.
    fn try_exchange(&self, request: &ToCoordinator) -> Result<Option<FromCoordinator>> {
        if self.send(request)? {
            self.receive()
        } else {
            Ok(None)
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Process id and user id of whoever is at the other end (SO_PEERCRED of unix(7)).
pub fn peer(socket: BorrowedFd) -> std::result::Result<(i32, u32), SysError> {
    let mut bytes = [0u8; 12];
    net::get_option_bytes(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, &mut bytes)?;
    // struct ucred: pid, uid, gid, four bytes each.
    let word = |at: usize| [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    Ok((i32::from_ne_bytes(word(0)), u32::from_ne_bytes(word(4))))
}

fn failed(error: impl fmt::Display) -> Error {
    Error::new("zap-coordinator", error)
}
