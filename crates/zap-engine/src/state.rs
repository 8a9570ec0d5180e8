//! What the engine knows of its process between checkpoints: set at init, and anew at a restart.
//!
//! What a fork's child looks at, here and elsewhere, stands side by side in a section of its own (`.zap.child`), and so does the
//! code that it goes through (`.zap.fork`): the child pays for each page. What it always writes is in [`Identity`].
//!
//! # Safety
//! [`SetOnce`] and [`Owned`] give shared access to plain data that is written when only one thread can be there: at
//! init, or while all other threads are suspended.
#![allow(unsafe_code)]

use crate::guard::{Guard, Unsuspended};
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicU8, AtomicUsize, Ordering};
use zap_sys::{RealPid, VirtualPid};
use zap_wire::fault::Fault;
use zap_wire::table::{Entry, PodTable};

/// A value that is written once and then read by all.
pub struct SetOnce<T> {
    state: AtomicU8,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: written once before it is published by the state's release store, only read afterwards.
unsafe impl<T: Sync> Sync for SetOnce<T> {}

impl<T> SetOnce<T> {
    /// Not set yet.
    pub const fn new() -> Self {
        Self { state: AtomicU8::new(0), value: UnsafeCell::new(None) }
    }

    /// Sets the value; a second call changes nothing.
    pub fn set(&self, value: T) {
        if self.state.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            // SAFETY: the exchange lets one caller through, and readers wait for state 2.
            unsafe { *self.value.get() = Some(value) };
            self.state.store(2, Ordering::Release);
        }
    }

    /// The value, once it is set.
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != 2 {
            return None;
        }
        // SAFETY: state 2 means that the value is complete and never written again.
        unsafe { (*self.value.get()).as_ref() }
    }
}

impl<T> Default for SetOnce<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Data of the leader: touched only by the one thread that runs while all others are suspended, or at init.
pub struct Owned<T> {
    value: UnsafeCell<T>,
}

// SAFETY: see the type's description; every user of `with` is on the leader's road.
unsafe impl<T> Sync for Owned<T> {}

impl<T> Owned<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self { value: UnsafeCell::new(value) }
    }

    /// Works on the value. To be called from the leader's road or from init only, and not from within itself.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: one thread at a time is on the leader's road, and the closures do not call `with` again.
        work(unsafe { &mut *self.value.get() })
    }

    /// Looks at the value from a guarded section, in which the thread is not suspended: no leader's road begins before its
    /// end.
    pub fn look<R>(&self, _guard: &crate::guard::Guard, work: impl FnOnce(&T) -> R) -> R {
        // SAFETY: nobody changes it meanwhile.
        work(unsafe { &*self.value.get() })
    }
}

/// Sets `word` to zero. One that is zero is not written: a fork's child pays for each page of its parent's that it writes.
#[inline]
pub(crate) fn zero(word: &AtomicU32) {
    if word.load(Ordering::Relaxed) != 0 {
        word.store(0, Ordering::Release);
    }
}

#[link_section = ".zap.child"]
static SIGNAL: AtomicI32 = AtomicI32::new(0);
#[link_section = ".zap.child"]
static TABLE: AtomicPtr<PodTable> = AtomicPtr::new(core::ptr::null_mut());

/// Who the process is: what every child of a fork writes. All-zero is the initial state.
pub struct Identity {
    entry: AtomicPtr<Entry>,
    real_pid: AtomicI32,
    virtual_pid: AtomicI32,
    moved: AtomicBool,
}

/// Of a process that is in no pod.
static NOBODY: Identity = Identity {
    entry: AtomicPtr::new(core::ptr::null_mut()),
    real_pid: AtomicI32::new(0),
    virtual_pid: AtomicI32::new(0),
    moved: AtomicBool::new(false),
};

#[link_section = ".zap.child"]
static IDENTITY: AtomicPtr<Identity> = AtomicPtr::new((&raw const NOBODY).cast_mut());

