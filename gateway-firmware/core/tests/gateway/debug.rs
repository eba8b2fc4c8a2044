//! Debug sessions as relays see them: through connections and relays that fail, and through a relay that lies.

use gateway_core::debug::{
    HANDSHAKE_EVERY_MS, HANDSHAKES_MAX, RESEND_MS, SILENCE_MS, UNATTACHED_MS, VERIFIED_SILENCE_MS,
};
use gateway_core::net::demand::{GRACE_MIN_S, NetworkStatus, reason};
use gateway_core::ports::{Held, NetworkDemand};
use noise::{Initiator, Kind, StaticKey, prologue, statement};
use proptest::prelude::*;
use wire::Signature;
use wire::cose::{P256, Verify as _};
use wire::msg::{DebugEnd, DebugGo, DebugRegister, EnumValue};
use wire::sign::Signer as _;

use crate::relay::*;
use crate::sim::Behaviour;
use crate::update::Ota;
use crate::world::*;

/// Writes that the application's memory saw.
fn written(world: &World) -> Vec<u8> {
    probe(world).written.iter().map(|(_, bytes)| bytes[0]).collect()
}

#[test]
fn a_developer_attaches_calls_and_lets_go() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    assert!(probe(&world).attached);
    for byte in 1..=10 {
        let call = developer.write(byte);
        relay.send(&mut world, &call);
        assert_eq!(developer.answers(&mut world, &mut relay), [u32::from(byte) + 1]);
    }
    assert_eq!(written(&world), (1..=10).collect::<Vec<u8>>());
    // A stop comes by itself.
    let call = developer.call(|call| call.go = EnumValue::Known(DebugGo::Continue));
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), []);
    world.gateway.device_mut().ports_mut().probe.held = Some(Held::Breakpoint);
    assert_eq!(developer.answers(&mut world, &mut relay), [12]);
    relay.close(&mut world);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Closed));
    assert!(!probe(&world).attached && probe(&world).held.is_none());
    assert!(!world.gateway.stub().is_open());
    assert_eq!(world.gateway.stub().refused(), 0);
}

#[test]
fn attaching_takes_two_round_trips() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let (mut developer, message_3) = Developer::greet(&mut world, &mut relay, &key());
    let halt = developer.call(|call| call.go = EnumValue::Known(DebugGo::Halt));
    // Both go at once: what the device grants after message 2 is enough for them.
    relay.send(&mut world, &message_3);
    relay.send(&mut world, &halt);
    assert_eq!(developer.answers(&mut world, &mut relay), [1]);
}

#[test]
fn frames_that_are_lost_repeated_or_moved_are_taken_once_and_in_order() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let first = relay.sent + 1;
    let calls = [1, 2, 3].map(|byte| developer.write(byte));
    // The first is lost, so the others are not the next.
    for number in [first + 1, first + 2, first + 1] {
        relay.send_as(&mut world, number, &calls[(number - first) as usize]);
        assert_eq!(relay.hear(&mut world).last().unwrap().received_up_to, first - 1);
    }
    for number in [first, first, first + 1, first, first + 2, first + 1] {
        relay.send_as(&mut world, number, &calls[(number - first) as usize]);
    }
    assert_eq!(developer.answers(&mut world, &mut relay), [2, 3, 4]);
    assert_eq!(written(&world), [1, 2, 3]);
    relay.tell(&mut world, |down| down.answer = true);
    assert_eq!(relay.hear(&mut world).last().unwrap().received_up_to, first + 2);
    assert_eq!(world.gateway.stub().refused(), 0);
}

#[test]
fn an_answer_is_sent_again_as_the_same_bytes_until_it_was_delivered() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let call = developer.write(1);
    relay.send(&mut world, &call);
    let first = relay.hear(&mut world);
    let frame = first.iter().find(|said| said.number > 0).unwrap();
    assert!(relay.hear(&mut world).is_empty());
    world.pass_ms(RESEND_MS);
    let again = relay.hear(&mut world);
    assert_eq!(again, std::slice::from_ref(frame));
    // A connection that breaks loses what was on it.
    world.cut();
    world.until("connected", |world| world.take("hello").is_some());
    assert_eq!(relay.hear(&mut world), std::slice::from_ref(frame));
    assert_eq!(developer.open(&frame.data), 2);
    relay.received += 1;
    relay.tell(&mut world, |_| {});
    world.pass_ms(10 * RESEND_MS);
    assert!(relay.hear(&mut world).is_empty(), "the relay has it");
    relay.delivered = relay.received;
    relay.tell(&mut world, |down| down.answer = true);
    assert_eq!(relay.hear(&mut world)[0].forgotten_up_to, relay.delivered);
    assert_eq!(written(&world), [1]);
}

