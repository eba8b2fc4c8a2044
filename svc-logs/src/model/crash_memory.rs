//! Memory of a crash, as its device sends it: chunks from the first byte on, of pieces that never change.
//!
//! A device is not believed: what is beyond a bound, overlaps, or is not what was said before is malformed. What is not the next byte is not
//! taken, and answered with where this service stands; so the device may lose messages and send them in any order.

use wire::limits::{CRASH_MEMORY_BYTES_MAX, CRASH_MEMORY_CHUNK_BYTES_MAX, CRASH_MEMORY_PIECES_MAX};

use super::Boot;

/// Address and length.
pub(crate) type Piece = (u32, u32);

/// One message, within its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryChunk {
    pub(crate) boot: Boot,
    pub(crate) sequence: u32,
    pub(crate) total: u32,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) offset: u32,
    /// Nothing: the device asks where this service stands.
    pub(crate) data: Vec<u8>,
}

/// What is stored of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredMemory {
    pub(crate) total: u32,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("sequence number 0")]
    Sequence,
    #[error("not 1 to {CRASH_MEMORY_BYTES_MAX} bytes")]
    Total,
    #[error("not 1 to {CRASH_MEMORY_PIECES_MAX} pieces of as many bytes, or some that overlap")]
    Pieces,
    #[error("more than {CRASH_MEMORY_CHUNK_BYTES_MAX} bytes, or beyond the last one")]
    Data,
}

/// What a chunk is to what is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The next bytes: they are taken.
    Next,
    /// A question, a repetition, or bytes that come too early.
    Elsewhere,
    /// Not of the memory that was begun: this device contradicts itself.
    Other,
}

impl MemoryChunk {
    /// The same within its bounds.
    pub(crate) fn checked(self) -> Result<Self, MemoryError> {
        if self.sequence == 0 {
            return Err(MemoryError::Sequence);
        }
        if !(1..=CRASH_MEMORY_BYTES_MAX).contains(&self.total) {
            return Err(MemoryError::Total);
        }
        if !pieces_fit(&self.pieces, self.total) {
            return Err(MemoryError::Pieces);
        }
        let end = u64::from(self.offset) + self.data.len() as u64;
        if self.data.len() > CRASH_MEMORY_CHUNK_BYTES_MAX || end > u64::from(self.total) {
            return Err(MemoryError::Data);
        }
        Ok(self)
    }

    /// What it is to memory of so many bytes and these pieces, of which so much is stored.
    pub(crate) fn fits(&self, total: u32, pieces: &[Piece], stored: u32) -> Fit {
        if (self.total, &self.pieces[..]) != (total, pieces) {
            Fit::Other
        } else if self.offset == stored && !self.data.is_empty() {
            Fit::Next
        } else {
            Fit::Elsewhere
        }
    }
}

fn pieces_fit(pieces: &[Piece], total: u32) -> bool {
    let mut ranges: Vec<_> =
        pieces.iter().map(|(at, bytes)| (u64::from(*at), u64::from(*at) + u64::from(*bytes))).collect();
    ranges.sort_unstable();
    let whole = ranges.iter().all(|(start, end)| start < end && *end <= 1 << 32);
    let apart = ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0);
    let bytes: u64 = pieces.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    (1..=CRASH_MEMORY_PIECES_MAX).contains(&pieces.len()) && whole && apart && bytes == u64::from(total)
}

/// Pieces from their little-endian words.
pub(crate) fn pieces(bytes: &[u8]) -> Result<Vec<Piece>, MemoryError> {
    let (pairs, rest) = bytes.as_chunks::<8>();
    if !rest.is_empty() || pairs.len() > CRASH_MEMORY_PIECES_MAX {
        return Err(MemoryError::Pieces);
    }
    let piece = |[a, b, c, d, e, f, g, h]: &[u8; 8]| {
        (u32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]))
    };
    Ok(pairs.iter().map(piece).collect())
}

