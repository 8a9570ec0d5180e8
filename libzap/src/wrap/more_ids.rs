//! Ids in the arguments and results of calls that are about something else: scheduling, priorities, limits, the memory of
//! others, owners of descriptors, locks, terminals, System V IPC, timers; and the same by syscall(2).
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::{real_argument, virtual_result};
use super::syscall::{in_one_piece, raw};
use libc::{
    c_int, c_long, c_uint, c_ulong, c_void, clockid_t, id_t, iovec, pid_t, sched_param, size_t, ssize_t, timespec,
};
use redhook::{hook, real};
use zap_engine::guard::with_ids;
use zap_engine::{identity, signals, state, terminals};
use zap_sys::{RealPid, VirtualPid};
use zap_wire::table::Kind;

super::resolve_all!(
    sched_setscheduler,
    sched_getscheduler,
    sched_setparam,
    sched_getparam,
    sched_rr_get_interval,
    getpriority,
    setpriority,
    prlimit,
    prlimit64,
    process_vm_readv,
    process_vm_writev,
    ptrace,
    fcntl,
    ioctl,
    timer_create,
    clock_getcpuclockid,
    shmctl,
    msgctl,
    semctl,
);

fn real_group(id: pid_t) -> pid_t {
    if id > 0 && state::moved() {
        identity::real_group_of(Kind::Group, VirtualPid(id)).0
    } else {
        id
    }
}

fn virtual_group(kind: Kind, id: pid_t) -> pid_t {
    if id > 0 && state::moved() {
        identity::virtual_group_of(kind, RealPid(id)).0
    } else {
        id
    }
}

/// The real form of an id whose sign says whether it is a process's or, negative, a group's.
fn real_owner(id: pid_t) -> pid_t {
    if id < 0 {
        -real_group(id.wrapping_neg())
    } else {
        real_argument(id)
    }
}

/// The virtual form of such an id.
fn virtual_owner(id: pid_t) -> pid_t {
    if id < -1 {
        -virtual_group(Kind::Group, -id)
    } else {
        virtual_result(id)
    }
}

// Scheduling.

hook! { unsafe fn sched_setscheduler(pid: pid_t, policy: c_int, parameters: *const sched_param) -> c_int
=> zap_sched_setscheduler {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(sched_setscheduler)(real_argument(pid), policy, parameters) })
} }

hook! { unsafe fn sched_getscheduler(pid: pid_t) -> c_int => zap_sched_getscheduler {
    // SAFETY: no memory is touched.
    with_ids(|| unsafe { real!(sched_getscheduler)(real_argument(pid)) })
} }

hook! { unsafe fn sched_setparam(pid: pid_t, parameters: *const sched_param) -> c_int => zap_sched_setparam {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(sched_setparam)(real_argument(pid), parameters) })
} }

hook! { unsafe fn sched_getparam(pid: pid_t, parameters: *mut sched_param) -> c_int => zap_sched_getparam {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(sched_getparam)(real_argument(pid), parameters) })
} }

hook! { unsafe fn sched_rr_get_interval(pid: pid_t, interval: *mut timespec) -> c_int => zap_sched_rr_get_interval {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(sched_rr_get_interval)(real_argument(pid), interval) })
} }

/// The real form of whom getpriority(2), setpriority(2) (0, 1) or, one more, ioprio_get(2) mean.
fn real_who(is_process: bool, is_group: bool, who: id_t) -> id_t {
    match (is_process, is_group) {
        (true, _) => real_argument(who as pid_t) as id_t,
        (_, true) => real_group(who as pid_t) as id_t,
        _ => who,
    }
}

fn whose_priority(which: c_uint, who: id_t) -> id_t {
    real_who(which == libc::PRIO_PROCESS, which == libc::PRIO_PGRP, who)
}

hook! { unsafe fn getpriority(which: c_uint, who: id_t) -> c_int => zap_getpriority {
    // SAFETY: no memory is touched.
    with_ids(|| unsafe { real!(getpriority)(which, whose_priority(which, who)) })
} }

hook! { unsafe fn setpriority(which: c_uint, who: id_t, priority: c_int) -> c_int => zap_setpriority {
    // SAFETY: no memory is touched.
    with_ids(|| unsafe { real!(setpriority)(which, whose_priority(which, who), priority) })
} }

// Limits and memory of other processes.

