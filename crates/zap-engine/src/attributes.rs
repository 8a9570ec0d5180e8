//! Attributes of the process that the kernel keeps: working directory, file mode mask, limits, what is locked in future,
//! which parts of the processor's state it may use.

use crate::state::{self, Owned};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::path::{CPath, PATH_MAX};
use zap_sys::{credentials, libc, process};

/// Number of resources that setrlimit(2) knows.
const RESOURCES: usize = 16;

struct Saved {
    directory: Vec<u8>,
    umask: u32,
    /// Soft and hard limit of each resource.
    limits: [Option<(u64, u64)>; RESOURCES],
    permitted_state: u64,
    subreaper: bool,
    parent_death_signal: i32,
    personality: u32,
    /// As /proc/self/oom_score_adj has it.
    oom_score_adjustment: i64,
}

static SAVED: Owned<Saved> = Owned::new(Saved {
    directory: Vec::new(),
    umask: 0,
    limits: [None; RESOURCES],
    permitted_state: 0,
    subreaper: false,
    parent_death_signal: 0,
    personality: 0,
    oom_score_adjustment: 0,
});

/// The program is a subreaper, and has been made none for the moment.
static ADOPTS: AtomicBool = AtomicBool::new(false);

/// The helpers that fork frozen copies end, and an orphan goes to the nearest subreaper: no process of the pod may be it until the
/// last of them has saved.
pub fn adopt_nobody() {
    if process::is_subreaper() {
        ADOPTS.store(true, Ordering::Relaxed);
        process::set_subreaper(false);
    }
}

/// Undoes [`adopt_nobody`].
pub fn adopt_again() {
    if ADOPTS.swap(false, Ordering::Relaxed) {
        process::set_subreaper(true);
    }
}

/// Refuses what runs in other namespaces (namespaces(7)) than the pod did when it began: it would come back in those of its
/// restart.
fn refuse_other_namespaces() -> Result<(), Refusal> {
    let Some(table) = state::agents_table() else { return Ok(()) };
    let own = process::namespaces();
    for ((own, of_pod), (_, kind)) in own.iter().zip(&table.namespaces).zip(process::NAMESPACES) {
        let of_pod = of_pod.load(Ordering::Relaxed);
        if *own != 0 && of_pod != 0 && *own != of_pod {
            let reason = alloc::format!("is in another {kind} namespace than the pod; start zap-launch there");
            return Err(Refusal::new("process", reason));
        }
    }
    Ok(())
}

/// Processors of the machine at the checkpoint; 0 when unknown.
static ONLINE: AtomicU32 = AtomicU32::new(0);

/// Limits that are raised while the program is checkpointed.
const RAISABLE: [u32; 4] = [libc::RLIMIT_NOFILE, libc::RLIMIT_SIGPENDING, libc::RLIMIT_AS, libc::RLIMIT_FSIZE];

/// What they are to the program while they are raised: soft and hard, plus one; 0 for not raised.
static RAISED: [[AtomicU64; 2]; RAISABLE.len()] = [const { [AtomicU64::new(0), AtomicU64::new(0)] }; RAISABLE.len()];

/// Descriptors that Zap may need beside the program's.
const ROOM: u64 = 64;

/// Whether the path leads to the working directory.
fn leads_here(path: &[u8]) -> bool {
    let identity = |path: &core::ffi::CStr| zap_sys::fd::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
    CPath::new(path).is_some_and(|path| identity(path.as_c_str()).is_ok_and(|one| identity(c".") == Ok(one)))
}

