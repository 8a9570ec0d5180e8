//! The plan: what the restorer has to do, as flat little-endian records in one memfd.
//!
//! ```text
//! Header | count × Record | data: paths, auxiliary vector, restart parts (places are offsets from the plan's start)
//! ```
//!
//! The plan comes from zap-restart through a descriptor that nobody else holds, so it is trusted; offsets are checked
//! all the same, since a mistake should be a message and not a crash.
//!
//! # Safety
//! The records are `repr(C)` structs of integers without padding: any bytes are a value of theirs.
#![allow(unsafe_code)]

use core::mem::size_of;
use zap_sys::RawFd;

/// First eight bytes of a plan.
pub const MAGIC: u64 = u64::from_le_bytes(*b"ZAPPLAN1");

/// Most places for the hole that a plan can name.
pub const CANDIDATES: usize = 16;

/// The plan's head.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub magic: u64,
    /// Bytes of the whole plan.
    pub length: u64,
    /// Number of records, which follow the header.
    pub count: u64,
    /// Descriptors: the image, and where a failure is reported.
    pub image: u64,
    pub report: u64,
    /// First addresses of holes that are free in the image's map; zeroes at the end.
    pub candidates: [u64; CANDIDATES],
    /// `start_code` … `env_end` of `zap_sys::mem::MmMap`, in its order.
    pub bounds: [u64; 11],
    /// Place and length of the auxiliary vector.
    pub auxv: [u64; 2],
    pub fs_base: u64,
    pub gs_base: u64,
    pub stack_pointer: u64,
    pub instruction_pointer: u64,
    /// Address of the mailbox in the restored program.
    pub mailbox: u64,
    /// Place and length of the encoded restart parts.
    pub parts: [u64; 2],
}

/// Bytes of the header.
pub const HEADER_SIZE: usize = size_of::<Header>();

/// Bytes of a record.
pub const RECORD_SIZE: usize = size_of::<Record>();

/// Bytes that the restorer writes to the mailbox around the parts: their length before them, and after them the words
/// of [`Trailer`].
pub const MAILBOX_OVERHEAD: usize = 8 + size_of::<Trailer>();

/// What only the restorer knows: written right behind the parts in the mailbox.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// The restorer's own memory, to be unmapped.
    pub restorer_start: u64,
    pub restorer_length: u64,
    /// The kernel's vDSO and its data in this process.
    pub vdso_start: u64,
    pub vdso_length: u64,
}

/// What a mapping shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Anonymous,
    /// The file opened last.
    File,
    Image,
}

/// One step. All maps are at fixed addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opens the NUL-terminated path at `place` of the plan (`length` with its NUL); it stays the current file until
    /// the next one.
    Open { place: u64, length: u64, flags: i32 },
    /// mmap(2).
    Map { address: u64, length: u64, protection: i32, flags: i32, source: Source, offset: u64 },
    /// Fills mapped, writable memory from offset `offset` of the image.
    Read { address: u64, length: u64, offset: u64 },
    /// mprotect(2).
    Protect { address: u64, length: u64, protection: i32 },
    /// madvise(2); a kernel that does not know the advice is ignored unless it is `required`.
    Advise { address: u64, length: u64, advice: i32, required: bool },
    /// Closes the current file.
    Close,
    /// A second mapping, at `to`, of the shared memory at `from`: mremap(2) with an old length of 0.
    Duplicate { from: u64, length: u64, to: u64 },
    /// munmap(2).
    Unmap { address: u64, length: u64 },
    /// mlock2(2), with MLOCK_ONFAULT or without; left as it is where the limit does not allow it.
    Lock { address: u64, length: u64, on_fault: bool },
    /// mseal(2).
    Seal { address: u64, length: u64 },
}

/// An [`Operation`] as it lies in the plan.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    kind: u32,
    protection: i32,
    flags: i32,
    detail: u32,
    address: u64,
    length: u64,
    offset: u64,
}

