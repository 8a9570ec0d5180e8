//! Names of Unix sockets: where they lead, and how a socket gets one again without harm to a file that is not the pod's.
//!
//! Nothing is changed by its path alone: a file gets its mode when the kernel makes it, from the socket, and whatever is
//! done to it later is done to what is known to be the socket's own (unix(7), sock_diag(7)). What lies there is removed
//! only if nobody is bound to it and the pod had a file there.

use crate::diag::{self, File};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::{CPath, PATH_MAX};
use zap_plugin::sys::{fd, libc, net, process, RawFd};
use zap_plugin::Refusal;

/// A name, and where it leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Address {
    /// As `sun_path` has it; a name without a path begins with a NUL.
    #[serde(with = "serde_bytes")]
    pub name: Vec<u8>,
    /// Where a relative path begins.
    #[serde(with = "serde_bytes")]
    pub directory: Vec<u8>,
    /// The file that was made for it.
    pub file: Option<File>,
    pub at_path: AtPath,
}

/// What there is at the path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AtPath {
    /// There is no path, or it is the other end's and of no interest.
    #[default]
    Unknown,
    /// The name's own file.
    Own(Place),
    /// That has been removed.
    Nothing,
    /// It has been removed, and something else made there.
    Another,
}

/// A socket in the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub mode: u32,
    pub user: u32,
    pub group: u32,
}

/// Of a file that nobody but the restarting process is to reach.
const PRIVATE: u32 = 0o700;

const TAKEN: &str = "another process has this name: a copy cannot run beside the living original";

/// Where `name` leads, of a socket for which `file` was made.
pub(crate) fn find(name: Vec<u8>, file: Option<File>) -> Result<Address, String> {
    let mut address = Address { name, file, ..Address::default() };
    let Some(file) = file.filter(|_| address.has_path()) else { return Ok(address) };
    if address.is_relative() {
        let mut buffer = [0u8; PATH_MAX];
        let directory = fd::read_link(c"/proc/thread-self/cwd", &mut buffer).map_err(|error| format!("{error}"))?;
        address.directory = directory.to_vec();
    }
    let path = CPath::new(&address.name).ok_or("path too long")?;
    address.at_path = match fd::link_stat(path.as_c_str()) {
        Ok(stat) if diag::is_file(&stat, file) => {
            AtPath::Own(Place { mode: stat.st_mode & 0o7777, user: stat.st_uid, group: stat.st_gid })
        }
        Ok(_) => AtPath::Another,
        Err(error) if error.is(libc::ENOENT) || error.is(libc::ENOTDIR) => AtPath::Nothing,
        Err(error) => return Err(format!("{}: {error}", address.shown())),
    };
    Ok(address)
}

impl Address {
    pub fn has_path(&self) -> bool {
        self.name.first().is_some_and(|byte| *byte != 0)
    }

    pub fn is_relative(&self) -> bool {
        self.has_path() && self.name.first() != Some(&b'/')
    }

    /// The file that there is to be in the end.
    pub fn place(&self) -> Option<Place> {
        if let AtPath::Own(place) = self.at_path {
            Some(place)
        } else {
            None
        }
    }

    /// Whether the name is needed for a moment only: the socket's file is gone, and somebody else may have one there.
    pub fn is_passing(&self) -> bool {
        self.has_path() && self.place().is_none()
    }

    /// As `ss` and others show it.
    pub fn shown(&self) -> String {
        shown(&self.name)
    }

    pub fn refusal(&self, why: impl core::fmt::Display) -> Refusal {
        Refusal::new(format!("Unix socket {}", self.shown()), why)
    }

    /// The name leads elsewhere now.
    pub fn move_to(&mut self, path_now: impl Fn(Vec<u8>) -> Vec<u8>) {
        if self.name.starts_with(b"/") {
            self.name = path_now(core::mem::take(&mut self.name));
        }
        if !self.directory.is_empty() {
            self.directory = path_now(core::mem::take(&mut self.directory));
        }
    }

    /// Does `work` where the path begins.
    pub fn in_directory<T>(&self, work: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
        if self.directory.is_empty() {
            return work();
        }
        let mut buffer = [0u8; PATH_MAX];
        let refusal = |error| self.refusal(error);
        let before = fd::read_link(c"/proc/thread-self/cwd", &mut buffer).map_err(refusal)?;
        let go = |directory: &[u8]| match CPath::new(directory) {
            Some(path) => process::chdir(path.as_c_str()).map_err(refusal),
            None => Err(self.refusal("its directory's path is too long")),
        };
        go(&self.directory)?;
        let result = work();
        go(before)?;
        result
    }

