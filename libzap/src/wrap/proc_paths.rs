//! Paths that begin with /proc/<id>: the id is the program's, the kernel is given its own; who is not of the pod is not there.
//!
//! Whatever the function, its arguments are numbers and addresses: each is handed on as it is but for the path. Where ids are
//! the kernel's own, the call is made first: then the path is known to be readable, and looking at it costs next to nothing.
//!
//! # Safety
//! As in the module's head.
#![allow(unsafe_code)]

use super::private_paths::Links::{Follows, How, Keeps, Opens, Unless};
use super::private_paths::{at, below, with_own, Arguments, Place};
use super::{file_numbers, next_of, terminal_names};
use core::ffi::{c_char, c_int, c_long, CStr};
use zap_engine::next::{self, Next};
use zap_engine::path_rooms::{self, Room};
use zap_engine::proc_texts::File;
use zap_engine::{identity, masking, private, state, terminals};
use zap_sys::path::PATH_MAX;
use zap_sys::{fd, RawFd, RealPid, VirtualPid};

/// Stands in for every function here, from inside a look-up.
extern "C" fn missing() -> isize {
    super::fail(libc::ENOSYS) as isize
}

type Function = unsafe extern "C" fn(usize, usize, usize, usize, usize) -> usize;

/// What a function makes of a path, with the place of what else is to be known among its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Makes {
    /// A descriptor, with flags.
    Descriptor(usize),
    /// A descriptor; what it is opened for is not looked at.
    OtherDescriptor,
    Stream,
    Listing,
    /// The text of a link, into a buffer that its length follows.
    Link(usize),
    /// Another working directory.
    Change,
    /// What is known of the file, where this argument leads.
    Stat(usize),
    Statx(usize),
    Nothing,
}
use Makes::{Change, Descriptor, Link, Listing, Nothing, OtherDescriptor, Stat, Statx, Stream};

impl Makes {
    fn has_failed(self, result: usize) -> bool {
        match self {
            Stream | Listing => result == 0,
            Link(_) => result as isize == -1,
            _ => result as c_int == -1,
        }
    }

    /// Fails with `errno`.
    fn fail(self, errno: c_int) -> usize {
        let result = super::fail(errno);
        match self {
            Stream | Listing => 0,
            _ => result as usize,
        }
    }

    /// Makes the call; what it tells of a file becomes what the program knows.
    #[inline(always)]
    fn seen(self, arguments: &Arguments, call: impl Fn() -> usize) -> usize {
        let has_failed = |result| self.has_failed(result);
        match self {
            // SAFETY: the kernel has filled it.
            Stat(at) => file_numbers::seen(call, has_failed, |list| unsafe {
                file_numbers::see(list, arguments[at] as *mut libc::stat);
            }),
            // SAFETY: as above.
            Statx(at) => file_numbers::seen(call, has_failed, |list| unsafe {
                file_numbers::see_extended(list, arguments[at] as *mut libc::statx);
            }),
            _ => call(),
        }
    }

    /// Takes back what has been made, and says that there is nothing.
    #[cold]
    fn undo(self, result: usize) -> usize {
        if !self.has_failed(result) {
            match self {
                Descriptor(_) | OtherDescriptor => {
                    let _ = fd::close(result as RawFd);
                }
                // SAFETY: just made, and nobody's yet.
                Stream => drop(unsafe { libc::fclose(result as *mut libc::FILE) }),
                // SAFETY: as above.
                Listing => drop(unsafe { libc::closedir(result as *mut libc::DIR) }),
                _ => {}
            }
        }
        self.fail(libc::ENOENT)
    }
}

macro_rules! path_functions {
    ($($next:ident $name:ident $place:expr, $makes:expr;)*) => {
        $(
            static $next: Next = next_of!($name, missing);

            /// The libc function of this name.
            ///
            /// # Safety
            /// As the libc function.
            #[no_mangle]
            pub unsafe extern "C" fn $name(a: usize, b: usize, c: usize, d: usize, e: usize) -> usize {
                const PLACE: &Place = &$place;
                const MAKES: &Makes = &$makes;
                // SAFETY: the caller's arguments.
                unsafe { call(&$next, PLACE, MAKES, [a, b, c, d, e]) }
            }
        )*

        static FAMILY: &[&Next] = &[$(&$next),*];
    };
}

