//! What a device must not take: each bad input, its clear answer, and that nothing is lost or stuck after it.

use gateway_core::device::{BlockRefused, DirectiveRefused, Heard, KeysetRefused};
use gateway_core::ports::Flash as _;
use gateway_core::update::Outcome;
use wire::directive::{DirectiveError, Order};
use wire::keyset::KeysetError;
use wire::limits::{BLOCK_BYTES, DIRECTIVE_BYTES_MAX, ENVELOPE_BYTES_MAX, KEYSET_BYTES_MAX};
use wire::manifest::{Component, Version};
use wire::msg::UpdateReason;
use wire::sign::{ReleaseKeySpec, Signer as _};
use wire::{DeviceId, Digest, Nonce, TenantId};

use crate::flow::with_v1;
use crate::sim::*;

/// The device refuses the bundle for this reason, keeps the result, runs on, and takes a good bundle after it.
fn refuses(maker: &Maker, bench: &Bench, bad: &Bundle, reason: UpdateReason) {
    let mut device = bench.boot();
    let mut director = Director::new(maker, bench);
    assert_eq!(director.install(&mut device, bad, 50), Heard::Refused(reason));
    let result = device.results()[0];
    assert_eq!((result.outcome, result.reason), (Outcome::Refused, reason));
    assert_eq!((device.progress(), device.wanted()), (None, None));
    assert_eq!(bench.running().as_deref(), Some("v1"));
    director.store_results(&mut device);
    let good = maker.bundle(2).known_on(bench);
    assert_eq!(director.install(&mut device, &good, 51), Heard::Acted);
}

/// A bundle made otherwise than well.
fn changed(maker: &Maker, change: impl FnOnce(&mut wire::sign::ManifestSpec<'_>)) -> Bundle {
    maker.bundle_of(2, Behaviour::Healthy, change)
}

pub(crate) fn a_manifest_signed_by_a_stranger_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let layers = image(2);
    let spec = maker.spec(2, &layers);
    let bad = maker.sign("bad".into(), Behaviour::Healthy, &spec, &maker.stranger);
    refuses(&maker, &bench, &bad, UpdateReason::UnknownKey);
}

#[test]
fn a_wrongly_signed_bundle_is_refused() {
    a_manifest_signed_by_a_stranger_is_refused();
    // The right key's name over another signature.
    let (maker, bench) = with_v1(SMALL);
    let mut bad = maker.bundle(2);
    let at = signature_at(&bad.envelope);
    bad.envelope[at] ^= 1;
    refuses(&maker, &bench, &bad, UpdateReason::BadSignature);
}

#[test]
fn an_unsigned_bundle_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let good = maker.bundle(2);
    let bad = Bundle { envelope: unsigned(&good.envelope), ..good.clone() };
    refuses(&maker, &bench, &bad, UpdateReason::BadSignature);
    let (maker, bench) = with_v1(SMALL);
    refuses(&maker, &bench, &Bundle { envelope: Vec::new(), ..good }, UpdateReason::Malformed);
}

/// Where the envelope's signature starts: 64 bytes after their CBOR head.
fn signature_at(envelope: &[u8]) -> usize {
    envelope.windows(2).position(|pair| pair == [0x58, 64]).unwrap() + 2
}

/// The envelope with an authentication wrapper that holds the digest alone.
fn unsigned(envelope: &[u8]) -> Vec<u8> {
    // d8 6b a2 02 58 LL [ 82 58 DL digest 58 SL sign1 ] 03 manifest
    let wrapper = usize::from(envelope[5]);
    let digest = usize::from(envelope[8]);
    let mut out = envelope[..4].to_vec();
    out.extend([0x58, (3 + digest) as u8, 0x81, 0x58, digest as u8]);
    out.extend(&envelope[9..9 + digest]);
    out.extend(&envelope[6 + wrapper..]);
    out
}

#[test]
fn a_truncated_bundle_is_refused_at_every_length() {
    let (maker, bench) = with_v1(SMALL);
    let good = maker.bundle(2);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    for length in 0..good.envelope.len() {
        let bad = Bundle { envelope: good.envelope[..length].to_vec(), ..good.clone() };
        let heard = director.install(&mut device, &bad, 50);
        assert!(matches!(heard, Heard::Refused(_)), "{length}: {heard:?}");
        director.store_results(&mut device);
    }
    assert_eq!(director.install(&mut device, &good, 50), Heard::Acted);
}