    /// Gives `socket` the name. The file is the caller's own and nobody else's, until [`Self::settle`] or
    /// [`Self::remove`].
    pub fn bind(&self, socket: RawFd) -> Result<(), Refusal> {
        self.in_directory(|| {
            if self.has_path() {
                self.make_way()?;
            }
            // The kernel makes the file with the mode of the socket, less the mask: at no time it has another one.
            let mode = fd::fstat(socket).map_err(|error| self.refusal(error))?.st_mode & 0o7777;
            let umask = process::umask(0);
            let bound = fd::change_mode(socket, PRIVATE)
                .and_then(|()| net::bind_unix(socket, &self.name))
                .and_then(|()| fd::change_mode(socket, mode).inspect_err(|_| self.remove(socket)));
            process::umask(umask);
            bound.map_err(|error| {
                let is_taken = error.is(libc::EADDRINUSE);
                if is_taken {
                    self.refusal(TAKEN)
                } else {
                    self.refusal(error)
                }
            })
        })
    }

    /// Removes what lies in the way, if it is the pod's and dead.
    fn make_way(&self) -> Result<(), Refusal> {
        let refusal = |error| self.refusal(error);
        let path = self.path()?;
        let Ok(stat) = fd::link_stat(path.as_c_str()) else { return Ok(()) };
        if stat.st_mode & libc::S_IFMT != libc::S_IFSOCK {
            return Err(self.refusal("something else has taken its place in the file system"));
        }
        if self.is_bound(&stat).map_err(refusal)? {
            return Err(self.refusal(TAKEN));
        }
        // Where nothing was at the checkpoint, it is a stranger's. `Another` has been found to be the pod's (`plan`).
        if !matches!(self.at_path, AtPath::Own(_) | AtPath::Another) {
            return Err(
                self.refusal("a file that is not the program's lies there, of a socket that nobody has any more")
            );
        }
        fd::unlink(path.as_c_str()).map_err(refusal)
    }

