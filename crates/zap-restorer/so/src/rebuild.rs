//! Second half, in the hole: replace all memory but the hole by the image's, and jump into the frozen copy.
//!
//! There is no way back from the first unmapping on: a failure ends the process with a line on the report descriptor.
//!
//! # Safety
//! Code, stack and plan lie in the hole, which the plan's maker has kept free of the image's regions and which nothing
//! here unmaps. All other memory belongs to a program that has not begun to run, or to the one that is being rebuilt.
#![allow(unsafe_code)]

use crate::report::{fail, fail_file_gone, fail_no_place, must, must_at};
use core::slice;
use plan::hole::{Hole, VDSO_ROOM};
use plan::plan::{Header, Operation, Source, Trailer};
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
    carry_out(plan, &header, image);
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
    /// Whether it lies in the hole.
    moved: bool,
}

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
    let mut found = KernelVdso { start: u64::MAX, end: 0, moved: false };
    for mapping in maps::parse(text).filter(ours) {
        found.start = found.start.min(mapping.start);
        found.end = found.end.max(mapping.end);
    }
    if found.end == 0 {
        return KernelVdso { start: 0, ..found };
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
    KernelVdso { start: to, end, moved: true }
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

fn carry_out(plan: &[u8], header: &Header, image: RawFd) {
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
        Err(error) if error.is(zap_sys::libc::ENOENT) => {
            fail_file_gone(format_args!("{}: {error}", Lossy(path.to_bytes())))
        }
        Err(error) => fail(format_args!("{}: {error}", Lossy(path.to_bytes()))),
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
    // The room for the vDSO holds it until the engine moves it on.
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
