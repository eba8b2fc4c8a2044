//! Breakpoints of the board's hardware: as the others, and nothing is written for them.

use wire::limits::DEBUG_HARDWARE_BREAKPOINTS_MAX;
use wire::msg::{DebugGo, DebugProblem, DebugStopReason};

use crate::sim::{CODE, COMPARATORS, Call, Machine, RAM, World};

/// movs r0, #0; adds r0, #1; adds r1, #1; b back
const LOOP: [u16; 4] = [0x2000, 0x3001, 0x3101, 0xe7fc];

fn goes(world: &mut World, go: DebugGo) -> (DebugStopReason, u32) {
    let told = world.goes(&Call::go(go));
    (told.reason(), told.pc() - CODE)
}

#[test]
fn it_stops_there_before_the_instruction_and_memory_is_as_it_was() {
    let mut world = World::halted(&LOOP);
    let program = world.code().to_vec();
    world.call(&Call::hardware(&[CODE + 2])).unwrap();
    for turn in 1..4 {
        assert_eq!(goes(&mut world, DebugGo::Continue), (DebugStopReason::Breakpoint, 2));
        assert_eq!((world.probe.machine.r[1], world.code()), (turn - 1, &program[..]));
    }
}

#[test]
fn a_step_goes_off_one_and_a_range_stops_at_one() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::hardware(&[CODE + 2, CODE + 6])).unwrap();
    assert_eq!(goes(&mut world, DebugGo::Continue), (DebugStopReason::Breakpoint, 2));
    assert_eq!(goes(&mut world, DebugGo::Step), (DebugStopReason::Step, 4));
    let range = Call { range: (CODE + 4, CODE + 8), ..Call::go(DebugGo::Range) };
    let told = world.goes(&range);
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Breakpoint, CODE + 6));
    assert_eq!(world.probe.compared, [CODE + 2, CODE + 6], "none is left out when the step is over");
}

#[test]
fn both_kinds_may_be_at_one_place_and_each_goes_by_itself() {
    let mut world = World::halted(&LOOP);
    world.call(&Call { hardware: vec![CODE + 2], ..Call::plant(&[CODE + 2, CODE + 4]) }).unwrap();
    assert_eq!([(); 3].map(|()| goes(&mut world, DebugGo::Continue).1), [2, 4, 2]);
    world.call(&Call::hardware(&[CODE + 2])).unwrap();
    assert_eq!([(); 2].map(|()| goes(&mut world, DebugGo::Continue).1), [2, 2]);
    world.call(&Call::plant(&[CODE + 4])).unwrap();
    assert!(world.probe.compared.is_empty());
    assert_eq!([(); 2].map(|()| goes(&mut world, DebugGo::Continue).1), [4, 4]);
}

#[test]
fn code_that_is_written_anew_is_stopped_at_all_the_same() {
    let mut world = World::halted(&LOOP);
    world.call(&Call { hardware: vec![CODE + 4], ..Call::write(CODE + 4, &[0x05, 0x31]) }).unwrap();
    // Said without `plant` it is nothing that can be.
    assert!(world.probe.compared.is_empty());
    world.call(&Call::hardware(&[CODE + 4])).unwrap();
    world.call(&Call::write(CODE + 4, &[0x05, 0x31])).unwrap();
    assert_eq!([(); 2].map(|()| goes(&mut world, DebugGo::Continue).1), [4, 4]);
    assert_eq!(world.probe.machine.r[1], 5);
}

#[test]
fn as_many_as_the_board_has_and_not_one_more() {
    let all = |count: usize| -> Vec<u32> { (0..count as u32).map(|n| CODE + 2 * n).collect() };
    for has in [0, 1, COMPARATORS, DEBUG_HARDWARE_BREAKPOINTS_MAX, 20] {
        let mut world = World::halted(&[0xbf00; 64]);
        world.probe.comparators = has;
        let most = has.min(DEBUG_HARDWARE_BREAKPOINTS_MAX);
        let target = world.call(&Call { describe: true, ..Call::default() }).unwrap().target.unwrap();
        assert_eq!(target.hardware_breakpoints_max as usize, most);
        let told = world.call(&Call::hardware(&all(most))).unwrap();
        assert_eq!((told.problem, world.probe.compared.len()), (DebugProblem::Unspecified, most));
        let refused = world.call(&Call::hardware(&all(most + 1))).unwrap().refused();
        assert_eq!(refused, (DebugProblem::TooMuch, CODE + 2 * most as u32));
        assert_eq!(world.probe.compared, all(most), "nothing was done");
    }
}

#[test]
fn they_are_only_where_instructions_may_be() {
    let mut world = World::halted(&LOOP);
    for (at, problem) in [
        (CODE + 1, DebugProblem::Malformed),
        (CODE + 4096, DebugProblem::Forbidden),
        (0x4000_0000, DebugProblem::Forbidden),
        (0x3800_0000, DebugProblem::Forbidden),
    ] {
        assert_eq!(world.call(&Call::hardware(&[RAM, at])).unwrap().refused(), (problem, at));
        assert!(world.probe.compared.is_empty());
    }
}

#[test]
fn none_outlives_the_session_or_is_there_while_it_is_measured_or_started() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::hardware(&[CODE + 2])).unwrap();
    world.agent.before_measure(&mut world.probe);
    assert!(world.probe.compared.is_empty());
    world.look();
    assert_eq!(world.probe.compared, [CODE + 2]);
    world.stop();
    assert!(world.probe.compared.is_empty());
    world.restart(Machine::new(&LOOP));
    assert!(world.probe.holds_start, "they are there before its first instruction");
    world.look();
    assert_eq!(world.probe.compared, [CODE + 2]);
    world.end();
    assert!(world.probe.compared.is_empty());
}

#[test]
fn a_watcher_sets_none() {
    let mut world = World::halted(&LOOP);
    let told = world.watch(&Call::hardware(&[CODE + 2]));
    assert_eq!((told.problem, world.probe.compared.len()), (DebugProblem::ReadOnly, 0));
}