    /// Whether a socket lives that is bound to the file at the path, which is `stat`. Nothing is changed by it.
    fn is_bound(&self, stat: &libc::stat) -> zap_plugin::sys::Result<bool> {
        let last = |name: &[u8]| name.rsplit(|byte| *byte == b'/').next().map(<[u8]>::to_vec);
        let is_it = |one: &diag::Bound| {
            one.file.is_some_and(|file| diag::is_file(stat, file))
                && (one.file.map(|file| file.1) == Some(diag::kernel_device(stat.st_dev))
                    || last(&one.name) == last(&self.name))
        };
        if diag::all_bound()?.iter().any(is_it) {
            return Ok(true);
        }
        // Who is in another network namespace, or connected, is not shown. A datagram socket that connects is told the
        // kind is wrong, or if there is nobody that it is refused; nobody else notices.
        let probe = new_socket(libc::SOCK_DGRAM)?;
        let result = net::connect_unix(probe, &self.name);
        fd::close(probe)?;
        match result {
            Err(error) if error.is(libc::EPROTOTYPE) => Ok(true),
            Ok(()) => Ok(true),
            // Nobody is there; or the file's mode forbids to ask.
            Err(error) if error.is(libc::ECONNREFUSED) || error.is(libc::EACCES) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes the file of `socket` what it was: with its mode and owner, or gone.
    pub fn settle(&self, socket: RawFd) -> Result<(), Refusal> {
        if !self.has_path() {
            return Ok(());
        }
        let Some(place) = self.place() else {
            self.remove(socket);
            return Ok(());
        };
        self.in_directory(|| {
            let path = self.path()?;
            let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC;
            let file = fd::open(path.as_c_str(), flags, 0).map_err(|error| self.refusal(error))?;
            let settled = self.settle_file(socket, file, &place);
            let _ = fd::close(file);
            settled
        })
    }

    /// `file` is what has been found at the path: perhaps somebody has been quicker.
    fn settle_file(&self, socket: RawFd, file: RawFd, place: &Place) -> Result<(), Refusal> {
        let settle = || {
            let now = fd::fstat(file)?;
            if !is_own(socket, &now) {
                return Ok(false);
            }
            if (now.st_uid, now.st_gid) != (place.user, place.group) {
                fd::change_owner_of(file, place.user, place.group)?;
            }
            if place.mode != PRIVATE {
                // fchmod(2) does not take such a descriptor.
                let link = zap_plugin::sys::small!("/proc/thread-self/fd/{file}");
                fd::change_mode_at(link.as_c_str(), place.mode)?;
            }
            Ok(true)
        };
        match settle().map_err(|error: zap_plugin::sys::SysError| self.refusal(error))? {
            true => Ok(()),
            false => Err(self.refusal("something else has taken its place in the file system")),
        }
    }

    /// Removes the file of `socket`, if it is still that at the path.
    pub fn remove(&self, socket: RawFd) {
        if !self.has_path() {
            return;
        }
        let _ = self.in_directory(|| {
            let path = self.path()?;
            if fd::link_stat(path.as_c_str()).is_ok_and(|stat| is_own(socket, &stat)) {
                let _ = fd::unlink(path.as_c_str());
            }
            Ok(())
        });
    }

    fn path(&self) -> Result<CPath, Refusal> {
        CPath::new(&self.name).ok_or_else(|| self.refusal("path too long"))
    }
}

/// A name as `ss` and others show it.
pub(crate) fn shown(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    match name.strip_prefix('\0') {
        Some(name) => format!("@{name}"),
        None => name.into_owned(),
    }
}

fn is_own(socket: RawFd, stat: &libc::stat) -> bool {
    let inode = fd::fstat(socket).map(|socket| socket.st_ino as u32);
    let file = inode.and_then(diag::query).ok().and_then(|socket| socket.file);
    file.is_some_and(|file| diag::is_file(stat, file))
}

pub(crate) fn new_socket(kind: i32) -> zap_plugin::sys::Result<RawFd> {
    net::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn at(name: &str) -> String {
        format!("{}/zap-{name}-{}", std::env::temp_dir().display(), std::process::id())
    }

    fn address(path: &str, at_path: AtPath) -> Address {
        Address { name: path.as_bytes().to_vec(), at_path, ..Address::default() }
    }

    fn own(mode: u32) -> AtPath {
        let own = fd::stat(c"/proc/self").unwrap();
        AtPath::Own(Place { mode, user: own.st_uid, group: own.st_gid })
    }

    fn socket() -> RawFd {
        new_socket(libc::SOCK_STREAM).unwrap()
    }

    #[test]
    fn a_name_that_is_taken_is_refused_and_left_alone() {
        let path = at("taken");
        let address = address(&path, own(0o640));
        let sockets = [(); 3].map(|()| socket());
        address.bind(sockets[0]).unwrap();
        assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, PRIVATE);
        assert_eq!(fd::fstat(sockets[0]).unwrap().st_mode & 0o7777, 0o777);
        address.settle(sockets[0]).unwrap();
        let before = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(before.permissions().mode() & 0o7777, 0o640);
        assert!(address.bind(sockets[1]).unwrap_err().reason.contains("living original"));
        let after = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!((before.ctime_nsec(), before.ino()), (after.ctime_nsec(), after.ino()));
        // Nor does who has not bound it remove it.
        address.remove(sockets[1]);
        assert!(std::fs::symlink_metadata(&path).is_ok());
        fd::close(sockets[0]).unwrap();
        // Nobody has it any more.
        address.bind(sockets[1]).unwrap();
        address.remove(sockets[1]);
        std::fs::write(&path, "").unwrap();
        assert!(address.bind(sockets[2]).unwrap_err().reason.contains("something else"));
        std::fs::remove_file(&path).unwrap();
        sockets[1..].iter().for_each(|socket| fd::close(*socket).unwrap());
    }

    #[test]
    fn a_stranger_s_dead_file_stays() {
        let path = at("dead");
        let sockets = [(); 2].map(|()| socket());
        address(&path, AtPath::Nothing).bind(sockets[0]).unwrap();
        fd::close(sockets[0]).unwrap();
        let refused = address(&path, AtPath::Nothing).bind(sockets[1]).unwrap_err();
        assert!(refused.reason.contains("not the program's"), "{refused}");
        assert!(std::fs::symlink_metadata(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
        fd::close(sockets[1]).unwrap();
    }

    #[test]
    fn what_somebody_puts_in_the_file_s_place_keeps_its_mode() {
        let (path, other) = (at("moved"), at("victim"));
        let address = address(&path, own(0o666));
        let socket = socket();
        address.bind(socket).unwrap();
        std::fs::rename(&path, format!("{path}.away")).unwrap();
        std::fs::write(&other, "").unwrap();
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        assert!(address.settle(socket).unwrap_err().reason.contains("something else"));
        address.remove(socket);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        for path in [&path, &other, &format!("{path}.away")] {
            std::fs::remove_file(path).unwrap();
        }
        fd::close(socket).unwrap();
    }

    #[test]
    fn where_names_lead() {
        let path = at("found");
        let socket = socket();
        net::bind_unix(socket, path.as_bytes()).unwrap();
        let file = diag::query(fd::fstat(socket).unwrap().st_ino as u32).unwrap().file;
        let found = || find(path.as_bytes().to_vec(), file).unwrap().at_path;
        assert!(matches!(found(), AtPath::Own(_)));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(found(), AtPath::Nothing);
        std::fs::write(&path, "").unwrap();
        assert_eq!(found(), AtPath::Another);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(find(b"\0abstract".to_vec(), None).unwrap().at_path, AtPath::Unknown);
        fd::close(socket).unwrap();
    }
}
