//! The descriptor table: found from the kernel at each checkpoint, grouped into open file descriptions, each claimed by
//! exactly one plugin; put back number by number at a restart.

use crate::inodes;
use crate::io_owners::{self, F_GETSIG, F_SETSIG};
use crate::registry;
use crate::state::{self, Owned};
use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::sync::atomic::Ordering::Relaxed;
use zap_image::header::{self, bytes::Bytes, OpenFile, OpenFiles, Opened};
use zap_plugin::context::IN_FLIGHT;
use zap_plugin::{Description, DescriptorNumber, Refusal, SavedSection};
use zap_sys::{credentials, fd, libc, RawFd};
use zap_wire::message::{FileName, Hold, Keep, Note, SaveOrder, Seen, Share};

/// What is saved of a description beside its plugin's state: which numbers refer to it.
struct Numbers {
    id: u32,
    numbers: Vec<DescriptorNumber>,
    /// The description's name in the pod, 0 when no other process has it; and whether it is made again here.
    key: u64,
    leads: bool,
    /// It is in flight to the program.
    carried: bool,
}

/// What is open, from phase Drain until it is saved: nobody can change it meanwhile.
static OPEN: Owned<Vec<Description>> = Owned::new(Vec::new());

static SAVED: Owned<Vec<Numbers>> = Owned::new(Vec::new());

/// Copies of what is in flight to the program, which Zap has while the program stands.
static COPIES: Owned<Vec<RawFd>> = Owned::new(Vec::new());

/// What is left for the refill of a restart: description, part, descriptor.
static HELD: Owned<Vec<(u32, u32, RawFd)>> = Owned::new(Vec::new());

/// Reads the descriptor table, but for the numbers in `own`, which are Zap's.
fn enumerate(own: &[RawFd]) -> Result<Vec<Description>, Refusal> {
    let mut numbers = Vec::new();
    fd::each_number(c"/proc/thread-self/fd", |number| numbers.push(number))
        .map_err(|error| Refusal::new("descriptors", error))?;
    numbers.sort_unstable();
    let mut all: Vec<Description> = Vec::new();
    // Places of those of one file, in the kernel's order: of a device a program may have thousands.
    let mut places: BTreeMap<(u64, u64), Vec<usize>> = BTreeMap::new();
    for number in numbers.into_iter().filter(|number| !own.contains(number)) {
        crate::fault::point(zap_wire::fault::SAVING_DESCRIPTORS);
        let description = read(number, all.len() as u32, Place::Table)?;
        let known = places.entry((description.stat.st_dev, description.stat.st_ino)).or_default();
        let found = find_same(&all, known, &description);
        // Each standard stream is zap-restart's own, whatever they shared at launch.
        let is_own_stream = description.stream.is_some() && number <= 2;
        match found {
            Ok(place) if !is_own_stream => all[place].numbers.extend(description.numbers),
            found => {
                if let Err(at) = found {
                    known.insert(at, all.len());
                }
                all.push(description);
            }
        }
    }
    Ok(all)
}

/// Finds what is open, but for the numbers in `own`; returns what the coordinator is to compare with others, and what
/// others are to be told.
pub fn find(own: &[RawFd]) -> Result<(Vec<Seen>, Vec<Note>), Refusal> {
    let mut all = enumerate(own)?;
    let mut owners = claim(&all)?;
    take_in_carried(&mut all, &mut owners)?;
    let seen = |(one, owner): (&Description, &usize)| Seen {
        id: one.id,
        fd: one.fd(),
        file: (one.stat.st_dev, one.stat.st_ino),
        object: registry::plugins()[*owner].object(one).unwrap_or_default(),
        access: one.status_flags() & libc::O_ACCMODE,
        keep: match registry::plugins()[*owner].keeps(one) {
            zap_plugin::Keep::No => Keep::No,
            _ if fd::file_system(one.fd()).is_ok_and(|kind| MADE_UP.contains(&kind)) => Keep::No,
            zap_plugin::Keep::IfWanted => Keep::IfWanted,
            zap_plugin::Keep::Above(bytes) => Keep::Above(bytes),
        },
    };
    let mut notes = Vec::new();
    for (one, owner) in all.iter().zip(&owners) {
        notes.extend(registry::plugins()[*owner].note(one)?.map(|bytes| Note { id: one.id, bytes }));
    }
    // A stream is whatever zap-restart supplies, to everybody.
    let seen = all.iter().zip(&owners).filter(|(one, _)| one.stream.is_none()).map(seen).collect();
    OPEN.with(|open| *open = all);
    Ok((seen, notes))
}

