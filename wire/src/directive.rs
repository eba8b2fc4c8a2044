//! Directives: what the director tells one device to do, in answer to one of its hellos (docs/bundle.md, Directive).
//!
//! A directive that [`open`] returns names this device and this nonce and carries the director key's signature; the
//! signature is checked before anything it says is looked at.

use crate::cbor::{CborError, Reader};
use crate::cose::{CoseError, Sign1, Verify};
use crate::id::{DeploymentId, DeviceId, Nonce};
use crate::key::{Digest, PublicKey};
use crate::limits::{DIRECTIVE_BYTES_MAX, SOURCE_BYTES_MAX, SOURCES_MAX};
use crate::manifest::Component;

/// Header 3 of every directive.
pub const CONTENT_TYPE: &str = "application/holdfast-directive+cbor";
/// The source every install names: the broker the device is connected to.
pub const SOURCE_MQTT: &str = "mqtt";

/// Keys of the payload.
pub(crate) mod key {
    pub(crate) const KIND: i64 = 1;
    pub(crate) const DEVICE: i64 = 2;
    pub(crate) const NONCE: i64 = 3;
    pub(crate) const ISSUED_AT: i64 = 4;
    pub(crate) const MANIFEST: i64 = 5;
    pub(crate) const DEPLOYMENT: i64 = 6;
    pub(crate) const COMPONENT: i64 = 7;
    pub(crate) const SECURITY_COUNTER: i64 = 8;
    pub(crate) const SOURCES: i64 = 9;
}

/// Values of the payload's kind.
pub(crate) mod kind {
    pub(crate) const INSTALL: u64 = 0;
    pub(crate) const GO: u64 = 1;
    pub(crate) const COMMIT: u64 = 2;
    pub(crate) const TIME: u64 = 3;
    pub(crate) const CANCEL: u64 = 4;
}

/// What one device is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Directive {
    /// Who is told.
    pub device: DeviceId,
    /// The hello it answers.
    pub nonce: Nonce,
    /// Unix seconds; also the signed time.
    pub issued_at_s: u64,
    /// What to do.
    pub order: Order,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Fetch and verify this manifest's layers.
    Install(Target),
    /// Install what is ready.
    Go(Target),
    /// Raise the floor to this counter, never lower it.
    Commit(Target, u64),
    /// Only the time.
    Time,
    /// Drop what is not yet installed.
    Cancel(Target),
}

/// What an order is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The bundle.
    pub manifest: Digest,
    /// The deployment that asks for it.
    pub deployment: DeploymentId,
    /// The component it replaces.
    pub component: Component,
}

impl Order {
    /// What it is about; nothing for the time.
    pub const fn target(&self) -> Option<&Target> {
        match self {
            Order::Install(target) | Order::Go(target) | Order::Commit(target, _) | Order::Cancel(target) => {
                Some(target)
            }
            Order::Time => None,
        }
    }
}

/// Why a directive is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirectiveError {
    /// Longer than [`DIRECTIVE_BYTES_MAX`].
    #[error("directive is longer than {DIRECTIVE_BYTES_MAX} bytes")]
    TooLong,
    /// Not a COSE_Sign1 we read.
    #[error("not a signed directive: {0}")]
    Cose(CoseError),
    /// Not a directive's content type, or a detached payload.
    #[error("not a directive")]
    ContentType,
    /// Signed with another key's name on it.
    #[error("not signed by the director key")]
    Key,
    /// The signature does not verify.
    #[error("signature does not verify")]
    Signature,
    /// The payload is not deterministic CBOR of the right shape.
    #[error("malformed directive: {0}")]
    Cbor(CborError),
    /// A value makes no sense; the field's name.
    #[error("{0} is out of its limits")]
    Field(&'static str),
    /// Names another device.
    #[error("names another device")]
    Device,
    /// Answers another hello.
    #[error("answers another hello")]
    Nonce,
}

