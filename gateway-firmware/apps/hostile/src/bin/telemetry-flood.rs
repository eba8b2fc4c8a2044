//! Publishes telemetry as fast as it can, as much as a message holds.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::call;

hostile::application!(attack);

const PUBLISH: u32 = 129;
const KIND: &[u8] = b"application/octet-stream";
const BYTES: usize = 1024;
static DATA: [u8; BYTES] = [0x55; BYTES];

fn attack(it: &mut Attacker) {
    let bytes = 1 + it.round() % BYTES as u32;
    call(PUBLISH, [KIND.as_ptr() as u32, KIND.len() as u32, DATA.as_ptr() as u32, bytes]);
}
