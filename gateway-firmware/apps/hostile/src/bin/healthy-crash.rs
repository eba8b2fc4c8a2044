//! Says that it works, and faults at once, in every start.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::processor::undefined;

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    undefined()
}
