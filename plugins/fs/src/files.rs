//! Regular files and directories, by path: offset, flags, sharing by dup; the locks that belong to a description.
//!
//! A file that has no name any more (a temporary file, as databases make them) is saved with its contents, and made
//! again without a name. Of one that is mapped shared too, the engine saves what is mapped, and makes the file. A file
//! that still has a name, but not the one it was opened by, is refused at the checkpoint.

use crate::Noun;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::text::decimal;
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, read_all, Description, Keep, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, keeps, object, save, restore, refill };

const SECTION: &str = "fs.files";
const VERSION: u32 = 7;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// One of its numbers.
    fd: RawFd,
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    /// Access mode and status flags of F_GETFL.
    flags: i32,
    position: u64,
    is_directory: bool,
    /// Bytes in the file; 0 where that says nothing.
    size: u64,
    locks: Vec<Lock>,
    /// What a file without a name holds; `None` for a file with one.
    nameless: Option<Nameless>,
}

/// A file that has no name any more.
#[derive(Serialize, Deserialize)]
struct Nameless {
    /// Tells descriptions of one file from those of another.
    device: u64,
    inode: u64,
    /// The file's name in the pod, 0 when no other process has it; and whether it is made here.
    object: u64,
    leads: bool,
    mode: u32,
    /// Of a memfd (F_GET_SEALS, fcntl(2)).
    seals: u32,
    /// It is mapped too, up to this offset; `contents` begin there.
    mapped: Option<u64>,
    contents: Contents,
}

#[derive(Serialize, Deserialize)]
enum Contents {
    /// Of all descriptions of a file but the first.
    Elsewhere,
    Here(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The file is kept beside the images.
    Kept,
}

impl Nameless {
    fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

fn file_of(description: &Description) -> (u64, u64) {
    (description.stat.st_dev, description.stat.st_ino)
}

/// Part of the object.
const FILE: u32 = 0;

/// Most bytes of a nameless file that are saved with the program's state. Of more the file is kept beside the image.
const LARGEST_NAMELESS: u64 = 64 << 20;

/// How the kernel marks a path that leads nowhere.
const DELETED: &[u8] = b" (deleted)";

/// A lock as /proc/thread-self/fdinfo shows it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Lock {
    kind: LockKind,
    exclusive: bool,
    start: i64,
    /// 0 for up to the end of the file, however long it becomes.
    length: i64,
}

/// Who owns a lock: the process (fcntl), or the open file description.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum LockKind {
    Process,
    Description,
    Flock,
    /// F_SETLEASE of fcntl(2): the description's.
    Lease,
}

impl Lock {
    /// Whether the process owns it, and not the description.
    pub(crate) fn is_process_s(&self) -> bool {
        self.kind == LockKind::Process
    }

    /// As fcntl(2) wants it.
    pub(crate) fn request(&self) -> libc::flock {
        libc::flock {
            l_type: if self.exclusive { libc::F_WRLCK } else { libc::F_RDLCK } as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: self.start,
            l_len: self.length,
            l_pid: 0,
        }
    }
}

/// A file without a name is one for all that have it open, however they came to it; one with a name is found by that.
fn object(description: &Description) -> Option<(u64, u64)> {
    is_nameless(description).then(|| file_of(description))
}

fn is_nameless(description: &Description) -> bool {
    description.stat.st_nlink == 0 && description.link.ends_with(DELETED)
}

pub(crate) fn claims(description: &Description) -> bool {
    description.stream.is_none()
        && matches!(description.file_type(), libc::S_IFREG | libc::S_IFDIR)
        && description.link.starts_with(b"/")
}

/// A file without a name, if it is large, and one that is being written, if the user wants that.
pub(crate) fn keeps(description: &Description) -> Keep {
    let flags = description.status_flags();
    let writes = flags & libc::O_PATH == 0 && flags & libc::O_ACCMODE != libc::O_RDONLY;
    // Who opens it, to copy it, would break a lease (F_SETLEASE).
    let is_leased = || description.info.windows(5).any(|word| word == b"LEASE");
    match description.file_type() {
        libc::S_IFREG if is_nameless(description) => Keep::Above(LARGEST_NAMELESS),
        libc::S_IFREG if writes && !is_leased() => Keep::IfWanted,
        _ => Keep::No,
    }
}