hook! { unsafe fn prlimit(pid: pid_t, resource: c_uint, new: *const libc::rlimit, old: *mut libc::rlimit) -> c_int
=> zap_prlimit {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(prlimit)(real_argument(pid), resource, new, old) })
} }

hook! { unsafe fn prlimit64(pid: pid_t, resource: c_uint, new: *const libc::rlimit64, old: *mut libc::rlimit64) -> c_int
=> zap_prlimit64 {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(prlimit64)(real_argument(pid), resource, new, old) })
} }

hook! { unsafe fn process_vm_readv(
    pid: pid_t,
    own: *const iovec,
    count: c_ulong,
    theirs: *const iovec,
    their_count: c_ulong,
    flags: c_ulong
) -> ssize_t => zap_process_vm_readv {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(process_vm_readv)(real_argument(pid), own, count, theirs, their_count, flags) })
} }

hook! { unsafe fn process_vm_writev(
    pid: pid_t,
    own: *const iovec,
    count: c_ulong,
    theirs: *const iovec,
    their_count: c_ulong,
    flags: c_ulong
) -> ssize_t => zap_process_vm_writev {
    // SAFETY: the caller's arguments.
    with_ids(|| unsafe { real!(process_vm_writev)(real_argument(pid), own, count, theirs, their_count, flags) })
} }

/// What PTRACE_GETEVENTMSG has told of the tracee `real`, by the program's ids: where it stands at an event of which the message is
/// a process or thread (ptrace(2)), and no exit status, no filter's value.
fn told_by_tracing(request: c_uint, real: pid_t, data: *mut c_void) {
    const WITH_ID: [c_int; 5] = [
        libc::PTRACE_EVENT_FORK,
        libc::PTRACE_EVENT_VFORK,
        libc::PTRACE_EVENT_CLONE,
        libc::PTRACE_EVENT_EXEC,
        libc::PTRACE_EVENT_VFORK_DONE,
    ];
    if request != libc::PTRACE_GETEVENTMSG || !state::moved() || !super::readable(data.cast::<c_ulong>()) {
        return;
    }
    let mut info = [0 as c_int; 32];
    let arguments = [libc::PTRACE_GETSIGINFO as c_long, real.into(), 0, info.as_mut_ptr() as c_long, 0, 0];
    // SAFETY: a place of our own, as large as a siginfo_t.
    let asked = unsafe { raw(libc::SYS_ptrace, arguments) };
    if asked.is_ok() && WITH_ID.contains(&(info[2] >> 8)) {
        // SAFETY: the kernel has written there.
        let message = unsafe { &mut *data.cast::<c_ulong>() };
        *message = virtual_result(*message as pid_t) as c_ulong;
    }
}

// Declared with as many arguments as any request has.
hook! { unsafe fn ptrace(request: c_uint, pid: pid_t, address: *mut c_void, data: *mut c_void) -> c_long => zap_ptrace {
    with_ids(|| {
        let real = if request == libc::PTRACE_TRACEME { pid } else { real_argument(pid) };
        // SAFETY: the caller's arguments.
        let result = unsafe { real!(ptrace)(request, real, address, data) };
        if result != -1 {
            told_by_tracing(request, real, data);
        }
        result
    })
} }

/// pidfd_open(2) (glibc 2.36). Not by `hook!`, whose look-up panics on a libc without it.
///
/// # Safety
/// No memory is touched.
#[no_mangle]
pub unsafe extern "C" fn pidfd_open(pid: pid_t, flags: c_uint) -> c_int {
    let call = || [c_long::from(real_argument(pid)), c_long::from(flags), 0, 0, 0, 0];
    // SAFETY: no memory is touched.
    in_one_piece(|| unsafe { raw(libc::SYS_pidfd_open, call()) }) as c_int
}

/// `struct __user_cap_header_struct` of capget(2).
#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityHeader {
    version: u32,
    pid: pid_t,
}

/// capget(2) or capset(2), by `number`, of whom the header means.
///
/// # Safety
/// As the system call.
unsafe fn capabilities(number: c_long, header: *mut CapabilityHeader, data: *mut c_void) -> c_long {
    // SAFETY: the caller's arguments, and a header that can be read.
    let call = |header: *mut CapabilityHeader| unsafe { raw(number, [header as c_long, data as c_long, 0, 0, 0, 0]) };
    if !state::active() || !super::readable(header) {
        return in_one_piece(|| call(header));
    }
    // SAFETY: it can be read.
    let given = unsafe { *header };
    let mut own = given;
    let result = in_one_piece(|| {
        own = CapabilityHeader { pid: real_argument(given.pid), ..given };
        call(&raw mut own)
    });
    // So the kernel tells its own version where it does not know the caller's.
    if own.version != given.version {
        // SAFETY: the caller's header, which is there for this answer.
        unsafe { (*header).version = own.version };
    }
    result
}

