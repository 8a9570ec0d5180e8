//! Alternate signal stacks that are too small for Zap's handler, and the larger ones that stand in for them.
//!
//! The kernel pushes the frame of Zap's signal, with the processor's whole state, before any code of Zap's runs: on a
//! stack of 2048 bytes that alone ends the program (seen with AVX-512). So where sigaltstack(2) is given a small stack,
//! the kernel is given a larger one of Zap's; the program is told its own. A stack that has room for two frames (the
//! program's handler may be running there) stays the program's, and with it all that programs do with theirs.
//!
//! A substitute belongs to a thread and to one stack of the program's: who sets several in turn, or jumps between them
//! (SS_AUTODISARM, coroutines), finds each with what it left there. It is kept until the thread has ended, which shows
//! when others are made: there is no moment at a thread's end at which no signal can come any more.
//!
//! # Safety
//! A substitute is a mapping of its own, with its description in its last bytes; only its thread uses it, and it is
//! given back when that thread is gone.
#![allow(unsafe_code)]

use crate::guard::{self, Guard};
use crate::state;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use zap_sys::futex::FutexLock;
use zap_sys::{libc, mem, process, signal, RealPid, SysError, PAGE_SIZE};

/// Smallest stack that the kernel takes (MINSIGSTKSZ of linux/signal.h on x86-64): it has the last word on smaller ones.
const SMALLEST: usize = 2048;

/// Room in bytes for Zap's handler until it is on a stack of its own, and for a handler of the program below it.
const HANDLERS: u64 = 2048;

/// Most substitutes that a thread keeps: then the oldest serves the next stack.
const MOST: usize = 256;

/// Size in bytes of the largest signal frame without state that has to be asked for; 0 while unknown.
static FRAME: AtomicU64 = AtomicU64::new(0);

/// A stack that stands in for one of the program's. Lies at the end of its own mapping.
struct Substitute {
    /// Address of the next one of any thread, and of the next one of this thread.
    next: AtomicU64,
    next_own: AtomicU64,
    /// The mapping, whose first page cannot be touched.
    start: u64,
    length: u64,
    /// The stack that the program believes to have.
    given: AtomicU64,
    given_size: AtomicU64,
    /// The thread, as the kernel knows it: see [`renew_owner`]. Of the program's ids, two threads may have had the same.
    owner: AtomicI32,
}

struct All {
    first: u64,
    count: usize,
    /// Number at which those of ended threads are looked for.
    look_at: usize,
}

const FIRST_LOOK: usize = 16;

/// Whether any has been made, or is about to be.
#[link_section = ".zap.child"]
static IN_USE: AtomicBool = AtomicBool::new(false);

static ALL: FutexLock<All> = FutexLock::new(All { first: 0, count: 0, look_at: FIRST_LOOK });

/// After a panic that may have skipped the end of a section.
pub fn give_up() {
    ALL.give_up();
}

/// Notes the kernel's AT_MINSIGSTKSZ (getauxval(3); 0 before Linux 5.14), at init. It counts the matrix unit's state
/// too, which the kernel only saves for a process that has asked for it (ARCH_REQ_XCOMP_PERM) and then demands stacks
/// that can hold it.
pub fn learn(minimum: u64) {
    let dynamic = zap_sys::arch::dynamic_state();
    FRAME.store(minimum.saturating_sub(dynamic), Ordering::Relaxed);
}

/// Stacks below this size in bytes get a substitute.
fn limit() -> u64 {
    let frame = FRAME.load(Ordering::Relaxed);
    if frame == 0 {
        return 0;
    }
    2 * frame + HANDLERS
}

fn substitute(address: u64) -> Option<&'static Substitute> {
    // SAFETY: 0, or the address of a description in a mapping that lives: see the file's head.
    unsafe { (address as *const Substitute).as_ref() }
}

impl Substitute {
    fn stack_start(&self) -> u64 {
        self.start + PAGE_SIZE as u64
    }

    fn stack_size(&self) -> u64 {
        core::ptr::from_ref(self) as u64 - self.stack_start()
    }

    fn serve(&self, given: &libc::stack_t) {
        self.given.store(given.ss_sp as u64, Ordering::Relaxed);
        self.given_size.store(given.ss_size as u64, Ordering::Relaxed);
    }
}

/// The calling thread's substitutes, the newest first.
fn own() -> impl Iterator<Item = &'static Substitute> {
    let mut at = guard::block().substitutes.load(Ordering::Relaxed);
    core::iter::from_fn(move || {
        let found = substitute(at)?;
        at = found.next_own.load(Ordering::Relaxed);
        Some(found)
    })
}

