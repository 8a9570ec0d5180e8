//! The place where the tests of one run happen: a temporary directory with a copy of Zap, the built programs and their
//! sources, readable by every user, since the working tree may lie where an ordinary user may not look.
//!
//! ```text
//! dist/bin, dist/lib/zap   Zap, laid out as it is installed
//! sources/                 tests/programs, tests/jobs, and what `cargo xtask test` has laid beside the binaries
//! programs/                what was built
//! plain/                   what plain runs printed, for comparison
//! scenes/                  one directory per test
//! ```

use crate::manifest::{Build, Manifest, Program};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The user whom programs run as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Whoever runs the tests.
    Own,
    /// nobody, if root runs the tests.
    Nobody,
}

/// User and group id of nobody on Debian.
pub const NOBODY: u32 = 65534;

/// What of Zap is copied, and where to.
const BINARIES: [&str; 5] = ["zap-launch", "zap-command", "zap-coordinator", "zap-restart", "zap-image"];
const LIBRARIES: [&str; 2] = ["libzap.so", "libzap_restorer.so"];

pub struct Place {
    pub root: PathBuf,
    /// The source directory `tests`.
    pub tests: PathBuf,
    pub manifest: Manifest,
}

impl Place {
    /// An existing place.
    pub fn open(root: &Path, tests: &Path) -> Result<Self, String> {
        Ok(Self { root: root.to_path_buf(), tests: tests.to_path_buf(), manifest: Manifest::read(tests)? })
    }

    /// Makes a place below the temporary directory from the binaries in `built`.
    pub fn create(tests: &Path, built: &Path) -> Result<Self, String> {
        let root = std::env::temp_dir().join(format!("zap-tests-{}", std::process::id()));
        let place = Self::open(&root, tests)?;
        place.fill(built).map_err(|error| format!("{}: {error}", root.display()))?;
        Ok(place)
    }

    fn fill(&self, built: &Path) -> std::io::Result<()> {
        fs::create_dir(&self.root)?;
        for name in ["dist", "dist/bin", "dist/lib", "dist/lib/zap", "sources", "programs", "scenes", "plain"] {
            fs::create_dir(self.root.join(name))?;
        }
        for name in BINARIES {
            copy(&built.join(name), &self.tool(name))?;
        }
        for name in LIBRARIES {
            copy(&built.join(name), &self.root.join("dist/lib/zap").join(name))?;
        }
        for name in ["programs", "programs/java", "jobs", "jobs/java"] {
            let target = self.root.join("sources").join(name);
            fs::create_dir_all(&target)?;
            for entry in fs::read_dir(self.tests.join(name))? {
                let entry = entry?;
                if entry.file_type()?.is_file() {
                    copy(&entry.path(), &target.join(entry.file_name()))?;
                }
            }
        }
        let laid = built.join("sources");
        if laid.is_dir() {
            copy_directory(&laid, &self.root.join("sources"))?;
        }
        for name in ["", "dist", "dist/bin", "dist/lib", "dist/lib/zap", "sources", "programs", "scenes", "plain"] {
            fs::set_permissions(self.root.join(name), Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    /// Path of a tool of Zap.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.root.join("dist/bin").join(name)
    }

    /// Path of what is built for `name`.
    pub fn built(&self, name: &str) -> PathBuf {
        self.root.join("programs").join(name)
    }

    /// Path of the copy of a source.
    pub fn source(&self, program: &Program) -> PathBuf {
        self.root.join("sources").join(program.source.as_deref().unwrap_or_default())
    }

    /// Builds all programs, two at a time; returns what failed. A missing compiler is not a failure here: the tests
    /// of what it would have built say so.
    pub fn build_programs(&self) -> Vec<String> {
        let queue = Mutex::new(self.manifest.program.iter());
        let failures = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| loop {
                    let next = queue.lock().ok().and_then(|mut queue| queue.next());
                    let Some(program) = next else { break };
                    if let (Err(why), Ok(mut failures)) = (self.build(program), failures.lock()) {
                        failures.push(format!("{}: {why}", program.name));
                    }
                });
            }
        });
        failures.into_inner().unwrap_or_default()
    }

    fn build(&self, program: &Program) -> Result<(), String> {
        let (source, target) = (self.source(program), self.built(&program.name));
        let mut command = match program.build {
            Build::None => return Ok(()),
            Build::C => Command::new("gcc"),
            Build::Cpp => Command::new("g++"),
            Build::Rust => Command::new("rustc"),
            Build::Java => Command::new("javac"),
        };
        match program.build {
            Build::Java => command.arg("-d"),
            Build::Rust => command.args(["-O", "-o"]),
            _ => command.args(["-Wall", "-Wextra", "-O2", "-o"]),
        };
        command.arg(&target).arg(&source).args(&program.link).stdin(Stdio::null());
        match command.output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            // A compiler that only another user may run is none.
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied) =>
            {
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Removes everything.
    pub fn remove(&self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::copy(from, to).map_err(|error| std::io::Error::new(error.kind(), format!("{}: {error}", from.display())))?;
    let executable = fs::metadata(from)?.permissions().mode() & 0o111 != 0;
    fs::set_permissions(to, Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
}
