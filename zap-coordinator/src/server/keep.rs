//! Files that are kept whole beside the images (`zap_image::kept`): copied by a thread of their own while the pod stands, so
//! that others can be served meanwhile.

use super::images::{Holds, KeptFile};
use super::Server;
use crate::core::{Common, Event, Open};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::Builder;
use zap_client::error::reason;
use zap_image::kept::KeptName;
use zap_image::tree::TreeName;
use zap_kept::Origin;
use zap_sys::RealPid;
use zap_wire::inodes::Inodes;
use zap_wire::message::{Keep, Stretch};

/// Stack of a thread that walks through trees, as deep as they are (`zap_kept::tree`). Only what is used of it takes room.
pub const STACK: usize = 64 << 20;

/// What is to be kept.
#[derive(Debug, Default)]
pub struct Wanted {
    pub files: Vec<WantedFile>,
    /// The pod's own directories: their store, how many there are, and by which numbers the pod knows files.
    pub store: Option<(PathBuf, usize, Vec<u64>)>,
    /// What the pod's processes have open, by device and inode: process, descriptor and access mode.
    pub open: BTreeMap<(u64, u64), (i32, i32, i32)>,
}

impl Wanted {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.store.is_none()
    }
}

/// A file that is to be kept, as a process has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedFile {
    pid: i32,
    fd: i32,
    /// Device and inode.
    file: (u64, u64),
}

/// What has come of the copying for a pod.
pub struct Copied {
    pub pod: u64,
    given_up: Arc<AtomicBool>,
    outcome: Result<Vec<KeptFile>, String>,
}

/// Files that are being copied.
pub struct Copying {
    /// The checkpoint has been given up. Tells it from a later one's too.
    given_up: Arc<AtomicBool>,
    shares: BTreeMap<i32, Common>,
}

/// Which files are to be kept, each once. `keeps`: those that are open for writing, too.
pub fn wanted(open: &[(i32, Open)], keeps: bool, size: impl Fn(i32, i32) -> u64) -> Vec<WantedFile> {
    let mut known = BTreeSet::new();
    let mut wanted = Vec::new();
    for (pid, seen) in open.iter().flat_map(|(pid, open)| open.descriptions.iter().map(move |seen| (*pid, seen))) {
        let is_wanted = match seen.keep {
            Keep::No => false,
            Keep::IfWanted => keeps,
            Keep::Above(bytes) => size(pid, seen.fd).saturating_sub(in_memory(open, seen.file)) > bytes,
        };
        if is_wanted && known.insert(seen.file) {
            wanted.push(WantedFile { pid, fd: seen.fd, file: seen.file });
        }
    }
    wanted
}

/// What the pod has open, each file once: if it can, by a descriptor that reads.
pub fn open_in_pod(open: &[(i32, Open)]) -> BTreeMap<(u64, u64), (i32, i32, i32)> {
    let mut all = BTreeMap::new();
    for (pid, seen) in open.iter().flat_map(|(pid, open)| open.descriptions.iter().map(move |seen| (*pid, seen))) {
        let one = all.entry(seen.file).or_insert((pid, seen.fd, seen.access));
        if one.2 == libc::O_WRONLY {
            *one = (pid, seen.fd, seen.access);
        }
    }
    all
}

/// The file that a process has open, by its own description; nothing if that does not read, and nothing is lost by opening it anew.
fn opened(pid: i32, fd: i32, access: i32) -> std::io::Result<Option<File>> {
    let has_lease = fs::read_to_string(format!("/proc/{pid}/fdinfo/{fd}")).is_ok_and(|info| info.contains("LEASE"));
    if !has_lease {
        return Ok(None);
    }
    if access == libc::O_WRONLY {
        return Err(std::io::Error::other("has a lease, by a descriptor that does not read"));
    }
    let process = zap_sys::fd::open_process(RealPid(pid)).map_err(|error| std::io::Error::other(error.to_string()))?;
    let copy = zap_sys::fd::of_process(process, fd);
    let _ = zap_sys::fd::close(process);
    copy.map(|number| Some(File::from(super::door::own(number))))
        .map_err(|error| std::io::Error::other(error.to_string()))
}

/// Up to which offset the file is saved as shared memory.
fn in_memory(open: &[(i32, Open)], file: (u64, u64)) -> u64 {
    let of_file = |stretch: &&Stretch| stretch.object == file;
    let mut stretches: Vec<&Stretch> = open.iter().flat_map(|(_, open)| &open.memory).filter(of_file).collect();
    stretches.sort_unstable();
    stretches.iter().fold(0, |end, stretch| if stretch.start <= end { end.max(stretch.end) } else { end })
}

/// Bytes in the file that a process has open.
pub fn size(pid: i32, fd: i32) -> u64 {
    fs::metadata(format!("/proc/{pid}/fd/{fd}")).map_or(0, |metadata| metadata.len())
}

