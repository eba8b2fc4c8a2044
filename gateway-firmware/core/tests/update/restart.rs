//! An application that asks to be started anew: one request, one start, and never faster than its policy allows.

use gateway_core::ports::StartReason;
use gateway_core::update::State;

use crate::flow::with_v1;
use crate::sim::*;

/// Until it was started once more.
fn until_started(bench: &Bench, device: &mut Device) -> u64 {
    let (starts, since_ms) = (bench.app.borrow().started.len(), bench.now_ms.get());
    while bench.app.borrow().started.len() == starts {
        device.poll();
        bench.advance_ms(10);
        assert!(bench.now_ms.get() < since_ms + 600_000, "never started");
    }
    bench.now_ms.get() - since_ms
}

#[test]
fn one_request_makes_one_restart_and_no_crash() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    bench.advance_ms(120_000);
    device.poll();
    bench.app.borrow_mut().apply = true;
    assert!(until_started(&bench, &mut device) <= 20);
    for _ in 0..100 {
        device.poll();
        bench.advance_ms(1000);
    }
    assert_eq!(bench.app.borrow().reasons, [StartReason::Boot, StartReason::Restart]);
    assert_eq!(device.counters().app_crashes, 0);
    assert!(device.crashes().held().is_empty());
}

#[test]
fn an_application_that_asks_for_ever_is_started_ever_more_seldom() {
    a_flood_is_slowed_down();
}

pub(crate) fn a_flood_is_slowed_down() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut waits = Vec::new();
    for _ in 0..6 {
        bench.app.borrow_mut().apply = true;
        waits.push(until_started(&bench, &mut device));
    }
    assert!(waits[0] >= 100 && waits.is_sorted() && waits[5] >= 1000, "{waits:?}");
}

#[test]
fn a_request_while_an_update_waits_for_it_is_leave_for_that_and_no_restart() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle_of(2, Behaviour::Healthy, |spec| spec.update.polite_s = 3600).known_on(&bench);
    let v3 = maker.bundle(3).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
    bench.app.borrow_mut().reasons.clear();
    director.install(&mut device, &v3, 3);
    while device.progress().unwrap().state != State::Polite {
        director.settle(&mut device);
        director.send_block(&mut device, &v3);
    }
    bench.app.borrow_mut().apply = true;
    director.settle(&mut device);
    assert_eq!(device.progress().unwrap().state, State::Ready);
    bench.advance_ms(3_600_000);
    director.settle(&mut device);
    assert_eq!(bench.app.borrow().reasons, []);
    // The update it allowed is called off: it is started anew all the same.
    director.order(&mut device, wire::directive::Order::Cancel(v3.target(3)), &[]).unwrap();
    until_started(&bench, &mut device);
    assert_eq!(bench.app.borrow().reasons, [StartReason::Restart]);
}

#[test]
fn an_exchange_is_told_as_one() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle_of(2, Behaviour::Crash, |_| {}).known_on(&bench);
    let mut device = bench.boot();
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ended));
    use StartReason::{Boot, Crash, Update};
    assert_eq!(bench.app.borrow().started, ["v1", "v2", "v2", "v2", "v1"]);
    assert_eq!(bench.app.borrow().reasons, [Boot, Update, Crash, Crash, Update]);
}
