//! Reads what rmp-serde writes, by what the type expects.
//!
//! rmp-serde's own reader looks what a value is and then tells the type, whatever the type can be: each type that is read
//! brings a copy of all of that, and together they were half of libzap's code. A fork pays for the length of it, since libzap
//! then does not fit beside libc in what one page of the page table maps (2 MiB), and so does a program that locks its memory
//! or has little address space.

use alloc::string::{String, ToString};
use core::fmt::{self, Display};
use rmp::decode::{self, RmpRead};
use rmp::Marker;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// Why bytes cannot be read.
#[derive(Debug)]
pub struct Error(String);

impl Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}

impl core::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: Display>(why: T) -> Self {
        Self(why.to_string())
    }
}

#[cold]
fn other(why: impl fmt::Debug) -> Error {
    Error(alloc::format!("not as expected: {why:?}"))
}

pub struct Reader<'a> {
    rest: &'a [u8],
}

type Result<T> = core::result::Result<T, Error>;

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline(never)]
    fn signed(&mut self) -> Result<i64> {
        decode::read_int(&mut self.rest).map_err(other)
    }

    #[inline(never)]
    fn unsigned(&mut self) -> Result<u64> {
        decode::read_int(&mut self.rest).map_err(other)
    }

    #[inline(never)]
    fn length(&mut self) -> Result<usize> {
        decode::read_array_len(&mut self.rest).map(|length| length as usize).map_err(other)
    }

    fn take(&mut self, length: u32) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length as usize).ok_or_else(|| other("cut"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline(never)]
    fn text(&mut self) -> Result<&'a str> {
        let length = decode::read_str_len(&mut self.rest).map_err(other)?;
        core::str::from_utf8(self.take(length)?).map_err(other)
    }

    #[inline(never)]
    fn blob(&mut self) -> Result<&'a [u8]> {
        let length = decode::read_bin_len(&mut self.rest).map_err(other)?;
        self.take(length)
    }

    fn next(&self) -> Option<Marker> {
        self.rest.first().map(|byte| Marker::from_u8(*byte))
    }

    /// A list, whose every element `visitor` must take.
    fn list<V: Visitor<'a>>(&mut self, visitor: V) -> Result<V::Value> {
        let mut elements = Elements { left: self.length()?, reader: self };
        let value = visitor.visit_seq(&mut elements)?;
        match elements.left {
            0 => Ok(value),
            _ => Err(other("more elements")),
        }
    }
}

/// Elements of a list, or in turn keys and values of a map.
struct Elements<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
}

impl<'a> de::SeqAccess<'a> for Elements<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // Whatever is said, each takes a byte.
        Some(self.left.min(self.reader.rest.len()))
    }
}

impl<'a> de::MapAccess<'a> for Elements<'_, 'a> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<T::Value> {
        seed.deserialize(&mut *self.reader)
    }
}

/// A variant with contents, whose name has been read.
struct Contents<'r, 'a>(&'r mut Reader<'a>);

impl<'r, 'a> de::EnumAccess<'a> for Contents<'r, 'a> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<(T::Value, Self)> {
        let name = seed.deserialize(&mut *self.0)?;
        Ok((name, self))
    }
}

impl<'a> de::VariantAccess<'a> for Contents<'_, 'a> {
    type Error = Error;

    fn unit_variant(self) -> Result<()> {
        decode::read_nil(&mut self.0.rest).map_err(other)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.0.list(visitor)
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value> {
        self.0.list(visitor)
    }
}

/// Functions that read by `$read` and give what comes to the visitor's function.
macro_rules! read {
    ($($name:ident: $read:ident, $visit:ident;)*) => {$(
        fn $name<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
            visitor.$visit(self.$read()?)
        }
    )*};
}

impl<'a> de::Deserializer<'a> for &mut Reader<'a> {
    type Error = Error;

    read! {
        deserialize_i8: signed, visit_i64;
        deserialize_i16: signed, visit_i64;
        deserialize_i32: signed, visit_i64;
        deserialize_i64: signed, visit_i64;
        deserialize_u8: unsigned, visit_u64;
        deserialize_u16: unsigned, visit_u64;
        deserialize_u32: unsigned, visit_u64;
        deserialize_u64: unsigned, visit_u64;
        deserialize_char: text, visit_borrowed_str;
        deserialize_str: text, visit_borrowed_str;
        deserialize_string: text, visit_borrowed_str;
        deserialize_identifier: text, visit_borrowed_str;
        deserialize_bytes: blob, visit_borrowed_bytes;
        deserialize_byte_buf: blob, visit_borrowed_bytes;
    }

    /// The type must say what it expects.
    fn deserialize_any<V: Visitor<'a>>(self, _: V) -> Result<V::Value> {
        Err(other("a type that takes anything"))
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_any(visitor)
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_bool(decode::read_bool(&mut self.rest).map_err(other)?)
    }

    fn deserialize_f32<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f32(decode::read_f32(&mut self.rest).map_err(other)?)
    }

    fn deserialize_f64<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        visitor.visit_f64(decode::read_f64(&mut self.rest).map_err(other)?)
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        if self.next() == Some(Marker::Null) {
            let _ = self.rest.read_u8();
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        decode::read_nil(&mut self.rest).map_err(other)?;
        visitor.visit_unit()
    }

    /// Written as a list without elements.
    fn deserialize_unit_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        match self.length()? {
            0 => visitor.visit_unit(),
            _ => Err(other("elements")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'a>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value> {
        let left = decode::read_map_len(&mut self.rest).map_err(other)? as usize;
        let mut elements = Elements { left, reader: self };
        let value = visitor.visit_map(&mut elements)?;
        match elements.left {
            0 => Ok(value),
            _ => Err(other("more elements")),
        }
    }

    /// A variant is written as its name, one with contents as a map from its name to them.
    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        if let Some(Marker::FixMap(1)) = self.next() {
            let _ = self.rest.read_u8();
            return visitor.visit_enum(Contents(self));
        }
        visitor.visit_enum(self.text()?.into_deserializer())
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}
