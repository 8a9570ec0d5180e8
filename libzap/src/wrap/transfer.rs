//! Calls that move data: a suspension in the middle must not make them return with less than they would have, nor begin
//! their time anew.
//!
//! The kernel ends a blocked write that has moved a part, and a receive with MSG_WAITALL, when any handler runs; and it
//! ends with EINTR every call on a socket with SO_RCVTIMEO or SO_SNDTIMEO (signal(7)). When the handler was Zap's alone
//! (`ThreadBlock::suspensions` has changed), the rest is done here, in what is left of the time.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::clocks::kernel_now_ns;
use super::credentials::{self, Translate as _};
use super::socket_names;
use core::sync::atomic::{AtomicBool, Ordering};
use libc::{c_int, c_uint, c_void, iovec, mmsghdr, msghdr, size_t, sockaddr, socklen_t, ssize_t, timeval};
use redhook::{hook, real};
use zap_engine::private_paths::Last;
use zap_engine::{blocking, guard, state};

super::resolve_all!(
    getrandom,
    read,
    readv,
    write,
    writev,
    recv,
    recvfrom,
    recvmsg,
    send,
    sendto,
    sendmsg,
    accept,
    accept4,
    connect,
    setsockopt,
    __read_chk,
    __recv_chk,
    __recvfrom_chk,
);

/// Whether any socket has been given a time-out: only then is the beginning of a call noted.
static TIMED: AtomicBool = AtomicBool::new(false);

/// Which way a call moves data, and so which time-out is its.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
    Connect,
}

/// How a call went.
enum Came {
    /// As it would have without Zap.
    Whole(ssize_t),
    /// It was cut short by a suspension after so many bytes, of which -1 is none and EINTR.
    Short(ssize_t),
}

/// Makes `call`, which moves at most `length` bytes, or anything when `length` is 0. `again`: it goes on with one whose
/// beginning has been noted.
#[inline(always)]
fn attempt(length: usize, again: bool, call: impl FnOnce() -> ssize_t) -> Came {
    let block = guard::block();
    let before = block.suspensions.load(Ordering::Relaxed);
    let timed = TIMED.load(Ordering::Relaxed);
    if timed {
        blocking::note_transfer((!again).then(kernel_now_ns));
    }
    let result = call();
    if timed {
        blocking::note_end();
    }
    if block.suspensions.load(Ordering::Relaxed) == before || result >= length as ssize_t || result == 0 {
        return Came::Whole(result);
    }
    // SAFETY: errno's address is valid in every thread.
    if result > 0 || (timed && unsafe { *libc::__errno_location() } == libc::EINTR) {
        return Came::Short(result);
    }
    Came::Whole(result)
}

/// Waits until `socket` is ready, for what is left of its time-out since the call began. False with errno set when it
/// is over, or when a handler of the program's has run.
#[cold]
fn await_rest(socket: c_int, way: Way) -> bool {
    let whole = length_of(&time_out(socket, way));
    let time = zap_sys::time::from_ns(whole.saturating_sub(blocking::transfer_age()));
    let wait = if whole == 0 { core::ptr::null() } else { &raw const time };
    let events = if way == Way::In { libc::POLLIN } else { libc::POLLOUT };
    let mut polled = libc::pollfd { fd: socket, events, revents: 0 };
    // SAFETY: one pollfd and a time of our own.
    match unsafe { libc::ppoll(&mut polled, 1, wait, core::ptr::null()) } {
        0 => {
            // As socket(7) says of SO_RCVTIMEO and SO_SNDTIMEO.
            super::fail(if way == Way::Connect { libc::EINPROGRESS } else { libc::EAGAIN });
            false
        }
        result => result > 0,
    }
}

