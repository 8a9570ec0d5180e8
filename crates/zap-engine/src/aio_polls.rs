//! Requests of asynchronous I/O that wait until a descriptor is ready (IOCB_CMD_POLL), perhaps for ever: they are submitted
//! again at a restart, from copies that were taken when they were submitted.
//!
//! The kernel tells nobody which of them wait. What has ended stands in the context's ring, reaped or not, until as many
//! events have come as the ring has room for; there are never so many requests. So it is enough to look at what is new in the
//! ring each time before something is submitted.
//!
//! # Safety
//! Memory of the program's is looked at when the kernel has found it readable: in the call that follows it reads it too.
#![allow(unsafe_code)]

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use zap_sys::aio::{Event, Ring, HEADER};
use zap_sys::{fd, mem, PAGE_SIZE};

/// struct iocb, as words.
pub type Request = [u64; 8];

const POLL: u16 = 5;

fn is_poll(request: &Request) -> bool {
    request[2] as u16 == POLL
}

/// The descriptor of a request.
pub fn descriptor_of(request: &Request) -> i32 {
    (request[2] >> 32) as i32
}

/// What tells the file of a descriptor from another that has got its number; 0 where it is closed.
pub fn file_of(descriptor: i32) -> u64 {
    fd::fstat(descriptor).map_or(0, |stat| (stat.st_dev.rotate_left(32) ^ stat.st_ino).max(1))
}

/// A request that waits.
#[derive(Clone, Copy)]
pub struct Poll {
    /// Where the program had it.
    pub address: u64,
    pub request: Request,
    pub file: u64,
}

struct Place {
    context: AtomicU64,
    request: [AtomicU64; 8],
    file: AtomicU64,
}

/// Requests that may wait at a time, of all contexts.
const ROOM: usize = 4096;
/// Places at which one is looked for.
const WINDOW: usize = 64;

/// The requests that wait.
struct Table {
    /// Their addresses, 0 where there is none.
    addresses: [AtomicU64; ROOM],
    places: [Place; ROOM],
}

/// Mapped when the first one comes: most programs have none, and may have locked all that they have in memory (mlockall(2)).
static TABLE: AtomicPtr<Table> = AtomicPtr::new(core::ptr::null_mut());
static USED: AtomicBool = AtomicBool::new(false);

fn table() -> Option<&'static Table> {
    // SAFETY: null, or a mapping that stays; zeroes are a table.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

fn made_table() -> Option<&'static Table> {
    if table().is_none() {
        let length = core::mem::size_of::<Table>();
        let mapped = mem::map_anonymous(length).ok()?;
        let null = core::ptr::null_mut();
        if TABLE.compare_exchange(null, mapped as *mut Table, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: just mapped, and known to nobody.
            let _ = unsafe { mem::unmap(mapped, length as u64) };
        }
    }
    table()
}