/// Copies what is in flight to the program, also in what is in flight itself.
fn take_in_carried(all: &mut Vec<Description>, owners: &mut Vec<usize>) -> Result<(), Refusal> {
    let mut at = 0;
    while at < all.len() {
        let (one, plugin) = (&all[at], registry::plugins()[owners[at]]);
        if plugin.carries(one)? {
            // Closing a copy would take the locks away that the process has on the file (fcntl_locking(2)).
            if all.iter().any(|one| has_record_lock(&one.info)) {
                let reason = "descriptors are in flight in it, while the process has locks of fcntl(2); repeat";
                return Err(Refusal::new(one.name(), reason));
            }
            let messages = plugin.copy_carried(one)?;
            // All are to be closed, whatever comes.
            COPIES.with(|copies| copies.extend(messages.iter().flatten()));
            if COPIES.with(|copies| copies.len()) > zap_sys::opened::MOST_IN_FLIGHT {
                return Err(Refusal::new(one.name(), "too many descriptors are in flight in it; repeat"));
            }
            let mut carried = Vec::new();
            for message in messages {
                let ids = message.into_iter().map(|number| number_carried(number, all, owners));
                carried.push(ids.collect::<Result<Vec<u32>, Refusal>>()?);
            }
            all[at].carried = carried;
        }
        at += 1;
    }
    Ok(())
}

/// The id of the description of a copy, which is a new one unless the program has it, or it is in flight elsewhere too.
fn number_carried(number: RawFd, all: &mut Vec<Description>, owners: &mut Vec<usize>) -> Result<u32, Refusal> {
    let description = read(number, all.len() as u32, Place::InFlight)?;
    if let Some(known) = all.iter().find(|one| may_share(one, &description) && same(one.fd(), number)) {
        return Ok(known.id);
    }
    let id = description.id;
    owners.extend(claim(core::slice::from_ref(&description))?);
    all.push(description);
    Ok(id)
}

fn has_record_lock(info: &[u8]) -> bool {
    let is_one = |line: &[u8]| line.starts_with(b"lock:") && line.windows(5).any(|word| word == b"POSIX");
    info.split(|c| *c == b'\n').any(is_one)
}

/// Closes the copies of what is in flight.
pub fn drop_copies() {
    for number in COPIES.with(core::mem::take) {
        let _ = fd::close(number);
    }
}

/// In a process that has none of them.
pub fn forget_copies() {
    COPIES.with(Vec::clear);
}

/// The regular files among what [`find`] has found.
pub fn open_files() -> Vec<FileName> {
    let name = |one: &Description| FileName {
        file: (one.stat.st_dev, one.stat.st_ino),
        path: one.link.clone(),
        hold: Hold::Open { named: one.stat.st_nlink > 0 },
    };
    let is_file = |one: &&Description| one.stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    OPEN.with(|open| open.iter().filter(is_file).map(name).collect())
}