/// The time-out of a socket that is this way's; 0 if there is none.
fn time_out(socket: c_int, way: Way) -> timeval {
    let option = if way == Way::In { libc::SO_RCVTIMEO } else { libc::SO_SNDTIMEO };
    let mut time = timeval { tv_sec: 0, tv_usec: 0 };
    let mut length = core::mem::size_of::<timeval>() as socklen_t;
    // SAFETY: a place of our own.
    unsafe { libc::getsockopt(socket, libc::SOL_SOCKET, option, (&raw mut time).cast(), &mut length) };
    time
}

/// In nanoseconds.
fn length_of(time: &timeval) -> u64 {
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_usec as u64 * 1000)
}

/// Makes connect(2) again. That of a Unix socket waits in the kernel for room in another one's queue, of which poll(2) tells
/// nothing: its time-out is what is left, as long as the call lasts. One that a handler leaves keeps it.
#[cold]
fn connect_again(socket: c_int, call: impl Fn() -> ssize_t) -> ssize_t {
    const SHORTEST: u64 = 1000;
    let whole = time_out(socket, Way::Connect);
    let is_unix = zap_sys::net::get_option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN) == Ok(libc::AF_UNIX);
    if length_of(&whole) == 0 || !is_unix {
        return call();
    }
    let set = |time: &timeval| {
        let length = core::mem::size_of::<timeval>() as socklen_t;
        // SAFETY: a time of our own.
        unsafe {
            libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_SNDTIMEO, core::ptr::from_ref(time).cast(), length)
        };
    };
    let left = length_of(&whole).saturating_sub(blocking::transfer_age()).max(SHORTEST);
    set(&timeval { tv_sec: (left / 1_000_000_000) as i64, tv_usec: (left % 1_000_000_000 / 1000) as i64 });
    let result = call();
    // SAFETY: errno's address is valid in every thread.
    let error = unsafe { *libc::__errno_location() };
    set(&whole);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = error };
    result
}

/// Whether what is left of a transfer may be made by another call: of a stream, not of messages or records.
fn is_stream(fd: c_int) -> bool {
    match zap_sys::fd::fstat(fd).map(|stat| stat.st_mode & libc::S_IFMT) {
        Ok(libc::S_IFIFO) => true,
        Ok(libc::S_IFSOCK) => zap_sys::net::get_option(fd, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_STREAM),
        _ => false,
    }
}

/// Goes on with what [`attempt`] left, by `call` with the number of bytes that are done. Returns the sum.
#[cold]
fn finish(fd: c_int, way: Way, length: usize, first: ssize_t, call: impl Fn(usize) -> ssize_t) -> ssize_t {
    if first > 0 && !is_stream(fd) {
        return first;
    }
    go_on(fd, way, length, first, call)
}

/// As [`finish`], whatever it is that is counted: bytes, messages.
#[cold]
fn go_on(fd: c_int, way: Way, length: usize, first: ssize_t, call: impl Fn(usize) -> ssize_t) -> ssize_t {
    let (mut done, mut result) = (first.max(0), first);
    // One that is in parts has its time-out once, for all of them.
    while (result != -1 && !TIMED.load(Ordering::Relaxed)) || await_rest(fd, way) {
        match attempt(length - done as usize, true, || call(done as usize)) {
            Came::Whole(more) if more > 0 => return done + more,
            // What comes after a part is told by the next call.
            Came::Whole(end) => return if done > 0 { done } else { end },
            Came::Short(more) => {
                done += more.max(0);
                result = more;
            }
        }
    }
    if done > 0 {
        done
    } else {
        -1
    }
}

/// Flags of a send that concern its first or last byte: it is not continued.
const ONLY_ONCE: c_int = libc::MSG_OOB | libc::MSG_FASTOPEN;

/// A call that has either moved something or not, and moves nothing more in the same call: after EINTR from a
/// suspension it is made again.
#[inline(always)]
pub fn once(fd: c_int, way: Way, call: impl Fn() -> ssize_t) -> ssize_t {
    match attempt(0, false, &call) {
        Came::Short(-1) => finish(fd, way, 0, -1, |_| call()),
        Came::Whole(result) | Came::Short(result) => result,
    }
}

