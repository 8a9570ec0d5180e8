//! Asynchronous I/O of the kernel (io_setup(2)): contexts come along with the events that nobody has reaped.
//!
//! A context's number is the address of its ring, which the kernel maps. A new context can be moved to where the old one
//! was (mremap(2)), and then bears its number. Events that have not been reaped lie in the ring between head and tail. The
//! tail is the kernel's own: it is brought forward by requests that end at once, over whose events the saved ones are then
//! written. Only their order and number count: the new ring begins at its beginning, and may have another length.
//!
//! Requests that the kernel still works on are waited for, but for those that wait themselves ([`crate::aio_polls`]). How many there are follows
//! from how many have been submitted, which the wrappers note, and from the ring's tail: both count from the ring's
//! making, the tail modulo the ring's length, and there are always fewer requests than that. So nothing need be known of
//! the reaping, which programs do in their own memory too.
//!
//! # Safety
//! Rings are read through the kernel, which answers EFAULT where there is none; at a restart nobody else runs.
#![allow(unsafe_code)]

use crate::aio_polls::{self, Followed, Poll};
use crate::state::Owned;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use zap_plugin::Refusal;
use zap_sys::aio::{self, Event, Nothing, Ring, HEADER};
use zap_sys::maps::{self, Mapping};
use zap_sys::{fd, libc, mem, time};

/// What is known of a context. What is zero has never been used.
struct Known {
    context: AtomicU64,
    /// Requests that the kernel has taken since the ring was made.
    submitted: AtomicU64,
    /// For how many io_setup(2) was asked.
    events: AtomicU32,
    /// Its requests that may wait for ever.
    polls: Followed,
}

impl Known {
    const fn new() -> Self {
        let (context, submitted, events) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU32::new(0));
        Self { context, submitted, events, polls: Followed::new() }
    }
}

/// Contexts that are known at a time; those for which there is no room refuse the checkpoint.
const ROOM: usize = 1024;
/// Places at which a context is looked for.
const WINDOW: usize = 64;

static KNOWN: [Known; ROOM] = [const { Known::new() }; ROOM];
/// Whether there has ever been one.
static USED: AtomicBool = AtomicBool::new(false);

/// Where `context` may be noted, up to the first place that has never been used, that one included.
fn places(context: u64) -> impl Iterator<Item = &'static Known> {
    let first = ((context >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54) as usize;
    let mut ended = false;
    let all = (0..WINDOW).map(move |step| &KNOWN[(first + step) % ROOM]);
    all.take_while(move |known| !core::mem::replace(&mut ended, known.context.load(Ordering::Relaxed) == 0))
}

fn find(context: u64) -> Option<&'static Known> {
    places(context).find(|known| known.context.load(Ordering::Relaxed) == context)
}

/// Notes that io_setup(2) has made `context`, when `events` were asked for. In a section that ends before the thread is
/// suspended; so for [`submitting`].
pub fn note_made(context: u64, events: u32) {
    USED.store(true, Ordering::Relaxed);
    let take = |known: &'static Known| {
        let old = known.context.load(Ordering::Relaxed);
        // What wrappers do not see (io_destroy) the kernel tells.
        let free = old == 0 || old == context || !aio::exists(old);
        free && known.context.compare_exchange(old, context, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    };
    let known = find(context).or_else(|| places(context).find(|known| take(known)));
    if let Some(known) = known {
        known.events.store(events, Ordering::Relaxed);
        known.submitted.store(0, Ordering::Relaxed);
        known.polls.begin(context);
    }
}

/// Makes `call`, which submits `count` requests to `context`, their addresses at `list`, and returns how many the kernel has
/// taken.
pub fn submitting<E>(context: u64, list: u64, count: i64, call: impl FnOnce() -> Result<usize, E>) -> Result<usize, E> {
    let Some(known) = find(context) else { return call() };
    let count = count.max(0) as u64;
    let polls = known.polls.note(context, list, count);
    let result = call();
    let taken = result.as_ref().map_or(0, |taken| *taken as u64);
    known.submitted.fetch_add(taken, Ordering::Relaxed);
    if polls && taken < count {
        known.polls.take_back(context, list, count, taken);
    }
    result
}

