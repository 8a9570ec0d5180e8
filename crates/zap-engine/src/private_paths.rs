//! From the pod's paths to the host's, where the pod has directories of its own of which the kernel knows nothing.
//!
//! Symbolic links mean what they say in the pod: one that is absolute begins at the pod's root, wherever it lies. So a path is walked
//! here name by name, unless the kernel says at one go that there is no link in it. What the kernel finds by itself is left to it,
//! as it was given; so are all mistakes. Nothing here locks, takes memory or calls libc: it also runs in handlers of the program's,
//! and in the child of a vfork.
//!
//! A walk stands at a path of the host's that has no links in it. As the store is left and entered at the border of a directory
//! alone, that is enough to know where the pod believes itself to be.

use crate::private::{below_store, directory, numbered, parent, runtime, store};
use crate::{identity, state};
use core::ffi::CStr;
use zap_sys::path::PATH_MAX;
use zap_sys::{fd, libc, text, RawFd, VirtualPid};

/// What becomes of a link that the path ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    Followed,
    Kept,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leads {
    /// Where the kernel finds by itself.
    AsItIs,
    /// To the path of the host's that has been written.
    Elsewhere,
    /// Nowhere, with this error.
    Nowhere(i32),
}

/// Links that are followed, as the kernel does (MAXSYMLINKS).
const MOST_LINKS: u32 = 40;

/// Room for a path of the host's, with a NUL behind it. All zeroes are one. The root directory is empty while a path is being walked.
#[derive(Debug)]
pub struct HostPath {
    bytes: [u8; PATH_MAX],
    length: usize,
}

/// It is longer than the kernel takes.
struct TooLong;

impl HostPath {
    pub const fn new() -> Self {
        Self { bytes: [0; PATH_MAX], length: 0 }
    }

    /// Where it is written.
    pub fn place(&self) -> *const u8 {
        self.bytes.as_ptr()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or(c"")
    }

    /// The path becomes `path`, of any kind.
    pub fn set(&mut self, path: &[u8]) -> bool {
        self.cut(0);
        self.push(path).is_ok()
    }

    /// The path becomes what `read` writes, of the length that it returns. False if it finds none.
    pub fn read_by(&mut self, read: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let room = self.bytes.len() - 1;
        let length = read(&mut self.bytes[..room]);
        self.cut(length.unwrap_or(0));
        length.is_some()
    }

    /// In the pod's view.
    pub fn see(&mut self) {
        let room = self.bytes.len() - 1;
        let length = crate::private::see(&mut self.bytes[..room], self.length);
        self.cut(length);
    }

    fn push(&mut self, text: &[u8]) -> Result<(), TooLong> {
        let end = self.length + text.len();
        if end >= self.bytes.len() {
            return Err(TooLong);
        }
        self.bytes[self.length..end].copy_from_slice(text);
        self.cut(end);
        Ok(())
    }

    /// Puts `parts` into the place of the first `length` bytes.
    fn replace_head(&mut self, length: usize, parts: &[&[u8]]) -> Result<(), TooLong> {
        let (own, new) = (self.length, parts.iter().map(|part| part.len()).sum::<usize>());
        let end = own.checked_sub(length).map_or(usize::MAX, |rest| new + rest);
        if end >= self.bytes.len() {
            return Err(TooLong);
        }
        self.bytes.copy_within(length..own, new);
        self.cut(0);
        parts.iter().try_for_each(|part| {
            let begin = self.length;
            self.length += part.len();
            self.bytes.get_mut(begin..self.length).ok_or(TooLong)?.copy_from_slice(part);
            Ok(())
        })?;
        self.cut(end);
        Ok(())
    }

    fn cut(&mut self, length: usize) {
        self.length = length.min(self.bytes.len() - 1);
        self.bytes[self.length] = 0;
    }
}

impl Default for HostPath {
    fn default() -> Self {
        Self::new()
    }
}

