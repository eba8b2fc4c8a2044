//! What may be read, written and set, and what may not.

use chip::map::{app, flash, register, secure};
use gateway_core::ports::{Forbidden, Probe as _};

use crate::bench::{Bench, MASKS, MSP, PC, PSP, SP, XPSR};
use crate::program::{STACK_TOP, Way, entry, steps};

/// Bit 28 of an address says Secure.
const OTHER: u32 = 0x1000_0000;
const CODE_END: u32 = app::CODE_AT + app::CODE_BYTES;
const RAM_END: u32 = app::RAM_AT + app::RAM_BYTES;
const UART_CTRL: u32 = app::UART_AT + 8;
const TIMER_RELOAD: u32 = app::TIMERS_AT + 8;

/// Address and bytes.
const FORBIDDEN: [(u32, usize); 37] = [
    (0, 4),
    (app::CODE_AT - 1, 1),
    (app::CODE_AT - 1, 2),
    (CODE_END - 1, 2),
    (CODE_END, 1),
    (app::STUB_AT, 4),
    (app::CODE_AT + OTHER, 4),
    (secure::BOOT_AT, 4),
    (secure::MICROVISOR_AT, 4),
    (secure::MICROVISOR_AT - OTHER, 4),
    (secure::GATEWAY_AT, 4),
    (secure::GATEWAY_AT + 8, 64),
    (secure::RAM_AT, 4),
    (secure::RAM_AT - OTHER, 4),
    (secure::KEPT_AT, 4),
    (secure::BOOT_RAM_AT, 4),
    (app::RAM_AT - 1, 1),
    (app::RAM_AT - 4, 8),
    (RAM_END - 1, 2),
    (RAM_END, 1),
    (app::RAM_AT + OTHER, 4),
    (flash::AT, 4),
    (flash::AT + flash::STORE, 64),
    (u32::MAX, 1),
    (u32::MAX, 2),
    (u32::MAX - 3, 64),
    (0xE000_ED08, 4),
    (0xE002_ED08, 4),
    (register::UART_CONSOLE, 4),
    (register::UART_CONSOLE - OTHER, 4),
    (register::LAN9118, 4),
    (app::UART_AT + OTHER, 4),
    (app::UART_AT + app::UART_BYTES, 4),
    (UART_CTRL, 8),
    (UART_CTRL, 3),
    (UART_CTRL + 2, 4),
    (UART_CTRL + 1, 2),
];

pub(crate) fn run(bench: &mut Bench) {
    nothing_runs(bench);
    bench.start_held();
    memory(bench);
    beginning(bench);
    bench.section("memory");
    registers(bench);
    bench.section("registers");
}

fn nothing_runs(bench: &mut Bench) {
    bench.expect_held("nothing runs", None);
    let registers = bench.probe.registers();
    bench.expect("nothing has registers", registers.is_none(), format_args!("{registers:x?}"));
    let set = bench.probe.set_register(0, 0);
    bench.expect("nothing has registers to set", set == Err(Forbidden), format_args!("set"));
    bench.probe.resume(false);
    bench.probe.resume(true);
    bench.expect_held("nothing goes on", None);
}

fn memory(bench: &mut Bench) {
    for (at, bytes) in FORBIDDEN {
        let mut into = [0x5a; 64];
        let read = bench.probe.read(at, &mut into[..bytes]);
        let untouched = into.iter().all(|byte| *byte == 0x5a);
        bench.expect("a forbidden read", read == Err(Forbidden) && untouched, format_args!("{at:08x}"));
        let written = bench.probe.write(at, &into[..bytes]);
        bench.expect("a forbidden write", written == Err(Forbidden), format_args!("{at:08x}"));
    }
    for at in [0, app::UART_AT, secure::RAM_AT] {
        let none = bench.probe.read(at, &mut []);
        bench.expect("nothing of what is not its", none == Err(Forbidden), format_args!("{at:08x}"));
    }
    bench.expect_code("the program is read");
    for (at, bytes) in [(CODE_END - 7, 7), (app::RAM_AT + 1, 6), (RAM_END - 5, 5), (RAM_END - 64, 64)] {
        let (mut before, mut there) = ([0; 64], [0; 64]);
        let (before, there) = (&mut before[..bytes], &mut there[..bytes]);
        let mut wanted = [0; 64];
        (1..).zip(&mut wanted).for_each(|(value, byte)| *byte = value);
        let done = bench.probe.read(at, before).is_ok()
            && bench.probe.write(at, &wanted[..bytes]).is_ok()
            && bench.probe.read(at, there).is_ok()
            && bench.probe.write(at, before).is_ok();
        bench.expect(
            "memory holds what is written",
            done && there == &wanted[..bytes],
            format_args!("{at:08x}"),
        );
    }
    peripherals(bench);
}

