//! Whole directories: listed, copied, saved into one file beside the images (`zap_image::tree`), and made from it again.
//!
//! # Safety
//! System calls with C strings and buffers that live until they return.
#![allow(unsafe_code)]

use crate::{copy, hash, modified_ns};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{symlink, DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zap_image::checksum;
use zap_image::header::bytes::Bytes;
use zap_image::tree::{Entry, Head, Tree, HEAD_SIZE};

/// Names of extended attributes that belong to a file wherever it is: the others are the system's.
const OWN_ATTRIBUTES: [&[u8]; 2] = [b"user.", b"system.posix_acl_"];

/// Longest path that is given to the kernel, which takes 4,096 bytes with the NUL: names in a deep tree have longer ones.
const LONGEST: usize = 2048;

/// How deep directories may lie in each other: each takes a part of the stack.
const DEEPEST: usize = 4000;

/// A path that leads to where `path` does and is short enough, and what it needs to be open for that.
fn short(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    let mut path = path.to_path_buf();
    let mut held = None;
    while path.as_os_str().len() > LONGEST {
        let bytes = path.as_os_str().as_bytes();
        let end = bytes[..LONGEST].iter().rposition(|c| *c == b'/').filter(|end| *end > 0);
        let end = end.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
        let rest = OsStr::from_bytes(&bytes[end + 1..]).to_os_string();
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let directory =
            OpenOptions::new().read(true).custom_flags(flags).open(Path::new(OsStr::from_bytes(&bytes[..end])))?;
        path = Path::new(&format!("/proc/self/fd/{}", directory.as_raw_fd())).join(rest);
        held = Some(directory);
    }
    Ok((path, held))
}

/// What lies in a directory.
#[derive(Debug, Default)]
pub struct Listing {
    /// With the path of each.
    pub found: Vec<(Entry, PathBuf)>,
    /// What may not be read.
    pub barred: Vec<(PathBuf, io::Error)>,
}

/// Lists `root`, which gets the path `name`, and all that is in it, in the order of names, but for what `is_left_out`.
pub fn list(root: &Path, name: &[u8], is_left_out: impl Fn(&Metadata) -> bool) -> io::Result<Listing> {
    let mut listing = Listing::default();
    let mut links = BTreeMap::new();
    add(root.to_path_buf(), name.to_vec(), &is_left_out, &mut links, &mut listing)?;
    Ok(listing)
}

fn add(
    path: PathBuf,
    name: Vec<u8>,
    is_left_out: &impl Fn(&Metadata) -> bool,
    links: &mut BTreeMap<(u64, u64), u32>,
    listing: &mut Listing,
) -> io::Result<()> {
    // Of a directory that others use what is in it may go meanwhile.
    let has_gone = |error: &io::Error| error.kind() == ErrorKind::NotFound && !listing.found.is_empty();
    if name.iter().filter(|c| **c == b'/').count() > DEEPEST {
        return Err(io::Error::other(format!("directories in each other more than {DEEPEST} deep")));
    }
    let (short_path, _held) = match short(&path) {
        Err(error) if has_gone(&error) => return Ok(()),
        found => found?,
    };
    let metadata = match fs::symlink_metadata(&short_path) {
        Err(error) if has_gone(&error) => return Ok(()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied && !listing.found.is_empty() => {
            // It may be listed, and not entered.
            let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
            if listing.barred.last().is_none_or(|(last, _)| *last != parent) {
                listing.barred.push((parent, error));
            }
            return Ok(());
        }
        metadata => metadata?,
    };
    if is_left_out(&metadata) {
        return Ok(());
    }
    let identity = (metadata.dev(), metadata.ino());
    let mut entry = match describe(&short_path, name, &metadata) {
        Err(error) if has_gone(&error) => return Ok(()),
        entry => entry?,
    };
    if !metadata.is_dir() && metadata.nlink() > 1 {
        entry.same_as = links.get(&identity).copied();
        links.entry(identity).or_insert(listing.found.len() as u32);
    }
    let name = entry.path.0.clone();
    listing.found.push((entry, path.clone()));
    if !metadata.is_dir() {
        return Ok(());
    }
    let names = fs::read_dir(&short_path).and_then(|names| names.map(|name| Ok(name?.file_name())).collect());
    let mut names: Vec<_> = match names {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            listing.barred.push((path, error));
            return Ok(());
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        names => names.map_err(|error| named(&path, &error))?,
    };
    names.sort_unstable();
    for one in names {
        let below = [&name[..], b"/", one.as_bytes()].concat();
        add(path.join(one), below, is_left_out, links, listing)?;
    }
    Ok(())
}

fn describe(path: &Path, name: Vec<u8>, metadata: &Metadata) -> io::Result<Entry> {
    let target = match metadata.file_type().is_symlink() {
        true => fs::read_link(path).map_err(|error| named(path, &error))?.into_os_string().into_vec(),
        false => Vec::new(),
    };
    Ok(Entry {
        path: Bytes(name),
        mode: metadata.mode(),
        user: metadata.uid(),
        group: metadata.gid(),
        modified_ns: modified_ns(metadata),
        size: if metadata.is_file() { metadata.len() } else { 0 },
        target: Bytes(target),
        device: metadata.rdev(),
        attributes: attributes(path),
        known: (metadata.dev(), metadata.ino()),
        ..Entry::default()
    })
}

/// The error, with the path that it is of.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn c_string(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// The file's own extended attributes; none where the file system has none.
fn attributes(path: &Path) -> Vec<(Bytes, Bytes)> {
    let Ok(path) = c_string(path) else { return Vec::new() };
    let whole = |read: &dyn Fn(*mut u8, usize) -> isize| {
        let length = read(std::ptr::null_mut(), 0);
        let mut bytes = vec![0u8; usize::try_from(length).ok().filter(|length| *length > 0)?];
        let length = usize::try_from(read(bytes.as_mut_ptr(), bytes.len())).ok()?;
        bytes.truncate(length);
        Some(bytes)
    };
    // SAFETY: the path ends with a NUL; the kernel writes no more than the buffer holds.
    let names = whole(&|buffer, room| unsafe { libc::llistxattr(path.as_ptr(), buffer.cast(), room) });
    let names = names.unwrap_or_default();
    let is_own = |name: &&[u8]| OWN_ATTRIBUTES.iter().any(|own| name.starts_with(own));
    let value = |name: &[u8]| {
        let c_name = CString::new(name).ok()?;
        // SAFETY: as above.
        let get =
            |buffer: *mut u8, room| unsafe { libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), buffer.cast(), room) };
        Some((Bytes(name.to_vec()), Bytes(whole(&get).unwrap_or_default())))
    };
    names.split(|c| *c == 0).filter(is_own).filter_map(value).collect()
}

