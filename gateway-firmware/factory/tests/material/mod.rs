//! Keys and signed things of a tenant that exists in tests only. Keys are fixed scalars.

use wire::TenantId;
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version};
use wire::sign::{KeysetSpec, LayerSpec, ManifestSpec, ReleaseKeySpec, Signer as _, SoftKey};

pub(crate) const COUNTER: u64 = 5;

pub(crate) fn key(seed: u8) -> SoftKey {
    SoftKey::from_scalar(&[seed; 32]).expect("a scalar")
}

/// Two roots of which both must sign, and a release key each for microvisors and applications of this board.
pub(crate) fn keyset() -> Vec<u8> {
    keyset_of([1, 2])
}

/// The same of other roots.
pub(crate) fn keyset_of(roots: [u8; 2]) -> Vec<u8> {
    let release = |seed, component| ReleaseKeySpec {
        key: key(seed).public_key(),
        component: Some(component),
        board: Some("an505".to_owned()),
    };
    let spec = KeysetSpec {
        tenant: TenantId::new([7; 16]),
        version: 1,
        root_keys: roots.map(|seed| key(seed).public_key()).to_vec(),
        root_threshold: 2,
        release_keys: vec![release(3, Component::Microvisor), release(5, Component::App)],
        director_key: key(4).public_key(),
        crash_key: None,
        broker_anchors: vec![vec![0x30; 400]],
    };
    let [first, second] = roots.map(key);
    spec.sign(&[&first, &second]).expect("signs")
}

/// A microvisor of this image, which `change` may make another one.
pub(crate) fn bundle(image: &[u8], change: impl FnOnce(&mut ManifestSpec<'_>)) -> Vec<u8> {
    signed_bundle(image, Component::Microvisor, 3, change)
}

/// A bundle signed by the key of this seed.
pub(crate) fn signed_bundle(
    image: &[u8],
    component: Component,
    seed: u8,
    change: impl FnOnce(&mut ManifestSpec<'_>),
) -> Vec<u8> {
    let mut spec = ManifestSpec {
        component,
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
        crash: CrashPolicy {
            backoff_min_ms: 100,
            backoff_max_ms: 60_000,
            hold_s: 60,
            debug_hold_s: 0,
            memory_bytes: 0,
        },
        connectivity: ConnectivityPolicy { check_in_s: 0, grace_s: 0 },
        build_time_s: 1_790_000_000,
    };
    change(&mut spec);
    spec.sign(&key(seed)).expect("signs").bundle_file(&spec)
}

/// A certificate of the key of this seed, good until this year, PEM.
pub(crate) fn certificate(seed: u8, year: i32) -> String {
    let key = rcgen::KeyPair::from_pem(&key(seed).to_pkcs8_pem().expect("encodes")).expect("a key");
    let mut params = rcgen::CertificateParams::new(Vec::new()).expect("no names");
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    params.self_signed(&key).expect("signs").pem()
}

/// What the CLI writes for a claim.
pub(crate) fn provision_json() -> String {
    let hash = |seed| key(seed).public_key().hash().expect("on the curve").to_string();
    serde_json::json!({
        "enroll_address": "broker.test:8884",
        "server_ca_pem": certificate(8, 2100),
        "claim_certificate_pem": certificate(9, 2100),
        "claim_key_pem": key(9).to_pkcs8_pem().expect("encodes"),
        "root_key_hashes": [hash(1), hash(2)],
        "root_threshold": 2,
        "board": "an505",
    })
    .to_string()
}
