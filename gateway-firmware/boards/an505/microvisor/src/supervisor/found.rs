//! What a start found that is not as it should be, and what became of it: what the first stage says, the provisioning, the identity
//! key, the counter, and how the microvisor ended before.
//!
//! It is told twice, on the console at once and in the log when there is one. The store and the application's slots are the
//! core's, which notes them itself. Looking changes nothing.

use core::fmt;

use gateway_core::boot::first::{Handover, Slot, Verdict};
use gateway_core::pair;
use gateway_core::ports::Ports;
use gateway_core::provision::whole_copies;
use gateway_core::secret;
use wire::msg::LogLevel;

use crate::fault::{Death, last_death};
use crate::ports::An505;

/// All of it.
#[derive(Debug)]
pub(super) struct Found {
    death: Option<Death>,
    record: Option<pair::Health>,
    verdicts: [Verdict; 2],
    provisioning: [bool; 2],
    identity: secret::Health,
    counter: pair::Health,
}

impl Found {
    pub(super) fn look(ports: &mut Ports<An505>, handover: Option<&Handover>) -> Found {
        Found {
            death: last_death(),
            record: handover.map(|handover| handover.record_health),
            verdicts: handover.map_or([Verdict::Unseen; 2], |handover| handover.verdicts),
            provisioning: whole_copies(chip::flash::provision()),
            identity: ports.keys.health,
            counter: ports.counter.health(),
        }
    }

    /// Tells each finding, the first that happened first.
    pub(super) fn tell(&self, mut to: impl FnMut(LogLevel, fmt::Arguments<'_>)) {
        if let Some(death) = self.death {
            to(LogLevel::Error, format_args!("died before: {death:x?}"));
        }
        match self.record {
            Some(pair::Health::Damaged) => to(LogLevel::Warn, format_args!("boot record damaged")),
            Some(pair::Health::Lost) => to(LogLevel::Error, format_args!("boot record lost")),
            Some(pair::Health::Blank | pair::Health::Sound) | None => {}
        }
        for slot in Slot::BOTH {
            if let Verdict::Refused(reason) = self.verdicts[slot.index()] {
                to(LogLevel::Warn, format_args!("slot {} refused: {}", slot.name(), reason.name()));
            }
        }
        for copy in (0..self.provisioning.len()).filter(|copy| !self.provisioning[*copy]) {
            to(LogLevel::Warn, format_args!("provisioning copy {copy} damaged"));
        }
        match self.identity {
            secret::Health::Sound => {}
            secret::Health::Blank => to(LogLevel::Info, format_args!("identity made")),
            secret::Health::Repaired => to(LogLevel::Warn, format_args!("identity repaired")),
            secret::Health::Unrepaired => to(LogLevel::Error, format_args!("identity unrepaired")),
            secret::Health::Lost => to(LogLevel::Error, format_args!("identity lost, another made")),
        }
        match self.counter {
            pair::Health::Blank | pair::Health::Sound => {}
            pair::Health::Damaged => to(LogLevel::Warn, format_args!("counter damaged")),
            pair::Health::Lost => to(LogLevel::Error, format_args!("counter lost")),
        }
    }
}
