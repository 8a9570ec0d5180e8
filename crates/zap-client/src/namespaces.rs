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
use std::os::unix::fs::{symlink, DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use zap_sys::process;
use zap_sys::RealPid;
use zap_wire::environment;
use zap_wire::private::{LIBRARY_INSIDE, RUNTIME_INSIDE};
use zap_wire::table::PodTable;

/// Where device nodes are: a directory of the pod's own there has those that can be checkpointed.
pub const DEVICES_DIRECTORY: &str = "/dev";

/// Names in it that stay the host's: devices that can be checkpointed when they are open, and terminals.
pub const DEVICES: [&str; 9] = ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "mqueue"];

/// What is to be seen in the namespace.
#[derive(Debug)]
pub struct Scene<'a> {
    /// Directories, and what lies over each.
    pub over: Vec<(PathBuf, PathBuf)>,
    /// The directory that becomes the root directory, and an empty one, over which that is put together.
    pub root: Option<(PathBuf, PathBuf)>,
    /// What Zap itself needs and so stays to be seen: the runtime directory, and that of libzap.so.
    pub runtime: &'a Path,
    pub library: &'a Path,
}

/// Where this process sees the runtime directory and that of libzap.so, if it has entered a root directory of the pod's own.
static MOVED: OnceLock<[(PathBuf, PathBuf); 2]> = OnceLock::new();

/// The path by which this process finds what lies at `path` of the host, in the runtime directory or beside libzap.so.
pub fn inside(path: &Path) -> PathBuf {
    let moved = MOVED.get().into_iter().flatten();
    moved.filter_map(|(from, to)| Some(to.join(path.strip_prefix(from).ok()?))).next().unwrap_or(path.to_path_buf())
}

/// The directory of libzap.so, where [`inside`] has been told of it.
pub(crate) fn library() -> Option<&'static Path> {
    MOVED.get().map(|[_, (_, to)]| to.as_path())
}

/// How long who joins a pod waits for its namespaces to be made.
const PATIENCE: Duration = Duration::from_secs(10);

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

/// Enters a new one, which is to be sealed ([`seal`]) before any program runs in it. This process must have one thread; its working
/// directory is then what lies at that path there.
pub fn enter(scene: &Scene) -> Result<Whose> {
    for (path, _) in &scene.over {
        for own in [scene.runtime, scene.library] {
            if own == path || path.starts_with(own) {
                return Err(Error::new(path.display(), "cannot be private: Zap itself lies there"));
            }
        }
    }
    let current = std::env::current_dir();
    let whose = unshare()?;
    make_slave()?;
    let is_hidden = |path: &Path| scene.root.is_some() || scene.over.iter().any(|(over, _)| path.starts_with(over));
    // Opened in this namespace, and before anything lies over it.
    let over = scene.over.iter().map(|(path, place)| Ok((path.as_path(), hold(place)?))).collect::<Result<Vec<_>>>()?;
    let own = [(scene.runtime, RUNTIME_INSIDE), (scene.library, LIBRARY_INSIDE)];
    let own = own.map(|(path, inside)| hold(path).map(|held| (path, held, inside)));
    let own: Vec<_> = own.into_iter().collect::<Result<_>>()?;
    let has_devices = scene.over.iter().any(|(path, _)| path == Path::new(DEVICES_DIRECTORY));
    let devices = DEVICES.iter().filter(|_| has_devices).map(|name| Path::new(DEVICES_DIRECTORY).join(name));
    let devices: Vec<_> = devices.filter_map(|path| hold(&path).ok().map(|held| (path, held))).collect();
    let root = scene.root.as_ref().map(|(root, place)| NewRoot::make(root, place)).transpose()?;
    for (path, place) in over {
        let target = root.as_ref().map_or(path.to_path_buf(), |root| root.at(path));
        if !target.is_dir() {
            return Err(Error::new(
                path.display(),
                "is no directory here; the pod's own needs one to lie over: make it",
            ));
        }
        bind(&place, &target)?;
    }
    for (path, held, inside) in own {
        match &root {
            Some(root) => {
                make_directories(&root.at(Path::new(inside)))?;
                bind_alone(&held, &root.at(Path::new(inside)))?;
            }
            None if is_hidden(path) => {
                make_directories(path)?;
                bind_alone(&held, path)?;
            }
            None => {}
        }
    }
    for (path, held) in devices {
        let path = root.as_ref().map_or(path.clone(), |root| root.at(&path));
        // What the host did not have where the pod began is not in its directory.
        if fs::symlink_metadata(&path).is_ok_and(|one| !one.is_symlink()) {
            bind(&held, &path)?;
        }
    }
    if let Some(root) = root {
        root.enter()?;
        note_inside(scene.runtime, scene.library);
        // Another root directory need not have it.
        let _ = std::env::set_current_dir("/").and_then(|()| std::env::set_current_dir(current?));
        return Ok(whose);
    }
    go_back(current)?;
    Ok(whose)
}

