//! Jumps into secure code.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::secure;
use hostile::processor::jump;

hostile::application!(attack);

const TO: [u32; 4] = [
    secure::GATEWAY_AT + secure::GATEWAY_BYTES,
    secure::MICROVISOR_AT,
    secure::BOOT_AT + 0x100,
    secure::RAM_AT,
];

fn attack(it: &mut Attacker) {
    jump(it.pick(&TO))
}
