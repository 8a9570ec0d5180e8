//! This library's own image in memory, and how to make a second one elsewhere.
//!
//! # Safety
//! `__ehdr_start` is the linker's name for the library's first byte. The loader has mapped the library as its program
//! headers say, and has relocated it, before it calls any code in it.
#![allow(unsafe_code)]

use core::slice;

extern "C" {
    /// The ELF header: first byte of the library, defined by the linker.
    static __ehdr_start: u8;
}

/// Address of the library's first byte.
pub fn start() -> u64 {
    (&raw const __ehdr_start) as u64
}

/// Copies the library to `target` (writable, zeroed, `room` bytes) and makes the copy's pointers into the library
/// point into the copy. Returns the copy's length, or `None` when there is too little room.
///
/// # Safety
/// `target` is writable memory of `room` bytes that nobody else uses.
pub unsafe fn copy_to(target: u64, room: u64) -> Option<u64> {
    let own = start();
    let mut length = 0;
    let mut dynamic = None;
    for header in program_headers() {
        match header.kind {
            PT_LOAD => {
                let end = header.address + header.memory_size;
                if end > room {
                    return None;
                }
                length = length.max(end);
                let from = (own + header.address) as *const u8;
                let to = (target + header.address) as *mut u8;
                // SAFETY: the segment is mapped and readable, the target has room for it (checked above), and the
                // two are different mappings.
                unsafe { core::ptr::copy_nonoverlapping(from, to, header.memory_size as usize) };
            }
            PT_DYNAMIC => dynamic = Some(header.address),
            _ => {}
        }
    }
    if let Some(dynamic) = dynamic {
        // SAFETY: the dynamic section lies in a loaded segment, so in the copy too, which has `length` bytes.
        unsafe { shift_pointers(own, target, length, dynamic) };
    }
    Some(length)
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_JMPREL: u64 = 23;
const DT_PLTRELSZ: u64 = 2;

/// Elf64_Phdr.
#[repr(C)]
#[derive(Clone, Copy)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

fn program_headers() -> &'static [ProgramHeader] {
    let own = start();
    // SAFETY: e_phoff of the library's own, mapped and aligned ELF header.
    let offset = unsafe { ((own + 32) as *const u64).read() };
    // SAFETY: e_phnum of the same header.
    let count = unsafe { ((own + 56) as *const u16).read() };
    // SAFETY: the program headers follow in the first segment, aligned to eight, and never change.
    unsafe { slice::from_raw_parts((own + offset) as *const ProgramHeader, usize::from(count)) }
}

/// Every word that the loader has relocated (whatever the kind) and that now points into the library at `own` points
/// into the copy at `target` afterwards.
///
/// # Safety
/// `target` holds a copy of the library's `length` bytes and is writable; `dynamic` is its dynamic section's distance.
unsafe fn shift_pointers(own: u64, target: u64, length: u64, dynamic: u64) {
    let mut tables = [(0u64, 0u64); 2];
    let mut at = (own + dynamic) as *const [u64; 2];
    loop {
        // SAFETY: the dynamic section is mapped, aligned, and ends with DT_NULL, at which the loop stops.
        let [tag, value] = unsafe { at.read() };
        match tag {
            0 => break,
            DT_RELA => tables[0].0 = value,
            DT_RELASZ => tables[0].1 = value,
            DT_JMPREL => tables[1].0 = value,
            DT_PLTRELSZ => tables[1].1 = value,
            _ => {}
        }
        // SAFETY: this was not the last entry.
        at = unsafe { at.add(1) };
    }
    for (table, size) in tables {
        // The loader replaces addresses in the dynamic section by real ones on some platforms: take both.
        let table = if table >= own { table } else { own + table };
        for index in 0..size / 24 {
            // SAFETY: an entry (offset, info, addend) of the relocation table, whose size the dynamic section gives.
            let offset = unsafe { ((table + index * 24) as *const u64).read() };
            if offset.saturating_add(8) > length {
                continue;
            }
            let place = (target + offset) as *mut u64;
            // SAFETY: the word lies inside the copy (checked above); it may be unaligned.
            let value = unsafe { place.read_unaligned() };
            if value >= own && value < own + length {
                // SAFETY: as the read.
                unsafe { place.write_unaligned(value - own + target) };
            }
        }
    }
}
