//! inotify(7): what is watched, under the same numbers. The kernel tells device and inode number of it; by which path the
//! program has named it is noted when it does. Events that have not been read are kept ([`crate::unread`]) where the
//! instance is one process's alone.

use crate::{no_object, unread, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::text::hex;
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Keep, Refusal, RestoreContext, SaveContext, WatchedPath};

pub(crate) const NOUN: Noun = Noun { claims, keeps: note_unread, object: no_object, save, restore, refill };

const SECTION: &str = "fs.inotifies";
const VERSION: u32 = 2;

/// A new instance counts its watches from 1; one with a number far above is reached by as many watches in between.
const HIGHEST: i32 = 1 << 20;

/// Watches between two looks at the events of their ends.
const BETWEEN: i32 = 1024;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    /// One of its numbers.
    fd: RawFd,
    nonblocking: bool,
    /// By number.
    watches: Vec<Watch>,
    /// The number of the first placeholder for what has not been read; 0 for none. What they stand for is in the process's memory.
    unread: i32,
}

#[derive(Serialize, Deserialize)]
struct Watch {
    number: i32,
    mask: u32,
    #[serde(with = "serde_bytes")]
    path: Vec<u8>,
    /// The path may end in a symbolic link, which is not what is watched.
    follow: bool,
}

fn claims(description: &Description) -> bool {
    description.stream.is_none()
        && matches!(description.link.as_slice(), b"anon_inode:inotify" | b"anon_inode:[inotify]")
}

/// What could be read of the first instances in phase Drain: `id << 32 | bytes`.
static BEFORE: [AtomicU64; 64] = [const { AtomicU64::new(u64::MAX) }; 64];

/// Notes how much can be read before the pod's files are: that is told of by events too, which are none of the program's affair.
fn note_unread(description: &Description) -> Keep {
    if let (Some(place), Ok(bytes)) = (BEFORE.get(description.id as usize % 64), fd::bytes_readable(description.fd())) {
        place.store(u64::from(description.id) << 32 | bytes as u64, Ordering::Relaxed);
    }
    Keep::No
}

/// The same when it is asked for: all, where nothing is known or nobody has read any files.
fn unread_before(description: &Description, context: &SaveContext<'_>) -> usize {
    let noted = BEFORE.get(description.id as usize % 64).map_or(u64::MAX, |place| place.load(Ordering::Relaxed));
    match noted >> 32 == u64::from(description.id) && context.files_are_read() {
        true => noted as u32 as usize,
        false => usize::MAX,
    }
}

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    unread::sweep();
    for description in own {
        let refusal = |why: String| Refusal::new(description.name(), why);
        let lines = description.info.split(|byte| *byte == b'\n');
        let mut watches = lines
            .filter_map(|line| line.strip_prefix(b"inotify "))
            .map(|line| watch(line, context).map_err(refusal))
            .collect::<Result<Vec<Watch>, Refusal>>()?;
        watches.sort_unstable_by_key(|watch| watch.number);
        let nonblocking = description.status_flags() & libc::O_NONBLOCK != 0;
        states.push(State { id: description.id, fd: description.fd(), nonblocking, watches, unread: 0 });
    }
    // When nothing else can be refused: what is taken out and put back is the same to the program, but not for nothing.
    for (description, state) in own.iter().zip(&mut states) {
        state.unread = keep(description, context)?;
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// Keeps what has not been read. Only who keeps it knows what the placeholders stand for.
fn keep(description: &Description, context: &SaveContext<'_>) -> Result<i32, Refusal> {
    let refusal =
        |why: String| Refusal::new(description.name(), format!("has events that the program has not read yet: {why}"));
    let unread = fd::bytes_readable(description.fd()).map_err(|error| Refusal::new(description.name(), error))?;
    if unread == 0 {
        return Ok(0);
    }
    if description.share.shared {
        return Err(refusal("another process has the same instance; repeat the checkpoint".into()));
    }
    if context.all.iter().any(|other| other.carried.iter().flatten().any(|id| *id == description.id)) {
        return Err(refusal("the instance is in flight (SCM_RIGHTS); repeat the checkpoint".into()));
    }
    unread::keep(description.fd(), unread_before(description, context)).map_err(refusal)
}

/// A word of a watch as fdinfo tells of it (`inotify_fdinfo`, fs/notify/fdinfo.c):
/// `wd:1 ino:2f sdev:800001 mask:2 ignored_mask:0 …`.
fn value(line: &[u8], name: &[u8]) -> Option<u64> {
    let mut words = line.split(|byte| *byte == b' ');
    words.find_map(|word| word.strip_prefix(name)).map(|text| hex(text).0)
}

/// What a line of fdinfo tells of.
fn watch(line: &[u8], context: &SaveContext<'_>) -> Result<Watch, String> {
    let value = |name: &[u8]| value(line, name);
    let told = (|| Some((value(b"wd:")? as i32, value(b"ino:")?, value(b"sdev:")?, value(b"mask:")? as u32)))();
    let (number, inode, told_device, mask) = told.ok_or("the kernel does not tell what it watches")?;
    if number > HIGHEST {
        return Err(format!("has a watch whose number, {number}, is higher than {HIGHEST}"));
    }
    // The kernel's own form of a device number: twenty bits for the minor one.
    let device = libc::makedev((told_device >> 20) as u32, (told_device & 0xf_ffff) as u32);
    let leads = |path: &WatchedPath| path.is_sure || leads_to(path, inode, told_device) == Some(true);
    let found = context.watched(inode, device).filter(leads);
    let found = found.ok_or_else(|| {
        format!("what it watches as number {number} (inode {inode}) has been moved or removed since, or was not named by libc")
    })?;
    Ok(Watch { number, mask, path: found.path, follow: found.follow })
}

/// Whether a path leads to what the kernel knows by these numbers: asked by a watch of our own.
fn leads_to(path: &WatchedPath, inode: u64, device: u64) -> Option<bool> {
    let name = CPath::new(&path.path)?;
    let own = fd::inotify(libc::IN_CLOEXEC | libc::IN_NONBLOCK).ok()?;
    let mut text = [0u8; 512];
    let same = fd::add_watch(own, name.as_c_str(), mask_of(libc::IN_DELETE_SELF, path.follow)).ok().and_then(|_| {
        let info = zap_plugin::sys::small!("/proc/thread-self/fdinfo/{own}");
        let info = fd::read_file(info.as_c_str(), &mut text).ok()?;
        let line = info.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"inotify "))?;
        Some(value(line, b"ino:") == Some(inode) && value(line, b"sdev:") == Some(device))
    });
    let _ = fd::close(own);
    same
}

