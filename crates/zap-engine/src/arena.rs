//! Zap's own memory: an allocator on anonymous mappings, never the program's malloc.
//!
//! Small blocks come in powers of two from chunks of 256 KiB (small, so that a program with a low `ulimit -v` still
//! starts) and go back to a list of their size; large ones are mappings of their own. A restarted program has the
//! arena as its image had it.
//!
//! # Safety
//! Blocks are handed out once: lists and bump pointer are changed under a lock, in a guarded section.
#![allow(unsafe_code)]

use crate::guard::Guard;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use zap_sys::futex::FutexLock;
use zap_sys::libc;

const CHUNK: usize = 256 * 1024;
const SMALLEST_SHIFT: u32 = 4;
const LARGEST_SMALL: usize = 32 * 1024;
const CLASSES: usize = 12; // 16 bytes … 32 KiB

struct Lists {
    /// First free block of each class; a free block's first word is the address of the next.
    free: [usize; CLASSES],
    /// Unused rest of the current chunk.
    next: usize,
    end: usize,
}

/// Bytes of a chunk of scratch memory, at least: in the frozen copy, and in a program that writes its image itself, whose
/// memory may all be locked, and counts.
const SCRATCH: usize = 64 << 20;
const SCRATCH_IN_PLACE: usize = 1 << 20;

/// What is allocated is no part of an image: 0, or the bytes of a chunk.
static SCRATCH_STEP: AtomicUsize = AtomicUsize::new(0);
/// The present chunk of scratch memory: start, next free byte and end; 0 when there is none. A chunk begins with start and end of
/// the one before.
static SCRATCH_START: AtomicUsize = AtomicUsize::new(0);
static SCRATCH_NEXT: AtomicUsize = AtomicUsize::new(0);
static SCRATCH_END: AtomicUsize = AtomicUsize::new(0);
/// There was none to be had, which is no fault of Zap's.
static SCRATCH_IS_USED_UP: AtomicBool = AtomicBool::new(false);

/// From here on everything is allocated in memory that is no part of an image, and nothing is given back. For the
/// frozen copy: it must not change the arena that it is about to save. False when there is no room.
pub fn begin_scratch() -> bool {
    SCRATCH_STEP.store(SCRATCH, Ordering::Relaxed);
    let steps = core::iter::successors(Some(SCRATCH), |step| Some(step / 2));
    steps.take_while(|step| *step >= SCRATCH_IN_PLACE).any(|step| {
        SCRATCH_STEP.store(step, Ordering::Relaxed);
        map_scratch(step)
    })
}

/// Does `work` as in [`begin_scratch`], in a process that goes on afterwards.
pub fn in_scratch<T: Clone>(work: impl FnOnce() -> T) -> T {
    SCRATCH_STEP.store(SCRATCH_IN_PLACE, Ordering::Relaxed);
    let result = core::mem::ManuallyDrop::new(work());
    SCRATCH_STEP.store(0, Ordering::Relaxed);
    let result = T::clone(&result);
    drop_scratch();
    result
}

/// Gives back the memory of an [`in_scratch`], which a panic may have left. Nobody uses it any more.
pub fn drop_scratch() {
    SCRATCH_STEP.store(0, Ordering::Relaxed);
    let (mut start, mut end) = (SCRATCH_START.load(Ordering::Relaxed), SCRATCH_END.load(Ordering::Relaxed));
    forget_scratch();
    while start != 0 {
        let before = chunk_before(start);
        // SAFETY: a chunk, whose users are gone.
        let _ = unsafe { zap_sys::mem::unmap(start as u64, (end - start) as u64) };
        (start, end) = before;
    }
}

/// The first act after a restart, whose memory was saved while there was scratch memory: here there is none.
pub fn forget_scratch() {
    [&SCRATCH_STEP, &SCRATCH_START, &SCRATCH_NEXT, &SCRATCH_END]
        .iter()
        .for_each(|word| word.store(0, Ordering::Relaxed));
}

/// Whether there was no more scratch memory to be had since the last time that this was asked.
pub fn has_used_up_scratch() -> bool {
    SCRATCH_IS_USED_UP.swap(false, Ordering::Relaxed)
}

