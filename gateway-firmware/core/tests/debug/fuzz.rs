//! A malicious developer, and malicious watchers beside him: every limit holds whatever a call says, a watcher changes nothing, and a session
//! that ends leaves an application that goes on.

use gateway_core::debug::{Access, WATCH_READ_BYTES_MAX};
use proptest::prelude::*;
use wire::limits::{DEBUG_BREAKPOINTS_MAX, DEBUG_READ_BYTES_MAX, DEBUG_READS_MAX, DEBUG_WRITE_BYTES_MAX};
use wire::msg::{DebugGo, DebugProblem, DebugState, DebugStopReason};

use crate::sim::{CODE, COMPARATORS, Call, Machine, RAM, SECRET, SIZE, World};

/// adds r0, #1; b back: it runs for ever and touches no memory.
const LOOP: [u16; 2] = [0x3001, 0xe7fd];
/// nop; udf
const CRASHES: [u16; 2] = [0xbf00, 0xde00];

fn address() -> impl Strategy<Value = u32> {
    prop_oneof![
        3 => (0u32..16).prop_map(|offset| CODE + 2 * offset),
        3 => (0u32..64).prop_map(|offset| RAM + offset),
        1 => (0u32..16).prop_map(|offset| RAM + SIZE - 8 + offset),
        1 => (0u32..16).prop_map(|offset| SECRET + offset),
        1 => any::<u32>(),
    ]
}

/// About a limit, or anything.
fn length(limit: usize) -> impl Strategy<Value = u32> {
    let limit = limit as u32;
    prop_oneof![4 => 0u32..16, 2 => limit.saturating_sub(2)..limit + 3, 1 => any::<u32>()]
}

