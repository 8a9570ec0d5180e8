//! Who a process is to the kernel, and what it may do (credentials(7), capabilities(7)). All of it is a thread's own.
//!
//! # Safety
//! Pointers handed to the kernel come from references that outlive the call.
#![allow(unsafe_code)]

use crate::errno::{call, Result};

/// Real, effective and saved id.
pub type Triple = [u32; 3];

/// The user ids (getresuid(2)).
pub fn users() -> Result<Triple> {
    let mut ids = [0u32; 3];
    let [real, effective, saved] = &mut ids;
    call!(SYS_getresuid, real as *mut u32, effective as *mut u32, saved as *mut u32)?;
    Ok(ids)
}

/// The group ids (getresgid(2)).
pub fn groups() -> Result<Triple> {
    let mut ids = [0u32; 3];
    let [real, effective, saved] = &mut ids;
    call!(SYS_getresgid, real as *mut u32, effective as *mut u32, saved as *mut u32)?;
    Ok(ids)
}

/// setresuid(2), of the calling thread.
pub fn set_users(ids: &Triple) -> Result<()> {
    call!(SYS_setresuid, ids[0], ids[1], ids[2]).map(|_| ())
}

/// setresgid(2), of the calling thread.
pub fn set_groups(ids: &Triple) -> Result<()> {
    call!(SYS_setresgid, ids[0], ids[1], ids[2]).map(|_| ())
}

/// Changes the id for files (setfsuid(2), setfsgid(2)) of the calling thread; tells what it was.
pub fn file_user(id: u32) -> u32 {
    call!(SYS_setfsuid, id).unwrap_or(0) as u32
}

/// As [`file_user`], for the group.
pub fn file_group(id: u32) -> u32 {
    call!(SYS_setfsgid, id).unwrap_or(0) as u32
}

/// Number of supplementary groups.
pub fn count_supplementary() -> Result<usize> {
    call!(SYS_getgroups, 0, 0)
}

/// Fills in the supplementary groups (getgroups(2)); returns those.
pub fn supplementary(groups: &mut [u32]) -> Result<&[u32]> {
    let count = call!(SYS_getgroups, groups.len(), groups.as_mut_ptr())?;
    Ok(groups.get(..count).unwrap_or_default())
}

/// setgroups(2), of the calling thread.
pub fn set_supplementary(groups: &[u32]) -> Result<()> {
    call!(SYS_setgroups, groups.len(), groups.as_ptr()).map(|_| ())
}

/// Capabilities, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const VERSION: u32 = 0x2008_0522;

/// The calling thread's capabilities (capget(2)).
pub fn capabilities() -> Result<Capabilities> {
    let mut header = [VERSION, 0];
    let mut data = [0u32; 6];
    call!(SYS_capget, header.as_mut_ptr(), data.as_mut_ptr())?;
    let word = |at: usize| u64::from(data[at]) | u64::from(data[at + 3]) << 32;
    Ok(Capabilities { effective: word(0), permitted: word(1), inheritable: word(2) })
}

/// capset(2), of the calling thread.
pub fn set_capabilities(wanted: &Capabilities) -> Result<()> {
    let mut header = [VERSION, 0];
    let low = |word: u64| word as u32;
    let high = |word: u64| (word >> 32) as u32;
    let Capabilities { effective, permitted, inheritable } = *wanted;
    let data = [low(effective), low(permitted), low(inheritable), high(effective), high(permitted), high(inheritable)];
    call!(SYS_capset, header.as_mut_ptr(), data.as_ptr()).map(|_| ())
}

/// Calls `there_is` with each capability that the kernel knows (PR_CAPBSET_READ); what is not in the bounding set is
/// `false`.
pub fn each_bound(mut there_is: impl FnMut(u64, bool)) {
    for number in 0..64u64 {
        match call!(SYS_prctl, libc::PR_CAPBSET_READ, number, 0, 0, 0) {
            Ok(bound) => there_is(number, bound == 1),
            Err(_) => return,
        }
    }
}

/// Takes a capability out of the bounding set.
pub fn drop_bound(number: u64) -> Result<()> {
    call!(SYS_prctl, libc::PR_CAPBSET_DROP, number, 0, 0, 0).map(|_| ())
}

/// Whether a capability is in the ambient set.
pub fn is_ambient(number: u64) -> bool {
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET, number, 0, 0) == Ok(1)
}

/// Takes every capability out of the ambient set.
pub fn clear_ambient() -> Result<()> {
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0).map(|_| ())
}

/// Puts a capability into the ambient set.
pub fn raise_ambient(number: u64) -> Result<()> {
    call!(SYS_prctl, libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, number, 0, 0).map(|_| ())
}

/// An attribute that prctl(2) returns as its result: PR_GET_DUMPABLE, PR_GET_KEEPCAPS …
pub fn attribute(which: i32) -> Result<usize> {
    call!(SYS_prctl, which, 0, 0, 0, 0)
}

/// Sets an attribute by prctl(2): PR_SET_DUMPABLE, PR_SET_KEEPCAPS …
pub fn set_attribute(which: i32, value: usize) -> Result<()> {
    call!(SYS_prctl, which, value, 0, 0, 0).map(|_| ())
}

/// The signal that the calling thread gets when its parent ends; 0 for none (PR_GET_PDEATHSIG).
pub fn parent_death_signal() -> Result<i32> {
    let mut signal = 0i32;
    call!(SYS_prctl, libc::PR_GET_PDEATHSIG, &mut signal as *mut i32, 0, 0, 0)?;
    Ok(signal)
}

/// personality(2); all ones only asks.
pub fn personality(wanted: u32) -> Result<u32> {
    call!(SYS_personality, wanted).map(|now| now as u32)
}

/// The I/O priority of the thread or process `id`, 0 for the caller (ioprio_get(2)): class and value as the kernel has them.
pub fn io_priority(id: i32) -> Result<i32> {
    call!(SYS_ioprio_get, IOPRIO_WHO_PROCESS, id).map(|value| value as i32)
}

/// Sets the calling thread's I/O priority.
pub fn set_io_priority(value: i32) -> Result<()> {
    call!(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value).map(|_| ())
}

/// linux/ioprio.h.
const IOPRIO_WHO_PROCESS: i32 = 1;
