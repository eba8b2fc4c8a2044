//! What an envelope must be to become a bundle: of our profile, signed by a release key of the tenant's keyset whose
//! scope covers its component and board, and within what the database can hold.
//!
//! The same decoder runs on the device; this is the place where a developer still sits in front of the error.

use std::time::SystemTime;

use wire::cose::P256;
use wire::keyset::{self, Keyset};
use wire::limits::{BLOCK_BYTES, ENVELOPE_BYTES_MAX, LAYER_BYTES_MAX, MICROVISOR_TRIAL_S_MAX};
use wire::manifest::{self, Component, ManifestError, Version};
use wire::suit::SuitError;
use wire::{BundleId, Digest, Hasher, TenantId};

/// A verified envelope's facts, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) manifest: Digest,
    pub(crate) component: Component,
    pub(crate) board: String,
    pub(crate) version: String,
    pub(crate) security_counter: i64,
    /// Oldest microvisor it runs on.
    pub(crate) microvisor_min: Version,
    /// Bytes a device that holds nothing has to fetch: a layer that is there twice counts twice.
    pub(crate) bytes: u64,
    /// Distinct ones, in the manifest's order.
    pub(crate) layers: Vec<CandidateLayer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CandidateLayer {
    pub(crate) digest: Digest,
    pub(crate) bytes: u32,
    /// Of every 16 KiB, the last one padded with 0xFF.
    pub(crate) blocks: Vec<Digest>,
}

/// What can be installed.
#[derive(Clone, Debug)]
pub(crate) struct Bundle {
    pub(crate) tenant: TenantId,
    pub(crate) id: BundleId,
    pub(crate) manifest: Digest,
    pub(crate) component: Component,
    pub(crate) board: String,
    pub(crate) version: String,
    pub(crate) security_counter: i64,
    pub(crate) bytes: u64,
    pub(crate) envelope: Vec<u8>,
    pub(crate) created_at: SystemTime,
}

/// Why an envelope cannot become a bundle of this tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the envelope has {bytes} bytes, more than {ENVELOPE_BYTES_MAX}")]
    TooLong { bytes: usize },
    #[error("the tenant has no keyset: publish one first (holdfast keyset publish)")]
    NoKeyset,
    #[error("the tenant's keyset cannot be read: {0}")]
    Keyset(keyset::KeysetError),
    #[error("{0}")]
    Manifest(ManifestError),
    #[error("the security counter is above {}", i64::MAX)]
    SecurityCounter,
    #[error("a microvisor's version is MAJOR.MINOR.PATCH: applications say which they need")]
    MicrovisorVersion,
    #[error("a microvisor's trial lasts {trial_s} s, more than {MICROVISOR_TRIAL_S_MAX}")]
    MicrovisorTrial { trial_s: u32 },
    #[error("a layer has {bytes} bytes, more than {LAYER_BYTES_MAX}")]
    LayerTooLong { bytes: u32 },
    #[error("layer {digest} is listed twice with different sizes or blocks")]
    LayerTwice { digest: Digest },
}

impl Refusal {
    /// The metric's label, and what a program may act on.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::TooLong { .. } | Refusal::Manifest(ManifestError::TooLong) => "too_long",
            Refusal::NoKeyset => "no_keyset",
            Refusal::Keyset(_) => "keyset_unreadable",
            Refusal::Manifest(ManifestError::Suit(SuitError::Digest)) => "digest_mismatch",
            Refusal::Manifest(ManifestError::Unsigned) => "unsigned",
            Refusal::Manifest(ManifestError::UnknownKey) => "unknown_key",
            Refusal::Manifest(ManifestError::KeyScope) => "key_scope",
            Refusal::Manifest(ManifestError::Signature) => "bad_signature",
            Refusal::Manifest(_) => "malformed",
            Refusal::SecurityCounter => "security_counter",
            Refusal::MicrovisorVersion => "microvisor_version",
            Refusal::MicrovisorTrial { .. } => "microvisor_trial",
            Refusal::LayerTooLong { .. } => "layer_too_long",
            Refusal::LayerTwice { .. } => "layer_twice",
        }
    }
}

/// Reads and verifies an envelope against the newest keyset (COSE, as registered).
pub(crate) fn verify(envelope: &[u8], keyset: Option<&[u8]>) -> Result<Candidate, Refusal> {
    if envelope.len() > ENVELOPE_BYTES_MAX {
        return Err(Refusal::TooLong { bytes: envelope.len() });
    }
    let keyset = keyset::read(keyset.ok_or(Refusal::NoKeyset)?).map_err(Refusal::Keyset)?;
    verify_with(envelope, &keyset)
}

