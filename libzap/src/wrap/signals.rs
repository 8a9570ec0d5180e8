//! Signals: the program can neither block, catch, wait for nor see Zap's own.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use libc::{c_int, sigaction as SigAction, sighandler_t, siginfo_t, sigset_t, timespec};
use redhook::{hook, real};
use zap_engine::{alternate_stacks, blocking, guard, identity, libcs_signal, signals, state};
use zap_sys::signal::{bit, KernelAction};

super::resolve_all!(
    sigaction,
    signal,
    sigprocmask,
    pthread_sigmask,
    sigsuspend,
    sigwait,
    sigwaitinfo,
    sigtimedwait,
    signalfd,
    ppoll,
    pselect,
);

/// The handler that the program believes to have set for Zap's signal.
static BELIEVED_HANDLER: AtomicU64 = AtomicU64::new(libc::SIG_DFL as u64);

/// A signal set without Zap's signal: the caller's own where there is nothing to take out.
pub struct Stripped {
    copy: sigset_t,
    given: *const sigset_t,
    changed: bool,
}

impl Stripped {
    /// Looks at `set`, which may be null. What cannot be read is left to the kernel.
    pub fn new(set: *const sigset_t) -> Self {
        // Of libc's set the kernel reads the first word.
        if set.is_null() || super::readable(set.cast::<u64>()) {
            return Self::of_memory(set);
        }
        // SAFETY: all-zero is a valid set.
        Self { copy: unsafe { core::mem::zeroed() }, given: set, changed: false }
    }

    /// As [`Stripped::new`], for a set that libc itself looks at.
    fn of_memory(set: *const sigset_t) -> Self {
        // SAFETY: all-zero is a valid set.
        let mut stripped = Self { copy: unsafe { core::mem::zeroed() }, given: set, changed: false };
        if !set.is_null() && state::active() {
            let mask = bit(state::signal());
            // SAFETY: the first word of a set is the kernel's mask; the caller's set is readable.
            let word = unsafe { *set.cast::<u64>() };
            if word & mask != 0 {
                // SAFETY: as above; the copy is ours.
                unsafe { *core::ptr::addr_of_mut!(stripped.copy).cast::<u64>() = word & !mask };
                stripped.changed = true;
            }
        }
        stripped
    }

    /// Whether the set held Zap's signal.
    pub fn held(&self) -> bool {
        self.changed
    }

    /// The set to hand to libc.
    pub fn pointer(&self) -> *const sigset_t {
        if self.changed {
            &self.copy
        } else {
            self.given
        }
    }
}

/// Whether `number` is Zap's signal, and one that the program may name: libc itself refuses its own.
fn is_ours(number: c_int) -> bool {
    number != 0 && number == state::signal() && libcs_signal::handler(number).is_none()
}

/// rt_sigaction(2) of Zap's signal, as the program makes it by syscall(2): it reads and sets what it believes in.
///
/// # Safety
/// As the manual page says.
pub unsafe fn kernels_action(number: c_int, new: *const KernelAction, old: *mut KernelAction) -> c_int {
    if !new.is_null() && !super::readable(new) {
        return super::fail(libc::EFAULT);
    }
    let believed = libcs_signal::handler(number).unwrap_or(&BELIEVED_HANDLER);
    let before = believed.load(Ordering::Relaxed);
    // A vfork child has dispositions of its own, and its parent's memory.
    if !new.is_null() && zap_sys::process::getpid() == state::real_pid() {
        // SAFETY: it can be read.
        believed.store(unsafe { (*new).handler }, Ordering::Relaxed);
    }
    if !old.is_null() {
        if !zap_sys::mem::is_writable(old as u64, core::mem::size_of::<KernelAction>()) {
            return super::fail(libc::EFAULT);
        }
        // SAFETY: it can be written to.
        unsafe { *old = KernelAction { handler: before, ..KernelAction::default() } };
    }
    0
}

