//! What kind of program a file is: whether the dynamic loader will preload libzap into it.
//!
//! A static program, one with privileges (the loader ignores LD_PRELOAD then, ld.so(8)) or one without libc runs, but
//! unseen by Zap; it must be told apart before it is started.

use crate::error::{reason, Error, Result};
use std::ffi::{CString, OsStr};
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zap_sys::elf::{self, number, Segment, Table};

/// What was found, and in which file: for a script that is the interpreter, or the interpreter's interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// The file that decided.
    pub file: PathBuf,
    pub kind: Kind,
}

/// Kinds of files that a user may want to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A dynamically linked program that uses glibc.
    Dynamic,
    /// A `#!` script whose interpreter is such a program.
    Script { interpreter: PathBuf },
    /// Text without `#!`, which execvp(3) hands to /bin/sh.
    Text,
    /// No dynamic loader.
    Static,
    /// Set-user-id, set-group-id, or file capabilities, by which it gets privileges.
    Setuid,
    /// It may be executed and not be read.
    Unreadable,
    /// Not an ELF file for x86-64.
    ForeignArchitecture,
    /// Has a dynamic loader but does not use libc (pure Go, for instance).
    NoLibc,
    /// Uses musl.
    Musl,
    /// Holds Go's runtime, with or without cgo.
    Go,
    /// Built with a sanitizer that lays out memory and takes calls over before Zap can.
    Sanitized,
    /// Valgrind, whose tools are static and run the program in an emulation.
    Valgrind,
    /// No regular file, or no permission to execute it.
    NotExecutable,
}

impl Kind {
    /// Why Zap cannot run it; `None` if it can.
    pub fn refusal(&self) -> Option<&'static str> {
        match self {
            Kind::Dynamic | Kind::Script { .. } | Kind::Text => None,
            Kind::Static => Some("is statically linked: no library can be preloaded into it"),
            Kind::Setuid => Some("is set-user-id, set-group-id or has file capabilities: the loader would ignore Zap"),
            Kind::Unreadable => Some("cannot be read, and so not be mapped again by a restart"),
            Kind::ForeignArchitecture => Some("is no 64-bit x86 program"),
            Kind::NoLibc => Some("does not use the C library: Zap could not see its calls"),
            Kind::Musl => Some("uses musl; Zap supports glibc only"),
            Kind::Go => Some("is a Go program: its runtime makes system calls and sets signals past the C library"),
            Kind::Sanitized => Some("is built with a sanitizer, whose shadow memory and threads Zap cannot save"),
            Kind::Valgrind => Some("runs programs in an emulation, into which Zap cannot see"),
            Kind::NotExecutable => Some("permission denied"),
        }
    }
}

/// Why Zap cannot checkpoint what runs as the process `pid`, however it came to run that; `None` if it can, or if its
/// process may not be looked into. A restart, by the caller's user or the process's own, would refuse it for the same reason.
pub fn refusal_of_process(pid: i32) -> Option<&'static str> {
    // Held: a process that ends, or execs, has another one from one look to the next, or none.
    let executable = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(format!("/proc/{pid}/exe")).ok()?;
    let path = format!("/proc/self/fd/{}", executable.as_raw_fd());
    let path = Path::new(&path);
    let kind = inspect(path).ok()?.kind;
    // It has been started by somebody of whom it makes nobody else.
    if kind == Kind::Setuid && real_ids(pid).is_none_or(|own| !raises_whom(path, own)) {
        return None;
    }
    kind.refusal()
}

/// Real user and group of the process `pid` (proc_pid_status(5)).
fn real_ids(pid: i32) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let first =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok();
    Some((first("Uid:")?, first("Gid:")?))
}

/// Whether the file at `path` makes another user or group of whoever executes it and has these real ids.
fn raises_whom(path: &Path, own: (u32, u32)) -> bool {
    let raised = |file: std::fs::Metadata| raises(file.mode(), (file.uid(), file.gid()), own);
    std::fs::metadata(path).map_or(true, raised) || (own.0 != 0 && has_capabilities(path))
}

