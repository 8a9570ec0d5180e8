//! `manifest.toml`: the programs, how each is built and run, and what it must do. README.md says what the keys mean.

use serde::Deserialize;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    State,
    Job,
    Refused,
    Confined,
    Helper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Build {
    C,
    Cpp,
    Rust,
    Java,
    None,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    pub name: String,
    pub kind: Kind,
    pub source: Option<String>,
    pub build: Build,
    #[serde(default)]
    pub link: Vec<String>,
    #[serde(default)]
    pub prepare: Vec<String>,
    pub prepare_output: Option<String>,
    #[serde(default)]
    pub run: Vec<String>,
    pub stdin: Option<String>,
    #[serde(default)]
    pub status: i32,
    pub message: Option<String>,
    #[serde(default)]
    pub outputs: Vec<String>,
    #[serde(default)]
    pub packages: Vec<String>,
    /// Why a clone cannot run beside the living original; empty if it can.
    #[serde(default)]
    pub alone: String,
    /// Huge pages that the host sets aside while it runs; only root can make it do so.
    #[serde(default)]
    pub huge_pages: u64,
    /// The only roads that it takes; empty for all.
    #[serde(default)]
    pub roads: Vec<String>,
    /// Root shows what nobody else can: all roads are taken as root, also in a short run.
    #[serde(default)]
    pub of_root: bool,
    /// Runs in `--long` only.
    #[serde(default)]
    pub long: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub program: Vec<Program>,
}

impl Manifest {
    /// Reads the manifest in `tests`, the source directory.
    pub fn read(tests: &Path) -> Result<Self, String> {
        let path = tests.join("manifest.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    pub fn find(&self, name: &str) -> Option<&Program> {
        self.program.iter().find(|program| program.name == name)
    }
}