#[test]
fn another_relay_goes_on_and_nothing_is_done_twice() {
    let mut world = debuggable();
    let mut first = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut first);
    let call = developer.write(1);
    first.send(&mut world, &call);
    // It dies with the answer; what it had told the device is all there is.
    let lost = first.hear(&mut world);
    let mut second = Relay { id: wire::RelayId::new([2; 16]), epoch: 2, ..first.clone() };
    second.open(&mut world);
    let said = second.hear(&mut world);
    assert_eq!((said[0].epoch, said[0].received_up_to), (2, first.sent));
    // The developer does not know that the call was taken.
    second.send_as(&mut world, first.sent, &call);
    let frames = second.frames(&mut world);
    assert_eq!(frames, [lost.iter().find(|said| said.number > 0).unwrap().data.clone()]);
    assert_eq!(developer.open(&frames[0]), 2);
    let call = developer.write(2);
    second.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut second), [3]);
    assert_eq!(written(&world), [1, 2]);
    assert_eq!(world.gateway.stub().refused(), 0);
}

#[test]
fn a_relay_that_lost_the_session_is_not_heard() {
    let mut world = debuggable();
    let mut first = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut first);
    let mut second = Relay { id: wire::RelayId::new([2; 16]), epoch: 2, ..first.clone() };
    second.open(&mut world);
    second.hear(&mut world);
    // It ended the session, it says; and another says the same in the second's epoch.
    first.close(&mut world);
    Relay { epoch: 2, ..first.clone() }.close(&mut world);
    assert!(first.hear(&mut world).is_empty());
    assert!(probe(&world).attached);
    let call = developer.write(7);
    second.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut second), [2]);
}

#[test]
fn a_session_without_a_word_is_over_and_the_application_goes_on() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    Developer::attach(&mut world, &mut relay);
    assert!(probe(&world).held.is_some());
    world.pass_ms(SILENCE_MS - 10);
    assert!(probe(&world).attached);
    // Nor does it need a connection for that.
    world.unreachable = true;
    world.cut();
    world.pass_ms(10);
    assert!(!probe(&world).attached && probe(&world).held.is_none());
    assert!(!world.gateway.stub().is_open());
    world.unreachable = false;
    world.until("connected", |world| world.take("hello").is_some());
    relay.tell(&mut world, |down| down.answer = true);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Restarted));
    // Whoever opens it anew begins anew.
    let mut relay = Relay::new(2, session(1), 2);
    Developer::attach(&mut world, &mut relay);
    assert!(probe(&world).attached);
}

#[test]
fn a_relay_that_asks_now_and_then_keeps_the_session() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    for _ in 0..30 {
        world.pass_ms(15_000);
        relay.tell(&mut world, |down| down.answer = true);
        assert!(!relay.hear(&mut world).is_empty());
    }
    let call = developer.write(1);
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), [2]);
}

/// A relay that keeps asking, until this much time has passed or the session ended.
fn ask(world: &mut World, relay: &Relay, for_ms: u64) -> Option<DebugEnd> {
    (0..for_ms / 10_000).find_map(|_| {
        world.pass_ms(10_000);
        relay.tell(world, |down| down.answer = true);
        relay.ended(world)
    })
}

#[test]
fn a_relay_alone_keeps_no_session() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    assert_eq!(ask(&mut world, &relay, VERIFIED_SILENCE_MS - 20_000), None);
    // A word of the developer's keeps it, and what does not verify is none.
    let call = developer.call(|_| {});
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), [2]);
    assert_eq!(ask(&mut world, &relay, VERIFIED_SILENCE_MS / 2), None);
    relay.send(&mut world, &call);
    assert!(probe(&world).held.is_some());
    assert_eq!(ask(&mut world, &relay, VERIFIED_SILENCE_MS / 2 + 20_000), Some(DebugEnd::Done));
    assert!(!probe(&world).attached && probe(&world).held.is_none());
    assert!(logged(&world).iter().any(|text| text.ends_with(" ended: nobody was heard")));
}