/// Opens a regular file of one's own for reading, also if its mode forbids that; its times stay.
fn open_own(path: &Path) -> io::Result<File> {
    let (path, _held) = short(path)?;
    let options = |flags| {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | flags);
        options
    };
    match options(libc::O_NOATIME).open(&path) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => options(0).open(&path),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let mode = fs::symlink_metadata(&path)?.permissions();
            fs::set_permissions(&path, Permissions::from_mode(mode.mode() & 0o7777 | 0o400))?;
            let opened = options(libc::O_NOATIME).open(&path);
            fs::set_permissions(&path, mode)?;
            opened
        }
        opened => opened,
    }
}

/// Opens a regular file of the host's, without changing anything of it. Others may write into the directories on the way: no link is
/// followed (openat2(2), Linux 5.6), and it must be a regular file still.
fn open_hosts(path: &Path) -> io::Result<File> {
    let c_path = c_string(path)?;
    // SAFETY: all zeroes are a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_SYMLINKS;
    // SAFETY: a C string and a struct that live until the call returns.
    let number = unsafe {
        libc::syscall(libc::SYS_openat2, libc::AT_FDCWD, c_path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else knows.
    let file = unsafe { File::from_raw_fd(number as i32) };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(ErrorKind::NotFound.into()),
    }
}

/// A directory of one's own with what its own mode hides from its owner.
fn list_own(root: &Path, name: &[u8]) -> io::Result<Listing> {
    let listing = list(root, name, |_| false)?;
    if listing.barred.is_empty() {
        return Ok(listing);
    }
    let mode = |(path, _): &(PathBuf, io::Error)| {
        let (short_path, _held) = short(path)?;
        Ok((path.clone(), fs::symlink_metadata(short_path)?.permissions()))
    };
    let modes = listing.barred.iter().map(mode).collect::<io::Result<Vec<_>>>()?;
    let set = |path: &Path, mode: Permissions| {
        let (path, _held) = short(path)?;
        fs::set_permissions(path, mode)
    };
    for (path, mode) in &modes {
        set(path, Permissions::from_mode(mode.mode() & 0o7777 | 0o700))?;
    }
    // What lies in them may be barred too.
    let listed = list_own(root, name);
    for (path, mode) in &modes {
        set(path, mode.clone())?;
    }
    let mut listing = listed?;
    for (entry, path) in &mut listing.found {
        if let Some((_, mode)) = modes.iter().find(|(barred, _)| barred == path) {
            entry.mode = mode.mode();
        }
    }
    Ok(listing)
}

/// Copies what has been listed to below `store`, by the paths of the entries. What may not be read is left out, and told.
pub fn duplicate(listing: Listing, store: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let Listing { found, mut barred } = listing;
    let entries: Vec<Entry> = found.iter().map(|(entry, _)| entry.clone()).collect();
    let mut maker = Maker::new(store, &entries);
    for (number, (_, path)) in found.into_iter().enumerate() {
        let fill = |target: &File, size: u64| {
            let source = open_hosts(&path)?;
            copy((&source, 0), (target, 0), size, || true)?;
            target.set_len(source.metadata()?.len().min(size))
        };
        let is_hosts = |error: &io::Error| {
            // A link on the way: somebody has put it there meanwhile.
            let is_link = error.raw_os_error() == Some(libc::ELOOP);
            is_link || matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::NotFound)
        };
        match maker.make(number, fill) {
            Err(error) if is_hosts(&error) => {
                maker.leave_out(number);
                barred.push((path, error));
            }
            made => made.map_err(|error| named(&path, &error))?,
        }
    }
    maker.finish()?;
    Ok(barred)
}

