//! What of a thread's scheduling needs a privilege: nice values, real-time policies, I/O priorities.

use crate::threads::{slots, Slot};
use core::sync::atomic::Ordering;
use zap_plugin::Refusal;
use zap_sys::process::{set_scheduling, Scheduling};

/// SCHED_OTHER, SCHED_FIFO, SCHED_RR, SCHED_IDLE and SCHED_DEADLINE of sched(7).
pub const OTHER: u32 = 0;
pub const IDLE: u32 = 5;
const FIFO: u32 = 1;
const ROUND_ROBIN: u32 = 2;
const DEADLINE: u32 = 6;

/// Gives the only thread that there is the best priorities of all: threads begin with those of their maker, and whoever has
/// become another user may get less, but no more. Each takes its own when it enters. What this process may not have refuses.
pub fn take(main: i32) -> Result<(), Refusal> {
    let now = zap_sys::process::scheduling().unwrap_or_default();
    let nice_before = now.nice;
    // Of real-time policies the kernel tells none.
    let has_nice = |one: &Scheduling| ![FIFO, ROUND_ROBIN, DEADLINE].contains(&one.policy);
    let best = slots().map(Slot::scheduling).filter(has_nice).map(|one| one.nice).min().unwrap_or(nice_before);
    // Who is idle may not be otherwise, by a nice value that is not its own.
    if nice_before != best || now.policy != OTHER {
        set_scheduling(&Scheduling { nice: best, ..Default::default() }).map_err(|error| {
            let reason = alloc::format!(
                "{error}; zap-restart's own is {nice_before}: start it without nice(1), as root, or raise RLIMIT_NICE"
            );
            Refusal::new(alloc::format!("nice value {best}"), reason)
        })?;
    }
    let refusal =
        |what| move |error| Refusal::new(what, alloc::format!("{error}; restart as root, or with CAP_SYS_NICE"));
    if let Some(one) = slots().map(Slot::scheduling).find(|one| one.policy == DEADLINE) {
        set_scheduling(&one).map_err(refusal("deadline scheduling"))?;
        set_scheduling(&Scheduling { nice: best, ..Default::default() }).map_err(refusal("deadline scheduling"))?;
    }
    let real_time = slots().map(Slot::scheduling).filter(|one| [FIFO, ROUND_ROBIN].contains(&one.policy));
    if let Some(highest) = real_time.max_by_key(|one| one.priority) {
        // Not what would keep threads from it (SCHED_FLAG_RESET_ON_FORK).
        set_scheduling(&Scheduling { flags: 0, ..highest }).map_err(refusal("real-time scheduling"))?;
    }
    let is_main = |slot: &&Slot| slot.virtual_tid.load(Ordering::Relaxed) == main;
    // Of the last stays what the first thread has meanwhile.
    for slot in slots().filter(|slot| !is_main(slot)).chain(slots().find(is_main)) {
        match zap_sys::credentials::set_io_priority(slot.io_priority()) {
            Err(error) if error.is(zap_sys::libc::EPERM) => return Err(refusal("I/O priority")(error)),
            _ => {}
        }
    }
    Ok(())
}
