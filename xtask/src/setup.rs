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

/// Sources that tests compile: the crate they come from, which zap-tests names without ever building it, and the directory in
/// it.
const SOURCES: [(&str, &str, &str); 1] = [("bzip2", "bzip2-sys", "bzip2-1.0.8")];

/// Lays the sources that tests compile beside the built tests, since an ordinary user may not look into cargo's registry.
pub fn sources() -> Result<(), String> {
    let output =
        cargo(&["metadata", "--quiet", "--format-version", "1"]).output().map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = json["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (name, package, directory) in SOURCES {
        let found = packages.iter().find(|entry| entry["name"] == package);
        let manifest = found.and_then(|entry| entry["manifest_path"].as_str()).ok_or(format!("no crate {package}"))?;
        let target = built().join("sources").join(name);
        copy(&Path::new(manifest).with_file_name(directory), &target)
            .map_err(|error| format!("{}: {error}", target.display()))?;
    }
    Ok(())
}

/// Copies the files of a directory.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
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