impl From<CborError> for DirectiveError {
    fn from(error: CborError) -> DirectiveError {
        DirectiveError::Cbor(error)
    }
}

impl From<CoseError> for DirectiveError {
    fn from(error: CoseError) -> DirectiveError {
        DirectiveError::Cose(error)
    }
}

/// Reads a directive and checks signature, device and nonce.
pub fn open(
    bytes: &[u8],
    director: &PublicKey,
    device: &DeviceId,
    nonce: &Nonce,
    verify: &impl Verify,
) -> Result<Directive, DirectiveError> {
    let directive = open_any(bytes, director, verify)?;
    if directive.device != *device {
        return Err(DirectiveError::Device);
    }
    if directive.nonce != *nonce {
        return Err(DirectiveError::Nonce);
    }
    Ok(directive)
}

/// Reads a directive to whomever it may be and checks its signature: for tools and servers, never for a device.
pub fn open_any(
    bytes: &[u8],
    director: &PublicKey,
    verify: &impl Verify,
) -> Result<Directive, DirectiveError> {
    if bytes.len() > DIRECTIVE_BYTES_MAX {
        return Err(DirectiveError::TooLong);
    }
    let signed = Sign1::decode(bytes)?;
    let payload = match (signed.content_type, signed.payload) {
        (Some(CONTENT_TYPE), Some(payload)) => payload,
        _ => return Err(DirectiveError::ContentType),
    };
    if signed.key_id.is_none() || signed.key_id != verify.key_hash(director).ok() {
        return Err(DirectiveError::Key);
    }
    if !signed.verify(director, verify) {
        return Err(DirectiveError::Signature);
    }
    decode(payload)
}

fn decode(payload: &[u8]) -> Result<Directive, DirectiveError> {
    let mut reader = Reader::new(payload);
    let mut fields = reader.fields()?;
    let kind = fields.required(key::KIND)?.uint()?;
    let device =
        fields.required(key::DEVICE)?.text()?.parse().map_err(|_| DirectiveError::Field("device"))?;
    let nonce = Nonce(*fields.required(key::NONCE)?.bytes_exact()?);
    let issued_at_s = fields.required(key::ISSUED_AT)?.uint()?;
    if kind == kind::TIME {
        fields.finish()?;
        reader.finish()?;
        return Ok(Directive { device, nonce, issued_at_s, order: Order::Time });
    }
    let target = Target {
        manifest: Digest(*fields.required(key::MANIFEST)?.bytes_exact()?),
        deployment: {
            let text = fields.required(key::DEPLOYMENT)?.text()?;
            text.parse().map_err(|_| DirectiveError::Field("deployment"))?
        },
        component: {
            let text = fields.required(key::COMPONENT)?.text()?;
            text.parse().map_err(|_| DirectiveError::Field("component"))?
        },
    };
    let order = match kind {
        kind::INSTALL => {
            check_sources(fields.required(key::SOURCES)?)?;
            Order::Install(target)
        }
        kind::GO => Order::Go(target),
        kind::COMMIT => Order::Commit(target, fields.required(key::SECURITY_COUNTER)?.uint()?),
        kind::CANCEL => Order::Cancel(target),
        _ => return Err(DirectiveError::Field("kind")),
    };
    fields.finish()?;
    reader.finish()?;
    Ok(Directive { device, nonce, issued_at_s, order })
}

/// `mqtt` must be among the sources; others are for devices that know them.
fn check_sources(reader: &mut Reader<'_>) -> Result<(), DirectiveError> {
    let count = reader.array()?;
    let mut has_mqtt = false;
    if count > SOURCES_MAX {
        return Err(DirectiveError::Field("sources"));
    }
    for _ in 0..count {
        let source = reader.text()?;
        if source.len() > SOURCE_BYTES_MAX {
            return Err(DirectiveError::Field("sources"));
        }
        has_mqtt |= source == SOURCE_MQTT;
    }
    if has_mqtt { Ok(()) } else { Err(DirectiveError::Field("sources")) }
}
