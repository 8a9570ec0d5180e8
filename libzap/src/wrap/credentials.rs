//! Who is at the other end of a socket: SO_PEERCRED, and SCM_CREDENTIALS in messages, with ids as the program knows them.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::ids::{real_argument, virtual_result};
use super::transfer;
use core::mem::size_of;
use libc::{c_int, c_uint, c_void, cmsghdr, mmsghdr, msghdr, pid_t, socklen_t, ssize_t, timespec};
use redhook::{hook, real};
use zap_engine::guard::{with_ids, with_wait};
use zap_engine::{private, state};

super::resolve_all!(getsockopt, recvmmsg, sendmmsg);

hook! { unsafe fn getsockopt(socket: c_int, level: c_int, name: c_int, value: *mut c_void, length: *mut socklen_t) -> c_int
=> zap_getsockopt {
    // SAFETY: the caller's arguments.
    let call = || unsafe { real!(getsockopt)(socket, level, name, value, length) };
    if name != libc::SO_PEERCRED || level != libc::SOL_SOCKET {
        return call();
    }
    with_ids(|| {
        let result = call();
        if result == 0 && state::moved() {
            // SAFETY: the kernel has filled so many bytes of the caller's buffer, the id first.
            unsafe {
                if *length as usize >= size_of::<pid_t>() {
                    let place = value.cast::<pid_t>();
                    place.write_unaligned(virtual_result(place.read_unaligned()));
                }
            }
        }
        result
    })
} }

/// Calls `each` with the address of every id in the control messages that begin at `start`.
///
/// # Safety
/// `length` bytes of control messages, as the kernel makes them or is given them.
unsafe fn each_id(start: *mut c_void, length: usize, each: impl Fn(*mut pid_t)) {
    const ALIGNMENT: usize = size_of::<usize>();
    const HEAD: usize = size_of::<cmsghdr>();
    let mut at = 0;
    while !start.is_null() && at + HEAD <= length {
        let place = start.wrapping_byte_add(at);
        // SAFETY: within the messages.
        let head = unsafe { place.cast::<cmsghdr>().read_unaligned() };
        let end = at.saturating_add(head.cmsg_len);
        if head.cmsg_len < HEAD || end > length {
            return;
        }
        let is_credentials = head.cmsg_level == libc::SOL_SOCKET && head.cmsg_type == libc::SCM_CREDENTIALS;
        if is_credentials && head.cmsg_len >= HEAD + size_of::<pid_t>() {
            each(place.wrapping_byte_add(HEAD).cast());
        }
        at += (head.cmsg_len + ALIGNMENT - 1) & !(ALIGNMENT - 1);
    }
}

/// After the kernel has filled `message`.
///
/// # Safety
/// A message that recvmsg(2) has filled.
#[inline(always)]
pub unsafe fn received(message: *const msghdr) {
    if !state::moved() {
        return;
    }
    // SAFETY: the caller's promise.
    let message = unsafe { &*message };
    // SAFETY: as above; ids need not be aligned in the program's buffer.
    unsafe {
        each_id(message.msg_control, message.msg_controllen, |id| {
            id.write_unaligned(virtual_result(id.read_unaligned()));
        });
    }
}

/// Longest control messages in which ids are translated: one with credentials and one with as many descriptors as there
/// can be (SCM_MAX_FD, 253).
const LONGEST: usize = 1152;

/// A message with the kernel's ids, made only where ids differ and there are some.
pub struct Translated {
    message: msghdr,
    control: [u64; LONGEST / 8],
}

impl Translated {
    /// Room for one.
    #[inline(always)]
    pub fn new() -> core::mem::MaybeUninit<Self> {
        core::mem::MaybeUninit::uninit()
    }
}

/// [`Translated::of`] on room that is not initialized: most messages need none.
pub trait Translate {
    /// The message to hand to the kernel for the caller's.
    ///
    /// # Safety
    /// The caller's message, or what the kernel is to refuse.
    unsafe fn of(&mut self, message: *const msghdr) -> *const msghdr;
}

