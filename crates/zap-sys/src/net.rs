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

/// connect(2) to the Unix socket `path`.
pub fn connect_unix(fd: RawFd, path: &[u8]) -> Result<()> {
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if path.len() >= address.sun_path.len() {
        return Err(SysError::new("connect", libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = *from as libc::c_char;
    }
    call!(SYS_connect, fd, &address as *const libc::sockaddr_un, size_of::<libc::sockaddr_un>()).map(|_| ())
}

/// As [`connect_unix`], to a name without a path (unix(7), abstract).
pub fn connect_abstract(fd: RawFd, name: &[u8]) -> Result<()> {
    // SAFETY: all-zero is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { core::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if name.len() >= address.sun_path.len() {
        return Err(SysError::new("connect", libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path[1..].iter_mut().zip(name) {
        *to = *from as libc::c_char;
    }
    let length = size_of::<libc::sa_family_t>() + 1 + name.len();
    call!(SYS_connect, fd, &address as *const libc::sockaddr_un, length).map(|_| ())
}

/// Listens under a name without a path, which the kernel chooses (unix(7), autobind).
pub fn listen_anywhere(fd: RawFd) -> Result<()> {
    let family = libc::AF_UNIX as libc::sa_family_t;
    call!(SYS_bind, fd, &family as *const libc::sa_family_t, size_of::<libc::sa_family_t>())?;
    call!(SYS_listen, fd, 1024).map(|_| ())
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

/// The user who listens at the other end of a connection, or has made it (SO_PEERCRED of unix(7)).
pub fn peer_user(fd: RawFd) -> Result<u32> {
    // struct ucred: pid, uid, gid, four bytes each.
    let mut words = [[0u8; 4]; 3];
    get_option_bytes(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, words.as_flattened_mut())?;
    Ok(u32::from_ne_bytes(words[1]))
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

/// Room for one control message of up to eight descriptors.
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 64],
}

/// Receives one message and at most eight descriptors with it (SCM_RIGHTS, close-on-exec). Returns the number of
/// bytes, descriptors, and the message's flags (MSG_TRUNC, MSG_CTRUNC).
pub fn receive_with_descriptors(fd: RawFd, buffer: &mut [u8], flags: i32) -> Result<(usize, Descriptors, i32)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.as_mut_ptr().cast();
    message.msg_controllen = control.bytes.len();
    let count = call!(SYS_recvmsg, fd, &mut message as *mut libc::msghdr, flags | libc::MSG_CMSG_CLOEXEC)?;
    let mut descriptors = Descriptors { numbers: [-1; 8], count: 0 };
    // struct cmsghdr: length usize, level i32, type i32, then the data.
    let length = usize::from_ne_bytes(control.bytes[..8].try_into().unwrap_or([0; 8])).min(message.msg_controllen);
    let level = i32::from_ne_bytes(control.bytes[8..12].try_into().unwrap_or([0; 4]));
    let kind = i32::from_ne_bytes(control.bytes[12..16].try_into().unwrap_or([0; 4]));
    if length >= 16 && level == libc::SOL_SOCKET && kind == libc::SCM_RIGHTS {
        for word in control.bytes[16..length].chunks_exact(4) {
            if descriptors.count < descriptors.numbers.len() {
                let number = i32::from_ne_bytes([word[0], word[1], word[2], word[3]]);
                descriptors.numbers[descriptors.count] = crate::opened::come(number);
                descriptors.count += 1;
            }
        }
    }
    Ok((count, descriptors, message.msg_flags))
}

/// Sends one message with the descriptors `descriptors` (at most eight).
pub fn send_with_descriptors(fd: RawFd, bytes: &[u8], descriptors: &[RawFd], flags: i32) -> Result<usize> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control { bytes: [0; 64] };
    // SAFETY: all-zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { core::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        if descriptors.len() > 8 {
            return Err(SysError::new("sendmsg", libc::EINVAL));
        }
        let length = 16 + descriptors.len() * 4;
        control.bytes[..8].copy_from_slice(&length.to_ne_bytes());
        control.bytes[8..12].copy_from_slice(&libc::SOL_SOCKET.to_ne_bytes());
        control.bytes[12..16].copy_from_slice(&libc::SCM_RIGHTS.to_ne_bytes());
        for (to, from) in control.bytes[16..].chunks_exact_mut(4).zip(descriptors) {
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
    numbers: [RawFd; 8],
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
