//! Events of inotify(7) that the program has not read: the kernel gives them once, so a checkpoint takes them, and puts
//! placeholders for them into the queue at once.
//!
//! A placeholder is what the kernel itself queues when a watch ends (IN_IGNORED, 16 bytes): a watch under a number far above
//! the program's (INOTIFY_IOC_SETNEXTWD) that is taken and left. An event has as many as it is long, so that poll(2), epoll,
//! FIONREAD, later events, forks and closes are the kernel's affair as before; whoever reads the last one has the event.
//! Only the wrappers of read(2) look behind them, and only while there are any. What is queued anew may be told of anew
//! (O_ASYNC, EPOLLET).
//!
//! What each stands for never changes once it is published: a reader takes no lock, and finds after a fork what was there
//! before. Memory is mapped, since a reader may have interrupted who holds Zap's arena.
//!
//! # Safety
//! Batches are mappings, written before they are published, and unmapped only while all other threads are suspended, none of
//! which is in a guarded section, as every reader is ([`hand_over`]).
#![allow(unsafe_code)]

use alloc::format;
use alloc::string::String;
use core::ffi::CStr;
use core::mem::size_of;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use zap_plugin::sys::{fd, libc, mem, process, time, RawFd, Result, PAGE_SIZE};

/// Numbers of placeholders; the program's own count from 1.
const FIRST: i32 = 1 << 30;
const NUMBERS: u64 = 1 << 30;

/// Of an event without a name, and the unit in which names are padded (`round_event_name_len`, fs/notify/inotify).
const UNIT: usize = size_of::<libc::inotify_event>();

/// The longest event: a name of NAME_MAX bytes.
const LONGEST: usize = UNIT + 256;

/// Read at once while the queue is emptied; and what may come of it.
const PORTION: usize = 4096;
const MOST_OF_PORTION: usize = PORTION / UNIT * LONGEST;

/// Bytes of events that are kept for readers that may never come: an instance can be closed with all it holds.
const MOST_KEPT: usize = 32 << 20;

/// Times that the queue is set up anew because others have caused events in between.
const TRIES: u32 = 16;

/// Milliseconds for which a number that the user has no more watches for is asked for again.
const PATIENCE: u32 = 2000;

/// What can be watched for nothing but the end of its file system, of which the first that the program does not watch is
/// taken.
const SOMETHING: [&CStr; 4] = [c"/", c"/proc", c"/proc/self", c"/dev/null"];

/// Placeholders that nobody has read yet.
static OUTSTANDING: AtomicUsize = AtomicUsize::new(0);

/// Whether a fork has copied what placeholders stand for: the other process may read them too, and knows no others.
static COPIED: AtomicBool = AtomicBool::new(false);

/// The newest batch.
static NEWEST: AtomicPtr<Batch> = AtomicPtr::new(core::ptr::null_mut());

/// What placeholders with numbers in a row stand for. Behind it lie a word for each, and the events.
struct Batch {
    older: AtomicPtr<Batch>,
    /// Of the mapping.
    length: usize,
    first: i32,
    count: u32,
    /// Placeholders that have not been read.
    left: AtomicU32,
    /// Bytes of events.
    bytes: usize,
}

/// Bit of a placeholder's word: the last one of its event, whose place are the others.
const LAST: u32 = 1 << 31;

impl Batch {
    fn words(&self) -> &'static [u32] {
        // SAFETY: behind each batch, written before it was published; batches live as long as anybody looks (see above).
        unsafe { core::slice::from_raw_parts(core::ptr::from_ref(self).add(1).cast(), self.count as usize) }
    }

    fn events(&self) -> &'static [u8] {
        // SAFETY: as above, behind the words.
        unsafe { core::slice::from_raw_parts(self.words().as_ptr_range().end.cast(), self.bytes) }
    }

    fn index(&self, number: i32) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok().filter(|index| *index < self.count as usize)
    }

    /// So many more are not awaited any longer. Of what two processes read nobody knows how many are left.
    fn forget(&self, count: u32) {
        if COPIED.load(Ordering::Relaxed) {
            return;
        }
        let left = |left: u32| Some(left.saturating_sub(count));
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or(0);
        OUTSTANDING.fetch_sub(before.min(count) as usize, Ordering::Relaxed);
    }
}

