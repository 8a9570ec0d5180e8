//! Memory that a restart has mapped from the image instead of reading it: private, page by page on demand.
//!
//! It is the program's data: the next checkpoint saves all of it again, since the older image may be gone by then.

use crate::state::Owned;
use zap_sys::maps::Mapping;

struct Images {
    /// (device major, minor, inode) of the image as /proc/self/maps shows it.
    file: Option<((u32, u32), u64)>,
}

static IMAGES: Owned<Images> = Owned::new(Images { file: None });

/// Notes, at a restart, which mappings are backed by the image: those at the starts of `ranges`.
pub fn note(ranges: &[(u64, u64)], maps: &[u8]) {
    let first = ranges.first().map(|(start, _)| *start);
    let file = first.and_then(|start| {
        zap_sys::maps::parse(maps)
            .find(|mapping| (mapping.start..mapping.end).contains(&start))
            .map(|mapping| (mapping.device, mapping.inode))
    });
    IMAGES.with(|images| images.file = file);
}

/// Whether `mapping` is backed by the image that this process was restarted from.
pub fn is_image(mapping: &Mapping<'_>) -> bool {
    IMAGES.with(|images| images.file == Some((mapping.device, mapping.inode)))
}

/// Ranges of memory backed by the image, for those who must know quickly that there are none.
pub fn any() -> bool {
    IMAGES.with(|images| images.file.is_some())
}

