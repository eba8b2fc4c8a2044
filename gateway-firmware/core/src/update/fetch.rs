//! Filling the spare slot: a cursor over the area's blocks, one block a step, then the area is read back.
//!
//! Always holds: every block before the cursor reads as the manifest says; a block is written only after its digest is
//! verified, into flash erased just before. Nothing of this is journaled: after a power cut the cursor starts at 0 and
//! passes every block that is in place. A block is passed when it is in place already, when it is copied from the running
//! version, or (between layers) when it is blank; else it is missing and asked for.

use wire::manifest::{Layer, Manifest};
use wire::{Digest, key::Hasher};

use super::held::Held;
use super::layers::Layers;
use super::ledger::Spare;
use super::slots::{self, BLOCK, Layout};
use crate::device::{BlockRefused, Wanted};
use crate::mutation::mutated;
use crate::ports::{Flash, FlashError};

/// Blocks known to be missing at once: two windows, so that a second request can follow the first.
pub(crate) const RUN_BLOCKS_MAX: u32 = 16;
/// A run this long is asked for before its end is known.
const RUN_BLOCKS_ENOUGH: u32 = 8;

/// What a step needs beside the cursor.
pub(crate) struct Ground<'a> {
    pub(crate) flash: &'a mut dyn Flash,
    pub(crate) layout: &'a Layout,
    pub(crate) spare: Spare,
    /// The staged version's.
    pub(crate) envelope: &'a [u8],
    pub(crate) held: Option<&'a Held>,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A bounded piece of work; there may be more.
    Worked,
    /// Nothing can be done until a wanted block arrives.
    Waits,
    /// The whole area reads back as signed.
    ReadBack,
    /// Every block is in place and the area is not what was signed.
    Mismatch,
}

/// The cursor.
#[derive(Debug, Clone)]
pub(crate) struct Fetch {
    cursor: u32,
    /// `cursor..end` are missing, all of one layer.
    end: u32,
    /// Block `end` is not missing, or of another layer.
    closed: bool,
    blocks: u32,
    layers: Layers,
    area_digest: Digest,
    read_back: Option<(Hasher, u32)>,
}

/// One block of a layer.
struct Block<'e> {
    layer: Layer<'e>,
    digest: Digest,
    /// In the layer.
    index: usize,
    offset: u32,
    bytes: usize,
}

impl Fetch {
    /// `manifest` was read from `envelope`.
    pub(crate) fn new(envelope: &[u8], manifest: &Manifest<'_>) -> Fetch {
        let blocks = manifest.area_bytes / BLOCK;
        let cursor = if mutated!(ResumeHash) { 1.min(blocks) } else { 0 };
        Fetch {
            cursor,
            end: cursor,
            closed: false,
            blocks,
            layers: Layers::new(envelope, manifest),
            area_digest: manifest.area_digest,
            read_back: None,
        }
    }

    /// One bounded piece of work.
    pub(crate) fn step(&mut self, ground: &mut Ground<'_>) -> Result<Step, FlashError> {
        if self.cursor == self.blocks {
            return self.read_back(ground);
        }
        if self.cursor == self.end {
            self.end += 1;
            if self.settle(ground)? {
                self.pass();
            }
            return Ok(Step::Worked);
        }
        if self.closed || self.end - self.cursor >= RUN_BLOCKS_MAX {
            return Ok(Step::Waits);
        }
        if self.is_more_missing(ground) {
            self.end += 1
        } else {
            self.closed = true
        }
        Ok(Step::Worked)
    }

    /// The missing run, once its length is known or great enough.
    pub(crate) fn wanted(&self, envelope: &[u8]) -> Option<Wanted> {
        let known = self.closed || self.end - self.cursor >= RUN_BLOCKS_ENOUGH;
        let first = self.block(envelope, self.cursor).filter(|_| known && self.end > self.cursor)?;
        let end = first.layer.bytes.min(first.offset + (self.end - self.cursor) * BLOCK);
        Some(Wanted { layer: first.layer.digest, offset: first.offset, end })
    }

