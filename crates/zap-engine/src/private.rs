//! The pod's own directories (`zap-launch --private`): which they are, and what stands for them on the host.
//!
//! With [`By::Names`] the kernel knows nothing of them. A path of the host's below the *store* is what the pod knows by the path
//! of one of its directories; `private_paths` finds the way from the pod's paths to the host's, and [`seen`] is the way back.
//! Zap's runtime directory is the host's own, also where it lies in a private directory: the tools work in a pod too.
//!
//! # Safety
//! What is known is written at init and at a restart, when the process has no other thread. A thread that was suspended while it
//! read is told by [`generation`], and no place in the text is trusted without looking.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use zap_sys::path::{CPath, PATH_MAX};
use zap_sys::{fd, libc};
use zap_wire::private::{decode, By};
use zap_wire::table::{PodTable, PRIVATE_LENGTH};

/// Whether libzap has to give the kernel other paths.
static BY_NAMES: AtomicBool = AtomicBool::new(false);

/// How often the store has been elsewhere.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// Whether the pod has directories of its own of which the kernel knows nothing.
#[inline(always)]
pub fn by_names() -> bool {
    BY_NAMES.load(Ordering::Relaxed)
}

/// Changes whenever the store is elsewhere than before: a path of the host's that was found before leads nowhere then.
pub fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// More than there can be: each takes three bytes at least.
const MOST: usize = PRIVATE_LENGTH / 3 + 1;

/// What is known, without the need to take memory.
struct Known {
    /// The paths, one after the other.
    text: [u8; PRIVATE_LENGTH + PATH_MAX],
    /// The store's length, at the beginning of the text; and that of the runtime directory, the parent of its parent.
    store: usize,
    runtime: usize,
    /// Begin and end of each directory.
    places: [(u16, u16); MOST],
    count: usize,
}

struct Kept(UnsafeCell<Known>);

// SAFETY: written while there is one thread alone.
unsafe impl Sync for Kept {}

static KNOWN: Kept = Kept(UnsafeCell::new(Known {
    text: [0; PRIVATE_LENGTH + PATH_MAX],
    store: 0,
    runtime: 0,
    places: [(0, 0); MOST],
    count: 0,
}));

fn known() -> &'static Known {
    // SAFETY: nobody writes while anybody reads.
    unsafe { &*KNOWN.0.get() }
}

/// Notes what the pod's table tells: at init, and at a restart, which may have put the store elsewhere.
pub fn learn(table: &PodTable) {
    // Most have none, and no memory to spare.
    if table.private().next() == Some(0) {
        return BY_NAMES.store(false, Ordering::Relaxed);
    }
    let text: Vec<u8> = table.private().collect();
    let Some((By::Names, store, _, directories)) = decode(&text) else {
        return BY_NAMES.store(false, Ordering::Relaxed);
    };
    // As the kernel tells of it.
    let mut buffer = [0; PATH_MAX];
    let store = canonical(store, &mut buffer).unwrap_or(store);
    if by_names() {
        crate::in_hand::change(known().store(), store);
    }
    // SAFETY: at init and at a restart there is one thread.
    unsafe { &mut *KNOWN.0.get() }.note(store, directories);
    crate::path_rooms::make();
    GENERATION.fetch_add(1, Ordering::Relaxed);
    BY_NAMES.store(true, Ordering::Relaxed);
}

/// The path of a directory without symbolic links.
fn canonical<'a>(path: &[u8], buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let directory = fd::open(CPath::new(path)?.as_c_str(), libc::O_PATH | libc::O_CLOEXEC, 0).ok()?;
    let link = zap_sys::small!("/proc/thread-self/fd/{directory}");
    let found = fd::read_link(link.as_c_str(), buffer).ok();
    let _ = fd::close(directory);
    found.filter(|path| path.starts_with(b"/"))
}

/// The directory that `path`, one without a slash at its end, lies in; empty for the root directory.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|c| *c == b'/').and_then(|at| path.get(..at)).unwrap_or_default()
}

