//! Memory that several processes of the pod share, or that is a file without a name which they have open: each object is
//! made here, filled from whichever images hold its contents, and opened by all who have it.
//!
//! The descriptors stay this process's: others reach them by /proc, so that they lose none of their own.

use crate::image::Image;
use crate::objects::objects;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use zap_client::error::{reason, Error, Result};
use zap_image::header::flags;
use zap_image::{Backing, Header, SharedObject};

/// Bytes that are copied in one go.
const PART: u64 = 1 << 20;

/// Objects of which a region cannot be made writable.
fn read_only(header: &Header) -> impl Iterator<Item = (u64, u64)> + '_ {
    let number = |region: &zap_image::Region| match region.backing {
        Backing::Shared { object, .. } if region.flags & flags::READ_ONLY != 0 => Some(object as usize),
        _ => None,
    };
    header.regions.iter().filter_map(number).filter_map(|number| header.objects.get(number)).map(key)
}

/// The objects that more than one process has, those that are open files, and those that not everybody may write to.
#[derive(Debug, Default)]
pub struct Commons {
    made: BTreeMap<(u64, u64), File>,
}

fn key(object: &SharedObject) -> (u64, u64) {
    (object.device, object.inode)
}

impl Commons {
    /// Makes them, with their contents.
    pub fn make(images: &[Image]) -> Result<Self> {
        // What nobody may write to cannot be a second mapping of anonymous memory.
        let read_only: BTreeSet<(u64, u64)> = images.iter().flat_map(|image| read_only(&image.header)).collect();
        let mut seen: BTreeSet<(u64, u64)> = BTreeSet::new();
        let mut commons = Self::default();
        for object in images.iter().flat_map(|image| &image.header.objects) {
            let is_first = seen.insert(key(object));
            let is_open = !object.path.0.is_empty();
            if (is_open || !is_first || read_only.contains(&key(object))) && !commons.made.contains_key(&key(object)) {
                let file = if is_open { nameless_file(&object.path.0)? } else { new_memory()? };
                commons.made.insert(key(object), file);
            }
        }
        images.iter().try_for_each(|image| commons.fill(image))?;
        Ok(commons)
    }

    /// Takes in what an image holds of them.
    fn fill(&self, image: &Image) -> Result<()> {
        for object in objects(&image.header) {
            let known = image.header.objects.get(object.number as usize).and_then(|known| self.made.get(&key(known)));
            let Some(file) = known else { continue };
            let failed = |error: std::io::Error| Error::new("shared memory", reason(&error));
            if file.metadata().map_err(failed)?.len() < object.range.end {
                file.set_len(object.range.end).map_err(failed)?;
            }
            for extent in &object.contents {
                let mut done = 0;
                while done < extent.length {
                    let mut part = vec![0; (extent.length - done).min(PART) as usize];
                    let from = image.extents_start + extent.offset + done;
                    let unreadable = |error: std::io::Error| Error::new(image.path.display(), reason(&error));
                    image.file.read_exact_at(&mut part, from).map_err(unreadable)?;
                    file.write_all_at(&part, extent.address + done).map_err(failed)?;
                    done += part.len() as u64;
                }
            }
        }
        Ok(())
    }

    /// The file that stands for an object.
    pub fn file(&self, device: u64, inode: u64) -> Option<&File> {
        self.made.get(&(device, inode))
    }

    /// For each object of `image`, where it is found if others have it too.
    pub fn paths(&self, image: &Image) -> Vec<Option<PathBuf>> {
        let path = |file: &File| PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()));
        image.header.objects.iter().map(|object| self.made.get(&key(object)).map(path)).collect()
    }
}

/// A file that never gets a name, where one was that had `path`.
fn nameless_file(path: &[u8]) -> Result<File> {
    crate::start::nameless_file(path).map_err(|error| {
        let why = reason(&std::io::Error::from_raw_os_error(error.errno.0));
        Error::new(String::from_utf8_lossy(path), format_args!("cannot be made again: {why}"))
    })
}

fn new_memory() -> Result<File> {
    let failed = |error: zap_sys::SysError| Error::new("shared memory", error);
    crate::start::memory_file(c"zap-shared").map_err(failed)
}