    /// Verifies and writes the block at the cursor; any other is refused.
    pub(crate) fn take(
        &mut self,
        ground: &mut Ground<'_>,
        layer: &Digest,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), BlockRefused> {
        let block = self
            .block(ground.envelope, self.cursor)
            .filter(|block| self.end > self.cursor && block.layer.digest == *layer && block.offset == offset)
            .ok_or(BlockRefused::NotWanted)?;
        if bytes.len() != block.bytes {
            return Err(BlockRefused::Length);
        }
        if !block.layer.block_matches(block.index, bytes) && !mutated!(BlockDigest) {
            return Err(BlockRefused::Digest);
        }
        ground
            .layout
            .write_block(ground.flash, &ground.spare, self.cursor, bytes)
            .map_err(|_| BlockRefused::Flash)?;
        self.pass();
        Ok(())
    }

    /// Layer bytes in place, and in all.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let done_to = u64::from(self.cursor) * u64::from(BLOCK);
        self.layers.iter().fold((0, 0), |(done, total), layer| {
            let bytes = u64::from(layer.bytes);
            (done + done_to.saturating_sub(layer.destination.into()).min(bytes), total + bytes)
        })
    }

    fn pass(&mut self) {
        self.cursor += 1;
        if self.cursor == self.end {
            self.closed = false;
        }
    }

    /// Brings the block at the cursor in place without the network, if that can be done.
    fn settle(&self, ground: &mut Ground<'_>) -> Result<bool, FlashError> {
        let at = ground.layout.block_at(ground.spare.slot(), self.cursor);
        let Some(block) = self.block(ground.envelope, self.cursor) else {
            if !slots::is_blank(ground.flash, at) {
                ground.layout.erase_block(ground.flash, &ground.spare, self.cursor)?;
            }
            return Ok(true);
        };
        if slots::block_digest(ground.flash, at) == Ok(block.digest) {
            return Ok(true);
        }
        let Some(from) = ground.held.and_then(|held| held.find(ground.flash, ground.layout, block.digest))
        else {
            return Ok(false);
        };
        ground.layout.copy_block(ground.flash, &ground.spare, self.cursor, from)?;
        Ok(slots::block_digest(ground.flash, at) == Ok(block.digest))
    }

    /// Block `end` is missing too, and of the same layer.
    fn is_more_missing(&self, ground: &mut Ground<'_>) -> bool {
        let (Some(first), Some(next)) =
            (self.block(ground.envelope, self.cursor), self.block(ground.envelope, self.end))
        else {
            return false;
        };
        let at = ground.layout.block_at(ground.spare.slot(), self.end);
        first.layer.destination == next.layer.destination
            && slots::block_digest(ground.flash, at) != Ok(next.digest)
            && ground.held.and_then(|held| held.find(ground.flash, ground.layout, next.digest)).is_none()
    }

    /// Hashes one more block of the area as it lies in flash.
    fn read_back(&mut self, ground: &mut Ground<'_>) -> Result<Step, FlashError> {
        let (mut hasher, next) = self.read_back.take().unwrap_or_default();
        if next < self.blocks {
            let at = ground.layout.block_at(ground.spare.slot(), next);
            slots::hash(ground.flash, &mut hasher, at, BLOCK)?;
            self.read_back = Some((hasher, next + 1));
            return Ok(Step::Worked);
        }
        let right = hasher.finish() == self.area_digest || mutated!(AreaReadBack);
        Ok(if right { Step::ReadBack } else { Step::Mismatch })
    }

    /// The layer's block that fills block `index` of the area; nothing between and after layers.
    fn block<'e>(&self, envelope: &'e [u8], index: u32) -> Option<Block<'e>> {
        self.layers.iter().find_map(|entry| {
            let offset =
                index.checked_mul(BLOCK)?.checked_sub(entry.destination).filter(|it| *it < entry.bytes)?;
            let layer = entry.of(envelope)?;
            let index = (offset / BLOCK) as usize;
            Some(Block {
                digest: layer.block_digest(index)?,
                index,
                offset,
                bytes: layer.block_bytes(index),
                layer,
            })
        })
    }
}
