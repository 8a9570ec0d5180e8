//! Memory that a restart has mapped from the image instead of reading it: private, page by page on demand.
//!
//! It is the program's data: the next checkpoint saves all of it again, since the older image may be gone by then. Two
//! things tell such memory from anonymous memory, and both would corrupt a program: MADV_DONTNEED brings the image's
//! contents back where anonymous memory reads zeroes (glibc's calloc relies on them), and mremap that grows a mapping
//! shows more of the image. libc calls both from inside (realloc, trimming heaps) where no preloaded function can
//! intervene; so, in a process that has such memory, the first instruction of libc's own `madvise` and `mremap` is
//! replaced by a jump to functions that give the range anonymous memory first.
//!
//! # Safety
//! Replaces mappings at their own addresses, and patches text while every other thread is suspended.
#![allow(unsafe_code)]

use crate::guard::Guard;
use crate::memory;
use crate::state::{Owned, SetOnce};
use crate::threads;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use zap_plugin::Refusal;
use zap_sys::maps::Mapping;
use zap_sys::{libc, mem, SysError};

struct Images {
    /// (device major, minor, inode) of the image as /proc/thread-self/maps shows it.
    file: Option<((u32, u32), u64)>,
}

static IMAGES: Owned<Images> = Owned::new(Images { file: None });
static ANY: AtomicBool = AtomicBool::new(false);

/// A libc function and what is to be called instead: addresses.
#[derive(Clone, Copy)]
pub struct Detour {
    pub function: u64,
    pub replacement: u64,
}

static DETOURS: SetOnce<[Detour; 2]> = SetOnce::new();

/// Notes libc's `madvise` and `mremap` and their replacements, at init.
pub fn register(detours: [Detour; 2]) {
    DETOURS.set(detours);
}

/// Notes, at a restart, which mappings are backed by the image (those at the starts of `ranges`), and puts the detours
/// in place. Every thread of the program is in its slot.
pub fn note(ranges: &[(u64, u64)]) -> Result<(), Refusal> {
    let Some((start, _)) = ranges.first() else {
        ANY.store(false, Ordering::Release);
        IMAGES.with(|images| images.file = None);
        return Ok(());
    };
    let maps = memory::read_all(c"/proc/thread-self/maps")?;
    let overlaps = |mapping: &Mapping<'_>| {
        ranges.iter().any(|(start, length)| mapping.start < start + length && mapping.end > *start)
    };
    // A range's first pages may be gone by now: memory of Zap's own that the kernel had merged with the program's.
    let file = zap_sys::maps::parse(&maps)
        .find(|mapping| !mapping.shared && mapping.inode != 0 && overlaps(mapping))
        .map(|mapping| (mapping.device, mapping.inode))
        .ok_or_else(|| Refusal::new(alloc::format!("memory at {start:x}"), "is not mapped from the image"))?;
    IMAGES.with(|images| images.file = Some(file));
    ANY.store(true, Ordering::Release);
    DETOURS.get().map_or(&[][..], |detours| &detours[..]).iter().try_for_each(patch)
}

/// Whether `mapping` is backed by the image that this process was restarted from.
pub fn is_image(mapping: &Mapping<'_>) -> bool {
    !mapping.shared && IMAGES.with(|images| images.file == Some((mapping.device, mapping.inode)))
}

/// Length of `jmp rel32`.
const JUMP: u64 = 5;

/// `sub rsp, imm8`: how a function begins that is compiled from C.
const SUBTRACT_FROM_STACK: [u8; 3] = [0x48, 0x83, 0xec];

fn patch(detour: &Detour) -> Result<(), Refusal> {
    let refusal = |reason: &str| Refusal::new("libc's madvise and mremap", reason);
    let distance = detour.replacement.wrapping_sub(detour.function + JUMP) as i64;
    let Ok(distance) = i32::try_from(distance) else { return Err(refusal("are too far from libzap")) };
    let mut jump = [0xe9, 0, 0, 0, 0];
    jump[1..].copy_from_slice(&distance.to_le_bytes());
    // SAFETY: libc's own text.
    let before = unsafe { core::ptr::read_unaligned(detour.function as *const [u8; 5]) };
    let page = zap_sys::page_down(detour.function);
    let length = zap_sys::page_up(detour.function + JUMP) - page;
    // SAFETY: libc's text, which nobody executes now; the protection is put back below.
    unsafe { mem::protect(page, length, libc::PROT_READ | libc::PROT_WRITE) }
        .map_err(|error| Refusal::new("libc's text", error))?;
    // SAFETY: five bytes of a function that is never entered in its middle: see the threads below.
    unsafe { core::ptr::copy_nonoverlapping(jump.as_ptr(), detour.function as *mut u8, jump.len()) };
    // SAFETY: as it was.
    unsafe { mem::protect(page, length, libc::PROT_READ | libc::PROT_EXEC) }
        .map_err(|error| Refusal::new("libc's text", error))?;
    // A thread that stood between the first instructions, which load registers or make a frame, starts over.
    for slot in threads::slots() {
        let context = slot.context.load(Ordering::Relaxed) as *mut libc::ucontext_t;
        // SAFETY: the signal frame of a suspended thread.
        let registers = unsafe { &mut (*context).uc_mcontext.gregs };
        let at = registers[libc::REG_RIP as usize] as u64;
        if at > detour.function && at < detour.function + JUMP {
            registers[libc::REG_RIP as usize] = detour.function as i64;
            if before[..3] == SUBTRACT_FROM_STACK {
                registers[libc::REG_RSP as usize] += i64::from(before[3]);
            }
        }
    }
    Ok(())
}

