//! A control group whose memory is limited, of version 2 or 1, for tests that run as root.

use crate::case::{Doing, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Removed when it is dropped; processes that are in it then go to the one above.
#[derive(Debug)]
pub struct MemoryGroup {
    directory: PathBuf,
    /// The file of its limit, and what this says when there is none.
    limit: (&'static str, &'static str),
}

impl MemoryGroup {
    /// A new one without limit; nothing where the kernel has none for whoever runs the tests.
    pub fn make() -> Option<Self> {
        let kinds =
            [("/sys/fs/cgroup", ("memory.max", "max")), ("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "-1"))];
        kinds.into_iter().find_map(|(above, limit)| {
            let directory = Path::new(above).join(format!("zap-tests-{}", std::process::id()));
            fs::create_dir(&directory).ok()?;
            let group = Self { directory, limit };
            // In version 2 it is there only if memory has been delegated.
            group.directory.join(limit.0).exists().then_some(group)
        })
    }

    pub fn add(&self, pid: i32) -> Result {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).doing(format!("adding {pid} to a group"))
    }

    /// Limits its memory to so many bytes, or not any more.
    pub fn limit(&self, bytes: Option<u64>) -> Result {
        let text = bytes.map_or(self.limit.1.to_string(), |bytes| bytes.to_string());
        fs::write(self.directory.join(self.limit.0), text).doing("limiting a group")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let above = self.directory.with_file_name("cgroup.procs");
        let own = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in own.lines() {
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.directory);
    }
}
