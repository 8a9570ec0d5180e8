//! Names of Unix sockets that are paths, where the pod has directories of its own: the kernel is given the host's, and what it tells of
//! is in the pod's view.
//!
//! The host's path may be longer than a name can be. Then a link in the store leads to the directory, and stands in the name.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use core::ffi::c_int;
use core::mem::MaybeUninit;
use libc::{msghdr, sockaddr, socklen_t};
use redhook::{hook, real};
use zap_engine::path_rooms::{self, Room};
use zap_engine::private_paths::{self, HostPath, Last, Leads};
use zap_engine::{private, state};
use zap_sys::fd;
use zap_sys::text::SmallString;

super::resolve_all!(bind, getsockname, getpeername);

/// Bytes of an address before its path, and those of the longest path (unix(7)).
const HEAD: usize = 2;
const LONGEST: usize = 108;

/// An address as the kernel is to be given it.
pub struct Address {
    bytes: [u8; HEAD + LONGEST + 1],
}

/// A message with such an address.
pub struct Message {
    message: msghdr,
    address: Address,
}

/// The path in an address of the program's or of the kernel's; `None` in others.
fn path_in(address: usize, length: usize) -> Option<&'static [u8]> {
    if length <= HEAD || length > HEAD + LONGEST + 1 || !zap_sys::mem::is_readable(address as u64, length) {
        return None;
    }
    // SAFETY: it can be read.
    let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, length) };
    let path = &bytes[HEAD..];
    let end = path.iter().position(|c| *c == 0).unwrap_or(path.len());
    let is_path = bytes[..HEAD] == (libc::AF_UNIX as libc::sa_family_t).to_ne_bytes() && end > 0;
    is_path.then_some(&path[..end])
}

impl Address {
    /// Room for one, which is not used where the pod has no directories of its own.
    #[inline(always)]
    pub fn new() -> MaybeUninit<Self> {
        MaybeUninit::uninit()
    }
}

impl Message {
    /// Room for one, as above.
    #[inline(always)]
    pub fn new() -> MaybeUninit<Self> {
        MaybeUninit::uninit()
    }
}

/// The address to hand to the kernel for the program's: `room` is for it. `Err` with an error number where its path leads nowhere.
#[inline(always)]
pub fn own(
    room: &mut MaybeUninit<Address>,
    address: *const sockaddr,
    length: socklen_t,
    last: Last,
) -> Result<(*const sockaddr, socklen_t), c_int> {
    if !private::by_names() {
        return Ok((address, length));
    }
    let room = room.write(Address { bytes: [0; HEAD + LONGEST + 1] });
    Ok(match room.find(address as usize, length as usize, last)? {
        Some(length) => (room.bytes.as_ptr().cast(), length),
        None => (address, length),
    })
}

/// The message to hand to the kernel for the program's.
///
/// # Safety
/// The caller's message, or what the kernel is to refuse.
#[inline(always)]
pub unsafe fn own_message(room: &mut MaybeUninit<Message>, message: *const msghdr) -> Result<*const msghdr, c_int> {
    if !private::by_names() {
        return Ok(message);
    }
    // SAFETY: the caller's promise.
    unsafe { find_message(room, message) }
}

#[cold]
unsafe fn find_message(room: &mut MaybeUninit<Message>, message: *const msghdr) -> Result<*const msghdr, c_int> {
    if !super::readable(message) {
        return Ok(message);
    }
    // SAFETY: it can be read.
    let given = unsafe { *message };
    let own = room.write(Message { message: given, address: Address { bytes: [0; HEAD + LONGEST + 1] } });
    if let Some(length) = own.address.find(given.msg_name as usize, given.msg_namelen as usize, Last::Followed)? {
        own.message.msg_name = own.address.bytes.as_mut_ptr().cast();
        own.message.msg_namelen = length;
        return Ok(&raw const own.message);
    }
    Ok(message)
}

impl Address {
    /// Writes the address of the host's path; returns its length, or `None` where the program's does.
    #[cold]
    #[inline(never)]
    fn find(&mut self, address: usize, length: usize, last: Last) -> Result<Option<socklen_t>, c_int> {
        let Some(path) = path_in(address, length).filter(|_| state::active()) else { return Ok(None) };
        // With a NUL behind it, whether or not the program has put one there.
        let mut text = SmallString::<128>::default();
        text.push(path);
        let found = path_rooms::with(|Room { host, rest }| {
            match private_paths::find(libc::AT_FDCWD, text.as_c_str().as_ptr() as usize, last, host, rest) {
                Leads::AsItIs => Ok(None),
                Leads::Nowhere(errno) => Err(errno),
                Leads::Elsewhere if host.as_bytes().len() < LONGEST => {
                    let mut own = SmallString::default();
                    own.push(host.as_bytes());
                    Ok(Some(own))
                }
                Leads::Elsewhere => by_link(host.as_bytes()).ok_or(libc::ENAMETOOLONG).map(Some),
            }
        });
        let Some(own) = found? else { return Ok(None) };
        let length = own.as_bytes().len();
        self.bytes[..HEAD].copy_from_slice(&(libc::AF_UNIX as libc::sa_family_t).to_ne_bytes());
        self.bytes[HEAD..HEAD + length].copy_from_slice(own.as_bytes());
        Ok(Some((HEAD + length + 1) as socklen_t))
    }
}

/// Links of one beginning that are tried.
const TRIES: u32 = 8;

