//! A device under a debugger: the application is measured, stopped, started, tried and exchanged as if there were none.

use gateway_core::debug::Access;
use gateway_core::device::Next;
use gateway_core::ports::{Held, StartReason};
use gateway_core::update::Outcome;
use wire::directive::Order;
use wire::msg::{
    CrashKind, DebugAnswer, DebugCall, DebugGo, DebugState, DebugStopReason, EnumValue, Message as _,
    SlotStatus, UpdateReason,
};

use crate::flow::with_v1;
use crate::sim::*;

/// A session's end, as far as these tests need one.
#[derive(Debug, Default)]
struct Session {
    calls: u32,
}

/// What an answer says: the state, how often it was started, and why it halted.
type Told = (DebugState, u32, DebugStopReason);

impl Session {
    fn call(&mut self, device: &mut Device, go: DebugGo, plants: bool) -> Option<Told> {
        self.calls += 1;
        let call = DebugCall {
            number: self.calls,
            go: EnumValue::Known(go),
            plant: plants,
            catch_faults: true,
            ..Default::default()
        };
        let mut bytes = vec![0; call.encoded_len()];
        call.encode(&mut &mut bytes[..]).unwrap();
        if plants {
            // Field 6, packed: CODE + 4.
            bytes.extend([0x32, 0x04, 0x84, 0x80, 0x80, 0x01]);
        }
        let mut out = vec![0; 4000];
        let length = device.debug_take(&bytes, Access::Write, &mut out)?;
        Some(told(&out[..length]))
    }

    fn poll(&self, device: &mut Device) -> Option<Told> {
        let mut out = vec![0; 4000];
        let length = device.debug_poll(&mut out)?;
        Some(told(&out[..length]))
    }
}

fn told(bytes: &[u8]) -> Told {
    let answer = DebugAnswer::decode(bytes).unwrap();
    let reason = answer.stop.map_or(EnumValue::Known(DebugStopReason::Unspecified), |stop| stop.reason);
    let (EnumValue::Known(state), EnumValue::Known(reason)) = (answer.state, reason) else { panic!() };
    assert_eq!(answer.problem, EnumValue::default());
    (state, answer.starts, reason)
}

fn held(bench: &Bench) -> Option<Held> {
    bench.app.borrow().debugged.held
}

fn is_planted(bench: &Bench) -> bool {
    bench.app.borrow().debugged.code != PROGRAM
}

/// A session that holds what runs.
fn holding(device: &mut Device) -> Session {
    let mut session = Session::default();
    device.debug_begin(DEBUG_KEY);
    let told = session.call(device, DebugGo::Halt, true).unwrap();
    assert_eq!((told.0, told.2), (DebugState::Halted, DebugStopReason::Halt));
    session
}

#[test]
fn a_restart_comes_at_once_and_is_held_before_its_first_instruction() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut session = holding(&mut device);
    assert!(is_planted(&bench));
    assert_eq!(session.call(&mut device, DebugGo::Restart, false), None);
    assert_eq!((device.debug_deadline(), device.poll()), (Next::Now, Next::Now));
    device.poll();
    assert_eq!(session.poll(&mut device), Some((DebugState::Halted, 2, DebugStopReason::Start)));
    assert_eq!(bench.app.borrow().reasons, [StartReason::Boot, StartReason::Restart]);
    assert!(is_planted(&bench));
    assert_eq!(device.counters().app_crashes, 0);
    device.debug_end();
    assert!(!is_planted(&bench) && held(&bench).is_none());
}

#[test]
fn what_is_held_neither_hangs_nor_has_it_crashed() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut session = holding(&mut device);
    for behaviour in [Behaviour::Hang, Behaviour::Crash] {
        bench.app.borrow_mut().running.as_mut().unwrap().1 = behaviour;
        for _ in 0..10 {
            device.poll();
            bench.advance_ms(60_000);
        }
        assert_eq!((bench.app.borrow().started.len(), device.counters().app_crashes), (1, 0));
    }
    // Let go, it has.
    assert_eq!(session.call(&mut device, DebugGo::Continue, false), None);
    device.poll();
    assert_eq!(device.counters().app_crashes, 1);
    assert_eq!(session.poll(&mut device), Some((DebugState::Absent, 1, DebugStopReason::Unspecified)));
}

#[test]
fn a_crash_under_a_debugger_is_started_again_with_its_breakpoints() {
    let (_, bench) = with_v1(SMALL);
    let mut device = bench.boot();
    let mut session = holding(&mut device);
    assert_eq!(session.call(&mut device, DebugGo::Continue, false), None);
    bench.app.borrow_mut().running.as_mut().unwrap().1 = Behaviour::Crash;
    device.poll();
    assert_eq!(session.poll(&mut device).map(|told| told.0), Some(DebugState::Absent));
    assert!(!is_planted(&bench));
    bench.advance_ms(1000);
    device.poll();
    assert_eq!(session.poll(&mut device), Some((DebugState::Running, 2, DebugStopReason::Unspecified)));
    assert!(is_planted(&bench) && held(&bench).is_none());
    assert_eq!(bench.app.borrow().reasons, [StartReason::Boot, StartReason::Crash]);
}

