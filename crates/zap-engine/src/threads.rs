//! The threads of the process while they stand: one slot for each, with all that is needed to make it again.
//!
//! Slots lie in page-sized cells of Zap's own memory; the rest of a cell is the stack on which a re-made thread runs its
//! first few instructions. The leader fills in the id, the parked thread the rest; at a restart every slot but the main
//! thread's becomes a thread by raw clone.
//!
//! # Safety
//! A cell is mapped for ever once made. Its fields are atomics or written by the slot's own thread before it reports.
#![allow(unsafe_code)]

use crate::clocks;
use crate::state::{zero, Owned};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use zap_plugin::Refusal;
use zap_sys::arch::extended_state;
use zap_sys::{RealPid, SysError};

/// The slot is not in use.
pub const FREE: u32 = 0;
/// The thread has been signalled.
pub const SIGNALLED: u32 = 1;
/// The thread stands.
pub const PARKED: u32 = 2;
/// The main thread, ended by pthread_exit: it is listed for ever, and there is nothing to suspend or save.
pub const ENDED: u32 = 3;
/// The thread took the signal where it must not stand: it is to be signalled again.
pub const MISSED: u32 = 4;

/// One thread.
#[repr(C)]
pub struct Slot {
    pub state: AtomicU32,
    pub real_tid: AtomicI32,
    pub virtual_tid: AtomicI32,
    /// The thread had blocked Zap's signal itself: its frame's mask is to say so again.
    pub put_back: AtomicU32,
    /// It has registered its rseq area.
    has_rseq: AtomicU32,
    /// Address of its `ucontext`: where rt_sigreturn takes it up.
    pub context: AtomicU64,
    pub fs_base: AtomicU64,
    pub gs_base: AtomicU64,
    pub robust_list: AtomicU64,
    pub robust_length: AtomicU64,
    /// Word that the kernel clears at the thread's end; 0 when unknown.
    pub clear_tid: AtomicU64,
    pub name: [AtomicU64; 2],
    /// Signals that wait: for the thread or the process at first, for the thread alone once they have been saved.
    pub pending: AtomicU64,
    /// Signals that wait for the thread alone, real-time ones in order, with their values; null when none ever did.
    pub queue: AtomicPtr<alloc::vec::Vec<crate::signals::Taken>>,
    /// What the leader wants of the thread while it stands: see `crate::suspend::ask_for_signals`.
    pub order: AtomicU32,
    /// Its real id when it was suspended: in a restarted process the id of before.
    pub last_tid: AtomicI32,
    /// Nanoseconds of CPU time that it has used in its own time; in a restarted process without those that the kernel has
    /// counted when timers are set.
    pub cpu: AtomicI64,
    /// While the thread does not park: the letter of its state; the process that it made with vfork and waits for; the
    /// error number of an attempt to unblock the signal. See [`crate::stragglers`].
    pub letter: AtomicI32,
    pub vfork_child: AtomicI32,
    pub trouble: AtomicI32,
    /// Number of the suspension that the slot was made for: slots of the last one lie there until the next begins.
    pub suspension: AtomicU32,
    scheduling: [AtomicU64; 6],
    /// All zero when unknown.
    processors: [AtomicU64; 16],
    timer_slack: AtomicU64,
    io_priority: AtomicI32,
}

const CELL: usize = zap_sys::PAGE_SIZE;
const CELLS_PER_CHUNK: usize = 64;
const CHUNKS: usize = 1024;

/// Room for 65,536 threads, mapped as needed.
static CHUNK_TABLE: [AtomicPtr<u8>; CHUNKS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; CHUNKS];
static USED: AtomicUsize = AtomicUsize::new(0);

fn slot_at(index: usize) -> Option<&'static Slot> {
    let chunk = CHUNK_TABLE.get(index / CELLS_PER_CHUNK)?.load(Ordering::Acquire);
    if chunk.is_null() {
        return None;
    }
    // SAFETY: the chunk has CELLS_PER_CHUNK cells, each page-aligned and zero-initialized.
    Some(unsafe { &*chunk.add(index % CELLS_PER_CHUNK * CELL).cast::<Slot>() })
}