fn batches() -> impl Iterator<Item = &'static Batch> {
    // SAFETY: null or published (see above).
    let at = |place: &AtomicPtr<Batch>| unsafe { place.load(Ordering::Acquire).as_ref() };
    core::iter::successors(at(&NEWEST), move |batch| at(&batch.older))
}

fn batch_of(number: i32) -> Option<&'static Batch> {
    batches().find(|batch| batch.index(number).is_some())
}

/// Memory of its own, of a fixed size.
struct Room {
    start: u64,
    capacity: usize,
    length: usize,
}

impl Room {
    fn new(capacity: usize) -> Result<Self> {
        Ok(Self { start: mem::map_anonymous(capacity)?, capacity, length: 0 })
    }

    fn spare(&self) -> usize {
        self.capacity - self.length
    }

    /// All of it, with what has not been written yet.
    fn whole(&mut self) -> &mut [u8] {
        // SAFETY: a mapping of its own.
        unsafe { core::slice::from_raw_parts_mut(self.start as *mut u8, self.capacity) }
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: as above.
        unsafe { core::slice::from_raw_parts(self.start as *const u8, self.length) }
    }

    /// What has no room is left out; callers look first.
    fn push(&mut self, bytes: &[u8]) {
        let at = self.length;
        if let Some(place) = self.whole().get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        let _ = unsafe { mem::unmap(self.start, self.capacity as u64) };
    }
}

