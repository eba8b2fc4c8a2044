//! Starts: the session's own, and those that nothing holds up.

use gateway_core::ports::Probe as _;
use wire::msg::{DebugGo, DebugProblem, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, Machine, RAM, World};

/// movs r0, #1; nop; b back
const LOOP: [u16; 3] = [0x2001, 0xbf00, 0xe7fd];

#[test]
fn a_restart_is_answered_before_the_first_instruction() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    let restart = Call { stack_bytes: 4, reads: vec![(CODE, 4)], ..Call::go(DebugGo::Restart) };
    assert_eq!(world.call(&restart), None);
    assert_eq!(world.agent.deadline_ms(), 0);
    assert!(world.agent.take_restart());
    assert!(!world.agent.take_restart(), "once");
    world.restart(Machine::new(&LOOP));
    let told = world.poll().unwrap();
    assert_eq!((told.call, told.state, told.starts), (3, DebugState::Halted, 2));
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Start, CODE));
    assert_eq!(told.data, [[0x01, 0x20, 0x00, 0xbf]]);
    // What was planted is planted again.
    assert_eq!(world.goes(&Call::go(DebugGo::Continue)).reason(), DebugStopReason::Breakpoint);
}

#[test]
fn a_start_by_itself_goes_on_with_its_breakpoints_planted() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE])).unwrap();
    let go = Call { reads: vec![(RAM, 1)], ..Call::go(DebugGo::Continue) };
    world.probe.budget = 0;
    assert_eq!(world.call(&go), None);
    world.restart(Machine::new(&LOOP));
    let told = world.poll().unwrap();
    assert_eq!((told.state, told.starts, told.stop), (DebugState::Running, 2, None));
    world.probe.budget = 10;
    let told = world.poll().unwrap();
    assert_eq!((told.reason(), told.pc(), told.data), (DebugStopReason::Breakpoint, CODE, vec![vec![0]]));
}

#[test]
fn a_start_without_breakpoints_is_not_held() {
    let mut world = World::halted(&LOOP);
    assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
    world.restart(Machine::new(&LOOP));
    assert!(!world.probe.holds_start && world.probe.held.is_none());
    assert_eq!(world.poll().unwrap().state, DebugState::Running);
    assert_eq!(world.poll(), None);
}

#[test]
fn what_was_asked_before_it_ended_is_answered_by_both_its_end_and_its_start() {
    let mut world = World::halted(&LOOP);
    assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
    world.stop();
    assert_eq!(world.poll().unwrap().state, DebugState::Absent);
    world.restart(Machine::new(&LOOP));
    let told = world.poll().unwrap();
    assert_eq!((told.state, told.starts), (DebugState::Running, 2));
}

#[test]
fn the_end_of_the_application_ends_a_step_and_a_range() {
    for go in [DebugGo::Step, DebugGo::Range] {
        let mut world = World::halted(&[0xbf30, 0xe7fe]);
        assert_eq!(world.call(&Call { range: (CODE, CODE + 4), ..Call::go(go) }), None);
        world.stop();
        assert_eq!(world.code()[..4], [0x30, 0xbf, 0xfe, 0xe7]);
        world.restart(Machine::new(&LOOP));
        assert_eq!(world.poll().unwrap().state, DebugState::Running);
        assert_eq!(world.goes(&Call::go(DebugGo::Halt)).reason(), DebugStopReason::Halt);
    }
}

pub(crate) fn what_is_measured_is_the_program() {
    let mut world = World::halted(&LOOP);
    let program = world.code().to_vec();
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    assert_eq!(
        world.call(&Call::go(DebugGo::Step)).map(|told| told.problem),
        Some(DebugProblem::Unspecified)
    );
    world.agent.before_measure(&mut world.probe);
    assert_eq!(world.code(), program);
    // It was not exchanged after all: they are back.
    assert_eq!(world.poll(), None);
    assert_ne!(world.code(), program);
    world.agent.stopping(&mut world.probe);
    assert_eq!(world.code(), program);
    world.before_start();
    assert_eq!(world.code(), program);
}

