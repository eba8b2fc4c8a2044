//! Steps through what random programs hardly ever meet.

use wire::msg::{DebugGo, DebugState, DebugStopReason};

use crate::sim::{CODE, Call, GATEWAY, Machine, RAM, World};
use crate::step_random::steps_like_the_processor;

const NOP: u16 = 0xbf00;
const B_SELF: u16 = 0xe7fe;

/// Where a step comes out, from the program's beginning.
fn step(world: &mut World) -> (DebugStopReason, u32) {
    let told = world.goes(&Call { catch_faults: true, ..Call::go(DebugGo::Step) });
    assert_eq!(told.state, DebugState::Halted);
    (told.reason(), told.pc() - CODE)
}

fn range(world: &mut World, from: u32, to: u32) -> (DebugStopReason, u32) {
    let told = world.goes(&Call { range: (CODE + from, CODE + to), ..Call::go(DebugGo::Range) });
    (told.reason(), told.pc() - CODE)
}

#[test]
fn programs_written_by_hand_are_stepped_like_the_processor() {
    let programs: [&[u16]; 7] = [
        // cmp r0, #0; ittee eq; moveq r1, #1; addeq r1, #2; movne r2, #3; bne back
        &[0x2800, 0xbf06, 0x2101, 0x3102, 0x2203, 0xe7f9, NOP],
        // cbz r0; cbnz r0; bl; push {r4, lr}; pop {r4, pc}
        &[0xb100, NOP, 0xb900, 0xf000, 0xf801, B_SELF, 0xb510, 0xbd10],
        // tbb [pc, r0] with r0 = 1: 02 03
        &[0x2001, 0xe8df, 0xf000, 0x0302, NOP, 0x2101, 0x2202, NOP],
        // tbh [pc, r0, lsl #1]
        &[0x2001, 0xe8df, 0xf010, 0x0002, 0x0003, 0x2101, 0x2202, NOP],
        // push {r0-r3, lr}; ldmia.w sp!, {r0-r3, pc}
        &[0xb50f, 0xe8bd, 0x800f],
        // push {lr}; ldr.w pc, [sp], #4
        &[0xb500, 0xf85d, 0xfb04],
        // add pc, r0 with r0 = 2; mov pc, lr
        &[0x2002, 0x4487, NOP, NOP, 0x46f7],
    ];
    for program in programs {
        for flags in 0..16 {
            let mut machine = Machine::new(program);
            machine.xpsr |= flags << 28;
            machine.r[14] = CODE + 0x801;
            steps_like_the_processor(machine);
        }
    }
}

#[test]
fn an_instruction_that_leads_to_itself_is_a_step() {
    let mut world = World::halted(&[B_SELF]);
    assert_eq!([(); 3].map(|()| step(&mut world)), [(DebugStopReason::Step, 0); 3]);
    assert_eq!(world.probe.machine.calls, 0);
    // bl to itself links.
    let mut world = World::halted(&[0xf7ff, 0xfffe]);
    assert_eq!(step(&mut world), (DebugStopReason::Step, 0));
    assert_eq!(world.probe.machine.r[14], CODE + 5);
}

#[test]
fn a_loop_in_a_range_ends_when_the_developer_says_so() {
    let mut world = World::halted(&[NOP, B_SELF]);
    assert_eq!(world.call(&Call { range: (CODE, CODE + 4), ..Call::go(DebugGo::Range) }), None);
    for _ in 0..20 {
        assert_eq!(world.poll(), None);
        assert!(world.agent.deadline_ms() <= world.now_ms + 1, "the next step is due");
    }
    let told = world.goes(&Call::go(DebugGo::Halt));
    assert_eq!((told.reason(), told.pc(), told.call), (DebugStopReason::Halt, CODE + 2, world.number));
    assert_eq!(step(&mut world), (DebugStopReason::Step, 2));
}