// With the place of the path among the arguments, and what becomes of a link there.
path_functions! {
    OPEN open at(0, Opens(1)), Descriptor(1);
    OPEN64 open64 at(0, Opens(1)), Descriptor(1);
    OPENAT openat below(1, Opens(2)), Descriptor(2);
    OPENAT64 openat64 below(1, Opens(2)), Descriptor(2);
    OPEN_2 __open_2 at(0, Opens(1)), Descriptor(1);
    OPEN64_2 __open64_2 at(0, Opens(1)), Descriptor(1);
    OPENAT_2 __openat_2 below(1, Opens(2)), Descriptor(2);
    OPENAT64_2 __openat64_2 below(1, Opens(2)), Descriptor(2);
    FOPEN fopen at(0, Follows), Stream;
    FOPEN64 fopen64 at(0, Follows), Stream;
    OPENDIR opendir at(0, Follows), Listing;
    STAT stat at(0, Follows), Stat(1);
    STAT64 stat64 at(0, Follows), Stat(1);
    LSTAT lstat at(0, Keeps), Stat(1);
    LSTAT64 lstat64 at(0, Keeps), Stat(1);
    FSTATAT fstatat below(1, Unless(3)), Stat(2);
    FSTATAT64 fstatat64 below(1, Unless(3)), Stat(2);
    STATX statx below(1, Unless(2)), Statx(4);
    XSTAT __xstat at(1, Follows), Stat(2);
    LXSTAT __lxstat at(1, Keeps), Stat(2);
    XSTAT64 __xstat64 at(1, Follows), Stat(2);
    LXSTAT64 __lxstat64 at(1, Keeps), Stat(2);
    FXSTATAT __fxstatat below(2, Unless(4)), Stat(3);
    FXSTATAT64 __fxstatat64 below(2, Unless(4)), Stat(3);
    ACCESS access at(0, Follows), Nothing;
    FACCESSAT faccessat below(1, Unless(3)), Nothing;
    READLINK readlink at(0, Keeps), Link(1);
    READLINKAT readlinkat below(1, Keeps), Link(2);
    READLINK_CHK __readlink_chk at(0, Keeps), Link(1);
    READLINKAT_CHK __readlinkat_chk below(1, Keeps), Link(2);
    CHDIR chdir at(0, Follows), Change;
}

#[inline(always)]
fn address(next: &Next) -> usize {
    match next.known() {
        0 => next::find(FAMILY, next, |name| super::optional(name) as usize),
        address => address,
    }
}

/// Finds every function now.
pub fn resolve() {
    address(&OPEN);
}

/// # Safety
/// Arguments of the function `next`, the path at `place`.
#[inline(always)]
unsafe fn call(next: &Next, place: &'static Place, makes: &'static Makes, arguments: Arguments) -> usize {
    let address = match address(next) {
        0 => missing as *const () as usize,
        address => address,
    };
    // SAFETY: a function that takes no more than five numbers and addresses.
    let function: Function = unsafe { core::mem::transmute(address) };
    let call = |own: Arguments| {
        let [a, b, c, d, e] = own;
        // SAFETY: the caller's arguments.
        makes.seen(&own, || unsafe { function(a, b, c, d, e) })
    };
    // Not under a filter of the program's own: looking at a path may take a system call.
    if !state::active() {
        return call(arguments);
    }
    if terminals::differ() {
        return among_terminals(*place, *makes, arguments, &call);
    }
    if private::by_names() {
        let [a, b, c, d, e] = arguments;
        // SAFETY: the caller's promise.
        return unsafe { own(function, place, makes, a, b, c, d, e) };
    }
    among_processes(place.path, *makes, arguments, call)
}

