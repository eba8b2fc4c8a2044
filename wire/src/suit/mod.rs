//! SUIT envelopes and manifests (draft-ietf-suit-manifest-34) at the level of the draft: structure, digests and
//! signatures, whatever the commands mean.
//!
//! Reads every signed example of the draft. [`crate::manifest`] is our profile, a strict subset built on this. Like all
//! of `wire` it refuses encodings that are not deterministic, unknown keys, and bytes after the end.
//!
//! Never does: run a command.

mod envelope;
mod raw;

pub use envelope::{Authentication, Envelope};
pub use raw::{Commands, Components, Parameters, RawManifest, Severable};

use crate::cbor::{CborError, Reader};
use crate::cose::CoseError;
use crate::key::Digest;

/// Authentication blocks of one envelope.
pub const AUTHENTICATION_BLOCKS_MAX: usize = 4;

/// Keys of the envelope and the manifest.
pub(crate) mod key {
    pub(crate) const AUTHENTICATION: i64 = 2;
    pub(crate) const MANIFEST: i64 = 3;

    pub(crate) const MANIFEST_VERSION: i64 = 1;
    pub(crate) const SEQUENCE_NUMBER: i64 = 2;
    pub(crate) const COMMON: i64 = 3;
    pub(crate) const REFERENCE_URI: i64 = 4;
    pub(crate) const VALIDATE: i64 = 7;
    pub(crate) const LOAD: i64 = 8;
    pub(crate) const INVOKE: i64 = 9;
    pub(crate) const PAYLOAD_FETCH: i64 = 16;
    pub(crate) const INSTALL: i64 = 20;
    pub(crate) const TEXT: i64 = 23;

    pub(crate) const COMPONENTS: i64 = 2;
    pub(crate) const SHARED_SEQUENCE: i64 = 4;
}

/// Command codes.
pub mod command {
    /// Compare the class identifier.
    pub const CLASS_IDENTIFIER: i64 = 2;
    /// Compare the image with its digest.
    pub const IMAGE_MATCH: i64 = 3;
    /// Set parameters.
    pub const OVERRIDE_PARAMETERS: i64 = 20;
    /// Start it.
    pub const INVOKE: i64 = 23;
}

/// Parameter codes.
pub mod parameter {
    /// UUID of the kind of device.
    pub const CLASS_IDENTIFIER: i64 = 2;
    /// SUIT_Digest of the image.
    pub const IMAGE_DIGEST: i64 = 3;
    /// Bytes of the image.
    pub const IMAGE_SIZE: i64 = 14;
}

/// CBOR tag of an envelope.
pub(crate) const TAG_ENVELOPE: u64 = 107;
/// COSE's SHA-256, RFC 9054 §2.1.
pub(crate) const SHA_256: i64 = -16;

/// Why bytes are not a SUIT object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SuitError {
    /// Not deterministic CBOR of the right shape.
    #[error("malformed SUIT object: {0}")]
    Cbor(CborError),
    /// An authentication block is not a COSE_Sign1 we read.
    #[error("malformed authentication block: {0}")]
    Cose(CoseError),
    /// Another digest algorithm than SHA-256.
    #[error("digest algorithm is not SHA-256")]
    DigestAlgorithm,
    /// A digest does not match what it is of.
    #[error("digest does not match")]
    Digest,
    /// A severed member that the manifest does not name, or names whole.
    #[error("severed member is not in the manifest")]
    Severed,
    /// More than [`AUTHENTICATION_BLOCKS_MAX`].
    #[error("too many authentication blocks")]
    AuthenticationBlocks,
    /// Not manifest version 1.
    #[error("manifest version is not 1")]
    Version,
}

impl From<CborError> for SuitError {
    fn from(error: CborError) -> SuitError {
        SuitError::Cbor(error)
    }
}

impl From<CoseError> for SuitError {
    fn from(error: CoseError) -> SuitError {
        SuitError::Cose(error)
    }
}

/// Reads a SUIT_Digest, which must be SHA-256.
pub(crate) fn read_digest(reader: &mut Reader<'_>) -> Result<Digest, SuitError> {
    reader.array_of(2)?;
    if reader.int()? != SHA_256 {
        return Err(SuitError::DigestAlgorithm);
    }
    Ok(Digest(*reader.bytes_exact()?))
}

/// Reads bytes that hold one SUIT_Digest and nothing else.
pub(crate) fn decode_digest(bytes: &[u8]) -> Result<Digest, SuitError> {
    let mut reader = Reader::new(bytes);
    let digest = read_digest(&mut reader)?;
    reader.finish()?;
    Ok(digest)
}
