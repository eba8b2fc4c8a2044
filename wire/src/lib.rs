//! Everything device and cloud both say, and the one decoder of what a device must believe.
//!
//! Owns: ids, topics and who may use them, the MQTT payloads, limits, and the signed objects of docs/bundle.md
//! (SUIT manifests, directives, keysets) with their COSE signatures.
//!
//! Always holds: no allocation and no panic on any input; decoding borrows from the bytes it was given; what is
//! not known is refused; every limit has a name in [`limits`].
//!
//! Never does: IO, clocks, randomness, or making signatures (except with feature `sign`, which firmware lacks).
#![no_std]
#![warn(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "alloc")]
pub mod acl;
pub mod bundle;
pub mod cbor;
pub mod cose;
pub mod directive;
pub mod id;
pub mod key;
pub mod keyset;
pub mod limits;
pub mod manifest;
pub mod msg;
pub mod rule;
pub mod service;
#[cfg(feature = "sign")]
pub mod sign;
pub mod suit;
pub mod topic;

pub use id::{
    BundleId, ClaimId, ClientNonce, DebugSessionId, DeploymentId, DeviceId, KeyId, Nonce, PendingId, RelayId,
    TenantId, UploadId,
};
pub use key::{Digest, Hasher, KeyHash, PublicKey, Signature};
pub use service::Service;
pub use topic::{Channel, Direction, Topic, TopicId};
