//! A program that is a subreaper (PR_SET_CHILD_SUBREAPER) is none while the pod is saved: the frozen copies are orphans for
//! the kernel, also those of its descendants, and it would hear of the ends of children that it never had. It stands down
//! before any process of the pod forks its copy, and up again when all have.

use crate::state::Owned;
use zap_sys::process;

/// It has stood down. Part of the image: a restart makes it a subreaper again.
static STOOD_DOWN: Owned<bool> = Owned::new(false);

/// Before the first process of the pod is saved.
pub fn stand_down() {
    if process::is_subreaper() {
        STOOD_DOWN.with(|stood_down| *stood_down = true);
        process::set_subreaper(false);
    }
}

/// When all have been saved or none will be, and at a restart, after the other attributes.
pub fn stand_up() {
    if STOOD_DOWN.with(core::mem::take) {
        process::set_subreaper(true);
    }
}