impl Translate for core::mem::MaybeUninit<Translated> {
    #[inline(always)]
    unsafe fn of(&mut self, message: *const msghdr) -> *const msghdr {
        if !state::moved() || !super::readable(message) {
            return message;
        }
        // SAFETY: it can be read.
        let given = unsafe { &*message };
        let (control, length) = (given.msg_control, given.msg_controllen);
        let fits = (size_of::<cmsghdr>()..=LONGEST).contains(&length);
        if !fits || !zap_sys::mem::is_readable(control as u64, length) {
            return message;
        }
        let place = self.as_mut_ptr();
        // SAFETY: room of our own, in which all that is read below is written first.
        unsafe {
            let own = (&raw mut (*place).control).cast::<c_void>();
            core::ptr::copy_nonoverlapping(control.cast::<u8>(), own.cast::<u8>(), length);
            each_id(own, length, |id| id.write_unaligned(real_argument(id.read_unaligned())));
            (&raw mut (*place).message).write(msghdr { msg_control: own, ..*given });
            &raw const (*place).message
        }
    }
}

/// Messages of one recvmmsg(2) whose senders' names are told as the pod knows them.
const NAMES: usize = 32;

hook! { unsafe fn recvmmsg(socket: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, time: *mut timespec) -> c_int
=> zap_recvmmsg {
    let call = |done: usize| {
        let (rest, left) = (messages.wrapping_add(done), count - done as c_uint);
        with_wait(|| {
            // SAFETY: the caller's arguments, less what has been received.
            let count = unsafe { real!(recvmmsg)(socket, rest, left, flags, time) };
            for at in 0..usize::try_from(count).unwrap_or(0) {
                // SAFETY: the kernel has filled so many.
                unsafe { received(&raw const (*rest.add(at)).msg_hdr) };
            }
            count as ssize_t
        })
    };
    // The kernel leaves there how long a name is, whatever room it had.
    let rooms: [socklen_t; NAMES] = if private::by_names() {
        // SAFETY: the caller's list, as far as it can be read.
        let room = |at: usize| unsafe { messages.add(at).as_ref() }.map_or(0, |message| message.msg_hdr.msg_namelen);
        let is_there = |at: usize| at < count as usize && super::readable(messages.wrapping_add(at));
        core::array::from_fn(|at| if is_there(at) { room(at) } else { 0 })
    } else {
        [0; NAMES]
    };
    // SAFETY: the kernel has written what is left of the time there.
    let is_over = || !time.is_null() && unsafe { (*time).tv_sec == 0 && (*time).tv_nsec == 0 };
    let ended = || flags & (libc::MSG_WAITFORONE | libc::MSG_DONTWAIT) != 0 || is_over();
    let result = transfer::receive_messages(socket, count as usize, ended, call) as c_int;
    if private::by_names() {
        for (at, room) in rooms.into_iter().enumerate().take(usize::try_from(result).unwrap_or(0)) {
            // SAFETY: the kernel has filled so many.
            unsafe { super::socket_names::see_in(&raw mut (*messages.add(at)).msg_hdr, room) };
        }
    }
    result
} }

hook! { unsafe fn sendmmsg(socket: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int => zap_sendmmsg {
    let has_control = |at: usize| {
        // SAFETY: the caller's list, as far as it can be read.
        unsafe { super::readable(messages.add(at)) && (*messages.add(at)).msg_hdr.msg_controllen != 0 }
    };
    let has_name = |at: usize| {
        // SAFETY: as above.
        unsafe { super::readable(messages.add(at)) && (*messages.add(at)).msg_hdr.msg_namelen != 0 }
    };
    let one_by_one = (state::moved() && (0..count as usize).any(has_control))
        || (private::by_names() && (0..count as usize).any(has_name));
    if !one_by_one {
        // SAFETY: the caller's arguments.
        let call = || unsafe { real!(sendmmsg)(socket, messages, count, flags) } as ssize_t;
        // SAFETY: as above.
        return unsafe { transfer::send_messages(socket, messages, count as usize, flags, call) } as c_int;
    }
    // SAFETY: the caller's list.
    unsafe { transfer::send_each(socket, messages, 0, count as usize, flags) as c_int }
} }
