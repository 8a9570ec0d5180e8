//! The words that the kernel makes of a script's (execve(2), "Interpreter scripts").

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What the kernel reads of a script's first line.
const LONGEST: u64 = 255;

/// The interpreter's words for the script at `path`: its own name, its argument if it has one, the script, and `rest`.
pub fn words(path: &Path, rest: &[OsString]) -> Result<Vec<OsString>> {
    let mut head = Vec::new();
    File::open(path)?.take(LONGEST).read_to_end(&mut head)?;
    let line = head.split(|c| *c == b'\n').next().unwrap_or_default();
    let line = line.strip_prefix(b"#!").unwrap_or(line).trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (interpreter, argument) = (&line[..end], line[end..].trim_ascii());
    let word = |bytes: &[u8]| OsStr::from_bytes(bytes).to_os_string();
    let mut words = vec![word(interpreter)];
    words.extend(Some(argument).filter(|argument| !argument.is_empty()).map(word));
    words.push(path.as_os_str().to_os_string());
    words.extend_from_slice(rest);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        let path = std::env::temp_dir().join(format!("zap-launch-script-{}", std::process::id()));
        for (line, expected) in [
            ("#!/bin/sh\nx", &["/bin/sh"][..]),
            ("#! /usr/bin/env  python3 -u \nx", &["/usr/bin/env", "python3 -u"]),
            ("#!/bin/sed -f", &["/bin/sed", "-f"]),
        ] {
            std::fs::write(&path, line).unwrap();
            let mut expected: Vec<OsString> = expected.iter().map(OsString::from).collect();
            expected.extend([path.clone().into_os_string(), "a".into()]);
            assert_eq!(words(&path, &["a".into()]).unwrap(), expected, "{line}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