#[test]
fn a_bundle_with_any_bit_flipped_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let good = maker.bundle(2);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    for index in 0..good.envelope.len() {
        let mut bad = good.clone();
        bad.envelope[index] ^= 1 << (index % 8);
        let heard = director.install(&mut device, &bad, 50);
        assert!(matches!(heard, Heard::Refused(_)), "{index}: {heard:?}");
        director.store_results(&mut device);
    }
}

#[test]
fn an_oversize_bundle_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let mut bad = maker.bundle(2);
    bad.envelope.resize(ENVELOPE_BYTES_MAX + 1, 0);
    refuses(&maker, &bench, &bad, UpdateReason::TooLarge);
}

#[test]
fn an_area_larger_than_the_slot_is_refused_and_one_as_large_is_taken() {
    let (maker, bench) = with_v1(SMALL);
    let slot = gateway_core::update::slots::Layout::new(SMALL).unwrap().area_bytes;
    let bad = changed(&maker, |spec| spec.area_bytes = Some(slot + BLOCK_BYTES as u32));
    refuses(&maker, &bench, &bad, UpdateReason::TooLarge);
    let good = changed(&maker, |spec| spec.area_bytes = Some(slot)).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &good, 60, Goal::Confirmed));
}

pub(crate) fn a_manifest_for_another_board_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    refuses(
        &maker,
        &bench,
        &changed(&maker, |spec| spec.board = "mps2-an505".into()),
        UpdateReason::WrongBoard,
    );
}

#[test]
fn a_bundle_for_another_board_is_refused() {
    a_manifest_for_another_board_is_refused();
}

pub(crate) fn a_manifest_for_another_component_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let bad = changed(&maker, |spec| spec.component = Component::Microvisor);
    refuses(&maker, &bench, &bad, UpdateReason::WrongComponent);
    // The directive says so too.
    let mut device = bench.boot();
    let mut target = bad.target(50);
    target.component = Component::Microvisor;
    let heard = Director::new(&maker, &bench).order(&mut device, Order::Install(target), &bad.envelope);
    assert!(
        heard == Ok(Heard::Refused(UpdateReason::WrongComponent)) || heard == Ok(Heard::Later),
        "{heard:?}"
    );
}

#[test]
fn a_bundle_for_another_component_is_refused() {
    a_manifest_for_another_component_is_refused();
}

#[test]
fn a_bundle_signed_by_a_key_of_another_board_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut spec = maker.keyset_spec(2);
    spec.release_keys = vec![ReleaseKeySpec {
        key: maker.release.public_key(),
        component: None,
        board: Some("other".into()),
    }];
    device.offer_keyset(&spec.sign(&[&maker.root]).unwrap()).unwrap();
    let heard = Director::new(&maker, &bench).install(&mut device, &maker.bundle(2), 2);
    assert_eq!(heard, Heard::Refused(UpdateReason::UnknownKey));
}

pub(crate) fn a_manifest_below_the_floor_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.order(&mut device, Order::Commit(maker.bundle(1).target(1), 1), &[]).unwrap();
    let bad = changed(&maker, |spec| spec.security_counter = 0);
    refuses(&maker, &bench, &bad, UpdateReason::BelowFloor);
}

#[test]
fn a_bundle_below_the_floor_is_refused() {
    a_manifest_below_the_floor_is_refused();
}

#[test]
fn a_bundle_for_a_newer_microvisor_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let bad = changed(&maker, |spec| spec.microvisor_min = Version { major: 1, minor: 0, patch: 1 });
    refuses(&maker, &bench, &bad, UpdateReason::MicrovisorTooOld);
}

pub(crate) fn a_manifest_the_directive_does_not_name_is_refused() {
    let (maker, bench) = with_v1(SMALL);
    let (named, other) = (maker.bundle(2), maker.bundle(3));
    let bad = Bundle { envelope: other.envelope, ..named };
    refuses(&maker, &bench, &bad, UpdateReason::DigestMismatch);
}

#[test]
fn a_bundle_other_than_the_directed_one_is_refused() {
    a_manifest_the_directive_does_not_name_is_refused();
}

