//! Claims: what lets boards of a tenant enrol, limited in count and time.

use std::time::{Duration, SystemTime};

use wire::id::{ClaimId, TenantId};

use super::field::Invalid;

/// Devices one claim may enrol.
pub(crate) const CLAIM_DEVICES_MAX: i64 = 1_000_000;
/// Shortest and longest life of a claim.
pub(crate) const CLAIM_TTL_MIN: Duration = Duration::from_secs(60);
pub(crate) const CLAIM_TTL_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// Claims of a tenant, ended ones included.
pub(crate) const CLAIMS_PER_TENANT_MAX: i64 = 100_000;

#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub id: ClaimId,
    pub tenant: TenantId,
    pub display_name: String,
    pub devices_max: i64,
    pub devices_enrolled: i64,
    pub certificate: Vec<u8>,
    pub created_at: SystemTime,
    pub expires_at: SystemTime,
    pub revoked_at: Option<SystemTime>,
}

/// Whether a claim still lets a board in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Good,
    Revoked,
    Expired,
    /// No new board; those it enrolled may still ask again.
    Exhausted,
}

impl Claim {
    pub(crate) fn standing(&self, now: SystemTime) -> Standing {
        if self.revoked_at.is_some() {
            Standing::Revoked
        } else if self.expires_at <= now {
            Standing::Expired
        } else if self.devices_enrolled >= self.devices_max {
            Standing::Exhausted
        } else {
            Standing::Good
        }
    }
}

/// Checks what a caller asks of a new claim.
pub(crate) fn check_new(devices_max: i64, ttl: Duration) -> Result<(), Invalid> {
    if !(1..=CLAIM_DEVICES_MAX).contains(&devices_max) {
        return Err(Invalid::new("devices_max", format!("must be 1 to {CLAIM_DEVICES_MAX}")));
    }
    if !(CLAIM_TTL_MIN..=CLAIM_TTL_MAX).contains(&ttl) {
        return Err(Invalid::new("ttl", "must be 1 minute to 10 years"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_limited_in_count_and_time() {
        assert!(check_new(1, CLAIM_TTL_MIN).is_ok());
        assert!(check_new(CLAIM_DEVICES_MAX, CLAIM_TTL_MAX).is_ok());
        assert_eq!(check_new(0, CLAIM_TTL_MIN).expect_err("0").field, "devices_max");
        assert_eq!(check_new(CLAIM_DEVICES_MAX + 1, CLAIM_TTL_MIN).expect_err("many").field, "devices_max");
        assert_eq!(check_new(1, CLAIM_TTL_MIN - Duration::from_millis(1)).expect_err("short").field, "ttl");
        assert_eq!(check_new(1, CLAIM_TTL_MAX + Duration::from_secs(1)).expect_err("long").field, "ttl");
    }

    #[test]
    fn a_revoked_claim_stays_revoked_whatever_else_it_is() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let mut claim = Claim {
            id: ClaimId::new([1; 16]),
            tenant: TenantId::new([1; 16]),
            display_name: String::new(),
            devices_max: 1,
            devices_enrolled: 0,
            certificate: vec![],
            created_at: at(0),
            expires_at: at(10),
            revoked_at: None,
        };
        assert_eq!(claim.standing(at(9)), Standing::Good);
        assert_eq!(claim.standing(at(10)), Standing::Expired);
        claim.devices_enrolled = 1;
        assert_eq!(claim.standing(at(9)), Standing::Exhausted);
        claim.revoked_at = Some(at(5));
        assert_eq!(claim.standing(at(20)), Standing::Revoked);
    }
}
