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
    /// Exit status 127: the script, and which interpreter is not there. To exec(2) the script itself is not.
    NoInterpreter(PathBuf, String),
    /// Exit status 126: the file, and why it cannot be run.
    NotRunnable(PathBuf, String),
}

/// Finds `name`: a path if it holds a slash, else in the directories of `search`, which is the value of PATH. A file
/// that may not be executed is remembered, and the search goes on; so is a script without its interpreter.
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
                if !matches!(missing, Missing::NotRunnable(..)) {
                    missing = Missing::NotRunnable(path, why);
                }
            }
            Err(Missing::NotFound) => {}
            Err(without @ Missing::NoInterpreter(..)) => {
                if missing == Missing::NotFound {
                    missing = without;
                }
            }
            decided => return decided,
        }
    }
    Err(missing)
}

fn look_at(path: &Path) -> Result<Found, Missing> {
    match std::fs::metadata(path) {
        Ok(_) => {}
        Err(error) if is_missing(&error) => return Err(Missing::NotFound),
        Err(error) => return Err(Missing::NotRunnable(path.into(), zap_client::error::reason(&error))),
    }
    let inspection = match executable::inspect(path) {
        Ok(inspection) => inspection,
        Err(error) => {
            let file = Path::new(&error.what);
            if file == path {
                return Err(Missing::NotRunnable(path.into(), error.why));
            }
            let why = format!("its interpreter {error}");
            return Err(match std::fs::metadata(file) {
                Err(error) if is_missing(&error) => Missing::NoInterpreter(path.into(), why),
                _ => Missing::NotRunnable(path.into(), why),
            });
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

/// Whether nothing is there. A loop of links is something, as it is to exec.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
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
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

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

    #[test]
    fn a_script_without_its_interpreter_is_passed_over_and_remembered() {
        let scratch = std::env::temp_dir().join(format!("zap-launch-search-{}", std::process::id()));
        std::fs::create_dir_all(&scratch).unwrap();
        for (name, text) in [("true", "#!/no/such/interpreter\n"), ("zap-script", "#!/etc/passwd/sh\n")] {
            std::fs::write(scratch.join(name), text).unwrap();
            std::fs::set_permissions(scratch.join(name), Permissions::from_mode(0o755)).unwrap();
        }
        let directories = format!("{}:/bin", scratch.display());
        assert_eq!(find(OsStr::new("true"), search(&directories)).unwrap().path, Path::new("/bin/true"));
        let missing = find(OsStr::new("zap-script"), search(&directories)).unwrap_err();
        let Missing::NoInterpreter(path, why) = missing else { panic!("{missing:?}") };
        assert_eq!(path, scratch.join("zap-script"));
        assert_eq!(why, "its interpreter /etc/passwd/sh: not a directory");
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}
