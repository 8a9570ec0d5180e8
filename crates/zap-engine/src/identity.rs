//! Process and thread ids as the program knows them, and the words inside glibc that hold them.
//!
//! Virtual ids equal real ones until the first restart, and are then translated by a short table that only restarted
//! threads are in. The TCB keeps the virtual id: locks that are held have it written in them.
//!
//! # Safety
//! Reads and writes words of glibc's thread control block at an offset that the kernel confirmed.
#![allow(unsafe_code)]

use crate::guard::Guard;
use crate::masking::{self, NOBODY};
use crate::state::{self, Owned};
use crate::threads;
use crate::{clocks, guard, own_ids};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{compiler_fence, AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use zap_sys::{RealPid, VirtualPid};
use zap_wire::table::Kind;

/// Offset of `tid` in glibc's TCB; 0 when unknown.
static TID_OFFSET: AtomicU64 = AtomicU64::new(0);
/// Offset of the rseq area from the thread pointer, and its length; length 0 when libc registers none.
static RSEQ_OFFSET: AtomicU64 = AtomicU64::new(0);
static RSEQ_LENGTH: AtomicU32 = AtomicU32::new(0);
/// Whether the kernel tells of the main thread that it has registered its area, as it has.
static RSEQ_TELLS: AtomicBool = AtomicBool::new(false);

/// A thread that a restart has made again.
struct Pair {
    id: AtomicI32,
    real: AtomicI32,
    /// The thread's control block, which is its `pthread_t`.
    control_block: AtomicU64,
    /// What its CPU time had been before, in nanoseconds.
    cpu_offset: i64,
}

/// Places for threads that are made after a restart and need an id of their own, see [`take_own_id`].
const NEWCOMERS: usize = 256;

/// First of the ids that are given to such threads: above what the kernel gives (PID_MAX_LIMIT, 2^22), within what a
/// mutex's word has room for (FUTEX_TID_MASK, 2^30 - 1).
const FIRST_OWN_ID: i32 = 1 << 29;
static NEXT_OWN_ID: AtomicI32 = AtomicI32::new(FIRST_OWN_ID);

/// What was restarted: read lock-free by wrappers, replaced as a whole by the leader.
struct Pairs {
    pairs: Vec<Pair>,
}

#[link_section = ".zap.child"]
static PAIRS: AtomicPtr<Pairs> = AtomicPtr::new(core::ptr::null_mut());

const THREAD_CPU: i32 = zap_sys::libc::CLOCK_THREAD_CPUTIME_ID;

/// The signature that glibc registers rseq areas with on x86-64 (sys/rseq.h).
const RSEQ_SIGNATURE: u32 = 0x5305_3053;

/// Finds the offsets, on the main thread at init. `rseq` is libc's `__rseq_offset` and the registered length.
pub fn learn(rseq: Option<(i64, u32)>) {
    if let Ok(address) = zap_sys::process::clear_tid_address() {
        TID_OFFSET.store(address.wrapping_sub(zap_sys::arch::tls::thread_pointer()), Ordering::Relaxed);
    }
    if let Some((offset, length)) = rseq {
        RSEQ_OFFSET.store(offset as u64, Ordering::Relaxed);
        RSEQ_LENGTH.store(length, Ordering::Relaxed);
        RSEQ_TELLS.store(has_rseq(), Ordering::Relaxed);
    }
}

/// Where the calling thread's rseq area is, and its length; `None` when libc registers none.
fn own_rseq() -> Option<(u64, u32)> {
    let length = RSEQ_LENGTH.load(Ordering::Relaxed);
    let area = zap_sys::arch::tls::thread_pointer().wrapping_add(RSEQ_OFFSET.load(Ordering::Relaxed));
    (length != 0).then_some((area, length))
}

/// Whether the calling thread has registered its rseq area, as the kernel tells. One that is just beginning has not yet, and libc ends the
/// program if it finds that done.
fn has_rseq() -> bool {
    own_rseq().is_some_and(|(area, length)| zap_sys::process::has_rseq(area, length, RSEQ_SIGNATURE))
}

/// As [`has_rseq`], where the kernel does not tell (it was another length): by the area's processor, which is negative
/// before the registration unless the thread is very young.
pub fn seems_to_have_rseq() -> bool {
    /// Of `cpu_id` in `struct rseq` (linux/rseq.h).
    const PROCESSOR_OFFSET: u64 = 4;
    if RSEQ_TELLS.load(Ordering::Relaxed) {
        return has_rseq();
    }
    // SAFETY: a word of the thread's TCB, aligned as the kernel demands of the area.
    own_rseq()
        .is_some_and(|(area, _)| unsafe { core::ptr::read_volatile((area + PROCESSOR_OFFSET) as *const i32) } >= 0)
}

/// Registers the rseq area of the calling thread, which had.
pub fn register_rseq() {
    if let Some((area, length)) = own_rseq() {
        // SAFETY: the area is part of the thread's TCB, where libc had registered it.
        let _ = unsafe { zap_sys::process::register_rseq(area, length, RSEQ_SIGNATURE) };
    }
}

fn pairs() -> &'static [Pair] {
    // SAFETY: null or leaked for good by `set_pairs`.
    unsafe { PAIRS.load(Ordering::Acquire).as_ref() }.map_or(&[], |pairs| pairs.pairs.as_slice())
}

