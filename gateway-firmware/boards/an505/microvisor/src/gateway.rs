//! The calls of the application: judged by `abi`'s table, then done at once.
//!
//! A call runs as the application, on its secure stack, and the scheduler may take the core away in the middle of it like
//! anywhere else. It never waits, and takes less than 100 us: everything it copies is bounded. What needs more is left
//! for the supervisor, in `events` and `application`.

use core::sync::atomic::{AtomicBool, Ordering};

use abi::{Access, DEVICE_ID_BYTES, Status};
use chip::map::CLOCK_HZ;
use chip::special::ipsr;
use chip::{scb, tt};

use crate::shared::Shared;
use crate::world::REGIONS;
use crate::{application, events};

/// What the application may ask about and only the supervisor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// None: this board has not enrolled yet.
    pub device_id: Option<[u8; DEVICE_ID_BYTES]>,
    /// Microseconds since 1970 when the clock was at zero. None: nobody told the time yet.
    pub wall_us_at_zero: Option<u64>,
    pub wake_reason: WakeReason,
}

/// Why the application runs: the ancestor's `MvWakeReason`, as far as it happens here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum WakeReason {
    ColdBoot = 0x0,
    RemoteApplicationRestart = 0x2,
    MicrovisorCrash = 0x4,
    MicrovisorWatchdog = 0x5,
    ApplicationCrash = 0x8,
    ApplicationUpdate = 0x9,
    MicrovisorUpdate = 0xa,
}

static FACTS: Shared<Facts> =
    Shared::new(Facts { device_id: None, wall_us_at_zero: None, wake_reason: WakeReason::ColdBoot });
/// The application has set up logging since it was started.
static LOGGING: AtomicBool = AtomicBool::new(false);
/// The application wants the system's LED to show the system's state.
static SYSTEM_LED: AtomicBool = AtomicBool::new(true);

/// From now on the application is told this.
pub fn publish(facts: Facts) {
    FACTS.with(|held| *held = facts);
}

/// The application lets the LED show the system's state.
pub fn system_led() -> bool {
    SYSTEM_LED.load(Ordering::Relaxed)
}

/// A new application has said nothing yet.
pub(crate) fn forget() {
    LOGGING.store(false, Ordering::Relaxed);
    SYSTEM_LED.store(true, Ordering::Relaxed);
}

/// Answers a call: the number of a [`Status`].
pub(crate) extern "C" fn called(passed: &abi::call::Arguments, slot: u32) -> u32 {
    let status = match abi::call_at(slot as u8) {
        Some(call) => call
            .judge(*passed, ipsr() != 0, &REGIONS, reachable)
            .map_or_else(|refused| refused, |arguments| perform(call.slot, arguments)),
        None => Status::Unavailable,
    };
    status.code()
}

/// Whether the processor lets the application at a range of one of its regions, each of which is one for the SAU: only
/// its own MPU can tell parts of it apart.
fn reachable(at: u32, bytes: u32, access: Access) -> bool {
    tt::all_reachable(at, bytes, access == Access::Write, !scb::app_mpu_on())
}

/// Does what works. Pointers among the arguments were judged.
fn perform(slot: u8, [first, second, ..]: abi::call::Arguments) -> Status {
    match slot {
        27 => Status::Okay,
        2 => answer(first, Ok(chip::clock::now_us())),
        7 => {
            let wall_us_at_zero = FACTS.with(|facts| facts.wall_us_at_zero);
            let wall_us = wall_us_at_zero.map(|at_zero| at_zero.saturating_add(chip::clock::now_us()));
            answer(first, wall_us.ok_or(Status::TimeNotSet))
        }
        3 | 17 | 18 | 23 => answer(first, Ok(CLOCK_HZ)),
        5 => answer(first, FACTS.with(|facts| facts.device_id).ok_or(Status::Unavailable)),
        36 => {
            // The buffer stays the application's: what is logged is copied to where it cannot be changed any more.
            LOGGING.store(true, Ordering::Relaxed);
            Status::Okay
        }
        37 => log(first, second),
        59 if first <= 1 => {
            SYSTEM_LED.store(first != 0, Ordering::Relaxed);
            Status::Okay
        }
        63 => answer(first, Ok(FACTS.with(|facts| facts.wake_reason) as u32)),
        64 if first == RESTART_AUTO_APPLY_UPDATE => {
            application::asks_restart();
            Status::Okay
        }
        59 | 64 => Status::ParameterFault,
        128 => {
            application::is_healthy();
            Status::Okay
        }
        _ => Status::Unavailable,
    }
}

/// `MV_RESTARTMODE_AUTOAPPLYUPDATE`.
const RESTART_AUTO_APPLY_UPDATE: u32 = 0;

/// Writes a result where the application wants it.
fn answer<T>(at: u32, result: Result<T, Status>) -> Status {
    match result {
        Ok(value) => {
            // SAFETY: `at` was judged for as many bytes as the table says of the call, which are those of `T` (or more),
            // aligned as `T` is; it is the application's memory, in which no Rust object of ours lies.
            unsafe { (at as *mut T).write_volatile(value) };
            Status::Okay
        }
        Err(status) => status,
    }
}

fn log(at: u32, bytes: u32) -> Status {
    if !LOGGING.load(Ordering::Relaxed) {
        return Status::Unavailable;
    }
    // SAFETY: judged: readable memory of the application's, which does not run meanwhile. A controller of its own may
    // change it: no decision is made on these bytes, they are copied once and looked at afterwards.
    let message = unsafe { core::slice::from_raw_parts(at as *const u8, bytes as usize) };
    if !events::log(message) {
        return Status::InvalidBufferSize;
    }
    crate::schedule::wake();
    Status::Okay
}
