//! Calls and answers: what is done in which order, what waits for a stop, and who may do what.

use gateway_core::debug::{Access, Deed};
use wire::msg::{DebugGo, DebugProblem, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, RAM, SECRET, Target, World};

const NOP: u16 = 0xbf00;
/// adds r0, #1; b back
const LOOP: [u16; 2] = [0x3001, 0xe7fd];

#[test]
fn the_first_call_attaches_halts_describes_and_reads_at_once() {
    let mut world = World::new(&LOOP);
    let call = Call { describe: true, stack_bytes: 16, reads: vec![(CODE, 4)], ..Call::go(DebugGo::Halt) };
    let told = world.goes(&call);
    assert_eq!((told.call, told.state, told.starts), (1, DebugState::Halted, 1));
    assert_eq!((told.reason(), told.data), (DebugStopReason::Halt, vec![vec![0x01, 0x30, 0xfd, 0xe7]]));
    let stop = told.stop.unwrap();
    assert_eq!((stop.number, stop.registers.len(), stop.stack.len()), (1, 20, 16));
    assert_eq!((stop.registers[13], stop.uptime_us), (RAM + 2048, 1_000_000));
    let target = Target {
        version: "1.2.3".into(),
        manifest: vec![7; 32],
        regions: 3,
        read_only: false,
        read_bytes_max: 3584,
        hold_s: 60,
        hardware_breakpoints_max: 4,
    };
    assert_eq!(told.target, Some(target));
}

#[test]
fn a_session_that_never_halts_it_leaves_it_running() {
    let mut world = World::new(&LOOP);
    world.probe.budget = 10;
    for round in 1..5 {
        let told = world.call(&Call::read(CODE, 4)).unwrap();
        assert_eq!((told.call, told.state, told.stop), (round, DebugState::Running, None));
    }
    let before = world.probe.machine.r[0];
    world.poll();
    assert!(world.probe.machine.r[0] > before);
}

#[test]
fn a_call_is_done_in_its_order() {
    let mut world = World::halted(&[NOP, NOP, NOP, 0xe7fe]);
    let call = Call {
        // adds r0, #1 in place of a nop; r0; a breakpoint behind it; run; read what is there then.
        writes: vec![(CODE + 2, vec![0x01, 0x30]), (CODE + 2, vec![0x02])],
        registers: vec![(0, 40), (15, CODE + 2)],
        plant: Some(vec![CODE + 4]),
        stack_bytes: 8,
        reads: vec![(CODE + 2, 4), (RAM, 1)],
        ..Call::go(DebugGo::Continue)
    };
    let told = world.goes(&call);
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Breakpoint, CODE + 4));
    assert_eq!(told.stop.unwrap().registers[0], 42);
    assert_eq!(told.data, [vec![0x02, 0x30, 0x00, 0xbf], vec![0]]);
    let done: Vec<_> = std::iter::from_fn(|| world.agent.take_done()).collect();
    let wrote = |bytes| Deed::Wrote { at: CODE + 2, bytes };
    assert_eq!(done, [wrote(2), wrote(1), Deed::SetRegister(0), Deed::SetRegister(15)]);
}

#[test]
fn the_first_problem_ends_a_call() {
    let mut world = World::halted(&LOOP);
    let call = Call {
        writes: vec![(RAM, vec![1]), (SECRET, vec![2]), (RAM + 1, vec![3])],
        registers: vec![(0, 9)],
        plant: Some(vec![CODE]),
        reads: vec![(RAM, 2)],
        ..Call::go(DebugGo::Continue)
    };
    let told = world.call(&call).unwrap();
    assert_eq!((told.refused(), told.state), ((DebugProblem::Forbidden, SECRET), DebugState::Halted));
    assert!(told.data.is_empty() && told.stop.is_some());
    assert_eq!((&world.probe.machine.ram[..2], world.probe.machine.r[0]), (&[1, 0][..], 0));
    assert_eq!(world.code()[..2], [0x01, 0x30]);
}

#[test]
fn while_it_runs_nothing_but_breakpoints_changes() {
    let mut world = World::new(&LOOP);
    let refused = |world: &mut World, call: &Call| world.call(call).unwrap().refused();
    assert_eq!(refused(&mut world, &Call::write(RAM, &[1])), (DebugProblem::Running, RAM));
    let register = Call { registers: vec![(3, 1)], ..Call::default() };
    assert_eq!(refused(&mut world, &register), (DebugProblem::Running, 3));
    for go in [DebugGo::Continue, DebugGo::Step, DebugGo::Range] {
        assert_eq!(refused(&mut world, &Call::go(go)).0, DebugProblem::Running);
    }
    let told = world.call(&Call::plant(&[CODE])).unwrap();
    assert_eq!((told.problem, told.state), (DebugProblem::Unspecified, DebugState::Running));
    assert_eq!(world.poll().unwrap().reason(), DebugStopReason::Breakpoint);
}