/// A call that ends before `length` bytes only for a reason.
#[inline(always)]
fn whole(fd: c_int, way: Way, length: usize, call: impl Fn(usize) -> ssize_t) -> ssize_t {
    match attempt(length, false, || call(0)) {
        Came::Whole(result) => result,
        Came::Short(result) => finish(fd, way, length, result, call),
    }
}

/// As [`whole`] for a list of buffers, which nobody looks at unless the kernel has.
#[inline(always)]
fn whole_list(
    fd: c_int,
    way: Way,
    first: impl Fn() -> ssize_t,
    parts: impl Fn() -> Parts,
    rest: impl Fn(*mut c_void, usize) -> ssize_t,
) -> ssize_t {
    match attempt(isize::MAX as usize, false, &first) {
        Came::Whole(result) => result,
        Came::Short(result) => {
            let parts = parts();
            if result >= parts.length() as ssize_t {
                return result;
            }
            let call = |done| if done == 0 { first() } else { parts.rest(done, &rest) };
            finish(fd, way, parts.length(), result, call)
        }
    }
}

/// As [`whole`] for `count` messages that are received by recvmmsg(2). `ended`: no more are waited for when there are some.
#[inline(always)]
pub fn receive_messages(
    socket: c_int,
    count: usize,
    ended: impl Fn() -> bool,
    call: impl Fn(usize) -> ssize_t,
) -> ssize_t {
    let next = |done| if done > 0 && (ended() || left_error(socket)) { -1 } else { call(done) };
    match attempt(count, false, || call(0)) {
        Came::Whole(result) => result,
        Came::Short(result) => go_on(socket, Way::In, count, result, next),
    }
}

/// Whether an error waits to be told of `socket`. A signal that comes when recvmmsg(2) has received some is noted as such an
/// error (net/socket.c, do_recvmmsg), which nobody is to see.
#[cold]
fn left_error(socket: c_int) -> bool {
    const RESTART: c_int = 512;
    !matches!(zap_sys::net::get_option(socket, libc::SOL_SOCKET, libc::SO_ERROR), Ok(0 | RESTART))
}

/// As [`whole`] for messages that are sent by `call`, which is sendmmsg(2).
///
/// # Safety
/// The caller's list of messages.
#[inline(always)]
pub unsafe fn send_messages(
    socket: c_int,
    messages: *mut mmsghdr,
    count: usize,
    flags: c_int,
    call: impl Fn() -> ssize_t,
) -> ssize_t {
    match attempt(isize::MAX as usize, false, &call) {
        Came::Whole(result) => result,
        Came::Short(-1) => go_on(socket, Way::Out, 0, -1, |_| call()),
        // SAFETY: the kernel has read so many of the caller's messages.
        Came::Short(sent) => unsafe { send_rest(socket, messages, count, flags, sent as usize) },
    }
}

/// Sends what is left when `sent` messages have been sent, of the last of which a part may be missing.
#[cold]
unsafe fn send_rest(socket: c_int, messages: *mut mmsghdr, count: usize, flags: c_int, sent: usize) -> ssize_t {
    // SAFETY: the last one that the kernel has sent.
    let last = unsafe { &mut *messages.add(sent - 1) };
    // SAFETY: as above.
    let parts = unsafe { Parts::of_message(&last.msg_hdr) };
    if (last.msg_len as usize) < parts.length() {
        if flags & ONLY_ONCE != 0 {
            return sent as ssize_t;
        }
        // SAFETY: the part of the caller's buffers that is not sent yet.
        let rest = |address: *mut c_void, length| unsafe { real!(send)(socket, address, length, flags) };
        let first = last.msg_len as ssize_t;
        last.msg_len = finish(socket, Way::Out, parts.length(), first, |done| parts.rest(done, rest)) as c_uint;
        if (last.msg_len as usize) < parts.length() {
            return sent as ssize_t;
        }
    }
    // SAFETY: the caller's list.
    unsafe { send_each(socket, messages, sent, count, flags) }
}