#[test]
fn a_session_that_nobody_attaches_to_is_over_soon() {
    for has_handshake in [false, true] {
        let mut world = debuggable();
        let mut relay = Relay::new(1, session(1), 1);
        if has_handshake {
            let (_, message_3) = Developer::greet(&mut world, &mut relay, &key());
            relay.send(&mut world, &message_3);
        }
        relay.open(&mut world);
        assert_eq!(ask(&mut world, &relay, UNATTACHED_MS - 20_000), None);
        assert_eq!(ask(&mut world, &relay, 40_000), Some(DebugEnd::Done));
        assert!(!world.gateway.stub().is_open());
    }
}

#[test]
fn a_stranger_does_not_end_what_somebody_is_attached_to() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    relay.epoch = 2;
    let (mut stranger, message_3) = Developer::greet(&mut world, &mut relay, &StaticKey::new([0x66; 32]));
    relay.send(&mut world, &message_3);
    let call = stranger.write(9);
    relay.send(&mut world, &call);
    assert_eq!(relay.frames(&mut world), Vec::<Vec<u8>>::new());
    assert_eq!(world.gateway.stub().refused(), 2);
    assert!(logged(&world).iter().any(|text| text.ends_with(" may not attach")));
    let call = developer.write(1);
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), [2]);
    assert_eq!(written(&world), [1]);
}

#[test]
fn what_a_developer_does_is_logged() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let register = [DebugRegister { number: 3, value: 7, ..Default::default() }];
    let calls = [
        developer.write(1),
        developer.call_with(&register, DebugGo::Unspecified),
        developer.call_with(&[], DebugGo::Restart),
    ];
    for call in calls {
        relay.send(&mut world, &call);
        relay.frames(&mut world);
    }
    let logged = logged(&world);
    for deed in ["wrote 1 bytes at 0x20000000", "set register 3", "started the application anew"] {
        assert!(logged.iter().any(|text| *text == format!("debugger {deed}")), "{deed}: {logged:?}");
    }
}

#[test]
fn a_key_that_is_not_in_the_manifest_is_refused() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let stranger = StaticKey::new([0x66; 32]);
    let (mut developer, message_3) = Developer::greet(&mut world, &mut relay, &stranger);
    relay.send(&mut world, &message_3);
    let call = developer.write(1);
    relay.send(&mut world, &call);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Refused));
    assert!(!probe(&world).attached);
    assert_eq!(written(&world), []);
    // And stays refused.
    relay.tell(&mut world, |down| down.answer = true);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Refused));
}

#[test]
fn an_update_to_a_version_that_does_not_name_the_key_ends_the_session() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let plant = developer.plant();
    relay.send(&mut world, &plant);
    developer.answers(&mut world, &mut relay);
    let planted =
        |world: &World| probe(world).written.iter().filter(|(_, bytes)| bytes[..] == [0x00, 0xbe]).count();
    assert_eq!(planted(&world), 1);
    let bundle = world.maker.bundle(2).known_on(&world.bench);
    // It is not held up by the application's being held.
    Ota::new(bundle, 0).run(&mut world, |_, _| {});
    assert_eq!(world.bench.running().as_deref(), Some("v2"));
    assert!(!probe(&world).attached);
    assert_eq!(planted(&world), 1, "not for a moment");
    let call = developer.write(1);
    relay.send(&mut world, &call);
    assert!(relay.hear(&mut world).iter().any(|said| said.end == Some(DebugEnd::Refused)));
    assert!(!written(&world).contains(&1));
}

#[test]
fn an_update_to_a_version_that_names_the_key_is_debugged_on() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let bundle = world
        .maker
        .bundle_of(2, Behaviour::Healthy, |spec| spec.debug_keys = vec![key().public()])
        .known_on(&world.bench);
    Ota::new(bundle, 0).run(&mut world, |_, _| {});
    assert_eq!(world.bench.running().as_deref(), Some("v2"));
    let call = developer.call(|call| call.go = EnumValue::Known(DebugGo::Halt));
    relay.send(&mut world, &call);
    assert!(developer.answers(&mut world, &mut relay).contains(&2));
}

