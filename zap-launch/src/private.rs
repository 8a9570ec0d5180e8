//! Directories of the pod's own: what `--private` says, and what stands for them below the runtime directory.

use crate::launch::{Failure, FAILED};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{symlink, DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use zap_client::error::reason;
use zap_client::store::Store;
use zap_client::namespaces::{self, Scene, DEVICES, DEVICES_DIRECTORY};
use zap_client::{MappedTable, RuntimeDir};
use zap_kept::tree;
use zap_sys::process;
use zap_wire::environment;
use zap_wire::private::{By, Directory, Private};

/// The pod's own directories before there is a pod.
pub struct Own {
    pub private: Private,
    store: Option<Store>,
}

/// Reads each `DIR[=copy]`, and makes what stands for them.
pub fn make(words: &[OsString], runtime: &RuntimeDir) -> Result<Own, Failure> {
    let directories = read(words)?;
    if directories.is_empty() {
        return Ok(Own { private: Private::default(), store: None });
    }
    let by = way()?;
    if by == By::Names {
        reachable(&directories)?;
    }
    let store = Store::create(runtime).map_err(|error| Failure::new(FAILED, error))?;
    let own = Own { private: Private { by, store: store.number, directories }, store: Some(store) };
    let filled = own.fill(runtime);
    if filled.is_err() {
        own.remove();
    }
    filled.map(|()| own)
}

/// Directories of which libc and the loader read files by themselves: no wrapper is asked.
const READ_INSIDE: [&str; 8] = ["/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sys", "/usr"];

/// Refuses what only namespaces can do.
fn reachable(directories: &[Directory]) -> Result<(), Failure> {
    let searched = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let searched: Vec<PathBuf> = std::env::split_paths(&searched).filter_map(|path| fs::canonicalize(path).ok()).collect();
    for directory in directories {
        let path = Path::new(OsStr::from_bytes(&directory.path));
        let why = if READ_INSIDE.iter().any(|one| path.starts_with(one)) {
            "libc and the loader read files there by themselves".to_string()
        } else if let Some(one) = searched.iter().find(|one| one.starts_with(path)) {
            format!("LD_LIBRARY_PATH names {}, which the loader reads by itself", one.display())
        } else {
            continue;
        };
        return Err(refused(path, &format!("{why}, which only a mount namespace can change; this host allows none")));
    }
    Ok(())
}

/// How the pod is to see them.
fn way() -> Result<By, Failure> {
    match std::env::var_os(environment::PRIVATE_BY).as_deref().and_then(OsStr::to_str) {
        Some("names") => Ok(By::Names),
        Some("namespaces") if namespaces::are_available() => Ok(By::Namespaces),
        Some("namespaces") => Err(Failure::new(FAILED, "--private: this host allows no mount namespaces")),
        _ => Ok(if namespaces::are_available() { By::Namespaces } else { By::Names }),
    }
}

impl Own {
    fn fill(&self, runtime: &RuntimeDir) -> Result<(), Failure> {
        let Some(store) = &self.store else { return Ok(()) };
        for (number, directory) in self.private.directories.iter().enumerate() {
            let host = Path::new(OsStr::from_bytes(&directory.path));
            let name = number.to_string();
            if directory.copied {
                copy(host, &name, &store.path, runtime).map_err(|error| refused(host, &reason(&error)))?;
            } else if host == Path::new(DEVICES_DIRECTORY) {
                devices(&store.path.join(name)).map_err(|error| refused(host, &reason(&error)))?;
            } else {
                empty(host, &store.path.join(name)).map_err(|error| refused(host, &reason(&error)))?;
            }
        }
        Ok(())
    }

    /// The pod has not come to be.
    pub fn remove(&self) {
        if let Some(store) = &self.store {
            let _ = tree::remove(&store.path);
        }
    }

    /// Removes what has been made if it is not what the pod has whose table this is: it was there before.
    pub fn settle(self, table: &MappedTable) -> View {
        let view = View::of(table);
        if let (Some(store), Some(number)) = (&self.store, view.store.file_name()) {
            if store.path.file_name() != Some(number) {
                self.remove();
            }
        } else {
            self.remove();
        }
        view
    }
}

/// How a pod sees the directories of its own.
pub struct View {
    by: By,
    store: PathBuf,
    directories: Vec<PathBuf>,
}

impl View {
    fn of(table: &MappedTable) -> Self {
        let text: Vec<u8> = table.private().collect();
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let none = Self { by: By::Names, store: PathBuf::new(), directories: Vec::new() };
        zap_wire::private::decode(&text)
            .map_or(none, |(by, store, paths)| Self { by, store: path(store), directories: paths.map(path).collect() })
    }

    /// Where the file at `path` is that the pod sees there; nothing if it is the host's.
    pub fn place_of(&self, path: &Path) -> Option<PathBuf> {
        if self.by == By::Namespaces {
            return None;
        }
        let real = fs::canonicalize(path).ok()?;
        let (number, rest) = self.directories.iter().enumerate().find_map(|(number, directory)| {
            Some((number, real.strip_prefix(directory).ok()?.to_path_buf()))
        })?;
        let place = self.store.join(number.to_string());
        Some(if rest.as_os_str().is_empty() { place } else { place.join(rest) })
    }

    /// Makes this process see them, `is_first` of the pod. What is at `kept` is seen besides.
    pub fn enter(&self, table: &MappedTable, kept: &[&Path]) -> Result<(), Failure> {
        if self.directories.is_empty() {
            return Ok(());
        }
        let own = |error: zap_client::Error| Failure::new(FAILED, error);
        match (self.by, table.members().count()) {
            (By::Names, _) => self.change_directory(),
            (By::Namespaces, 0 | 1) => {
                let place = |number: usize| self.store.join(number.to_string());
                let over = self.directories.iter().enumerate().map(|(number, path)| (path.as_path(), place(number)));
                namespaces::enter(&Scene { over: over.collect(), kept: kept.to_vec() }).map_err(own)?;
                for (place, inode) in table.namespaces.iter().zip(process::namespaces_of(process::getpid())) {
                    place.store(inode, Ordering::Relaxed);
                }
                Ok(())
            }
            (By::Namespaces, _) => namespaces::join(table).map_err(own),
        }
    }

    /// Goes to where the pod sees the working directory.
    fn change_directory(&self) -> Result<(), Failure> {
        let Ok(current) = std::env::current_dir() else { return Ok(()) };
        let Some(place) = self.place_of(&current) else { return Ok(()) };
        std::env::set_current_dir(place).map_err(|error| {
            let why = format_args!("{}: working directory, in the pod's own directory: {}", current.display(), reason(&error));
            Failure::new(FAILED, why)
        })
    }
}

fn refused(directory: &Path, why: &str) -> Failure {
    Failure::new(FAILED, format_args!("--private {}: {why}", directory.display()))
}

fn read(words: &[OsString]) -> Result<Vec<Directory>, Failure> {
    let mut directories: Vec<Directory> = Vec::new();
    for word in words {
        let (given, copied) = match word.as_bytes().strip_suffix(b"=copy") {
            Some(path) => (Path::new(OsStr::from_bytes(path)), true),
            None => (Path::new(word), false),
        };
        let path = real(given, copied).map_err(|why| refused(given, &why))?;
        for other in &directories {
            let known = Path::new(OsStr::from_bytes(&other.path));
            if path == known {
                return Err(refused(given, "is given twice"));
            }
            if path.starts_with(known) || known.starts_with(&path) {
                let why = format!("{} is given too, and one must not lie in the other", known.display());
                return Err(refused(given, &why));
            }
        }
        directories.push(Directory { path: path.into_os_string().into_vec(), copied });
    }
    Ok(directories)
}

fn real(given: &Path, copied: bool) -> Result<PathBuf, String> {
    if !given.is_absolute() {
        return Err("is not an absolute path".into());
    }
    let path = fs::canonicalize(given).map_err(|error| reason(&error))?;
    if !path.is_dir() {
        return Err("is not a directory".into());
    }
    if path == Path::new("/") {
        return Err("the root directory cannot be private (see --root)".into());
    }
    if path.starts_with("/proc") || path.starts_with("/sys") {
        return Err("is the kernel's own".into());
    }
    if path == Path::new(DEVICES_DIRECTORY) && copied {
        return Err("devices are not copied; without =copy it has those that can be checkpointed".into());
    }
    Ok(path)
}

/// An empty directory with owner and mode of the host's.
fn empty(host: &Path, place: &Path) -> std::io::Result<()> {
    let metadata = fs::metadata(host)?;
    DirBuilder::new().mode(0o700).create(place)?;
    // Not allowed to most: then it is the user's.
    let _ = std::os::unix::fs::chown(place, Some(metadata.uid()), Some(metadata.gid()));
    fs::set_permissions(place, Permissions::from_mode(metadata.mode() & 0o7777))
}

/// A directory of devices: places for those that stay the host's, and what is no device.
fn devices(place: &Path) -> std::io::Result<()> {
    let host = Path::new(DEVICES_DIRECTORY);
    empty(host, place)?;
    for name in DEVICES {
        match fs::metadata(host.join(name)) {
            Ok(metadata) if metadata.is_dir() => fs::create_dir(place.join(name))?,
            Ok(_) => drop(fs::File::create(place.join(name))?),
            Err(_) => {}
        }
    }
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{target}"), place.join(name))?;
    }
    let shared_memory = place.join("shm");
    fs::create_dir(&shared_memory)?;
    fs::set_permissions(&shared_memory, Permissions::from_mode(0o1777))
}

/// Copies the host's directory; says what may not be read and is left out. Sockets are those of servers that are not the pod's.
fn copy(host: &Path, name: &str, store: &Path, runtime: &RuntimeDir) -> std::io::Result<()> {
    let own = fs::metadata(runtime.path())?;
    let is_left_out = |one: &Metadata| (one.dev(), one.ino()) == (own.dev(), own.ino()) || one.file_type().is_socket();
    let listing = tree::list(host, name.as_bytes(), is_left_out)?;
    let barred = tree::duplicate(listing, store)?;
    if let Some((first, why)) = barred.first() {
        let others = match barred.len() {
            1 => String::new(),
            count => format!(", and {} more", count - 1),
        };
        eprintln!("zap-launch: --private {}: left out: {} ({}){others}", host.display(), first.display(), reason(why));
    }
    Ok(())
}