#[test]
fn a_range_is_stepped_until_pc_leaves_it_one_step_a_look() {
    // movs r0, #3; subs r0, #1; bne back; nop
    let mut world = World::halted(&[0x2003, 0x3801, 0xd1fd, NOP, NOP]);
    assert_eq!(world.call(&Call { range: (CODE, CODE + 6), ..Call::go(DebugGo::Range) }), None);
    let told = (0..20).map(|_| world.poll()).position(|told| {
        told.is_some_and(|told| (told.reason(), told.pc()) == (DebugStopReason::Step, CODE + 6))
    });
    assert!(told.is_some_and(|looks| looks >= 5), "{told:?}");
    // Out of it from the beginning: one step. Empty: the same.
    assert_eq!(range(&mut world, 0, 6), (DebugStopReason::Step, 8));
    let mut world = World::halted(&[NOP, NOP]);
    assert_eq!(range(&mut world, 0, 0), (DebugStopReason::Step, 2));
}

#[test]
fn a_range_in_pieces_is_stepped_as_one() {
    // nop; b over; nop; over: nop; bl f; nop; nop; f: bx lr
    let program = [NOP, 0xe000, NOP, NOP, 0xf000, 0xf802, NOP, NOP, NOP, 0x4770];
    let mut world = World::halted(&program);
    let pieces = [(CODE + 2, CODE + 4), (CODE + 6, CODE + 12)];
    let go = |ranges: &[(u32, u32)]| Call {
        range: (CODE, CODE + 2),
        ranges: ranges.to_vec(),
        ..Call::go(DebugGo::Range)
    };
    let told = world.goes(&go(&pieces));
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Step, CODE + 16), "into what is called");
    // They are of this call alone.
    let mut world = World::halted(&program);
    assert_eq!(world.goes(&go(&pieces[..1])).pc(), CODE + 6);
    world.call(&Call { registers: vec![(15, CODE)], ..Call::default() }).unwrap();
    assert_eq!(world.goes(&go(&[])).pc(), CODE + 2);
}

#[test]
fn a_range_ends_at_a_breakpoint_and_where_a_function_is_entered() {
    // nop; nop; bl +2; nop; nop
    let mut world = World::halted(&[NOP, NOP, 0xf000, 0xf801, NOP, 0x2101, 0x4770]);
    assert_eq!(world.call(&Call::plant(&[CODE + 2])).unwrap().refused().1, 0);
    assert_eq!(range(&mut world, 0, 10), (DebugStopReason::Breakpoint, 2));
    assert_eq!(range(&mut world, 0, 10), (DebugStopReason::Step, 10));
}

#[test]
fn an_exclusive_access_is_one_step_and_succeeds() {
    // ldrex r0, [r1]; adds r0, #1; strex r2, r0, [r1]; cmp r2, #0; bne back; nop
    let mut machine = Machine::new(&[0xe851, 0x0f00, 0x3001, 0xe841, 0x0200, 0x2a00, 0xd1f8, NOP]);
    machine.r[1] = RAM;
    let mut world = World::halted_with(machine);
    assert_eq!(step(&mut world), (DebugStopReason::Step, 10));
    assert_eq!((world.probe.machine.r[2], world.probe.machine.ram[0]), (0, 1));
    assert_eq!([(); 2].map(|()| step(&mut world).1), [12, 14]);
}

#[test]
fn an_exclusive_access_is_left_by_a_branch_and_by_a_return() {
    // ldrex r0, [r1]; cmp r0, r3; bne out; strex r2, r0, [r1]; nop; out: nop
    let program = [0xe851, 0x0f00, 0x4298, 0xd103, 0xe841, 0x0200, NOP, NOP, NOP];
    for (expected, out) in [(0, 12), (5, 16)] {
        let mut machine = Machine::new(&program);
        (machine.r[1], machine.r[3]) = (RAM, expected);
        assert_eq!(step(&mut World::halted_with(machine)), (DebugStopReason::Step, out));
    }
    // ldrex r0, [r1]; cmp r0, r3; it ne; bxne lr; strex r2, r0, [r1]; nop
    let program = [0xe851, 0x0f00, 0x4298, 0xbf18, 0x4770, 0xe841, 0x0200, NOP];
    for (expected, out) in [(0, 14), (5, 0x800)] {
        let mut machine = Machine::new(&program);
        (machine.r[1], machine.r[3]) = (RAM, expected);
        assert_eq!(step(&mut World::halted_with(machine)), (DebugStopReason::Step, out));
    }
}

