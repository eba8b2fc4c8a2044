//! Who this device is: what the registry issued, kept as one record in the store.
//!
//! The record is the `EnrollDown` message it came in, without the keyset (which has its own record) and without the
//! parts that only mattered then. The private key is not here: it never leaves the board's `Keys`.

use wire::msg::{EnrollDown, EnrollStatus, EnumValue, Message as _};
use wire::{DeviceId, TenantId};

use super::x509::Certificate;

pub use crate::store::IDENTITY_BYTES_MAX;

/// Bytes of one certificate, at most.
pub const CERTIFICATE_BYTES_MAX: usize = 2048;
/// Bytes of the broker's address, at most.
pub const BROKER_BYTES_MAX: usize = 128;

/// Why an issued identity is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityError {
    /// An id, address or certificate that cannot be read, or is too long.
    Malformed,
    /// The leaf is for another key or another name.
    NotOurs,
    /// A renewal under another device id.
    OtherDevice,
}

/// The identity, as stored.
#[derive(Debug, Clone)]
pub struct Identity {
    bytes: heapless::Vec<u8, IDENTITY_BYTES_MAX>,
    device: DeviceId,
    tenant: TenantId,
}

/// A record that was found good.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'r> {
    /// The record to store.
    pub bytes: &'r [u8],
    pub device: DeviceId,
    pub tenant: TenantId,
}

impl<'r> Checked<'r> {
    /// Checks what was issued for the key `spki` (SubjectPublicKeyInfo DER), and writes it as a record; `before` is who we
    /// were.
    pub fn accept(
        issued: &EnrollDown<'_>,
        spki: &[u8],
        before: Option<DeviceId>,
        record: &'r mut [u8; IDENTITY_BYTES_MAX],
    ) -> Result<Self, IdentityError> {
        let kept = EnrollDown {
            status: EnumValue::Known(EnrollStatus::Issued),
            device_id: issued.device_id,
            tenant_id: issued.tenant_id,
            leaf: issued.leaf,
            intermediate: issued.intermediate,
            birth: issued.birth,
            broker: issued.broker,
            ..Default::default()
        };
        let bytes = record.get_mut(..kept.encoded_len()).ok_or(IdentityError::Malformed)?;
        kept.encode(&mut &mut *bytes).map_err(|_| IdentityError::Malformed)?;
        let checked = Self::load(bytes)?;
        let leaf = Certificate::parse(issued.leaf).ok_or(IdentityError::Malformed)?;
        if leaf.public_key != spki || leaf.common_name != Some(issued.device_id) {
            return Err(IdentityError::NotOurs);
        }
        if before.is_some_and(|before| before != checked.device) {
            return Err(IdentityError::OtherDevice);
        }
        Ok(checked)
    }

    /// Reads a stored record.
    pub fn load(bytes: &'r [u8]) -> Result<Self, IdentityError> {
        let kept = EnrollDown::decode(bytes).map_err(|_| IdentityError::Malformed)?;
        let certificates = [kept.leaf, kept.intermediate];
        let fits = certificates
            .iter()
            .all(|der| der.len() <= CERTIFICATE_BYTES_MAX && Certificate::parse(der).is_some())
            && kept.birth.len() <= CERTIFICATE_BYTES_MAX
            && (kept.birth.is_empty() || Certificate::parse(kept.birth).is_some())
            && (1..=BROKER_BYTES_MAX).contains(&kept.broker.len())
            && bytes.len() <= IDENTITY_BYTES_MAX;
        if !fits {
            return Err(IdentityError::Malformed);
        }
        Ok(Self {
            device: kept.device_id.parse().map_err(|_| IdentityError::Malformed)?,
            tenant: kept.tenant_id.parse().map_err(|_| IdentityError::Malformed)?,
            bytes,
        })
    }

    /// The same, if its leaf is for the key with this SEC1 point, which a SubjectPublicKeyInfo ends with (RFC 5480 §2.2).
    pub fn of_key(self, point: &[u8; 65]) -> Result<Self, IdentityError> {
        let kept = EnrollDown::decode(self.bytes).map_err(|_| IdentityError::Malformed)?;
        let leaf = Certificate::parse(kept.leaf).ok_or(IdentityError::Malformed)?;
        if leaf.public_key.ends_with(point) { Ok(self) } else { Err(IdentityError::NotOurs) }
    }
}

impl Identity {
    /// Puts a checked record in the place of whatever is there.
    // Kept out of its callers: on a board's stack the record is a large part of a frame.
    #[inline(never)]
    pub fn put(place: &mut Option<Identity>, checked: Checked<'_>) {
        let Checked { bytes, device, tenant } = checked;
        let identity = place.get_or_insert_with(|| Identity { bytes: heapless::Vec::new(), device, tenant });
        (identity.device, identity.tenant) = (device, tenant);
        identity.bytes.clear();
        // It fits, for it was checked.
        let _ = identity.bytes.extend_from_slice(bytes);
    }

    /// The record to store.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn device(&self) -> DeviceId {
        self.device
    }

    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Certificate and intermediate for the device listener, DER.
    pub fn chain(&self) -> [&[u8]; 2] {
        let kept = self.message();
        [kept.leaf, kept.intermediate]
    }

    /// Certificate for the enrolment listener, DER; empty when none was issued.
    pub fn birth(&self) -> &[u8] {
        self.message().birth
    }

    /// `host:port` of the device listener.
    pub fn broker(&self) -> &str {
        self.message().broker
    }

    /// The leaf is in the last third of its life at this time.
    pub fn is_due_for_renewal(&self, now_s: u64) -> bool {
        Certificate::parse(self.chain()[0]).is_none_or(|leaf| leaf.is_due_for_renewal(now_s))
    }

    /// The leaf has ended at this time.
    pub fn is_expired(&self, now_s: u64) -> bool {
        Certificate::parse(self.chain()[0]).is_none_or(|leaf| now_s > leaf.not_after_s)
    }

    fn message(&self) -> EnrollDown<'_> {
        EnrollDown::decode(&self.bytes).unwrap_or_default()
    }
}