/// Inspects the program `path`, following `#!` up to the kernel's own limit. An error when it cannot be read.
pub fn inspect(path: &Path) -> Result<Inspection> {
    const DEEPEST: usize = 4;
    let mut file = path.to_path_buf();
    let mut interpreter = None;
    for _ in 0..=DEEPEST {
        match inspect_one(&file)? {
            Found::Interpreter(next) => {
                interpreter = Some(next.clone());
                file = next;
            }
            Found::Kind(Kind::Text) if interpreter.is_some() => {
                return Ok(Inspection { file, kind: Kind::NotExecutable });
            }
            Found::Kind(Kind::Dynamic) => {
                let kind = interpreter.map_or(Kind::Dynamic, |interpreter| Kind::Script { interpreter });
                return Ok(Inspection { file, kind });
            }
            Found::Kind(kind) => return Ok(Inspection { file, kind }),
        }
    }
    Err(Error::new(path.display(), "too many levels of interpreters"))
}

enum Found {
    Kind(Kind),
    Interpreter(PathBuf),
}

fn inspect_one(path: &Path) -> Result<Found> {
    let failed = |error: std::io::Error| Error::new(path.display(), reason(&error));
    // A script that execs an ordinary program, which execs a static one: only its name tells.
    if path.file_name().is_some_and(|name| name == "valgrind" || name == "valgrind.bin") {
        return Ok(Found::Kind(Kind::Valgrind));
    }
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || !may_execute(path) {
        return Ok(Found::Kind(Kind::NotExecutable));
    }
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Ok(Found::Kind(Kind::Unreadable)),
        Err(error) => return Err(failed(error)),
    };
    let mut head = [0u8; 256];
    let length = read_at_most(&file, &mut head, 0).map_err(failed)?;
    let head = &head[..length];
    if let Some(interpreter) = elf::interpreter(head) {
        let path = PathBuf::from(OsStr::from_bytes(interpreter));
        return Ok(if interpreter.is_empty() { Found::Kind(Kind::Text) } else { Found::Interpreter(path) });
    }
    if !head.starts_with(b"\x7fELF") {
        // A shell tells text from binary data just so.
        let kind = if head.contains(&0) { Kind::ForeignArchitecture } else { Kind::Text };
        return Ok(Found::Kind(kind));
    }
    if raises_whom(path, (calls::user(), calls::group())) {
        return Ok(Found::Kind(Kind::Setuid));
    }
    let read = |offset: u64, buffer: &mut [u8]| read_at_most(&file, buffer, offset).ok() == Some(buffer.len());
    Ok(Found::Kind(classify(head, read)))
}

/// Whether a file of this mode, owner and group makes another user or group of whoever executes it and has these real ids: then
/// the loader is in secure mode (`AT_SECURE` of getauxval(3); `cap_bprm_creds_from_file` of Linux).
fn raises(mode: u32, (owner, group): (u32, u32), (user, users_group): (u32, u32)) -> bool {
    let sets_group = mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0;
    (mode & libc::S_ISUID != 0 && owner != user) || (sets_group && group != users_group)
}

/// Most program headers, longest interpreter path, longest dynamic section and string looked at: beyond is no program.
const HEADERS: u64 = 512;
const PATH_LENGTH: usize = 4096;
const DYNAMIC_LENGTH: usize = 1 << 16;
/// Most bytes of the names of symbols that are looked at.
const STRINGS_LENGTH: u64 = 4 << 20;

