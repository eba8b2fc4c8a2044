//! Sessions that only watch, beside the one that writes: each for itself, and none in another's way.

use gateway_core::debug::{HANDSHAKE_EVERY_MS, HANDSHAKES_MAX, SILENCE_MS, WATCH_FRAMES_MAX, WATCHERS_MAX};
use noise::{Error, Initiator, Kind, Role, prologue};
use wire::msg::{DebugEnd, DebugGo, DebugProblem, DebugState, EnumValue};

use crate::relay::*;
use crate::update::Ota;

fn halted(developer: &mut Developer) -> Vec<u8> {
    developer.call(|call| call.go = EnumValue::Known(DebugGo::Halt))
}

#[test]
fn one_writes_four_watch_and_nobody_else_gets_in() {
    let mut world = debuggable();
    let mut writer = Relay::new(1, session(1), 1);
    let mut developer = Developer::attach(&mut world, &mut writer);
    let mut watchers: Vec<_> = (0..WATCHERS_MAX as u8).map(|n| Relay::watching(10 + n)).collect();
    let mut people: Vec<_> = watchers.iter_mut().map(|relay| Developer::watch(&mut world, relay)).collect();
    for other in [Relay::watching(20), Relay::new(21, session(21), 1)] {
        other.open(&mut world);
        assert_eq!(other.ended(&mut world), Some(DebugEnd::Busy));
    }
    // All of them are served.
    let call = developer.write(1);
    writer.send(&mut world, &call);
    assert_eq!(developer.answers(&mut world, &mut writer), [2]);
    for (relay, person) in watchers.iter_mut().zip(&mut people) {
        person.all_told(&mut world, relay);
        let call = person.call(|call| call.describe = true);
        relay.send(&mut world, &call);
        assert_eq!(person.answers(&mut world, relay), [2]);
    }
    // A place that is free is taken again, as soon as there may be another handshake.
    world.pass_ms(HANDSHAKE_EVERY_MS);
    watchers[2].close(&mut world);
    assert_eq!(watchers[2].ended(&mut world), Some(DebugEnd::Closed));
    Developer::watch(&mut world, &mut Relay::watching(22));
}

#[test]
fn what_a_session_is_for_is_fixed_and_in_its_handshake() {
    let mut world = debuggable();
    for watch in [true, false] {
        let mut relay = Relay { watch, ..Relay::new(1, session(1 + u8::from(watch)), 1) };
        relay.open(&mut world);
        relay.hear(&mut world);
        let other = if watch { Role::Writer } else { Role::Watcher };
        let spoken = prologue(other, world.maker.device, relay.session);
        let (initiator, message_1) = Initiator::new(&key(), &spoken, [7; 32]).unwrap();
        relay.send(&mut world, &message_1);
        let message_2 = relay.frames(&mut world).remove(0);
        assert_eq!(Kind::of(&message_2), Some(Kind::Message2));
        assert!(matches!(initiator.hear(&message_2), Err(Error::Forged)));
        relay.tell(&mut world, |down| (down.watch, down.answer) = (!watch, true));
        assert_eq!(relay.ended(&mut world), Some(DebugEnd::Protocol));
    }
    assert!(!world.gateway.stub().is_open());
}

#[test]
pub(crate) fn a_watcher_changes_nothing_whatever_it_calls() {
    let mut world = debuggable();
    let mut relay = Relay::watching(1);
    let mut watcher = Developer::watch(&mut world, &mut relay);
    for number in 2..10 {
        let call = match number % 4 {
            0 => watcher.write(1),
            1 => halted(&mut watcher),
            2 => watcher.call(|call| call.plant = true),
            _ => watcher.call(|call| call.go = EnumValue::Known(DebugGo::Restart)),
        };
        relay.send(&mut world, &call);
        let told = watcher.all_told(&mut world, &mut relay);
        assert_eq!(told, [(number, DebugState::Running, DebugProblem::ReadOnly)]);
    }
    let probe = probe(&world);
    assert!(!probe.attached && probe.held.is_none() && probe.written.is_empty());
    assert_eq!(world.gateway.device().counters().app_starts, 1);
}

