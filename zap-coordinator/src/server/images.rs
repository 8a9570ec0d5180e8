//! The images of one checkpoint as files: temporary ones first, and then all of them whole under their names, or none.

use super::contents::Contents;
use super::faults::Faults;
use super::head::{self, Failure};
use super::pack;
use crate::core::Kept;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zap_client::{trusted, Error, Result, RuntimeDir};
use zap_image::kept::{Head, KeptName};
use zap_image::name::ImageName;
use zap_image::tree::{Tree, TreeName};
use zap_image::{Header, Prelude};
use zap_wire::{fault, Compress};

/// The temporary images of a pod.
#[derive(Debug)]
pub struct Images {
    directory: PathBuf,
    files: Vec<Image>,
    kept: Vec<KeptFile>,
    /// In the names of the temporary files.
    random: u64,
}

/// A temporary file. Dropping it unlinks it.
#[derive(Debug)]
struct Image {
    /// 0 for what is no image.
    pid: i32,
    name: String,
    temporary: PathBuf,
    file: File,
}

impl Images {
    /// No images, in `directory`.
    pub fn none(directory: &str, random: u64) -> Self {
        Self { directory: directory.into(), files: Vec::new(), kept: Vec::new(), random }
    }

    /// The directory, and the random part of temporary names.
    pub fn place(&self) -> (&Path, u64) {
        (&self.directory, self.random)
    }

    /// Files that belong to the images.
    pub fn keep(&mut self, files: Vec<KeptFile>) {
        self.kept = files;
    }

    /// Makes a temporary file for each (pid, name) that has none, and removes all others.
    pub fn prepare(&mut self, images: &[(i32, String)]) -> Result<()> {
        self.files.retain(|image| images.iter().any(|(pid, name)| image.pid == *pid && image.name == *name));
        for (pid, name) in images {
            if self.file(*pid).is_none() {
                let (temporary, file) = Image::make(&self.directory, name, self.random)?;
                self.files.push(Image { pid: *pid, name: name.clone(), temporary, file });
            }
        }
        Ok(())
    }

    /// The file for the process `pid`.
    pub fn file(&self, pid: i32) -> Option<&File> {
        self.files.iter().find(|image| image.pid == pid).map(|image| &image.file)
    }

    /// Enters checksums of files into every image, compresses it if that is wanted, syncs it, gives all of them their names, and only then removes
    /// generations that are too old.
    pub fn commit(mut self, job: &Job, tools: &Tools) -> Result<Kept> {
        let Tools { runtime, faults, contents } = tools;
        let compress: Compress =
            job.compress.parse().map_err(|why| Error::new(format_args!("compression {:?}", job.compress), why))?;
        let directory = self.directory.clone();
        let mut bytes = 0;
        for image in &mut self.files {
            let failed = |why: Failure| Error::new(directory.join(&image.name).display(), why);
            let (prelude, mut header) = head::read(&image.file).map_err(failed)?;
            let changed = contents.enter(&mut header);
            if compress != Compress::None {
                image.pack((prelude, header), &directory, compress, self.random, faults)?;
            } else if changed {
                head::replace(&image.file, &prelude, &header).map_err(failed)?;
            }
            let metadata = image.file.metadata().map_err(|e| Error::system(image.temporary.display(), "fstat", &e))?;
            bytes += metadata.len();
        }
        // Before the images: a generation of which all images are there is complete.
        let mut kept = Vec::new();
        for KeptFile { image, holds } in self.kept.drain(..) {
            let failed = |error: std::io::Error| Error::system(directory.join(&image.name).display(), "write", &error);
            match holds {
                Holds::File(head) => zap_kept::finish(&image.file, head).map(drop),
                Holds::Tree(tree) => zap_kept::tree::finish(&image.file, tree),
            }
            .map_err(failed)?;
            // With holes, and blocks that are the original's too.
            bytes += image.file.metadata().map_err(failed)?.blocks() * 512;
            kept.push(image);
        }
        self.files.splice(0..0, kept);
        for image in &self.files {
            image.file.sync_all().map_err(|error| Error::system(image.temporary.display(), "fsync", &error))?;
        }
        let mut renamed: Vec<PathBuf> = Vec::new();
        for image in &self.files {
            let path = directory.join(&image.name);
            // A link and not a rename, which would replace what another life of the pod, under another coordinator, has
            // left under this name.
            if let Err(error) =
                fs::hard_link(&image.temporary, &path).or_else(|error| without_links(&error, image, &path))
            {
                // An incomplete generation must not stay.
                remove_all(&renamed);
                if error.kind() == ErrorKind::AlreadyExists {
                    let why =
                        "exists: another copy of this pod writes its images here; give one of them another --ckpt-dir";
                    return Err(Error::new(path.display(), why));
                }
                return Err(Error::system(path.display(), "link", &error));
            }
            let _ = fs::remove_file(&image.temporary);
            renamed.push(path);
        }
        if let Err(error) = sync(&directory, self.files.first().map(|image| &image.file)) {
            remove_all(&renamed);
            return Err(Error::system(directory.display(), "fsync", &error));
        }
        for image in self.files.drain(..) {
            // A missing note costs a verification at restart, nothing else.
            let _ = trusted::note(runtime, &image.file);
        }
        faults.stop_at(fault::COORDINATOR_RENAMED);
        remove_older(runtime, &directory, job);
        let is_image = |path: &&PathBuf| path.file_name().and_then(|name| ImageName::parse(name.to_str()?)).is_some();
        let images = renamed.iter().filter(is_image).map(|path| path.to_string_lossy().into_owned()).collect();
        Ok(Kept { images, bytes })
    }
}