/// Sends the messages from number `first` on one by one, as the kernel does: the first that fails, or of which a part is
/// left, ends it, and an error is told only where it is the very first.
///
/// # Safety
/// The caller's list of messages.
pub unsafe fn send_each(socket: c_int, messages: *mut mmsghdr, first: usize, count: usize, flags: c_int) -> ssize_t {
    let count = count.min(LONGEST_LIST);
    for at in first..count {
        // SAFETY: the caller's list.
        let message = unsafe { &mut *messages.add(at) };
        // SAFETY: as above.
        let sent = unsafe { libc::sendmsg(socket, &raw const message.msg_hdr, flags) };
        if sent < 0 {
            return if at == 0 { -1 } else { at as ssize_t };
        }
        message.msg_len = sent as c_uint;
        // SAFETY: the kernel has read the message.
        if (sent as usize) < unsafe { Parts::of_message(&message.msg_hdr) }.length() {
            return at as ssize_t + 1;
        }
    }
    count as ssize_t
}

/// Whether receiving waits for all that was asked for. Messages with boundaries are never joined.
fn waits_for_all(socket: c_int, flags: c_int) -> bool {
    flags & libc::MSG_WAITALL != 0
        && flags & libc::MSG_PEEK == 0
        && zap_sys::net::get_option(socket, libc::SOL_SOCKET, libc::SO_TYPE) == Ok(libc::SOCK_STREAM)
}

/// Whether `fd` is of a device that has as many bytes as are asked for (null(4), full(4), random(4)): a read of more than a page
/// ends at any signal.
fn is_endless(fd: c_int) -> bool {
    const MEMORY_DEVICES: u32 = 1;
    const ZERO_FULL_RANDOM_URANDOM: [u32; 4] = [5, 7, 8, 9];
    zap_sys::fd::fstat(fd).is_ok_and(|stat| {
        stat.st_mode & libc::S_IFMT == libc::S_IFCHR
            && libc::major(stat.st_rdev) == MEMORY_DEVICES
            && ZERO_FULL_RANDOM_URANDOM.contains(&libc::minor(stat.st_rdev))
    })
}

/// As [`once`] for read(2) of at most `length` bytes into `buffer`.
#[inline(always)]
fn read_once(fd: c_int, buffer: *mut c_void, length: size_t, call: impl Fn() -> ssize_t) -> ssize_t {
    if let Some(result) = super::signals::read_descriptor(fd, buffer, length, &call) {
        return result;
    }
    let result = match attempt(length, false, &call) {
        Came::Short(-1) => finish(fd, Way::In, 0, -1, |_| call()),
        Came::Short(first) if is_endless(fd) => read_rest(fd, buffer, length, first as usize),
        Came::Whole(result) | Came::Short(result) => result,
    };
    super::watches::with_kept(fd, buffer, length, result, || once(fd, Way::In, &call))
}

/// Reads on from an endless device of which `done` bytes have been read, as far as the kernel goes without Zap's doing.
#[cold]
fn read_rest(fd: c_int, buffer: *mut c_void, length: size_t, mut done: usize) -> ssize_t {
    while done < length {
        // SAFETY: the part of the caller's buffer that is not filled yet.
        match attempt(length - done, true, || unsafe {
            real!(read)(fd, buffer.cast::<u8>().add(done).cast(), length - done)
        }) {
            Came::Short(more) => done += more.max(0) as usize,
            Came::Whole(more) => return done as ssize_t + more.max(0),
        }
    }
    done as ssize_t
}

hook! { unsafe fn read(fd: c_int, buffer: *mut c_void, length: size_t) -> ssize_t => zap_read {
    // SAFETY: the caller's arguments.
    read_once(fd, buffer, length, || unsafe { real!(read)(fd, buffer, length) })
} }

