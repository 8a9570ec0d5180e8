//! The head of an image that a process has just written: read, and written again where only values have changed in it.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use zap_image::{FormatError, Header, Prelude, PRELUDE_SIZE};

/// Why something could not be done with a new image.
#[derive(Debug)]
pub enum Failure {
    /// The name of the system call, and its error.
    System(&'static str, io::Error),
    Format(FormatError),
    /// The compressor's own words.
    Compressor(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(call, error) => write!(f, "{call}: {}", zap_client::error::reason(error)),
            Self::Format(error) => error.fmt(f),
            Self::Compressor(why) => f.write_str(why),
        }
    }
}

/// Prelude and header.
pub fn read(image: &File) -> Result<(Prelude, Header), Failure> {
    let system = |call| move |error| Failure::System(call, error);
    let length = image.metadata().map_err(system("fstat"))?.len();
    let mut bytes = [0u8; PRELUDE_SIZE];
    let present = PRELUDE_SIZE.min(length as usize);
    image.read_exact_at(&mut bytes[..present], 0).map_err(system("read"))?;
    let prelude = Prelude::decode(&bytes[..present], length).map_err(Failure::Format)?;
    let mut head = vec![0u8; prelude.head_length as usize];
    image.read_exact_at(&mut head, 0).map_err(system("read"))?;
    let header = zap_image::decode_header(&prelude, &head).map_err(Failure::Format)?;
    Ok((prelude, header))
}

/// Puts a changed header into a raw image, whose extents stay where they are.
pub fn replace(image: &File, prelude: &Prelude, header: &Header) -> Result<(), Failure> {
    let head = zap_image::encode_head(header, prelude.extents_length).map_err(Failure::Format)?;
    if head.len() as u64 != prelude.head_length {
        return Err(Failure::Format(FormatError::Damaged("header length".into())));
    }
    image.write_all_at(&head, 0).map_err(|error| Failure::System("write", error))
}
