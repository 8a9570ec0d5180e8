//! From a plan to a running program: fork, exec of the original program under the restorer, and its first word.
//!
//! What the child finds after the exec: standard streams as they were; plan, image and report descriptor just below
//! the limit of descriptors, where few programs have any of their own; nothing else is open. Zap's signal is blocked,
//! all else about signals is as zap-restart found it.
//!
//! # Safety
//! The child of fork makes system calls only, on memory that was made ready before.
#![allow(unsafe_code)]

use crate::image::Image;
use crate::planner::Planned;
use crate::supervise::{self, Patience};
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use zap_client::error::{reason, Error, Result};
use zap_client::{executable, install};
use zap_restorer::{REPORT_FAILED, REPORT_FILE_GONE, REPORT_NO_PLACE};
use zap_sys::arch::syscall::syscall;
use zap_sys::signal::{self, KernelAction, Mask};
use zap_sys::{fd, net, process, RealPid, SysError};
use zap_wire::restart::{Outcome, RestartParts};

/// How often an exec is tried whose addresses, which the kernel chooses at random, are in the way.
const ATTEMPTS: u32 = 5;

/// Descriptors of a restart stay below this number even where more are allowed: the kernel's table grows with it.
const HIGHEST_DESCRIPTOR: u64 = 1 << 16;

/// What the pod's coordinator has said.
#[derive(Clone, Debug)]
pub struct Pod {
    pub id: u64,
    pub table: String,
}

/// Circumstances of the new process.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// In a session of its own.
    pub background: bool,
    /// The signal mask with which zap-restart was started.
    pub mask: Mask,
}

/// How a start has gone that has not failed for good.
pub enum Start {
    Runs(RealPid),
    /// A file that the plan maps has gone since the plan was made.
    FileGone(Error),
}

/// Starts the program of `image`; returns when it runs. A signal meanwhile ends this process, and what it has made.
pub fn start(image: &Image, planned: &Planned, pod: &Pod, circumstances: Circumstances) -> Result<Start> {
    let program = Program::new(image)?;
    let numbers = Numbers::below_limit();
    let parts = RestartParts {
        pod_id: pod.id,
        table: pod.table.clone(),
        streams: [0, 1, 2],
        report: numbers.report,
        spare: Vec::new(),
        // Only the restorer knows these two; it writes them behind the parts (`zap_restorer::plan::Trailer`).
        restorer: (0, 0),
        vdso: (0, 0),
        image_backed: planned.image_backed.clone(),
    };
    let parts = zap_wire::encode(&parts).map_err(|why| Error::new("restart parts", why))?;
    let plan = planned.encode(&image.header, numbers.image, numbers.report, &parts)?;
    let plan = in_memory(&plan)?;
    let patience = Patience::new(circumstances.mask).map_err(|error| Error::new("signals", error))?;
    let (mut left, mut taken) = (ATTEMPTS, 0);
    loop {
        left -= 1;
        match attempt(image, &program, numbers, &plan, circumstances, &patience)? {
            Attempt::Started(child) => return Ok(Start::Runs(child)),
            Attempt::FileGone(why) => return Ok(Start::FileGone(Error::new(image.path.display(), why))),
            Attempt::NoPlace(why) if left == 0 => return Err(Error::new(image.path.display(), why)),
            Attempt::NoPlace(_) => {}
            // Each attempt uses one number up.
            Attempt::NumberTaken if taken > image.header.threads.len() => {
                return Err(Error::new("process number", "every one is that of a thread in the image"));
            }
            Attempt::NumberTaken => {
                taken += 1;
                left += 1;
            }
        }
    }
}

/// Refuses an executable into which the restorer would not be loaded: it would run from its beginning instead.
pub fn check_executable(image: &Image) -> Result<()> {
    let path = Path::new(OsStr::from_bytes(&image.header.process.executable.0));
    let inspection = executable::inspect(path)?;
    match (inspection.kind, inspection.file == path) {
        (executable::Kind::Dynamic, true) => Ok(()),
        (kind, _) => Err(Error::new(path.display(), kind.refusal().unwrap_or("is not the program it was"))),
    }
}

enum Attempt {
    Started(RealPid),
    /// The kernel's choice of addresses was in the way; in the restorer's words.
    NoPlace(String),
    /// As [`Start::FileGone`].
    FileGone(String),
    /// See [`takes_anothers_number`].
    NumberTaken,
}