pub(crate) fn a_manifest_taken_back_is_not_tried_again_for_its_deployment() {
    let (maker, bench) = with_v1(SMALL);
    let bad = maker.bundle_of(2, Behaviour::Crash, |_| {}).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &bad, 2, Goal::Ended));
    assert_eq!(director.install(&mut device, &bad, 2), Heard::Refused(UpdateReason::RejectedBefore));
}

/// The device counts and ignores the directive.
fn ignores(device: &mut Device, directive: &[u8], envelope: &[u8], error: Option<DirectiveError>) {
    let refused = device.counters().directives_refused;
    let heard = device.hear(directive, envelope);
    match error {
        Some(error) => assert_eq!(heard, Err(DirectiveRefused::Directive(error))),
        None => assert!(matches!(heard, Err(DirectiveRefused::Directive(_))), "{heard:?}"),
    }
    assert_eq!(device.counters().directives_refused, refused + 1);
    assert!(device.progress().is_none() && device.results().is_empty());
}

#[test]
fn a_directive_signed_by_another_key_is_ignored_even_the_release_key_s() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2);
    let mut device = bench.boot();
    let nonce = Director::new(&maker, &bench).hello(&mut device);
    for key in [&maker.stranger, &maker.release, &maker.root] {
        let bad = maker.directive_by(Order::Install(v2.target(2)), nonce, maker.device, key);
        ignores(&mut device, &bad, &v2.envelope, Some(DirectiveError::Key));
    }
}

pub(crate) fn a_directive_for_an_older_hello_is_ignored() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let old = director.hello(&mut device);
    let replayed = maker.directive(Order::Install(v2.target(2)), old);
    director.hello(&mut device);
    ignores(&mut device, &replayed, &v2.envelope, Some(DirectiveError::Nonce));
    let mut device = bench.boot();
    assert_eq!(
        device.hear(&replayed, &v2.envelope),
        Err(DirectiveRefused::NotReady),
        "no hello in this boot"
    );
}

#[test]
fn a_replayed_directive_is_ignored() {
    a_directive_for_an_older_hello_is_ignored();
}

#[test]
fn another_device_s_directive_is_ignored() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2);
    let mut device = bench.boot();
    let nonce = Director::new(&maker, &bench).hello(&mut device);
    let order = Order::Install(v2.target(2));
    let bad = maker.directive_by(order, nonce, DeviceId::new([9; 16]), &maker.director);
    ignores(&mut device, &bad, &v2.envelope, Some(DirectiveError::Device));
}

#[test]
fn truncated_oversize_and_flipped_directives_are_ignored() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2);
    let mut device = bench.boot();
    let nonce = Director::new(&maker, &bench).hello(&mut device);
    let good = maker.directive(Order::Install(v2.target(2)), nonce);
    for length in 0..good.len() {
        ignores(&mut device, &good[..length], &v2.envelope, None);
    }
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1 << (index % 8);
        ignores(&mut device, &bad, &v2.envelope, None);
    }
    let mut bad = good.clone();
    bad.resize(DIRECTIVE_BYTES_MAX + 1, 0);
    ignores(&mut device, &bad, &v2.envelope, Some(DirectiveError::TooLong));
    assert_eq!(device.hear(&good, &v2.envelope), Ok(Heard::Acted));
}

#[test]
fn a_device_that_is_not_enrolled_hears_nothing() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let mut device = bench.boot();
    device.hello_sent(Nonce([1; 16]));
    let directive = maker.directive(Order::Time, Nonce([1; 16]));
    assert_eq!(device.hear(&directive, &[]), Err(DirectiveRefused::NotReady));
}

#[test]
fn the_time_a_director_signs_moves_the_bound_forward_only_and_stops_no_update() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    let bound_s = device.time_bound_s();
    for (issued_at_s, expected_s) in
        [(0, bound_s), (bound_s + 20 * 31_557_600, bound_s + 20 * 31_557_600), (1, bound_s + 20 * 31_557_600)]
    {
        let nonce = director.hello(&mut device);
        let time =
            wire::directive::Directive { device: maker.device, nonce, issued_at_s, order: Order::Time };
        let signed = wire::sign::sign_directive(&time, &maker.director).unwrap();
        assert_eq!(device.hear(&signed, &[]), Ok(Heard::Acted));
        assert_eq!(device.time_bound_s(), expected_s);
    }
    let mut device = bench.boot();
    assert!(device.time_bound_s() > bound_s, "kept across power loss");
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
}

