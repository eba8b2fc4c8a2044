//! Whether a manifest may be installed here: pure, each refusal with its reason.
//!
//! Board and component are looked at before the signature, so that a bundle for another board says so; nothing that is
//! read before the signature is acted on.

use wire::Digest;
use wire::cose::Verify;
use wire::keyset::Keyset;
use wire::manifest::{self, Component, Manifest, ManifestError, Version};
use wire::msg::UpdateReason;
use wire::suit::SuitError;

use crate::mutation::mutated;

/// What the device is, as far as manifests care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Here<'a> {
    pub(crate) component: Component,
    pub(crate) board: &'a str,
    pub(crate) microvisor: Version,
    pub(crate) area_bytes: u32,
    pub(crate) floor: u64,
}

/// Reads an envelope and checks that it is the directed one, for this device, signed, and not below the floor.
pub(crate) fn examine<'e>(
    envelope: &'e [u8],
    target: Digest,
    here: Here<'_>,
    keyset: &Keyset<'_>,
    verify: &impl Verify,
) -> Result<Manifest<'e>, UpdateReason> {
    let manifest = fits(envelope, target, here)?;
    if !mutated!(ManifestSignature) {
        manifest::open(envelope, keyset, verify).map_err(reason)?;
    }
    Ok(manifest)
}

/// Everything but the signature.
pub(crate) fn fits<'e>(
    envelope: &'e [u8],
    target: Digest,
    here: Here<'_>,
) -> Result<Manifest<'e>, UpdateReason> {
    let manifest = manifest::read(envelope).map_err(reason)?;
    if manifest.digest != target && !mutated!(TargetDigest) {
        return Err(UpdateReason::DigestMismatch);
    }
    if manifest.component != here.component && !mutated!(ComponentName) {
        return Err(UpdateReason::WrongComponent);
    }
    if manifest.board != here.board && !mutated!(BoardName) {
        return Err(UpdateReason::WrongBoard);
    }
    if manifest.security_counter < here.floor && !mutated!(Floor) {
        return Err(UpdateReason::BelowFloor);
    }
    if manifest.microvisor_min > here.microvisor {
        return Err(UpdateReason::MicrovisorTooOld);
    }
    if manifest.area_bytes > here.area_bytes {
        return Err(UpdateReason::TooLarge);
    }
    Ok(manifest)
}

/// What the service is told of a manifest that cannot be read or believed.
pub(crate) fn reason(error: ManifestError) -> UpdateReason {
    match error {
        ManifestError::TooLong => UpdateReason::TooLarge,
        ManifestError::Component => UpdateReason::WrongComponent,
        ManifestError::UnknownKey | ManifestError::KeyScope => UpdateReason::UnknownKey,
        ManifestError::Suit(SuitError::Digest) | ManifestError::Unsigned | ManifestError::Signature => {
            UpdateReason::BadSignature
        }
        _ => UpdateReason::Malformed,
    }
}