/// Where scratch memory is: (start, end) of each chunk.
pub fn scratch() -> impl Iterator<Item = (u64, u64)> {
    let last = (SCRATCH_START.load(Ordering::Relaxed), SCRATCH_END.load(Ordering::Relaxed));
    let chunks = core::iter::successors(Some(last), |(start, _)| (*start != 0).then(|| chunk_before(*start)));
    chunks.take_while(|(start, _)| *start != 0).map(|(start, end)| (start as u64, end as u64))
}

/// Start and end of the chunk before the one at `start`.
fn chunk_before(start: usize) -> (usize, usize) {
    // SAFETY: the first words of a chunk, see `map_scratch`.
    unsafe { *(start as *const (usize, usize)) }
}

/// Maps a chunk of scratch memory with room for `length` bytes.
fn map_scratch(length: usize) -> bool {
    let head = core::mem::size_of::<(usize, usize)>();
    let length = mapped_length(length.saturating_add(head).max(SCRATCH_STEP.load(Ordering::Relaxed)));
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new memory wherever the kernel likes.
    let start = unsafe { zap_sys::mem::map(0, length as u64, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    let Ok(start) = start else {
        SCRATCH_IS_USED_UP.store(true, Ordering::Relaxed);
        return false;
    };
    let start = start as usize;
    let before = (SCRATCH_START.load(Ordering::Relaxed), SCRATCH_END.load(Ordering::Relaxed));
    // SAFETY: new, and longer than that.
    unsafe { *(start as *mut (usize, usize)) = before };
    SCRATCH_END.store(start + length, Ordering::Relaxed);
    SCRATCH_NEXT.store(start + head, Ordering::Relaxed);
    SCRATCH_START.store(start, Ordering::Relaxed);
    true
}

/// Takes scratch memory. One thread uses it.
fn take_scratch(layout: &Layout) -> *mut u8 {
    let align = layout.align();
    let fits = || {
        let at = (SCRATCH_NEXT.load(Ordering::Relaxed) + align - 1) & !(align - 1);
        let end = at.saturating_add(layout.size());
        (end <= SCRATCH_END.load(Ordering::Relaxed)).then_some((at, end))
    };
    let place = fits().or_else(|| map_scratch(layout.size().saturating_add(align)).then(fits).flatten());
    let Some((at, end)) = place else { return null_mut() };
    SCRATCH_NEXT.store(end, Ordering::Relaxed);
    at as *mut u8
}

/// Makes the last block of scratch memory longer or shorter, where it is: nothing is given back there, and lists grow.
fn extend_scratch(pointer: *mut u8, layout: &Layout, size: usize) -> bool {
    let start = pointer as usize;
    let is_last = SCRATCH_STEP.load(Ordering::Relaxed) != 0
        && start > SCRATCH_START.load(Ordering::Relaxed)
        && start + layout.size() == SCRATCH_NEXT.load(Ordering::Relaxed)
        && start.saturating_add(size) <= SCRATCH_END.load(Ordering::Relaxed);
    if is_last {
        SCRATCH_NEXT.store(start + size, Ordering::Relaxed);
    }
    is_last
}

/// The process's arena; null before init.
#[link_section = ".zap.child"]
static OWN: AtomicPtr<Arena> = AtomicPtr::new(null_mut());

/// In the child of a fork, before it allocates.
#[inline]
pub fn begin_in_child() {
    // SAFETY: null or an arena that lives for ever, see `become_own`.
    if let Some(own) = unsafe { OWN.load(Ordering::Acquire).as_ref() } {
        own.forget_after_fork();
    }
}

/// The allocator. The root declares one as the global allocator.
pub struct Arena {
    lists: FutexLock<Lists>,
}

impl Arena {
    /// An empty arena: maps nothing yet.
    pub const fn new() -> Self {
        Self { lists: FutexLock::new(Lists { free: [0; CLASSES], next: 0, end: 0 }) }
    }

    /// Says that this is the process's arena.
    pub fn become_own(&'static self) {
        OWN.store(core::ptr::from_ref(self).cast_mut(), Ordering::Release);
    }

    /// After a panic that may have skipped the end of an allocation: a lock that the calling thread holds is freed. The
    /// lists are whole at every moment; a block at most is lost.
    pub fn give_up(&self) {
        self.lists.give_up();
    }

    /// In the child of a fork: lists that another thread held may have been copied half changed. What they held is lost,
    /// what was handed out is not.
    #[inline]
    fn forget_after_fork(&self) {
        if self.lists.reset() {
            *self.lists.lock() = Lists { free: [0; CLASSES], next: 0, end: 0 };
        }
    }
}

impl Default for Arena {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory for the text of a panic that comes while the calling thread holds the lock: never given back.
const EMERGENCY: usize = 4096;
static EMERGENCY_BYTES: crate::state::Owned<[u64; EMERGENCY / 8]> = crate::state::Owned::new([0; EMERGENCY / 8]);
static EMERGENCY_USED: AtomicUsize = AtomicUsize::new(0);

#[cold]
fn take_emergency(layout: &Layout) -> *mut u8 {
    let start = EMERGENCY_BYTES.with(|bytes| bytes.as_mut_ptr() as usize);
    let align = layout.align();
    let at = (start + EMERGENCY_USED.load(Ordering::Relaxed) + align - 1) & !(align - 1);
    let end = at.saturating_add(layout.size()) - start;
    if end > EMERGENCY {
        return null_mut();
    }
    EMERGENCY_USED.store(end, Ordering::Relaxed);
    at as *mut u8
}

/// Mappings of large blocks that have come while a leader works: (start, length), 0 for a free place.
const LARGE: usize = 64;
static LARGE_BLOCKS: [[AtomicUsize; 2]; LARGE] = [const { [const { AtomicUsize::new(0) }; 2] }; LARGE];
static NOTING: AtomicBool = AtomicBool::new(false);

/// Notes large blocks from now on, or not any more: those that a panic leaves behind are mappings that nobody gives back.
pub fn note_large(yes: bool) {
    NOTING.store(yes, Ordering::Relaxed);
    for place in &LARGE_BLOCKS {
        place[0].store(0, Ordering::Relaxed);
    }
}

/// Gives back the large blocks that have come since [`note_large`] and not gone. Nobody may use them any more.
pub fn drop_large() {
    NOTING.store(false, Ordering::Relaxed);
    for place in &LARGE_BLOCKS {
        let start = place[0].swap(0, Ordering::Relaxed);
        if start != 0 {
            // SAFETY: a block of this length; its users are behind a panic, and nothing is saved any more.
            let _ = unsafe { zap_sys::mem::unmap(start as u64, place[1].load(Ordering::Relaxed) as u64) };
        }
    }
}

fn find_large(start: usize) -> Option<&'static [AtomicUsize; 2]> {
    if !NOTING.load(Ordering::Relaxed) {
        return None;
    }
    LARGE_BLOCKS.iter().find(|place| place[0].load(Ordering::Relaxed) == start)
}

/// The first chunk: part of the library's own mapping, since every fork pays for each mapping.
static FIRST: crate::state::Owned<Chunk> = crate::state::Owned::new(Chunk([0; CHUNK]));
static FIRST_IS_TAKEN: AtomicBool = AtomicBool::new(false);

#[repr(align(4096))]
struct Chunk([u8; CHUNK]);

fn new_chunk() -> Option<usize> {
    if !FIRST_IS_TAKEN.swap(true, Ordering::Relaxed) {
        return Some(FIRST.with(|chunk| chunk.0.as_mut_ptr() as usize));
    }
    zap_sys::mem::map_anonymous(CHUNK).ok().map(|chunk| chunk as usize)
}

fn class_of(layout: &Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << SMALLEST_SHIFT).next_power_of_two();
    (size <= LARGEST_SMALL).then(|| (size.trailing_zeros() - SMALLEST_SHIFT) as usize)
}

fn mapped_length(size: usize) -> usize {
    zap_sys::page_up(size as u64) as usize
}

// SAFETY: see the paragraph at the file's head; alignment follows from blocks of a power of two at multiples of it.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = self.take(layout);
        // What follows a failure here is the end of the program. The text must need no memory.
        if block.is_null() && crate::guard::block().way_back.load(Ordering::Relaxed) != 0 {
            panic!("no memory");
        }
        block
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.give_back(pointer, layout);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if extend_scratch(pointer, &layout, size) {
            return pointer;
        }
        // SAFETY: the caller's promise: `size` is not too large for this alignment.
        let block = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !block.is_null() {
            // SAFETY: both blocks are the caller's, and as long as the shorter of them at least.
            unsafe { core::ptr::copy_nonoverlapping(pointer, block, layout.size().min(size)) };
            self.give_back(pointer, layout);
        }
        block
    }
}

