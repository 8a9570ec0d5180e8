//! The contract between tools, coordinator and processes: messages, environment names, the pod table, paths below the
//! runtime directory.
//!
//! Bytes and types only: no socket is opened here. Messages are MessagePack, one per packet of a `SOCK_SEQPACKET` Unix
//! socket. docs/wire-protocol.md describes the conversation; golden/protocol-9.txt and
//! golden/table-11.txt in this crate pin the encoding.
#![cfg_attr(not(test), no_std)]
extern crate alloc;

pub mod compress;
pub mod environment;
pub mod fault;
#[cfg(test)]
mod golden;
pub mod inodes;
pub mod message;
pub mod private;
pub mod restart;
pub mod table;

pub use compress::Compress;
pub use message::{FromCoordinator, Phase, ToCoordinator};

use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Version of the protocol. Both sides refuse another one.
pub const PROTOCOL_VERSION: u32 = 9;

/// Longest message in bytes: below the kernel's default limit for one packet of a Unix socket (212,992).
pub const LONGEST_MESSAGE: usize = 160 * 1024;

/// Zap's signal unless `zap-launch --signal` says otherwise: the number of libc's own for setuid(2) and its kind (SIGSETXID of
/// glibc), which programs can neither handle nor block and do without; Zap's is told from libc's by how it was sent.
pub const DEFAULT_SIGNAL: i32 = 33;

/// Whether `number` can be Zap's signal: [`DEFAULT_SIGNAL`], or a real-time signal other than the first, which libraries take.
pub fn can_be_zaps(number: i32) -> bool {
    number == DEFAULT_SIGNAL || (35..=64).contains(&number)
}

/// Longest [`message::SaveOrder`] in bytes: tens of thousands of sockets.
pub const LONGEST_ORDER: usize = 64 << 20;

/// Encodes a message. Fails only for a message longer than [`LONGEST_MESSAGE`].
pub fn encode<T: serde::Serialize>(message: &T) -> Result<Vec<u8>, String> {
    encode_within(message, LONGEST_MESSAGE)
}

/// Encodes what goes in a file. Fails only for an order longer than [`LONGEST_ORDER`].
pub fn encode_order(order: &message::SaveOrder) -> Result<Vec<u8>, String> {
    encode_within(order, LONGEST_ORDER)
}

fn encode_within<T: serde::Serialize>(message: &T, longest: usize) -> Result<Vec<u8>, String> {
    let bytes = zap_codec::encode(message)?;
    if bytes.len() > longest {
        return Err("message too long".to_string());
    }
    Ok(bytes)
}

/// Decodes a message; anything that is not exactly one is an error.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (message, rest) = zap_codec::decode(bytes)?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err("more than one message".to_string())
    }
}