/// A context that is to be made again.
struct Saved {
    context: u64,
    /// Of the ring, in bytes.
    length: u64,
    asked: u32,
    /// What has not been reaped, in order.
    events: Vec<Event>,
    /// What waits, and is submitted again.
    polls: Vec<Poll>,
}

static SAVED: Owned<Vec<Saved>> = Owned::new(Vec::new());

/// How long requests may take to end, for all contexts together, while the program stands.
const LIMIT_NS: u64 = 2_000_000_000;
const LOOK_EVERY_NS: u64 = 500_000;

fn refusal(context: u64, reason: impl core::fmt::Display) -> Refusal {
    Refusal::new(format!("asynchronous I/O (io_setup) at {context:x}"), reason)
}

fn ring_at(context: u64) -> Result<Ring, Refusal> {
    let mut bytes = [0u8; HEADER as usize];
    if mem::read_own(context, &mut bytes) != Ok(bytes.len()) {
        return Err(refusal(context, "its ring cannot be read"));
    }
    // SAFETY: as many bytes; every bit pattern is a value of this structure of integers.
    let ring: Ring = unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) };
    if ring.room == 0 || ring.tail >= ring.room || u64::from(ring.header_length) != HEADER {
        return Err(refusal(context, "its ring is of an unknown form"));
    }
    Ok(ring)
}

/// Requests that have not ended, when so many have been submitted.
fn in_flight(ring: &Ring, submitted: u64) -> u32 {
    let room = u64::from(ring.room);
    ((submitted % room + room - u64::from(ring.tail)) % room) as u32
}

/// Waits until the kernel works on no request any more. Before anything is saved in any process: a request may write to
/// what another one has.
pub fn settle() -> Result<(), Refusal> {
    SAVED.with(Vec::clear);
    if !USED.load(Ordering::Relaxed) {
        return Ok(());
    }
    let begun = time::monotonic_ns();
    for known in &KNOWN {
        let context = known.context.load(Ordering::Relaxed);
        if context == 0 || !aio::exists(context) {
            continue;
        }
        let mut waited = false;
        loop {
            let count = in_flight(&ring_at(context)?, known.submitted.load(Ordering::Relaxed));
            let polls = known.polls.count(context);
            if count == polls.unwrap_or(0) {
                break;
            }
            if time::monotonic_ns().saturating_sub(begun) > LIMIT_NS {
                let ending = count.saturating_sub(polls.unwrap_or(0));
                return Err(refusal(context, format!("{ending} requests that have not ended (io_submit)")));
            }
            waited = true;
            time::sleep_ns(LOOK_EVERY_NS);
        }
        if waited {
            // The kernel tells the request's eventfd after the tail.
            time::sleep_ns(LOOK_EVERY_NS);
        }
        let asked = known.events.load(Ordering::Relaxed);
        SAVED.with(|saved| saved.push(Saved { context, length: 0, asked, events: Vec::new(), polls: Vec::new() }));
    }
    Ok(())
}

/// Whether a mapping is the ring of a context. A fork's child has its parent's rings in memory, and no context with them.
pub fn is_ring(mapping: &Mapping<'_>) -> bool {
    mapping.shared && mapping.name.starts_with(b"/[aio]")
}

/// Copies the events that have not been reaped; `text` is that of the maps.
pub fn save(text: &[u8]) -> Result<(), Refusal> {
    SAVED.with(|saved| {
        for mapping in maps::parse(text).filter(is_ring) {
            match saved.iter_mut().find(|saved| saved.context == mapping.start) {
                Some(saved) => saved.take(mapping.length())?,
                None if aio::exists(mapping.start) => {
                    return Err(refusal(mapping.start, "made by a system call of the program's own"));
                }
                None => {}
            }
        }
        match saved.iter().find(|saved| saved.length == 0) {
            Some(saved) => Err(refusal(saved.context, "its ring is not where it was")),
            None => Ok(()),
        }
    })
}