#[test]
fn a_board_without_a_probe_refuses_every_session() {
    let mut world = debuggable();
    world.gateway.device_mut().ports_mut().probe.none = true;
    let relay = Relay::new(1, session(1), 1);
    relay.open(&mut world);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Refused));
    assert!(!world.gateway.stub().is_open());
}

#[test]
fn nothing_is_done_before_the_first_call_was_verified() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let (mut developer, message_3) = Developer::greet(&mut world, &mut relay, &key());
    relay.send(&mut world, &message_3);
    world.pass_ms(1_000);
    assert!(!probe(&world).attached);
    let call = developer.call(|call| call.go = EnumValue::Known(DebugGo::Halt));
    let mut forged = call.clone();
    forged[20] ^= 1;
    relay.send(&mut world, &forged);
    world.pass_ms(1_000);
    assert!(!probe(&world).attached);
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), [1]);
    assert!(probe(&world).attached);
    assert_eq!(world.gateway.stub().refused(), 1);
}

#[test]
fn a_call_that_no_answer_can_be_kept_of_is_not_taken_yet() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    relay.frames(&mut world);
    // One that runs, and is answered by its stop; two that are answered at once. Nobody takes the answers.
    let go = developer.call(|call| call.go = EnumValue::Known(DebugGo::Continue));
    relay.send(&mut world, &go);
    let mut held = relay.hear(&mut world);
    for _ in 0..2 {
        let call = developer.call(|call| call.describe = true);
        relay.send(&mut world, &call);
        held.extend(relay.hear(&mut world));
    }
    // It ends and is started anew, and that is said by itself.
    world.bench.app.borrow_mut().running.as_mut().unwrap().1 = Behaviour::Crash;
    world.pass_ms(10_000);
    held.extend(relay.hear(&mut world));
    let made = held.iter().map(|said| said.number).max();
    let (taken, sent) = (held.iter().map(|said| said.received_up_to).max(), relay.sent);
    assert_eq!((made, taken), (Some(relay.received + 4), Some(sent)), "as many as are kept");

    let call = developer.write(77);
    relay.send(&mut world, &call);
    let said = relay.hear(&mut world);
    assert!(said.iter().all(|said| said.received_up_to == sent && said.number <= relay.received + 4));
    assert!(!written(&world).contains(&77), "it was done without an answer");
    // When they were taken it comes again, is done and answered.
    world.pass_ms(1_000);
    while !relay.frames(&mut world).is_empty() {}
    relay.send_as(&mut world, sent + 1, &call);
    assert!(relay.hear(&mut world).iter().any(|said| said.received_up_to == sent + 1));
}

#[test]
fn what_a_relay_makes_up_is_counted_and_changes_nothing() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let call = developer.write(1);
    relay.send(&mut world, &call);
    let answer = relay.frames(&mut world).remove(0);
    assert_eq!(developer.open(&answer), 2);
    let mut altered = developer.write(2);
    let genuine = altered.clone();
    *altered.last_mut().unwrap() ^= 0x80;
    // Replayed under the next number, reflected, altered, cut, of no kind, a message 3 of no handshake.
    let made_up: [&[u8]; 6] = [&call, &answer, &altered, &genuine[..20], &[9, 9], &[3; 65]];
    for frame in made_up {
        relay.send(&mut world, frame);
        assert_eq!(relay.frames(&mut world), Vec::<Vec<u8>>::new());
    }
    assert_eq!(world.gateway.stub().refused(), 6);
    assert_eq!(written(&world), [1]);
    relay.send(&mut world, &genuine);
    assert_eq!(developer.answers(&mut world, &mut relay), [3]);
    assert_eq!(written(&world), [1, 2]);
}

