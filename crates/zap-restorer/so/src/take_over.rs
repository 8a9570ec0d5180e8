//! First half, on the stack that the kernel made and in the library as the loader mapped it: find the plan, make the
//! hole, move there. Nothing of the fresh exec has been touched when it ends.
//!
//! # Safety
//! Only memory that this file has just mapped is written; the jump goes to a copy of this very library.
#![allow(unsafe_code)]

use crate::report::{self, must, must_at};
use crate::{own_image, rebuild};
use core::slice;
use plan::hole::{Hole, CODE_ROOM};
use plan::plan::{descriptor, Header, HEADER_SIZE};
use zap_sys::arch::context;
use zap_sys::libc::{MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE};
use zap_sys::{fd, mem, page_up};

/// Carries out the plan that the environment names; comes back only when it names none.
pub fn take_over() {
    let mut buffer = [0u8; 8192];
    let environment = must(fd::read_file(c"/proc/self/environ", &mut buffer), "/proc/self/environ");
    let Some(plan_fd) = descriptor(environment) else { return };
    let mut head = [0u8; HEADER_SIZE];
    let size = must(fd::fstat(plan_fd), "plan").st_size as u64;
    must(fd::pread(plan_fd, &mut head, 0), "plan");
    // The head alone does not make a plan: its lengths are checked when the whole is read.
    let candidates = Header::candidates_of(&head);
    report::report_to(Header::report_of(&head));
    let hole = make_hole(&candidates, size);
    // SAFETY: the hole has room for the plan there, is writable, and is nobody else's.
    must(unsafe { fd::pread_to(plan_fd, hole.plan(), size, 0) }, "plan");
    // SAFETY: the plan's copy was just written, lies in the hole until the process's end of restoring, and is not
    // written again.
    let plan = unsafe { slice::from_raw_parts(hole.plan() as *const u8, size as usize) };
    if Header::read(plan).is_none() {
        report::fail(format_args!("plan: not one of this version of Zap"));
    }
    let _ = fd::close(plan_fd);
    // SAFETY: the first CODE_ROOM bytes of the hole are writable and nobody else's.
    let Some(length) = (unsafe { own_image::copy_to(hole.start, CODE_ROOM) }) else {
        report::fail(format_args!("restorer: too large for its hole"));
    };
    // SAFETY: only the copy of the library lies there; nothing in it is written any more.
    let protected = unsafe { mem::protect(hole.start, page_up(length), PROT_READ | PROT_EXEC) };
    must_at(protected, "restorer's code", hole.start, length);
    let function = rebuild::rebuild as *const () as u64 - own_image::start() + hole.start;
    // SAFETY: the stack is in the hole and aligned; the function is the copy's `rebuild`, which takes the hole's start
    // and never returns.
    unsafe { context::leave_for_stack(hole.stack_top(), function, hole.start) }
}

/// Maps the hole at the first candidate that is free here too.
fn make_hole(candidates: &[u64], plan_length: u64) -> Hole {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    for start in candidates.iter().copied().filter(|start| *start != 0) {
        let hole = Hole { start, plan_length };
        // SAFETY: MAP_FIXED_NOREPLACE takes nothing away from anybody.
        match unsafe { mem::map(start, hole.length(), PROT_READ | PROT_WRITE, flags, -1, 0) } {
            Ok(address) if address == start => return hole,
            // SAFETY: a mapping that was just made, where a kernel older than the flag liked it.
            Ok(address) => drop(unsafe { mem::unmap(address, hole.length()) }),
            Err(_) => {}
        }
    }
    report::fail_no_place(format_args!("restorer: no address is free both now and in the image"))
}
