//! Errors of the kernel: the number, and with it the name of the call that failed.

use core::fmt;

/// An error number of Linux (errno(3)), always positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// The symbolic name, for the ones a user of Zap may meet.
    pub fn name(self) -> &'static str {
        match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::ESRCH => "ESRCH",
            libc::EINTR => "EINTR",
            libc::EIO => "EIO",
            libc::ENXIO => "ENXIO",
            libc::E2BIG => "E2BIG",
            libc::ENOEXEC => "ENOEXEC",
            libc::EBADF => "EBADF",
            libc::ECHILD => "ECHILD",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EFAULT => "EFAULT",
            libc::EBUSY => "EBUSY",
            libc::EEXIST => "EEXIST",
            libc::ENODEV => "ENODEV",
            libc::ENOTDIR => "ENOTDIR",
            libc::EISDIR => "EISDIR",
            libc::EINVAL => "EINVAL",
            libc::ENFILE => "ENFILE",
            libc::EMFILE => "EMFILE",
            libc::ENOTTY => "ENOTTY",
            libc::ETXTBSY => "ETXTBSY",
            libc::EFBIG => "EFBIG",
            libc::ENOSPC => "ENOSPC",
            libc::ESPIPE => "ESPIPE",
            libc::EROFS => "EROFS",
            libc::EPIPE => "EPIPE",
            libc::ERANGE => "ERANGE",
            libc::EDQUOT => "EDQUOT",
            libc::ENOSYS => "ENOSYS",
            libc::ELOOP => "ELOOP",
            libc::ENAMETOOLONG => "ENAMETOOLONG",
            libc::EOVERFLOW => "EOVERFLOW",
            libc::ECONNREFUSED => "ECONNREFUSED",
            libc::ECONNRESET => "ECONNRESET",
            libc::ENOTCONN => "ENOTCONN",
            libc::ETIMEDOUT => "ETIMEDOUT",
            libc::EMSGSIZE => "EMSGSIZE",
            libc::EADDRINUSE => "EADDRINUSE",
            libc::EPROTO => "EPROTO",
            libc::ECANCELED => "ECANCELED",
            libc::ESTALE => "ESTALE",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            _ => "errno",
        }
    }

    /// What it means, in the words of strerror(3), for the ones a user of Zap may meet.
    pub fn meaning(self) -> &'static str {
        match self.0 {
            libc::EPERM => "operation not permitted",
            libc::ENOENT => "no such file or directory",
            libc::ESRCH => "no such process",
            libc::EIO => "input/output error",
            libc::EAGAIN => "resource temporarily unavailable",
            libc::ENOMEM => "cannot allocate memory",
            libc::EACCES => "permission denied",
            libc::EMFILE => "too many open files",
            libc::EFBIG => "file too large",
            libc::ENOSPC => "no space left on device",
            libc::EROFS => "read-only file system",
            libc::EDQUOT => "disk quota exceeded",
            libc::ENOSYS => "function not implemented",
            libc::ETIMEDOUT => "timed out",
            libc::EPIPE => "broken pipe",
            libc::EISDIR => "is a directory",
            libc::ENOTDIR => "not a directory",
            libc::EXDEV => "invalid cross-device link",
            _ => "failed",
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.meaning(), self.name(), self.0)
    }
}

/// A system call that failed, by name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SysError {
    /// The call's name as in section 2 of the manual.
    pub call: &'static str,
    /// Why it failed.
    pub errno: Errno,
}

impl SysError {
    /// An error of `call`.
    pub const fn new(call: &'static str, errno: i32) -> Self {
        Self { call, errno: Errno(errno) }
    }

    /// Whether the error number is `errno`.
    pub fn is(&self, errno: i32) -> bool {
        self.errno.0 == errno
    }
}

impl fmt::Debug for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno)
    }
}

impl core::error::Error for SysError {}

/// What every call of this crate returns.
pub type Result<T> = core::result::Result<T, SysError>;

/// Fills the arguments of a call up to six.
#[inline(always)]
pub(crate) fn pad<const N: usize>(given: [usize; N]) -> [usize; 6] {
    let mut args = [0; 6];
    args[..N].copy_from_slice(&given);
    args
}

/// Makes a system call and names it in the error. For this crate's typed functions only.
macro_rules! call {
    ($name:ident $(, $arg:expr)* $(,)?) => {{
        let args = $crate::errno::pad([$( $arg as usize ),*]);
        // SAFETY: proven by the types of the function that makes the call, or owed by its caller where it is unsafe.
        unsafe { $crate::arch::syscall::syscall(libc::$name, args) }
            .map_err(|errno| $crate::errno::SysError { call: stringify!($name).split_at(4).1, errno })
    }};
}
pub(crate) use call;