/// capget(2), which libc has in no header of its own.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn capget(header: *mut c_void, data: *mut c_void) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { capabilities(libc::SYS_capget, header.cast(), data) as c_int }
}

/// capset(2).
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn capset(header: *mut c_void, data: *mut c_void) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { capabilities(libc::SYS_capset, header.cast(), data) as c_int }
}

hook! { unsafe fn clock_getcpuclockid(pid: pid_t, clock: *mut clockid_t) -> c_int => zap_clock_getcpuclockid {
    with_ids(|| {
        // SAFETY: the caller's arguments.
        let result = unsafe { real!(clock_getcpuclockid)(real_argument(pid), clock) };
        // From the first restart on the functions that read clocks know the program's id in it.
        if result == 0 && zap_engine::clocks::shifted() {
            // SAFETY: libc has written there.
            unsafe { *clock = zap_engine::clocks::of_process(VirtualPid(pid)) };
        }
        result
    })
} }

// Descriptors.

/// `struct f_owner_ex` of fcntl(2).
#[repr(C)]
#[derive(Clone, Copy)]
struct Owner {
    kind: c_int,
    id: pid_t,
}

const F_SETOWN_EX: c_int = 15;
const F_GETOWN_EX: c_int = 16;
const F_OWNER_PGRP: c_int = 2;

/// fcntl(2) by `call`, which is given its argument, where ids differ.
#[cold]
fn control(command: c_int, argument: usize, call: impl Fn(usize) -> c_int) -> c_int {
    match command {
        libc::F_SETOWN => call(real_owner(argument as pid_t) as usize),
        libc::F_GETOWN => virtual_owner(call(argument)),
        F_SETOWN_EX if super::readable(argument as *const Owner) => {
            // SAFETY: it can be read.
            let mut owner = unsafe { *(argument as *const Owner) };
            owner.id = if owner.kind == F_OWNER_PGRP { real_group(owner.id) } else { real_argument(owner.id) };
            call(&raw const owner as usize)
        }
        F_GETOWN_EX => {
            let result = call(argument);
            if result == 0 {
                // SAFETY: the kernel has filled the caller's structure.
                let owner = unsafe { &mut *(argument as *mut Owner) };
                let is_group = owner.kind == F_OWNER_PGRP;
                owner.id = if is_group { virtual_group(Kind::Group, owner.id) } else { virtual_result(owner.id) };
            }
            result
        }
        libc::F_GETLK => {
            let result = call(argument);
            if result == 0 {
                // SAFETY: as above.
                let lock = unsafe { &mut *(argument as *mut libc::flock) };
                if lock.l_type != libc::F_UNLCK as libc::c_short {
                    lock.l_pid = virtual_result(lock.l_pid);
                }
            }
            result
        }
        _ => call(argument),
    }
}

hook! { unsafe fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int => zap_fcntl {
    // SAFETY: the caller's arguments; a register that a variadic caller has not set is not looked at.
    let call = |argument| unsafe { real!(fcntl)(fd, command, argument) };
    match command {
        libc::F_SETOWN | libc::F_GETOWN | F_SETOWN_EX | F_GETOWN_EX | libc::F_GETLK => {
            with_ids(|| if state::moved() { control(command, argument, call) } else { call(argument) })
        }
        _ => call(argument),
    }
} }

/// fcntl64 (glibc 2.28), which on this architecture is the same.
///
/// # Safety
/// As the libc function.
#[no_mangle]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int {
    // SAFETY: the caller's arguments.
    unsafe { libc::fcntl(fd, command, argument) }
}

const FIOSETOWN: c_ulong = 0x8901;
const SIOCSPGRP: c_ulong = 0x8902;
const FIOGETOWN: c_ulong = 0x8903;
const SIOCGPGRP: c_ulong = 0x8904;