hook! { unsafe fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t => zap_getrandom {
    let mut done = 0;
    loop {
        // SAFETY: the part of the caller's buffer that is not filled yet.
        let call = || unsafe { real!(getrandom)(buffer.cast::<u8>().add(done).cast(), length - done, flags) };
        match attempt(length - done, done > 0, call) {
            // random(7): more than 256 bytes end early at any signal.
            Came::Short(more) if more > 0 => done += more as usize,
            Came::Whole(more) | Came::Short(more) if done == 0 => return more,
            Came::Whole(more) | Came::Short(more) => return done as ssize_t + more.max(0),
        }
    }
} }

hook! { unsafe fn __read_chk(fd: c_int, buffer: *mut c_void, length: size_t, room: size_t) -> ssize_t
=> zap_read_checked {
    // SAFETY: the caller's arguments.
    read_once(fd, buffer, length, || unsafe { real!(__read_chk)(fd, buffer, length, room) })
} }

hook! { unsafe fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t => zap_readv {
    // SAFETY: the caller's arguments.
    let call = || once(fd, Way::In, || unsafe { real!(readv)(fd, parts, count) });
    // SAFETY: the kernel has read the list.
    unsafe { super::watches::with_kept_in_parts(fd, parts, count, call(), call) }
} }

hook! { unsafe fn write(fd: c_int, buffer: *const c_void, length: size_t) -> ssize_t => zap_write {
    // SAFETY: the caller's arguments, less what has been written.
    whole(fd, Way::Out, length, |done| unsafe { real!(write)(fd, buffer.cast::<u8>().add(done).cast(), length - done) })
} }

hook! { unsafe fn recv(socket: c_int, buffer: *mut c_void, length: size_t, flags: c_int) -> ssize_t => zap_recv {
    if waits_for_all(socket, flags) {
        return whole(socket, Way::In, length, |done| {
            // SAFETY: the part of the caller's buffer that is not filled yet.
            unsafe { real!(recv)(socket, buffer.cast::<u8>().add(done).cast(), length - done, flags) }
        });
    }
    // SAFETY: the caller's arguments.
    once(socket, Way::In, || unsafe { real!(recv)(socket, buffer, length, flags) })
} }

hook! { unsafe fn __recv_chk(socket: c_int, buffer: *mut c_void, length: size_t, room: size_t, flags: c_int) -> ssize_t
=> zap_recv_checked {
    if length > room {
        // SAFETY: libc ends the program for it.
        return unsafe { real!(__recv_chk)(socket, buffer, length, room, flags) };
    }
    // SAFETY: the caller's arguments.
    unsafe { libc::recv(socket, buffer, length, flags) }
} }

hook! { unsafe fn recvfrom(
    socket: c_int,
    buffer: *mut c_void,
    length: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t
) -> ssize_t => zap_recvfrom {
    if waits_for_all(socket, flags) {
        return whole(socket, Way::In, length, |done| {
            let rest = buffer.wrapping_byte_add(done);
            // SAFETY: the part of the caller's buffer that is not filled yet.
            unsafe { real!(recvfrom)(socket, rest, length - done, flags, address, address_length) }
        });
    }
    let room = socket_names::room(address_length);
    // SAFETY: the caller's arguments.
    let call = || unsafe { real!(recvfrom)(socket, buffer, length, flags, address, address_length) };
    let result = once(socket, Way::In, call);
    if result >= 0 {
        // SAFETY: the kernel has filled them.
        unsafe { socket_names::see(address, address_length, room) };
    }
    result
} }

hook! { unsafe fn __recvfrom_chk(
    socket: c_int,
    buffer: *mut c_void,
    length: size_t,
    room: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_length: *mut socklen_t
) -> ssize_t => zap_recvfrom_checked {
    if length > room {
        // SAFETY: libc ends the program for it.
        return unsafe { real!(__recvfrom_chk)(socket, buffer, length, room, flags, address, address_length) };
    }
    // SAFETY: the caller's arguments.
    unsafe { libc::recvfrom(socket, buffer, length, flags, address, address_length) }
} }

