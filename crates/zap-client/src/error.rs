//! The one error of the tools' shared parts: which object, and why. Printed after the tool's own name.

use std::fmt;
use std::io;

/// What could not be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The file, directory or process in question.
    pub what: String,
    /// The reason, with the system call's name where there was one.
    pub why: String,
}

/// What every fallible function of this crate returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error about `what`.
    pub fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self { what: what.to_string(), why: why.to_string() }
    }

    /// The error of the system call `call` on `what`.
    pub fn system(what: impl fmt::Display, call: &str, error: &io::Error) -> Self {
        Self::new(what, format_args!("{call}: {}", reason(error)))
    }

    /// The error that the system call `call`, which has just failed on `what`, left in errno.
    pub fn last(what: impl fmt::Display, call: &str) -> Self {
        Self::system(what, call, &io::Error::last_os_error())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Shown(&self.what), Shown(&self.why))
    }
}

/// A text for people: names of files may hold what moves a terminal's cursor, or looks like another line.
pub struct Shown<T>(pub T);

impl<T: fmt::Display> fmt::Display for Shown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        text.chars().try_for_each(|letter| match letter.is_control() {
            true => write!(f, "{}", letter.escape_default()),
            false => write!(f, "{letter}"),
        })
    }
}

impl std::error::Error for Error {}

/// The words for an error of the kernel, in strerror(3)'s terms and without the number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_sentences() {
        let error = Error::system("/x", "open", &io::Error::from_raw_os_error(libc::ENOENT));
        assert_eq!(error.to_string(), "/x: open: no such file or directory");
        assert_eq!(Error::new("a\x1b[2J\nb", "ä").to_string(), "a\\u{1b}[2J\\nb: ä");
    }
}