/// ioctl(2) by `call`, which is given its argument, where ids differ.
#[cold]
fn device_control(request: c_ulong, argument: usize, call: impl Fn(usize) -> c_int) -> c_int {
    let place = argument as *mut pid_t;
    let set = |real: fn(pid_t) -> pid_t| {
        if !super::readable(place) {
            return call(argument);
        }
        // SAFETY: it can be read.
        let id = real(unsafe { *place });
        call(&raw const id as usize)
    };
    let get = |known: fn(pid_t) -> pid_t| {
        let result = call(argument);
        if result == 0 {
            // SAFETY: the kernel has written there.
            unsafe { *place = known(*place) };
        }
        result
    };
    match request {
        libc::TIOCSPGRP => set(real_group),
        FIOSETOWN | SIOCSPGRP => set(real_owner),
        libc::TIOCGPGRP => get(|id| virtual_group(Kind::Group, id)),
        libc::TIOCGSID => get(|id| virtual_group(Kind::Session, id)),
        FIOGETOWN | SIOCGPGRP => get(virtual_owner),
        _ => call(argument),
    }
}

hook! { unsafe fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int => zap_ioctl {
    // SAFETY: the caller's arguments; a register that a variadic caller has not set is not looked at.
    let call = |argument| unsafe { real!(ioctl)(fd, request, argument) };
    match request {
        libc::TIOCSPGRP | FIOSETOWN | SIOCSPGRP | libc::TIOCGPGRP | libc::TIOCGSID | FIOGETOWN | SIOCGPGRP => {
            with_ids(|| if state::moved() { device_control(request, argument, call) } else { call(argument) })
        }
        libc::TIOCGPTN if terminals::differ() => {
            let result = call(argument);
            if result == 0 {
                let place = argument as *mut u32;
                // SAFETY: the kernel has written there, to whatever address.
                unsafe { place.write_unaligned(terminals::virtual_of(place.read_unaligned())) };
            }
            result
        }
        _ => call(argument),
    }
} }

// Timers.

/// A copy of a `struct sigevent`, where it says that a certain thread is to get the signal.
///
/// # Safety
/// The caller's structure, which can be read.
unsafe fn own_event(event: *const libc::sigevent) -> Option<libc::sigevent> {
    // SAFETY: the caller's promise.
    let own = unsafe { *event };
    (own.sigev_notify == libc::SIGEV_THREAD_ID).then_some(own)
}

hook! { unsafe fn timer_create(clock: clockid_t, event: *mut libc::sigevent, timer: *mut libc::timer_t) -> c_int
=> zap_timer_create {
    if super::helper_threads::is_for_thread(event) {
        signals::note_threads_timer();
    }
    if state::moved() && !event.is_null() && super::readable(event) {
        // SAFETY: it can be read.
        if let Some(mut own) = unsafe { own_event(event) } {
            let id = own.sigev_notify_thread_id;
            return with_ids(|| {
                own.sigev_notify_thread_id = real_argument(id);
                // SAFETY: the caller's arguments, and an event of our own.
                unsafe { real!(timer_create)(zap_engine::clocks::lasting(clock), &mut own, timer) }
            });
        }
    }
    let call = || {
        let clock = zap_engine::clocks::lasting(clock);
        // SAFETY: the caller's arguments.
        unsafe { real!(timer_create)(clock, event, timer) }
    };
    if super::helper_threads::tells_by_thread(event) {
        return super::helper_threads::make_timer(timer, call);
    }
    with_ids(call)
} }

/// An address within the library that makes the program's timers.
pub(super) fn timers_library() -> u64 {
    real!(timer_create) as usize as u64
}

// System V IPC: who has made an object, and who has used it last.

const SHM_STAT_ANY: c_int = 15;
const SHM_STAT: c_int = 13;
const MSG_STAT: c_int = 11;
const MSG_STAT_ANY: c_int = 13;
const GETPID: c_int = 11;

hook! { unsafe fn shmctl(id: c_int, command: c_int, buffer: *mut libc::shmid_ds) -> c_int => zap_shmctl {
    with_ids(|| {
        // SAFETY: the caller's arguments.
        let result = unsafe { real!(shmctl)(id, command, buffer) };
        if result >= 0 && state::moved() && matches!(command, libc::IPC_STAT | SHM_STAT | SHM_STAT_ANY) {
            // SAFETY: the kernel has filled it.
            let found = unsafe { &mut *buffer };
            (found.shm_cpid, found.shm_lpid) = (virtual_result(found.shm_cpid), virtual_result(found.shm_lpid));
        }
        result
    })
} }