/// The slots of this suspension, of threads that live.
pub fn slots() -> impl Iterator<Item = &'static Slot> {
    known().filter(|slot| slot.state.load(Ordering::Acquire) != ENDED)
}

fn known() -> impl Iterator<Item = &'static Slot> {
    (0..USED.load(Ordering::Acquire)).filter_map(slot_at).filter(|slot| slot.state.load(Ordering::Acquire) != FREE)
}

/// Threads that a restart has made and that have not returned to the program yet: they read their slots.
#[link_section = ".zap.child"]
static ENTERING: AtomicU32 = AtomicU32::new(0);

/// Waits until every re-made thread has left its slot; false when that takes too long. A checkpoint may come that early.
pub fn wait_until_entered() -> bool {
    const LONGEST_NS: u64 = 5_000_000_000;
    let begun = zap_sys::time::monotonic_ns();
    while ENTERING.load(Ordering::Acquire) != 0 {
        if zap_sys::time::monotonic_ns().saturating_sub(begun) > LONGEST_NS {
            return false;
        }
        zap_sys::time::sleep_ns(20_000);
    }
    true
}

/// In the child of a fork: no thread is about to [`enter`].
#[inline]
pub fn forget_entering() {
    zero(&PREPARED);
    zero(&ENTERING);
}

/// Announces how many threads are about to [`enter`]: by the leader of a restart.
pub fn expect_entering(count: usize) {
    PREPARED.store(0, Ordering::Release);
    RELEASING.store(0, Ordering::Release);
    ENTERING.store(count as u32, Ordering::Release);
}

/// Threads that a restart has made and that are all that they were, but for running.
#[link_section = ".zap.child"]
static PREPARED: AtomicU32 = AtomicU32::new(0);

/// Waits until `count` threads have their names, pending signals and all else: no thread may run before and find
/// another one incomplete.
pub fn wait_until_prepared(count: usize) {
    loop {
        let prepared = PREPARED.load(Ordering::Acquire);
        if prepared as usize >= count {
            return;
        }
        let _ = zap_sys::futex::wait(&PREPARED, prepared, None);
    }
}

/// Forgets all slots: the start of a suspension.
pub fn clear() {
    for index in 0..USED.load(Ordering::Relaxed) {
        if let Some(slot) = slot_at(index) {
            slot.state.store(FREE, Ordering::Relaxed);
        }
    }
    USED.store(0, Ordering::Release);
}

/// A new slot for the thread `tid`.
pub fn add(tid: RealPid, state: u32) -> Result<&'static Slot, SysError> {
    let index = USED.load(Ordering::Relaxed);
    let place =
        CHUNK_TABLE.get(index / CELLS_PER_CHUNK).ok_or(SysError::new("too many threads", zap_sys::libc::ENOMEM))?;
    if place.load(Ordering::Acquire).is_null() {
        let chunk = zap_sys::mem::map_anonymous(CELL * CELLS_PER_CHUNK)?;
        place.store(chunk as *mut u8, Ordering::Release);
    }
    let slot = slot_at(index).ok_or(SysError::new("slot", zap_sys::libc::ENOMEM))?;
    slot.real_tid.store(tid.0, Ordering::Relaxed);
    slot.put_back.store(0, Ordering::Relaxed);
    slot.context.store(0, Ordering::Relaxed);
    slot.suspension.store(crate::suspend::current(), Ordering::Relaxed);
    for word in [&slot.letter, &slot.vfork_child, &slot.trouble] {
        word.store(0, Ordering::Relaxed);
    }
    slot.order.store(0, Ordering::Relaxed);
    forget_queue(slot);
    slot.state.store(state, Ordering::Release);
    USED.store(index + 1, Ordering::Release);
    Ok(slot)
}