fn word(event: &[u8], at: usize) -> u32 {
    event.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn number_of(event: &[u8]) -> i32 {
    word(event, 0) as i32
}

fn mask_of(event: &[u8]) -> u32 {
    word(event, 4)
}

/// Events as read(2) gives them.
fn events(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    core::iter::from_fn(move || {
        let length = (UNIT + word(bytes, 12) as usize).min(bytes.len());
        let (event, rest) = bytes.split_at(length);
        bytes = rest;
        (!event.is_empty()).then_some(event)
    })
}

fn is_placeholder(event: &[u8]) -> bool {
    event.len() == UNIT && mask_of(event) == libc::IN_IGNORED && number_of(event) >= FIRST
}

/// What is left of events that another process has kept, which this one has got by SCM_RIGHTS, or has set up anew: they are
/// lost, and told of as inotify(7) tells of such.
const LOST: [u8; UNIT] = {
    let mut event = [0u8; UNIT];
    let (number, mask) = ((-1i32).to_ne_bytes(), libc::IN_Q_OVERFLOW.to_ne_bytes());
    let mut at = 0;
    while at < 4 {
        event[at] = number[at];
        event[4 + at] = mask[at];
        at += 1;
    }
    event
};

/// Where an event is kept: its batch, and the index of its last placeholder.
type Place = (&'static Batch, usize);

/// As [`each_kept`], of what has just been read, and is awaited no longer.
fn expand<'a>(read: &'a [u8], each: impl FnMut(&'a [u8], Option<Place>)) -> bool {
    let mut before = None::<&Batch>;
    for event in events(read) {
        if let Some(batch) = is_placeholder(event).then(|| batch_of(number_of(event))).flatten() {
            batch.forget(1);
            before = (batch.left.load(Ordering::Relaxed) == 1).then_some(batch);
        } else if let Some(batch) = before.filter(|_| mask_of(event) & libc::IN_Q_OVERFLOW != 0) {
            // A queue that was full has its last event from the kernel, and no placeholder for it.
            batch.forget(1);
        }
    }
    each_kept(read, each)
}

/// Gives `each` the events that what has been read stands for, and where they are kept. Whether it ends within one.
fn each_kept<'a>(read: &'a [u8], mut each: impl FnMut(&'a [u8], Option<Place>)) -> bool {
    let (mut within, mut is_lost) = (false, false);
    for event in events(read) {
        within = false;
        if !is_placeholder(event) {
            each(event, None);
            continue;
        }
        let place = batch_of(number_of(event)).and_then(|batch| Some((batch, batch.index(number_of(event))?)));
        let Some((batch, index)) = place else {
            if !is_lost {
                each(&LOST, None);
            }
            is_lost = true;
            continue;
        };
        let word = batch.words().get(index).copied().unwrap_or(0);
        within = word & LAST == 0;
        if let Some(event) = batch.events().get((word & !LAST) as usize..).filter(|_| !within) {
            each(&event[..(UNIT + self::word(event, 12) as usize).min(event.len())], place);
        }
    }
    within
}

/// Bytes of events that are kept.
fn kept() -> usize {
    batches().map(|batch| batch.bytes).sum()
}

/// A watch for nothing, and what it is set on: it tells which number is next, and that one more can be had.
struct Spare {
    number: i32,
    path: &'static CStr,
}

fn watch_nothing(instance: RawFd, path: &CStr) -> Result<i32> {
    fd::add_watch(instance, path, libc::IN_UNMOUNT | libc::IN_MASK_CREATE)
}

fn spare_watch(instance: RawFd) -> Result<Spare> {
    let mut result = watch_nothing(instance, SOMETHING[0]).map(|number| Spare { number, path: SOMETHING[0] });
    for path in &SOMETHING[1..] {
        if result.is_ok() {
            break;
        }
        result = watch_nothing(instance, path).map(|number| Spare { number, path });
    }
    result
}

/// Work on one instance. All its memory is there before anything is taken from the queue.
struct Work {
    instance: RawFd,
    read: Room,
    /// The events that are in hand.
    list: Room,
    /// Numbers of placeholders that are put back as they were; 0 for an event of the list.
    numbers: Option<Room>,
    /// For the next batch.
    batch: Option<Room>,
    /// What has been taken from the queue, placeholders and events.
    taken: usize,
    /// Bytes up to which the queue is the program's: behind that, opening and reading are told of that were the checkpoint's.
    before: usize,
}

/// What opening, reading and closing a file is told of by; and that there was no more room for it.
const READING: u32 = libc::IN_OPEN | libc::IN_ACCESS | libc::IN_CLOSE_NOWRITE | libc::IN_ISDIR | libc::IN_Q_OVERFLOW;

impl Work {
    /// With room for `more` bytes of events besides those that wait.
    fn new(instance: RawFd, more: usize) -> Result<Self> {
        let list = Room::new(more + kept() + fd::bytes_readable(instance)? + 16 * MOST_OF_PORTION)?;
        let batch = Some(Room::new(room_of_batch(list.capacity))?);
        let is_copied = COPIED.load(Ordering::Relaxed);
        let numbers = if is_copied { Some(Room::new(list.capacity)?) } else { None };
        Ok(Self { instance, read: Room::new(PORTION)?, list, numbers, batch, taken: 0, before: usize::MAX })
    }

    /// Reads a portion. `None` when there is nothing, or no room for what it might come to, which then stays where it is.
    fn read(&mut self) -> Option<usize> {
        let is_due =
            self.list.spare() >= MOST_OF_PORTION && fd::bytes_readable(self.instance).is_ok_and(|count| count != 0);
        if !is_due {
            return None;
        }
        let length = fd::read(self.instance, self.read.whole()).ok()?;
        self.taken += events(&self.read.whole()[..length]).count();
        Some(self.without_readings(length))
    }

    /// Takes what the checkpoint has caused out of what has been read; how many bytes are left.
    fn without_readings(&mut self, length: usize) -> usize {
        let bytes = &mut self.read.whole()[..length];
        let (mut from, mut to) = (0, 0);
        while let Some(one) = length_of_first(&bytes[from..]) {
            let is_left_out = self.before < UNIT && mask_of(&bytes[from..]) & !READING == 0;
            self.before = self.before.saturating_sub(one);
            if !is_left_out {
                bytes.copy_within(from..from + one, to);
                to += one;
            }
            from += one;
        }
        to
    }

    /// Empties the queue into the list, but for the end of watch `skip`.
    fn drain(&mut self, skip: Option<i32>) {
        while let Some(length) = self.read() {
            let (list, numbers) = (&mut self.list, &mut self.numbers);
            expand(&self.read.whole()[..length], |event, place| {
                if skip != Some(number_of(event)) || mask_of(event) != libc::IN_IGNORED {
                    take(list, numbers, event, place);
                }
            });
        }
    }

    /// As [`Work::drain`], with an end to the spare watch, of which nothing is told.
    fn drain_with(&mut self, spare: &Spare) {
        self.drain(None);
        let _ = fd::remove_watch(self.instance, spare.number);
        self.drain(Some(spare.number));
    }

    /// Takes what has come besides the placeholders of `batch`, whose events are in the list.
    fn drain_besides(&mut self, batch: &Batch, was_full: bool) {
        while let Some(length) = self.read() {
            for event in events(&self.read.whole()[..length]) {
                let is_own = is_placeholder(event) && batch.index(number_of(event)).is_some();
                // That it was too much is told of by an event.
                let is_owns_end = was_full && mask_of(event) & libc::IN_Q_OVERFLOW != 0;
                if !is_own && !is_owns_end {
                    self.list.push(event);
                }
            }
        }
    }

    /// Puts placeholders for the list into the queue, which is empty but for what others cause just now, while nobody else
    /// reads from it. Returns the number of the first; 0 if there are none.
    fn put_alone(&mut self, spare: &Spare) -> i32 {
        let mut most = usize::MAX;
        for tries in 1.. {
            let Some(batch) = self.put(spare, most) else { break };
            let (there, expected) = (fd::bytes_readable(self.instance), batch.count as usize * UNIT);
            let there = there.unwrap_or(expected);
            if there == expected || tries == TRIES {
                return batch.first;
            }
            // Another's event has come in between, or the queue takes fewer. All is in hand: once more.
            let Ok(room) = Room::new(room_of_batch(self.list.capacity)) else { return batch.first };
            self.batch = Some(room);
            let was_full = there < expected;
            if was_full {
                most = (there / UNIT).saturating_sub(1);
            }
            self.drain_besides(batch, was_full);
            batch.forget(batch.count);
        }
        0
    }

    /// Puts back what has been taken, with numbers that it had.
    fn put_back(&mut self, spare: &Spare) {
        let Some(numbers) = self.numbers.take() else { return };
        let new = self
            .batch
            .take()
            .filter(|_| self.list.length != 0)
            .map(|room| publish(room, self.list.bytes(), usize::MAX));
        let mut words = new.iter().flat_map(|batch| batch.first..).zip(new.iter().flat_map(|batch| batch.words()));
        for number in numbers.bytes().chunks_exact(4) {
            let number = word(number, 0) as i32;
            if number != 0 {
                queue(self.instance, number, 1, spare);
                continue;
            }
            for (number, word) in words.by_ref() {
                queue(self.instance, number, 1, spare);
                if word & LAST != 0 {
                    break;
                }
            }
        }
    }

    /// Puts at most `most` placeholders into the queue, but one for each event of the list.
    fn put(&mut self, spare: &Spare, most: usize) -> Option<&'static Batch> {
        if self.list.length == 0 {
            return None;
        }
        let batch = publish(self.batch.take()?, self.list.bytes(), most);
        queue(self.instance, batch.first, batch.count, spare);
        Some(batch)
    }
}

fn length_of_first(bytes: &[u8]) -> Option<usize> {
    events(bytes).next().map(<[u8]>::len)
}

/// Takes an event in hand, or, where that is possible and another process reads too, the numbers that it has.
fn take(list: &mut Room, numbers: &mut Option<Room>, event: &[u8], place: Option<Place>) {
    match (numbers, place) {
        (None, _) => list.push(event),
        (Some(numbers), None) => {
            list.push(event);
            numbers.push(&0i32.to_ne_bytes());
        }
        (Some(numbers), Some((batch, last))) => {
            let words = batch.words();
            let is_its = |index: &usize| words.get(*index).is_some_and(|word| (word ^ words[last]) & !LAST == 0);
            let first = (0..=last).rev().take_while(is_its).last().unwrap_or(last);
            for index in first..=last {
                numbers.push(&(batch.first + index as i32).to_ne_bytes());
            }
        }
    }
}

/// For `bytes` of events.
const fn room_of_batch(bytes: usize) -> usize {
    size_of::<Batch>() + bytes / UNIT * size_of::<u32>() + bytes
}

/// Says in `room` what placeholders for `list` stand for.
fn publish(room: Room, list: &[u8], most: usize) -> &'static Batch {
    let start = room.start as *mut Batch;
    let words = start.wrapping_add(1).cast::<u32>();
    let mut extra = most.saturating_sub(events(list).count());
    let (mut count, mut at) = (0, 0u32);
    for event in events(list) {
        let more = (event.len() / UNIT).saturating_sub(1).min(extra);
        extra -= more;
        for part in 0..=more {
            // SAFETY: the room has a word for each unit of the list, and an event no more parts than units.
            unsafe { words.add(count).write(at | if part == more { LAST } else { 0 }) };
            count += 1;
        }
        at += event.len() as u32;
    }
    // SAFETY: the room has so many bytes behind all words that there can be.
    unsafe { core::ptr::copy_nonoverlapping(list.as_ptr(), words.add(count).cast(), list.len()) };
    let length = room_of_batch(list.len()).next_multiple_of(PAGE_SIZE);
    let rest = room.capacity.next_multiple_of(PAGE_SIZE) - length;
    if rest != 0 {
        // SAFETY: the end of the room, which nothing is in.
        let _ = unsafe { mem::unmap(room.start + length as u64, rest as u64) };
    }
    core::mem::forget(room);
    let mut newest = NEWEST.load(Ordering::Acquire);
    let batch = Batch {
        older: AtomicPtr::new(newest),
        length,
        first: free_numbers(count),
        count: count as u32,
        left: AtomicU32::new(count as u32),
        bytes: list.len(),
    };
    OUTSTANDING.fetch_add(count, Ordering::Relaxed);
    // SAFETY: the room's begin, which is a page's, and nobody else's yet.
    unsafe { start.write(batch) };
    // SAFETY: just written, and never taken away while it is looked at (see above).
    let batch = unsafe { &*start };
    while let Err(other) = NEWEST.compare_exchange(newest, start, Ordering::AcqRel, Ordering::Acquire) {
        batch.older.store(other, Ordering::Relaxed);
        newest = other;
    }
    batch
}