impl Header {
    /// The header as it is written.
    pub fn to_bytes(self) -> [u8; HEADER_SIZE] {
        // SAFETY: a struct of u64 has no padding, and the array has its size.
        unsafe { core::mem::transmute_copy(&self) }
    }

    /// The report descriptor of a head whose plan has not been read yet.
    pub fn report_of(head: &[u8; HEADER_SIZE]) -> RawFd {
        Self::from_head(head).report as RawFd
    }

    /// The candidates of a head whose plan has not been read yet.
    pub fn candidates_of(head: &[u8; HEADER_SIZE]) -> [u64; CANDIDATES] {
        Self::from_head(head).candidates
    }

    fn from_head(head: &[u8; HEADER_SIZE]) -> Self {
        // SAFETY: the array has the size of a Header, and any bytes are one.
        unsafe { core::mem::transmute_copy(head) }
    }

    /// The header that `plan` begins with, if it is one and its lengths agree with `plan`.
    pub fn read(plan: &[u8]) -> Option<Self> {
        let header = Self::from_head(plan.first_chunk()?);
        let records = header.count.checked_mul(RECORD_SIZE as u64)?.checked_add(HEADER_SIZE as u64)?;
        (header.magic == MAGIC && header.length == plan.len() as u64 && records <= header.length).then_some(header)
    }
}

impl Operation {
    /// The operation as it is written.
    pub fn to_bytes(self) -> [u8; RECORD_SIZE] {
        // SAFETY: the fields of a Record fill it without padding, and the array has its size.
        unsafe { core::mem::transmute_copy(&self.record()) }
    }

    /// Operation `index` of `plan`.
    pub fn read(plan: &[u8], index: u64) -> Option<Self> {
        let at = HEADER_SIZE + usize::try_from(index).ok()?.checked_mul(RECORD_SIZE)?;
        let bytes = plan.get(at..at.checked_add(RECORD_SIZE)?)?;
        // SAFETY: the slice holds RECORD_SIZE bytes, any of which are a Record; the read does not rely on alignment.
        Self::from_record(unsafe { bytes.as_ptr().cast::<Record>().read_unaligned() })
    }

    /// First address and length of the mapping that it makes, if it makes one.
    pub fn mapped(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Map { address, length, .. } | Self::Duplicate { to: address, length, .. } => Some((address, length)),
            _ => None,
        }
    }

    fn record(self) -> Record {
        let empty = Record::default();
        match self {
            Self::Open { place, length, flags } => Record { kind: 1, flags, length, offset: place, ..empty },
            Self::Map { address, length, protection, flags, source, offset } => {
                let detail = match source {
                    Source::Anonymous => 0,
                    Source::File => 1,
                    Source::Image => 2,
                };
                Record { kind: 2, protection, flags, detail, address, length, offset }
            }
            Self::Read { address, length, offset } => Record { kind: 3, address, length, offset, ..empty },
            Self::Protect { address, length, protection } => Record { kind: 4, address, length, protection, ..empty },
            Self::Advise { address, length, advice, required } => {
                Record { kind: 5, address, length, flags: advice, detail: required.into(), ..empty }
            }
            Self::Close => Record { kind: 7, ..empty },
            Self::Duplicate { from, length, to } => Record { kind: 8, address: to, length, offset: from, ..empty },
            Self::Unmap { address, length } => Record { kind: 9, address, length, ..empty },
            Self::Lock { address, length, on_fault } => {
                Record { kind: 10, address, length, detail: on_fault.into(), ..empty }
            }
            Self::Seal { address, length } => Record { kind: 11, address, length, ..empty },
        }
    }

    fn from_record(record: Record) -> Option<Self> {
        let Record { kind, protection, flags, detail, address, length, offset } = record;
        Some(match kind {
            1 => Self::Open { place: offset, length, flags },
            2 => {
                let source = match detail {
                    0 => Source::Anonymous,
                    1 => Source::File,
                    2 => Source::Image,
                    _ => return None,
                };
                Self::Map { address, length, protection, flags, source, offset }
            }
            3 => Self::Read { address, length, offset },
            4 => Self::Protect { address, length, protection },
            5 => Self::Advise { address, length, advice: flags, required: detail != 0 },
            7 => Self::Close,
            8 => Self::Duplicate { from: offset, length, to: address },
            9 => Self::Unmap { address, length },
            10 => Self::Lock { address, length, on_fault: detail != 0 },
            11 => Self::Seal { address, length },
            _ => return None,
        })
    }
}

