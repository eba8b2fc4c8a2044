//! What a device says of itself, and how it keeps a connection.

use gateway_core::gateway::Happening;
use gateway_core::net::link::End;
use gateway_core::net::mqtt::{CONNECT_TIMEOUT_MS, Fault, KEEP_ALIVE_S, PING_TIMEOUT_MS};
use gateway_core::net::session::{HELLO_MISSED_MS, HELLO_PERIOD_MS};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use wire::Nonce;
use wire::directive::Order;
use wire::msg::{HelloDown, HelloUp, Message as _, UpdateDown};

use crate::world::*;

#[test]
fn the_will_names_the_connection_and_carries_no_nonce() {
    let mut world = World::serving();
    world.cut();
    world.until("second hello", |world| world.take("hello").is_some());
    let (topic, will) = world.opened.last().unwrap().will.clone().unwrap();
    let will = HelloUp::decode(&will).unwrap();
    assert_eq!(topic, format!("hf/1/{}/up/hello", world.maker.device));
    assert!(will.nonce.is_empty());
    assert_eq!((will.connection, will.sequence), (2, 0));
    assert_eq!(will.boot.unwrap().random, world.gateway.device().boot_id().random);
}

#[test]
fn a_hello_says_all_the_device_is_with_a_new_nonce_each_time() {
    let mut world = World::new();
    world.enrol((2020, 2040));
    let mut first = Vec::new();
    world.until("hello", |world| {
        first = world.take("hello").unwrap_or_default();
        !first.is_empty()
    });
    let hello = HelloUp::decode(&first).unwrap();
    assert_eq!((hello.hardware_id, hello.board, hello.microvisor_version), ("hw-1", "sim", "1.0.0"));
    assert_eq!((hello.connection, hello.sequence, hello.keyset_version, hello.slots.len()), (1, 1, 1, 2));
    assert_eq!(hello.time_bound_s, 1_700_000_000);
    let mut second = Vec::new();
    let start_ms = world.bench.now_ms.get();
    world.until("periodic hello", |world| {
        second = world.take("hello").unwrap_or_default();
        !second.is_empty()
    });
    let again = HelloUp::decode(&second).unwrap();
    assert!(world.bench.now_ms.get() <= start_ms + HELLO_PERIOD_MS);
    assert_ne!(hello.nonce, again.nonce);
    assert_eq!((again.connection, again.sequence), (1, 2));
}

#[test]
fn signed_time_moves_the_bound_and_a_wrong_one_does_not() {
    let mut world = World::serving();
    let foreign =
        world.maker.directive_by(Order::Time, world.nonce, world.maker.device, &world.maker.stranger);
    world.tell_channel("hello", &HelloDown { signed_time: &foreign, ..Default::default() });
    assert_eq!(world.gateway.device().time_bound_s(), 1_700_000_000);
    let signed = world.maker.directive(Order::Time, world.nonce);
    world.tell_channel("hello", &HelloDown { signed_time: &signed, ..Default::default() });
    assert_eq!(world.gateway.device().time_bound_s(), 1_800_000_000);
}

#[test]
fn a_service_that_missed_a_hello_hears_another_one() {
    let mut world = World::serving();
    let start_ms = world.bench.now_ms.get();
    let old = world.maker.directive(Order::Time, Nonce([9; 16]));
    for _ in 0..10 {
        world.tell_channel("update", &UpdateDown { directive: &old, ..Default::default() });
    }
    world.until("another hello", |world| world.take("hello").is_some());
    assert!(world.bench.now_ms.get() <= start_ms + HELLO_MISSED_MS);
    world.pass_ms(HELLO_PERIOD_MS / 2);
    assert!(world.take("hello").is_none(), "one is enough");
}

