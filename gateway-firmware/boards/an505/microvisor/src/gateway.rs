//! The calls of the application: judged by `abi`'s table, then done at once.
//!
//! A call runs as the application, on its secure stack, and the scheduler may take the core away in the middle of it like
//! anywhere else. It never waits, and takes less than 100 us: everything it copies is bounded. What needs more is left
//! for the supervisor. What the application set up is in `held`; what only the supervisor knows it publishes here.

mod held;
mod memory;
pub mod telemetry;

use core::sync::atomic::{AtomicBool, Ordering};

use abi::call::Caller;
use abi::{Access, DEVICE_ID_BYTES, LOG_MESSAGE_BYTES_MAX, Status};
use chip::map::CLOCK_HZ;
use chip::special::ipsr;
use chip::{scb, tt};
use gateway_core::net::demand::Network;
use gateway_core::ports::{NetworkDemand, StartReason};

use self::held::HELD;
use crate::shared::Shared;
use crate::world::REGIONS;
use crate::{application, schedule};

/// What the application may ask about and only the supervisor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// None: this board has not enrolled yet.
    pub device_id: Option<[u8; DEVICE_ID_BYTES]>,
    /// Microseconds since 1970 when the clock was at zero. None: nobody told the time yet.
    pub wall_us_at_zero: Option<u64>,
    /// Why the board started.
    pub boot: WakeReason,
    pub network: Network,
    /// The service wants what the application logs.
    pub log_enabled: bool,
    /// A restart disturbs nothing now.
    pub may_restart: bool,
}

/// Why the application runs: the ancestor's `MvWakeReason`, as far as it happens here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum WakeReason {
    ColdBoot = 0x0,
    RemoteMicrovisorRestart = 0x1,
    /// Whoever asked for it: the ancestor has no other for a restart of the application alone.
    RemoteApplicationRestart = 0x2,
    MicrovisorCrash = 0x4,
    MicrovisorWatchdog = 0x5,
    ApplicationCrash = 0x8,
    ApplicationUpdate = 0x9,
    MicrovisorUpdate = 0xa,
}

static FACTS: Shared<Facts> = Shared::new(Facts {
    device_id: None,
    wall_us_at_zero: None,
    boot: WakeReason::ColdBoot,
    network: Network::new(),
    log_enabled: true,
    may_restart: true,
});
/// Why the application was started.
static STARTED: Shared<StartReason> = Shared::new(StartReason::Boot);
/// The application wants the system's LED to show the system's state.
static SYSTEM_LED: AtomicBool = AtomicBool::new(true);

/// From now on the application is told this. By the supervisor only.
pub fn publish(facts: Facts) {
    let before = FACTS.with(|held| core::mem::replace(held, facts));
    if before.network.status != facts.network.status {
        HELD.with(|held| held.network_changed());
    }
}

/// The application lets the LED show the system's state.
pub fn system_led() -> bool {
    SYSTEM_LED.load(Ordering::Relaxed)
}

/// What the application wants of the network.
pub(crate) fn demand() -> NetworkDemand {
    HELD.with(|held| held.demand())
}

/// An update waits for the application's leave.
pub(crate) fn update_waits() {
    HELD.with(|held| held.update_waits());
}

/// The application's oldest message: when it was logged, and its bytes. By the supervisor only.
pub(crate) fn take_log(into: &mut [u8; LOG_MESSAGE_BYTES_MAX]) -> Option<(u64, usize)> {
    HELD.with(|held| held.take_log(into))
}

/// A new application has said nothing yet.
pub(crate) fn forget() {
    let mut seed = [0; 4];
    // Without randomness handles can be foretold, which is the application's own affair.
    let _ = gateway_link::random::fill(&mut seed);
    HELD.with(|held| held.forget(u32::from_le_bytes(seed)));
    SYSTEM_LED.store(true, Ordering::Relaxed);
}

/// Why the next application runs.
pub(crate) fn starts(reason: StartReason) {
    STARTED.with(|held| *held = reason);
}

/// What the application said of the board, once all that it logged was taken.
pub(crate) fn tested() -> Option<u32> {
    HELD.with(|held| held.tested())
}

/// The application tests the hardware.
fn is_testing() -> bool {
    STARTED.with(|reason| *reason) == StartReason::Test
}

/// What `gateway_enter` pushes of a call, and pops when it is over.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Passed {
    arguments: abi::call::Arguments,
    /// Of the caller's.
    r4: u32,
    /// Where the call goes back to.
    return_to: u32,
}