/// The program's id of the calling thread, which is `real`, if it has been looked for: a thread keeps its id for life. Not
/// believed where another process writes to the same block.
#[inline]
pub fn known_of_caller(real: RealPid) -> Option<VirtualPid> {
    let known = &guard::block().known_tid;
    if own_ids::is_shared() {
        return None;
    }
    (known[0].load(Ordering::Relaxed) == real.0).then(|| VirtualPid(known[1].load(Ordering::Relaxed)))
}

/// The program's id of the calling thread, which is `real`.
pub fn virtual_of_caller(real: RealPid) -> VirtualPid {
    known_of_caller(real).unwrap_or_else(|| {
        let known = &guard::block().known_tid;
        let id = virtual_of(real);
        known[0].store(0, Ordering::Relaxed);
        known[1].store(id.0, Ordering::Relaxed);
        known[0].store(real.0, Ordering::Relaxed);
        id
    })
}

/// The program's id of the process or thread `real`.
pub fn virtual_of(real: RealPid) -> VirtualPid {
    if !state::moved() {
        return VirtualPid(real.0);
    }
    if real == state::real_pid() {
        return state::virtual_pid();
    }
    let _guard = Guard::enter();
    match pairs().iter().find(|pair| pair.real.load(Ordering::Relaxed) == real.0) {
        Some(pair) => VirtualPid(pair.id.load(Ordering::Relaxed)),
        None => {
            let known = state::table().and_then(|table| table.virtual_of(Kind::Process, real));
            known.unwrap_or_else(|| unknown_real(real))
        }
    }
}

/// What virtual ids have more than real ones where nothing else is known of them, see `PodTable::offset`.
fn offset() -> i32 {
    state::table().map_or(0, |table| table.offset.load(Ordering::Relaxed))
}

/// The program's id of what the pod's table does not know. Init keeps its number.
fn unknown_real(real: RealPid) -> VirtualPid {
    let offset = offset();
    VirtualPid(if (2..offset).contains(&real.0) { real.0 + offset } else { real.0 })
}

/// The kernel's id of what the pod's table does not know.
fn unknown_id(id: VirtualPid) -> RealPid {
    let offset = offset();
    RealPid(if offset != 0 && (offset..FIRST_OWN_ID).contains(&id.0) { id.0 - offset } else { id.0 })
}

/// The kernel's id of the process or thread that the program knows as `id`.
pub fn real_of(id: VirtualPid) -> RealPid {
    if !state::moved() {
        return RealPid(id.0);
    }
    if id == state::virtual_pid() {
        return state::real_pid();
    }
    let _guard = Guard::enter();
    if let Some(pair) = find(id) {
        return RealPid(pair.real.load(Ordering::Relaxed));
    }
    let held = state::table();
    let table = held.as_deref();
    // 0: it has just been dropped.
    let living = table.and_then(|table| table.find_virtual(id)).map(zap_wire::table::Entry::real_pid);
    if let Some(real) = living.filter(|real| real.0 != 0) {
        return real;
    }
    // A thread made after the restart, or a child that has ended: the coordinator has taken it out of the table. Or one that
    // somebody of the pod has made by vfork, which is not in the table before its new program has begun.
    let real = table.and_then(|table| table.real_of(Kind::Process, id)).unwrap_or_else(|| unknown_id(id));
    // A number that is the kernel's of somebody whom the program knows by another one is nobody's.
    if virtual_of(real) == id {
        masking::masked(real)
    } else {
        NOBODY
    }
}