fn window(address: u64) -> impl Iterator<Item = usize> {
    let first = ((address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as usize;
    (0..WINDOW).map(move |step| (first + step) % ROOM)
}

impl Table {
    fn find(&self, context: u64, address: u64) -> Option<usize> {
        let is_it = |index: &usize| {
            let (known, place) = (&self.addresses[*index], &self.places[*index]);
            known.load(Ordering::Relaxed) == address && place.context.load(Ordering::Acquire) == context
        };
        window(address).find(is_it)
    }

    fn free(&self, index: usize) {
        self.places[index].context.store(0, Ordering::Relaxed);
        self.addresses[index].store(0, Ordering::Release);
    }
}

fn remove(context: u64, address: u64) {
    if let Some((table, index)) = table().and_then(|table| Some((table, table.find(context, address)?))) {
        table.free(index);
    }
}

/// False where there is no room.
fn insert(context: u64, address: u64, request: &Request) -> bool {
    let Some(table) = made_table() else { return false };
    let take = |index: &usize| {
        table.addresses[*index].compare_exchange(0, address, Ordering::Acquire, Ordering::Relaxed).is_ok()
    };
    let Some(index) = window(address).find(take) else { return false };
    let place = &table.places[index];
    for (word, value) in place.request.iter().zip(request) {
        word.store(*value, Ordering::Relaxed);
    }
    place.file.store(file_of(descriptor_of(request)), Ordering::Relaxed);
    place.context.store(context, Ordering::Release);
    true
}

/// The descriptor that `poll` waits for is of a new file, after a restart.
pub fn note_file(context: u64, poll: &Poll) {
    if let Some((table, index)) = table().and_then(|table| Some((table, table.find(context, poll.address)?))) {
        table.places[index].file.store(file_of(descriptor_of(&poll.request)), Ordering::Relaxed);
    }
}

fn of(context: u64) -> impl Iterator<Item = (&'static Table, usize)> {
    let used = table().filter(|_| USED.load(Ordering::Relaxed));
    let all = used.into_iter().flat_map(|table| (0..ROOM).map(move |index| (table, index)));
    all.filter(move |(table, index)| table.places[*index].context.load(Ordering::Acquire) == context)
}

/// What waits in `context`. When nobody submits.
pub fn waiting(context: u64) -> Vec<Poll> {
    let poll = |(table, index): (&Table, usize)| {
        let place = &table.places[index];
        let mut request = Request::default();
        for (value, word) in request.iter_mut().zip(&place.request) {
            *value = word.load(Ordering::Relaxed);
        }
        let (address, file) = (table.addresses[index].load(Ordering::Relaxed), place.file.load(Ordering::Relaxed));
        Poll { address, request, file }
    };
    of(context).map(poll).collect()
}

/// How a context's ring is followed. All-zero is the initial state.
pub struct Followed {
    lock: AtomicU32,
    /// There has been a poll.
    is_followed: AtomicBool,
    /// What waits is not known any more.
    is_lost: AtomicBool,
    /// The first event that has not been looked at.
    next: AtomicU32,
}

impl Followed {
    pub const fn new() -> Self {
        let (lock, next) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { lock, is_followed: AtomicBool::new(false), is_lost: AtomicBool::new(false), next }
    }

    /// The ring of `context` is a new one.
    pub fn begin(&self, context: u64) {
        of(context).for_each(|(table, index)| table.free(index));
        self.is_followed.store(false, Ordering::Relaxed);
        self.is_lost.store(false, Ordering::Relaxed);
        self.lock.store(0, Ordering::Release);
    }

    /// The ring has been made again, with so many events, which all have been looked at.
    pub fn begin_at(&self, next: u32) {
        self.next.store(next, Ordering::Relaxed);
    }

    /// Does `work` unless another thread does such; that takes no time, if this is not a handler that has interrupted it.
    fn locked(&self, work: impl FnOnce() -> bool) {
        const LONGEST: u32 = 200_000;
        let take = |_: &u32| {
            core::hint::spin_loop();
            self.lock.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let taken = (0..LONGEST).any(|look| take(&look));
        if !(taken && work()) {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        if taken {
            self.lock.store(0, Ordering::Release);
        }
    }

    /// Looks at what is new in the ring of `context`.
    pub fn look(&self, context: u64) {
        if self.is_followed.load(Ordering::Relaxed) {
            self.locked(|| self.take_ended(context));
        }
    }

    fn take_ended(&self, context: u64) -> bool {
        let Some((room, tail)) = ring_of(context) else { return true };
        let mut at = self.next.load(Ordering::Relaxed) % room;
        while at != tail {
            let event = context + HEADER + u64::from(at) * core::mem::size_of::<Event>() as u64;
            // SAFETY: inside the ring.
            let ended = unsafe { core::ptr::read_volatile((event + 8) as *const u64) };
            remove(context, ended);
            at = (at + 1) % room;
        }
        self.next.store(tail, Ordering::Relaxed);
        true
    }

    /// Whether it is not known what waits.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// How many wait; `None` where that is not known. When nobody submits.
    pub fn count(&self, context: u64) -> Option<u32> {
        self.look(context);
        (!self.is_lost()).then(|| of(context).count() as u32)
    }

    /// Before so many requests are submitted, whose addresses are at `list`: notes those that may wait. Returns whether there
    /// are such.
    pub fn note(&self, context: u64, list: u64, count: u64) -> bool {
        self.look(context);
        let mut found = false;
        for (address, request) in requests(list, count).filter(|(_, request)| is_poll(request)) {
            if !found && !self.is_followed.load(Ordering::Relaxed) {
                self.locked(|| {
                    if !self.is_followed.load(Ordering::Relaxed) {
                        self.next.store(ring_of(context).map_or(0, |(_, tail)| tail), Ordering::Relaxed);
                        USED.store(true, Ordering::Relaxed);
                        self.is_followed.store(true, Ordering::Relaxed);
                    }
                    true
                });
            }
            found = true;
            if !insert(context, address, &request) {
                self.is_lost.store(true, Ordering::Relaxed);
            }
        }
        found
    }

    /// The kernel has taken only `taken` of them.
    pub fn take_back(&self, context: u64, list: u64, count: u64, taken: u64) {
        for (address, _) in requests(list, count).skip(taken as usize).filter(|(_, request)| is_poll(request)) {
            remove(context, address);
        }
    }
}

/// Room and tail of the ring of `context`, if it is there.
fn ring_of(context: u64) -> Option<(u32, u32)> {
    if !mem::is_readable(context, HEADER as usize) {
        return None;
    }
    // SAFETY: it can be read; the kernel writes to it.
    let ring = unsafe { core::ptr::read_volatile(context as *const Ring) };
    // The kernel writes an event before the tail (fs/aio.c, aio_complete).
    core::sync::atomic::fence(Ordering::Acquire);
    let last = context + HEADER + u64::from(ring.room) * core::mem::size_of::<Event>() as u64 - 8;
    let is_ring = ring.room > 0 && ring.tail < ring.room && u64::from(ring.header_length) == HEADER;
    (is_ring && mem::is_readable(last, 8)).then_some((ring.room, ring.tail))
}

/// The requests, up to the first that cannot be read: there the kernel ends too.
fn requests(list: u64, count: u64) -> impl Iterator<Item = (u64, Request)> {
    // The kernel takes no more than the ring has room for.
    const MOST: u64 = 1 << 20;
    let mut known = [u64::MAX; 2];
    let mut is_readable = move |address: u64, length: usize, which: usize| {
        let (first, last) = (address / PAGE_SIZE as u64, address.wrapping_add(length as u64 - 1) / PAGE_SIZE as u64);
        if known[which] == first && first == last {
            return true;
        }
        let readable = mem::is_readable(address, length);
        known[which] = if readable { first } else { u64::MAX };
        readable
    };
    (0..count.min(MOST)).map_while(move |index| {
        let place = list.wrapping_add(index * 8);
        if !is_readable(place, 8, 0) {
            return None;
        }
        // SAFETY: it can be read.
        let address = unsafe { core::ptr::read_unaligned(place as *const u64) };
        if !is_readable(address, core::mem::size_of::<Request>(), 1) {
            return None;
        }
        // SAFETY: as above.
        Some((address, unsafe { core::ptr::read_unaligned(address as *const Request) }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_noted_until_they_end() {
        let mut polls = [[0u64; 8]; 3];
        polls[0][2] = u64::from(POLL);
        polls[2][2] = u64::from(POLL) | 1 << 32;
        let list: Vec<u64> = polls.iter().map(|poll| core::ptr::from_ref(poll) as u64).collect();
        // Other tests have others.
        let (context, followed) = (0x10_0000, Followed::new());
        assert!(followed.note(context, list.as_ptr() as u64, 3));
        let mut found: Vec<u64> = waiting(context).iter().map(|poll| poll.address).collect();
        found.sort_unstable();
        assert_eq!(found, [list[0], list[2]]);
        assert!(waiting(context).iter().any(|poll| descriptor_of(&poll.request) == 1));
        followed.take_back(context, list.as_ptr() as u64, 3, 2);
        assert_eq!(waiting(context).len(), 1);
        remove(context + 0x1000, list[0]);
        assert_eq!(waiting(context).len(), 1);
        remove(context, list[0]);
        assert!(waiting(context).is_empty());
    }
}