/// Reads the attributes.
pub fn save() -> Result<(), Refusal> {
    refuse_other_namespaces()?;
    let mut buffer = [0u8; PATH_MAX];
    let directory = zap_sys::fd::read_link(c"/proc/thread-self/cwd", &mut buffer)
        .map_err(|error| Refusal::new("working directory", error))?;
    if directory.ends_with(b" (deleted)") && !leads_here(directory) {
        return Err(Refusal::new("working directory", "it has been deleted"));
    }
    if directory.strip_prefix(b"/proc/").and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit) {
        let reason = "is in /proc, of a process whose id a restart changes; cd elsewhere";
        return Err(Refusal::new(
            alloc::format!("working directory {}", alloc::string::String::from_utf8_lossy(directory)),
            reason,
        ));
    }
    let mut root = [0u8; PATH_MAX];
    let root = zap_sys::fd::read_link(c"/proc/thread-self/root", &mut root)
        .map_err(|error| Refusal::new("root directory", error))?;
    if root != b"/" {
        return Err(Refusal::new("root directory", "a program that has called chroot is not supported yet"));
    }
    crate::fault::point(zap_wire::fault::SAVING_ATTRIBUTES);
    // The mask can only be read by setting it.
    let umask = process::umask(0o77);
    process::umask(umask);
    let mut limits = [None; RESOURCES];
    for (resource, limit) in limits.iter_mut().enumerate() {
        *limit = process::limit(resource as u32).ok();
    }
    for (resource, place) in RAISABLE.iter().zip(&RAISED) {
        if let Some(limit) = raised(place) {
            limits[*resource as usize] = Some(limit);
        }
    }
    ONLINE.store(count_online(), Ordering::Relaxed);
    let permitted_state = process::permitted_state();
    let parent_death_signal =
        credentials::parent_death_signal().map_err(|error| Refusal::new("parent-death signal", error))?;
    let personality = credentials::personality(u32::MAX).map_err(|error| Refusal::new("personality", error))?;
    SAVED.with(|saved| {
        *saved = Saved {
            directory: directory.to_vec(),
            umask,
            limits,
            permitted_state,
            subreaper: ADOPTS.load(Ordering::Relaxed) || process::is_subreaper(),
            parent_death_signal,
            personality,
            oom_score_adjustment: oom_score_adjustment(),
        }
    });
    Ok(())
}

const OOM: &core::ffi::CStr = c"/proc/thread-self/oom_score_adj";

fn oom_score_adjustment() -> i64 {
    let mut buffer = [0u8; 16];
    zap_sys::fd::read_file(OOM, &mut buffer).map_or(0, |text| zap_sys::text::decimal(text).0)
}

fn set_oom_score_adjustment(value: i64) -> zap_sys::Result<()> {
    let file = zap_sys::fd::open(OOM, libc::O_WRONLY | libc::O_CLOEXEC, 0)?;
    let written = zap_sys::fd::write_all(file, zap_sys::small!("{value}").as_bytes());
    let _ = zap_sys::fd::close(file);
    written
}

/// Sets them again, but for what would stand in the way of the rest of the restart.
pub fn restore() -> Result<(), Refusal> {
    RAISED.iter().flatten().for_each(|word| word.store(0, Ordering::Relaxed));
    SAVED.with(|saved| {
        process::umask(saved.umask);
        if let Some(now) = crate::restart::path_now(&saved.directory) {
            saved.directory = now;
        }
        let name = alloc::string::String::from_utf8_lossy(&saved.directory).into_owned();
        let path = CPath::new(&saved.directory).ok_or_else(|| Refusal::new("working directory", "path too long"))?;
        process::chdir(path.as_c_str())
            .map_err(|error| Refusal::new(alloc::format!("working directory {name}"), error))?;
        ADOPTS.store(false, Ordering::Relaxed);
        process::set_subreaper(saved.subreaper);
        if credentials::personality(u32::MAX) != Ok(saved.personality) {
            credentials::personality(saved.personality).map_err(|error| Refusal::new("personality", error))?;
        }
        // Only who is privileged may make a process less likely to be killed.
        if saved.oom_score_adjustment != oom_score_adjustment() {
            set_oom_score_adjustment(saved.oom_score_adjustment)
                .map_err(|error| Refusal::new("oom_score_adj", error))?;
        }
        // A thread whose signal frame holds such state dies without the permission.
        let missing = saved.permitted_state & !process::permitted_state();
        (0..u64::BITS).filter(|number| missing & (1 << number) != 0).try_for_each(|number| {
            process::permit_state(number)
                .map_err(|error| Refusal::new(alloc::format!("part {number} of the processor's state (XSAVE)"), error))
        })
    })
}

