//! Making manifests: from the layers of an area to a signed envelope.

use alloc::string::String;
use alloc::vec::Vec;

use super::{SignError, Signer, sign1};
use crate::cbor::Writer;
use crate::key::Digest;
use crate::limits::{AREA_BYTES_MAX, BLOCK_BYTES, ENVELOPE_BYTES_MAX};
use crate::manifest::decode::{INVOKE, PARAMETER_HOLDFAST, REPORT_ALL, VALIDATE, profile};
use crate::manifest::parts::padded_digest;
use crate::manifest::{
    self, AreaHasher, Component, Confirm, ConnectivityPolicy, CrashPolicy, ManifestError, UpdatePolicy,
    Version, class_identifier,
};
use crate::suit::{self, SHA_256, TAG_ENVELOPE, command, parameter};

/// What a manifest will say; [`crate::manifest::Manifest`] says what each field means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of Manifest, owned")]
pub struct ManifestSpec<'l> {
    pub component: Component,
    pub board: String,
    pub version: String,
    pub sequence_number: u64,
    pub security_counter: u64,
    pub microvisor_min: Version,
    pub layers: Vec<LayerSpec<'l>>,
    /// None: as long as the last layer's last block reaches.
    pub area_bytes: Option<u32>,
    pub update: UpdatePolicy,
    pub debug_keys: Vec<[u8; 32]>,
    pub crash: CrashPolicy,
    pub connectivity: ConnectivityPolicy,
    pub build_time_s: u64,
}

/// A layer's place and bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec<'l> {
    /// Offset in the area, a multiple of 16 KiB.
    pub destination: u32,
    /// All of it.
    pub bytes: &'l [u8],
}

/// A signed manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedManifest {
    /// The SUIT envelope.
    pub envelope: Vec<u8>,
    /// The bundle's name.
    pub digest: Digest,
}

impl SignedManifest {
    /// The bundle file of this manifest and the layers it was made from.
    pub fn bundle_file(&self, spec: &ManifestSpec<'_>) -> Vec<u8> {
        let mut distinct: Vec<&[u8]> = Vec::new();
        for layer in &spec.layers {
            if !distinct.contains(&layer.bytes) {
                distinct.push(layer.bytes);
            }
        }
        crate::bundle::write(&self.envelope, &distinct)
    }
}

