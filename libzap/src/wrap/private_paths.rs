//! Functions that take a path, where the pod has directories of its own of which the kernel knows nothing: the path becomes the
//! host's (`zap_engine::private_paths`).
//!
//! Here are those of which nothing else is to be known; others ask [`with_own`], or [`Own`] for one path.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::next_of;
use core::ffi::{c_char, c_int, c_long};
use zap_engine::in_hand;
use zap_engine::next::{self, Next};
use zap_engine::path_rooms;
use zap_engine::private;
use zap_engine::private_paths::{self, HostPath, Last, Leads, Rest};
use zap_engine::state;
use zap_sys::RawFd;

pub type Arguments = [usize; 5];
type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize) -> usize;

/// What becomes of a link that a path ends in, with the place of the argument that says so.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Links {
    Follows,
    Keeps,
    /// As `Keeps`; a directory of the pod's own cannot be taken away, as no mount point can.
    Removes,
    /// Follows, but with AT_SYMLINK_NOFOLLOW.
    Unless(usize),
    /// Only with AT_SYMLINK_FOLLOW.
    OnlyIf(usize),
    /// By the flags of open(2).
    Opens(usize),
    /// By a `struct open_how`.
    How(usize),
}
use Links::{Follows, How, Keeps, OnlyIf, Opens, Removes, Unless};

/// A path among the arguments of a function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub path: usize,
    /// The argument before it is the directory in which it begins.
    pub below: bool,
    pub links: Links,
}

/// The path is argument `path`.
pub const fn at(path: usize, links: Links) -> Place {
    Place { path, below: false, links }
}

/// The path is argument `path`, and the one before it is the directory in which it begins.
pub const fn below(path: usize, links: Links) -> Place {
    Place { path, below: true, links }
}

impl Place {
    /// The directory in which the path begins.
    pub fn directory(self, arguments: &Arguments) -> RawFd {
        if self.below {
            arguments[self.path - 1] as RawFd
        } else {
            libc::AT_FDCWD
        }
    }

    fn find(self, arguments: &Arguments, into: &mut HostPath, rest: &mut Rest) -> Leads {
        let flags = |at: usize| arguments[at] as c_int;
        let kept = match self.links {
            Follows => false,
            Keeps | Removes => true,
            Unless(at) => flags(at) & libc::AT_SYMLINK_NOFOLLOW != 0,
            OnlyIf(at) => flags(at) & libc::AT_SYMLINK_FOLLOW == 0,
            Opens(at) => keeps(flags(at)),
            How(at) => {
                let place = arguments[at] as *const libc::open_how;
                if !super::readable(place) {
                    return Leads::AsItIs;
                }
                // SAFETY: it can be read.
                let how = unsafe { place.read_unaligned() };
                match how.resolve {
                    0 => keeps(how.flags as c_int),
                    // What is to stay below the directory does.
                    resolve if resolve & (libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT) != 0 => return Leads::AsItIs,
                    _ => {
                        let (from, path) = (self.directory(arguments), arguments[self.path]);
                        return private_paths::find_by_names(from, path, into, rest);
                    }
                }
            }
        };
        let last = if kept { Last::Kept } else { Last::Followed };
        match private_paths::find(self.directory(arguments), arguments[self.path], last, into, rest) {
            Leads::Elsewhere if self.links == Removes && is_own_itself(into) => Leads::Nowhere(libc::EBUSY),
            leads => leads,
        }
    }
}

/// Whether the host's path is that of one of the pod's own directories.
#[cold]
fn is_own_itself(path: &HostPath) -> bool {
    let bytes = path.as_c_str().to_bytes();
    let end = bytes.iter().rposition(|c| *c != b'/').map_or(0, |at| at + 1);
    private::below_store(&bytes[..end]).is_some_and(|(_, rest)| rest.is_empty())
}

/// Whether open(2) with these flags does not follow a link.
pub fn keeps(flags: c_int) -> bool {
    const NEW: c_int = libc::O_CREAT | libc::O_EXCL;
    flags & libc::O_NOFOLLOW != 0 || flags & NEW == NEW
}