#[test]
fn the_next_keyset_is_taken_and_said_and_a_replayed_one_is_not() {
    let mut world = World::serving();
    for version in [3, 2, 2, 1] {
        let keyset = world.maker.keyset(version);
        world.tell_channel("hello", &HelloDown { keyset: &keyset, ..Default::default() });
    }
    let mut hello = Vec::new();
    world.until("hello", |world| {
        hello = world.take("hello").unwrap_or_default();
        !hello.is_empty()
    });
    assert_eq!(HelloUp::decode(&hello).unwrap().keyset_version, 2);
}

#[test]
fn a_challenge_is_said_back_for_the_rest_of_the_boot_and_no_longer() {
    let next = |world: &mut World| {
        let mut said = Vec::new();
        world.until("hello", |world| {
            said = world.take("hello").unwrap_or_default();
            !said.is_empty()
        });
        HelloUp::decode(&said).unwrap().challenge.to_vec()
    };
    let mut world = World::serving();
    for challenge in [&[7; 16][..], &[8; 16], &[9; 15], &[9; 17], &[]] {
        world.tell_channel("hello", &HelloDown { challenge, ..Default::default() });
    }
    assert_eq!(next(&mut world), [8; 16], "the newest that is one");
    world.cut();
    assert_eq!(next(&mut world), [8; 16], "over connections");
    world.reboot();
    assert_eq!(next(&mut world), [0; 0]);
}

#[test]
fn a_message_on_anothers_topic_or_of_another_channel_is_nothing() {
    let mut world = World::serving();
    let signed = encode(&HelloDown {
        signed_time: &world.maker.directive(Order::Time, world.nonce),
        ..Default::default()
    });
    let id = world.maker.device;
    for topic in [
        format!("hf/1/dv{}/dn/hello", "0".repeat(32)),
        format!("hf/1/{id}/up/hello"),
        format!("hf/1/{id}/dn/config"),
        format!("hf/1/{id}/dn/hello/x"),
        "hf/1".to_owned(),
    ] {
        world.tell(&topic, &signed);
    }
    assert_eq!(world.gateway.device().time_bound_s(), 1_700_000_000);
    assert!(world.connected);
}

#[test]
fn a_quiet_connection_is_kept_and_a_dead_one_is_left() {
    let mut world = World::serving();
    world.pass_ms(5 * u64::from(KEEP_ALIVE_S) * 1000);
    assert_eq!(world.opened.len(), 2, "enrolment and one session");
    world.mute = true;
    world.pass_ms(u64::from(KEEP_ALIVE_S) * 1000 + PING_TIMEOUT_MS + 1000);
    assert!(world.happened.contains(&Happening::Disconnected(End::Fault(Fault::Silent))));
}

#[test]
fn a_broker_that_never_answers_is_given_up_and_tried_again() {
    let mut world = World::new();
    world.mute = true;
    world.pass_ms(CONNECT_TIMEOUT_MS + 1000);
    assert_eq!(world.opened.len(), 2);
}

#[test]
fn every_publish_of_quality_one_is_acknowledged_also_twice() {
    let mut world = World::serving();
    let topic = format!("hf/1/{}/dn/hello", world.maker.device);
    for pkid in [7, 7, 9] {
        let mut publish = Publish::new(&topic, QoS::AtLeastOnce, Vec::new(), None);
        publish.pkid = pkid;
        world.send_packet(&Packet::Publish(publish));
    }
    world.turn();
    assert_eq!(world.acked, [7, 7, 9]);
}

#[test]
fn waits_between_attempts_grow_and_stay_bounded() {
    let mut world = World::serving();
    world.unreachable = true;
    world.cut();
    let mut times = Vec::new();
    world.until("many attempts", |world| {
        let epoch = world.gateway.wish().0;
        if times.last().is_none_or(|(last, _)| *last != epoch) {
            times.push((epoch, world.bench.now_ms.get()));
        }
        times.len() > 60
    });
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1].1 - pair[0].1).filter(|gap| *gap > 0).collect();
    let longest = *gaps.iter().max().unwrap();
    assert!(gaps[0] <= 1000 && longest > 20_000 && longest <= 61_000, "{gaps:?}");
}