hook! { unsafe fn msgctl(id: c_int, command: c_int, buffer: *mut libc::msqid_ds) -> c_int => zap_msgctl {
    with_ids(|| {
        // SAFETY: the caller's arguments.
        let result = unsafe { real!(msgctl)(id, command, buffer) };
        if result >= 0 && state::moved() && matches!(command, libc::IPC_STAT | MSG_STAT | MSG_STAT_ANY) {
            // SAFETY: the kernel has filled it.
            let found = unsafe { &mut *buffer };
            (found.msg_lspid, found.msg_lrpid) = (virtual_result(found.msg_lspid), virtual_result(found.msg_lrpid));
        }
        result
    })
} }

hook! { unsafe fn semctl(id: c_int, number: c_int, command: c_int, argument: usize) -> c_int => zap_semctl {
    // SAFETY: the caller's arguments; a register that a variadic caller has not set is not looked at.
    let call = || unsafe { real!(semctl)(id, number, command, argument) };
    if command == GETPID { with_ids(|| virtual_result(call())) } else { call() }
} }

// By syscall(2).

const SYS_KCMP: c_long = 312;

/// Whether a call by number names processes or threads that need not be of the pod, or may be in another life when it returns.
#[inline]
pub fn names_somebody(number: c_long) -> bool {
    matches!(
        number,
        libc::SYS_kill
            | libc::SYS_tkill
            | libc::SYS_tgkill
            | libc::SYS_rt_sigqueueinfo
            | libc::SYS_rt_tgsigqueueinfo
            | libc::SYS_pidfd_open
            | libc::SYS_getpgid
            | libc::SYS_setpgid
            | libc::SYS_getsid
            | libc::SYS_wait4
            | libc::SYS_waitid
            | libc::SYS_prlimit64
            | libc::SYS_process_vm_readv
            | libc::SYS_process_vm_writev
            | libc::SYS_ptrace
            | libc::SYS_sched_setparam
            | libc::SYS_sched_getparam
            | libc::SYS_sched_setscheduler
            | libc::SYS_sched_getscheduler
            | libc::SYS_sched_setaffinity
            | libc::SYS_sched_getaffinity
            | libc::SYS_sched_rr_get_interval
            | libc::SYS_sched_setattr
            | libc::SYS_sched_getattr
            | libc::SYS_getpriority
            | libc::SYS_setpriority
            | libc::SYS_ioprio_get
            | libc::SYS_ioprio_set
            | libc::SYS_get_robust_list
            | libc::SYS_migrate_pages
            | libc::SYS_move_pages
            | libc::SYS_perf_event_open
            | libc::SYS_capget
            | libc::SYS_capset
            | libc::SYS_getdents64
            | SYS_KCMP
    ) || super::proc_paths::has_path(number)
}

