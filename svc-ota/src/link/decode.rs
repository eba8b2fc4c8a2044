//! Devices' messages: protobuf in, checked domain values out. Every field that can be wrong is named when it is.

use prost::Message;
use proto::device::v1::{
    self as message, BootId, HelloUp, LayerUp, SlotStatus, UpdateReason, UpdateState, UpdateUp,
};
use wire::manifest::Component;
use wire::{DeviceId, Digest, Nonce};

use crate::app::hello::{Said, Slot};
use crate::model::device::{Facts, Floors};
use crate::model::directed::Window;
use crate::model::report::{Boot, Moment, Report};
use crate::model::state::Phase;

/// Slots of one hello.
const SLOTS_MAX: usize = 8;

/// What a message must not be; the field is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl Malformed {
    /// Nothing is answered: whoever sends this would not read an answer either.
    pub(super) fn count(self, device: DeviceId, channel: &'static str) {
        metrics::counter!("ota_malformed_total", "channel" => channel, "field" => self.0).increment(1);
        tracing::debug!(%device, channel, field = self.0, "malformed message");
    }
}

/// `None`: a will, which says that the connection is gone and nothing else.
pub(super) fn hello(bytes: &[u8]) -> Result<Option<Said>, Malformed> {
    let message = HelloUp::decode(bytes).map_err(|_| Malformed("message"))?;
    if message.nonce.is_empty() && message.sequence == 0 {
        return Ok(None);
    }
    if message.protocol != 0 {
        return Err(Malformed("protocol"));
    }
    if message.slots.len() > SLOTS_MAX {
        return Err(Malformed("slots"));
    }
    // An empty slot has no digest; it says nothing here.
    let filled = || message.slots.iter().filter(|slot| !slot.manifest_digest.is_empty());
    let slots = filled().map(|slot| {
        Ok(Slot {
            manifest: digest(&slot.manifest_digest, "slots.manifest_digest")?,
            confirmed: slot.status() == SlotStatus::Confirmed,
            staged: slot.status() == SlotStatus::Staged,
            previous: slot.status() == SlotStatus::Previous,
            running: slot.running,
        })
    });
    let slots = slots.collect::<Result<Vec<_>, _>>()?;
    let mut confirmed: Vec<Digest> =
        slots.iter().filter(|slot| slot.confirmed).map(|slot| slot.manifest).collect();
    confirmed.sort();
    confirmed.dedup();
    Ok(Some(Said {
        nonce: Nonce::try_from(message.nonce.as_slice()).map_err(|_| Malformed("nonce"))?,
        moment: Moment { boot: boot(message.boot)?, sequence: message.sequence },
        on_trial: filled().any(is_microvisor_on_trial),
        slots,
        facts: Facts {
            floors: Floors { app: message.app_floor, microvisor: message.microvisor_floor },
            microvisor: message.microvisor_version.parse().ok(),
            confirmed,
        },
        keyset: message.keyset_version,
        time_bound_s: message.time_bound_s,
        result: message.last_result.map(report).transpose()?,
    }))
}

fn is_microvisor_on_trial(slot: &message::Slot) -> bool {
    slot.running && slot.status() == SlotStatus::Trial && slot.component == Component::Microvisor.name()
}

pub(super) fn update(bytes: &[u8]) -> Result<Report, Malformed> {
    report(UpdateUp::decode(bytes).map_err(|_| Malformed("message"))?)
}

pub(super) fn layer(bytes: &[u8]) -> Result<Window, Malformed> {
    let message = LayerUp::decode(bytes).map_err(|_| Malformed("message"))?;
    Ok(Window { digest: digest(&message.digest, "digest")?, offset: message.offset, length: message.length })
}

fn report(message: UpdateUp) -> Result<Report, Malformed> {
    let phase = match message.state() {
        UpdateState::Unspecified => return Err(Malformed("state")),
        UpdateState::Fetching => Phase::Fetching,
        UpdateState::Verified => Phase::Verified,
        UpdateState::Polite => Phase::Polite,
        UpdateState::Ready => Phase::Ready,
        UpdateState::Installing => Phase::Installing,
        UpdateState::Trial => Phase::Trial,
        UpdateState::Confirmed => Phase::Confirmed,
        UpdateState::Reverted => Phase::Reverted,
        UpdateState::Refused => Phase::Refused,
    };
    Ok(Report {
        moment: Moment { boot: boot(message.boot)?, sequence: message.sequence },
        deployment: message.deployment.parse().map_err(|_| Malformed("deployment"))?,
        manifest: digest(&message.manifest_digest, "manifest_digest")?,
        phase,
        reason: reason(message.reason),
        bytes_done: message.bytes_done,
        bytes_total: message.bytes_total,
        attempts: message.attempts,
    })
}

/// The enum's name in lower snake case; one that newer firmware knows keeps its number.
fn reason(number: i32) -> String {
    match UpdateReason::try_from(number) {
        Ok(UpdateReason::Unspecified) => String::new(),
        Ok(reason) => reason.as_str_name().trim_start_matches("UPDATE_REASON_").to_lowercase(),
        Err(_) => format!("reason_{number}"),
    }
}

