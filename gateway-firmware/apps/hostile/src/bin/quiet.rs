//! Hurts nobody: computes, and never rests. What the others are compared with.
#![no_std]
#![no_main]

use core::hint::black_box;

use hostile::Attacker;

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    (0..1000).for_each(|turn| _ = black_box(turn));
}