/// Frees what was queued for the thread that had the slot before.
fn forget_queue(slot: &Slot) {
    let queue = slot.queue.swap(core::ptr::null_mut(), Ordering::AcqRel);
    if !queue.is_null() {
        // SAFETY: made by `signals::save_own`, and nobody else's any more.
        drop(unsafe { alloc::boxed::Box::from_raw(queue) });
    }
}

/// The slot of the thread `tid`.
pub fn find(tid: RealPid) -> Option<&'static Slot> {
    known().find(|slot| slot.real_tid.load(Ordering::Relaxed) == tid.0)
}

/// Whether there is a thread that the program knows as `id`. Asked while every thread stands.
pub fn knows(id: zap_sys::VirtualPid) -> bool {
    slots().any(|slot| slot.virtual_tid.load(Ordering::Relaxed) == id.0)
}

/// Fills in what only the thread itself can tell. Called on the thread, in its signal handler.
pub fn describe_self(slot: &Slot, context: u64) {
    let (fs, gs) = zap_sys::process::thread_registers();
    let (robust, robust_length) = zap_sys::process::robust_list().unwrap_or((0, 0));
    let clear_tid = zap_sys::process::clear_tid_address().unwrap_or(0);
    let name = zap_sys::process::thread_name();
    let half = |at: usize| u64::from_ne_bytes(name[at..at + 8].try_into().unwrap_or([0; 8]));
    slot.context.store(context, Ordering::Relaxed);
    slot.has_rseq.store(u32::from(crate::identity::seems_to_have_rseq()), Ordering::Relaxed);
    slot.fs_base.store(fs, Ordering::Relaxed);
    slot.gs_base.store(gs, Ordering::Relaxed);
    slot.robust_list.store(robust, Ordering::Relaxed);
    slot.robust_length.store(robust_length, Ordering::Relaxed);
    slot.clear_tid.store(clear_tid, Ordering::Relaxed);
    slot.name[0].store(half(0), Ordering::Relaxed);
    slot.name[1].store(half(8), Ordering::Relaxed);
    slot.pending.store(zap_sys::signal::pending(), Ordering::Relaxed);
    slot.last_tid.store(slot.real_tid.load(Ordering::Relaxed), Ordering::Relaxed);
    slot.cpu.store(clocks::thread_cpu(), Ordering::Relaxed);
    slot.save_scheduling();
    let tid = crate::identity::virtual_of(RealPid(slot.real_tid.load(Ordering::Relaxed)));
    slot.virtual_tid.store(tid.0, Ordering::Relaxed);
}

impl Slot {
    fn save_scheduling(&self) {
        let found = zap_sys::process::scheduling().unwrap_or_default();
        let words = [
            u64::from(found.policy) | u64::from(found.priority) << 32,
            found.flags,
            i64::from(found.nice) as u64,
            found.runtime,
            found.deadline,
            found.period,
        ];
        self.scheduling.iter().zip(words).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
        let processors = zap_sys::process::processors().unwrap_or_default();
        self.processors.iter().zip(processors).for_each(|(to, from)| to.store(from, Ordering::Relaxed));
        self.timer_slack.store(zap_sys::process::timer_slack(), Ordering::Relaxed);
        self.io_priority.store(zap_sys::credentials::io_priority(0).unwrap_or(0), Ordering::Relaxed);
    }

    /// Its I/O priority as ioprio_set(2) takes it: of no class there are no levels, though Linux before 5.15 told of one.
    pub fn io_priority(&self) -> i32 {
        const CLASS_SHIFT: u32 = 13;
        let told = self.io_priority.load(Ordering::Relaxed);
        if told >> CLASS_SHIFT == 0 {
            0
        } else {
            told
        }
    }

    /// How it was scheduled.
    pub fn scheduling(&self) -> zap_sys::process::Scheduling {
        let word = |index: usize| self.scheduling[index].load(Ordering::Relaxed);
        zap_sys::process::Scheduling {
            policy: word(0) as u32,
            priority: (word(0) >> 32) as u32,
            flags: word(1),
            nice: word(2) as i32,
            runtime: word(3),
            deadline: word(4),
            period: word(5),
            ..zap_sys::process::Scheduling::default()
        }
    }

