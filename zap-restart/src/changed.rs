//! Files of this host that the pod has open, and that may have changed since the checkpoint: which are in the way, and
//! what is done about the others.
//!
//! An output file that has grown is cut back, so that the program's output goes on where it was. What is cut off is kept
//! beside the images.

use crate::arguments::Files as Policy;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zap_client::error::{reason, Error, Result};
use zap_client::{Connection, RuntimeDir};
use zap_image::header::OpenFile;
use zap_image::Header;
use zap_sys::fd;
use zap_sys::time::stamp_ns;
use zap_wire::message::PodStatus;
use zap_wire::{FromCoordinator, ToCoordinator};

/// Most bytes of a file's name in the name under which a part of it is kept.
const LONGEST_NAME: usize = 150;

/// A file of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    device: u64,
    inode: u64,
    file_system: u64,
    size: u64,
    modified_ns: i64,
}

/// A file that is open in the pod, and what it is now.
#[derive(Clone, Debug)]
struct Known {
    /// Of all descriptions of it: what any may do.
    then: OpenFile,
    now: Found,
}

/// All files that are open in the pod.
#[derive(Debug)]
pub struct Changed {
    files: Vec<Known>,
    /// Where parts of files are kept: directory, and what their names begin with.
    directory: PathBuf,
    prefix: String,
}

/// What is done about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Measure {
    Nothing,
    /// Only told of.
    Told(String),
    /// Cut back to its length at the checkpoint.
    Cut,
}

/// Files that are to be cut back when the pod is whole.
#[derive(Debug)]
pub struct Cuts {
    files: Vec<Known>,
    directory: PathBuf,
    prefix: String,
}

impl Changed {
    /// Looks at the files of a pod. One that is missing, shorter than it was, or another, is an error.
    ///
    /// Parts of files will be kept in `directory`.
    pub fn look<'a>(headers: impl Iterator<Item = &'a Header>, directory: &Path) -> Result<Self> {
        let mut merged: BTreeMap<Vec<u8>, OpenFile> = BTreeMap::new();
        let mut prefix = String::new();
        for header in headers {
            if prefix.is_empty() {
                prefix = format!("tail_{:016x}_{}", header.pod.id, header.pod.generation);
            }
            for file in header.open_files().files {
                merged.entry(file.path.0.clone()).and_modify(|known| merge(known, &file)).or_insert(file);
            }
        }
        let look = |then: OpenFile| {
            let path = Path::new(OsStr::from_bytes(&then.path.0));
            let now = find(path).and_then(|now| objection(&then, &now).map_or(Ok(now), Err));
            let now = now.map_err(|why| Error::new(format_args!("file {}", path.display()), why))?;
            Ok(Known { then, now })
        };
        let files = merged.into_values().map(look).collect::<Result<Vec<_>>>()?;
        Ok(Self { files, directory: directory.to_path_buf(), prefix })
    }

    /// Decides what is done, and says so of what is not cut. `keeps_name`: the pod has the name that it had.
    pub fn decide(self, policy: Option<Policy>, keeps_name: bool) -> Cuts {
        let grown: Vec<&Known> = self.files.iter().filter(|known| known.has_grown_output()).collect();
        let holders = if policy.is_none() && keeps_name && !grown.is_empty() { holders(&grown) } else { BTreeMap::new() };
        let mut cuts = Vec::new();
        for known in &self.files {
            let holder = holders.get(&(known.now.device, known.now.inode)).map(String::as_str);
            match measure(known, policy, keeps_name, holder) {
                Measure::Nothing => {}
                Measure::Told(what) => eprintln!("zap-restart: {}: {what}", known.path().display()),
                Measure::Cut => cuts.push(known.clone()),
            }
        }
        Cuts { files: cuts, directory: self.directory, prefix: self.prefix }
    }
}

impl Known {
    fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.then.path.0))
    }

    fn has_grown_output(&self) -> bool {
        self.then.writes && self.then.at_end && self.now.size > self.then.size
    }
}

/// Takes in another description of the same file.
fn merge(known: &mut OpenFile, other: &OpenFile) {
    known.at_end = known.writes && known.at_end || other.writes && other.at_end;
    known.reads |= other.reads;
    known.writes |= other.writes;
    // The processes have looked one after the other.
    known.size = known.size.max(other.size);
    known.modified_ns = known.modified_ns.max(other.modified_ns);
}