/// Copies the directories `0`, `1` … of `store`, `count` in all, into the empty file `target`, behind the place of its head.
/// Returns what [`finish`] needs. A file that is `opened` already, by its device and inode, is not opened anew: that could break a
/// lease (fcntl(2), F_SETLEASE). `known` is by which device and inode the pod's programs know the one that has these.
pub fn take(
    store: &Path,
    count: usize,
    target: &File,
    (pod_id, generation): (u64, u32),
    opened: impl Fn((u64, u64)) -> io::Result<Option<File>>,
    known: impl Fn((u64, u64)) -> (u64, u64),
    may_go_on: impl Fn() -> bool,
) -> io::Result<Tree> {
    let mut entries = Vec::new();
    let mut place = HEAD_SIZE as u64;
    for number in 0..count {
        let name = number.to_string();
        let first = entries.len() as u32;
        for (mut entry, path) in list_own(&store.join(&name), name.as_bytes())?.found {
            entry.same_as = entry.same_as.map(|other| first + other);
            entry.known = known(entry.known);
            if kind(&entry) == libc::S_IFREG && entry.same_as.is_none() {
                entry.place = place;
                let (short_path, _held) = short(&path)?;
                let metadata = fs::symlink_metadata(&short_path).map_err(|error| named(&path, &error))?;
                let source = opened((metadata.dev(), metadata.ino()));
                let source = source.and_then(|source| source.map_or_else(|| open_own(&path), Ok));
                let source = source.map_err(|error| named(&path, &error))?;
                copy((&source, 0), (target, place), entry.size, &may_go_on).map_err(|error| named(&path, &error))?;
                place += entry.size.next_multiple_of(HEAD_SIZE as u64);
            }
            if !may_go_on() {
                return Err(ErrorKind::Interrupted.into());
            }
            entries.push(entry);
        }
    }
    entries.extend(links(store)?);
    target.set_len(place)?;
    Ok(Tree { pod_id, generation, entries })
}

/// Links beside the directories, by which Unix sockets have names that are short enough.
fn links(store: &Path) -> io::Result<Vec<Entry>> {
    let mut links = Vec::new();
    for one in fs::read_dir(store)? {
        let (name, path) = one.map(|one| (one.file_name(), one.path()))?;
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_symlink() {
            links.push(describe(&path, name.into_vec(), &metadata)?);
        }
    }
    Ok(links)
}

