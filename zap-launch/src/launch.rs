//! The road from command line to exec: find the program, join or make a pod, set the environment, become the program.
//! Inside a pod it is shorter: the program is found and exec'ed, and stays there as any other would.
//!
//! What the program inherits is as the caller left it: streams (closed ones stay closed), dispositions, mask but for
//! Zap's signal, which libzap's init unblocks as soon as its handler stands.
//!
//! # Safety
//! System calls with pointers to values that live until the call returns; the process has one thread. libzap is asked by a
//! function that it exports for this.
#![allow(unsafe_code)]

use crate::arguments::Arguments;
use crate::private::{self, Own};
use crate::script;
use crate::search::{self, Found, Missing};
use crate::view::View;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use zap_client::error::reason;
use zap_client::executable::Kind;
use zap_client::{install, namespaces, present, usage, Connection, MappedTable, RuntimeDir};
use zap_sys::{fd, process, signal};
use zap_wire::message::{Launch, PodSettings, StreamId};
use zap_wire::private::RUNTIME_INSIDE;
use zap_wire::table::OFFSET;
use zap_wire::{environment, FromCoordinator, ToCoordinator, PROTOCOL_VERSION};

extern "C" {
    static environ: *const *const libc::c_char;
}

/// zap-launch's own failures, as with env(1) and timeout(1).
pub(crate) const FAILED: i32 = 125;
const NOT_RUNNABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Runs zap-launch; returns its exit status, or never if the program could be started.
pub fn run() -> i32 {
    let arguments = match Arguments::read(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            return if usage::print("zap-launch", &error) { FAILED } else { 0 };
        }
    };
    let Failure { status, message } = launch(&arguments);
    let _ = writeln!(std::io::stderr(), "zap-launch: {message}");
    status
}

pub(crate) struct Failure {
    status: i32,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: i32, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }
}

/// Returns only if it fails.
fn launch(arguments: &Arguments) -> Failure {
    let Err(failure) = try_launch(arguments);
    failure
}

fn try_launch(arguments: &Arguments) -> Result<std::convert::Infallible, Failure> {
    let streams = [0, 1, 2].map(stream_identity);
    keep_standard_numbers();
    let name = &arguments.program[0];
    let found = match find(name) {
        // A pod with directories of its own may have it there.
        Err(failure) if arguments.root.is_none() && arguments.pod.is_none() => return Err(failure),
        found => found,
    };
    let entered = match present::pod() {
        Some(table) => stay(arguments, &table).map(|()| None)?,
        None => Some(enter(arguments, streams)?),
    };
    let (variables, view) = entered.unzip();
    let found = if view.as_ref().is_some_and(View::is_of_namespaces) { find(name) } else { found }?;
    let place_of = |path: &Path| view.as_ref().and_then(|view| view.place_of(path));
    let place = place_of(&found.path);
    let errno = match found.inspection.kind {
        // execvp(3) runs text that has no #! line by the shell.
        Kind::Text => {
            let mut words = vec![OsString::from("/bin/sh"), found.path.into_os_string()];
            words.extend_from_slice(&arguments.program[1..]);
            execute(Path::new("/bin/sh"), &words, variables.as_deref())
        }
        // The kernel would tell the interpreter where the script is on the host.
        Kind::Script { interpreter } if place.is_some() || place_of(&interpreter).is_some() => {
            let words = script::words(&found.path, &arguments.program[1..]).map_err(|error| {
                Failure::new(NOT_RUNNABLE, format_args!("{}: {}", found.path.display(), reason(&error)))
            })?;
            execute(&place_of(&interpreter).unwrap_or(interpreter), &words, variables.as_deref())
        }
        _ => execute(&place.unwrap_or(found.path), &arguments.program, variables.as_deref()),
    };
    let status = if errno.kind() == std::io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUNNABLE };
    Err(Failure::new(status, format_args!("{}: {}", name.display(), reason(&errno))))
}

fn find(name: &OsStr) -> Result<Found, Failure> {
    search::find(name, std::env::var_os("PATH")).map_err(|missing| match missing {
        Missing::NotFound => Failure::new(NOT_FOUND, format_args!("{}: command not found", name.display())),
        Missing::NoInterpreter(path, why) => Failure::new(NOT_FOUND, format_args!("{}: {why}", path.display())),
        Missing::NotRunnable(path, why) => Failure::new(NOT_RUNNABLE, format_args!("{}: {why}", path.display())),
    })
}

