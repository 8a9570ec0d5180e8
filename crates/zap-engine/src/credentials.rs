//! Who the process is, and what it may do: users and groups, capabilities, and what keeps it from getting more.
//!
//! A restart gives the program no more than it had: one that had become another user becomes that user again, before any
//! of the program's code runs, or does not come back. It loses nothing silently either: what is missing here refuses.
//!
//! This is no wall against a program that means harm: it is libzap in the image, whose memory the program could write, that
//! becomes the other user here, and until then it runs as whoever restarts it. See "Limits" in docs/troubleshooting.md.

use crate::state::Owned;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use zap_plugin::Refusal;
use zap_sys::credentials::{self, Capabilities, Triple};
use zap_sys::text::field;
use zap_sys::{fd, libc};

#[derive(Clone, Default)]
struct Saved {
    users: Triple,
    groups: Triple,
    file_user: u32,
    file_group: u32,
    supplementary: Vec<u32>,
    capabilities: Capabilities,
    bounding: u64,
    ambient: u64,
    secure_bits: usize,
    keeps_capabilities: usize,
    no_new_privileges: usize,
    dumpable: usize,
}

static SAVED: Owned<Option<Saved>> = Owned::new(None);

/// What PR_GET_DUMPABLE had said, plus one, while [`open_up`] is in force; else 0.
static CLOSED: AtomicUsize = AtomicUsize::new(0);

/// A process that is not dumpable cannot list its own descriptors, nor can the coordinator compare them: for the time of
/// the checkpoint it is, until [`close_again`]. (proc(5); the files of such a process belong to root.)
pub fn open_up() {
    match credentials::attribute(libc::PR_GET_DUMPABLE) {
        Ok(1) | Err(_) => {}
        Ok(before) => {
            if credentials::set_attribute(libc::PR_SET_DUMPABLE, 1).is_ok() {
                CLOSED.store(before + 1, Ordering::Relaxed);
            }
        }
    }
}

/// Undoes [`open_up`].
pub fn close_again() {
    if CLOSED.swap(0, Ordering::Relaxed) != 0 {
        // 2, which only the kernel gives, is no less closed as 0.
        let _ = credentials::set_attribute(libc::PR_SET_DUMPABLE, 0);
    }
}

fn refusal(object: &str, error: zap_sys::SysError) -> Refusal {
    Refusal::new(object, error)
}

/// Lines of /proc/<pid>/task/<tid>/status that must be the same for all threads.
const OF_ALL: [&[u8]; 6] = [b"Uid:", b"Gid:", b"Groups:", b"CapPrm:", b"CapEff:", b"NoNewPrivs:"];

/// Reads them. Threads that differ refuse.
pub fn save() -> Result<(), Refusal> {
    compare_threads()?;
    let mut saved = find()?;
    // Not kept by the kernel for its own sake: by default it follows the effective ids.
    saved.file_user = credentials::file_user(u32::MAX);
    saved.file_group = credentials::file_group(u32::MAX);
    SAVED.with(|place| *place = Some(saved));
    Ok(())
}

fn find() -> Result<Saved, Refusal> {
    let error = |error| refusal("credentials", error);
    let mut supplementary = alloc::vec![0u32; credentials::count_supplementary().map_err(error)?];
    let count = credentials::supplementary(&mut supplementary).map_err(error)?.len();
    supplementary.truncate(count);
    supplementary.sort_unstable();
    let (mut bounding, mut ambient) = (0, 0);
    credentials::each_bound(|number, bound| {
        bounding |= u64::from(bound) << number;
        ambient |= u64::from(credentials::is_ambient(number)) << number;
    });
    Ok(Saved {
        users: credentials::users().map_err(error)?,
        groups: credentials::groups().map_err(error)?,
        supplementary,
        capabilities: credentials::capabilities().map_err(error)?,
        bounding,
        ambient,
        secure_bits: credentials::attribute(libc::PR_GET_SECUREBITS).map_err(error)?,
        keeps_capabilities: credentials::attribute(libc::PR_GET_KEEPCAPS).map_err(error)?,
        no_new_privileges: credentials::attribute(libc::PR_GET_NO_NEW_PRIVS).map_err(error)?,
        dumpable: match CLOSED.load(Ordering::Relaxed) {
            0 => credentials::attribute(libc::PR_GET_DUMPABLE).map_err(error)?,
            closed => closed - 1,
        },
        ..Saved::default()
    })
}

fn compare_threads() -> Result<(), Refusal> {
    let mut tids = Vec::new();
    fd::each_number(c"/proc/self/task", |tid| tids.push(tid)).map_err(|error| refusal("credentials", error))?;
    let mut first: Option<[Vec<u8>; OF_ALL.len()]> = None;
    let mut buffer = alloc::vec![0u8; 16 * 1024];
    for tid in tids {
        let path = zap_sys::small!("/proc/self/task/{tid}/status");
        let Ok(text) = fd::read_file(path.as_c_str(), &mut buffer) else { continue };
        let own = OF_ALL.map(|key| field(text, key).unwrap_or_default().to_vec());
        // The main thread may have ended before the others.
        let ended = field(text, b"State:").is_some_and(|state| state.trim_ascii_start().starts_with(b"Z"));
        match &first {
            _ if ended => {}
            Some(first) if *first != own => {
                return Err(Refusal::new(format!("thread {tid}"), "has credentials of its own"));
            }
            Some(_) => {}
            None => first = Some(own),
        }
    }
    Ok(())
}

