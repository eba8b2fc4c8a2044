//! What the supervisor tells: a line on the secure console for everything that happens, and to the application what it may ask.
//!
//! Lines are for people and for tests. They hold no secret, and the application cannot make one.

use core::fmt;
use core::fmt::Write as _;

use chip::clock::now_us;
use chip::uart::Uart;
use gateway_core::Facts as BoardFacts;
use gateway_core::boot::first::{Handover, reason_name};
use gateway_core::commission::Stage;
use gateway_core::device::Notice;
use gateway_core::gateway::{Gateway, Happening};
use gateway_core::ports::BootReason;

use wire::msg::LogLevel;

use crate::fault::FaultRecord;
use crate::gateway::{Facts, WakeReason};
use crate::ports::An505;

/// Writes a line with the time of its happening.
pub(super) fn say(text: fmt::Arguments<'_>) {
    // A console takes what it can.
    let _ = writeln!(Uart::console(), "microvisor: {} us: {text}", now_us());
}

/// What this start is.
pub(super) fn started(facts: &BoardFacts, handover: Option<&Handover>) {
    say(format_args!("{} {} is {}", facts.board, facts.microvisor, facts.hardware_id));
    if let Some(handover) = handover {
        say(format_args!("slot {}, after {}", handover.slot.name(), reason_name(handover.reason)));
    }
}

pub(super) fn happened(happening: Happening) {
    match happening {
        Happening::Enrolled(device) => say(format_args!("enrolled as {device}")),
        Happening::EnrollPending { retry_after_s } => {
            say(format_args!("enrolment is pending, again in {retry_after_s} s"));
        }
        Happening::EnrollRefused(reason) => say(format_args!("enrolment refused: {reason:?}")),
        Happening::Connected => say(format_args!("connected")),
        Happening::Disconnected(end) => say(format_args!("disconnected: {end:?}")),
        Happening::Device(Notice::Commission(stage)) => commission(stage),
        Happening::Device(Notice::Update(state)) => say(format_args!("update: {state:?}")),
        Happening::Device(notice) => say(format_args!("{notice:?}")),
        Happening::Result(outcome, reason) => say(format_args!("result: {outcome:?} {reason:?}")),
    }
}

/// For whoever stands before the board: what its making has come to.
fn commission(stage: Stage) {
    match stage {
        Stage::Testing => say(format_args!("being tested: no network, and nothing else runs")),
        Stage::Production => say(format_args!("test passed: in production")),
        Stage::Failed(status) => say(format_args!("test failed with {status}: locked")),
    }
}

/// What the test of the hardware logs.
pub(super) fn tests(text: &str) {
    say(format_args!("test: {text}"));
}

/// Writes a line as it is.
pub(super) fn say_plainly(text: fmt::Arguments<'_>) {
    let _ = writeln!(Uart::console(), "{text}");
}

/// How the application ended, on the console and in the log.
pub(super) fn fault(core: &mut Gateway<'_, An505>, fault: &FaultRecord) {
    let (pc, lr) = fault.frame.map_or((0, 0), |frame| (frame.pc, frame.lr));
    let kind = fault.kind;
    say(format_args!("application ended: {kind:?} pc {pc:08x} lr {lr:08x} sp {:08x}", fault.sp));
    core.note_of_app(
        LogLevel::Error,
        format_args!("application ended: {kind:?} pc {pc:08x} lr {lr:08x} sp {:08x}", fault.sp),
    );
}

/// What the application may ask for.
pub(super) fn facts(core: &Gateway<'_, An505>, wall: &mut Wall) -> Facts {
    let device = core.device();
    Facts {
        device_id: device.device_id().map(|id| id_bytes(&id.text())),
        wall_us_at_zero: wall.us_at_zero(device.time_bound_s()),
        boot: wake_reason(device.boot_reason()),
        network: core.network(),
        log_enabled: core.app_log_enabled(),
        may_restart: core.app_may_restart(),
    }
}

/// What date it is, since somebody told in this start: the bound that the core holds is a date on the moment it rises.
#[derive(Debug)]
pub(super) struct Wall {
    bound_s: u64,
    us_at_zero: Option<u64>,
}

impl Wall {
    /// Before anybody told; the core believes this bound.
    pub(super) fn new(bound_s: u64) -> Self {
        Self { bound_s, us_at_zero: None }
    }

    fn us_at_zero(&mut self, bound_s: u64) -> Option<u64> {
        if bound_s > self.bound_s {
            self.bound_s = bound_s;
            self.us_at_zero = bound_s.saturating_mul(1_000_000).checked_sub(now_us());
        }
        self.us_at_zero
    }
}

fn id_bytes(text: &str) -> [u8; abi::DEVICE_ID_BYTES] {
    let mut bytes = [b'0'; abi::DEVICE_ID_BYTES];
    bytes.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn wake_reason(reason: BootReason) -> WakeReason {
    match reason {
        BootReason::PowerOn => WakeReason::ColdBoot,
        BootReason::Software => WakeReason::RemoteMicrovisorRestart,
        BootReason::Watchdog => WakeReason::MicrovisorWatchdog,
        BootReason::Fault => WakeReason::MicrovisorCrash,
        BootReason::Update => WakeReason::MicrovisorUpdate,
    }
}
