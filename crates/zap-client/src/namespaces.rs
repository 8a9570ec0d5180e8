//! A mount namespace of the pod's own (mount_namespaces(7)), in which its own directories lie over those of the host. Where that is
//! not allowed otherwise, it belongs to a user namespace (user_namespaces(7)) that knows one user: the caller.
//!
//! # Safety
//! System calls with C strings and structs that live until they return. The child of [`are_available`] makes system calls only,
//! and ends.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use std::ffi::{CStr, CString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use zap_sys::process;
use zap_sys::RealPid;
use zap_wire::table::PodTable;

/// Where device nodes are: a directory of the pod's own there has those that can be checkpointed.
pub const DEVICES_DIRECTORY: &str = "/dev";

/// Names in it that stay the host's: devices that can be checkpointed when they are open, and terminals.
pub const DEVICES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "mqueue"];

/// What is to be seen in the namespace.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Directories, and what lies over each.
    pub over: Vec<(&'a Path, PathBuf)>,
    /// What Zap itself needs: directories that stay to be seen although they lie in such a directory.
    pub kept: Vec<&'a Path>,
}

/// Whether this process may have a mount namespace of its own.
pub fn are_available() -> bool {
    // In a child: what comes of it cannot be taken back.
    // SAFETY: the child makes system calls only.
    match unsafe { process::fork_raw(libc::SIGCHLD) } {
        Ok(child) if child.0 == 0 => {
            let may = unshare().is_ok() && make_slave().is_ok();
            process::exit_process(i32::from(!may));
        }
        Ok(child) => process::wait(child.0, 0).is_ok_and(|(_, status)| status == 0),
        Err(_) => false,
    }
}

/// Enters a new one. This process must have one thread; its working directory is then what lies at that path there.
pub fn enter(scene: &Scene) -> Result<()> {
    let current = std::env::current_dir();
    unshare()?;
    make_slave()?;
    // Opened in this namespace, and before anything lies over it.
    let over = scene.over.iter().map(|(path, place)| Ok((*path, hold(place)?))).collect::<Result<Vec<_>>>()?;
    let is_hidden = |path: &&Path| scene.over.iter().any(|(over, _)| path.starts_with(over));
    let kept = scene.kept.iter().copied().filter(is_hidden).map(|path| Ok((path, hold(path)?)));
    let kept = kept.collect::<Result<Vec<_>>>()?;
    let devices: Vec<PathBuf> = DEVICES.iter().map(|name| Path::new(DEVICES_DIRECTORY).join(name)).collect();
    let devices: Vec<_> = devices
        .iter()
        .filter(|path| is_hidden(&path.as_path()))
        .filter_map(|path| Some((path, hold(path).ok()?)))
        .collect();
    for (path, place) in over {
        bind(&place, path)?;
    }
    for (path, place) in kept {
        make_directories(path)?;
        bind(&place, path)?;
    }
    // What the host did not have where the pod began is not in its directory.
    for (path, place) in devices.into_iter().filter(|(path, _)| fs::symlink_metadata(path).is_ok_and(|one| !one.is_symlink())) {
        bind(&place, path)?;
    }
    if let Ok(current) = current {
        std::env::set_current_dir(&current)
            .map_err(|error| Error::system(current.display(), "working directory, as the pod sees it: chdir", &error))?;
    }
    Ok(())
}

/// Enters that of the pod whose table this is.
pub fn join(table: &PodTable) -> Result<()> {
    let wanted = table.namespaces.each_ref().map(|inode| inode.load(Ordering::Relaxed));
    let own = process::namespaces_of(process::getpid());
    let current = std::env::current_dir();
    let is_it = |pid: &RealPid| process::namespaces_of(*pid) == wanted;
    let member = table.members().map(|(pid, _)| pid).filter(|pid| *pid != process::getpid()).find(is_it);
    let member = member.ok_or_else(|| Error::new("pod", "none of its processes is in its namespaces any more"))?;
    // Opened before the first is entered.
    let kinds = [("user", libc::CLONE_NEWUSER), ("mnt", libc::CLONE_NEWNS)];
    let differs = |name: &str| process::NAMESPACES.iter().zip(wanted.iter().zip(own)).any(|((kind, _), (wanted, own))| *kind == name && *wanted != own);
    let files = kinds.iter().filter(|(name, _)| differs(name)).map(|(name, kind)| {
        let path = format!("/proc/{member}/ns/{name}");
        let file = File::open(&path).map_err(|error| Error::system(&path, "open", &error))?;
        Ok((path, file, *kind))
    });
    for (path, file, kind) in files.collect::<Result<Vec<_>>>()? {
        // SAFETY: a descriptor that lives, and a number.
        if unsafe { libc::setns(file.as_raw_fd(), kind) } != 0 {
            return Err(Error::last(path, "setns"));
        }
    }
    if let Ok(current) = current {
        std::env::set_current_dir(&current)
            .map_err(|error| Error::system(current.display(), "working directory, as the pod sees it: chdir", &error))?;
    }
    Ok(())
}

/// Opens what is then found again, whatever its path leads to.
fn hold(path: &Path) -> Result<File> {
    let options = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    options.map_err(|error| Error::system(path.display(), "open", &error))
}

fn unshare() -> Result<()> {
    // SAFETY: numbers only.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 {
        return Ok(());
    }
    // SAFETY: no arguments, cannot fail.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    // SAFETY: numbers only.
    if unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } != 0 {
        return Err(Error::last("namespaces", "unshare"));
    }
    // Without this the kernel allows no map of groups.
    write(c"/proc/self/setgroups", "deny")?;
    write(c"/proc/self/uid_map", &format!("{user} {user} 1"))?;
    write(c"/proc/self/gid_map", &format!("{group} {group} 1"))
}

fn write(path: &CStr, text: &str) -> Result<()> {
    let name = || path.to_string_lossy().into_owned();
    let file = zap_sys::fd::open(path, libc::O_WRONLY | libc::O_CLOEXEC, 0).map_err(|error| Error::new(name(), error))?;
    let written = zap_sys::fd::write(file, text.as_bytes());
    let _ = zap_sys::fd::close(file);
    written.map(drop).map_err(|error| Error::new(name(), error))
}

/// What is mounted here stays here; what is mounted on the host comes.
fn make_slave() -> Result<()> {
    let none = std::ptr::null();
    // SAFETY: a C string, and null pointers where the kernel looks at nothing.
    match unsafe { libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, none.cast()) } {
        0 => Ok(()),
        _ => Err(Error::last("/", "mount")),
    }
}

fn bind(place: &File, path: &Path) -> Result<()> {
    let source = format!("/proc/self/fd/{}", place.as_raw_fd());
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let (source, target, none) = (text(source.as_bytes()), text(path.as_os_str().as_bytes()), std::ptr::null());
    // SAFETY: C strings, and a null pointer where the kernel looks at nothing.
    match unsafe { libc::mount(source.as_ptr(), target.as_ptr(), none, libc::MS_BIND | libc::MS_REC, none.cast()) } {
        0 => Ok(()),
        _ => Err(Error::last(path.display(), "mount")),
    }
}

/// Makes what is missing of a path, for one user.
fn make_directories(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::system(path.display(), "mkdir", &error)),
        _ => fs::metadata(path).map(drop).map_err(|error| Error::system(path.display(), "stat", &error)),
    }
}