/// sigaltstack(2).
///
/// # Safety
/// The stack that `new` describes is the program's to give.
pub unsafe fn set(new: Option<libc::stack_t>, old: Option<&mut libc::stack_t>) -> Result<(), SysError> {
    let is_small = |new: &libc::stack_t| {
        new.ss_flags & libc::SS_DISABLE == 0 && new.ss_size >= SMALLEST && (new.ss_size as u64) < limit()
    };
    // The child of a vfork shares all this with its parent, and is gone soon.
    let own_process = state::active() && process::getpid() == state::real_pid();
    let mut before = signal::no_stack();
    match new.filter(|new| own_process && is_small(new)) {
        // SAFETY: the caller's promise.
        None => unsafe { signal::set_alternate_stack(new.as_ref(), &mut before) }?,
        Some(new) => {
            // The program's own comes first: the kernel judges it as it would without Zap. No signal may find it there.
            let mask = signal::change_mask(libc::SIG_SETMASK, !0);
            // SAFETY: as above.
            let result = unsafe { signal::set_alternate_stack(Some(&new), &mut before) };
            if let Some(larger) = result.as_ref().ok().and_then(|()| find_or_make(&new)) {
                larger.serve(&new);
                let stack = libc::stack_t {
                    ss_sp: larger.stack_start() as *mut libc::c_void,
                    ss_size: larger.stack_size() as usize,
                    ss_flags: new.ss_flags,
                };
                // SAFETY: memory of ours that lives as long as the thread.
                let _ = unsafe { signal::set_alternate_stack(Some(&stack), &mut signal::no_stack()) };
            }
            if let Ok(mask) = mask {
                let _ = signal::change_mask(libc::SIG_SETMASK, mask);
            }
            result?;
        }
    }
    if let Some(old) = old {
        if let Some(known) = own().find(|known| known.stack_start() == before.ss_sp as u64) {
            before.ss_sp = known.given.load(Ordering::Relaxed) as *mut libc::c_void;
            before.ss_size = known.given_size.load(Ordering::Relaxed) as usize;
        }
        *old = before;
    }
    Ok(())
}

/// Size of a mapping that can stand in for `size` bytes.
fn mapping_length(size: u64) -> u64 {
    // A handler of the program has what it would have had, and Zap's as much again as it needs.
    zap_sys::page_up(size + limit() + core::mem::size_of::<Substitute>() as u64) + PAGE_SIZE as u64
}

fn find_or_make(new: &libc::stack_t) -> Option<&'static Substitute> {
    let fits = |known: &&Substitute| known.length >= mapping_length(new.ss_size as u64);
    if let Some(known) = own().find(|known| known.given.load(Ordering::Relaxed) == new.ss_sp as u64).filter(fits) {
        return Some(known);
    }
    if own().count() >= MOST {
        return own().filter(fits).last();
    }
    make(new.ss_size as u64)
}

fn make(size: u64) -> Option<&'static Substitute> {
    let _guard = Guard::enter();
    let block = guard::block();
    // Before the lock is taken, which the child of a fork may find taken.
    IN_USE.store(true, Ordering::Release);
    let mut all = ALL.lock();
    if all.count >= all.look_at {
        drop_ended(&mut all);
        all.look_at = FIRST_LOOK.max(2 * all.count);
    }
    let length = mapping_length(size);
    let start = mem::map_anonymous(length as usize).ok()?;
    // SAFETY: the first page of a mapping that nobody uses yet.
    let _ = unsafe { mem::protect(start, PAGE_SIZE as u64, libc::PROT_NONE) };
    // Also aligns the stack's end as frames are.
    let place = (start + length - core::mem::size_of::<Substitute>() as u64) & !63;
    let made = Substitute {
        next: AtomicU64::new(all.first),
        next_own: AtomicU64::new(block.substitutes.load(Ordering::Relaxed)),
        start,
        length,
        given: AtomicU64::new(0),
        given_size: AtomicU64::new(0),
        owner: AtomicI32::new(process::gettid().0),
    };
    // SAFETY: aligned, inside the mapping, and nobody else's.
    unsafe { (place as *mut Substitute).write(made) };
    all.first = place;
    all.count += 1;
    block.substitutes.store(place, Ordering::Relaxed);
    substitute(place)
}

/// Gives back what belonged to threads that are gone.
fn drop_ended(all: &mut All) {
    let process = process::getpid();
    keep(all, |one| {
        // A new thread may have been given the number of one that is gone: what that had is then kept a little longer.
        let owner = RealPid(one.owner.load(Ordering::Relaxed));
        !signal::tgkill(process, owner, 0).is_err_and(|error| error.is(libc::ESRCH))
    });
}

/// Keeps those that `wanted` wants, and gives the others back.
fn keep(all: &mut All, wanted: impl Fn(&Substitute) -> bool) {
    let mut at = core::mem::take(&mut all.first);
    all.count = 0;
    while let Some(one) = substitute(at) {
        let here = at;
        at = one.next.load(Ordering::Relaxed);
        if wanted(one) {
            one.next.store(all.first, Ordering::Relaxed);
            all.first = here;
            all.count += 1;
        } else {
            // SAFETY: nobody uses it any more: its thread is gone.
            let _ = unsafe { mem::unmap(one.start, one.length) };
        }
    }
}

/// On a thread that a restart has made again: it has another number.
pub fn renew_owner() {
    let owner = process::gettid().0;
    own().for_each(|one| one.owner.store(owner, Ordering::Relaxed));
}

/// In the child of a fork: its one thread has the forking thread's substitutes, and nobody the others'.
#[inline]
pub fn begin_in_child() {
    // A page that is not written need not be copied.
    if IN_USE.load(Ordering::Acquire) {
        renew_in_child();
    }
}

#[cold]
fn renew_in_child() {
    ALL.reset();
    let mut all = ALL.lock();
    let is_own = |one: &Substitute| own().any(|known| core::ptr::eq(known, one));
    keep(&mut all, is_own);
    renew_owner();
}
