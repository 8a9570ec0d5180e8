//! Open file descriptions as the kernel shows them, with the descriptor numbers that share each.

use alloc::string::String;
use alloc::vec::Vec;
use zap_sys::text::{decimal, field};
use zap_sys::{libc, RawFd};

/// A number in the descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorNumber {
    pub fd: RawFd,
    /// FD_CLOEXEC, which belongs to the number and not to the description.
    pub close_on_exec: bool,
}

/// What a description has in common with those of other processes of the pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Another process has the same description, saves it and makes it again.
    pub follows: bool,
    /// Another process has the same description.
    pub shared: bool,
    /// Names the object ([`crate::Plugin::object`]) in the pod, for [`crate::RestoreContext::publish`]; 0 when every
    /// description of it is this process's.
    pub object: u64,
    /// This process saves what is the object's own, and makes it again.
    pub leads_object: bool,
    /// Which access modes there are among the pod's descriptions of the object: bit `1 << O_RDONLY` …
    pub accesses: u32,
    /// The file is mapped shared in the pod, and what is mapped is saved as memory: up to this offset without a gap. A
    /// restart finds the file by [`crate::RestoreContext::memory`].
    pub mapped: Option<u64>,
}

/// One open file description (open(2)): what dup, fork and SCM_RIGHTS share. Found anew at each checkpoint.
#[derive(Clone)]
pub struct Description {
    /// Names it within this checkpoint and in the image.
    pub id: u32,
    /// Every number that refers to it, ascending; at least one.
    pub numbers: Vec<DescriptorNumber>,
    /// fstat(2).
    pub stat: libc::stat,
    /// Where `/proc/self/fd/<n>` points: a path, or `pipe:[123]`, `anon_inode:[eventfd]` …
    pub link: Vec<u8>,
    /// `/proc/self/fdinfo/<n>` (proc_pid_fdinfo(5)).
    pub info: Vec<u8>,
    /// The descriptions that are in flight to it (SCM_RIGHTS): one entry for each message that carries any, with their
    /// ids. Empty before phase Save.
    pub carried: Vec<Vec<u32>>,
    /// What it has in common with descriptions of other processes; all zeroes before phase Save.
    pub share: Share,
    /// Its file is kept whole beside the images ([`crate::Plugin::keeps`]). Known in phase Save.
    pub kept: bool,
    /// The standard stream (0, 1, 2) of the pod's launch that this is, if it is one: then it is whatever zap-restart
    /// supplies.
    pub stream: Option<u8>,
}

/// When a file is kept whole beside the images, as it is at the checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    #[default]
    No,
    /// If the user wants files that are open for writing kept (`zap-launch --snapshot-files`).
    IfWanted,
    /// If more than so many bytes of it are not saved as memory.
    Above(u64),
}

impl Description {
    /// A number through which the description can be reached.
    pub fn fd(&self) -> RawFd {
        self.numbers.first().map_or(-1, |number| number.fd)
    }

    /// Access mode and status flags, as F_GETFL gives them.
    pub fn status_flags(&self) -> i32 {
        let octal = field(&self.info, b"flags:").unwrap_or_default();
        let value = octal
            .iter()
            .take_while(|c| (b'0'..=b'7').contains(c))
            .fold(0i32, |value, c| value.wrapping_mul(8).wrapping_add(i32::from(c - b'0')));
        // fdinfo shows FD_CLOEXEC among them; it is not the description's.
        value & !libc::O_CLOEXEC
    }

    /// The file offset.
    pub fn position(&self) -> u64 {
        field(&self.info, b"pos:").map_or(0, |text| decimal(text).0 as u64)
    }

    /// The file type bits of its mode (S_IFREG, S_IFIFO …).
    pub fn file_type(&self) -> u32 {
        self.stat.st_mode & libc::S_IFMT
    }

    /// How a user is told of it: `descriptor 5 (/dev/tty)`.
    pub fn name(&self) -> String {
        alloc::format!("descriptor {} ({})", self.fd(), String::from_utf8_lossy(&self.link))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_fdinfo() {
        let stat = zap_sys::fd::stat(c"/").unwrap();
        let description = Description {
            id: 1,
            numbers: alloc::vec![DescriptorNumber { fd: 5, close_on_exec: true }],
            stat,
            link: b"/x".to_vec(),
            info: b"pos:\t17\nflags:\t02102001\nmnt_id:\t1\n".to_vec(),
            carried: Vec::new(),
            share: Share::default(),
            kept: false,
            stream: None,
        };
        assert_eq!(description.position(), 17);
        assert_eq!(description.status_flags(), 0o102001);
        assert_eq!(description.name(), "descriptor 5 (/x)");
        assert_eq!(description.file_type(), libc::S_IFDIR);
    }
}
