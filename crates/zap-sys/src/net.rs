//! Unix sockets and control messages.
//!
//! # Safety
//! Pointers handed to the kernel come from slices and references that outlive the call.
#![allow(unsafe_code)]

use crate::errno::{call, Result, SysError};
use crate::RawFd;
use core::mem::size_of;

/// socket(2).
pub fn socket(domain: i32, kind: i32, protocol: i32) -> Result<RawFd> {
    call!(SYS_socket, domain, kind, protocol).map(|fd| crate::opened::come(fd as RawFd))
}

/// socketpair(2).
pub fn socketpair(domain: i32, kind: i32, protocol: i32) -> Result<(RawFd, RawFd)> {
    let mut pair = [0 as RawFd; 2];
    call!(SYS_socketpair, domain, kind, protocol, pair.as_mut_ptr())?;
    Ok((pair[0], pair[1]))
}

/// Most bytes of a Unix socket's name: those of `sun_path`.
pub const LONGEST_NAME: usize = 108;

/// The address of the Unix socket that is called `name` ([`unix_name`]), and its length; `None` if that is too long.
fn address_of(name: &[u8]) -> Option<(libc::sockaddr_un, usize)> {
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if name.len() > LONGEST_NAME {
        return None;
    }
    for (to, from) in address.sun_path.iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    Some((address, size_of::<libc::sa_family_t>() + name.len()))
}

/// connect(2) to the Unix socket that is called `name`: a path without a NUL at its end, or behind a NUL a name without
/// a path (unix(7), abstract).
pub fn connect_unix(fd: RawFd, name: &[u8]) -> Result<()> {
    let (address, length) = address_of(name).ok_or(SysError::new("connect", libc::ENAMETOOLONG))?;
    call!(SYS_connect, fd, &address as *const libc::sockaddr_un, length).map(|_| ())
}

/// As [`connect_unix`], to a name without a path; `name` is what comes behind the NUL.
pub fn connect_abstract(fd: RawFd, name: &[u8]) -> Result<()> {
    let mut whole = [0; LONGEST_NAME];
    let end = name.len() + 1;
    let place = whole.get_mut(1..end).ok_or(SysError::new("connect", libc::ENAMETOOLONG))?;
    place.copy_from_slice(name);
    connect_unix(fd, &whole[..end])
}

/// bind(2) of a Unix socket to a name as [`connect_unix`] has it.
pub fn bind_unix(fd: RawFd, name: &[u8]) -> Result<()> {
    let (address, length) = address_of(name).ok_or(SysError::new("bind", libc::ENAMETOOLONG))?;
    call!(SYS_bind, fd, &address as *const libc::sockaddr_un, length).map(|_| ())
}

/// listen(2).
pub fn listen(fd: RawFd, backlog: i32) -> Result<()> {
    call!(SYS_listen, fd, backlog).map(|_| ())
}

/// Listens under a name without a path, which the kernel chooses (unix(7), autobind).
pub fn listen_anywhere(fd: RawFd) -> Result<()> {
    let family = libc::AF_UNIX as libc::sa_family_t;
    call!(SYS_bind, fd, &family as *const libc::sa_family_t, size_of::<libc::sa_family_t>())?;
    listen(fd, 1024)
}

/// accept4(2); who it is does not matter.
pub fn accept(fd: RawFd, flags: i32) -> Result<RawFd> {
    call!(SYS_accept4, fd, 0, 0, flags).map(|number| crate::opened::come(number as RawFd))
}

/// shutdown(2).
pub fn shutdown(fd: RawFd, how: i32) -> Result<()> {
    call!(SYS_shutdown, fd, how).map(|_| ())
}

/// setsockopt(2) with a value of fixed size.
pub fn set_option<T: Copy>(fd: RawFd, level: i32, name: i32, value: &T) -> Result<()> {
    call!(SYS_setsockopt, fd, level, name, value as *const T, size_of::<T>()).map(|_| ())
}

/// getsockopt(2) of an integer option.
pub fn get_option(fd: RawFd, level: i32, name: i32) -> Result<i32> {
    let mut value = 0i32;
    let mut length = size_of::<i32>() as u32;
    call!(SYS_getsockopt, fd, level, name, &mut value as *mut i32, &mut length as *mut u32)?;
    Ok(value)
}

/// getsockopt(2) into `buffer`; returns the length that the kernel filled.
pub fn get_option_bytes(fd: RawFd, level: i32, name: i32, buffer: &mut [u8]) -> Result<usize> {
    let mut length = buffer.len() as u32;
    call!(SYS_getsockopt, fd, level, name, buffer.as_mut_ptr(), &mut length as *mut u32)?;
    Ok(length as usize)
}

