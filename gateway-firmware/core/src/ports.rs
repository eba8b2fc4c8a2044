//! What the core needs of a board, and nothing it does not use.
//!
//! A board implements these over registers (or files and threads) and hands them over as one [`Ports`]. The core never
//! blocks in them for longer than one flash operation, never keeps a reference to them, and treats every error as final
//! for the operation at hand: the machine above decides what that means. Errors are `Copy` enums; none carries text.
//!
//! The network is not here: `net` is bytes in, bytes out, and the board moves the bytes.

use core::fmt::Debug;

use crate::boot::first::{Handover, SlotLayout};
use crate::crash::{Crash, FaultStatus};

/// What a flash is made of; the numbers the store's layout is computed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes the core may use, from offset 0.
    pub bytes: u32,
    /// Smallest unit an erase clears: a power of two.
    pub erase_bytes: u32,
    /// Offset and length of every write are multiples of this: a power of two.
    pub write_bytes: u32,
    /// A unit may be written only once after an erase (flash with error correction). The core never writes twice.
    pub write_once: bool,
}

/// Why a flash operation did not happen, or what it read cannot be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlashError {
    /// The words hold nothing readable (torn write, worn cell, uncorrectable error).
    Unreadable,
    /// The part refused or did not finish the operation.
    Failed,
    /// Offset or length outside the geometry, or not a multiple of its units.
    Range,
    /// A write over words that are not erased.
    NotBlank,
}

/// The store flash: journal and slots. Erased bytes read 0xFF.
pub trait Flash {
    fn geometry(&self) -> Geometry;
    /// Any offset and length within the geometry.
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), FlashError>;
    /// `at` and the length are multiples of `write_bytes`; the words were erased before.
    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashError>;
    /// Clears the one unit of `erase_bytes` that starts at `at`.
    fn erase(&mut self, at: u32) -> Result<(), FlashError>;
}

/// The counter could not be read or moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterError;

/// A number that only rises, kept where neither an application nor a restored store can lower it.
pub trait Counter {
    fn value(&mut self) -> Result<u64, CounterError>;
    /// Raises the value to `to`; lower or equal values change nothing.
    fn raise(&mut self, to: u64) -> Result<(), CounterError>;
    /// What is there cannot be read: it begins anew with this value.
    fn begin_anew(&mut self, at: u64) -> Result<(), CounterError> {
        self.raise(at)
    }
}

/// The key could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeysError;

/// The device's P-256 identity key, made on the device. There is no way to read it out.
pub trait Keys {
    /// SEC1 uncompressed public point.
    fn public_key(&mut self) -> Result<[u8; 65], KeysError>;
    /// ECDSA over SHA-256 of the message: r ++ s.
    fn sign(&mut self, message: &[u8]) -> Result<[u8; 64], KeysError>;
    /// The same by the claim key the board was provisioned with; a board without a claim cannot.
    fn sign_as_claim(&mut self, _message: &[u8]) -> Result<[u8; 64], KeysError> {
        Err(KeysError)
    }
}

/// Time since boot.
pub trait Clock {
    /// Milliseconds since boot; never goes back.
    fn now_ms(&self) -> u64;
}

/// No randomness can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntropyError;

/// Randomness fit for keys and nonces.
pub trait Entropy {
    fn fill(&mut self, into: &mut [u8]) -> Result<(), EntropyError>;
}

/// Why this boot happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootReason {
    PowerOn,
    Watchdog,
    Software,
    Fault,
    Update,
}

/// The reset line.
pub trait Reset {
    fn reason(&self) -> BootReason;
}

/// Resets the board when not fed.
pub trait Watchdog {
    fn feed(&mut self);
}

/// A measured image in the store flash, ready to be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// 0 or 1.
    pub slot: u8,
    /// Where the area starts in the store flash.
    pub at: u32,
    /// Bytes of the area, padding included.
    pub bytes: u32,
}

/// The application could not be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppError;

/// How the application is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Not started, or ended by `stop`.
    Stopped,
    Running,
    /// Ended by a fault or by itself.
    Crashed,
    /// Runs, and has not answered for as long as the board allows.
    Hung,
}

