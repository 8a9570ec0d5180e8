//! Asynchronous I/O of the kernel: io_setup(2) and what belongs to it.
//!
//! A context's number is the address of its ring, which the kernel maps into the process (fs/aio.c).
//!
//! # Safety
//! Pointers handed to the kernel come from references that outlive the call.
#![allow(unsafe_code)]

use crate::errno::{call, Result};
use crate::RawFd;

/// struct io_event, as four words: what the program gave, the address of its request, and two results.
pub type Event = [u64; 4];

/// struct aio_ring: what precedes the events.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    pub id: u32,
    /// Events that it has room for.
    pub room: u32,
    /// The first event that has not been reaped, and the one behind the last: the program's to change, and the kernel's.
    pub head: u32,
    pub tail: u32,
    pub magic: u32,
    pub compatible: u32,
    pub incompatible: u32,
    pub header_length: u32,
}

/// Bytes of [`Ring`], as 32 bits have them.
pub const HEADER: u64 = core::mem::size_of::<Ring>() as u64;

/// A request that ends at once: to read nothing from a file in memory.
#[repr(C)]
pub struct Nothing {
    data: u64,
    key: u32,
    flags: u32,
    operation: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    event_flags: u32,
    event_fd: u32,
}

const _: () = assert!(core::mem::size_of::<Nothing>() == 64);

impl Nothing {
    const READ: u16 = 0;

    /// Reads nothing from `file`.
    pub fn of(file: RawFd) -> Self {
        let (data, buffer, reserved, key, flags, event_flags, event_fd) = (0, 0, 0, 0, 0, 0, 0);
        let (operation, priority, length, offset) = (Self::READ, 0, 0, 0);
        let fd = file as u32;
        Self { data, key, flags, operation, priority, fd, buffer, length, offset, reserved, event_flags, event_fd }
    }
}

/// io_setup(2): the new context.
pub fn setup(events: u32) -> Result<u64> {
    let mut context = 0u64;
    call!(SYS_io_setup, events, &raw mut context)?;
    Ok(context)
}

/// io_destroy(2).
pub fn destroy(context: u64) -> Result<()> {
    call!(SYS_io_destroy, context).map(|_| ())
}

/// io_submit(2) of as many requests as `count` says, up to 64, each of which is `request`. Returns how many were taken.
pub fn submit(context: u64, request: &mut Nothing, count: usize) -> Result<usize> {
    let list = [core::ptr::from_mut(request); 64];
    call!(SYS_io_submit, context, count.min(list.len()), list.as_ptr())
}

/// io_submit(2) of the request at `address`, which the kernel reads and writes.
pub fn submit_at(context: u64, address: u64) -> Result<()> {
    let list = [address];
    call!(SYS_io_submit, context, 1, list.as_ptr()).map(|_| ())
}

/// Whether this memory has the context `context`: asks for none of its events.
pub fn exists(context: u64) -> bool {
    let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let asked = call!(SYS_io_getevents, context, 0, 0, 0, &raw const none);
    // A signal that waits (EINTR) is looked at when the context has been found.
    !matches!(asked, Err(error) if error.is(libc::EINVAL) || error.is(libc::ENOSYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_and_its_events() {
        let Ok(context) = setup(8) else { return };
        assert!(exists(context));
        let file = crate::fd::memfd_create(c"test", 0).unwrap();
        assert_eq!(submit(context, &mut Nothing::of(file), 3).unwrap(), 3);
        // SAFETY: the kernel has mapped the ring there.
        let ring = unsafe { core::ptr::read_volatile(context as *const Ring) };
        assert_eq!((ring.head, ring.tail, u64::from(ring.header_length)), (0, 3, HEADER));
        destroy(context).unwrap();
        assert!(!exists(context));
        crate::fd::close(file).unwrap();
    }
}