/// Reads what [`take`] has copied, and writes list and head.
pub fn finish(target: &File, mut tree: Tree) -> io::Result<()> {
    for entry in tree.entries.iter_mut().filter(|entry| has_contents(entry)) {
        entry.checksum = Bytes(hash(target, entry.place, entry.size)?.to_vec());
    }
    let bytes = tree.encode().map_err(|error| io::Error::other(error.to_string()))?;
    let place = target.metadata()?.len();
    target.write_all_at(&bytes, place)?;
    let head = Head { place, length: bytes.len() as u64, checksum: checksum(&bytes) };
    target.write_all_at(&head.encode(), 0)
}

fn kind(entry: &Entry) -> u32 {
    entry.mode & libc::S_IFMT
}

fn has_contents(entry: &Entry) -> bool {
    kind(entry) == libc::S_IFREG && entry.same_as.is_none()
}

/// Device and inode of a file, and those by which the pod's programs know it.
pub type Numbers = ((u64, u64), (u64, u64));

/// A saved tree that is open.
#[derive(Debug)]
pub struct SavedTree {
    pub file: File,
    pub tree: Tree,
}

impl SavedTree {
    /// Reads head and list of `file`.
    pub fn open(file: File) -> io::Result<Self> {
        let damaged = |error: zap_image::FormatError| io::Error::new(ErrorKind::InvalidData, error.to_string());
        let length = file.metadata()?.len();
        let mut bytes = vec![0; HEAD_SIZE.min(length as usize)];
        file.read_exact_at(&mut bytes, 0)?;
        let head = Head::decode(&bytes, length).map_err(damaged)?;
        let mut bytes = vec![0; head.length as usize];
        file.read_exact_at(&mut bytes, head.place)?;
        let tree = Tree::decode(&bytes, &head).map_err(damaged)?;
        Ok(Self { file, tree })
    }

    /// Whether all contents are what they were.
    pub fn is_whole(&self) -> io::Result<bool> {
        for entry in self.tree.entries.iter().filter(|entry| has_contents(entry)) {
            if hash(&self.file, entry.place, entry.size)?[..] != entry.checksum.0[..] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Makes all of it anew below the empty directory `store`. Returns device and inode that each has now, and those by which the
    /// pod's programs know it.
    pub fn restore(&self, store: &Path) -> io::Result<Vec<Numbers>> {
        let entries = &self.tree.entries;
        let maker = Maker::new(store, entries);
        for (number, entry) in entries.iter().enumerate() {
            let fill = |target: &File, size: u64| {
                // Whole blocks can be shared; what is behind the contents is a hole.
                let length = size.next_multiple_of(HEAD_SIZE as u64);
                copy((&self.file, entry.place), (target, 0), length, || true)?;
                target.set_len(size)
            };
            let path = Path::new(OsStr::from_bytes(&entry.path.0));
            maker.make(number, fill).map_err(|error| named(path, &error))?;
        }
        maker.finish()
    }
}

/// Makes names in a store, by their entries.
struct Maker<'a> {
    store: &'a Path,
    entries: &'a [Entry],
    left_out: Vec<bool>,
}

impl<'a> Maker<'a> {
    fn new(store: &'a Path, entries: &'a [Entry]) -> Self {
        Self { store, entries, left_out: vec![false; entries.len()] }
    }

    fn path(&self, number: usize) -> io::Result<(PathBuf, Option<File>)> {
        short(&self.store.join(OsStr::from_bytes(&self.entries[number].path.0)))
    }

    fn leave_out(&mut self, number: usize) {
        self.left_out[number] = true;
        if let Ok((path, _held)) = self.path(number) {
            let _ = fs::remove_file(path);
        }
    }