impl Arena {
    fn take(&self, layout: Layout) -> *mut u8 {
        if SCRATCH_STEP.load(Ordering::Relaxed) != 0 {
            return take_scratch(&layout);
        }
        let Some(class) = class_of(&layout) else {
            if layout.align() > zap_sys::PAGE_SIZE {
                return null_mut();
            }
            let length = mapped_length(layout.size());
            let Ok(start) = zap_sys::mem::map_anonymous(length) else { return null_mut() };
            if let Some(place) = find_large(0) {
                place[1].store(length, Ordering::Relaxed);
                place[0].store(start as usize, Ordering::Relaxed);
            }
            return start as *mut u8;
        };
        if self.lists.is_held_here() {
            return take_emergency(&layout);
        }
        let _guard = Guard::enter();
        let mut lists = self.lists.lock();
        crate::fault::in_agent(zap_wire::fault::ARENA_LOCKED);
        let head = lists.free[class];
        if head != 0 {
            // SAFETY: a block on the list is free and at least eight bytes long; its first word is the next's address.
            lists.free[class] = unsafe { *(head as *const usize) };
            return head as *mut u8;
        }
        let size = 1usize << (class as u32 + SMALLEST_SHIFT);
        let mut at = (lists.next + size - 1) & !(size - 1);
        if at + size > lists.end {
            let Some(chunk) = new_chunk() else { return null_mut() };
            at = (chunk + size - 1) & !(size - 1);
            // In this order: see `give_up`.
            lists.next = at;
            lists.end = chunk + CHUNK;
        }
        lists.next = at + size;
        at as *mut u8
    }