/// Makes the call where the numbers of pseudo terminals are not the kernel's.
#[cold]
#[inline(never)]
fn among_terminals(place: Place, makes: Makes, mut arguments: Arguments, call: &dyn Fn(Arguments) -> usize) -> usize {
    let path = arguments[place.path];
    let mut own = [0; 32];
    let length = bytes(path).zip(&mut own).map(|(byte, place)| *place = byte).count();
    let real = terminal_names::real_path(&own[..length]);
    if let Some(real) = &real {
        if real.as_bytes().is_empty() {
            return makes.fail(libc::ENOENT);
        }
        arguments[place.path] = real.as_c_str().as_ptr() as usize;
    }
    let result = if private::by_names() && real.is_none() {
        among_own(place, makes, arguments, call)
    } else {
        among_processes(place.path, makes, arguments, call)
    };
    match makes {
        Link(buffer) if result as isize > 0 => own_terminal(&arguments, buffer, result),
        _ => result,
    }
}

/// The text of a link to a slave, `result` bytes of which are in the program's buffer, as the program knows it.
fn own_terminal(arguments: &Arguments, buffer: usize, result: usize) -> usize {
    let (address, room) = (arguments[buffer], arguments[buffer + 1]);
    // It may have been cut, and be another's name.
    if result >= room {
        return result;
    }
    // SAFETY: the kernel has written so many bytes there.
    let text = unsafe { core::slice::from_raw_parts(address as *const u8, result) };
    let Some(known) = terminal_names::known_path(text) else { return result };
    let known = &known.as_bytes()[..known.as_bytes().len().min(room)];
    // SAFETY: the caller's buffer, of `room` bytes.
    unsafe { put_link(known, address, result) };
    known.len()
}

/// As [`call`] where the pod has directories of its own; nothing of it stands in the way of others.
///
/// # Safety
/// Arguments of the function.
#[cold]
#[inline(never)]
#[allow(clippy::too_many_arguments)]
unsafe fn own(
    function: Function,
    place: &'static Place,
    makes: &'static Makes,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
) -> usize {
    let call = |own: Arguments| {
        let [a, b, c, d, e] = own;
        // SAFETY: the caller's arguments.
        makes.seen(&own, || unsafe { function(a, b, c, d, e) })
    };
    among_own(*place, *makes, [a, b, c, d, e], &call)
}

/// Makes the call where the pod has directories of its own, too.
#[cold]
fn among_own(place: Place, makes: Makes, arguments: Arguments, call: &dyn Fn(Arguments) -> usize) -> usize {
    let call = |own: Arguments| {
        let result = among_processes(place.path, makes, own, call);
        match makes {
            Link(buffer) if result as isize > 0 => own_link(place, buffer, &own, result).unwrap_or(result),
            // Where ids differ that is another way.
            Descriptor(_) | Stream if !state::moved() && !makes.has_failed(result) => {
                mappings(place.path, makes, own, result)
            }
            _ => result,
        }
    };
    let has_failed = |result| makes.has_failed(result);
    with_own(&[place], arguments, &|errno| makes.fail(errno), &has_failed, &call)
}

/// The text of a link that leads into the store, in the pod's view; `result` bytes of it are in the program's buffer.
fn own_link(place: Place, buffer: usize, arguments: &Arguments, result: usize) -> Option<usize> {
    let (address, room) = (arguments[buffer], arguments[buffer + 1]);
    // SAFETY: the kernel has written so many bytes there.
    let begin = unsafe { core::slice::from_raw_parts(address as *const u8, result) };
    let store = private::store();
    let compared = store.len().min(result);
    if begin[..compared] != store[..compared] {
        return None;
    }
    path_rooms::with(|Room { host, .. }| {
        let is_whole = if result < room {
            host.set(begin)
        } else {
            // It may have been cut.
            // SAFETY: the kernel has read the path.
            let path = unsafe { CStr::from_ptr(arguments[place.path] as *const c_char) };
            host.read_by(|whole| Some(fd::read_link_at(place.directory(arguments), path, whole).ok()?.len()))
        };
        host.see();
        let own = host.as_bytes().get(..room).unwrap_or(host.as_bytes());
        // SAFETY: the caller's buffer, of `room` bytes, which the kernel has written to.
        is_whole.then(|| unsafe {
            put_link(own, address, result);
            own.len()
        })
    })
}