hook! { unsafe fn recvmsg(socket: c_int, message: *mut msghdr, flags: c_int) -> ssize_t => zap_recvmsg {
    let receive = || {
        // SAFETY: the caller's arguments.
        let result = unsafe { real!(recvmsg)(socket, message, flags) };
        if result >= 0 {
            // SAFETY: the kernel has filled it.
            unsafe { credentials::received(message) };
        }
        result
    };
    if !waits_for_all(socket, flags) {
        let room = socket_names::room_in(message);
        let result = once(socket, Way::In, || guard::with_wait(receive));
        if result >= 0 {
            // SAFETY: the kernel has filled it.
            unsafe { socket_names::see_in(message, room) };
        }
        return result;
    }
    // SAFETY: the part of the caller's buffers that is not filled yet.
    let rest = |address, length| unsafe { real!(recv)(socket, address, length, flags) };
    // SAFETY: the kernel has read the message.
    whole_list(socket, Way::In, || guard::with_wait(receive), || unsafe { Parts::of_message(message) }, rest)
} }

hook! { unsafe fn send(socket: c_int, buffer: *const c_void, length: size_t, flags: c_int) -> ssize_t => zap_send {
    if flags & ONLY_ONCE != 0 {
        // SAFETY: the caller's arguments.
        return once(socket, Way::Out, || unsafe { real!(send)(socket, buffer, length, flags) });
    }
    // SAFETY: the caller's arguments, less what has been sent.
    whole(socket, Way::Out, length, |done| unsafe {
        real!(send)(socket, buffer.cast::<u8>().add(done).cast(), length - done, flags)
    })
} }

hook! { unsafe fn sendto(
    socket: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_length: socklen_t
) -> ssize_t => zap_sendto {
    let mut own = socket_names::Address::new();
    let (address, address_length) = match socket_names::own(&mut own, address, address_length, Last::Followed) {
        Ok(own) => own,
        Err(errno) => return super::fail(errno) as ssize_t,
    };
    if flags & ONLY_ONCE != 0 {
        // SAFETY: the caller's arguments.
        return once(socket, Way::Out, || unsafe { real!(sendto)(socket, buffer, length, flags, address, address_length) });
    }
    whole(socket, Way::Out, length, |done| {
        let rest = buffer.wrapping_byte_add(done);
        // SAFETY: the caller's arguments, less what has been sent.
        unsafe { real!(sendto)(socket, rest, length - done, flags, address, address_length) }
    })
} }

hook! { unsafe fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t => zap_sendmsg {
    let mut translated = credentials::Translated::new();
    // SAFETY: the caller's argument.
    let message = unsafe { translated.of(message) };
    let mut own = socket_names::Message::new();
    // SAFETY: as above.
    let message = match unsafe { socket_names::own_message(&mut own, message) } {
        Ok(message) => message,
        Err(errno) => return super::fail(errno) as ssize_t,
    };
    // SAFETY: the caller's arguments.
    let first = || unsafe { real!(sendmsg)(socket, message, flags) };
    if flags & ONLY_ONCE != 0 {
        return once(socket, Way::Out, first);
    }
    // SAFETY: the part of the caller's buffers that is not sent yet.
    let rest = |address: *mut c_void, length| unsafe { real!(send)(socket, address, length, flags) };
    // SAFETY: the kernel has read the message.
    whole_list(socket, Way::Out, first, || unsafe { Parts::of_message(message) }, rest)
} }

hook! { unsafe fn writev(fd: c_int, list: *const iovec, count: c_int) -> ssize_t => zap_writev {
    // SAFETY: the caller's arguments.
    let first = || unsafe { real!(writev)(fd, list, count) };
    // SAFETY: the part of the caller's buffers that is not written yet.
    let rest = |address: *mut c_void, length| unsafe { real!(write)(fd, address, length) };
    // SAFETY: the kernel has read the list.
    whole_list(fd, Way::Out, first, || unsafe { Parts::of_list(list, count as usize) }, rest)
} }

