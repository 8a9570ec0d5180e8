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
    /// Of one that is connected: memory in bytes that the kernel has taken for what it has sent and nobody has received.
    pub sent: u32,
    /// The file that was made for its name, or for that of the listener that has accepted it.
    pub file: Option<File>,
}

/// The file of a name: the inode's lower half, and the device, as the kernel has them.
pub(crate) type File = (u32, u32);

/// A socket that has a name of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bound {
    pub inode: u32,
    /// As it was given to bind(2).
    pub name: Vec<u8>,
    pub file: Option<File>,
}

/// A device's number as stat(2) shows it, in the kernel's own form (`MKDEV`).
pub(crate) fn kernel_device(device: u64) -> u32 {
    libc::major(device) << 20 | libc::minor(device)
}

/// File systems without a device of their own have numbers of this kind. Some (btrfs, overlayfs) show another one to
/// stat(2) than they have.
pub(crate) fn is_made_up(device: u32) -> bool {
    device >> 20 == 0
}

/// Whether `stat` shows `file`.
pub(crate) fn is_file(stat: &libc::stat, (inode, device): File) -> bool {
    let shown = kernel_device(stat.st_dev);
    let is_device = shown == device || (is_made_up(shown) && is_made_up(device));
    stat.st_mode & libc::S_IFMT == libc::S_IFSOCK && stat.st_ino as u32 == inode && is_device
}

/// TCP_CLOSE of linux/tcp_states.h, which Unix sockets have too until they are connected.
const CLOSED: u8 = 7;
const LISTENS: u8 = 10;

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// UDIAG_SHOW_VFS, UDIAG_SHOW_PEER, UDIAG_SHOW_ICONS, UDIAG_SHOW_RQLEN.
const SHOWN: u32 = 2 | 4 | 8 | 16;
/// UDIAG_SHOW_NAME, UDIAG_SHOW_VFS.
const SHOWN_OF_ALL: u32 = 1 | 2;
const UNIX_DIAG_NAME: u16 = 0;
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

fn request(flags: i32, states: u32, inode: u32, shown: u32) -> [u8; HEADER + 24] {
    // struct nlmsghdr, then struct unix_diag_req.
    let mut request = [0u8; HEADER + 24];
    request[0..4].copy_from_slice(&(HEADER as u32 + 24).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&((libc::NLM_F_REQUEST | flags) as u16).to_ne_bytes());
    request[16] = libc::AF_UNIX as u8;
    request[20..24].copy_from_slice(&states.to_ne_bytes());
    request[24..28].copy_from_slice(&inode.to_ne_bytes());
    request[28..32].copy_from_slice(&shown.to_ne_bytes());
    request[32..40].copy_from_slice(&[0xff; 8]); // INET_DIAG_NOCOOKIE
    request
}

fn ask(socket: i32, inode: u32) -> Result<UnixSocket> {
    net::send(socket, &request(0, u32::MAX, inode, SHOWN), 0)?;
    let mut answer = vec![0u8; 8192];
    let length = net::receive(socket, &mut answer, 0)?;
    parse(&answer[..length])
}

/// All sockets of the host, or of this network namespace, to which somebody else cannot give the same name: those that
/// listen, and those that have a name and are not connected. Who was accepted shows its listener's name, and has none.
pub(crate) fn all_bound() -> Result<Vec<Bound>> {
    let socket = net::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, NETLINK_SOCK_DIAG)?;
    let result = ask_all(socket);
    let _ = fd::close(socket);
    result
}

fn ask_all(socket: i32) -> Result<Vec<Bound>> {
    net::send(socket, &request(libc::NLM_F_DUMP, 1 << CLOSED | 1 << LISTENS, 0, SHOWN_OF_ALL), 0)?;
    let mut answer = vec![0u8; 64 << 10];
    let mut all = Vec::new();
    loop {
        let length = net::receive(socket, &mut answer, 0)?;
        let mut rest = &answer[..length];
        if rest.is_empty() {
            return Err(SysError::new("sock_diag", libc::EPROTO));
        }
        while rest.len() >= HEADER {
            match half(rest, 4) {
                SOCK_DIAG_BY_FAMILY => all.extend(parse_bound(rest)),
                kind if kind == libc::NLMSG_DONE as u16 => return Ok(all),
                _ => return Err(refusal_of(rest)),
            }
            let end = (word(rest, 0) as usize).max(HEADER).next_multiple_of(4).min(rest.len());
            rest = &rest[end..];
        }
    }
}

