//! The files that lie whole beside the images: found and checked before anything is started.

use crate::image::Image;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zap_client::error::{reason, Error, Result};
use zap_client::{trusted, RuntimeDir};
use zap_image::kept::KeptName;
use zap_kept::Kept;

/// By device and inode at the checkpoint.
#[derive(Debug, Default)]
pub struct KeptFiles {
    files: BTreeMap<(u64, u64), Kept>,
}

impl KeptFiles {
    /// Opens those that the images need, and with `all` those of files that have a name too. Reads them whole if they are
    /// not known to be untouched, or with `verify` in any case.
    pub fn open(images: &[Image], runtime: Option<&RuntimeDir>, verify: bool, all: bool) -> Result<Self> {
        let mut files = BTreeMap::new();
        // One process tells of a file that it shares with others.
        let named = images.iter().flat_map(|image| image.header.open_files().files);
        let named: BTreeSet<(u64, u64)> = named.map(|file| (file.device, file.inode)).collect();
        for image in images {
            let kept = image.header.open_files().kept;
            for file in kept.into_iter().filter(|file| all || !named.contains(file)) {
                if files.contains_key(&file) {
                    continue;
                }
                let pod = &image.header.pod;
                let name = KeptName { pod_id: pod.id, generation: pod.generation, device: file.0, inode: file.1 };
                let path = image.path.parent().unwrap_or(Path::new("")).join(name.format());
                let kept = open_one(&path, name, runtime.filter(|_| !verify));
                files.insert(file, kept.map_err(|why| Error::new(path.display(), why))?);
            }
        }
        Ok(Self { files })
    }

    /// The file that was this one.
    pub fn get(&self, file: (u64, u64)) -> Option<&Kept> {
        self.files.get(&file)
    }
}

fn open_one(path: &Path, name: KeptName, runtime: Option<&RuntimeDir>) -> std::result::Result<Kept, String> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err("is missing: it belongs to the images, and is to lie beside them".into());
        }
        opened => opened.map_err(|error| reason(&error))?,
    };
    check_owner(&file)?;
    let is_untouched = runtime.is_some_and(|runtime| trusted::is_untouched(runtime, &file));
    let kept = Kept::open(file).map_err(|error| error.to_string())?;
    let head = &kept.head;
    if (head.pod_id, head.generation, head.device, head.inode)
        != (name.pod_id, name.generation, name.device, name.inode)
    {
        return Err("is not what it is called".into());
    }
    match is_untouched || kept.is_whole().map_err(|error| reason(&error))? {
        true => Ok(kept),
        false => Err("is damaged: its contents are not what was written".into()),
    }
}

/// Whoever else could have written it would decide what the program finds.
pub(crate) fn check_owner(file: &File) -> std::result::Result<(), String> {
    let metadata = file.metadata().map_err(|error| reason(&error))?;
    let user = zap_client::runtime::effective_user();
    if !metadata.is_file() {
        return Err("is not a regular file".into());
    }
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(format!("belongs to user {}, not used as user {user}", metadata.uid()));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err("anybody may write to it, not used; chmod o-w it".into());
    }
    Ok(())
}