/// A call by number whose ids are to be translated: its result as syscall(2) gives it, `None` for any other call. Asked where
/// ids differ, and elsewhere for calls that [`names_somebody`] knows.
///
/// # Safety
/// As the system call.
#[cold]
pub unsafe fn by_number(number: c_long, arguments: [c_long; 6]) -> Option<c_long> {
    let [a, b, c, d, e, f] = arguments;
    let real = |id: c_long| c_long::from(real_argument(id as pid_t));
    let with = |own: &dyn Fn() -> [c_long; 6]| {
        // SAFETY: the caller's arguments.
        Some(in_one_piece(|| unsafe { raw(number, own()) }))
    };
    // SAFETY: the caller's arguments, for all that follow.
    unsafe {
        match number {
            libc::SYS_sched_setparam
            | libc::SYS_sched_getparam
            | libc::SYS_sched_setscheduler
            | libc::SYS_sched_getscheduler
            | libc::SYS_sched_setaffinity
            | libc::SYS_sched_getaffinity
            | libc::SYS_sched_rr_get_interval
            | libc::SYS_sched_setattr
            | libc::SYS_sched_getattr
            | libc::SYS_prlimit64
            | libc::SYS_process_vm_readv
            | libc::SYS_process_vm_writev
            | libc::SYS_get_robust_list
            | libc::SYS_pidfd_open
            | libc::SYS_migrate_pages
            | libc::SYS_move_pages => with(&|| [real(a), b, c, d, e, f]),
            libc::SYS_getpriority | libc::SYS_setpriority => {
                with(&|| [a, whose_priority(a as c_uint, b as id_t).into(), c, 0, 0, 0])
            }
            // IOPRIO_WHO_PROCESS, IOPRIO_WHO_PGRP.
            libc::SYS_ioprio_get | libc::SYS_ioprio_set => {
                with(&|| [a, real_who(a == 1, a == 2, b as id_t).into(), c, 0, 0, 0])
            }
            libc::SYS_ptrace if a != c_long::from(libc::PTRACE_TRACEME) => Some(in_one_piece(|| {
                let tracee = real(b);
                let result = raw(number, [a, tracee, c, d, 0, 0]);
                if result.is_ok() {
                    told_by_tracing(a as c_uint, tracee as pid_t, d as *mut c_void);
                }
                result
            })),
            SYS_KCMP => with(&|| [real(a), real(b), c, d, e, 0]),
            libc::SYS_capget | libc::SYS_capset => {
                Some(capabilities(number, a as *mut CapabilityHeader, b as *mut c_void))
            }
            libc::SYS_perf_event_open => with(&|| [a, real(b), c, d, e, 0]),
            libc::SYS_set_tid_address => {
                let id = in_one_piece(|| raw(number, arguments));
                Some(virtual_result(id as pid_t).into())
            }
            libc::SYS_waitid if e == 0 => {
                let result = libc::waitid(a as libc::idtype_t, b as id_t, c as *mut libc::siginfo_t, d as c_int);
                Some(result.into())
            }
            libc::SYS_fcntl => Some(libc::fcntl(a as c_int, b as c_int, c).into()),
            libc::SYS_ioctl => Some(libc::ioctl(a as c_int, b as c_ulong, c).into()),
            libc::SYS_getsockopt => Some(
                libc::getsockopt(a as c_int, b as c_int, c as c_int, d as *mut c_void, e as *mut libc::socklen_t)
                    .into(),
            ),
            libc::SYS_recvmsg => Some(libc::recvmsg(a as c_int, b as *mut libc::msghdr, c as c_int) as c_long),
            libc::SYS_sendmsg => Some(libc::sendmsg(a as c_int, b as *const libc::msghdr, c as c_int) as c_long),
            libc::SYS_read => Some(libc::read(a as c_int, b as *mut c_void, c as size_t) as c_long),
            libc::SYS_prctl if a == c_long::from(libc::PR_SET_PTRACER) => {
                Some(libc::prctl(a as c_int, b, c, d, e).into())
            }
            libc::SYS_shmctl => Some(libc::shmctl(a as c_int, b as c_int, c as *mut libc::shmid_ds).into()),
            libc::SYS_msgctl => Some(libc::msgctl(a as c_int, b as c_int, c as *mut libc::msqid_ds).into()),
            libc::SYS_semctl => Some(libc::semctl(a as c_int, b as c_int, c as c_int, d).into()),
            libc::SYS_timer_create if b != 0 && super::readable(b as *const libc::sigevent) => {
                let mut own = own_event(b as *const libc::sigevent)?;
                let id = own.sigev_notify_thread_id;
                Some(in_one_piece(|| {
                    own.sigev_notify_thread_id = real_argument(id);
                    let clock = c_long::from(zap_engine::clocks::lasting(a as clockid_t));
                    raw(number, [clock, &raw const own as c_long, c, 0, 0, 0])
                }))
            }
            libc::SYS_rt_sigaction => {
                let result = in_one_piece(|| raw(number, arguments));
                if result == 0 && c != 0 {
                    // The kernel's structure begins with the handler.
                    let handler = &mut *(c as *mut u64);
                    *handler = zap_engine::signals::programs_handler(a as c_int, *handler);
                }
                Some(result)
            }
            libc::SYS_rt_sigtimedwait if d == 8 => {
                // libc's set is longer than the kernel's.
                let mut set: libc::sigset_t = core::mem::zeroed();
                if !super::readable(a as *const u64) {
                    return None;
                }
                *(&raw mut set).cast::<u64>() = *(a as *const u64);
                Some(libc::sigtimedwait(&set, b as *mut libc::siginfo_t, c as *const timespec).into())
            }
            libc::SYS_getdents64 => match super::proc_listing::entries(a as c_int, b as usize, c as usize)? {
                Ok(read) => Some(read as c_long),
                Err(errno) => Some(super::fail(errno).into()),
            },
            _ => super::proc_paths::by_number(number, arguments),
        }
    }
}
