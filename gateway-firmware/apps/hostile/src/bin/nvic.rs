//! Enables, pends and prioritises every interrupt there is, by all of the controller's registers.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::irq;
use hostile::processor::{ICSR, SHCSR, breathe, poke, set};
use hostile::vectors;

hostile::application!(attack);

/// Enable, disable, pend, unpend, active, target world, priority, trigger by software.
const REGISTERS: [(u32, u32); 7] =
    [(0x100, 16), (0x180, 16), (0x200, 16), (0x280, 16), (0x300, 16), (0x380, 16), (0x400, 124)];
const STIR: u32 = 0xe000_ef00;

fn attack(it: &mut Attacker) {
    vectors::all(vectors::nothing);
    for (at, words) in REGISTERS {
        for word in 0..words {
            poke(0xe000_e000 + at + 4 * word, if it.round().is_multiple_of(2) { !0 } else { 0 });
            breathe();
        }
    }
    for line in 0..irq::COUNT {
        poke(STIR, line);
        breathe();
    }
    // The interrupt that nothing masks, and faults as if they were under way.
    set(ICSR, 1 << 31);
    set(SHCSR, 0x003f_ffff);
    set(SHCSR, 0);
}
