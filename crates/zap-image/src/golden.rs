//! The format as it is: a sample image head whose bytes are committed in `golden/`, next to this crate's sources.
//!
//! What fails here has changed the format for every image there is. Either it is a mistake, or version, page
//! (docs/image-format.md) and golden file change in one commit.

use crate::header::{bytes::Bytes, flags};
use crate::layout::ChunkHasher;
use crate::{
    decode_header, encode_head, encode_packed_head, Backing, BackingFile, Bounds, Compression, Entry, Extent, Header,
    Member, Pod, Prelude, Process, Region, Section, SharedObject, StoredChunks, Thread, CHUNK_SIZE, FORMAT_VERSION,
    PRELUDE_SIZE,
};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use std::path::PathBuf;

const PAGE: u64 = 4096;

/// One chunk and one page: two checksums, of which the last is of a short chunk.
const EXTENTS_LENGTH: u64 = CHUNK_SIZE + PAGE;

fn path(kind: &str) -> PathBuf {
    PathBuf::from(format!("{}/golden/image-{FORMAT_VERSION}{kind}.hex", env!("CARGO_MANIFEST_DIR")))
}

fn region(page: u64, pages: u64, protection: u32, flags: u32, backing: Backing, extents: &[(u64, u64, u64)]) -> Region {
    let extent = |&(page, pages, offset): &(u64, u64, u64)| Extent {
        address: page * PAGE,
        length: pages * PAGE,
        offset: offset * PAGE,
    };
    let (start, end) = (page * PAGE, (page + pages) * PAGE);
    Region { start, end, protection, flags, backing, extents: extents.iter().map(extent).collect() }
}

/// Every kind of region and backing, every flag, regions with no, one and several extents, both kinds of section.
/// Numbers of every length that MessagePack has, and negative ones.
fn sample() -> Header {
    let hints = flags::DONT_FORK | flags::DONT_DUMP | flags::HUGE | flags::NO_HUGE | flags::NO_RESERVE;
    let file = |path: &[u8], build_id: &[u8], checksum: u64, modified_ns| BackingFile {
        path: Bytes(path.to_vec()),
        device: 0x801,
        inode: 1_234_567,
        size: 1_000_000,
        modified_ns,
        changed_ns: modified_ns + 1,
        build_id: Bytes(build_id.to_vec()),
        checksum: Bytes(checksum.to_le_bytes().to_vec()),
    };
    let mut hasher = ChunkHasher::new(EXTENTS_LENGTH);
    hasher.update(&(0..EXTENTS_LENGTH).map(|at| (at * 31 % 251) as u8).collect::<Vec<_>>());
    Header {
        pod: Pod {
            id: 0x0123_4567_89ab_cdef,
            name: "sample".into(),
            generation: 3,
            time: 1_700_000_000,
            interval: 600,
            keep: 2,
            compress: "none".into(),
            signal: 62,
            members: vec![
                Member { virtual_pid: 4711, program: "app".into() },
                Member { virtual_pid: 70_000, program: "child".into() },
            ],
        },
        process: Process {
            virtual_pid: 4711,
            program: "app".into(),
            executable: Bytes(b"/usr/bin/app".to_vec()),
            entry: Entry {
                stack_pointer: 0x7fff_ffff_0000,
                instruction_pointer: 0x40_1000,
                fs_base: 0x7f00_0000_0740,
                gs_base: 0,
            },
            bounds: Bounds {
                start_code: 0x40_0000,
                end_code: 0x40_2000,
                start_data: 0x40_3000,
                end_data: 0x40_3800,
                start_brk: 0x50_0000,
                brk: 0x52_1000,
                start_stack: 0x7fff_ffff_0800,
                arg_start: 0x7fff_ffff_0900,
                arg_end: 0x7fff_ffff_0910,
                env_start: 0x7fff_ffff_0910,
                env_end: 0x7fff_ffff_0a00,
            },
            auxv: Bytes(vec![6, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]),
            vdso: (0x7fff_fffc_0000, 2 * PAGE),
            mailbox: 0x7f00_0000_0000,
            zap_version: "0.0.0".into(),
            kernel: "6.1.0".into(),
            stack_limit: 8 << 20,
            parent: 1,
            group: 2,
            session: 3,
            foreground: 2,
        },
        threads: vec![
            Thread { virtual_tid: 4711, name: "app".into() },
            Thread { virtual_tid: 4712, name: "worker".into() },
        ],
        files: vec![
            file(b"/usr/bin/app", &[0xab; 20], 0, 1_600_000_000_123_456_789),
            file(b"/data/\xff", &[], 0x0102_0304_0506_0708, -1_000_000_000),
        ],
        objects: vec![
            SharedObject { device: 1, inode: 70, path: Bytes::default() },
            SharedObject { device: 1, inode: 71, path: Bytes(b"/tmp/gone".to_vec()) },
        ],
        regions: vec![
            region(0x400, 2, 5, 0, Backing::File { file: 0, offset: 0 }, &[]),
            region(0x403, 1, 3, 0, Backing::File { file: 0, offset: 2 * PAGE }, &[(0x403, 1, 0)]),
            region(0x500, 33, 3, hints, Backing::Anonymous, &[(0x500, 1, 1), (0x510, 2, 2)]),
            region(0x600, 1, 0, flags::WIPE_ON_FORK, Backing::Anonymous, &[]),
            region(0x7_f000_0000, 4, 3, 0, Backing::Anonymous, &[(0x7_f000_0000, 1, 4)]),
            region(
                0x7_f000_0010,
                4,
                3,
                flags::SHARED,
                Backing::File { file: 1, offset: PAGE },
                &[(0x7_f000_0011, 1, 5)],
            ),
            region(
                0x7_f000_0020,
                4,
                3,
                flags::SHARED,
                Backing::Shared { object: 0, offset: 0 },
                &[(0x7_f000_0020, 1, 6)],
            ),
            region(0x7_f000_0030, 2, 1, flags::SHARED, Backing::Shared { object: 0, offset: 2 * PAGE }, &[]),
            region(0x7_ffff_ffc0, 2, 5, 0, Backing::Anonymous, &[(0x7_ffff_ffc0, 2, 7)]),
            region(0x7_ffff_fff0, 2, 3, flags::GROWS_DOWN, Backing::Anonymous, &[(0x7_ffff_fff0, 1, 256)]),
        ],
        sections: vec![
            Section { name: "fs.pipes".into(), version: 1, required: true, bytes: Bytes(vec![0x90]) },
            Section { name: "other.hint".into(), version: 300, required: false, bytes: Bytes(Vec::new()) },
        ],
        chunk_sums: Bytes(hasher.finish().into_bytes()),
        stored_chunks: Bytes(Vec::new()),
    }
}

