//! What is done to files that have changed, before the pod that has them open runs: cut back, or made what they were.
//!
//! Whatever is taken from a file is in another one beside the images before it is taken, and comes back if the pod does not
//! run in the end.

use crate::barred;
use crate::changed::bytes;
use crate::kept::KeptFiles;
use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use zap_client::error::{reason, Error, Result, Shown};

/// Most bytes of a file's name in the name under which a part of it is kept.
const LONGEST_NAME: usize = 150;

/// How often a file that others write to may grow while what is behind its length is copied.
const ROUNDS: u32 = 10;

/// Device and inode.
type FileId = (u64, u64);

/// An output file that has grown.
#[derive(Clone, Debug)]
pub struct Grown {
    pub path: PathBuf,
    pub now: FileId,
    /// To which it is cut back.
    pub length: u64,
}

/// A file that becomes what it was.
#[derive(Clone, Debug)]
pub struct Former {
    pub path: PathBuf,
    /// At the checkpoint.
    pub then: FileId,
    /// Nothing where it is gone.
    pub now: Option<FileId>,
}

/// What is to be done.
#[derive(Debug)]
pub struct Measures {
    /// Cut back when the pod is whole.
    pub grown: Vec<Grown>,
    /// Made what they were before the pod is.
    pub former: Vec<Former>,
    /// Where what is taken from files is kept: directory, and what names begin with.
    directory: PathBuf,
    prefix: String,
}

/// What has been done to files. Unless the pod runs in the end, they become again what they were.
#[derive(Debug, Default)]
pub struct Changes(RefCell<Vec<Change>>);

/// A file that has been changed.
#[derive(Debug)]
struct Change {
    path: PathBuf,
    file: File,
    /// What has been taken was behind this place.
    length: u64,
    /// Nothing of a file that has been made.
    taken: Option<Taken>,
}

/// What has been taken from a file, in a file of its own.
#[derive(Debug)]
struct Taken {
    path: PathBuf,
    file: File,
}

impl Changes {
    /// Makes the files again what they were.
    pub fn undo(&self) {
        self.0.take().into_iter().rev().for_each(Change::undo);
    }

    /// They are what they are to be.
    pub fn stay(&self) {
        self.0.take();
    }
}

impl Measures {
    /// For the checkpoint of a pod (its id, generation); what is taken from files goes into `directory`.
    pub fn none(directory: &Path, (pod, generation): (u64, u32)) -> Self {
        let prefix = format!("tail_{pod:016x}_{generation}");
        Self { grown: Vec::new(), former: Vec::new(), directory: directory.to_path_buf(), prefix }
    }

    /// Makes files what they were, as `kept` beside the images, all or none; says so.
    pub fn put_back(&self, kept: &KeptFiles, changes: &Changes) -> Result<()> {
        let result = self.former.iter().try_for_each(|former| self.put_back_one(former, kept, changes));
        result.inspect_err(|_| changes.undo())
    }

