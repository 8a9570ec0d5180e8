//! The beginning, before main(): reads the environment, joins the pod, installs the handler, and only then unblocks
//! Zap's signal, which whoever exec'ed this program had blocked.
//!
//! # Safety
//! Maps the pod's table and takes Zap's variables out of the environment block, when no other thread exists.
#![allow(unsafe_code)]

use crate::guard::{Guard, Unsuspended};
use crate::state;
use crate::{clocks, identity, inodes, private, suspend, terminals, vdso};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ffi::{c_char, CStr};
use core::sync::atomic::Ordering;
use zap_sys::path::CPath;
use zap_sys::{fd, libc, process, signal, VirtualPid};
use zap_wire::environment;
use zap_wire::table::{Entry, Kind, PodTable, SIZE};

/// What the root tells about libc.
pub struct LibcFacts {
    /// `__rseq_offset` and the length of the area that libc registers; `None` where it registers none.
    pub rseq: Option<(i64, u32)>,
    /// Address of the vDSO (AT_SYSINFO_EHDR of the auxiliary vector), 0 for none.
    pub vdso: u64,
    /// AT_MINSIGSTKSZ of the auxiliary vector; 0 where the kernel gives none.
    pub smallest_stack: u64,
}

/// Joins the pod that the environment names. Without one the library stays inert.
///
/// # Safety
/// `environment_block` is the process's NULL-terminated environment, and no other thread exists.
pub unsafe fn begin(environment_block: *mut *mut c_char, facts: &LibcFacts) {
    // SAFETY: the caller's promise.
    let Some(variables) = (unsafe { take_variables(environment_block) }) else { return };
    if let Some(fault) = &variables.fault {
        state::arm_fault(fault);
    }
    state::keep_identity_in(&crate::guard::block().identity);
    identity::learn(facts.rseq);
    vdso::learn(facts.vdso);
    crate::alternate_stacks::learn(facts.smallest_stack);
    let pid = process::getpid();
    // Before the table is mapped: so the stack lies beside other memory, and the kernel makes one mapping of both. A fork
    // pays for each.
    if suspend::map_stack().is_err() || join_table(&variables.table, variables.door.as_deref(), None).is_err() {
        return;
    }
    let virtual_pid = state::agents_entry().map_or(VirtualPid(pid.0), Entry::virtual_pid);
    state::set_identity(pid, virtual_pid);
    if state::agents_table().is_some_and(|table| table.moved.load(Ordering::Acquire) != 0) {
        state::set_moved();
        identity::set_own_tid(virtual_pid);
        identity::adopt_parent();
    }
    let signal_number = state::signal();
    if suspend::install(signal_number).is_err() {
        state::set_signal(0);
        return;
    }
    // First: what waits comes at once, and is for a process that is ready.
    if let Some(entry) = state::agents_entry() {
        entry.ready.store(1, Ordering::Release);
    }
    let _ = signal::change_mask(libc::SIG_UNBLOCK, signal::bit(signal_number));
}

struct Variables {
    table: Vec<u8>,
    door: Option<Vec<u8>>,
    fault: Option<Vec<u8>>,
}

