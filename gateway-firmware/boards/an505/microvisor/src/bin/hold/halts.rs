//! Halts: each kind of running application, so many times. Nothing of it may be different afterwards.

use chip::map::secure;
use gateway_core::ports::{App as _, Held, Life, Probe as _, Registers};

use crate::bench::{Bench, MASKS, PC, SP, XPSR};
use crate::program::{PROCESS_STACK_TOP, STACK_TOP, Way};

const HALTS: usize = 200;
/// Times the code is read before a halt has failed.
const LOOKS_MAX: u32 = 100;

/// How it is seen when it is held.
struct Kind {
    name: &'static str,
    way: Way,
    /// Exception number in xPSR, if it is always the same.
    exception: Option<u32>,
    masks: u32,
    /// Its stack pointer, if that is always the same.
    sp: Option<u32>,
    /// It counts in all registers; otherwise in those that a call keeps.
    counts: bool,
}

/// Of an exception.
const FRAME_BYTES: u32 = 32;
const SPSEL: u32 = 2 << 24;
const UNPRIVILEGED: u32 = 1 << 24;

const KINDS: [Kind; 12] = [
    Kind {
        name: "thread",
        way: Way::Thread,
        exception: Some(0),
        masks: 0,
        sp: Some(STACK_TOP),
        counts: true,
    },
    Kind {
        name: "primask",
        way: Way::Primask,
        exception: Some(0),
        masks: 1,
        sp: Some(STACK_TOP),
        counts: true,
    },
    Kind {
        name: "faultmask",
        way: Way::Faultmask,
        exception: Some(0),
        masks: 1 << 16,
        sp: Some(STACK_TOP),
        counts: true,
    },
    Kind {
        name: "basepri",
        way: Way::Basepri,
        exception: Some(0),
        masks: 0x20 << 8,
        sp: Some(STACK_TOP),
        counts: true,
    },
    Kind {
        name: "process-stack",
        way: Way::Process,
        exception: Some(0),
        masks: SPSEL,
        sp: Some(PROCESS_STACK_TOP - 4),
        counts: true,
    },
    Kind {
        name: "handler",
        way: Way::Handler,
        exception: Some(15),
        masks: 0,
        sp: Some(STACK_TOP - FRAME_BYTES),
        counts: true,
    },
    Kind {
        name: "unprivileged",
        way: Way::Unprivileged,
        exception: Some(15),
        masks: UNPRIVILEGED,
        sp: Some(STACK_TOP),
        counts: true,
    },
    Kind { name: "ticks", way: Way::Ticks, exception: None, masks: 0, sp: None, counts: false },
    Kind { name: "waits", way: Way::Waits, exception: None, masks: 0, sp: None, counts: false },
    Kind { name: "calls", way: Way::Calls, exception: Some(0), masks: 0, sp: Some(STACK_TOP), counts: false },
    Kind {
        name: "handler-calls",
        way: Way::HandlerCalls,
        exception: Some(15),
        masks: 0,
        sp: Some(STACK_TOP - FRAME_BYTES),
        counts: false,
    },
    Kind { name: "storm", way: Way::Storm, exception: None, masks: 0, sp: None, counts: false },
];

/// Of xPSR: in an IT block.
const IN_BLOCK: u32 = 0x0600_fc00;

pub(crate) fn run(bench: &mut Bench) {
    KINDS.iter().for_each(|kind| halts(bench, kind));
    bench.section("halts");
    [Way::Calls, Way::Storm].into_iter().for_each(|way| beside_work(bench, way));
    bench.section("halts beside work");
}

/// Whatever it takes to hold it is not seen in the code, by a supervisor that looks at it all the time.
fn beside_work(bench: &mut Bench, way: Way) {
    bench.begin(way);
    for turn in 0..HALTS as u64 {
        bench.rest(300 + turn * 7);
        bench.probe.halt();
        let mut looks = 0;
        while bench.probe.held().is_none() && looks < LOOKS_MAX {
            bench.expect_code("code beside a halt");
            looks += 1;
        }
        bench.expect_held("a halt beside work", Some(Held::Asked));
        bench.probe.resume(false);
    }
    bench.rest(5_000);
    bench.expect_life("it goes on beside work", Life::Running);
}