#[test]
fn a_call_while_it_runs_is_answered_at_once_and_the_stop_names_it() {
    let mut world = World::halted(&LOOP);
    let go = Call { reads: vec![(RAM, 2)], stack_bytes: 4, ..Call::go(DebugGo::Continue) };
    assert_eq!(world.call(&go), None);
    world.probe.machine.ram[1] = 7;
    let told = world.call(&Call::read(RAM + 1, 1)).unwrap();
    assert_eq!((told.call, told.state, told.data), (3, DebugState::Running, vec![vec![7]]));
    world.probe.machine.ram[0] = 8;
    // The halt is answered by the stop, with what the go wanted and then what itself wants.
    let told = world.goes(&Call { reads: vec![(RAM, 1)], ..Call::go(DebugGo::Halt) });
    assert_eq!((told.call, told.reason()), (4, DebugStopReason::Halt));
    assert_eq!((told.data, told.stop.unwrap().stack.len()), (vec![vec![8, 7], vec![8]], 4));
    assert_eq!(world.poll(), None);
}

#[test]
fn a_halt_of_what_is_halted_is_answered_at_once() {
    let mut world = World::halted(&LOOP);
    let told = world.call(&Call { stack_bytes: 4, ..Call::go(DebugGo::Halt) }).unwrap();
    let stop = told.stop.unwrap();
    assert_eq!((stop.number, stop.reason, stop.stack.len()), (1, DebugStopReason::Halt, 4));
    assert_eq!(world.poll(), None);
}

#[test]
fn only_what_merely_reads_is_answered_without_the_stop() {
    let mut world = World::halted(&LOOP);
    let told = world.call(&Call::read(CODE, 2)).unwrap();
    assert_eq!((told.state, told.stop), (DebugState::Halted, None));
    let register = Call { registers: vec![(5, 77)], ..Call::default() };
    assert_eq!(world.call(&register).unwrap().stop.unwrap().registers[5], 77);
    assert!(world.call(&Call { describe: true, ..Call::default() }).unwrap().stop.is_some());
}

#[test]
fn what_may_not_be_read_is_empty_and_the_rest_comes() {
    let mut world = World::halted(&LOOP);
    let reads =
        vec![(CODE, 2), (SECRET, 4), (CODE + 4094, 4), (RAM + 4092, 4), (u32::MAX, 2), (0x4000_0000, 4)];
    let told = world.call(&Call { reads, ..Call::default() }).unwrap();
    let lengths: Vec<_> = told.data.iter().map(Vec::len).collect();
    assert_eq!((lengths, told.problem), (vec![2, 0, 0, 4, 0, 4], DebugProblem::Unspecified));
    assert_eq!(world.probe.outside, 0);
}

#[test]
fn the_stack_ends_where_its_memory_ends() {
    // It begins where gdb's line does, if that is the application's.
    for (sp, at, length) in [
        (RAM + 4088, RAM + 4032, 64),
        (RAM + 4096, 0, 0),
        (SECRET, 0, 0),
        (0, 0, 0),
        (RAM, RAM, 80),
        (RAM + 100, RAM + 64, 80),
    ] {
        let mut world = World::halted(&LOOP);
        world.call(&Call { registers: vec![(13, sp)], ..Call::default() }).unwrap();
        let told = world.call(&Call { stack_bytes: 80, ..Call::go(DebugGo::Halt) }).unwrap();
        let stop = told.stop.unwrap();
        assert_eq!((stop.stack_at, stop.stack.len()), (at, length), "{sp:#x}");
        assert_eq!(world.probe.outside, 0);
    }
}