/// What of a path is still to be walked. Links are put before it, so it ends where the room ends.
#[derive(Debug)]
pub struct Rest {
    bytes: [u8; PATH_MAX],
    start: usize,
}

impl Rest {
    pub const fn new() -> Self {
        Self { bytes: [0; PATH_MAX], start: PATH_MAX }
    }

    /// Becomes the program's path at `address`. `None` where the kernel is to say what it thinks of it.
    fn read(&mut self, address: usize) -> Option<()> {
        let bytes = &mut self.bytes;
        let mut length = 0;
        loop {
            let at = address.checked_add(length)?;
            if (length == 0 || at % zap_sys::PAGE_SIZE == 0) && (at == 0 || !zap_sys::mem::is_readable(at as u64, 1)) {
                return None;
            }
            let byte = byte_at(at);
            if byte == 0 {
                break;
            }
            *bytes.get_mut(length)? = byte;
            length += 1;
        }
        self.start = PATH_MAX - length;
        bytes.copy_within(..length, self.start);
        (length > 0).then_some(())
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Puts the link of `length` bytes that has been read to the beginning before what is there.
    fn put_link(&mut self, length: usize) -> Result<(), TooLong> {
        let start = self.start.checked_sub(length).ok_or(TooLong)?;
        self.bytes.copy_within(..length, start);
        self.start = start;
        Ok(())
    }

    /// Takes the next name: its place in `bytes`.
    fn take(&mut self) -> Option<core::ops::Range<usize>> {
        let skipped = self.text().iter().take_while(|c| **c == b'/').count();
        let begin = self.start + skipped;
        let length = self.bytes[begin..].iter().position(|c| *c == b'/').unwrap_or(PATH_MAX - begin);
        if length == 0 {
            // Slashes at the end say something.
            return None;
        }
        self.start = begin + length;
        Some(begin..begin + length)
    }

    /// Whether no name is left.
    fn is_over(&self) -> bool {
        self.text().iter().all(|c| *c == b'/')
    }
}

#[allow(unsafe_code)]
fn byte_at(address: usize) -> u8 {
    // SAFETY: the caller has looked whether the page can be read.
    unsafe { *(address as *const u8) }
}

impl Default for Rest {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the walk stands.
struct Stand<'a> {
    host: &'a mut HostPath,
    /// The private directory in which that is.
    inside: Option<usize>,
    /// The kernel by itself would stand somewhere else.
    differs: bool,
}

impl<'a> Stand<'a> {
    fn at_root(host: &'a mut HostPath) -> Self {
        host.cut(0);
        Self { host, inside: None, differs: false }
    }

    /// Where relative paths begin. `None` if that has no name.
    fn begin(host: &'a mut HostPath, from: RawFd) -> Option<Self> {
        let found = if from == libc::AT_FDCWD {
            fd::current_directory(&mut host.bytes).ok()?.len()
        } else {
            let link = zap_sys::small!("/proc/thread-self/fd/{from}");
            fd::read_link(link.as_c_str(), &mut host.bytes).ok()?.len()
        };
        host.cut(found);
        let mut stand = Self { host, inside: None, differs: false };
        if !stand.has_jumped() {
            return None;
        }
        if from == libc::AT_FDCWD {
            // The pod has begun in the host's, which it does not see.
            stand.leave_hosts().ok()?;
        }
        Some(stand)
    }

    /// From what lies in a private directory on the host to what is called so in the pod.
    fn leave_hosts(&mut self) -> Result<(), TooLong> {
        let own = self.host.as_bytes();
        let is_runtimes = own == runtime() || lies_in(own, runtime());
        let directories = (0..).map(|number| (number, directory(number))).take_while(|(_, path)| !path.is_empty());
        let mut around = directories.filter(|(_, path)| own == *path || lies_in(own, path));
        let Some((number, path)) = around.next().filter(|_| self.inside.is_none() && !is_runtimes) else {
            return Ok(());
        };
        let inside = zap_sys::small!("/{number}");
        self.host.replace_head(path.len(), &[store(), inside.as_bytes()])?;
        self.inside = Some(number);
        self.differs = true;
        Ok(())
    }

