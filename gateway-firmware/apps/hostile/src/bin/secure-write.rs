//! Writes what is not its, memory by every alias: another place in every start.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places;

hostile::application!(attack);

fn attack(it: &mut Attacker) {
    let at = it.pick(&places::MEMORY);
    it.writes(at);
}