/// Takes what [`find`] has found, and notes what of it other processes have too. Returns all.
pub fn take(order: &SaveOrder) -> Vec<Description> {
    let mut all = OPEN.with(core::mem::take);
    let shares: BTreeMap<u32, Share> = order.shares.iter().map(|share| (share.id, *share)).collect();
    let share_of = |id: u32| shares.get(&id).copied().unwrap_or_default();
    for one in &mut all {
        let Share { description, leads, object, leads_object, accesses, mapped, .. } = share_of(one.id);
        one.share = zap_plugin::Share {
            follows: description != 0 && !leads,
            shared: description != 0,
            object,
            leads_object,
            accesses,
            mapped,
        };
        one.kept = order.kept.contains(&(one.stat.st_dev, one.stat.st_ino));
    }
    let copies = COPIES.with(|copies| copies.clone());
    SAVED.with(|saved| {
        let is_programs = |number: &&DescriptorNumber| !copies.contains(&number.fd);
        let carried: BTreeSet<u32> = all.iter().flat_map(|one| one.carried.iter().flatten()).copied().collect();
        let numbers = |one: &Description| Numbers {
            id: one.id,
            numbers: one.numbers.iter().filter(is_programs).copied().collect(),
            key: share_of(one.id).description,
            leads: !one.share.follows,
            carried: carried.contains(&one.id),
        };
        *saved = all.iter().map(numbers).collect();
        let own = saved.iter().filter(|one| one.leads).filter_map(|one| one.numbers.first());
        io_owners::save(own.map(|number| number.fd));
    });
    all
}

/// What of `all` the program has in its table, for those who look at the image: see `zap_image::header::DESCRIPTORS`.
pub fn listed(all: &[Description]) -> Result<SavedSection, Refusal> {
    let copies = COPIES.with(|copies| copies.clone());
    let mut opened = Vec::new();
    for one in all {
        let (kind, has_offset) = kind_of(one);
        let numbers = one.numbers.iter().filter(|number| !copies.contains(&number.fd));
        opened.extend(numbers.map(|number| Opened {
            number: number.fd,
            kind: kind.to_string(),
            target: Bytes(one.link.clone()),
            offset: has_offset.then(|| one.position()),
            stream: one.stream,
            description: one.id,
        }));
    }
    opened.sort_unstable_by_key(|one| one.number);
    let name = header::DESCRIPTORS.to_string();
    let bytes = zap_plugin::encode(&opened)?;
    Ok(SavedSection { name, version: header::DESCRIPTORS_VERSION, required: false, bytes })
}

/// File systems whose files are no data: what they hold is made up when they are read.
const MADE_UP: [i64; 7] = [
    libc::PROC_SUPER_MAGIC,
    libc::SYSFS_MAGIC,
    libc::DEBUGFS_MAGIC,
    libc::TRACEFS_MAGIC,
    libc::CGROUP_SUPER_MAGIC,
    libc::CGROUP2_SUPER_MAGIC,
    libc::SECURITYFS_MAGIC,
];

/// The `files` that plugins will open again, (id, path), for a restart to compare: see `zap_image::header::FILES`.
pub fn files(order: &SaveOrder, all: &[Description], files: &[(u32, Vec<u8>)]) -> Result<SavedSection, Refusal> {
    let kept = all.iter().filter(|one| one.kept).map(|one| (one.stat.st_dev, one.stat.st_ino));
    let mut kept: Vec<(u64, u64)> = kept.collect();
    kept.sort_unstable();
    kept.dedup();
    let mut open = OpenFiles { files: Vec::new(), kept, keeps: order.settings.snapshot_files };
    let users = credentials::users().ok().filter(|_| state::is_pods_user());
    for (id, path) in files {
        // Ids are places.
        let Some(one) = all.get(*id as usize).filter(|one| one.id == *id) else { continue };
        let (kind, file_system) = fd::file_system_id(one.fd()).map_err(|error| Refusal::new(one.name(), error))?;
        if MADE_UP.contains(&kind) {
            continue;
        }
        let flags = one.status_flags();
        let has_access =
            |accesses: [i32; 2]| flags & libc::O_PATH == 0 && accesses.contains(&(flags & libc::O_ACCMODE));
        let (reads, writes) = (has_access([libc::O_RDONLY, libc::O_RDWR]), has_access([libc::O_WRONLY, libc::O_RDWR]));
        if users.is_some_and(|[_, effective, _]| effective != 0 && effective != one.stat.st_uid) {
            refuse_barred(one, path, reads, writes)?;
        }
        let size = one.stat.st_size.max(0) as u64;
        open.files.push(OpenFile {
            path: Bytes(path.clone()),
            device: one.stat.st_dev,
            inode: one.stat.st_ino,
            file_system,
            size,
            modified_ns: zap_sys::time::stamp_ns(one.stat.st_mtime, one.stat.st_mtime_nsec),
            reads,
            writes,
            at_end: flags & libc::O_APPEND != 0 || one.position() >= size,
            known: inodes::known().known((one.stat.st_dev, one.stat.st_ino)),
        });
    }
    let bytes = zap_plugin::encode(&open)?;
    Ok(SavedSection { name: header::FILES.to_string(), version: header::FILES_VERSION, required: false, bytes })
}

