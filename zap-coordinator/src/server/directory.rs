//! The runtime directory is looked at while pods run: whoever cleans up temporary files, or moves the directory away, takes
//! socket, lock and pod tables from programs that run on. They are made again under their old names, which every process
//! of a pod knows and no other.
//!
//! Looked at rather than watched (inotify(7)): a look misses nothing, and takes nothing that may be used up.

use super::{store, Server};
use crate::core::Millis;
use std::time::{Duration, Instant};
use zap_client::Result;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

impl Server {
    /// In how many milliseconds the next look is due.
    pub(super) fn directory_deadline(&self) -> Option<Millis> {
        let left = INTERVAL.saturating_sub(self.looked.elapsed());
        // Rounded up: a look a moment too early is none.
        (!self.tables.is_empty()).then(|| left.as_millis() as Millis + 1)
    }

    /// Looks for members that end without notice, and makes again what is missing in the runtime directory, if it is time
    /// to look.
    pub(super) fn look_after_directory(&mut self) {
        if self.tables.is_empty() || self.looked.elapsed() < INTERVAL {
            return;
        }
        self.looked = Instant::now();
        for pod in std::mem::take(&mut self.unwatched) {
            self.rescan(pod);
        }
        self.work();
        if !self.is_whole() {
            // What fails now (its parent is gone too) is tried again at the next look. The programs run on meanwhile.
            let _ = self.make_whole();
        }
    }

    fn is_whole(&self) -> bool {
        let is_there = |id: u64| store::is_recorded(&self.runtime, id);
        self.listener.is_in_place()
            && self.tables.iter().all(|(id, table)| table.is_at(&self.runtime.table_path(*id)) && is_there(*id))
    }

    fn make_whole(&mut self) -> Result<()> {
        // Whoever launched something in between has started another coordinator. That one ends when it is idle.
        if !self.listener.put_back()? {
            return Ok(());
        }
        self.runtime.make_private(&self.runtime.pods_dir())?;
        for (id, table) in &self.tables {
            let path = self.runtime.table_path(*id);
            if !table.is_at(&path) {
                table.put_back(&path)?;
            }
            if let Some(pod) = self.core.pod(*id) {
                store::record(&self.runtime, pod)?;
            }
        }
        // And may have been killed.
        self.adopt();
        Ok(())
    }
}
