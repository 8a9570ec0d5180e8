//! Second half, in the hole: replace all memory but the hole by the image's, and jump into the frozen copy.
//!
//! There is no way back from the first unmapping on: a failure ends the process with a line on the report descriptor.
//!
//! # Safety
//! Code, stack and plan lie in the hole, which the plan's maker has kept free of the image's regions and which nothing
//! here unmaps. All other memory belongs to a program that has not begun to run, or to the one that is being rebuilt.
#![allow(unsafe_code)]

use crate::report::{fail, fail_no_place, must, must_at};
use core::slice;
use plan::hole::{Hole, VDSO_ROOM};
use plan::plan::{Header, Operation, Source, Trailer};
use plan::vdso::{entry, Vdso, ENTRY_SIZE};
use zap_sys::arch::context;
use zap_sys::libc::MAP_FIXED;
use zap_sys::mem::MmMap;
use zap_sys::{fd, maps, mem, process, RawFd, PAGE_SIZE};

/// One past the highest address that can be mapped with four-level page tables, less the page that the kernel keeps.
const ADDRESS_LIMIT: u64 = (1 << 47) - PAGE_SIZE as u64;

/// Carries out the plan in the hole at `hole_start`.
pub extern "C" fn rebuild(hole_start: u64) -> ! {
    let plan = plan_in(hole_start);
    let Some(header) = Header::read(plan) else { fail(format_args!("plan: unreadable")) };
    let hole = Hole { start: hole_start, plan_length: header.length };
    let kernel_vdso = move_vdso(&hole);
    check_conflicts(plan, &header, &kernel_vdso);
    unmap_all_but(&hole, &kernel_vdso);
    forget_loader();
    let image = header.image as RawFd;
    let old_vdso = carry_out(plan, &header, image, &kernel_vdso);
    let kernel_vdso = settle_vdso(plan, &header, kernel_vdso, old_vdso);
    let _ = fd::close(image);
    set_bounds(plan, &header);
    // SAFETY: this code uses no thread-local state; the program's lies where the registers point, by the plan.
    unsafe { process::set_thread_registers(header.fs_base, header.gs_base) };
    fill_mailbox(plan, &header, &hole, &kernel_vdso);
    // SAFETY: the memory is the frozen copy's, and so are the thread registers.
    unsafe { context::resume_snapshot(header.stack_pointer, header.instruction_pointer) }
}

/// Where the kernel's vDSO and its data are.
struct KernelVdso {
    /// First address of the lowest of its mappings.
    start: u64,
    end: u64,
    /// The library itself; 0 on a kernel without one (vdso=0).
    library: u64,
    library_length: u64,
    /// Whether it lies in the hole.
    moved: bool,
    /// Its mappings as they were found: distance from the lowest, and length; 0 for none.
    parts: [(u64, u64); PARTS],
}

/// Most mappings that the vDSO and its data can be: there are three on Linux 6.18.
const PARTS: usize = 8;

fn plan_in(hole_start: u64) -> &'static [u8] {
    // The plan's place does not depend on its length.
    let start = Hole { start: hole_start, plan_length: 0 }.plan();
    // SAFETY: the first half has put a plan there; its second word is its length, checked when it was read.
    let length = unsafe { ((start + 8) as *const u64).read_unaligned() };
    // SAFETY: the plan's copy is not written any more and outlives this function, which never returns.
    unsafe { slice::from_raw_parts(start as *const u8, length as usize) }
}

