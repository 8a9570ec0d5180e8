//! The image format: what a checkpoint of one process looks like on disk.
//!
//! ```text
//! prelude   128 bytes        magic, version, architecture, lengths, checksums of prelude and header
//! header    MessagePack,     everything but memory: process, threads, pod, region table, plugin sections;
//!           padded to pages  readable without the extents
//! extents   page-aligned     memory, to be mapped or read in place; checksummed in chunks that cover every byte;
//!                            or those chunks one behind the other, compressed
//! ```
//!
//! Bytes and types only, no I/O: who reads a file hands its bytes in. Nothing here trusts a length it has read. State
//! (what is saved) is described here; parts that a host supplies anew are `zap_wire::restart`. docs/image-format.md
//! describes the format for other readers; golden/image-5.hex in this crate pins it.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

pub mod build_id;
pub mod compression;
#[cfg(test)]
mod golden;
pub mod header;
pub mod kept;
pub mod layout;
pub mod name;
pub mod need;
pub mod prelude;
pub mod tree;
pub mod validate;

pub use compression::Compression;
pub use header::{
    Backing, BackingFile, Bounds, Entry, Extent, Header, Member, Pod, Process, Region, Section, SharedObject, Thread,
};
pub use layout::{checksum, ChunkSums, StoredChunk, StoredChunks, CHUNK_SIZE};
pub use prelude::{Prelude, FORMAT_VERSION, PRELUDE_SIZE};
pub use validate::FormatError;

use alloc::string::ToString;
use alloc::vec::Vec;

/// Longest header in bytes that is read: enough for the 65,530 mappings a process may have, and then some.
pub const LONGEST_HEADER: u64 = 256 << 20;

/// Encodes prelude and header, padded to a whole number of pages: the head of an image whose extents take
/// `extents_length` bytes after it. The length of the result depends on the header's content but not on the values of
/// its checksums, so that it can be known before the extents are written.
pub fn encode_head(header: &Header, extents_length: u64) -> Result<Vec<u8>, FormatError> {
    encode(header, extents_length, Compression::None, extents_length)
}

/// As [`encode_head`], for an image whose extents are stored as `header.stored_chunks` tells: its length does not depend
/// on those values either.
pub fn encode_packed_head(
    header: &Header,
    extents_length: u64,
    compression: Compression,
) -> Result<Vec<u8>, FormatError> {
    let stored_length = StoredChunks::from_bytes(header.stored_chunks.0.clone()).total();
    encode(header, extents_length, compression, stored_length)
}

fn encode(
    header: &Header,
    extents_length: u64,
    compression: Compression,
    stored_length: u64,
) -> Result<Vec<u8>, FormatError> {
    let body = zap_codec::encode(header).map_err(FormatError::Encoding)?;
    let head_length = zap_sys::page_up((PRELUDE_SIZE + body.len()) as u64);
    let mut head = alloc::vec![0; head_length as usize];
    head[PRELUDE_SIZE..PRELUDE_SIZE + body.len()].copy_from_slice(&body);
    let prelude = Prelude {
        version: FORMAT_VERSION,
        machine: zap_sys::arch::ELF_MACHINE,
        header_length: body.len() as u64,
        head_length,
        extents_length,
        header_checksum: checksum(&head[PRELUDE_SIZE..]),
        compression,
        stored_length,
    };
    head[..PRELUDE_SIZE].copy_from_slice(&prelude.encode());
    Ok(head)
}

/// Decodes the header from `head`, the first `prelude.head_length` bytes of an image, and checks it against itself.
pub fn decode_header(prelude: &Prelude, head: &[u8]) -> Result<Header, FormatError> {
    if head.len() as u64 != prelude.head_length {
        return Err(FormatError::Truncated);
    }
    if checksum(&head[PRELUDE_SIZE..]) != prelude.header_checksum {
        return Err(FormatError::Damaged("header".to_string()));
    }
    let body = head
        .get(PRELUDE_SIZE..PRELUDE_SIZE.saturating_add(prelude.header_length as usize))
        .ok_or(FormatError::Truncated)?;
    let (header, rest): (Header, _) = zap_codec::decode(body).map_err(FormatError::Encoding)?;
    if !rest.is_empty() {
        return Err(FormatError::Damaged("header length".to_string()));
    }
    validate::header(&header, prelude)?;
    Ok(header)
}