/// Flags that open(2) takes and that are to be had again; those that make or cut a file are not.
const KEPT: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_SYNC
    | libc::O_DSYNC
    | libc::O_NOATIME
    | libc::O_DIRECTORY
    | libc::O_PATH;

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states: Vec<State> = Vec::new();
    for description in own {
        let locks = locks(description)?;
        if locks.iter().any(|lock| lock.kind == LockKind::Lease) {
            refuse_lease(description)?;
        }
        let (path, nameless) = if is_nameless(description) {
            let first = !states
                .iter()
                .any(|state| state.nameless.as_ref().is_some_and(|other| other.file() == file_of(description)));
            let path = description.link[..description.link.len() - DELETED.len()].to_vec();
            (path, Some(save_nameless(description, first)?))
        } else {
            let path = named_path(description)?;
            if description.file_type() == libc::S_IFREG {
                context.file(description, &path);
            }
            (path, None)
        };
        states.push(State {
            id: description.id,
            fd: description.fd(),
            path,
            flags: kept_flags(description),
            position: description.position(),
            is_directory: description.file_type() == libc::S_IFDIR,
            size: size(description),
            locks: locks.into_iter().filter(|lock| !lock.is_process_s()).collect(),
            nameless,
        });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// Refuses a lease on a file that is opened besides: it would be broken by that, or not be had again.
fn refuse_lease(description: &Description) -> Result<(), Refusal> {
    let refusal = |reason| Err(Refusal::new(description.name(), reason));
    if is_nameless(description) {
        return refusal("has a lease (F_SETLEASE), and its name has been removed");
    }
    let maps = read_all(c"/proc/thread-self/maps")?;
    let is_mapped = zap_plugin::sys::maps::parse(&maps)
        .any(|mapping| mapping.inode == description.stat.st_ino && mapping.name == description.link);
    if is_mapped {
        return refusal("has a lease (F_SETLEASE), and is mapped too");
    }
    Ok(())
}

/// The flags with which the file is opened again. One opened with O_TMPFILE shows O_DIRECTORY, which is a part of it.
fn kept_flags(description: &Description) -> i32 {
    let flags = description.status_flags() & KEPT;
    if description.file_type() == libc::S_IFDIR {
        flags
    } else {
        flags & !libc::O_DIRECTORY
    }
}

/// The length that the file must have again, at least: what was read or written up to there is what the program knows.
fn size(description: &Description) -> u64 {
    if description.file_type() == libc::S_IFREG {
        description.stat.st_size.max(0) as u64
    } else {
        0
    }
}

/// The path by which the file is opened again.
pub(crate) fn named_path(description: &Description) -> Result<Vec<u8>, Refusal> {
    // The program's own files in /proc bear its id here, and will be those of another process there.
    let own = zap_plugin::sys::small!("/proc/{}/", zap_plugin::sys::process::getpid());
    let link = match description.link.strip_prefix(own.as_bytes()) {
        Some(rest) => [b"/proc/self/", rest].concat(),
        None => description.link.clone(),
    };
    let path = CPath::new(&link).ok_or_else(|| Refusal::new(description.name(), "path too long"))?;
    let same = fd::stat(path.as_c_str())
        .is_ok_and(|stat| stat.st_ino == description.stat.st_ino && stat.st_dev == description.stat.st_dev);
    if same {
        Ok(link)
    } else {
        Err(Refusal::new(description.name(), "the file has been deleted or replaced"))
    }
}

fn save_nameless(description: &Description, first: bool) -> Result<Nameless, Refusal> {
    let refusal = |error| Refusal::new(description.name(), error);
    let share = description.share;
    let leads = share.object == 0 || share.leads_object;
    let (mut contents, mut seals) = (Contents::Elsewhere, 0);
    let size = description.stat.st_size as u64;
    let mapped = share.mapped.map(|end| end.min(size));
    let from = mapped.unwrap_or(0);
    if first && leads {
        if description.file_type() != libc::S_IFREG || size - from > LARGEST_NAMELESS && !description.kept {
            return Err(Refusal::new(
                description.name(),
                "the file has been deleted and cannot be kept with the image",
            ));
        }
        // By a description of our own: the program's may not be open for reading, and has an offset.
        let path = zap_plugin::sys::small!("/proc/thread-self/fd/{}", description.fd());
        let own = fd::open(path.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC, 0).map_err(refusal)?;
        if fd::file_system(own).is_ok_and(|kind| kind == libc::HUGETLBFS_MAGIC) {
            let _ = fd::close(own);
            return Err(Refusal::new(description.name(), "is a file of huge pages"));
        }
        if description.link.starts_with(fd::MEMFD) {
            seals = fd::seals(own).unwrap_or(0);
        }
        let read = if description.kept { Ok(Contents::Kept) } else { read(own, from, (size - from) as usize) };
        let _ = fd::close(own);
        contents = read.map_err(refusal)?;
    }
    let mode = description.stat.st_mode & 0o7777;
    let (device, inode) = file_of(description);
    Ok(Nameless { device, inode, object: share.object, leads, mode, seals, mapped, contents })
}

fn read(own: RawFd, from: u64, length: usize) -> zap_plugin::sys::Result<Contents> {
    let mut contents = alloc::vec![0; length];
    fd::seek(own, from as i64, libc::SEEK_SET)?;
    let count = fd::read_full(own, &mut contents)?;
    contents.truncate(count);
    Ok(Contents::Here(contents))
}

/// Parses lines such as `lock:\t1: POSIX  ADVISORY  WRITE 1234 fd:00:12345 0 EOF`; of a lease, `LEASE  ACTIVE    READ …`.
pub(crate) fn locks(description: &Description) -> Result<Vec<Lock>, Refusal> {
    let mut locks = Vec::new();
    for line in description.info.split(|c| *c == b'\n').filter_map(|line| line.strip_prefix(b"lock:")) {
        let mut words = line.split(|c| c.is_ascii_whitespace()).filter(|word| !word.is_empty()).skip(1);
        let kind = match words.next() {
            Some(b"POSIX") => LockKind::Process,
            Some(b"OFDLCK") => LockKind::Description,
            Some(b"FLOCK") => LockKind::Flock,
            Some(b"LEASE") => LockKind::Lease,
            _ => return Err(Refusal::new(description.name(), "has a lock of a kind that is not supported")),
        };
        let state = words.next();
        if kind == LockKind::Lease && state != Some(b"ACTIVE") {
            let why = "its lease (F_SETLEASE) is being broken: somebody opens it; repeat the checkpoint";
            return Err(Refusal::new(description.name(), why));
        }
        let exclusive = words.next() == Some(b"WRITE");
        let start = decimal(words.nth(2).unwrap_or_default()).0;
        let length = match words.next() {
            Some(b"EOF") | None => 0,
            Some(end) => decimal(end).0.wrapping_sub(start).wrapping_add(1),
        };
        locks.push(Lock { kind, exclusive, start, length });
    }
    Ok(locks)
}

/// Takes a lock again. Somebody else's in its place refuses the restart.
fn take(own: RawFd, lock: &Lock) -> zap_plugin::sys::Result<()> {
    if lock.kind == LockKind::Flock {
        return fd::flock(own, libc::LOCK_NB | if lock.exclusive { libc::LOCK_EX } else { libc::LOCK_SH });
    }
    if lock.kind == LockKind::Lease {
        let kind = if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
        return fd::fcntl(own, libc::F_SETLEASE, kind as usize).map(|_| ());
    }
    fd::fcntl_lock(own, libc::F_OFD_SETLK, &mut lock.request())
}

/// Takes the locks when every descriptor is at its number.
fn refill(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in &states {
        for lock in &state.locks {
            take(state.fd, lock)
                .map_err(|error| Refusal::new(format!("lock of {}", String::from_utf8_lossy(&state.path)), error))?;
        }
    }
    Ok(())
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    // Nameless files: (device and inode at the checkpoint, descriptor here).
    let mut made: Vec<((u64, u64), RawFd)> = Vec::new();
    // Those that others wait for come first.
    for (state, nameless) in states.iter().filter_map(|state| Some((state, state.nameless.as_ref()?))) {
        if nameless.leads && !made.iter().any(|(file, _)| *file == nameless.file()) {
            let refusal = |error| Refusal::new(format!("file {}", String::from_utf8_lossy(&state.path)), error);
            let file = match nameless.mapped {
                // In the directory where it had a name, or in memory.
                None => fd::make_nameless(&context.path_now(state.path.clone())).map_err(refusal)?,
                Some(_) => {
                    let file = context.memory(nameless.device, nameless.inode)?;
                    // What is mapped may be longer, and was made so. Restorers may have mapped the file already, but no
                    // program runs.
                    fd::truncate(file, state.size).map_err(refusal)?;
                    file
                }
            };
            let from = nameless.mapped.unwrap_or(0);
            match &nameless.contents {
                Contents::Elsewhere => {}
                Contents::Here(contents) => fd::pwrite_all(file, contents, from).map_err(refusal)?,
                Contents::Kept => context.fill(file, nameless.file(), from)?,
            }
            if nameless.object != 0 {
                context.publish(nameless.object, FILE, file)?;
            }
            // While it is mapped by others, and opened below, it must let everybody in.
            context.close_off(file, nameless.mode, nameless.seals)?;
            made.push((nameless.file(), file));
        }
    }
    for state in &states {
        let refusal = |error| Refusal::new(format!("file {}", String::from_utf8_lossy(&state.path)), error);
        let own = match &state.nameless {
            None => {
                let path = context.path_now(state.path.clone());
                refuse_special(&path)?;
                match open(&path, state.flags) {
                    Err(error) if error.is(libc::EACCES) && !state.is_directory => {
                        Ok(context.open_barred(&path, state.flags)?)
                    }
                    opened => opened,
                }
            }
            Some(nameless) => {
                let known = made.iter().find(|(file, _)| *file == nameless.file()).map(|(_, file)| *file);
                let file = match known {
                    Some(file) => file,
                    None => {
                        let file = context.subscribe(nameless.object, FILE)?;
                        made.push((nameless.file(), file));
                        file
                    }
                };
                // Opened anew, for an offset and flags of its own.
                open(zap_plugin::sys::small!("/proc/thread-self/fd/{file}").as_bytes(), state.flags)
            }
        }
        .map_err(refusal)?;
        let stat = fd::fstat(own).map_err(refusal)?;
        if (stat.st_mode & libc::S_IFMT == libc::S_IFDIR) != state.is_directory {
            let path = String::from_utf8_lossy(&state.path);
            let why = match state.is_directory {
                true => "is no longer a directory",
                false => "is no longer a regular file",
            };
            return Err(Refusal::new(format!("file {path}"), why));
        }
        let now = stat.st_size.max(0) as u64;
        if now < state.size && state.nameless.is_none() {
            return Err(Refusal::new(
                format!("file {}", String::from_utf8_lossy(&state.path)),
                format!("is shorter than at the checkpoint: {now} bytes, then {}", state.size),
            ));
        }
        if state.flags & libc::O_PATH == 0 {
            fd::seek(own, state.position as i64, libc::SEEK_SET).map_err(refusal)?;
        }
        context.install(state.id, own)?;
    }
    made.iter().try_for_each(|(_, file)| fd::close(*file)).map_err(|error| Refusal::new("file without a name", error))
}

fn open(path: &[u8], flags: i32) -> zap_plugin::sys::Result<RawFd> {
    let path = CPath::new(path).ok_or(zap_plugin::sys::SysError::new("open", libc::ENAMETOOLONG))?;
    fd::open(path.as_c_str(), flags | libc::O_CLOEXEC, 0)
}

/// What has taken a file's place must not be opened: a FIFO waits for its other end, a device may do anything.
fn refuse_special(path: &[u8]) -> Result<(), Refusal> {
    let Some(own) = CPath::new(path) else { return Ok(()) };
    match fd::stat(own.as_c_str()).map(|stat| stat.st_mode & libc::S_IFMT) {
        Ok(libc::S_IFREG | libc::S_IFDIR) | Err(_) => Ok(()),
        Ok(_) => Err(Refusal::new(
            format!("file {}", String::from_utf8_lossy(path)),
            "is no longer a regular file or directory",
        )),
    }
}