/// Puts this process into a pod; returns the environment that makes the program a member, and how the pod sees its directories.
fn enter(arguments: &Arguments, streams: [StreamId; 3]) -> Result<(Vec<CString>, View), Failure> {
    let own = |error: zap_client::Error| Failure::new(FAILED, error);
    let library = install::library().map_err(own)?;
    let present = present_environment();
    // Of several the loader takes the last.
    let last = present.iter().rposition(|entry| value(entry, environment::LD_PRELOAD).is_some());
    let users = last.and_then(|at| value(&present[at], environment::LD_PRELOAD));
    // Refused before there is a pod.
    preload(&library, users)?;
    // Of the two that follow the user's own libraries are left in one; and a fault is taken out beside them.
    let is_odd = last.is_some() != present.iter().any(|entry| value(entry, environment::FAULT).is_some());
    let even = is_odd.then(|| entry(environment::EVEN, OsStr::new("")));
    let Joined { path, table, view, is_first, _private } = join(arguments, streams)?;
    if let Some(option) = arguments.of_directories().filter(|_| !is_first) {
        let why = "the pod is there already, and has the directories that it was launched with";
        return Err(Failure::new(FAILED, format_args!("{option}: {why}")));
    }
    force_virtual(&table);
    let runtime = path.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    view.enter((&path, &table), is_first, [runtime, library.parent().unwrap_or(Path::new("/"))])?;
    let preload = entry(environment::LD_PRELOAD, &preload(&namespaces::inside(&library), users)?);
    let path = namespaces::inside(&path);
    let signal = table.signal.load(Ordering::Relaxed);
    if (1..=64).contains(&signal) {
        let _ = signal::change_mask(libc::SIG_BLOCK, signal::bit(signal));
    }
    let mut taken =
        vec![environment::LD_PRELOAD, environment::POD_TABLE, environment::EVEN, environment::FORCE_VIRTUAL];
    if view.has_root() {
        taken.push(environment::RUNTIME_DIR);
    }
    let mut variables = Vec::new();
    for (at, one) in present.into_iter().enumerate() {
        if last == Some(at) {
            variables.push(preload.clone());
        } else if !taken.iter().any(|name| value(&one, name).is_some()) {
            variables.push(one);
        }
    }
    variables.extend(even);
    if last.is_none() {
        variables.push(preload);
    }
    if view.has_root() {
        variables.push(entry(environment::RUNTIME_DIR, OsStr::new(RUNTIME_INSIDE)));
    }
    variables.push(entry(environment::POD_TABLE, path.as_os_str()));
    Ok((variables, view))
}

/// The environment as it was given, also what is no variable: the standard library knows entries with a name alone.
fn present_environment() -> Vec<CString> {
    let mut entries = Vec::new();
    // SAFETY: read while this process has one thread.
    let mut at = unsafe { environ };
    while !at.is_null() {
        // SAFETY: the list ends with a null pointer, which has not been met.
        let text = unsafe { *at };
        if text.is_null() {
            break;
        }
        // SAFETY: entries are C strings.
        entries.push(unsafe { CStr::from_ptr(text) }.to_owned());
        at = at.wrapping_add(1);
    }
    entries
}

/// The value of `entry`, if it is of this name.
fn value<'a>(entry: &'a CStr, name: &str) -> Option<&'a [u8]> {
    entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

fn entry(name: &str, value: &OsStr) -> CString {
    CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).unwrap_or_default()
}

/// Whether the options let this process stay in the pod of `table`, in which it runs. To leave it would take a process out
/// of the middle of the pod, which could not be checkpointed any more; and what the pod is like was said when it began.
fn stay(arguments: &Arguments, table: &Path) -> Result<(), Failure> {
    let inside = "is inside a pod already, and what is launched there stays in it";
    if let Some(option) = arguments.of_the_pod.first() {
        return Err(Failure::new(FAILED, format_args!("{option}: {inside}, as the pod was launched")));
    }
    let Some(wanted) = &arguments.pod else { return Ok(()) };
    let own = |error: zap_client::Error| Failure::new(FAILED, error);
    // <runtime>/pods/<id>.table, which need not be the directory that the environment names.
    let runtime = table.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let runtime = RuntimeDir::at(runtime).map_err(own)?;
    let pods = match Connection::request(&runtime, &ToCoordinator::Status).map_err(own)? {
        FromCoordinator::Status(status) => status.pods,
        FromCoordinator::Failed { why, .. } => return Err(Failure::new(FAILED, why)),
        _ => return Err(Failure::new(FAILED, "zap-coordinator: unexpected answer")),
    };
    let pid = process::getpid().0;
    let present = pods.iter().find(|pod| pod.processes.iter().any(|process| process.pid == pid));
    match present.map(|pod| pod.name.as_str()) {
        Some(name) if name == wanted => Ok(()),
        name => {
            let name = name.map_or_else(String::new, |name| format!(" ({name})"));
            Err(Failure::new(FAILED, format_args!("--pod {wanted}: {inside}{name}; launch it from outside")))
        }
    }
}

