//! Paths of the host's that threads have in hand, between finding them and the call that they are for. A restart puts the store
//! elsewhere, and the one that was may be there still: the living original's, of which this process is a clone.
//!
//! A buffer is a thread's own until it lets go of it. One that it could not let go of (it was cancelled) may be other memory by now: it
//! is looked at and written by calls that fail where there is none, and only where the old path stands.

use core::sync::atomic::{AtomicUsize, Ordering};
use zap_sys::mem;

/// More threads than these go without: a path may lead them to the old store then.
const MOST: usize = 128;

static BUFFERS: [AtomicUsize; MOST] = [const { AtomicUsize::new(0) }; MOST];

/// The place of a buffer in the list.
pub struct Noted(Option<usize>);

/// Notes a buffer into which a path will be written.
pub fn note(buffer: *const u8) -> Noted {
    let take =
        |place: &AtomicUsize| place.compare_exchange(0, buffer as usize, Ordering::AcqRel, Ordering::Relaxed).is_ok();
    Noted(BUFFERS.iter().position(take))
}

/// The call has been made.
pub fn let_go(noted: &Noted) {
    if let Some(place) = noted.0.and_then(|at| BUFFERS.get(at)) {
        place.store(0, Ordering::Release);
    }
}

/// In the child of a fork, whose one thread has none.
pub fn begin_in_child() {
    BUFFERS
        .iter()
        .filter(|place| place.load(Ordering::Relaxed) != 0)
        .for_each(|place| place.store(0, Ordering::Relaxed));
}

/// Puts `new` into the place of `old`, which is as long, where a path in hand begins with it. A path that is longer or shorter leads
/// nowhere, since the old store is another host's then: the call fails, and is made again.
pub fn change(old: &[u8], new: &[u8]) {
    const LONGEST: usize = 512;
    let mut seen = [0u8; LONGEST];
    if old.len() != new.len() || old.len() >= LONGEST {
        return;
    }
    for place in &BUFFERS {
        let address = place.load(Ordering::Acquire);
        if address == 0 {
            continue;
        }
        let length = mem::read_own(address as u64, &mut seen[..=old.len()]).unwrap_or(0);
        if seen.get(..length).is_some_and(|seen| seen.strip_prefix(old) == Some(b"/")) {
            let _ = mem::write_own(address as u64, new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_hand_are_changed() {
        let mut buffers = [*b"/run/old/0/a\0", *b"/run/older/a\0", *b"/elsewhere/a\0"];
        let noted: Vec<Noted> = buffers.iter_mut().map(|buffer| note(buffer.as_mut_ptr())).collect();
        let gone = note(16 as *const u8);
        change(b"/run/old", b"/run/new");
        change(b"/run/new", b"/run/longer");
        assert_eq!(buffers.map(|buffer| buffer[5]), [b'n', b'o', b'w']);
        noted.iter().chain([&gone]).for_each(let_go);
        assert!(BUFFERS.iter().all(|place| place.load(Ordering::Relaxed) == 0));
    }
}
