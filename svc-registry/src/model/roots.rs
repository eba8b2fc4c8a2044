//! Device roots: which of them issues, and when the devices of another are called over to it.
//!
//! A root is trusted from the moment it is made until it is retired. It issues only when every broker has had the time to learn of it: otherwise
//! a device would come with a certificate that its broker does not know yet.

use std::time::{Duration, SystemTime};

use wire::DeviceId;

/// From a root's making until it issues: brokers ask every 30 s whom to trust.
pub(crate) const LEAD: Duration = Duration::from_secs(60);
/// Over which time the devices of another root are called over, at most: each needs a handshake and two signatures.
pub(crate) const SPREAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Of a certificate's life the same, if that is less.
const SPREAD_PART: u32 = 100;
/// Roots that are trusted at once: what a broker takes.
pub(crate) const TRUSTED_MAX: usize = 4;

/// A device root that is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub key_digest: [u8; 32],
    pub made_at: SystemTime,
}

/// Of trusted roots in the order of their making: the newest that may, or the first there is.
pub(crate) fn issuing(roots: &[Root], now: SystemTime) -> Option<&Root> {
    roots.iter().rfind(|root| root.issues_from() <= now).or(roots.first())
}

impl Root {
    fn issues_from(&self) -> SystemTime {
        self.made_at + LEAD
    }

    /// Whether a device that is under another root is to come over by now. Ids end in randomness, so that devices come evenly.
    pub(crate) fn calls(&self, device: DeviceId, certificate_life: Duration, now: SystemTime) -> bool {
        let spread = SPREAD_MAX.min(certificate_life / SPREAD_PART);
        let [.., high, low] = *device.bytes();
        let turn = spread * u32::from(u16::from_be_bytes([high, low])) / (u32::from(u16::MAX) + 1);
        self.issues_from() + turn <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    fn root(number: u8, made: u64) -> Root {
        Root { key_digest: [number; 32], made_at: at(made) }
    }

    #[test]
    fn a_root_issues_when_brokers_have_had_the_time_to_learn_of_it() {
        let roots = [root(1, 0), root(2, 1000)];
        assert_eq!(issuing(&roots[..1], at(0)), Some(&roots[0]), "the first, at once");
        assert_eq!(issuing(&roots, at(1000 + LEAD.as_secs() - 1)), Some(&roots[0]));
        assert_eq!(issuing(&roots, at(1000 + LEAD.as_secs())), Some(&roots[1]));
        assert_eq!(issuing(&roots[1..], at(1000)), Some(&roots[1]), "and the last one that is left");
        assert_eq!(issuing(&[], at(0)), None);
    }

    #[test]
    fn devices_are_called_over_one_after_the_other_and_all_within_a_day() {
        let (new, issues) = (root(2, 0), LEAD.as_secs());
        let device = |turn: u16| {
            let mut bytes = [0; 16];
            bytes[14..].copy_from_slice(&turn.to_be_bytes());
            DeviceId::new(bytes)
        };
        let called = |turn, after| new.calls(device(turn), YEAR, at(issues + after));
        assert!(called(0, 0) && !called(1, 0));
        assert!(called(0x7fff, 12 * 3600) && !called(0x8001, 12 * 3600));
        assert!(called(u16::MAX, SPREAD_MAX.as_secs()));
        assert!(new.calls(device(u16::MAX), Duration::from_secs(3600), at(issues + 36)), "or sooner");
    }
}