/// Puts the text of a link into the program's buffer at `address`, in the place of the `result` bytes that the kernel has written
/// there: who has zeroed the buffer and asks for no length would read those behind a shorter one.
///
/// # Safety
/// The buffer has room for both.
unsafe fn put_link(text: &[u8], address: usize, result: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        core::ptr::copy_nonoverlapping(text.as_ptr(), address as *mut u8, text.len());
        core::ptr::write_bytes((address as *mut u8).add(text.len()), 0, result.saturating_sub(text.len()));
    }
}

/// Makes the call where the pod's processes are all that there are.
#[inline(always)]
fn among_processes(at: usize, makes: Makes, arguments: Arguments, call: impl FnOnce(Arguments) -> usize) -> usize {
    let path = arguments[at];
    if state::moved() {
        let mut bytes = bytes(path);
        return match bytes.next() {
            Some(b'/') if PROC[1..].iter().all(|wanted| bytes.next() == Some(*wanted)) => {
                translated(at, makes, arguments, call)
            }
            Some(b'1'..=b'9') => translated(at, makes, arguments, call),
            _ => call(arguments),
        };
    }
    if makes == Change && super::readable(path as *const u8) && is_foreign(at, &arguments) {
        return makes.fail(libc::ENOENT);
    }
    let result = call(arguments);
    // SAFETY: errno's address is valid in every thread.
    let errno = || unsafe { *libc::__errno_location() };
    if path == 0 || (makes.has_failed(result) && !matches!(errno(), libc::EACCES | libc::EPERM)) {
        return result;
    }
    // SAFETY: the kernel has read the path.
    match unsafe { *(path as *const u8) } {
        b'/' | b'1'..=b'9' if is_foreign(at, &arguments) => makes.undo(result),
        b'/' if !makes.has_failed(result) && is_locks(at, &arguments) => locks(at, makes, arguments, result),
        _ => result,
    }
}

/// The file of /proc that tells of everybody's locks.
const LOCKS: &[u8] = b"locks";

/// Whether the path, which can be read, is of that file.
#[inline]
fn is_locks(at: usize, arguments: &Arguments) -> bool {
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(arguments[at] as *const c_char) }.to_bytes();
    path.strip_prefix(PROC) == Some(LOCKS)
}

/// What is made of it, in the place of `result`: the locks of others are not there, whatever the program's ids are.
#[cold]
fn locks(at: usize, makes: Makes, arguments: Arguments, result: usize) -> usize {
    let is_for_reading = match makes {
        Descriptor(flags) => super::proc_contents::is_for_reading(arguments[flags] as c_int),
        Stream => super::proc_contents::is_stream_for_reading(arguments[1]),
        _ => false,
    };
    if !is_for_reading {
        return result;
    }
    // The copy gets its number.
    makes.undo(result);
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(arguments[at] as *const c_char) };
    match own_text(path, File::Locks, None, makes, &arguments) {
        Some(Ok(made)) => made,
        Some(Err(errno)) => makes.fail(errno),
        None => makes.fail(libc::ENOENT),
    }
}

/// What is made, in the place of `result`, of a file of /proc in which paths of the store stand.
#[cold]
fn mappings(at: usize, makes: Makes, arguments: Arguments, result: usize) -> usize {
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(arguments[at] as *const c_char) };
    let file =
        path.to_bytes().strip_prefix(PROC).and_then(|path| path.rsplit(|c| *c == b'/').next()).and_then(File::named);
    if file != Some(File::Mappings) {
        return result;
    }
    match own_text(path, File::Mappings, None, makes, &arguments) {
        Some(Ok(made)) => match makes {
            Descriptor(flags) => {
                // The copy gets its number.
                let _ = fd::dup3(made as RawFd, result as RawFd, arguments[flags] as c_int & libc::O_CLOEXEC);
                let _ = fd::close(made as RawFd);
                result
            }
            _ => {
                makes.undo(result);
                made
            }
        },
        _ => result,
    }
}