    /// Gives the calling thread what the slot's had. Of processors that this machine has not it gets none; what needs a
    /// privilege, [`crate::priorities::take`] has seen.
    fn restore_scheduling(&self) {
        let scheduling = self.scheduling();
        if scheduling.policy == crate::priorities::IDLE {
            // Of one that is to be idle the kernel takes no nice value (fair_policy, kernel/sched/sched.h).
            let other = zap_sys::process::Scheduling { policy: crate::priorities::OTHER, ..scheduling };
            let _ = zap_sys::process::set_scheduling(&other);
        }
        let _ = zap_sys::process::set_scheduling(&scheduling);
        let mut processors = zap_sys::process::Processors::default();
        processors.iter_mut().zip(&self.processors).for_each(|(to, from)| *to = from.load(Ordering::Relaxed));
        let count: u32 = processors.iter().map(|word| word.count_ones()).sum();
        // Who might run on all processors of one machine may run on all of another.
        if count != 0 && count != crate::attributes::processors_online() {
            let _ = zap_sys::process::set_processors(&processors);
        }
        let slack = self.timer_slack.load(Ordering::Relaxed);
        if slack != 0 {
            zap_sys::process::set_timer_slack(slack);
        }
        let _ = zap_sys::credentials::set_io_priority(self.io_priority());
    }
}

/// The thread's name, without padding.
pub fn name_of(slot: &Slot) -> alloc::string::String {
    let mut name = [0u8; 16];
    name[..8].copy_from_slice(&slot.name[0].load(Ordering::Relaxed).to_ne_bytes());
    name[8..].copy_from_slice(&slot.name[1].load(Ordering::Relaxed).to_ne_bytes());
    let length = name.iter().position(|c| *c == 0).unwrap_or(16);
    alloc::string::String::from_utf8_lossy(&name[..length]).into_owned()
}

/// The numbers in `/proc/self/task`, listed by a helper that does not share descriptors, so that threads which
/// still run cannot see one come and go. When no helper can be made the list is read in place.
pub fn list(into: &mut TaskList) -> Result<(), SysError> {
    into.count = 0;
    into.error = None;
    // The helper is another process: its /proc/self is not ours.
    into.process = zap_sys::process::getpid();
    if !crate::beside::run(into, TaskList::read_beside) {
        into.read();
    }
    into.error.map_or(Ok(()), Err)
}

/// Thread ids read from the kernel.
pub struct TaskList {
    process: RealPid,
    /// Threads that there were when the list had been read.
    present: usize,
    tids: [i32; TaskList::CAPACITY],
    count: usize,
    error: Option<SysError>,
}

impl TaskList {
    /// As [`TaskList::read`] in a helper, which is a process of its own: nobody sees its limit.
    fn read_beside(&mut self) {
        let _ = crate::attributes::raise_descriptors();
        self.read();
    }

    const CAPACITY: usize = 16384;

    fn read(&mut self) {
        crate::fault::point(zap_wire::fault::HELPER_LISTING);
        let path = zap_sys::small!("/proc/{}/task", self.process.0);
        let (tids, count) = (&mut self.tids, &mut self.count);
        let result = zap_sys::fd::each_number(path.as_c_str(), |tid| {
            if *count < tids.len() {
                tids[*count] = tid;
                *count += 1;
            }
        });
        let path = zap_sys::small!("/proc/{}/stat", self.process.0);
        let mut buffer = [0u8; 1024];
        let stat = zap_sys::fd::read_file(path.as_c_str(), &mut buffer);
        self.present = stat.map_or(0, |text| zap_sys::process::stat_field(text, 20) as usize);
        if let Err(error) = result {
            self.error = Some(error);
        } else if self.count == Self::CAPACITY {
            self.error = Some(SysError::new("more than 16,383 threads", zap_sys::libc::ENOMEM));
        }
    }