/// A device fetching v2, its first block wanted.
fn fetching() -> (Maker, Bench, Device, Bundle) {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    director.install(&mut device, &v2, 2);
    director.settle(&mut device);
    (maker, bench, device, v2)
}

pub(crate) fn a_block_with_other_bytes_is_not_written() {
    let (maker, bench, mut device, v2) = fetching();
    let wanted = device.wanted().unwrap();
    let good = &v2.layers[&wanted.layer][..BLOCK_BYTES];
    let written = bench.flash.operations();
    for index in [0, 1000, BLOCK_BYTES - 1] {
        let mut bad = good.to_vec();
        bad[index] ^= 0x80;
        assert_eq!(device.take_block(&wanted.layer, 0, &bad), Err(BlockRefused::Digest));
    }
    assert_eq!(bench.flash.operations(), written, "nothing was written or erased");
    assert_eq!(device.counters().blocks_refused, 3);
    assert_eq!(device.wanted(), Some(wanted), "and it is wanted still");
    assert!(Director::new(&maker, &bench).drive(&mut device, &v2, 2, Goal::Confirmed));
}

#[test]
fn a_layer_block_whose_bytes_do_not_match_is_refused() {
    a_block_with_other_bytes_is_not_written();
}

#[test]
fn a_disconnect_in_the_middle_of_a_block_costs_that_block_only() {
    let (maker, bench, mut device, v2) = fetching();
    let wanted = device.wanted().unwrap();
    let layer = &v2.layers[&wanted.layer];
    device.take_block(&wanted.layer, 0, &layer[..BLOCK_BYTES]).unwrap();
    let half = &layer[BLOCK_BYTES..BLOCK_BYTES + 1000];
    assert_eq!(device.take_block(&wanted.layer, BLOCK_BYTES as u32, half), Err(BlockRefused::Length));
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
    assert_eq!(director.blocks_sent, 1);
}

#[test]
fn blocks_nobody_asked_for_are_refused() {
    let (_, bench, mut device, v2) = fetching();
    let wanted = device.wanted().unwrap();
    let layer = &v2.layers[&wanted.layer];
    let written = bench.flash.operations();
    let mut take = |digest: &Digest, offset: u32, bytes: &[u8]| device.take_block(digest, offset, bytes);
    assert_eq!(take(&Digest([9; 32]), 0, &layer[..BLOCK_BYTES]), Err(BlockRefused::NotWanted));
    assert_eq!(take(&wanted.layer, 1, &layer[..BLOCK_BYTES]), Err(BlockRefused::NotWanted));
    assert_eq!(take(&wanted.layer, u32::MAX, &layer[..BLOCK_BYTES]), Err(BlockRefused::NotWanted));
    assert_eq!(take(&wanted.layer, BLOCK_BYTES as u32, &layer[BLOCK_BYTES..]), Err(BlockRefused::NotWanted));
    assert_eq!(take(&wanted.layer, 0, &[]), Err(BlockRefused::Length));
    assert_eq!(take(&wanted.layer, 0, layer), Err(BlockRefused::Length));
    assert_eq!(bench.flash.operations(), written);
    assert_eq!(take(&wanted.layer, 0, &layer[..BLOCK_BYTES]), Ok(()));
    assert_eq!(take(&wanted.layer, 0, &layer[..BLOCK_BYTES]), Err(BlockRefused::NotWanted), "a repetition");
}

pub(crate) fn an_area_that_does_not_read_back_is_refused() {
    let (maker, bench, mut device, v2) = fetching();
    let mut director = Director::new(&maker, &bench);
    while director.send_block(&mut device, &v2) {}
    // The first block rots before the area is read back.
    let layout = gateway_core::update::slots::Layout::new(bench.flash.geometry()).unwrap();
    bench.flash.corrupt(layout.slots[1].area_at);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ended));
    let result = director.result(2).unwrap();
    assert_eq!((result.outcome, result.reason), (Outcome::Refused, UpdateReason::DigestMismatch));
    assert_eq!(bench.running().as_deref(), Some("v1"));
}