/// A copy of what is in a file of /proc, if that is what is asked for.
fn own_text(
    path: &CStr,
    file: File,
    process: Option<RealPid>,
    makes: Makes,
    arguments: &Arguments,
) -> Option<Result<usize, c_int>> {
    match makes {
        Descriptor(flags) => super::proc_contents::open(path, file, process, arguments[flags] as c_int),
        Stream => super::proc_contents::open_stream(path, file, process, arguments[1]),
        _ => None,
    }
}

/// Whether the path, which can be read, is of a process that is not of the pod.
#[inline]
fn is_foreign(at: usize, arguments: &Arguments) -> bool {
    // SAFETY: the caller's promise.
    let mut rest = unsafe { CStr::from_ptr(arguments[at] as *const c_char) }.to_bytes();
    let is_absolute = rest.first() == Some(&b'/');
    if is_absolute {
        let Some(after) = rest.strip_prefix(PROC) else { return false };
        rest = after;
    }
    let name = rest.split(|c| *c == b'/').find(|name| !name.is_empty()).unwrap_or_default();
    // An empty path, and one that begins with a digit, is by a descriptor.
    match id(name) {
        Some(id) if is_absolute || directory(at, arguments) == Some(Folder::Root) => !masking::is_of_pod(RealPid(id.0)),
        _ => false,
    }
}

/// A directory of /proc in which ids are names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folder {
    /// /proc itself.
    Root,
    /// /proc/<id>/task.
    Tasks,
}

impl Folder {
    /// Which one the descriptor `directory` is; AT_FDCWD is the working directory.
    pub fn of(directory: RawFd) -> Option<Self> {
        let mut buffer = [0u8; 64];
        let path = match directory {
            libc::AT_FDCWD => zap_sys::small!("/proc/thread-self/cwd"),
            number => zap_sys::small!("/proc/thread-self/fd/{number}"),
        };
        let link = fd::read_link(path.as_c_str(), &mut buffer).ok()?;
        if link == b"/proc" {
            return Some(Self::Root);
        }
        let process = link.strip_prefix(PROC)?.strip_suffix(b"/task")?;
        id(process).map(|_| Self::Tasks)
    }
}

/// The directory in which a relative path begins.
#[cold]
fn directory(at: usize, arguments: &Arguments) -> Option<Folder> {
    Folder::of(if at == 0 { libc::AT_FDCWD } else { arguments[at - 1] as RawFd })
}

/// The bytes of the program's path at `path`, up to its end or to where it cannot be read.
fn bytes(path: usize) -> impl Iterator<Item = u8> {
    (path..).map_while(move |address| {
        let is_first = address == path || address % zap_sys::PAGE_SIZE == 0;
        if address == 0 || (is_first && !super::readable(address as *const u8)) {
            return None;
        }
        // SAFETY: it can be read.
        Some(unsafe { *(address as *const u8) }).filter(|byte| *byte != 0)
    })
}

const PROC: &[u8] = b"/proc/";

/// A path as the kernel is to be given it.
struct Path {
    text: [u8; PATH_MAX + 32],
    length: usize,
}

impl Path {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            // One place is left for the end; what is too long for the kernel stays so.
            if self.length + 1 < self.text.len() {
                self.text[self.length] = *byte;
                self.length += 1;
            }
        }
    }

    fn push_number(&mut self, number: i32) {
        self.push(zap_sys::small!("{number}").as_bytes());
    }

    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).unwrap_or(c"")
    }
}

/// An id as a name in /proc: no sign, no leading zero.
pub fn id(name: &[u8]) -> Option<VirtualPid> {
    let is_id = (1..=10).contains(&name.len()) && name[0] != b'0' && name.iter().all(u8::is_ascii_digit);
    let value = if is_id { zap_sys::text::decimal(name).0 } else { return None };
    i32::try_from(value).ok().map(VirtualPid)
}

