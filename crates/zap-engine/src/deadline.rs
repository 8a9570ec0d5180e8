//! Points in time that a thread has given to the kernel and still waits for.
//!
//! The program's monotonic time is not the kernel's after a restart ([`crate::clocks`]). A wrapper around a call with an
//! absolute time-out passes libc a copy of its own, in the kernel's time, and notes where it lies: libc gives that very
//! address to the kernel each time it waits anew, so that a restart can move the deadline while the thread is somewhere
//! inside.
//!
//! A record lies in its wrapper's frame. It need not be undone: cancellation and siglongjmp skip destructors. It is
//! believed as long as the two seals around it are intact, which the wrapper breaks when it returns and the next user
//! of that stack overwrites.
//!
//! # Safety
//! Records are read through the kernel, which answers EFAULT for a stack that has gone.
#![allow(unsafe_code)]

use crate::clocks::{self, Shift};
use crate::guard;
use core::sync::atomic::Ordering;
use zap_sys::{libc, mem, time};

const SEAL: u64 = 0x5a61_7020_7761_6974;

/// Waits inside of each other (a handler's inside the one that it interrupted) that are looked at.
const DEEPEST: usize = 16;

/// A noted deadline.
#[repr(C)]
pub struct Deadline {
    seal: u64,
    /// As the kernel is to have it.
    time: libc::timespec,
    /// As the program has said it.
    program: libc::timespec,
    clock: i32,
    /// Address of the record that this one covered.
    previous: u64,
    other_seal: u64,
}

const LENGTH: usize = core::mem::size_of::<Deadline>();

impl Deadline {
    /// The deadline `time` on the program's `clock`.
    #[inline]
    pub fn new(clock: i32, time: &libc::timespec) -> Self {
        Self { seal: 0, time: *time, program: *time, clock, previous: 0, other_seal: 0 }
    }

    /// Notes the deadline; what is given to the kernel is at the returned address.
    #[inline]
    pub fn note(&mut self) -> *const libc::timespec {
        let block = guard::block();
        let own = core::ptr::from_mut(self) as u64;
        self.previous = block.deadlines.load(Ordering::Relaxed);
        self.seal = SEAL ^ own;
        self.other_seal = SEAL ^ own;
        block.deadlines.store(own, Ordering::Relaxed);
        // Noted before it is computed: a restart comes either before the offset is read, or finds the record.
        loop {
            let generation = clocks::generation();
            let offset = clocks::translate(self.clock).1;
            // A time that the kernel must refuse is left to it.
            let is_time = self.program.tv_sec >= 0 && (0..1_000_000_000).contains(&self.program.tv_nsec);
            if is_time {
                self.time = time::shifted(&self.program, offset.wrapping_neg());
            }
            // The program's handlers and a restart read what lies there.
            core::hint::black_box(&mut *self);
            if clocks::generation() == generation {
                break;
            }
        }
        (own + core::mem::offset_of!(Deadline, time) as u64) as *const libc::timespec
    }

    /// The call has returned.
    #[inline]
    pub fn end(&mut self) {
        guard::block().deadlines.store(self.previous, Ordering::Relaxed);
        self.seal = 0;
        self.other_seal = 0;
        core::hint::black_box(self);
    }

    fn is_sealed(&self, address: u64) -> bool {
        self.seal == SEAL ^ address && self.other_seal == SEAL ^ address
    }
}

/// Moves the deadlines of a restarted thread, which is the caller, by what the kernel's clocks have moved.
pub fn shift_own(shift: &Shift) {
    let block = guard::block();
    let relative = block.deadline.load(Ordering::Relaxed);
    if relative != 0 {
        block.deadline.store(relative.saturating_add_signed(shift.monotonic).max(1), Ordering::Relaxed);
    }
    let mut address = block.deadlines.load(Ordering::Relaxed);
    for _ in 0..DEEPEST {
        let mut bytes = [0u8; LENGTH];
        if address == 0 || mem::read_own(address, &mut bytes) != Ok(LENGTH) {
            return;
        }
        // SAFETY: a copy of as many bytes; every bit pattern is a value of this structure of integers.
        let mut record: Deadline = unsafe { core::ptr::read_unaligned(bytes.as_ptr().cast()) };
        if !record.is_sealed(address) {
            return;
        }
        let by = match record.clock {
            libc::CLOCK_MONOTONIC => shift.monotonic,
            libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => shift.boottime,
            _ => 0,
        };
        record.time = time::shifted(&record.time, by);
        let place = (address + core::mem::offset_of!(Deadline, time) as u64) as *mut libc::timespec;
        // SAFETY: a record of this thread's own stack, read just now; the thread that uses it is here.
        unsafe { place.write_unaligned(record.time) };
        address = record.previous;
    }
}
