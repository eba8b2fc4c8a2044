//! Has timers interrupt, and never acknowledges one: their lines stay up.
#![no_std]
#![no_main]

use hostile::Attacker;
use hostile::places::{app, irq};
use hostile::processor::{poke, raise, spin};
use hostile::vectors;

hostile::application!(attack);

fn attack(_: &mut Attacker) {
    vectors::all(vectors::nothing);
    for timer in [app::TIMERS_AT, app::TIMERS_AT + 0x1000] {
        // RELOAD, VALUE, CTRL: interrupt, on. Their lines stay up from the first time on: that they expired 200,000 times a second would be an
        // attack on an emulator's timers, which keep its processor waiting, and none on the microvisor.
        poke(timer + 8, 20_000);
        poke(timer + 4, 100);
        poke(timer, 0b1001);
    }
    // UART1: transmit interrupt, transmitter on; whatever it sends, the interrupt stays.
    poke(app::UART_AT + 8, 0b101);
    for line in [irq::TIMER0, irq::TIMER1, irq::UART_APP[0], irq::UART_APP[1], irq::UART_APP[2]] {
        raise(line);
    }
    spin()
}