    /// Makes one; `fill` puts the contents into a regular file of so many bytes.
    fn make(&self, number: usize, fill: impl FnOnce(&File, u64) -> io::Result<()>) -> io::Result<()> {
        let (entry, (path, _held)) = (&self.entries[number], self.path(number)?);
        if let Some(other) = entry.same_as {
            let (other, _held) = self.path(other as usize)?;
            return fs::hard_link(other, path);
        }
        match kind(entry) {
            // Its own mode may keep out who fills it.
            libc::S_IFDIR => DirBuilder::new().mode(0o700).create(&path),
            libc::S_IFREG => {
                let mut options = OpenOptions::new();
                let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
                fill(&file, entry.size)
            }
            libc::S_IFLNK => symlink(OsStr::from_bytes(&entry.target.0), &path),
            _ => {
                let c_path = c_string(&path)?;
                // SAFETY: the path ends with a NUL.
                match unsafe { libc::mknod(c_path.as_ptr(), kind(entry) | 0o600, entry.device) } {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            }
        }?;
        self.own(entry, &path)
    }

    /// Gives it its owner, as far as that is allowed, and all but its mode and time.
    fn own(&self, entry: &Entry, path: &Path) -> io::Result<()> {
        let c_path = c_string(path)?;
        // SAFETY: the path ends with a NUL.
        let _ = unsafe { libc::lchown(c_path.as_ptr(), entry.user, entry.group) };
        for (name, value) in &entry.attributes {
            let Ok(name) = CString::new(name.0.as_slice()) else { continue };
            set_attribute(&c_path, &name, &value.0);
        }
        Ok(())
    }

    /// Gives everything its mode and time: those of directories last, from below. Returns the numbers of all.
    fn finish(self) -> io::Result<Vec<Numbers>> {
        let mut numbers = Vec::new();
        for (number, entry) in self.entries.iter().enumerate().rev().filter(|(number, _)| !self.left_out[*number]) {
            if entry.same_as.is_some() {
                continue;
            }
            let (path, _held) = self.path(number)?;
            let made = fs::symlink_metadata(&path).map_err(|error| named(&path, &error))?;
            if kind(entry) != libc::S_IFLNK {
                // A program would run as whoever made the copy.
                let is_owned = (made.uid(), made.gid()) == (entry.user, entry.group);
                let mask = if is_owned { 0o7777 } else { 0o1777 };
                fs::set_permissions(&path, Permissions::from_mode(entry.mode & mask)).map_err(|e| named(&path, &e))?;
            }
            set_time(&path, entry.modified_ns).map_err(|error| named(&path, &error))?;
            if entry.known != (0, 0) {
                numbers.push(((made.dev(), made.ino()), entry.known));
            }
        }
        Ok(numbers)
    }
}

/// A file system that does not have it goes without.
fn set_attribute(path: &CStr, name: &CStr, value: &[u8]) {
    // SAFETY: both end with a NUL; the value is read.
    let _ = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
}

fn set_time(path: &Path, modified_ns: i64) -> io::Result<()> {
    let path = c_string(path)?;
    let time = libc::timespec {
        tv_sec: modified_ns.div_euclid(1_000_000_000),
        tv_nsec: modified_ns.rem_euclid(1_000_000_000),
    };
    let times = [time, time];
    // SAFETY: the path ends with a NUL, and both times are read.
    match unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Removes a directory and all that is in it, also what its own mode keeps its owner out of.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => open_up(path)?,
        removed => return removed,
    }
    fs::remove_dir_all(path)
}

/// Lets the owner into every directory.
fn open_up(path: &Path) -> io::Result<()> {
    let (short_path, _held) = short(path)?;
    fs::set_permissions(&short_path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(&short_path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&path.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("zap-tree-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn build(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), b"contents").unwrap();
        fs::hard_link(root.join("a/b/file"), root.join("a/z")).unwrap();
        symlink("/nowhere", root.join("a/link")).unwrap();
        fs::write(root.join("empty"), b"").unwrap();
        let large = File::create(root.join("large")).unwrap();
        large.write_all_at(b"end", 10 << 20).unwrap();
        let fifo = c_string(&root.join("fifo")).unwrap();
        // SAFETY: ends with a NUL.
        assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o640) }, 0);
        fs::write(root.join("a/barred"), b"barred").unwrap();
        fs::set_permissions(root.join("a/barred"), Permissions::from_mode(0o0)).unwrap();
        fs::create_dir(root.join("closed")).unwrap();
        fs::write(root.join("closed/in"), b"in").unwrap();
        fs::set_permissions(root.join("closed"), Permissions::from_mode(0o0)).unwrap();
        fs::create_dir(root.join("listed")).unwrap();
        fs::write(root.join("listed/in"), b"in").unwrap();
        fs::set_permissions(root.join("listed"), Permissions::from_mode(0o600)).unwrap();
        set_time(&root.join("a"), 1_234_567_890_123_456_789).unwrap();
    }

