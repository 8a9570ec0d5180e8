//! zap-launch's own failures: exit status and message, before any coordinator is asked.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Runs zap-launch with `arguments`; (exit status, standard output, standard error).
fn launch(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zap-launch"));
    // Nothing here may get as far as this directory.
    let output = command.args(arguments).env("ZAP_RUNTIME_DIR", "/nowhere/zap").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

#[test]
fn usage_is_125_and_help_is_0() {
    assert_eq!(launch(&[]).0, 125);
    assert_eq!(launch(&["--no-such-option", "true"]).0, 125);
    assert_eq!(launch(&["--signal", "9", "true"]).0, 125);
    assert_eq!(launch(&["--keep", "0", "true"]).0, 125);
    let (status, out, _) = launch(&["--help"]);
    assert!(status == 0 && out.contains("--ckpt-dir"), "{out}");
    assert_eq!(launch(&["--version"]).0, 0);
}

#[test]
fn what_is_not_found_is_127() {
    assert_eq!(
        launch(&["no-such-program"]),
        (127, "".into(), "zap-launch: no-such-program: command not found\n".into())
    );
    assert_eq!(launch(&["/no/such/program"]).0, 127);
    assert_eq!(launch(&[""]).0, 127);
}

#[test]
fn what_cannot_be_run_is_126_and_named() {
    let scratch = Scratch::new();
    // A head without a dynamic loader: elf(5).
    let mut head = vec![0u8; 64];
    head[..6].copy_from_slice(b"\x7fELF\x02\x01");
    head[18] = 62;
    head[54] = 56;
    let script = format!("#!{}\n", scratch.0.join("static").display());
    let table: [(&str, &[u8], u32, &str); 3] = [
        ("static", &head, 0o755, "is statically linked"),
        ("plain", b"text", 0o644, "permission denied"),
        ("script", script.as_bytes(), 0o755, "static is statically linked"),
    ];
    for (name, bytes, mode, why) in table {
        let path = scratch.0.join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let path = path.to_str().unwrap();
        let (status, _, err) = launch(&[path]);
        assert_eq!(status, 126, "{name}: {err}");
        assert!(err.starts_with(&format!("zap-launch: {path}: ")) && err.contains(why), "{name}: {err}");
    }
}

/// A directory that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("zap-launch-test-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
