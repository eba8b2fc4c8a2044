//! Our profile: what is signed and in order is read back; everything else is refused by name.

use proptest::prelude::*;
use wire::cbor::{CborError, Writer};
use wire::cose::P256;
use wire::limits::{
    ATTEMPTS_MAX, BOARD_BYTES_MAX, CRASH_MEMORY_BYTES_MAX, DEBUG_HOLD_S_MAX, DEBUG_KEYS_MAX,
    ENVELOPE_BYTES_MAX, GRACE_S_MAX, LAYERS_MAX, VERSION_BYTES_MAX,
};
use wire::manifest::{self, Component, Manifest, ManifestError};
use wire::sign::{LayerSpec, ManifestSpec, ReleaseKeySpec, SignError, Signer};
use wire::suit::SuitError;
use wire::{Digest, PublicKey};

use crate::sample::{self, flipped, key, release};

fn signed(spec: &ManifestSpec<'_>) -> Vec<u8> {
    spec.sign(&release()).expect("signs").envelope
}

/// What the decoder, which the builder asks, says of a spec.
fn refusal(change: impl FnOnce(&mut ManifestSpec<'_>)) -> ManifestError {
    let layers = sample::layers();
    let mut spec = sample::manifest(&layers);
    change(&mut spec);
    match spec.sign(&release()) {
        Err(SignError::Manifest(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn scope(key: PublicKey, component: Option<Component>, board: Option<&str>) -> ReleaseKeySpec {
    ReleaseKeySpec { key, component, board: board.map(str::to_string) }
}

fn open(envelope: &[u8], release_keys: Vec<ReleaseKeySpec>) -> Result<Digest, ManifestError> {
    let keyset = sample::keyset_of(release_keys);
    manifest::open(envelope, &sample::read_keyset(&keyset), &P256).map(|manifest| manifest.digest)
}

#[test]
fn a_manifest_says_what_it_was_made_from() {
    let layers = sample::layers();
    let spec = sample::manifest(&layers);
    let signed = spec.sign(&release()).expect("signs");
    let keyset = sample::keyset_of(vec![scope(release().public_key(), None, None)]);
    let manifest = manifest::open(&signed.envelope, &sample::read_keyset(&keyset), &P256).expect("opens");
    assert_eq!(manifest.digest, signed.digest);
    assert_eq!((manifest.component, manifest.board, manifest.version), (Component::App, "host", "1.2.3"));
    assert_eq!(
        (manifest.sequence_number, manifest.security_counter, manifest.build_time_s),
        (5, 7, 1_790_000_000)
    );
    assert_eq!(manifest.microvisor_min, spec.microvisor_min);
    assert_eq!(
        (manifest.update, manifest.crash, manifest.connectivity),
        (spec.update, spec.crash, spec.connectivity)
    );
    assert_eq!(manifest.debug_keys.as_slice(), spec.debug_keys);
    assert_eq!(manifest.layers.len(), 2);
    for (layer, spec) in manifest.layers.iter().zip(&spec.layers) {
        assert_eq!((layer.bytes as usize, layer.destination), (spec.bytes.len(), spec.destination));
        assert_eq!(layer.digest, Digest::of(spec.bytes));
        assert!(spec.bytes.chunks(16_384).enumerate().all(|(at, block)| layer.block_matches(at, block)));
    }
    let mut area = vec![0xff; manifest.area_bytes as usize];
    for layer in &spec.layers {
        area[layer.destination as usize..][..layer.bytes.len()].copy_from_slice(layer.bytes);
    }
    assert_eq!(manifest.area_digest, Digest::of(&area));
}

#[test]
fn an_absent_commit_after_and_no_debug_keys_are_read_as_such() {
    let layers = sample::layers();
    let mut spec = sample::manifest(&layers);
    spec.update.commit_after_s = None;
    spec.debug_keys.clear();
    let envelope = signed(&spec);
    let manifest = manifest::read(&envelope).expect("reads");
    assert_eq!((manifest.update.commit_after_s, manifest.debug_keys.len()), (None, 0));
}

#[test]
fn no_flipped_bit_of_a_manifest_passes() {
    let layers = sample::layers();
    let envelope = signed(&sample::manifest(&layers));
    let key = release().public_key();
    assert!(manifest::open_with_key(&envelope, &key, &P256).is_ok());
    for damaged in flipped(&envelope) {
        assert!(manifest::open_with_key(&damaged, &key, &P256).is_err());
    }
}

#[test]
fn a_truncated_or_prolonged_envelope_is_refused() {
    let layers = sample::layers();
    let mut envelope = signed(&sample::manifest(&layers));
    for length in 0..envelope.len() {
        assert!(manifest::read(&envelope[..length]).is_err());
    }
    envelope.push(0);
    assert_eq!(manifest::read(&envelope), Err(ManifestError::Suit(SuitError::Cbor(CborError::Trailing))));
}

#[test]
fn an_envelope_is_read_up_to_its_limit_and_no_further() {
    // 32 bytes a block: the number of blocks at which the limit is met.
    let envelope_of = |blocks: usize| {
        let layers = vec![vec![1; blocks * 16_384]];
        let spec = ManifestSpec { area_bytes: None, ..sample::manifest(&layers) };
        spec.sign(&release()).map(|signed| signed.envelope.len())
    };
    let fixed = envelope_of(200).expect("fits") - 200 * 32;
    let blocks = (ENVELOPE_BYTES_MAX - fixed) / 32;
    assert!(envelope_of(blocks).is_ok_and(|length| length <= ENVELOPE_BYTES_MAX));
    assert_eq!(envelope_of(blocks + 1), Err(SignError::Manifest(ManifestError::TooLong)));
    assert_eq!(manifest::read(&vec![0; ENVELOPE_BYTES_MAX + 1]), Err(ManifestError::TooLong));
}

#[test]
fn only_a_release_key_of_the_keyset_may_sign_and_only_within_its_scope() {
    let layers = sample::layers();
    let envelope = signed(&sample::manifest(&layers));
    let (ours, other) = (release().public_key(), key(99).public_key());
    let app = Some(Component::App);
    for allowed in [
        vec![scope(ours, None, None)],
        vec![scope(ours, app, None)],
        vec![scope(ours, None, Some("host"))],
        vec![scope(other, None, None), scope(ours, app, Some("host"))],
        vec![scope(ours, Some(Component::Microvisor), None), scope(ours, app, None)],
    ] {
        assert!(open(&envelope, allowed).is_ok());
    }
    for (keys, error) in [
        (vec![scope(other, None, None)], ManifestError::UnknownKey),
        (vec![scope(ours, Some(Component::Microvisor), None)], ManifestError::KeyScope),
        (vec![scope(ours, None, Some("an505"))], ManifestError::KeyScope),
        (vec![scope(ours, app, Some("an505")), scope(other, None, None)], ManifestError::KeyScope),
    ] {
        assert_eq!(open(&envelope, keys), Err(error));
    }
}

#[test]
fn a_signature_by_the_director_or_another_key_under_the_release_keys_name_is_refused() {
    let layers = sample::layers();
    let spec = sample::manifest(&layers);
    let by_director = spec.sign(&sample::director()).expect("signs").envelope;
    assert_eq!(
        open(&by_director, vec![scope(release().public_key(), None, None)]),
        Err(ManifestError::UnknownKey)
    );
    // The same signature, renamed.
    let (from, to) = (sample::director().public_key().hash(), release().public_key().hash());
    let (from, to) = (from.expect("on the curve").0, to.expect("on the curve").0);
    let at = by_director.windows(32).position(|window| window == from).expect("its key id");
    let mut renamed = by_director.clone();
    renamed[at..at + 32].copy_from_slice(&to);
    assert_eq!(
        open(&renamed, vec![scope(release().public_key(), None, None)]),
        Err(ManifestError::Signature)
    );
}

#[test]
fn an_unsigned_envelope_is_refused() {
    let layers = sample::layers();
    let envelope = signed(&sample::manifest(&layers));
    let inner = wire::suit::Envelope::decode(&envelope).expect("an envelope");
    let mut authentication = Writer::new();
    authentication.array(1).bytes(inner.authentication.signed);
    let mut writer = Writer::new();
    writer.tag(107).map(2).int(2).bytes(&authentication.into_vec()).int(3).raw(inner.manifest_wrapped);
    let unsigned = writer.into_vec();
    assert!(manifest::read(&unsigned).is_ok());
    assert_eq!(
        open(&unsigned, vec![scope(release().public_key(), None, None)]),
        Err(ManifestError::Unsigned)
    );
}

#[test]
fn layers_out_of_order_overlapping_misaligned_or_beyond_the_area_are_refused() {
    assert_eq!(refusal(|spec| spec.layers.swap(0, 1)), ManifestError::LayerOrder);
    assert_eq!(refusal(|spec| spec.layers[1].destination = 16_384), ManifestError::LayerOrder);
    assert_eq!(
        refusal(|spec| spec.layers[1].destination = spec.layers[0].destination),
        ManifestError::LayerOrder
    );
    assert_eq!(refusal(|spec| spec.layers[1].destination += 1), ManifestError::LayerRange);
    assert_eq!(refusal(|spec| spec.area_bytes = Some(65_536)), ManifestError::LayerRange);
    assert_eq!(refusal(|spec| spec.layers[1].destination = 0xffff_c000), ManifestError::LayerRange);
    assert_eq!(refusal(|spec| spec.layers[1].bytes = &[]), ManifestError::LayerRange);
    assert_eq!(refusal(|spec| spec.area_bytes = Some(262_145)), ManifestError::Field("image size"));
    assert_eq!(refusal(|spec| spec.layers.clear()), ManifestError::Field("layers"));
}

#[test]
fn every_limit_holds_at_its_edge() {
    let layers: Vec<Vec<u8>> = (0..=LAYERS_MAX as u8).map(|at| vec![at; 100]).collect();
    let fits = |change: &dyn Fn(&mut ManifestSpec<'_>)| {
        let held = sample::layers();
        let mut spec = sample::manifest(&held);
        change(&mut spec);
        assert!(spec.sign(&release()).is_ok());
    };
    assert!(ManifestSpec { area_bytes: None, ..sample::manifest(&layers[1..]) }.sign(&release()).is_ok());
    let too_many = ManifestSpec { area_bytes: None, ..sample::manifest(&layers) };
    assert_eq!(too_many.sign(&release()), Err(SignError::Manifest(ManifestError::Field("layers"))));

    fits(&|spec| spec.version = "v".repeat(VERSION_BYTES_MAX));
    assert_eq!(
        refusal(|spec| spec.version = "v".repeat(VERSION_BYTES_MAX + 1)),
        ManifestError::Field("version")
    );
    assert_eq!(refusal(|spec| spec.version.clear()), ManifestError::Field("version"));
    assert_eq!(refusal(|spec| spec.version = "1\u{1b}[2J".to_string()), ManifestError::Field("version"));
    fits(&|spec| spec.board = "b".repeat(BOARD_BYTES_MAX));
    assert_eq!(refusal(|spec| spec.board = "b".repeat(BOARD_BYTES_MAX + 1)), ManifestError::Field("board"));
    fits(&|spec| spec.debug_keys = vec![[1; 32]; DEBUG_KEYS_MAX]);
    assert_eq!(
        refusal(|spec| spec.debug_keys = vec![[1; 32]; DEBUG_KEYS_MAX + 1]),
        ManifestError::Field("debug keys")
    );
    fits(&|spec| spec.update.attempts_max = ATTEMPTS_MAX);
    assert_eq!(
        refusal(|spec| spec.update.attempts_max = ATTEMPTS_MAX + 1),
        ManifestError::Field("attempts_max")
    );
    assert_eq!(refusal(|spec| spec.update.attempts_max = 0), ManifestError::Field("attempts_max"));
    assert_eq!(refusal(|spec| spec.crash.backoff_min_ms = 60_001), ManifestError::Field("crash back-off"));
    fits(&|spec| spec.crash.debug_hold_s = DEBUG_HOLD_S_MAX);
    assert_eq!(
        refusal(|spec| spec.crash.debug_hold_s = DEBUG_HOLD_S_MAX + 1),
        ManifestError::Field("debug hold")
    );
    fits(&|spec| spec.crash.memory_bytes = CRASH_MEMORY_BYTES_MAX);
    assert_eq!(
        refusal(|spec| spec.crash.memory_bytes = CRASH_MEMORY_BYTES_MAX + 1),
        ManifestError::Field("crash memory")
    );
    fits(&|spec| spec.connectivity.grace_s = GRACE_S_MAX);
    assert_eq!(refusal(|spec| spec.connectivity.grace_s = GRACE_S_MAX + 1), ManifestError::Field("grace"));
}

/// Rewrites the signed manifest of a sample and signs it again by hand.
fn resigned(edit: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<(), ManifestError> {
    let layers = sample::layers();
    let envelope = signed(&sample::manifest(&layers));
    let manifest = edit(wire::suit::Envelope::decode(&envelope).expect("an envelope").manifest);
    let mut wrapped = Writer::new();
    wrapped.bytes(&manifest);
    let wrapped = wrapped.into_vec();
    let mut digest = Writer::new();
    digest.array(2).int(-16).bytes(&Digest::of(&wrapped).0);
    let mut authentication = Writer::new();
    authentication.array(1).bytes(&digest.into_vec());
    let mut writer = Writer::new();
    writer.tag(107).map(2).int(2).bytes(&authentication.into_vec()).int(3).raw(&wrapped);
    manifest::read(&writer.into_vec()).map(drop)
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).expect("the bytes to replace");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn encodings_that_are_not_deterministic_and_keys_that_are_not_ours_are_refused() {
    assert_eq!(resigned(<[u8]>::to_vec), Ok(()));
    let version = |to: &'static [u8]| resigned(move |manifest| replaced(manifest, &[0xa5, 0x01, 0x01], to));
    let cbor = |error| Err(ManifestError::Suit(SuitError::Cbor(error)));
    assert_eq!(version(&[0xa5, 0x01, 0x18, 0x01]), cbor(CborError::NotDeterministic));
    assert_eq!(version(&[0xb8, 0x05, 0x01, 0x01]), cbor(CborError::NotDeterministic));
    assert_eq!(version(&[0xbf, 0x01, 0x01]), cbor(CborError::NotDeterministic));
    assert_eq!(version(&[0xa6, 0x00, 0x00, 0x01, 0x01]), cbor(CborError::UnknownKey));
    assert_eq!(version(&[0xa6, 0x01, 0x01, 0x01, 0x01]), cbor(CborError::KeyOrder));
    assert_eq!(version(&[0xa5, 0x01, 0x02]), Err(ManifestError::Suit(SuitError::Version)));
    let unknown = resigned(|manifest| {
        let mut manifest = replaced(manifest, &[0xa5, 0x01, 0x01], &[0xa6, 0x01, 0x01]);
        manifest.extend([0x18, 0x63, 0x00]);
        manifest
    });
    assert_eq!(unknown, cbor(CborError::UnknownKey));
    // A duplicate key inside the profile map; the map's lengths outside stay as they were.
    let policy =
        |from: &'static [u8], to: &'static [u8]| resigned(move |manifest| replaced(manifest, from, to));
    assert_eq!(
        policy(&[0xa3, 0x01, 0x19, 0x01, 0xf4, 0x02], &[0xa3, 0x01, 0x19, 0x01, 0xf4, 0x01]),
        cbor(CborError::KeyOrder)
    );
    assert_eq!(policy(&[0x43, b'a', b'p', b'p'], &[0x43, b'a', b'p', b'q']), Err(ManifestError::Component));
    assert_eq!(
        policy(&[0x64, b'h', b'o', b's', b't'], &[0x64, b'h', b'o', b's', b'u']),
        Err(ManifestError::Class)
    );
    assert_eq!(policy(&[0x43, 0x82, 0x03, 0x0f], &[0x43, 0x82, 0x03, 0x0e]), Err(ManifestError::Profile));
    assert_eq!(policy(&[0x43, 0x82, 0x17, 0x02], &[0x43, 0x82, 0x17, 0x03]), Err(ManifestError::Profile));
}

#[test]
fn layers_that_are_equal_must_be_equal_in_all() {
    let layers = vec![vec![3; 20_000], vec![3; 20_000]];
    let spec = sample::manifest(&layers);
    let envelope = signed(&spec);
    let manifest = manifest::read(&envelope).expect("reads");
    assert_eq!((manifest.layers.len(), manifest.distinct_layers().count()), (2, 1));
    assert_eq!(manifest.layer_bytes(), 20_000);
    let block = manifest.layers[1].block_digest(1).expect("a block").0;
    let last =
        |manifest: &[u8]| manifest.windows(32).rposition(|window| window == block).expect("its digest");
    let inner = wire::suit::Envelope::decode(&envelope).expect("an envelope").manifest.to_vec();
    let mut differs = inner.clone();
    differs[last(&inner)] ^= 1;
    assert_eq!(resigned(|_| differs), Err(ManifestError::Blocks));
}

proptest! {
    #[test]
    fn no_bytes_make_the_manifest_decoder_panic(bytes: Vec<u8>) {
        let _ = manifest::read(&bytes);
    }

    #[test]
    fn a_damaged_manifest_under_a_right_digest_never_makes_the_decoder_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let _ = resigned(|manifest| {
            let mut manifest = manifest.to_vec();
            for (at, value) in damage {
                let at = at.index(manifest.len());
                manifest[at] = value;
            }
            manifest
        });
    }

    #[test]
    fn any_layers_in_order_survive_the_round_trip(
        sizes in prop::collection::vec(1_usize..40_000, 1..=LAYERS_MAX), counter: u64,
    ) {
        let layers: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, size)| vec![at as u8; *size]).collect();
        let spec = ManifestSpec { area_bytes: None, security_counter: counter, ..sample::manifest(&layers) };
        let envelope = signed(&spec);
        let read: Manifest<'_> = manifest::read(&envelope).expect("reads");
        let placed = read.layers.iter().map(|layer| (layer.destination, layer.bytes as usize));
        let expected = spec.layers.iter().map(|layer: &LayerSpec<'_>| (layer.destination, layer.bytes.len()));
        prop_assert!(placed.eq(expected));
        prop_assert_eq!(read.security_counter, counter);
    }
}
