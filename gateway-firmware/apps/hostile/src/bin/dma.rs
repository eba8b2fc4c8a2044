//! Programs DMA controllers to copy secure memory to where it can look: another one in every start.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::{DMA, app, secure};
use hostile::processor::{peek, poke};

hostile::application!(attack);

const TO: u32 = app::RAM_AT + app::RAM_BYTES / 2;
const MARK: u32 = 0x5a5a_a5a5;

fn attack(it: &mut Attacker) {
    let at = it.pick(&DMA);
    poke(TO, MARK);
    // Configuration: on. Channel 0: from, to, one word memory to memory, on.
    poke(at + 0x30, 1);
    poke(at + 0x100, secure::RAM_AT);
    poke(at + 0x104, TO);
    poke(at + 0x10c, 1 | 2 << 18 | 2 << 21);
    poke(at + 0x110, 1);
    let word = peek(TO);
    it.breach(format_args!("the controller at {at:08x} was written; there is {word:08x}"));
}
