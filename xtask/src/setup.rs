//! What must be there before anything can run: Debian packages, and a build of Zap.

use crate::processes;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace's directory.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where release builds are.
pub fn built() -> PathBuf {
    // xtask itself is one of them.
    let own = std::env::current_exe().unwrap_or_default();
    own.parent().map(Path::to_path_buf).unwrap_or_default()
}

/// cargo in the workspace, quiet about what it builds.
pub fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(words).stdin(Stdio::null());
    command
}

/// Builds everything in release.
pub fn build() -> Result<(), String> {
    println!("build: cargo build --release --workspace");
    let status =
        cargo(&["build", "--quiet", "--release", "--workspace"]).status().map_err(|error| error.to_string())?;
    if status.success() {
        Ok(())
    } else {
        Err("the build failed".to_string())
    }
}

/// Names in a list of packages.
pub fn listed() -> Vec<String> {
    let text = fs::read_to_string(workspace().join("tests/packages.txt")).unwrap_or_default();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_string).collect()
}

/// Which of `packages` dpkg does not know as installed; none where there is no dpkg.
pub fn missing(packages: &[String]) -> Vec<String> {
    let Ok(status) = fs::read_to_string("/var/lib/dpkg/status") else { return Vec::new() };
    let installed = |package: &String| {
        status.split("\n\n").any(|entry| {
            entry.lines().any(|line| line.strip_prefix("Package: ") == Some(package))
                && entry.lines().any(|line| line == "Status: install ok installed")
        })
    };
    packages.iter().filter(|package| !installed(package)).cloned().collect()
}

/// Installs missing packages if it can, otherwise names them.
pub fn packages(packages: &[String]) {
    let absent = missing(packages);
    if absent.is_empty() {
        return;
    }
    let line = absent.join(" ");
    if !processes::is_root() {
        println!("packages: not installed, what needs them is skipped (as root: apt-get install {line})");
        return;
    }
    println!("packages: installing {line}");
    apt(&["update"]);
    let mut words = vec!["install", "--yes", "--no-install-recommends"];
    words.extend(absent.iter().map(String::as_str));
    apt(&words);
    let left = missing(packages);
    if !left.is_empty() {
        println!("packages: could not be installed, what needs them is skipped: {}", left.join(" "));
    }
}

fn apt(words: &[&str]) {
    let mut command = Command::new("apt-get");
    command.arg("-qq").args(words).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => {}
        Ok(status) => println!("packages: apt-get {}: {status}", words[0]),
        Err(error) => println!("packages: apt-get: {error}"),
    }
}
