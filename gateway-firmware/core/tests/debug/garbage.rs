//! A malicious developer: bytes of every kind. Nothing panics, nothing outside the application's memory is touched, and afterwards memory is
//! what it was but for what was written.

use gateway_core::debug::{Access, Deed};
use proptest::prelude::*;
use wire::msg::{DebugCall, DebugGo, Message as _};

use crate::sim::{CODE, Call, Machine, RAM, SECRET, SIZE, World};

/// An address worth a try.
fn address() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0u32..40).prop_map(|offset| CODE + offset),
        (0u32..40).prop_map(|offset| CODE + 4096 - 20 + offset),
        (0u32..40).prop_map(|offset| RAM + 4096 - 20 + offset),
        (0u32..20).prop_map(|offset| SECRET + offset),
        (0u32..20).prop_map(|offset| u32::MAX - offset),
        any::<u32>(),
    ]
}

fn call() -> impl Strategy<Value = Call> {
    let go = prop::sample::select(vec![
        DebugGo::Unspecified,
        DebugGo::Halt,
        DebugGo::Continue,
        DebugGo::Step,
        DebugGo::Range,
        DebugGo::Restart,
    ]);
    let bytes = prop::collection::vec(any::<u8>(), 0..9);
    (
        any::<bool>(),
        prop::collection::vec((address(), bytes), 0..4),
        prop::collection::vec((0u32..21, address()), 0..4),
        prop::option::of(prop::collection::vec(address().prop_map(|at| at & !1), 0..6)),
        prop::collection::vec(address().prop_map(|at| at & !1), 0..3),
        go,
        (address(), address()),
        any::<bool>(),
        prop_oneof![0u32..64, any::<u32>()],
        prop::collection::vec((address(), prop_oneof![0u32..64, any::<u32>()]), 0..4),
        prop_oneof![6 => Just(None), 2 => Just(Some(RAM + SIZE / 2)), 1 => address().prop_map(Some)],
    )
        .prop_map(
            |(
                describe,
                writes,
                registers,
                plant,
                hardware,
                go,
                range,
                catch_faults,
                stack_bytes,
                reads,
                sp,
            )| {
                let at = plant.iter().flatten().next().copied().unwrap_or(CODE + 2);
                let then = sp.map_or((0, 0), |sp| (at, sp));
                let hardware = if plant.is_some() { hardware } else { Vec::new() };
                Call {
                    describe,
                    writes,
                    registers,
                    plant,
                    hardware,
                    starts: 0,
                    go,
                    ranges: vec![range],
                    range,
                    then,
                    catch_faults,
                    stack_bytes,
                    reads,
                }
            },
        )
}

/// movs r0, #1; adds r0, #1; ldrex/strex; bl; bkpt; b back
const PROGRAM: [u16; 11] =
    [0x2001, 0x3001, 0xe851, 0x0f00, 0xe841, 0x0200, 0xf000, 0xf800, 0xbe01, 0xbf00, 0xe7f5];

/// What may happen between two calls.
#[derive(Debug, Clone)]
enum Happens {
    Call(Call),
    Watch(Call),
    Bytes(Vec<u8>),
    /// A call with a byte of it changed.
    Changed(Call, usize, u8),
    Poll,
    Restart,
    Measure,
    Ends,
    Begins,
    Time(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => call().prop_map(Happens::Call),
        1 => call().prop_map(Happens::Watch),
        1 => prop::collection::vec(any::<u8>(), 0..80).prop_map(Happens::Bytes),
        2 => (call(), any::<usize>(), any::<u8>()).prop_map(|(call, at, byte)| Happens::Changed(call, at, byte)),
        3 => Just(Happens::Poll),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Measure),
        1 => Just(Happens::Ends),
        1 => Just(Happens::Begins),
        1 => (0u64..100_000).prop_map(Happens::Time),
    ]
}

fn machine() -> Machine {
    let mut machine = Machine::new(&PROGRAM);
    machine.r[1] = RAM;
    machine
}

/// The bytes of a call, where it is one.
fn bytes(happens: &Happens, number: u32) -> Option<Vec<u8>> {
    Some(match happens {
        Happens::Call(call) => call.bytes(number),
        Happens::Bytes(bytes) => bytes.clone(),
        Happens::Changed(call, at, byte) => {
            let mut bytes = call.bytes(number);
            let at = at % bytes.len();
            bytes[at] = *byte;
            bytes
        }
        _ => return None,
    })
}

fn does(world: &mut World, happens: &Happens) {
    match happens {
        Happens::Call(_) | Happens::Bytes(_) | Happens::Changed(..) => {}
        Happens::Watch(call) => drop((world.watch(call), world.show())),
        Happens::Poll => drop(world.poll()),
        Happens::Restart => world.restart(machine()),
        Happens::Measure => world.agent.before_measure(&mut world.probe),
        Happens::Ends => world.end(),
        Happens::Begins => world.agent.begin(&mut world.probe),
        Happens::Time(ms) => world.now_ms += ms,
    }
}

/// Nothing here writes code but the developer: the program may not.
fn play(all: &[Happens]) {
    let mut world = World::with(machine());
    world.probe.budget = 50;
    let mut expected = world.code().to_vec();
    let same = |world: &World, expected: &[u8]| {
        assert!(world.code() == expected, "{:02x?} {:02x?}", &world.code()[..48], &expected[..48]);
    };
    for happens in all {
        if let Some(bytes) = bytes(happens, world.number + 1) {
            world.number += 1;
            drop(world.take(&bytes, Access::Write));
            let call = DebugCall::decode(&bytes).unwrap_or_default();
            // Which of its writes were done is what the log is told.
            let done = std::iter::from_fn(|| world.agent.take_done()).filter_map(|deed| match deed {
                Deed::Wrote { at, bytes } => Some((at, bytes)),
                Deed::SetRegister(_) | Deed::Restarted => None,
            });
            for ((at, length), write) in done.zip(call.writes.iter().flatten()) {
                assert_eq!((at, length as usize), (write.address, write.data.len()));
                let place = at.checked_sub(CODE).and_then(|from| expected.get_mut(from as usize..));
                for (old, new) in place.into_iter().flatten().zip(write.data) {
                    *old = *new;
                }
            }
        }
        does(&mut world, happens);
        match happens {
            Happens::Restart => expected = machine().code,
            Happens::Ends | Happens::Begins => {
                world.number = 0;
                same(&world, &expected);
            }
            Happens::Measure => same(&world, &expected),
            _ => {}
        }
    }
    world.end();
    same(&world, &expected);
    assert_eq!(world.probe.outside, 0);
}

pub(crate) fn nothing_outside_is_touched() {
    let mut world = World::halted(&PROGRAM);
    for at in [SECRET, CODE - 1, CODE + 4093, RAM - 1, RAM + 4095, u32::MAX - 1] {
        drop(world.call(&Call { reads: vec![(at, 4)], ..Call::default() }));
        drop(world.call(&Call::write(at, &[1; 4])));
        drop(world.call(&Call::plant(&[at & !1])));
    }
    assert_eq!(world.probe.outside, 0);
}

#[test]
fn nothing_outside_the_applications_memory_is_touched() {
    nothing_outside_is_touched();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_called_memory_is_what_it_was_but_for_the_writes(all in prop::collection::vec(happens(), 1..40)) {
        play(&all);
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..300), reads in any::<bool>()) {
        let mut world = World::halted(&PROGRAM);
        drop(if reads { Some(world.watch_bytes(&bytes)) } else { world.take(&bytes, Access::Write) });
        prop_assert_eq!(world.probe.outside, 0);
    }
}