/// Moves the kernel's vDSO and its data into the hole, at their distances from each other. A kernel that seals them
/// (CONFIG_MSEAL_SYSTEM_MAPPINGS, Linux 6.15) keeps them where they are.
fn move_vdso(hole: &Hole) -> KernelVdso {
    let mut buffer = [0u8; 32 << 10];
    let text = must(fd::read_file(c"/proc/self/maps", &mut buffer), "/proc/self/maps");
    let ours = |mapping: &maps::Mapping<'_>| mapping.name == b"[vdso]" || mapping.name.starts_with(b"[vvar");
    let mut found =
        KernelVdso { start: u64::MAX, end: 0, library: 0, library_length: 0, moved: false, parts: [(0, 0); PARTS] };
    for mapping in maps::parse(text).filter(ours) {
        found.start = found.start.min(mapping.start);
        found.end = found.end.max(mapping.end);
        if mapping.name == b"[vdso]" {
            found.library = mapping.start;
            found.library_length = mapping.length();
        }
    }
    if found.end == 0 {
        return KernelVdso { start: 0, ..found };
    }
    if maps::parse(text).filter(ours).count() > PARTS {
        fail(format_args!("vDSO: has more mappings than are known"));
    }
    for (part, mapping) in found.parts.iter_mut().zip(maps::parse(text).filter(ours)) {
        *part = (mapping.start - found.start, mapping.length());
    }
    if found.end - found.start > VDSO_ROOM {
        fail(format_args!("vDSO: its mappings lie too far apart"));
    }
    let (from, to) = (found.start, hole.vdso());
    let mut moved = 0;
    for mapping in maps::parse(text).filter(ours) {
        let target = mapping.start - from + to;
        // SAFETY: the target is the hole's room for it; the source is used by nobody, since this code makes its system
        // calls itself.
        match unsafe { mem::move_mapping(mapping.start, mapping.length(), target) } {
            Ok(()) => moved += 1,
            Err(error) if moved == 0 && error.is(zap_sys::libc::EPERM) => return found,
            Err(error) => fail(format_args!("vDSO: {error}")),
        }
    }
    let end = found.end - from + to;
    // The rest of the room would stay in the program as memory of nobody.
    if hole.end() > end {
        // SAFETY: the last part of the hole, which holds nothing.
        must(unsafe { mem::unmap(end, hole.end() - end) }, "vDSO");
    }
    KernelVdso { start: to, end, library: found.library - from + to, moved: true, ..found }
}

/// A vDSO that could not be moved must not lie where the program's memory goes.
fn check_conflicts(plan: &[u8], header: &Header, vdso: &KernelVdso) {
    if vdso.moved {
        return;
    }
    for index in 0..header.count {
        if let Some((address, length)) = Operation::read(plan, index).and_then(|operation| operation.mapped()) {
            if address < vdso.end && address.saturating_add(length) > vdso.start {
                fail_no_place(format_args!("vDSO: lies in the program's memory, and the kernel does not let it move"));
            }
        }
    }
}

fn unmap_all_but(hole: &Hole, vdso: &KernelVdso) {
    let mut kept = [(hole.start, hole.end()), (hole.end(), hole.end())];
    if !vdso.moved && vdso.end != 0 {
        kept[1] = (vdso.start, vdso.end);
    }
    kept.sort_unstable();
    let mut from = PAGE_SIZE as u64;
    for (start, end) in kept.into_iter().chain([(ADDRESS_LIMIT, ADDRESS_LIMIT)]) {
        if start > from {
            // SAFETY: whatever is mapped there belongs to the fresh exec, which has not begun to run.
            must_at(unsafe { mem::unmap(from, start - from) }, "unmapping", from, start - from);
        }
        from = from.max(end);
    }
}

/// The loader has told the kernel addresses of its own, which are gone or somebody else's now.
fn forget_loader() {
    // SAFETY: address 0 is never mapped; the kernel's write fails silently.
    unsafe { process::set_clear_tid_address(0) };
    // SAFETY: an empty head is ignored by the kernel; 24 is the size that it demands.
    let _ = unsafe { process::set_robust_list(0, 24) };
}

