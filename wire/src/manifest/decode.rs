//! From an envelope to a [`Manifest`]: the profile of docs/bundle.md, and nothing beside it.

use super::{
    Component, Confirm, ConnectivityPolicy, CrashPolicy, Layer, Manifest, ManifestError, UpdatePolicy,
    class_identifier,
};
use crate::cbor::Reader;
use crate::key::Digest;
use crate::limits::{
    AREA_BYTES_MAX, ATTEMPTS_MAX, BLOCK_BYTES, BOARD_BYTES_MAX, CRASH_MEMORY_BYTES_MAX, DEBUG_HOLD_S_MAX,
    DEBUG_KEYS_MAX, GRACE_S_MAX, LAYER_BYTES_MAX, LAYERS_MAX, VERSION_BYTES_MAX,
};
use crate::suit::{Commands, Envelope, RawManifest, command, decode_digest, parameter};

/// Our profile among a component's parameters.
pub(crate) const PARAMETER_HOLDFAST: i64 = -1;

/// `[condition-image-match, report on everything]`, encoded.
pub(crate) const VALIDATE: [u8; 3] = [0x82, 0x03, 0x0f];
/// `[directive-invoke, report on failure]`, encoded.
pub(crate) const INVOKE: [u8; 3] = [0x82, 0x17, 0x02];
/// The argument of `condition-class-identifier`: report on everything.
pub(crate) const REPORT_ALL: u8 = 0x0f;

/// Keys of the profile map.
pub(crate) mod profile {
    pub(crate) const VERSION: i64 = 1;
    pub(crate) const BOARD: i64 = 2;
    pub(crate) const SECURITY_COUNTER: i64 = 3;
    pub(crate) const MICROVISOR_MIN: i64 = 4;
    pub(crate) const LAYERS: i64 = 5;
    pub(crate) const UPDATE: i64 = 6;
    pub(crate) const DEBUG_KEYS: i64 = 7;
    pub(crate) const CRASH: i64 = 8;
    pub(crate) const CONNECTIVITY: i64 = 9;
    pub(crate) const BUILD_TIME: i64 = 10;
}

pub(super) fn manifest<'a>(envelope: &Envelope<'a>) -> Result<Manifest<'a>, ManifestError> {
    let has_severed =
        envelope.payload_fetch.is_some() || envelope.install.is_some() || envelope.text.is_some();
    if has_severed || envelope.integrated_payloads > 0 {
        return Err(ManifestError::Profile);
    }
    let raw = RawManifest::decode(envelope.manifest)?;
    check_members(&raw)?;
    let component = decode_component(raw.components.single().ok_or(ManifestError::Profile)?)?;
    let parameters = shared_parameters(&raw.shared_sequence.ok_or(ManifestError::Profile)?)?;
    let digest = envelope.authentication.digest;
    decode_parameters(parameters, digest, component, raw.sequence_number)
}

/// Only validate and invoke, as the profile spells them.
fn check_members(raw: &RawManifest<'_>) -> Result<(), ManifestError> {
    let is_absent = raw.reference_uri.is_none()
        && raw.load.is_none()
        && raw.payload_fetch.is_none()
        && raw.install.is_none()
        && raw.text.is_none();
    let is =
        |commands: Option<Commands<'_>>, expected: &[u8]| commands.is_some_and(|it| it.encoded() == expected);
    match is_absent && is(raw.validate, &VALIDATE) && is(raw.invoke, &INVOKE) {
        true => Ok(()),
        false => Err(ManifestError::Profile),
    }
}

fn decode_component(identifier: &[u8]) -> Result<Component, ManifestError> {
    let name = core::str::from_utf8(identifier).map_err(|_| ManifestError::Component)?;
    name.parse().map_err(|_| ManifestError::Component)
}

/// `[override-parameters, {…}, condition-class-identifier, 15]`.
fn shared_parameters<'a>(shared: &Commands<'a>) -> Result<&'a [u8], ManifestError> {
    let mut commands = shared.iter();
    match (commands.next(), commands.next(), commands.next()) {
        (
            Some((command::OVERRIDE_PARAMETERS, map)),
            Some((command::CLASS_IDENTIFIER, [REPORT_ALL])),
            None,
        ) => Ok(map),
        _ => Err(ManifestError::Profile),
    }
}