hook! { unsafe fn sigaction(number: c_int, new: *const SigAction, old: *mut SigAction) -> c_int => zap_sigaction {
    if is_ours(number) {
        let before = BELIEVED_HANDLER.load(Ordering::Relaxed);
        if !new.is_null() {
            // SAFETY: the caller's pointer.
            BELIEVED_HANDLER.store(unsafe { (*new).sa_sigaction } as u64, Ordering::Relaxed);
        }
        if !old.is_null() {
            // SAFETY: the caller's pointer; all-zero is a valid action.
            unsafe { *old = core::mem::zeroed() };
            // SAFETY: as above.
            unsafe { (*old).sa_sigaction = before as usize };
        }
        return 0;
    }
    if !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real!(sigaction)(number, new, old) };
    }
    let mut given = new;
    let mut action;
    let mut before = None;
    if !new.is_null() {
        // SAFETY: the caller's pointer.
        action = unsafe { *new };
        let mask = Stripped::of_memory(&action.sa_mask);
        if mask.held() {
            action.sa_mask = mask.copy;
        }
        // A vfork child has dispositions of its own, and its parent's memory.
        if zap_sys::process::getpid() == state::real_pid() {
            before = Some(signals::programs_handler(number, signals::own_handler()) as usize);
            action.sa_sigaction = signals::kernels_handler(number, action.sa_sigaction as u64) as usize;
        }
        given = &action;
    }
    // SAFETY: the caller's arguments, with our signal out of the mask.
    let result = unsafe { real!(sigaction)(number, given, old) };
    if result == 0 && !old.is_null() {
        // SAFETY: libc has filled it.
        let old = unsafe { &mut *old };
        if old.sa_sigaction as u64 == signals::own_handler() {
            old.sa_sigaction = before.unwrap_or_else(|| signals::programs_handler(number, signals::own_handler()) as usize);
        }
    }
    result
} }

type HandlerFunction = unsafe extern "C" fn(c_int, sighandler_t) -> sighandler_t;

/// <signal.h>: what makes sigset(3) block the signal; no handler.
const SIG_HOLD: sighandler_t = 2;

/// Sets a handler by one of libc's functions that take nothing else, and returns the program's own before it.
fn set_handler(real: HandlerFunction, number: c_int, handler: sighandler_t) -> sighandler_t {
    if is_ours(number) {
        return BELIEVED_HANDLER.swap(handler as u64, Ordering::Relaxed) as sighandler_t;
    }
    let known = signals::programs_handler(number, signals::own_handler()) as sighandler_t;
    let by_way = state::active() && zap_sys::process::getpid() == state::real_pid();
    let given = if by_way { signals::kernels_handler(number, handler as u64) as sighandler_t } else { handler };
    // SAFETY: the caller's arguments, or a handler that calls theirs.
    let before = unsafe { real(number, given) };
    if before as u64 == signals::own_handler() {
        known
    } else {
        before
    }
}

hook! { unsafe fn signal(number: c_int, handler: sighandler_t) -> sighandler_t => zap_signal {
    set_handler(real!(signal), number, handler)
} }

hook! { unsafe fn bsd_signal(number: c_int, handler: sighandler_t) -> sighandler_t => zap_bsd_signal {
    set_handler(real!(bsd_signal), number, handler)
} }

hook! { unsafe fn ssignal(number: c_int, handler: sighandler_t) -> sighandler_t => zap_ssignal {
    set_handler(real!(ssignal), number, handler)
} }

hook! { unsafe fn sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t => zap_sysv_signal {
    set_handler(real!(sysv_signal), number, handler)
} }

// What signal(3) is for programs of X/Open and of strict ISO C.
hook! { unsafe fn __sysv_signal(number: c_int, handler: sighandler_t) -> sighandler_t => zap_sysv_signal_of_libc {
    set_handler(real!(__sysv_signal), number, handler)
} }

hook! { unsafe fn sigset(number: c_int, handler: sighandler_t) -> sighandler_t => zap_sigset {
    if handler == SIG_HOLD {
        // SAFETY: the caller's arguments.
        let before = unsafe { real!(sigset)(number, handler) };
        return signals::programs_handler(number, before as u64) as sighandler_t;
    }
    set_handler(real!(sigset), number, handler)
} }

type MaskFunction = unsafe extern "C" fn(c_int, *const sigset_t, *mut sigset_t) -> c_int;