    /// Whether there were only the threads in slots when the list had been read. The kernel's list ends early when the
    /// thread at which its reader stands ends (proc_task_readdir): later ones are not in it then.
    pub fn is_complete(&self) -> bool {
        self.present == known().count()
    }

    /// The ids.
    pub fn tids(&self) -> &[i32] {
        &self.tids[..self.count]
    }
}

/// The leader's list: too large for a stack.
pub static TASKS: Owned<TaskList> =
    Owned::new(TaskList { process: RealPid(0), present: 0, tids: [0; TaskList::CAPACITY], count: 0, error: None });

/// Makes the thread of `slot` again, in a restarted process. It waits for `crate::suspend::release`.
pub fn respawn(slot: &'static Slot) -> Result<(), SysError> {
    use zap_sys::libc::{
        CLONE_CHILD_CLEARTID, CLONE_FILES, CLONE_FS, CLONE_PARENT_SETTID, CLONE_SETTLS, CLONE_SIGHAND, CLONE_SYSVSEM,
        CLONE_THREAD, CLONE_VM,
    };
    let mut flags = CLONE_VM
        | CLONE_FS
        | CLONE_FILES
        | CLONE_SIGHAND
        | CLONE_THREAD
        | CLONE_SYSVSEM
        | CLONE_SETTLS
        | CLONE_PARENT_SETTID;
    let clear_tid = slot.clear_tid.load(Ordering::Relaxed);
    if clear_tid != 0 {
        flags |= CLONE_CHILD_CLEARTID;
    }
    let address = core::ptr::from_ref(slot) as u64;
    // SAFETY: the flags are a thread's; the cell's page beyond the slot is its stack; the entry never returns.
    let tid = unsafe {
        zap_sys::arch::context::spawn_thread(
            flags as u64,
            address + CELL as u64,
            slot.real_tid.as_ptr() as u64,
            clear_tid,
            slot.fs_base.load(Ordering::Relaxed),
            enter_respawned,
            address as usize,
        )
    };
    if tid < 0 {
        return Err(SysError::new("clone", -tid as i32));
    }
    Ok(())
}

extern "C" fn enter_respawned(slot: usize) -> ! {
    // SAFETY: the address of a slot, handed over by `respawn`; slots live for ever.
    let slot = unsafe { &*(slot as *const Slot) };
    enter(slot)
}

/// As [`enter`] for the main thread, which lets all others go when it is complete itself.
pub fn enter_and_release(slot: &'static Slot) -> ! {
    become_thread(slot);
    crate::halted::settle();
    crate::suspend::stop_again();
    crate::signals::let_ignored_go();
    crate::suspend::release();
    leave(slot)
}

/// Ends the calling thread, the new process's first, as the main thread had ended before. Another thread lets all go
/// when this one is gone.
pub fn end_main_and_release() -> ! {
    let releasing = slots().next().map_or(0, |slot| slot.real_tid.load(Ordering::Relaxed));
    RELEASING.store(releasing as u32, Ordering::Release);
    zap_sys::futex::wake(&RELEASING, i32::MAX);
    // The kernel would write to these at the thread's end; they belong to the executable's own start.
    // SAFETY: nothing is registered any more.
    unsafe { zap_sys::process::set_clear_tid_address(0) };
    // SAFETY: as above.
    let _ = unsafe { zap_sys::process::set_robust_list(0, core::mem::size_of::<[u64; 3]>() as u64) };
    zap_sys::process::exit_thread(0)
}

/// The thread that releases all in a process whose main thread has ended; 0 while it is not known.
static RELEASING: AtomicU32 = AtomicU32::new(0);

/// Whether the main thread of the restarted process had ended.
static MAIN_HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Notes, before threads are made, whether the main thread is among them.
pub fn note_main(lives: bool) {
    MAIN_HAS_ENDED.store(!lives, Ordering::Release);
}

