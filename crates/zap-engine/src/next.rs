//! The next functions, libc's, of wrappers that are called before libzap's init and from inside the very look-up that
//! finds them.
//!
//! glibc before 2.34 allocates in a thread's first dlsym(3). Where the allocator is a library of its own, that locks a
//! mutex: by the wrapper whose function is being looked for. So the functions of a family are published together when
//! all have been found. Until then whoever comes from inside the look-up gets stand-ins, for every function of the family:
//! what has been locked by a stand-in is unlocked by one.

use crate::guard;
use core::ffi::CStr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// A libc function, found at its family's first call.
pub struct Next {
    name: &'static CStr,
    address: AtomicUsize,
    /// What is called instead from inside the look-up.
    stand_in: fn() -> usize,
}

impl Next {
    /// The function `name`, not found yet.
    pub const fn new(name: &'static CStr, stand_in: fn() -> usize) -> Self {
        Self { name, address: AtomicUsize::new(0), stand_in }
    }

    /// Its address; 0 while it has not been found, and for good where this libc has none.
    #[inline(always)]
    pub fn known(&self) -> usize {
        self.address.load(Ordering::Acquire)
    }
}

/// Finds all functions of `family` by `look_up`, if that has not been done. Returns the address of `wanted`, one of them.
#[cold]
pub fn find(family: &[&Next], wanted: &Next, look_up: impl Fn(&CStr) -> usize) -> usize {
    find_once(&guard::block().looking_up, family, wanted, look_up)
}

/// As [`find`]; `looking_up` is the calling thread's, and not zero inside a look-up of it.
fn find_once(looking_up: &AtomicU32, family: &[&Next], wanted: &Next, look_up: impl Fn(&CStr) -> usize) -> usize {
    /// More than any family has.
    const MOST: usize = 128;
    if looking_up.load(Ordering::Relaxed) != 0 {
        return (wanted.stand_in)();
    }
    looking_up.store(1, Ordering::Relaxed);
    let mut found = [0; MOST];
    for (next, place) in family.iter().zip(&mut found) {
        *place = look_up(next.name);
    }
    for (next, address) in family.iter().zip(found) {
        next.address.store(address, Ordering::Release);
    }
    looking_up.store(0, Ordering::Relaxed);
    wanted.known()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    fn stand_in() -> usize {
        99
    }

    static LOCK: Next = Next::new(c"lock", stand_in);
    static UNLOCK: Next = Next::new(c"unlock", stand_in);
    static MISSING: Next = Next::new(c"missing", stand_in);

    #[test]
    fn a_look_up_that_calls_what_it_looks_for() {
        let family = [&LOCK, &UNLOCK, &MISSING];
        let (looking_up, looks, inner) = (AtomicU32::new(0), Cell::new(0), Cell::new(0));
        let find_from_inside =
            |next: &Next| find_once(&looking_up, &family, next, |_| panic!("looks up inside of itself"));
        let look_up = |name: &CStr| {
            looks.set(looks.get() + 1);
            // The allocator locks and unlocks, whatever has been found by now: both by stand-ins.
            assert_eq!((LOCK.known(), UNLOCK.known()), (0, 0));
            assert_eq!((find_from_inside(&LOCK), find_from_inside(&UNLOCK)), (99, 99));
            inner.set(inner.get() + 1);
            match name.to_bytes() {
                b"lock" => 1,
                b"unlock" => 2,
                _ => 0,
            }
        };
        assert_eq!(find_once(&looking_up, &family, &UNLOCK, look_up), 2);
        assert_eq!((LOCK.known(), UNLOCK.known(), MISSING.known()), (1, 2, 0));
        assert_eq!((looks.get(), inner.get(), looking_up.load(Ordering::Relaxed)), (3, 3, 0));
    }
}