/// Gives the process an id that differs from its real one, in a pod where all do: in a new one, if the environment wants that.
fn force_virtual(table: &MappedTable) {
    let wanted = std::env::var_os(environment::FORCE_VIRTUAL).is_some_and(|value| value == "1");
    if wanted && table.members().count() <= 1 && table.moved.load(Ordering::Acquire) == 0 {
        table.offset.store(OFFSET, Ordering::Relaxed);
        table.moved.store(1, Ordering::Release);
    }
    let (offset, own) = (table.offset.load(Ordering::Relaxed), process::getpid());
    if let Some(entry) = table.find(own).filter(|_| offset != 0) {
        entry.virtual_pid.store(own.0 + offset, Ordering::Release);
    }
}

/// Asks the coordinator to put this process into a pod.
fn join(arguments: &Arguments, streams: [StreamId; 3]) -> Result<Joined, Failure> {
    let own = |error: zap_client::Error| Failure::new(FAILED, error);
    let directory = image_directory(arguments.ckpt_dir.as_deref().filter(|path| !path.as_os_str().is_empty()))?;
    let utf8 = || Failure::new(FAILED, format_args!("{}: path is not UTF-8", directory.display()));
    let runtime = RuntimeDir::open_or_create().map_err(own)?;
    let private = private::make(&arguments.private, arguments.root.as_deref(), &runtime)?;
    let program = Path::new(&arguments.program[0]);
    let settings = PodSettings {
        ckpt_dir: directory.to_str().ok_or_else(utf8)?.to_string(),
        interval: arguments.interval,
        keep: arguments.keep,
        compress: arguments.compress.to_string(),
        signal: arguments.signal,
        snapshot_files: arguments.snapshot_files,
        private: private.private.clone(),
    };
    let request = ToCoordinator::Launch(Launch {
        protocol: PROTOCOL_VERSION,
        pod: arguments.pod.clone(),
        program: program.file_name().unwrap_or(&arguments.program[0]).to_string_lossy().into_owned(),
        settings,
        streams,
    });
    let answer = match Connection::request(&runtime, &request) {
        Ok(FromCoordinator::InPod { table, .. }) => Ok(PathBuf::from(table)),
        Ok(FromCoordinator::Failed { why, .. }) => Err(Failure::new(FAILED, why)),
        Ok(_) => Err(Failure::new(FAILED, "zap-coordinator: unexpected answer")),
        Err(error) => Err(own(error)),
    };
    let opened = answer.and_then(|path| MappedTable::open(&path).map(|table| (path, table)).map_err(own));
    match opened {
        Ok((path, table)) => {
            let view = View::of(&table);
            let is_first = private.settle(&view);
            Ok(Joined { view, path, table, is_first, _private: private })
        }
        Err(failure) => {
            private.remove();
            Err(failure)
        }
    }
}

/// The pod in which this process is now.
struct Joined {
    /// Of its table.
    path: PathBuf,
    table: MappedTable,
    view: View,
    /// The pod's own directories are those that this process has made; they are held until it becomes the program.
    is_first: bool,
    _private: Own,
}

