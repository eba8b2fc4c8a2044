//! When the device is connected, as a broker sees it.

use gateway_core::gateway::Happening;
use gateway_core::net::demand::{GRACE_MIN_S, NetworkStatus, reason};
use gateway_core::net::link::End;
use gateway_core::ports::NetworkDemand;
use wire::directive::Order;
use wire::msg::{HelloDown, HelloUp, LogDown, LogUp, Message as _};

use crate::sim::*;
use crate::world::*;

const CHECK_IN_S: u32 = 3600;

/// An application whose manifest lets the device be away.
fn polite() -> World {
    let mut world = World::with_app(|spec| spec.connectivity.check_in_s = CHECK_IN_S);
    answer(&mut world);
    world
}

/// The service answers the newest hello and stores the log.
fn answer(world: &mut World) {
    let signed = world.maker.directive(Order::Time, world.nonce);
    world.tell_channel("hello", &HelloDown { signed_time: &signed, ..Default::default() });
    world.until("the log", |world| {
        while let Some(batch) = world.take("log") {
            let batch = LogUp::decode(&batch).unwrap();
            let last = batch.records.iter().last().unwrap().unwrap().sequence;
            let down = LogDown { boot: batch.boot, stored_up_to: last, ..Default::default() };
            world.tell_channel("log", &down);
        }
        world.gateway.logs().is_empty()
    });
}

fn wants(world: &World, requests: u32) {
    world.bench.app.borrow_mut().network = NetworkDemand::Requests(requests);
}

fn status(world: &World) -> NetworkStatus {
    world.gateway.network().status
}

#[test]
fn a_device_nobody_needs_leaves_with_its_will_and_returns_when_asked() {
    let mut world = polite();
    world.pass_ms(600_000);
    assert_eq!(world.gateway.network().reasons, reason::NEVER_USED_NETWORK_API);
    wants(&world, 1);
    world.pass_ms(1_000);
    let network = world.gateway.network();
    assert_eq!((network.reasons, network.requests), (reason::USING_NETWORK, 1));
    wants(&world, 0);
    world.pass_ms(u64::from(GRACE_MIN_S) * 1000 - 1);
    assert_eq!(status(&world), NetworkStatus::Connected);
    world.pass_ms(2);
    assert_eq!(status(&world), NetworkStatus::DeliberatelyOffline);
    assert!(world.happened.contains(&Happening::Disconnected(End::NotNeeded)));
    assert_eq!((world.left_with_will, world.connected), (1, false));
    assert_eq!(world.gateway.network().reasons, 0);
    wants(&world, 1);
    world.until("hello", |world| world.take("hello").is_some());
    assert_eq!(status(&world), NetworkStatus::Connected);
}

#[test]
fn a_device_that_is_away_checks_in_and_leaves_again() {
    let mut world = polite();
    wants(&world, 0);
    world.pass_ms(60_000);
    while world.take("hello").is_some() {}
    let left_ms = world.bench.now_ms.get();
    let opened = world.opened.len();
    world.pass_ms(u64::from(CHECK_IN_S) * 1000 - 60_000);
    assert_eq!(world.opened.len(), opened, "not before its time");
    let mut hello = Vec::new();
    world.until("hello", |world| {
        hello = world.take("hello").unwrap_or_default();
        !hello.is_empty()
    });
    assert!(world.bench.now_ms.get() <= left_ms + u64::from(CHECK_IN_S) * 1000);
    assert_eq!(HelloUp::decode(&hello).unwrap().connection, 2);
    world.pass_ms(20_000);
    assert_eq!(world.gateway.network().reasons, reason::MINIMUM_CHECK_IN_EXPIRED);
    answer(&mut world);
    world.pass_ms(60_000 + 5_001);
    assert_eq!(status(&world), NetworkStatus::DeliberatelyOffline);
}

#[test]
fn a_crash_while_away_is_told() {
    let mut world = polite();
    wants(&world, 0);
    world.pass_ms(60_000);
    assert!(!world.connected);
    world.bench.app.borrow_mut().running.as_mut().unwrap().1 = Behaviour::Crash;
    world.until("crash", |world| {
        wants(world, 0);
        world.take("crash").is_some()
    });
    assert!(world.gateway.network().reasons & reason::APPLICATION_ERROR != 0);
}

#[test]
fn a_manifest_that_says_nothing_keeps_the_device_whatever_the_application_does() {
    let mut world = World::with_app(|_| {});
    answer(&mut world);
    let opened = world.opened.len();
    for index in 0..200 {
        wants(&world, index % 2);
        world.pass_ms(30_000);
        assert_eq!(status(&world), NetworkStatus::Connected);
    }
    assert_eq!(world.opened.len(), opened);
}

#[test]
fn a_storm_of_requests_makes_no_connection_and_breaks_none() {
    let mut world = polite();
    let opened = world.opened.len();
    for index in 0..1000 {
        wants(&world, index % 2);
        world.pass_ms(u64::from(index % 7) * 500);
    }
    assert_eq!((world.opened.len(), world.left_with_will), (opened, 0));
}

#[test]
fn an_unreachable_broker_is_no_deliberate_absence() {
    let mut world = polite();
    world.unreachable = true;
    world.cut();
    world.pass_ms(100);
    let network = world.gateway.network();
    assert_eq!(network.status, NetworkStatus::DisconnectedWithLinkUp);
    assert!(network.reasons & reason::ENHANCE_CALM != 0);
}
