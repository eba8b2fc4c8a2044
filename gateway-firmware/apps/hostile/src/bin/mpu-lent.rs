//! Lends its log buffer, then has its own MPU forbid it, and logs.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{MPU_CTRL, MPU_RBAR, MPU_RLAR, MPU_RNR, call, set};

hostile::application!(attack);

const LOG: u32 = 37;
const LOGGING_INIT: u32 = 36;
const READ_ONLY: u32 = 0b10 << 1;
const BYTES: u32 = 1024;

#[repr(align(1024))]
struct Lent(#[expect(dead_code, reason = "only its address is used")] [u8; BYTES as usize]);

static mut LENT: Lent = Lent([0; BYTES as usize]);

fn attack(it: &mut Attacker) {
    let at = (&raw const LENT) as u32;
    let text = b"written where its own MPU forbids";
    if it.round() == 0 {
        call(LOGGING_INIT, [at, BYTES, 0, 0]);
    }
    set(MPU_RNR, 0);
    set(MPU_RBAR, at | READ_ONLY);
    set(MPU_RLAR, (at + BYTES - 1) & !0x1f | 1);
    set(MPU_CTRL, 0b101);
    call(LOG, [text.as_ptr() as u32, text.len() as u32, 0, 0]);
    set(MPU_CTRL, 0);
}
