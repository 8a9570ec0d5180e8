//! What the kernel tells of a Unix socket by its inode (sock_diag(7)): its peer, and which halves are shut down.

use alloc::vec;
use zap_plugin::sys::{fd, libc, net, Result, SysError};

/// A Unix socket as sock_diag shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnixSocket {
    /// Inode of the socket at the other end; 0 when it is closed or there is none.
    pub peer: u32,
    /// Bit 0: receiving is shut down; bit 1: sending is (SEND_SHUTDOWN, RCV_SHUTDOWN of the kernel).
    pub shutdown: u8,
    /// It has never had a peer, or has one no more and nothing of it.
    pub is_unconnected: bool,
}

/// TCP_CLOSE of linux/tcp_states.h, which Unix sockets have too until they are connected.
const CLOSED: u8 = 7;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_PEER: u32 = 4;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_SHUTDOWN: u16 = 6;
/// Bytes of struct nlmsghdr and of struct unix_diag_msg.
const HEADER: usize = 16;
const MESSAGE: usize = 16;

/// Asks for the socket with the inode `inode`.
pub(crate) fn query(inode: u32) -> Result<UnixSocket> {
    let socket = net::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG)?;
    let result = ask(socket, inode);
    let _ = fd::close(socket);
    result
}

fn ask(socket: i32, inode: u32) -> Result<UnixSocket> {
    // struct nlmsghdr, then struct unix_diag_req.
    let mut request = [0u8; HEADER + 24];
    request[0..4].copy_from_slice(&(HEADER as u32 + 24).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request[16] = libc::AF_UNIX as u8;
    request[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // any state
    request[24..28].copy_from_slice(&inode.to_ne_bytes());
    request[28..32].copy_from_slice(&UDIAG_SHOW_PEER.to_ne_bytes());
    request[32..40].copy_from_slice(&[0xff; 8]); // INET_DIAG_NOCOOKIE
    net::send(socket, &request, 0)?;
    let mut answer = vec![0u8; 8192];
    let length = net::receive(socket, &mut answer, 0)?;
    parse(&answer[..length])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

fn parse(answer: &[u8]) -> Result<UnixSocket> {
    let kind = half(answer, 4);
    if kind != SOCK_DIAG_BY_FAMILY {
        // NLMSG_ERROR carries a negative errno.
        let errno = (word(answer, HEADER) as i32).wrapping_neg();
        return Err(SysError::new("sock_diag", if kind == libc::NLMSG_ERROR as u16 { errno } else { libc::EPROTO }));
    }
    let end = (word(answer, 0) as usize).min(answer.len());
    let mut at = HEADER + MESSAGE;
    let mut socket = UnixSocket::default();
    while at + 4 <= end {
        let length = usize::from(half(answer, at));
        match half(answer, at + 2) {
            UNIX_DIAG_PEER => socket.peer = word(answer, at + 4),
            UNIX_DIAG_SHUTDOWN => socket.shutdown = answer.get(at + 4).copied().unwrap_or(0),
            _ => {}
        }
        at += length.max(4).next_multiple_of(4);
    }
    // udiag_state. The end of a pair stays as it was when the other closes.
    socket.is_unconnected = socket.peer == 0 && answer.get(HEADER + 2) == Some(&CLOSED);
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_know_each_other() {
        let (a, b) = net::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
        let inode = |fd| zap_plugin::sys::fd::fstat(fd).unwrap().st_ino as u32;
        assert_eq!(query(inode(a)).unwrap(), UnixSocket { peer: inode(b), ..UnixSocket::default() });
        net::shutdown(a, libc::SHUT_WR).unwrap();
        assert_eq!(query(inode(a)).unwrap().shutdown, 2);
        fd::close(a).unwrap();
        let left = query(inode(b)).unwrap();
        assert!(left.peer == 0 && !left.is_unconnected);
        fd::close(b).unwrap();
        let c = net::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0).unwrap();
        assert!(query(inode(c)).unwrap().is_unconnected);
        fd::close(c).unwrap();
    }
}
