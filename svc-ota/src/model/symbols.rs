//! An ELF file as it arrives: no longer than announced, an ELF file from its first bytes on, and what its digest says.
//!
//! Whether it is the bundle's own is checked where it is sent from, which has the bundle's bytes; here it is kept for people.

use bytes::{Bytes, BytesMut};
use wire::limits::SYMBOLS_BYTES_MAX;
use wire::{Digest, Hasher};

/// A header of a 32-bit ELF file (ELF, "ELF Header").
pub(crate) const ELF_HEADER_BYTES: u64 = 52;
/// "\x7fELF", ELFCLASS32, ELFDATA2LSB: all that a Cortex-M runs.
const ELF_IDENT: [u8; 6] = [0x7F, b'E', b'L', b'F', 1, 1];

/// What is kept for a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
    pub(crate) object: String,
}

/// Why a file is not kept: what is said of the field that is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SymbolsError {
    #[error("has {bytes} bytes, not {ELF_HEADER_BYTES} to {SYMBOLS_BYTES_MAX}")]
    Size { bytes: u64 },
    #[error("is no 32-bit little-endian ELF file")]
    NotElf,
    #[error("is longer than the {bytes} bytes announced")]
    Longer { bytes: u64 },
    #[error("ends after {came} of the {bytes} bytes announced")]
    Shorter { came: u64, bytes: u64 },
    #[error("is not that of the file")]
    Digest,
}

/// A file under way.
#[derive(Debug)]
pub(crate) struct Arriving {
    digest: Digest,
    bytes: u64,
    data: BytesMut,
}

impl Arriving {
    pub(crate) fn new(digest: Digest, bytes: u64) -> Result<Self, SymbolsError> {
        if !(ELF_HEADER_BYTES..=u64::from(SYMBOLS_BYTES_MAX)).contains(&bytes) {
            return Err(SymbolsError::Size { bytes });
        }
        // It grows with what comes: who announces much holds nothing yet.
        Ok(Self { digest, bytes, data: BytesMut::new() })
    }

    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), SymbolsError> {
        if (self.data.len() + data.len()) as u64 > self.bytes {
            return Err(SymbolsError::Longer { bytes: self.bytes });
        }
        self.data.extend_from_slice(data);
        let begun = self.data.len().min(ELF_IDENT.len());
        if self.data[..begun] == ELF_IDENT[..begun] { Ok(()) } else { Err(SymbolsError::NotElf) }
    }

    /// The whole file.
    pub(crate) fn finish(self) -> Result<Bytes, SymbolsError> {
        let came = self.data.len() as u64;
        if came != self.bytes {
            return Err(SymbolsError::Shorter { came, bytes: self.bytes });
        }
        let mut hasher = Hasher::new();
        hasher.update(&self.data);
        if hasher.finish() == self.digest { Ok(self.data.freeze()) } else { Err(SymbolsError::Digest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: usize) -> Vec<u8> {
        let mut file = ELF_IDENT.to_vec();
        file.resize(bytes, 7);
        file
    }

    #[test]
    fn a_file_in_any_pieces_is_the_one_its_digest_names() {
        let file = file(100);
        for piece in [1, 5, 6, 99, 100] {
            let mut arriving = Arriving::new(Digest::of(&file), 100).unwrap();
            file.chunks(piece).for_each(|piece| arriving.push(piece).unwrap());
            assert_eq!(arriving.finish().unwrap(), file);
        }
    }

    #[test]
    fn sizes_are_bounded_at_both_ends() {
        let new = |bytes| Arriving::new(Digest::of(b""), bytes).map(|_| ());
        let max = u64::from(SYMBOLS_BYTES_MAX);
        assert_eq!(new(ELF_HEADER_BYTES), Ok(()));
        assert_eq!(new(max), Ok(()));
        for bytes in [0, ELF_HEADER_BYTES - 1, max + 1, u64::MAX] {
            assert_eq!(new(bytes), Err(SymbolsError::Size { bytes }));
        }
    }

    #[test]
    fn what_is_no_elf_file_is_refused_at_its_first_bytes() {
        for at in 0..ELF_IDENT.len() {
            let mut wrong = file(100);
            wrong[at] ^= 1;
            let mut arriving = Arriving::new(Digest::of(&wrong), 100).unwrap();
            let refused = wrong.chunks(1).position(|byte| arriving.push(byte) == Err(SymbolsError::NotElf));
            assert_eq!(refused, Some(at));
        }
    }

    #[test]
    fn more_less_and_other_bytes_than_announced_are_refused() {
        let whole = file(60);
        let mut arriving = Arriving::new(Digest::of(&whole), 60).unwrap();
        arriving.push(&whole[..59]).unwrap();
        assert_eq!(arriving.push(b"ab"), Err(SymbolsError::Longer { bytes: 60 }));
        assert_eq!(arriving.finish(), Err(SymbolsError::Shorter { came: 59, bytes: 60 }));
        let mut arriving = Arriving::new(Digest::of(b"another"), 60).unwrap();
        arriving.push(&whole).unwrap();
        assert_eq!(arriving.finish(), Err(SymbolsError::Digest));
    }
}
