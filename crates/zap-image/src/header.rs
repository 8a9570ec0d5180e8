//! The header: everything of a process but its memory.
//!
//! Encoded as MessagePack arrays in the order of the fields: any change of a field is another format version.

use self::bytes::Bytes;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Byte strings as MessagePack `bin` instead of arrays of numbers.
pub mod bytes {
    use alloc::vec::Vec;
    use core::fmt;
    use serde::{de, Deserialize, Deserializer, Serialize, Serializer};

    /// Owned bytes: paths, sections, checksums.
    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub struct Bytes(pub Vec<u8>);

    impl Serialize for Bytes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&self.0)
        }
    }

    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Bytes;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }
        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
            Ok(Bytes(bytes.to_vec()))
        }
        fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
            Ok(Bytes(bytes))
        }
    }

    impl<'de> Deserialize<'de> for Bytes {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_byte_buf(Visitor)
        }
    }
}

/// The whole header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub pod: Pod,
    pub process: Process,
    pub threads: Vec<Thread>,
    /// Files that regions are backed by, each once.
    pub files: Vec<BackingFile>,
    /// The objects that `Backing::Shared` names.
    pub objects: Vec<SharedObject>,
    /// Mappings in ascending order of address.
    pub regions: Vec<Region>,
    pub sections: Vec<Section>,
    /// See [`crate::ChunkSums`].
    pub chunk_sums: Bytes,
    /// See [`crate::StoredChunks`]; empty when the extents are stored as they are.
    pub stored_chunks: Bytes,
}

/// The checkpoint that this image is a part of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    pub id: u64,
    pub name: String,
    pub generation: u32,
    /// Seconds since the epoch.
    pub time: u64,
    /// Seconds between checkpoints; 0 for none.
    pub interval: u64,
    pub keep: u32,
    pub compress: String,
    pub signal: i32,
    /// Every process of the pod: a set of images is complete when it has one for each.
    pub members: Vec<Member>,
}

/// A process of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub virtual_pid: i32,
    pub program: String,
}

/// The process itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub virtual_pid: i32,
    /// Last component of the program's path.
    pub program: String,
    /// Path of the executable.
    pub executable: Bytes,
    /// Where the restorer goes on.
    pub entry: Entry,
    pub bounds: Bounds,
    /// The auxiliary vector, as in /proc/self/auxv.
    pub auxv: Bytes,
    /// First address and length of the program's vDSO: kernel's at first, a private copy after a restart.
    pub vdso: (u64, u64),
    /// Address of the mailbox of `zap_wire::restart::MAILBOX_SIZE` bytes.
    pub mailbox: u64,
    /// Version of the library that wrote the image.
    pub zap_version: String,
    /// Kernel release, for diagnosis.
    pub kernel: String,
    /// Soft limit of the stack in bytes: the main stack is given this much room again.
    pub stack_limit: u64,
    /// Virtual id of the parent, which may be no process of the pod.
    pub parent: i32,
    /// Virtual id of the process group, whose leader may have ended, or be no process of the pod.
    pub group: i32,
    /// Virtual id of the session; as with the group.
    pub session: i32,
    /// Virtual id of the process group in the foreground of the controlling terminal, 0 without one.
    pub foreground: i32,
}

/// Register values with which the frozen copy is taken up again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub stack_pointer: u64,
    pub instruction_pointer: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

/// What prctl(PR_SET_MM_MAP) sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

/// A thread, for those who look at an image; its registers are in its stack's signal frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    pub virtual_tid: i32,
    pub name: String,
}

/// A file that a region maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackingFile {
    pub path: Bytes,
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Change time (ctime) in nanoseconds since the epoch: a file that still has it has not been touched.
    pub changed_ns: i64,
    /// GNU build id, empty when the file has none.
    pub build_id: Bytes,
    /// Checksum of the whole file, eight bytes: see [`crate::layout::FileHasher`]. Taken of files without a build id
    /// whose contents the process relies on; else, or when it could not be taken, [`crate::layout::UNKNOWN_CHECKSUM`].
    pub checksum: Bytes,
}

/// An object of shared memory, by which those of a pod's processes know that they have the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedObject {
    /// Device and inode at the checkpoint: the same in all images of a generation, and of no meaning otherwise.
    pub device: u64,
    pub inode: u64,
    /// Of a file that has no name any more and is open in the pod: the path that it had. It is made in that directory,
    /// again without a name. Empty for memory that no descriptor leads to.
    pub path: Bytes,
}

/// What lies under a region where no extent covers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backing {
    /// Zeroes.
    Anonymous,
    /// Pages of `files[file]` from `offset` on.
    File { file: u32, offset: u64 },
    /// Memory that is shared and in no file: pages of `objects[object]` from `offset` on, zeroes where no extent of any
    /// region covers them, in this image or in another of the generation. Each of its pages is in one extent at most.
    Shared { object: u32, offset: u64 },
}