/// Returns the address of the program's vDSO if it is the very one that this kernel has: then it was left as it is.
fn carry_out(plan: &[u8], header: &Header, image: RawFd, kernel_vdso: &KernelVdso) -> Option<u64> {
    let mut same_vdso = None;
    let mut file: RawFd = -1;
    for index in 0..header.count {
        let Some(operation) = Operation::read(plan, index) else {
            fail(format_args!("plan: record {index} is unreadable"));
        };
        match operation {
            Operation::Open { place, length, flags } => {
                close_file(&mut file);
                file = open(plan, place, length, flags);
            }
            Operation::Close => close_file(&mut file),
            Operation::Map { address, length, protection, flags, source, offset } => {
                let from = match source {
                    Source::Anonymous => -1,
                    Source::File => file,
                    Source::Image => image,
                };
                // SAFETY: everything there was unmapped, but for earlier maps of this plan, which it may replace.
                let mapped = unsafe { mem::map(address, length, protection, flags | MAP_FIXED, from, offset) };
                must_at(mapped, "mapping", address, length);
            }
            Operation::Read { address, length, offset } => {
                // SAFETY: the plan has mapped the range, and nobody runs in it yet.
                let read = unsafe { fd::pread_to(image, address, length, offset) };
                must_at(read, "contents of", address, length);
            }
            Operation::Protect { address, length, protection } => {
                // SAFETY: the range is the program's, which does not run yet.
                let protected = unsafe { mem::protect(address, length, protection) };
                must_at(protected, "protection of", address, length);
            }
            Operation::Advise { address, length, advice, required } => {
                // SAFETY: the plan gives only advice that keeps contents.
                let advised = unsafe { mem::advise(address, length, advice) };
                if required {
                    must_at(advised, "flags of", address, length);
                }
            }
            Operation::Vdso { address, length } if is_same_vdso(address, length, kernel_vdso) => {
                same_vdso = Some(address);
            }
            Operation::Vdso { address, length } => patch_vdso(address, length, kernel_vdso),
            Operation::Duplicate { from, length, to } => {
                // SAFETY: as for maps; the source is shared memory of this plan.
                let duplicated = unsafe { mem::duplicate(from, length, to) };
                must_at(duplicated, "second mapping of shared memory", to, length);
            }
            Operation::Unmap { address, length } => {
                // SAFETY: the plan unmaps only what it has mapped for a while.
                must_at(unsafe { mem::unmap(address, length) }, "unmapping", address, length);
            }
            Operation::Lock { address, length, on_fault } => {
                // Who may lock less here goes on without: what is locked is the same memory, faster.
                let _ = mem::lock(address, length, if on_fault { zap_sys::libc::MLOCK_ONFAULT } else { 0 });
            }
            Operation::Seal { address, length } => must_at(mem::seal(address, length), "seal of", address, length),
        }
    }
    close_file(&mut file);
    same_vdso
}

/// Whether the image's vDSO is byte for byte the kernel's.
fn is_same_vdso(address: u64, length: u64, kernel: &KernelVdso) -> bool {
    if !kernel.moved || kernel.library == 0 || kernel.library_length != length {
        return false;
    }
    // SAFETY: the plan has mapped and filled the range, and nobody writes to it.
    let old = unsafe { slice::from_raw_parts(address as *const u8, length as usize) };
    // SAFETY: the kernel's library is mapped there and never changes.
    let new = unsafe { slice::from_raw_parts(kernel.library as *const u8, length as usize) };
    old == new
}

/// On the kernel that the program came from, its vDSO goes where it was: a thread may have been suspended inside it.
fn settle_vdso(plan: &[u8], header: &Header, kernel: KernelVdso, old: Option<u64>) -> KernelVdso {
    let Some(target_library) = old else { return kernel };
    let start = target_library.wrapping_sub(kernel.library - kernel.start);
    let end = start.wrapping_add(kernel.end - kernel.start);
    let target = KernelVdso { start, end, library: target_library, ..kernel };
    let taken = (0..header.count).any(|index| match Operation::read(plan, index).and_then(|made| made.mapped()) {
        Some((address, length)) => {
            address != target_library && address < target.end && address.saturating_add(length) > target.start
        }
        None => false,
    });
    // Moving between ranges that overlap is impossible; the plan keeps the hole away from there.
    let overlaps = target.start < kernel.end && target.end > kernel.start;
    if taken || overlaps {
        patch_copy(target_library, &kernel);
        return kernel;
    }
    // The list of all mappings would be too long to be read here.
    for (distance, length) in kernel.parts.into_iter().filter(|(_, length)| *length != 0) {
        let (from, to) = (kernel.start + distance, target.start + distance);
        // SAFETY: the target is free but for the image's copy of the library, which the library itself replaces.
        must(unsafe { mem::move_mapping(from, length, to) }, "vDSO");
    }
    target
}

/// Redirects a copy that was left as it is, since its own data pages cannot lie where they were.
fn patch_copy(address: u64, kernel: &KernelVdso) {
    let (length, writable) = (kernel.library_length, zap_sys::libc::PROT_READ | zap_sys::libc::PROT_WRITE);
    // SAFETY: the copy is private memory of a program that does not run yet.
    must(unsafe { mem::protect(address, length, writable) }, "vDSO");
    patch_vdso(address, length, kernel);
    let executable = zap_sys::libc::PROT_READ | zap_sys::libc::PROT_EXEC;
    // SAFETY: as above.
    must(unsafe { mem::protect(address, length, executable) }, "vDSO");
}

