//! The lines of `/proc/<pid>/maps` (proc_pid_maps(5)), parsed in place.

use crate::text::{decimal, hex, skip_blanks};

/// One mapping of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// PROT_READ | PROT_WRITE | PROT_EXEC as they are now.
    pub protection: i32,
    /// MAP_SHARED rather than MAP_PRIVATE.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Device of the file: major, minor.
    pub device: (u32, u32),
    /// Inode of the file, 0 for anonymous memory.
    pub inode: u64,
    /// Path or `[pseudo-name]`; empty for anonymous memory. Newlines are shown as `\012`.
    pub name: &'a [u8],
}

impl Mapping<'_> {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.end - self.start
    }
}

/// Iterates over the text of a maps file.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Mapping<'_>> {
    text.split(|c| *c == b'\n').filter(|line| !line.is_empty()).map(parse_line)
}

fn parse_line(line: &[u8]) -> Mapping<'_> {
    let (start, rest) = hex(line);
    let (end, rest) = hex(rest.get(1..).unwrap_or_default());
    let rest = rest.get(1..).unwrap_or_default();
    let has = |at: usize, letter: u8| rest.get(at) == Some(&letter);
    let mut protection = 0;
    for (at, letter, bit) in [(0, b'r', libc::PROT_READ), (1, b'w', libc::PROT_WRITE), (2, b'x', libc::PROT_EXEC)] {
        if has(at, letter) {
            protection |= bit;
        }
    }
    let shared = has(3, b's');
    let (offset, rest) = hex(rest.get(5..).unwrap_or_default());
    let (major, rest) = hex(rest.get(1..).unwrap_or_default());
    let (minor, rest) = hex(rest.get(1..).unwrap_or_default());
    let (inode, rest) = decimal(rest.get(1..).unwrap_or_default());
    Mapping {
        start,
        end,
        protection,
        shared,
        offset,
        device: (major as u32, minor as u32),
        inode: inode as u64,
        name: skip_blanks(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = b"7f00-8f00 r-xp 00001000 fd:01 4242                       /usr/lib/x y.so\n\
                     9000-a000 rw-s 00000000 00:01 7 \n\
                     ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";
        let all: Vec<_> = parse(text).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].name, b"/usr/lib/x y.so");
        assert_eq!((all[0].start, all[0].end, all[0].offset, all[0].inode), (0x7f00, 0x8f00, 0x1000, 4242));
        assert_eq!(all[0].device, (0xfd, 1));
        assert_eq!(all[0].protection, libc::PROT_READ | libc::PROT_EXEC);
        assert!(all[1].shared && all[1].name.is_empty());
        assert_eq!(all[2].name, b"[vsyscall]");
    }
}