/// Region flags that are not protection.
pub mod flags {
    /// MAP_SHARED.
    pub const SHARED: u32 = 1;
    /// The main stack: MAP_GROWSDOWN.
    pub const GROWS_DOWN: u32 = 1 << 1;
    /// MADV_WIPEONFORK: comes back as zeroes.
    pub const WIPE_ON_FORK: u32 = 1 << 2;
    /// MADV_DONTFORK.
    pub const DONT_FORK: u32 = 1 << 3;
    /// MADV_DONTDUMP.
    pub const DONT_DUMP: u32 = 1 << 4;
    /// MADV_HUGEPAGE.
    pub const HUGE: u32 = 1 << 5;
    /// MADV_NOHUGEPAGE.
    pub const NO_HUGE: u32 = 1 << 6;
    /// MAP_NORESERVE.
    pub const NO_RESERVE: u32 = 1 << 7;
    /// MADV_MERGEABLE.
    pub const MERGEABLE: u32 = 1 << 8;
    /// MADV_SEQUENTIAL.
    pub const SEQUENTIAL: u32 = 1 << 9;
    /// MADV_RANDOM.
    pub const RANDOM: u32 = 1 << 10;
    /// mlock(2): in memory as a whole.
    pub const LOCKED: u32 = 1 << 11;
    /// mlock2(2) with MLOCK_ONFAULT.
    pub const LOCKED_ON_FAULT: u32 = 1 << 12;
    /// MAP_DROPPABLE.
    pub const DROPPABLE: u32 = 1 << 13;
    /// mseal(2).
    pub const SEALED: u32 = 1 << 14;
    /// MADV_GUARD_INSTALL: all pages of the region are guards.
    pub const GUARD: u32 = 1 << 15;
    /// MAP_HUGETLB: memory of huge pages; see [`huge_pages`].
    pub const HUGE_PAGES: u32 = 1 << 16;
    /// MAP_SHARED by a descriptor that was not open for writing: nobody can make it writable (mmap(2)).
    pub const READ_ONLY: u32 = 1 << 17;
    /// Every flag that this version knows, but for the bits from [`HUGE_SHIFT`] on.
    pub const ALL: u32 = (1 << 18) - 1;

    /// In the bits from here on is the logarithm of the size of [`HUGE_PAGES`], else 0: MAP_HUGE_SHIFT of mmap(2).
    pub const HUGE_SHIFT: u32 = 26;

    /// Flags of memory of huge pages of `size` bytes, a power of two.
    pub fn huge_pages(size: u64) -> u32 {
        HUGE_PAGES | (size.trailing_zeros() % 64) << HUGE_SHIFT
    }
}

/// A mapping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    pub start: u64,
    pub end: u64,
    /// PROT_READ | PROT_WRITE | PROT_EXEC.
    pub protection: u32,
    /// See [`flags`].
    pub flags: u32,
    pub backing: Backing,
    /// Contents of its own, in ascending order. Those of a file that is mapped shared count only when the file is gone.
    pub extents: Vec<Extent>,
}

impl Region {
    /// Bytes of a huge page, if the region is of such (MAP_HUGETLB).
    pub fn huge_page(&self) -> Option<u64> {
        (self.flags & flags::HUGE_PAGES != 0).then(|| 1 << (self.flags >> flags::HUGE_SHIFT))
    }
}

/// A run of pages whose contents are in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub address: u64,
    pub length: u64,
    /// Offset from the first byte after the head.
    pub offset: u64,
}

/// The section, of no plugin, that tells how the pod's first process has ended: its wait status, 4 bytes, little-endian.
pub const FIRST_ENDED: &str = "pod.first-ended";

/// The section, of no plugin, that tells of the terminal in whose foreground the process was, or, of one that led a session without a
/// terminal, of its standard streams': [`Terminal`].
pub const TERMINAL: &str = "pod.terminal";

/// Version of [`TERMINAL`].
pub const TERMINAL_VERSION: u32 = 1;

/// What is the program's of a terminal that it shares with others (termios(3), TIOCGWINSZ of ioctl_tty(2)); speeds and what else is
/// the line's are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// c_iflag, c_oflag and c_lflag.
    pub input_modes: u32,
    pub output_modes: u32,
    pub local_modes: u32,
    /// c_cc, 19 bytes.
    pub characters: Bytes,
    pub rows: u16,
    pub columns: u16,
}

/// The section, of no plugin, that lists what was open, for those who look at an image: [`Opened`]. A restart does not read it.
pub const DESCRIPTORS: &str = "pod.descriptors";

/// Version of [`DESCRIPTORS`].
pub const DESCRIPTORS_VERSION: u32 = 1;

