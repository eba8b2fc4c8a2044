//! Keysets follow each other, one by one, each vouched for by enough *different* root keys of the one before.

use proptest::prelude::*;
use wire::TenantId;
use wire::cbor::{CborError, Writer};
use wire::cose::{CoseError, P256};
use wire::keyset::{self, KeysetError, Provisioned};
use wire::limits::{BROKER_ANCHORS_MAX, KEYSET_BYTES_MAX, RELEASE_KEYS_MAX, ROOT_KEYS_MAX, SIGNATURES_MAX};
use wire::sign::{KeysetSpec, ReleaseKeySpec, SignError, Signer, SoftKey, assemble_keyset, sign_keyset};
use wire::{KeyHash, PublicKey};

use crate::sample::{
    self, TENANT, director, flipped, key, keyset as spec, read_keyset, release, root, roots,
};

fn signed(spec: &KeysetSpec, by: &[SoftKey]) -> Vec<u8> {
    let signers: Vec<&dyn Signer> = by.iter().map(|key| key as &dyn Signer).collect();
    spec.sign(&signers).expect("signs")
}

fn hashes(count: u8) -> Vec<KeyHash> {
    roots(count).iter().map(|key| key.hash().expect("on the curve")).collect()
}

fn next(current: &[u8], bytes: &[u8]) -> Result<u32, KeysetError> {
    keyset::open_next(bytes, &read_keyset(current), &P256).map(|keyset| keyset.version)
}

fn first(bytes: &[u8], hashes: &[KeyHash], threshold: u8) -> Result<u32, KeysetError> {
    let provisioned = Provisioned { root_key_hashes: hashes, threshold };
    keyset::open_first(bytes, &provisioned, &P256).map(|keyset| keyset.version)
}

#[test]
fn a_keyset_says_what_it_was_made_from() {
    let spec = KeysetSpec {
        crash_key: Some([9; 32]),
        release_keys: vec![
            ReleaseKeySpec { key: release().public_key(), component: None, board: Some("host".to_string()) },
            ReleaseKeySpec { key: key(11).public_key(), component: "microvisor".parse().ok(), board: None },
        ],
        ..spec(1, roots(3), 2)
    };
    let bytes = signed(&spec, &[root(0), root(2)]);
    let keyset = keyset::open_self_signed(&bytes, &P256).expect("opens");
    assert_eq!((keyset.tenant, keyset.version, keyset.root_threshold), (TENANT, 1, 2));
    assert_eq!(keyset.root_keys.as_slice(), spec.root_keys);
    assert_eq!((keyset.director_key, keyset.crash_key), (director().public_key(), Some([9; 32])));
    assert_eq!(keyset.release_keys[0].board, Some("host"));
    assert_eq!(keyset.release_keys[1].key, key(11).public_key());
    assert_eq!(keyset.broker_anchors.as_slice(), [b"certificate"]);
}

/// CVE-2026-6966: signatures were counted where keys should have been.
#[test]
fn one_root_key_that_signs_twice_is_not_two() {
    let current = signed(&spec(1, roots(3), 2), &[root(0), root(1)]);
    let spec = spec(2, roots(3), 2);
    let payload = spec.payload().expect("encodes");
    let part = sign_keyset(&payload, &root(0)).expect("signs");
    let twice = assemble_keyset(&payload, &[part.clone(), part.clone()]).expect("assembles");
    assert_eq!(next(&current, &twice), Err(KeysetError::Threshold));
    let often = assemble_keyset(&payload, &vec![part.clone(); SIGNATURES_MAX]).expect("assembles");
    assert_eq!(next(&current, &often), Err(KeysetError::Threshold));
    let other = sign_keyset(&payload, &root(2)).expect("signs");
    let enough = assemble_keyset(&payload, &[part.clone(), part, other]).expect("assembles");
    assert_eq!(next(&current, &enough), Ok(2));
}

#[test]
fn a_root_key_listed_twice_is_refused() {
    let twice = KeysetSpec { root_keys: vec![root(0).public_key(); 2], ..spec(1, vec![], 2) };
    assert_eq!(twice.payload(), Err(SignError::Keyset(KeysetError::KeyTwice)));
}

#[test]
fn only_the_next_version_is_accepted_and_only_for_the_same_tenant() {
    let signers = [root(0)];
    let current = signed(&spec(5, roots(1), 1), &signers);
    for (version, expected) in [
        (4, Err(KeysetError::Version)),
        (5, Err(KeysetError::Version)),
        (6, Ok(6)),
        (7, Err(KeysetError::Version)),
    ] {
        assert_eq!(next(&current, &signed(&spec(version, roots(1), 1), &signers)), expected);
    }
    let foreign = KeysetSpec { tenant: TenantId::new([9; 16]), ..spec(6, roots(1), 1) };
    assert_eq!(next(&current, &signed(&foreign, &signers)), Err(KeysetError::Tenant));
    let last = signed(&spec(u32::MAX, roots(1), 1), &signers);
    assert_eq!(next(&last, &signed(&spec(1, roots(1), 1), &signers)), Err(KeysetError::Version));
    assert_eq!(spec(0, roots(1), 1).payload(), Err(SignError::Keyset(KeysetError::Field("version"))));
}