/// Makes `call` with the host's paths at `places` of the arguments. `fail` fails with an error, and `has_failed` looks whether a
/// result is one: the call is made anew if a restart has put the store elsewhere in between.
#[cold]
#[inline(never)]
pub fn with_own(
    places: &[Place],
    arguments: Arguments,
    fail: &dyn Fn(c_int) -> usize,
    has_failed: &dyn Fn(usize) -> bool,
    call: &dyn Fn(Arguments) -> usize,
) -> usize {
    let Some((place, others)) = places.split_first().filter(|_| state::active()) else { return call(arguments) };
    path_rooms::with(|room| loop {
        let generation = private::generation();
        let mut arguments = arguments;
        let noted = in_hand::note(room.host.place());
        let result = match place.find(&arguments, &mut room.host, &mut room.rest) {
            Leads::Nowhere(errno) => fail(errno),
            leads => {
                if leads == Leads::Elsewhere {
                    arguments[place.path] = room.host.as_c_str().as_ptr() as usize;
                }
                with_own(others, arguments, fail, has_failed, call)
            }
        };
        in_hand::let_go(&noted);
        if private::generation() == generation || !has_failed(result) {
            break result;
        }
    })
}

/// One path, as the kernel is to be given it.
pub struct Own {
    room: core::mem::MaybeUninit<HostPath>,
}

impl Own {
    /// Room for one, which is not used where the pod has no directories of its own.
    #[inline(always)]
    pub fn new() -> Self {
        Self { room: core::mem::MaybeUninit::uninit() }
    }

    /// The host's path of the program's `path`. `Err` with an error number where it leads nowhere.
    #[inline(always)]
    pub fn of(&mut self, path: *const c_char, last: Last) -> Result<*const c_char, c_int> {
        if !private::by_names() {
            return Ok(path);
        }
        self.find(libc::AT_FDCWD, path, last)
    }

    /// The same of one that begins in a directory.
    #[cold]
    #[inline(never)]
    pub fn find(&mut self, from: RawFd, path: *const c_char, last: Last) -> Result<*const c_char, c_int> {
        let own = self.room.write(HostPath::new());
        if !state::active() {
            return Ok(path);
        }
        match path_rooms::with(|room| private_paths::find(from, path as usize, last, own, &mut room.rest)) {
            Leads::AsItIs => Ok(path),
            Leads::Elsewhere => Ok(own.as_c_str().as_ptr()),
            Leads::Nowhere(errno) => Err(errno),
        }
    }
}

/// How a function fails.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fails {
    Minus,
    Null,
}
use Fails::{Minus, Null};

/// Stands in for every function here, from inside a look-up. `Null` is no success either: it is what a path leads to then.
extern "C" fn missing() -> isize {
    super::fail(libc::ENOSYS) as isize
}

macro_rules! path_functions {
    ($($next:ident $name:ident $fails:ident $($place:expr),+;)*) => {
        $(
            static $next: Next = next_of!($name, missing);

            /// The libc function of this name.
            ///
            /// # Safety
            /// As the libc function.
            #[no_mangle]
            pub unsafe extern "C" fn $name(a: usize, b: usize, c: usize, d: usize, e: usize) -> usize {
                const PLACES: &[Place] = &[$($place),+];
                // SAFETY: the caller's arguments.
                unsafe { call(&$next, PLACES, $fails, a, b, c, d, e) }
            }
        )*

        static FAMILY: &[&Next] = &[$(&$next),*];
    };
}