/// Why the application is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartReason {
    /// The board started, and it with it.
    Boot,
    /// It ended by itself before.
    Crash,
    /// It asked for it.
    Restart,
    /// It was exchanged, for a newer version or back for the one before.
    Update,
    /// It tests the hardware of a board that is being made; only such an application is asked for `tested`.
    Test,
}

/// What the application wants of the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NetworkDemand {
    /// It never asked: the device stays connected.
    #[default]
    NeverAsked,
    /// It holds so many requests; none: it needs no connection now.
    Requests(u32),
}

/// What the board knows of the application now; asked at every poll, so nothing here is an edge that can be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppStatus {
    pub life: Life,
    /// It has called `healthy` since it was started.
    pub healthy: bool,
    /// It has called `apply` since it was last told that an update waits.
    pub apply: bool,
    pub network: NetworkDemand,
}

/// The application, in the other world.
pub trait App {
    /// Starts the image from its beginning; whatever ran before is gone.
    fn start(&mut self, image: Image, flash: &mut dyn Flash, reason: StartReason) -> Result<(), AppError>;
    /// Ends it, whatever it is doing.
    fn stop(&mut self);
    fn status(&mut self) -> AppStatus;
    /// Tells it that an update waits and that it may `apply`.
    fn update_waits(&mut self);
    /// What it said of the board by `TestingComplete`, until it is stopped: only of one that was started as a [`StartReason::Test`].
    fn tested(&mut self) -> Option<u32> {
        None
    }
    /// How it ended, once, when its life is no longer `Running`. None: this board does not know.
    fn take_crash(&mut self) -> Option<Crash> {
        None
    }
}

/// Memory of the application, as a debugger sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub at: u32,
    pub bytes: u32,
    pub memory: wire::msg::DebugMemory,
}

/// Words of [`Registers`].
pub const REGISTERS: usize = 20;

/// The application's registers, as `DebugStop.registers` has them: r0 to r12, sp, lr, pc, xPSR, MSP, PSP, and CONTROL, FAULTMASK,
/// BASEPRI and PRIMASK in one, a byte each from the highest.
pub type Registers = [u32; REGISTERS];

/// Why the application is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// [`Probe::halt`].
    Asked,
    /// It came upon a breakpoint instruction, or one of the hardware's, and pc is there.
    Breakpoint,
    /// It faulted, and ends when it is let go. What is known of that is [`Probe::fault`].
    Fault(wire::msg::CrashKind),
    /// [`Probe::hold_start`]: before its first instruction.
    Start,
}

/// Not the application's memory or register, or none that a debugger may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden;

/// A debugger's hand on the application: it alone is held; the link and everything else go on.
///
/// Nothing here blocks. While nobody is attached a breakpoint instruction is a fault like others.
pub trait Probe {
    /// The application's memory: nothing outside is read or written.
    fn regions(&self) -> &'static [Region];
    /// From now on breakpoint instructions hold the application. Asked again, nothing changes.
    fn attach(&mut self);
    /// Nobody debugs any more: it goes on if it was held, and ends if it was held at a fault. Nothing that was asked for holds it from now on.
    fn detach(&mut self);
    /// Whether a fault holds it.
    fn catch_faults(&mut self, on: bool);
    /// Whether its next start holds it before the first instruction.
    fn hold_start(&mut self, on: bool);
    /// It is to be held as soon as its registers can be seen, at its next start if it does not run; `held` says when.
    fn halt(&mut self);
    /// It goes on where it is held, and a halt that waits is given up. `masked`: its interrupts are kept from it until it is held again.
    fn resume(&mut self, masked: bool);
    /// Why it is held, if it is.
    fn held(&mut self) -> Option<Held>;
    /// None unless it is held, or its stack pointer is not in its memory.
    fn registers(&mut self) -> Option<Registers>;
    /// Of one that is held; by its number in [`Registers`].
    fn set_register(&mut self, number: usize, value: u32) -> Result<(), Forbidden>;
    /// The fault that holds it.
    fn fault(&mut self) -> Option<FaultStatus>;
    /// The whole range, or nothing.
    fn read(&mut self, at: u32, into: &mut [u8]) -> Result<(), Forbidden>;
    /// The whole range, or nothing. What is written is what runs next, code too.
    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), Forbidden>;
    /// Breakpoints that its hardware has to give; none, unless it says otherwise.
    fn hardware_breakpoints(&self) -> usize {
        0
    }
    /// These are the addresses where it holds the application before the instruction there is executed ([`Held::Breakpoint`]), and no others: at
    /// most as many as it has.
    fn set_hardware_breakpoints(&mut self, _: &[u32]) {}
}