#[test]
fn the_next_keyset_is_signed_by_the_roots_before_it_never_only_by_its_own() {
    let current = signed(&spec(1, roots(2), 2), &[root(0), root(1)]);
    let new_roots = vec![root(2).public_key(), root(3).public_key()];
    let usurped = spec(2, new_roots.clone(), 1);
    assert_eq!(next(&current, &signed(&usurped, &[root(2), root(3)])), Err(KeysetError::Threshold));
    assert_eq!(next(&current, &signed(&usurped, &[root(0), root(2)])), Err(KeysetError::Threshold));
    assert_eq!(next(&current, &signed(&usurped, &[root(1), root(0)])), Ok(2));
    assert_eq!(next(&current, &signed(&usurped, &[root(1), root(2), root(0)])), Ok(2));
}

#[test]
fn the_first_keyset_needs_enough_provisioned_roots_whatever_threshold_it_names() {
    let both = signed(&spec(1, roots(2), 2), &[root(0), root(1)]);
    assert_eq!(first(&both, &hashes(2), 2), Ok(1));
    assert_eq!(first(&both, &hashes(2), 1), Ok(1));
    // One of the two is provisioned, two are needed.
    assert_eq!(first(&both, &hashes(1), 1), Err(KeysetError::Threshold));
    // Whoever holds one stolen root key and names a threshold of one.
    let lone = signed(&spec(1, roots(1), 1), &[root(0)]);
    assert_eq!(first(&lone, &hashes(2), 1), Ok(1));
    assert_eq!(first(&lone, &hashes(2), 2), Err(KeysetError::Threshold));
    assert_eq!(first(&lone, &[], 0), Err(KeysetError::Threshold));
    let foreign = KeysetSpec { root_keys: vec![key(99).public_key()], ..spec(1, vec![], 1) };
    assert_eq!(first(&signed(&foreign, &[key(99)]), &hashes(2), 1), Err(KeysetError::Threshold));
    assert_eq!(first(&signed(&spec(2, roots(1), 1), &[root(0)]), &hashes(2), 1), Err(KeysetError::Version));
}

#[test]
fn a_first_stage_takes_any_version_that_enough_provisioned_roots_signed() {
    let open = |bytes: &[u8], hashes: &[KeyHash], threshold| {
        let provisioned = Provisioned { root_key_hashes: hashes, threshold };
        keyset::open_provisioned(bytes, &provisioned, &P256).map(|keyset| keyset.version)
    };
    let third = signed(&spec(3, roots(3), 2), &[root(0), root(2)]);
    assert_eq!(open(&third, &hashes(3), 2), Ok(3));
    assert_eq!(open(&third, &hashes(1), 1), Ok(3), "its own threshold is for the keyset after it");
    assert_eq!(open(&third, &hashes(3), 3), Err(KeysetError::Threshold));
    assert_eq!(open(&third, &hashes(3)[1..], 2), Err(KeysetError::Threshold), "one of the two is revoked");
    assert_eq!(open(&third, &[], 0), Err(KeysetError::Threshold));
    let stranger = signed(&spec(3, vec![key(99).public_key(), root(0).public_key()], 1), &[key(99)]);
    assert_eq!(open(&stranger, &hashes(3), 1), Err(KeysetError::Threshold), "named, but did not sign");
    let twice = spec(3, roots(3), 2);
    let payload = twice.payload().expect("encodes");
    let part = sign_keyset(&payload, &root(0)).expect("signs");
    let twice = assemble_keyset(&payload, &[part.clone(), part]).expect("assembles");
    assert_eq!(open(&twice, &hashes(3), 2), Err(KeysetError::Threshold), "keys are counted, not signatures");
}

#[test]
fn no_flipped_bit_of_a_keyset_passes() {
    let bytes = signed(&spec(1, roots(2), 2), &[root(0), root(1)]);
    assert_eq!(first(&bytes, &hashes(2), 2), Ok(1));
    for damaged in flipped(&bytes) {
        assert!(first(&damaged, &hashes(2), 2).is_err());
    }
}

#[test]
fn a_truncated_prolonged_or_oversize_keyset_is_refused() {
    let mut bytes = signed(&spec(1, roots(1), 1), &[root(0)]);
    for length in 0..bytes.len() {
        assert!(keyset::read(&bytes[..length]).is_err());
    }
    bytes.push(0);
    assert_eq!(keyset::read(&bytes), Err(KeysetError::Cose(CoseError::Cbor(CborError::Trailing))));

    let of_anchor = |length: usize| {
        let big = KeysetSpec { broker_anchors: vec![vec![1; length]], ..spec(1, roots(1), 1) };
        big.sign(&[&root(0)]).map(|bytes| bytes.len())
    };
    let fixed = of_anchor(3000).expect("fits") - 3000;
    assert_eq!(of_anchor(KEYSET_BYTES_MAX - fixed), Ok(KEYSET_BYTES_MAX));
    assert_eq!(of_anchor(KEYSET_BYTES_MAX - fixed + 1), Err(SignError::Keyset(KeysetError::TooLong)));
}

