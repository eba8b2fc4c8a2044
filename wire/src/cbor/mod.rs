//! Deterministic CBOR (RFC 8949 §4.2.1), read without allocation and written with one.
//!
//! Owns the strictness every signed object relies on: shortest heads, definite lengths, map keys ascending and so
//! never twice, text in UTF-8, nothing after the end. What two decoders could read differently is refused here.
//!
//! Never does: floats, undefined, or more than [`CBOR_DEPTH_MAX`] levels.

mod fields;
#[cfg(feature = "alloc")]
mod write;

pub use fields::Fields;
#[cfg(feature = "alloc")]
pub use write::Writer;

use crate::limits::CBOR_DEPTH_MAX;

/// Why bytes are not the CBOR that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// The input ends inside an item.
    #[error("input ends early")]
    Truncated,
    /// Bytes follow the last item.
    #[error("bytes after the end")]
    Trailing,
    /// A head is longer than needed, or a length indefinite.
    #[error("encoding is not deterministic")]
    NotDeterministic,
    /// Map keys are not in ascending order, or one is there twice.
    #[error("map keys out of order or twice")]
    KeyOrder,
    /// A map has a key that is not known.
    #[error("unknown key")]
    UnknownKey,
    /// A map lacks a key.
    #[error("missing key {0}")]
    MissingKey(i64),
    /// An item is of another type than expected.
    #[error("unexpected type")]
    Type,
    /// An array, byte string or integer is not of the size expected.
    #[error("unexpected size")]
    Size,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A float or a simple value other than false, true and null.
    #[error("unsupported simple value")]
    Simple,
    /// Nested deeper than [`CBOR_DEPTH_MAX`].
    #[error("nested too deep")]
    Depth,
}

/// Major types, RFC 8949 §3.1.
pub(crate) mod major {
    pub(crate) const UINT: u8 = 0;
    pub(crate) const NINT: u8 = 1;
    pub(crate) const BYTES: u8 = 2;
    pub(crate) const TEXT: u8 = 3;
    pub(crate) const ARRAY: u8 = 4;
    pub(crate) const MAP: u8 = 5;
    pub(crate) const TAG: u8 = 6;
    pub(crate) const SIMPLE: u8 = 7;
}

const FALSE: u64 = 20;
const TRUE: u64 = 21;
const NULL: u64 = 22;

/// An encoded head: major type and argument in the shortest form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; 9],
    length: usize,
}

impl Head {
    pub(crate) fn new(major: u8, argument: u64) -> Head {
        let mut bytes = [0; 9];
        let wide = argument.to_be_bytes();
        let (info, width) = match argument {
            0..=23 => (argument as u8, 0),
            24..=0xff => (24, 1),
            0x100..=0xffff => (25, 2),
            0x1_0000..=0xffff_ffff => (26, 4),
            _ => (27, 8),
        };
        bytes[0] = major << 5 | info;
        bytes[1..=width].copy_from_slice(&wide[8 - width..]);
        Head { bytes, length: width + 1 }
    }

    /// The head of a byte string of this length.
    pub(crate) fn of_bytes(content: &[u8]) -> Head {
        Head::new(major::BYTES, content.len() as u64)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Reads items from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from these bytes.
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { rest: bytes }
    }

    /// Bytes not yet read.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Refuses bytes not yet read.
    pub fn finish(self) -> Result<(), CborError> {
        if self.rest.is_empty() { Ok(()) } else { Err(CborError::Trailing) }
    }

