//! Files of /proc in which ids stand, written anew with the ids by which the program knows processes.
//!
//! Pure: from text to text. Nothing here may panic or take memory: it runs in wrappers, on the program's own threads.

use zap_sys::libc;
use zap_sys::text::{decimal, hex, skip_blanks, SmallString};
use zap_wire::inodes::{FileId, Inodes};

/// What an id in such a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The process or thread that the file is about, or a child of it.
    Process,
    Parent,
    Group,
    Session,
    /// The group in a terminal's foreground.
    Foreground,
    /// Who traces it.
    Tracer,
    /// Who has a lock; 0 for one that is not of the pod.
    Holder,
}

/// A file in which ids stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    Stat,
    Status,
    Children,
    /// Of a descriptor (proc_pid_fdinfo(5)).
    Descriptor,
    /// Of all files of the host (/proc/locks, proc_locks(5)).
    Locks,
    /// One in which no ids but paths and files' numbers stand: maps, smaps, numa_maps (proc_pid_maps(5)).
    Mappings,
}

impl File {
    /// The file of this name.
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"stat" => Some(Self::Stat),
            b"status" => Some(Self::Status),
            b"children" => Some(Self::Children),
            b"maps" | b"smaps" | b"numa_maps" if crate::private::by_names() || crate::inodes::differ() => {
                Some(Self::Mappings)
            }
            _ => None,
        }
    }

    /// Whether there may be ids in `text`, or numbers of a file that are known by others: those of most descriptors have none.
    pub fn has_ids(self, text: &[u8]) -> bool {
        let has = |line: &[u8]| line.starts_with(b"Pid:") || line.starts_with(LOCK);
        self != Self::Descriptor || crate::inodes::differ() || text.split(|c| *c == b'\n').any(has)
    }
}

/// A lock of who has a descriptor's file open.
const LOCK: &[u8] = b"lock:";

/// The inode of a descriptor's file.
const INODE: &[u8] = b"ino:\t";

/// How much longer a text may become: longest id that may come into the place of one digit, for each that there may be. There are two
/// numbers of files, with 20 digits together more at most, in a line of many times as many bytes.
pub fn room_for(length: usize) -> usize {
    const LONGEST: usize = 11;
    length + (length / 2 + 16) * LONGEST
}

/// Where a text is written to; what it has no room for is left out.
struct Into<'a> {
    bytes: &'a mut [u8],
    length: usize,
}

impl Into<'_> {
    fn push(&mut self, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length + bytes.len()) {
            place.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

/// The numbers by which files are known.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub inodes: Inodes<'a>,
    /// The device of the file that a descriptor is of.
    pub device: u64,
}

/// Writes `text` of `file` with other ids, as `other` gives them, and with `mask` as the signals that the thread blocks if it is
/// the caller's own; returns the length.
pub fn translate(
    file: File,
    text: &[u8],
    mask: Option<u64>,
    bytes: &mut [u8],
    files: Files<'_>,
    other: impl Fn(Role, i32) -> i32,
) -> usize {
    let mut into = Into { bytes, length: 0 };
    match file {
        File::Stat => stat(text, &other, &mut into),
        File::Status => {
            text.split_inclusive(|c| *c == b'\n').for_each(|line| status(line, mask, &other, &mut into));
        }
        File::Descriptor => {
            text.split_inclusive(|c| *c == b'\n').for_each(|line| match line.strip_prefix(INODE) {
                Some(inode) => {
                    into.push(INODE);
                    let (_, known) = files.inodes.known((files.device, decimal(inode).0 as u64));
                    into.push(zap_sys::small!("{known}\n").as_bytes());
                }
                None if line.starts_with(LOCK) => lock(line, files.inodes, &other, &mut into),
                None => status(line, None, &other, &mut into),
            });
        }
        // See `file_numbers` and `path_line`.
        File::Mappings => {}
        File::Locks => {
            // What is longer than the room it was read into ends in the middle of a line.
            let lines = text.split_inclusive(|c| *c == b'\n').filter(|line| line.ends_with(b"\n"));
            lines.for_each(|line| held(line, files.inodes, &other, &mut into));
        }
        File::Children => {
            text.split_inclusive(|c| *c == b' ').for_each(|word| number(word, Role::Process, &other, &mut into));
        }
    }
    into.length
}

