//! Every limit at its edge: what fits is done, one more is refused, and then nothing of the call was done.

use gateway_core::debug::{DEEDS_MAX, Deed};
use wire::limits::{DEBUG_RANGES_MAX, DEBUG_READ_BYTES_MAX, DEBUG_READS_MAX, DEBUG_WRITE_BYTES_MAX};
use wire::msg::{DebugGo, DebugProblem};

use crate::sim::{CODE, Call, RAM, World};

const LOOP: [u16; 2] = [0x3001, 0xe7fd];

fn problem(call: &Call) -> DebugProblem {
    let mut world = World::halted(&LOOP);
    let before = world.probe.machine.clone();
    let told = world.goes(call);
    if told.problem != DebugProblem::Unspecified {
        assert_eq!(world.probe.machine, before, "nothing was done");
    }
    told.problem
}

#[test]
fn items_of_a_call() {
    for (count, expected) in
        [(DEBUG_READS_MAX, DebugProblem::Unspecified), (DEBUG_READS_MAX + 1, DebugProblem::TooMuch)]
    {
        let writes = vec![(RAM, vec![1]); count];
        assert_eq!(problem(&Call { writes, ..Call::default() }), expected);
        assert_eq!(problem(&Call { registers: vec![(0, 1); count], ..Call::default() }), expected);
        let write = Call::write(RAM, &[1]);
        assert_eq!(problem(&Call { reads: vec![(RAM, 1); count], ..write.clone() }), expected);
        let go = Call { reads: vec![(RAM, 1); count], go: DebugGo::Step, ..write };
        assert_eq!(problem(&go), expected);
    }
}

#[test]
fn ranges_of_a_call() {
    for (count, expected) in
        [(DEBUG_RANGES_MAX, DebugProblem::Unspecified), (DEBUG_RANGES_MAX + 1, DebugProblem::TooMuch)]
    {
        let write = Call::write(RAM, &[1]);
        let step = Call { ranges: vec![(0, 0); count], go: DebugGo::Range, ..write };
        assert_eq!(problem(&step), expected);
    }
    let backwards = Call { ranges: vec![(CODE, CODE + 2), (CODE + 2, CODE)], ..Call::go(DebugGo::Range) };
    assert_eq!(problem(&backwards), DebugProblem::Malformed);
}

#[test]
fn bytes_of_a_call() {
    for (more, expected) in [(0, DebugProblem::Unspecified), (1, DebugProblem::TooMuch)] {
        let half = DEBUG_WRITE_BYTES_MAX / 2;
        let writes = vec![(RAM, vec![1; half]), (RAM + 2048, vec![2; half + more])];
        assert_eq!(problem(&Call { writes, ..Call::default() }), expected);
        let reads = vec![(RAM, 512), (RAM, DEBUG_READ_BYTES_MAX as u32 - 1024 + more as u32)];
        let halt = Call { stack_bytes: 512, reads, ..Call::go(DebugGo::Halt) };
        assert_eq!(problem(&halt), expected);
        assert_eq!(problem(&Call { go: DebugGo::Step, ..halt }), expected);
    }
    let write = Call::write(RAM, &[1]);
    for length in [DEBUG_READ_BYTES_MAX as u32 + 1, u32::MAX] {
        assert_eq!(
            problem(&Call { reads: vec![(RAM, length), (RAM, length)], ..write.clone() }),
            DebugProblem::TooMuch
        );
        assert_eq!(
            problem(&Call { stack_bytes: length, go: DebugGo::Step, ..write.clone() }),
            DebugProblem::TooMuch
        );
    }
}

#[test]
fn the_largest_answer_fits_a_frame() {
    let mut world = World::halted(&LOOP);
    world.call(&Call { registers: vec![(13, RAM)], ..Call::default() }).unwrap();
    let each = DEBUG_READ_BYTES_MAX as u32 / DEBUG_READS_MAX as u32;
    let reads = vec![(RAM, each); DEBUG_READS_MAX];
    let told = world.goes(&Call { reads: reads.clone(), ..Call::go(DebugGo::Step) });
    assert_eq!((told.problem, told.data.len()), (DebugProblem::Unspecified, DEBUG_READS_MAX));
    assert!(told.data.iter().all(|data| data.len() == each as usize));
    let told = world.goes(&Call { stack_bytes: DEBUG_READ_BYTES_MAX as u32, ..Call::go(DebugGo::Step) });
    assert_eq!(told.stop.unwrap().stack.len(), DEBUG_READ_BYTES_MAX);
    // The description fits beside it.
    let told = world.goes(&Call { describe: true, reads, ..Call::go(DebugGo::Step) });
    assert_eq!((told.problem, told.data.len()), (DebugProblem::Unspecified, DEBUG_READS_MAX));
    assert!(told.target.is_some());
}

