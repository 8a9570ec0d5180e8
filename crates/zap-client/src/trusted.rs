//! Which images are as the coordinator left them: a note per image with its size and change time (ctime).
//!
//! Nobody but root can set a file's ctime, so that an image which still matches its note has not been touched, and a
//! restart may map it without reading it first. A missing or damaged note costs a verification, nothing else.

use crate::error::{Error, Result};
use crate::runtime::RuntimeDir;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// Notes that `image` is whole and as it should be. To be called after its last rename, which changes the ctime.
pub fn note(runtime: &RuntimeDir, image: &File) -> Result<()> {
    let metadata = metadata(image)?;
    runtime.make_private(&runtime.trusted_dir())?;
    let path = path_of(runtime, &metadata);
    // A note that is half written does not match, which is safe.
    fs::write(&path, text_of(&metadata)).map_err(|error| Error::system(path.display(), "write", &error))
}

/// Whether `image` is as it was when it was noted.
pub fn is_untouched(runtime: &RuntimeDir, image: &File) -> bool {
    metadata(image).is_ok_and(|metadata| {
        fs::read_to_string(path_of(runtime, &metadata)).is_ok_and(|text| text == text_of(&metadata))
    })
}

/// Removes the note about `image`, if there is one.
pub fn forget(runtime: &RuntimeDir, image: &File) {
    if let Ok(metadata) = metadata(image) {
        let _ = fs::remove_file(path_of(runtime, &metadata));
    }
}

fn metadata(image: &File) -> Result<Metadata> {
    image.metadata().map_err(|error| Error::system("image", "fstat", &error))
}

fn path_of(runtime: &RuntimeDir, metadata: &Metadata) -> PathBuf {
    runtime.trusted_dir().join(format!("{:x}-{:x}", metadata.dev(), metadata.ino()))
}

fn text_of(metadata: &Metadata) -> String {
    format!("{} {}.{:09}\n", metadata.size(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch;
    use std::io::Write;

    #[test]
    fn a_touched_image_is_not_trusted() {
        let scratch = scratch();
        let runtime = RuntimeDir::at(&scratch.join("run")).unwrap();
        let mut image = File::create(scratch.join("image")).unwrap();
        image.write_all(b"whole").unwrap();
        assert!(!is_untouched(&runtime, &image));
        note(&runtime, &image).unwrap();
        assert!(is_untouched(&runtime, &image));
        image.write_all(b" and more").unwrap();
        assert!(!is_untouched(&runtime, &image));
        note(&runtime, &image).unwrap();
        forget(&runtime, &image);
        assert!(!is_untouched(&runtime, &image));
    }
}