path_functions! {
    CREAT creat Minus at(0, Follows);
    CREAT64 creat64 Minus at(0, Follows);
    FREOPEN freopen Null at(0, Follows);
    FREOPEN64 freopen64 Null at(0, Follows);
    SETMNTENT setmntent Null at(0, Follows);
    EACCESS eaccess Minus at(0, Follows);
    EUIDACCESS euidaccess Minus at(0, Follows);
    CHMOD chmod Minus at(0, Follows);
    LCHMOD lchmod Minus at(0, Keeps);
    FCHMODAT fchmodat Minus below(1, Unless(3));
    CHOWN chown Minus at(0, Follows);
    LCHOWN lchown Minus at(0, Keeps);
    FCHOWNAT fchownat Minus below(1, Unless(4));
    LINK link Minus at(0, Keeps), at(1, Keeps);
    LINKAT linkat Minus below(1, OnlyIf(4)), below(3, Keeps);
    SYMLINK symlink Minus at(1, Keeps);
    SYMLINKAT symlinkat Minus below(2, Keeps);
    UNLINK unlink Minus at(0, Removes);
    UNLINKAT unlinkat Minus below(1, Removes);
    REMOVE remove Minus at(0, Removes);
    RENAME rename Minus at(0, Removes), at(1, Removes);
    RENAMEAT renameat Minus below(1, Removes), below(3, Removes);
    RENAMEAT2 renameat2 Minus below(1, Removes), below(3, Removes);
    MKDIR mkdir Minus at(0, Keeps);
    MKDIRAT mkdirat Minus below(1, Keeps);
    RMDIR rmdir Minus at(0, Removes);
    MKNOD mknod Minus at(0, Keeps);
    MKNODAT mknodat Minus below(1, Keeps);
    XMKNOD __xmknod Minus at(1, Keeps);
    XMKNODAT __xmknodat Minus below(2, Keeps);
    MKFIFO mkfifo Minus at(0, Keeps);
    MKFIFOAT mkfifoat Minus below(1, Keeps);
    TRUNCATE truncate Minus at(0, Follows);
    TRUNCATE64 truncate64 Minus at(0, Follows);
    UTIME utime Minus at(0, Follows);
    UTIMES utimes Minus at(0, Follows);
    LUTIMES lutimes Minus at(0, Keeps);
    UTIMENSAT utimensat Minus below(1, Unless(3));
    FUTIMESAT futimesat Minus below(1, Follows);
    STATFS statfs Minus at(0, Follows);
    STATFS64 statfs64 Minus at(0, Follows);
    STATVFS statvfs Minus at(0, Follows);
    STATVFS64 statvfs64 Minus at(0, Follows);
    PATHCONF pathconf Minus at(0, Follows);
    SETXATTR setxattr Minus at(0, Follows);
    LSETXATTR lsetxattr Minus at(0, Keeps);
    GETXATTR getxattr Minus at(0, Follows);
    LGETXATTR lgetxattr Minus at(0, Keeps);
    LISTXATTR listxattr Minus at(0, Follows);
    LLISTXATTR llistxattr Minus at(0, Keeps);
    REMOVEXATTR removexattr Minus at(0, Follows);
    LREMOVEXATTR lremovexattr Minus at(0, Keeps);
    NAME_TO_HANDLE_AT name_to_handle_at Minus below(1, OnlyIf(4));
}

/// Finds every function now.
pub fn resolve() {
    address(&CREAT);
}

#[inline(always)]
fn address(next: &Next) -> usize {
    match next.known() {
        0 => next::find(FAMILY, next, |name| super::optional(name) as usize),
        address => address,
    }
}

/// # Safety
/// Arguments of the function `next`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn call(
    next: &'static Next,
    places: &'static [Place],
    fails: Fails,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> usize {
    let address = next.known();
    if address == 0 || private::by_names() {
        // SAFETY: the caller's promise.
        return unsafe { own(next, places, fails, a, b, c, d, e) };
    }
    // SAFETY: a function that takes no more than five numbers and addresses.
    let function: Function = unsafe { core::mem::transmute(address) };
    // SAFETY: the caller's promise.
    unsafe { function(a, b, c, d, e) }
}

