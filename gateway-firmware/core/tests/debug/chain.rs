//! A continue that goes on stepping from where it was expected to come out: gdb's `next` over a function.

use wire::msg::{DebugGo, DebugProblem, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, Machine, RAM, SIZE, World};

const NOP: u16 = 0xbf00;
/// bl f; behind: adds r1, #1; adds r2, #1; b back; … f: adds r0, #1; bx lr
const CALLS: [u16; 10] = [0xf000, 0xf806, 0x3101, 0x3201, 0xe7fa, NOP, NOP, NOP, 0x3001, 0x4770];
const BEHIND: u32 = CODE + 4;
const NEXT_LINE: u32 = CODE + 6;
const F: u32 = CODE + 16;
const STACK: u32 = RAM + SIZE / 2;

/// In the function, with a breakpoint where it returns to.
fn in_function() -> World {
    let mut world = World::halted(&CALLS);
    world.call(&Call::plant(&[BEHIND])).unwrap();
    let told = world.goes(&Call { range: (CODE, NEXT_LINE), ..Call::go(DebugGo::Range) });
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Step, F));
    world
}

/// Out of it, and to the end of the line.
fn out() -> Call {
    Call { then: (BEHIND, STACK), range: (CODE, NEXT_LINE), ..Call::go(DebugGo::Continue) }
}

#[test]
fn it_goes_on_from_where_it_was_expected_and_both_stops_are_told_alike() {
    let mut world = in_function();
    let call = Call { stack_bytes: 8, reads: vec![(CODE, 2), (RAM, 1)], describe: true, ..out() };
    let first = world.goes(&call);
    assert_eq!((first.call, first.state), (world.number, DebugState::Halted));
    assert_eq!((first.reason(), first.pc()), (DebugStopReason::Breakpoint, BEHIND));
    assert!(first.target.is_some());
    assert_eq!(world.agent.deadline_ms(), 0, "it goes on at once");
    let second = (0..10).find_map(|_| world.poll()).unwrap();
    assert_eq!((second.call, second.reason(), second.pc()), (first.call, DebugStopReason::Step, NEXT_LINE));
    assert!(second.target.is_none(), "once is enough");
    assert_eq!((&first.data, first.data.len()), (&second.data, 2));
    let [first, second] = [first, second].map(|told| told.stop.unwrap());
    assert_eq!((first.number + 1, first.registers[1] + 1), (second.number, second.registers[1]));
    assert_eq!([first.stack.len(), second.stack.len()], [8, 8]);
    // It is over: nothing comes of it any more, and what was asked for does not either.
    assert_eq!((world.poll(), world.agent.due_ms()), (None, u64::MAX));
    let told = world.goes(&Call::go(DebugGo::Continue));
    assert_eq!((told.reason(), told.pc(), told.data.len()), (DebugStopReason::Breakpoint, BEHIND, 0));
    assert_eq!((world.poll(), told.stop.unwrap().stack.len()), (None, 0));
}

#[test]
fn it_goes_on_through_all_pieces_of_the_range() {
    let mut world = in_function();
    let call = Call {
        range: (CODE, BEHIND),
        ranges: vec![(BEHIND, BEHIND + 2), (NEXT_LINE, NEXT_LINE + 2)],
        ..out()
    };
    assert_eq!(world.goes(&call).pc(), BEHIND);
    let second = (0..10).find_map(|_| world.poll()).unwrap();
    assert_eq!((second.reason(), second.pc()), (DebugStopReason::Step, NEXT_LINE + 2));
}

#[test]
fn a_deeper_return_to_the_same_place_is_an_ordinary_stop() {
    // bl f; …; f: push {lr}; subs r0, #1; beq end; bl f; behind: nop; end: pop {pc}
    let f = [0xb500, 0x3801, 0xd002, 0xf7ff, 0xfffb, NOP, 0xbd00];
    let program = [&[0xf000, 0xf806, NOP, NOP, NOP, NOP, NOP, NOP][..], &f].concat();
    let behind = CODE + 26;
    let mut machine = Machine::new(&program);
    machine.r[0] = 3;
    let mut world = World::halted_with(machine);
    world.call(&Call::plant(&[F])).unwrap();
    for _ in 0..2 {
        assert_eq!(world.goes(&Call::go(DebugGo::Continue)).pc(), F);
    }
    // In the second of three, which the third returns to, and then itself.
    let call = Call {
        plant: Some(vec![behind]),
        then: (behind, STACK - 4),
        range: (behind, behind + 2),
        ..Call::go(DebugGo::Continue)
    };
    let told = world.goes(&call);
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Breakpoint, behind));
    assert_eq!((told.stop.unwrap().registers[13], world.poll()), (STACK - 8, None));
    let again = Call { plant: None, ..call };
    let told = world.goes(&again);
    assert_eq!((told.pc(), told.stop.unwrap().registers[13]), (behind, STACK - 4));
    let told = (0..10).find_map(|_| world.poll()).unwrap();
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Step, behind + 2));
}

#[test]
fn it_stays_there_until_that_stop_is_in_a_frame() {
    let mut world = in_function();
    world.probe.budget = 0;
    assert_eq!(world.call(&out()), None);
    world.probe.budget = 10;
    for _ in 0..20 {
        world.look();
        assert!(world.probe.machine.r[1] == 0);
    }
    // Nobody was told that it halted.
    assert_eq!(world.call(&Call::write(RAM, &[1])).unwrap().refused(), (DebugProblem::Running, RAM));
    assert_eq!(world.call(&Call::go(DebugGo::Step)).unwrap().problem, DebugProblem::Running);
    let told = world.poll().unwrap();
    assert_eq!((told.call, told.reason(), told.pc()), (world.number, DebugStopReason::Breakpoint, BEHIND));
    let told = world.call(&Call::write(RAM, &[1])).unwrap();
    assert_eq!(told.refused(), (DebugProblem::Running, RAM), "it goes on");
    assert_eq!(world.poll().unwrap().pc(), NEXT_LINE);
}

