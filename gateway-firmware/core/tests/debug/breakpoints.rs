//! Breakpoints: planted as wanted, never seen, and never in the way of what the application or the developer writes.

use proptest::prelude::*;
use wire::limits::DEBUG_BREAKPOINTS_MAX;
use wire::msg::{DebugGo, DebugProblem, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, Machine, RAM, World};

const NOP: u16 = 0xbf00;
/// movs r0, #0; adds r0, #1; adds r1, #1; b back
const LOOP: [u16; 4] = [0x2000, 0x3001, 0x3101, 0xe7fc];

fn halfword(world: &World, at: u32) -> u16 {
    let at = (at - CODE) as usize;
    u16::from_le_bytes([world.code()[at], world.code()[at + 1]])
}

fn goes_on(world: &mut World) -> (DebugStopReason, u32) {
    let told = world.goes(&Call::go(DebugGo::Continue));
    (told.reason(), told.pc() - CODE)
}

#[test]
fn going_on_from_a_breakpoint_steps_over_it_and_comes_back_to_it() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    for turn in 1..5 {
        assert_eq!(goes_on(&mut world), (DebugStopReason::Breakpoint, 2));
        assert_eq!(world.probe.machine.r[0], turn - 1);
    }
    world.call(&Call::plant(&[CODE + 2, CODE + 4])).unwrap();
    assert_eq!([(); 3].map(|()| goes_on(&mut world).1), [4, 2, 4]);
}

#[test]
fn what_is_planted_is_a_level() {
    let mut world = World::halted(&LOOP);
    for set in [&[0, 4][..], &[4, 6], &[4, 4], &[]] {
        let wanted: Vec<u32> = set.iter().map(|at| CODE + at).collect();
        let told = world.call(&Call::plant(&wanted)).unwrap();
        assert_eq!((told.state, told.problem), (DebugState::Halted, DebugProblem::Unspecified));
        for (index, word) in LOOP.iter().enumerate() {
            let at = CODE + 2 * index as u32;
            let expected = if wanted.contains(&at) { 0xbe00 } else { *word };
            assert_eq!(halfword(&world, at), expected);
        }
    }
    // A call that does not speak of them leaves them.
    world.call(&Call::plant(&[CODE + 4])).unwrap();
    world.call(&Call::read(RAM, 4)).unwrap();
    assert_eq!(halfword(&world, CODE + 4), 0xbe00);
}

#[test]
fn nobody_reads_a_breakpoint() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE, CODE + 2, CODE + 6])).unwrap();
    let bytes: Vec<u8> = LOOP.iter().flat_map(|word| word.to_le_bytes()).collect();
    for from in 0..8usize {
        for to in from + 1..=8 {
            let read = Call::read(CODE + from as u32, (to - from) as u32);
            assert_eq!(world.call(&read).unwrap().data, [&bytes[from..to]]);
            assert_eq!(world.watch(&read).data, [&bytes[from..to]]);
        }
    }
    assert_eq!(halfword(&world, CODE + 6), 0xbe00);
}

#[test]
fn a_write_over_a_breakpoint_changes_what_is_below_it() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    // adds r0, #5, by its lower byte alone.
    world.call(&Call::write(CODE + 1, &[0x20, 0x05])).unwrap();
    assert_eq!(halfword(&world, CODE + 2), 0xbe00);
    assert_eq!(world.call(&Call::read(CODE + 2, 2)).unwrap().data, [[0x05, 0x30]]);
    goes_on(&mut world);
    goes_on(&mut world);
    assert_eq!(world.probe.machine.r[0], 5);
    world.end();
    assert_eq!(halfword(&world, CODE + 2), 0x3005);
}

pub(crate) fn what_the_application_writes_stands() {
    // strh r2, [r3]; b .
    let mut machine = Machine::new(&[0x801a, 0xe7fe, NOP, NOP]);
    (machine.writes_code, machine.r[2], machine.r[3]) = (true, 0x3007, CODE + 4);
    let mut world = World::halted_with(machine);
    world.call(&Call::plant(&[CODE + 4])).unwrap();
    assert_eq!(world.goes(&Call::go(DebugGo::Step)).pc(), CODE + 2);
    assert_eq!(world.call(&Call::read(CODE + 4, 2)).unwrap().data, [[0x07, 0x30]]);
    world.call(&Call::plant(&[])).unwrap();
    assert_eq!(halfword(&world, CODE + 4), 0x3007);
}

#[test]
fn nothing_is_put_back_over_what_the_application_wrote() {
    what_the_application_writes_stands();
}

#[test]
fn an_instruction_of_its_own_stops_it_and_is_passed() {
    // movs r0, #1; bkpt #3; movs r0, #2; bkpt #3; it eq; bkpt #0; nop
    let mut world = World::halted(&[0x2001, 0xbe03, 0x2002, 0xbe03, 0xbf08, 0xbe00, NOP, 0xe7fe]);
    assert_eq!(goes_on(&mut world), (DebugStopReason::Instruction, 2));
    assert_eq!(goes_on(&mut world), (DebugStopReason::Instruction, 6));
    let told = world.goes(&Call::go(DebugGo::Step));
    assert_eq!((told.reason(), told.pc() - CODE), (DebugStopReason::Step, 8));
    assert_eq!(goes_on(&mut world), (DebugStopReason::Instruction, 10));
    let told = world.goes(&Call::go(DebugGo::Step));
    assert_eq!((told.pc() - CODE, told.stop.unwrap().registers[16] & 0x0600_fc00), (12, 0));
}