pub(crate) fn a_watcher_changes_nothing() {
    let changes = [
        Call::write(RAM, &[1]),
        Call { registers: vec![(0, 1)], ..Call::default() },
        Call::plant(&[]),
        Call::go(DebugGo::Halt),
        Call::go(DebugGo::Continue),
        Call::go(DebugGo::Step),
        Call::go(DebugGo::Restart),
    ];
    let mut world = World::new(&LOOP);
    world.probe.budget = 0;
    let before = world.probe.machine.clone();
    for (call, number) in changes.iter().zip(1..) {
        let told = world.watch(call);
        assert_eq!((told.problem, told.call), (DebugProblem::ReadOnly, number));
    }
    let told = world.watch(&Call { describe: true, ..Call::read(CODE, 2) });
    assert!(told.target.is_some_and(|target| target.read_only));
    assert_eq!(told.data, [[0x01, 0x30]]);
    assert_eq!((&world.probe.machine, world.probe.attached, world.probe.halts), (&before, false, false));
    assert!(!world.agent.take_restart());
    assert_eq!(world.poll(), None);
}

#[test]
fn a_session_that_may_only_read_changes_nothing() {
    a_watcher_changes_nothing();
}

#[test]
fn a_watcher_is_in_nobodys_way() {
    let mut world = World::halted(&LOOP);
    let told = world.watch(&Call::read(CODE, 2));
    assert_eq!((told.state, told.call), (DebugState::Halted, 1));
    let told = world.goes(&Call::go(DebugGo::Step));
    assert_eq!((told.call, told.reason()), (2, DebugStopReason::Step));
}

#[test]
fn without_an_application_every_call_says_so() {
    let mut world = World::halted(&LOOP);
    world.stop();
    let told = world.poll().unwrap();
    assert_eq!((told.state, told.stop, told.call), (DebugState::Absent, None, 1));
    let mut refused = |call: &Call| {
        let told = world.call(call).unwrap();
        assert_eq!(told.state, DebugState::Absent);
        told.problem
    };
    assert_eq!(refused(&Call::write(RAM, &[1])), DebugProblem::Absent);
    assert_eq!(refused(&Call { registers: vec![(0, 1)], ..Call::default() }), DebugProblem::Absent);
    for go in [DebugGo::Halt, DebugGo::Continue, DebugGo::Step, DebugGo::Range] {
        assert_eq!(refused(&Call::go(go)), DebugProblem::Absent);
    }
    assert_eq!(refused(&Call::read(RAM, 1)), DebugProblem::Absent);
    // They are planted when it is started again.
    assert_eq!(refused(&Call::plant(&[CODE])), DebugProblem::Unspecified);
    assert_eq!(refused(&Call { describe: true, ..Call::default() }), DebugProblem::Unspecified);
    world.updating = true;
    assert_eq!(world.call(&Call::go(DebugGo::Halt)).unwrap().problem, DebugProblem::Updating);
}

#[test]
fn calls_are_counted_from_one() {
    let mut world = World::halted(&LOOP);
    for number in [1, 5, 0, u32::MAX] {
        let told = world.take(&Call::read(RAM, 1).bytes(number), Access::Write).unwrap();
        world.number += 1;
        assert_eq!((told.problem, told.call), (DebugProblem::Malformed, world.number), "{number}");
    }
    assert_eq!(world.call(&Call::read(RAM, 1)).unwrap().problem, DebugProblem::Unspecified);
    world.end();
    world.number = 0;
    assert_eq!(world.call(&Call::read(RAM, 1)).unwrap().problem, DebugProblem::Unspecified);
}

#[test]
fn the_end_of_a_session_leaves_nothing_behind() {
    for go in [DebugGo::Unspecified, DebugGo::Continue, DebugGo::Step, DebugGo::Range] {
        let mut world = World::halted(&[0x3001, 0xbf30, 0xe7fc]);
        let program = world.code().to_vec();
        world.call(&Call { range: (CODE, CODE + 8), ..Call::plant(&[CODE, CODE + 4]) }).unwrap();
        let _ = world.call(&Call { range: (CODE, CODE + 8), ..Call::go(go) });
        world.end();
        assert_eq!(world.code(), program);
        assert!(
            !world.probe.attached
                && world.probe.held.is_none()
                && !world.probe.masked
                && !world.probe.catches
        );
        assert_eq!(world.poll(), None);
    }
}

#[test]
fn one_held_at_an_instruction_of_its_own_goes_on_behind_it_when_the_session_ends() {
    let mut world = World::halted(&[0xbe00, 0xe7fe]);
    assert_eq!(world.goes(&Call::go(DebugGo::Continue)).reason(), DebugStopReason::Instruction);
    world.end();
    world.poll();
    use gateway_core::ports::Probe as _;
    assert_eq!(world.probe.held(), None);
    assert!(!world.probe.ended);
}