fn halts(bench: &mut Bench, kind: &Kind) {
    let Kind { name, way, .. } = *kind;
    bench.begin(way);
    bench.rest(5_000);
    let mut took = [0; HALTS];
    let (mut in_block, mut in_handler, mut at_veneer, mut waits) = (0, 0, 0, 0x2545_f491_u32);
    for took in &mut took {
        // Anywhere in its turns: xorshift.
        waits ^= waits << 13;
        waits ^= waits >> 17;
        waits ^= waits << 5;
        bench.rest(u64::from(300 + waits % 1700));
        let Some(us) = bench.halt() else {
            let life = bench.application.status().life;
            bench.expect(name, false, format_args!("is not held, {life:?}"));
            return;
        };
        *took = us;
        bench.expect_held(name, Some(Held::Asked));
        let registers = bench.registers();
        look(bench, kind, &registers);
        in_block += u32::from(registers[XPSR] & IN_BLOCK != 0);
        at_veneer += u32::from(registers[PC].wrapping_sub(secure::GATEWAY_AT) < secure::GATEWAY_BYTES);
        in_handler += u32::from(registers[XPSR] & 0x1ff != 0);
        write_back(bench, name, &registers);
        bench.expect_code(name);
        bench.expect_life(name, Life::Running);
        bench.probe.resume(false);
        bench.expect_held(name, None);
    }
    bench.rest(5_000);
    bench.expect_life(name, Life::Running);
    took.sort_unstable();
    let [p50, p99, max] = [HALTS / 2, HALTS * 99 / 100 - 1, HALTS - 1].map(|index| took[index]);
    bench.say(format_args!(
        "took {name}: p50 {p50} p99 {p99} max {max} us, {in_block} in an IT block, {in_handler} in a handler, \
         {at_veneer} at a veneer"
    ));
}

fn look(bench: &mut Bench, kind: &Kind, registers: &Registers) {
    let exception = registers[XPSR] & 0x1ff;
    let right = kind.exception.is_none_or(|number| number == exception);
    bench.expect(kind.name, right, format_args!("in exception {exception}"));
    bench.expect(kind.name, registers[MASKS] == kind.masks, format_args!("masks {:08x}", registers[MASKS]));
    let (sp, pc) = (registers[SP], registers[PC]);
    bench.expect(kind.name, kind.sp.is_none_or(|stack| stack == sp), format_args!("sp {sp:08x}"));
    bench.expect(
        kind.name,
        sp.is_multiple_of(4) && pc.is_multiple_of(2),
        format_args!("sp {sp:x} pc {pc:x}"),
    );
    // A register has been counted, or not yet, or its number is taken off.
    let near = |number: u32| {
        let more = registers[number as usize].wrapping_sub(registers[0]);
        [number, number.wrapping_sub(1), 0, u32::MAX].contains(&more)
    };
    // The first few instructions of a way do not count yet.
    if kind.counts {
        let right = (1..=12).all(near);
        bench.expect(kind.name, right, format_args!("{registers:x?}"));
    }
}

/// A debugger writes all registers back.
fn write_back(bench: &mut Bench, name: &str, registers: &Registers) {
    for (number, value) in registers.iter().enumerate() {
        let set = bench.probe.set_register(number, *value);
        bench.expect(name, set.is_ok(), format_args!("register {number} cannot be {value:08x}"));
        // Another value, and back.
        if number < SP {
            let set = bench.probe.set_register(number, !value).and(bench.probe.set_register(number, *value));
            bench.expect(name, set.is_ok(), format_args!("register {number} cannot be changed"));
        }
    }
    let after = bench.registers();
    bench.expect(name, after == *registers, format_args!("{registers:x?} became {after:x?}"));
}
