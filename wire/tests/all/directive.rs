//! A device acts on its own id, its own nonce and its director's signature; on nothing else.

use proptest::prelude::*;
use wire::cbor::{CborError, Writer};
use wire::cose::{CoseError, P256};
use wire::directive::{self, Directive, DirectiveError, Order, Target};
use wire::limits::DIRECTIVE_BYTES_MAX;
use wire::manifest::Component;
use wire::sign::{Signer, sign_directive};
use wire::{DeviceId, Digest, Nonce};

use crate::sample::{DEPLOYMENT, DEVICE, NONCE, director, flipped, key};

fn target() -> Target {
    Target { manifest: Digest([0x3d; 32]), deployment: DEPLOYMENT, component: Component::App }
}

fn orders() -> [Order; 5] {
    let target = target();
    [Order::Install(target), Order::Go(target), Order::Commit(target, 7), Order::Time, Order::Cancel(target)]
}

fn directive(order: Order) -> Directive {
    Directive { device: DEVICE, nonce: NONCE, issued_at_s: 1_790_000_000, order }
}

pub(crate) fn signed(order: Order) -> Vec<u8> {
    sign_directive(&directive(order), &director()).expect("signs")
}

fn open(bytes: &[u8]) -> Result<Directive, DirectiveError> {
    directive::open(bytes, &director().public_key(), &DEVICE, &NONCE, &P256)
}

#[test]
fn every_order_is_read_as_it_was_signed() {
    for order in orders() {
        assert_eq!(open(&signed(order)), Ok(directive(order)));
    }
}

#[test]
fn another_device_another_nonce_or_another_signer_is_ignored() {
    let bytes = signed(Order::Time);
    let director_key = director().public_key();
    let open = |key, device, nonce| directive::open(&bytes, key, device, nonce, &P256);
    let (stranger, old) = (DeviceId::new([1; 16]), Nonce([1; 16]));
    assert_eq!(open(&director_key, &stranger, &NONCE), Err(DirectiveError::Device));
    assert_eq!(open(&director_key, &DEVICE, &old), Err(DirectiveError::Nonce));
    assert_eq!(open(&key(99).public_key(), &DEVICE, &NONCE), Err(DirectiveError::Key));
}

#[test]
fn a_signature_by_another_key_under_the_directors_name_is_refused() {
    let (thief, real) = (key(99).public_key().hash(), director().public_key().hash());
    let (thief, real) = (thief.expect("on the curve").0, real.expect("on the curve").0);
    let mut bytes = sign_directive(&directive(Order::Time), &key(99)).expect("signs");
    let at = bytes.windows(32).position(|window| window == thief).expect("its key id");
    bytes[at..at + 32].copy_from_slice(&real);
    assert_eq!(open(&bytes), Err(DirectiveError::Signature));
}

#[test]
fn no_flipped_bit_of_a_directive_passes() {
    for order in orders() {
        for damaged in flipped(&signed(order)) {
            assert!(open(&damaged).is_err());
        }
    }
}

#[test]
fn a_truncated_prolonged_or_oversize_directive_is_refused() {
    let mut bytes = signed(Order::Go(target()));
    for length in 0..bytes.len() {
        assert!(open(&bytes[..length]).is_err());
    }
    bytes.push(0);
    assert_eq!(open(&bytes), Err(DirectiveError::Cose(CoseError::Cbor(CborError::Trailing))));
    bytes.resize(DIRECTIVE_BYTES_MAX, 0);
    assert!(matches!(open(&bytes), Err(DirectiveError::Cose(_))));
    bytes.resize(DIRECTIVE_BYTES_MAX + 1, 0);
    assert_eq!(open(&bytes), Err(DirectiveError::TooLong));
}

/// Signs any payload as a directive, as a director gone wrong would.
fn signed_payload(payload: &[u8]) -> Vec<u8> {
    let mut protected = Writer::new();
    protected.map(2).int(1).int(-7).int(3).text(directive::CONTENT_TYPE);
    let protected = protected.into_vec();
    let mut message = Writer::new();
    message.array(4).text("Signature1").bytes(&protected).bytes(&[]).bytes(payload);
    let signature = director().sign(&message.into_vec()).expect("signs");
    let mut writer = Writer::new();
    writer.tag(18).array(4).bytes(&protected).map(1).int(4);
    writer.bytes(&director().public_key().hash().expect("on the curve").0).bytes(payload).bytes(&signature.0);
    writer.into_vec()
}

fn payload(kind: u64, pairs: usize, rest: impl FnOnce(&mut Writer) -> &mut Writer) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.map(pairs).int(1).uint(kind).int(2).text(&DEVICE.text()).int(3).bytes(&NONCE.0).int(4).uint(1);
    rest(&mut writer);
    writer.into_vec()
}

fn write_target(writer: &mut Writer) -> &mut Writer {
    writer.int(5).bytes(&[1; 32]).int(6).text(&DEPLOYMENT.text()).int(7).text("app")
}

#[test]
fn a_signed_payload_that_is_no_directive_is_refused_by_name() {
    let refused = |payload: Vec<u8>| open(&signed_payload(&payload)).expect_err("no directive");
    assert_eq!(open(&signed_payload(&payload(3, 4, |it| it))).map(|it| it.order), Ok(Order::Time));
    assert_eq!(refused(payload(5, 7, write_target)), DirectiveError::Field("kind"));
    assert_eq!(refused(payload(3, 7, write_target)), DirectiveError::Cbor(CborError::UnknownKey));
    assert_eq!(
        refused(payload(1, 8, |it| write_target(it).int(8).uint(1))),
        DirectiveError::Cbor(CborError::UnknownKey)
    );
    assert_eq!(refused(payload(2, 7, write_target)), DirectiveError::Cbor(CborError::MissingKey(8)));
    assert_eq!(refused(payload(0, 7, write_target)), DirectiveError::Cbor(CborError::MissingKey(9)));
    assert_eq!(refused(payload(1, 4, |it| it)), DirectiveError::Cbor(CborError::MissingKey(5)));
    let https_only = payload(0, 8, |it| write_target(it).int(9).array(1).text("https"));
    assert_eq!(refused(https_only), DirectiveError::Field("sources"));
    let both = payload(0, 8, |it| write_target(it).int(9).array(2).text("https").text("mqtt"));
    assert!(open(&signed_payload(&both)).is_ok());
}

#[test]
fn a_keyset_signature_is_no_directive() {
    let payload = payload(3, 4, |it| it);
    let mut bytes = signed_payload(&payload);
    bytes[0] = 0xd1;
    assert!(matches!(open(&bytes), Err(DirectiveError::Cose(_))));
}

proptest! {
    #[test]
    fn no_bytes_make_the_directive_decoder_panic(bytes: Vec<u8>) {
        prop_assert!(open(&bytes).is_err());
    }

    #[test]
    fn no_signed_payload_makes_the_directive_decoder_panic(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4), kind in 0_u64..6,
    ) {
        let mut payload = payload(kind, 7, write_target);
        for (at, value) in damage {
            let at = at.index(payload.len());
            payload[at] = value;
        }
        let _ = open(&signed_payload(&payload));
    }
}
