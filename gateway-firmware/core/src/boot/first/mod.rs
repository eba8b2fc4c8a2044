//! The first stage: which microvisor runs, and whether it may. It never changes, so it decides nothing else.
//!
//! Always holds: nothing is given to run whose keyset enough provisioned, unrevoked root keys did not sign, whose
//! manifest a release key of that keyset for this component and board did not sign, whose security counter is below
//! the floor, or whose image, measured where it runs, is not the manifest's. A start on trial is written down before it
//! happens. Chosen is the slot on trial while it has attempts left, else the active one, else the other one.
//!
//! Never: a network, an update, a key of its own, a word of the application.

mod handover;
mod record;
mod verify;

pub use handover::{ARMED, CAUSE_WORDS, HANDOVER_BYTES, Handover, cause, cause_words, reason_name};
pub use record::{Misfit, Record, Slot};
pub use verify::{Entry, Machine, Refused, Scratch, SlotLayout, Verified};

use wire::KeyHash;
use wire::cose::Verify;

use crate::pair::Health;
use crate::ports::Flash;
use verify::{Demands, Roots};

/// What became of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Not looked at: the other one runs.
    Unseen,
    Runs,
    Refused(Refused),
}

/// The flash, each part from its own start, and where an image runs.
#[derive(Debug)]
pub struct Parts<'a, F> {
    pub record: &'a mut F,
    pub slots: [&'a mut F; 2],
    pub layout: SlotLayout,
    pub place: &'a mut [u8],
    pub scratch: &'a mut Scratch,
}

/// What is provisioned.
#[derive(Debug, Clone)]
pub struct Given<'a> {
    pub machine: Machine<'a>,
    pub root_key_hashes: &'a [KeyHash],
    pub root_threshold: u8,
}

/// What to run. It lies where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub slot: Slot,
    /// Which start of its trial this is; 0: it is not on trial.
    pub attempt: u8,
    pub microvisor: Verified,
}

/// What the first stage came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Nothing: neither slot may run.
    pub chosen: Option<Chosen>,
    pub verdicts: [Verdict; 2],
    pub record: Record,
    /// How the record was found, before it was repaired.
    pub record_health: Health,
}

/// Chooses the microvisor and puts it where it runs.
pub fn choose<F: Flash>(mut parts: Parts<'_, F>, given: &Given<'_>, verify: &impl Verify) -> Outcome {
    let (record, record_health) = Record::read(parts.record);
    if record_health == Health::Damaged {
        // The same again, where nothing torn follows. If it cannot be written, it can still be read.
        let _ = record.write(parts.record);
    }
    let outcome = Outcome { chosen: None, verdicts: [Verdict::Unseen; 2], record, record_health };
    let outcome = try_trial(outcome, &mut parts, given, verify);
    if outcome.chosen.is_some() {
        return outcome;
    }
    let active = outcome.record.active;
    let outcome = try_slot(active, outcome, &mut parts, given, verify);
    if outcome.chosen.is_some() {
        return outcome;
    }
    try_slot(active.other(), outcome, &mut parts, given, verify)
}

/// The slot on trial, if it may run and its start can be written down; if it may not, the trial is over.
fn try_trial<F: Flash>(
    mut outcome: Outcome,
    parts: &mut Parts<'_, F>,
    given: &Given<'_>,
    verify: &impl Verify,
) -> Outcome {
    let Some(slot) = outcome.record.trial else { return outcome };
    let (verdict, changed) = match check(slot, &outcome.record, parts, given, verify) {
        Ok(microvisor) if outcome.record.attempts < microvisor.attempts_max => {
            let counted = outcome.record.count_attempt().unwrap_or(outcome.record);
            // Before the jump: a start that is not on record did not happen.
            if counted != outcome.record && counted.write(parts.record).is_ok() {
                outcome.chosen = Some(Chosen { slot, attempt: counted.attempts, microvisor });
                (Verdict::Runs, counted)
            } else {
                (Verdict::Refused(Refused::AttemptUnwritten), outcome.record)
            }
        }
        Ok(_) => (Verdict::Refused(Refused::AttemptsSpent), outcome.record.take_back()),
        Err(reason) => (Verdict::Refused(reason), outcome.record.take_back()),
    };
    if outcome.chosen.is_none() && changed != outcome.record {
        // If it cannot be written the next start comes to the same end.
        let _ = changed.write(parts.record);
    }
    outcome.verdicts[slot.index()] = verdict;
    outcome.record = changed;
    outcome
}

fn try_slot<F: Flash>(
    slot: Slot,
    mut outcome: Outcome,
    parts: &mut Parts<'_, F>,
    given: &Given<'_>,
    verify: &impl Verify,
) -> Outcome {
    match outcome.verdicts[slot.index()] {
        // A version that failed its trial is still better than none.
        Verdict::Unseen | Verdict::Refused(Refused::AttemptsSpent) => {}
        Verdict::Runs | Verdict::Refused(_) => return outcome,
    }
    match check(slot, &outcome.record, parts, given, verify) {
        Ok(microvisor) => {
            outcome.verdicts[slot.index()] = Verdict::Runs;
            outcome.chosen = Some(Chosen { slot, attempt: 0, microvisor });
        }
        Err(reason) => outcome.verdicts[slot.index()] = Verdict::Refused(reason),
    }
    outcome
}

/// Whether one slot's microvisor may run, whatever the record says of trials; if so it is put where it runs.
pub fn check<F: Flash>(
    slot: Slot,
    record: &Record,
    parts: &mut Parts<'_, F>,
    given: &Given<'_>,
    verify: &impl Verify,
) -> Result<Verified, Refused> {
    let demands = Demands {
        machine: &given.machine,
        roots: Roots::new(given.root_key_hashes, given.root_threshold, record.revoked),
        floor: record.floor,
    };
    let flash: &mut F = parts.slots[slot.index()];
    let Parts { layout, place, scratch, .. } = parts;
    verify::examine(flash, layout, &demands, scratch, place, verify)
}
