//! Where Zap's own files are: beside the running tool, or in `../lib/zap/` as seen from it.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The library that is preloaded into programs.
pub const LIBRARY: &str = "libzap.so";
/// The library that takes over a program at restart.
pub const RESTORER: &str = "libzap_restorer.so";
/// The coordinator's executable.
pub const COORDINATOR: &str = "zap-coordinator";

/// The path of `name`, which is one of this module's constants.
pub fn find(name: &str) -> Result<PathBuf> {
    if let Some(path) = crate::namespaces::library().map(|directory| directory.join(name)) {
        return Ok(path);
    }
    let own = std::env::current_exe().map_err(|error| Error::system("/proc/self/exe", "readlink", &error))?;
    find_from(&own, name)
}

/// The path of `libzap.so`.
pub fn library() -> Result<PathBuf> {
    find(LIBRARY)
}

/// The path of `libzap_restorer.so`.
pub fn restorer() -> Result<PathBuf> {
    find(RESTORER)
}

/// The path of `zap-coordinator`.
pub fn coordinator() -> Result<PathBuf> {
    find(COORDINATOR)
}

fn find_from(own: &Path, name: &str) -> Result<PathBuf> {
    let beside = own.parent().unwrap_or(Path::new("/"));
    let library = beside.parent().map(|parent| parent.join("lib/zap"));
    // A test's executable stands in target/<profile>/deps, its tools one level up.
    let above = beside.ends_with("deps").then(|| beside.parent().map(Path::to_path_buf)).flatten();
    let places = [Some(beside.to_path_buf()), library, above];
    let found = places.iter().flatten().map(|place| place.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        let why = format!("not found beside {} nor in ../lib/zap; is Zap installed completely?", own.display());
        Error::new(name, why)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch;
    use std::fs;

    #[test]
    fn beside_first_then_lib() {
        let scratch = scratch();
        fs::create_dir_all(scratch.join("bin")).unwrap();
        fs::create_dir_all(scratch.join("lib/zap")).unwrap();
        let own = scratch.join("bin/zap-launch");
        assert!(find_from(&own, LIBRARY).is_err());
        fs::write(scratch.join("lib/zap/libzap.so"), "").unwrap();
        assert_eq!(find_from(&own, LIBRARY).unwrap(), scratch.join("lib/zap/libzap.so"));
        fs::write(scratch.join("bin/libzap.so"), "").unwrap();
        assert_eq!(find_from(&own, LIBRARY).unwrap(), scratch.join("bin/libzap.so"));
    }
}