/// Takes Zap's variables out of the environment: the program sees none of them.
///
/// # Safety
/// As [`begin`].
unsafe fn take_variables(block: *mut *mut c_char) -> Option<Variables> {
    let mut table = None;
    let mut door = None;
    let mut fault = None;
    let (mut from, mut to) = (0, 0);
    loop {
        // SAFETY: `from` has not passed the terminating NULL.
        let variable = unsafe { *block.add(from) };
        // SAFETY: `to` is never beyond `from`.
        let place = unsafe { &mut *block.add(to) };
        if variable.is_null() {
            *place = variable;
            break;
        }
        from += 1;
        // SAFETY: the entries of an environment are C strings.
        let text = unsafe { CStr::from_ptr(variable) }.to_bytes();
        let value = |name: &str| text.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="));
        if let Some(path) = value(environment::POD_TABLE) {
            table = Some(path.to_vec());
        } else if let Some(name) = value(environment::POD_DOOR) {
            door = Some(name.to_vec());
        } else if let Some(name) = value(environment::FAULT) {
            fault = Some(name.to_vec());
        } else if value(environment::EVEN).is_some() {
            // It has served its purpose by being there.
        } else {
            let mut keep = true;
            if let Some(libraries) = value(environment::LD_PRELOAD) {
                // Ours comes first; what follows the colon is the user's own.
                match libraries.iter().position(|c| *c == b':' || *c == b' ') {
                    Some(at) => {
                        let tail = libraries.len() - at - 1;
                        let name_length = text.len() - libraries.len();
                        // SAFETY: moves the tail, with its NUL, towards the front of the same string.
                        unsafe {
                            let start = variable.add(name_length);
                            core::ptr::copy(start.add(at + 1), start, tail + 1);
                            core::ptr::write_bytes(start.add(tail), 0, libraries.len() - tail);
                        }
                    }
                    None => keep = false,
                }
            }
            if keep {
                *place = variable;
                to += 1;
                continue;
            }
        }
        let length = text.len();
        // /proc/self/environ shows the strings themselves.
        // SAFETY: the string, which no other code has been told of; the loader has taken what it needs.
        unsafe { core::ptr::write_bytes(variable, 0, length) };
    }
    // SAFETY: the places up to the old NULL, of which none is in use any more.
    unsafe { close_gap(core::slice::from_raw_parts_mut(block.add(to + 1).cast(), from - to)) };
    Some(Variables { table: table?, door, fault })
}

/// Fills the places that are left behind the environment's NULL. On the stack the auxiliary vector comes after them, and there
/// are runtimes that look for it behind the NULL: entries that say nothing lead there.
fn close_gap(gap: &mut [u64]) {
    const AT_IGNORE: u64 = 1;
    // Of an odd number it cannot be done, and an end makes them look elsewhere.
    let filler = if gap.len().is_multiple_of(2) { AT_IGNORE } else { 0 };
    gap.iter_mut().enumerate().for_each(|(at, place)| *place = if at % 2 == 0 { filler } else { 0 });
}

/// Maps the pod table `path`, which is to be had by the coordinator's `door` too, enters this process, and notes both. A
/// restart says by which id the process is `known`.
pub(crate) fn join_table(path: &[u8], door: Option<&[u8]>, known: Option<VirtualPid>) -> Result<(), String> {
    let c_path = CPath::new(path).ok_or("path too long")?;
    // It may be a link: see `MappedTable::put_back`.
    let file = fd::open(c_path.as_c_str(), libc::O_RDWR | libc::O_CLOEXEC, 0).or_else(|error| match door {
        Some(door) => crate::agent::table_by_the_door(door).ok_or(error),
        None => Err(error),
    });
    let file = file.map_err(|error| error.to_string())?;
    let stat = fd::fstat(file);
    // With what lies behind the table.
    let length = stat.map_or(0, |stat| stat.st_size as usize);
    let mapped = if length >= SIZE {
        // SAFETY: a new shared mapping wherever the kernel likes.
        unsafe { zap_sys::mem::map(0, length as u64, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file, 0) }
            .map_err(|error| error.to_string())
    } else {
        Err("too short".to_string())
    };
    let _ = fd::close(file);
    // SAFETY: SIZE bytes are mapped, page-aligned; every bit pattern is a table; it stays mapped.
    let table = unsafe { &*(mapped? as *const PodTable) };
    if !table.is_valid() {
        return Err("not a pod table".to_string());
    }
    // The ids of another PID namespace mean other processes, or none, to everybody else in the pod.
    let (own, of_pod) = (process::pid_namespace(), table.pid_namespace.load(Ordering::Relaxed));
    if own != 0 && of_pod != 0 && own != of_pod {
        return Err("is of another PID namespace".to_string());
    }
    let pid = process::getpid();
    // What the program was asked for that has become this one by an exec, and has not answered, is for this one.
    let entry = table.enter_as(pid, || known.unwrap_or_else(|| table.free_id(pid))).map(|(entry, _)| entry);
    if let Some(known) = known {
        table.moved.store(1, Ordering::Release);
        if known.0 != pid.0 && !table.add_alias(Kind::Process, pid, known) {
            return Err("has no room for more ids".to_string());
        }
    }
    if let Some(entry) = entry {
        if let Some(known) = known {
            entry.virtual_pid.store(known.0, Ordering::Release);
        }
        entry.start_time.store(process::start_time(pid).unwrap_or(0), Ordering::Relaxed);
        entry.filters.store(seccomp_filters(), Ordering::Relaxed);
        entry.forget_failure();
        entry.set_name(&program_name());
        // One that is being restored is ready when it is whole.
        entry.ready.store(u32::from(state::active() && known.is_none()), Ordering::Release);
    }
    private::learn(table);
    // SAFETY: so much has been mapped above.
    unsafe { inodes::learn(table, length) };
    state::set_table(table, entry);
    terminals::look();
    state::set_signal(table.signal.load(Ordering::Relaxed));
    state::set_table_owner(stat.map_or(0, |stat| stat.st_uid));
    state::set_table_path(path);
    Ok(())
}

