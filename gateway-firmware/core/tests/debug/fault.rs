//! Faults: held for as long as the manifest allows since the developer's last word, and then the end they would have been.

use wire::msg::{CrashKind, DebugGo, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, RAM, World};

/// nop; udf
const CRASHES: [u16; 2] = [0xbf00, 0xde00];

fn caught() -> Call {
    Call { catch_faults: true, ..Call::go(DebugGo::Continue) }
}

#[test]
fn a_fault_is_held_with_what_is_known_of_it() {
    let mut world = World::halted(&CRASHES);
    let told = world.goes(&caught());
    assert_eq!(
        (told.reason(), told.pc(), told.state),
        (DebugStopReason::Fault, CODE + 2, DebugState::Halted)
    );
    let stop = told.stop.unwrap();
    assert_eq!((stop.fault, stop.cfsr), (CrashKind::Usage, 0x1_0000));
    assert_eq!(world.call(&Call::read(RAM, 4)).unwrap().data, [[0; 4]]);
}

#[test]
fn it_ends_when_the_developer_has_said_nothing_for_as_long_as_it_may_be_held() {
    let mut world = World::halted(&CRASHES);
    world.now_ms = 5000;
    world.goes(&caught());
    assert_eq!(world.agent.deadline_ms(), 65_000);
    world.now_ms = 64_999;
    world.call(&Call::read(RAM, 4)).unwrap();
    assert_eq!(world.agent.deadline_ms(), 124_999);
    world.now_ms = 124_998;
    // A watcher's word is none.
    world.watch(&Call::read(RAM, 4));
    assert!(!world.probe.ended);
    world.now_ms = 124_999;
    assert_eq!(world.poll(), None);
    assert!(world.probe.ended);
    // The device sees that, and stops it.
    world.stop();
    assert_eq!(world.poll().unwrap().state, DebugState::Absent);
}

#[test]
fn it_ends_when_it_is_let_go_however() {
    for go in [DebugGo::Continue, DebugGo::Step, DebugGo::Range] {
        let mut world = World::halted(&CRASHES);
        world.goes(&caught());
        assert_eq!(world.call(&Call::go(go)), None);
        assert!(world.probe.ended);
    }
    let mut world = World::halted(&CRASHES);
    world.goes(&caught());
    world.end();
    assert!(world.probe.ended);
}

#[test]
fn it_is_not_held_unless_both_want_it() {
    for (asked, hold_s) in [(false, 60), (true, 0)] {
        let mut world = World::halted(&CRASHES);
        world.hold_s = hold_s;
        let call = Call { catch_faults: asked, ..Call::go(DebugGo::Continue) };
        assert_eq!(world.call(&call), None);
        assert_eq!((world.poll(), world.probe.ended), (None, true));
    }
}

#[test]
fn a_step_that_faults_says_so() {
    let mut world = World::halted(&CRASHES);
    let step = Call { catch_faults: true, ..Call::go(DebugGo::Step) };
    assert_eq!(world.goes(&step).reason(), DebugStopReason::Step);
    let told = world.goes(&step);
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Fault, CODE + 2));
    assert_eq!(world.code()[..4], [0x00, 0xbf, 0x00, 0xde]);
}