fn boot(id: Option<BootId>) -> Result<Boot, Malformed> {
    let id = id.ok_or(Malformed("boot"))?;
    Ok(Boot { count: id.counter, random: id.random })
}

fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, Malformed> {
    Digest::try_from(bytes).map_err(|_| Malformed(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A field's name, and how to spoil it.
    type Spoiled<M> = (&'static str, fn(&mut M));

    fn good_update() -> UpdateUp {
        UpdateUp {
            boot: Some(BootId { counter: 1, random: 2 }),
            sequence: 3,
            deployment: format!("dp{}", "0".repeat(32)),
            manifest_digest: vec![1; 32],
            state: UpdateState::Reverted.into(),
            reason: UpdateReason::NeverHealthy.into(),
            bytes_done: 4,
            bytes_total: 5,
            attempts: 6,
        }
    }

    fn good_hello() -> HelloUp {
        HelloUp {
            nonce: vec![7; 16],
            boot: Some(BootId { counter: 1, random: 2 }),
            sequence: 1,
            ..HelloUp::default()
        }
    }

    #[test]
    fn a_report_is_read() {
        let report = update(&good_update().encode_to_vec()).unwrap();
        assert_eq!((report.phase, report.reason.as_str()), (Phase::Reverted, "never_healthy"));
        assert_eq!((report.moment.boot, report.moment.sequence), (Boot { count: 1, random: 2 }, 3));
    }

    #[test]
    fn a_will_is_no_hello_and_no_fault() {
        let will =
            HelloUp { boot: Some(BootId { counter: 1, random: 2 }), connection: 3, ..HelloUp::default() };
        assert!(hello(&will.encode_to_vec()).unwrap().is_none());
        assert!(hello(&good_hello().encode_to_vec()).unwrap().is_some());
    }

    #[test]
    fn a_microvisor_on_trial_is_seen_and_nothing_else_is_taken_for_it() {
        let slot = |component: &str, status: SlotStatus, running| message::Slot {
            component: component.into(),
            status: status.into(),
            manifest_digest: vec![1; 32],
            running,
            ..Default::default()
        };
        let cases = [
            (slot("microvisor", SlotStatus::Trial, true), true),
            (slot("microvisor", SlotStatus::Trial, false), false),
            (slot("microvisor", SlotStatus::Confirmed, true), false),
            (slot("app", SlotStatus::Trial, true), false),
        ];
        for (slot, on_trial) in cases {
            let message = HelloUp { slots: vec![slot.clone()], ..good_hello() };
            let said = hello(&message.encode_to_vec()).unwrap().unwrap();
            assert_eq!(said.on_trial, on_trial, "{slot:?}");
            let confirmed = slot.status() == SlotStatus::Confirmed;
            assert_eq!(said.facts.confirmed.len(), usize::from(confirmed));
        }
        let message =
            HelloUp { app_floor: 3, microvisor_floor: 4, microvisor_version: "1.2.3".into(), ..good_hello() };
        let facts = hello(&message.encode_to_vec()).unwrap().unwrap().facts;
        assert_eq!((facts.floors.of(Component::App), facts.floors.of(Component::Microvisor)), (3, 4));
        assert_eq!(facts.microvisor.map(|version| version.to_string()).as_deref(), Some("1.2.3"));
    }

    #[test]
    fn the_field_that_is_wrong_is_named() {
        let cases: [Spoiled<UpdateUp>; 6] = [
            ("boot", |m| m.boot = None),
            ("deployment", |m| m.deployment = "dp1".into()),
            ("manifest_digest", |m| m.manifest_digest.truncate(31)),
            ("state", |m| m.state = 0),
            ("state", |m| m.state = 99),
            ("manifest_digest", |m| m.manifest_digest.clear()),
        ];
        for (field, spoil) in cases {
            let mut message = good_update();
            spoil(&mut message);
            assert_eq!(update(&message.encode_to_vec()), Err(Malformed(field)));
        }
        let cases: [Spoiled<HelloUp>; 5] = [
            ("protocol", |m| m.protocol = 1),
            ("nonce", |m| m.nonce.push(0)),
            ("boot", |m| m.boot = None),
            ("slots", |m| m.slots.resize(9, Default::default())),
            ("state", |m| m.last_result = Some(UpdateUp { state: 0, ..good_update() })),
        ];
        for (field, spoil) in cases {
            let mut message = good_hello();
            spoil(&mut message);
            assert_eq!(hello(&message.encode_to_vec()).unwrap_err(), Malformed(field));
        }
    }

    #[test]
    fn eight_slots_are_read_and_a_reason_of_tomorrow_keeps_its_number() {
        let mut message = good_hello();
        message.slots.resize(8, Default::default());
        assert!(hello(&message.encode_to_vec()).is_ok());
        let report = update(&UpdateUp { reason: 999, ..good_update() }.encode_to_vec()).unwrap();
        assert_eq!(report.reason, "reason_999");
    }

    proptest! {
        #[test]
        fn reading_any_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = (hello(&bytes), update(&bytes).is_ok(), layer(&bytes).is_ok());
        }

        #[test]
        fn reading_a_damaged_message_never_panics(at in 0usize..80, byte in any::<u8>()) {
            let mut bytes = good_update().encode_to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = update(&bytes);
        }
    }
}