/// Ends what [`enter`] has begun, for the pod whose table, as this process finds it, is at `table`: its processes see what they need of
/// the runtime directory and change nothing in it, should they remove all that they find. Of what is in it that is the table alone.
pub fn seal(scene: &Scene, table: &Path, whose: Whose) -> Result<()> {
    let runtime = inside(scene.runtime);
    let is_seen = scene.root.is_some() || scene.over.iter().any(|(over, _)| scene.runtime.starts_with(over));
    if is_seen {
        let held = hold(table)?;
        let stores = runtime.join("private");
        // The other pods' too, and this one's within itself.
        mount(c"tmpfs", &stores, Some(c"tmpfs"), libc::MS_NOSUID | libc::MS_NODEV | libc::MS_RDONLY, c"mode=0500")?;
        // Before: it would be read-only too.
        bind_alone(&held, table)?;
        make_read_only(&runtime)?;
    }
    give_up_capabilities(whose);
    Ok(())
}

/// Makes a mount read-only; what else holds of it must be said again (mount(2), MS_REMOUNT, of a mount that is locked).
fn make_read_only(path: &Path) -> Result<()> {
    let c_path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    // SAFETY: all zeroes are a valid value.
    let mut told: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a C string, and a struct that the kernel fills.
    if unsafe { libc::statvfs(c_path.as_ptr(), &raw mut told) } != 0 {
        return Err(Error::last(path.display(), "statvfs"));
    }
    let kept = [
        (libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::ST_NODEV, libc::MS_NODEV),
        (libc::ST_NOEXEC, libc::MS_NOEXEC),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (libc::ST_RELATIME, libc::MS_RELATIME),
    ];
    let kept = kept.into_iter().filter(|(told_by, _)| told.f_flag & told_by != 0).fold(0, |all, (_, flag)| all | flag);
    mount(c"", path, None, libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | kept, c"")
}

fn note_inside(runtime: &Path, library: &Path) {
    let moved = [(runtime, RUNTIME_INSIDE), (library, LIBRARY_INSIDE)];
    let _ = MOVED.set(moved.map(|(from, to)| (from.to_path_buf(), PathBuf::from(to))));
    // Whatever asks for the runtime directory from here on, in this process.
    std::env::set_var(environment::RUNTIME_DIR, RUNTIME_INSIDE);
}

/// Goes to what lies at the path of the working directory now.
fn go_back(current: std::io::Result<PathBuf>) -> Result<()> {
    let Ok(current) = current else { return Ok(()) };
    std::env::set_current_dir(&current)
        .map_err(|error| Error::system(current.display(), "working directory, as the pod sees it: chdir", &error))
}

/// A root directory that is put together: what lies in the one that is wanted, the host's /proc, /sys and /dev, and what Zap needs.
/// Nothing of this is written into the wanted one, which others may share.
struct NewRoot {
    place: PathBuf,
}

/// Directories in it that are the host's: what the kernel tells, and devices.
const KERNELS: [&str; 3] = ["proc", "sys", "dev"];

impl NewRoot {
    fn make(root: &Path, place: &Path) -> Result<Self> {
        let failed = |path: &Path, error: &std::io::Error| Error::system(path.display(), "root directory", error);
        let new = Self { place: place.to_path_buf() };
        make_directories(place)?;
        mount(c"tmpfs", place, Some(c"tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, c"mode=0755")?;
        // What is bound below it with all that lies there (/tmp, of the host's whole tree) must not have it in itself.
        mount(c"", place, None, libc::MS_UNBINDABLE, c"")?;
        let mut names = Vec::new();
        for entry in fs::read_dir(root).map_err(|error| failed(root, &error))? {
            names.push(entry.map_err(|error| failed(root, &error))?.file_name());
        }
        for name in names.iter().filter(|name| !KERNELS.iter().any(|one| name == one)) {
            let (from, to) = (root.join(name), place.join(name));
            let kind = fs::symlink_metadata(&from).map_err(|error| failed(&from, &error))?.file_type();
            let made = if kind.is_symlink() {
                fs::read_link(&from).and_then(|target| symlink(target, &to))
            } else if kind.is_dir() {
                fs::create_dir(&to)
            } else {
                File::create(&to).map(drop)
            };
            made.map_err(|error| failed(&to, &error))?;
            if !kind.is_symlink() {
                bind(&hold(&from)?, &to)?;
            }
        }
        for name in KERNELS {
            let (from, to) = (Path::new("/").join(name), place.join(name));
            fs::create_dir(&to).map_err(|error| failed(&to, &error))?;
            bind(&hold(&from)?, &to)?;
        }
        Ok(new)
    }

    /// Where that lies which will be `path`.
    fn at(&self, path: &Path) -> PathBuf {
        self.place.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Makes it the root directory; the old one is not to be seen any more.
    fn enter(self) -> Result<()> {
        let none = c"";
        mount(
            none,
            &self.place,
            None,
            libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV,
            none,
        )?;
        std::env::set_current_dir(&self.place).map_err(|error| Error::system(self.place.display(), "chdir", &error))?;
        // The new one lies over the old one then, in the same place (pivot_root(2), "NOTES").
        // SAFETY: C strings.
        if unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) } != 0 {
            return Err(Error::last(self.place.display(), "pivot_root"));
        }
        // SAFETY: a C string.
        if unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) } != 0 {
            return Err(Error::last("the host's root directory", "umount"));
        }
        Ok(())
    }
}