/// By the alias of the application's: by the other they are not there.
fn peripherals(bench: &mut Bench) {
    bench.poke(TIMER_RELOAD, 0x0001_2345);
    let word = bench.peek(TIMER_RELOAD);
    bench.expect("a timer is reached", word == 0x0001_2345, format_args!("{word:x}"));
    bench.poke(UART_CTRL, 1);
    for bytes in [1, 2, 4] {
        let mut word = [0; 4];
        let read = bench.read_into(UART_CTRL, &mut word[..bytes]);
        bench.expect("a UART is reached", read && word == [1, 0, 0, 0], format_args!("{bytes}: {word:x?}"));
    }
    for (at, bytes) in [(app::UART_AT + 0x40, 4), (app::UART_AT + 0xff3, 1), (app::TIMERS_AT + 0x1ffc, 4)] {
        let mut word = [0; 4];
        let read = bench.read_into(at, &mut word[..bytes]);
        bench.expect("nothing lies there, and nothing happens", read, format_args!("{at:x}"));
    }
    for bytes in [1, 2] {
        let written = bench.probe.write(UART_CTRL, &[1, 0][..bytes]);
        bench.expect("a UART is written", written.is_ok(), format_args!("{bytes}"));
    }
    bench.poke(TIMER_RELOAD, 0);
}

/// Of one that is held before it began.
fn beginning(bench: &mut Bench) {
    let registers = bench.registers();
    let shown = [SP, PC, XPSR, MSP, PSP, MASKS].map(|number| registers[number]);
    let expected = [STACK_TOP, entry(), 1 << 24, STACK_TOP, 0, 0];
    bench.expect("a beginning is seen", shown == expected, format_args!("{shown:x?}"));
    let set = bench.probe.set_register(0, 1);
    bench.expect("a beginning is not changed", set == Err(Forbidden), format_args!("set"));
    let set = bench.probe.set_register(PC, registers[PC]);
    bench.expect("a beginning is what it is", set.is_ok(), format_args!("forbidden"));
}

fn registers(bench: &mut Bench) {
    bench.begin(Way::Steps);
    bench.rest(2_000);
    let _ = bench.halt();
    let forbidden = [
        (SP, app::RAM_AT + 28),
        (SP, STACK_TOP - 62),
        (SP, RAM_END + 8),
        (MSP, secure::RAM_AT + 64),
        (PSP, secure::RAM_AT + 64),
        (PSP, app::RAM_AT),
        (PSP, app::RAM_AT + 6),
        (PSP, RAM_END + 4),
        (PC, secure::GATEWAY_AT),
        (PC, secure::RAM_AT),
        (PC, app::STUB_AT),
        (PC, 0xffff_fffe),
        (MASKS, 2 << 24),
        (MASKS, 4 << 24),
        (MASKS, 2),
        (MASKS, 2 << 16),
        (20, 0),
        (usize::MAX, 0),
    ];
    let before = bench.registers();
    for (number, value) in forbidden {
        let set = bench.probe.set_register(number, value);
        bench.expect("a forbidden register", set == Err(Forbidden), format_args!("{number} {value:x}"));
    }
    let after = bench.registers();
    bench.expect("nothing was changed", before == after, format_args!("{after:x?}"));
    let allowed = [
        (4, 0x1234_5678),
        (12, 0x8765_4321),
        (14, 0xdead_beef),
        (PSP, RAM_END),
        (PSP, app::RAM_AT + 64),
        (SP, STACK_TOP - 64),
        (SP, STACK_TOP - 68),
        (MSP, STACK_TOP - 128),
        (PC, steps() + 2),
        (XPSR, 0xa100_0000),
        (MASKS, 0x0001_2001),
        (MASKS, 0x0100_0000),
        (MASKS, 0),
    ];
    for (number, value) in allowed {
        let set = bench.probe.set_register(number, value);
        let shown = bench.registers()[number];
        bench.expect(
            "a register",
            set.is_ok() && shown == value,
            format_args!("{number} {value:x}: {shown:x}"),
        );
    }
    // What is below the stack is nobody's: the frame is not there any more.
    let kept = bench.registers();
    let over = bench.probe.write(STACK_TOP - 256, &[0xee; 128]);
    let seen = bench.registers();
    bench.expect("its frame is not what lies there", over.is_ok() && seen == kept, format_args!("{seen:x?}"));
    // Neither Thumb nor the exception's number is a debugger's.
    let set = bench.probe.set_register(XPSR, 0x4000_0010);
    let shown = bench.registers()[XPSR];
    bench.expect("flags only", set.is_ok() && shown == 0x4100_0000, format_args!("{shown:x}"));
    bench.probe.resume(false);
    bench.rest(2_000);
    let _ = bench.halt();
    let r4 = bench.registers()[4];
    let counted = r4.wrapping_sub(0x1234_5678) < 0x1_0000;
    bench.expect("it goes on with what was set", counted, format_args!("r4 {r4:x}"));
    bench.probe.resume(false);
}
