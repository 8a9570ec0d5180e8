//! Directories of the checkpoint that are elsewhere now (`--map OLD=NEW`): what zap-restart itself opens is looked for there.

use zap_image::header::bytes::Bytes;
use zap_image::header::OpenFile;
use zap_image::Header;
use zap_wire::restart::{path_now, Moved};

/// Reads `OLD=NEW`: two absolute paths, of which the first has no `=`.
pub fn parse(text: &str) -> Result<Moved, String> {
    let absolute = |path: &str| {
        let path = path.strip_suffix('/').unwrap_or(path);
        (path.starts_with('/') || path.is_empty()).then(|| path.as_bytes().to_vec())
    };
    match text.split_once('=') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => {
            let (from, to) = absolute(from).zip(absolute(to)).ok_or("both must be absolute paths")?;
            Ok(Moved { from, to })
        }
        _ => Err("is not OLD=NEW".into()),
    }
}

/// Changes the paths in a header: of the executable, and of what is mapped.
pub fn apply(moved: &[Moved], header: &mut Header) {
    change(moved, &mut header.process.executable);
    header.files.iter_mut().for_each(|file| change(moved, &mut file.path));
    header.objects.iter_mut().for_each(|object| change(moved, &mut object.path));
}

/// A file that was open, where it is now.
pub fn open_file(moved: &[Moved], file: OpenFile) -> OpenFile {
    let mut file = file;
    change(moved, &mut file.path);
    file
}

fn change(moved: &[Moved], path: &mut Bytes) {
    if let Some(now) = path_now(moved, &path.0) {
        path.0 = now;
    }
}
