//! Maps whose keys are integers and all known: read in the one order deterministic encoding allows.
//!
//! A key out of order, twice, unknown or missing is an error of its own.

use core::cmp::Ordering;

use super::{CborError, Reader};

/// A map read in the order of its keys, which deterministic encoding fixes.
#[derive(Debug)]
pub struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
    last: Option<i64>,
}

impl<'r, 'a> Fields<'r, 'a> {
    pub(super) fn new(reader: &'r mut Reader<'a>, pairs: usize) -> Fields<'r, 'a> {
        Fields { reader, left: pairs, last: None }
    }

    /// The reader at the value of `key`, which must be there.
    pub fn required(&mut self, key: i64) -> Result<&mut Reader<'a>, CborError> {
        if self.advance(key)? { Ok(self.reader) } else { Err(CborError::MissingKey(key)) }
    }

    /// The reader at the value of `key`, if it is there.
    pub fn optional(&mut self, key: i64) -> Result<Option<&mut Reader<'a>>, CborError> {
        Ok(if self.advance(key)? { Some(self.reader) } else { None })
    }

    /// Refuses keys that were not asked for.
    pub fn finish(mut self) -> Result<(), CborError> {
        match self.left {
            0 => Ok(()),
            _ => self.next_key().and(Err(CborError::UnknownKey)),
        }
    }

    /// Whether the next key is `key`; it is read then.
    fn advance(&mut self, key: i64) -> Result<bool, CborError> {
        if self.left == 0 {
            return Ok(false);
        }
        let (next, after) = self.next_key()?;
        match key_order(next, key) {
            Ordering::Less => Err(CborError::UnknownKey),
            Ordering::Greater => Ok(false),
            Ordering::Equal => {
                *self.reader = after;
                self.left -= 1;
                self.last = Some(key);
                Ok(true)
            }
        }
    }

    fn next_key(&mut self) -> Result<(i64, Reader<'a>), CborError> {
        let mut ahead = *self.reader;
        let next = ahead.int()?;
        match self.last {
            Some(last) if key_order(next, last) != Ordering::Greater => Err(CborError::KeyOrder),
            _ => Ok((next, ahead)),
        }
    }
}

/// RFC 8949 §4.2.1: by encoded bytes, which for integers is 0, 1, 2, … and then -1, -2, ….
fn key_order(a: i64, b: i64) -> Ordering {
    let rank = |key: i64| (key < 0, if key < 0 { !key } else { key });
    rank(a).cmp(&rank(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_all_known_all_there_and_in_order() {
        fn read(bytes: &[u8]) -> Result<(u64, Option<u64>, u64), CborError> {
            let mut reader = Reader::new(bytes);
            let mut fields = reader.fields()?;
            let one = fields.required(1)?.uint()?;
            let two = fields.optional(2)?.map(Reader::uint).transpose()?;
            let minus = fields.required(-1)?.uint()?;
            fields.finish()?;
            reader.finish()?;
            Ok((one, two, minus))
        }
        assert_eq!(read(&[0xa2, 1, 9, 0x20, 8]), Ok((9, None, 8)));
        assert_eq!(read(&[0xa3, 1, 9, 2, 7, 0x20, 8]), Ok((9, Some(7), 8)));
        for (bytes, error) in [
            (&[0xa1, 1, 9][..], CborError::MissingKey(-1)),
            (&[0xa1, 2, 9], CborError::MissingKey(1)),
            (&[0xa3, 1, 9, 1, 9, 0x20, 8], CborError::KeyOrder),
            (&[0xa3, 1, 9, 0x20, 8, 2, 7], CborError::KeyOrder),
            (&[0xa3, 1, 9, 0x20, 8, 0x20, 7], CborError::KeyOrder),
            (&[0xa3, 0, 9, 1, 9, 0x20, 8], CborError::UnknownKey),
            (&[0xa3, 1, 9, 3, 7, 0x20, 8], CborError::UnknownKey),
            (&[0xa3, 1, 9, 0x20, 8, 0x21, 7], CborError::UnknownKey),
            (&[0xa2, 1, 9, 0x61, 0x61], CborError::Type),
        ] {
            assert_eq!(read(bytes), Err(error), "{bytes:02x?}");
        }
    }
}