    fn check(root: &Path) {
        assert_eq!(fs::read(root.join("a/b/file")).unwrap(), b"contents");
        let inode = |name: &str| fs::metadata(root.join(name)).unwrap().ino();
        assert_eq!(inode("a/b/file"), inode("a/z"));
        assert_eq!(fs::read_link(root.join("a/link")).unwrap(), Path::new("/nowhere"));
        assert_eq!(fs::metadata(root.join("large")).unwrap().len(), (10 << 20) + 3);
        assert!(fs::metadata(root.join("large")).unwrap().blocks() < 1000, "holes are holes");
        assert!(fs::metadata(root.join("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(fs::metadata(root.join("fifo")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(root.join("closed")).unwrap().mode() & 0o7777, 0);
        assert_eq!(modified_ns(&fs::metadata(root.join("a")).unwrap()), 1_234_567_890_123_456_789);
        fs::set_permissions(root.join("closed"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(fs::read(root.join("closed/in")).unwrap(), b"in");
        assert_eq!(fs::metadata(root.join("listed")).unwrap().mode() & 0o7777, 0o600);
        fs::set_permissions(root.join("listed"), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(fs::read(root.join("listed/in")).unwrap(), b"in");
        assert_eq!(fs::metadata(root.join("a/barred")).unwrap().mode() & 0o7777, 0);
        fs::set_permissions(root.join("a/barred"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(fs::read(root.join("a/barred")).unwrap(), b"barred");
        let mut names: Vec<_> = fs::read_dir(root.join("a")).unwrap().map(|name| name.unwrap().file_name()).collect();
        names.sort_unstable();
        assert_eq!(names, ["b", "barred", "link", "z"]);
    }

    #[test]
    fn a_tree_is_saved_and_restored() {
        let all = scratch("saved");
        let (store, again) = (all.join("store"), all.join("again"));
        [&store, &again].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        for root in [&store.join("0"), &store.join("1")] {
            fs::create_dir(root).unwrap();
            build(root);
        }
        let options = OpenOptions::new().read(true).write(true).create_new(true).open(all.join("saved")).unwrap();
        let tree =
            take(&store, 2, &options, (7, 3), |_| Ok(None), |(device, inode)| (device + 1, inode), || true).unwrap();
        finish(&options, tree).unwrap();
        let saved = SavedTree::open(File::open(all.join("saved")).unwrap()).unwrap();
        assert!(saved.is_whole().unwrap());
        assert_eq!((saved.tree.pod_id, saved.tree.generation), (7, 3));
        saved.restore(&again).unwrap();
        check(&again.join("0"));
        check(&again.join("1"));
        let large = saved.tree.entries.iter().find(|entry| entry.path.0 == b"0/large").unwrap();
        options.write_all_at(b"END", large.place + (10 << 20)).unwrap();
        assert!(!saved.is_whole().unwrap());
        assert!(take(&store, 2, &options, (7, 3), |_| Ok(None), |file| file, || false).is_err());
        crate::tree::remove(&all).unwrap();
    }

    #[test]
    fn a_tree_is_duplicated() {
        let all = scratch("duplicated");
        let (host, store) = (all.join("host"), all.join("store"));
        [&host, &store, &host.join("left")].into_iter().for_each(|path| fs::create_dir(path).unwrap());
        build(&host);
        fs::write(host.join("left/out"), b"").unwrap();
        fs::set_permissions(host.join("closed"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(host.join("listed"), Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(host.join("a/barred"), Permissions::from_mode(0o600)).unwrap();
        let left = fs::metadata(host.join("left")).map(|left| (left.dev(), left.ino())).unwrap();
        let listing = list(&host, b"0", |one| (one.dev(), one.ino()) == left).unwrap();
        assert!(duplicate(listing, &store).unwrap().is_empty());
        for (path, mode) in [("closed", 0), ("listed", 0o600), ("a/barred", 0)] {
            fs::set_permissions(store.join("0").join(path), Permissions::from_mode(mode)).unwrap();
        }
        check(&store.join("0"));
        assert!(!store.join("0/left").exists());
        remove(&all).unwrap();
    }
}