    /// Looks where the path, one that the kernel has given, lies. False if it is none.
    fn has_jumped(&mut self) -> bool {
        let path = self.host.as_bytes();
        if !path.starts_with(b"/") || path.ends_with(b" (deleted)") {
            return false;
        }
        if path == b"/" {
            self.host.cut(0);
        }
        self.inside = below_store(self.host.as_bytes()).map(|(number, _)| number);
        true
    }

    /// Back to the root directory.
    fn return_to_root(&mut self) {
        self.host.cut(0);
        self.inside = None;
    }

    /// Into the directory's name `name`.
    fn enter(&mut self, name: &[u8]) -> Result<(), TooLong> {
        self.host.push(b"/")?;
        self.host.push(name)?;
        self.cross()
    }

    /// To the directory above.
    fn leave(&mut self) -> Result<(), TooLong> {
        let (own, before) = (self.host.as_bytes(), self.inside);
        match (before, below_store(own)) {
            (Some(number), Some((_, b""))) => {
                self.host.cut(0);
                self.host.push(parent(directory(number)))?;
                self.inside = None;
                self.differs = true;
            }
            _ => {
                let length = parent(own).len();
                // The runtime directory is the host's, and what it lies in the pod's.
                let above = (0..).take_while(|_| own == runtime()).map(|number| (number, directory(number)));
                let above = above.take_while(|(_, path)| !path.is_empty()).find(|(_, path)| lies_in(own, path));
                self.host.cut(length);
                if let Some((number, path)) = above {
                    let rest = runtime().get(path.len()..length).unwrap_or_default();
                    self.go_inside(number, rest)?;
                }
            }
        }
        self.cross()
    }

    fn go_inside(&mut self, number: usize, rest: &[u8]) -> Result<(), TooLong> {
        self.host.cut(0);
        self.host.push(store())?;
        self.host.push(b"/")?;
        self.host.push(zap_sys::small!("{number}").as_bytes())?;
        self.host.push(rest)?;
        self.inside = Some(number);
        self.differs = true;
        Ok(())
    }

    /// Crosses the border that has just been reached, if there is one.
    fn cross(&mut self) -> Result<(), TooLong> {
        let own = self.host.as_bytes();
        match self.inside {
            None => match numbered(own) {
                Some(number) => self.go_inside(number, b""),
                None => Ok(()),
            },
            Some(number) => {
                let is_runtime = below_store(own).is_some_and(|(_, rest)| {
                    !rest.is_empty() && runtime().strip_prefix(directory(number)) == Some(rest)
                });
                if is_runtime {
                    self.host.cut(0);
                    self.host.push(runtime())?;
                    self.inside = None;
                    self.differs = true;
                }
                Ok(())
            }
        }
    }