/// The first of `count` numbers that no other batch has, here or, as far as chance goes, in another process.
fn free_numbers(count: usize) -> i32 {
    loop {
        let now = time::now(libc::CLOCK_MONOTONIC);
        let seed = (now.tv_sec as u64) << 30 ^ now.tv_nsec as u64 ^ (process::getpid().0 as u64) << 40;
        let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let first = FIRST + (mixed % (NUMBERS - 1 - count as u64)) as i32;
        let last = first + count as i32;
        if batches().all(|batch| last < batch.first || first >= batch.first.saturating_add_unsigned(batch.count)) {
            return first;
        }
    }
}

/// Queues `count` placeholders, and lets the program's own numbers go on where they were.
fn queue(instance: RawFd, first: i32, count: u32, spare: &Spare) {
    let mut patience = PATIENCE;
    let mut next = first;
    let _ = fd::set_next_watch(instance, next);
    while next < first.saturating_add_unsigned(count) && patience > 0 {
        match watch_nothing(instance, spare.path) {
            Ok(number) => {
                let _ = fd::remove_watch(instance, number);
                if number == next {
                    next += 1;
                    continue;
                }
                let _ = fd::set_next_watch(instance, next);
            }
            Err(_) => time::sleep_ns(1_000_000),
        }
        patience -= 1;
    }
    let _ = fd::set_next_watch(instance, spare.number);
}

