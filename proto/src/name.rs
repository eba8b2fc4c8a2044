//! Resource names (AIP-122) as types: `tenants/{tenant}` and `tenants/{tenant}/{collection}/{id}`.
//!
//! Parsed once, at the edge. Parsing is strict (no empty segment, no other spelling of an id), so that a name has one
//! spelling and equal values print equal names. Which rows a caller may see is not decided here.

use std::fmt;
use std::str::FromStr;

use wire::id::{
    BundleId, ClaimId, DebugSessionId, DeploymentId, DeviceId, KeyId, PendingId, TenantId, UploadId,
};

/// An id that is named within a tenant, and the collection it is named in.
pub trait Child: FromStr + fmt::Display {
    /// Collection segment: `devices`.
    const COLLECTION: &'static str;
    /// What stands for the id in the pattern: `device`.
    const KIND: &'static str;
}

/// `tenants/{tenant}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantName {
    pub tenant: TenantId,
}

/// `tenants/{tenant}/{collection}/{id}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name<Id> {
    pub tenant: TenantId,
    pub id: Id,
}

pub type DeviceName = Name<DeviceId>;
pub type ClaimName = Name<ClaimId>;
pub type KeyName = Name<KeyId>;
pub type BundleName = Name<BundleId>;
pub type UploadName = Name<UploadId>;
pub type DeploymentName = Name<DeploymentId>;
pub type DebugSessionName = Name<DebugSessionId>;
pub type PendingName = Name<PendingId>;
pub type KeysetName = Name<KeysetVersion>;

/// `tenants/{tenant}/devices/{device}/crashes/{crash}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrashName {
    pub device: DeviceName,
    pub crash: CrashKey,
}

/// A crash report of one device: `{boot counter}-{boot random, 16 hex digits}-{sequence}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrashKey {
    pub counter: u32,
    pub random: u64,
    pub sequence: u32,
}

/// A keyset is named by its version, or as whichever is newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeysetVersion {
    Number(u32),
    Latest,
}

/// Text that is not the name of what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not of the form {pattern}")]
pub struct NameError {
    pattern: String,
}

impl<Id> Name<Id> {
    pub fn new(tenant: TenantId, id: Id) -> Self {
        Self { tenant, id }
    }
}

impl FromStr for TenantName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let tenant = text.strip_prefix("tenants/").and_then(|t| t.parse().ok());
        tenant.map(|tenant| Self { tenant }).ok_or_else(|| NameError { pattern: "tenants/{tenant}".into() })
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}", self.tenant)
    }
}

impl<Id: Child> FromStr for Name<Id> {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        parse(text).ok_or_else(|| NameError {
            pattern: format!("tenants/{{tenant}}/{}/{{{}}}", Id::COLLECTION, Id::KIND),
        })
    }
}

impl<Id: Child> fmt::Display for Name<Id> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}/{}/{}", self.tenant, Id::COLLECTION, self.id)
    }
}

impl FromStr for CrashName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parse = || {
            let (device, crash) = text.split_once("/crashes/")?;
            Some(Self { device: parse(device)?, crash: crash_key(crash)? })
        };
        parse()
            .ok_or_else(|| NameError { pattern: "tenants/{tenant}/devices/{device}/crashes/{crash}".into() })
    }
}

impl fmt::Display for CrashName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/crashes/{}", self.device, self.crash)
    }
}

impl fmt::Display for CrashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}-{}", self.counter, self.random, self.sequence)
    }
}

/// One spelling a report: what it would print.
fn crash_key(text: &str) -> Option<CrashKey> {
    let mut parts = text.splitn(3, '-');
    let counter = parts.next()?.parse().ok()?;
    let random = u64::from_str_radix(parts.next()?, 16).ok()?;
    let key = CrashKey { counter, random, sequence: parts.next()?.parse().ok()? };
    (key.to_string() == text).then_some(key)
}

impl FromStr for KeysetVersion {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        // One spelling a number: no sign, no leading zero, and versions count from 1.
        let canonical = text.starts_with(|c: char| matches!(c, '1'..='9'));
        let number = if canonical { text.parse().ok() } else { None };
        number.map(Self::Number).ok_or_else(|| NameError { pattern: "{version} or latest".into() })
    }
}

impl fmt::Display for KeysetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Latest => f.write_str("latest"),
        }
    }
}

