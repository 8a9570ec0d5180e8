//! Finding a program as execvp(3) does.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use zap_client::executable::{self, Inspection, Kind};

/// A program that was found.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    pub inspection: Inspection,
}

/// Why there is none.
#[derive(Debug, PartialEq, Eq)]
pub enum Missing {
    /// Exit status 127.
    NotFound,
    /// Exit status 126: the file, and why it cannot be run.
    NotRunnable(PathBuf, String),
}

/// Finds `name`: a path if it holds a slash, else in the directories of `search`, which is the value of PATH. A file
/// that may not be executed is remembered, and the search goes on.
pub fn find(name: &OsStr, search: Option<OsString>) -> Result<Found, Missing> {
    if name.is_empty() {
        return Err(Missing::NotFound);
    }
    if name.as_bytes().contains(&b'/') {
        return look_at(Path::new(name));
    }
    let search = search.unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut missing = Missing::NotFound;
    for directory in search.as_bytes().split(|c| *c == b':') {
        let directory = if directory.is_empty() { b"." } else { directory };
        match look_at(&Path::new(OsStr::from_bytes(directory)).join(name)) {
            Err(Missing::NotRunnable(path, why)) if is_forbidden(&path) => {
                if missing == Missing::NotFound {
                    missing = Missing::NotRunnable(path, why);
                }
            }
            Err(Missing::NotFound) => {}
            decided => return decided,
        }
    }
    Err(missing)
}

fn look_at(path: &Path) -> Result<Found, Missing> {
    match std::fs::metadata(path) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Missing::NotFound)
        }
        Err(error) => return Err(Missing::NotRunnable(path.into(), zap_client::error::reason(&error))),
    }
    let inspection = match executable::inspect(path) {
        Ok(inspection) => inspection,
        Err(error) => {
            let why = if Path::new(&error.what) == path { error.why } else { format!("its interpreter {error}") };
            return Err(Missing::NotRunnable(path.into(), why));
        }
    };
    match inspection.kind.refusal() {
        None => Ok(Found { path: path.into(), inspection }),
        Some(why) if inspection.file == path => Err(Missing::NotRunnable(path.into(), why.into())),
        Some(why) => {
            let why = format!("its interpreter {} {why}", inspection.file.display());
            Err(Missing::NotRunnable(path.into(), why))
        }
    }
}

/// Whether execvp would go on searching after this file: it gives EACCES.
fn is_forbidden(path: &Path) -> bool {
    match executable::inspect(path) {
        Ok(inspection) => inspection.kind == Kind::NotExecutable && inspection.file == path,
        Err(_) => std::fs::metadata(path).is_err(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(path: &str) -> Option<OsString> {
        Some(path.into())
    }

    #[test]
    fn as_execvp_does() {
        assert_eq!(find(OsStr::new("true"), search("/nowhere:/bin")).unwrap().path, Path::new("/bin/true"));
        assert_eq!(find(OsStr::new("true"), None).unwrap().path, Path::new("/bin/true"));
        assert_eq!(find(OsStr::new("/bin/true"), search("")).unwrap().path, Path::new("/bin/true"));
        assert_eq!(find(OsStr::new(""), search("/bin")).unwrap_err(), Missing::NotFound);
        assert_eq!(find(OsStr::new("true"), search("/nowhere")).unwrap_err(), Missing::NotFound);
        assert_eq!(find(OsStr::new("/bin/true/x"), None).unwrap_err(), Missing::NotFound);
        // A directory of that name is passed over, and remembered when nothing else is found.
        assert!(matches!(find(OsStr::new("bin"), search("/usr:/")).unwrap_err(), Missing::NotRunnable(..)));
    }
}
