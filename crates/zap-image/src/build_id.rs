//! The GNU build id of an ELF file: what tells one build of a program or library from another.
//!
//! Saver and restart both ask here. Bytes in, bytes out; the first page of a file holds headers and note nearly always.

use alloc::vec::Vec;
use zap_sys::elf::{number, Segment, Table};

/// Longest build id that is believed, in bytes.
const LONGEST: usize = 64;

/// The build id in `bytes`, the first page or pages of an ELF file. `None` when it is no ELF file, has no build id, or
/// has it further on.
pub fn find(bytes: &[u8]) -> Option<Vec<u8>> {
    // ELFDATA2LSB.
    let table = Table::find(bytes).filter(|table| table.is_wide && bytes.get(5) == Some(&1))?;
    (0..table.count).find_map(|index| {
        let at = usize::try_from(table.offset.checked_add(index * table.size)?).ok()?;
        const PT_NOTE: u32 = 4;
        let segment = Segment::read(bytes.get(at..)?).filter(|segment| segment.kind == PT_NOTE)?;
        let offset = usize::try_from(segment.offset).ok()?;
        let end = offset.checked_add(usize::try_from(segment.length).ok()?)?.min(bytes.len());
        in_notes(bytes.get(offset..end)?, if segment.alignment == 8 { 8 } else { 4 })
    })
}

/// Walks the notes of one segment: name length, description length, type, name, description, each padded.
fn in_notes(mut notes: &[u8], alignment: usize) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u64 = 3;
    loop {
        let name_length = number(notes, 0, 4)? as usize;
        let length = number(notes, 4, 4)? as usize;
        let start = 12usize.checked_add(name_length)?.checked_next_multiple_of(alignment)?;
        let end = start.checked_add(length)?;
        if number(notes, 8, 4)? == NT_GNU_BUILD_ID && notes.get(12..16)? == b"GNU\0" && name_length == 4 {
            return notes.get(start..end).filter(|id| !id.is_empty() && id.len() <= LONGEST).map(<[u8]>::to_vec);
        }
        notes = notes.get(end.checked_next_multiple_of(alignment)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// An ELF head with one note segment that holds a foreign note and then a build id.
    fn sample() -> Vec<u8> {
        let mut bytes = vec![0u8; 64 + 56];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = 4;
        bytes[64 + 8] = 120;
        bytes[64 + 48] = 4;
        for (name, kind, content) in [(&b"XY\0\0"[..], 1u32, &b"12345"[..]), (b"GNU\0", 3, b"\xde\xad\xbe\xef\x01")] {
            bytes.extend_from_slice(&(if kind == 1 { 3u32 } else { 4 }).to_le_bytes());
            bytes.extend_from_slice(&(content.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&kind.to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(content);
            bytes.extend_from_slice(&[0; 3]);
        }
        bytes[64 + 32] = (bytes.len() - 120) as u8;
        bytes
    }

    #[test]
    fn found_behind_other_notes() {
        assert_eq!(find(&sample()), Some(b"\xde\xad\xbe\xef\x01".to_vec()));
    }

    #[test]
    fn cut_or_damaged_heads_are_harmless() {
        let whole = sample();
        for length in 0..whole.len() - 3 {
            assert_eq!(find(&whole[..length]), None, "{length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let _ = find(&damaged);
            }
        }
    }

    #[test]
    fn libc_has_one() {
        let maps = std::fs::read("/proc/self/maps").unwrap();
        let libc = zap_sys::maps::parse(&maps).find(|m| m.name.ends_with(b"libc.so.6")).unwrap();
        let path = std::str::from_utf8(libc.name).unwrap();
        let bytes = std::fs::read(path).unwrap();
        assert!(find(&bytes[..4096]).is_some_and(|id| id.len() >= 8));
        assert_eq!(find(b"#!/bin/sh\n"), None);
    }
}