/// Copies the files into `directory`, under temporary names.
fn copy(
    Wanted { files, store, open }: &Wanted,
    (directory, random): (&Path, u64),
    (pod, generation): (u64, u32),
    given_up: &AtomicBool,
) -> Result<Vec<KeptFile>, String> {
    let copy = |one: &WantedFile| {
        let link = format!("/proc/{}/fd/{}", one.pid, one.fd);
        let path = fs::read_link(&link).map(|path| path.into_os_string().into_vec()).unwrap_or_default();
        let failed = |why: &str| {
            let (name, pid) = (String::from_utf8_lossy(&path), one.pid);
            format!("{name} of process {pid}: cannot be kept with the images: {why}")
        };
        let source = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&link);
        let source = source.map_err(|error| failed(&reason(&error)))?;
        let (device, inode) = one.file;
        let name = KeptName { pod_id: pod, device, inode, generation }.format();
        let origin = Origin { pod_id: pod, generation, path: path.clone() };
        KeptFile::make(directory, &name, random, |target| {
            zap_kept::take(&source, target, origin, || !given_up.load(Ordering::Relaxed)).map(Holds::File)
        })
        .map_err(|why| failed(&why))
    };
    let mut kept = files.iter().map(copy).collect::<Result<Vec<_>, _>>()?;
    if let Some((store, count, inodes)) = store {
        let name = TreeName { pod_id: pod, generation }.format();
        let tree = KeptFile::make(directory, &name, random, |target| {
            let may_go_on = || !given_up.load(Ordering::Relaxed);
            let opened = |file| open.get(&file).map_or(Ok(None), |(pid, fd, access)| opened(*pid, *fd, *access));
            let inodes = Inodes::read(inodes).unwrap_or(Inodes::NONE);
            let known = |file| inodes.known(file);
            zap_kept::tree::take(store, *count, target, (pod, generation), opened, known, may_go_on).map(Holds::Tree)
        });
        kept.push(tree.map_err(|why| format!("directories of the pod's own (--private): cannot be saved: {why}"))?);
    }
    Ok(kept)
}

impl Server {
    /// Has the files copied, and goes on with what the processes share when that is done.
    pub(super) fn keep(&mut self, (pod, generation): (u64, u32), wanted: Wanted, shares: BTreeMap<i32, Common>) {
        let place = self.images.get(&pod).map(|images| images.place());
        let place = place.map(|(directory, random)| (directory.to_path_buf(), random));
        let given_up = Arc::new(AtomicBool::new(false));
        let (done, bell, is_given_up) = (self.copied.0.clone(), self.bell.clone(), given_up.clone());
        let work = move |(directory, random): (PathBuf, u64)| {
            let outcome = copy(&wanted, (&directory, random), (pod, generation), &is_given_up);
            if done.send(Copied { pod, given_up: is_given_up, outcome }).is_ok() {
                let _ = zap_sys::fd::write(bell.as_raw_fd(), &1u64.to_ne_bytes());
            }
        };
        let thread = place.ok_or_else(|| "images: lost".to_string()).and_then(|place| {
            Builder::new().stack_size(STACK).spawn(move || work(place)).map_err(|error| reason(&error))
        });
        match thread {
            Ok(thread) => {
                self.copiers.retain(|thread| !thread.is_finished());
                self.copiers.push(thread);
                self.copying.insert(pod, Copying { given_up, shares });
            }
            Err(why) => {
                let shares = Err(format!("files of the pod: cannot be copied: {why}"));
                self.queue.push_back(Event::Compared { pod, shares, kept: Vec::new() });
            }
        }
    }

    /// Waits until no copy is under way, and none is left.
    pub(super) fn end_keeping(&mut self) {
        self.copying.values().for_each(|copying| copying.given_up.store(true, Ordering::Relaxed));
        self.copying.clear();
        for thread in self.copiers.drain(..) {
            let _ = thread.join();
        }
        while self.copied.1.try_recv().is_ok() {}
    }

    /// The files of a pod have been copied, or not.
    pub(super) fn kept(&mut self, copied: Copied) {
        let Copied { pod, given_up, outcome } = copied;
        let is_it = |copying: &Copying| Arc::ptr_eq(&copying.given_up, &given_up);
        if !self.copying.get(&pod).is_some_and(is_it) {
            return;
        }
        let Some(Copying { shares, .. }) = self.copying.remove(&pod) else { return };
        let (shares, kept) = match outcome {
            Ok(files) => {
                let kept = files.iter().filter_map(KeptFile::of).collect();
                if let Some(images) = self.images.get_mut(&pod) {
                    images.keep(files);
                }
                (Ok(shares), kept)
            }
            Err(why) => (Err(why), Vec::new()),
        };
        self.queue.push_back(Event::Compared { pod, shares, kept });
    }

    /// Nobody needs the copies any more.
    pub(super) fn stop_keeping(&mut self, pod: u64) {
        if let Some(copying) = self.copying.remove(&pod) {
            copying.given_up.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zap_wire::message::Seen;

    #[test]
    fn what_is_wanted_by_table() {
        let seen = |fd, inode, keep| Seen { id: 0, fd, file: (1, inode), object: (0, 0), access: 1, keep };
        let open = |descriptions| Open { descriptions, ..Open::default() };
        let memory = vec![
            Stretch { object: (1, 9), start: 0, end: 40 },
            Stretch { object: (1, 9), start: 30, end: 60 },
            Stretch { object: (1, 9), start: 70, end: 100 },
        ];
        let all = [
            (10, open(vec![seen(3, 5, Keep::IfWanted), seen(4, 6, Keep::No), seen(5, 7, Keep::Above(99))])),
            (20, Open { memory, ..open(vec![seen(3, 5, Keep::IfWanted), seen(4, 8, Keep::Above(100))]) }),
            (30, open(vec![seen(6, 9, Keep::Above(40)), seen(7, 9, Keep::Above(39))])),
        ];
        let inodes = |keeps| {
            let wanted = wanted(&all, keeps, |_, _| 100);
            wanted.iter().map(|one| (one.pid, one.fd, one.file.1)).collect::<Vec<_>>()
        };
        assert_eq!(inodes(false), [(10, 5, 7), (30, 7, 9)]);
        assert_eq!(inodes(true), [(10, 3, 5), (10, 5, 7), (30, 7, 9)]);
    }
}