/// Changes the mask by `real`, keeping Zap's signal unblocked and the program's belief about it.
fn change_mask(real: MaskFunction, how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int {
    if !state::active() {
        // SAFETY: the caller's arguments.
        return unsafe { real(how, set, old) };
    }
    let stripped = Stripped::of_memory(set);
    // SAFETY: the caller's arguments, with our signal out of the mask.
    let result = unsafe { real(how, stripped.pointer(), old) };
    if result != 0 {
        return result;
    }
    let believed = &guard::block().believes_blocked;
    let before = believed.load(Ordering::Relaxed);
    if !set.is_null() {
        let now = match how {
            libc::SIG_BLOCK => before | u32::from(stripped.held()),
            libc::SIG_UNBLOCK => before & !u32::from(stripped.held()),
            _ => u32::from(stripped.held()),
        };
        believed.store(now, Ordering::Relaxed);
    }
    if before != 0 && !old.is_null() {
        // SAFETY: the caller's set, whose first word is the mask.
        unsafe { *old.cast::<u64>() |= bit(state::signal()) };
    }
    result
}

hook! { unsafe fn sigprocmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int => zap_sigprocmask {
    change_mask(real!(sigprocmask), how, set, old)
} }

hook! { unsafe fn pthread_sigmask(how: c_int, set: *const sigset_t, old: *mut sigset_t) -> c_int
=> zap_pthread_sigmask {
    change_mask(real!(pthread_sigmask), how, set, old)
} }

/// sigaltstack(2), for the libc function and for syscall(2).
///
/// # Safety
/// As the manual page says.
pub unsafe fn alternate_stack(new: *const libc::stack_t, old: *mut libc::stack_t) -> c_int {
    if !new.is_null() && !super::readable(new) {
        return super::fail(libc::EFAULT);
    }
    // SAFETY: null, or readable. It is read before the old one is written: both may be one place.
    let new = unsafe { new.as_ref().copied() };
    let mut before = zap_sys::signal::no_stack();
    // SAFETY: the caller's stack.
    if let Err(error) = unsafe { alternate_stacks::set(new, (!old.is_null()).then_some(&mut before)) } {
        return super::fail(error.errno.0);
    }
    if old.is_null() {
        return 0;
    }
    if !zap_sys::mem::is_writable(old as u64, core::mem::size_of_val(&before)) {
        // The kernel, too, has set the new one by then.
        return super::fail(libc::EFAULT);
    }
    // SAFETY: it can be written to.
    unsafe { *old = before };
    0
}

hook! { unsafe fn sigaltstack(new: *const libc::stack_t, old: *mut libc::stack_t) -> c_int => zap_sigaltstack {
    // SAFETY: the caller's arguments.
    unsafe { alternate_stack(new, old) }
} }

hook! { unsafe fn sigsuspend(mask: *const sigset_t) -> c_int => zap_sigsuspend {
    let mask = Stripped::new(mask);
    // SAFETY: the caller's set.
    unsafe { real!(sigsuspend)(mask.pointer()) }
} }

hook! { unsafe fn sigwait(set: *const sigset_t, received: *mut c_int) -> c_int => zap_sigwait {
    let set = Stripped::new(set);
    // SAFETY: the caller's arguments.
    unsafe { real!(sigwait)(set.pointer(), received) }
} }

hook! { unsafe fn sigwaitinfo(set: *const sigset_t, info: *mut siginfo_t) -> c_int => zap_sigwaitinfo {
    let set = Stripped::new(set);
    // SAFETY: the caller's arguments.
    wait_to_be_told(info, || unsafe { real!(sigwaitinfo)(set.pointer(), info) })
} }

hook! { unsafe fn sigtimedwait(set: *const sigset_t, info: *mut siginfo_t, timeout: *const timespec) -> c_int
=> zap_sigtimedwait {
    let set = Stripped::new(set);
    if timeout.is_null() || !state::active() || !super::readable(timeout) {
        // SAFETY: the caller's arguments.
        return wait_to_be_told(info, || unsafe { real!(sigtimedwait)(set.pointer(), info, timeout) });
    }
    // SAFETY: it can be read.
    let length = zap_sys::time::to_ns(unsafe { &*timeout });
    blocking::note(libc::SYS_rt_sigtimedwait, length, super::clocks::kernel_now_ns());
    // SAFETY: the caller's arguments.
    let result = wait_to_be_told(info, || unsafe { real!(sigtimedwait)(set.pointer(), info, timeout) });
    blocking::note_end();
    result
} }

/// Waits for a signal by `call`, which fills `info` where the caller wants it: a sender of the pod as the program knows it. In
/// between nothing is suspended, since a restart makes the kernel's id nobody's.
#[inline(always)]
fn wait_to_be_told(info: *mut siginfo_t, call: impl FnOnce() -> c_int) -> c_int {
    guard::with_wait(|| {
        let result = call();
        if result > 0 && !info.is_null() && state::moved() {
            // SAFETY: the kernel has filled it: words 2 and 4 are si_code and si_pid.
            let words = unsafe { &mut *info.cast::<[i32; 5]>() };
            words[4] = identity::virtual_sender(result, words[2], words[4]);
        }
        result
    })
}

/// Whether the program has ever made a signalfd.
static SIGNALFDS: AtomicBool = AtomicBool::new(false);

/// Reads at most `length` bytes from `fd` into `buffer` by `call`, if it is a signalfd: senders of the pod as the program knows
/// them. As with [`wait_to_be_told`] nothing is suspended in between.
#[inline(always)]
pub fn read_descriptor(fd: c_int, buffer: *mut c_void, length: usize, call: impl Fn() -> isize) -> Option<isize> {
    let may_be = SIGNALFDS.load(Ordering::Relaxed) && length >= EACH && state::active();
    may_be.then(|| read_signals(fd, buffer, &call)).flatten()
}

/// Bytes that tell of one signal.
const EACH: usize = core::mem::size_of::<libc::signalfd_siginfo>();

#[cold]
fn read_signals(fd: c_int, buffer: *mut c_void, call: &dyn Fn() -> isize) -> Option<isize> {
    // Nothing that is in no file system has a type.
    let is_anonymous = zap_sys::fd::fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == 0);
    let path = zap_sys::small!("/proc/thread-self/fd/{fd}");
    let mut name = [0u8; 64];
    if !is_anonymous
        || !zap_sys::fd::read_link(path.as_c_str(), &mut name).is_ok_and(|name| name == b"anon_inode:[signalfd]")
    {
        return None;
    }
    Some(guard::with_wait(|| {
        let length = call();
        if length > 0 && state::moved() {
            know_senders(buffer, length as usize);
        }
        length
    }))
}