/// On a re-made thread: waits for the release, or brings it about if that is its part.
fn await_release(slot: &Slot, suspension: u32) {
    if MAIN_HAS_ENDED.load(Ordering::Acquire) {
        while RELEASING.load(Ordering::Acquire) == 0 {
            let _ = zap_sys::futex::wait(&RELEASING, 0, None);
        }
        if RELEASING.load(Ordering::Acquire) == slot.real_tid.load(Ordering::Relaxed) as u32 {
            let mut buffer = [0u8; 1024];
            // Nobody runs who could see the descriptor.
            while zap_sys::fd::read_file(c"/proc/self/stat", &mut buffer)
                .is_ok_and(|stat| zap_sys::process::state_letter(stat) != b'Z')
            {
                zap_sys::time::sleep_ns(20_000);
            }
            crate::suspend::settle_on_leaders_stack();
            crate::suspend::stop_again();
            crate::suspend::release();
        }
    }
    crate::suspend::wait_for_release(suspension);
}

/// Turns the calling kernel thread into the thread of `slot`: its last act is to return from the signal in which that
/// thread was suspended.
fn enter(slot: &'static Slot) -> ! {
    // Read before the release can come: see `wait_until_prepared`.
    let suspension = crate::suspend::current();
    crate::fault::point(zap_wire::fault::THREAD_ENTERING);
    become_thread(slot);
    PREPARED.fetch_add(1, Ordering::AcqRel);
    zap_sys::futex::wake(&PREPARED, 1);
    await_release(slot, suspension);
    leave(slot)
}

/// Refuses frames with registers that this processor, or kernel, has not: they would come back empty, and libc has
/// chosen its functions by them.
pub fn check_registers() -> Result<(), Refusal> {
    let permitted = zap_sys::process::permitted_state();
    for slot in slots().filter(|_| permitted != 0) {
        // SAFETY: the frame in which the thread was suspended.
        let missing = unsafe { extended_state::parts_of(slot.context.load(Ordering::Relaxed)) } & !permitted;
        if missing != 0 {
            return Err(Refusal::new(
                alloc::format!("thread {}", slot.virtual_tid.load(Ordering::Relaxed)),
                alloc::format!("has registers that this processor has not (parts {missing:x} of its XSAVE state)"),
            ));
        }
    }
    Ok(())
}

fn become_thread(slot: &Slot) {
    let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
    // SAFETY: these are the values that the thread had; its memory is as it left it.
    unsafe { zap_sys::process::set_thread_registers(load(&slot.fs_base), load(&slot.gs_base)) };
    // SAFETY: as above.
    unsafe { zap_sys::process::set_clear_tid_address(load(&slot.clear_tid)) };
    if load(&slot.robust_list) != 0 {
        // SAFETY: as above.
        let _ = unsafe { zap_sys::process::set_robust_list(load(&slot.robust_list), load(&slot.robust_length)) };
    }
    if slot.has_rseq.load(Ordering::Relaxed) != 0 {
        crate::identity::register_rseq();
    }
    let mut name = [0u8; 16];
    name[..8].copy_from_slice(&load(&slot.name[0]).to_ne_bytes());
    name[8..].copy_from_slice(&load(&slot.name[1]).to_ne_bytes());
    zap_sys::process::set_thread_name(&name);
    clocks::set_thread_cpu(slot.cpu.load(Ordering::Relaxed));
    crate::deadline::shift_own(&clocks::shift());
    crate::alternate_stacks::renew_owner();
    slot.restore_scheduling();
    crate::signals::restore_own(slot);
    crate::breakdown::forget_way_back();
}

fn leave(slot: &Slot) -> ! {
    let context = slot.context.load(Ordering::Relaxed);
    crate::blocking::repair(context);
    // SAFETY: the frame in which the thread was suspended.
    let parts = unsafe { extended_state::parts_of(context) };
    // SAFETY: the frame's registers replace this thread's in a moment; `check_registers` has found them permitted.
    unsafe { extended_state::make_room(parts) };
    // SAFETY: the context is that of the handler in which the thread was suspended, and this stack is not needed.
    unsafe { zap_sys::arch::context::return_from_signal(context, &ENTERING) }
}