/// The directory for images. One that is asked for must be fit for them now, rather than at the first checkpoint; the
/// default need not: where the user only stands is no reason against running the program.
fn image_directory(asked: Option<&Path>) -> Result<PathBuf, Failure> {
    let wanted = asked.unwrap_or(Path::new("."));
    let refused = |why: &dyn Display| Failure::new(FAILED, format_args!("--ckpt-dir {}: {why}", wanted.display()));
    let directory = match (std::fs::canonicalize(wanted), asked) {
        // It has been deleted. The kernel says what it was called.
        (Err(error), None) if error.kind() == ErrorKind::NotFound => {
            std::fs::read_link("/proc/self/cwd").map_err(|error| refused(&reason(&error)))?
        }
        (found, _) => found.map_err(|error| refused(&reason(&error)))?,
    };
    if asked.is_some() {
        if !directory.is_dir() {
            return Err(refused(&"is not a directory"));
        }
        may_write(&directory).map_err(|error| refused(&format_args!("cannot be written to: {}", reason(&error))))?;
    }
    Ok(directory)
}

/// Whether files can be made in `directory`, by the effective ids.
fn may_write(directory: &Path) -> std::io::Result<()> {
    let path = CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: the path ends with a NUL and lives until the call returns.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::W_OK | libc::X_OK, libc::AT_EACCESS) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The new value of LD_PRELOAD: libzap first, once.
fn preload(library: &Path, old: Option<&[u8]>) -> Result<OsString, Failure> {
    let bytes = library.as_os_str().as_bytes();
    // The loader splits at blanks and colons, and knows no quoting (ld.so(8)).
    if bytes.iter().any(|c| matches!(c, b' ' | b':' | b'\t' | b'\n')) {
        let why = "its path holds a blank or colon, which LD_PRELOAD cannot express; install Zap elsewhere";
        return Err(Failure::new(FAILED, format_args!("{}: {why}", library.display())));
    }
    let mut value = library.as_os_str().to_owned();
    let mut separator = "";
    if old.is_some() {
        // It is there, and stays there, if only as an empty one.
        value.push(":");
    }
    for other in old.unwrap_or_default().split(|c| matches!(c, b' ' | b':')) {
        if !other.is_empty() && other != bytes {
            value.push(separator);
            value.push(OsStr::from_bytes(other));
            separator = ":";
        }
    }
    Ok(value)
}

/// Device and inode of a standard stream, (0, 0) if it is closed.
fn stream_identity(number: i32) -> StreamId {
    fd::fstat(number).map_or((0, 0), |stat| (stat.st_dev, stat.st_ino))
}

/// Fills closed standard streams until exec, so that no descriptor of ours takes such a number and gets messages.
fn keep_standard_numbers() {
    while let Ok(number) = fd::open(c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0) {
        if number > 2 {
            let _ = fd::close(number);
            break;
        }
    }
}

/// execve(2); returns only if it fails. With `variables` it goes past libzap, should that be preloaded here; a process that
/// stays in its pod has none, and execs as any program of the pod does.
fn execute(path: &Path, words: &[OsString], variables: Option<&[CString]>) -> std::io::Error {
    let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let words: Vec<CString> = words.iter().map(|word| text(word.as_bytes())).collect();
    let (path, words) = (text(path.as_os_str().as_bytes()), pointers(&words));
    let Some(variables) = variables else {
        // SAFETY: NUL-terminated strings and a vector that live until the call returns.
        unsafe { libc::execv(path.as_ptr(), words.as_ptr()) };
        return std::io::Error::last_os_error();
    };
    let variables = pointers(variables);
    let arguments = [path.as_ptr() as usize, words.as_ptr() as usize, variables.as_ptr() as usize, 0, 0, 0];
    // SAFETY: as above.
    match unsafe { zap_sys::arch::syscall::syscall(libc::SYS_execve, arguments) } {
        Ok(_) => std::io::Error::other("execve returned"),
        Err(errno) => std::io::Error::from_raw_os_error(errno.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libzap_is_preloaded_first_and_once() {
        let library = Path::new("/usr/lib/zap/libzap.so");
        let with = |old: Option<&str>| preload(library, old.map(str::as_bytes)).ok().unwrap();
        assert_eq!(with(None), "/usr/lib/zap/libzap.so");
        for empty in ["", ":", " ", "/usr/lib/zap/libzap.so"] {
            assert_eq!(with(Some(empty)), "/usr/lib/zap/libzap.so:", "{empty:?}");
        }
        assert_eq!(with(Some("a.so b.so")), "/usr/lib/zap/libzap.so:a.so:b.so");
        assert_eq!(with(Some("a.so:/usr/lib/zap/libzap.so")), "/usr/lib/zap/libzap.so:a.so");
        assert!(preload(Path::new("/my lib/libzap.so"), None).is_err());
    }
}