/// Writes `word`, which begins with a number, with another one in its place. 0 is somebody in another PID namespace, or nobody;
/// what is below is nobody.
fn number(word: &[u8], role: Role, other: &impl Fn(Role, i32) -> i32, into: &mut Into<'_>) {
    let (value, rest) = decimal(word);
    let least = if matches!(role, Role::Parent | Role::Group | Role::Session) { 0 } else { 1 };
    match i32::try_from(value) {
        Ok(value) if value >= least && rest.len() < word.len() => {
            into.push(zap_sys::small!("{}", other(role, value)).as_bytes());
            into.push(rest);
        }
        _ => into.push(word),
    }
}

/// Device and inode of a file at the beginning of `text`, `fd:01 12` with `between` after the device, by the numbers by which it is
/// known, and what follows them. `None` if they are the same.
pub fn file_numbers(text: &[u8], between: u8, known: impl Fn(FileId) -> FileId) -> Option<(SmallString<128>, &[u8])> {
    let (major, rest) = hex(text);
    let (minor, rest) = hex(rest.strip_prefix(b":")?);
    let (inode, rest) = decimal(rest.strip_prefix(&[between])?);
    let real = (libc::makedev(major as u32, minor as u32), inode as u64);
    let (device, inode) = known(real);
    if (device, inode) == real {
        return None;
    }
    let (major, minor) = (libc::major(device), libc::minor(device));
    Some((zap_sys::small!("{major:02x}:{minor:02x}{}{inode}", char::from(between)), rest))
}

/// The part of a line of [`File::Mappings`] before the numbers of the file that is mapped, `7f00-7f01 r--p 00000000 `, and the rest;
/// `None` if it has none.
pub fn before_file(line: &[u8]) -> Option<(&[u8], &[u8])> {
    // Only the first line of a mapping has a range.
    let range = line.iter().position(|c| *c == b' ').and_then(|end| line.get(..end))?;
    let is_range = range.contains(&b'-') && range.iter().all(|c| *c == b'-' || c.is_ascii_hexdigit());
    let blank = |(_, c): &(usize, &u8)| **c == b' ';
    let third = line.iter().enumerate().filter(blank).nth(2).filter(|_| is_range)?;
    line.split_at_checked(third.0 + 1)
}

/// A line of [`File::Mappings`], in three parts: a path in the store is the pod's. `seen` finds that, in two parts.
pub fn path_line<'a>(line: &'a [u8], seen: impl Fn(&'a [u8]) -> Option<[&'a [u8]; 2]>) -> Option<[&'a [u8]; 3]> {
    const FILE: &[u8] = b"file=";
    let begin = line.iter().position(|c| *c == b'/')?;
    let (head, path) = line.split_at(begin);
    // Those of numa_maps(7) have more behind them, and no blanks in them.
    let end = if head.ends_with(FILE) { path.iter().position(|c| *c == b' ') } else { None };
    let end = end.unwrap_or_else(|| path.strip_suffix(b"\n").map_or(path.len(), <[u8]>::len));
    let (path, tail) = path.split_at(end);
    let [directory, rest] = seen(path)?;
    // The rest and what follows it are side by side in the line.
    Some([head, directory, line.get(line.len() - tail.len() - rest.len()..)?])
}

/// proc_pid_stat(5): the ids are fields 1, 4, 5, 6 and 8; the name in field 2 may hold blanks and parentheses.
fn stat(text: &[u8], other: &impl Fn(Role, i32) -> i32, into: &mut Into<'_>) {
    let name_end = text.iter().rposition(|c| *c == b')').map_or(text.len(), |at| at + 1);
    let (head, tail) = text.split_at(name_end);
    number(head, Role::Process, other, into);
    // The first is the blank before field 3.
    for (at, word) in tail.split_inclusive(|c| *c == b' ').enumerate() {
        match at + 2 {
            4 => number(word, Role::Parent, other, into),
            5 => number(word, Role::Group, other, into),
            6 => number(word, Role::Session, other, into),
            8 => number(word, Role::Foreground, other, into),
            _ => into.push(word),
        }
    }
}

/// A line such as `lock:\t1: POSIX  ADVISORY  WRITE 1234 fd:00:12345 0 EOF`. The lock of a description has -1.
fn lock(line: &[u8], inodes: Inodes<'_>, other: &impl Fn(Role, i32) -> i32, into: &mut Into<'_>) {
    let mut seen = 0;
    for word in line.split_inclusive(|c| *c == b' ') {
        seen += usize::from(word != b" ");
        match seen {
            // After the number, the kind, what it is worth, and the access.
            5 => number(word, Role::Process, other, into),
            6 => locked_file(word, inodes, into),
            _ => into.push(word),
        }
    }
}