/// Whether placeholders can be made: nothing has been done to `instance` where they cannot.
fn can_be_kept(instance: RawFd) -> core::result::Result<Spare, String> {
    let is_known = fd::set_next_watch(instance, 0).is_err_and(|error| error.is(libc::EINVAL));
    if !is_known {
        return Err("this kernel cannot number watches (CONFIG_CHECKPOINT_RESTORE)".into());
    }
    spare_watch(instance).map_err(|error| format!("{error}"))
}

/// Takes the events of `instance`, which is this process's alone, but what the checkpoint has caused behind the first `before` bytes, and leaves placeholders: the program runs on with them, and
/// so it does after a restart, which queues them anew ([`queue_again`]). Returns by which number; 0 if there is nothing.
pub(crate) fn keep(instance: RawFd, before: usize) -> core::result::Result<i32, String> {
    if kept() > MOST_KEPT {
        return Err(format!("more than {MOST_KEPT} bytes of such events are kept already"));
    }
    let mut work = Work::new(instance, 0).map_err(|error| format!("{error}"))?;
    work.numbers = None;
    work.before = before;
    let spare = can_be_kept(instance)?;
    work.drain_with(&spare);
    Ok(work.put_alone(&spare))
}

/// Queues what [`keep`] has kept as `first`, in a new instance.
pub(crate) fn queue_again(instance: RawFd, first: i32) -> core::result::Result<(), String> {
    let Some(batch) = batches().find(|batch| batch.first == first) else { return Ok(()) };
    let mut work = Work::new(instance, batch.bytes).map_err(|error| format!("{error}"))?;
    work.numbers = None;
    let spare = can_be_kept(instance)?;
    work.list.push(batch.events());
    batch.forget(batch.count);
    work.drain_with(&spare);
    work.put_alone(&spare);
    Ok(())
}

