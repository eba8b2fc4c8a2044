//! Asks for the network and lets go of it, as fast as it can.
#![no_std]
#![no_main]

use abi::structures::RequestNetworkParams;
use hostile::Attacker;
use hostile::processor::call;

hostile::application!(attack);

const REQUEST: u32 = 8;
const RELEASE: u32 = 26;
/// More than there can be at once.
const REQUESTS: usize = 64;

fn attack(it: &mut Attacker) {
    let params = RequestNetworkParams { version: 1, ..RequestNetworkParams::default() };
    let mut handles = [0u32; REQUESTS];
    for handle in &mut handles {
        call(REQUEST, [(&raw const params) as u32, (&raw mut *handle) as u32, 0, 0]);
    }
    // Every other time it asks for more than it lets go of, and of what was never given.
    handles[0] ^= it.round() & 1;
    for handle in &mut handles {
        call(RELEASE, [(&raw mut *handle) as u32, 0, 0, 0]);
    }
}