#[test]
fn it_ends_at_any_other_stop() {
    // Another breakpoint; in its way, and on it.
    let mut world = in_function();
    let told = world.goes(&Call { plant: Some(vec![BEHIND, F + 2]), ..out() });
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Breakpoint, F + 2));
    let told = world.goes(&Call::go(DebugGo::Continue));
    assert_eq!((told.pc(), world.poll(), world.agent.due_ms()), (BEHIND, None, u64::MAX));
    // A fault: bl f; nop; f: udf
    let mut world = World::halted(&[0xf000, 0xf801, NOP, 0xde00]);
    let call = Call { plant: Some(vec![BEHIND]), catch_faults: true, ..out() };
    assert_eq!(world.goes(&call).reason(), DebugStopReason::Fault);
    assert_eq!(world.poll(), None);
}

#[test]
fn a_halt_meanwhile_leaves_it_where_it_is_then() {
    // Before it came out.
    let mut world = in_function();
    world.probe.budget = 0;
    assert_eq!(world.call(&out()), None);
    let told = world.goes(&Call::go(DebugGo::Halt));
    assert_eq!((told.call, told.reason(), told.pc()), (world.number, DebugStopReason::Halt, F));
    world.probe.budget = 1000;
    let told = world.goes(&Call::go(DebugGo::Continue));
    assert_eq!((told.pc(), world.poll()), (BEHIND, None));

    // There, and nobody was told yet: that stop answers both, with what both wanted.
    let mut world = in_function();
    world.probe.budget = 0;
    assert_eq!(world.call(&Call { reads: vec![(CODE, 2)], ..out() }), None);
    world.probe.budget = 10;
    world.look();
    let told = world.call(&Call { reads: vec![(CODE, 4)], ..Call::go(DebugGo::Halt) }).unwrap();
    assert_eq!((told.call, told.reason(), told.pc()), (world.number, DebugStopReason::Breakpoint, BEHIND));
    assert_eq!(told.data.iter().map(Vec::len).collect::<Vec<_>>(), [2, 4]);
    assert_eq!((world.poll(), world.agent.due_ms()), (None, u64::MAX));
    assert_eq!(world.call(&Call::write(RAM, &[1])).unwrap().problem, DebugProblem::Unspecified);

    // On from there: b . has no end.
    let mut world = in_function();
    world.call(&Call::write(BEHIND + 2, &[0xfe, 0xe7])).unwrap();
    let told = world.goes(&Call { range: (CODE, NEXT_LINE + 2), ..out() });
    assert_eq!(told.reason(), DebugStopReason::Breakpoint);
    assert_eq!([(); 5].map(|()| world.poll()), [(); 5].map(|()| None));
    let told = world.goes(&Call::go(DebugGo::Halt));
    assert_eq!((told.call, told.reason(), told.pc()), (world.number, DebugStopReason::Halt, NEXT_LINE));
}

#[test]
fn nothing_is_left_of_it_in_another_start_or_session() {
    let untold = || {
        let mut world = in_function();
        world.probe.budget = 0;
        assert_eq!(world.call(&out()), None);
        world.probe.budget = 1000;
        world.look();
        world
    };
    // It ended, and was started anew by itself: there is a breakpoint, and that is all.
    let mut world = untold();
    world.restart(Machine::new(&CALLS));
    let told = world.poll().unwrap();
    assert_eq!((told.starts, told.pc(), world.poll()), (2, BEHIND, None));

    let mut world = untold();
    let told = world.call(&Call::go(DebugGo::Restart)).unwrap();
    assert_eq!((told.starts, told.pc(), world.agent.due_ms()), (1, BEHIND, 0));
    assert!(world.agent.take_restart());
    world.restart(Machine::new(&CALLS));
    assert_eq!(world.poll().unwrap().reason(), DebugStopReason::Start);
    let told = world.goes(&Call::go(DebugGo::Continue));
    assert_eq!((told.pc(), world.poll()), (BEHIND, None));

    let mut world = untold();
    world.end();
    world.number = 0;
    let told = world.goes(&Call { plant: Some(vec![BEHIND]), ..Call::default() });
    assert_eq!(told.state, DebugState::Running);
    let told = (0..10).find_map(|_| world.poll()).unwrap();
    assert_eq!((told.pc(), world.poll()), (BEHIND, None));
}

#[test]
fn where_there_is_no_breakpoint_or_no_range_it_makes_no_sense() {
    let cases = [
        (Call { then: (F, STACK), ..out() }, F),
        (Call { then: (BEHIND + 1, STACK), ..out() }, BEHIND + 1),
        (Call { plant: Some(vec![F]), ..out() }, BEHIND),
        (Call { range: (CODE + 2, CODE), ..out() }, CODE + 2),
        (Call { go: DebugGo::Step, ..out() }, BEHIND),
        (Call { go: DebugGo::Unspecified, ..out() }, BEHIND),
    ];
    for (call, at) in cases {
        let mut world = in_function();
        let told = world.call(&call).unwrap();
        assert_eq!(told.refused(), (DebugProblem::Malformed, at), "{call:?}");
        assert_eq!(world.goes(&Call::go(DebugGo::Continue)).pc(), BEHIND, "nothing of it was done");
    }
}
