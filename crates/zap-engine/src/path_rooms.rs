//! Room for paths where the pod has directories of its own by other paths, aside from the program's stacks: a thread, or a handler on
//! an alternate stack, may have less left than two paths take.
//!
//! A room is a thread's from [`with`] to its end. One that it never comes back to (it was cancelled, or a handler has jumped out) is
//! not given out again; when none is left the stack has to do.
//!
//! # Safety
//! Who has changed `owner` from 0 has the room alone, until it becomes 0 again.
#![allow(unsafe_code)]

use crate::private_paths::{HostPath, Rest};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// More threads than these, at one time, have them on their stacks.
const COUNT: usize = 32;

/// A path of the host's, and what is left of one of the program's.
#[derive(Debug)]
pub struct Room {
    pub host: HostPath,
    pub rest: Rest,
}

#[repr(C)]
struct Place {
    /// Whose it is, by the thread pointer; 0 while it is free.
    owner: AtomicU64,
    room: UnsafeCell<Room>,
}

/// So many, one after the other; null while there are none.
static PLACES: AtomicPtr<Place> = AtomicPtr::new(core::ptr::null_mut());

/// Makes the rooms, if that has not been done. Without memory there are none.
pub(crate) fn make() {
    if PLACES.load(Ordering::Relaxed).is_null() {
        // All zeroes are rooms that are free.
        if let Ok(address) = zap_sys::mem::map_anonymous(COUNT * size_of::<Place>()) {
            PLACES.store(address as *mut Place, Ordering::Release);
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
    let own = zap_sys::arch::tls::thread_pointer();
    let take = |place: &&Place| place.owner.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed).is_ok();
    match places().iter().find(take) {
        Some(place) => {
            // SAFETY: it has just been taken.
            let result = work(unsafe { &mut *place.room.get() });
            place.owner.store(0, Ordering::Release);
            result
        }
        None => on_the_stack(work),
    }
}

#[cold]
#[inline(never)]
fn on_the_stack<R>(work: impl FnOnce(&mut Room) -> R) -> R {
    work(&mut Room { host: HostPath::new(), rest: Rest::new() })
}

/// In the child of a fork, where those of other threads are free.
pub(crate) fn begin_in_child() {
    let own = zap_sys::arch::tls::thread_pointer();
    for place in places().iter().filter(|place| ![0, own].contains(&place.owner.load(Ordering::Relaxed))) {
        place.owner.store(0, Ordering::Release);
    }
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
        places()[3].owner.store(1, Ordering::Relaxed);
        begin_in_child();
        assert!(places().iter().all(is_free));
    }
}