impl Saved {
    fn take(&mut self, length: u64) -> Result<(), Refusal> {
        self.length = length;
        // What waits may end at any moment, and must not be both.
        loop {
            let ring = ring_at(self.context)?;
            if HEADER + u64::from(ring.room) * core::mem::size_of::<Event>() as u64 > length {
                return Err(refusal(self.context, "its ring is of an unknown form"));
            }
            self.take_events(&ring)?;
            if let Some(known) = find(self.context) {
                known.polls.look(self.context);
            }
            if ring_at(self.context)?.tail == ring.tail {
                break;
            }
        }
        // Where it is not known what waits nothing does: `settle` has seen that.
        let is_known = find(self.context).is_some_and(|known| !known.polls.is_lost());
        self.polls = if is_known { aio_polls::waiting(self.context) } else { Vec::new() };
        for poll in &self.polls {
            let descriptor = aio_polls::descriptor_of(&poll.request);
            let reason = if poll.file == 0 || aio_polls::file_of(descriptor) != poll.file {
                "would find it closed"
            } else if !mem::is_readable(poll.address, REQUEST) {
                "stands in memory that is gone"
            } else {
                continue;
            };
            return Err(refusal(
                self.context,
                format!("what waits for descriptor {descriptor} (IOCB_CMD_POLL) {reason}"),
            ));
        }
        Ok(())
    }

    fn take_events(&mut self, ring: &Ring) -> Result<(), Refusal> {
        self.events.clear();
        // As the kernel, which takes whatever the program has written there.
        let head = ring.head % ring.room;
        for step in 0..(ring.tail + ring.room - head) % ring.room {
            let mut event = [0u8; core::mem::size_of::<Event>()];
            let place = place_of(self.context, (head + step) % ring.room);
            if mem::read_own(place, &mut event) != Ok(event.len()) {
                return Err(refusal(self.context, "its ring cannot be read"));
            }
            // SAFETY: as many bytes, of integers.
            self.events.push(unsafe { core::ptr::read_unaligned(event.as_ptr().cast()) });
        }
        Ok(())
    }

    /// Makes the context, at the place that the image keeps for it.
    fn restore(&self, nothing: &mut Nothing) -> Result<(), Refusal> {
        let mut attempts = 0;
        let made = loop {
            let made = self.make()?;
            match self.fill(made, nothing) {
                Ok(()) => break made,
                Err(refusal) => {
                    let _ = aio::destroy(made);
                    attempts += 1;
                    // Each processor sets a part of the requests aside (EAGAIN): the thread may have moved to another one.
                    if attempts == ATTEMPTS {
                        return Err(refusal);
                    }
                }
            }
        };
        // SAFETY: the new ring, which nobody uses yet, and the place that has been kept for it.
        if let Err(error) = unsafe { mem::move_mapping(made, self.length, self.context) } {
            let _ = aio::destroy(made);
            return Err(refusal(self.context, error));
        }
        if let Some(known) = find(self.context) {
            known.submitted.store(self.events.len() as u64, Ordering::Relaxed);
            known.polls.begin_at(self.events.len() as u32);
        }
        Ok(())
    }

    /// A new context whose ring is as long as the old one. How long it gets for how many requests depends on the host's
    /// processors (fs/aio.c, ioctx_alloc).
    fn make(&self) -> Result<u64, Refusal> {
        let refused = |error| refusal(self.context, error);
        // As many as have room: twice the number, two more, and the ring's head.
        let fitting = ((self.length - HEADER) / core::mem::size_of::<Event>() as u64).saturating_sub(2) / 2;
        for asked in [self.asked, fitting.min(i32::MAX as u64) as u32] {
            let made = aio::setup(asked).map_err(refused)?;
            let text = crate::memory::read_all(c"/proc/thread-self/maps")?;
            let length = maps::parse(&text).find(|mapping| mapping.start == made).map_or(0, |mapping| mapping.length());
            if length == self.length {
                return Ok(made);
            }
            aio::destroy(made).map_err(refused)?;
        }
        Err(refusal(self.context, "the ring has another length on this host, which has more processors"))
    }