#[inline(always)]
fn identity() -> &'static Identity {
    // SAFETY: a static, or the block of the first thread, whose memory libc never gives back.
    unsafe { &*IDENTITY.load(Ordering::Relaxed) }
}

/// Keeps who the process is in the block of the calling thread, the process's first, from now on: in the child of a fork that
/// this thread makes libc writes that page anyway.
pub fn keep_identity_in(place: &'static Identity) {
    IDENTITY.store(core::ptr::from_ref(place).cast_mut(), Ordering::Relaxed);
}

/// What `ZAP_FAULT` has asked for: written at init only.
static FAULT: Owned<Option<Fault>> = Owned::new(None);
static FAULT_IS_ARMED: AtomicBool = AtomicBool::new(false);
/// Where a system call is to fail, likewise.
static REFUSED: Owned<Option<&'static str>> = Owned::new(None);
/// Address and length of the vDSO that the program knows: the kernel's at first, a private copy after a restart.
static VDSO: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
/// The kernel's own vDSO with its data pages, once the program has a copy.
static KERNEL_VDSO: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];

/// What the program has said last by PR_SET_PTRACER, which the kernel does not tell.
static TRACER: AtomicUsize = AtomicUsize::new(0);

/// Path of the pod's table; the coordinator's socket is found from it.
pub static TABLE_PATH: Owned<alloc::vec::Vec<u8>> = Owned::new(alloc::vec::Vec::new());

/// Longest path of a table, with room for the variable's name and a NUL.
const VARIABLE_LENGTH: usize = 4096 + 32;

/// The variable that leads a new program to the pod's table.
static TABLE_VARIABLE: Owned<[u8; VARIABLE_LENGTH]> = Owned::new([0; VARIABLE_LENGTH]);

/// Notes the path of the pod's table: at init, and at a restart, in place, since a thread may stand in the middle of an
/// exec.
pub fn set_table_path(path: &[u8]) {
    TABLE_PATH.with(|known| *known = path.to_vec());
    TABLE_VARIABLE.with(|variable| {
        let parts = [zap_wire::environment::POD_TABLE.as_bytes(), b"=", path, b"\0"];
        let bytes = parts.into_iter().flatten().take(VARIABLE_LENGTH - 1);
        variable.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    });
}

/// Whether this process is, by its effective user, the one whose pod it is in: the table is that user's.
pub fn is_pods_user() -> bool {
    let own = zap_sys::credentials::users().map(|[_, effective, _]| effective);
    let path = TABLE_PATH
        .with(|path| zap_sys::path::CPath::new(path).and_then(|path| zap_sys::fd::stat(path.as_c_str()).ok()));
    matches!((own, path), (Ok(own), Some(table)) if table.st_uid == own)
}

/// The variable that leads a new program to the pod's table, for the list of an exec. It is not to be changed.
pub fn table_variable() -> *mut core::ffi::c_char {
    TABLE_VARIABLE.with(|variable| variable.as_mut_ptr().cast())
}

/// The path of the pod's table, of a member.
pub fn active_table_path() -> Option<&'static core::ffi::CStr> {
    if !active() {
        return None;
    }
    // SAFETY: a static that is never moved, and always ends in zeroes.
    let variable = unsafe { core::ffi::CStr::from_ptr(table_variable()) };
    let name = zap_wire::environment::POD_TABLE.len() + 1;
    core::ffi::CStr::from_bytes_until_nul(variable.to_bytes_with_nul().get(name..)?).ok()
}

/// Zap's signal in this pod, 0 before init.
#[inline]
pub fn signal() -> i32 {
    SIGNAL.load(Ordering::Relaxed)
}

/// Whether this process is a member of a pod.
#[inline]
pub fn active() -> bool {
    signal() != 0
}

/// Sets Zap's signal.
pub fn set_signal(signal: i32) {
    SIGNAL.store(signal, Ordering::Relaxed);
}

