//! Random programs: a step comes out exactly where one instruction of the processor leads, with everything as it is then.

use proptest::prelude::*;
use wire::msg::{DebugGo, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, GATEWAY, Machine, Outcome, RAM, SIZE, World};

/// Instructions of a program.
const LENGTH: u32 = 48;

/// One or two halfwords of a kind, with these fields.
fn instruction(kind: u8, x: u16, y: u16) -> Vec<u16> {
    match kind {
        0 => vec![x & 0x3fff],
        1 => vec![0x4000 | x & 0x3ff],
        2 => vec![0x4400 | x & 0x3ff & !0x7],
        3 => vec![0x4400 | x & 0x3ff],
        4 => vec![0x5000 | x & 0xfff],
        5 => vec![0x6000 + x % 0x4000],
        6 => vec![0xa000 | x & 0xfff],
        7 => vec![0xb400 | x & 0x1ff],
        8 => vec![0xbc00 | x & 0x1ff],
        9 => vec![0xb100 | x & 0x08ff],
        10 => vec![0xbf00 | (x % 14) << 4 | (y % 15 + 1)],
        11 => vec![0xd000 | (x % 14) << 8 | (y % 24).wrapping_sub(8) & 0xff],
        12 => vec![0xe000 | (x % 24).wrapping_sub(8) & 0x7ff],
        13 => vec![0xc000 | x & 0xfff],
        // BX, BLX
        14 => vec![0x4700 | x & 0xf8],
        // MOV and ADD pc
        15 => vec![[0x4687, 0x4487][usize::from(y & 1)] | x & 0x78],
        // BL, B.W, a little forward
        16 => vec![0xf000, [0xf800, 0xb800][usize::from(y & 1)] | (x % 16)],
        // B<c>.W
        17 => vec![0xf000 | (x % 14) << 6, 0x8000 | (y % 16)],
        // TBB, TBH, of a table in memory
        18 => vec![0xe8d0 | (x % 8), 0xf000 | y & 0x17],
        // LDM, LDMDB
        19 => vec![[0xe890, 0xe8b0, 0xe910, 0xe930][usize::from(x & 3)] | ((x >> 2) % 14), y & 0xdfff],
        // LDR pc or not
        20 => vec![0xf850 | (x & 0x80) | (x % 14), y | [0xf000, 0][usize::from(x >> 8 & 1)]],
        21 => vec![0xf85d, 0xfb04],
        22 => vec![0xf8d0 | (x % 13), 0xf000 | y & 0x3c],
        23 => vec![0xdf00 | x & 0xff],
        24 => vec![0xbd00 | x & 0xff],
        _ => vec![0xbf00],
    }
}

fn program() -> impl Strategy<Value = Vec<u16>> {
    let one = (0u8..26, any::<u16>(), any::<u16>());
    prop::collection::vec(one.prop_map(|(kind, x, y)| instruction(kind, x, y)), LENGTH as usize)
        .prop_map(|instructions| instructions.concat())
}

/// A value that a register may well hold.
fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0..SIZE / 4).prop_map(|word| RAM + word * 4),
        (0..LENGTH).prop_map(|word| CODE + word * 2 + 1),
        0u32..64,
        Just(GATEWAY | 1),
        any::<u32>(),
    ]
}

fn machine() -> impl Strategy<Value = Machine> {
    let ram = prop::collection::vec(value(), (SIZE / 4) as usize);
    let registers = prop::array::uniform13(value());
    (program(), registers, ram, 0u32..16, any::<bool>()).prop_map(
        |(program, registers, ram, flags, spsel)| {
            let mut machine = Machine::new(&program);
            machine.r[..13].copy_from_slice(&registers);
            machine.xpsr |= flags << 28;
            machine.spsel = spsel;
            machine.ram = ram.iter().flat_map(|word| word.to_le_bytes()).collect();
            machine
        },
    )
}

/// An exclusive access in what is left of the program may make one step of several instructions.
fn is_exclusive(machine: &Machine) -> bool {
    let at = (machine.r[15] - CODE) as usize & 0xfff;
    machine.code.get(at..at + 2).is_some_and(|word| word[1] == 0xe8 && word[0] & 0xf0 == 0x50)
}

pub(crate) fn steps_like_the_processor(mut reference: Machine) {
    let program = reference.code.clone();
    let mut world = World::halted_with(reference.clone());
    for _ in 0..60 {
        // In its data it would read its own instructions.
        if is_exclusive(&reference) || reference.r[15] >= RAM {
            return;
        }
        let pc = reference.r[15];
        let before = reference.clone();
        let outcome = reference.one();
        // What reads its own instructions may find the breakpoint of the step there: that is what software steps are.
        if matches!(outcome, Outcome::Breakpoint | Outcome::Waits) {
            return;
        }
        // Into its own second half: no breakpoint can be there while it runs.
        let is_long = program.get((pc - CODE) as usize + 1).is_some_and(|high| *high >= 0xe8);
        if is_long && reference.r[15] == pc + 2 {
            return;
        }
        if std::mem::take(&mut reference.read_code)
            || before.r[15] == reference.r[15] && outcome == Outcome::Done && changed(&before, &reference)
        {
            return;
        }
        let told = world.goes(&Call { catch_faults: true, ..Call::go(DebugGo::Step) });
        assert_eq!(told.state, DebugState::Halted);
        let reason = match outcome {
            Outcome::Done | Outcome::Waits => DebugStopReason::Step,
            Outcome::Breakpoint => DebugStopReason::Instruction,
            Outcome::Fault => DebugStopReason::Fault,
        };
        let context = format!("at {pc:#x}: {:02x?}", &program[(pc - CODE) as usize & 0xfff..][..4]);
        assert_eq!((told.reason(), told.pc()), (reason, reference.r[15]), "{context}");
        assert_eq!(world.code(), program, "{context}");
        world.probe.machine.monitor = false;
        (world.probe.machine.read_code, reference.monitor) = (false, false);
        assert_eq!(world.probe.machine, reference, "{context}");
        if outcome == Outcome::Fault {
            return;
        }
    }
    world.end();
    assert_eq!((world.code(), world.probe.outside), (&program[..], 0));
}

/// It led to itself, and not only pc and the link register are concerned.
fn changed(before: &Machine, after: &Machine) -> bool {
    let mut rest = after.clone();
    rest.r[14] = before.r[14];
    rest != *before
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_step_comes_out_where_one_instruction_leads(machine in machine()) {
        steps_like_the_processor(machine);
    }
}
