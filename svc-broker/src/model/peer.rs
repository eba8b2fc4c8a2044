//! Who is at the other end of a TLS connection, as listener and certificate say.
//!
//! Holds: a peer exists only for a chain the listener's roots verified; its client id follows from the certificate
//! (device), from 128 random bits (enrolment), or is free (service).

use std::fmt;

use wire::rule::Identity;
use wire::{ClaimId, DeviceId, Service};

use super::limits::{Bounds, Limits};
use super::seats::Share;

/// The broker's own name among devices: its watchdog sends messages to it. No device has it, since ids are UUIDs of
/// version 7, and no certificate gets it: its connection would take the watchdog's place.
pub(crate) const PROBE: DeviceId = DeviceId::new([0; 16]);

/// Bytes of a service's client id.
pub(crate) const SERVICE_CLIENT_BYTES_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    Device,
    Enroll,
    Service,
}

impl Listener {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Listener::Device => "device",
            Listener::Enroll => "enroll",
            Listener::Service => "service",
        }
    }

    pub(crate) const fn limits(self, bounds: &Bounds) -> Limits {
        match self {
            Listener::Device => bounds.device,
            Listener::Enroll => bounds.enrollee,
            Listener::Service => bounds.service,
        }
    }

    /// Of all connections.
    pub(crate) const fn share(self, bounds: &Bounds) -> Share {
        match self {
            Listener::Device => Share::Each(bounds.device_connections_max),
            Listener::Enroll => Share::Crowd(bounds.enrollees_max),
            Listener::Service => Share::Whole,
        }
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What svc-registry needs to know of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digests {
    /// SHA-256 of the leaf's SubjectPublicKeyInfo.
    pub(crate) public_key: [u8; 32],
    /// SHA-256 of the issuer's.
    pub(crate) issuer_key: [u8; 32],
    /// SHA-256 of the whole leaf.
    pub(crate) certificate: [u8; 32],
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) listener: Listener,
    pub(crate) common_name: String,
    pub(crate) digests: Digests,
}

/// The common name is not one this listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("common name is not one this listener serves")]
pub(crate) struct NameError;

impl Peer {
    pub(crate) fn new(listener: Listener, common_name: &str, digests: Digests) -> Result<Self, NameError> {
        let known = match listener {
            Listener::Device => common_name.parse::<DeviceId>().is_ok_and(|id| id != PROBE),
            // A claim, or a device's birth certificate.
            Listener::Enroll => {
                common_name.parse::<ClaimId>().is_ok() || common_name.parse::<DeviceId>().is_ok()
            }
            Listener::Service => Service::from_common_name(common_name).is_some(),
        };
        known.then(|| Self { listener, common_name: common_name.to_owned(), digests }).ok_or(NameError)
    }

    /// Who this peer is when it connects with `client_id`; `None`: not a client id it may have.
    pub(crate) fn identity(&self, client_id: &str) -> Option<Identity> {
        match self.listener {
            Listener::Device if client_id == self.common_name => client_id.parse().ok().map(Identity::Device),
            Listener::Device => None,
            Listener::Enroll => client_id.parse().ok().map(Identity::Claimant),
            Listener::Service if is_service_client(client_id) => {
                Service::from_common_name(&self.common_name).map(Identity::Service)
            }
            Listener::Service => None,
        }
    }

    /// What the client id is called among all clients: services have a room each.
    pub(crate) fn client_key(&self, client_id: &str) -> String {
        match self.listener {
            Listener::Device | Listener::Enroll => client_id.to_owned(),
            Listener::Service => format!("{}/{client_id}", self.common_name),
        }
    }
}

fn is_service_client(id: &str) -> bool {
    (1..=SERVICE_CLIENT_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE_ID: &str = "dv00000000000000000000000000000001";
    const CLAIM_ID: &str = "cl00000000000000000000000000000001";
    const NONCE: &str = "00112233445566778899aabbccddeeff";
    const NONE: Digests = Digests { public_key: [0; 32], issuer_key: [0; 32], certificate: [0; 32] };

    fn peer(listener: Listener, name: &str) -> Option<Peer> {
        Peer::new(listener, name, NONE).ok()
    }

    #[test]
    fn each_listener_serves_its_own_names_only() {
        let names = [DEVICE_ID, CLAIM_ID, "svc-ota", "svc-broker", "", "+", "dv1"];
        let served = |listener| names.map(|name| peer(listener, name).is_some());
        assert_eq!(served(Listener::Device), [true, false, false, false, false, false, false]);
        assert_eq!(served(Listener::Enroll), [true, true, false, false, false, false, false]);
        assert_eq!(served(Listener::Service), [false, false, true, false, false, false, false]);
    }

    #[test]
    fn a_devices_client_id_is_its_common_name() {
        let device = peer(Listener::Device, DEVICE_ID).unwrap();
        assert!(matches!(device.identity(DEVICE_ID), Some(Identity::Device(_))));
        for other in ["", "dv00000000000000000000000000000002", NONCE, "+", "#"] {
            assert_eq!(device.identity(other), None, "{other}");
        }
    }

    #[test]
    fn an_enrolment_is_named_by_32_hex_digits() {
        let claim = peer(Listener::Enroll, CLAIM_ID).unwrap();
        assert!(matches!(claim.identity(NONCE), Some(Identity::Claimant(_))));
        for other in ["", CLAIM_ID, "00112233445566778899AABBCCDDEEFF", "0011", "+"] {
            assert_eq!(claim.identity(other), None, "{other}");
        }
    }

    #[test]
    fn a_services_client_id_is_free_within_its_own_room() {
        let ota = peer(Listener::Service, "svc-ota").unwrap();
        let logs = peer(Listener::Service, "svc-logs").unwrap();
        assert!(ota.identity("replica-1").is_some());
        assert!(ota.identity(&"a".repeat(SERVICE_CLIENT_BYTES_MAX)).is_some());
        for other in ["", "a/b", "a+", "#", "$x", "é", &"a".repeat(SERVICE_CLIENT_BYTES_MAX + 1)] {
            assert_eq!(ota.identity(other), None, "{other}");
        }
        assert_ne!(ota.client_key("replica-1"), logs.client_key("replica-1"));
    }
}