/// Enters that of the pod whose table this is. If it has a `root` directory of its own: the host's runtime directory, and that of
/// libzap.so.
pub fn join(table: &PodTable, root: Option<(&Path, &Path)>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while table.namespaces[0].load(Ordering::Acquire) == 0 {
        // Whoever makes them is entered before.
        if Instant::now() > deadline || table.members().count() <= 1 {
            return Err(Error::new("pod", "its namespaces have not been made"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let wanted = table.namespaces.each_ref().map(|inode| inode.load(Ordering::Relaxed));
    let own = process::namespaces_of(process::getpid());
    let current = std::env::current_dir();
    let is_it = |pid: &RealPid| process::namespaces_of(*pid) == wanted;
    let member = table.members().map(|(pid, _)| pid).filter(|pid| *pid != process::getpid()).find(is_it);
    let member = member.ok_or_else(|| Error::new("pod", "none of its processes is in its namespaces any more"))?;
    // Opened before the first is entered.
    let kinds = [("user", libc::CLONE_NEWUSER), ("mnt", libc::CLONE_NEWNS)];
    let differs = |name: &str| {
        process::NAMESPACES
            .iter()
            .zip(wanted.iter().zip(own))
            .any(|((kind, _), (wanted, own))| *kind == name && *wanted != own)
    };
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
    if let Some((runtime, library)) = root {
        note_inside(runtime, library);
        let _ = std::env::set_current_dir("/").and_then(|()| std::env::set_current_dir(current?));
        return Ok(());
    }
    go_back(current)
}

/// Opens what is then found again, whatever its path leads to.
fn hold(path: &Path) -> Result<File> {
    let options = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path);
    options.map_err(|error| Error::system(path.display(), "open", &error))
}

/// Gives up what the user namespace allows: whoever may do more than the pod's processes is barred to them (ptrace(2), "Ptrace
/// access mode checking"), who open files of this process.
fn give_up_capabilities(whose: Whose) {
    // SAFETY: no arguments, cannot fail.
    if whose == Whose::Own && unsafe { libc::geteuid() } != 0 {
        let _ = zap_sys::credentials::set_capabilities(&Default::default());
    }
}

/// To which user namespace a mount namespace belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one in which this process was.
    Hosts,
    /// One of the pod's own.
    Own,
}

fn unshare() -> Result<Whose> {
    // SAFETY: numbers only.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0 {
        return Ok(Whose::Hosts);
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
    write(c"/proc/self/gid_map", &format!("{group} {group} 1"))?;
    Ok(Whose::Own)
}

fn write(path: &CStr, text: &str) -> Result<()> {
    let name = || path.to_string_lossy().into_owned();
    let file =
        zap_sys::fd::open(path, libc::O_WRONLY | libc::O_CLOEXEC, 0).map_err(|error| Error::new(name(), error))?;
    let written = zap_sys::fd::write(file, text.as_bytes());
    let _ = zap_sys::fd::close(file);
    written.map(drop).map_err(|error| Error::new(name(), error))
}

/// What is mounted here stays here; what is mounted on the host comes.
fn make_slave() -> Result<()> {
    mount(c"", Path::new("/"), None, libc::MS_REC | libc::MS_SLAVE, c"")
}

/// With all that is mounted below.
fn bind(place: &File, path: &Path) -> Result<()> {
    bind_so(place, path, libc::MS_BIND | libc::MS_REC)
}

/// Without what is mounted below: in a store that may be the very thing that is being made.
fn bind_alone(place: &File, path: &Path) -> Result<()> {
    bind_so(place, path, libc::MS_BIND)
}

fn bind_so(place: &File, path: &Path, flags: libc::c_ulong) -> Result<()> {
    let source = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd())).unwrap_or_default();
    mount(&source, path, None, flags, c"")
}

/// mount(2).
fn mount(source: &CStr, target: &Path, kind: Option<&CStr>, flags: libc::c_ulong, data: &CStr) -> Result<()> {
    let path = CString::new(target.as_os_str().as_bytes()).unwrap_or_default();
    let kind = kind.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: C strings, and a null pointer where the kernel looks at nothing.
    match unsafe { libc::mount(source.as_ptr(), path.as_ptr(), kind, flags, data.as_ptr().cast()) } {
        0 => Ok(()),
        _ => Err(Error::last(target.display(), "mount")),
    }
}

/// Makes what is missing of a path, for one user.
fn make_directories(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(Error::system(path.display(), "mkdir", &error)),
        _ => fs::metadata(path).map(drop).map_err(|error| Error::system(path.display(), "stat", &error)),
    }
}
