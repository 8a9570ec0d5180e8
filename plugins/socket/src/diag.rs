//! What the kernel tells of a Unix socket by its inode (sock_diag(7)): its peer, which halves are shut down, who waits to be
//! accepted, which file bears its name.

use alloc::vec;
use alloc::vec::Vec;
use zap_plugin::sys::{fd, libc, net, Result, SysError};

/// A Unix socket as sock_diag shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnixSocket {
    /// Inode of the socket at the other end; 0 when it is closed, not accepted yet, or there is none.
    pub peer: u32,
    /// Bit 0: receiving is shut down; bit 1: sending is (SEND_SHUTDOWN, RCV_SHUTDOWN of the kernel).
    pub shutdown: u8,
    /// It has never had a peer, or has one no more and nothing of it.
    pub is_unconnected: bool,
    /// It listens: how many more may wait than one (listen(2)), and the inodes of those that do, in their order; 0 for one
    /// that has been closed meanwhile.
    pub listens: Option<(u32, Vec<u32>)>,
    /// Inode of the file that was made for its name, or that of the listener that has accepted it; 0 for none.
    pub file: u32,
}

/// TCP_CLOSE of linux/tcp_states.h, which Unix sockets have too until they are connected.
const CLOSED: u8 = 7;
const LISTENS: u8 = 10;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// UDIAG_SHOW_VFS, UDIAG_SHOW_PEER, UDIAG_SHOW_ICONS, UDIAG_SHOW_RQLEN.
const SHOWN: u32 = 2 | 4 | 8 | 16;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_ICONS: u16 = 3;
const UNIX_DIAG_RQLEN: u16 = 4;
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
    request[28..32].copy_from_slice(&SHOWN.to_ne_bytes());
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
    let (mut backlog, mut waiting) = (0, Vec::new());
    while at + 4 <= end {
        let length = usize::from(half(answer, at));
        match half(answer, at + 2) {
            UNIX_DIAG_VFS => socket.file = word(answer, at + 4),
            // Of one that listens, how many wait comes first.
            UNIX_DIAG_RQLEN => backlog = word(answer, at + 8),
            UNIX_DIAG_ICONS => waiting = (4..length & !3).step_by(4).map(|place| word(answer, at + place)).collect(),
            UNIX_DIAG_PEER => socket.peer = word(answer, at + 4),
            UNIX_DIAG_SHUTDOWN => socket.shutdown = answer.get(at + 4).copied().unwrap_or(0),
            _ => {}
        }
        at += length.max(4).next_multiple_of(4);
    }
    // udiag_state. The end of a pair stays as it was when the other closes.
    let state = answer.get(HEADER + 2).copied();
    socket.is_unconnected = socket.peer == 0 && state == Some(CLOSED);
    socket.listens = (state == Some(LISTENS)).then_some((backlog, waiting));
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

    #[test]
    fn who_waits_is_told_in_order() {
        let socket = || net::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0).unwrap();
        let inode = |fd| zap_plugin::sys::fd::fstat(fd).unwrap().st_ino as u32;
        let (listener, first, second) = (socket(), socket(), socket());
        let name = zap_plugin::sys::small!("{}/zap-diag-{}", std::env::temp_dir().display(), std::process::id());
        net::bind_unix(listener, name.as_bytes()).unwrap();
        net::listen(listener, 7).unwrap();
        [first, second].iter().for_each(|one| net::connect_unix(*one, name.as_bytes()).unwrap());
        let file = fd::link_stat(name.as_c_str()).unwrap().st_ino as u32;
        fd::unlink(name.as_c_str()).unwrap();
        let found = query(inode(listener)).unwrap();
        assert_eq!((found.listens, found.file), (Some((7, vec![inode(first), inode(second)])), file));
        let waits = query(inode(first)).unwrap();
        assert_eq!((waits.peer, waits.is_unconnected, waits.listens), (0, false, None));
        fd::close(first).unwrap();
        assert_eq!(query(inode(listener)).unwrap().listens, Some((7, vec![0, inode(second)])));
        [second, listener].iter().for_each(|one| fd::close(*one).unwrap());
    }
}
