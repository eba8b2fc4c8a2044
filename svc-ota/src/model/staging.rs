//! How the bytes of a layer under way are cut into staged objects, so that whoever is killed goes on close to where
//! it stopped: full chunks end at multiples of the chunk, and what a broken stream leaves is kept when it is worth an
//! object.
//!
//! Always holds: staged pieces are consecutive from 0; no buffer exceeds one chunk.

use bytes::{Bytes, BytesMut};

/// Bytes of a staged object, and the most a killed client sends twice.
pub(crate) const STAGING_CHUNK_BYTES: usize = 256 * 1024;
/// Fewer bytes than this at the end of a broken stream are dropped: bounds the objects of one layer.
pub(crate) const STAGING_PIECE_BYTES_MIN: usize = 32 * 1024;

/// Collects a stream's bytes into the pieces to stage.
#[derive(Debug)]
pub(crate) struct Cutter {
    /// Where the buffered bytes begin.
    start: u64,
    size: u64,
    buffer: BytesMut,
}

/// Consecutive bytes to be staged at `start`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) start: u64,
    pub(crate) data: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OverSize;

impl Cutter {
    pub(crate) fn new(start: u64, size: u64) -> Cutter {
        Cutter { start, size, buffer: BytesMut::new() }
    }

    /// Takes as much of `data` as fits and returns a piece when one is full; call again while `data` is not empty.
    pub(crate) fn push(&mut self, data: &mut Bytes) -> Result<Option<Piece>, OverSize> {
        let room = self.end() - self.start - self.buffer.len() as u64;
        if room == 0 && !data.is_empty() {
            return Err(OverSize);
        }
        let take = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let full = take as u64 == room;
        if full && self.buffer.is_empty() {
            return Ok(self.cut(data.split_to(take)));
        }
        self.buffer.extend_from_slice(&data.split_to(take));
        Ok(if full { self.rest() } else { None })
    }

    /// What is left when the stream ends, if it is worth an object.
    pub(crate) fn end_of_stream(&mut self) -> Option<Piece> {
        if self.buffer.len() < STAGING_PIECE_BYTES_MIN { None } else { self.rest() }
    }

    /// The next boundary: a multiple of the chunk, or the end of the layer.
    fn end(&self) -> u64 {
        let chunk = STAGING_CHUNK_BYTES as u64;
        ((self.start / chunk + 1) * chunk).min(self.size)
    }

    fn rest(&mut self) -> Option<Piece> {
        let data = self.buffer.split().freeze();
        self.cut(data)
    }

    fn cut(&mut self, data: Bytes) -> Option<Piece> {
        let piece = Piece { start: self.start, data };
        self.start += piece.data.len() as u64;
        (!piece.data.is_empty()).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(cutter: &mut Cutter, mut data: Bytes) -> Result<Vec<Piece>, OverSize> {
        let mut pieces = Vec::new();
        while !data.is_empty() {
            pieces.extend(cutter.push(&mut data)?);
        }
        Ok(pieces)
    }

    #[test]
    fn full_chunks_end_at_multiples_and_the_last_at_the_size() {
        let size = 2 * STAGING_CHUNK_BYTES + 10;
        let pieces = run(&mut Cutter::new(0, size as u64), Bytes::from(vec![1; size])).unwrap();
        let lengths: Vec<_> = pieces.iter().map(|p| (p.start as usize, p.data.len())).collect();
        let chunk = STAGING_CHUNK_BYTES;
        assert_eq!(lengths, [(0, chunk), (chunk, chunk), (2 * chunk, 10)]);
    }

    #[test]
    fn a_byte_too_many_is_refused() {
        let mut cutter = Cutter::new(0, 100);
        assert_eq!(run(&mut cutter, Bytes::from(vec![1; 101])), Err(OverSize));
    }

    #[test]
    fn a_broken_streams_rest_is_kept_from_the_minimum_on() {
        let mut cutter = Cutter::new(0, 1 << 20);
        assert!(run(&mut cutter, Bytes::from(vec![1; STAGING_PIECE_BYTES_MIN - 1])).unwrap().is_empty());
        assert_eq!(cutter.end_of_stream(), None);
        assert!(run(&mut cutter, Bytes::from_static(&[1])).unwrap().is_empty());
        assert_eq!(cutter.end_of_stream().map(|p| p.data.len()), Some(STAGING_PIECE_BYTES_MIN));
    }

    proptest! {
        #[test]
        fn pieces_are_consecutive_and_lose_nothing(
            sizes in proptest::collection::vec(1usize..300_000, 1..12),
            start in 0u64..600_000,
        ) {
            let total: usize = sizes.iter().sum();
            let mut cutter = Cutter::new(start, start + total as u64);
            let mut at = start;
            for size in sizes {
                for piece in run(&mut cutter, Bytes::from(vec![7; size])).unwrap() {
                    prop_assert_eq!(piece.start, at);
                    prop_assert!(piece.data.len() <= STAGING_CHUNK_BYTES);
                    at += piece.data.len() as u64;
                }
            }
            prop_assert_eq!(at, start + total as u64);
        }
    }
}
