//! Has as many notification centres as there are, and posts into them without end.
#![no_std]
#![no_main]

use abi::structures::NotificationSetup;
use hostile::Attacker;
use hostile::places::irq;
use hostile::processor::{call, set};
use hostile::vectors;

hostile::application!(attack);

const SETUP: u32 = 16;
const TRIGGER: u32 = 28;
const CENTRES: usize = 8;
const RING_BYTES: u32 = 32;
const ISER: u32 = 0xe000_e100;

#[repr(align(8))]
struct Rings(#[expect(dead_code, reason = "only its address is used")] [u8; CENTRES * RING_BYTES as usize]);

static mut RINGS: Rings = Rings([0; CENTRES * RING_BYTES as usize]);
static mut HANDLES: [u32; CENTRES] = [0; CENTRES];

fn attack(it: &mut Attacker) {
    if it.round() == 0 {
        vectors::all(vectors::nothing);
        for (index, line) in irq::SPARE.into_iter().enumerate() {
            let buffer = (&raw const RINGS) as u32 + RING_BYTES * index as u32;
            let setup = NotificationSetup { irq: line, buffer, buffer_size: RING_BYTES };
            let handle = (&raw mut HANDLES) as u32 + 4 * index as u32;
            call(SETUP, [(&raw const setup) as u32, handle, 0, 0]);
            set(ISER + line / 32 * 4, 1 << (line % 32));
        }
    }
    for index in 0..CENTRES as u32 {
        let handle = hostile::processor::peek((&raw const HANDLES) as u32 + 4 * index);
        call(TRIGGER, [handle, it.round(), index, 0]);
    }
}
