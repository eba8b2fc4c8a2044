//! Jumps past the gate of a call, and into slots that have none.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::secure::GATEWAY_AT;
use hostile::processor::jump;

hostile::application!(attack);

const TO: [u32; 4] =
    [GATEWAY_AT + 8 * 27 + 4, GATEWAY_AT + 8 * 20, GATEWAY_AT + 8 * 2 + 4, GATEWAY_AT + 8 * 255];

fn attack(it: &mut Attacker) {
    jump(it.pick(&TO))
}
