//! Breakpoint instructions: planted ones, stepping by them, and the application's own.

use gateway_core::ports::{App as _, Held, Life, Probe as _};

use crate::bench::{Bench, PC, XPSR};
use crate::program::{TICKS_AT, Way, breakpoint, steps, tick_breakpoint};

const STEPS: u32 = 200;

pub(crate) fn run(bench: &mut Bench) {
    bench.probe.attach();
    stepping(bench);
    bench.section("stepping");
    of_its_own(bench);
    in_a_handler(bench);
    bench.section("breakpoints");
}

/// By the breakpoint of each next instruction, with its interrupts kept from it: no tick comes in between.
fn stepping(bench: &mut Bench) {
    bench.begin(Way::Steps);
    bench.rest(3_000);
    let _ = bench.halt();
    let at = steps();
    let mut was = bench.plant(at);
    bench.probe.resume(false);
    bench.await_held();
    bench.expect_held("it comes upon a breakpoint", Some(Held::Breakpoint));
    let ticks = bench.peek(TICKS_AT);
    let mut expected = bench.registers();
    bench.expect("it is there", expected[PC] == at, format_args!("{:x}", expected[PC]));
    for step in 0..STEPS {
        match step % 4 {
            0 => expected[4] = expected[4].wrapping_add(1),
            1 => expected[5] = expected[5].wrapping_add(expected[4]),
            2 => expected[6] ^= expected[5],
            _ => {}
        }
        bench.unplant(expected[PC], was);
        expected[PC] = at + 2 * ((step + 1) % 4);
        was = bench.plant(expected[PC]);
        // Longer than a tick, while it is held: one waits, and is kept from it.
        bench.rest(if step % 50 == 0 { 3_000 } else { 20 });
        bench.probe.resume(true);
        bench.await_held();
        let registers = bench.registers();
        let same = (0..=PC).all(|number| registers[number] == expected[number]);
        if !bench.expect("a step", same, format_args!("{step}: {registers:x?} and not {expected:x?}")) {
            break;
        }
    }
    let now = bench.peek(TICKS_AT);
    bench.expect("no tick came into a step", now == ticks, format_args!("{ticks} became {now}"));
    bench.unplant(expected[PC], was);
    bench.expect_code("nothing is left of breakpoints");
    bench.probe.resume(false);
    bench.rest(10_000);
    let now = bench.peek(TICKS_AT);
    bench.expect("ticks come again", now.wrapping_sub(ticks) >= 9, format_args!("{ticks} became {now}"));
    bench.expect_life("it goes on after steps", Life::Running);
}

fn of_its_own(bench: &mut Bench) {
    bench.begin(Way::Breakpoints);
    for count in 1..=20 {
        bench.await_held();
        bench.expect_held("its own breakpoint", Some(Held::Breakpoint));
        let registers = bench.registers();
        let there = (registers[4], registers[PC]) == (count, breakpoint());
        bench.expect("its own breakpoint", there, format_args!("{registers:x?}"));
        bench.expect_life("one at a breakpoint runs", Life::Running);
        let set = bench.probe.set_register(PC, registers[PC] + 2);
        bench.expect("over its own breakpoint", set.is_ok(), format_args!("forbidden"));
        bench.probe.resume(false);
    }
    bench.await_held();
    // It is still there when it goes on as it is.
    bench.probe.resume(false);
    bench.await_held();
    bench.expect_held("the same breakpoint again", Some(Held::Breakpoint));
    bench.probe.detach();
    bench.rest(2_000);
    bench.expect_held("nobody holds it", None);
    bench.expect_life("a breakpoint is a fault while nobody is attached", Life::Crashed);
    let crash = bench.application.take_crash();
    let right = crash
        .as_ref()
        .is_some_and(|crash| crash.kind == wire::msg::CrashKind::Hard && crash.registers[PC] == breakpoint());
    bench.expect("it is reported", right, format_args!("{crash:x?}"));
    bench.probe.attach();
}

fn in_a_handler(bench: &mut Bench) {
    bench.begin(Way::HandlerBreakpoints);
    for ticks in 0..20 {
        bench.await_held();
        bench.expect_held("a breakpoint in a handler", Some(Held::Breakpoint));
        let registers = bench.registers();
        let there = (registers[XPSR] & 0x1ff, registers[PC]) == (15, tick_breakpoint());
        bench.expect("a breakpoint in a handler", there, format_args!("{registers:x?}"));
        let seen = bench.peek(TICKS_AT);
        bench.expect("ticks before it", seen == ticks, format_args!("{seen}"));
        let set = bench.probe.set_register(PC, registers[PC] + 2);
        bench.expect("over a handler's breakpoint", set.is_ok(), format_args!("forbidden"));
        bench.probe.resume(false);
    }
    bench.await_held();
    bench.application.stop();
}