/// Gives back the memory of what has been read. To be called while the program is suspended.
pub(crate) fn sweep() {
    let mut place = &NEWEST;
    // SAFETY: null or published.
    while let Some(batch) = unsafe { place.load(Ordering::Acquire).as_ref() } {
        if batch.left.load(Ordering::Relaxed) != 0 {
            place = &batch.older;
            continue;
        }
        place.store(batch.older.load(Ordering::Relaxed), Ordering::Release);
        // SAFETY: nobody looks at it (see above), nor finds it any more.
        let _ = unsafe { mem::unmap(core::ptr::from_ref(batch) as u64, batch.length as u64) };
    }
}

/// Whether a read may have found placeholders.
#[inline(always)]
pub fn is_any() -> bool {
    OUTSTANDING.load(Ordering::Relaxed) != 0
}

/// To be called before a fork.
#[inline(always)]
pub fn begin_fork() {
    if is_any() {
        COPIED.store(true, Ordering::Relaxed);
    }
}

/// What a read comes to once placeholders are told from events.
pub enum Handed {
    /// So many bytes.
    Bytes(usize),
    /// There was no event yet: read again.
    Nothing,
    /// The first event has no room (EINVAL).
    NoRoom,
}

/// A read has given `length` bytes from `instance` into `parts`: puts the events there that placeholders among them stand for.
/// To be called in a guarded section, with no handler of the program's to interrupt it.
///
/// # Safety
/// The caller's buffers, which the kernel has filled so far.
pub unsafe fn hand_over(instance: RawFd, parts: &[libc::iovec], length: usize) -> Handed {
    if !length.is_multiple_of(UNIT) || !is_instance(instance) {
        return Handed::Bytes(length);
    }
    let room: usize = parts.iter().fold(0, |sum, part| sum.saturating_add(part.iov_len));
    // What was read, and what it comes to: no more than is kept, and those without placeholders.
    let rooms = Room::new(length).and_then(|read| Ok((read, Room::new(kept() + length)?)));
    let Ok((mut read, mut told)) = rooms else { return Handed::Bytes(length) };
    let mut left = 0usize;
    each_part(parts, length, |place, part| {
        // SAFETY: the caller's promise.
        read.push(unsafe { core::slice::from_raw_parts(place, part) });
    });
    if !events(read.bytes()).any(is_placeholder) {
        return Handed::Bytes(length);
    }
    let within = expand(read.bytes(), |event, _| {
        let has_room = left == 0 && told.length + event.len() <= room;
        if has_room {
            told.push(event);
        } else {
            left += 1;
        }
    });
    let mut bytes = told.bytes();
    each_part(parts, bytes.len(), |place, part| {
        let (here, rest) = bytes.split_at(part);
        bytes = rest;
        // SAFETY: the caller's buffers, which are so long.
        unsafe { core::ptr::copy_nonoverlapping(here.as_ptr(), place, part) };
    });
    // The kernel counts what waits in whole events, and so must the queue again. Where another process reads too, what has come
    // since would be this one's alone: there what is left of an event stands for it, and is counted as less.
    let is_cut = within || left != 0;
    if left != 0 || (within && !COPIED.load(Ordering::Relaxed)) {
        renew(instance, read.bytes(), left);
    }
    match told.length {
        0 if is_cut => Handed::NoRoom,
        0 => Handed::Nothing,
        length => Handed::Bytes(length),
    }
}