impl Known {
    fn note<'a>(&mut self, store: &[u8], directories: impl Iterator<Item = &'a [u8]>) {
        let mut end = 0;
        let mut add = |text: &[u8]| {
            let begin = end;
            self.text.get_mut(begin..begin + text.len())?.copy_from_slice(text);
            end += text.len();
            Some((begin as u16, end as u16))
        };
        if add(store).is_none() {
            return;
        }
        self.count = 0;
        for (path, place) in directories.zip(&mut self.places) {
            let Some(noted) = add(path) else { break };
            *place = noted;
            self.count += 1;
        }
        self.store = store.len();
        self.runtime = parent(parent(store)).len();
    }

    fn store(&self) -> &[u8] {
        self.text.get(..self.store).unwrap_or_default()
    }

    fn runtime(&self) -> &[u8] {
        self.text.get(..self.runtime).unwrap_or_default()
    }

    /// The path by which the pod knows directory `number`; empty if there is none.
    fn directory(&self, number: usize) -> &[u8] {
        let place = self.places.get(..self.count).and_then(|places| places.get(number));
        place.and_then(|(begin, end)| self.text.get(usize::from(*begin)..usize::from(*end))).unwrap_or_default()
    }

    fn numbered(&self, path: &[u8]) -> Option<usize> {
        (0..self.count).find(|number| self.directory(*number) == path)
    }
}

/// The pod's path of directory `number`; empty if there is none.
pub fn directory(number: usize) -> &'static [u8] {
    known().directory(number)
}

/// The directory that the pod knows by `path`.
pub fn numbered(path: &[u8]) -> Option<usize> {
    known().numbered(path)
}

/// The host's path of what stands for the pod's directories.
pub fn store() -> &'static [u8] {
    known().store()
}

/// The host's path of Zap's runtime directory.
pub fn runtime() -> &'static [u8] {
    known().runtime()
}

/// The directory that a path of the host's, without symbolic links, lies in, and the path from there: empty, or with a slash before it.
pub fn below_store(host: &[u8]) -> Option<(usize, &[u8])> {
    let number = host.strip_prefix(store())?.strip_prefix(b"/")?;
    let (value, rest) = zap_sys::text::decimal(number);
    let is_name = number.first().is_some_and(u8::is_ascii_digit) && (rest.is_empty() || rest[0] == b'/');
    let value = usize::try_from(value).ok().filter(|value| is_name && *value < known().count)?;
    Some((value, rest))
}

/// The pod's path, in two parts, of a path of the host's in the store.
pub fn seen(host: &[u8]) -> Option<[&[u8]; 2]> {
    below_store(host).map(|(number, rest)| [directory(number), rest])
}

/// Writes the pod's path of the one of `length` bytes in `buffer` in its place, if that lies in the store and there is room; returns
/// the length of what is there now.
pub fn see(buffer: &mut [u8], length: usize) -> usize {
    let Some((number, rest)) = buffer.get(..length).and_then(below_store) else { return length };
    let (own, from) = (directory(number), length - rest.len());
    if own.len() + rest.len() > buffer.len() {
        return length;
    }
    buffer.copy_within(from..length, own.len());
    buffer[..own.len()].copy_from_slice(own);
    own.len() + (length - from)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Once;

    /// What the tests know, once for all of them.
    pub fn learn_some() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let directories = [&b"/tmp"[..], b"/var/run"];
            // SAFETY: nobody else is here yet.
            unsafe { &mut *KNOWN.0.get() }.note(b"/tmp/zap/private/7", directories.into_iter());
        });
    }

    #[test]
    fn paths_are_seen_as_the_pods() {
        learn_some();
        assert_eq!((store(), runtime()), (&b"/tmp/zap/private/7"[..], &b"/tmp/zap"[..]));
        assert_eq!(seen(b"/tmp/zap/private/7/0"), Some([&b"/tmp"[..], b""]));
        assert_eq!(seen(b"/tmp/zap/private/7/1/a/b"), Some([&b"/var/run"[..], b"/a/b"]));
        for other in [
            &b"/tmp/zap/private/7"[..],
            b"/tmp/zap/private/7/2",
            b"/tmp/zap/private/70/1",
            b"/tmp/zap/private/7/0x",
            b"/",
        ] {
            assert_eq!(seen(other), None);
        }
        let mut buffer = *b"/tmp/zap/private/7/1/a....";
        assert_eq!(see(&mut buffer, 22), 10);
        assert_eq!(&buffer[..10], b"/var/run/a");
        assert_eq!(see(&mut buffer, 10), 10);
    }
}
