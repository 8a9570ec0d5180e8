//! The loader's functions. dl_iterate_phdr(3): until libzap has begun, its caller does not see it. dlopen(3): a path is the pod's.
//!
//! The address sanitizer's library looks, before any constructor runs, whether it comes first among the libraries, and
//! ends the program if it does not. It need not: Zap's functions call its own.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::private_paths::Own;
use core::ffi::{c_char, CStr};
use core::sync::atomic::{AtomicBool, Ordering};
use libc::{c_int, c_void, dl_phdr_info, size_t, Elf64_Phdr};
use redhook::{hook, real};
use zap_engine::next::{self, Next};
use zap_engine::private;
use zap_engine::private_paths::Last;

/// Finds the real functions of this family.
pub fn resolve() {
    let _ = real!(dl_iterate_phdr);
    real_loader(&DLOPEN);
}

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
    if holds(library, visit_others as *const () as u64) {
        return 0;
    }
    // SAFETY: as the caller asked.
    unsafe { (visitor.visit)(info, size, visitor.data) }
}

/// The segments of `library` that are loaded.
fn loaded(library: &dl_phdr_info) -> impl Iterator<Item = &Elf64_Phdr> {
    // SAFETY: the loader's table of the library's segments.
    let segments = unsafe { core::slice::from_raw_parts(library.dlpi_phdr, usize::from(library.dlpi_phnum)) };
    segments.iter().filter(|segment| segment.p_type == libc::PT_LOAD)
}

fn holds(library: &dl_phdr_info, address: u64) -> bool {
    loaded(library).any(|segment| {
        let start = library.dlpi_addr + segment.p_vaddr;
        address >= start && address - start < segment.p_memsz
    })
}

/// More writable segments than a library has.
const MOST_SEGMENTS: usize = 4;

struct Search {
    address: u64,
    found: [(u64, u64); MOST_SEGMENTS],
    count: usize,
}

/// Address and length of each writable segment of the library that holds `address`, and how many they are. Takes the loader's
/// lock: for the program's own threads, in no guarded section.
pub(super) fn writable_segments(address: u64) -> ([(u64, u64); MOST_SEGMENTS], usize) {
    let mut search = Search { address, found: [(0, 0); MOST_SEGMENTS], count: 0 };
    // SAFETY: the search outlives the call.
    let _ = unsafe { real!(dl_iterate_phdr)(Some(search_one), (&raw mut search).cast()) };
    (search.found, search.count)
}

unsafe extern "C" fn search_one(info: *mut dl_phdr_info, _: size_t, search: *mut c_void) -> c_int {
    // SAFETY: what was passed above.
    let search = unsafe { &mut *search.cast::<Search>() };
    // SAFETY: the loader's own description of a library.
    let library = unsafe { &*info };
    if !holds(library, search.address) {
        return 0;
    }
    let writable = loaded(library).filter(|segment| segment.p_flags & libc::PF_W != 0);
    for (place, segment) in search.found.iter_mut().zip(writable) {
        *place = (library.dlpi_addr + segment.p_vaddr, segment.p_memsz);
        search.count += 1;
    }
    1
}

/// The loader looks at who calls dlopen(3): so what is here is called on the way, and the real function returns to the caller.
static DLOPEN: Next = Next::new(c"dlopen", || 0);
static DLMOPEN: Next = Next::new(c"dlmopen", || 0);

extern "C" fn fail_to_load() -> *mut c_void {
    core::ptr::null_mut()
}

fn real_loader(next: &Next) -> usize {
    let address = match next.known() {
        0 => next::find(&[&DLOPEN, &DLMOPEN], next, |name| super::optional(name) as usize),
        address => address,
    };
    if address == 0 {
        fail_to_load as *const () as usize
    } else {
        address
    }
}

/// The host's path in the place of the pod's at `path`. It lasts: the loader keeps no names of others, but whoever traces it may.
#[cold]
fn own_library(path: &mut usize) {
    let place = *path as *const c_char;
    // SAFETY: the caller's string.
    if place.is_null() || !unsafe { CStr::from_ptr(place) }.to_bytes().contains(&b'/') {
        return;
    }
    let mut own = Own::new();
    if let Ok(found) = own.of(place, Last::Followed) {
        if found != place {
            // SAFETY: a string of our own.
            let copy = unsafe { libc::strdup(found) };
            *path = if copy.is_null() { *path } else { copy as usize };
        }
    }
}

extern "C" fn before_dlopen(arguments: &mut [usize; 3]) -> usize {
    if private::by_names() {
        own_library(&mut arguments[0]);
    }
    real_loader(&DLOPEN)
}

extern "C" fn before_dlmopen(arguments: &mut [usize; 3]) -> usize {
    if private::by_names() {
        own_library(&mut arguments[1]);
    }
    real_loader(&DLMOPEN)
}

zap_sys::passing_shim!(dlopen, before_dlopen);
zap_sys::passing_shim!(dlmopen, before_dlmopen);