/// The program's id of the sender `pid` of a signal that came with `code`; of anything else that a signal brings along, what
/// it is. What was kept across a restart, and what a process of the pod says of itself (sigqueue), is the program's already.
pub fn virtual_sender(signal: i32, code: i32, pid: i32) -> i32 {
    let told_by_kernel = matches!(code, zap_sys::libc::SI_USER | zap_sys::libc::SI_TKILL)
        || (signal == zap_sys::libc::SIGCHLD && code > 0 && code <= zap_sys::libc::CLD_CONTINUED);
    let told_by_sender = matches!(code, zap_sys::libc::SI_QUEUE | zap_sys::libc::SI_MESGQ);
    if pid <= 0 || !(told_by_kernel || told_by_sender) || !state::moved() || pid == state::virtual_pid().0 {
        return pid;
    }
    let _guard = Guard::enter();
    let held = state::table();
    let table = held.as_deref();
    if told_by_sender && table.is_some_and(|table| table.find_virtual(VirtualPid(pid)).is_some()) {
        return pid;
    }
    match table.and_then(|table| table.virtual_of(Kind::Process, RealPid(pid))) {
        Some(id) => id.0,
        None if told_by_kernel => virtual_of(RealPid(pid)).0,
        None if pid == state::real_pid().0 => state::virtual_pid().0,
        None => pid,
    }
}

/// The kernel's id of the process group or session that the program knows as `id`.
pub fn real_group_of(kind: Kind, id: VirtualPid) -> RealPid {
    let _guard = Guard::enter();
    let table = state::table().filter(|_| state::moved());
    let Some(table) = table else { return RealPid(id.0) };
    table.real_of(kind, id).unwrap_or_else(|| {
        // One that has no leader any more, or none of the pod's.
        let real = unknown_id(id);
        let of = if kind == Kind::Group { zap_sys::process::group_of } else { zap_sys::process::session_of };
        let is_there = table.members().any(|(member, _)| of(member) == Ok(real));
        // A child that has been made by vfork is none before its new program begins, and makes a group of its own before that.
        let own = || [zap_sys::process::getpid(), zap_sys::process::getpgrp()].contains(&real);
        // Ended ones are no members any more.
        if is_there || (kind == Kind::Group && own()) || (kind == Kind::Group && zap_sys::process::has_child_in(real)) {
            real
        } else {
            NOBODY
        }
    })
}

/// The program's id of the process group or session `real`.
pub fn virtual_group_of(kind: Kind, real: RealPid) -> VirtualPid {
    let _guard = Guard::enter();
    let table = state::table().filter(|_| state::moved());
    table.map_or(VirtualPid(real.0), |table| table.virtual_of(kind, real).unwrap_or_else(|| unknown_real(real)))
}

/// Where a process stands among others: ids as the program knows them.
#[derive(Clone, Copy)]
pub struct Relations {
    pub parent: VirtualPid,
    pub group: VirtualPid,
    pub session: VirtualPid,
    /// The process group in the foreground of the controlling terminal, 0 without one.
    pub foreground: VirtualPid,
}

const NO_RELATIONS: Relations =
    Relations { parent: VirtualPid(0), group: VirtualPid(0), session: VirtualPid(0), foreground: VirtualPid(0) };

/// As they were at the checkpoint.
static RELATIONS: Owned<Relations> = Owned::new(NO_RELATIONS);

/// The parent since the restart, if it is none of the pod's; else 0.
static PARENT: AtomicI32 = AtomicI32::new(0);

/// Finds where the process stands.
pub fn save_relations() {
    let foreground = zap_sys::process::foreground();
    let relations = Relations {
        parent: virtual_parent(zap_sys::process::getppid()),
        group: virtual_group_of(Kind::Group, zap_sys::process::getpgrp()),
        session: virtual_group_of(Kind::Session, zap_sys::process::getsid()),
        foreground: foreground.map_or(VirtualPid(0), |group| virtual_group_of(Kind::Group, group)),
    };
    RELATIONS.with(|saved| *saved = relations);
}

/// What [`save_relations`] has found.
pub fn relations() -> Relations {
    RELATIONS.with(|saved| *saved)
}