/// The kind of an ELF file from its head; `read` fills a buffer from a file offset, or says that it cannot.
fn classify(head: &[u8], read: impl Fn(u64, &mut [u8]) -> bool) -> Kind {
    // ELFDATA2LSB, EM_X86_64: elf(5).
    let is_ours = |table: &Table| table.is_wide && number(head, 5, 1) == Some(1) && number(head, 18, 2) == Some(62);
    let is_sane = |table: &Table| table.size == Segment::WIDE as u64 && table.count <= HEADERS;
    let Some(table) = Table::find(head).filter(is_ours).filter(is_sane) else {
        return Kind::ForeignArchitecture;
    };
    let mut bytes = vec![0u8; Segment::WIDE * table.count as usize];
    if !read(table.offset, &mut bytes) {
        return Kind::ForeignArchitecture;
    }
    let headers: Vec<Segment> = bytes.chunks_exact(Segment::WIDE).filter_map(Segment::read).collect();
    // Before all else: most Go programs are static, and should be called what they are.
    if has_section(head, b".go.buildinfo", &read) {
        return Kind::Go;
    }
    let Some(interpreter) = headers.iter().find(|header| header.kind == libc::PT_INTERP) else {
        return Kind::Static;
    };
    let mut path = vec![0u8; (interpreter.length as usize).min(PATH_LENGTH)];
    if !read(interpreter.offset, &mut path) {
        return Kind::ForeignArchitecture;
    }
    if elf::is_musls(&path) {
        return Kind::Musl;
    }
    let dynamic = Dynamic::read(&headers, &read);
    if dynamic.needed().iter().all(|name| *name != b"libc.so.6") {
        Kind::NoLibc
    } else if dynamic.names(|name| SANITIZERS.contains(&name)) || dynamic.hides_sanitizer() {
        Kind::Sanitized
    } else {
        Kind::Dynamic
    }
}

/// What programs call to begin a sanitizer. A program that has its runtime inside exports it, one with the runtime as a
/// library imports it. The others (undefined behaviour, leaks) are ordinary libraries.
const SANITIZERS: [&[u8]; 4] = [b"__asan_init", b"__hwasan_init", b"__msan_init", b"__tsan_init"];

/// What every sanitizer's runtime asks for, and nobody else: hooks that it may be given.
const RUNTIME: &[u8] = b"__sanitizer_symbolize_code";

/// What the runtimes of the harmless ones export, if the compiler makes programs export anything of a runtime.
const HARMLESS: [&[u8]; 2] = [b"__lsan_init", b"__ubsan_handle_type_mismatch_v1"];

/// Whether the file has a section of this name. Sections may have been stripped, which Go's own tools never do.
fn has_section(head: &[u8], name: &[u8], read: &impl Fn(u64, &mut [u8]) -> bool) -> bool {
    const SIZE: usize = 64;
    // e_shoff, e_shentsize, e_shnum, e_shstrndx.
    let field = |at, length| number(head, at, length).unwrap_or_default();
    let (offset, size, count, names) = (field(40, 8), field(58, 2), field(60, 2), field(62, 2) as usize);
    if size != SIZE as u64 || count > HEADERS || names as u64 >= count {
        return false;
    }
    let mut table = vec![0u8; SIZE * count as usize];
    if !read(offset, &mut table) {
        return false;
    }
    let header = &table[names * SIZE..][..SIZE];
    let long = |at| number(header, at, 8).unwrap_or_default();
    let mut strings = vec![0u8; (long(32) as usize).min(DYNAMIC_LENGTH)];
    read(long(24), &mut strings) && strings.split(|c| *c == 0).any(|string| string == name)
}

/// What the dynamic section says.
#[derive(Default)]
struct Dynamic {
    entries: Vec<(u64, u64)>,
    /// The table of names, or as much of it as is looked at.
    strings: Vec<u8>,
}

impl Dynamic {
    /// Empty where there is none, or where it makes no sense.
    fn read(headers: &[Segment], read: &impl Fn(u64, &mut [u8]) -> bool) -> Self {
        Self::try_read(headers, read).unwrap_or_default()
    }

    fn try_read(headers: &[Segment], read: &impl Fn(u64, &mut [u8]) -> bool) -> Option<Self> {
        const DT_STRTAB: u64 = 5;
        const DT_STRSZ: u64 = 10;
        let dynamic = headers.iter().find(|header| header.kind == libc::PT_DYNAMIC)?;
        let mut section = vec![0u8; (dynamic.length as usize).min(DYNAMIC_LENGTH)];
        if !read(dynamic.offset, &mut section) {
            return None;
        }
        let entries: Vec<(u64, u64)> =
            section.chunks_exact(16).filter_map(|entry| Some((number(entry, 0, 8)?, number(entry, 8, 8)?))).collect();
        let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
        let address = value(DT_STRTAB)?;
        let segment = headers.iter().find(|header| {
            header.kind == libc::PT_LOAD && address >= header.address && address - header.address < header.length
        })?;
        let inside = segment.length - (address - segment.address);
        let mut strings = vec![0u8; value(DT_STRSZ)?.min(inside).min(STRINGS_LENGTH) as usize];
        read(segment.offset.wrapping_add(address - segment.address), &mut strings).then_some(Self { entries, strings })
    }

