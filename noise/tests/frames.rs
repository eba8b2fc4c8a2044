//! Both ends over frames that a relay carries, and may do anything to.

use noise::{
    Error, FRAME_MORE_BYTES, Initiator, KEY_BYTES, Kind, MESSAGE_1_BYTES, MESSAGE_2_BYTES, MESSAGE_3_BYTES,
    PLAIN_BYTES_MAX, Responder, Role, StaticKey, Transport, Voucher, prologue, statement,
};
use proptest::prelude::*;
use wire::limits::DEBUG_FRAME_BYTES_MAX;
use wire::{DebugSessionId, DeviceId};

const VOUCHER: Voucher = Voucher { identity: [4; 65], signature: [7; 64] };

fn device() -> DeviceId {
    DeviceId::new([0xab; 16])
}

fn key_of(byte: u8) -> StaticKey {
    StaticKey::new([byte; KEY_BYTES])
}

fn spoken() -> [u8; 84] {
    prologue(Role::Writer, device(), DebugSessionId::new([0xcd; 16]))
}

/// The developer's end and the device's, attached.
fn attached() -> (Transport, Transport) {
    let (initiator, message_1) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
    let (responder, message_2) =
        Responder::answer(&key_of(2), &spoken(), [4; 32], &message_1, &VOUCHER).expect("answered");
    let (developer, message_3) = initiator.hear(&message_2).expect("heard").finish().expect("finished");
    let (device, _) = responder.finish(&message_3).expect("attached");
    (developer, device)
}

fn seal(end: &mut Transport, plain: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; DEBUG_FRAME_BYTES_MAX];
    let length = end.seal(plain, &mut frame).expect("sealed");
    frame.truncate(length);
    frame
}

fn open(end: &mut Transport, frame: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = vec![0; PLAIN_BYTES_MAX];
    let length = end.open(frame, &mut plain)?;
    plain.truncate(length);
    Ok(plain)
}

#[test]
fn both_ends_learn_who_the_other_is_and_then_speak() {
    let (initiator, message_1) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
    let (responder, message_2) =
        Responder::answer(&key_of(2), &spoken(), [4; 32], &message_1, &VOUCHER).expect("answered");
    let greeted = initiator.hear(&message_2).expect("heard");
    assert_eq!(greeted.voucher(), &VOUCHER);
    assert_eq!(greeted.key(), &key_of(2).public());
    let (mut developer, message_3) = greeted.finish().expect("finished");
    let (mut device, developers) = responder.finish(&message_3).expect("attached");
    assert_eq!(developers, key_of(1).public());
    for word in [&b"a call"[..], b"", &[0x55; PLAIN_BYTES_MAX]] {
        let frame = seal(&mut developer, word);
        assert_eq!(open(&mut device, &frame).as_deref(), Ok(word));
        let frame = seal(&mut device, word);
        assert_eq!(open(&mut developer, &frame).as_deref(), Ok(word));
    }
}

