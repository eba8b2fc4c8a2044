//! Reaches for memory that the processor allows it and the bus does not: a hole that only an MPC closes.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::app;

hostile::application!(attack);

const HOLE: [u32; 3] = [
    app::RAM_AT + app::RAM_BYTES,
    app::RAM_AT + app::RAM_SAU_BYTES - 4,
    app::RAM_AT + app::RAM_BYTES + 0x400,
];

fn attack(it: &mut Attacker) {
    let at = it.pick(&HOLE);
    if it.start().is_multiple_of(2) { it.reads(at) } else { it.writes(at) }
}