    /// An unsigned integer.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.argument(major::UINT)
    }

    /// An unsigned integer of at most 32 bits.
    pub fn u32(&mut self) -> Result<u32, CborError> {
        self.uint()?.try_into().map_err(|_| CborError::Size)
    }

    /// An integer of either sign.
    pub fn int(&mut self) -> Result<i64, CborError> {
        let (major, argument) = self.head()?;
        let value = i64::try_from(argument).map_err(|_| CborError::Size)?;
        match major {
            major::UINT => Ok(value),
            major::NINT => Ok(-1 - value),
            _ => Err(CborError::Type),
        }
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        let length = self.argument(major::BYTES)?;
        self.take(length)
    }

    /// A byte string of exactly `N` bytes.
    pub fn bytes_exact<const N: usize>(&mut self) -> Result<&'a [u8; N], CborError> {
        self.bytes()?.try_into().map_err(|_| CborError::Size)
    }

    /// A byte string: its content, and its whole encoding with the head.
    pub fn bytes_and_wrapped(&mut self) -> Result<(&'a [u8], &'a [u8]), CborError> {
        let before = *self;
        let content = self.bytes()?;
        Ok((content, before.until(self)))
    }

    /// A text string.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let length = self.argument(major::TEXT)?;
        core::str::from_utf8(self.take(length)?).map_err(|_| CborError::Utf8)
    }

    /// The head of an array: how many items follow.
    pub fn array(&mut self) -> Result<usize, CborError> {
        self.count(major::ARRAY)
    }

    /// The head of an array of exactly `count` items.
    pub fn array_of(&mut self, count: usize) -> Result<(), CborError> {
        if self.array()? == count { Ok(()) } else { Err(CborError::Size) }
    }

    /// The head of a map: how many pairs follow. Prefer [`Reader::fields`].
    pub fn map(&mut self) -> Result<usize, CborError> {
        self.count(major::MAP)
    }

    /// A map whose integer keys are all known.
    pub fn fields(&mut self) -> Result<Fields<'_, 'a>, CborError> {
        let pairs = self.map()?;
        Ok(self.fields_of(pairs))
    }

    /// The next pairs of a map whose head was read.
    pub(crate) fn fields_of(&mut self, pairs: usize) -> Fields<'_, 'a> {
        Fields::new(self, pairs)
    }

    /// What was read between this reader and a later one over the same bytes.
    pub(crate) fn until(&self, later: &Reader<'a>) -> &'a [u8] {
        &self.rest[..self.rest.len().saturating_sub(later.rest.len())]
    }

    /// This tag.
    pub fn tag(&mut self, tag: u64) -> Result<(), CborError> {
        if self.argument(major::TAG)? == tag { Ok(()) } else { Err(CborError::Type) }
    }

    /// Null if it is next; else nothing is read.
    pub fn null(&mut self) -> Result<bool, CborError> {
        let mut ahead = *self;
        let is_null = ahead.head()? == (major::SIMPLE, NULL);
        if is_null {
            *self = ahead;
        }
        Ok(is_null)
    }

    /// The major type of the next item.
    pub fn peek_major(&self) -> Result<u8, CborError> {
        self.rest.first().map(|first| first >> 5).ok_or(CborError::Truncated)
    }

    /// One item of any type, as its encoding.
    pub fn item(&mut self) -> Result<&'a [u8], CborError> {
        let before = *self;
        self.skip(CBOR_DEPTH_MAX)?;
        Ok(before.until(self))
    }

    fn skip(&mut self, depth: usize) -> Result<(), CborError> {
        let inner = depth.checked_sub(1).ok_or(CborError::Depth)?;
        let (major, argument) = self.head()?;
        match major {
            major::UINT | major::NINT => Ok(()),
            major::BYTES => self.take(argument).map(drop),
            major::TEXT => core::str::from_utf8(self.take(argument)?).map(drop).map_err(|_| CborError::Utf8),
            // Every item takes a byte at least, so the loops end with the input.
            major::ARRAY => (0..argument).try_for_each(|_| self.skip(inner)),
            major::MAP => self.skip_pairs(argument, inner),
            major::TAG => self.skip(inner),
            _ => match argument {
                FALSE | TRUE | NULL => Ok(()),
                _ => Err(CborError::Simple),
            },
        }
    }

    fn skip_pairs(&mut self, pairs: u64, depth: usize) -> Result<(), CborError> {
        let mut last: Option<&[u8]> = None;
        for _ in 0..pairs {
            let before = *self;
            self.skip(depth)?;
            let key = before.until(self);
            if last.is_some_and(|last| last >= key) {
                return Err(CborError::KeyOrder);
            }
            last = Some(key);
            self.skip(depth)?;
        }
        Ok(())
    }

    fn count(&mut self, major: u8) -> Result<usize, CborError> {
        usize::try_from(self.argument(major)?).map_err(|_| CborError::Size)
    }

    fn argument(&mut self, expected: u8) -> Result<u64, CborError> {
        match self.head()? {
            (major, argument) if major == expected => Ok(argument),
            _ => Err(CborError::Type),
        }
    }

    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let (&first, mut rest) = self.rest.split_first().ok_or(CborError::Truncated)?;
        let (major, info) = (first >> 5, first & 0x1f);
        let width = match info {
            0..=23 => 0,
            24..=27 => 1 << (info - 24),
            _ => return Err(CborError::NotDeterministic),
        };
        let argument = if width == 0 {
            u64::from(info)
        } else {
            let (wide, after) = rest.split_at_checked(width).ok_or(CborError::Truncated)?;
            rest = after;
            wide.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
        };
        // A wider simple value is a float or an extension, neither of which belongs here.
        if major == major::SIMPLE && width > 0 {
            return Err(CborError::Simple);
        }
        if Head::new(major, argument).length != width + 1 {
            return Err(CborError::NotDeterministic);
        }
        self.rest = rest;
        Ok((major, argument))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], CborError> {
        let length = usize::try_from(length).map_err(|_| CborError::Truncated)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn item(bytes: &[u8]) -> Result<&[u8], CborError> {
        let mut reader = Reader::new(bytes);
        let item = reader.item()?;
        reader.finish()?;
        Ok(item)
    }

    #[test]
    fn only_the_shortest_definite_form_is_read() {
        for (bytes, error) in [
            (&[0x18, 0x17][..], CborError::NotDeterministic),
            (&[0x19, 0x00, 0xff], CborError::NotDeterministic),
            (&[0x1a, 0, 0, 0xff, 0xff], CborError::NotDeterministic),
            (&[0x1b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], CborError::NotDeterministic),
            (&[0x58, 0x01, 0x00], CborError::NotDeterministic),
            (&[0x5f, 0xff], CborError::NotDeterministic),
            (&[0x9f, 0xff], CborError::NotDeterministic),
            (&[0x1c], CborError::NotDeterministic),
            (&[0xf9, 0x3c, 0x00], CborError::Simple),
            (&[0xf8, 0x18], CborError::Simple),
            (&[0xf7], CborError::Simple),
            (&[0x62, 0xc3, 0x28], CborError::Utf8),
            (&[0xa2, 0x02, 0x00, 0x01, 0x00], CborError::KeyOrder),
            (&[0xa2, 0x01, 0x00, 0x01, 0x00], CborError::KeyOrder),
            (&[0x81], CborError::Truncated),
            (&[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], CborError::Truncated),
            (&[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], CborError::Truncated),
            (&[], CborError::Truncated),
            (&[0x00, 0x00], CborError::Trailing),
        ] {
            assert_eq!(item(bytes), Err(error), "{bytes:02x?}");
        }
    }

    #[test]
    fn items_nest_to_the_limit_and_no_deeper() {
        let nested = |levels: usize| {
            let mut bytes = alloc::vec![0x81; levels];
            bytes.push(0);
            bytes
        };
        assert!(item(&nested(CBOR_DEPTH_MAX - 1)).is_ok());
        assert_eq!(item(&nested(CBOR_DEPTH_MAX)), Err(CborError::Depth));
    }

    /// A random tree, written deterministically.
    fn tree() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|value| core::mem::take(Writer::new().int(value)).into_vec()),
            any::<Vec<u8>>().prop_map(|value| core::mem::take(Writer::new().bytes(&value)).into_vec()),
            "\\PC{0,9}".prop_map(|value| core::mem::take(Writer::new().text(&value)).into_vec()),
            Just(core::mem::take(Writer::new().null()).into_vec()),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(|items| {
                    core::mem::take(Writer::new().array(items.len()).raw(&items.concat())).into_vec()
                }),
                prop::collection::btree_map(inner.clone(), inner, 0..5).prop_map(|pairs| {
                    let mut writer = Writer::new();
                    writer.map(pairs.len());
                    pairs.iter().for_each(|(key, value)| {
                        writer.raw(key).raw(value);
                    });
                    writer.into_vec()
                }),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_the_writer_writes_the_reader_reads(bytes in tree()) {
            prop_assert_eq!(item(&bytes), Ok(&bytes[..]));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = item(&bytes);
        }

        #[test]
        fn a_damaged_tree_never_makes_the_reader_panic(mut bytes in tree(), at: prop::sample::Index, bit in 0..8_u8) {
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            let _ = item(&bytes);
        }
    }
}
