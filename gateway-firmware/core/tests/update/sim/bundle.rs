//! The developer and the tenant: their keys, and what they sign.

use std::cell::RefCell;
use std::collections::HashMap;

use wire::directive::{Directive, Order, Target};
use wire::manifest::{
    AreaHasher, Component, Confirm, ConnectivityPolicy, CrashPolicy, UpdatePolicy, Version,
};
use wire::sign::{KeysetSpec, LayerSpec, ManifestSpec, ReleaseKeySpec, Signer as _, SoftKey, sign_directive};
use wire::{DeploymentId, DeviceId, Digest, KeyHash, Nonce, TenantId};

use super::{Behaviour, Bench, Device};

const BLOCK: usize = wire::limits::BLOCK_BYTES;
/// Who may debug what these tests make.
pub(crate) const DEBUG_KEY: [u8; 32] = [0xdb; 32];

/// A bundle as the service keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Bundle {
    pub name: String,
    pub envelope: Vec<u8>,
    pub digest: Digest,
    pub layers: HashMap<Digest, Vec<u8>>,
    pub area: Digest,
    pub component: Component,
    pub behaviour: Behaviour,
}

/// Every private key there is.
#[derive(Debug)]
pub(crate) struct Maker {
    pub root: SoftKey,
    pub release: SoftKey,
    pub director: SoftKey,
    pub stranger: SoftKey,
    pub tenant: TenantId,
    pub device: DeviceId,
    /// Directives signed before: the power-cut tests ask for the same ones ten thousand times.
    signed: RefCell<HashMap<String, Vec<u8>>>,
}

/// Two layers with a gap of one block between them: 20 KiB that differ from image to image, 16 KiB that do not.
pub(crate) fn image(seed: u8) -> [Vec<u8>; 2] {
    let own = (0..BLOCK + 4096).map(|index| (index / 7) as u8 ^ seed).collect();
    let shared = (0..BLOCK).map(|index| (index / 13) as u8).collect();
    [own, shared]
}

pub(crate) const POLICY: UpdatePolicy = UpdatePolicy {
    trial_s: 60,
    stable_s: 5,
    confirm: Confirm::Healthy,
    attempts_max: 3,
    polite_s: 0,
    commit_after_s: None,
};

impl Maker {
    pub(crate) fn new() -> Maker {
        let key = |seed| SoftKey::from_scalar(&[seed; 32]).unwrap();
        Maker {
            root: key(1),
            release: key(2),
            director: key(3),
            stranger: key(4),
            tenant: TenantId::new([5; 16]),
            device: DeviceId::new([6; 16]),
            signed: RefCell::default(),
        }
    }

    pub(crate) fn root_hash(&self) -> KeyHash {
        self.root.public_key().hash().unwrap()
    }

    pub(crate) fn keyset_spec(&self, version: u32) -> KeysetSpec {
        KeysetSpec {
            tenant: self.tenant,
            version,
            root_keys: vec![self.root.public_key()],
            root_threshold: 1,
            release_keys: vec![ReleaseKeySpec {
                key: self.release.public_key(),
                component: None,
                board: None,
            }],
            director_key: self.director.public_key(),
            crash_key: None,
            broker_anchors: vec![vec![0x30; 500]],
        }
    }

    pub(crate) fn keyset(&self, version: u32) -> Vec<u8> {
        self.keyset_spec(version).sign(&[&self.root]).unwrap()
    }

