//! Keys and signed things of a tenant that exists in tests only. Keys are fixed scalars, so signatures are too.

use wire::TenantId;
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version};
use wire::sign::{KeysetSpec, LayerSpec, ManifestSpec, ReleaseKeySpec, Signer as _, SoftKey};

pub(crate) const COUNTER: u64 = 5;

pub(crate) fn key(seed: u8) -> SoftKey {
    SoftKey::from_scalar(&[seed; 32]).expect("a scalar")
}

/// Two roots of which both must sign, and a release key for microvisors of this board.
pub(crate) fn keyset() -> Vec<u8> {
    let spec = KeysetSpec {
        tenant: TenantId::new([7; 16]),
        version: 1,
        root_keys: vec![key(1).public_key(), key(2).public_key()],
        root_threshold: 2,
        release_keys: vec![ReleaseKeySpec {
            key: key(3).public_key(),
            component: Some(Component::Microvisor),
            board: Some("an505".to_owned()),
        }],
        director_key: key(4).public_key(),
        crash_key: None,
        broker_anchors: vec![vec![0x30; 400]],
    };
    spec.sign(&[&key(1), &key(2)]).expect("signs")
}

/// A microvisor of this image, which `change` may make another one.
pub(crate) fn bundle(image: &[u8], change: impl FnOnce(&mut ManifestSpec<'_>)) -> Vec<u8> {
    let mut spec = ManifestSpec {
        component: Component::Microvisor,
        board: "an505".to_owned(),
        version: "1.2.3".to_owned(),
        sequence_number: COUNTER,
        security_counter: COUNTER,
        microvisor_min: Version { major: 0, minor: 0, patch: 0 },
        layers: vec![LayerSpec { destination: 0, bytes: image }],
        area_bytes: None,
        update: UpdatePolicy {
            trial_s: 60,
            stable_s: 10,
            confirm: Confirm::Healthy,
            attempts_max: 3,
            polite_s: 0,
            commit_after_s: None,
        },
        debug_keys: vec![],
        crash: CrashPolicy { backoff_min_ms: 100, backoff_max_ms: 60_000, hold_s: 60 },
        connectivity: ConnectivityPolicy { check_in_s: 0, grace_s: 0 },
        build_time_s: 1_790_000_000,
    };
    change(&mut spec);
    spec.sign(&key(3)).expect("signs").bundle_file(&spec)
}

/// What the CLI writes for a claim.
pub(crate) fn provision_json() -> String {
    let certificate = |byte| pem::encode(&pem::Pem::new("CERTIFICATE", vec![byte; 500]));
    let hash = |seed| key(seed).public_key().hash().expect("on the curve").to_string();
    serde_json::json!({
        "enroll_address": "broker.test:8884",
        "server_ca_pem": certificate(0x30),
        "claim_certificate_pem": certificate(0x31),
        "claim_key_pem": key(9).to_pkcs8_pem().expect("encodes"),
        "root_key_hashes": [hash(1), hash(2)],
        "root_threshold": 2,
        "board": "an505",
    })
    .to_string()
}
