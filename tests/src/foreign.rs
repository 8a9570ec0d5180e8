//! Executables that are not for Zap: for another processor, for 32 bits, for another C library, of Go, of valgrind. zap-launch
//! refuses them; what a program of a pod makes of them is what it would make of them without Zap.

use crate::case::{failed, skipped, Case, Result, Row};
use crate::ensure;
use crate::scene::Scene;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

pub fn cases() -> Vec<Case> {
    let table: [Row; 4] = [
        ("aarch64", |scene| foreign(scene, &another_processor(scene)?, NO_X86)),
        ("32-bit", |scene| foreign(scene, &of_32_bits(scene)?, NO_X86)),
        ("32-bit-dynamic", |scene| foreign(scene, &dynamic_of_32_bits(scene)?, NO_X86)),
        ("musl", |scene| foreign(scene, &for_musl(scene)?, "uses musl; Zap supports glibc only")),
    ];
    let mut cases = Vec::new();
    for (name, run) in table {
        cases.push(Case::new(format!("launch/foreign/{name}"), run));
        cases.push(Case::new(format!("launch/foreign/{name}"), run).by_ordinary_user());
    }
    let packages = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    cases.push(Case::new("launch/foreign/go", go_program).packages(&packages(&["golang-go", "gcc", "libc6-dev"])));
    cases.push(Case::new("launch/foreign/valgrind", valgrind).packages(&packages(&["valgrind"])));
    cases
}

/// A program that Go has linked with C of its own.
fn go_program(scene: &Scene) -> Result {
    let (source, path) = (scene.path("work/twice.go"), scene.path("work/twice"));
    let text =
        "package main\n\n// static int twice(int number) { return 2 * number; }\nimport \"C\"\nimport \"fmt\"\n\n\
                func main() { fmt.Println(C.twice(21)) }\n";
    fs::write(&source, text)?;
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&path).arg(&source).env("GOCACHE", scene.path("work/cache"));
    let built = build.env("GO111MODULE", "off").env("CGO_ENABLED", "1").output()?;
    ensure!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    scene.own(&path)?;
    foreign(scene, &path, "is a Go program")
}

fn valgrind(scene: &Scene) -> Result {
    let said = scene.run(&["zap-launch", "valgrind", "true"])?;
    said.expect(126, "runs programs in an emulation")
}

const NO_X86: &str = "is no 64-bit x86 program";

/// Refused at launch with 126, which names the file and the reason; exec'ed in a pod it runs, or fails, as without Zap.
fn foreign(scene: &Scene, path: &PathBuf, why: &str) -> Result {
    let said = scene.run(&["zap-launch".as_ref(), path.as_os_str()])?;
    said.expect(126, &format!("zap-launch: {}: {why}", path.display()))?;
    ensure!(said.err.lines().count() == 1 && said.out.is_empty(), "{said:?}");
    ensure!(scene.status()?.is_empty(), "a refused launch has left a pod");
    let script = "\"$0\"; echo status $?; exec \"$0\"";
    let mut command = scene.words(&["/bin/sh", "-c", script]);
    command.arg(path);
    let native = scene.finish(command)?;
    let mut command = scene.words(&["zap-launch", "/bin/sh", "-c", script]);
    command.arg(path);
    let inside = scene.finish(command)?;
    ensure!(
        (native.status, &native.out, &native.err) == (inside.status, &inside.out, &inside.err),
        "in a pod {inside:?}, natively {native:?}"
    );
    Ok(())
}

fn executable(scene: &Scene, bytes: &[u8]) -> Result<PathBuf> {
    let path = scene.path("work/foreign");
    fs::write(&path, bytes)?;
    scene.own(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o755))?;
    Ok(path)
}

/// EM_AARCH64, in an executable that is one of this machine otherwise: elf(5).
fn another_processor(scene: &Scene) -> Result<PathBuf> {
    let mut bytes = fs::read("/bin/true")?;
    bytes[18..20].copy_from_slice(&183u16.to_le_bytes());
    executable(scene, &bytes)
}

/// A static executable of ELFCLASS32 and EM_386: one header, one segment, code that writes `ran` and ends with 7.
fn of_32_bits(scene: &Scene) -> Result<PathBuf> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let message = (BASE + HEADERS + 34).to_le_bytes();
    let mut code = vec![0xb8, 4, 0, 0, 0, 0xbb, 1, 0, 0, 0, 0xb9]; // eax = write, ebx = 1, ecx = …
    code.extend(message);
    code.extend([0xba, 4, 0, 0, 0, 0xcd, 0x80]); // edx = 4, int 0x80
    code.extend([0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80]); // eax = exit, ebx = 7, int 0x80
    code.extend(b"ran\n");
    let length = HEADERS + code.len() as u32;
    let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x03\0".to_vec();
    // Version, entry, program headers' place, no sections, no flags; then sizes and counts of two bytes each.
    for word in [1, BASE + HEADERS, 52, 0, 0] {
        bytes.extend(u32::to_le_bytes(word));
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    // PT_LOAD, offset, two addresses, two lengths, readable and executable, alignment.
    for word in [1, 0, BASE, BASE, length, length, 5, 4096] {
        bytes.extend(u32::to_le_bytes(word));
    }
    bytes.extend(code);
    executable(scene, &bytes)
}

/// One whose own loader is asked to preload libzap.
fn dynamic_of_32_bits(scene: &Scene) -> Result<PathBuf> {
    const SOURCE: &str = "static void call(int n, int a, const char *b, int c) {\n\
        __asm__ volatile(\"int $0x80\" : \"+a\"(n) : \"b\"(a), \"c\"(b), \"d\"(c) : \"memory\");\n}\n\
        void _start(void) { call(4, 1, \"ran\\n\", 4); call(1, 7, 0, 0); }\n";
    const LOADER: &str = "/lib/ld-linux.so.2";
    let (source, target) = (scene.path("work/foreign.c"), scene.path("work/foreign"));
    fs::write(&source, SOURCE)?;
    let options = ["-m32", "-O1", "-fpic", "-pie", "-nostdlib", "-nostartfiles"];
    let loader = format!("-Wl,--dynamic-linker={LOADER}");
    let built = Command::new("gcc").args(options).arg(loader).arg("-o").args([&target, &source]).output();
    if !fs::exists(LOADER)? || !built.is_ok_and(|output| output.status.success()) {
        return skipped("no dynamic programs of 32 bits here");
    }
    Ok(target)
}

/// The path of musl's loader in place of glibc's, which is longer.
fn for_musl(scene: &Scene) -> Result<PathBuf> {
    const GLIBC: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";
    let mut path = b"/lib/ld-musl-x86_64.so.1".to_vec();
    path.resize(GLIBC.len(), 0);
    let mut bytes = fs::read("/bin/true")?;
    let Some(at) = bytes.windows(GLIBC.len()).position(|part| part == GLIBC) else {
        return failed("the test itself: /bin/true names no loader");
    };
    bytes[at..at + path.len()].copy_from_slice(&path);
    executable(scene, &bytes)
}
