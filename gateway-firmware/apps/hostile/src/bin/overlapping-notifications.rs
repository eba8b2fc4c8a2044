//! Has notifications written where other buffers are, into its code, half out of its memory, and into secure memory.
#![no_std]
#![no_main]

use abi::structures::NotificationSetup;
use hostile::Attacker;
use hostile::places::{MEMORY, PERIPHERALS, app, irq};
use hostile::processor::{call, peek};
use hostile::vectors;

hostile::application!(attack);

const SETUP: u32 = 16;
const CLOSE: u32 = 10;
const TRIGGER: u32 = 28;
const LOGGING_INIT: u32 = 36;
const BYTES: u32 = 1024;

#[repr(align(1024))]
struct Memory(#[expect(dead_code, reason = "only its address is used")] [u8; BYTES as usize]);

static mut LENT: Memory = Memory([0; BYTES as usize]);
static mut RING: Memory = Memory([0; BYTES as usize]);
static mut HANDLE: u32 = 0;

fn attack(it: &mut Attacker) {
    let (lent, ring) = ((&raw const LENT) as u32, (&raw const RING) as u32);
    if it.round() == 0 {
        vectors::all(vectors::nothing);
        call(LOGGING_INIT, [lent, BYTES, 0, 0]);
        centre(0, ring, BYTES);
    }
    let own = [lent, lent + BYTES - 32, lent - 16, ring, ring + BYTES - 16, ring - 16];
    let edges =
        [app::RAM_AT - 16, app::RAM_AT + app::RAM_BYTES - 16, app::CODE_AT, app::STUB_AT, 0, !0xf, !0x1f];
    for at in own.iter().chain(&edges).chain(&MEMORY).chain(&PERIPHERALS) {
        for bytes in [32, 64, !0xf, 0x8000_0000] {
            if centre(1, *at, bytes) == 0 {
                it.breach(format_args!("notifications may be written to {bytes:x} bytes at {at:08x}"));
                call(TRIGGER, [peek((&raw const HANDLE) as u32), !0, !0, 0]);
                call(CLOSE, [(&raw mut HANDLE) as u32, 0, 0, 0]);
            }
        }
    }
}

fn centre(line: usize, buffer: u32, buffer_size: u32) -> u32 {
    let setup = NotificationSetup { irq: irq::SPARE[line], buffer, buffer_size };
    call(SETUP, [(&raw const setup) as u32, (&raw mut HANDLE) as u32, 0, 0])
}