#[test]
fn the_whole_area_is_read_back_before_it_is_called_verified() {
    an_area_that_does_not_read_back_is_refused();
}

#[test]
fn a_keyset_is_taken_only_as_the_next_one_and_signed_by_the_one_before() {
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let refused = |device: &mut Device, bytes: &[u8], error: KeysetError| {
        assert_eq!(device.offer_keyset(bytes), Err(KeysetRefused::Keyset(error)));
    };
    refused(&mut device, &maker.keyset(1), KeysetError::Version);
    refused(&mut device, &maker.keyset(3), KeysetError::Version);
    let stranger = maker.keyset_spec(2).sign(&[&maker.stranger]).unwrap();
    refused(&mut device, &stranger, KeysetError::Threshold);
    let mut foreign = maker.keyset_spec(2);
    foreign.tenant = TenantId::new([9; 16]);
    refused(&mut device, &foreign.sign(&[&maker.root]).unwrap(), KeysetError::Tenant);
    let good = maker.keyset(2);
    for length in 0..good.len() {
        assert!(device.offer_keyset(&good[..length]).is_err());
    }
    for index in 0..good.len() {
        let mut bad = good.clone();
        bad[index] ^= 1 << (index % 8);
        assert!(device.offer_keyset(&bad).is_err(), "bit {index}");
    }
    let mut long = good.clone();
    long.resize(KEYSET_BYTES_MAX + 1, 0);
    refused(&mut device, &long, KeysetError::TooLong);
    assert_eq!(device.keyset_version(), 1);
    assert_eq!(device.offer_keyset(&good), Ok(2));
    refused(&mut device, &good, KeysetError::Version);
    assert_eq!(bench.boot().keyset_version(), 2, "replayed, it is refused; and it is kept");
}

#[test]
fn the_first_keyset_must_be_signed_by_the_provisioned_root() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let mut device = bench.boot();
    let mut spec = maker.keyset_spec(1);
    spec.root_keys = vec![maker.stranger.public_key()];
    let stranger = spec.sign(&[&maker.stranger]).unwrap();
    let refused = device.enrolled(maker.device, maker.tenant, &[1], &stranger);
    assert_eq!(refused, Err(KeysetRefused::Keyset(KeysetError::Threshold)));
    assert_eq!((device.device_id(), device.keyset_version()), (None, 0));
    let foreign = device.enrolled(maker.device, TenantId::new([9; 16]), &[1], &maker.keyset(1));
    assert_eq!(foreign, Err(KeysetRefused::Keyset(KeysetError::Tenant)));
    assert_eq!(device.enrolled(maker.device, maker.tenant, &[1], &maker.keyset(1)), Ok(()));
}

#[test]
fn an_identity_at_its_longest_is_kept_and_one_byte_more_is_refused() {
    use gateway_core::device::IDENTITY_RECORD_BYTES;
    use gateway_core::store::{ENROLMENT_BYTES_MAX, IDENTITY_BYTES_MAX, StoreError};
    let (maker, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let longest = [7; IDENTITY_BYTES_MAX];
    device.enrolled(maker.device, maker.tenant, &longest, &[]).unwrap();
    let longer = device.enrolled(maker.device, maker.tenant, &[7; IDENTITY_BYTES_MAX + 1], &[]);
    assert_eq!(longer, Err(KeysetRefused::Store(StoreError::TooLong)));
    assert_eq!(device.save_enrolment(&[1; ENROLMENT_BYTES_MAX]), Ok(()));
    assert_eq!(device.save_enrolment(&[1; ENROLMENT_BYTES_MAX + 1]), Err(StoreError::TooLong));
    let mut buffer = [0; IDENTITY_RECORD_BYTES];
    assert_eq!(bench.boot().identity_record(&mut buffer), Ok(Some(&longest[..])));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_from_outside_make_a_device_panic(noise in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
        let (_, _, mut device, v2) = fetching();
        let layer = *v2.layers.keys().next().unwrap();
        let offset = u32::from(noise.first().copied().unwrap_or_default()) << 12;
        proptest::prop_assert!(device.hear(&noise, &noise).is_err());
        proptest::prop_assert!(device.offer_keyset(&noise).is_err());
        proptest::prop_assert!(device.take_block(&layer, offset, &noise).is_err());
        device.poll();
    }
}