#[test]
fn frames_are_as_docs_protocol_says() {
    let (initiator, message_1) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
    let (_, message_2) =
        Responder::answer(&key_of(2), &spoken(), [4; 32], &message_1, &VOUCHER).expect("answered");
    let (mut developer, message_3) = initiator.hear(&message_2).expect("heard").finish().expect("finished");
    assert_eq!([MESSAGE_1_BYTES, MESSAGE_2_BYTES, MESSAGE_3_BYTES], [33, 226, 65]);
    assert_eq!([message_1[0], message_2[0], message_3[0]], [1, 2, 3]);
    let frames = [seal(&mut developer, b"call"), seal(&mut developer, b"call")];
    assert_eq!(frames[0][..9], [4, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(frames[1][..9], [4, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(frames[0].len(), 4 + FRAME_MORE_BYTES);
    assert_eq!(Kind::of(&frames[0]), Some(Kind::Transport));
    assert_eq!(Kind::of(&[]), None);
    assert_eq!(Kind::of(&[5]), None);
    assert_eq!(
        spoken().as_slice(),
        b"holdfast debug 1dvababababababababababababababababdscdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd"
    );
    let stated = statement(device(), &[9; 32]);
    assert_eq!(&stated[..53], b"holdfast debug key\0dvabababababababababababababababab");
    assert_eq!(stated[53..], [9; 32]);
}

#[test]
fn the_longest_frame_is_a_debug_frame_and_one_byte_more_is_refused() {
    let (mut developer, mut device) = attached();
    let mut frame = vec![0; DEBUG_FRAME_BYTES_MAX + 64];
    assert_eq!(developer.seal(&[0; PLAIN_BYTES_MAX + 1], &mut frame), Err(Error::TooLong));
    assert_eq!(developer.seal(b"no room", &mut [0; 8]), Err(Error::TooLong));
    assert_eq!(developer.seal(&[0; PLAIN_BYTES_MAX], &mut frame), Ok(DEBUG_FRAME_BYTES_MAX));
    assert_eq!(device.open(&frame, &mut vec![0; 8192]), Err(Error::TooLong));
    assert_eq!(device.open(&frame[..DEBUG_FRAME_BYTES_MAX], &mut [0; 16]), Err(Error::TooLong));
    assert!(open(&mut device, &frame[..DEBUG_FRAME_BYTES_MAX]).is_ok(), "what was refused changed nothing");
}

#[test]
fn another_device_session_or_role_is_another_handshake() {
    for other in [
        prologue(Role::Writer, DeviceId::new([0xac; 16]), DebugSessionId::new([0xcd; 16])),
        prologue(Role::Writer, device(), DebugSessionId::new([0xce; 16])),
        prologue(Role::Watcher, device(), DebugSessionId::new([0xcd; 16])),
    ] {
        let (initiator, message_1) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
        let (_, message_2) =
            Responder::answer(&key_of(2), &other, [4; 32], &message_1, &VOUCHER).expect("answered");
        assert_eq!(initiator.hear(&message_2).err(), Some(Error::Forged));
    }
}

#[test]
fn a_handshake_message_that_is_altered_cut_or_of_another_handshake_is_refused() {
    let (_, message_1) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
    let answer = |message: &[u8]| Responder::answer(&key_of(2), &spoken(), [4; 32], message, &VOUCHER);
    let hear = |message_2: &[u8]| {
        let (initiator, _) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
        initiator.hear(message_2)
    };
    let (_, message_2) = answer(&message_1).expect("answered");
    let (_, message_3) = hear(&message_2).expect("heard").finish().expect("finished");
    let finish = |message_3: &[u8]| answer(&message_1).expect("answered").0.finish(message_3);
    for length in 0..MESSAGE_2_BYTES {
        assert_eq!(hear(&message_2[..length]).err(), Some(Error::Malformed));
    }
    for length in 0..MESSAGE_3_BYTES {
        assert_eq!(finish(&message_3[..length]).err(), Some(Error::Malformed));
    }
    for length in 0..MESSAGE_1_BYTES {
        assert_eq!(answer(&message_1[..length]).err(), Some(Error::Malformed));
    }
    for at in 0..MESSAGE_2_BYTES {
        let mut altered = message_2;
        altered[at] ^= 4;
        assert!(hear(&altered).is_err(), "byte {at} of message 2");
    }
    for at in 0..MESSAGE_3_BYTES {
        let mut altered = message_3;
        altered[at] ^= 4;
        assert!(finish(&altered).is_err(), "byte {at} of message 3");
    }
    // An ephemeral key is anybody's: that message 1 was altered shows at message 2.
    let mut altered = message_1;
    altered[7] ^= 4;
    let (_, other_2) = answer(&altered).expect("answered");
    assert_eq!(hear(&other_2).err(), Some(Error::Forged));
    assert_eq!(answer(&[&[1_u8][..], &[0; 32]].concat()).err(), Some(Error::Forged), "a point of low order");
}

#[test]
fn a_frame_is_taken_once_in_its_order_and_by_the_other_end() {
    let (mut developer, mut device) = attached();
    let frames: Vec<Vec<u8>> = [&b"one"[..], b"two", b"three"].map(|word| seal(&mut developer, word)).into();
    assert_eq!(open(&mut device, &frames[1]), Err(Error::NotNext), "moved");
    assert_eq!(open(&mut device, &frames[0]).as_deref(), Ok(&b"one"[..]));
    assert_eq!(open(&mut device, &frames[0]), Err(Error::NotNext), "repeated");
    assert_eq!(open(&mut device, &frames[2]), Err(Error::NotNext), "left out");
    let mut renumbered = frames[2].clone();
    renumbered[1] = 1;
    assert_eq!(open(&mut device, &renumbered), Err(Error::Forged), "renumbered");
    assert_eq!(open(&mut developer, &frames[0]), Err(Error::Forged), "reflected");
    let (mut stranger, _) = attached_with(9);
    assert_eq!(open(&mut device, &seal(&mut stranger, b"one")), Err(Error::NotNext));
    let _ = seal(&mut stranger, b"");
    assert_eq!(open(&mut device, &frames[1]).as_deref(), Ok(&b"two"[..]), "what was refused changed nothing");
}

#[test]
fn a_frame_of_another_session_of_the_same_two_is_forged() {
    let (mut developer, mut device) = attached();
    let (mut before, _) = attached_with(9);
    let frame = seal(&mut before, b"continue");
    assert_eq!(open(&mut device, &frame), Err(Error::Forged));
    let frame = seal(&mut developer, b"continue");
    assert_eq!(open(&mut device, &frame).as_deref(), Ok(&b"continue"[..]));
}

/// The same two ends with other ephemeral keys.
fn attached_with(ephemeral: u8) -> (Transport, Transport) {
    let (initiator, message_1) = Initiator::new(&key_of(1), &spoken(), [ephemeral; 32]).expect("begun");
    let (responder, message_2) =
        Responder::answer(&key_of(2), &spoken(), [ephemeral + 1; 32], &message_1, &VOUCHER)
            .expect("answered");
    let (developer, message_3) = initiator.hear(&message_2).expect("heard").finish().expect("finished");
    (developer, responder.finish(&message_3).expect("attached").0)
}

#[test]
fn no_secret_is_printed() {
    let key = StaticKey::new([0x5a; 32]);
    let (initiator, message_1) = Initiator::new(&key, &spoken(), [0x5b; 32]).expect("begun");
    let (responder, message_2) =
        Responder::answer(&key, &spoken(), [0x5c; 32], &message_1, &VOUCHER).expect("answered");
    let printed = [format!("{key:?}"), format!("{initiator:?}"), format!("{responder:?}")];
    assert_eq!(printed, ["StaticKey(…)", "Initiator(…)", "Responder(…)"]);
    let (transport, _) = initiator.hear(&message_2).expect("heard").finish().expect("finished");
    assert_eq!(format!("{transport:?}"), "Transport { next_out: 0, next_in: 0, .. }");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_that_is_not_the_one_made_is_never_taken(
        plain in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        with in 1_u8..,
        cut in any::<prop::sample::Index>(),
        more in proptest::collection::vec(any::<u8>(), 1..20),
    ) {
        let (mut developer, mut device) = attached();
        let frame = seal(&mut developer, &plain);
        let mut altered = frame.clone();
        altered[at.index(frame.len())] ^= with;
        prop_assert!(open(&mut device, &altered).is_err());
        prop_assert!(open(&mut device, &frame[..cut.index(frame.len())]).is_err());
        prop_assert!(open(&mut device, &[&frame[..], &more].concat()).is_err());
        prop_assert_eq!(open(&mut device, &frame), Ok(plain));
    }

    #[test]
    fn bytes_that_nobody_made_are_refused_everywhere(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut developer, mut device) = attached();
        prop_assert!(open(&mut device, &bytes).is_err());
        prop_assert!(open(&mut developer, &bytes).is_err());
        let (initiator, _) = Initiator::new(&key_of(1), &spoken(), [3; 32]).expect("begun");
        prop_assert!(initiator.hear(&bytes).is_err());
    }
}
