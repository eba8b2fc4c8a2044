//! Tenants and the keys their people and tools sign in with, and what an assertion by such a key must say.

use std::time::{Duration, SystemTime};

use wire::id::{KeyId, TenantId};

use super::field::Invalid;

/// How far ahead an assertion may expire (RFC 7523 §3).
pub(crate) const ASSERTION_LIFETIME_MAX: Duration = Duration::from_secs(5 * 60);
/// How far a caller's clock may be behind or ahead of ours.
pub(crate) const CLOCK_SKEW_MAX: Duration = Duration::from_secs(30);
/// Bytes of an assertion's `jti`.
pub(crate) const JTI_MAX: usize = 128;
/// Unexpired assertions of one key: beyond it the key signs in too often.
pub(crate) const ASSERTIONS_PER_KEY_MAX: i64 = 1000;
/// Keys of a tenant.
pub(crate) const KEYS_PER_TENANT_MAX: i64 = 1000;

/// Of a tenant; see `holdfast.auth.v1.Access` for what includes what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Viewer,
    Operator,
    Developer,
    Admin,
}

impl Role {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Viewer, Self::Operator, Self::Developer, Self::Admin].into_iter().find(|r| r.as_str() == text)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Tenant {
    pub id: TenantId,
    pub display_name: String,
    pub created_at: SystemTime,
    /// For every device of it.
    pub debugging_forbidden: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub id: KeyId,
    pub tenant: TenantId,
    pub display_name: String,
    pub role: Role,
    /// Administers the whole installation too.
    pub installation: bool,
    /// SubjectPublicKeyInfo DER, P-256.
    pub public_key: Vec<u8>,
    pub created_at: SystemTime,
}

/// A key's resource name: the subject of its assertions and tokens.
pub(crate) fn subject(tenant: TenantId, key: KeyId) -> String {
    format!("tenants/{tenant}/keys/{key}")
}

/// The key a subject names.
pub(crate) fn parse_subject(text: &str) -> Option<(TenantId, KeyId)> {
    let (tenant, key) = text.strip_prefix("tenants/")?.split_once("/keys/")?;
    Some((tenant.parse().ok()?, key.parse().ok()?))
}

/// What an assertion said, its signature verified.
#[derive(Debug, Clone)]
pub(crate) struct Assertion {
    pub jti: String,
    pub expires_at: SystemTime,
}

/// Checks the claims that depend on time and size.
pub(crate) fn check_assertion(assertion: &Assertion, now: SystemTime) -> Result<(), Invalid> {
    if assertion.jti.is_empty() || assertion.jti.len() > JTI_MAX || assertion.jti.contains('\0') {
        return Err(Invalid::new(
            "assertion",
            format!("jti must have 1 to {JTI_MAX} bytes, none of them zero"),
        ));
    }
    // Subtracted from now, not added to what a stranger said: that may be the end of time.
    if now.checked_sub(CLOCK_SKEW_MAX).is_some_and(|earliest| assertion.expires_at <= earliest) {
        return Err(Invalid::new("assertion", "exp is past"));
    }
    if assertion.expires_at > now + ASSERTION_LIFETIME_MAX + CLOCK_SKEW_MAX {
        return Err(Invalid::new("assertion", "exp is more than 5 minutes ahead"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(s)
    }

    #[test]
    fn an_assertion_may_expire_five_minutes_ahead_and_no_more() {
        let check = |expires_at| check_assertion(&Assertion { jti: "j".into(), expires_at }, at(10_000));
        assert!(check(at(10_000)).is_ok());
        assert!(check(at(10_330)).is_ok());
        assert!(check(at(10_331)).is_err());
        assert!(check(at(9_970)).is_err());
        assert!(check(at(0)).is_err());
    }

    #[test]
    fn a_subject_names_exactly_one_key() {
        let (tenant, key) = (TenantId::new([1; 16]), KeyId::new([2; 16]));
        assert_eq!(parse_subject(&subject(tenant, key)), Some((tenant, key)));
        for bad in
            ["", "tenants/", "tenants/x/keys/y", &format!("{}/", subject(tenant, key)), "keys/tenants/"]
        {
            assert_eq!(parse_subject(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_jti_has_a_length() {
        let check = |jti: String| check_assertion(&Assertion { jti, expires_at: at(10) }, at(0));
        assert!(check("x".repeat(JTI_MAX)).is_ok());
        assert!(check("x".repeat(JTI_MAX + 1)).is_err());
        assert!(check(String::new()).is_err());
        assert!(check("a\0".into()).is_err());
    }
}