/// Writes the file of a lock, `fd:00:12345 `, by the numbers by which it is known.
fn locked_file(word: &[u8], inodes: Inodes<'_>, into: &mut Into<'_>) {
    match file_numbers(word, b':', |file| inodes.known(file)) {
        Some((numbers, rest)) => {
            into.push(numbers.as_bytes());
            into.push(rest);
        }
        None => into.push(word),
    }
}

/// A line of proc_locks(5), `1: POSIX  ADVISORY  WRITE 1234 fd:00:12345 0 EOF`, or with `->` behind the number, of who waits for it.
/// Left out where that is nobody of the pod, as the kernel does with those of other PID namespaces. The lock of a description has -1.
fn held(line: &[u8], inodes: Inodes<'_>, other: &impl Fn(Role, i32) -> i32, into: &mut Into<'_>) {
    let begin = into.length;
    let (mut seen, mut is_anothers) = (0, false);
    for word in line.split_inclusive(|c| *c == b' ') {
        seen += usize::from(word != b" " && !word.starts_with(b"->"));
        if seen != 5 {
            match seen {
                6 => locked_file(word, inodes, into),
                _ => into.push(word),
            }
            continue;
        }
        number(word, Role::Holder, other, into);
        is_anothers |= decimal(word).0 > 0 && other(Role::Holder, decimal(word).0 as i32) == 0;
    }
    if is_anothers {
        into.length = begin;
    }
}