/// One that has a name.
fn parse_bound(answer: &[u8]) -> Option<Bound> {
    let mut bound = Bound { inode: word(answer, HEADER + 4), ..Bound::default() };
    each_attribute(answer, |kind, value| match kind {
        UNIX_DIAG_NAME => bound.name = value.to_vec(),
        UNIX_DIAG_VFS => bound.file = Some((word(value, 0), word(value, 4))),
        _ => {}
    });
    if bound.name.first().is_some_and(|byte| *byte != 0) {
        // A path is shown with the NUL behind it.
        let end = bound.name.iter().position(|byte| *byte == 0);
        bound.name.truncate(end.unwrap_or(bound.name.len()));
    }
    (!bound.name.is_empty()).then_some(bound)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).and_then(|part| part.try_into().ok()).map_or(0, u16::from_ne_bytes)
}

/// Calls `each` with kind and value of the attributes (struct nlattr) of a message.
fn each_attribute(message: &[u8], mut each: impl FnMut(u16, &[u8])) {
    let end = (word(message, 0) as usize).min(message.len());
    let mut at = HEADER + MESSAGE;
    while at + 4 <= end {
        let length = usize::from(half(message, at)).max(4);
        each(half(message, at + 2), message.get(at + 4..at + length).unwrap_or_default());
        at += length.next_multiple_of(4);
    }
}

/// NLMSG_ERROR carries a negative errno.
fn refusal_of(answer: &[u8]) -> SysError {
    let errno = (word(answer, HEADER) as i32).wrapping_neg();
    let is_told = half(answer, 4) == libc::NLMSG_ERROR as u16;
    SysError::new("sock_diag", if is_told { errno } else { libc::EPROTO })
}

fn parse(answer: &[u8]) -> Result<UnixSocket> {
    if half(answer, 4) != SOCK_DIAG_BY_FAMILY {
        return Err(refusal_of(answer));
    }
    let mut socket = UnixSocket::default();
    let (mut length, mut waiting) = (0, Vec::new());
    each_attribute(answer, |kind, value| match kind {
        UNIX_DIAG_VFS => socket.file = Some((word(value, 0), word(value, 4))),
        // The other word is what waits to be received; of one that listens, how many wait.
        UNIX_DIAG_RQLEN => length = word(value, 4),
        UNIX_DIAG_ICONS => waiting = value.chunks_exact(4).map(|inode| word(inode, 0)).collect(),
        UNIX_DIAG_PEER => socket.peer = word(value, 0),
        UNIX_DIAG_SHUTDOWN => socket.shutdown = value.first().copied().unwrap_or(0),
        _ => {}
    });
    // udiag_state. The end of a pair stays as it was when the other closes.
    let state = answer.get(HEADER + 2).copied();
    socket.is_unconnected = socket.peer == 0 && state == Some(CLOSED);
    if state == Some(LISTENS) {
        socket.listens = Some((length, waiting));
    } else {
        socket.sent = length;
    }
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
        let file = fd::link_stat(name.as_c_str()).unwrap();
        let is_it = |one: &&Bound| one.name == name.as_bytes();
        let all = all_bound().unwrap();
        let bound: Vec<&Bound> = all.iter().filter(is_it).collect();
        assert!(bound.len() == 1 && bound[0].inode == inode(listener), "{bound:?}");
        fd::unlink(name.as_c_str()).unwrap();
        let found = query(inode(listener)).unwrap();
        assert_eq!(found.listens, Some((7, vec![inode(first), inode(second)])));
        assert!(is_file(&file, found.file.unwrap()) && bound[0].file == found.file);
        let waits = query(inode(first)).unwrap();
        assert_eq!((waits.peer, waits.is_unconnected, waits.listens), (0, false, None));
        fd::close(first).unwrap();
        assert_eq!(query(inode(listener)).unwrap().listens, Some((7, vec![0, inode(second)])));
        [second, listener].iter().for_each(|one| fd::close(*one).unwrap());
    }
}
