//! Room for paths where the pod has directories of its own by other paths, aside from the program's stacks: a thread, or a handler on
//! an alternate stack, may have less left than two paths take.
//!
//! A room is a thread's from [`with`] to its end, unless it never comes back (it was cancelled, or a handler has jumped out). When none
//! is free, those of threads that have ended are taken back, and those of which the caller itself has left the call. When there is
//! none then, the stack has to do.
//!
//! # Safety
//! Who has changed `owner` from 0 has the room alone, until it becomes 0 again.
#![allow(unsafe_code)]

use crate::private_paths::{HostPath, Rest};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use zap_sys::RealPid;

/// More threads than these, at one time, have them on their stacks.
const COUNT: usize = 128;

/// A path of the host's, and what is left of one of the program's.
#[derive(Debug)]
pub struct Room {
    pub host: HostPath,
    pub rest: Rest,
}

#[repr(C)]
struct Place {
    /// The id of the thread whose it is; 0 while it is free, [`UNKNOWN`] if the thread had another id then, or is none of the process.
    owner: AtomicU64,
    /// Where its stack was; [`NOWHERE`] if that is not known.
    stack: AtomicU64,
    room: UnsafeCell<Room>,
}

const UNKNOWN: u64 = u64::MAX;
const NOWHERE: u64 = u64::MAX;

/// So many, one after the other; null while there are none.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(core::ptr::null_mut());

/// Makes the rooms, if that has not been done. Without memory there are none.
pub(crate) fn make() {
    // Threads have other ids after a restart.
    let taken = places().iter().filter(|place| place.owner.load(Ordering::Relaxed) != 0);
    taken.for_each(|place| place.owner.store(UNKNOWN, Ordering::Relaxed));
    if PLACES.load(Ordering::Relaxed).is_null() {
        // All zeroes are rooms that are free.
        if let Ok(address) = zap_sys::mem::map_anonymous(COUNT * size_of::<Place>()) {
            PLACES.store(address as *mut Place, Ordering::Release);
            places().iter().for_each(|place| place.stack.store(NOWHERE, Ordering::Relaxed));
        }
    }
}

fn places() -> &'static [Place] {
    let first = PLACES.load(Ordering::Acquire);
    if first.is_null() {
        return &[];
    }
    // SAFETY: `make` has mapped so many, for good.
    unsafe { core::slice::from_raw_parts(first, COUNT) }
}

/// Does what needs room for two paths. What is in them is of no use.
pub fn with<R>(work: impl FnOnce(&mut Room) -> R) -> R {
    match take() {
        Some(place) => {
            // SAFETY: it has just been taken.
            let result = work(unsafe { &mut *place.room.get() });
            place.stack.store(NOWHERE, Ordering::Relaxed);
            place.owner.store(0, Ordering::Release);
            result
        }
        None => on_the_stack(work),
    }
}

/// Where the caller's stack is, about.
#[inline(always)]
fn stack_address() -> u64 {
    let here = 0u8;
    core::hint::black_box(&raw const here) as u64
}

#[inline(never)]
fn take() -> Option<&'static Place> {
    // The child of a vfork is another process.
    let thread = || zap_sys::process::gettid().0 as u64;
    let is_own_process = zap_sys::process::getpid() == crate::state::real_pid();
    let own = if is_own_process { thread() } else { UNKNOWN };
    let free = |place: &&Place| {
        let is_free = place.owner.load(Ordering::Relaxed) == 0;
        is_free && place.owner.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let place = places().iter().find(free).or_else(|| {
        if is_own_process {
            take_back(own, crate::state::real_pid());
        }
        places().iter().find(free)
    })?;
    if is_own_process && thread() != own {
        // A restart has come in between.
        place.owner.store(UNKNOWN, Ordering::Relaxed);
    }
    place.stack.store(stack_address(), Ordering::Relaxed);
    Some(place)
}

/// Takes back the rooms of those who do not come back. In the child of a fork those are its parent's other threads.
#[cold]
fn take_back(own: u64, process: RealPid) {
    let here = stack_address();
    // A handler on an alternate stack has interrupted calls on another one.
    let is_on_own_stack = !zap_sys::signal::is_on_alternate_stack();
    for place in places() {
        let owner = place.owner.load(Ordering::Relaxed);
        let has_ended = || {
            zap_sys::signal::tgkill(process, RealPid(owner as i32), 0)
                .is_err_and(|error| error.is(zap_sys::libc::ESRCH))
        };
        // Whom this call has come from stands above it.
        let has_left = || is_on_own_stack && place.stack.load(Ordering::Relaxed) < here;
        if ![0, UNKNOWN].contains(&owner) && if owner == own { has_left() } else { has_ended() } {
            place.stack.store(NOWHERE, Ordering::Relaxed);
            let _ = place.owner.compare_exchange(owner, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

#[cold]
#[inline(never)]
fn on_the_stack<R>(work: impl FnOnce(&mut Room) -> R) -> R {
    work(&mut Room { host: HostPath::new(), rest: Rest::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_are_ones_own_until_they_are_given_back() {
        fn nested(depth: usize, seen: &mut Vec<usize>) {
            with(|room| {
                assert!(room.host.set(b"/a"));
                let address = core::ptr::from_ref(room) as usize;
                assert!(!seen.contains(&address));
                seen.push(address);
                if depth > 0 {
                    nested(depth - 1, seen);
                }
                assert_eq!(room.host.as_bytes(), b"/a");
            });
        }
        make();
        // More than there are.
        nested(COUNT + 2, &mut Vec::new());
        let is_free = |place: &Place| place.owner.load(Ordering::Relaxed) == 0;
        assert!(places().len() == COUNT && places().iter().all(is_free));
        // Of a thread that is not there, and of a call that has been left.
        let own = zap_sys::process::gettid().0 as u64;
        for (place, (owner, stack)) in places().iter().zip([(1 << 30, NOWHERE), (own, 1), (own, NOWHERE), (UNKNOWN, 1)])
        {
            place.owner.store(owner, Ordering::Relaxed);
            place.stack.store(stack, Ordering::Relaxed);
        }
        take_back(own, zap_sys::process::getpid());
        assert_eq!([0, 1, 2, 3].map(|at| is_free(&places()[at])), [true, true, false, false]);
        make();
        assert_eq!(places()[2].owner.load(Ordering::Relaxed), UNKNOWN);
    }
}
