//! What is mounted where, as /proc/thread-self/mountinfo tells it (proc_pid_mountinfo(5)). It shows a file system by the
//! same device as the list of mappings does, also where fstat(2) shows another one, and whether or not a path of it is
//! there still. Pure, but for reading it.

use crate::memory::read_all;
use alloc::vec::Vec;
use zap_sys::libc;
use zap_sys::path::CPath;
use zap_sys::text::decimal;

/// All mounts that the process sees.
pub struct Mounts {
    text: Vec<u8>,
}

/// A mount; paths as the kernel escapes them.
pub struct Mount<'a> {
    pub device: u64,
    /// The directory of the file system that is mounted here.
    root: &'a [u8],
    point: &'a [u8],
    /// The file system's type, with its subtype.
    pub kind: &'a [u8],
    /// The file system's own options.
    pub options: &'a [u8],
}

impl Mounts {
    /// Nothing is mounted where nothing can be found out.
    pub fn read() -> Self {
        Self { text: read_all(c"/proc/thread-self/mountinfo").unwrap_or_default() }
    }

    pub fn iter(&self) -> impl Iterator<Item = Mount<'_>> {
        self.text.split(|c| *c == b'\n').filter_map(parse)
    }

    /// Whether the files of a device are in memory alone: what is not there is nowhere.
    pub fn is_memory(&self, device: u64) -> bool {
        let kinds: [&[u8]; 3] = [b"tmpfs", b"ramfs", b"devtmpfs"];
        self.iter().any(|mount| mount.device == device && kinds.contains(&mount.kind))
    }

    /// Whether fstat(2) shows the files of a device with just this device. Each subvolume of btrfs has one of its own there;
    /// files of an overlay may have that of the layer that they are in.
    pub fn is_one_device(&self, device: u64) -> bool {
        self.iter().filter(|mount| mount.device == device && mount.kind != b"overlay").any(|mount| {
            let path = CPath::new(&mount.point());
            path.and_then(|path| zap_sys::fd::stat(path.as_c_str()).ok()).is_some_and(|stat| stat.st_dev == device)
        })
    }
}

impl Mount<'_> {
    pub fn root(&self) -> Vec<u8> {
        unescape(self.root)
    }

    pub fn point(&self) -> Vec<u8> {
        unescape(self.point)
    }
}

/// Parses a line such as `36 35 98:0 /root /point rw,noatime master:1 - ext4 /dev/sda rw,discard`.
fn parse(line: &[u8]) -> Option<Mount<'_>> {
    let mut words = line.split(|c| *c == b' ');
    let (major, minor) = decimal(words.nth(2)?);
    let minor = decimal(minor.strip_prefix(b":")?).0;
    let (root, point) = (words.next()?, words.next()?);
    words.find(|word| *word == b"-")?;
    let (kind, _, options) = (words.next()?, words.next()?, words.next().unwrap_or_default());
    Some(Mount { device: libc::makedev(major as u32, minor as u32), root, point, kind, options })
}

/// Blanks, tabs, newlines and backslashes are shown as `\040`, with three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..]) => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n\
            30 25 0:27 / /dev/shm rw,relatime shared:3 master:1 - tmpfs tmpfs rw,size=1k\n\
            31 27 254:1 / /dev/shm rw - ext4 /dev/vdb rw\n\
            35 31 0:31 /docker/a\\040b /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
            36 31 0:41 / /odd rw -\n\
            broken\n";
        let mounts = Mounts { text: text.to_vec() };
        let found: Vec<_> = mounts.iter().map(|mount| (mount.device, mount.point())).collect();
        let expected = [
            (libc::makedev(254, 0), &b"/"[..]),
            (libc::makedev(0, 27), b"/dev/shm"),
            (libc::makedev(254, 1), b"/dev/shm"),
            (libc::makedev(0, 31), b"/sys/fs/cgroup/memory"),
        ];
        assert!(found.iter().map(|(device, point)| (*device, &point[..])).eq(expected), "{found:?}");
        let cgroup = mounts.iter().last().unwrap();
        assert_eq!(
            (&cgroup.root()[..], cgroup.kind, cgroup.options),
            (&b"/docker/a b"[..], &b"cgroup"[..], &b"rw,memory"[..])
        );
        // A file system is what it is, wherever it is mounted.
        for (device, expected) in
            [(libc::makedev(0, 27), true), (libc::makedev(254, 1), false), (libc::makedev(0, 31), false), (77, false)]
        {
            assert_eq!(mounts.is_memory(device), expected, "{device}");
        }
    }

    #[test]
    fn escapes() {
        assert_eq!(unescape(b"/a\\040b\\134c\\0x\\"), b"/a b\\c\\0x\\");
    }

    #[test]
    fn devices_of_this_machine() {
        let mounts = Mounts::read();
        let device = zap_sys::fd::stat(c"/proc/thread-self").unwrap().st_dev;
        assert!(mounts.is_one_device(device) && !mounts.is_memory(device));
        assert!(!mounts.is_one_device(u64::MAX));
    }
}
