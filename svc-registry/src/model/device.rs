//! Devices: who they are, what operators say of them (labels), what they last reported.

use std::collections::BTreeMap;
use std::time::SystemTime;

use wire::id::{DeviceId, PendingId, TenantId};

use super::field::Invalid;
use super::hello::Report;

pub(crate) type Labels = BTreeMap<String, String>;

/// Labels of a device.
pub(crate) const LABELS_MAX: usize = 64;
/// Bytes of a label's key.
pub(crate) const LABEL_KEY_MAX: usize = 63;
/// Characters of a label's value.
pub(crate) const LABEL_VALUE_MAX: usize = 255;
/// Devices of one batch.
pub(crate) const BATCH_MAX: usize = 1000;
/// Boards of one tenant that may wait for an operator at once.
pub(crate) const PENDING_PER_TENANT_MAX: i64 = 1000;

#[derive(Debug, Clone)]
pub(crate) struct Device {
    pub id: DeviceId,
    pub tenant: TenantId,
    pub hardware_id: String,
    pub board: String,
    pub labels: Labels,
    pub created_at: SystemTime,
    pub revoked_at: Option<SystemTime>,
    pub certificate_expires_at: Option<SystemTime>,
    pub report: Option<Reported>,
    /// Rises with every change of the row; with the report's order it is the etag.
    pub revision: i64,
}

/// The newest report, and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Reported {
    pub report: Report,
    pub at: SystemTime,
}

/// What a slot may be; the order is the wire's numbering.
pub(crate) const SLOT_STATUSES: [&str; 7] =
    ["unspecified", "empty", "staged", "trial", "confirmed", "previous", "rejected"];

/// As the device reported it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub component: String,
    pub index: u8,
    /// One of [`SLOT_STATUSES`].
    pub status: &'static str,
    /// 32 bytes, or none in an empty slot.
    pub manifest_digest: Vec<u8>,
    pub version: String,
    pub security_counter: i64,
    pub running: bool,
}

/// What an operator says of a device.
#[derive(Debug, Clone)]
pub(crate) struct Relabel {
    pub device: DeviceId,
    /// All of them: those that are not here go.
    pub labels: Labels,
    /// What the device must still be; empty: any.
    pub etag: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Presence {
    /// Redis cannot be asked, or nothing was ever heard.
    #[default]
    Unknown,
    Online,
    Offline,
}

/// A board that asked to enrol under a hardware id held by another key.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    pub id: PendingId,
    pub tenant: TenantId,
    pub hardware_id: String,
    pub board: String,
    pub key_digest: [u8; 32],
    pub created_at: SystemTime,
    /// Who holds the hardware id now; none when it was deleted meanwhile.
    pub holder: Option<DeviceId>,
}

impl Device {
    /// Whether it still is what `etag` was read from; empty: any.
    pub(crate) fn is_still(&self, etag: &str) -> bool {
        etag.is_empty() || self.etag() == etag
    }

    /// Changes whenever the row or its report does.
    pub(crate) fn etag(&self) -> String {
        match &self.report {
            Some(r) => format!("{}-{}-{}", self.revision, r.report.order.boot_count, r.report.order.sequence),
            None => self.revision.to_string(),
        }
    }
}

/// At most 64 labels; keys 1 to 63 of `[a-z0-9._-]`; values up to 255 characters without zero bytes.
pub(crate) fn check_labels(labels: &Labels) -> Result<(), Invalid> {
    const FIELD: &str = "device.labels";
    if labels.len() > LABELS_MAX {
        return Err(Invalid::new(FIELD, format!("at most {LABELS_MAX} labels")));
    }
    for (key, value) in labels {
        check_label_key(FIELD, key)?;
        if value.chars().count() > LABEL_VALUE_MAX || value.chars().any(char::is_control) {
            let reason = format!(
                "value of {key} must have at most {LABEL_VALUE_MAX} characters, no control characters"
            );
            return Err(Invalid::new(FIELD, reason));
        }
    }
    Ok(())
}

pub(super) fn check_label_key(field: &'static str, key: &str) -> Result<(), Invalid> {
    let plain = key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    if (1..=LABEL_KEY_MAX).contains(&key.len()) && plain {
        Ok(())
    } else {
        Err(Invalid::new(field, format!("label key must be 1 to {LABEL_KEY_MAX} of [a-z0-9._-]")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &str) -> Labels {
        Labels::from([(key.to_owned(), value.to_owned())])
    }

    #[test]
    fn labels_are_refused_at_their_edges() {
        assert!(check_labels(&one(&"k".repeat(LABEL_KEY_MAX), &"é".repeat(LABEL_VALUE_MAX))).is_ok());
        assert!(check_labels(&one("k", "")).is_ok());
        for (key, value) in
            [("", "v"), ("K", "v"), ("a b", "v"), ("k", "\0"), ("k", "\u{1b}[2J"), ("k", "\u{9b}")]
        {
            assert!(check_labels(&one(key, value)).is_err(), "{key:?}={value:?}");
        }
        assert!(check_labels(&one(&"k".repeat(LABEL_KEY_MAX + 1), "v")).is_err());
        assert!(check_labels(&one("k", &"v".repeat(LABEL_VALUE_MAX + 1))).is_err());
        let many = |n: usize| (0..n).map(|i| (format!("k{i}"), String::new())).collect::<Labels>();
        assert!(check_labels(&many(LABELS_MAX)).is_ok());
        assert!(check_labels(&many(LABELS_MAX + 1)).is_err());
    }
}