fn many<T: Clone + std::fmt::Debug>(
    limit: usize,
    item: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<T>> {
    (item, prop_oneof![4 => 0usize..3, 1 => limit - 1..limit + 2]).prop_map(|(item, count)| vec![item; count])
}

fn any_call() -> impl Strategy<Value = Call> {
    let go = prop::sample::select(vec![
        DebugGo::Unspecified,
        DebugGo::Halt,
        DebugGo::Continue,
        DebugGo::Step,
        DebugGo::Range,
        DebugGo::Restart,
    ]);
    let bytes = prop_oneof![4 => 0usize..9, 1 => DEBUG_WRITE_BYTES_MAX - 1..DEBUG_WRITE_BYTES_MAX + 2];
    let write = (address(), bytes.prop_map(|count| vec![0; count]));
    (
        any::<bool>(),
        many(DEBUG_READS_MAX, write),
        many(DEBUG_READS_MAX, (prop_oneof![0u32..21, any::<u32>()], address())),
        prop::option::of((many(DEBUG_BREAKPOINTS_MAX, address()), many(COMPARATORS, address()))),
        go,
        (address(), address()),
        prop_oneof![3 => Just((0, 0)), 1 => (address(), address())],
        any::<bool>(),
        length(DEBUG_READ_BYTES_MAX),
        many(DEBUG_READS_MAX, (address(), length(WATCH_READ_BYTES_MAX))),
    )
        .prop_map(
            |(describe, writes, registers, plant, go, range, then, catch_faults, stack_bytes, reads)| Call {
                describe,
                writes,
                registers,
                plant: plant.as_ref().map(|(planted, _)| planted.clone()),
                hardware: plant.map(|(_, hardware)| hardware).unwrap_or_default(),
                starts: 0,
                go,
                range,
                ranges: Vec::new(),
                then,
                catch_faults,
                stack_bytes,
                reads,
            },
        )
}

/// A call with a byte of it changed, or noise.
fn any_bytes(number: u32) -> impl Strategy<Value = Vec<u8>> {
    let changed =
        (any_call(), any::<prop::sample::Index>(), any::<u8>()).prop_map(move |(call, at, byte)| {
            let mut bytes = call.bytes(number);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        });
    prop_oneof![3 => changed, 1 => prop::collection::vec(any::<u8>(), 0..120)]
}

fn sum(lengths: impl Iterator<Item = usize>) -> usize {
    lengths.fold(0, usize::saturating_add)
}

/// A call that asks for more than there may be of anything.
fn is_too_much(call: &Call) -> bool {
    let counts = [(call.writes.len(), DEBUG_READS_MAX), (call.registers.len(), DEBUG_READS_MAX)];
    let planted = call.plant.as_ref().map_or(0, Vec::len);
    let reads = sum(call.reads.iter().map(|(_, length)| *length as usize));
    counts.iter().any(|(count, most)| count > most)
        || planted > DEBUG_BREAKPOINTS_MAX
        || call.hardware.len() > COMPARATORS
        || call.reads.len() > DEBUG_READS_MAX
        || sum(call.writes.iter().map(|(_, data)| data.len())) > DEBUG_WRITE_BYTES_MAX
        || reads.saturating_add(call.stack_bytes as usize) > DEBUG_READ_BYTES_MAX
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_call_over_any_limit_is_refused_whole(call in any_call()) {
        let mut world = World::halted(&LOOP);
        let before = world.probe.machine.clone();
        let told = world.call(&call);
        if is_too_much(&call) {
            let told = told.expect("it is refused at once");
            prop_assert_ne!(told.problem, DebugProblem::Unspecified);
            prop_assert!(world.probe.machine == before, "something of it was done");
            prop_assert!(told.data.is_empty());
        }
        prop_assert_eq!(world.probe.outside, 0);
    }

    /// Of the memory that a watcher's calls name, and of everything else, nothing is another afterwards: neither the application's, nor the
    /// writer's session.
    #[test]
    fn whatever_a_watcher_says_changes_nothing(
        calls in prop::collection::vec(any_call(), 1..8),
        noise in prop::collection::vec(any_bytes(1), 0..4),
        is_halted in any::<bool>(),
    ) {
        let mut world = World::halted(&LOOP);
        world.call(&Call::plant(&[CODE + 2])).unwrap();
        world.probe.budget = 0;
        if !is_halted {
            prop_assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
        }
        let before = (world.probe.machine.clone(), world.probe.held, world.probe.halts, world.agent.deadline_ms());
        for call in &calls {
            let told = world.watch(call);
            prop_assert!(sum(told.data.iter().map(Vec::len)) <= WATCH_READ_BYTES_MAX);
        }
        for bytes in &noise {
            world.watched += 1;
            world.watch_bytes(bytes);
        }
        let after = (world.probe.machine.clone(), world.probe.held, world.probe.halts, world.agent.deadline_ms());
        prop_assert!(before == after);
        prop_assert_eq!(world.agent.take_done(), None);
        prop_assert!(!world.agent.take_restart());
        prop_assert_eq!(world.probe.outside, 0);
    }

    #[test]
    fn however_a_session_was_used_the_application_goes_on_when_it_ends(
        calls in prop::collection::vec(any_call(), 1..12),
        noise in prop::collection::vec(any_bytes(1), 0..4),
    ) {
        let mut world = World::halted(&LOOP);
        world.probe.budget = 20;
        for call in &calls {
            // What was written to memory is the developer's to answer for, and where it goes on; this is about being let go.
            let call = Call { writes: Vec::new(), registers: Vec::new(), ..call.clone() };
            drop((world.call(&call), world.poll()));
        }
        for bytes in &noise {
            world.number += 1;
            if !changes(bytes) {
                drop(world.take(bytes, Access::Write));
            }
        }
        while world.agent.take_done().is_some() {}
        world.end();
        prop_assert!(!world.probe.attached && world.probe.held.is_none() && !world.probe.ended);
        let expected = Machine::new(&LOOP);
        prop_assert!(world.code() == expected.code, "something is planted");
        let before = world.probe.machine.r[0];
        let _ = gateway_core::ports::Probe::held(&mut world.probe);
        prop_assert!(world.probe.machine.r[0].wrapping_sub(before) >= 9, "it stands");
        prop_assert_eq!(world.agent.deadline_ms(), u64::MAX);
    }
}

/// Whether these bytes are a call that sets memory or registers.
fn changes(bytes: &[u8]) -> bool {
    use wire::msg::{DebugCall, Message as _};
    DebugCall::decode(bytes).is_ok_and(|call| !call.writes.is_empty() || !call.registers.is_empty())
}

#[test]
fn a_call_that_says_nothing_holds_no_fault_any_longer() {
    let mut world = World::halted(&CRASHES);
    world.now_ms = 5000;
    let told = world.goes(&Call { catch_faults: true, ..Call::go(DebugGo::Continue) });
    assert_eq!(told.reason(), DebugStopReason::Fault);
    assert_eq!(world.agent.deadline_ms(), 65_000);
    // What the developer's program says by itself so that the session is kept, and what no developer says.
    world.now_ms = 64_998;
    assert_eq!(world.call(&Call::default()).unwrap().state, DebugState::Halted);
    world.number += 1;
    assert_eq!(world.take(&[0xff], Access::Write).unwrap().problem, DebugProblem::Malformed);
    assert_eq!(world.agent.deadline_ms(), 65_000);
    world.now_ms = 65_000;
    world.call(&Call::default()).unwrap();
    assert!(world.probe.ended);
}