/// Something in the pod's table, for a program's thread: it is not suspended meanwhile, since a restart puts another table in
/// the place of this one.
pub struct Held<T: 'static> {
    what: &'static T,
    _guard: Guard,
}

impl<T> core::ops::Deref for Held<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.what
    }
}

#[inline]
fn held<T>(find: impl FnOnce() -> Option<&'static T>) -> Option<Held<T>> {
    let guard = Guard::enter();
    find().map(|what| Held { what, _guard: guard })
}

/// The pod's table.
#[inline]
pub fn table() -> Option<Held<PodTable>> {
    held(agents_table)
}

/// This process's entry in the pod's table. A child of fork does not know it at first: its parent entered it.
#[inline]
pub fn entry() -> Option<Held<Entry>> {
    held(agents_entry)
}

/// As [`table`], where the thread is known not to be suspended.
#[inline]
pub fn table_within(_proof: &Unsuspended) -> Option<&PodTable> {
    agents_table()
}

/// As [`entry`], where the thread is known not to be suspended.
#[inline]
pub fn entry_within(_proof: &Unsuspended) -> Option<&Entry> {
    agents_entry()
}

/// The pod's table, for Zap's own threads and for those that are not suspended: in the signal handler, and before the program
/// begins.
#[inline]
pub fn agents_table() -> Option<&'static PodTable> {
    // SAFETY: null, or a mapping that stays until the process ends or the next restart replaces it.
    unsafe { TABLE.load(Ordering::Acquire).as_ref() }
}

/// As [`entry`], and for whom [`agents_table`] is.
pub fn agents_entry() -> Option<&'static Entry> {
    // SAFETY: as `agents_table`.
    let known = unsafe { identity().entry.load(Ordering::Acquire).as_ref() };
    known.or_else(|| agents_table()?.find(zap_sys::process::getpid()))
}

/// Forgets which entry is this process's: it is another process's now.
#[inline]
pub fn forget_entry() {
    identity().entry.store(core::ptr::null_mut(), Ordering::Release);
}

/// The user to whom the pod's table belonged when this process joined the pod: the coordinator's.
static TABLE_OWNER: AtomicU32 = AtomicU32::new(0);

/// Notes to whom the pod's table belongs.
pub fn set_table_owner(user: u32) {
    TABLE_OWNER.store(user, Ordering::Relaxed);
}

/// To whom the pod's table belongs.
pub fn table_owner() -> u32 {
    TABLE_OWNER.load(Ordering::Relaxed)
}

/// Notes where the pod's table is mapped, and this process's entry in it.
#[inline]
pub fn set_table(table: &'static PodTable, entry: Option<&'static Entry>) {
    TABLE.store(core::ptr::from_ref(table).cast_mut(), Ordering::Release);
    let entry = entry.map_or(core::ptr::null_mut(), |entry| core::ptr::from_ref(entry).cast_mut());
    identity().entry.store(entry, Ordering::Release);
}

/// Notes who this process is.
#[inline]
pub fn set_identity(real: RealPid, virtual_pid: VirtualPid) {
    let own = identity();
    own.real_pid.store(real.0, Ordering::Relaxed);
    own.virtual_pid.store(virtual_pid.0, Ordering::Relaxed);
    own.moved.store(real.0 != virtual_pid.0, Ordering::Release);
}

/// Notes that ids of threads or children differ, though the process's own may be the old one.
pub fn set_moved() {
    identity().moved.store(true, Ordering::Release);
}

/// The id that the kernel gave this process when it joined the pod or was restarted.
#[inline]
pub fn real_pid() -> RealPid {
    RealPid(identity().real_pid.load(Ordering::Relaxed))
}

/// The id that the program knows.
pub fn virtual_pid() -> VirtualPid {
    VirtualPid(identity().virtual_pid.load(Ordering::Relaxed))
}

/// Whether virtual and real ids differ: then, and only then, ids are translated.
#[inline]
pub fn moved() -> bool {
    identity().moved.load(Ordering::Acquire)
}

