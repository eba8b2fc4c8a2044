//! Writes the whole of the log buffer that it lent, again and again, while it logs.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{call, poke};

hostile::application!(attack);

const LOG: u32 = 37;
const LOGGING_INIT: u32 = 36;
const BYTES: u32 = 1024;

#[repr(align(512))]
struct Lent(#[expect(dead_code, reason = "only its address is used")] [u8; BYTES as usize]);

static mut LENT: Lent = Lent([0; BYTES as usize]);
/// What could mean something to whoever keeps lengths, pointers or places there.
const WORDS: [u32; 8] = [0, !0, 0x3800_0000, 0x0200_0200, 0x8000_0000, 0x1001_0000, 1, 0x7fff_ffff];

fn attack(it: &mut Attacker) {
    let at = (&raw const LENT) as u32;
    let text = b"a word of its own";
    if it.round() == 0 {
        call(LOGGING_INIT, [at, BYTES, 0, 0]);
    }
    call(LOG, [text.as_ptr() as u32, text.len() as u32, 0, 0]);
    let word = WORDS[it.round() as usize % WORDS.len()];
    (0..BYTES / 4).for_each(|place| poke(at + 4 * place, word));
}
