//! inotify(7): what is watched, under the same numbers. The kernel tells device and inode number of it; by which path the
//! program has named it is noted when it does. An instance with events that have not been read is refused by name: nobody can
//! put them back.

use crate::{no_object, nothing_to_refill, Noun};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use zap_plugin::sys::path::CPath;
use zap_plugin::sys::text::hex;
use zap_plugin::sys::{fd, libc, RawFd};
use zap_plugin::{decode, encode, Description, Refusal, RestoreContext, SaveContext};

pub(crate) const NOUN: Noun = Noun { claims, object: no_object, save, restore, refill: nothing_to_refill };

const SECTION: &str = "fs.inotifies";
const VERSION: u32 = 1;

/// A new instance counts its watches from 1; one with a number far above is reached by as many watches in between.
const HIGHEST: i32 = 1 << 20;

/// Watches between two looks at the events of their ends: fewer than the queue holds.
const BETWEEN: i32 = 1024;

#[derive(Serialize, Deserialize)]
struct State {
    id: u32,
    nonblocking: bool,
    /// By number.
    watches: Vec<Watch>,
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

fn save(own: &[&Description], context: &mut SaveContext<'_>) -> Result<(), Refusal> {
    let mut states = Vec::new();
    for description in own {
        let refusal = |why: String| Refusal::new(description.name(), why);
        let unread = fd::bytes_readable(description.fd()).map_err(|error| Refusal::new(description.name(), error))?;
        if unread != 0 {
            return Err(refusal("has events that the program has not read yet; repeat the checkpoint".into()));
        }
        let lines = description.info.split(|byte| *byte == b'\n');
        let mut watches = lines
            .filter_map(|line| line.strip_prefix(b"inotify "))
            .map(|line| watch(line, context).map_err(refusal))
            .collect::<Result<Vec<Watch>, Refusal>>()?;
        watches.sort_unstable_by_key(|watch| watch.number);
        let nonblocking = description.status_flags() & libc::O_NONBLOCK != 0;
        states.push(State { id: description.id, nonblocking, watches });
    }
    context.section(SECTION, VERSION, encode(&states)?);
    Ok(())
}

/// A watch as fdinfo tells of it (`inotify_fdinfo`, fs/notify/fdinfo.c): `wd:1 ino:2f sdev:800001 mask:2 ignored_mask:0 …`.
fn watch(line: &[u8], context: &SaveContext<'_>) -> Result<Watch, String> {
    let value = |name: &[u8]| {
        let mut words = line.split(|byte| *byte == b' ');
        words.find_map(|word| word.strip_prefix(name)).map(|text| hex(text).0)
    };
    let told = (|| Some((value(b"wd:")? as i32, value(b"ino:")?, value(b"sdev:")?, value(b"mask:")? as u32)))();
    let (number, inode, device, mask) = told.ok_or("the kernel does not tell what it watches")?;
    if number > HIGHEST {
        return Err(format!("has a watch whose number, {number}, is higher than {HIGHEST}"));
    }
    // The kernel's own form of a device number: twenty bits for the minor one.
    let device = libc::makedev((device >> 20) as u32, (device & 0xf_ffff) as u32);
    let found = context.watched(inode, device);
    let found = found.ok_or_else(|| {
        format!("what it watches as number {number} (inode {inode}) has been moved or removed since, or was not named by libc")
    })?;
    Ok(Watch { number, mask, path: found.path, follow: found.follow })
}

fn restore(context: &mut RestoreContext<'_>) -> Result<(), Refusal> {
    let Some(bytes) = context.section(SECTION, VERSION)? else { return Ok(()) };
    let states: Vec<State> = decode(bytes)?;
    for state in states {
        let refusal = |error| Refusal::new("inotify", error);
        // Its events are looked at until it is whole.
        let own = fd::inotify(libc::IN_CLOEXEC | libc::IN_NONBLOCK).map_err(refusal)?;
        let mut last = 0;
        for watch in &state.watches {
            set(own, watch, &mut last)?;
        }
        if state.watches.iter().zip(1..).any(|(watch, number)| watch.number != number) {
            forget_events(own);
        }
        if !state.nonblocking {
            let flags = fd::fcntl(own, libc::F_GETFL, 0).map_err(refusal)?;
            fd::fcntl(own, libc::F_SETFL, flags & !(libc::O_NONBLOCK as usize)).map_err(refusal)?;
        }
        context.install(state.id, own)?;
    }
    Ok(())
}

/// Watches again, under the same number: numbers are given in turn, and those in between are taken and left.
fn set(own: RawFd, watch: &Watch, last: &mut i32) -> Result<(), Refusal> {
    let name = || format!("{}, which is watched (inotify)", String::from_utf8_lossy(&watch.path));
    let path = CPath::new(&watch.path).ok_or_else(|| Refusal::new(name(), "name too long"))?;
    let mask = if watch.follow { watch.mask } else { watch.mask | libc::IN_DONT_FOLLOW };
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

/// Takes what has come while watches were set: their ends (IN_IGNORED), and what nobody has waited for yet.
fn forget_events(own: RawFd) {
    let mut buffer = [0u8; 4096];
    while fd::read(own, &mut buffer).is_ok_and(|length| length != 0) {}
}