    fn give_back(&self, pointer: *mut u8, layout: Layout) {
        if SCRATCH_STEP.load(Ordering::Relaxed) != 0 {
            return;
        }
        let Some(class) = class_of(&layout) else {
            if let Some(place) = find_large(pointer as usize) {
                place[0].store(0, Ordering::Relaxed);
            }
            // SAFETY: the block was a mapping of its own of just this length.
            let _ = unsafe { zap_sys::mem::unmap(pointer as u64, mapped_length(layout.size()) as u64) };
            return;
        };
        if self.lists.is_held_here() {
            return;
        }
        let _guard = Guard::enter();
        let mut lists = self.lists.lock();
        // SAFETY: the block is the caller's to give back, and at least eight bytes long.
        unsafe { *pointer.cast::<usize>() = lists.free[class] };
        lists.free[class] = pointer as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_distinct_and_reused() {
        let arena = Arena::new();
        let layout = Layout::from_size_align(24, 8).unwrap();
        // SAFETY: a fresh arena, used as an allocator is.
        let (a, b) = unsafe { (arena.alloc(layout), arena.alloc(layout)) };
        assert!(!a.is_null() && a != b && (a as usize).is_multiple_of(8));
        // SAFETY: `a` came from this arena with this layout.
        unsafe { arena.dealloc(a, layout) };
        // SAFETY: as above.
        assert_eq!(unsafe { arena.alloc(layout) }, a);
        let large = Layout::from_size_align(1 << 20, 4096).unwrap();
        // SAFETY: as above.
        let c = unsafe { arena.alloc(large) };
        assert!(!c.is_null());
        // SAFETY: `c` came from this arena with this layout.
        unsafe { arena.dealloc(c, large) };
    }
}