/// User and group of who listens at the other end of a connection, or has made it; of a socket that listens, of who made
/// it do so (SO_PEERCRED of unix(7)).
pub fn peer_ids(fd: RawFd) -> Result<(u32, u32)> {
    // struct ucred: pid, uid, gid, four bytes each.
    let mut words = [[0u8; 4]; 3];
    get_option_bytes(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, words.as_flattened_mut())?;
    Ok((u32::from_ne_bytes(words[1]), u32::from_ne_bytes(words[2])))
}

/// As [`peer_ids`], the user alone.
pub fn peer_user(fd: RawFd) -> Result<u32> {
    peer_ids(fd).map(|(user, _)| user)
}

/// What of the bytes sent from a Unix socket nobody has received yet, in the kernel's memory (SIOCOUTQ).
pub fn unreceived(fd: RawFd) -> Result<usize> {
    let mut count = 0i32;
    call!(SYS_ioctl, fd, libc::TIOCOUTQ, &mut count as *mut i32)?;
    Ok(count.max(0) as usize)
}

/// The name of a Unix socket, or with `peer` that of the one at the other end, as [`connect_unix`] has it; empty where
/// there is none. Into `buffer`.
pub fn unix_name(fd: RawFd, peer: bool, buffer: &mut [u8; 128]) -> Result<&[u8]> {
    let length = if peer { peer_name(fd, buffer)? } else { local_name(fd, buffer)? };
    let name = &buffer[size_of::<libc::sa_family_t>().min(length)..length];
    // A path is shown with the NUL behind it.
    let end = if name.first() == Some(&0) { None } else { name.iter().position(|byte| *byte == 0) };
    Ok(&name[..end.unwrap_or(name.len()).min(LONGEST_NAME)])
}

/// send(2).
pub fn send(fd: RawFd, bytes: &[u8], flags: i32) -> Result<usize> {
    call!(SYS_sendto, fd, bytes.as_ptr(), bytes.len(), flags, 0, 0)
}

/// recv(2).
pub fn receive(fd: RawFd, buffer: &mut [u8], flags: i32) -> Result<usize> {
    call!(SYS_recvfrom, fd, buffer.as_mut_ptr(), buffer.len(), flags, 0, 0)
}

/// Length of the socket's local or peer address, to tell a named socket from an unnamed one: getsockname(2) and
/// getpeername(2) into `buffer`.
pub fn local_name(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    let mut length = buffer.len() as u32;
    call!(SYS_getsockname, fd, buffer.as_mut_ptr(), &mut length as *mut u32)?;
    Ok((length as usize).min(buffer.len()))
}

/// getpeername(2) into `buffer`; returns the length.
pub fn peer_name(fd: RawFd, buffer: &mut [u8]) -> Result<usize> {
    let mut length = buffer.len() as u32;
    call!(SYS_getpeername, fd, buffer.as_mut_ptr(), &mut length as *mut u32)?;
    Ok((length as usize).min(buffer.len()))
}

/// Most descriptors that a message can carry: SCM_MAX_FD, unix(7).
const MOST_DESCRIPTORS: usize = 253;

/// Bytes of a control message's header: length usize, level i32, type i32.
const CONTROL_HEADER: usize = 16;

/// Room for one control message of descriptors.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; (CONTROL_HEADER + 4 * MOST_DESCRIPTORS).next_multiple_of(8)],
}

impl Control {
    fn new() -> Self {
        Self { bytes: [0; (CONTROL_HEADER + 4 * MOST_DESCRIPTORS).next_multiple_of(8)] }
    }
}

/// As recv(2); returns the number of bytes and the message's flags. MSG_CTRUNC among them: the message carries
/// something, which has not been received.
pub fn receive_flags(fd: RawFd, buffer: &mut [u8], flags: i32) -> Result<(usize, i32)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    let count = call!(SYS_recvmsg, fd, &mut message as *mut libc::msghdr, flags)?;
    Ok((count, message.msg_flags))
}