fn decode_parameters(
    encoded: &[u8],
    digest: Digest,
    component: Component,
    sequence_number: u64,
) -> Result<Manifest<'_>, ManifestError> {
    let mut reader = Reader::new(encoded);
    let mut fields = reader.fields()?;
    let class: [u8; 16] = *fields.required(parameter::CLASS_IDENTIFIER)?.bytes_exact()?;
    let area_digest = decode_digest(fields.required(parameter::IMAGE_DIGEST)?.bytes()?)?;
    let area_bytes = fields.required(parameter::IMAGE_SIZE)?.u32()?;
    if area_bytes == 0 || area_bytes > AREA_BYTES_MAX || !is_aligned(area_bytes) {
        return Err(ManifestError::Field("image size"));
    }
    let base = Base { digest, component, sequence_number, area_digest, area_bytes };
    let manifest = decode_profile(fields.required(PARAMETER_HOLDFAST)?, base)?;
    fields.finish()?;
    reader.finish()?;
    match class == class_identifier(manifest.board) {
        true => Ok(manifest),
        false => Err(ManifestError::Class),
    }
}

/// What is known before the profile map is read.
struct Base {
    digest: Digest,
    component: Component,
    sequence_number: u64,
    area_digest: Digest,
    area_bytes: u32,
}

fn decode_profile<'a>(reader: &mut Reader<'a>, base: Base) -> Result<Manifest<'a>, ManifestError> {
    let mut fields = reader.fields()?;
    let manifest = Manifest {
        digest: base.digest,
        component: base.component,
        sequence_number: base.sequence_number,
        area_digest: base.area_digest,
        area_bytes: base.area_bytes,
        version: decode_name(fields.required(profile::VERSION)?, VERSION_BYTES_MAX, "version")?,
        board: decode_name(fields.required(profile::BOARD)?, BOARD_BYTES_MAX, "board")?,
        security_counter: fields.required(profile::SECURITY_COUNTER)?.uint()?,
        microvisor_min: {
            let text = fields.required(profile::MICROVISOR_MIN)?.text()?;
            text.parse().map_err(|_| ManifestError::Field("microvisor minimum"))?
        },
        layers: decode_layers(fields.required(profile::LAYERS)?, base.area_bytes)?,
        update: decode_update(fields.required(profile::UPDATE)?)?,
        debug_keys: decode_debug_keys(fields.required(profile::DEBUG_KEYS)?)?,
        crash: decode_crash(fields.required(profile::CRASH)?)?,
        connectivity: decode_connectivity(fields.required(profile::CONNECTIVITY)?)?,
        build_time_s: fields.required(profile::BUILD_TIME)?.uint()?,
    };
    fields.finish()?;
    Ok(manifest)
}

/// Text without spaces or control characters, which could fool whoever reads it on a terminal.
fn decode_name<'a>(
    reader: &mut Reader<'a>,
    bytes_max: usize,
    name: &'static str,
) -> Result<&'a str, ManifestError> {
    let text = reader.text()?;
    match (1..=bytes_max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(ManifestError::Field(name)),
    }
}

fn decode_layers<'a>(
    reader: &mut Reader<'a>,
    area_bytes: u32,
) -> Result<heapless::Vec<Layer<'a>, LAYERS_MAX>, ManifestError> {
    let count = reader.array()?;
    if !(1..=LAYERS_MAX).contains(&count) {
        return Err(ManifestError::Field("layers"));
    }
    let mut layers: heapless::Vec<Layer<'a>, LAYERS_MAX> = heapless::Vec::new();
    for _ in 0..count {
        let layer = decode_layer(reader)?;
        // Cannot overflow: both were checked to be at most AREA_BYTES_MAX or LAYER_BYTES_MAX.
        if layer.destination + layer.bytes > area_bytes {
            return Err(ManifestError::LayerRange);
        }
        if layers.last().is_some_and(|last| last.destination + last.bytes > layer.destination) {
            return Err(ManifestError::LayerOrder);
        }
        let differs = |held: &Layer<'_>| {
            held.digest == layer.digest && (held.bytes, held.blocks) != (layer.bytes, layer.blocks)
        };
        if layers.iter().any(differs) {
            return Err(ManifestError::Blocks);
        }
        layers.push(layer).map_err(|_| ManifestError::Field("layers"))?;
    }
    Ok(layers)
}