hook! { unsafe fn accept(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int => zap_accept {
    let room = socket_names::room(length);
    // SAFETY: the caller's arguments.
    let result = once(socket, Way::In, || unsafe { real!(accept)(socket, address, length) as ssize_t }) as c_int;
    if result >= 0 {
        // SAFETY: the kernel has filled them.
        unsafe { socket_names::see(address, length, room) };
    }
    result
} }

hook! { unsafe fn accept4(socket: c_int, address: *mut sockaddr, length: *mut socklen_t, flags: c_int) -> c_int
=> zap_accept4 {
    let room = socket_names::room(length);
    // SAFETY: the caller's arguments.
    let result = once(socket, Way::In, || unsafe { real!(accept4)(socket, address, length, flags) as ssize_t }) as c_int;
    if result >= 0 {
        // SAFETY: the kernel has filled them.
        unsafe { socket_names::see(address, length, room) };
    }
    result
} }

hook! { unsafe fn connect(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int => zap_connect {
    let mut own = socket_names::Address::new();
    let (address, length) = match socket_names::own(&mut own, address, length, Last::Followed) {
        Ok(own) => own,
        Err(errno) => return super::fail(errno),
    };
    // SAFETY: the caller's arguments.
    let call = || unsafe { real!(connect)(socket, address, length) as ssize_t };
    match attempt(0, false, call) {
        Came::Short(-1) => finish(socket, Way::Connect, 0, -1, |_| connect_again(socket, call)) as c_int,
        Came::Whole(result) | Came::Short(result) => result as c_int,
    }
} }

hook! { unsafe fn setsockopt(socket: c_int, level: c_int, name: c_int, value: *const c_void, length: socklen_t) -> c_int
=> zap_setsockopt {
    if level == libc::SOL_SOCKET && matches!(name, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO) && state::active() {
        TIMED.store(true, Ordering::Relaxed);
    }
    // SAFETY: the caller's arguments.
    unsafe { real!(setsockopt)(socket, level, name, value, length) }
} }

/// The caller's list of buffers.
struct Parts {
    list: *const iovec,
    count: usize,
}

/// Longest list that the kernel takes (IOV_MAX); a longer one of buffers is refused by it, and none of ours to walk; of one of
/// messages it sends so many.
const LONGEST_LIST: usize = 1024;

impl Parts {
    unsafe fn of_list(list: *const iovec, count: usize) -> Self {
        Self { list, count: if list.is_null() || count > LONGEST_LIST { 0 } else { count } }
    }

    unsafe fn of_message(message: *const msghdr) -> Self {
        // SAFETY: the caller's message.
        let message = unsafe { &*message };
        // SAFETY: as above.
        unsafe { Self::of_list(message.msg_iov, message.msg_iovlen) }
    }

    fn each(&self) -> impl Iterator<Item = iovec> + '_ {
        // SAFETY: the caller's list has that many entries.
        (0..self.count).map(|index| unsafe { *self.list.add(index) })
    }

    fn length(&self) -> usize {
        self.each().fold(0usize, |sum, part| sum.saturating_add(part.iov_len))
    }

    /// Makes `call` for each buffer from byte `done` of the whole on, until one does not take all.
    fn rest(&self, done: usize, call: impl Fn(*mut c_void, usize) -> ssize_t) -> ssize_t {
        let (mut skip, mut sum) = (done, 0);
        for part in self.each() {
            if skip >= part.iov_len {
                skip -= part.iov_len;
                continue;
            }
            let length = part.iov_len - skip;
            let result = call(part.iov_base.wrapping_byte_add(skip), length);
            skip = 0;
            if result < 0 {
                return if sum > 0 { sum } else { result };
            }
            sum += result;
            if (result as usize) < length {
                break;
            }
        }
        sum
    }
}
