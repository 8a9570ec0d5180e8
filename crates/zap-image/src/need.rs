//! What of the files that it maps a process relies on. Saver and restart both ask here.

use crate::header::{flags, Backing, Header};
use alloc::vec;
use alloc::vec::Vec;
use zap_sys::PAGE_SIZE;

/// What a file is needed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Some region shows the file's own contents, which must be what they were.
    pub contents: bool,
    /// Some region maps it shared and writable.
    pub shared_writable: bool,
    /// Some region maps it shared.
    pub shared: bool,
    /// Its length must be at least this.
    pub length: u64,
}

/// What each file of the header is needed for.
pub fn needs(header: &Header) -> Vec<Need> {
    let mut needs = vec![Need::default(); header.files.len()];
    for region in &header.regions {
        let Backing::File { file, offset } = region.backing else { continue };
        let Some(need) = needs.get_mut(file as usize) else { continue };
        let shared = region.flags & flags::SHARED != 0;
        let writable = region.protection & zap_sys::libc::PROT_WRITE as u32 != 0;
        need.shared |= shared;
        need.shared_writable |= shared && writable;
        need.contents |= !(shared && writable);
        // The last page may lie past the file's end, as a file's tail does. What lay past it at the checkpoint too, such
        // as the gap between the segments of a library, need not be there: the file is asked for no more than it had.
        let last_page = (region.end - region.start).saturating_sub(PAGE_SIZE as u64);
        let size = header.files.get(file as usize).map_or(0, |file| file.size);
        need.length = need.length.max(offset.saturating_add(last_page).min(size));
    }
    needs
}
