//! The coordinator's socket: one listener per runtime directory, for its owner only.
//!
//! # Safety
//! Addresses and lengths come from local values that outlive the calls; descriptors are new.
#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};
use zap_client::{connection, Connection, Error, Result, RuntimeDir};
use zap_sys::net;
use zap_wire::{ToCoordinator, LONGEST_MESSAGE};

/// The listening socket, and the lock that says there is one coordinator only.
#[derive(Debug)]
pub struct Listener {
    runtime: RuntimeDir,
    descriptor: OwnedFd,
    _lock: File,
}

/// Why there is no listener.
#[derive(Debug)]
pub enum NotListening {
    /// Another coordinator serves the directory.
    Another,
    Failed(Error),
}

impl Listener {
    /// Listens in `runtime`. A coordinator that is just ending is waited for.
    pub fn bind(runtime: &RuntimeDir) -> std::result::Result<Self, NotListening> {
        let path = runtime.path().join("coordinator.lock");
        let failed = |call: &str, error: &io::Error| NotListening::Failed(Error::system(path.display(), call, error));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.custom_flags(libc::O_NOFOLLOW).open(&path).map_err(|error| failed("open", &error))?;
        let deadline = Instant::now() + Duration::from_secs(8);
        // SAFETY: flock(2) on a descriptor of our own.
        while unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(failed("flock", &error));
            }
            if Connection::connect(runtime).is_ok_and(|connection| connection.is_some()) {
                return Err(NotListening::Another);
            }
            if Instant::now() > deadline {
                let why = "another coordinator holds it but does not listen";
                return Err(NotListening::Failed(Error::new(path.display(), why)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let descriptor = listen(runtime).map_err(NotListening::Failed)?;
        Ok(Self { runtime: runtime.clone(), descriptor, _lock: lock })
    }

    /// The socket's number, readable when somebody connects.
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Accepts a connection of the own user or root; (connection, process id). `None` if nobody waits; others are
    /// turned away.
    pub fn accept(&self) -> Option<(OwnedFd, i32)> {
        loop {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: no address is asked for.
            let number = unsafe { libc::accept4(self.descriptor(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if number < 0 {
                let again = matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EINTR | libc::ECONNABORTED));
                if again {
                    continue;
                }
                return None;
            }
            // SAFETY: a new descriptor.
            let accepted = unsafe { OwnedFd::from_raw_fd(number) };
            match connection::peer(accepted.as_fd()) {
                Ok((pid, user)) if user == zap_client::runtime::effective_user() || user == 0 => {
                    return Some((accepted, pid));
                }
                _ => {}
            }
        }
    }

    /// Takes the name away, so that nobody new connects.
    pub fn hide(&self) {
        let _ = fs::remove_file(self.runtime.socket_path());
    }

    /// Listens again after [`Self::hide`], on a new socket.
    pub fn reopen(&mut self) -> Result<()> {
        self.descriptor = listen(&self.runtime)?;
        Ok(())
    }
}

/// What came from a connection.
#[derive(Debug)]
pub enum Received {
    Message(Box<ToCoordinator>),
    /// Not a message of this protocol.
    Nonsense(String),
    Nothing,
    HungUp,
}

/// Reads one message without waiting.
pub fn receive(socket: &OwnedFd, buffer: &mut Vec<u8>) -> Received {
    buffer.resize(LONGEST_MESSAGE, 0);
    match net::receive(socket.as_raw_fd(), buffer, libc::MSG_DONTWAIT) {
        Ok(0) => Received::HungUp,
        Ok(count) => match zap_wire::decode(&buffer[..count]) {
            Ok(message) => Received::Message(Box::new(message)),
            Err(why) => Received::Nonsense(why),
        },
        Err(error) if error.is(libc::EAGAIN) || error.is(libc::EINTR) => Received::Nothing,
        Err(_) => Received::HungUp,
    }
}

fn listen(runtime: &RuntimeDir) -> Result<OwnedFd> {
    let path = runtime.socket_path();
    let failed = |call: &str| Error::last(path.display(), call);
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: numbers only.
    let number = unsafe { libc::socket(libc::AF_UNIX, kind, 0) };
    if number < 0 {
        return Err(failed("socket"));
    }
    // SAFETY: a new descriptor.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    // Stale: whoever made it does not hold the lock any more.
    let _ = fs::remove_file(&path);
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // RuntimeDir has checked that the path fits with its NUL.
    for (to, from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
        *to = *from as libc::c_char;
    }
    let length = mem::size_of::<libc::sockaddr_un>() as u32;
    // SAFETY: the address lives until the call returns.
    if unsafe { libc::bind(number, (&raw const address).cast(), length) } != 0 {
        return Err(failed("bind"));
    }
    // SAFETY: numbers only.
    if unsafe { libc::listen(number, 4096) } != 0 {
        return Err(failed("listen"));
    }
    Ok(descriptor)
}