#[test]
fn every_limit_holds_at_its_edge() {
    let refused = |spec: KeysetSpec, field| {
        assert_eq!(spec.payload(), Err(SignError::Keyset(KeysetError::Field(field))));
    };
    let full = ROOT_KEYS_MAX as u8;
    assert!(spec(1, roots(full), full).payload().is_ok());
    refused(spec(1, roots(full + 1), 1), "root keys");
    refused(spec(1, vec![], 0), "root keys");
    refused(spec(1, roots(2), 3), "root threshold");
    refused(spec(1, roots(2), 0), "root threshold");
    let one = ReleaseKeySpec { key: release().public_key(), component: None, board: None };
    assert!(
        KeysetSpec { release_keys: vec![one.clone(); RELEASE_KEYS_MAX], ..spec(1, roots(1), 1) }
            .payload()
            .is_ok()
    );
    refused(
        KeysetSpec { release_keys: vec![one; RELEASE_KEYS_MAX + 1], ..spec(1, roots(1), 1) },
        "release keys",
    );
    refused(KeysetSpec { release_keys: vec![], ..spec(1, roots(1), 1) }, "release keys");
    let anchors = |count| vec![vec![1; 9]; count];
    assert!(
        KeysetSpec { broker_anchors: anchors(BROKER_ANCHORS_MAX), ..spec(1, roots(1), 1) }.payload().is_ok()
    );
    refused(
        KeysetSpec { broker_anchors: anchors(BROKER_ANCHORS_MAX + 1), ..spec(1, roots(1), 1) },
        "broker anchors",
    );
    refused(KeysetSpec { broker_anchors: vec![], ..spec(1, roots(1), 1) }, "broker anchors");
    refused(KeysetSpec { broker_anchors: vec![vec![]], ..spec(1, roots(1), 1) }, "broker anchors");

    let payload = spec(1, roots(1), 1).payload().expect("encodes");
    let part = sign_keyset(&payload, &root(0)).expect("signs");
    assert!(assemble_keyset(&payload, &vec![part.clone(); SIGNATURES_MAX]).is_ok());
    let too_many = Err(SignError::Keyset(KeysetError::Cose(CoseError::SignatureCount)));
    assert_eq!(assemble_keyset(&payload, &vec![part; SIGNATURES_MAX + 1]), too_many);
    assert_eq!(assemble_keyset(&payload, &[]), too_many);
}

/// x = 1 is no x of a point of P-256; x = 5 is.
#[test]
fn a_keyset_with_a_key_off_the_curve_is_refused() {
    let mut off = [0; 33];
    (off[0], off[32]) = (2, 1);
    let off = PublicKey::from_compressed(&off).expect("the right shape");
    assert!(off.hash().is_err());
    let current = signed(&spec(1, roots(1), 1), &[root(0)]);
    for damaged in [
        KeysetSpec { director_key: off, ..spec(2, roots(1), 1) },
        KeysetSpec {
            release_keys: vec![ReleaseKeySpec { key: off, component: None, board: None }],
            ..spec(2, roots(1), 1)
        },
        KeysetSpec { root_keys: vec![root(0).public_key(), off], ..spec(2, vec![], 1) },
    ] {
        assert_eq!(next(&current, &signed(&damaged, &[root(0)])), Err(KeysetError::Key));
    }
    for bytes in [&[][..], &[0], &[4; 33], &[5; 33], &[2; 32], &[2; 34]] {
        assert!(PublicKey::from_compressed(bytes).is_err());
        assert!(PublicKey::from_sec1(bytes).is_err());
    }
}

#[test]
fn a_directives_signature_is_no_keysets() {
    let bytes = crate::directive::signed(wire::directive::Order::Time);
    assert!(matches!(keyset::read(&bytes), Err(KeysetError::Cose(_))));
}

/// Any payload under a keyset's headers; the signature is not looked at by `read`.
fn wrapped(payload: &[u8]) -> Vec<u8> {
    let mut protected = Writer::new();
    protected.map(1).int(3).text(keyset::CONTENT_TYPE);
    let mut writer = Writer::new();
    writer.tag(98).array(4).bytes(&protected.into_vec()).map(0).bytes(payload).array(1);
    writer.array(3).bytes(&[0xa1, 1, 0x26]).map(1).int(4).bytes(&[0; 32]).bytes(&[0; 64]);
    writer.into_vec()
}

proptest! {
    #[test]
    fn no_bytes_make_the_keyset_decoder_panic(bytes: Vec<u8>) {
        prop_assert!(keyset::read(&bytes).is_err());
        let _ = keyset::read(&wrapped(&bytes));
    }

    #[test]
    fn a_damaged_keyset_never_makes_the_decoder_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut payload = sample::keyset(1, roots(2), 1).payload().expect("encodes");
        for (at, value) in damage {
            let at = at.index(payload.len());
            payload[at] = value;
        }
        let _ = keyset::open_self_signed(&wrapped(&payload), &P256);
    }
}
