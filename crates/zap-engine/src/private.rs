//! The pod's own directories (`zap-launch --private`): which they are, and what stands for them on the host.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use zap_wire::private::{decode, By};
use zap_wire::table::PodTable;

/// Whether libzap has to give the kernel other paths.
static BY_NAMES: AtomicBool = AtomicBool::new(false);

/// Whether the pod has directories of its own of which the kernel knows nothing.
#[inline(always)]
pub fn by_names() -> bool {
    BY_NAMES.load(Ordering::Relaxed)
}

/// Notes what the pod's table tells: at init, and at a restart, which may have put the store elsewhere.
pub fn learn(table: &PodTable) {
    let text: Vec<u8> = table.private().collect();
    let Some((by, _store, _directories)) = decode(&text) else { return };
    BY_NAMES.store(by == By::Names, Ordering::Relaxed);
}
