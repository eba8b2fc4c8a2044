//! A manifest's layers as a few words each, so that a block costs no second reading of the manifest.
//!
//! The digests of blocks stay where they are, in the envelope: in memory while a version is fetched, in the slot's
//! envelope part of the flash for the version that runs.

use heapless::Vec;
use wire::Digest;
use wire::limits::LAYERS_MAX;
use wire::manifest::{Layer, Manifest};

/// Bytes of one block's digest.
pub(crate) const DIGEST_BYTES: u32 = 32;

/// One layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) digest: Digest,
    pub(crate) bytes: u32,
    /// Offset in the area.
    pub(crate) destination: u32,
    /// Offset of the first block's digest in the envelope.
    pub(crate) digests_at: u32,
    pub(crate) blocks: u32,
}

/// The layers of one envelope, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Layers(Vec<Entry, LAYERS_MAX>);

impl Layers {
    /// `manifest` was read from `envelope`.
    pub(crate) fn new(envelope: &[u8], manifest: &Manifest<'_>) -> Layers {
        let offset =
            |layer: &Layer<'_>| (layer.blocks.as_ptr() as usize).checked_sub(envelope.as_ptr() as usize);
        let entry = |layer: &Layer<'_>| {
            Some(Entry {
                digest: layer.digest,
                bytes: layer.bytes,
                destination: layer.destination,
                digests_at: u32::try_from(offset(layer)?).ok()?,
                blocks: layer.block_count() as u32,
            })
        };
        Layers(manifest.layers.iter().filter_map(entry).collect())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }
}

impl Entry {
    /// The layer with its digests, from the envelope it was read from.
    pub(crate) fn of<'e>(&self, envelope: &'e [u8]) -> Option<Layer<'e>> {
        let end = self.digests_at + self.blocks * DIGEST_BYTES;
        let blocks = envelope.get(self.digests_at as usize..end as usize)?;
        let Entry { digest, bytes, destination, .. } = *self;
        Some(Layer { digest, bytes, destination, blocks })
    }
}