/// As [`receive_flags`], with room for one byte more that cannot be written: what would reach there is left out, or if
/// that is all, EFAULT.
pub fn receive_without_last(fd: RawFd, buffer: &mut [u8], flags: i32) -> Result<(usize, i32)> {
    let size = crate::PAGE_SIZE as u64;
    // SAFETY: new memory wherever the kernel likes.
    let page = unsafe { crate::mem::map(0, size, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) }?;
    let mut parts = [
        libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() },
        libc::iovec { iov_base: page as *mut libc::c_void, iov_len: 1 },
    ];
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len();
    let count = call!(SYS_recvmsg, fd, &mut message as *mut libc::msghdr, flags);
    // SAFETY: the page that has just been mapped.
    let _ = unsafe { crate::mem::unmap(page, size) };
    Ok((count?, message.msg_flags))
}

/// Receives one message and the descriptors with it (SCM_RIGHTS, close-on-exec). Returns the number of bytes,
/// descriptors, and the message's flags (MSG_TRUNC, MSG_CTRUNC).
pub fn receive_with_descriptors(fd: RawFd, buffer: &mut [u8], flags: i32) -> Result<(usize, Descriptors, i32)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control::new();
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.as_mut_ptr().cast();
    message.msg_controllen = control.bytes.len();
    let count = call!(SYS_recvmsg, fd, &mut message as *mut libc::msghdr, flags | libc::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Descriptors { numbers: [-1; MOST_DESCRIPTORS], count: 0 };
    let length = usize::from_ne_bytes(control.bytes[..8].try_into().unwrap_or([0; 8])).min(message.msg_controllen);
    let level = i32::from_ne_bytes(control.bytes[8..12].try_into().unwrap_or([0; 4]));
    let kind = i32::from_ne_bytes(control.bytes[12..16].try_into().unwrap_or([0; 4]));
    if length >= CONTROL_HEADER && level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
        for word in control.bytes[CONTROL_HEADER..length].chunks_exact(4) {
            if descriptors.count < descriptors.numbers.len() {
                let number = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
                descriptors.numbers[descriptors.count] = crate::opened::come(number);
                descriptors.count += 1;
            }
        }
    }
    Ok((count, descriptors, message.msg_flags))
}

/// Receives one message and who has sent it (SCM_CREDENTIALS), which comes before descriptors: for those there is no room.
pub fn receive_credentials(fd: RawFd, buffer: &mut [u8], flags: i32) -> Result<(usize, Option<libc::ucred>)> {
    /// Header and content, as the kernel writes them.
    #[repr(C)]
    struct Credentials {
        header: libc::cmsghdr,
        content: libc::ucred,
    }
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is valid for both.
    let (mut message, mut control): (libc::msghdr, Credentials) = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = core::mem::size_of::<Credentials>();
    let count = call!(SYS_recvmsg, fd, &mut message as *mut libc::msghdr, flags)?;
    let is_there = message.msg_controllen >= core::mem::size_of::<Credentials>()
        && control.header.cmsg_level == libc::SOL_SOCKET
        && control.header.cmsg_type == libc::SCM_CREDENTIALS;
    Ok((count, is_there.then_some(control.content)))
}

/// Sends one message with the descriptors `descriptors` (at most as many as a message can carry).
pub fn send_with_descriptors(fd: RawFd, bytes: &[u8], descriptors: &[RawFd], flags: i32) -> Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control::new();
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        if descriptors.len() > MOST_DESCRIPTORS {
            return Err(SysError::new("sendmsg", libc::EINVAL));
        }
        let length = CONTROL_HEADER + descriptors.len() * 4;
        control.bytes[..8].copy_from_slice(&length.to_ne_bytes());
        control.bytes[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        control.bytes[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        for (to, from) in control.bytes[CONTROL_HEADER..].chunks_exact_mut(4).zip(descriptors) {
            to.copy_from_slice(&from.to_ne_bytes());
        }
        message.msg_control = control.bytes.as_mut_ptr().cast();
        message.msg_controllen = (length + 7) & !7;
    }
    call!(SYS_sendmsg, fd, &message as *const libc::msghdr, flags)
}

/// Descriptors that came with a message. Their receiver closes them.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors {
    numbers: [RawFd; MOST_DESCRIPTORS],
    count: usize,
}

impl Descriptors {
    /// The numbers.
    pub fn as_slice(&self) -> &[RawFd] {
        &self.numbers[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_is_told() {
        let listener = socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).unwrap();
        listen_anywhere(listener).unwrap();
        let mut address = [0u8; 128];
        let length = local_name(listener, &mut address).unwrap();
        let client = socket(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).unwrap();
        connect_abstract(client, &address[3..length]).unwrap();
        let [_, own, _] = crate::credentials::users().unwrap();
        assert_eq!(peer_user(client).unwrap(), own);
        crate::fd::close(client).unwrap();
        crate::fd::close(listener).unwrap();
    }
}