/// Prelude and MessagePack in hexadecimal; the padding is zeroes and has its share in the prelude's checksum.
fn to_text(head: &[u8], header_length: usize) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    head[..PRELUDE_SIZE + header_length].chunks(32).map(hex).collect()
}

fn from_text(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| c.is_ascii_hexdigit()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// Compares a head with the committed one, and reads that.
fn compare(kind: &str, header: &Header, head: &[u8], stored_length: u64) {
    let prelude = Prelude::decode(head, head.len() as u64 + stored_length).unwrap();
    let text = to_text(head, prelude.header_length as usize);
    let path = path(kind);
    if std::env::var_os("ZAP_WRITE_GOLDEN").is_some_and(|value| value == "1") {
        std::fs::write(&path, &text).unwrap();
    }
    let advice = "If the image format is changed on purpose: raise FORMAT_VERSION, change docs/image-format.md, run \
                  `ZAP_WRITE_GOLDEN=1 cargo test -p zap-image`, and commit all three together. Otherwise put it back.";
    let golden = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    assert!(golden.as_deref() == Ok(&text), "{}: encoding differs ({:?}). {advice}", path.display(), golden.err());
    // And it is read as what was written.
    let mut head = from_text(&text);
    head.resize(zap_sys::page_up(head.len() as u64) as usize, 0);
    assert_eq!(&decode_header(&prelude, &head).unwrap(), header);
}

#[test]
fn image_head_is_as_committed() {
    let header = sample();
    compare("", &header, &encode_head(&header, EXTENTS_LENGTH).unwrap(), EXTENTS_LENGTH);
}

#[test]
fn packed_image_head_is_as_committed() {
    let mut header = sample();
    header.pod.compress = "zstd:9".into();
    let mut chunks = StoredChunks::for_length(EXTENTS_LENGTH);
    chunks.set(0, 0x0001_2345, 0x1122_3344_5566_7788);
    header.stored_chunks = Bytes(chunks.into_bytes());
    let head = encode_packed_head(&header, EXTENTS_LENGTH, Compression::Zstd).unwrap();
    compare("-packed", &header, &head, 0x0001_2345);
}
