//! Keys and specs the tests share. Keys are fixed scalars, so signatures are too (RFC 6979).

use wire::keyset::{self, Keyset};
use wire::manifest::{Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version};
use wire::sign::{KeysetSpec, LayerSpec, ManifestSpec, ReleaseKeySpec, Signer, SoftKey};
use wire::{DeploymentId, DeviceId, Nonce, PublicKey, TenantId};

pub(crate) const DEVICE: DeviceId = DeviceId::new([0xd1; 16]);
pub(crate) const DEPLOYMENT: DeploymentId = DeploymentId::new([0xd2; 16]);
pub(crate) const TENANT: TenantId = TenantId::new([0x71; 16]);
pub(crate) const NONCE: Nonce = Nonce([0x4e; 16]);
pub(crate) const BOARD: &str = "host";

pub(crate) fn key(seed: u8) -> SoftKey {
    SoftKey::from_scalar(&[seed; 32]).expect("a scalar")
}

pub(crate) fn release() -> SoftKey {
    key(10)
}

pub(crate) fn director() -> SoftKey {
    key(20)
}

pub(crate) fn root(index: u8) -> SoftKey {
    key(30 + index)
}

pub(crate) fn roots(count: u8) -> Vec<PublicKey> {
    (0..count).map(|index| root(index).public_key()).collect()
}

/// Two layers with a hole between them; the second ends inside a block.
pub(crate) fn layers() -> Vec<Vec<u8>> {
    vec![vec![0xa5; 20_000], (0..40_000_u32).map(|at| at as u8).collect()]
}

pub(crate) fn manifest(layers: &[Vec<u8>]) -> ManifestSpec<'_> {
    let mut destination = 0;
    let place = |bytes: &Vec<u8>| (bytes.len() as u32).next_multiple_of(16_384) + 16_384;
    let layers = layers
        .iter()
        .map(|bytes| {
            let layer = LayerSpec { destination, bytes };
            destination += place(bytes);
            layer
        })
        .collect();
    ManifestSpec {
        component: Component::App,
        board: BOARD.to_string(),
        version: "1.2.3".to_string(),
        sequence_number: 5,
        security_counter: 7,
        microvisor_min: Version { major: 0, minor: 1, patch: 0 },
        layers,
        area_bytes: Some(262_144),
        update: UpdatePolicy {
            trial_s: 60,
            stable_s: 10,
            confirm: Confirm::Healthy,
            attempts_max: 3,
            polite_s: 3600,
            commit_after_s: Some(86_400),
        },
        debug_keys: vec![[0xdb; 32]],
        crash: CrashPolicy {
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            hold_s: 300,
            debug_hold_s: 0,
            memory_bytes: 0,
        },
        connectivity: ConnectivityPolicy { check_in_s: 900, grace_s: 0 },
        build_time_s: 1_790_000_000,
    }
}

pub(crate) fn keyset(version: u32, root_keys: Vec<PublicKey>, root_threshold: u8) -> KeysetSpec {
    KeysetSpec {
        tenant: TENANT,
        version,
        root_keys,
        root_threshold,
        release_keys: vec![ReleaseKeySpec { key: release().public_key(), component: None, board: None }],
        director_key: director().public_key(),
        crash_key: None,
        broker_anchors: vec![b"certificate".to_vec()],
    }
}

/// A signed keyset of version 1 with one root key, and these release keys.
pub(crate) fn keyset_of(release_keys: Vec<ReleaseKeySpec>) -> Vec<u8> {
    let spec = KeysetSpec { release_keys, ..keyset(1, roots(1), 1) };
    spec.sign(&[&root(0)]).expect("signs")
}

pub(crate) fn read_keyset(bytes: &[u8]) -> Keyset<'_> {
    keyset::read(bytes).expect("a keyset")
}

/// Hex digits, white space between them ignored.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Every bit of `bytes`, flipped alone.
pub(crate) fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..bytes.len() * 8).map(|bit| {
        let mut damaged = bytes.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        damaged
    })
}