fn attempt(
    image: &Image,
    program: &Program,
    numbers: Numbers,
    plan: &File,
    circumstances: Circumstances,
    patience: &Patience,
) -> Result<Attempt> {
    let name = image.path.display();
    let failed = |error: SysError| Error::new(image.path.display(), error);
    let pair = net::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0).map_err(failed)?;
    // SAFETY: new descriptors that nobody else knows.
    let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(pair.0), OwnedFd::from_raw_fd(pair.1)) };
    let sources = Numbers { plan: plan.as_raw_fd(), image: image.file.as_raw_fd(), report: theirs.as_raw_fd() };
    let signal = image.header.pod.signal;
    let mask = circumstances.mask | if (1..=64).contains(&signal) { signal::bit(signal) } else { 0 };
    // SAFETY: the child makes system calls only, and execs or ends.
    let child = unsafe { process::fork_raw(libc::SIGCHLD) }.map_err(failed)?;
    if child.0 == 0 {
        if takes_anothers_number(image) {
            process::exit_process(TAKEN_STATUS);
        }
        become_program(program, sources, numbers, mask, circumstances.background);
    }
    drop(theirs);
    if let Some(number) = patience.wait(ours.as_fd()) {
        abandon(child);
        supervise::end_by(number);
    }
    let mut buffer = vec![0u8; zap_wire::LONGEST_MESSAGE];
    let length = loop {
        match net::receive(ours.as_raw_fd(), &mut buffer, 0) {
            Err(error) if error.is(libc::EINTR) => {}
            other => break other.unwrap_or(0),
        }
    };
    let said = &buffer[..length];
    let text = || String::from_utf8_lossy(said.get(1..).unwrap_or_default()).trim_end().to_string();
    let error = match said.first() {
        None => {
            let (_, status) = process::wait(child.0, 0).map_err(failed)?;
            // A terminal's signal goes to both, and has ended the other first.
            if let Some(number) = patience.pending() {
                supervise::end_by(number);
            }
            if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == TAKEN_STATUS {
                return Ok(Attempt::NumberTaken);
            }
            return Err(Error::new(name, format_args!("the restored program has {} at once", ending(status))));
        }
        Some(&REPORT_NO_PLACE) => {
            let _ = process::wait(child.0, 0);
            return Ok(Attempt::NoPlace(text()));
        }
        Some(&REPORT_FILE_GONE) => {
            let _ = process::wait(child.0, 0);
            return Ok(Attempt::FileGone(text()));
        }
        Some(&REPORT_FAILED) => Error::new(name, text()),
        Some(_) => match zap_wire::decode::<Outcome>(said) {
            Ok(Outcome::Started) => return Ok(Attempt::Started(child)),
            Ok(Outcome::Refused { object, reason }) => Error::new(object, reason),
            Err(why) => Error::new(name, format_args!("the restored program's report: {why}")),
        },
    };
    // Whoever has refused ends by itself; one that does not must not linger half restored.
    let _ = signal::kill(child.0, libc::SIGKILL);
    let _ = process::wait(child.0, 0);
    Err(error)
}

/// Ends a process that is half restored, and those that it has made: a helper shares its memory, and not its end.
fn abandon(child: RealPid) {
    // Stopped it makes no more of them.
    let _ = signal::kill(child.0, libc::SIGSTOP);
    let mut family = vec![child.0];
    let mut at = 0;
    while let Some(parent) = family.get(at) {
        family.extend(children(*parent));
        at += 1;
    }
    for pid in family {
        let _ = signal::kill(pid, libc::SIGKILL);
    }
    let _ = process::wait(child.0, 0);
}

/// The children that the threads of the process `pid` have made.
fn children(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
}

/// How a child ends that [`takes_anothers_number`]; no program's status yet.
const TAKEN_STATUS: i32 = 3;

/// Whether the kernel has given the calling process the number by which the program knows one of its other threads: its
/// libc would take the one for the other.
fn takes_anothers_number(image: &Image) -> bool {
    let (own, main) = (process::getpid().0, image.header.process.virtual_pid);
    own != main && image.header.threads.iter().any(|thread| thread.virtual_tid == own)
}

fn ending(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("been ended by signal {}", libc::WTERMSIG(status))
    } else {
        format!("ended with status {}", libc::WEXITSTATUS(status))
    }
}

/// Numbers of the three descriptors of a restart.
#[derive(Clone, Copy)]
struct Numbers {
    plan: RawFd,
    image: RawFd,
    report: RawFd,
}

