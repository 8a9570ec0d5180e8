//! Files of this host that the pod has open, and that may have changed since the checkpoint: which are in the way, and
//! what is done about the others.
//!
//! An output file that has grown is cut back, so that the program's output goes on where it was. What is cut off is kept
//! beside the images.

use crate::arguments::Files as Policy;
use crate::barred;
use crate::kept::KeptFiles;
use crate::moved;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use zap_client::error::{reason, Error, Result, Shown};
use zap_client::{Connection, RuntimeDir};
use zap_image::header::OpenFile;
use zap_image::Header;
use zap_sys::fd;
use zap_wire::message::PodStatus;
use zap_wire::restart::Moved;
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

/// A file that becomes what it was, whatever it is now.
#[derive(Clone, Debug)]
struct Former {
    then: OpenFile,
    now: Option<Found>,
}

/// All files that are open in the pod.
#[derive(Debug)]
pub struct Changed {
    files: Vec<Known>,
    former: Vec<Former>,
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

/// What is to be done about the files.
#[derive(Debug)]
pub struct Measures {
    /// Cut back when the pod is whole.
    cuts: Vec<Known>,
    /// Made what they were before the pod is.
    former: Vec<Former>,
    directory: PathBuf,
    prefix: String,
}

impl Changed {
    /// Looks at the files of a pod. One that is missing, shorter than it was, or another, is an error, unless it is to become
    /// what it was.
    ///
    /// Parts of files will be kept in `directory`.
    pub fn look<'a>(
        headers: impl Iterator<Item = &'a Header>,
        moved: &[Moved],
        policy: Option<Policy>,
        directory: &Path,
    ) -> Result<Self> {
        let mut merged: BTreeMap<Vec<u8>, OpenFile> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        let mut prefix = String::new();
        for header in headers {
            if prefix.is_empty() {
                prefix = format!("tail_{:016x}_{}", header.pod.id, header.pod.generation);
            }
            let open = header.open_files();
            if policy == Some(Policy::Snapshot) && !open.keeps {
                let why = "the checkpoint has not kept the files (zap-launch --snapshot-files)";
                return Err(Error::new("--files snapshot", why));
            }
            kept.extend(open.kept);
            for file in open.files {
                let file = moved::open_file(moved, file);
                merged.entry(file.path.0.clone()).and_modify(|known| merge(known, &file)).or_insert(file);
            }
        }
        let mut all = Self { files: Vec::new(), former: Vec::new(), directory: directory.to_path_buf(), prefix };
        for then in merged.into_values() {
            let path = path_of(&then).to_path_buf();
            let found = find(&path);
            let failed = |why: String| Error::new(format_args!("file {}", path.display()), why);
            if policy == Some(Policy::Snapshot) && then.writes && kept.contains(&(then.device, then.inode)) {
                let now = found.or_else(|error| match error.kind() {
                    io::ErrorKind::NotFound => Ok(None),
                    _ => Err(failed(reason(&error))),
                })?;
                all.former.push(Former { then, now });
                continue;
            }
            let now = found.map_err(|error| failed(reason(&error)))?;
            let now = now.ok_or_else(|| failed("is no longer a regular file".into()))?;
            if let Some(why) = objection(&then, &now) {
                return Err(failed(why));
            }
            all.files.push(Known { then, now });
        }
        Ok(all)
    }

    /// Decides what is done, and says so of what stays. `keeps_name`: the pod has the name that it had.
    pub fn decide(self, policy: Option<Policy>, keeps_name: bool) -> Result<Measures> {
        let grown = self.files.iter().filter(|known| known.has_grown_output()).map(|known| known.now);
        let wanted: Vec<Found> = match policy {
            None if keeps_name => grown.collect(),
            Some(Policy::Snapshot) => self.former.iter().filter_map(|former| former.now).collect(),
            _ => Vec::new(),
        };
        let holders = if wanted.is_empty() { BTreeMap::new() } else { holders(&wanted) };
        let holder_of = |now: &Found| holders.get(&(now.device, now.inode)).map(String::as_str);
        for former in &self.former {
            if let Some(holder) = former.now.as_ref().and_then(holder_of) {
                let why = format!("is not put back, since {holder} has it open");
                return Err(Error::new(path_of(&former.then).display(), why));
            }
        }
        let mut cuts = Vec::new();
        for known in &self.files {
            match measure(known, policy, keeps_name, holder_of(&known.now)) {
                Measure::Nothing => {}
                Measure::Told(what) => eprintln!("zap-restart: {}: {what}", Shown(path_of(&known.then).display())),
                Measure::Cut => cuts.push(known.clone()),
            }
        }
        Ok(Measures { cuts, former: self.former, directory: self.directory, prefix: self.prefix })
    }
}

