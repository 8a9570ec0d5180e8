//! The exec of the original program under the restorer.
//!
//! What it finds: standard streams as they were; plan, image and report descriptor just below the limit of descriptors,
//! where few programs have any of their own; nothing else is open. Zap's signal is blocked, all else about signals is as
//! zap-restart found it.
//!
//! # Safety
//! [`become_program`] makes system calls only, on memory that was made ready before the fork.
#![allow(unsafe_code)]

use crate::image::Image;
use std::ffi::CString;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use zap_client::error::{Error, Result};
use zap_client::install;
use zap_restorer::REPORT_FAILED;
use zap_sys::arch::syscall::syscall;
use zap_sys::signal::{self, KernelAction, Mask};
use zap_sys::{fd, process, SysError};

/// Descriptors of a restart stay below this number even where more are allowed: the kernel's table grows with it.
const HIGHEST_DESCRIPTOR: u64 = 1 << 16;

/// Numbers of the three descriptors of a restart.
#[derive(Clone, Copy)]
pub struct Numbers {
    pub plan: RawFd,
    pub image: RawFd,
    pub report: RawFd,
}

/// The limit of descriptors with which zap-restart was started, which its programs begin with; their own come from
/// their images.
static GIVEN: OnceLock<(u64, u64)> = OnceLock::new();

fn given_limit() -> (u64, u64) {
    *GIVEN.get_or_init(|| process::limit(libc::RLIMIT_NOFILE).unwrap_or((1024, 1024)))
}

/// Raises the limit of descriptors as far as it may be: a pod's images, plans and connections are three for each process.
pub fn raise_limit() {
    // First asked for what it is.
    let _ = given_limit();
    let _ = process::raise_descriptor_limit();
}

impl Numbers {
    /// Just below the limit of descriptors.
    pub fn below_limit() -> Self {
        let (soft, _) = given_limit();
        // Room for three more above, which the child needs for a moment.
        let base = soft.min(HIGHEST_DESCRIPTOR).saturating_sub(8).max(3) as RawFd;
        Self { plan: base, image: base + 1, report: base + 2 }
    }
}

/// What exec needs, made before the fork.
pub struct Program {
    path: CString,
    _strings: Vec<CString>,
    arguments: Vec<usize>,
    environment: Vec<usize>,
}

impl Program {
    /// What `image`'s program is to be exec'ed with.
    pub fn new(image: &Image) -> Result<Self> {
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
pub fn become_program(program: &Program, sources: Numbers, numbers: Numbers, mask: Mask) -> ! {
    let fail = |what: &str, error: SysError| -> ! {
        let mut line = zap_sys::text::SmallString::<256>::default();
        line.push(&[REPORT_FAILED]);
        line.push(what.as_bytes());
        line.push(b": ");
        let _ = std::fmt::Write::write_fmt(&mut line, format_args!("{error}"));
        let _ = fd::write_all(sources.report, line.as_bytes());
        process::exit_process(zap_restorer::FAILED_STATUS)
    };
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
    let (soft, hard) = given_limit();
    let _ = process::set_limit(libc::RLIMIT_NOFILE, soft, hard);
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