impl Image {
    /// Makes a temporary file for an image of this name in `directory`.
    fn make(directory: &Path, name: &str, random: u64) -> Result<(PathBuf, File)> {
        let temporary = directory.join(format!(".{name}.tmp-{random:016x}"));
        let failed = |error: std::io::Error| Error::new(directory.display(), zap_client::error::reason(&error));
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&temporary).map_err(failed)?;
        // The umask may have taken bits that the owner needs.
        match file.set_permissions(Permissions::from_mode(0o600)) {
            Ok(()) => Ok((temporary, file)),
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                Err(failed(error))
            }
        }
    }

    /// Puts a compressed image into the place of the raw one, which is gone then.
    fn pack(
        &mut self,
        head: (Prelude, Header),
        directory: &Path,
        compress: Compress,
        random: u64,
        faults: &Faults,
    ) -> Result<()> {
        let (temporary, file) = Self::make(directory, &self.name, random.wrapping_add(1))?;
        let halfway = || faults.stop_at(fault::COORDINATOR_PACKING);
        if let Err(failure) = pack::pack(&self.file, head, &file, compress, halfway) {
            let _ = fs::remove_file(&temporary);
            let image = directory.join(&self.name);
            return Err(Error::new(image.display(), format_args!("compressing: {failure}")));
        }
        let raw = std::mem::replace(&mut self.temporary, temporary);
        self.file = file;
        fs::remove_file(&raw).map_err(|error| Error::system(raw.display(), "unlink", &error))
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// What is kept beside the images: a file, or the pod's own directories. Its head is still to be written.
#[derive(Debug)]
pub struct KeptFile {
    image: Image,
    holds: Holds,
}

/// What is kept, in the words of its head.
#[derive(Debug)]
pub enum Holds {
    File(Head),
    Tree(Tree),
}

impl KeptFile {
    /// Makes a temporary file for one of this name in `directory`, and has it filled.
    pub fn make(
        directory: &Path,
        name: &str,
        random: u64,
        fill: impl FnOnce(&File) -> std::io::Result<Holds>,
    ) -> std::result::Result<Self, String> {
        let (temporary, file) = Image::make(directory, name, random).map_err(|error| error.to_string())?;
        let image = Image { pid: 0, name: name.to_string(), temporary, file };
        let holds = fill(&image.file).map_err(|error| zap_client::error::reason(&error))?;
        Ok(Self { image, holds })
    }

    /// Device and inode, of a file.
    pub fn of(&self) -> Option<(u64, u64)> {
        match &self.holds {
            Holds::File(head) => Some((head.device, head.inode)),
            Holds::Tree(_) => None,
        }
    }
}

/// What all commits share.
#[derive(Clone, Debug)]
pub struct Tools {
    pub runtime: RuntimeDir,
    pub faults: Arc<Faults>,
    pub contents: Arc<Contents>,
}

/// Makes the names in `directory` last; `file` is one of them. A directory may be writable and not readable: then all of its file
/// system is synced.
fn sync(directory: &Path, file: Option<&File>) -> std::io::Result<()> {
    match (File::open(directory), file) {
        (Err(error), Some(file)) if error.kind() == ErrorKind::PermissionDenied => super::sync_file_system(file),
        (directory, _) => directory?.sync_all(),
    }
}

fn remove_all(paths: &[PathBuf]) {
    for path in paths {
        let _ = fs::remove_file(path);
    }
}

/// Gives an image its name where the file system has no links.
fn without_links(error: &std::io::Error, image: &Image, path: &Path) -> std::io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EOPNOTSUPP | libc::EMLINK) if !path.exists() => fs::rename(&image.temporary, path),
        _ => Err(std::io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
    }
}