/// What has been found in a path.
#[derive(Default)]
struct Found {
    /// An id.
    id: bool,
    /// The process whose files they are.
    process: Option<RealPid>,
    /// A file in which ids stand.
    file: Option<File>,
}

/// Where a path goes on from.
struct Walk {
    /// Number of the name after /proc.
    part: usize,
    is_task: bool,
    /// It is in the directory of what is known of descriptors.
    is_descriptors: bool,
    found: Found,
}

impl Walk {
    /// Takes the next name, at the path's end if it `is_last`.
    fn step(&mut self, name: &[u8], is_last: bool, into: &mut Path) {
        let found = &mut self.found;
        // /proc/<id>, /proc/<any>/task/<id>.
        match id(name).filter(|_| self.part == 0 || (self.part == 2 && self.is_task)) {
            Some(id) => {
                let real = identity::real_of(id);
                found.id = true;
                found.process = found.process.or(Some(real));
                into.push_number(real.0);
            }
            None => into.push(name),
        }
        if self.part == 0 && matches!(name, b"self" | b"thread-self") {
            found.process = Some(state::real_pid());
        }
        if self.part == 0 && is_last && name == LOCKS {
            found.file = Some(File::Locks);
        }
        let is_inside = self.part == 1 || (self.part == 3 && self.is_task);
        if is_last && found.process.is_some() {
            let descriptor = Some(File::Descriptor).filter(|_| self.is_descriptors);
            found.file = if is_inside { File::named(name) } else { descriptor };
        }
        self.is_descriptors = is_inside && name == b"fdinfo";
        self.is_task = if self.part == 1 { name == b"task" } else { self.is_task };
    }
}

/// Writes the path at `path` into `into` with the kernel's ids, from where it is relative to.
fn translate(path: usize, folder: Option<Folder>, into: &mut Path) -> Found {
    let (mut name, mut length) = ([0u8; 12], 0);
    let is_task = folder == Some(Folder::Tasks);
    let mut walk = Walk { part: if is_task { 2 } else { 0 }, is_task, is_descriptors: false, found: Found::default() };
    let skipped = if folder.is_none() { PROC.len() } else { 0 };
    into.push(&PROC[..skipped]);
    // Names that are longer than those that are looked for are passed on as they come.
    for byte in bytes(path).skip(skipped) {
        if byte == b'/' {
            if length <= name.len() {
                walk.step(&name[..length], false, into);
            }
            // Several slashes are as one.
            walk.part += usize::from(length > 0);
            length = 0;
            into.push(b"/");
            continue;
        }
        if length < name.len() {
            name[length] = byte;
        } else {
            if length == name.len() {
                into.push(&name);
            }
            into.push(&[byte]);
        }
        length += 1;
    }
    if length <= name.len() {
        walk.step(&name[..length], true, into);
    }
    walk.found
}

/// Makes a call whose path begins with /proc/ or with a digit, where ids differ.
#[cold]
#[inline(never)]
fn translated(at: usize, makes: Makes, mut arguments: Arguments, call: impl FnOnce(Arguments) -> usize) -> usize {
    let folder = match bytes(arguments[at]).next() {
        Some(b'/') => None,
        _ => match directory(at, &arguments) {
            None => return call(arguments),
            folder => folder,
        },
    };
    let mut path = Path { text: [0; PATH_MAX + 32], length: 0 };
    let found = translate(arguments[at], folder, &mut path);
    if let (Some(file), None) = (found.file, folder) {
        match own_text(path.as_c_str(), file, found.process, makes, &arguments) {
            Some(Ok(made)) => return made,
            Some(Err(errno)) => return makes.fail(errno),
            None => {}
        }
    }
    if found.id {
        arguments[at] = path.text.as_ptr() as usize;
    }
    let result = call(arguments);
    if let (Link(buffer), true, None) = (makes, result as isize > 0, folder) {
        return known_link(path.as_c_str(), arguments[buffer], arguments[buffer + 1]).unwrap_or(result);
    }
    result
}