fn path_of(file: &OpenFile) -> &Path {
    Path::new(OsStr::from_bytes(&file.path.0))
}

impl Known {
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

/// What is at the path; nothing if it is no regular file.
fn find(path: &Path) -> io::Result<Option<Found>> {
    // Not for reading: that may be forbidden, or take time.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let metadata = file.metadata()?;
    let (_, file_system) = fd::file_system_id(file.as_raw_fd()).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(metadata.is_file().then(|| Found {
        device: metadata.dev(),
        inode: metadata.ino(),
        file_system,
        size: metadata.len(),
        modified_ns: zap_kept::modified_ns(&metadata),
    }))
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
            Some(Policy::Keep | Policy::Snapshot) => String::new(),
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
fn holders(files: &[Found]) -> BTreeMap<(u64, u64), String> {
    let wanted: BTreeSet<(u64, u64)> = files.iter().map(|now| (now.device, now.inode)).collect();
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

/// A file that has been changed.
struct Done {
    path: PathBuf,
    file: File,
    /// What has been kept was behind this place.
    length: u64,
    /// Nothing of a file that has been made.
    kept: Option<Kept>,
}

/// What has been cut off or replaced, in a file of its own.
struct Kept {
    path: PathBuf,
    file: File,
}

/// Files that have been made what they were. Unless the pod runs in the end, they become again what they are.
#[must_use]
pub struct PutBack(Vec<Done>);

impl PutBack {
    /// The pod runs.
    pub fn stays(self) {}

    /// It does not.
    pub fn undo(self) {
        self.0.into_iter().for_each(Done::undo);
    }
}

impl Measures {
    /// Makes files what they were, as `kept` beside the images, all or none; says so.
    pub fn put_back(&self, kept: &KeptFiles) -> Result<PutBack> {
        let mut done: Vec<Done> = Vec::new();
        for Former { then, .. } in &self.former {
            match self.put_back_one(then, kept) {
                Ok(Some(one)) => done.push(one),
                Ok(None) => {}
                Err(error) => {
                    PutBack(done).undo();
                    return Err(error);
                }
            }
        }
        for Done { path, kept, .. } in &done {
            let kept = kept.as_ref().map(|kept| format!("; what it held is in {}", Shown(kept.path.display())));
            eprintln!(
                "zap-restart: {}: put back as at the checkpoint{}",
                Shown(path.display()),
                kept.unwrap_or_default()
            );
        }
        Ok(PutBack(done))
    }

    /// Nothing if it is what it was.
    fn put_back_one(&self, then: &OpenFile, kept: &KeptFiles) -> Result<Option<Done>> {
        let path = path_of(then);
        let failed = |error: io::Error| {
            Error::new(path.display(), format_args!("cannot be put back as at the checkpoint: {}", reason(&error)))
        };
        let former = kept.get((then.device, then.inode));
        let former = former.ok_or_else(|| Error::new(path.display(), "has not been kept with the checkpoint"))?;
        let (mut file, is_new) = match barred::open(path, libc::O_RDWR | libc::O_NONBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut options = OpenOptions::new();
                options.read(true).write(true).create_new(true).mode(former.head.mode & 0o777);
                (options.open(path).map_err(failed)?, true)
            }
            opened => (opened.map_err(failed)?, false),
        };
        if !is_new && former.is_same(&file).map_err(failed)? {
            return Ok(None);
        }
        let saved = if is_new { None } else { Some(self.keep(path, &mut file, 0)?) };
        let done = Done { path: path.to_path_buf(), file, length: 0, kept: saved };
        let written =
            done.file.set_len(0).and_then(|()| former.pour(&done.file, 0)).and_then(|()| done.file.sync_all());
        if let Err(error) = written {
            done.undo();
            return Err(failed(error));
        }
        let modified = UNIX_EPOCH.checked_add(Duration::from_nanos(former.head.modified_ns.max(0) as u64));
        let _ = modified.map(|time| done.file.set_modified(time));
        Ok(Some(done))
    }

    /// Cuts files back, all or none, and says so.
    pub fn cut_back(&self) -> Result<()> {
        let mut done: Vec<Done> = Vec::new();
        for known in &self.cuts {
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
            let kept = kept.as_ref().map(|kept| format!("; what followed is in {}", Shown(kept.path.display())));
            let (length, kept) = (bytes(*length), kept.unwrap_or_default());
            eprintln!(
                "zap-restart: {}: cut back to {length}, its length at the checkpoint{kept}",
                Shown(path.display())
            );
        }
        Ok(())
    }

    /// Nothing if there is nothing (any more) to be cut off.
    fn cut(&self, known: &Known) -> Result<Option<Done>> {
        let path = path_of(&known.then);
        let failed = |error: &io::Error| {
            let why = format!("cannot be cut back to its length at the checkpoint: {}", reason(error));
            Error::new(path.display(), format_args!("{why}; --files keep leaves it as it is"))
        };
        // Without waiting: somebody may have a lease on it.
        let mut file = barred::open(path, libc::O_RDWR | libc::O_NONBLOCK).map_err(|error| failed(&error))?;
        let metadata = file.metadata().map_err(|error| failed(&error))?;
        if !is_it(&metadata, &known.now) {
            return Err(Error::new(path.display(), "has been replaced just now; repeat"));
        }
        let length = known.then.size;
        if metadata.len() <= length {
            return Ok(None);
        }
        let kept = Some(self.keep(path, &mut file, length)?);
        let done = Done { path: path.to_path_buf(), file, length, kept };
        if let Err(error) = done.file.set_len(length) {
            done.undo();
            return Err(failed(&error));
        }
        Ok(Some(done))
    }

    /// Copies what `file` has from `place` on into a new file beside the images.
    fn keep(&self, path: &Path, file: &mut File, place: u64) -> Result<Kept> {
        let kept = self.keep_in(path)?;
        let copied = file.metadata().and_then(|metadata| {
            let length = metadata.len().saturating_sub(place);
            zap_kept::copy((file, place), (&kept.file, 0), length, || true)?;
            kept.file.set_len(length)?;
            kept.file.sync_all()
        });
        copied.map_err(|error| {
            let _ = fs::remove_file(&kept.path);
            let why = format!("what is to be taken from {} cannot be kept: {}", path.display(), reason(&error));
            Error::new(kept.path.display(), format_args!("{why}; --files keep leaves it as it is"))
        })?;
        Ok(kept)
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
    /// Makes the file again what it was.
    fn undo(self) {
        let Done { path, file, length, kept } = self;
        let Some(kept) = kept else {
            let _ = fs::remove_file(path);
            return;
        };
        let whole = file.set_len(length).and_then(|()| kept.file.metadata()).and_then(|metadata| {
            zap_kept::copy((&kept.file, 0), (&file, length), metadata.len(), || true)?;
            file.set_len(length + metadata.len())
        });
        match whole {
            Ok(()) => drop(fs::remove_file(&kept.path)),
            Err(error) => {
                let (path, kept, why) = (path.display(), kept.path.display(), reason(&error));
                eprintln!("zap-restart: {path}: cannot be made again what it was: {why}; that is in {kept}");
            }
        }
    }
}

fn is_it(metadata: &Metadata, found: &Found) -> bool {
    (metadata.dev(), metadata.ino()) == (found.device, found.inode)
}