/// Answers a call: the number of a [`Status`].
pub(crate) extern "C" fn called(passed: &mut Passed, slot: u32) -> u32 {
    let status = match abi::call_at(slot as u8) {
        Some(call) => call
            .judge(
                passed.arguments,
                Caller { in_handler: ipsr() != 0, testing: is_testing() },
                &REGIONS,
                reachable,
            )
            .map_or_else(|refused| refused, |arguments| perform(call.slot, arguments)),
        None => Status::Unavailable,
    };
    schedule::leaves_call(&mut passed.return_to);
    status.code()
}

/// Whether the processor lets the application at a range of one of its regions, each of which is one for the SAU: only
/// its own MPU can tell parts of it apart.
fn reachable(at: u32, bytes: u32, access: Access) -> bool {
    tt::all_reachable(at, bytes, access == Access::Write, !scb::app_mpu_on())
}

/// Does what works. Pointers among the arguments were judged.
fn perform(slot: u8, arguments: abi::call::Arguments) -> Status {
    let [first, second, third, _] = arguments;
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
        8 => {
            // SAFETY: judged.
            let params = unsafe { memory::fetch(first) };
            let requested = answer(second, HELD.with(|held| held.request_network(params)));
            schedule::wake();
            requested
        }
        10 => close(first, |handle| HELD.with(|held| held.close_notifications(handle))),
        16 => {
            // SAFETY: judged. What is in it is judged after this copy, which is the only one.
            let setup = unsafe { memory::fetch(first) };
            answer(second, HELD.with(|held| held.setup_notifications(setup)))
        }
        25 => {
            let reasons = FACTS.with(|facts| facts.network.reasons);
            answer(first, Ok(reasons));
            answer(second, Ok(HELD.with(|held| held.requests())))
        }
        26 => {
            let released = close(first, |handle| HELD.with(|held| held.release_network(handle)));
            schedule::wake();
            released
        }
        28 => HELD.with(|held| held.trigger(first, second, third)),
        29 if HELD.with(|held| held.has_request(first)) => {
            answer(second, Ok(FACTS.with(|facts| facts.network.status) as u32))
        }
        29 => Status::InvalidHandle,
        36 | 57 => HELD.with(|held| held.lend_log(first, second)),
        37 => log(first, second, FACTS.with(|facts| facts.log_enabled)),
        // To the factory's console, which nobody turns off.
        56 => log(first, second, true),
        55 => {
            let status = HELD.with(|held| held.testing_complete(first));
            schedule::wake();
            status
        }
        59 if first <= 1 => {
            SYSTEM_LED.store(first != 0, Ordering::Relaxed);
            Status::Okay
        }
        60 => {
            // SAFETY: judged.
            let params = unsafe { memory::fetch(first) };
            answer(second, HELD.with(|held| held.open_system(params)))
        }
        61 => close(first, |handle| HELD.with(|held| held.close_system(handle))),
        63 => answer(first, Ok(wake_reason() as u32)),
        64 if first == RESTART_AUTO_APPLY_UPDATE => restart(),
        59 | 64 => Status::ParameterFault,
        128 => {
            application::is_healthy();
            Status::Okay
        }
        129 => telemetry::publish(arguments),
        _ => Status::Unavailable,
    }
}

/// `MV_RESTARTMODE_AUTOAPPLYUPDATE`.
const RESTART_AUTO_APPLY_UPDATE: u32 = 0;

fn restart() -> Status {
    if !FACTS.with(|facts| facts.may_restart) {
        return Status::MicrovisorBusy;
    }
    application::asks_restart();
    Status::Okay
}

fn wake_reason() -> WakeReason {
    match STARTED.with(|reason| *reason) {
        StartReason::Boot | StartReason::Test => FACTS.with(|facts| facts.boot),
        StartReason::Crash => WakeReason::ApplicationCrash,
        StartReason::Restart => WakeReason::RemoteApplicationRestart,
        StartReason::Update => WakeReason::ApplicationUpdate,
    }
}

/// Writes a result where the application wants it.
fn answer<T>(at: u32, result: Result<T, Status>) -> Status {
    match result {
        Ok(value) => {
            // SAFETY: `at` was judged for as many bytes as the table says of the call, which are those of `T` (or more),
            // aligned as `T` is.
            unsafe { memory::put(at, value) };
            Status::Okay
        }
        Err(status) => status,
    }
}

/// Closes what the handle there is of, and puts a zero in its place.
fn close(at: u32, close: impl FnOnce(u32) -> Result<(), Status>) -> Status {
    // SAFETY: judged for a handle, writing, which is reading too.
    let closed = close(unsafe { memory::fetch(at) });
    answer(at, closed.map(|()| 0u32))
}

fn log(at: u32, bytes: u32, enabled: bool) -> Status {
    match HELD.with(|held| held.log(at, bytes, enabled)) {
        Ok(news) => {
            if news {
                schedule::wake();
            }
            Status::Okay
        }
        Err(status) => status,
    }
}