fn find(path: &Path) -> std::result::Result<Found, String> {
    // Not for reading: that may be forbidden, or take time.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).map_err(|error| reason(&error))?;
    let metadata = file.metadata().map_err(|error| reason(&error))?;
    if !metadata.is_file() {
        return Err("is no longer a regular file".into());
    }
    let (_, file_system) = fd::file_system_id(file.as_raw_fd()).map_err(|error| error.to_string())?;
    Ok(Found {
        device: metadata.dev(),
        inode: metadata.ino(),
        file_system,
        size: metadata.len(),
        modified_ns: stamp_ns(metadata.mtime(), metadata.mtime_nsec()),
    })
}

/// Why the program cannot go on with the file.
fn objection(then: &OpenFile, now: &Found) -> Option<String> {
    let uses_contents = then.reads || then.writes;
    if !uses_contents {
        return None;
    }
    if now.size < then.size {
        return Some(format!("is shorter than at the checkpoint: {} bytes, then {}", now.size, then.size));
    }
    let same_place = (now.device, now.file_system) == (then.device, then.file_system);
    let same_state = (now.size, now.modified_ns) == (then.size, then.modified_ns);
    // On another host, or copied with its time, it may well have another number.
    (same_place && now.inode != then.inode && !same_state)
        .then(|| "has been replaced since the checkpoint: it is another file by the same name".into())
}

/// What is done about a file that is in nobody's way; `holder` has it open too.
fn measure(known: &Known, policy: Option<Policy>, keeps_name: bool, holder: Option<&str>) -> Measure {
    let Known { then, now } = known;
    if known.has_grown_output() {
        let why = match policy {
            Some(Policy::Truncate) => return Measure::Cut,
            None if keeps_name && holder.is_none() => return Measure::Cut,
            Some(Policy::Keep) => String::new(),
            None if !keeps_name => ": the pod has another name now (see --files)".into(),
            None => format!(": {} has it open (see --files)", holder.unwrap_or_default()),
        };
        let more = now.size - then.size;
        return Measure::Told(format!("kept as it is, {} longer than at the checkpoint{why}", bytes(more)));
    }
    if (now.size, now.modified_ns) == (then.size, then.modified_ns) {
        return Measure::Nothing;
    }
    let mut what = String::from("warning: has been written since the checkpoint");
    if now.size != then.size {
        // Cannot fail.
        let _ = write!(what, " ({}, then {})", bytes(now.size), bytes(then.size));
    }
    match (then.reads, then.writes) {
        (true, false) => Measure::Told(format!("{what}, and is being read by the program")),
        // A copy of the file on another host has the time of its making.
        (_, true) if now.size != then.size || !then.at_end && now.inode == then.inode => {
            Measure::Told(format!("{what}, and stays as it is"))
        }
        _ => Measure::Nothing,
    }
}

fn bytes(count: u64) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}

/// Who else has the files open: a process of a living pod, or any that may write to it. By device and inode.
fn holders(files: &[&Known]) -> BTreeMap<(u64, u64), String> {
    let wanted: BTreeSet<(u64, u64)> = files.iter().map(|known| (known.now.device, known.now.inode)).collect();
    let pods = pods();
    let pod_of = |pid: i32| pods.iter().find(|pod| pod.processes.iter().any(|process| process.pid == pid));
    let own = std::process::id() as i32;
    let mut found = BTreeMap::new();
    let numbers = |directory: &Path| {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).collect::<Vec<_>>()
    };
    for pid in numbers(Path::new("/proc")).into_iter().filter(|pid| *pid != own) {
        for number in numbers(&PathBuf::from(format!("/proc/{pid}/fd"))) {
            let Ok(metadata) = fs::metadata(format!("/proc/{pid}/fd/{number}")) else { continue };
            let key = (metadata.dev(), metadata.ino());
            if !wanted.contains(&key) {
                continue;
            }
            let name = match pod_of(pid) {
                Some(pod) => Some(format!("pod {}", pod.name)),
                None => may_write(pid, number).then(|| format!("process {pid}")),
            };
            if let Some(name) = name {
                found.entry(key).or_insert(name);
            }
        }
    }
    found
}