/// Refuses a file of somebody else that has been opened by one who may, and that nobody here may open again.
fn refuse_barred(one: &Description, path: &[u8], reads: bool, writes: bool) -> Result<(), Refusal> {
    let mode = if reads { libc::R_OK } else { 0 } | if writes { libc::W_OK } else { 0 };
    let Some(path) = zap_sys::path::CPath::new(path) else { return Ok(()) };
    match fd::access(path.as_c_str(), mode) {
        Err(error) if error.is(libc::EACCES) => {
            let reason = "is another user's, and could not be opened again by a restart: it may not be opened so";
            Err(Refusal::new(one.name(), reason))
        }
        _ => Ok(()),
    }
}

/// What a description is of, and whether it has a file offset.
fn kind_of(one: &Description) -> (Cow<'_, str>, bool) {
    let name = match one.file_type() {
        libc::S_IFREG => return ("file".into(), true),
        libc::S_IFDIR => return ("directory".into(), true),
        libc::S_IFCHR | libc::S_IFBLK => "device",
        libc::S_IFIFO => "pipe",
        libc::S_IFSOCK => "socket",
        // `anon_inode:[eventfd]`, `anon_inode:inotify`.
        _ => match one.link.strip_prefix(b"anon_inode:") {
            Some(name) => {
                let name = name.strip_prefix(b"[").and_then(|name| name.strip_suffix(b"]")).unwrap_or(name);
                return (String::from_utf8_lossy(name), false);
            }
            None => "other",
        },
    };
    (name.into(), false)
}

/// Which of `known`, places in `all` in the kernel's order, is the same as `one`; else where it belongs in `known`.
fn find_same(all: &[Description], known: &[usize], one: &Description) -> Result<usize, usize> {
    let own = zap_sys::process::getpid();
    let order = |place: &usize| {
        zap_sys::process::compare_descriptions((own, all[*place].fd()), (own, one.fd())).unwrap_or(Ordering::Less)
    };
    let is_known = |place: &usize| may_share(&all[*place], one) && same(all[*place].fd(), one.fd());
    match known.binary_search_by(order) {
        Ok(at) => Ok(known[at]),
        // Where kcmp(2) is forbidden there is no order.
        Err(at) if !can_compare(one.fd()) => known.iter().copied().find(is_known).ok_or(at),
        Err(at) => Err(at),
    }
}

fn can_compare(number: RawFd) -> bool {
    fd::same_description(number, number).is_ok()
}

fn may_share(a: &Description, b: &Description) -> bool {
    a.stat.st_ino == b.stat.st_ino && a.stat.st_dev == b.stat.st_dev && a.link == b.link
}

/// Whether two descriptors are one open file description: kcmp(2), and where that is forbidden (seccomp, Yama) by
/// changing what belongs to the description and has no effect by itself: the signal of F_SETSIG.
fn same(a: RawFd, b: RawFd) -> bool {
    if let Ok(same) = fd::same_description(a, b) {
        return same;
    }
    let Ok(before) = fd::fcntl(a, F_GETSIG, 0) else { return false };
    let other = if before == libc::SIGIO as usize { libc::SIGURG } else { libc::SIGIO };
    let Ok(seen_before) = fd::fcntl(b, F_GETSIG, 0) else { return false };
    let _ = fd::fcntl(a, F_SETSIG, other as usize);
    let seen = fd::fcntl(b, F_GETSIG, 0);
    let _ = fd::fcntl(a, F_SETSIG, before);
    seen.is_ok_and(|seen| seen == other as usize && seen_before == before)
}

/// Where a descriptor is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the program's table.
    Table,
    /// On its way to it: the number is a copy's.
    InFlight,
}