fn know_senders(buffer: *mut c_void, length: usize) {
    for at in (0..length).step_by(EACH) {
        let place = buffer.wrapping_byte_add(at).cast::<libc::signalfd_siginfo>();
        // SAFETY: the kernel has filled the caller's buffer, which need not be aligned.
        let mut info = unsafe { place.read_unaligned() };
        info.ssi_pid = identity::virtual_sender(info.ssi_signo as i32, info.ssi_code, info.ssi_pid as i32) as u32;
        // SAFETY: as above.
        unsafe { place.write_unaligned(info) };
    }
}

hook! { unsafe fn signalfd(fd: c_int, set: *const sigset_t, flags: c_int) -> c_int => zap_signalfd {
    let set = Stripped::new(set);
    SIGNALFDS.store(true, Ordering::Relaxed);
    // SAFETY: the caller's arguments.
    unsafe { real!(signalfd)(fd, set.pointer(), flags) }
} }

hook! { unsafe fn ppoll(fds: *mut libc::pollfd, count: libc::nfds_t, time: *const timespec, mask: *const sigset_t)
-> c_int => zap_ppoll {
    let mask = Stripped::new(mask);
    // SAFETY: the caller's arguments.
    unsafe { real!(ppoll)(fds, count, time, mask.pointer()) }
} }

hook! { unsafe fn pselect(
    count: c_int,
    readable: *mut libc::fd_set,
    writable: *mut libc::fd_set,
    exceptional: *mut libc::fd_set,
    time: *const timespec,
    mask: *const sigset_t
) -> c_int => zap_pselect {
    let mask = Stripped::new(mask);
    // SAFETY: the caller's arguments.
    unsafe { real!(pselect)(count, readable, writable, exceptional, time, mask.pointer()) }
} }