    /// Goes the whole way by names alone, as if there were no links. Whether there is a `..` in it.
    fn go_blindly(&mut self, path: &[u8]) -> Result<bool, TooLong> {
        let mut goes_back = false;
        for name in path.split(|c| *c == b'/') {
            match name {
                b"" | b"." => {}
                b".." => {
                    goes_back = true;
                    self.leave()?;
                }
                _ => self.enter(name)?,
            }
        }
        Ok(goes_back)
    }
}

/// Whether `path` lies somewhere below `directory`.
fn lies_in(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

/// A name, with a slash before it, aside from its path.
struct Name {
    bytes: [u8; 257],
    length: usize,
}

impl Name {
    /// `None` for one that is too long for a file.
    fn of(name: &[u8]) -> Option<Self> {
        let mut bytes = [b'/'; 257];
        bytes.get_mut(1..=name.len())?.copy_from_slice(name);
        Some(Self { bytes, length: name.len() + 1 })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// A name that no file has: longer than any may be.
const NO_NAME: [u8; 256] = [b'z'; 256];

/// Whether the kernel meets no link on its way to what `path` names, which is put there for the moment. It is asked for something
/// that is not there, so that nothing is opened.
fn has_no_links(from: RawFd, path: &mut HostPath) -> bool {
    let length = path.length;
    let has_room = path.push(b"/").and_then(|()| path.push(&NO_NAME)).is_ok();
    let opened = if has_room { Some(fd::open_without_links(from, path.as_c_str())) } else { None };
    path.cut(length);
    match opened {
        // A file system of its own kind.
        Some(Ok(opened)) => fd::close(opened).is_ok(),
        // It has come to the end, or to where the program's call will come.
        Some(Err(error)) => {
            matches!(error.errno.0, libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::ENAMETOOLONG | libc::EBADF)
        }
        None => false,
    }
}

/// Finds where the program's path at `path`, which begins `from` a directory if it is relative, leads.
#[cold]
#[inline(never)]
pub fn find(from: RawFd, path: usize, last: Last, into: &mut HostPath, rest: &mut Rest) -> Leads {
    match rest.read(path) {
        Some(()) => find_rest(from, rest, last, into).unwrap_or(Leads::Nowhere(libc::ENAMETOOLONG)),
        None => Leads::AsItIs,
    }
}

/// The same by names alone: links are for the kernel to refuse.
#[cold]
#[inline(never)]
pub fn find_by_names(from: RawFd, path: usize, into: &mut HostPath, rest: &mut Rest) -> Leads {
    if rest.read(path).is_none() {
        return Leads::AsItIs;
    }
    let Some(mut stand) = begin(from, rest, into) else { return Leads::AsItIs };
    match stand.go_blindly(rest.text()) {
        Ok(_) if stand.differs => Leads::Elsewhere,
        Ok(_) => Leads::AsItIs,
        Err(TooLong) => Leads::Nowhere(libc::ENAMETOOLONG),
    }
}

fn begin<'a>(from: RawFd, rest: &Rest, into: &'a mut HostPath) -> Option<Stand<'a>> {
    if rest.text().starts_with(b"/") {
        return Some(Stand::at_root(into));
    }
    Stand::begin(into, from)
}

fn find_rest(from: RawFd, rest: &mut Rest, last: Last, into: &mut HostPath) -> Result<Leads, TooLong> {
    let path = rest.text();
    let ends_in_slash = path.ends_with(b"/");
    // Behind a slash the kernel follows a link in any case.
    let last = if ends_in_slash { Last::Followed } else { last };
    let kept = match last {
        Last::Kept => path.iter().rposition(|c| *c == b'/').map_or(0, |at| at + 1),
        Last::Followed => path.len(),
    };
    let Some(mut stand) = begin(from, rest, into) else { return Ok(Leads::AsItIs) };
    // Even where it becomes too long there may be a shorter way: links and `..`.
    if let Ok(goes_back) = stand.go_blindly(path) {
        if !stand.differs {
            let is_only_name = kept == 0;
            if is_only_name || (into.set(&path[..kept]) && has_no_links(from, into)) {
                return Ok(Leads::AsItIs);
            }
        } else if !goes_back && !path.ends_with(b"/.") {
            // A name that is to be kept is looked for in its directory; that of a private one stands for none.
            let name = Name::of(&path[kept..]).filter(|name| into.as_bytes().ends_with(name.as_bytes()));
            match name.filter(|_| last == Last::Kept) {
                Some(name) => {
                    into.cut(into.length - name.as_bytes().len());
                    let has_none = has_no_links(libc::AT_FDCWD, into);
                    into.push(name.as_bytes())?;
                    if has_none {
                        return Ok(Leads::Elsewhere);
                    }
                }
                None if has_no_links(libc::AT_FDCWD, into) => {
                    if ends_in_slash {
                        into.push(b"/")?;
                    }
                    return Ok(Leads::Elsewhere);
                }
                None => {}
            }
        }
    }
    let Some(stand) = begin(from, rest, into) else { return Ok(Leads::AsItIs) };
    walk(stand, rest, last, false)
}

/// The path of the host's, without links, of what the program's path at `path` names: realpath(3). An error where there is no such
/// thing; `None` where it cannot be said.
pub fn find_real(path: usize, into: &mut HostPath, rest: &mut Rest) -> Option<Result<(), i32>> {
    rest.read(path)?;
    let stand = begin(libc::AT_FDCWD, rest, into)?;
    let wants_directory = rest.text().ends_with(b"/");
    match walk(stand, rest, Last::Followed, true) {
        Err(TooLong) => return Some(Err(libc::ENAMETOOLONG)),
        Ok(Leads::Nowhere(errno)) => return Some(Err(errno)),
        Ok(_) => {}
    }
    while into.length > 1 && into.as_bytes().ends_with(b"/") {
        into.cut(into.length - 1);
    }
    if into.length == 0 {
        into.set(b"/");
    }
    Some(match fd::link_stat(into.as_c_str()) {
        Ok(stat) if wants_directory && stat.st_mode & libc::S_IFMT != libc::S_IFDIR => Err(libc::ENOTDIR),
        Ok(_) => Ok(()),
        Err(error) => Err(error.errno.0),
    })
}

/// Walks the rest of a path. `is_real`: down to the last thing that has a name, also by the kernel's own links.
fn walk(mut stand: Stand<'_>, rest: &mut Rest, last: Last, is_real: bool) -> Result<Leads, TooLong> {
    let mut links = 0;
    while let Some(name) = rest.take() {
        let (is_last, has_slash) = (rest.is_over(), rest.start < PATH_MAX);
        let name = &rest.bytes[name];
        if name == b"." || name == b".." {
            // Only a directory has them.
            let before = stand.host.length;
            stand.host.push(b"/.")?;
            let is_directory = fd::access(stand.host.as_c_str(), libc::F_OK).is_ok();
            stand.host.cut(before);
            if !is_directory {
                stand.host.push(b"/")?;
                stand.host.push(name)?;
                break;
            }
            if name == b".." {
                stand.leave()?;
            }
            if is_last && !is_real {
                // What the name of a directory may be used for, and this may not, stays forbidden.
                stand.host.push(b"/.")?;
            }
            continue;
        }
        let (before, outside) = (stand.host.length, stand.inside);
        match known_process(stand.host.as_bytes(), name) {
            Some(own) => stand.enter(own.as_bytes())?,
            None => stand.enter(name)?,
        }
        if stand.inside != outside || (is_last && !has_slash && last == Last::Kept) {
            continue;
        }
        let start = rest.start;
        let length = match fd::read_link(stand.host.as_c_str(), &mut rest.bytes[..start]) {
            Ok(link) => link.len(),
            Err(error) if error.is(libc::EINVAL) => continue,
            // The kernel will come to the same end.
            Err(_) => break,
        };
        links += 1;
        if links > MOST_LINKS {
            return Ok(Leads::Nowhere(libc::ELOOP));
        }
        if length == start {
            return Err(TooLong);
        }
        if outside.is_none() && matches!(stand.host.as_bytes(), b"/proc/self" | b"/proc/thread-self") {
            // The kernel's id, and not one of the program's.
            stand.host.cut(before);
            stand.host.push(b"/")?;
            stand.host.push(&rest.bytes[..length])?;
            continue;
        }
        if outside.is_none() && is_magic(stand.host.as_bytes()) {
            if is_last && !is_real {
                break;
            }
            let link = &rest.bytes[..length];
            // What has no name can only be reached by the kernel.
            if !link.starts_with(b"/") || link.ends_with(b" (deleted)") {
                break;
            }
            stand.host.cut(0);
            stand.host.push(link)?;
            stand.has_jumped();
            continue;
        }
        if rest.bytes.first() == Some(&b'/') {
            stand.return_to_root();
        } else {
            stand.host.cut(before);
        }
        rest.put_link(length)?;
    }
    stand.host.push(rest.text())?;
    if stand.host.length == 0 {
        stand.host.push(b"/")?;
    }
    Ok(if stand.differs { Leads::Elsewhere } else { Leads::AsItIs })
}

/// The kernel's id of the process that the program knows by `name`, if that is one in `directory`.
fn known_process(directory: &[u8], name: &[u8]) -> Option<text::SmallString<128>> {
    if directory != b"/proc" || !state::moved() || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id = VirtualPid(i32::try_from(text::decimal(name).0).ok()?);
    Some(zap_sys::small!("{}", identity::real_of(id)))
}

/// Whether a link, at a path of the host's, is one that leads to a thing and not to a name (proc(5)).
fn is_magic(path: &[u8]) -> bool {
    let Some(path) = path.strip_prefix(b"/proc/") else { return false };
    let mut names = path.split(|c| *c == b'/').skip(1);
    let mut name = names.next().unwrap_or_default();
    if name == b"task" {
        name = names.nth(1).unwrap_or_default();
    }
    match name {
        b"cwd" | b"root" | b"exe" => names.next().is_none(),
        b"fd" | b"map_files" | b"ns" => names.next().is_some() && names.next().is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private::tests::learn_some;

    /// Where a path leads by its names.
    fn blindly(path: &str) -> (String, bool) {
        learn_some();
        let mut host = HostPath::new();
        let mut stand = Stand::at_root(&mut host);
        assert!(stand.go_blindly(path.as_bytes()).is_ok());
        let differs = stand.differs;
        (String::from_utf8(host.as_bytes().to_vec()).unwrap(), differs)
    }

    #[test]
    fn borders_are_crossed() {
        let store = "/tmp/zap/private/7";
        for (path, expected, differs) in [
            ("/etc/../usr//./bin", "/usr/bin".to_string(), false),
            ("/tmp", format!("{store}/0"), true),
            ("/tmp/a/b", format!("{store}/0/a/b"), true),
            ("/tmpa/b", "/tmpa/b".to_string(), false),
            ("/var/run/x", format!("{store}/1/x"), true),
            ("/tmp/../etc", "/etc".to_string(), true),
            ("/tmp/a/../../etc", "/etc".to_string(), true),
            ("/var/run/../lib", "/var/lib".to_string(), true),
            ("/var/run/../../tmp/x", format!("{store}/0/x"), true),
            ("/tmp/zap", "/tmp/zap".to_string(), true),
            ("/tmp/zap/socket", "/tmp/zap/socket".to_string(), true),
            ("/tmp/zap/../x", format!("{store}/0/x"), true),
            ("/../..", String::new(), false),
        ] {
            assert_eq!(blindly(path), (expected, differs), "{path}");
        }
    }

    #[test]
    fn links_that_are_none() {
        for path in
            ["/proc/1/cwd", "/proc/1/fd/3", "/proc/1/task/2/exe", "/proc/1/task/2/fd/4", "/proc/1/map_files/1-2"]
        {
            assert!(is_magic(path.as_bytes()), "{path}");
        }
        for path in ["/proc/self", "/proc/1/fd", "/proc/1/cwd/a", "/proc/mounts", "/etc/cwd", "/proc/1/task/2"] {
            assert!(!is_magic(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn links_are_put_before_the_rest() {
        let mut rest = Rest::new();
        assert!(rest.read(c"//a/bc//d/".as_ptr() as usize).is_some());
        let mut names = Vec::new();
        while let Some(name) = rest.take() {
            names.push((String::from_utf8(rest.bytes[name].to_vec()).unwrap(), rest.is_over()));
            if names.len() == 1 {
                rest.bytes[..4].copy_from_slice(b"/x/y");
                assert!(rest.put_link(4).is_ok());
            }
        }
        let names: Vec<_> = names.iter().map(|(name, is_last)| (&**name, *is_last)).collect();
        assert_eq!(names, [("a", false), ("x", false), ("y", false), ("bc", false), ("d", true)]);
        assert_eq!(rest.text(), b"/");
    }
}
