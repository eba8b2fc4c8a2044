//! Devices: who they are, what operators say of them (labels), what they last reported.

use std::collections::BTreeMap;
use std::time::SystemTime;

use wire::id::{DeviceId, PendingId, TenantId};

use super::debugging::Scope;
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
    /// Since when two boards are known to use it.
    pub quarantined_at: Option<SystemTime>,
    /// Whose place it took.
    pub replaces: Option<DeviceId>,
    /// Who took its place.
    pub replaced_by: Option<DeviceId>,
    /// SHA-256 of its identity key's SubjectPublicKeyInfo.
    pub key_digest: [u8; 32],
    /// What forbids to debug it; empty: it is allowed.
    pub debugging_forbidden_by: Vec<Scope>,
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

/// Whether `new` may take the place of `old`; or a reason of errors, and why not.
pub(crate) fn check_replacement(old: &Device, new: &Device) -> Result<(), (&'static str, String)> {
    let refused = |reason, why: &str| Err((reason, why.to_owned()));
    if new.revoked_at.is_some() {
        return refused("DEVICE_REVOKED", "the replacement is revoked");
    }
    if new.quarantined_at.is_some() {
        return refused("DEVICE_QUARANTINED", "the replacement is in quarantine: two boards use it");
    }
    if old.board != new.board {
        let why = format!("the replacement is a {}, the device a {}", new.board, old.board);
        return Err(("OTHER_BOARD", why));
    }
    match (old.replaced_by, new.replaces) {
        (None, None) => Ok(()),
        (Some(by), Some(of)) if by == new.id && of == old.id => Ok(()),
        (Some(by), _) => Err(("ALREADY_REPLACED", format!("{by} took the device's place"))),
        (None, Some(of)) => Err(("ALREADY_REPLACED", format!("the replacement took the place of {of}"))),
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

    fn device(number: u8) -> Device {
        Device {
            id: DeviceId::new([number; 16]),
            tenant: TenantId::new([9; 16]),
            hardware_id: format!("hw-{number}"),
            board: "bench".into(),
            labels: Labels::new(),
            created_at: SystemTime::UNIX_EPOCH,
            revoked_at: None,
            quarantined_at: None,
            replaces: None,
            replaced_by: None,
            key_digest: [number; 32],
            debugging_forbidden_by: Vec::new(),
            certificate_expires_at: None,
            report: None,
            revision: 1,
        }
    }

    #[test]
    fn a_device_takes_one_others_place_once() {
        let (old, new) = (device(1), device(2));
        let reason = |old: &Device, new: &Device| check_replacement(old, new).err().map(|(reason, _)| reason);
        let then = Some(SystemTime::UNIX_EPOCH);
        assert_eq!(reason(&old, &new), None);
        let gone = Device { revoked_at: then, quarantined_at: then, ..device(1) };
        assert_eq!(reason(&gone, &new), None, "whatever became of the old one");
        assert_eq!(reason(&old, &Device { revoked_at: then, ..device(2) }), Some("DEVICE_REVOKED"));
        assert_eq!(reason(&old, &Device { quarantined_at: then, ..device(2) }), Some("DEVICE_QUARANTINED"));
        assert_eq!(reason(&old, &Device { board: "an505".into(), ..device(2) }), Some("OTHER_BOARD"));
        let replaced = |by: u8| Device { replaced_by: Some(device(by).id), ..device(1) };
        let replacing = |of: u8| Device { replaces: Some(device(of).id), ..device(2) };
        assert_eq!(reason(&replaced(2), &replacing(1)), None, "again");
        assert_eq!(reason(&replaced(3), &new), Some("ALREADY_REPLACED"));
        assert_eq!(reason(&old, &replacing(3)), Some("ALREADY_REPLACED"));
        // One that took a place may itself be replaced.
        assert_eq!(reason(&Device { replaces: Some(device(7).id), ..device(1) }, &new), None);
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