/// A part of a range: start, end, protection, whether the image is under it.
type Piece = (u64, u64, i32, bool);

/// The mappings in `[start, end)`, when there are any with the image under them.
fn pieces(start: u64, end: u64) -> Option<Vec<Piece>> {
    let maps = memory::read_all_beside(c"/proc/thread-self/maps").ok()?;
    let pieces: Vec<Piece> = zap_sys::maps::parse(&maps)
        .filter(|mapping| mapping.start < end && mapping.end > start)
        .map(|mapping| (mapping.start.max(start), mapping.end.min(end), mapping.protection, is_image(&mapping)))
        .collect();
    pieces.iter().any(|piece| piece.3).then_some(pieces)
}

const FIXED_ANONYMOUS: i32 = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

/// madvise(2) as anonymous memory would take it.
///
/// # Safety
/// As madvise(2).
pub unsafe fn advise(address: u64, length: u64, advice: i32) -> Result<(), SysError> {
    let discards = matches!(advice, libc::MADV_DONTNEED | libc::MADV_FREE | mem::MADV_GUARD_INSTALL);
    if discards && ANY.load(Ordering::Acquire) {
        let _guard = Guard::enter();
        if let Some(pieces) = pieces(address, address.saturating_add(zap_sys::page_up(length))) {
            // As madvise(2) does: what is mapped is advised, and holes are told of in the end.
            let mut next = address;
            let mut hole = false;
            for (start, end, protection, image) in pieces {
                hole |= start > next;
                next = end;
                if image {
                    // SAFETY: the caller gives the contents up; zeroes take their place.
                    unsafe { mem::map(start, end - start, protection, FIXED_ANONYMOUS, -1, 0) }?;
                }
                if !image || advice == mem::MADV_GUARD_INSTALL {
                    // SAFETY: the caller's wish, for a part of the caller's range.
                    unsafe { mem::advise(start, end - start, advice) }?;
                }
            }
            hole |= next < address.saturating_add(zap_sys::page_up(length));
            return if hole { Err(SysError::new("madvise", libc::ENOMEM)) } else { Ok(()) };
        }
    }
    // SAFETY: the caller's promise.
    unsafe { mem::advise(address, length, advice) }
}

/// mremap(2) as anonymous memory would take it.
///
/// # Safety
/// As mremap(2).
pub unsafe fn remap(old: u64, old_length: u64, new_length: u64, flags: i32, new: u64) -> Result<u64, SysError> {
    let (old_end, new_size) = (old.saturating_add(zap_sys::page_up(old_length)), zap_sys::page_up(new_length));
    let plain = flags & !(libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) == 0 && old_length != 0;
    if plain && ANY.load(Ordering::Acquire) {
        let _guard = Guard::enter();
        if let Some(pieces) = pieces(old, old_end) {
            // SAFETY: the caller's promise.
            return unsafe { remap_pieces(&pieces, old, old_end, new_size, flags, new) };
        }
    }
    // SAFETY: the caller's promise.
    unsafe { mem::remap(old, old_length, new_length, flags, new) }
}

unsafe fn remap_pieces(
    pieces: &[Piece],
    old: u64,
    old_end: u64,
    new_size: u64,
    flags: i32,
    new: u64,
) -> Result<u64, SysError> {
    let old_size = old_end - old;
    let protection = pieces.last().map_or(libc::PROT_NONE, |piece| piece.2);
    let mut pieces = pieces;
    let kept: Vec<Piece>;
    if new_size < old_size {
        // SAFETY: the caller gives the tail up.
        unsafe { mem::unmap(old + new_size, old_size - new_size) }?;
        kept = pieces
            .iter()
            .filter(|piece| piece.0 < old + new_size)
            .map(|piece| (piece.0, piece.1.min(old + new_size), piece.2, piece.3))
            .collect();
        pieces = &kept;
    }
    let fixed = flags & libc::MREMAP_FIXED != 0;
    if new_size <= old_size && !fixed {
        return Ok(old);
    }
    let target = if fixed {
        // SAFETY: MREMAP_FIXED replaces what is there.
        unsafe { mem::map(new, new_size, protection, FIXED_ANONYMOUS, -1, 0) }?
    } else {
        let place = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
        // SAFETY: takes free addresses only.
        match unsafe { mem::map(old_end, new_size - old_size, protection, place, -1, 0) } {
            Ok(_) => return Ok(old),
            Err(_) if flags & libc::MREMAP_MAYMOVE == 0 => return Err(SysError::new("mremap", libc::ENOMEM)),
            // SAFETY: takes free addresses only.
            Err(_) => unsafe { mem::map(0, new_size, protection, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }?,
        }
    };
    for (start, end, ..) in pieces {
        // SAFETY: moves a part of the caller's range into the room made for it; other threads see each page once.
        unsafe { mem::move_mapping(*start, end - start, target + (start - old)) }?;
    }
    Ok(target)
}
