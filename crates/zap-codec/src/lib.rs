//! MessagePack (<https://msgpack.org>), in which images, messages and plugins' sections are written: by rmp-serde, and read
//! by [`reader`].
#![no_std]

extern crate alloc;

mod reader;

pub use reader::Error;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde::de::DeserializeOwned;

/// The bytes of `value`. What [`decode`] is to read says what it expects, as derived code does: nothing is flattened, untagged
/// or tagged inside, nor an integer of 128 bits, and no type contains itself without bound.
pub fn encode<T: serde::Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec(value).map_err(|why| why.to_string())
}

/// The value at the beginning of `bytes`, and what follows it.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), String> {
    let mut reader = reader::Reader::new(bytes);
    let value = T::deserialize(&mut reader).map_err(|why| why.to_string())?;
    Ok((value, reader.rest()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapped(u64);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nothing;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Plain,
        One(Wrapped),
        Pair(u32, String),
        Named { list: Vec<Option<i64>>, bytes: [u8; 3], real: (f32, f64), letter: char },
        Others(BTreeMap<String, Vec<Kind>>, (), Nothing, bool),
    }

    fn kinds() -> Vec<Kind> {
        let named = |list| Kind::Named { list, bytes: [1, 2, 255], real: (0.5, f64::MIN), letter: 'ß' };
        let long = (0..40_000).map(|number| (number % 3 != 0).then_some(i64::MIN >> (number % 64))).collect();
        let text = (0..70_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
        let map = [("a".to_string(), alloc::vec![Kind::Plain]), ("b".to_string(), Vec::new())].into();
        alloc::vec![
            Kind::Plain,
            Kind::One(Wrapped(u64::MAX)),
            Kind::Pair(u32::MAX, "é".to_string()),
            Kind::Pair(0, text),
            named(alloc::vec![None, Some(i64::MIN), Some(-1), Some(7)]),
            named(long),
            Kind::Others(map, (), Nothing, true),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_the_rest_is_left() {
        for kind in kinds() {
            let mut bytes = encode(&kind).unwrap();
            assert_eq!(rmp_serde::from_slice::<Kind>(&bytes).unwrap(), kind);
            bytes.extend(b"rest");
            assert_eq!(decode::<Kind>(&bytes), Ok((kind, &b"rest"[..])));
        }
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error_or_another_value() {
        for kind in kinds().into_iter().filter(|kind| encode(kind).unwrap().len() < 1000) {
            let bytes = encode(&kind).unwrap();
            for length in 0..bytes.len() {
                assert!(decode::<Kind>(&bytes[..length]).is_err());
            }
            for at in 0..bytes.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = bytes.clone();
                    changed[at] = byte;
                    let ours = decode::<Kind>(&changed).ok().filter(|(_, rest)| rest.is_empty());
                    // Whatever both can read is the same; NaN is not even the same as itself.
                    if let (Some((ours, _)), Ok(theirs)) = (ours, rmp_serde::from_slice::<Kind>(&changed)) {
                        assert_eq!(alloc::format!("{ours:?}"), alloc::format!("{theirs:?}"));
                    }
                }
            }
        }
        assert!(decode::<(String, u8)>(&encode(&(1u8, "text")).unwrap()).is_err());
        assert!(decode::<(u8, u8)>(&encode(&(1u8, 2u8, 3u8)).unwrap()).is_err());
        assert!(decode::<u8>(&encode(&256).unwrap()).is_err());
    }

    #[test]
    fn a_length_that_the_bytes_do_not_have_takes_no_memory() {
        assert!(decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
        assert!(decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff, b'a']).is_err());
    }
}