#[test]
fn an_exclusive_load_without_its_store_is_a_step_like_others() {
    let mut machine = Machine::new(&[0xe851, 0x0f00, NOP, NOP]);
    machine.r[1] = RAM;
    assert_eq!(step(&mut World::halted_with(machine)), (DebugStopReason::Step, 4));
}

#[test]
fn a_call_of_the_microvisors_is_one_step_however_it_is_entered() {
    // blx r3
    let mut machine = Machine::new(&[0x4798, NOP]);
    machine.r[3] = GATEWAY | 1;
    let mut world = World::halted_with(machine);
    assert_eq!((step(&mut world).1, world.probe.machine.calls), (2, 1));
    // bx r3, as a veneer does: it returns to who called the veneer.
    let mut machine = Machine::new(&[0x4718, NOP, NOP]);
    (machine.r[3], machine.r[14]) = (GATEWAY | 1, CODE + 5);
    let mut world = World::halted_with(machine);
    assert_eq!((step(&mut world).1, world.probe.machine.calls), (4, 1));
}

#[test]
fn interrupts_are_kept_from_a_step_and_come_after_it() {
    // nop; nop; b .; handler: adds r7, #1; bx lr
    let mut machine = Machine::new(&[NOP, NOP, B_SELF, 0x3701, 0x4770]);
    machine.interrupt = Some(CODE + 7);
    let mut world = World::halted_with(machine);
    assert_eq!([(); 2].map(|()| step(&mut world).1), [2, 4]);
    assert_eq!(world.probe.machine.r[7], 0);
    assert_eq!(world.call(&Call::go(DebugGo::Continue)), None);
    assert_eq!(world.goes(&Call::go(DebugGo::Halt)).pc(), CODE + 4);
    assert_eq!(world.probe.machine.r[7], 1);
}

#[test]
fn the_end_of_a_handler_is_stepped_to_what_it_interrupted_on_either_stack() {
    for (spsel, program, steps) in [
        (false, [NOP, NOP, 0x3701, 0x4770, NOP], 2),
        (true, [NOP, NOP, 0x3701, 0x4770, NOP], 2),
        // push {r4, lr}; pop {r4, pc}
        (false, [NOP, NOP, 0xb510, 0xbd10, NOP], 2),
        (true, [NOP, NOP, 0xb510, 0xbd10, NOP], 2),
    ] {
        let mut machine = Machine::new(&program);
        (machine.spsel, machine.interrupt) = (spsel, Some(CODE + 5));
        machine.interrupted();
        let mut world = World::halted_with(machine);
        let outs: Vec<_> = (0..steps).map(|_| step(&mut world).1).collect();
        assert_eq!(outs, [6, 0], "{spsel}");
        assert!(!world.probe.machine.in_handler());
    }
}

#[test]
fn a_step_over_a_service_call_comes_out_behind_it() {
    assert_eq!(step(&mut World::halted(&[0xdf05, NOP])), (DebugStopReason::Step, 2));
}

#[test]
fn a_step_that_sleeps_is_halted_where_it_is() {
    // wfi
    let mut world = World::halted(&[0xbf30, NOP]);
    assert_eq!(world.call(&Call::go(DebugGo::Step)), None);
    assert_eq!([(); 5].map(|()| world.poll()), [(); 5].map(|()| None));
    let told = world.goes(&Call::go(DebugGo::Halt));
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Halt, CODE));
    assert_eq!(world.code()[..4], [0x30, 0xbf, 0x00, 0xbf], "nothing is left planted");
}

#[test]
fn a_step_into_nowhere_is_a_fault_there() {
    // bx r3
    let mut machine = Machine::new(&[0x4718]);
    (machine.r[3], machine.r[14]) = (0x1000_0001, 0x1000_0001);
    let told = World::halted_with(machine).goes(&Call { catch_faults: true, ..Call::go(DebugGo::Step) });
    assert_eq!((told.reason(), told.pc()), (DebugStopReason::Fault, 0x1000_0000));
}
