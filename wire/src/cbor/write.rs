//! Writes deterministic CBOR, as long as the caller keeps map keys in order.

use super::{Head, NULL, major};

/// Writes items; map keys are the caller's to keep in order.
#[derive(Clone, Debug, Default)]
pub struct Writer(alloc::vec::Vec<u8>);

impl Writer {
    /// Nothing written yet.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// The bytes written.
    pub fn into_vec(self) -> alloc::vec::Vec<u8> {
        self.0
    }

    /// An unsigned integer.
    pub fn uint(&mut self, value: u64) -> &mut Writer {
        self.head(major::UINT, value)
    }

    /// An integer of either sign.
    pub fn int(&mut self, value: i64) -> &mut Writer {
        if value < 0 { self.head(major::NINT, !value as u64) } else { self.head(major::UINT, value as u64) }
    }

    /// A byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Writer {
        self.head(major::BYTES, bytes.len() as u64).raw(bytes)
    }

    /// A text string.
    pub fn text(&mut self, text: &str) -> &mut Writer {
        self.head(major::TEXT, text.len() as u64).raw(text.as_bytes())
    }

    /// The head of an array.
    pub fn array(&mut self, count: usize) -> &mut Writer {
        self.head(major::ARRAY, count as u64)
    }

    /// The head of a map.
    pub fn map(&mut self, pairs: usize) -> &mut Writer {
        self.head(major::MAP, pairs as u64)
    }

    /// A tag.
    pub fn tag(&mut self, tag: u64) -> &mut Writer {
        self.head(major::TAG, tag)
    }

    /// Null.
    pub fn null(&mut self) -> &mut Writer {
        self.head(major::SIMPLE, NULL)
    }

    /// Bytes already encoded.
    pub fn raw(&mut self, encoded: &[u8]) -> &mut Writer {
        self.0.extend_from_slice(encoded);
        self
    }

    fn head(&mut self, major: u8, argument: u64) -> &mut Writer {
        let head = Head::new(major, argument);
        self.raw(head.as_slice())
    }
}