/// A shorter way to the path of the host's, by a link in the store to its directory, which is made if it is not there.
fn by_link(host: &[u8]) -> Option<SmallString<LONGEST>> {
    let name = host.iter().rposition(|c| *c == b'/')?;
    let (directory, name) = host.split_at(name);
    private::below_store(directory)?;
    // It goes with the store.
    let target = zap_sys::path::CPath::new(directory.get(private::store().len() + 1..)?)?;
    let hash = directory.iter().fold(0x811c_9dc5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    for try_ in 0..TRIES {
        let mut link = SmallString::<256>::default();
        link.push(private::store());
        link.push(zap_sys::small!("/l{:08x}", hash.wrapping_add(try_)).as_bytes());
        if link.as_bytes().len() + name.len() >= LONGEST {
            return None;
        }
        let made = fd::make_link(target.as_c_str(), link.as_c_str());
        let mut buffer = [0; 1024];
        if made.is_ok() || fd::read_link(link.as_c_str(), &mut buffer) == Ok(target.as_c_str().to_bytes()) {
            let mut own = SmallString::default();
            own.push(link.as_bytes());
            own.push(name);
            return Some(own);
        }
    }
    None
}

/// The directory to which a link of [`by_link`] leads, and what follows it in `path`.
fn through_link<'a>(path: &'a [u8], into: &mut HostPath) -> Option<&'a [u8]> {
    let name = path.strip_prefix(private::store())?.strip_prefix(b"/l")?;
    let end = path.len() - name.len() + name.iter().position(|c| *c == b'/')?;
    let (link, rest) = path.split_at(end);
    let mut buffer = [0; 1024];
    let target = fd::read_link(zap_sys::path::CPath::new(link)?.as_c_str(), &mut buffer).ok()?;
    let mut whole = SmallString::<1280>::default();
    whole.push(private::store());
    whole.push(b"/");
    whole.push(target);
    into.set(whole.as_bytes()).then_some(rest)
}

/// The room for an address that a call is to fill, 0 where the pod has no directories of its own.
#[inline(always)]
pub fn room(length: *const socklen_t) -> socklen_t {
    if private::by_names() && !length.is_null() && super::readable(length) {
        // SAFETY: it can be read.
        unsafe { *length }
    } else {
        0
    }
}

/// The same of a message.
#[inline(always)]
pub fn room_in(message: *const msghdr) -> socklen_t {
    if private::by_names() && super::readable(message) {
        // SAFETY: it can be read.
        unsafe { (*message).msg_namelen }
    } else {
        0
    }
}

/// Puts an address that the kernel has written, whose length is at `length`, into the pod's view. `room` is that for it, 0 for nothing
/// to be done.
///
/// # Safety
/// The caller's buffer, that the kernel has just filled.
#[inline(always)]
pub unsafe fn see(address: *mut sockaddr, length: *mut socklen_t, room: socklen_t) {
    if room != 0 && !address.is_null() {
        // SAFETY: the caller's promise.
        unsafe { see_path(address.cast(), length, room as usize) };
    }
}

/// As [`see`], for a message.
///
/// # Safety
/// As above.
#[inline(always)]
pub unsafe fn see_in(message: *mut msghdr, room: socklen_t) {
    if room != 0 {
        // SAFETY: the caller's promise.
        unsafe { see((*message).msg_name.cast(), &raw mut (*message).msg_namelen, room) };
    }
}

#[cold]
unsafe fn see_path(address: *mut u8, length: *mut socklen_t, room: usize) {
    // SAFETY: the caller's promise.
    let told = unsafe { *length } as usize;
    let Some(path) = path_in(address as usize, told).filter(|_| told <= room && state::active()) else { return };
    let mut text = SmallString::<{ 2 * LONGEST }>::default();
    let found = path_rooms::with(|room| {
        let parts = match through_link(path, &mut room.host) {
            Some(rest) => private::seen(room.host.as_bytes()).map(|[directory, below]| [directory, below, rest]),
            None => private::seen(path).map(|[directory, below]| [directory, below, b"".as_slice()]),
        };
        parts.map(|parts| parts.iter().for_each(|part| text.push(part)))
    });
    if found.is_none() {
        return;
    }
    let whole = text.as_c_str().to_bytes_with_nul();
    // SAFETY: as far as there is room; the length is that of the whole, as the kernel has it.
    unsafe {
        let end = HEAD + whole.len();
        core::ptr::copy_nonoverlapping(whole.as_ptr(), address.add(HEAD), whole.len().min(room - HEAD));
        // Behind its end there would be the rest of the host's path.
        if end < told {
            core::ptr::write_bytes(address.add(end), 0, told - end);
        }
        *length = end as socklen_t;
    }
}

hook! { unsafe fn bind(socket: c_int, address: *const sockaddr, length: socklen_t) -> c_int => zap_bind {
    let mut room = Address::new();
    match own(&mut room, address, length, Last::Kept) {
        // SAFETY: the caller's arguments, or an address of our own.
        Ok((address, length)) => unsafe { real!(bind)(socket, address, length) },
        Err(errno) => super::fail(errno),
    }
} }

hook! { unsafe fn getsockname(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int => zap_getsockname {
    let room = room(length);
    // SAFETY: the caller's arguments, which the kernel fills.
    unsafe {
        let result = real!(getsockname)(socket, address, length);
        if result == 0 {
            see(address, length, room);
        }
        result
    }
} }

hook! { unsafe fn getpeername(socket: c_int, address: *mut sockaddr, length: *mut socklen_t) -> c_int => zap_getpeername {
    let room = room(length);
    // SAFETY: the caller's arguments, which the kernel fills.
    unsafe {
        let result = real!(getpeername)(socket, address, length);
        if result == 0 {
            see(address, length, room);
        }
        result
    }
} }