/// Where the program's vDSO is: (first address, length).
pub fn vdso() -> (u64, u64) {
    (VDSO[0].load(Ordering::Relaxed), VDSO[1].load(Ordering::Relaxed))
}

/// Notes where the program's vDSO is.
pub fn set_vdso(vdso: (u64, u64)) {
    VDSO[0].store(vdso.0, Ordering::Relaxed);
    VDSO[1].store(vdso.1, Ordering::Relaxed);
}

/// Where the kernel's vDSO and its data are, when the program uses a copy; (0, 0) before the first restart.
pub fn kernel_vdso() -> (u64, u64) {
    (KERNEL_VDSO[0].load(Ordering::Relaxed), KERNEL_VDSO[1].load(Ordering::Relaxed))
}

/// Notes where the kernel's vDSO is.
pub fn set_kernel_vdso(vdso: (u64, u64)) {
    KERNEL_VDSO[0].store(vdso.0, Ordering::Relaxed);
    KERNEL_VDSO[1].store(vdso.1, Ordering::Relaxed);
}

/// Whom the program allows to trace it: the argument of its last PR_SET_PTRACER.
pub fn tracer() -> usize {
    TRACER.load(Ordering::Relaxed)
}

/// Notes whom the program allows to trace it.
pub fn set_tracer(tracer: usize) {
    TRACER.store(tracer, Ordering::Relaxed);
}

/// Flags of mlockall(2) that are in force for mappings to come: the kernel does not tell.
#[link_section = ".zap.child"]
static LOCKED_IN_FUTURE: AtomicI32 = AtomicI32::new(0);

/// Notes a successful mlockall(2), munlockall(2) with `flags` 0.
#[inline]
pub fn note_lock_all(flags: i32) {
    let future = flags & zap_sys::libc::MCL_FUTURE != 0;
    let flags = if future { flags & !zap_sys::libc::MCL_CURRENT } else { 0 };
    LOCKED_IN_FUTURE.store(flags, Ordering::Relaxed);
}

/// In the child of a fork: such flags are not inherited (mlock(2)).
#[inline]
pub(crate) fn forget_lock_all() {
    if LOCKED_IN_FUTURE.load(Ordering::Relaxed) != 0 {
        LOCKED_IN_FUTURE.store(0, Ordering::Relaxed);
    }
}

/// With which flags of mlockall(2) mappings to come are locked; 0 if they are not.
pub fn locked_in_future() -> i32 {
    LOCKED_IN_FUTURE.load(Ordering::Relaxed)
}

/// Arms the fault points that the environment names.
pub fn arm_fault(name: &[u8]) {
    for fault in name.split(|c| *c == b',').filter_map(zap_wire::fault::parse) {
        match fault {
            Fault::Refuse(place) => REFUSED.with(|refused| *refused = Some(place)),
            fault => {
                FAULT.with(|armed| *armed = Some(fault));
                FAULT_IS_ARMED.store(true, Ordering::Release);
            }
        }
    }
}

/// Whether any fault point is armed.
#[inline]
pub fn fault_is_armed() -> bool {
    FAULT_IS_ARMED.load(Ordering::Relaxed)
}

/// The fault that is armed at `name` in this suspension; disarms it.
pub fn take_fault(name: &str, suspension: u32) -> Option<Fault> {
    let due = FAULT.with(|fault| *fault).filter(|fault| match fault {
        Fault::Stop(place) => *place == name,
        Fault::Panic { place, suspension: wanted } => *place == name && suspension == *wanted,
        Fault::Refuse(_) => false,
    })?;
    // Another thread may be at the same place.
    FAULT_IS_ARMED.swap(false, Ordering::AcqRel).then_some(due)
}

/// Whether the system call at `name` is to fail.
pub fn is_refused(name: &str) -> bool {
    REFUSED.with(|refused| *refused) == Some(name)
}
