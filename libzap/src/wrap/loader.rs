//! dl_iterate_phdr(3): until libzap has begun, its caller does not see it.
//!
//! The address sanitizer's library looks, before any constructor runs, whether it comes first among the libraries, and
//! ends the program if it does not. It need not: Zap's functions call its own.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::sync::atomic::{AtomicBool, Ordering};
use libc::{c_int, c_void, dl_phdr_info, size_t};
use redhook::{hook, real};

super::resolve_all!(dl_iterate_phdr);

type Visit = unsafe extern "C" fn(*mut dl_phdr_info, size_t, *mut c_void) -> c_int;

static BEGUN: AtomicBool = AtomicBool::new(false);

/// From now on libzap is a library like any other: who unwinds the stack needs all of them.
pub fn begin() {
    BEGUN.store(true, Ordering::Relaxed);
}

struct Visitor {
    visit: Visit,
    data: *mut c_void,
}

hook! { unsafe fn dl_iterate_phdr(visit: Option<Visit>, data: *mut c_void) -> c_int => zap_dl_iterate_phdr {
    if let Some(visit) = visit.filter(|_| !BEGUN.load(Ordering::Relaxed)) {
        let mut visitor = Visitor { visit, data };
        // SAFETY: the visitor outlives the call.
        return unsafe { real!(dl_iterate_phdr)(Some(visit_others), (&raw mut visitor).cast()) };
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(dl_iterate_phdr)(visit, data) }
} }

unsafe extern "C" fn visit_others(info: *mut dl_phdr_info, size: size_t, visitor: *mut c_void) -> c_int {
    // SAFETY: what was passed above.
    let visitor = unsafe { &*visitor.cast::<Visitor>() };
    // SAFETY: the loader's own description of a library.
    let library = unsafe { &*info };
    // SAFETY: the loader's table of the library's segments.
    let segments = unsafe { core::slice::from_raw_parts(library.dlpi_phdr, usize::from(library.dlpi_phnum)) };
    let own = visit_others as *const () as u64;
    let holds = |start: u64, length: u64| own >= start && own - start < length;
    if segments.iter().any(|s| s.p_type == libc::PT_LOAD && holds(library.dlpi_addr + s.p_vaddr, s.p_memsz)) {
        return 0;
    }
    // SAFETY: as the caller asked.
    unsafe { (visitor.visit)(info, size, visitor.data) }
}