/// Raises hard limits to what the program had, and lets threads get any nice value and real-time priority, as long as this
/// process may: after that it becomes who the program was, who perhaps may not. [`restore_limits`] lowers what is too high.
/// What the program may use, and may not in this process, refuses.
pub fn lift_limits() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        for (resource, limit) in saved.limits.iter().enumerate() {
            let resource = resource as u32;
            let (Some((used, hard)), Ok(now)) = (*limit, process::limit(resource)) else { continue };
            // As setrlimit(2) counts: a nice value of -20, and the highest real-time priority.
            let (soft, hard) = match resource {
                libc::RLIMIT_NICE => (now.0.max(40), hard.max(40)),
                libc::RLIMIT_RTPRIO => (now.0.max(99), hard.max(99)),
                _ => (now.0, hard),
            };
            let hard = hard.max(now.1);
            let fails = (soft, hard) != now && process::set_limit(resource, soft, hard).is_err();
            if fails && used > now.1 && !is_beyond_machine(resource, used) {
                if let Some((_, name)) = BY_USER.iter().find(|(known, _)| *known == resource) {
                    let value = Limit(used);
                    let reason = alloc::format!(
                        "is above the hard limit of zap-restart, {}: raise that (prlimit(1), limits.conf(5)), or restart with CAP_SYS_RESOURCE",
                        Limit(now.1)
                    );
                    return Err(Refusal::new(alloc::format!("limit {name} of {value}"), reason));
                }
            }
        }
        Ok(())
    })
}

/// Limits that users choose and programs live by. Others are as high as they may be: the kernel sets them by the size of the
/// machine (processes, queued signals, locked memory) or nobody has to keep within them.
const BY_USER: [(u32, &str); 7] = [
    (libc::RLIMIT_CPU, "RLIMIT_CPU"),
    (libc::RLIMIT_FSIZE, "RLIMIT_FSIZE"),
    (libc::RLIMIT_DATA, "RLIMIT_DATA"),
    (libc::RLIMIT_STACK, "RLIMIT_STACK"),
    (libc::RLIMIT_NOFILE, "RLIMIT_NOFILE"),
    (libc::RLIMIT_AS, "RLIMIT_AS"),
    (libc::RLIMIT_MSGQUEUE, "RLIMIT_MSGQUEUE"),
];

/// Whether nobody may have so much on this machine: more descriptors than its kernel has for a process (fs.nr_open).
fn is_beyond_machine(resource: u32, value: u64) -> bool {
    let mut buffer = [0u8; 32];
    let mut most = || {
        zap_sys::fd::read_file(c"/proc/sys/fs/nr_open", &mut buffer).map_or(0, |text| zap_sys::text::decimal(text).0)
    };
    resource == libc::RLIMIT_NOFILE && value > most() as u64
}

/// As prlimit(1) shows it.
struct Limit(u64);

impl core::fmt::Display for Limit {
    fn fmt(&self, into: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            libc::RLIM_INFINITY => into.write_str("unlimited"),
            limit => write!(into, "{limit}"),
        }
    }
}

/// Sets limits and what is locked in future: the last of all.
pub fn restore_limits() {
    SAVED.with(|saved| {
        for (resource, limit) in saved.limits.iter().enumerate() {
            let resource = resource as u32;
            let (Some((soft, hard)), Ok(now)) = (*limit, process::limit(resource)) else { continue };
            if (soft, hard) != now && process::set_limit(resource, soft, hard).is_err() {
                // Nobody without privilege may raise a hard limit.
                let _ = process::set_limit(resource, soft.min(now.1), now.1);
            }
        }
    });
    let flags = state::locked_in_future();
    if flags != 0 {
        // Where the limit is lower, memory is where it was, but not locked.
        let _ = zap_sys::mem::lock_all(flags);
    }
}

