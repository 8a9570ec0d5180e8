//! Control groups (cgroups(7), version 2 or 1), for tests that run as root.

use crate::case::{Doing, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Removed when it is dropped; processes that are in it then go to the one above.
#[derive(Debug)]
struct ControlGroup {
    directory: PathBuf,
}

/// One whose memory is limited.
#[derive(Debug)]
pub struct MemoryGroup {
    group: ControlGroup,
    /// The file of its limit, and what this says when there is none.
    limit: (&'static str, &'static str),
}

/// One for all tests' processor time, beside the sessions outside.
///
/// Where it is, Linux makes no groups of its own of the sessions in it (autogroup, sched(7)). Linux 6.18 may leave a process
/// that is alone in its group, and could run, without a processor for tens of seconds (mended by "sched/fair: Fix
/// `zero_vruntime` tracking", Linux 7.0): a coordinator is alone in its session.
#[derive(Debug)]
pub struct ProcessorGroup {
    #[expect(dead_code, reason = "held until it is dropped")]
    group: ControlGroup,
}

impl ControlGroup {
    /// A new one below `above`; nothing where the kernel has none for whoever runs the tests. In version 2 the file is there
    /// only if its controller has been delegated.
    fn make(above: &str, file: &str) -> Option<Self> {
        let directory = Path::new(above).join(format!("zap-tests-{}", std::process::id()));
        fs::create_dir(&directory).ok()?;
        let group = Self { directory };
        group.directory.join(file).exists().then_some(group)
    }

    fn add(&self, pid: i32) -> Result {
        fs::write(self.directory.join("cgroup.procs"), pid.to_string()).doing(format!("adding {pid} to a group"))
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let above = self.directory.with_file_name("cgroup.procs");
        let own = fs::read_to_string(self.directory.join("cgroup.procs")).unwrap_or_default();
        for pid in own.lines() {
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

impl MemoryGroup {
    /// A new one without limit.
    pub fn make() -> Option<Self> {
        let kinds =
            [("/sys/fs/cgroup", ("memory.max", "max")), ("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "-1"))];
        kinds.into_iter().find_map(|(above, limit)| Some(Self { group: ControlGroup::make(above, limit.0)?, limit }))
    }

    pub fn add(&self, pid: i32) -> Result {
        self.group.add(pid)
    }

    /// Limits its memory to so many bytes, or not any more.
    pub fn limit(&self, bytes: Option<u64>) -> Result {
        let text = bytes.map_or(self.limit.1.to_string(), |bytes| bytes.to_string());
        fs::write(self.group.directory.join(self.limit.0), text).doing("limiting a group")
    }
}

impl ProcessorGroup {
    /// Takes this process into a new one, and with it all that it starts.
    pub fn enter() -> Option<Self> {
        let kinds = [("/sys/fs/cgroup", "cpu.weight"), ("/sys/fs/cgroup/cpu", "cpu.shares")];
        let group = kinds.into_iter().find_map(|(above, file)| ControlGroup::make(above, file))?;
        group.add(0).ok()?;
        Some(Self { group })
    }
}