/// A line of proc_pid_status(5).
fn status(line: &[u8], mask: Option<u64>, other: &impl Fn(Role, i32) -> i32, into: &mut Into<'_>) {
    let key_end = line.iter().position(|c| *c == b':').map_or(line.len(), |at| at + 1);
    let (key, value) = line.split_at(key_end);
    let role = match key {
        b"Tgid:" | b"Pid:" | b"NStgid:" | b"NSpid:" => Role::Process,
        b"PPid:" => Role::Parent,
        b"TracerPid:" => Role::Tracer,
        b"NSpgid:" => Role::Group,
        b"NSsid:" => Role::Session,
        b"SigBlk:" if mask.is_some() => {
            into.push(key);
            return into.push(zap_sys::small!("\t{:016x}\n", mask.unwrap_or(0)).as_bytes());
        }
        _ => return into.push(line),
    };
    into.push(key);
    let rest = skip_blanks(value);
    into.push(&value[..value.len() - rest.len()]);
    // In PID namespaces below there are more numbers, which this process does not know.
    number(rest, role, other, into);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(role: Role, id: i32) -> i32 {
        match role {
            Role::Process => id + 8_000_000,
            Role::Parent => 1,
            Role::Group | Role::Foreground => id + 100,
            Role::Session => id + 200,
            Role::Tracer => 0,
            Role::Holder => {
                if id == 9 {
                    0
                } else {
                    id + 8_000_000
                }
            }
        }
    }

    fn translated(file: File, text: &str) -> String {
        let mut bytes = vec![0; room_for(text.len())];
        let words = zap_wire::inodes::encode([((libc::makedev(0xfd, 1), 7), (libc::makedev(0x103, 2), 4_000_000_000))]);
        let files = Files { inodes: Inodes::read(&words).unwrap(), device: libc::makedev(0xfd, 1) };
        let length = translate(file, text.as_bytes(), Some(0x4001), &mut bytes, files, other);
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn stat_has_other_ids_and_the_same_rest() {
        assert_eq!(
            translated(File::Stat, "12 (a) b (5 6) S 3 4 5 34816 7 4194304 12\n"),
            "8000012 (a) b (5 6) S 1 104 205 34816 107 4194304 12\n"
        );
        assert_eq!(translated(File::Stat, "12 (a) S 0 0 0 0 -1 0\n"), "8000012 (a) S 1 100 200 0 -1 0\n");
        assert_eq!(translated(File::Stat, ""), "");
    }

    #[test]
    fn status_has_other_ids_and_the_same_rest() {
        let text = "Name:\tPid:\nState:\tS (sleeping)\nTgid:\t7\nPid:\t7\nPPid:\t5\nTracerPid:\t0\nUid:\t7\t7\nNSpid:\t7\t2\nNSsid:\t9\nSigBlk:\tffffffffffffffff\n";
        let expected = "Name:\tPid:\nState:\tS (sleeping)\nTgid:\t8000007\nPid:\t8000007\nPPid:\t1\nTracerPid:\t0\nUid:\t7\t7\nNSpid:\t8000007\t2\nNSsid:\t209\nSigBlk:\t0000000000004001\n";
        assert_eq!(translated(File::Status, text), expected);
    }

    #[test]
    fn descriptors_have_other_ids_where_they_have_any() {
        let text = "pos:\t0\nflags:\t02\nPid:\t7\nNSpid:\t7\n";
        assert_eq!(translated(File::Descriptor, text), "pos:\t0\nflags:\t02\nPid:\t8000007\nNSpid:\t8000007\n");
        let text =
            "lock:\t1: POSIX  ADVISORY  WRITE 7 fd:00:7 0 EOF\nlock:\t2: OFDLCK ADVISORY  READ -1 fd:00:7 0 EOF\n";
        assert_eq!(translated(File::Descriptor, text), text.replace("WRITE 7", "WRITE 8000007"));
        assert!(!File::Descriptor.has_ids(b"pos:\t7\nmnt_id:\t7\n") && File::Descriptor.has_ids(text.as_bytes()));
    }

    #[test]
    fn files_have_the_numbers_by_which_they_are_known() {
        let text = "pos:\t0\nino:\t7\nlock:\t1: POSIX  ADVISORY  WRITE 7 fd:01:7 0 EOF\n";
        let expected = "pos:\t0\nino:\t4000000000\nlock:\t1: POSIX  ADVISORY  WRITE 8000007 103:02:4000000000 0 EOF\n";
        assert_eq!(translated(File::Descriptor, text), expected);
        let text = "1: FLOCK  ADVISORY  WRITE 7 fd:01:7 0 EOF\n2: FLOCK  ADVISORY  WRITE 7 fd:01:8 0 EOF\n";
        let expected = "1: FLOCK  ADVISORY  WRITE 8000007 103:02:4000000000 0 EOF\n2: FLOCK  ADVISORY  WRITE 8000007 103:02:8 0 EOF\n";
        assert_eq!(translated(File::Locks, text), expected);
        let known = |(device, inode): FileId| (device, inode + 5);
        let (head, rest) = before_file(b"7f00-7f01 r--p 00000000 fd:01 12        /own/a b\n").unwrap();
        let (numbers, path) = file_numbers(rest, b' ', known).unwrap();
        assert_eq!((head, numbers.as_bytes()), (&b"7f00-7f01 r--p 00000000 "[..], &b"fd:01 17"[..]));
        assert_eq!(path, b"        /own/a b\n");
        assert!(
            before_file(b"Size:                  4 kB\n").is_none()
                && before_file(b"7f00 default file=/a b c d\n").is_none()
        );
        assert!(file_numbers(b"fd:01 12 /a\n", b' ', |file| file).is_none());
    }

    #[test]
    fn locks_of_others_are_left_out() {
        let text = "1: POSIX  ADVISORY  WRITE 7 fd:00:7 0 EOF\n1: -> POSIX  ADVISORY  WRITE 12 fd:00:7 0 EOF\n2: FLOCK  ADVISORY  WRITE 9 fd:00:8 0 EOF\n3: OFDLCK ADVISORY  READ -1 fd:00:7 0 EOF\n4: FLO";
        let expected = "1: POSIX  ADVISORY  WRITE 8000007 fd:00:7 0 EOF\n1: -> POSIX  ADVISORY  WRITE 8000012 fd:00:7 0 EOF\n3: OFDLCK ADVISORY  READ -1 fd:00:7 0 EOF\n";
        assert_eq!(translated(File::Locks, text), expected);
    }

    #[test]
    fn paths_of_mappings_are_the_pods() {
        let seen = |path: &'static [u8]| Some([&b"/own"[..], path.strip_prefix(b"/s/0")?]);
        let line = |text: &'static str| path_line(text.as_bytes(), seen).map(|parts| parts.concat());
        let expected = b"7f00-7f01 r--p 00000000 fd:01 12        /own/a b (deleted)\n".to_vec();
        assert_eq!(line("7f00-7f01 r--p 00000000 fd:01 12        /s/0/a b (deleted)\n"), Some(expected));
        let expected = b"7f00 default file=/own/a mapped=2\n".to_vec();
        assert_eq!(line("7f00 default file=/s/0/a mapped=2\n"), Some(expected));
        assert_eq!(line("7f00-7f01 r--p 00000000 fd:01 12        /usr/s/0/a\n"), None);
        assert_eq!(line("7f00-7f01 r--p 00000000 00:00 0         [heap]\n"), None);
    }

    #[test]
    fn children_have_other_ids() {
        assert_eq!(translated(File::Children, "1 22 "), "8000001 8000022 ");
        assert_eq!(translated(File::Children, ""), "");
    }
}