/// Sets what a change of users clears.
pub fn restore_parent_death_signal() -> Result<(), Refusal> {
    let signal = SAVED.with(|saved| saved.parent_death_signal);
    credentials::set_attribute(libc::PR_SET_PDEATHSIG, signal as usize)
        .map_err(|error| Refusal::new("parent-death signal", error))
}

/// Processors of the machine at the checkpoint; 0 when unknown.
pub fn processors_online() -> u32 {
    ONLINE.load(Ordering::Relaxed)
}

fn count_online() -> u32 {
    let mut buffer = [0u8; 1024];
    let text = zap_sys::fd::read_file(c"/sys/devices/system/cpu/online", &mut buffer).unwrap_or_default();
    count_in_list(text)
}

/// Numbers in a list such as `0-3,8`.
fn count_in_list(text: &[u8]) -> u32 {
    text.split(|c| *c == b',')
        .filter(|range| range.first().is_some_and(u8::is_ascii_digit))
        .map(|range| {
            let (first, rest) = zap_sys::text::decimal(range);
            let last = rest.strip_prefix(b"-").map_or(first, |rest| zap_sys::text::decimal(rest).0);
            u32::try_from(last - first + 1).unwrap_or(0)
        })
        .sum()
}

fn raised(place: &[AtomicU64; 2]) -> Option<(u64, u64)> {
    let [soft, hard] = [&place[0], &place[1]].map(|word| word.load(Ordering::Relaxed));
    (soft != 0).then(|| (soft.wrapping_sub(1), hard.wrapping_sub(1)))
}

/// Raises the calling process's limit of descriptors; returns what it was. A program may have all that it is allowed to
/// have, and Zap needs some beside them.
pub fn raise_descriptors() -> Option<(u64, u64)> {
    raise(libc::RLIMIT_NOFILE, |soft| soft.saturating_add(ROOM))
}

/// Raises a limit to what is `wanted` in place of the soft one, or as far as it may be.
fn raise(resource: u32, wanted: impl Fn(u64) -> u64) -> Option<(u64, u64)> {
    let (soft, hard) = process::limit(resource).ok()?;
    let wanted = wanted(soft);
    // Beyond the hard limit for root alone.
    process::set_limit(resource, wanted, hard.max(wanted))
        .or_else(|_| process::set_limit(resource, hard, hard))
        .ok()
        .map(|()| (soft, hard))
}

/// Raises limits until [`give_room_back`]: of descriptors; of signals that wait, which are read by taking them, and of which the
/// program may have lowered its limit since they were queued; of address space and of files' lengths, for the image.
pub fn make_room() {
    let without = |resource| raise(resource, |_| libc::RLIM_INFINITY);
    let [_, rest @ ..] = RAISABLE;
    let raised = core::iter::once(raise_descriptors()).chain(rest.into_iter().map(without));
    for (place, limit) in RAISED.iter().zip(raised) {
        if let Some((soft, hard)) = limit {
            place[1].store(hard.wrapping_add(1), Ordering::Relaxed);
            place[0].store(soft.wrapping_add(1), Ordering::Relaxed);
        }
    }
}

/// Undoes [`make_room`].
pub fn give_room_back() {
    for (resource, place) in RAISABLE.iter().zip(&RAISED) {
        if let Some((soft, hard)) = raised(place) {
            let _ = process::set_limit(*resource, soft, hard);
            place.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_processors() {
        for (text, count) in [(&b""[..], 0), (b"0\n", 1), (b"0-1\n", 2), (b"0-3,8,10-11\n", 7)] {
            assert_eq!(count_in_list(text), count);
        }
    }
}