#[test]
fn a_flood_of_handshakes_is_held_back_and_the_next_ones_come_in_time() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    relay.open(&mut world);
    relay.hear(&mut world);
    let spoken = prologue(noise::Role::Writer, world.maker.device, relay.session);
    let mut made = 0;
    let mut flood = |world: &mut World, relay: &mut Relay| {
        for _ in 0..20 {
            let (_, message_1) = Initiator::new(&key(), &spoken, [made + 1; 32]).unwrap();
            made += 1;
            relay.send_as(world, relay.sent + 1, &message_1);
            let said = relay.hear(world);
            relay.sent = relay.sent.max(said.iter().map(|said| said.received_up_to).max().unwrap_or(0));
            relay.received = relay.received.max(said.iter().map(|said| said.number).max().unwrap_or(0));
            relay.delivered = relay.received;
        }
        relay.received
    };
    assert_eq!(flood(&mut world, &mut relay), HANDSHAKES_MAX);
    assert_eq!(world.gateway.stub().refused() as u64, 20 - HANDSHAKES_MAX);
    world.pass_ms(2 * HANDSHAKE_EVERY_MS);
    assert_eq!(flood(&mut world, &mut relay), HANDSHAKES_MAX + 2);
    // Somebody who only wants to attach waits a little.
    world.pass_ms(HANDSHAKE_EVERY_MS);
    Developer::attach(&mut world, &mut relay);
}

#[test]
fn one_writer_at_a_time() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    let mut other = Relay::new(2, session(2), 1);
    other.open(&mut world);
    assert_eq!(other.ended(&mut world), Some(DebugEnd::Busy));
    let call = developer.write(1);
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), [2]);
    relay.close(&mut world);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Closed));
    Developer::attach(&mut world, &mut other);
}

#[test]
fn somebody_who_attaches_anew_takes_over_with_the_first_call() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    let mut before = Developer::attach(&mut world, &mut relay);
    relay.epoch = 2;
    let (mut developer, message_3) = Developer::greet(&mut world, &mut relay, &key());
    // Until then whoever was attached still is, whatever else of it has come.
    relay.send(&mut world, &message_3);
    let call = before.write(1);
    relay.send(&mut world, &call);
    assert_eq!(before.answers(&mut world, &mut relay), [2]);
    let call = developer.call(|call| call.go = EnumValue::Known(DebugGo::Halt));
    relay.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut relay), [1]);
    let call = before.write(9);
    relay.send(&mut world, &call);
    assert_eq!(relay.frames(&mut world), Vec::<Vec<u8>>::new());
    assert_eq!(written(&world), [1]);
}

#[test]
fn what_cannot_be_ends_the_session() {
    for number in [40, u64::MAX] {
        let mut world = debuggable();
        let mut relay = Relay::new(1, session(1), 1);
        let mut developer = Developer::attach(&mut world, &mut relay);
        let call = developer.write(1);
        relay.send_as(&mut world, number, &call);
        assert_eq!(relay.ended(&mut world), Some(DebugEnd::Protocol));
        assert!(!probe(&world).attached);
        assert_eq!(written(&world), []);
    }
}

#[test]
fn sessions_of_another_boot_or_of_nobody_are_over() {
    let mut world = debuggable();
    let mut relay = Relay::new(1, session(1), 1);
    relay.tell(&mut world, |down| down.answer = true);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Restarted));
    relay.tell(&mut world, |down| (down.open, down.boot) = (true, Some(other_boot())));
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Restarted));
    Developer::attach(&mut world, &mut relay);
    world.reboot();
    world.until("hello", |world| world.take("hello").is_some());
    relay.tell(&mut world, |down| down.answer = true);
    assert_eq!(relay.ended(&mut world), Some(DebugEnd::Restarted));
}

#[test]
fn the_devices_key_outlasts_the_power_and_its_identity_key_vouches_for_it() {
    let mut world = debuggable();
    let mut keys = Vec::new();
    for start in 1..=2 {
        let mut relay = Relay::new(start, session(start), 1);
        let developer = Developer::attach(&mut world, &mut relay);
        let identity = soft_key(world.identity_key).public_key();
        let stated = statement(world.maker.device, &developer.device_key);
        assert!(P256.verify(&identity, &[&stated], &Signature(developer.voucher.signature)));
        assert_eq!(developer.voucher.identity, identity.spki_der().unwrap()[26..]);
        keys.push(developer.device_key);
        world.reboot();
        world.until("hello", |world| world.take("hello").is_some());
    }
    assert_eq!(keys[0], keys[1]);
}

