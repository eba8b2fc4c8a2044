//! The application under test, the probe on it, and what is said about both.

use core::fmt::{Arguments, Write as _};

use chip::clock::now_us;
use chip::uart::Uart;
use gateway_core::net::demand::Network;
use gateway_core::ports::{App as _, Held, Image, Life, Probe, Registers, StartReason};
use microvisor::application::{Application, EVENTS_MAX, take_event};
use microvisor::gateway::{Facts, WakeReason, publish};
use microvisor::probe::BoardProbe;
use microvisor::schedule;

use crate::program::{Store, TICKS_AT, WAY_AT, Way, bytes};

/// Nothing here takes longer.
const HELD_MAX_US: u64 = 200_000;

/// The instruction, as a debugger plants it.
const BREAKPOINT: [u8; 2] = [0x42, 0xbe];

pub(crate) const SP: usize = 13;
pub(crate) const PC: usize = 15;
pub(crate) const XPSR: usize = 16;
pub(crate) const MSP: usize = 17;
pub(crate) const PSP: usize = 18;
pub(crate) const MASKS: usize = 19;

pub(crate) struct Bench {
    console: Uart,
    pub(crate) application: Application,
    pub(crate) probe: BoardProbe,
    right: u32,
    wrong: u32,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        publish(Facts {
            device_id: None,
            wall_us_at_zero: None,
            boot: WakeReason::ColdBoot,
            network: Network::new(),
            log_enabled: true,
            may_restart: true,
        });
        let (application, probe) = (Application::default(), BoardProbe::default());
        Bench { console: Uart::console(), application, probe, right: 0, wrong: 0 }
    }

    pub(crate) fn say(&mut self, text: Arguments<'_>) {
        let _ = writeln!(self.console, "hold {text}");
    }

    /// What is right is counted, and said once by [`Bench::section`].
    pub(crate) fn expect(&mut self, what: &str, right: bool, found: Arguments<'_>) -> bool {
        if right {
            self.right += 1;
        } else {
            self.wrong += 1;
            self.say(format_args!("{what}: WRONG {found}"));
        }
        right
    }

    /// A part of the test is over.
    pub(crate) fn section(&mut self, what: &str) {
        let right = self.right;
        self.say(format_args!("{what}: ok so far, {right} right"));
    }

    pub(crate) fn done(&mut self) {
        let (right, wrong) = (self.right, self.wrong);
        self.say(format_args!("done: {right} right, {wrong} wrong"));
    }

    /// Puts the program there, and starts it.
    pub(crate) fn start(&mut self) {
        let image = Image { slot: 0, at: 0, bytes: bytes().len() as u32 };
        let started = self.application.start(image, &mut Store, StartReason::Boot);
        self.expect("a start", started.is_ok(), format_args!("{started:?}"));
    }

    /// Starts it, held before its first instruction.
    pub(crate) fn start_held(&mut self) {
        self.probe.hold_start(true);
        self.start();
        self.probe.hold_start(false);
        let held = self.probe.held();
        self.expect("a start is held", held == Some(Held::Start), format_args!("{held:?}"));
    }

    /// Has it run this way from its start on.
    pub(crate) fn begin(&mut self, way: Way) {
        self.start_held();
        self.poke(WAY_AT, way as u32);
        self.poke(TICKS_AT, 0);
        self.probe.resume(false);
    }

    pub(crate) fn poke(&mut self, at: u32, value: u32) {
        let written = self.probe.write(at, &value.to_le_bytes());
        self.expect("a write", written.is_ok(), format_args!("at {at:08x}"));
    }

    pub(crate) fn peek(&mut self, at: u32) -> u32 {
        let mut word = [0; 4];
        let read = self.probe.read(at, &mut word);
        self.expect("a read", read.is_ok(), format_args!("at {at:08x}"));
        u32::from_le_bytes(word)
    }

    /// The supervisor has nothing to do for so long.
    pub(crate) fn rest(&mut self, us: u64) {
        let until_us = now_us() + us;
        while now_us() < until_us {
            schedule::idle(Some(until_us));
            for _ in core::iter::from_fn(|| take_event(true)).take(EVENTS_MAX) {}
        }
    }

    /// How long it takes until it is held, if it ever is. That wakes the supervisor, and nothing else does.
    pub(crate) fn await_held(&mut self) -> Option<u64> {
        let since_us = now_us();
        while self.probe.held().is_none() {
            if now_us() - since_us > HELD_MAX_US {
                return None;
            }
            schedule::idle(Some(since_us + HELD_MAX_US + 1));
        }
        Some(now_us() - since_us)
    }

    /// The same for a halt.
    pub(crate) fn halt(&mut self) -> Option<u64> {
        let since_us = now_us();
        self.probe.halt();
        self.await_held()?;
        Some(now_us() - since_us)
    }

    /// Of one that is held.
    pub(crate) fn registers(&mut self) -> Registers {
        let registers = self.probe.registers();
        self.expect("registers", registers.is_some(), format_args!("none"));
        registers.unwrap_or([0; _])
    }

    pub(crate) fn expect_held(&mut self, what: &str, held: Option<Held>) -> bool {
        let found = self.probe.held();
        self.expect(what, found == held, format_args!("{found:?}"))
    }

    pub(crate) fn expect_life(&mut self, what: &str, life: Life) -> bool {
        let found = self.application.status().life;
        self.expect(what, found == life, format_args!("{found:?}"))
    }

    /// Its code is as it was put there.
    pub(crate) fn expect_code(&mut self, what: &str) {
        let mut there = [0; 64];
        let mut same = true;
        for (piece, at) in bytes().chunks(there.len()).zip((chip::map::app::CODE_AT..).step_by(there.len())) {
            let there = &mut there[..piece.len()];
            same &= self.probe.read(at, there).is_ok() && there == piece;
        }
        self.expect(what, same, format_args!("the code is another"));
    }

    /// Puts a breakpoint there; what was there.
    pub(crate) fn plant(&mut self, at: u32) -> [u8; 2] {
        let mut was = [0; 2];
        let planted = self.read_into(at, &mut was) && self.probe.write(at, &BREAKPOINT).is_ok();
        self.expect("a breakpoint is planted", planted, format_args!("{at:x}"));
        was
    }

    pub(crate) fn unplant(&mut self, at: u32, was: [u8; 2]) {
        let gone = self.probe.write(at, &was).is_ok();
        self.expect("a breakpoint is gone", gone, format_args!("{at:x}"));
    }

    pub(crate) fn read_into(&mut self, at: u32, into: &mut [u8]) -> bool {
        self.probe.read(at, into).is_ok()
    }
}