/// The bytes again.
pub(crate) fn piece_bytes(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|(at, bytes)| [at.to_le_bytes(), bytes.to_le_bytes()]).flatten().collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A chunk of memory that has 10,000 bytes in two pieces.
    pub(crate) fn chunk(boot: Boot, sequence: u32, offset: u32, bytes: usize) -> MemoryChunk {
        let data = (0..bytes as u32).map(|n| (offset.wrapping_add(n) % 251) as u8).collect();
        let pieces = vec![(0x2827_0000, 4000), (0x2820_0000, 6000)];
        MemoryChunk { boot, sequence, total: 10_000, pieces, offset, data }
    }

    const BOOT: Boot = Boot { counter: 1, random: 2 };

    fn good() -> MemoryChunk {
        chunk(BOOT, 1, 1024, 1024)
    }

    #[test]
    fn a_chunk_is_taken_up_to_its_bounds_and_no_further() {
        for fits in [good(), chunk(BOOT, 1, 0, 0), chunk(BOOT, 1, 9_000, 1_000), chunk(BOOT, 1, 10_000, 0)] {
            assert_eq!(fits.clone().checked(), Ok(fits));
        }
        let most = MemoryChunk {
            total: CRASH_MEMORY_BYTES_MAX,
            pieces: vec![(0, CRASH_MEMORY_BYTES_MAX)],
            ..good()
        };
        assert!(most.clone().checked().is_ok());
        let more = CRASH_MEMORY_BYTES_MAX + 1;
        for (wrong, error) in [
            (MemoryChunk { sequence: 0, ..good() }, MemoryError::Sequence),
            (MemoryChunk { total: 0, pieces: vec![(1, 0)], ..good() }, MemoryError::Total),
            (MemoryChunk { total: more, pieces: vec![(0, more)], ..good() }, MemoryError::Total),
            (chunk(BOOT, 1, 0, 1025), MemoryError::Data),
            (chunk(BOOT, 1, 9_000, 1_001), MemoryError::Data),
            (chunk(BOOT, 1, u32::MAX, 1), MemoryError::Data),
        ] {
            assert_eq!(wrong.clone().checked(), Err(error), "{wrong:?}");
        }
    }

    #[test]
    fn pieces_are_few_apart_and_as_long_as_they_say() {
        let of = |pieces: &[Piece], total| MemoryChunk {
            pieces: pieces.to_vec(),
            total,
            offset: 0,
            data: vec![],
            ..good()
        };
        assert!(of(&[(u32::MAX - 7, 8), (8, 8), (16, 8)], 24).checked().is_ok());
        for (pieces, total) in [
            (&[][..], 1),
            (&[(0, 8), (8, 8), (16, 8), (24, 8)], 32),
            (&[(0, 8), (7, 8)], 16),
            (&[(8, 8), (0, 9)], 17),
            (&[(0, 8), (8, 0)], 8),
            (&[(u32::MAX - 7, 9)], 9),
            (&[(0, 8)], 9),
            (&[(0, u32::MAX), (0, 2)], 1),
        ] {
            assert_eq!(of(pieces, total).checked(), Err(MemoryError::Pieces), "{pieces:?}");
        }
        assert_eq!(pieces(&piece_bytes(&good().pieces)), Ok(good().pieces));
        for length in [1, 7, 9, 32] {
            assert_eq!(pieces(&vec![0; length]), Err(MemoryError::Pieces), "{length}");
        }
    }

    #[test]
    fn only_the_next_bytes_of_the_same_memory_are_taken() {
        let chunk = good();
        let fits = |stored| chunk.fits(10_000, &chunk.pieces, stored);
        assert_eq!(
            [0, 1023, 1024, 1025, 10_000].map(fits),
            [Fit::Elsewhere, Fit::Elsewhere, Fit::Next, Fit::Elsewhere, Fit::Elsewhere]
        );
        assert_eq!(
            MemoryChunk { data: vec![], ..chunk.clone() }.fits(10_000, &chunk.pieces, 1024),
            Fit::Elsewhere
        );
        assert_eq!(chunk.fits(10_001, &chunk.pieces, 1024), Fit::Other);
        assert_eq!(chunk.fits(10_000, &chunk.pieces[..1], 1024), Fit::Other);
    }

    proptest! {
        #[test]
        fn pieces_of_any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), total in any::<u32>()) {
            if let Ok(pieces) = pieces(&bytes) {
                let _ = pieces_fit(&pieces, total);
            }
        }
    }
}
