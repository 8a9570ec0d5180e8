//! How a pod's images are compressed, as users say it: the text in [`crate::message::PodSettings`].

use core::fmt;
use core::str::FromStr;

/// A pod's choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compress {
    /// Images that can be mapped.
    #[default]
    None,
    Lz4,
    /// With this level.
    Zstd(i32),
}

/// The level of `zstd` without one: Zstandard's own choice.
const USUAL_LEVEL: i32 = 3;

/// Highest level of Zstandard.
const HIGHEST_LEVEL: i32 = 22;

impl FromStr for Compress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "lz4" => Ok(Self::Lz4),
            "zstd" => Ok(Self::Zstd(USUAL_LEVEL)),
            _ => match text.strip_prefix("zstd:").map(str::parse) {
                Some(Ok(level)) if (1..=HIGHEST_LEVEL).contains(&level) => Ok(Self::Zstd(level)),
                Some(_) => Err("the level of zstd is a number from 1 to 22"),
                None => Err("is one of none, lz4, zstd and zstd:LEVEL"),
            },
        }
    }
}

impl fmt::Display for Compress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Lz4 => f.write_str("lz4"),
            Self::Zstd(USUAL_LEVEL) => f.write_str("zstd"),
            Self::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn words_by_table() {
        for (text, expected) in [
            ("none", Some(Compress::None)),
            ("lz4", Some(Compress::Lz4)),
            ("zstd", Some(Compress::Zstd(3))),
            ("zstd:1", Some(Compress::Zstd(1))),
            ("zstd:22", Some(Compress::Zstd(22))),
            ("zstd:0", None),
            ("zstd:23", None),
            ("zstd:", None),
            ("zstd:x", None),
            ("lz4:1", None),
            ("gzip", None),
            ("", None),
        ] {
            assert_eq!(text.parse().ok(), expected, "{text}");
            if let Some(compress) = expected {
                assert_eq!(compress.to_string(), text);
            }
        }
    }
}