#[test]
fn one_that_a_step_came_to_is_executed_before_it_is_passed() {
    for go in [DebugGo::Continue, DebugGo::Step] {
        let mut world = World::halted(&[NOP, 0xbe00, 0x2002, 0xe7fe]);
        let told = world.goes(&Call::go(DebugGo::Step));
        assert_eq!((told.reason(), told.pc() - CODE), (DebugStopReason::Step, 2));
        let told = world.goes(&Call::go(go));
        assert_eq!((told.reason(), told.pc() - CODE), (DebugStopReason::Instruction, 2));
        let told = world.goes(&Call::go(DebugGo::Step));
        assert_eq!((told.reason(), told.pc() - CODE), (DebugStopReason::Step, 4));
    }
    // Nobody is there to see it: it faults, as it would have.
    let mut world = World::halted(&[NOP, 0xbe00, 0x2002, 0xe7fe]);
    world.goes(&Call::go(DebugGo::Step));
    world.end();
    world.look();
    assert_eq!((world.probe.held, world.probe.ended), (None, false));
    gateway_core::ports::Probe::held(&mut world.probe);
    assert!(world.probe.ended);
}

#[test]
fn one_planted_over_an_instruction_of_its_own_is_passed_too() {
    let mut world = World::halted(&[NOP, 0xbe00, 0x2002, 0xe7fe]);
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    assert_eq!(goes_on(&mut world), (DebugStopReason::Breakpoint, 2));
    let told = world.goes(&Call::go(DebugGo::Step));
    assert_eq!((told.reason(), told.pc() - CODE), (DebugStopReason::Step, 4));
    world.call(&Call::plant(&[])).unwrap();
    assert_eq!(halfword(&world, CODE + 2), 0xbe00, "its own");
}

#[test]
fn another_pc_is_gone_on_from_as_it_is() {
    let mut world = World::halted(&[0xbe01, NOP, 0xbe02, 0xe7fe]);
    assert_eq!(goes_on(&mut world), (DebugStopReason::Instruction, 0));
    world.call(&Call { registers: vec![(15, CODE + 4)], ..Call::default() }).unwrap();
    assert_eq!(goes_on(&mut world), (DebugStopReason::Instruction, 4), "it has not been there yet");
}

#[test]
fn one_that_was_hit_before_it_was_taken_out_is_told_as_one() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE + 4])).unwrap();
    world.probe.budget = 0;
    assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
    world.probe.budget = 1000;
    // It comes there before this call is taken.
    assert_eq!(world.call(&Call::plant(&[])).unwrap().state, DebugState::Running);
    let told = world.poll().unwrap();
    assert_eq!((told.reason(), told.pc(), told.call), (DebugStopReason::Breakpoint, CODE + 4, world.number));
    assert_eq!(halfword(&world, CODE + 4), 0x3101);
}

#[test]
fn they_are_only_where_instructions_may_be() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE])).unwrap();
    for (at, problem) in [
        (CODE + 1, DebugProblem::Malformed),
        (CODE + 4096, DebugProblem::Forbidden),
        (0x4000_0000, DebugProblem::Forbidden),
        (0x3800_0000, DebugProblem::Forbidden),
        (0xffff_fffe, DebugProblem::Forbidden),
    ] {
        assert_eq!(world.call(&Call::plant(&[CODE + 2, at])).unwrap().refused(), (problem, at));
        assert_eq!([0, 2].map(|at| halfword(&world, CODE + at)), [0xbe00, 0x3001], "nothing was done");
    }
    let told = world.call(&Call::plant(&[RAM, RAM + 4094, CODE + 4094])).unwrap();
    assert_eq!(told.problem, DebugProblem::Unspecified);
}

#[test]
fn there_are_as_many_as_there_may_be_whatever_there_was_before() {
    let mut world = World::halted(&[NOP; 200]);
    let all =
        |from: u32| -> Vec<u32> { (0..DEBUG_BREAKPOINTS_MAX as u32).map(|n| CODE + from + 2 * n).collect() };
    for from in [0, 2, 64, 128, 0] {
        assert_eq!(world.call(&Call::plant(&all(from))).unwrap().problem, DebugProblem::Unspecified);
        let planted = (0..200).filter(|index| halfword(&world, CODE + 2 * index) == 0xbe00).count();
        assert_eq!(planted, DEBUG_BREAKPOINTS_MAX);
    }
    // A step finds room beside them.
    assert_eq!(goes_on(&mut world), (DebugStopReason::Breakpoint, 2));
    let mut too_many = all(0);
    too_many.push(CODE + 300);
    assert_eq!(world.call(&Call::plant(&too_many)).unwrap().refused(), (DebugProblem::TooMuch, CODE + 300));
}

proptest! {
    #[test]
    fn whatever_is_planted_and_written_memory_is_what_it_was_but_for_the_writes(
        rounds in prop::collection::vec(
            (prop::collection::vec(0u32..32, 0..12), 0u32..60, prop::collection::vec(any::<u8>(), 0..6)),
            1..12,
        )
    ) {
        let mut world = World::halted(&[NOP; 32]);
        let mut expected = world.code().to_vec();
        for (planted, at, bytes) in rounds {
            let planted: Vec<u32> = planted.iter().map(|index| CODE + 2 * index).collect();
            world.call(&Call { writes: vec![(CODE + at, bytes.clone())], ..Call::plant(&planted) }).unwrap();
            expected[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(&world.call(&Call::read(CODE, 70)).unwrap().data[0], &expected[..70]);
            while world.agent.take_done().is_some() {}
        }
        world.end();
        prop_assert_eq!(world.code(), &expected[..]);
    }
}