#[test]
fn a_watcher_is_told_what_the_writer_does() {
    let mut world = debuggable();
    let mut eyes = Relay::watching(2);
    let mut watcher = Developer::watch(&mut world, &mut eyes);
    let mut hand = Relay::new(1, session(1), 1);
    let mut writer = Developer::attach(&mut world, &mut hand);
    let told = watcher.all_told(&mut world, &mut eyes);
    assert_eq!(told, [(1, DebugState::Halted, DebugProblem::Unspecified)]);
    let call = writer.call(|call| call.go = EnumValue::Known(DebugGo::Continue));
    hand.send(&mut world, &call);
    world.pass_ms(5);
    assert_eq!(
        watcher.all_told(&mut world, &mut eyes),
        [(1, DebugState::Running, DebugProblem::Unspecified)]
    );
    let call = halted(&mut writer);
    hand.send(&mut world, &call);
    assert_eq!(writer.answers(&mut world, &mut hand), [3]);
    // Each session ends by itself.
    hand.close(&mut world);
    assert_eq!(hand.ended(&mut world), Some(DebugEnd::Closed));
    assert!(!probe(&world).attached);
    assert_eq!(
        watcher.all_told(&mut world, &mut eyes).last(),
        Some(&(1, DebugState::Running, DebugProblem::Unspecified))
    );
    let mut hand = Relay::new(3, session(3), 1);
    let mut writer = Developer::attach(&mut world, &mut hand);
    eyes.close(&mut world);
    assert_eq!(eyes.ended(&mut world), Some(DebugEnd::Closed));
    assert!(probe(&world).attached && probe(&world).held.is_some());
    let call = writer.write(7);
    hand.send(&mut world, &call);
    assert_eq!(writer.answers(&mut world, &mut hand), [2]);
}

#[test]
fn a_watcher_that_takes_nothing_holds_nobody_up_and_is_told_the_newest_then() {
    let mut world = debuggable();
    let mut eyes = Relay::watching(2);
    let mut watcher = Developer::watch(&mut world, &mut eyes);
    let mut hand = Relay::new(1, session(1), 1);
    let mut writer = Developer::attach(&mut world, &mut hand);
    for number in 0..20 {
        let go = if number % 2 == 0 { DebugGo::Continue } else { DebugGo::Halt };
        let call = writer.call(|call| call.go = EnumValue::Known(go));
        hand.send(&mut world, &call);
        let answers = writer.answers(&mut world, &mut hand);
        assert_eq!(answers.is_empty(), number % 2 == 0, "{number}");
    }
    let told = watcher.all_told(&mut world, &mut eyes);
    assert!(told.len() <= WATCH_FRAMES_MAX, "{told:?}");
    world.pass_ms(5);
    let told = watcher.all_told(&mut world, &mut eyes);
    assert_eq!(told.last(), Some(&(1, DebugState::Halted, DebugProblem::Unspecified)));
}

#[test]
fn handshakes_of_watchers_take_none_from_the_writer() {
    let mut world = debuggable();
    let mut eyes = Relay::watching(2);
    eyes.open(&mut world);
    eyes.hear(&mut world);
    let spoken = prologue(Role::Watcher, world.maker.device, eyes.session);
    let mut answered = 0;
    for made in 1..20 {
        let (_, message_1) = Initiator::new(&key(), &spoken, [made; 32]).unwrap();
        eyes.send_as(&mut world, eyes.sent + 1, &message_1);
        let frames = eyes.frames(&mut world).len() as u64;
        (answered, eyes.sent) = (answered + frames, eyes.sent + frames);
    }
    assert_eq!(answered, HANDSHAKES_MAX);
    Developer::attach(&mut world, &mut Relay::new(1, session(1), 1));
}

#[test]
fn a_watcher_without_a_word_is_over_and_nobody_else() {
    let mut world = debuggable();
    let mut eyes = Relay::watching(2);
    Developer::watch(&mut world, &mut eyes);
    let mut hand = Relay::new(1, session(1), 1);
    let mut writer = Developer::attach(&mut world, &mut hand);
    for _ in 0..=SILENCE_MS / 30_000 {
        world.pass_ms(30_000);
        let call = writer.call(|call| call.describe = true);
        hand.send(&mut world, &call);
        assert_eq!(writer.answers(&mut world, &mut hand).len(), 1);
    }
    eyes.tell(&mut world, |down| down.answer = true);
    assert_eq!(eyes.ended(&mut world), Some(DebugEnd::Restarted));
    assert!(probe(&world).attached);
}

#[test]
fn a_watcher_of_a_version_that_does_not_name_its_key_is_over() {
    let mut world = debuggable();
    let mut eyes = Relay::watching(2);
    let mut watcher = Developer::watch(&mut world, &mut eyes);
    let bundle = world.maker.bundle(2).known_on(&world.bench);
    Ota::new(bundle, 0).run(&mut world, |_, _| {});
    assert_eq!(world.bench.running().as_deref(), Some("v2"));
    let call = watcher.call(|call| call.describe = true);
    eyes.send(&mut world, &call);
    assert!(eyes.hear(&mut world).iter().any(|said| said.end == Some(DebugEnd::Refused)));
}

#[test]
fn who_watches_is_logged() {
    let mut world = debuggable();
    let mut eyes = Relay::watching(2);
    Developer::watch(&mut world, &mut eyes);
    eyes.close(&mut world);
    eyes.hear(&mut world);
    let logged = logged(&world);
    let of = |end: &str| {
        let line = format!("debug session {}{end}", eyes.session);
        assert!(logged.iter().any(|text| text.starts_with(&line)), "{line}: {logged:?}");
    };
    of(": key ");
    of(" ended: closed");
    assert!(logged.iter().any(|text| text.ends_with(" watches")), "{logged:?}");
}
