//! The project against its own word: crates against the map in ARCHITECTURE.md, README's table against the tests.

use crate::case::{failed, skipped, Case, Result};
use crate::ensure;
use crate::scene::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new("project/arrows", arrows).order(0),
        Case::new("project/readme", readme).order(0),
        Case::new("project/manifest", manifest).order(0),
        Case::new("project/libraries", libraries).order(0),
    ]
}

/// From above to below.
const LAYERS: [&str; 5] = ["outside", "root", "mechanism", "contract", "ground"];

/// What the map says of a crate.
struct Row {
    /// Index into [`LAYERS`].
    layer: usize,
    uses: BTreeSet<String>,
}

fn arrows(scene: &Scene) -> Result {
    let root = scene.place.tests.join("..");
    let written = read_map(&fs::read_to_string(root.join("ARCHITECTURE.md"))?);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let Ok(output) = Command::new(cargo).args(words).current_dir(&root).output() else {
        return skipped("there is no cargo for this user");
    };
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = match serde_json::from_slice(&output.stdout) {
        Ok(json) => json,
        Err(error) => return failed(format!("cargo metadata: {error}")),
    };
    let empty = Vec::new();
    let packages = json["packages"].as_array().unwrap_or(&empty);
    let names: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut differences = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let used: BTreeSet<String> = package["dependencies"]
            .as_array()
            .unwrap_or(&empty)
            .iter()
            .filter(|dependency| dependency["kind"] != "dev")
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|dependency| names.contains(dependency))
            .map(str::to_string)
            .collect();
        match written.get(name) {
            None => differences.push(format!("{name} is not on the map")),
            Some(row) => {
                for more in used.difference(&row.uses) {
                    differences.push(format!("{name} uses {more}, which the map does not have"));
                }
                for less in row.uses.difference(&used) {
                    differences.push(format!("the map has an arrow from {name} to {less}, which {name} does not use"));
                }
            }
        }
    }
    for (name, row) in &written {
        for below in &row.uses {
            if written.get(below).is_some_and(|below| below.layer <= row.layer) {
                differences.push(format!("the arrow from {name} to {below} does not point downwards"));
            }
        }
    }
    for name in written.keys().filter(|name| !names.contains(name.as_str())) {
        differences.push(format!("{name} is on the map, but there is no such crate"));
    }
    ensure!(differences.is_empty(), "{}", differences.join("; "));
    Ok(())
}

/// The rows `| crate | layer | uses |`.
fn read_map(text: &str) -> BTreeMap<String, Row> {
    let mut map = BTreeMap::new();
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let layer = cells.get(2).and_then(|word| LAYERS.iter().position(|layer| layer == word));
        if let (Some(layer), Some(used)) = (layer, cells.get(3)) {
            let uses = used.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_string).collect();
            map.insert(cells[1].to_string(), Row { layer, uses });
        }
    }
    map
}

/// Every row of README's table of what works names tests that exist: `state/pipes` stands for all below it.
fn readme(scene: &Scene) -> Result {
    let text = fs::read_to_string(scene.place.tests.join("../README.md"))?;
    let names = match crate::runner::names(&scene.place.tests) {
        Ok(names) => names,
        Err(why) => return failed(why),
    };
    let rows = text.split_once("## What works").map_or("", |(_, rest)| rest);
    let rows = rows.split_once("\n## ").map_or(rows, |(rows, _)| rows);
    let mut count = 0;
    for line in rows.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        ensure!(cells.len() == 4, "a row of the table has not two cells: {line}");
        count += 1;
        let tests: Vec<&str> = cells[2].split('`').skip(1).step_by(2).collect();
        ensure!(!tests.is_empty(), "a row names no test: {line}");
        for test in tests {
            let known = names.iter().any(|name| name == test || name.starts_with(&format!("{test}/")));
            ensure!(known, "README names the test {test}, which does not exist");
        }
    }
    ensure!(count >= 10, "README's table of what works has {count} rows");
    Ok(())
}

/// Packages that programs need are in packages.txt; names are unique.
fn manifest(scene: &Scene) -> Result {
    let listed = fs::read_to_string(scene.place.tests.join("packages.txt"))?;
    let mut names = BTreeSet::new();
    for program in &scene.place.manifest.program {
        ensure!(names.insert(&program.name), "{} is in the manifest twice", program.name);
        for package in &program.packages {
            ensure!(listed.lines().any(|line| line == package), "packages.txt lacks {package} for {}", program.name);
        }
    }
    Ok(())
}

/// The newest version of glibc's that libzap.so may need, and so every program under Zap: that of what is built on Debian 12.
const NEWEST_GLIBC: (u32, u32) = (2, 34);

/// What the loader does for the preloaded libraries, by what readelf(1) says of them: they are bound whole before the program's
/// first call, need nothing but libc, take no lock and no memory for variables of a thread, and change no code.
fn libraries(scene: &Scene) -> Result {
    let readelf = |name: &str| -> Result<String> {
        let path = scene.place.root.join("dist/lib/zap").join(name);
        let Ok(output) = Command::new("readelf").args(["-dlW", "--dyn-syms"]).arg(path).output() else {
            return skipped("no readelf");
        };
        ensure!(output.status.success(), "readelf {name}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (libzap, restorer) = (readelf("libzap.so")?, readelf("libzap_restorer.so")?);
    for (name, said, needed) in [("libzap.so", &libzap, &["libc.so.6"][..]), ("libzap_restorer.so", &restorer, &[])] {
        let flags: Vec<&str> = said.lines().filter(|line| line.contains("(FLAGS")).collect();
        ensure!(flags.iter().any(|line| line.contains("NOW")), "{name} is not bound at once: {flags:?}");
        ensure!(!said.contains("TEXTREL"), "{name} changes its code");
        let stack = said.lines().find(|line| line.contains("GNU_STACK")).unwrap_or_default();
        ensure!(stack.contains(" RW "), "{name} wants a stack that can be executed: {stack:?}");
        let seen: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("(NEEDED)"))
            .filter_map(|line| line.split(['[', ']']).nth(1))
            .filter(|library| *library != "ld-linux-x86-64.so.2")
            .collect();
        ensure!(seen == needed, "{name} needs {seen:?}");
    }
    // A symbol's line: number, value, size, type, binding, visibility, section, name@version.
    let undefined = |said: &str| -> Vec<String> {
        let lines = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter(|words| words.len() >= 8 && words[6] == "UND").map(|words| words[7].to_string()).collect()
    };
    let open = undefined(&restorer);
    ensure!(open.is_empty(), "libzap_restorer.so is there before any library, and needs {open:?}");
    for constructor in ["(INIT)", "(INIT_ARRAY)"] {
        ensure!(!restorer.contains(constructor), "libzap_restorer.so has a constructor");
    }
    let open = undefined(&libzap);
    ensure!(open.len() > 20, "readelf shows few symbols: {open:?}");
    ensure!(
        !open.iter().any(|name| name.starts_with("__tls_get_addr")),
        "libzap.so asks libc for a thread's variables"
    );
    ensure!(libzap.contains("STATIC_TLS"), "libzap.so has no variables of a thread at a fixed place");
    for name in &open {
        let version = name.split_once("@GLIBC_").and_then(|(_, version)| {
            let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
            Some((parts.next()?, parts.next()?))
        });
        ensure!(version.is_none_or(|version| version <= NEWEST_GLIBC), "libzap.so needs {name}");
    }
    Ok(())
}
