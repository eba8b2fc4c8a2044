//! The device's state in the words of the wire.

use wire::msg::{self, BootReason, CrashUp, EnumValue, Slot, UpdateState, UpdateUp};

use crate::crash::Report;
use crate::device::{BootId, SlotReport};
use crate::ports;
use crate::update::{Outcome, State, UpdateResult};

pub(super) fn slot(report: &SlotReport) -> Slot<'_> {
    Slot {
        component: report.component.name(),
        index: report.index.into(),
        status: EnumValue::Known(report.status),
        manifest_digest: report.manifest.as_ref().map_or(&[], |digest| &digest.0[..]),
        version: &report.version,
        security_counter: report.security_counter,
        running: report.running,
        ..Default::default()
    }
}

pub(super) fn result_message<'r>(result: &'r UpdateResult, deployment: &'r str) -> UpdateUp<'r> {
    let state = match result.outcome {
        Outcome::Confirmed => UpdateState::Confirmed,
        Outcome::Reverted => UpdateState::Reverted,
        Outcome::Refused => UpdateState::Refused,
    };
    UpdateUp {
        boot: Some(boot_id(result.boot)),
        sequence: result.sequence,
        deployment,
        manifest_digest: &result.manifest.0,
        state: EnumValue::Known(state),
        reason: EnumValue::Known(result.reason),
        attempts: u32::from(result.attempts),
        ..Default::default()
    }
}

pub(super) fn crash_message<'r>(report: &'r Report, dropped: u32, registers: &'r [u8]) -> CrashUp<'r> {
    let Report { name, manifest, version, crash, .. } = report;
    CrashUp {
        boot: Some(boot_id(name.boot)),
        sequence: name.sequence,
        uptime_us: crash.uptime_us,
        manifest_digest: &manifest.0,
        version,
        kind: EnumValue::Known(crash.kind),
        registers,
        registers_known: crash.registers_known,
        cfsr: crash.status.cfsr,
        hfsr: crash.status.hfsr,
        sfsr: crash.status.sfsr,
        mmfar: crash.status.mmfar,
        bfar: crash.status.bfar,
        sfar: crash.status.sfar,
        exc_return: crash.status.exc_return,
        stack_at: crash.stack_at,
        stack: &crash.stack,
        dropped,
        ..Default::default()
    }
}

pub(super) fn progress_state(state: State) -> Option<UpdateState> {
    match state {
        State::Idle | State::Confirmed | State::Reverted => None,
        State::Fetching => Some(UpdateState::Fetching),
        State::Verified => Some(UpdateState::Verified),
        State::Polite => Some(UpdateState::Polite),
        State::Ready => Some(UpdateState::Ready),
        State::Installing => Some(UpdateState::Installing),
        State::Trial => Some(UpdateState::Trial),
    }
}

/// A lost `ready` would wait for ever: it is said again.
pub(super) fn waits_for_an_answer(state: State) -> bool {
    state == State::Ready
}

pub(super) fn boot_id(boot: BootId) -> msg::BootId<'static> {
    msg::BootId { counter: boot.counter, random: boot.random, ..Default::default() }
}

pub(super) fn boot_reason(reason: ports::BootReason) -> BootReason {
    match reason {
        ports::BootReason::PowerOn => BootReason::PowerOn,
        ports::BootReason::Watchdog => BootReason::Watchdog,
        ports::BootReason::Software => BootReason::Software,
        ports::BootReason::Fault => BootReason::Fault,
        ports::BootReason::Update => BootReason::Update,
    }
}
