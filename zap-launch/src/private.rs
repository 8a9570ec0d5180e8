//! Directories of the pod's own: what `--private` says, and what stands for them below the runtime directory.

use crate::launch::{Failure, FAILED};
use crate::view::View;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{symlink, DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zap_client::error::reason;
use zap_client::namespaces::{self, DEVICES, DEVICES_DIRECTORY};
use zap_client::store::Store;
use zap_client::RuntimeDir;
use zap_kept::tree;
use zap_wire::environment;
use zap_wire::private::{By, Directory, Private};

/// The pod's own directories before there is a pod.
pub struct Own {
    pub private: Private,
    store: Option<Store>,
}

/// Reads each `DIR[=copy]` of --private and what --root says, and makes what stands for them.
pub fn make(words: &[OsString], root: Option<&Path>, runtime: &RuntimeDir) -> Result<Own, Failure> {
    let root = root.map(|root| real(root).map_err(|why| refused("root", root, &why))).transpose()?;
    let directories = read(words, root.as_deref().unwrap_or(Path::new("/")))?;
    if directories.is_empty() && root.is_none() {
        return Ok(Own { private: Private::default(), store: None });
    }
    let by = match (way()?, &root) {
        (By::Names, None) => reachable(&directories).map(|()| By::Names)?,
        (By::Names, Some(root)) => return Err(refused("root", root, "needs a mount namespace, and there is none")),
        (_, Some(_)) => By::Root,
        (by, None) => by,
    };
    let store = Store::create(runtime).map_err(|error| Failure::new(FAILED, error))?;
    let root = root.map(|root| root.into_os_string().into_vec());
    let own = Own { private: Private { by, store: store.number, directories, root }, store: Some(store) };
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
    let searched: Vec<PathBuf> =
        std::env::split_paths(&searched).filter_map(|path| fs::canonicalize(path).ok()).collect();
    for directory in directories {
        let path = Path::new(OsStr::from_bytes(&directory.path));
        let why = if READ_INSIDE.iter().any(|one| path.starts_with(one)) {
            "libc and the loader read files there by themselves".to_string()
        } else if let Some(one) = searched.iter().find(|one| one.starts_with(path)) {
            format!("LD_LIBRARY_PATH names {}, which the loader reads by itself", one.display())
        } else {
            continue;
        };
        return Err(refused(
            "private",
            path,
            &format!("{why}, which only a mount namespace can change, and there is none"),
        ));
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
        let root = Path::new(self.private.root.as_deref().map_or(OsStr::new("/"), OsStr::from_bytes));
        for (number, directory) in self.private.directories.iter().enumerate() {
            let path = Path::new(OsStr::from_bytes(&directory.path));
            let host = root.join(path.strip_prefix("/").unwrap_or(path));
            let name = number.to_string();
            let filled = if directory.copied {
                copy(&host, &name, &store.path, runtime)
            } else if path == Path::new(DEVICES_DIRECTORY) {
                devices(&store.path.join(name))
            } else {
                empty(&host, &store.path.join(name))
            };
            filled.map_err(|error| refused("private", path, &reason(&error)))?;
        }
        Ok(())
    }

    /// The pod has not come to be.
    pub fn remove(&self) {
        if let Some(store) = &self.store {
            let _ = tree::remove(&store.path);
        }
    }

    /// Whether the pod that sees it so has what has been made here; else that is removed, for the pod was there before.
    pub fn settle(&self, view: &View) -> bool {
        // By its name: the coordinator may know the runtime directory by another path.
        let is_its_own = self.store.as_ref().is_some_and(|store| store.path.file_name() == view.store.file_name());
        if !is_its_own {
            self.remove();
        }
        is_its_own
    }
}

fn refused(option: &str, directory: &Path, why: &str) -> Failure {
    Failure::new(FAILED, format_args!("--{option} {}: {why}", directory.display()))
}

/// The directories, as the pod sees them whose root directory is `root`.
fn read(words: &[OsString], root: &Path) -> Result<Vec<Directory>, Failure> {
    let mut directories: Vec<Directory> = Vec::new();
    for word in words {
        let (given, copied) = match word.as_bytes().strip_suffix(b"=copy") {
            Some(path) => (Path::new(OsStr::from_bytes(path)), true),
            None => (Path::new(word), false),
        };
        let refused = |why: &str| refused("private", given, why);
        let path = inside(given, root).and_then(|path| may_be_private(path, copied)).map_err(|why| refused(&why))?;
        for other in &directories {
            let known = Path::new(OsStr::from_bytes(&other.path));
            if path == known {
                return Err(refused("is given twice"));
            }
            if path.starts_with(known) || known.starts_with(&path) {
                return Err(refused(&format!("{} is given too, and one must not lie in the other", known.display())));
            }
        }
        directories.push(Directory { path: path.into_os_string().into_vec(), copied });
    }
    Ok(directories)
}

/// The path, without symbolic links, that a pod sees whose root directory is `root`.
fn inside(given: &Path, root: &Path) -> Result<PathBuf, String> {
    let relative = given.strip_prefix("/").map_err(|_| "is not an absolute path")?;
    // There it need not be: it is the host's.
    if root != Path::new("/") && given == Path::new(DEVICES_DIRECTORY) {
        return Ok(given.to_path_buf());
    }
    let path = real(&root.join(relative))?;
    let path = path.strip_prefix(root).map_err(|_| format!("leads out of {} by a symbolic link", root.display()))?;
    Ok(Path::new("/").join(path))
}

fn may_be_private(path: PathBuf, copied: bool) -> Result<PathBuf, String> {
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

/// The directory `given`, without symbolic links.
fn real(given: &Path) -> Result<PathBuf, String> {
    if !given.is_absolute() {
        return Err("is not an absolute path".into());
    }
    let path = fs::canonicalize(given).map_err(|error| reason(&error))?;
    if !path.is_dir() {
        return Err("is not a directory".into());
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