#[test]
fn nothing_is_planted_in_what_is_measured_stopped_or_started() {
    what_is_measured_is_the_program();
}

pub(crate) fn another_version_begins_without_breakpoints() {
    let mut world = World::halted(&LOOP);
    let planted = Call { hardware: vec![CODE], ..Call::plant(&[CODE + 2]) };
    world.call(&planted).unwrap();
    world.version += 1;
    world.restart(Machine::new(&LOOP));
    assert!(world.probe.held.is_none() && world.probe.compared.is_empty());
    assert_eq!(world.code()[..6], Machine::new(&LOOP).code[..6]);
    let told = world.poll().unwrap();
    assert_eq!((told.state, told.starts, told.stop), (DebugState::Running, 2, None));
    assert_eq!(told.target.unwrap().manifest, [8; 32], "which one that is");
    assert_eq!(world.poll(), None);
    // Those that are said for it are its own.
    world.call(&planted).unwrap();
    assert_eq!(world.poll().unwrap().reason(), DebugStopReason::Breakpoint);
    world.restart(Machine::new(&LOOP));
    let told = world.poll().unwrap();
    assert_eq!((told.reason(), told.starts), (DebugStopReason::Breakpoint, 3));
    assert_eq!(told.target, None, "the same again");
}

#[test]
fn another_version_begins_without_breakpoints_and_is_told() {
    another_version_begins_without_breakpoints();
}

pub(crate) fn what_was_said_before_is_not_done() {
    let changes = [
        Call::plant(&[CODE]),
        Call::hardware(&[CODE]),
        Call::write(RAM, &[1]),
        Call { registers: vec![(0, 1)], ..Call::default() },
        Call::go(DebugGo::Continue),
        Call::go(DebugGo::Step),
        Call::go(DebugGo::Range),
        Call { plant: Some(vec![CODE]), ..Call::go(DebugGo::Halt) },
    ];
    for change in changes {
        let mut world = World::halted(&LOOP);
        assert_eq!(world.goes(&Call::go(DebugGo::Halt)).starts, 1);
        world.restart(Machine::new(&LOOP));
        world.probe.budget = 0;
        world.goes(&Call::go(DebugGo::Halt));
        let before = (world.probe.machine.clone(), world.probe.compared.clone());
        // On its way since before the start.
        let told = world.call(&Call { starts: 1, ..change.clone() }).unwrap();
        assert_eq!((told.problem, told.starts), (DebugProblem::StartedAnew, 2), "{change:?}");
        assert!((&world.probe.machine, &world.probe.compared) == (&before.0, &before.1), "{change:?}");
        world.probe.budget = 1000;
        for starts in [0, 2] {
            let told = world.call(&Call { starts, ..change.clone() });
            assert!(told.is_none_or(|told| told.problem == DebugProblem::Unspecified), "{change:?}");
            world.goes(&Call::go(DebugGo::Halt));
        }
    }
    // To look, to halt it and to start it anew it need not be known which start it is.
    let mut world = World::halted(&LOOP);
    world.restart(Machine::new(&LOOP));
    for harmless in [Call::read(CODE, 4), Call::go(DebugGo::Halt), Call { describe: true, ..Call::default() }]
    {
        assert_eq!(world.goes(&Call { starts: 1, ..harmless }).problem, DebugProblem::Unspecified);
    }
    assert_eq!(world.call(&Call { starts: 1, ..Call::go(DebugGo::Restart) }), None);
    // But of which version.
    let mut world = World::halted(&LOOP);
    world.version += 1;
    world.restart(Machine::new(&LOOP));
    for go in [DebugGo::Halt, DebugGo::Restart] {
        let told = world.call(&Call { starts: 1, ..Call::go(go) }).unwrap();
        assert_eq!((told.problem, told.state), (DebugProblem::StartedAnew, DebugState::Running));
    }
    assert!(!world.agent.take_restart() && world.probe.held.is_none() && !world.probe.halts);
    assert_eq!(world.goes(&Call { starts: 2, ..Call::go(DebugGo::Halt) }).reason(), DebugStopReason::Halt);
}