fn verify_with(envelope: &[u8], keyset: &Keyset<'_>) -> Result<Candidate, Refusal> {
    let manifest = manifest::open(envelope, keyset, &P256).map_err(Refusal::Manifest)?;
    check_trial(manifest.component, manifest.update.trial_s)?;
    facts(&manifest)
}

/// A microvisor that nobody answers goes back by itself when its trial ends, and by nothing else. Not asked of what was stored before: devices
/// keep to the limit whatever a manifest says.
fn check_trial(component: Component, trial_s: u32) -> Result<(), Refusal> {
    match component {
        Component::Microvisor if trial_s > MICROVISOR_TRIAL_S_MAX => {
            Err(Refusal::MicrovisorTrial { trial_s })
        }
        _ => Ok(()),
    }
}

/// The facts of an envelope that was verified when it was stored.
pub(crate) fn reread(envelope: &[u8]) -> Result<Candidate, Refusal> {
    facts(&manifest::read(envelope).map_err(Refusal::Manifest)?)
}

/// Whether a device may be directed to what needs this microvisor: by what it runs (none: nobody knows, and it judges for itself), or by the
/// microvisor that is to come before. The error is what it runs.
pub(crate) fn runs_on(
    needed: Version,
    running: Option<Version>,
    coming: Option<Version>,
) -> Result<(), Version> {
    match running {
        Some(running) if running < needed && coming.is_none_or(|coming| coming < needed) => Err(running),
        _ => Ok(()),
    }
}

fn facts(manifest: &manifest::Manifest<'_>) -> Result<Candidate, Refusal> {
    if manifest.component == Component::Microvisor && manifest.version.parse::<Version>().is_err() {
        return Err(Refusal::MicrovisorVersion);
    }
    let mut layers: Vec<CandidateLayer> = Vec::with_capacity(manifest.layers.len());
    for layer in &manifest.layers {
        let blocks = layer.blocks.as_chunks::<32>().0.iter().copied().map(Digest).collect();
        let layer = CandidateLayer { digest: layer.digest, bytes: layer.bytes, blocks };
        if layer.bytes > LAYER_BYTES_MAX {
            return Err(Refusal::LayerTooLong { bytes: layer.bytes });
        }
        match layers.iter().find(|known| known.digest == layer.digest) {
            None => layers.push(layer),
            Some(known) if *known == layer => {}
            Some(_) => return Err(Refusal::LayerTwice { digest: layer.digest }),
        }
    }
    Ok(Candidate {
        manifest: manifest.digest,
        component: manifest.component,
        board: manifest.board.to_owned(),
        version: manifest.version.to_owned(),
        security_counter: i64::try_from(manifest.security_counter).map_err(|_| Refusal::SecurityCounter)?,
        microvisor_min: manifest.microvisor_min,
        bytes: manifest.layers.iter().map(|layer| u64::from(layer.bytes)).sum(),
        layers,
    })
}

/// A layer's bytes are not what its manifest says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("layer {layer}: block {index} does not match its digest")]
    Block { layer: Digest, index: usize },
    #[error("layer {layer}: the bytes have another digest: {found}")]
    Layer { layer: Digest, found: Digest },
    #[error("layer {layer}: {found} bytes instead of {expected}")]
    Length { layer: Digest, found: u64, expected: u32 },
}

/// Checks a layer as its bytes go by, in pieces of any size, holding one block's hash state and nothing else.
pub(crate) struct LayerCheck<'a> {
    layer: &'a CandidateLayer,
    whole: Hasher,
    block: Hasher,
    in_block: usize,
    index: usize,
    bytes: u64,
}

impl<'a> LayerCheck<'a> {
    pub(crate) fn new(layer: &'a CandidateLayer) -> Self {
        Self { layer, whole: Hasher::new(), block: Hasher::new(), in_block: 0, index: 0, bytes: 0 }
    }