/// A board whose application no debugger can be attached to.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProbe;

impl Probe for NoProbe {
    fn regions(&self) -> &'static [Region] {
        &[]
    }

    fn attach(&mut self) {}

    fn detach(&mut self) {}

    fn catch_faults(&mut self, _: bool) {}

    fn hold_start(&mut self, _: bool) {}

    fn halt(&mut self) {}

    fn resume(&mut self, _: bool) {}

    fn held(&mut self) -> Option<Held> {
        None
    }

    fn registers(&mut self) -> Option<Registers> {
        None
    }

    fn set_register(&mut self, _: usize, _: u32) -> Result<(), Forbidden> {
        Err(Forbidden)
    }

    fn fault(&mut self) -> Option<FaultStatus> {
        None
    }

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), Forbidden> {
        Err(Forbidden)
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), Forbidden> {
        Err(Forbidden)
    }
}

/// What an exchange of the microvisor itself works on.
#[derive(Debug)]
pub struct Exchange<'a, F: Flash> {
    /// Both of its slots, one after the other, of one size.
    pub slots: &'a mut F,
    /// Where the parts of one are.
    pub layout: SlotLayout,
    /// The first stage's record.
    pub record: &'a mut F,
    /// What the first stage chose for this start.
    pub handover: &'a Handover,
}

/// The microvisor as something that can be exchanged, where a first stage starts it.
pub trait Firmware {
    type Flash: Flash;

    /// What the first stage chose for this start. None: nothing exchanges the microvisor of this board.
    fn handover(&self) -> Option<&Handover>;

    /// What an exchange works on, where there is a handover.
    fn exchange(&mut self) -> Option<Exchange<'_, Self::Flash>>;

    /// Starts the board anew because of an update of the microvisor. A board does not come back from this.
    fn restart(&mut self);
}

/// A board whose microvisor nothing exchanges.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFirmware;

impl Firmware for NoFirmware {
    type Flash = NoFlash;

    fn handover(&self) -> Option<&Handover> {
        None
    }

    fn exchange(&mut self) -> Option<Exchange<'_, NoFlash>> {
        None
    }

    fn restart(&mut self) {}
}

/// A flash that nobody has.
#[derive(Debug, Clone, Copy)]
pub enum NoFlash {}

impl Flash for NoFlash {
    fn geometry(&self) -> Geometry {
        match *self {}
    }

    fn read(&mut self, _: u32, _: &mut [u8]) -> Result<(), FlashError> {
        match *self {}
    }

    fn write(&mut self, _: u32, _: &[u8]) -> Result<(), FlashError> {
        match *self {}
    }

    fn erase(&mut self, _: u32) -> Result<(), FlashError> {
        match *self {}
    }
}

/// A board's choice of ports.
pub trait Board {
    type Flash: Flash + Debug;
    type Counter: Counter + Debug;
    type Keys: Keys + Debug;
    type Clock: Clock + Debug;
    type Entropy: Entropy + Debug;
    type Reset: Reset + Debug;
    type Watchdog: Watchdog + Debug;
    type App: App + Debug;
    type Firmware: Firmware + Debug;
    type Probe: Probe + Debug;
    /// Checks ECDSA signatures: `wire::cose::P256`, or something faster.
    type Verify: wire::cose::Verify + Debug;
}

/// One board's ports, as fields so that the core can use several at once.
#[derive(Debug)]
pub struct Ports<B: Board> {
    pub flash: B::Flash,
    /// Where memory of one crash is kept: [`region_bytes`](crate::crash::region_bytes). None: this board keeps none.
    pub crash_flash: Option<B::Flash>,
    pub counter: B::Counter,
    pub keys: B::Keys,
    pub clock: B::Clock,
    pub entropy: B::Entropy,
    pub reset: B::Reset,
    pub watchdog: B::Watchdog,
    pub app: B::App,
    pub firmware: B::Firmware,
    pub probe: B::Probe,
    pub verify: B::Verify,
}