/// Becomes who the program was; on the one thread that there is.
pub fn restore() -> Result<(), Refusal> {
    CLOSED.store(0, Ordering::Relaxed);
    let Some(saved) = SAVED.with(|place| place.clone()) else { return Ok(()) };
    let now = find()?;
    restore_bounding(&saved, &now)?;
    let changes_user = saved.users != now.users;
    if changes_user {
        // Else the capabilities that the process had as this user would go with the change.
        let _ = credentials::set_attribute(libc::PR_SET_KEEPCAPS, 1);
    }
    if saved.supplementary != now.supplementary {
        let set = credentials::set_supplementary(&saved.supplementary);
        // Without privilege, then and now, the groups are those of whoever restarts it.
        let unprivileged = saved.capabilities.permitted == 0 && now.users == saved.users;
        set.or_else(|error| if unprivileged { Ok(()) } else { Err(error) })
            .map_err(|error| refusal("supplementary groups", error))?;
    }
    if saved.groups != now.groups {
        let name = format!("group {}", saved.groups[1]);
        credentials::set_groups(&saved.groups).map_err(|error| refusal(&name, error))?;
    }
    if changes_user {
        let name = format!("user {}", saved.users[1]);
        credentials::set_users(&saved.users).map_err(|error| refusal(&name, error))?;
    }
    restore_ids_for_files(&saved)?;
    // One of the secure bits.
    restore_attribute(libc::PR_GET_KEEPCAPS, libc::PR_SET_KEEPCAPS, saved.keeps_capabilities, "PR_SET_KEEPCAPS")?;
    restore_capabilities(&saved)?;
    let wanted = saved.no_new_privileges;
    restore_attribute(libc::PR_GET_NO_NEW_PRIVS, libc::PR_SET_NO_NEW_PRIVS, wanted, "PR_SET_NO_NEW_PRIVS")?;
    // A change of users has cleared it. 2, which only the kernel gives, is no less closed as 0.
    let dumpable = usize::from(saved.dumpable == 1);
    credentials::set_attribute(libc::PR_SET_DUMPABLE, dumpable).map_err(|error| refusal("PR_SET_DUMPABLE", error))
}

/// User and group for files (setfsuid(2)), which follow the effective ones until they are set.
fn restore_ids_for_files(saved: &Saved) -> Result<(), Refusal> {
    let (user, group) = (saved.file_user, saved.file_group);
    if (user, group) == (saved.users[1], saved.groups[1]) {
        return Ok(());
    }
    // They may be any with privilege alone, which a change of users has made ineffective.
    let own = credentials::capabilities().map_err(|error| refusal("capabilities", error))?;
    let _ = credentials::set_capabilities(&Capabilities { effective: own.permitted, ..own });
    credentials::file_group(group);
    credentials::file_user(user);
    // The calls tell nothing.
    if (credentials::file_user(u32::MAX), credentials::file_group(u32::MAX)) == (user, group) {
        Ok(())
    } else {
        Err(Refusal::new("credentials", format!("user {user} or group {group} for files cannot be set")))
    }
}

fn restore_attribute(get: i32, set: i32, wanted: usize, name: &str) -> Result<(), Refusal> {
    if credentials::attribute(get) == Ok(wanted) {
        return Ok(());
    }
    credentials::set_attribute(set, wanted).map_err(|error| refusal(name, error))
}

fn restore_bounding(saved: &Saved, now: &Saved) -> Result<(), Refusal> {
    let surplus = now.bounding & !saved.bounding;
    for number in (0..u64::BITS).filter(|number| surplus & (1 << number) != 0) {
        let dropped = credentials::drop_bound(u64::from(number));
        // It bounds what a program can get that has nothing: whoever may not narrow it could run the program anyway.
        if saved.capabilities.permitted != 0 || now.capabilities.permitted != 0 {
            dropped.map_err(|error| refusal(&format!("capability {number}"), error))?;
        }
    }
    Ok(())
}

fn restore_capabilities(saved: &Saved) -> Result<(), Refusal> {
    let error = |error| refusal("capabilities", error);
    let now = credentials::capabilities().map_err(error)?;
    let missing = saved.capabilities.permitted & !now.permitted;
    if missing != 0 {
        let why = format!("the program had capability {}, which this process has not", missing.trailing_zeros());
        return Err(Refusal::new("capabilities", why));
    }
    let mut ambient = 0;
    credentials::each_bound(|number, _| ambient |= u64::from(credentials::is_ambient(number)) << number);
    let changes_bits = credentials::attribute(libc::PR_GET_SECUREBITS) != Ok(saved.secure_bits);
    if ambient != saved.ambient || changes_bits {
        // CAP_SETPCAP is needed, which the program had perhaps given up, and a change of users has made ineffective; and
        // what becomes ambient must be inheritable.
        let all = Capabilities {
            effective: now.permitted,
            permitted: now.permitted,
            inheritable: now.inheritable | saved.capabilities.inheritable,
        };
        if all != now {
            credentials::set_capabilities(&all).map_err(error)?;
        }
        // Before the secure bits, one of which forbids to raise any.
        if ambient & !saved.ambient != 0 {
            credentials::clear_ambient().map_err(error)?;
        }
        for number in (0..u64::from(u64::BITS)).filter(|number| saved.ambient & (1 << number) != 0) {
            if !credentials::is_ambient(number) {
                credentials::raise_ambient(number).map_err(error)?;
            }
        }
        let wanted = saved.secure_bits;
        restore_attribute(libc::PR_GET_SECUREBITS, libc::PR_SET_SECUREBITS, wanted, "PR_SET_SECUREBITS")?;
    }
    if credentials::capabilities().map_err(error)? != saved.capabilities {
        credentials::set_capabilities(&saved.capabilities).map_err(error)?;
    }
    Ok(())
}