    /// Puts the events into the ring of `made`, which is empty.
    fn fill(&self, made: u64, nothing: &mut Nothing) -> Result<(), Refusal> {
        let mut left = self.events.len();
        while left > 0 {
            left -= aio::submit(made, nothing, left).map_err(|error| refusal(self.context, error))?;
        }
        let ring = ring_at(made)?;
        if (ring.head, ring.tail as usize) != (0, self.events.len()) {
            return Err(refusal(self.context, "its events cannot be put back"));
        }
        for (index, event) in self.events.iter().enumerate() {
            // SAFETY: inside the ring, which has room for the events up to its tail.
            unsafe { (place_of(made, index as u32) as *mut Event).write(*event) };
        }
        Ok(())
    }
}

/// Bytes of a request.
const REQUEST: usize = core::mem::size_of::<aio_polls::Request>();

/// Times that a context is made, at most.
const ATTEMPTS: usize = 8;

/// Where event number `index` of a ring is.
fn place_of(context: u64, index: u32) -> u64 {
    context + HEADER + u64::from(index) * core::mem::size_of::<Event>() as u64
}

/// Makes the contexts again. Descriptors are whole; no thread runs.
pub fn restore() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        if saved.is_empty() {
            return Ok(());
        }
        let file = fd::memfd_create(c"zap", libc::MFD_CLOEXEC).map_err(|error| Refusal::new("memfd", error))?;
        let result = saved.iter().try_for_each(|saved| saved.restore(&mut Nothing::of(file)));
        let _ = fd::close(file);
        result
    })
}

/// Submits again what waits for descriptors, when all of them in every process are as they were. The threads of the program
/// stand still.
pub fn restore_polls() -> Result<(), Refusal> {
    SAVED.with(|saved| {
        for saved in saved.iter() {
            saved.polls.iter().try_for_each(|poll| submit_again(saved.context, poll))?;
        }
        Ok(())
    })
}

/// The kernel knows a request by its address, where the program may have something else by now.
fn submit_again(context: u64, poll: &Poll) -> Result<(), Refusal> {
    let refused = |error| refusal(context, error);
    let (mut before, mut bytes) = ([0u8; REQUEST], [0u8; REQUEST]);
    for (place, word) in bytes.chunks_exact_mut(8).zip(&poll.request) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    if mem::read_own(poll.address, &mut before).map_err(refused)? != REQUEST {
        return Err(refusal(context, "a request stands in memory that is gone"));
    }
    mem::write_own(poll.address, &bytes).map_err(refused)?;
    let result = zap_sys::aio::submit_at(context, poll.address).map_err(refused);
    mem::write_own(poll.address, &before).map_err(refused)?;
    if let Some(known) = find(context) {
        known.submitted.fetch_add(1, Ordering::Relaxed);
    }
    aio_polls::note_file(context, poll);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_in_flight() {
        let ring = |room, tail| Ring { room, tail, ..Ring::default() };
        for (room, tail, submitted, expected) in
            [(127, 0, 0, 0), (127, 0, 3, 3), (127, 3, 3, 0), (127, 2, 129, 0), (127, 126, 128, 2), (127, 1, 127, 126)]
        {
            assert_eq!(in_flight(&ring(room, tail), submitted), expected, "{room} {tail} {submitted}");
        }
    }

    #[test]
    fn contexts_are_known_by_their_addresses() {
        for page in 1..=200u64 {
            note_made(page << 12, page as u32);
            let _ = submitting(page << 12, 0, 0, || Ok::<_, ()>(page as usize));
        }
        // None of them is a context, so that each place may be taken again.
        let known = find(200 << 12).unwrap();
        assert_eq!((known.events.load(Ordering::Relaxed), known.submitted.load(Ordering::Relaxed)), (200, 200));
        note_made(200 << 12, 7);
        assert_eq!((known.events.load(Ordering::Relaxed), known.submitted.load(Ordering::Relaxed)), (7, 0));
    }
}