#[test]
fn however_little_room_there_is_an_answer_is_well_formed() {
    for room in 0..700 {
        let mut world = World::halted(&LOOP);
        world.room = room;
        let call =
            Call { describe: true, stack_bytes: 64, reads: vec![(RAM, 64); 2], ..Call::go(DebugGo::Halt) };
        let told = world.goes(&call);
        assert!(told.data.iter().all(|data| data.len() == 64));
        let told_all = told.data.len() == 2 && told.target.is_some() && told.stop.is_some();
        assert!(told_all || told.problem == DebugProblem::TooMuch || room < 24, "{room}");
    }
}

#[test]
fn what_a_stop_brings_is_bounded_over_several_calls() {
    let mut world = World::halted(&LOOP);
    let all = vec![(RAM, 1); DEBUG_READS_MAX];
    world.probe.budget = 0;
    assert_eq!(world.call(&Call { reads: all, ..Call::go(DebugGo::Continue) }), None);
    world.probe.budget = 10;
    let told = world.call(&Call { reads: vec![(RAM, 1)], ..Call::go(DebugGo::Halt) }).unwrap();
    assert_eq!(told.problem, DebugProblem::TooMuch);
    assert_eq!(world.poll().unwrap().data.len(), DEBUG_READS_MAX);
}

#[test]
fn what_makes_no_sense_is_malformed() {
    let cases = [
        Call { plant: Some(vec![CODE + 1]), ..Call::default() },
        Call { range: (CODE + 2, CODE), ..Call::go(DebugGo::Range) },
    ];
    for call in cases {
        assert_eq!(problem(&call), DebugProblem::Malformed, "{call:?}");
    }
    let mut world = World::halted(&LOOP);
    // A `go` nobody knows, breakpoints without `plant`, a length longer than the call.
    for tail in [&[0x38, 0x63][..], &[0x32, 0x01, 0x04], &[0x1a, 0x7f, 0x00]] {
        world.number += 1;
        let bytes = [&[0x08, world.number as u8], tail].concat();
        let told = world.take(&bytes, gateway_core::debug::Access::Write).unwrap();
        assert_eq!((told.problem, told.call), (DebugProblem::Malformed, world.number), "{tail:?}");
    }
}

#[test]
fn a_register_that_cannot_be_set_is_named() {
    for number in [17, 19, 20, u32::MAX] {
        let mut world = World::halted(&LOOP);
        let told = world.call(&Call { registers: vec![(number, 1)], ..Call::default() }).unwrap();
        assert_eq!(told.refused(), (DebugProblem::Register, number));
    }
}

#[test]
fn what_cannot_be_logged_is_not_done() {
    let mut world = World::halted(&LOOP);
    for _ in 0..DEEDS_MAX {
        assert_eq!(world.call(&Call::write(RAM, &[1])).unwrap().problem, DebugProblem::Unspecified);
    }
    assert_eq!(world.call(&Call::write(RAM, &[2])).unwrap().problem, DebugProblem::TooMuch);
    assert_eq!(world.probe.machine.ram[0], 1);
    let register = Call { registers: vec![(7, 9)], ..Call::default() };
    assert_eq!(world.call(&register).unwrap().refused(), (DebugProblem::TooMuch, 7));
    assert_eq!(world.probe.machine.r[7], 0);
    assert_eq!(world.call(&Call::go(DebugGo::Restart)).unwrap().problem, DebugProblem::TooMuch);
    assert!(!world.agent.take_restart());
    assert_eq!(world.agent.take_done(), Some(Deed::Wrote { at: RAM, bytes: 1 }));
    assert_eq!(world.call(&Call::write(RAM, &[2])).unwrap().problem, DebugProblem::Unspecified);
}