#[test]
fn an_application_that_wants_to_be_offline_does_not_cut_a_session() {
    let mut world = World::with_app(|spec| {
        spec.debug_keys = vec![key().public()];
        spec.connectivity.check_in_s = 3600;
    });
    let mut relay = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut relay);
    world.bench.app.borrow_mut().network = NetworkDemand::Requests(0);
    for byte in 1..=8 {
        world.pass_ms(60_000);
        assert_eq!(world.gateway.network().status, NetworkStatus::Connected);
        assert!(world.gateway.network().reasons & reason::DEBUGGER_ATTACHED != 0);
        let call = developer.write(byte);
        relay.send(&mut world, &call);
        assert_eq!(developer.answers(&mut world, &mut relay), [u32::from(byte) + 1]);
    }
    relay.close(&mut world);
    world.pass_ms(u64::from(GRACE_MIN_S) * 1000);
    assert_eq!(world.gateway.network().reasons & reason::DEBUGGER_ATTACHED, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn bytes_that_are_no_message_are_nothing(
        messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..20),
    ) {
        let mut world = debuggable();
        let mut relay = Relay::new(1, session(1), 1);
        let mut developer = Developer::attach(&mut world, &mut relay);
        let topic = format!("hf/1/{}/dn/debug/{}", world.maker.device, relay.id);
        for message in messages {
            world.tell(&topic, &message);
            world.turn();
        }
        let call = developer.write(1);
        relay.send(&mut world, &call);
        prop_assert_eq!(developer.answers(&mut world, &mut relay), [2]);
    }

    #[test]
    fn frames_that_nobody_made_are_counted_and_change_nothing(
        frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..200), 1..20),
    ) {
        let mut world = debuggable();
        let mut relay = Relay::new(1, session(1), 1);
        let mut developer = Developer::attach(&mut world, &mut relay);
        for frame in frames {
            // A message 1 that a handshake can be answered for is nothing made up.
            let frame = if Kind::of(&frame) == Some(Kind::Message1) { vec![4; 40] } else { frame };
            relay.send(&mut world, &frame);
            prop_assert_eq!(relay.frames(&mut world), Vec::<Vec<u8>>::new());
        }
        let call = developer.write(1);
        relay.send(&mut world, &call);
        prop_assert_eq!(developer.answers(&mut world, &mut relay), [2]);
        prop_assert_eq!(written(&world), [1]);
    }
}

/// For `mutations`: what is named here is found by the test of that name.
pub(crate) const FINDS: [(gateway_core::mutation::Mutation, &str, fn()); 9] = {
    use gateway_core::mutation::Mutation;
    [
        (
            Mutation::DebugKey,
            "a_key_that_is_not_in_the_manifest_is_refused",
            a_key_that_is_not_in_the_manifest_is_refused,
        ),
        (
            Mutation::DebugUpdate,
            "an_update_to_a_version_that_does_not_name_the_key_ends_the_session",
            an_update_to_a_version_that_does_not_name_the_key_ends_the_session,
        ),
        (
            Mutation::DebugVerify,
            "nothing_is_done_before_the_first_call_was_verified",
            nothing_is_done_before_the_first_call_was_verified,
        ),
        (
            Mutation::DebugOnce,
            "frames_that_are_lost_repeated_or_moved_are_taken_once_and_in_order",
            frames_that_are_lost_repeated_or_moved_are_taken_once_and_in_order,
        ),
        (
            Mutation::DebugEpoch,
            "a_relay_that_lost_the_session_is_not_heard",
            a_relay_that_lost_the_session_is_not_heard,
        ),
        (
            Mutation::DebugSilence,
            "a_session_without_a_word_is_over_and_the_application_goes_on",
            a_session_without_a_word_is_over_and_the_application_goes_on,
        ),
        (
            Mutation::DebugFlood,
            "a_flood_of_handshakes_is_held_back_and_the_next_ones_come_in_time",
            a_flood_of_handshakes_is_held_back_and_the_next_ones_come_in_time,
        ),
        (Mutation::DebugQuiet, "a_relay_alone_keeps_no_session", a_relay_alone_keeps_no_session),
        (
            Mutation::DebugWatch,
            "a_watcher_changes_nothing_whatever_it_calls",
            crate::watch::a_watcher_changes_nothing_whatever_it_calls,
        ),
    ]
};