/// After a restart, when every process of the pod is in the table: one that is not there is the parent of a pod's first
/// process, in the place of the one that it had.
pub fn restore_relations() {
    let parent = zap_sys::process::getppid();
    let is_stranger = state::table().is_none_or(|table| table.find(parent).is_none());
    // This process may have its old number, and another one not.
    if state::table().is_some_and(|table| table.members().any(|(real, member)| member.virtual_pid().0 != real.0)) {
        state::set_moved();
    }
    PARENT.store(if is_stranger { parent.0 } else { 0 }, Ordering::Relaxed);
    if let Some(table) = state::table().filter(|_| is_stranger) {
        // Others see it in /proc, and what this process becomes by exec goes on with it. Without room there, they see init.
        table.add_alias(Kind::ParentOf, state::real_pid(), relations().parent);
        table.add_alias(Kind::RealParentOf, state::real_pid(), VirtualPid(parent.0));
    }
}

/// After an exec: the parent of [`restore_relations`] is the same.
pub fn adopt_parent() {
    let Some(table) = state::agents_table() else { return };
    let own = zap_sys::process::getpid();
    if let (Some(real), Some(id)) = (table.real_outer_parent_of(own), table.outer_parent_of(own)) {
        PARENT.store(real.0, Ordering::Relaxed);
        RELATIONS.with(|saved| saved.parent = id);
    }
}

/// The program's id of its parent, which is `real`. One outside of the pod keeps the id that it had at the first; when it
/// has ended, init has taken its place.
pub fn virtual_parent(real: RealPid) -> VirtualPid {
    if !state::moved() {
        return VirtualPid(real.0);
    }
    let _guard = Guard::enter();
    if PARENT.load(Ordering::Relaxed) == real.0 {
        return relations().parent;
    }
    match state::table().and_then(|table| table.virtual_of(Kind::Process, real)) {
        Some(id) => id,
        // Not restarted yet: the one that it has always had.
        None if offset() != 0 && PARENT.load(Ordering::Relaxed) == 0 => unknown_real(real),
        None => VirtualPid(1),
    }
}

/// The program's id of `real`, the parent of the process `child`: what that one's getppid says, as far as it is known here.
pub fn virtual_parent_of(child: Option<RealPid>, real: RealPid) -> VirtualPid {
    if child == Some(state::real_pid()) {
        return virtual_parent(real);
    }
    let held = state::table();
    let table = held.as_deref();
    match table.filter(|_| real.0 != 0).and_then(|table| table.virtual_of(Kind::Process, real)) {
        Some(id) => id,
        None if masking::is_of_pod(real) => virtual_of(real),
        None => child.and_then(|child| table?.outer_parent_of(child)).unwrap_or_else(|| virtual_parent(real)),
    }
}

/// Writes into the calling thread's control block by which id the program knows it.
pub fn set_own_tid(id: VirtualPid) {
    let offset = TID_OFFSET.load(Ordering::Relaxed);
    if offset != 0 {
        // SAFETY: the word in the calling thread's own control block.
        let word = unsafe { &*((zap_sys::arch::tls::thread_pointer() + offset) as *const AtomicI32) };
        word.store(id.0, Ordering::Relaxed);
    }
}

fn find(id: VirtualPid) -> Option<&'static Pair> {
    pairs().iter().find(|pair| pair.id.load(Ordering::Relaxed) == id.0)
}

/// Nanoseconds of CPU time that the thread `id` had used before the last restart.
pub fn cpu_offset_of(id: VirtualPid) -> i64 {
    let _guard = Guard::enter();
    find(id).map_or(0, |pair| pair.cpu_offset)
}

/// The kernel's id of the thread `pthread` of this process, whose control block says `id`. A thread that was made after
/// the restart has its real id there, which may be the virtual one of another.
pub fn real_of_thread(pthread: u64, id: VirtualPid) -> RealPid {
    let _guard = Guard::enter();
    let is_it =
        |pair: &&Pair| pair.control_block.load(Ordering::Relaxed) == pthread && pair.id.load(Ordering::Relaxed) == id.0;
    match pairs().iter().find(is_it) {
        Some(pair) => RealPid(pair.real.load(Ordering::Relaxed)),
        None => unknown_id(id),
    }
}

