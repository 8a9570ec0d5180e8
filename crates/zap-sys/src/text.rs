//! Reading the kernel's text files and writing small strings, without allocation.

use core::fmt;

/// Reads a hexadecimal number at the head of `text`; returns it and the rest.
pub fn hex(text: &[u8]) -> (u64, &[u8]) {
    let mut value = 0u64;
    let mut at = 0;
    while at < text.len() {
        let digit = match text[at] {
            c @ b'0'..=b'9' => c - b'0',
            c @ b'a'..=b'f' => c - b'a' + 10,
            c @ b'A'..=b'F' => c - b'A' + 10,
            _ => break,
        };
        value = value.wrapping_mul(16).wrapping_add(u64::from(digit));
        at += 1;
    }
    (value, &text[at..])
}

/// Reads a decimal number (with an optional minus sign) at the head of `text`; returns it and the rest.
pub fn decimal(text: &[u8]) -> (i64, &[u8]) {
    let negative = text.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let mut value = 0u64;
    while at < text.len() && text[at].is_ascii_digit() {
        value = value.wrapping_mul(10).wrapping_add(u64::from(text[at] - b'0'));
        at += 1;
    }
    let value = value as i64;
    (if negative { value.wrapping_neg() } else { value }, &text[at..])
}

/// `text` without leading blanks and tabs.
pub fn skip_blanks(text: &[u8]) -> &[u8] {
    let at = text.iter().position(|c| *c != b' ' && *c != b'\t').unwrap_or(text.len());
    &text[at..]
}

/// The value of line `key` of a file in the form of `/proc/<pid>/status` or fdinfo, with `key` as in `b"pos:"`.
pub fn field<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    text.split(|c| *c == b'\n').find(|line| line.starts_with(key)).map(|line| skip_blanks(&line[key.len()..]))
}

/// A string of at most `N` bytes on the stack, NUL-terminated on demand. What does not fit is cut off.
pub struct SmallString<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Default for SmallString<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> SmallString<N> {
    /// Formats `arguments` into a new string.
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut string = Self::default();
        let _ = fmt::Write::write_fmt(&mut string, arguments);
        string
    }

    /// Appends bytes that need not be UTF-8.
    pub fn push(&mut self, bytes: &[u8]) {
        // One byte stays zero, so that the string always ends in NUL.
        let room = (N - 1).saturating_sub(self.length).min(bytes.len());
        self.bytes[self.length..self.length + room].copy_from_slice(&bytes[..room]);
        self.length += room;
    }

    /// The bytes without a terminator.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// The bytes with a terminating NUL.
    pub fn as_c_str(&self) -> &core::ffi::CStr {
        core::ffi::CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }
}

impl<const N: usize> fmt::Write for SmallString<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}

/// Formats into a [`SmallString`] of 128 bytes: `small!("/proc/self/fd/{fd}")`.
#[macro_export]
macro_rules! small {
    ($($arg:tt)*) => { $crate::text::SmallString::<128>::format(format_args!($($arg)*)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(hex(b"7f00-8"), (0x7f00, &b"-8"[..]));
        assert_eq!(decimal(b"-12 x"), (-12, &b" x"[..]));
        assert_eq!(decimal(b""), (0, &b""[..]));
        assert_eq!(field(b"pos:\t12\nflags:\t02\n", b"flags:"), Some(&b"02"[..]));
    }

    #[test]
    fn small_strings_are_cut_not_overrun() {
        let string = SmallString::<4>::format(format_args!("abcdef"));
        assert_eq!(string.as_bytes(), b"abc");
        assert_eq!(string.as_c_str(), c"abc");
    }
}
