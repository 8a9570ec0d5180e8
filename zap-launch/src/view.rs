//! How a process sees its pod's own directories.

use crate::launch::{Failure, FAILED};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use zap_client::error::reason;
use zap_client::namespaces::{self, Scene};
use zap_client::MappedTable;
use zap_sys::process;
use zap_wire::private::By;

/// What a pod's table tells of the directories of its own.
pub struct View {
    by: By,
    pub store: PathBuf,
    root: Option<PathBuf>,
    directories: Vec<PathBuf>,
}

impl View {
    /// That of the pod whose table this is.
    pub fn of(table: &MappedTable) -> Self {
        let text: Vec<u8> = table.private().collect();
        let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        let none = Self { by: By::Names, store: PathBuf::new(), root: None, directories: Vec::new() };
        zap_wire::private::decode(&text).map_or(none, |(by, store, root, paths)| Self {
            by,
            store: path(store),
            root: root.map(path),
            directories: paths.map(path).collect(),
        })
    }

    /// Whether the pod has a root directory of its own.
    pub fn has_root(&self) -> bool {
        self.by == By::Root
    }

    /// Whether it is another kernel's view, of which libzap need not know.
    pub fn is_of_namespaces(&self) -> bool {
        self.by != By::Names
    }

    /// Makes this process see them. `is_first`: it is the one that makes the pod; `runtime` and `library` are the directories that Zap
    /// needs.
    pub fn enter(
        &self,
        (path, table): (&Path, &MappedTable),
        is_first: bool,
        [runtime, library]: [&Path; 2],
    ) -> Result<(), Failure> {
        let own = |error: zap_client::Error| Failure::new(FAILED, error);
        match self.by {
            By::Names => self.change_directory(),
            By::Namespaces | By::Root if is_first => {
                let place = |number: usize| self.store.join(number.to_string());
                let over = self.directories.iter().enumerate().map(|(number, path)| (path.clone(), place(number)));
                let root = self.root.clone().map(|root| (root, self.store.join("root")));
                let scene = Scene { over: over.collect(), root, runtime, library };
                let whose = namespaces::enter(&scene).map_err(own)?;
                namespaces::seal(&scene, &namespaces::inside(path), whose).map_err(own)?;
                // The first one last: others wait for it.
                let made = process::namespaces_of(process::getpid());
                for (place, inode) in table.namespaces.iter().zip(made).rev() {
                    place.store(inode, Ordering::Release);
                }
                Ok(())
            }
            By::Namespaces => namespaces::join(table, None).map_err(own),
            By::Root => namespaces::join(table, Some((runtime, library))).map_err(own),
        }
    }

    /// Where the file at `path` is that the pod sees there; nothing if it is the host's.
    pub fn place_of(&self, path: &Path) -> Option<PathBuf> {
        if self.by != By::Names {
            return None;
        }
        let real = fs::canonicalize(path).ok()?;
        let (number, rest) = self
            .directories
            .iter()
            .enumerate()
            .find_map(|(number, directory)| Some((number, real.strip_prefix(directory).ok()?.to_path_buf())))?;
        let place = self.store.join(number.to_string());
        Some(if rest.as_os_str().is_empty() { place } else { place.join(rest) })
    }

    /// Goes to where the pod sees the working directory.
    fn change_directory(&self) -> Result<(), Failure> {
        let Ok(current) = std::env::current_dir() else { return Ok(()) };
        let Some(place) = self.place_of(&current) else { return Ok(()) };
        std::env::set_current_dir(place).map_err(|error| {
            let why = format_args!(
                "{}: working directory, in the pod's own directory: {}",
                current.display(),
                reason(&error)
            );
            Failure::new(FAILED, why)
        })
    }
}
