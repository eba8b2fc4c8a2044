//! The digest of an area: the flash one component fills, layers at their destinations and 0xFF everywhere else.

use crate::key::{Digest, Hasher};

/// Erased flash.
const PADDING: [u8; 512] = [0xff; 512];

/// Hashes an area from its layers, in ascending order, in pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct AreaHasher {
    hasher: Hasher,
    at: u32,
}

impl AreaHasher {
    /// Nothing hashed yet.
    pub fn new() -> AreaHasher {
        AreaHasher::default()
    }

    /// Pads with 0xFF to this offset, where the next layer begins. An offset already passed changes nothing, and the
    /// digest will not match.
    pub fn pad_to(&mut self, offset: u32) {
        while self.at < offset {
            let length = PADDING.len().min((offset - self.at) as usize);
            self.update(&PADDING[..length]);
        }
    }

    /// Adds bytes at the current offset.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.at = self.at.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    /// The digest, after padding to the end of the area.
    pub fn finish(mut self, area_bytes: u32) -> Digest {
        self.pad_to(area_bytes);
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_area_is_its_layers_and_0xff_everywhere_else() {
        let mut area = [0xff; 3000];
        area[700..710].copy_from_slice(b"0123456789");
        let mut hasher = AreaHasher::new();
        hasher.pad_to(700);
        hasher.update(b"01234");
        hasher.update(b"56789");
        assert_eq!(hasher.finish(3000), Digest::of(&area));
    }
}