    fn put_back_one(&self, former: &Former, kept: &KeptFiles, changes: &Changes) -> Result<()> {
        let path = &former.path;
        let failed = |error: io::Error| {
            Error::new(path.display(), format_args!("cannot be put back as at the checkpoint: {}", reason(&error)))
        };
        let then = kept.get(former.then);
        let then = then.ok_or_else(|| Error::new(path.display(), "has not been kept with the checkpoint"))?;
        let file = match former.now {
            Some(now) => open(path, now)?,
            None => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(0o600);
                options.open(path).map_err(failed)?
            }
        };
        if former.now.is_some() && then.is_same(&file).map_err(failed)? {
            return Ok(());
        }
        let taken = if former.now.is_none() { None } else { Some(self.take(path, &file, 0)?) };
        let what = taken.as_ref().map(|taken| format!("; what it held is in {}", Shown(taken.path.display())));
        let change = Change { path: path.clone(), file, length: 0, taken };
        let is_new = change.taken.is_none();
        let written = change.file.set_len(0).and_then(|()| then.pour(&change.file, 0)).and_then(|()| {
            if is_new {
                change.file.set_permissions(Permissions::from_mode(then.head.mode & 0o7777))?;
            }
            change.file.sync_all()
        });
        let modified = UNIX_EPOCH.checked_add(Duration::from_nanos(then.head.modified_ns.max(0) as u64));
        let _ = modified.map(|time| change.file.set_modified(time));
        changes.0.borrow_mut().push(change);
        written.map_err(failed)?;
        eprintln!("zap-restart: {}: put back as at the checkpoint{}", Shown(path.display()), what.unwrap_or_default());
        Ok(())
    }

    /// Cuts files back, all or none, and says so.
    pub fn cut_back(&self, changes: &Changes) -> Result<()> {
        let result = self.grown.iter().try_for_each(|grown| self.cut_back_one(grown, changes));
        result.inspect_err(|_| changes.undo())
    }

    fn cut_back_one(&self, grown: &Grown, changes: &Changes) -> Result<()> {
        let Grown { path, now, length } = grown;
        let file = open(path, *now)?;
        let failed = |error: io::Error| {
            let why = format!("cannot be cut back to its length at the checkpoint: {}", reason(&error));
            Error::new(path.display(), format_args!("{why}; --files keep leaves it as it is"))
        };
        if file.metadata().map_err(failed)?.len() <= *length {
            return Ok(());
        }
        let taken = self.take(path, &file, *length)?;
        let what = Shown(taken.path.display()).to_string();
        file.set_len(*length).map_err(|error| {
            let _ = fs::remove_file(&taken.path);
            failed(error)
        })?;
        changes.0.borrow_mut().push(Change { path: path.clone(), file, length: *length, taken: Some(taken) });
        let (path, length) = (Shown(path.display()), bytes(*length));
        eprintln!(
            "zap-restart: {path}: cut back to {length}, its length at the checkpoint; what followed is in {what}"
        );
        Ok(())
    }

    /// Copies what `file` has from `place` on into a new file beside the images, until that is all.
    fn take(&self, path: &Path, file: &File, place: u64) -> Result<Taken> {
        let taken = self.new_file(path)?;
        let copy = || {
            let mut done = place;
            for _ in 0..ROUNDS {
                let length = file.metadata()?.len();
                if length <= done {
                    taken.file.sync_all()?;
                    return File::open(&self.directory)?.sync_all();
                }
                zap_kept::copy((file, done), (&taken.file, done - place), length - done, || true)?;
                taken.file.set_len(length - place)?;
                done = length;
            }
            Err(io::Error::other("it grows all the time"))
        };
        copy().map_err(|error| {
            let _ = fs::remove_file(&taken.path);
            let why = format!("what is to be taken from {} cannot be kept: {}", path.display(), reason(&error));
            Error::new(taken.path.display(), format_args!("{why}; --files keep leaves it as it is"))
        })?;
        Ok(taken)
    }

    /// A new file for what is taken from the file at `path`.
    fn new_file(&self, path: &Path) -> Result<Taken> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = &name[..name.len().min(LONGEST_NAME)];
        for number in 1u32.. {
            let mut own = OsString::from(format!("{}_{number}_", self.prefix)).into_vec();
            own.extend_from_slice(name);
            let own = self.directory.join(OsString::from_vec(own));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&own) {
                Ok(file) => return Ok(Taken { path: own, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let why = format!("{}, to keep what is taken from {}", reason(&error), path.display());
                    return Err(Error::new(self.directory.display(), why));
                }
            }
        }
        Err(Error::new(self.directory.display(), "has no name left"))
    }
}

impl Change {
    fn undo(self) {
        let Change { path, file, length, taken } = self;
        let Some(taken) = taken else {
            let _ = fs::remove_file(path);
            return;
        };
        let whole = file.set_len(length).and_then(|()| taken.file.metadata()).and_then(|metadata| {
            zap_kept::copy((&taken.file, 0), (&file, length), metadata.len(), || true)?;
            file.set_len(length + metadata.len())
        });
        let (path, own) = (Shown(path.display()), Shown(taken.path.display()));
        match whole {
            Ok(()) => {
                let _ = fs::remove_file(&taken.path);
                eprintln!("zap-restart: {path}: is again what it was before this restart");
            }
            Err(error) => {
                let why = reason(&error);
                eprintln!("zap-restart: {path}: cannot be made again what it was: {why}; that is in {own}");
            }
        }
    }
}

/// Opens the file that has been looked at. Waits for nobody who has a lease on it.
fn open(path: &Path, now: FileId) -> Result<File> {
    let failed = |error: io::Error| {
        let why = format!("cannot be opened, to be what it was: {}", reason(&error));
        Error::new(path.display(), format_args!("{why}; --files keep leaves it as it is"))
    };
    let file = barred::open(path, libc::O_RDWR | libc::O_NONBLOCK).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    match metadata.is_file() && (metadata.dev(), metadata.ino()) == now {
        true => Ok(file),
        false => Err(Error::new(path.display(), "has been replaced just now; repeat")),
    }
}
