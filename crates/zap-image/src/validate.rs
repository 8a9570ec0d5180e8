//! Whether a header makes sense: checked before anybody acts on it, so that those who act need not.

use crate::header::{flags, Backing, Header};
use crate::prelude::Prelude;
use crate::CHUNK_SIZE;
use alloc::format;
use alloc::string::String;
use core::fmt;
use zap_sys::PAGE_SIZE;

/// Why bytes are not an image that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    /// No image of Zap at all.
    NotAnImage,
    /// Shorter than it says.
    Truncated,
    /// A checksum or an invariant does not hold; of what.
    Damaged(String),
    /// Written by a version of Zap with another format.
    Version { found: u32 },
    /// From another processor architecture (ELF machine number).
    Machine { found: u32 },
    /// Not the MessagePack that was expected.
    Encoding(String),
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnImage => write!(f, "not an image of Zap"),
            Self::Truncated => write!(f, "image is truncated"),
            Self::Damaged(what) => write!(f, "image is damaged: {what}"),
            Self::Version { found } => {
                write!(f, "image has format version {found}, this Zap reads version {}", crate::FORMAT_VERSION)
            }
            Self::Machine { found } => write!(
                f,
                "image is from another architecture (ELF machine {found}, here {})",
                zap_sys::arch::ELF_MACHINE
            ),
            Self::Encoding(why) => write!(f, "image is damaged: header: {why}"),
        }
    }
}

impl core::error::Error for FormatError {}

/// One past the highest user address on x86-64 with four-level page tables.
const ADDRESS_LIMIT: u64 = 1 << 47;

fn require(condition: bool, what: &str) -> Result<(), FormatError> {
    if condition {
        Ok(())
    } else {
        Err(FormatError::Damaged(String::from(what)))
    }
}

/// Checks every invariant that a restart relies on.
pub(crate) fn header(header: &Header, prelude: &Prelude) -> Result<(), FormatError> {
    let page = PAGE_SIZE as u64;
    let aligned = |value: u64| value.is_multiple_of(page);
    let chunks = prelude.extents_length.div_ceil(CHUNK_SIZE);
    require(header.chunk_sums.0.len() as u64 == chunks * 8, "number of checksums")?;
    require(aligned(prelude.extents_length), "length of extents")?;
    let mut last_end = 0;
    let mut last_offset = 0;
    for region in &header.regions {
        let place = || format!("region {:x}-{:x}", region.start, region.end);
        let check = |condition: bool| if condition { Ok(()) } else { Err(FormatError::Damaged(place())) };
        check(aligned(region.start) && aligned(region.end) && region.start < region.end)?;
        check(region.start >= last_end && region.end <= ADDRESS_LIMIT && region.start >= page)?;
        check(region.protection & !7 == 0 && region.flags & !flags::ALL == 0)?;
        if let Backing::File { file, offset } = region.backing {
            check((file as usize) < header.files.len() && aligned(offset) && offset < 1 << 62)?;
        }
        let mut at = region.start;
        for extent in &region.extents {
            let end = extent.address.checked_add(extent.length).ok_or_else(|| FormatError::Damaged(place()))?;
            check(aligned(extent.address) && aligned(extent.length) && extent.length > 0)?;
            check(extent.address >= at && end <= region.end)?;
            let stop = extent.offset.checked_add(extent.length).ok_or_else(|| FormatError::Damaged(place()))?;
            // Extents lie in the file in the order of their addresses and never overlap.
            check(aligned(extent.offset) && extent.offset >= last_offset && stop <= prelude.extents_length)?;
            at = end;
            last_offset = stop;
        }
        last_end = region.end;
    }
    let inside = |address: u64, length: u64| {
        header
            .regions
            .iter()
            .any(|region| address >= region.start && address.checked_add(length).is_some_and(|end| end <= region.end))
    };
    let entry = &header.process.entry;
    require(inside(entry.stack_pointer, 8), "entry stack pointer")?;
    require(inside(entry.instruction_pointer, 1), "entry instruction pointer")?;
    require(header.process.mailbox != 0, "mailbox")?;
    let (vdso, length) = header.process.vdso;
    require(aligned(vdso) && aligned(length) && (length == 0 || inside(vdso, length)), "vDSO")?;
    require(header.process.auxv.0.len() <= 4096, "auxiliary vector")?;
    Ok(())
}
