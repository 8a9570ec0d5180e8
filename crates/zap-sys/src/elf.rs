//! What the beginning of an executable says: elf(5), and the first line of a script (execve(2)). Bytes in, facts out.

/// The little-endian number of `length` bytes at `at`; `None` where `bytes` ends before it.
pub fn number(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(length)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// Where the program headers of an ELF file are.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// In the file.
    pub offset: u64,
    /// Bytes of one header.
    pub size: u64,
    pub count: u64,
    /// It is a file for 64 bits.
    pub is_wide: bool,
}

impl Table {
    /// From the first 64 bytes of a file, or more; `None` if it is no ELF file.
    pub fn find(head: &[u8]) -> Option<Self> {
        const ELFCLASS64: u8 = 2;
        if head.get(..4)? != b"\x7fELF" {
            return None;
        }
        let is_wide = *head.get(4)? == ELFCLASS64;
        // e_phoff; e_phentsize and e_phnum.
        let (offset, length, sizes) = if is_wide { (32, 8, 54) } else { (28, 4, 42) };
        Some(Self {
            offset: number(head, offset, length)?,
            size: number(head, sizes, 2)?,
            count: number(head, sizes + 2, 2)?,
            is_wide,
        })
    }
}

/// A program header.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// `PT_LOAD` …
    pub kind: u32,
    pub offset: u64,
    pub address: u64,
    /// Bytes in the file.
    pub length: u64,
    pub alignment: u64,
}

impl Segment {
    /// Bytes of a header of a file for 64 bits, and for 32.
    pub const WIDE: usize = 56;
    pub const NARROW: usize = 32;

    /// From its bytes, as a file for 64 bits has them.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let kind = number(bytes, 0, 4)? as u32;
        let long = |at| number(bytes, at, 8);
        Some(Self { kind, offset: long(8)?, address: long(16)?, length: long(32)?, alignment: long(48)? })
    }
}

/// Whether a loader of this path is musl's.
pub fn is_musls(loader: &[u8]) -> bool {
    loader.windows(7).any(|part| part == b"ld-musl")
}

/// The interpreter that a script with this head wants, without its argument: empty if it names none. `None` if it is no such
/// script.
pub fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|c| *c == b'\n').next()?;
    Some(line.split(|c| matches!(c, b' ' | b'\t')).find(|word| !word.is_empty()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_by_table() {
        for (head, expected) in [
            (&b"#!/bin/sh -e\necho"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t/bin/sh\n", Some(b"/bin/sh")),
            (b"#!\n", Some(b"")),
            (b"echo", None),
        ] {
            assert_eq!(interpreter(head), expected);
        }
    }

    #[test]
    fn files_that_end_early() {
        let mut head = [0u8; 64];
        head[..5].copy_from_slice(b"\x7fELF\x02");
        head[54] = 56;
        assert!(Table::find(&head).is_some_and(|table| table.size == 56 && table.is_wide));
        assert!((0..58).all(|length| Table::find(&head[..length]).is_none()));
        assert!(Segment::read(&[0; 55]).is_none() && Segment::read(&[0; 56]).is_some());
    }
}