fn read(number: RawFd, id: u32, place: Place) -> Result<Description, Refusal> {
    let refusal = |error| Refusal::new(format!("descriptor {number}"), error);
    let stat = fd::fstat(number).map_err(refusal)?;
    let mut buffer = [0u8; 4096];
    let path = zap_sys::small!("/proc/thread-self/fd/{number}");
    let link = match fd::read_link(path.as_c_str(), &mut buffer) {
        Err(error) if error.is(libc::ENAMETOOLONG) => {
            return Err(Refusal::new(format!("descriptor {number}"), "path too long"));
        }
        link => link.map_err(refusal)?.to_vec(),
    };
    let info = read_info(number).map_err(refusal)?;
    let flags = fd::fcntl(number, libc::F_GETFD, 0).map_err(refusal)?;
    let close_on_exec = flags & libc::FD_CLOEXEC as usize != 0;
    // Its number is not the program's choice.
    let stream = stream_of(if place == Place::InFlight { RawFd::MAX } else { number }, &stat);
    Ok(Description {
        id,
        numbers: alloc::vec![DescriptorNumber { fd: number, close_on_exec }],
        stat,
        link,
        info,
        carried: Vec::new(),
        share: zap_plugin::Share::default(),
        kept: false,
        stream,
    })
}

/// fdinfo has a line for each watch of an epoll: it may be long.
fn read_info(number: RawFd) -> zap_sys::Result<Vec<u8>> {
    let path = zap_sys::small!("/proc/thread-self/fdinfo/{number}");
    let file = fd::open(path.as_c_str(), libc::O_RDONLY | libc::O_CLOEXEC, 0)?;
    let mut info = Vec::new();
    let mut buffer = [0u8; 4096];
    let result = loop {
        match fd::read(file, &mut buffer) {
            Ok(0) => break Ok(info),
            Ok(count) => info.extend_from_slice(&buffer[..count]),
            Err(error) => break Err(error),
        }
    };
    let _ = fd::close(file);
    result
}

/// Which standard stream of the launch a descriptor is. A regular file is one only at the stream's own number, and never
/// standard input, which is reopened at its offset.
fn stream_of(number: RawFd, stat: &libc::stat) -> Option<u8> {
    let table = state::agents_table()?;
    let regular = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
    // Devices such as /dev/null are one inode for everybody: only their number tells a stream from an open().
    let anonymous = stat.st_mode & libc::S_IFMT != libc::S_IFCHR || is_terminal(stat);
    let matches = |stream: usize| {
        table.streams[stream][0].load(Relaxed) == stat.st_dev && table.streams[stream][1].load(Relaxed) == stat.st_ino
    };
    if (0..=2).contains(&number) && matches(number as usize) && !(regular && number == 0) {
        return Some(number as u8);
    }
    if regular || !anonymous {
        return None;
    }
    [1u8, 0, 2].into_iter().find(|stream| matches(usize::from(*stream)))
}

/// Unix98 pseudo terminals have major numbers 136 to 143, consoles and serial lines 4, /dev/console 5 (devices.txt).
fn is_terminal(stat: &libc::stat) -> bool {
    let major = libc::major(stat.st_rdev);
    (136..=143).contains(&major) || major == 4 || (major == 5 && libc::minor(stat.st_rdev) == 1)
}

/// Finds the one plugin that claims each description. Returns, for each description, the plugin's index.
pub fn claim(all: &[Description]) -> Result<Vec<usize>, Refusal> {
    all.iter()
        .map(|description| {
            let mut claims = registry::plugins()
                .iter()
                .enumerate()
                .filter(|(_, plugin)| plugin.claims(description))
                .map(|(at, _)| at);
            let Some(first) = claims.next() else {
                return Err(Refusal::new(description.name(), "no plugin supports this kind of descriptor"));
            };
            match claims.next() {
                None => Ok(first),
                Some(second) => Err(Refusal::new(
                    description.name(),
                    format!(
                        "claimed by two plugins, {} and {}",
                        registry::plugins()[first].name(),
                        registry::plugins()[second].name()
                    ),
                )),
            }
        })
        .collect()
}