fn parse<Id: Child>(text: &str) -> Option<Name<Id>> {
    let (tenant, rest) = text.strip_prefix("tenants/")?.split_once('/')?;
    let id = rest.strip_prefix(Id::COLLECTION)?.strip_prefix('/')?;
    Some(Name { tenant: tenant.parse().ok()?, id: id.parse().ok()? })
}

macro_rules! children {
    ($($id:ty, $collection:literal, $kind:literal;)*) => {
        $(impl Child for $id {
            const COLLECTION: &'static str = $collection;
            const KIND: &'static str = $kind;
        })*
    };
}

children! {
    DeviceId, "devices", "device";
    ClaimId, "claims", "claim";
    KeyId, "keys", "key";
    BundleId, "bundles", "bundle";
    UploadId, "uploads", "upload";
    DeploymentId, "deployments", "deployment";
    DebugSessionId, "debugSessions", "session";
    PendingId, "pendingEnrollments", "pending";
    KeysetVersion, "keysets", "version";
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TENANT: &str = "tn0190163d8694739b9ca5ab4d3a0f2c11";
    const DEVICE: &str = "dv0190163d8694739b9ca5ab4d3a0f2c22";

    #[test]
    fn a_device_name_parses_and_prints_the_same() {
        let text = format!("tenants/{TENANT}/devices/{DEVICE}");
        let name: DeviceName = text.parse().unwrap();
        assert_eq!(name.tenant.to_string(), TENANT);
        assert_eq!(name.id.to_string(), DEVICE);
        assert_eq!(name.to_string(), text);
    }

    #[test]
    fn a_tenant_name_parses_and_prints_the_same() {
        let text = format!("tenants/{TENANT}");
        assert_eq!(text.parse::<TenantName>().unwrap().to_string(), text);
    }

    #[test]
    fn a_keyset_has_one_spelling_a_version() {
        let parse = |v: &str| format!("tenants/{TENANT}/keysets/{v}").parse::<KeysetName>().map(|n| n.id);
        assert_eq!(parse("7"), Ok(KeysetVersion::Number(7)));
        assert_eq!(parse("latest"), Ok(KeysetVersion::Latest));
        for refused in ["", "0", "07", "+7", "-1", "4294967296", "Latest", "7 "] {
            assert!(parse(refused).is_err(), "{refused:?}");
        }
    }

    #[test]
    fn a_crash_report_has_one_spelling() {
        let device = format!("tenants/{TENANT}/devices/{DEVICE}");
        let text = format!("{device}/crashes/7-00000000000000ab-12");
        let name: CrashName = text.parse().unwrap();
        assert_eq!(name.crash, CrashKey { counter: 7, random: 0xab, sequence: 12 });
        assert_eq!((name.to_string(), name.device.to_string()), (text, device.clone()));
        for refused in [
            "",
            "7",
            "7-ab-12",
            "7-00000000000000AB-12",
            "07-00000000000000ab-12",
            "7-00000000000000ab-+12",
            "7-00000000000000ab-12-1",
            "4294967296-00000000000000ab-12",
            "7-00000000000000ab-12/",
        ] {
            let error = format!("{device}/crashes/{refused}").parse::<CrashName>().unwrap_err();
            assert!(error.to_string().ends_with("/crashes/{crash}"), "{refused:?}");
        }
    }

    #[test]
    fn a_name_of_another_collection_or_shape_is_refused_and_says_what_was_expected() {
        for refused in [
            "",
            "devices",
            &format!("tenants/{TENANT}"),
            &format!("tenants/{TENANT}/devices"),
            &format!("tenants/{TENANT}/devices/"),
            &format!("tenants/{TENANT}/claims/{DEVICE}"),
            &format!("tenants/{TENANT}/devices/{DEVICE}/"),
            &format!("/tenants/{TENANT}/devices/{DEVICE}"),
            &format!("tenants/{DEVICE}/devices/{DEVICE}"),
            &format!("tenants/{TENANT}/devices/{TENANT}"),
            &format!("tenants/{TENANT}/devices/{}", DEVICE.to_uppercase()),
        ] {
            let error = refused.parse::<DeviceName>().unwrap_err();
            assert_eq!(
                error.to_string(),
                "is not of the form tenants/{tenant}/devices/{device}",
                "{refused}"
            );
        }
    }

    proptest! {
        #[test]
        fn parsing_any_text_never_panics_and_what_parses_prints_back(text in "(tenants/)?[a-z0-9/]{0,80}|\\PC*") {
            if let Ok(name) = text.parse::<DeviceName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<CrashName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<KeysetName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(name) = text.parse::<TenantName>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
