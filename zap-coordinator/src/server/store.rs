//! What is kept of pods on disk, so that a new coordinator can take them over: table and metadata, side by side.

use crate::core::{Pod, PodState};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use zap_client::{Error, MappedTable, Result, RuntimeDir};
use zap_image::name::ImageName;
use zap_wire::environment::TABLE_SUFFIX;
use zap_wire::message::{CheckpointRecord, PodSettings};
use zap_wire::private::{Directory, Private};

/// Metadata of a pod, in `<id>.pod`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Metadata {
    name: String,
    settings: PodSettings,
    generation: u32,
    last: Option<CheckpointRecord>,
    /// The pod's first process, 0 if that is not known; and how it has ended.
    first: i32,
    ended: Option<i32>,
}

/// Writes the metadata of a pod, whole or not at all.
pub fn record(runtime: &RuntimeDir, pod: &Pod) -> Result<()> {
    let metadata = Metadata {
        name: pod.name.clone(),
        settings: pod.settings.clone(),
        generation: pod.generation,
        last: pod.last.clone(),
        first: pod.first,
        ended: pod.ended,
    };
    let path = metadata_path(runtime, pod.id);
    let bytes = zap_wire::encode(&metadata).map_err(|why| Error::new(path.display(), why))?;
    let temporary = path.with_extension("pod.new");
    let failed = |call: &'static str| move |error: std::io::Error| Error::system(temporary_name(pod.id), call, &error);
    let options = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary);
    options.map_err(failed("open"))?.write_all(&bytes).map_err(failed("write"))?;
    fs::rename(&temporary, &path).map_err(failed("rename"))
}

/// Whether the metadata of a pod are there.
pub fn is_recorded(runtime: &RuntimeDir, id: u64) -> bool {
    metadata_path(runtime, id).exists()
}

/// Removes everything of a pod, but for what its own directories hold, whose path is returned.
pub fn remove(runtime: &RuntimeDir, id: u64) -> Option<PathBuf> {
    let private = read(runtime, id).map(|metadata| metadata.settings.private).filter(|private| !private.is_empty());
    let _ = fs::remove_file(runtime.table_path(id));
    let _ = fs::remove_file(metadata_path(runtime, id));
    private.map(|private| runtime.store_path(private.store))
}

fn read(runtime: &RuntimeDir, id: u64) -> Option<Metadata> {
    zap_wire::decode(&fs::read(metadata_path(runtime, id)).ok()?).ok()
}

/// Removes the stores that nobody holds: those of launches and coordinators that were killed.
pub fn remove_left_behind(runtime: &RuntimeDir) {
    for entry in fs::read_dir(runtime.stores_dir()).into_iter().flatten().flatten() {
        if let Some(gone) = zap_client::store::put_away_unheld(&entry.path()) {
            let _ = zap_kept::tree::remove(&gone);
        }
    }
}

/// Every pod in the runtime directory that is not `known`, with its table. What is no table is removed.
pub fn scan(runtime: &RuntimeDir, now: u64, known: impl Fn(u64) -> bool) -> Vec<(Pod, MappedTable)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(runtime.pods_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_suffix(TABLE_SUFFIX)) else { continue };
        let Some(id) = u64::from_str_radix(id, 16).ok().filter(|id| !known(*id)) else { continue };
        let table = match MappedTable::open(&entry.path()) {
            Ok(table) => table,
            Err(_) => {
                let _ = remove(runtime, id);
                continue;
            }
        };
        found.push((adopt(id, read(runtime, id), &table, now), table));
    }
    found
}

/// Removes what a coordinator that was killed has left in a pod's image directory.
pub fn clean(pod: &Pod) {
    for entry in fs::read_dir(&pod.settings.ckpt_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let image = name.to_str().and_then(super::images::image_of_temporary);
        if image.and_then(super::images::checkpoint_of).is_some_and(|(id, _)| id == pod.id) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A pod as another coordinator has left it. Metadata that is lost is made up from the processes.
fn adopt(id: u64, metadata: Option<Metadata>, table: &MappedTable, now: u64) -> Pod {
    let metadata = metadata.unwrap_or_else(|| {
        let first = table.members().next().map(|(pid, _)| pid.0);
        let directory = first.and_then(|pid| fs::read_link(format!("/proc/{pid}/cwd")).ok()).unwrap_or("/".into());
        let settings = PodSettings {
            ckpt_dir: directory.to_string_lossy().into_owned(),
            interval: 0,
            keep: 1,
            compress: "none".into(),
            signal: table.signal.load(std::sync::atomic::Ordering::Relaxed),
            snapshot_files: false,
            private: private_of(table),
        };
        let name = first.map(super::process::name).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("{id:016x}"));
        Metadata { name, settings, generation: 0, last: None, first: 0, ended: None }
    });
    let mut pod = Pod::new(id, metadata.name, metadata.settings, now);
    pod.state = PodState::Running;
    // The other coordinator may have ended between the rename and its note of it.
    pod.generation = metadata.generation.max(newest_generation(Path::new(&pod.settings.ckpt_dir), id));
    pod.last = metadata.last;
    pod.first = metadata.first;
    pod.ended = metadata.ended;
    pod
}

/// The pod's own directories, as its table tells.
fn private_of(table: &MappedTable) -> Private {
    let text: Vec<u8> = table.private().collect();
    let Some((by, store, root, paths)) = zap_wire::private::decode(&text) else { return Private::default() };
    let number = store.rsplit(|c| *c == b'/').next().and_then(|name| std::str::from_utf8(name).ok());
    let store = number.and_then(|name| u64::from_str_radix(name, 16).ok()).unwrap_or(0);
    let directories = paths.map(|path| Directory { path: path.to_vec(), copied: false }).collect();
    Private { by, store, directories, root: root.map(<[u8]>::to_vec) }
}

fn newest_generation(directory: &Path, id: u64) -> u32 {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let images = names.filter_map(|name| ImageName::parse(name.to_str()?)).filter(|image| image.pod_id == id);
    images.map(|image| image.generation).max().unwrap_or(0)
}

fn metadata_path(runtime: &RuntimeDir, id: u64) -> PathBuf {
    runtime.pods_dir().join(format!("{id:016x}.pod"))
}

fn temporary_name(id: u64) -> String {
    format!("{id:016x}.pod.new")
}