/// The pods that live; none if there is no coordinator to ask.
fn pods() -> Vec<PodStatus> {
    let Ok(Some(runtime)) = RuntimeDir::open() else { return Vec::new() };
    match Connection::request(&runtime, &ToCoordinator::Status) {
        Ok(FromCoordinator::Status(status)) => status.pods,
        _ => Vec::new(),
    }
}

fn may_write(pid: i32, number: i32) -> bool {
    let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| i32::from_str_radix(text.trim(), 8).ok()).unwrap_or(0);
    flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY
}

/// A file that has been cut back.
struct Done {
    path: PathBuf,
    file: File,
    length: u64,
    kept: Kept,
}

/// What has been cut off, in a file of its own.
struct Kept {
    path: PathBuf,
    file: File,
}

impl Cuts {
    /// Cuts the files back, all or none, and says so.
    pub fn make(&self) -> Result<()> {
        let mut done: Vec<Done> = Vec::new();
        for known in &self.files {
            match self.cut(known) {
                Ok(Some(one)) => done.push(one),
                Ok(None) => {}
                Err(error) => {
                    done.into_iter().for_each(Done::undo);
                    return Err(error);
                }
            }
        }
        for Done { path, length, kept, .. } in &done {
            let (path, length, kept) = (path.display(), bytes(*length), kept.path.display());
            eprintln!("zap-restart: {path}: cut back to {length}, its length at the checkpoint; what followed is in {kept}");
        }
        Ok(())
    }

    /// Nothing if there is nothing (any more) to be cut off.
    fn cut(&self, known: &Known) -> Result<Option<Done>> {
        let path = known.path();
        let failed = |error: &io::Error| {
            let why = format!("cannot be cut back to its length at the checkpoint: {}", reason(error));
            Error::new(path.display(), format_args!("{why}; --files keep leaves it as it is"))
        };
        // Without waiting: somebody may have a lease on it.
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let mut file = options.open(path).map_err(|error| failed(&error))?;
        let metadata = file.metadata().map_err(|error| failed(&error))?;
        if !is_it(&metadata, &known.now) {
            return Err(Error::new(path.display(), "has been replaced just now; repeat"));
        }
        let length = known.then.size;
        if metadata.len() <= length {
            return Ok(None);
        }
        let mut kept = self.keep_in(path)?;
        let copied = file.seek(SeekFrom::Start(length)).and_then(|_| io::copy(&mut file, &mut kept.file));
        let copied = copied.and_then(|_| kept.file.sync_all());
        if let Err(error) = copied {
            let why = format!("what is to be cut off {} cannot be kept: {}", path.display(), reason(&error));
            let _ = fs::remove_file(&kept.path);
            return Err(Error::new(kept.path.display(), format_args!("{why}; --files keep leaves it as it is")));
        }
        if let Err(error) = file.set_len(length) {
            let _ = fs::remove_file(&kept.path);
            return Err(failed(&error));
        }
        Ok(Some(Done { path: path.to_path_buf(), file, length, kept }))
    }

    /// A new file for what is cut off the file at `path`.
    fn keep_in(&self, path: &Path) -> Result<Kept> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let name = &name[..name.len().min(LONGEST_NAME)];
        for number in 1u32.. {
            let mut own = OsString::from(format!("{}_{number}_", self.prefix)).into_vec();
            own.extend_from_slice(name);
            let path = self.directory.join(OsString::from_vec(own));
            match OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Kept { path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let why = format!("{}, to keep what is cut off {}", reason(&error), path.display());
                    return Err(Error::new(self.directory.display(), why));
                }
            }
        }
        Err(Error::new(self.directory.display(), "has no name left"))
    }
}

impl Done {
    /// Puts back what has been cut off.
    fn undo(self) {
        let Done { mut file, length, mut kept, .. } = self;
        let whole = file.seek(SeekFrom::Start(length)).and_then(|_| kept.file.rewind());
        if whole.and_then(|()| io::copy(&mut kept.file, &mut file)).is_ok() {
            let _ = fs::remove_file(&kept.path);
        }
    }
}

fn is_it(metadata: &Metadata, found: &Found) -> bool {
    (metadata.dev(), metadata.ino()) == (found.device, found.inode)
}