/// A number in the process's table of descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    pub number: i32,
    /// `file`, `directory`, `device`, `pipe`, `socket`, or what the kernel calls an anonymous inode: `eventfd`.
    pub kind: String,
    /// Where /proc/self/fd led: a path, or the kernel's name of what has none.
    pub target: Bytes,
    /// The file offset, of what has one.
    pub offset: Option<u64>,
    /// The standard stream that it is: a restart supplies it anew.
    pub stream: Option<u8>,
    /// Equal for numbers of one open file description (dup(2)) and for no others of the process.
    pub description: u32,
}

/// The section, of no plugin, that tells which regular files were open by a path: [`OpenFiles`].
pub const FILES: &str = "pod.files";

/// Version of [`FILES`].
pub const FILES_VERSION: u32 = 2;

/// Files that the restarted program will have open, and that may have changed meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFiles {
    /// One for each open file description (open(2)).
    pub files: Vec<OpenFile>,
    /// Device and inode of each file that this process has open and that is kept beside the images ([`crate::kept`]). Those
    /// that are in no image's `files` have no name, and a restart needs them.
    pub kept: Vec<(u64, u64)>,
    /// The pod keeps files that are open for writing.
    pub keeps: bool,
}

/// A regular file as one open file description has it, at the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// The path by which it is opened again.
    pub path: Bytes,
    pub device: u64,
    pub inode: u64,
    /// The file system's own number (`f_fsid` of statfs(2)); 0 where it has none.
    pub file_system: u64,
    /// In bytes.
    pub size: u64,
    /// Modification time in nanoseconds since the epoch.
    pub modified_ns: i64,
    /// Open for reading, and for writing.
    pub reads: bool,
    pub writes: bool,
    /// What is written comes behind all that is there: O_APPEND, or the offset is at the end.
    pub at_end: bool,
    /// Device and inode by which the program knows it; zeroes, in version 1, for the same.
    #[serde(default)]
    pub known: (u64, u64),
}

/// The section, of no plugin, that tells of the pod's own directories: [`OwnDirectories`].
pub const PRIVATE: &str = "pod.private";

/// Version of [`PRIVATE`].
pub const PRIVATE_VERSION: u32 = 1;

/// Directories of the pod's own (`zap-launch --private`). What they held lies beside the images ([`crate::tree`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnDirectories {
    /// The pod saw them by a mount namespace; else libzap has given the kernel other paths, which are those of the image.
    pub namespaces: bool,
    /// Where the directories `0`, `1` … lay on the host that stood for them.
    pub store: Bytes,
    /// The path of each as the pod sees it, and whether it began as a copy of the host's.
    pub directories: Vec<(Bytes, bool)>,
    /// The host's directory that was the pod's root directory.
    pub root: Option<Bytes>,
}

impl Header {
    /// The pod's own directories, if it had any.
    pub fn own_directories(&self) -> Option<OwnDirectories> {
        let is_it = |section: &&Section| section.name == PRIVATE && section.version == PRIVATE_VERSION;
        let section = self.sections.iter().find(is_it)?;
        zap_codec::decode(&section.bytes.0).ok().map(|(own, _)| own)
    }

    /// Files that were open; nothing where the image does not tell.
    pub fn open_files(&self) -> OpenFiles {
        let is_it = |section: &&Section| section.name == FILES && (1..=FILES_VERSION).contains(&section.version);
        let decoded = self.sections.iter().find(is_it).map(|section| zap_codec::decode(&section.bytes.0));
        decoded.and_then(Result::ok).map(|(files, _)| files).unwrap_or_default()
    }

    /// What was open, by number; `None` where the image does not tell.
    pub fn descriptors(&self) -> Option<Vec<Opened>> {
        let is_it = |section: &&Section| section.name == DESCRIPTORS && section.version == DESCRIPTORS_VERSION;
        let section = self.sections.iter().find(is_it)?;
        zap_codec::decode(&section.bytes.0).ok().map(|(opened, _)| opened)
    }

    /// How the pod's first process had ended, as wait(2) tells it; `None` if it lived.
    pub fn first_ended(&self) -> Option<i32> {
        let section = self.sections.iter().find(|section| section.name == FIRST_ENDED && section.version == 1)?;
        Some(i32::from_le_bytes(section.bytes.0.as_slice().try_into().ok()?))
    }

    /// The terminal in whose foreground the process was; `None` if it was in none's, or by another version.
    pub fn terminal(&self) -> Option<Terminal> {
        let is_it = |section: &&Section| section.name == TERMINAL && section.version == TERMINAL_VERSION;
        let section = self.sections.iter().find(is_it)?;
        zap_codec::decode(&section.bytes.0).ok().map(|(terminal, _)| terminal)
    }
}

/// What a plugin has saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// `plugin.noun`, or [`FIRST_ENDED`], [`TERMINAL`], [`DESCRIPTORS`], [`FILES`], or [`PRIVATE`].
    pub name: String,
    pub version: u32,
    /// A restart without the plugin is refused.
    pub required: bool,
    pub bytes: Bytes,
}