/// Gives `each` the places of the first `length` bytes.
fn each_part(parts: &[libc::iovec], mut length: usize, mut each: impl FnMut(*mut u8, usize)) {
    for part in parts {
        let here = part.iov_len.min(length);
        if here != 0 {
            each(part.iov_base.cast(), here);
        }
        length -= here;
    }
}

fn is_instance(fd: RawFd) -> bool {
    let path = zap_plugin::sys::small!("/proc/thread-self/fd/{fd}");
    let mut name = [0u8; 64];
    fd::read_link(path.as_c_str(), &mut name)
        .is_ok_and(|name| matches!(name, b"anon_inode:inotify" | b"anon_inode:[inotify]"))
}

/// Sets the queue up anew, with the last `left` events that `read` has stood for in front. Others may read from it meanwhile, who
/// take what they find: nothing is put in that has not been taken out.
fn renew(instance: RawFd, read: &[u8], left: usize) {
    let mut patience = PATIENCE;
    loop {
        let work = Work::new(instance, read.len() / UNIT * LONGEST);
        if let Some((mut work, spare)) = work.ok().zip(spare_watch(instance).ok()) {
            take_last(&mut work, read, left);
            work.drain_with(&spare);
            if work.numbers.is_some() {
                work.put_back(&spare);
            } else {
                work.put(&spare, events(read).count() + work.taken);
            }
            return;
        }
        // Nothing is lost where no event is in hand: what is left of one in the queue still stands for it.
        if left == 0 || patience == 0 {
            return;
        }
        patience -= 1;
        time::sleep_ns(1_000_000);
    }
}

/// Takes the last `left` events that `read` has stood for.
fn take_last(work: &mut Work, read: &[u8], left: usize) {
    if left == 0 {
        return;
    }
    let mut all = 0;
    each_kept(read, |_, _| all += 1);
    let mut at = 0;
    each_kept(read, |event, place| {
        if at >= all - left.min(all) {
            take(&mut work.list, &mut work.numbers, event, place);
        }
        at += 1;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn read_all(instance: RawFd, room: usize) -> Option<Vec<u8>> {
        let mut bytes = alloc::vec![0u8; room];
        let length = fd::read(instance, &mut bytes).ok()?;
        let part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: room };
        // SAFETY: a buffer of our own, which has just been filled.
        match unsafe { hand_over(instance, &[part], length) } {
            Handed::Bytes(length) => Some(bytes[..length].to_vec()),
            _ => None,
        }
    }

    #[test]
    fn what_is_kept_is_read_once_and_in_order() {
        let directory = std::env::temp_dir().join(std::format!("zap-unread-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = zap_plugin::sys::path::CPath::new(directory.to_str().unwrap().as_bytes()).unwrap();
        let instances = [(); 2].map(|()| fd::inotify(libc::IN_NONBLOCK | libc::IN_CLOEXEC).unwrap());
        for instance in instances {
            assert_eq!(fd::add_watch(instance, path.as_c_str(), libc::IN_CREATE | libc::IN_MOVE), Ok(1));
        }
        for name in ["short", "a name that is rather long", "x"] {
            std::fs::create_dir(directory.join(name)).unwrap();
        }
        std::fs::rename(directory.join("x"), directory.join("y")).unwrap();
        let mut expected = alloc::vec![0u8; 4096];
        let length = fd::read(instances[0], &mut expected).unwrap();
        expected.truncate(length);

        let first = keep(instances[1], usize::MAX).unwrap();
        assert!(first >= FIRST && is_any());
        assert_eq!(fd::bytes_readable(instances[1]), Ok(length));
        assert!(keep(instances[1], usize::MAX).unwrap() >= FIRST);
        assert_eq!(read_all(instances[1], 16), None, "no room for a name");
        assert_eq!(fd::bytes_readable(instances[1]), Ok(length));
        let one = read_all(instances[1], 64).unwrap();
        assert_eq!(one, expected[..32]);
        assert_eq!(read_all(instances[1], 4096).unwrap(), expected[32..]);
        assert_eq!(fd::bytes_readable(instances[1]), Ok(0));
        assert!(!is_any());
        sweep();
        assert_eq!(batches().count(), 0);
        assert_eq!(fd::add_watch(instances[1], c"/", libc::IN_UNMOUNT), Ok(2), "the program's numbers go on");
        instances.into_iter().for_each(|instance| fd::close(instance).unwrap());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
