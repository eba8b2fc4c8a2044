//! Starts the non-secure world's watchdog, which would reset the machine.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::NS_WATCHDOG;
use hostile::processor::poke;

hostile::application!(attack);

fn attack(it: &mut Attacker) {
    // LOAD, CTRL: interrupt and reset.
    poke(NS_WATCHDOG, 1);
    poke(NS_WATCHDOG + 8, 3);
    it.breach(format_args!("the watchdog was written"));
}