fn decode_layer<'a>(reader: &mut Reader<'a>) -> Result<Layer<'a>, ManifestError> {
    reader.array_of(4)?;
    let digest = Digest(*reader.bytes_exact()?);
    let (bytes, destination) = (reader.u32()?, reader.u32()?);
    let layer = Layer { digest, bytes, destination, blocks: reader.bytes()? };
    let in_range = (1..=LAYER_BYTES_MAX).contains(&bytes) && destination <= AREA_BYTES_MAX;
    if !in_range || !is_aligned(destination) {
        return Err(ManifestError::LayerRange);
    }
    match layer.blocks.len() == layer.block_count() * 32 {
        true => Ok(layer),
        false => Err(ManifestError::Blocks),
    }
}

fn decode_update(reader: &mut Reader<'_>) -> Result<UpdatePolicy, ManifestError> {
    let mut fields = reader.fields()?;
    let policy = UpdatePolicy {
        trial_s: fields.required(1)?.u32()?,
        stable_s: fields.required(2)?.u32()?,
        confirm: match fields.required(3)?.uint()? {
            0 => Confirm::Healthy,
            1 => Confirm::Running,
            _ => return Err(ManifestError::Field("confirm")),
        },
        attempts_max: match u8::try_from(fields.required(4)?.uint()?) {
            Ok(attempts @ 1..=ATTEMPTS_MAX) => attempts,
            _ => return Err(ManifestError::Field("attempts_max")),
        },
        polite_s: fields.required(5)?.u32()?,
        commit_after_s: fields.optional(6)?.map(Reader::u32).transpose()?,
    };
    fields.finish()?;
    Ok(policy)
}

fn decode_debug_keys(
    reader: &mut Reader<'_>,
) -> Result<heapless::Vec<[u8; 32], DEBUG_KEYS_MAX>, ManifestError> {
    let mut keys = heapless::Vec::new();
    for _ in 0..reader.array()? {
        keys.push(*reader.bytes_exact()?).map_err(|_| ManifestError::Field("debug keys"))?;
    }
    Ok(keys)
}

fn decode_crash(reader: &mut Reader<'_>) -> Result<CrashPolicy, ManifestError> {
    let mut fields = reader.fields()?;
    let policy = CrashPolicy {
        backoff_min_ms: fields.required(1)?.u32()?,
        backoff_max_ms: fields.required(2)?.u32()?,
        hold_s: fields.required(3)?.u32()?,
        debug_hold_s: fields.optional(4)?.map(Reader::u32).transpose()?.unwrap_or(0),
        memory_bytes: fields.optional(5)?.map(Reader::u32).transpose()?.unwrap_or(0),
    };
    fields.finish()?;
    if policy.backoff_min_ms > policy.backoff_max_ms {
        return Err(ManifestError::Field("crash back-off"));
    }
    if policy.debug_hold_s > DEBUG_HOLD_S_MAX {
        return Err(ManifestError::Field("debug hold"));
    }
    match policy.memory_bytes <= CRASH_MEMORY_BYTES_MAX {
        true => Ok(policy),
        false => Err(ManifestError::Field("crash memory")),
    }
}

fn decode_connectivity(reader: &mut Reader<'_>) -> Result<ConnectivityPolicy, ManifestError> {
    let mut fields = reader.fields()?;
    let policy = ConnectivityPolicy {
        check_in_s: fields.required(1)?.u32()?,
        grace_s: fields.optional(2)?.map(Reader::u32).transpose()?.unwrap_or(0),
    };
    fields.finish()?;
    match policy.grace_s <= GRACE_S_MAX {
        true => Ok(policy),
        false => Err(ManifestError::Field("grace")),
    }
}

const fn is_aligned(offset: u32) -> bool {
    (offset as usize).is_multiple_of(BLOCK_BYTES)
}