fn close_file(file: &mut RawFd) {
    if *file >= 0 {
        let _ = fd::close(*file);
        *file = -1;
    }
}

fn open(plan: &[u8], place: u64, length: u64, flags: i32) -> RawFd {
    let path = usize::try_from(place)
        .ok()
        .and_then(|place| plan.get(place..place.checked_add(usize::try_from(length).ok()?)?))
        .and_then(|bytes| core::ffi::CStr::from_bytes_with_nul(bytes).ok());
    let Some(path) = path else { fail(format_args!("plan: path is unreadable")) };
    match fd::open(path, flags, 0) {
        Ok(file) => file,
        Err(error) => fail(format_args!("{}: {error}", Lossy(path.to_bytes()))),
    }
}

/// Lets the old vDSO's entries, aliases too, jump to the kernel's.
fn patch_vdso(address: u64, length: u64, kernel: &KernelVdso) {
    let damaged = || fail(format_args!("vDSO in the image: unreadable"));
    // SAFETY: the plan has mapped and filled the range; the borrow ends before it is written.
    let old = unsafe { slice::from_raw_parts(address as *const u8, length as usize) };
    let Some(old) = Vdso::parse(old) else { damaged() };
    let new = (kernel.library != 0).then(|| {
        // SAFETY: the kernel's library is mapped there and never changes.
        let bytes = unsafe { slice::from_raw_parts(kernel.library as *const u8, kernel.library_length as usize) };
        Vdso::parse(bytes)
    });
    // Entries are collected first: what is parsed must not change under the parser.
    let mut entries = [(0u64, [0u8; ENTRY_SIZE]); 32];
    let mut count = 0;
    for (name, offset) in old.functions() {
        let room = old.functions().all(|(_, other)| other <= offset || other - offset >= ENTRY_SIZE as u64);
        if count == entries.len() || !room || offset.saturating_add(ENTRY_SIZE as u64) > length {
            fail(format_args!("vDSO in the image: entry {} cannot be redirected", Lossy(name)));
        }
        let target = new.flatten().and_then(|new| new.find(name)).map(|at| at + kernel.library);
        entries[count] = (offset, entry(name, target));
        count += 1;
    }
    for (offset, code) in &entries[..count] {
        let place = (address + offset) as *mut u8;
        // SAFETY: inside the range (checked above), which the plan keeps writable until it protects it.
        unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), place, ENTRY_SIZE) };
    }
}

fn set_bounds(plan: &[u8], header: &Header) {
    let [start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end] =
        header.bounds;
    let [auxv, auxv_length] = header.auxv;
    let bounds = MmMap {
        start_code,
        end_code,
        start_data,
        end_data,
        start_brk,
        brk,
        start_stack,
        arg_start,
        arg_end,
        env_start,
        env_end,
        auxv: plan.as_ptr() as u64 + auxv,
        auxv_size: auxv_length as u32,
        exe_fd: u32::MAX,
    };
    // SAFETY: the bounds are the image's, whose memory is mapped now; the vector lies in the plan.
    must(unsafe { mem::set_bounds(&bounds) }, "bounds of the program's memory");
}

/// Length, parts, trailer: see `plan::MAILBOX_OVERHEAD`.
fn fill_mailbox(plan: &[u8], header: &Header, hole: &Hole, vdso: &KernelVdso) {
    let [place, length] = header.parts;
    let Some(parts) = plan.get(place as usize..).and_then(|rest| rest.get(..length as usize)) else {
        fail(format_args!("plan: restart parts are unreadable"));
    };
    // The room for the vDSO holds it for good, or is free again since it went on to its old place.
    let restorer_end = if vdso.moved { hole.vdso() } else { hole.end() };
    let trailer = Trailer {
        restorer_start: hole.start,
        restorer_length: restorer_end - hole.start,
        vdso_start: vdso.start,
        vdso_length: vdso.end - vdso.start,
    };
    let mut at = header.mailbox;
    for bytes in [&length.to_le_bytes()[..], parts, &trailer.to_bytes()[..]] {
        // SAFETY: zap-restart has checked that the mailbox lies in a writable region of the image and has room.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        at += bytes.len() as u64;
    }
}

/// Bytes that are text, most of the time.
struct Lossy<'a>(&'a [u8]);

impl core::fmt::Display for Lossy<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for chunk in self.0.utf8_chunks() {
            f.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}
