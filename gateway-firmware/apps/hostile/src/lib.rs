//! What applications have in common that try to hurt the device: each is a program of `src/bin` and tries one thing.
//!
//! Each says that it works, so that its update is confirmed, and `hostile NAME ready` on UART1; once it got the sum of its name's bytes there it
//! attacks, over and over, until it is ended or replaced. A start that follows attacks at once. It says
//! `hostile NAME start N` before the first attack of a start, `hostile NAME round R` when an attack left it alive, and `hostile NAME BREACH ...` when it read or changed
//! what is not its. `cargo dev test hostile` installs one after the other; docs/hostile.md has what came of them.
#![no_std]

mod kept;
// By its file: the crate it is in is the secure world's.
#[expect(dead_code, unreachable_pub, reason = "it is the firmware's; an attacker needs some of it")]
#[path = "../../../boards/an505/chip/src/map.rs"]
mod map;
pub mod places;
pub mod processor;
pub mod vectors;

use core::fmt::{Arguments, Write as _};

use holdfast::board::Uart;

use kept::Kept;
use places::app;

/// Makes an application of an attack: `fn(&mut Attacker)`, which is made again whenever it returns.
#[macro_export]
macro_rules! application {
    ($attack:path) => {
        holdfast::entry!(main);

        fn main() -> ! {
            $crate::run(env!("CARGO_BIN_NAME"), $attack)
        }
    };
}

/// Who attacks.
#[derive(Debug)]
pub struct Attacker {
    name: &'static str,
    console: Uart,
    start: u32,
    round: u32,
}

impl Attacker {
    /// Which start of this application this is, from 0.
    pub fn start(&self) -> usize {
        self.start as usize
    }

    /// How many attacks of this start came before.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// One of these: another one in every start.
    pub fn pick<T: Copy>(&self, of: &[T]) -> T {
        of[self.start() % of.len()]
    }

    /// It got what it must not.
    pub fn breach(&mut self, what: Arguments<'_>) {
        let _ = writeln!(self.console, "hostile {} BREACH {what}", self.name);
    }

    /// It reached for this and was not ended: whatever was there is not nothing.
    pub fn reads(&mut self, at: u32) {
        let word = processor::peek(at);
        self.breach(format_args!("{at:08x} reads {word:08x}"));
    }

    /// The same for a write.
    pub fn writes(&mut self, at: u32) {
        processor::poke(at, 0xdead_beef);
        self.breach(format_args!("{at:08x} was written"));
    }

    /// A register that the other world keeps: it reads as nothing, whatever is written to it.
    pub fn ignored(&mut self, at: u32, value: u32) {
        processor::set(at, value);
        let word = processor::peek(at);
        if word != 0 {
            self.breach(format_args!("{at:08x} took {word:08x}"));
        }
    }
}

/// Says that all is well, and attacks.
pub fn run(name: &'static str, attack: fn(&mut Attacker)) -> ! {
    let start = Kept::start(name);
    let _ = holdfast::healthy();
    let mut attacker = Attacker { name, console: Uart::start(), start, round: 0 };
    if start == 0 {
        // An update that is not confirmed yet would be taken back.
        let _ = writeln!(attacker.console, "hostile {name} ready");
        await_byte(name.bytes().fold(0, u8::wrapping_add));
    }
    let _ = writeln!(attacker.console, "hostile {name} start {start}");
    loop {
        attack(&mut attacker);
        attacker.round += 1;
        processor::breathe();
        if attacker.round.is_power_of_two() {
            let _ = writeln!(attacker.console, "hostile {name} round {}", attacker.round);
        }
    }
}

/// Waits for this byte on UART1, without rest: an emulated clock that follows the instructions stays on its way.
fn await_byte(byte: u8) {
    const STATE: u32 = app::UART_AT + 4;
    const CTRL: u32 = app::UART_AT + 8;
    const RECEIVED: u32 = 1 << 1;
    const BOTH_WAYS: u32 = 0b11;
    processor::poke(CTRL, BOTH_WAYS);
    while processor::peek(STATE) & RECEIVED == 0 || processor::peek(app::UART_AT) as u8 != byte {
        (0..100).for_each(|_| processor::breathe());
    }
}