    /// The names of the libraries that are asked for.
    fn needed(&self) -> Vec<&[u8]> {
        const DT_NEEDED: u64 = 1;
        let name = |offset: u64| self.strings.get(offset as usize..)?.split(|c| *c == 0).next();
        self.entries.iter().filter(|(tag, _)| *tag == DT_NEEDED).filter_map(|(_, offset)| name(*offset)).collect()
    }

    /// Whether there is a sanitizer's runtime inside that does not export where it begins: GCC's with -static-libasan,
    /// -static-libtsan or -static-liblsan.
    fn hides_sanitizer(&self) -> bool {
        self.names(|name| name == RUNTIME) && !self.names(|name| HARMLESS.contains(&name))
    }

    /// Whether some name satisfies `wanted`.
    fn names(&self, wanted: impl Fn(&[u8]) -> bool) -> bool {
        self.strings.split(|c| *c == 0).any(wanted)
    }
}

fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn may_execute(path: &Path) -> bool {
    calls::with_path(path, calls::may_execute)
}

fn has_capabilities(path: &Path) -> bool {
    calls::with_path(path, calls::has_capabilities)
}

// The calls that std does not offer.
mod calls {
    //! # Safety
    //! Paths end with a NUL and outlive the calls.
    #![allow(unsafe_code)]
    use super::*;

    pub fn with_path(path: &Path, call: fn(&CString) -> bool) -> bool {
        CString::new(path.as_os_str().as_bytes()).is_ok_and(|path| call(&path))
    }