impl ManifestSpec<'_> {
    /// Builds the manifest, has it signed, and reads it back as a device would.
    pub fn sign(&self, signer: &dyn Signer) -> Result<SignedManifest, SignError> {
        self.check_extent()?;
        let mut wrapped = Writer::new();
        wrapped.bytes(&self.manifest());
        let wrapped = wrapped.into_vec();
        let digest = Digest::of(&wrapped);
        let signed = suit_digest(&digest);
        let block = sign1(signer, None, &signed, false)?;
        let mut authentication = Writer::new();
        authentication.array(2).bytes(&signed).bytes(&block);
        let mut writer = Writer::new();
        writer.tag(TAG_ENVELOPE).map(2);
        writer.int(suit::key::AUTHENTICATION).bytes(&authentication.into_vec());
        writer.int(suit::key::MANIFEST).raw(&wrapped);
        let envelope = writer.into_vec();
        if envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(SignError::Manifest(ManifestError::TooLong));
        }
        manifest::read(&envelope).map_err(SignError::Manifest)?;
        Ok(SignedManifest { envelope, digest })
    }

    /// Before anything is hashed: nothing reaches beyond the longest area. The decoder checks the rest.
    fn check_extent(&self) -> Result<(), SignError> {
        let end = |layer: &LayerSpec<'_>| u64::from(layer.destination) + layer.bytes.len() as u64;
        let reach = self.layers.iter().map(end).chain(self.area_bytes.map(u64::from)).max();
        match reach.is_none_or(|reach| reach <= u64::from(AREA_BYTES_MAX)) {
            true => Ok(()),
            false => Err(SignError::Manifest(ManifestError::LayerRange)),
        }
    }

    fn manifest(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(5);
        writer.int(suit::key::MANIFEST_VERSION).uint(1);
        writer.int(suit::key::SEQUENCE_NUMBER).uint(self.sequence_number);
        writer.int(suit::key::COMMON).bytes(&self.common());
        writer.int(suit::key::VALIDATE).bytes(&VALIDATE);
        writer.int(suit::key::INVOKE).bytes(&INVOKE);
        writer.into_vec()
    }

    fn common(&self) -> Vec<u8> {
        let mut shared = Writer::new();
        shared.array(4).int(command::OVERRIDE_PARAMETERS);
        self.write_parameters(&mut shared);
        shared.int(command::CLASS_IDENTIFIER).uint(REPORT_ALL.into());
        let mut writer = Writer::new();
        writer.map(2);
        writer.int(suit::key::COMPONENTS).array(1).array(1).bytes(self.component.name().as_bytes());
        writer.int(suit::key::SHARED_SEQUENCE).bytes(&shared.into_vec());
        writer.into_vec()
    }

    fn write_parameters(&self, writer: &mut Writer) {
        let area_bytes = self.area_bytes();
        writer.map(4);
        writer.int(parameter::CLASS_IDENTIFIER).bytes(&class_identifier(&self.board));
        writer.int(parameter::IMAGE_DIGEST).bytes(&suit_digest(&self.area_digest(area_bytes)));
        writer.int(parameter::IMAGE_SIZE).uint(area_bytes.into());
        writer.int(PARAMETER_HOLDFAST).map(10);
        writer.int(profile::VERSION).text(&self.version);
        writer.int(profile::BOARD).text(&self.board);
        writer.int(profile::SECURITY_COUNTER).uint(self.security_counter);
        writer.int(profile::MICROVISOR_MIN).text(&alloc::format!("{}", self.microvisor_min));
        writer.int(profile::LAYERS).array(self.layers.len());
        self.layers.iter().for_each(|layer| layer.write(writer));
        write_update(writer.int(profile::UPDATE), &self.update);
        writer.int(profile::DEBUG_KEYS).array(self.debug_keys.len());
        self.debug_keys.iter().for_each(|key| {
            writer.bytes(key);
        });
        write_crash(writer.int(profile::CRASH), &self.crash);
        write_connectivity(writer.int(profile::CONNECTIVITY), &self.connectivity);
        writer.int(profile::BUILD_TIME).uint(self.build_time_s);
    }

    fn area_bytes(&self) -> u32 {
        let end = |layer: &LayerSpec<'_>| u64::from(layer.destination) + layer.bytes.len() as u64;
        let end = self.layers.iter().map(end).max().unwrap_or(0).next_multiple_of(BLOCK_BYTES as u64);
        self.area_bytes.unwrap_or(u32::try_from(end).unwrap_or(u32::MAX))
    }

    fn area_digest(&self, area_bytes: u32) -> Digest {
        let mut hasher = AreaHasher::new();
        for layer in &self.layers {
            hasher.pad_to(layer.destination);
            hasher.update(layer.bytes);
        }
        hasher.finish(area_bytes)
    }
}

impl LayerSpec<'_> {
    fn write(&self, writer: &mut Writer) {
        let blocks: Vec<u8> =
            self.bytes.chunks(BLOCK_BYTES).flat_map(|block| padded_digest(block).0).collect();
        writer.array(4).bytes(&Digest::of(self.bytes).0);
        writer.uint(self.bytes.len() as u64).uint(self.destination.into()).bytes(&blocks);
    }
}

fn write_update(writer: &mut Writer, policy: &UpdatePolicy) {
    let confirm = match policy.confirm {
        Confirm::Healthy => 0,
        Confirm::Running => 1,
    };
    writer.map(5 + usize::from(policy.commit_after_s.is_some()));
    writer.int(1).uint(policy.trial_s.into());
    writer.int(2).uint(policy.stable_s.into());
    writer.int(3).uint(confirm);
    writer.int(4).uint(policy.attempts_max.into());
    writer.int(5).uint(policy.polite_s.into());
    if let Some(seconds) = policy.commit_after_s {
        writer.int(6).uint(seconds.into());
    }
}

/// Without a hold for debuggers and without memory as before there were any, so that older devices read it.
fn write_crash(writer: &mut Writer, policy: &CrashPolicy) {
    writer.map(3 + usize::from(policy.debug_hold_s > 0) + usize::from(policy.memory_bytes > 0));
    writer.int(1).uint(policy.backoff_min_ms.into());
    writer.int(2).uint(policy.backoff_max_ms.into());
    writer.int(3).uint(policy.hold_s.into());
    if policy.debug_hold_s > 0 {
        writer.int(4).uint(policy.debug_hold_s.into());
    }
    if policy.memory_bytes > 0 {
        writer.int(5).uint(policy.memory_bytes.into());
    }
}

/// Without a grace as before there was one, so that older devices read it.
fn write_connectivity(writer: &mut Writer, policy: &ConnectivityPolicy) {
    writer.map(1 + usize::from(policy.grace_s > 0));
    writer.int(1).uint(policy.check_in_s.into());
    if policy.grace_s > 0 {
        writer.int(2).uint(policy.grace_s.into());
    }
}

fn suit_digest(digest: &Digest) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(2).int(SHA_256).bytes(&digest.0);
    writer.into_vec()
}
