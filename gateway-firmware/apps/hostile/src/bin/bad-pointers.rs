//! Makes every call with every bad pointer, over and over.
#![no_std]
#![no_main]

use abi::call::By;
use abi::{CALLS, Call, Kind, Length};
use hostile::Attacker;
use hostile::places::{MEMORY, PERIPHERALS, app, register};

hostile::application!(attack);

/// Good memory for whatever is not wrong on purpose.
#[repr(align(1024))]
struct Good(#[expect(dead_code, reason = "only its address is used")] [u8; 2048]);

static mut GOOD: Good = Good([0x20; 2048]);
/// Calls that end the application, or are no call with a pointer.
const RESTART: u8 = 64;
const HEALTHY: u8 = 128;

fn attack(it: &mut Attacker) {
    for call in CALLS.iter().filter(|call| call.slot != RESTART && call.slot != HEALTHY) {
        for (index, parameter) in call.parameters.iter().enumerate() {
            if let Kind::Pointer(_) = parameter.kind {
                all(it, call, index);
            }
        }
    }
}

fn all(it: &mut Attacker, call: &Call, index: usize) {
    let edges = [
        0,
        app::RAM_AT - 4,
        app::RAM_AT + app::RAM_BYTES - 1,
        !0,
        !0 - 7,
        !0 - 511,
        register::UART_APP,
        app::STUB_AT,
        0xe000_e000,
    ];
    for at in MEMORY.iter().chain(&PERIPHERALS).chain(&edges) {
        let mut passed = good(call);
        passed[index] = *at;
        if hostile::processor::call(call.slot.into(), passed) == 0 {
            it.breach(format_args!("{} takes {at:08x} for {}", call.name, call.parameters[index].name));
        }
    }
}

fn good(call: &Call) -> [u32; 4] {
    let mut passed = [0; 4];
    for (index, parameter) in call.parameters.iter().enumerate() {
        if let Kind::Pointer(pointer) = parameter.kind {
            passed[index] = (&raw const GOOD) as u32;
            if let Length::By(By { parameter, min, multiple, max, .. }) = pointer.length {
                passed[parameter] = (2 * multiple).clamp(min, max);
            }
        }
    }
    passed
}
