//! Headers for tests.

use zap_image::header::{bytes::Bytes, flags};
use zap_image::{Backing, BackingFile, Bounds, Entry, Extent, Header, Pod, Process, Region, SharedObject};

pub const MIB: u64 = 1 << 20;
pub const MAILBOX: u64 = 0x7000_0000;
pub const RW: u32 = 3;

/// Anonymous memory; extents are (address, length, offset in the image).
pub fn region(start: u64, length: u64, protection: u32, flags: u32, extents: &[(u64, u64, u64)]) -> Region {
    let extents =
        extents.iter().map(|(address, length, offset)| Extent { address: *address, length: *length, offset: *offset });
    let extents = extents.collect();
    Region { start, end: start + length, protection, flags, backing: Backing::Anonymous, extents }
}

pub fn header(mut regions: Vec<Region>) -> Header {
    regions.push(region(MAILBOX, 0x4000, RW, 0, &[]));
    regions.sort_by_key(|region| region.start);
    let pod = Pod {
        id: 1,
        name: "p".into(),
        generation: 1,
        time: 0,
        interval: 0,
        keep: 1,
        compress: "none".into(),
        signal: 62,
        members: Vec::new(),
    };
    let entry = Entry { stack_pointer: 1, instruction_pointer: 2, fs_base: 3, gs_base: 0 };
    let process = Process {
        virtual_pid: 1,
        program: "p".into(),
        executable: Bytes(b"/p".to_vec()),
        entry,
        bounds: Bounds { start_brk: 0x1000_0000, brk: 0x1000_0000 + 64 * MIB, ..Bounds::default() },
        auxv: Bytes(vec![7; 32]),
        vdso: (0, 0),
        mailbox: MAILBOX,
        zap_version: String::new(),
        kernel: String::new(),
        stack_limit: 8 * MIB,
        parent: 1,
        group: 2,
        session: 3,
        foreground: 2,
    };
    let file = |path: &[u8]| BackingFile {
        path: Bytes(path.to_vec()),
        device: 0,
        inode: 0,
        size: 0,
        modified_ns: 0,
        changed_ns: 0,
        build_id: Bytes::default(),
        checksum: Bytes(zap_image::layout::UNKNOWN_CHECKSUM.to_vec()),
    };
    let files = vec![file(b"/a"), file(b"/b")];
    let objects = (0..4).map(|inode| SharedObject { device: 1, inode, path: Bytes::default() }).collect();
    Header {
        pod,
        process,
        threads: vec![],
        files,
        objects,
        regions,
        sections: vec![],
        chunk_sums: Bytes::default(),
        stored_chunks: Bytes::default(),
    }
}

/// Shared anonymous memory that shows an object (its number, offset).
pub fn shared(start: u64, length: u64, protection: u32, at: (u32, u64), extents: &[(u64, u64, u64)]) -> Region {
    let backing = Backing::Shared { object: at.0, offset: at.1 };
    Region { backing, ..region(start, length, protection, flags::SHARED, extents) }
}