#[test]
fn nothing_that_was_asked_of_one_version_holds_the_next() {
    // A halt that waits for a place where it can be seen.
    let mut world = World::new(&LOOP);
    world.probe.budget = 0;
    world.call(&Call::default()).unwrap();
    world.probe.catch_faults(true);
    world.probe.halts = true;
    world.version += 1;
    world.restart(Machine::new(&LOOP));
    assert!(!world.probe.halts && !world.probe.catches && world.probe.held.is_none());
    // A restart that an update took the place of.
    let mut world = World::halted(&LOOP);
    assert_eq!(world.call(&Call::go(DebugGo::Restart)), None);
    world.version += 1;
    world.restart(Machine::new(&LOOP));
    assert!(!world.probe.holds_start && world.probe.held.is_none() && !world.agent.take_restart());
    assert_eq!(world.poll().unwrap().state, DebugState::Running);
    // The same version is halted at its start by what waits.
    let mut world = World::new(&LOOP);
    world.probe.budget = 0;
    world.call(&Call::default()).unwrap();
    world.probe.halts = true;
    world.restart(Machine::new(&LOOP));
    assert_eq!(world.poll().unwrap().reason(), DebugStopReason::Halt);
}

#[test]
fn what_goes_on_from_where_it_does_not_stand_plants_nothing() {
    let mut world = World::new(&LOOP);
    let go = Call { plant: Some(vec![CODE]), hardware: vec![CODE + 2], ..Call::go(DebugGo::Continue) };
    assert_eq!(world.call(&go).unwrap().problem, DebugProblem::Running);
    assert!(world.probe.compared.is_empty());
    assert_eq!(world.code()[..6], Machine::new(&LOOP).code[..6]);
}

#[test]
fn what_was_said_of_one_start_is_not_done_in_the_next() {
    what_was_said_before_is_not_done();
}

#[test]
fn a_session_that_touches_nothing_is_not_told_by_itself() {
    let mut world = World::new(&LOOP);
    world.version += 1;
    world.restart(Machine::new(&LOOP));
    assert_eq!(world.poll(), None);
    assert_eq!(
        world.call(&Call { describe: true, ..Call::default() }).unwrap().target.unwrap().manifest,
        [8; 32]
    );
}

#[test]
fn a_halt_before_the_first_instruction_stops_there() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE])).unwrap();
    world.stop();
    world.before_start();
    world.starts = 2;
    // This board needs a while to hold it.
    world.probe.start(Machine::new(&LOOP));
    let held = world.probe.held.take();
    world.probe.budget = 0;
    world.agent.started(&mut world.probe);
    world.poll();
    assert_eq!(world.call(&Call::go(DebugGo::Halt)), None);
    world.probe.held = held;
    assert_eq!(world.poll().unwrap().reason(), DebugStopReason::Start);
}

#[test]
fn an_update_is_not_restarted_away() {
    let mut world = World::halted(&LOOP);
    world.updating = true;
    let told = world.call(&Call::go(DebugGo::Restart)).unwrap();
    assert_eq!((told.problem, world.agent.take_restart()), (DebugProblem::Updating, false));
    (world.updating, world.can_start) = (false, false);
    let told = world.call(&Call::go(DebugGo::Restart)).unwrap();
    assert_eq!((told.problem, world.agent.take_restart()), (DebugProblem::Absent, false));
}

#[test]
fn a_session_that_ended_holds_no_start() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE])).unwrap();
    assert_eq!(world.call(&Call::go(DebugGo::Restart)), None);
    world.end();
    assert!(!world.agent.take_restart());
    world.restart(Machine::new(&LOOP));
    assert!(world.probe.held.is_none() && !world.probe.holds_start);
    assert_eq!((world.poll(), &world.code()[..2]), (None, &[0x01, 0x20][..]));
}