/// As [`call`], for what is not to stand in the way of others.
#[cold]
#[inline(never)]
#[allow(clippy::too_many_arguments)]
unsafe fn own(
    next: &'static Next,
    places: &'static [Place],
    fails: Fails,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> usize {
    let address = match address(next) {
        0 => missing as *const () as usize,
        address => address,
    };
    // SAFETY: a function that takes no more than five numbers and addresses.
    let function: Function = unsafe { core::mem::transmute(address) };
    let call = |[a, b, c, d, e]: Arguments| {
        // SAFETY: the caller's arguments.
        unsafe { function(a, b, c, d, e) }
    };
    let arguments = [a, b, c, d, e];
    if !private::by_names() {
        return call(arguments);
    }
    let fail = |errno| match (super::fail(errno), fails) {
        (_, Null) => 0,
        (result, Minus) => result as usize,
    };
    // Those that give a number of 32 bits leave the other half as it comes.
    let has_failed = |result: usize| match fails {
        Null => result == 0,
        Minus => result as c_int == -1,
    };
    with_own(places, arguments, &fail, &has_failed, &call)
}

/// The paths among the arguments of a system call that is none of `proc_paths`.
fn places_of(number: c_long) -> Option<&'static [Place]> {
    const FCHMODAT2: c_long = 452;
    Some(match number {
        libc::SYS_creat
        | libc::SYS_chmod
        | libc::SYS_chown
        | libc::SYS_truncate
        | libc::SYS_utime
        | libc::SYS_utimes
        | libc::SYS_statfs
        | libc::SYS_setxattr
        | libc::SYS_getxattr
        | libc::SYS_listxattr
        | libc::SYS_removexattr => const { &[at(0, Follows)] },
        libc::SYS_lchown
        | libc::SYS_mkdir
        | libc::SYS_mknod
        | libc::SYS_lsetxattr
        | libc::SYS_lgetxattr
        | libc::SYS_llistxattr
        | libc::SYS_lremovexattr => const { &[at(0, Keeps)] },
        libc::SYS_fchmodat | libc::SYS_futimesat => const { &[below(1, Follows)] },
        libc::SYS_unlink | libc::SYS_rmdir => const { &[at(0, Removes)] },
        libc::SYS_unlinkat => const { &[below(1, Removes)] },
        libc::SYS_mkdirat | libc::SYS_mknodat => const { &[below(1, Keeps)] },
        libc::SYS_utimensat | FCHMODAT2 => const { &[below(1, Unless(3))] },
        libc::SYS_fchownat => const { &[below(1, Unless(4))] },
        libc::SYS_link => const { &[at(0, Keeps), at(1, Keeps)] },
        libc::SYS_rename => const { &[at(0, Removes), at(1, Removes)] },
        libc::SYS_linkat => const { &[below(1, OnlyIf(4)), below(3, Keeps)] },
        libc::SYS_renameat | libc::SYS_renameat2 => const { &[below(1, Removes), below(3, Removes)] },
        libc::SYS_symlink => const { &[at(1, Keeps)] },
        libc::SYS_symlinkat => const { &[below(2, Keeps)] },
        libc::SYS_name_to_handle_at => const { &[below(1, OnlyIf(4))] },
        _ => return None,
    })
}

/// The same by syscall(2); `None` for other calls.
#[cold]
pub fn by_number(number: c_long, arguments: [c_long; 6]) -> Option<c_long> {
    if number == libc::SYS_getcwd {
        return super::working_directory::by_number(arguments);
    }
    let places = places_of(number)?;
    let [a, b, c, d, e, _] = arguments.map(|argument| argument as usize);
    let call = |[a, b, c, d, e]: Arguments| {
        // SAFETY: the caller's arguments.
        match unsafe { zap_sys::arch::syscall::syscall(number, [a, b, c, d, e, 0]) } {
            Ok(result) => result,
            Err(errno) => super::fail(errno.0) as isize as usize,
        }
    };
    let fail = |errno| super::fail(errno) as isize as usize;
    Some(with_own(places, [a, b, c, d, e], &fail, &|result| result as isize == -1, &call) as c_long)
}