/// The highest number that the restored program has; -1 for none.
pub fn highest_saved() -> RawFd {
    SAVED.with(|saved| saved.iter().flat_map(|one| &one.numbers).map(|number| number.fd).max().unwrap_or(-1))
}

/// Occupies every number that will be restored, so that descriptors made meanwhile lie elsewhere. Whatever was open
/// there is closed by it.
pub fn reserve() -> Result<(), Refusal> {
    let refusal = |error| Refusal::new("descriptors", error);
    SAVED.with(|saved| {
        let wanted = || saved.iter().flat_map(|one| &one.numbers).map(|number| number.fd);
        let Some(highest) = wanted().max() else { return Ok(()) };
        make_room(highest)?;
        let holder = fd::open(c"/", libc::O_PATH | libc::O_CLOEXEC, 0).map_err(refusal)?;
        let high = fd::dup_above(holder, highest + 1).map_err(refusal)?;
        if high != holder {
            fd::close(holder).map_err(refusal)?;
        }
        for number in wanted() {
            crate::fault::point(zap_wire::fault::RESTORING_DESCRIPTORS);
            fd::dup3(high, number, libc::O_CLOEXEC).map_err(refusal)?;
        }
        fd::close(high).map_err(refusal)
    })
}

/// A program near its descriptor limit leaves no room for ours, nor for what plugins need beside what they make: the soft
/// limit is raised as far as the hard one goes, until the program's own is set.
pub(crate) fn make_room(highest: RawFd) -> Result<(), Refusal> {
    let (soft, hard) =
        zap_sys::process::limit(libc::RLIMIT_NOFILE).map_err(|error| Refusal::new("descriptor limit", error))?;
    let needed = highest as u64 + 64;
    // Beyond the hard limit for root alone.
    let raised = [hard.max(needed), hard].into_iter().any(|most| {
        (soft, hard) == (most, most) || zap_sys::process::set_limit(libc::RLIMIT_NOFILE, most, most).is_ok()
    });
    if raised || soft >= needed {
        return Ok(());
    }
    Err(Refusal::new("descriptor limit", format!("cannot be raised from {soft} to {needed}")))
}

/// Moves `new` to every number of description `id`; `publish` hands it to other processes that have the description.
pub fn install(id: u32, new: RawFd, publish: impl FnOnce(u64, RawFd) -> Result<(), Refusal>) -> Result<(), Refusal> {
    SAVED.with(|saved| {
        // Ids are places.
        let Some(one) = saved.get(id as usize).filter(|one| one.id == id) else {
            return Err(Refusal::new(format!("description {id}"), "is not in the image"));
        };
        if one.key != 0 && one.leads {
            publish(one.key, new)?;
        }
        for number in &one.numbers {
            let flags = if number.close_on_exec { libc::O_CLOEXEC } else { 0 };
            fd::dup3(new, number.fd, flags)
                .map_err(|error| Refusal::new(format!("descriptor {}", number.fd), error))?;
        }
        if one.carried {
            hold(id, IN_FLIGHT, new);
            return Ok(());
        }
        fd::close(new).map_err(|error| Refusal::new("descriptors", error))
    })
}

/// See [`zap_plugin::RestoreContext::hold`].
pub fn hold(id: u32, part: u32, number: RawFd) {
    HELD.with(|held| held.push((id, part, number)));
}

/// See [`zap_plugin::RestoreContext::held`].
pub fn held(id: u32, part: u32) -> Option<RawFd> {
    let is_it = |one: &&(u32, u32, RawFd)| (one.0, one.1) == (id, part);
    HELD.with(|held| held.iter().find(is_it).map(|one| one.2))
}

/// Closes what has been held.
pub fn close_held() {
    for (.., number) in HELD.with(core::mem::take) {
        let _ = fd::close(number);
    }
}

/// The descriptions that other processes make again: the process's number, and the name in the pod.
pub fn followed() -> Vec<(u32, u64)> {
    SAVED.with(|saved| saved.iter().filter(|one| !one.leads).map(|one| (one.id, one.key)).collect())
}
