//! What the running version already holds: where its blocks lie and where their digests can be read.
//!
//! It is only a hint: a block is hashed before it is called found.

use wire::Digest;

use super::layers::{DIGEST_BYTES, Layers};
use super::slots::{BLOCK, Layout, block_digest};
use crate::ports::Flash;

/// Digests read at once.
const DIGESTS: u32 = 16;

/// The layers of one slot.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) slot: usize,
    pub(crate) layers: Layers,
}

impl Held {
    /// Where in the store flash a block of this digest lies, hashed just now.
    pub(crate) fn find(&self, flash: &mut dyn Flash, layout: &Layout, wanted: Digest) -> Option<u32> {
        self.layers.iter().find_map(|layer| {
            let digests_at = layout.slots[self.slot].envelope_at + layer.digests_at;
            (0..layer.blocks).step_by(DIGESTS as usize).find_map(|first| {
                let mut digests = [0; (DIGESTS * DIGEST_BYTES) as usize];
                let count = (layer.blocks - first).min(DIGESTS);
                let digests = &mut digests[..(count * DIGEST_BYTES) as usize];
                flash.read(digests_at + first * DIGEST_BYTES, digests).ok()?;
                let index =
                    digests.chunks_exact(DIGEST_BYTES as usize).position(|digest| digest == wanted.0)?;
                let at = layout.block_at(self.slot, layer.destination / BLOCK + first + index as u32);
                (block_digest(flash, at) == Ok(wanted)).then_some(at)
            })
        })
    }
}
