//! Sends the processor to deep sleep, for ever.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::{SCR, mask, set};

hostile::application!(attack);

/// SLEEPDEEP, SLEEPDEEPS, SLEEPONEXIT.
const DEEP: u32 = 1 << 2 | 1 << 3 | 1 << 1;

fn attack(_: &mut Attacker) {
    mask();
    set(SCR, DEEP);
    holdfast::board::wait();
}