/// The program's id of the process `pid`, if that is one of the pod's. Asked by the leader.
pub fn member(pid: RealPid) -> Option<VirtualPid> {
    state::agents_table()?.find(pid).map(zap_wire::table::Entry::virtual_pid)
}

/// Enters all slots' threads into the table; by the leader of a restart, when every thread has been made.
pub fn set_pairs() {
    let own = zap_sys::process::gettid();
    let thread = |slot: &threads::Slot| {
        let (id, real) = (slot.virtual_tid.load(Ordering::Relaxed), slot.real_tid.load(Ordering::Relaxed));
        // The others count from their beginning.
        let used = if real == own.0 { zap_sys::time::to_ns(&zap_sys::time::now(THREAD_CPU)) as i64 } else { 0 };
        let cpu_offset = slot.cpu.fetch_sub(used, Ordering::Relaxed) - used;
        Pair {
            id: AtomicI32::new(id),
            real: AtomicI32::new(real),
            control_block: AtomicU64::new(slot.fs_base.load(Ordering::Relaxed)),
            cpu_offset,
        }
    };
    let mut list: Vec<Pair> = threads::slots().map(thread).collect();
    let room = (0..NEWCOMERS).map(|_| Pair {
        id: AtomicI32::new(-1),
        real: AtomicI32::new(-1),
        control_block: AtomicU64::new(0),
        cpu_offset: 0,
    });
    let moved = list.iter().any(|pair| pair.id.load(Ordering::Relaxed) != pair.real.load(Ordering::Relaxed));
    list.extend(room);
    // In another PID namespace the process may have its old number, and its threads each other's.
    if moved {
        state::set_moved();
    }
    let fresh = Box::into_raw(Box::new(Pairs { pairs: list }));
    let old = PAIRS.swap(fresh, Ordering::AcqRel);
    if !old.is_null() {
        // SAFETY: made by this function in an earlier life; no thread runs yet that could be reading it.
        drop(unsafe { Box::from_raw(old) });
    }
}

/// Forgets every translation: in the child of a fork, whose ids are its own.
#[inline]
pub fn forget() {
    if !PAIRS.load(Ordering::Relaxed).is_null() {
        PAIRS.store(core::ptr::null_mut(), Ordering::Release);
    }
}

/// The thread id that glibc keeps for the thread `pthread` (its `pthread_t`): 0 when the thread has ended, `None` when
/// it cannot be known.
///
/// # Safety
/// `pthread` is a thread that has not been joined or detached and ended: what POSIX demands of a `pthread_t`.
pub unsafe fn tid_of_pthread(pthread: u64) -> Option<VirtualPid> {
    let offset = TID_OFFSET.load(Ordering::Relaxed);
    if offset == 0 {
        return None;
    }
    // SAFETY: the caller's promise; the word is one that the kernel writes, hence an atomic.
    let word = unsafe { &*((pthread + offset) as *const AtomicI32) };
    Some(VirtualPid(word.load(Ordering::Relaxed)))
}

/// The word of the calling thread's control block that holds its id.
fn own_word() -> Option<&'static AtomicI32> {
    let offset = TID_OFFSET.load(Ordering::Relaxed);
    // SAFETY: in the calling thread's own control block.
    (offset != 0).then(|| unsafe { &*((zap_sys::arch::tls::thread_pointer() + offset) as *const AtomicI32) })
}

/// Whether the calling thread has a real id to [`lend`], and has not lent it already.
pub fn may_lend() -> bool {
    if !state::moved() {
        return false;
    }
    let here = 0u8;
    take_abandoned(&raw const here as u64);
    own_word().is_some() && guard::block().lender.load(Ordering::Relaxed) == 0
}

/// Writes the calling thread's real id into its control block, for libc functions that give the kernel what they find
/// there, until [`give_back`]. A restart in between finds it with the id of before, see [`renew_lent`].
pub fn lend() {
    let Some(word) = own_word() else { return };
    let (block, here) = (guard::block(), 0u8);
    block.lent_id.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
    block.lender.store(&raw const here as u64, Ordering::Relaxed);
    loop {
        let generation = clocks::generation();
        word.store(zap_sys::process::gettid().0, Ordering::SeqCst);
        // A restart comes either before the id is asked for, or finds the old one, or is seen here.
        if clocks::generation() == generation {
            break;
        }
    }
}