/// A commit to be done.
#[derive(Debug)]
pub struct Job {
    pub pod: u64,
    pub generation: u32,
    pub keep: u32,
    /// As in the pod's settings.
    pub compress: String,
}

/// The image's name in the name of a temporary file.
pub fn image_of_temporary(name: &str) -> Option<&str> {
    name.strip_prefix('.')?.split_once(".tmp-").map(|(image, _)| image)
}

/// Pod and generation of what a checkpoint has left under `name`.
pub fn checkpoint_of(name: &str) -> Option<(u64, u32)> {
    let image = ImageName::parse(name).map(|image| (image.pod_id, image.generation));
    let kept = || KeptName::parse(name).map(|kept| (kept.pod_id, kept.generation));
    image.or_else(kept).or_else(|| TreeName::parse(name).map(|tree| (tree.pod_id, tree.generation)))
}

/// Removes the images of generations before the `keep` newest up to `job.generation`. Only this pod's own.
fn remove_older(runtime: &RuntimeDir, directory: &Path, job: &Job) {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        match name.to_str().and_then(checkpoint_of) {
            Some((pod, generation)) if pod == job.pod && generation < job.generation => {
                found.push((generation, entry.path()));
            }
            _ => {}
        }
    }
    for path in too_old(found, job.keep) {
        if let Ok(file) = File::open(&path) {
            trusted::forget(runtime, &file);
        }
        let _ = fs::remove_file(path);
    }
}

/// Those of the older images that are not among the `keep - 1` newest older generations.
fn too_old(mut found: Vec<(u32, PathBuf)>, keep: u32) -> Vec<PathBuf> {
    let mut generations: Vec<u32> = found.iter().map(|(generation, _)| *generation).collect();
    generations.sort_unstable_by(|a, b| b.cmp(a));
    generations.dedup();
    generations.truncate(keep.saturating_sub(1) as usize);
    found.retain(|(generation, _)| !generations.contains(generation));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names() {
        assert_eq!(image_of_temporary(".ckpt_a_1_2_3.zimg.tmp-ab"), Some("ckpt_a_1_2_3.zimg"));
        assert_eq!(image_of_temporary("ckpt_a_1_2_3.zimg"), None);
    }

    #[test]
    fn generations_kept_by_table() {
        let found = |numbers: &[u32]| numbers.iter().map(|n| (*n, PathBuf::from(n.to_string()))).collect::<Vec<_>>();
        let table: &[(&[u32], u32, &[&str])] = &[
            (&[], 1, &[]),
            (&[1], 1, &["1"]),
            (&[1], 2, &[]),
            (&[1, 3, 3, 4], 2, &["1", "3", "3"]),
            (&[1, 3, 3, 4], 3, &["1"]),
        ];
        for (numbers, keep, gone) in table {
            let gone: Vec<PathBuf> = gone.iter().map(PathBuf::from).collect();
            assert_eq!(too_old(found(numbers), *keep), gone, "{numbers:?} keep {keep}");
        }
    }
}
