//! Starting a coordinator, detached from the caller's descriptors, session and terminal, and from its list of children:
//! a program that zap-launch becomes must not find a child that it never made.
//!
//! # Safety
//! Between fork and exec only system calls are made, on values that were prepared before; raw ones, because libzap may
//! be preloaded into the caller and must not take the coordinator for a child of its program.
#![allow(unsafe_code)]

use crate::error::{Error, Result};
use crate::install;
use crate::present;
use crate::runtime::RuntimeDir;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};
use zap_sys::arch::syscall::syscall;
use zap_sys::process;
use zap_wire::environment;

/// How long a coordinator may take until it listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number that the ready pipe has in the coordinator.
const READY: RawFd = 3;

/// Takes the lock under which coordinators are started, for as long as the value lives.
pub fn lock(runtime: &RuntimeDir) -> Result<File> {
    let path = runtime.path().join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(|error| Error::system(path.display(), "open", &error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // SAFETY: flock(2) on a descriptor of our own.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
            return Ok(file);
        }
        // The holder may have been stopped: the wait must end, and flock has no time limit of its own.
        if Instant::now() > deadline {
            return Err(Error::new(
                path.display(),
                "another tool has held this lock for 10 s while it started a coordinator",
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts a coordinator and returns when it listens. The caller holds the [`lock`].
pub fn coordinator(runtime: &RuntimeDir) -> Result<()> {
    if present::is_in_namespaces() {
        let why =
            "is not running, and cannot be started from inside a pod with directories of its own; use any tool outside";
        return Err(Error::new("zap-coordinator", why));
    }
    let path = install::coordinator()?;
    let (mut reader, writer) = pipe()?;
    let command = Command::new(path.as_os_str(), runtime)?;
    launch(&command, writer.as_raw_fd())?;
    drop(writer);
    let said = read_until_end(&mut reader)?;
    match said.split_first() {
        Some((0, _)) => Ok(()),
        None => Err(Error::new(path.display(), "ended before it was ready")),
        Some(_) => Err(Error::new("zap-coordinator", String::from_utf8_lossy(&said).trim_end())),
    }
}

/// What exec needs, made before the fork: nothing may be allocated after it.
struct Command {
    program: CString,
    _strings: Vec<CString>,
    arguments: Vec<usize>,
    environment: Vec<usize>,
}

impl Command {
    fn new(program: &OsStr, runtime: &RuntimeDir) -> Result<Self> {
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Error::new("zap-coordinator", "path holds a NUL"));
        let program = text(program.as_bytes())?;
        let mut strings = vec![program.clone(), text(b"--ready-descriptor")?, text(READY.to_string().as_bytes())?];
        let words = strings.len();
        for (name, value) in kept_environment(runtime) {
            strings.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat())?);
        }
        let pointers = |strings: &[CString]| strings.iter().map(|s| s.as_ptr() as usize).chain([0]).collect::<Vec<_>>();
        let (arguments, environment) = (pointers(&strings[..words]), pointers(&strings[words..]));
        Ok(Self { program, _strings: strings, arguments, environment })
    }
}

/// The coordinator outlives its starter and serves other pods too: it gets nothing of the caller's environment but its
/// own settings. Above all it must not be in a pod itself.
fn kept_environment(runtime: &RuntimeDir) -> Vec<(OsString, OsString)> {
    let mut kept = vec![(OsString::from(environment::RUNTIME_DIR), runtime.path().as_os_str().to_owned())];
    for name in [environment::FAULT, "ZAP_IDLE_SECONDS", "ZAP_TIMEOUT_SECONDS", "PATH"] {
        if let Some(value) = std::env::var_os(name) {
            kept.push((name.into(), value));
        }
    }
    kept
}

/// Forks twice, so that the coordinator is nobody's child, and execs it.
fn launch(command: &Command, ready: RawFd) -> Result<()> {
    // SAFETY: the child makes system calls only, and ends.
    let child = unsafe { process::fork_raw(libc::SIGCHLD) }.map_err(|error| Error::new("zap-coordinator", error))?;
    if child.0 == 0 {
        let _ = process::setsid();
        // SAFETY: as above.
        if let Ok(grandchild) = unsafe { process::fork_raw(libc::SIGCHLD) } {
            if grandchild.0 == 0 {
                become_coordinator(command, ready);
            }
        }
        process::exit_process(0);
    }
    // The child lives for a moment only. A caller that ignores SIGCHLD gets ECHILD once it has ended.
    let _ = process::wait(child.0, 0);
    Ok(())
}

fn become_coordinator(command: &Command, ready: RawFd) -> ! {
    use zap_sys::fd;
    let null = fd::open(c"/dev/null", libc::O_RDWR | libc::O_CLOEXEC, 0).unwrap_or(-1);
    let duplicate = |from: RawFd, to: RawFd| {
        // SAFETY: replaces a descriptor of this process, which has nothing of its own.
        let _ = unsafe { syscall(libc::SYS_dup3, [from as usize, to as usize, 0, 0, 0, 0]) };
    };
    // Neither source may be overwritten before it is used.
    // SAFETY: as above.
    let high = unsafe { syscall(libc::SYS_fcntl, [ready as usize, libc::F_DUPFD_CLOEXEC as usize, 10, 0, 0, 0]) };
    // SAFETY: as above.
    let null = unsafe { syscall(libc::SYS_fcntl, [null as usize, libc::F_DUPFD_CLOEXEC as usize, 10, 0, 0, 0]) };
    let (Ok(high), Ok(null)) = (high, null) else { process::exit_process(127) };
    for standard in 0..READY {
        duplicate(null as RawFd, standard);
    }
    duplicate(high as RawFd, READY);
    let _ = fd::close_range(READY as u32 + 1, u32::MAX);
    let _ = zap_sys::signal::change_mask(libc::SIG_SETMASK, 0);
    let vectors = (command.arguments.as_ptr() as usize, command.environment.as_ptr() as usize);
    // SAFETY: path and both vectors end with a NUL and live in this process's copy of memory.
    let _ = unsafe { syscall(libc::SYS_execve, [command.program.as_ptr() as usize, vectors.0, vectors.1, 0, 0, 0]) };
    process::exit_process(127)
}

fn pipe() -> Result<(File, File)> {
    let (reader, writer) = std::io::pipe().map_err(|error| Error::system("zap-coordinator", "pipe", &error))?;
    Ok((File::from(std::os::fd::OwnedFd::from(reader)), File::from(std::os::fd::OwnedFd::from(writer))))
}

/// What the coordinator says until it closes the pipe: one NUL when it listens, else why it does not.
fn read_until_end(reader: &mut File) -> Result<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut wait = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, alive during the call.
        if unsafe { libc::poll(&mut wait, 1, left.as_millis() as i32) } == 0 || left.is_zero() {
            return Err(Error::new("zap-coordinator", "not ready after 10 s"));
        }
        let mut buffer = [0u8; 1024];
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(said),
            Ok(count) => said.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::system("zap-coordinator", "read", &error)),
        }
        if said.first() == Some(&0) {
            return Ok(said);
        }
    }
}
