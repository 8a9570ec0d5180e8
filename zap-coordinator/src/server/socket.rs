//! The coordinator's socket: one listener per runtime directory, for its owner only.
//!
//! # Safety
//! Addresses and lengths come from local values that outlive the calls; descriptors are new.
#![allow(unsafe_code)]

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use zap_client::{connection, Connection, Error, Result, RuntimeDir};
use zap_sys::net;
use zap_wire::{ToCoordinator, LONGEST_MESSAGE};

/// The listening socket, and the lock that says there is one coordinator only.
#[derive(Debug)]
pub struct Listener {
    runtime: RuntimeDir,
    descriptor: OwnedFd,
    /// The socket's own file.
    socket: Identity,
    lock: File,
}

/// Device and inode of a file.
type Identity = (u64, u64);

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
        let path = lock_path(runtime);
        let lock = open_lock(&path).map_err(NotListening::Failed)?;
        let deadline = Instant::now() + Duration::from_secs(8);
        while !take(&path, &lock).map_err(NotListening::Failed)? {
            if Connection::connect(runtime).is_ok_and(|connection| connection.is_some()) {
                return Err(NotListening::Another);
            }
            if Instant::now() > deadline {
                let why = "another coordinator holds it but does not listen";
                return Err(NotListening::Failed(Error::new(path.display(), why)));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let (descriptor, socket) = listen(runtime).map_err(NotListening::Failed)?;
        Ok(Self { runtime: runtime.clone(), descriptor, socket, lock })
    }

    /// Whether socket and lock are where others look for them.
    pub fn is_in_place(&self) -> bool {
        self.has_socket() && self.has_lock()
    }

    fn has_socket(&self) -> bool {
        found(&self.runtime.socket_path()) == Some(self.socket)
    }

    fn has_lock(&self) -> bool {
        found(&lock_path(&self.runtime)) == self.lock.metadata().ok().map(identity)
    }

    /// Makes the runtime directory, lock and socket again as far as they are gone. False as long as another coordinator
    /// has taken the place.
    pub fn put_back(&mut self) -> Result<bool> {
        RuntimeDir::at(self.runtime.path())?;
        if !self.has_lock() {
            let path = lock_path(&self.runtime);
            let lock = open_lock(&path)?;
            if !take(&path, &lock)? {
                return Ok(false);
            }
            self.lock = lock;
        }
        if !self.has_socket() {
            self.reopen()?;
        }
        Ok(true)
    }

    /// The socket's number, readable when somebody connects.
    pub fn descriptor(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Accepts a connection of the own user or root; (connection, process id). `None` if nobody waits; others are
    /// turned away. An error if there is no room for one more.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, i32)>> {
        loop {
            let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            // SAFETY: no address is asked for.
            let number = unsafe { libc::accept4(self.descriptor(), std::ptr::null_mut(), std::ptr::null_mut(), flags) };
            if number < 0 {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::EINTR | libc::ECONNABORTED) => continue,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return Err(error),
                    _ => return Ok(None),
                }
            }
            // SAFETY: a new descriptor.
            let accepted = unsafe { OwnedFd::from_raw_fd(number) };
            match connection::peer(accepted.as_fd()) {
                Ok((pid, user)) if user == zap_client::runtime::effective_user() || user == 0 => {
                    return Ok(Some((accepted, pid)));
                }
                _ => {}
            }
        }
    }

    /// Takes the name away, so that nobody new connects.
    pub fn hide(&self) {
        // What lies there may be another coordinator's, if the directory was removed meanwhile.
        if self.has_socket() {
            let _ = fs::remove_file(self.runtime.socket_path());
        }
    }

    /// Listens again after [`Self::hide`], on a new socket.
    pub fn reopen(&mut self) -> Result<()> {
        (self.descriptor, self.socket) = listen(&self.runtime)?;
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

fn lock_path(runtime: &RuntimeDir) -> PathBuf {
    runtime.path().join("coordinator.lock")
}

fn open_lock(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let lock = options.custom_flags(libc::O_NOFOLLOW).open(path);
    lock.map_err(|error| Error::system(path.display(), "open", &error))
}

/// Takes the lock without waiting; false if somebody else has it.
fn take(path: &Path, lock: &File) -> Result<bool> {
    // SAFETY: flock(2) on a descriptor of our own.
    if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::WouldBlock => Ok(false),
        _ => Err(Error::system(path.display(), "flock", &error)),
    }
}

fn identity(metadata: Metadata) -> Identity {
    (metadata.dev(), metadata.ino())
}

/// What lies at `path`, if anything does.
fn found(path: &Path) -> Option<Identity> {
    fs::symlink_metadata(path).ok().map(identity)
}

fn listen(runtime: &RuntimeDir) -> Result<(OwnedFd, Identity)> {
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
    let metadata = fs::symlink_metadata(&path).map_err(|error| Error::system(path.display(), "lstat", &error))?;
    Ok((descriptor, identity(metadata)))
}