fn mask_of(mask: u32, follow: bool) -> u32 {
    mask | if follow { 0 } else { libc::IN_DONT_FOLLOW }
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for mut state in states {
        for watch in &mut state.watches {
            watch.path = context.path_now(core::mem::take(&mut watch.path));
        }
        let refusal = |error| Refusal::new("inotify", error);
        let own =
            fd::inotify(libc::IN_CLOEXEC | if state.nonblocking { libc::IN_NONBLOCK } else { 0 }).map_err(refusal)?;
        let mut last = 0;
        for watch in &state.watches {
            set(own, watch, &mut last)?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}

/// Watches again, under the same number: numbers are given in turn, and those in between are taken and left.
fn set(own: RawFd, watch: &Watch, last: &mut i32) -> Result<(), Refusal> {
    let name = || format!("{}, which is watched (inotify)", String::from_utf8_lossy(&watch.path));
    let path = CPath::new(&watch.path).ok_or_else(|| Refusal::new(name(), "name too long"))?;
    // A watch for nothing is one for the end of the file system, which is always told of.
    let mask = mask_of(watch.mask | libc::IN_UNMOUNT, watch.follow);
    loop {
        let number = fd::add_watch(own, path.as_c_str(), mask).map_err(|error| Refusal::new(name(), error))?;
        if number == watch.number {
            *last = number;
            return Ok(());
        }
        if number <= *last || number > watch.number {
            return Err(Refusal::new(name(), "is the same file as another that is watched, and was not"));
        }
        fd::remove_watch(own, number).map_err(|error| Refusal::new(name(), error))?;
        if number % BETWEEN == 0 {
            forget_events(own);
        }
    }
}

/// What this restart has done to the files is no event for the program; what it had not read is.
fn refill(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in &states {
        forget_events(state.fd);
        if state.unread != 0 {
            unread::queue_again(state.fd, state.unread)
                .map_err(|why| Refusal::new("inotify", format!("events that the program has not read yet: {why}")))?;
        }
    }
    Ok(())
}

/// Takes what has come while watches were set: their ends (IN_IGNORED), and what nobody has waited for yet.
fn forget_events(own: RawFd) {
    let mut buffer = [0u8; 4096];
    while fd::bytes_readable(own).is_ok_and(|count| count != 0) && fd::read(own, &mut buffer).is_ok() {}
}
