//! What the running version already holds: where its blocks lie and where their digests can be read.
//!
//! Kept as offsets into the slot's own envelope in flash, so it costs a few words of memory. It is only a hint: a block
//! is hashed before it is called found.

use heapless::Vec;
use wire::Digest;
use wire::limits::LAYERS_MAX;
use wire::manifest::Manifest;

use super::slots::{BLOCK, Layout, block_digest};
use crate::ports::Flash;

/// Digests read at once.
const DIGESTS: usize = 16;
const DIGEST_BYTES: usize = 32;

/// One layer's blocks.
#[derive(Debug, Clone, Copy)]
struct Run {
    first_block: u32,
    blocks: u32,
    /// Offset of the first block's digest in the store flash.
    digests_at: u32,
}

/// The layers of one slot.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    slot: usize,
    runs: Vec<Run, LAYERS_MAX>,
}

impl Held {
    /// `manifest` borrows from `envelope`, which is what the slot's envelope part holds.
    pub(crate) fn new(layout: &Layout, slot: usize, envelope: &[u8], manifest: &Manifest<'_>) -> Held {
        let runs = manifest
            .layers
            .iter()
            .filter_map(|layer| {
                let offset = (layer.blocks.as_ptr() as usize).checked_sub(envelope.as_ptr() as usize)?;
                Some(Run {
                    first_block: layer.destination / BLOCK,
                    blocks: layer.block_count() as u32,
                    digests_at: layout.slots[slot].envelope_at + u32::try_from(offset).ok()?,
                })
            })
            .collect();
        Held { slot, runs }
    }

    /// Where in the store flash a block of this digest lies, hashed just now.
    pub(crate) fn find(&self, flash: &mut dyn Flash, layout: &Layout, wanted: Digest) -> Option<u32> {
        self.runs.iter().find_map(|run| {
            (0..run.blocks).step_by(DIGESTS).find_map(|first| {
                let mut digests = [0; DIGESTS * DIGEST_BYTES];
                let count = (run.blocks - first).min(DIGESTS as u32);
                let digests = &mut digests[..count as usize * DIGEST_BYTES];
                flash.read(run.digests_at + first * DIGEST_BYTES as u32, digests).ok()?;
                let index = digests.chunks_exact(DIGEST_BYTES).position(|digest| digest == wanted.0)?;
                let at = layout.block_at(self.slot, run.first_block + first + index as u32);
                (block_digest(flash, at) == Ok(wanted)).then_some(at)
            })
        })
    }
}
