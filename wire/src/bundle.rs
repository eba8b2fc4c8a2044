//! Bundle files (`.hfb`): an envelope, then each distinct layer as a byte string, in the manifest's order.
//!
//! [`Bundle::read`] checks that the layers are those the manifest names, byte for byte and block by block, and that the
//! area they make is the one it names. Who signed the envelope is asked of [`crate::manifest`].

use crate::cbor::{CborError, Reader};
use crate::key::Digest;
use crate::limits::{BLOCK_BYTES, LAYERS_MAX};
use crate::manifest::{self, AreaHasher, Layer, Manifest, ManifestError};
use crate::suit::{Envelope, SuitError};

/// What a bundle file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// The encoded SUIT envelope.
    pub envelope: &'a [u8],
    /// Its manifest, signature not checked.
    pub manifest: Manifest<'a>,
    /// The bytes of [`Manifest::distinct_layers`], in that order.
    pub layers: heapless::Vec<&'a [u8], LAYERS_MAX>,
}

/// Why bytes are not a bundle file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It does not begin with an envelope.
    #[error("not a bundle file: {0}")]
    Suit(SuitError),
    /// The manifest is not of our profile.
    #[error("bad manifest: {0}")]
    Manifest(ManifestError),
    /// It ends early, goes on after the last layer, or a layer is not a byte string.
    #[error("malformed bundle file: {0}")]
    Cbor(CborError),
    /// A layer's bytes are not those the manifest names; its position among the distinct ones.
    #[error("layer {0} is not the one the manifest names")]
    Layer(usize),
    /// The layers do not make the area the manifest names.
    #[error("the layers do not make the area the manifest names")]
    Area,
}

impl<'a> Bundle<'a> {
    /// Reads a bundle file and checks its layers against its manifest.
    pub fn read(file: &'a [u8]) -> Result<Bundle<'a>, BundleError> {
        let start = Reader::new(file);
        let mut reader = start;
        Envelope::read(&mut reader).map_err(BundleError::Suit)?;
        let envelope = start.until(&reader);
        let manifest = manifest::read(envelope).map_err(BundleError::Manifest)?;
        let mut layers = heapless::Vec::new();
        for (at, layer) in manifest.distinct_layers().enumerate() {
            let bytes = reader.bytes().map_err(BundleError::Cbor)?;
            if !layer_matches(layer, bytes) {
                return Err(BundleError::Layer(at));
            }
            layers.push(bytes).map_err(|_| BundleError::Layer(at))?;
        }
        reader.finish().map_err(BundleError::Cbor)?;
        let bundle = Bundle { envelope, manifest, layers };
        if bundle.area_digest() != bundle.manifest.area_digest {
            return Err(BundleError::Area);
        }
        Ok(bundle)
    }

    /// The bytes of a layer, by its digest.
    pub fn layer(&self, digest: &Digest) -> Option<&'a [u8]> {
        let at = self.manifest.distinct_layers().position(|layer| layer.digest == *digest)?;
        self.layers.get(at).copied()
    }

    fn area_digest(&self) -> Digest {
        let mut hasher = AreaHasher::new();
        for layer in &self.manifest.layers {
            hasher.pad_to(layer.destination);
            hasher.update(self.layer(&layer.digest).unwrap_or_default());
        }
        hasher.finish(self.manifest.area_bytes)
    }
}

fn layer_matches(layer: &Layer<'_>, bytes: &[u8]) -> bool {
    bytes.len() == layer.bytes as usize
        && Digest::of(bytes) == layer.digest
        && bytes.chunks(BLOCK_BYTES).enumerate().all(|(index, block)| layer.block_matches(index, block))
}

/// Writes a bundle file: an envelope and its manifest's distinct layers, in order.
#[cfg(feature = "alloc")]
pub fn write(envelope: &[u8], layers: &[&[u8]]) -> alloc::vec::Vec<u8> {
    let mut writer = crate::cbor::Writer::new();
    writer.raw(envelope);
    layers.iter().for_each(|layer| {
        writer.bytes(layer);
    });
    writer.into_vec()
}
