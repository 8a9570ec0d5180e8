//! How the restorer says that it cannot go on: one line on the report descriptor, then the end of the process.
//!
//! Only before the jump into the frozen copy; from there on the engine reports.

use core::fmt;
use core::sync::atomic::{AtomicI32, Ordering};
use plan::{FAILED_STATUS, REPORT_FAILED, REPORT_FILE_GONE, REPORT_NO_PLACE};
use zap_sys::text::SmallString;
use zap_sys::{fd, process, RawFd, SysError};

/// The report descriptor; standard error until the plan has been read. The copy in the hole takes the value along.
static DESCRIPTOR: AtomicI32 = AtomicI32::new(2);

/// Reports go to `descriptor` from now on.
pub fn report_to(descriptor: RawFd) {
    DESCRIPTOR.store(descriptor, Ordering::Relaxed);
}

/// Ends the process: `what: why`.
pub fn fail(message: fmt::Arguments<'_>) -> ! {
    end(REPORT_FAILED, message)
}

/// Ends the process because the kernel has put something where the program's memory must be.
pub fn fail_no_place(message: fmt::Arguments<'_>) -> ! {
    end(REPORT_NO_PLACE, message)
}

/// Ends the process because a file that the plan maps is gone.
pub fn fail_file_gone(message: fmt::Arguments<'_>) -> ! {
    end(REPORT_FILE_GONE, message)
}

/// The value, or the end.
pub fn must<T>(result: Result<T, SysError>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => fail(format_args!("{what}: {error}")),
    }
}

/// As [`must`], for a step that concerns one range of memory.
pub fn must_at<T>(result: Result<T, SysError>, what: &str, address: u64, length: u64) -> T {
    match result {
        Ok(value) => value,
        Err(error) => fail(format_args!("{what} {address:x}-{:x}: {error}", address.wrapping_add(length))),
    }
}

fn end(mark: u8, message: fmt::Arguments<'_>) -> ! {
    let mut line = SmallString::<512>::default();
    let descriptor = DESCRIPTOR.load(Ordering::Relaxed);
    if descriptor == 2 {
        line.push(b"zap-restart: ");
    } else {
        line.push(&[mark]);
    }
    let _ = fmt::Write::write_fmt(&mut line, message);
    line.push(b"\n");
    let _ = fd::write_all(descriptor, line.as_bytes());
    process::exit_process(FAILED_STATUS)
}