fn program_name() -> Vec<u8> {
    let mut buffer = [0u8; 4096];
    let path = fd::read_link(c"/proc/thread-self/exe", &mut buffer).unwrap_or_default();
    path.rsplit(|c| *c == b'/').next().unwrap_or_default().to_vec()
}

fn seccomp_filters() -> u32 {
    let mut buffer = [0u8; 4096];
    let status = fd::read_file(c"/proc/thread-self/status", &mut buffer).unwrap_or_default();
    zap_sys::text::field(status, b"Seccomp_filters:").map_or(0, |text| zap_sys::text::decimal(text).0 as u32)
}

/// In the child of a fork: another process, with ids of its own. Its parent enters it into the pod's table, see
/// [`note_child`].
#[inline(always)]
pub fn begin_in_child() {
    let pid = process::getpid();
    if pid == state::real_pid() {
        return;
    }
    crate::arena::begin_in_child();
    suspend::forget();
    crate::threads::forget_entering();
    crate::alternate_stacks::begin_in_child();
    state::forget_lock_all();
    let moved = state::moved();
    identity::forget();
    identity::forget_lent();
    crate::own_ids::begin_in_child();
    clocks::begin_in_child();
    crate::locks::begin_in_child();
    crate::watched::begin_in_child();
    crate::in_hand::begin_in_child();
    let mut virtual_pid = VirtualPid(pid.0);
    if moved {
        let guard = Guard::enter();
        // Parent and child must agree about it.
        let entry = state::table_within(&guard).and_then(|table| table.enter_child(pid, state::entry_within(&guard)));
        if let Some(entry) = entry {
            virtual_pid = entry.virtual_pid();
        }
    }
    // Not the parent's any more, whose request this process would answer from the next line on.
    state::forget_entry();
    state::set_identity(pid, virtual_pid);
    if moved {
        state::set_moved();
        identity::set_own_tid(virtual_pid);
    }
}

/// In the parent of a fork: enters the child `pid` into the pod's table. Not the child's affair, since its first write
/// to the shared table would cost it a page fault and a file system's bookkeeping.
pub fn note_child(proof: &Unsuspended, pid: i32) {
    let Some(table) = state::table_within(proof) else { return };
    let child = zap_sys::RealPid(pid);
    let parent = state::entry_within(proof);
    if table.enter_child(child, parent).is_none() {
        drop_ended(table, child);
        table.enter_child(child, parent);
    }
}

/// In a process that has made the child `pid`, which becomes another program or has become it: enters it into the pod's table
/// where its id may differ. Elsewhere it does so itself, if it can be followed.
pub fn note_spawned(proof: &Unsuspended, pid: i32) {
    let Some(table) = state::table_within(proof).filter(|_| state::moved()) else { return };
    let child = zap_sys::RealPid(pid);
    // It may have ended, and nobody waits for it.
    let Ok(started) = process::start_time(child) else { return };
    let parent = state::entry_within(proof);
    let entry = table.enter_spawned(child, parent).or_else(|| {
        drop_ended(table, child);
        table.enter_spawned(child, parent)
    });
    if let Some(entry) = entry {
        entry.start_time.store(started, Ordering::Relaxed);
    }
}

/// Frees entries, among those where `pid` may lie, of processes that have ended since the coordinator last looked.
#[cold]
fn drop_ended(table: &PodTable, pid: zap_sys::RealPid) {
    for entry in table.places(pid) {
        let known = entry.real_pid();
        if known.0 > 0 && signal::kill(known.0, 0).is_err_and(|error| error.is(libc::ESRCH)) {
            entry.drop_entry();
        }
    }
}
