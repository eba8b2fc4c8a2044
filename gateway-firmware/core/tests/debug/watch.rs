//! Who only watches: told where the application stands, as a level, and shown its memory, without any trace of it.

use gateway_core::debug::{WATCH_READ_BYTES_MAX, WATCH_STACK_BYTES, Watcher};
use wire::limits::DEBUG_READS_MAX;
use wire::msg::{DebugGo, DebugProblem, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, Machine, RAM, World};

/// adds r0, #1; b back
const LOOP: [u16; 2] = [0x3001, 0xe7fd];

#[test]
fn a_watcher_is_told_each_change_once_and_by_itself() {
    let mut world = World::new(&LOOP);
    world.probe.budget = 0;
    let told = world.show().unwrap();
    assert_eq!((told.state, told.starts, told.stop), (DebugState::Running, 1, None));
    assert_eq!(world.show(), None);
    world.goes(&Call::go(DebugGo::Halt));
    let told = world.show().unwrap();
    assert_eq!((told.call, told.state, told.reason()), (0, DebugState::Halted, DebugStopReason::Halt));
    let stop = told.stop.unwrap();
    assert_eq!((stop.registers.len(), stop.stack_at, stop.stack.len()), (20, RAM + 2048, WATCH_STACK_BYTES));
    assert_eq!(world.show(), None);
    // Its own calls take nothing from that.
    assert_eq!(world.watch(&Call::read(CODE, 2)).state, DebugState::Halted);
    assert_eq!(world.show(), None);
    assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
    assert_eq!(world.show().unwrap().state, DebugState::Running);
    world.stop();
    let told = world.show().unwrap();
    assert_eq!((told.state, told.call), (DebugState::Absent, 1));
    world.restart(Machine::new(&LOOP));
    assert_eq!(world.show().map(|told| (told.state, told.starts)), Some((DebugState::Running, 2)));
    assert_eq!(world.show(), None);
}

#[test]
fn many_quick_changes_are_told_as_one() {
    let mut world = World::halted(&LOOP);
    let before = world.show().unwrap().stop.unwrap().number;
    for _ in 0..50 {
        world.goes(&Call::go(DebugGo::Step));
    }
    let told = world.show().unwrap().stop.unwrap();
    assert_eq!((told.number, told.registers[0]), (before + 50, 25));
    assert_eq!(world.show(), None);
    // It ran and halted at the same place: another stop all the same.
    world.call(&Call::plant(&[CODE])).unwrap();
    world.goes(&Call::go(DebugGo::Continue));
    assert_eq!(world.show().unwrap().stop.unwrap().number, before + 51);
}

#[test]
fn the_end_of_the_writers_session_is_told_and_its_stops_are_counted_on() {
    let mut world = World::halted(&LOOP);
    assert_eq!(world.show().unwrap().stop.unwrap().number, 1);
    world.end();
    (world.number, world.probe.budget) = (0, 0);
    world.goes(&Call::go(DebugGo::Halt));
    // Nobody was told that it ran meanwhile: the stop is another one.
    assert_eq!(world.show().unwrap().stop.unwrap().number, 2);
    world.end();
    assert_eq!(world.show().map(|told| told.state), Some(DebugState::Running));
}

#[test]
fn a_stop_that_no_frame_of_the_writers_has_room_for_is_shown_all_the_same() {
    let mut world = World::halted(&LOOP);
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    assert_eq!(world.show().unwrap().state, DebugState::Halted);
    world.probe.budget = 0;
    assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
    world.probe.budget = 10;
    world.look();
    let told = world.show().unwrap();
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Breakpoint, CODE + 2));
    assert_eq!(world.poll().unwrap().reason(), DebugStopReason::Breakpoint);
    assert_eq!(world.show(), None);
}

#[test]
fn memory_is_read_while_it_runs_and_planted_breakpoints_are_not_seen() {
    let mut world = World::new(&LOOP);
    world.call(&Call::plant(&[CODE + 2])).unwrap();
    world.probe.budget = 0;
    world.probe.machine.ram[0] = 7;
    let told = world.watch(&Call { reads: vec![(CODE, 4), (RAM, 1)], ..Call::default() });
    assert_eq!((told.state, told.problem), (DebugState::Running, DebugProblem::Unspecified));
    assert_eq!(told.data, [vec![0x01, 0x30, 0xfd, 0xe7], vec![7]]);
    assert_ne!(world.code()[2..4], [0xfd, 0xe7], "it is planted");
}

#[test]
fn a_watcher_leaves_no_trace() {
    // The same session of a writer's, with a watcher that asks all the time, and without.
    let run = |watched: bool| {
        let mut world = World::halted(&LOOP);
        world.probe.budget = 3;
        let mut told = Vec::new();
        for go in [DebugGo::Step, DebugGo::Range, DebugGo::Continue, DebugGo::Halt] {
            told.push(world.call(&Call { range: (CODE, CODE + 4), ..Call::go(go) }));
            for _ in 0..5 {
                if watched {
                    world.watch(&Call { describe: true, ..Call::read(CODE, 4) });
                    world.show();
                }
                told.push(world.poll());
            }
        }
        (told, world.probe.machine.clone())
    };
    let (with, without) = (run(true), run(false));
    assert!(with.0 == without.0 && with.1 == without.1);
}

#[test]
fn a_watchers_reads_are_bounded_and_the_most_fit_a_frame() {
    let mut world = World::halted(&LOOP);
    let target = world.watch(&Call { describe: true, ..Call::default() }).target.unwrap();
    assert_eq!((target.read_only, target.read_bytes_max as usize), (true, WATCH_READ_BYTES_MAX));
    let all = vec![(RAM, (WATCH_READ_BYTES_MAX / DEBUG_READS_MAX) as u32); DEBUG_READS_MAX];
    let told = world.watch(&Call { reads: all, ..Call::default() });
    assert_eq!((told.problem, told.data.len()), (DebugProblem::Unspecified, DEBUG_READS_MAX));
    let told = world.watch(&Call::read(RAM, WATCH_READ_BYTES_MAX as u32));
    assert_eq!((told.problem, told.data[0].len()), (DebugProblem::Unspecified, WATCH_READ_BYTES_MAX));
    let told = world.watch(&Call::read(RAM, WATCH_READ_BYTES_MAX as u32 + 1));
    assert_eq!(told.refused(), (DebugProblem::TooMuch, RAM));
    assert_eq!(world.watch(&Call::read(RAM, u32::MAX)).problem, DebugProblem::TooMuch);
}

#[test]
fn a_watchers_calls_are_counted_from_one() {
    let mut world = World::new(&LOOP);
    world.probe.budget = 0;
    for number in [2, 0, u32::MAX] {
        let told = world.watch_bytes(&Call::read(RAM, 1).bytes(number));
        assert_eq!(told.problem, DebugProblem::Malformed, "{number}");
    }
    world.watched = 3;
    let told = world.watch(&Call::read(RAM, 1));
    assert_eq!((told.call, told.problem), (4, DebugProblem::Unspecified));
    world.watcher = Watcher::default();
    assert_eq!(world.watch_bytes(&Call::read(RAM, 1).bytes(1)).problem, DebugProblem::Unspecified);
}