    pub(crate) fn update(&mut self, mut piece: &[u8]) -> Result<(), Mismatch> {
        self.whole.update(piece);
        self.bytes += piece.len() as u64;
        while !piece.is_empty() {
            let (now, rest) = piece.split_at(piece.len().min(BLOCK_BYTES - self.in_block));
            self.block.update(now);
            self.in_block += now.len();
            piece = rest;
            if self.in_block == BLOCK_BYTES {
                self.end_block()?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), Mismatch> {
        if self.in_block > 0 {
            self.block.update(&vec![0xFF; BLOCK_BYTES - self.in_block]);
            self.end_block()?;
        }
        let layer = self.layer.digest;
        if self.bytes != u64::from(self.layer.bytes) {
            return Err(Mismatch::Length { layer, found: self.bytes, expected: self.layer.bytes });
        }
        let found = self.whole.finish();
        if found != layer {
            return Err(Mismatch::Layer { layer, found });
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), Mismatch> {
        let found = std::mem::take(&mut self.block).finish();
        let index = self.index;
        self.in_block = 0;
        self.index += 1;
        match self.layer.blocks.get(index) {
            Some(digest) if *digest == found => Ok(()),
            _ => Err(Mismatch::Block { layer: self.layer.digest, index }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_goes_to_what_runs_its_microvisor_or_will() {
        let version = |minor| Version { major: 1, minor, patch: 0 };
        let needed = version(2);
        assert_eq!(runs_on(needed, Some(version(2)), None), Ok(()));
        assert_eq!(runs_on(needed, Some(version(3)), None), Ok(()));
        assert_eq!(runs_on(needed, Some(version(1)), None), Err(version(1)));
        assert_eq!(runs_on(needed, Some(version(1)), Some(version(1))), Err(version(1)));
        assert_eq!(runs_on(needed, Some(version(1)), Some(version(2))), Ok(()));
        assert_eq!(runs_on(needed, None, None), Ok(()), "it judges for itself");
    }

    #[test]
    fn a_microvisors_trial_ends_within_a_day() {
        let day = MICROVISOR_TRIAL_S_MAX;
        assert_eq!(check_trial(Component::Microvisor, day), Ok(()));
        let longer = Refusal::MicrovisorTrial { trial_s: day + 1 };
        assert_eq!(check_trial(Component::Microvisor, day + 1), Err(longer));
        assert_eq!(
            check_trial(Component::App, u32::MAX),
            Ok(()),
            "an application's ends with its crashes too"
        );
    }

    fn layer(bytes: &[u8]) -> CandidateLayer {
        let blocks = bytes.chunks(BLOCK_BYTES).map(|block| {
            let mut block = block.to_vec();
            block.resize(BLOCK_BYTES, 0xFF);
            Digest::of(&block)
        });
        CandidateLayer { digest: Digest::of(bytes), bytes: bytes.len() as u32, blocks: blocks.collect() }
    }

    fn check(layer: &CandidateLayer, bytes: &[u8], piece: usize) -> Result<(), Mismatch> {
        let mut check = LayerCheck::new(layer);
        for piece in bytes.chunks(piece) {
            check.update(piece)?;
        }
        check.finish()
    }

    #[test]
    fn a_layer_matches_in_pieces_of_any_size() {
        let bytes: Vec<u8> = (0..BLOCK_BYTES * 2 + 100).map(|i| (i * 7) as u8).collect();
        let layer = layer(&bytes);
        for piece in [1000, BLOCK_BYTES, BLOCK_BYTES + 1, bytes.len()] {
            assert_eq!(check(&layer, &bytes, piece), Ok(()));
        }
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_block() {
        let mut bytes = vec![3; BLOCK_BYTES * 3];
        let layer = layer(&bytes);
        bytes[BLOCK_BYTES + 5] ^= 1;
        assert_eq!(check(&layer, &bytes, 4096), Err(Mismatch::Block { layer: layer.digest, index: 1 }));
    }

    #[test]
    fn a_short_or_long_layer_is_refused() {
        let bytes = vec![3; BLOCK_BYTES * 2];
        let layer = layer(&bytes);
        assert!(matches!(check(&layer, &bytes[..BLOCK_BYTES], 4096), Err(Mismatch::Length { .. })));
        let longer = vec![3; BLOCK_BYTES * 3];
        assert_eq!(check(&layer, &longer, 4096), Err(Mismatch::Block { layer: layer.digest, index: 2 }));
    }

    #[test]
    fn right_blocks_under_a_wrong_name_are_refused() {
        let bytes = vec![3; BLOCK_BYTES];
        let layer = CandidateLayer { digest: Digest([0; 32]), ..layer(&bytes) };
        assert!(matches!(check(&layer, &bytes, 4096), Err(Mismatch::Layer { .. })));
    }

    #[test]
    fn an_envelope_is_refused_by_length_before_it_is_read() {
        let bytes = vec![0; ENVELOPE_BYTES_MAX + 1];
        assert_eq!(verify(&bytes, None), Err(Refusal::TooLong { bytes: bytes.len() }));
        assert_eq!(verify(&bytes[1..], None), Err(Refusal::NoKeyset));
    }
}