/// In the child of a fork, whose control block libc has written anew.
#[inline]
pub fn forget_lent() {
    guard::block().lender.store(0, Ordering::Relaxed);
    guard::block().known_tid[0].store(0, Ordering::Relaxed);
}

/// Ends what [`lend`] began, if it has.
pub fn give_back() {
    let block = guard::block();
    let (Some(word), true) = (own_word(), block.lender.load(Ordering::Relaxed) != 0) else { return };
    word.store(block.lent_id.load(Ordering::Relaxed), Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
    block.lender.store(0, Ordering::Relaxed);
}

/// Before the calling thread goes on with the stack pointer `stack`: a handler that leaves a call in which the id was lent,
/// by siglongjmp, takes it back.
#[cold]
pub fn take_abandoned(stack: u64) {
    let lender = guard::block().lender.load(Ordering::Relaxed);
    if lender == 0 || stack <= lender {
        return;
    }
    let mut alternate = zap_sys::signal::no_stack();
    // SAFETY: nothing is set.
    let asked = unsafe { zap_sys::signal::set_alternate_stack(None, &mut alternate) };
    let start = alternate.ss_sp as u64;
    let is_alternate = |address: u64| {
        asked.is_ok()
            && alternate.ss_flags & zap_sys::libc::SS_ONSTACK != 0
            && (start..start.saturating_add(alternate.ss_size as u64)).contains(&address)
    };
    // Within a handler, which may still return into the call.
    if is_alternate(stack) && !is_alternate(lender) {
        return;
    }
    give_back();
}

/// After a restart: a thread that was suspended inside [`lend`] has the real id of before in its control
/// block, where others look for it.
pub fn renew_lent(slot: &threads::Slot) {
    let offset = TID_OFFSET.load(Ordering::Relaxed);
    let (last, id) = (slot.last_tid.load(Ordering::Relaxed), slot.virtual_tid.load(Ordering::Relaxed));
    if offset != 0 && last != id {
        // SAFETY: the word in the control block of a thread that does not run yet.
        let word = unsafe { &*((slot.fs_base.load(Ordering::Relaxed) + offset) as *const AtomicI32) };
        let new = slot.real_tid.load(Ordering::Relaxed);
        let _ = word.compare_exchange(last, new, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// On a thread that has just been made where ids differ: when the kernel has given it the number by which the program knows
/// another one, it gets an id of its own, and its control block says so. Locks would take the one for the other.
pub fn take_own_id() {
    let offset = TID_OFFSET.load(Ordering::Relaxed);
    let real = zap_sys::process::gettid();
    // SAFETY: the word in the calling thread's own control block.
    let named = || unsafe { &*((zap_sys::arch::tls::thread_pointer() + offset) as *const AtomicI32) };
    if offset != 0 && named().load(Ordering::Relaxed) != real.0 {
        // A restart has come in between, and it is known by its id of before.
        return;
    }
    let id = unknown_real(real);
    let known = |pair: &&Pair| pair.id.load(Ordering::Relaxed) == id.0 && pair.real.load(Ordering::Relaxed) != real.0;
    if offset == 0 || !pairs().iter().any(|pair| known(&pair)) {
        if id.0 != real.0 {
            set_own_tid(id);
        }
        return;
    }
    let process = zap_sys::process::getpid();
    let is_free = |pair: &&Pair| {
        let (id, holder) = (pair.id.load(Ordering::Relaxed), pair.real.load(Ordering::Relaxed));
        // A thread that has ended leaves its place to the next.
        id == -1 || (id >= FIRST_OWN_ID && zap_sys::signal::tgkill(process, RealPid(holder), 0).is_err())
    };
    let own = NEXT_OWN_ID.fetch_add(1, Ordering::Relaxed);
    let Some(pair) = pairs().iter().filter(is_free).find(|pair| {
        let before = pair.id.load(Ordering::Relaxed);
        pair.id.compare_exchange(before, own, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }) else {
        return;
    };
    let thread = zap_sys::arch::tls::thread_pointer();
    pair.control_block.store(thread, Ordering::Relaxed);
    pair.real.store(real.0, Ordering::Release);
    // SAFETY: the word in the calling thread's own control block.
    let word = unsafe { &*((thread + offset) as *const AtomicI32) };
    word.store(own, Ordering::Relaxed);
}
