//! Files of this host that the pod has open, and that may have changed since the checkpoint: which are in the way, and
//! what is done about the others.
//!
//! An output file that has grown is cut back, so that the program's output goes on where it was. What is cut off is kept
//! beside the images.

use crate::arguments::Files as Policy;
use crate::holders;
use crate::measures::{Former, Grown, Measures};
use crate::moved;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zap_client::error::{reason, Error, Result, Shown};
use zap_image::header::OpenFile;
use zap_image::Header;
use zap_sys::fd;
use zap_wire::inodes::FileId;
use zap_wire::restart::Moved;

/// All files that are open in the pod.
#[derive(Debug)]
pub struct Changed {
    files: Vec<Known>,
    /// By which device and inode the pod knows the file at a path.
    known: Vec<(PathBuf, FileId)>,
    /// Files that become what they were, whatever they are now.
    former: Vec<(OpenFile, Option<Found>)>,
    /// The pod, and the checkpoint.
    pod: (u64, u32),
}

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

/// What is done about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Measure {
    Nothing,
    /// Only told of.
    Told(String),
    /// Cut back to its length at the checkpoint.
    Cut,
}

impl Changed {
    /// Looks at the files of a pod. One that is missing, shorter than it was, or another, is an error, unless it is to become
    /// what it was.
    pub fn look<'a>(
        headers: impl Iterator<Item = &'a Header>,
        moved: &[Moved],
        policy: Option<Policy>,
    ) -> Result<Self> {
        let mut merged: BTreeMap<Vec<u8>, OpenFile> = BTreeMap::new();
        let mut kept = BTreeSet::new();
        let mut pod = (0, 0);
        for header in headers {
            pod = (header.pod.id, header.pod.generation);
            let open = header.open_files();
            if policy == Some(Policy::Snapshot) && !open.keeps {
                let why = "the checkpoint has not kept the files (zap-launch --snapshot-files)";
                return Err(Error::new("--files snapshot", why));
            }
            kept.extend(open.kept);
            for file in open.files {
                let file = moved::open_file(moved, file);
                let known = merged.entry(file.path.0.clone()).or_insert_with(|| file.clone());
                if (known.device, known.inode) != (file.device, file.inode) {
                    let why = "two files of the checkpoint would be one here (--map)";
                    return Err(Error::new(format_args!("file {}", path_of(&file).display()), why));
                }
                merge(known, &file);
            }
        }
        let mut all = Self { files: Vec::new(), known: Vec::new(), former: Vec::new(), pod };
        for then in merged.into_values() {
            let path = path_of(&then).to_path_buf();
            let known = if then.known == (0, 0) { (then.device, then.inode) } else { then.known };
            all.known.push((path.clone(), known));
            let found = find(&path);
            let failed = |why: String| Error::new(format_args!("file {}", path.display()), why);
            let becomes_former =
                policy == Some(Policy::Snapshot) && then.writes && kept.contains(&(then.device, then.inode));
            let now = match found {
                Err(error) if becomes_former && error.kind() == io::ErrorKind::NotFound => {
                    all.former.push((then, None));
                    continue;
                }
                found => found.map_err(|error| failed(reason(&error)))?,
            };
            let now = now.ok_or_else(|| failed("is no longer a regular file".into()))?;
            if becomes_former {
                all.former.push((then, Some(now)));
                continue;
            }
            if let Some(why) = objection(&then, &now) {
                return Err(failed(why));
            }
            all.files.push(Known { then, now });
        }
        Ok(all)
    }

    /// By which numbers the pod knows the files; to be given to [`numbers`] when all are what they are to be.
    pub fn known(&self) -> Vec<(PathBuf, FileId)> {
        self.known.clone()
    }

    /// Decides what is done, and says so of what stays. `keeps_name`: the pod has the name that it had. What is taken from
    /// files is kept in `directory`.
    pub fn decide(self, policy: Option<Policy>, keeps_name: bool, directory: &Path) -> Result<Measures> {
        let grown = self.files.iter().filter(|known| known.has_grown_output()).map(|known| known.now);
        let wanted: BTreeSet<(u64, u64)> = match policy {
            None if keeps_name => grown.map(|now| now.id()).collect(),
            Some(Policy::Snapshot) => self.former.iter().filter_map(|(_, now)| Some(now.as_ref()?.id())).collect(),
            _ => BTreeSet::new(),
        };
        let holders = if wanted.is_empty() { BTreeMap::new() } else { holders::find(&wanted) };
        let holder_of = |now: &Found| holders.get(&now.id()).map(String::as_str);
        for (then, now) in &self.former {
            if let Some(holder) = now.as_ref().and_then(holder_of) {
                let why = format!("is not put back, since {holder} has it open");
                return Err(Error::new(path_of(then).display(), why));
            }
        }
        let mut measures = Measures::none(directory, self.pod);
        for (then, now) in self.former {
            measures.former.push(Former {
                path: path_of(&then).to_path_buf(),
                then: (then.device, then.inode),
                now: now.map(|now| now.id()),
            });
        }
        for known in &self.files {
            let path = path_of(&known.then);
            match measure(known, policy, keeps_name, holder_of(&known.now)) {
                Measure::Nothing => {}
                Measure::Told(what) => eprintln!("zap-restart: {}: {what}", Shown(path.display())),
                Measure::Cut => {
                    let (path, now) = (path.to_path_buf(), known.now.id());
                    measures.grown.push(Grown { path, now, length: known.then.size });
                }
            }
        }
        Ok(measures)
    }
}

/// The numbers that the files have now, and those by which the pod knows them.
pub fn numbers(known: &[(PathBuf, FileId)]) -> impl Iterator<Item = (FileId, FileId)> + '_ {
    known.iter().filter_map(|(path, known)| {
        let metadata = std::fs::metadata(path).ok()?;
        Some(((metadata.dev(), metadata.ino()), *known))
    })
}

impl Found {
    fn id(&self) -> (u64, u64) {
        (self.device, self.inode)
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
    // Numbers of devices may change at each boot; not every file system has a number of its own.
    let same_place = match (now.file_system, then.file_system) {
        (0, _) | (_, 0) => now.device == then.device,
        (now, then) => now == then,
    };
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

/// So many bytes, in words.
pub fn bytes(count: u64) -> String {
    format!("{count} byte{}", if count == 1 { "" } else { "s" })
}
