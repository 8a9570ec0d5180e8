//! Directories of the pod's own (`zap-launch --private`): what they held is made anew below this host's runtime directory.

use crate::image::Image;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zap_client::error::{reason, Error, Result};
use zap_client::namespaces::{self, Scene, Whose};
use zap_client::store::Store;
use zap_client::{install, trusted, Connection, RuntimeDir};
use zap_image::header::bytes::Bytes;
use zap_image::header::OwnDirectories as Recorded;
use zap_image::tree::TreeName;
use zap_kept::tree::{remove, Numbers, SavedTree};
use zap_wire::private::{By, Directory, Private};
use zap_wire::restart::{path_now, Moved};

/// The pod's own directories, as they were at the checkpoint. What has been made of them goes with the value, until
/// [`OwnDirectories::stay`].
#[derive(Debug)]
pub struct OwnDirectories {
    recorded: Recorded,
    store: Option<Store>,
    /// By which numbers the pod knows what has been made.
    numbers: Vec<Numbers>,
    /// What has been entered, and where libzap.so was then.
    entered: Option<Whose>,
    library: PathBuf,
}

impl OwnDirectories {
    /// Makes those that the images tell of; nothing if there are none. Reads what they held whole if it is not known to be
    /// untouched, or with `verify` in any case.
    pub fn restore(images: &[Image], map: &[Moved], verify: bool) -> Result<Option<Self>> {
        let Some((image, recorded)) = images.first().and_then(|image| Some((image, image.header.own_directories()?)))
        else {
            return Ok(None);
        };
        let runtime = RuntimeDir::open_or_create()?;
        let (path, saved) = open_beside(image, Some(&runtime).filter(|_| !verify))?;
        let mut recorded = recorded;
        if let Some(now) = recorded.root.as_ref().and_then(|root| path_now(map, &root.0)) {
            recorded.root = Some(Bytes(now));
        }
        let store = Some(Store::create(&runtime)?);
        let mut own = Self { recorded, store, numbers: Vec::new(), entered: None, library: PathBuf::new() };
        if let Some(store) = &own.store {
            own.numbers = saved.restore(&store.path).map_err(|error| Error::new(path.display(), reason(&error)))?;
        }
        Ok(Some(own))
    }

    /// What was in the directories that stood for them is elsewhere now.
    pub fn moved(&self) -> Option<Moved> {
        let store = self.store.as_ref().filter(|_| !self.recorded.namespaces)?;
        // As the kernel tells of it.
        let path = store.path.canonicalize().unwrap_or(store.path.clone());
        Some(Moved { from: self.recorded.store.0.clone(), to: path.into_os_string().into_vec() })
    }

    /// Device and inode of what has been made, and those by which the pod knows it.
    pub fn numbers(&self) -> &[Numbers] {
        &self.numbers
    }

    /// The paths by which the pod's processes find them.
    pub fn paths(&self) -> Vec<PathBuf> {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        match &self.store {
            Some(store) if !self.recorded.namespaces => {
                vec![store.path.canonicalize().unwrap_or(store.path.clone())]
            }
            _ => self.recorded.directories.iter().map(|(one, _)| path(&one.0)).collect(),
        }
    }

    /// Makes this process, and those that it makes, see them. Returns a connection to the coordinator, which must not be started from
    /// in there.
    pub fn enter(&mut self) -> Result<Connection> {
        let coordinator = Connection::connect_or_start(&RuntimeDir::open_or_create()?)?;
        if self.recorded.namespaces && self.store.is_some() {
            let library = install::library()?;
            self.entered = Some(namespaces::enter(&self.scene(&library))?);
            self.library = library;
        }
        Ok(coordinator)
    }

    /// To be called when the pod is there, whose table this process finds at `table`.
    pub fn seal(&self, table: &Path) -> Result<()> {
        match self.entered {
            Some(whose) => namespaces::seal(&self.scene(&self.library), table, whose),
            None => Ok(()),
        }
    }

    fn scene<'a>(&'a self, library: &'a Path) -> Scene<'a> {
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let store = self.store.as_ref().map_or(Path::new("/"), |store| &store.path);
        let directories = self.recorded.directories.iter().enumerate();
        Scene {
            over: directories.map(|(number, (one, _))| (path(&one.0), store.join(number.to_string()))).collect(),
            root: self.recorded.root.as_ref().map(|root| (path(&root.0), store.join("root"))),
            runtime: store.parent().and_then(Path::parent).unwrap_or(Path::new("/")),
            library: library.parent().unwrap_or(Path::new("/")),
        }
    }

    /// For the pod's settings.
    pub fn settings(&self) -> Private {
        let directory = |(path, copied): &(Bytes, bool)| Directory { path: path.0.clone(), copied: *copied };
        Private {
            by: match (self.recorded.namespaces, &self.recorded.root) {
                (false, _) => By::Names,
                (true, None) => By::Namespaces,
                (true, Some(_)) => By::Root,
            },
            store: self.store.as_ref().map_or(0, |store| store.number),
            directories: self.recorded.directories.iter().map(directory).collect(),
            root: self.recorded.root.as_ref().map(|root| root.0.clone()),
        }
    }

    /// They are the pod's, whose end is theirs.
    pub fn stay(mut self) {
        self.store = None;
    }
}

impl Drop for OwnDirectories {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            let _ = remove(&namespaces::inside(&store.path));
        }
    }
}

/// The directory of the images, which is found also where the pod's own directories lie over it.
#[derive(Debug)]
pub struct Beside {
    path: PathBuf,
    held: File,
}

impl Beside {
    /// The directory at `path`.
    pub fn hold(path: &Path) -> Result<Self> {
        let options = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path);
        let held = options.map_err(|error| Error::system(path.display(), "open", &error))?;
        Ok(Self { path: path.to_path_buf(), held })
    }

    /// A path that leads there.
    pub fn path(&self) -> PathBuf {
        let identity = |path: &Path| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        let known = self.held.metadata().map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if identity(&self.path) == known {
            return self.path.clone();
        }
        PathBuf::from(format!("/proc/self/fd/{}", self.held.as_raw_fd()))
    }
}

/// Checks what the directories held, if there were any, whole.
pub fn verify(image: &Image) -> Result<()> {
    match image.header.own_directories() {
        Some(_) => open_beside(image, None).map(drop),
        None => Ok(()),
    }
}

/// What lies beside the image; read whole if `runtime` does not know it to be untouched.
fn open_beside(image: &Image, runtime: Option<&RuntimeDir>) -> Result<(PathBuf, SavedTree)> {
    let pod = &image.header.pod;
    let name = TreeName { pod_id: pod.id, generation: pod.generation };
    let path = image.path.parent().unwrap_or(Path::new("")).join(name.format());
    let saved = open(&path, name, runtime).map_err(|why| Error::new(path.display(), why))?;
    Ok((path, saved))
}

fn open(path: &Path, name: TreeName, runtime: Option<&RuntimeDir>) -> std::result::Result<SavedTree, String> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("is missing: it belongs to the images, and is to lie beside them".into());
        }
        opened => opened.map_err(|error| reason(&error))?,
    };
    crate::kept::check_owner(&file)?;
    let is_untouched = runtime.is_some_and(|runtime| trusted::is_untouched(runtime, &file));
    let saved = SavedTree::open(file).map_err(|error| error.to_string())?;
    if (saved.tree.pod_id, saved.tree.generation) != (name.pod_id, name.generation) {
        return Err("is not what it is called".into());
    }
    match is_untouched || saved.is_whole().map_err(|error| reason(&error))? {
        true => Ok(saved),
        false => Err("is damaged: its contents are not what was written".into()),
    }
}
