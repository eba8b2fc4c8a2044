//! Writes and reads peripherals that are not its: consoles, Ethernet, entropy, the walls' own controllers.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places;

hostile::application!(attack);

fn attack(it: &mut Attacker) {
    let at = it.pick(&places::PERIPHERALS);
    if (it.start() / places::PERIPHERALS.len()).is_multiple_of(2) { it.writes(at) } else { it.reads(at) }
}