#[test]
fn a_fault_is_held_for_as_long_as_the_manifest_says_and_reported_then() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let v1 = maker.bundle_of(1, Behaviour::Healthy, |spec| spec.crash.debug_hold_s = 30).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v1, 1, Goal::Confirmed));
    let mut session = holding(&mut device);
    assert_eq!(session.call(&mut device, DebugGo::Continue, false), None);
    let starts = device.counters().app_starts;
    {
        let mut app = bench.app.borrow_mut();
        app.running.as_mut().unwrap().1 = Behaviour::Crash;
        app.debugged.held = Some(Held::Fault(CrashKind::Bus));
    }
    let next = device.poll();
    assert_eq!(next, Next::At(bench.now_ms.get() + 30_000));
    assert_eq!(session.poll(&mut device), Some((DebugState::Halted, starts, DebugStopReason::Fault)));
    bench.advance_ms(29_999);
    device.poll();
    assert_eq!(device.counters().app_crashes, 0);
    bench.advance_ms(1);
    device.poll();
    assert_eq!((device.counters().app_crashes, device.crashes().held().len()), (1, 1));
    assert_eq!(session.poll(&mut device).map(|told| told.0), Some(DebugState::Absent));
}

#[test]
fn an_update_takes_what_a_forgotten_session_holds() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = bench.boot();
    let mut session = holding(&mut device);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
    assert_eq!(bench.running().as_deref(), Some("v2"));
    assert_eq!(session.poll(&mut device), Some((DebugState::Running, 2, DebugStopReason::Unspecified)));
    // Planted there its breakpoints might have held the trial until it was inconclusive. Who is not gone says them again.
    assert!(!is_planted(&bench) && held(&bench).is_none());
    session.call(&mut device, DebugGo::Unspecified, true).unwrap();
    assert!(is_planted(&bench));
}

#[test]
fn nothing_is_planted_in_a_version_that_does_not_name_the_developer() {
    let (maker, bench) = with_v1(SMALL);
    let v2 = maker.bundle_of(2, Behaviour::Healthy, |spec| spec.debug_keys = vec![[1; 32]]).known_on(&bench);
    let mut device = bench.boot();
    let session = holding(&mut device);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v2, 2, Goal::Confirmed));
    assert!(!is_planted(&bench) && held(&bench).is_none());
    assert_eq!(session.poll(&mut device), None, "that session is over");
}

#[test]
fn politeness_ends_at_its_ceiling_whoever_holds_the_application() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let v1 = maker.bundle_of(1, Behaviour::Healthy, |spec| spec.update.polite_s = 60).known_on(&bench);
    let v2 = maker.bundle(2).known_on(&bench);
    let mut device = maker.enrolled(&bench);
    let mut director = Director::new(&maker, &bench);
    assert!(director.drive(&mut device, &v1, 1, Goal::Confirmed));
    holding(&mut device);
    assert!(director.drive(&mut device, &v2, 2, Goal::Confirmed));
}

/// v2 on trial, which has `trial_s` 60 and `stable_s` 5.
fn on_trial<'a>(maker: &'a Maker, bench: &'a Bench) -> (Device, Director<'a>) {
    let v2 = maker.bundle(2).known_on(bench);
    let mut device = bench.boot();
    let mut director = Director::new(maker, bench);
    assert!(director.drive(&mut device, &v2, 2, Goal::Ready));
    director.order(&mut device, Order::Go(v2.target(2)), &[]).unwrap();
    director.settle(&mut device);
    assert!(is_on_trial(&device));
    (device, director)
}

fn is_on_trial(device: &Device) -> bool {
    device.slots().iter().any(|slot| slot.status == SlotStatus::Trial)
}

#[test]
fn a_trial_does_not_end_well_while_it_is_held_and_is_not_held_for_ever() {
    let (maker, bench) = with_v1(SMALL);
    let (mut device, mut director) = on_trial(&maker, &bench);
    let started_ms = bench.now_ms.get();
    holding(&mut device);
    bench.now_ms.set(started_ms + 64_999);
    director.settle(&mut device);
    assert!(is_on_trial(&device));
    bench.advance_ms(1);
    director.settle(&mut device);
    assert_eq!(bench.running().as_deref(), Some("v1"));
    while director.store_results(&mut device) {}
    let result = director.result(2).unwrap();
    assert_eq!((result.outcome, result.reason), (Outcome::Reverted, UpdateReason::Inconclusive));
}

#[test]
fn a_trial_that_was_held_is_kept_when_it_has_run_for_long_enough() {
    let (maker, bench) = with_v1(SMALL);
    let (mut device, director) = on_trial(&maker, &bench);
    holding(&mut device);
    device.poll();
    bench.advance_ms(20_000);
    device.poll();
    device.debug_end();
    device.poll();
    bench.advance_ms(4999);
    device.poll();
    assert!(is_on_trial(&device));
    bench.advance_ms(1);
    director.settle(&mut device);
    assert!(!is_on_trial(&device));
    assert_eq!(bench.running().as_deref(), Some("v2"));
}

#[test]
fn a_device_without_an_application_says_so() {
    let maker = Maker::new();
    let bench = Bench::new(SMALL, &maker);
    let mut device = maker.enrolled(&bench);
    device.debug_begin(DEBUG_KEY);
    let mut session = Session::default();
    let told = session.call(&mut device, DebugGo::Unspecified, true).unwrap();
    assert_eq!(told, (DebugState::Absent, 0, DebugStopReason::Unspecified));
    // What comes first is held at its start until they are planted.
    let v1 = maker.bundle(1).known_on(&bench);
    assert!(Director::new(&maker, &bench).drive(&mut device, &v1, 1, Goal::Confirmed));
    assert!(is_planted(&bench));
    assert_eq!(session.poll(&mut device), Some((DebugState::Running, 1, DebugStopReason::Unspecified)));
}
