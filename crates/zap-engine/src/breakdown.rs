//! When Zap itself fails: a panic in the agent abandons what it was about, and the program goes on.
//!
//! A panic hook cannot return; it jumps. On the leader's road and in a thread that parks it jumps back to the signal
//! handler ([`guarded`]); a helper beside the program and the frozen copy end; a process that is being restarted ends by
//! name. The process is not checkpointed any more, and the pod's table says why. What the road had in hand when it was
//! left (descriptors, mappings, changed protections) is put back by those who took it.
//!
//! A panic in a wrapper, on the program's own thread, has nowhere to go: there, nothing may panic.
//!
//! # Safety
//! Frames are skipped without their destructors; locks are freed by hand.
#![allow(unsafe_code)]

use crate::guard;
use crate::{agent, alternate_stacks, restart, state};
use alloc::string::String;
use core::fmt::Write as _;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use zap_plugin::Refusal;
use zap_sys::arch::{context, tls};
use zap_sys::process;
use zap_wire::table::{Entry, REASON_LENGTH};

/// Exit status of a helper that has panicked.
pub const HELPER_STATUS: i32 = 3;

/// A panic has been taken up: this process is not checkpointed any more.
static BROKEN: AtomicBool = AtomicBool::new(false);
static REASON: [AtomicU8; REASON_LENGTH] = [const { AtomicU8::new(0) }; REASON_LENGTH];
static LENGTH: AtomicUsize = AtomicUsize::new(0);

/// This is the frozen copy, or a process that continues from it and has not forgotten that.
static IS_COPY: AtomicBool = AtomicBool::new(false);

/// Says whether the calling process is the frozen copy: its first act, and the first of a restart from it.
pub fn note_copy(yes: bool) {
    IS_COPY.store(yes, Ordering::Relaxed);
}

/// Text in a fixed buffer, cut at its end.
struct Reason {
    bytes: [u8; REASON_LENGTH],
    length: usize,
}

impl core::fmt::Write for Reason {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for c in text.chars() {
            let mut encoded = [0; 4];
            let encoded = c.encode_utf8(&mut encoded).as_bytes();
            let Some(place) = self.bytes.get_mut(self.length..self.length + encoded.len()) else {
                return Err(core::fmt::Error);
            };
            place.copy_from_slice(encoded);
            self.length += encoded.len();
        }
        Ok(())
    }
}

/// Takes up a panic of the calling thread. Comes back only where there is nothing to go back to.
pub fn take_up(file: &str, line: u32, message: &str) {
    let mut reason = Reason { bytes: [0; REASON_LENGTH], length: 0 };
    // A longer one is cut.
    let _ = write!(reason, "libzap has failed in this process: {file}:{line}: {message}");
    let bytes = reason.bytes.get(..reason.length).unwrap_or_default();
    let block = guard::block();
    let helps = block.helper.load(Ordering::Relaxed);
    let is_helper = helps != 0 && helps == process::gettid().0 as u32;
    let way_back = block.way_back.load(Ordering::Relaxed);
    let is_copy = IS_COPY.load(Ordering::Relaxed);
    if !is_helper && !is_copy && !restart::is_under_way() && way_back == 0 {
        return;
    }
    alternate_stacks::give_up();
    if restart::is_under_way() {
        restart::fail(Refusal::new("libzap", String::from_utf8_lossy(bytes)));
    }
    if is_copy {
        agent::fail_writing(Refusal::new("frozen copy", String::from_utf8_lossy(bytes)));
    }
    // Where the host has no memory for an image, the next one may succeed.
    if !crate::arena::has_used_up_scratch() {
        note(bytes);
    }
    guard::leave_all(block);
    // A helper's variables are its caller's.
    tls::reset_standard_library();
    if is_helper {
        process::exit_process(HELPER_STATUS);
    }
    block.abandoned.store(1, Ordering::Relaxed);
    // SAFETY: stored by `guarded`, whose frame is below: nobody but its caller clears it. Locks have been freed.
    unsafe { context::abandon_stack(way_back) }
}

/// Notes the first reason, here and in the pod's table.
fn note(reason: &[u8]) {
    if BROKEN.swap(true, Ordering::AcqRel) {
        return;
    }
    REASON.iter().zip(reason).for_each(|(to, byte)| to.store(*byte, Ordering::Relaxed));
    LENGTH.store(reason.len(), Ordering::Release);
    if let Some(entry) = state::agents_entry() {
        tell_table_of(entry);
    }
}

/// Says in the pod's table why the process of `entry`, this one or a child with its memory, cannot be checkpointed.
pub fn tell_table_of(entry: &Entry) {
    if let Some(table) = state::agents_table().filter(|_| has_come()) {
        let (bytes, length) = reason();
        table.set_reason(entry, &bytes[..length]);
    }
}

fn reason() -> ([u8; REASON_LENGTH], usize) {
    let bytes = core::array::from_fn(|at| REASON[at].load(Ordering::Relaxed));
    (bytes, LENGTH.load(Ordering::Acquire).min(REASON_LENGTH))
}

/// Whether this process is not checkpointed any more.
pub fn has_come() -> bool {
    BROKEN.load(Ordering::Acquire)
}

/// Why this process is not checkpointed any more; `None` if it is.
pub fn refusal() -> Option<Refusal> {
    let (bytes, length) = reason();
    has_come().then(|| Refusal::new("process", String::from_utf8_lossy(&bytes[..length])))
}

/// Calls `function(argument)`. False when it has panicked: then it has been left where it was.
pub fn guarded(function: extern "C" fn(usize), argument: usize) -> bool {
    // SAFETY: the word is the calling thread's own.
    with_way_back(|way_back| unsafe { context::call_with_way_back(function, argument, way_back) })
}

/// As [`guarded`], on another stack.
///
/// # Safety
/// As [`context::call_on_stack`].
pub unsafe fn guarded_on(stack_top: u64, function: extern "C" fn(usize), argument: usize) -> bool {
    // SAFETY: the caller's promise; the word is the calling thread's own.
    with_way_back(|way_back| unsafe { context::call_on_stack(stack_top, function, argument, way_back) })
}

fn with_way_back(call: impl FnOnce(*mut u64)) -> bool {
    let block = guard::block();
    let outer = block.way_back.load(Ordering::Relaxed);
    call(block.way_back.as_ptr());
    block.way_back.store(outer, Ordering::Relaxed);
    block.abandoned.swap(0, Ordering::Relaxed) == 0
}

/// On a thread that a restart has made: it stands in no call of [`guarded`] any more, since it will return through the
/// frame of its signal.
pub fn forget_way_back() {
    let block = guard::block();
    block.way_back.store(0, Ordering::Relaxed);
    block.helper.store(0, Ordering::Relaxed);
}