    pub fn may_execute(path: &CString) -> bool {
        // SAFETY: see above. The effective ids count, as for exec.
        unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) == 0 }
    }

    pub fn user() -> u32 {
        // SAFETY: has no preconditions.
        unsafe { libc::getuid() }
    }

    pub fn group() -> u32 {
        // SAFETY: has no preconditions.
        unsafe { libc::getgid() }
    }

    pub fn has_capabilities(path: &CString) -> bool {
        let name = c"security.capability";
        // SAFETY: see above; a size of 0 only asks for the length.
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::scratch;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    /// A small ELF file: one PT_LOAD over all of it, and what is asked for.
    fn elf(interpreter: Option<&str>, library: Option<&str>) -> Vec<u8> {
        let mut image = vec![0u8; 64];
        image[..6].copy_from_slice(b"\x7fELF\x02\x01");
        image[18] = 62;
        image[32] = 64; // e_phoff
        image[54] = 56; // e_phentsize
        let mut headers = vec![(libc::PT_LOAD, 0u64, 1024u64)];
        let mut body = vec![0u8; 1024 - 64 - 3 * 56];
        let start = 64 + 3 * 56;
        if let Some(path) = interpreter {
            body[..path.len()].copy_from_slice(path.as_bytes());
            headers.push((libc::PT_INTERP, start as u64, path.len() as u64 + 1));
        }
        if let Some(name) = library {
            body[200..200 + name.len()].copy_from_slice(name.as_bytes());
            let entries = [(5u64, start as u64 + 200), (10, 64), (1, 0)];
            for (at, (tag, value)) in entries.iter().enumerate() {
                body[100 + at * 16..][..8].copy_from_slice(&tag.to_le_bytes());
                body[108 + at * 16..][..8].copy_from_slice(&value.to_le_bytes());
            }
            headers.push((libc::PT_DYNAMIC, start as u64 + 100, 48));
        }
        image[56] = headers.len() as u8;
        for (kind, offset, length) in headers.iter().chain(std::iter::repeat_n(&(0, 0, 0), 3 - headers.len())) {
            image.extend_from_slice(&kind.to_le_bytes());
            image.extend_from_slice(&[0; 4]);
            for word in [*offset, *offset, 0, *length, *length, 0] {
                image.extend_from_slice(&word.to_le_bytes());
            }
        }
        image.extend_from_slice(&body);
        image
    }

    fn kind_of(bytes: &[u8], mode: u32) -> Kind {
        let scratch = scratch();
        let path = scratch.join("program");
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        inspect(&path).unwrap().kind
    }

    #[test]
    fn kinds_by_table() {
        let (glibc, musl) = (Some("/lib64/ld-linux-x86-64.so.2"), Some("/lib/ld-musl-x86_64.so.1"));
        let libc_name = Some("libc.so.6");
        let mut foreign = elf(glibc, libc_name);
        // A section table of one entry, which holds the names of sections: behind the program.
        let mut go = elf(glibc, libc_name);
        let table = go.len() as u64;
        let mut section = [0u8; 64];
        section[24..32].copy_from_slice(&(table + 64).to_le_bytes());
        section[32] = 16;
        go.extend_from_slice(&section);
        go.extend_from_slice(b"\0.go.buildinfo\0\0");
        go[40..48].copy_from_slice(&table.to_le_bytes());
        go[58] = 64;
        go[60] = 1;
        foreign[18] = 183;
        let table: &[(&str, Vec<u8>, u32, Kind)] = &[
            ("dynamic", elf(glibc, libc_name), 0o755, Kind::Dynamic),
            ("static", elf(None, None), 0o755, Kind::Static),
            ("static pie", elf(None, libc_name), 0o755, Kind::Static),
            ("setuid to oneself", elf(glibc, libc_name), 0o4755, Kind::Dynamic),
            ("no libc", elf(glibc, Some("libm.so.6")), 0o755, Kind::NoLibc),
            ("no dynamic section", elf(glibc, None), 0o755, Kind::NoLibc),
            ("musl", elf(musl, Some("libc.so")), 0o755, Kind::Musl),
            ("go", go, 0o755, Kind::Go),
            ("sanitizer", elf(glibc, Some("libc.so.6\0__asan_init")), 0o755, Kind::Sanitized),
            ("sanitizer inside", elf(glibc, Some("libc.so.6\0__sanitizer_symbolize_code")), 0o755, Kind::Sanitized),
            ("leaks", elf(glibc, Some("libc.so.6\0__sanitizer_symbolize_code\0__lsan_init")), 0o755, Kind::Dynamic),
            ("aarch64", foreign, 0o755, Kind::ForeignArchitecture),
            ("cut short", b"\x7fELF\x02\x01".to_vec(), 0o755, Kind::ForeignArchitecture),
            ("text", b"echo hello\n".to_vec(), 0o755, Kind::Text),
            ("no permission", elf(None, None), 0o644, Kind::NotExecutable),
            ("script", b"#! /bin/sh -e\n".to_vec(), 0o755, Kind::Script { interpreter: "/bin/sh".into() }),
        ];
        for (name, bytes, mode, kind) in table {
            assert_eq!(&kind_of(bytes, *mode), kind, "{name}");
        }
    }

    #[test]
    fn raised_by_table() {
        let (own, file) = ((1000, 100), (1001, 101));
        let table = [
            (0o755, file, false),
            (0o4755, file, true),
            (0o4755, (1000, 101), false),
            (0o2755, file, true),
            (0o2755, (1001, 100), false),
            // Mandatory locking, once: not for the group to execute.
            (0o2745, file, false),
            (0o6755, own, false),
        ];
        for (mode, file, expected) in table {
            assert_eq!(raises(mode, file, own), expected, "{mode:o} of {file:?}");
        }
    }

    #[test]
    fn scripts_are_followed_but_not_for_ever() {
        let scratch = scratch();
        let path = scratch.join("loop");
        fs::write(&path, format!("#!{}\n", path.display())).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        assert!(inspect(&path).unwrap_err().why.contains("too many levels"));
        let missing = scratch.join("missing");
        fs::write(&missing, "#!/no/such/interpreter\n").unwrap();
        fs::set_permissions(&missing, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(inspect(&missing).unwrap_err().what, "/no/such/interpreter");
    }

    #[test]
    fn real_programs() {
        assert_eq!(inspect(Path::new("/bin/true")).unwrap().kind, Kind::Dynamic);
        assert_eq!(inspect(Path::new("/bin")).unwrap().kind, Kind::NotExecutable);
        assert!(inspect(Path::new("/no/such/file")).is_err());
    }
}
