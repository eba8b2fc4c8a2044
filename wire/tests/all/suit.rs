//! The draft's own examples, and damaged ones.

use proptest::prelude::*;
use wire::cose::P256;
use wire::suit::{Commands, Envelope, Parameters, RawManifest, Severable, SuitError, command};
use wire::{Digest, PublicKey, manifest};

use crate::sample::{flipped, release, unhex};
use wire::sign::Signer;

fn example(index: usize) -> Vec<u8> {
    unhex(match index {
        0 => include_str!("../suit/example0.hex"),
        1 => include_str!("../suit/example1.hex"),
        2 => include_str!("../suit/example2.hex"),
        3 => include_str!("../suit/example3.hex"),
        4 => include_str!("../suit/example4.hex"),
        _ => include_str!("../suit/example5.hex"),
    })
}

fn public_key() -> PublicKey {
    use base64::Engine as _;
    let pem: String =
        include_str!("../suit/public-key.pem").lines().filter(|line| !line.starts_with('-')).collect();
    let der = base64::engine::general_purpose::STANDARD.decode(pem).expect("base64");
    PublicKey::from_spki_der(&der).expect("a P-256 key")
}

#[test]
fn the_drafts_six_signed_examples_decode_and_verify() {
    for index in 0..6 {
        let bytes = example(index);
        let envelope = Envelope::decode(&bytes).unwrap_or_else(|error| panic!("example {index}: {error}"));
        assert!(envelope.is_signed_by(&public_key(), &P256), "example {index}");
        assert!(!envelope.is_signed_by(&release().public_key(), &P256), "example {index}");
        let raw = RawManifest::decode(envelope.manifest).expect("a manifest");
        assert_eq!(raw.sequence_number, index as u64);
        assert_eq!(raw.components.count(), [1, 1, 1, 1, 3, 2][index]);
    }
}

/// draft-ietf-suit-manifest-34, Example 0: the image's digest and size.
#[test]
fn the_drafts_example_names_its_image() {
    let bytes = example(0);
    let envelope = Envelope::decode(&bytes).expect("an envelope");
    let raw = RawManifest::decode(envelope.manifest).expect("a manifest");
    let shared = raw.shared_sequence.expect("a shared sequence");
    let codes: Vec<i64> = shared.iter().map(|(code, _)| code).collect();
    assert_eq!(codes, [command::OVERRIDE_PARAMETERS, 1, command::CLASS_IDENTIFIER]);
    let (_, argument) = shared.iter().next().expect("a command");
    let digest = Parameters::decode(argument).expect("parameters").image_digest().expect("SHA-256");
    let expected = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210";
    assert_eq!(digest, Some(expected.parse().expect("hex")));
}

#[test]
fn severed_members_of_the_drafts_example_match_their_digests() {
    let bytes = example(2);
    let envelope = Envelope::decode(&bytes).expect("an envelope");
    let raw = RawManifest::decode(envelope.manifest).expect("a manifest");
    let install = envelope.install.expect("a severed install sequence");
    assert_eq!(raw.install, Some(Severable::Severed(Digest::of(install))));
    assert!(envelope.text.is_some());

    let mut damaged = bytes.clone();
    *damaged.last_mut().expect("bytes") ^= 1;
    assert_eq!(Envelope::decode(&damaged), Err(SuitError::Digest));
}

#[test]
fn no_flipped_bit_of_an_example_passes() {
    for index in 0..6 {
        let bytes = example(index);
        for damaged in flipped(&bytes) {
            let passes = Envelope::decode(&damaged).is_ok_and(|it| it.is_signed_by(&public_key(), &P256));
            assert!(!passes, "example {index}");
        }
    }
}

#[test]
fn what_the_draft_allows_and_our_profile_does_not_is_refused() {
    for index in 0..6 {
        assert!(manifest::read(&example(index)).is_err(), "example {index}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_suit_decoders_panic(bytes: Vec<u8>) {
        let _ = Envelope::decode(&bytes);
        let _ = RawManifest::decode(&bytes);
        let _ = Parameters::decode(&bytes).map(|it| it.iter().count());
        let _ = Commands::decode(&bytes).map(|it| it.iter().count());
    }

    #[test]
    fn a_damaged_example_never_makes_the_decoders_panic(
        index in 0_usize..6, cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length: prop::sample::Index,
    ) {
        let mut bytes = example(index);
        for (at, value) in cuts {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(length.index(bytes.len() + 1));
        if let Ok(envelope) = Envelope::decode(&bytes) {
            let _ = RawManifest::decode(envelope.manifest);
        }
        let _ = RawManifest::decode(&bytes);
    }
}