/// The text of the link at `path` with the program's ids, where some stand in it: that of /proc/self and /proc/thread-self, and
/// those that lead into /proc. Into `room` bytes at `buffer`; returns the length.
#[cold]
fn known_link(path: &CStr, buffer: usize, room: usize) -> Option<usize> {
    const TASK: &[u8] = b"/task/";
    // What the program has room for may have been cut in the middle of a number.
    let mut whole = [0u8; 256];
    let text = fd::read_link(path, &mut whole).ok().filter(|text| text.len() < 256)?;
    let mut own = zap_sys::text::SmallString::<288>::default();
    let mut known = |text: &[u8], head: usize| {
        let digits = text.get(head..)?.iter().take_while(|c| c.is_ascii_digit()).count();
        let end = head + digits;
        let id = id(text.get(head..end)?).filter(|_| text.get(end).is_none_or(|c| *c == b'/'))?;
        own.push(text.get(..head)?);
        own.push(zap_sys::small!("{}", identity::virtual_of(RealPid(id.0))).as_bytes());
        Some(end)
    };
    let mut rest = known(text, if text.starts_with(PROC) { PROC.len() } else { 0 })?;
    if let Some(task) = text.get(rest..).filter(|text| text.starts_with(TASK)) {
        rest += known(task, TASK.len()).unwrap_or(0);
    }
    own.push(text.get(rest..)?);
    let length = own.as_bytes().len().min(room);
    // SAFETY: the caller's buffer, of `room` bytes, which the kernel has written to.
    unsafe { core::ptr::copy_nonoverlapping(own.as_bytes().as_ptr(), buffer as *mut u8, length) };
    Some(length)
}

/// Whether [`by_number`] knows this call.
pub fn has_path(number: c_long) -> bool {
    path_of(number).is_some()
}

/// The place of the path among the arguments of a system call, and what it makes.
#[inline]
fn path_of(number: c_long) -> Option<(Place, Makes)> {
    Some(match number {
        libc::SYS_open => (at(0, Opens(1)), Descriptor(1)),
        libc::SYS_openat => (below(1, Opens(2)), Descriptor(2)),
        libc::SYS_openat2 => (below(1, How(2)), OtherDescriptor),
        libc::SYS_readlink => (at(0, Keeps), Link(1)),
        libc::SYS_readlinkat => (below(1, Keeps), Link(2)),
        libc::SYS_chdir => (at(0, Follows), Change),
        libc::SYS_stat => (at(0, Follows), Stat(1)),
        libc::SYS_access => (at(0, Follows), Nothing),
        libc::SYS_lstat => (at(0, Keeps), Stat(1)),
        libc::SYS_newfstatat => (below(1, Unless(3)), Stat(2)),
        libc::SYS_faccessat2 => (below(1, Unless(3)), Nothing),
        libc::SYS_statx => (below(1, Unless(2)), Statx(4)),
        libc::SYS_faccessat => (below(1, Follows), Nothing),
        _ => return None,
    })
}

/// The same by syscall(2); `None` for other calls.
pub fn by_number(number: c_long, arguments: [c_long; 6]) -> Option<c_long> {
    let (place, makes) = path_of(number).filter(|_| state::active())?;
    let [a, b, c, d, e, _] = arguments.map(|argument| argument as usize);
    let call = |own: Arguments| {
        let [a, b, c, d, e] = own;
        // SAFETY: the caller's arguments.
        let call = || match unsafe { zap_sys::arch::syscall::syscall(number, [a, b, c, d, e, 0]) } {
            Ok(result) => result,
            Err(errno) => super::fail(errno.0) as usize,
        };
        makes.seen(&own, call)
    };
    let arguments = [a, b, c, d, e];
    Some(if private::by_names() {
        among_own(place, makes, arguments, &call)
    } else {
        among_processes(place.path, makes, arguments, call)
    } as c_long)
}