impl Trailer {
    /// The trailer as it is written.
    pub fn to_bytes(self) -> [u8; size_of::<Trailer>()] {
        // SAFETY: a struct of u64 has no padding, and the array has its size.
        unsafe { core::mem::transmute_copy(&self) }
    }
}

/// Reads the value of `ZAP_PLAN=` from the text of /proc/self/environ.
pub fn descriptor(environment: &[u8]) -> Option<RawFd> {
    let value = environment.split(|c| *c == 0).find_map(|entry| entry.strip_prefix(b"ZAP_PLAN="))?;
    value.first().is_some_and(u8::is_ascii_digit).then(|| zap_sys::text::decimal(value).0 as RawFd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_round_trip() {
        let all = [
            Operation::Open { place: 400, length: 9, flags: libc_flags() },
            Operation::Map { address: 1, length: 2, protection: 3, flags: 4, source: Source::Image, offset: 5 },
            Operation::Map { address: 1, length: 2, protection: 3, flags: 4, source: Source::File, offset: 5 },
            Operation::Map { address: 1, length: 2, protection: 3, flags: 4, source: Source::Anonymous, offset: 0 },
            Operation::Read { address: 1, length: 2, offset: 3 },
            Operation::Protect { address: 1, length: 2, protection: 5 },
            Operation::Advise { address: 1, length: 2, advice: 18, required: true },
            Operation::Close,
            Operation::Duplicate { from: 1, length: 2, to: 3 },
            Operation::Unmap { address: 1, length: 2 },
            Operation::Lock { address: 1, length: 2, on_fault: true },
            Operation::Seal { address: 1, length: 2 },
        ];
        let mut plan = vec![0u8; HEADER_SIZE];
        for operation in all {
            plan.extend_from_slice(&operation.to_bytes());
        }
        for (index, operation) in all.into_iter().enumerate() {
            assert_eq!(Operation::read(&plan, index as u64), Some(operation));
        }
        assert_eq!(Operation::read(&plan, all.len() as u64), None);
        assert_eq!(Operation::read(&plan, u64::MAX), None);
    }

    fn libc_flags() -> i32 {
        zap_sys::libc::O_RDONLY | zap_sys::libc::O_CLOEXEC
    }

    #[test]
    fn headers_are_checked() {
        let header = Header { magic: MAGIC, length: HEADER_SIZE as u64, fs_base: 7, ..Header::default() };
        let bytes = header.to_bytes();
        assert_eq!(Header::read(&bytes), Some(header));
        assert_eq!(Header::read(&bytes[..HEADER_SIZE - 1]), None);
        assert_eq!(Header::read(&Header { magic: 1, ..header }.to_bytes()), None);
        assert_eq!(Header::read(&Header { count: u64::MAX, ..header }.to_bytes()), None);
        assert_eq!(Header::read(&Header { count: 1, ..header }.to_bytes()), None);
    }

    #[test]
    fn descriptor_is_found() {
        assert_eq!(descriptor(b"LD_AUDIT=/x\0ZAP_PLAN=1021\0A=b\0"), Some(1021));
        assert_eq!(descriptor(b"XZAP_PLAN=1021\0"), None);
        assert_eq!(descriptor(b"ZAP_PLAN=\0"), None);
    }
}