impl Numbers {
    fn below_limit() -> Self {
        let soft = process::limit(libc::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
        // Room for three more above, which the child needs for a moment.
        let base = soft.min(HIGHEST_DESCRIPTOR).saturating_sub(8).max(3) as RawFd;
        Self { plan: base, image: base + 1, report: base + 2 }
    }
}

/// What exec needs, made before the fork.
struct Program {
    path: CString,
    _strings: Vec<CString>,
    arguments: Vec<usize>,
    environment: Vec<usize>,
}

impl Program {
    fn new(image: &Image) -> Result<Self> {
        let process = &image.header.process;
        let restorer = install::restorer()?;
        if restorer.as_os_str().as_bytes().contains(&b':') {
            return Err(Error::new(restorer.display(), "the loader takes no path with a colon; install Zap elsewhere"));
        }
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| Error::new(image.path.display(), "the program's path holds a NUL"))
        };
        let plan = Numbers::below_limit().plan;
        let strings = vec![
            text(process.program.as_bytes())?,
            text(&[b"LD_AUDIT=", restorer.as_os_str().as_bytes()].concat())?,
            text(format!("{}={plan}", zap_wire::environment::PLAN).as_bytes())?,
            // The engine registers the program's own area; the kernel takes one per thread (rseq(2)).
            text(b"GLIBC_TUNABLES=glibc.pthread.rseq=0")?,
        ];
        let pointers = |strings: &[CString]| strings.iter().map(|s| s.as_ptr() as usize).chain([0]).collect::<Vec<_>>();
        let (arguments, environment) = (pointers(&strings[..1]), pointers(&strings[1..]));
        Ok(Self { path: text(&process.executable.0)?, _strings: strings, arguments, environment })
    }
}

/// The child's part, up to the exec.
fn become_program(program: &Program, sources: Numbers, numbers: Numbers, mask: Mask, background: bool) -> ! {
    let fail = |what: &str, error: SysError| -> ! {
        let mut line = zap_sys::text::SmallString::<256>::default();
        line.push(&[REPORT_FAILED]);
        line.push(what.as_bytes());
        line.push(b": ");
        let _ = std::fmt::Write::write_fmt(&mut line, format_args!("{error}"));
        let _ = fd::write_all(sources.report, line.as_bytes());
        process::exit_process(zap_restorer::FAILED_STATUS)
    };
    if background {
        let _ = process::setsid();
    }
    // First above their places, then down: no source is overwritten before it is used.
    let above = |source: RawFd| match fd::dup_above(source, numbers.report + 1) {
        Ok(number) => number,
        Err(error) => fail("descriptors", error),
    };
    let raised = [above(sources.plan), above(sources.image), above(sources.report)];
    for (from, to) in raised.into_iter().zip([numbers.plan, numbers.image, numbers.report]) {
        if let Err(error) = fd::dup3(from, to, 0) {
            fail("descriptors", error);
        }
    }
    if numbers.plan > 3 {
        let _ = fd::close_range(3, numbers.plan as u32 - 1);
    }
    let _ = fd::close_range(numbers.report as u32 + 1, u32::MAX);
    // Rust's runtime ignores SIGPIPE, which would pass to the program.
    // SAFETY: the default action runs no code.
    let _ = unsafe { signal::set_action(libc::SIGPIPE, &KernelAction::default()) };
    let _ = signal::change_mask(libc::SIG_SETMASK, mask);
    let vectors = (program.arguments.as_ptr() as usize, program.environment.as_ptr() as usize);
    // SAFETY: path and both vectors end with a NUL and live in this process's copy of memory.
    let result = unsafe { syscall(libc::SYS_execve, [program.path.as_ptr() as usize, vectors.0, vectors.1, 0, 0, 0]) };
    let errno = result.err().map_or(0, |errno| errno.0);
    let mut line = zap_sys::text::SmallString::<256>::default();
    line.push(&[REPORT_FAILED]);
    let path = program.path.to_bytes();
    line.push(&path[..path.len().min(150)]);
    let _ = std::fmt::Write::write_fmt(&mut line, format_args!(": {}", SysError::new("execve", errno)));
    let _ = fd::write_all(numbers.report, line.as_bytes());
    process::exit_process(zap_restorer::FAILED_STATUS)
}

fn in_memory(bytes: &[u8]) -> Result<File> {
    let number = fd::memfd_create(c"zap-plan", libc::MFD_CLOEXEC).map_err(|error| Error::new("plan", error))?;
    // SAFETY: a new descriptor that nobody else knows.
    let mut file = unsafe { File::from_raw_fd(number) };
    file.write_all(bytes).map_err(|error| Error::new("plan", reason(&error)))?;
    Ok(file)
}
