//! How an image's extents are stored: as they are, or chunk by chunk compressed. The names and numbers of the ways;
//! who compresses and who unpacks are elsewhere.

/// The way in which all chunks of an image are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are: the extents can be mapped.
    None,
    /// Each chunk is one LZ4 block, without a frame.
    Lz4,
    /// Each chunk is one Zstandard frame.
    Zstd,
}

impl Compression {
    const ALL: [Self; 3] = [Self::None, Self::Lz4, Self::Zstd];

    /// The number in the prelude.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The way with this number in the prelude, if there is one.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// The name that people use.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}