    /// What a manifest of these layers says unless a test changes it.
    pub(crate) fn spec<'l>(&self, version: u64, layers: &'l [Vec<u8>; 2]) -> ManifestSpec<'l> {
        ManifestSpec {
            component: Component::App,
            board: "sim".into(),
            version: format!("{version}.0"),
            sequence_number: version,
            security_counter: version,
            microvisor_min: Version { major: 1, minor: 0, patch: 0 },
            layers: vec![
                LayerSpec { destination: 0, bytes: &layers[0] },
                LayerSpec { destination: 3 * BLOCK as u32, bytes: &layers[1] },
            ],
            area_bytes: None,
            update: POLICY,
            debug_keys: vec![DEBUG_KEY],
            crash: CrashPolicy {
                backoff_min_ms: 100,
                backoff_max_ms: 1000,
                hold_s: 60,
                debug_hold_s: 0,
                memory_bytes: 0,
            },
            connectivity: ConnectivityPolicy { check_in_s: 0, grace_s: 0 },
            build_time_s: 1_700_000_000,
        }
    }

    /// A good bundle with this version as its security counter.
    pub(crate) fn bundle(&self, version: u8) -> Bundle {
        self.bundle_of(version, Behaviour::Healthy, |_| {})
    }

    pub(crate) fn bundle_of(
        &self,
        version: u8,
        behaviour: Behaviour,
        change: impl FnOnce(&mut ManifestSpec<'_>),
    ) -> Bundle {
        let layers = image(version);
        let mut spec = self.spec(version.into(), &layers);
        change(&mut spec);
        self.sign(format!("v{version}"), behaviour, &spec, &self.release)
    }

    pub(crate) fn sign(
        &self,
        name: String,
        behaviour: Behaviour,
        spec: &ManifestSpec<'_>,
        key: &SoftKey,
    ) -> Bundle {
        let signed = spec.sign(key).unwrap();
        let mut area = AreaHasher::new();
        for layer in &spec.layers {
            area.pad_to(layer.destination);
            area.update(layer.bytes);
        }
        let last = spec.layers.last().unwrap();
        let end = (last.destination as usize + last.bytes.len()).next_multiple_of(BLOCK) as u32;
        Bundle {
            name,
            behaviour,
            component: spec.component,
            envelope: signed.envelope,
            digest: signed.digest,
            layers: spec.layers.iter().map(|layer| (Digest::of(layer.bytes), layer.bytes.to_vec())).collect(),
            area: area.finish(spec.area_bytes.unwrap_or(end)),
        }
    }

    pub(crate) fn directive(&self, order: Order, nonce: Nonce) -> Vec<u8> {
        self.directive_by(order, nonce, self.device, &self.director)
    }

    pub(crate) fn directive_by(
        &self,
        order: Order,
        nonce: Nonce,
        device: DeviceId,
        key: &SoftKey,
    ) -> Vec<u8> {
        let directive = Directive { device, nonce, issued_at_s: 1_800_000_000, order };
        let name = format!("{directive:?} by {:?}", key.public_key());
        let mut signed = self.signed.borrow_mut();
        signed.entry(name).or_insert_with(|| sign_directive(&directive, key).unwrap()).clone()
    }

    /// A device enrolled on this bench, with nothing installed.
    pub(crate) fn enrolled(&self, bench: &Bench) -> Device {
        let mut device = bench.boot();
        device.enrolled(self.device, self.tenant, &[0xab; 1800], &self.keyset(1)).unwrap();
        device
    }
}

impl Bundle {
    pub(crate) fn target(&self, deployment: u8) -> Target {
        Target {
            manifest: self.digest,
            deployment: DeploymentId::new([deployment; 16]),
            component: self.component,
        }
    }

    /// The bytes of its area up to the last layer; none for an envelope that says nothing of it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut area = Vec::new();
        let Ok(manifest) = wire::manifest::read(&self.envelope) else { return area };
        for layer in &manifest.layers {
            area.resize(layer.destination as usize, 0xff);
            area.extend_from_slice(&self.layers[&layer.digest]);
        }
        area
    }

    /// Tells the bench what this bundle's area is called when it is started.
    pub(crate) fn known_on(self, bench: &Bench) -> Bundle {
        bench.app.borrow_mut().known.insert(self.area, (self.name.clone(), self.behaviour));
        self
    }
}
