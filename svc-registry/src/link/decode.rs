//! Bytes from devices into domain types: bounded, checked field by field, never a panic.

use prost::Message;
use proto::device::v1::{BootId, EnrollUp, HelloUp, Slot as WireSlot};
use wire::{ClientNonce, limits};

use crate::app::EnrollRequest;
use crate::model::device::SLOT_STATUSES;
use crate::model::field::{BOARD_MAX, VERSION_MAX, word};
use crate::model::hello::{BOOT_REASONS, Heard, Order, Report, SLOTS_MAX, number};
use crate::model::lives::Challenge;
use crate::model::{Invalid, Slot};

const NONCE_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;

/// `up/hello`: a device's, or the will the broker sends for it, which has no nonce.
pub(crate) fn hello(bytes: &[u8]) -> Result<Heard, Invalid> {
    let hello = HelloUp::decode(bytes).map_err(|_| Invalid::new("hello", "not a HelloUp"))?;
    let boot = hello.boot.ok_or_else(|| Invalid::new("boot", "is missing"))?;
    let order = order(boot, hello.connection, hello.sequence);
    if hello.nonce.is_empty() {
        return Ok(Heard::Will(order));
    }
    if hello.nonce.len() != NONCE_BYTES {
        return Err(Invalid::new("nonce", "must have 16 bytes"));
    }
    word("board", &hello.board, BOARD_MAX)?;
    word("microvisor_version", &hello.microvisor_version, VERSION_MAX)?;
    if hello.slots.len() > SLOTS_MAX {
        return Err(Invalid::new("slots", format!("at most {SLOTS_MAX}")));
    }
    let answer = answer(&hello.challenge)?;
    let report = Report {
        order,
        boot_reason: known("boot_reason", &BOOT_REASONS, hello.boot_reason)?,
        board: hello.board,
        microvisor_version: hello.microvisor_version,
        slots: hello.slots.into_iter().map(slot).collect::<Result<_, _>>()?,
        app_floor: number("app_floor", hello.app_floor)?,
        keyset_version: i32::try_from(hello.keyset_version)
            .map_err(|_| Invalid::new("keyset_version", "must be below 2^31"))?,
    };
    Ok(Heard::Hello(report, answer))
}

/// `up/enroll`, and the client id of its topic.
pub(crate) fn enroll(client: ClientNonce, bytes: &[u8]) -> Result<EnrollRequest, Invalid> {
    if bytes.len() > limits::PACKET_BYTES_MAX {
        return Err(Invalid::new("enroll", "too long"));
    }
    let up = EnrollUp::decode(bytes).map_err(|_| Invalid::new("enroll", "not an EnrollUp"))?;
    Ok(EnrollRequest {
        client,
        csr: up.csr,
        hardware_id: up.hardware_id,
        board: up.board,
        old_key_signature: up.old_key_signature,
        vouching_certificate: up.vouching_certificate,
        vouching_signature: up.vouching_signature,
    })
}

fn answer(challenge: &[u8]) -> Result<Option<Challenge>, Invalid> {
    if challenge.is_empty() {
        return Ok(None);
    }
    challenge.try_into().map(Some).map_err(|_| Invalid::new("challenge", "must have 16 bytes or none"))
}

fn order(boot: BootId, connection: u32, sequence: u32) -> Order {
    Order { boot_count: boot.counter, boot_random: boot.random, connection, sequence }
}

fn slot(slot: WireSlot) -> Result<Slot, Invalid> {
    if !matches!(slot.component.as_str(), "app" | "microvisor") {
        return Err(Invalid::new("slots.component", "must be app or microvisor"));
    }
    if slot.index > 1 {
        return Err(Invalid::new("slots.index", "must be 0 or 1"));
    }
    if !slot.manifest_digest.is_empty() && slot.manifest_digest.len() != DIGEST_BYTES {
        return Err(Invalid::new("slots.manifest_digest", "must have 32 bytes or none"));
    }
    if !slot.version.is_empty() {
        word("slots.version", &slot.version, VERSION_MAX)?;
    }
    Ok(Slot {
        component: slot.component,
        index: u8::from(slot.index == 1),
        status: known("slots.status", &SLOT_STATUSES, slot.status)?,
        manifest_digest: slot.manifest_digest,
        version: slot.version,
        security_counter: number("slots.security_counter", slot.security_counter)?,
        running: slot.running,
    })
}

fn known(field: &'static str, words: &[&'static str], value: i32) -> Result<&'static str, Invalid> {
    let word = usize::try_from(value).ok().and_then(|at| words.get(at));
    word.copied().ok_or_else(|| Invalid::new(field, "is unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proto::device::v1::{BootReason, SlotStatus};

    fn good() -> HelloUp {
        HelloUp {
            nonce: vec![1; 16],
            boot: Some(BootId { counter: 3, random: 9 }),
            connection: 1,
            sequence: 2,
            boot_reason: BootReason::PowerOn.into(),
            hardware_id: "hw".into(),
            board: "host".into(),
            microvisor_version: "0.1.0".into(),
            slots: vec![WireSlot {
                component: "app".into(),
                index: 1,
                status: SlotStatus::Confirmed.into(),
                manifest_digest: vec![7; 32],
                version: "1.0".into(),
                security_counter: 4,
                running: true,
            }],
            ..HelloUp::default()
        }
    }

    fn read(hello_up: &HelloUp) -> Result<Heard, Invalid> {
        hello(&hello_up.encode_to_vec())
    }

    #[test]
    fn every_word_of_the_wire_has_its_own() {
        for status in [SlotStatus::Unspecified, SlotStatus::Empty, SlotStatus::Trial, SlotStatus::Rejected] {
            let name = status.as_str_name().trim_start_matches("SLOT_STATUS_").to_lowercase();
            assert_eq!(known("s", &SLOT_STATUSES, status.into()), Ok(name.as_str()));
        }
        for reason in [BootReason::Unspecified, BootReason::Watchdog, BootReason::Update] {
            let name = reason.as_str_name().trim_start_matches("BOOT_REASON_").to_lowercase();
            assert_eq!(known("r", &BOOT_REASONS, reason.into()), Ok(name.as_str()));
        }
    }

    #[test]
    fn a_hello_without_a_nonce_is_a_will() {
        assert!(matches!(read(&good()), Ok(Heard::Hello(_, None))));
        let answering = HelloUp { challenge: vec![4; 16], ..good() };
        assert!(matches!(read(&answering), Ok(Heard::Hello(_, Some(answer))) if answer == [4; 16]));
        let will = HelloUp { nonce: vec![], ..good() };
        let order = Order { boot_count: 3, boot_random: 9, connection: 1, sequence: 2 };
        assert_eq!(read(&will), Ok(Heard::Will(order)));
    }

    #[test]
    fn a_lying_or_malformed_hello_is_refused_by_field() {
        let slots = |change: fn(&mut WireSlot)| {
            let mut hello = good();
            change(&mut hello.slots[0]);
            hello
        };
        for (field, hello) in [
            ("boot", HelloUp { boot: None, ..good() }),
            ("nonce", HelloUp { nonce: vec![1; 15], ..good() }),
            ("board", HelloUp { board: "a\0b".into(), ..good() }),
            ("board", HelloUp { board: "x".repeat(BOARD_MAX + 1), ..good() }),
            ("microvisor_version", HelloUp { microvisor_version: String::new(), ..good() }),
            ("boot_reason", HelloUp { boot_reason: 6, ..good() }),
            ("boot_reason", HelloUp { boot_reason: -1, ..good() }),
            ("app_floor", HelloUp { app_floor: 1 << 63, ..good() }),
            ("keyset_version", HelloUp { keyset_version: 1 << 31, ..good() }),
            ("slots", HelloUp { slots: vec![good().slots[0].clone(); SLOTS_MAX + 1], ..good() }),
            ("challenge", HelloUp { challenge: vec![1; 15], ..good() }),
            ("challenge", HelloUp { challenge: vec![1; 17], ..good() }),
            ("slots.component", slots(|s| s.component = "boot".into())),
            ("slots.index", slots(|s| s.index = 2)),
            ("slots.manifest_digest", slots(|s| s.manifest_digest = vec![1; 31])),
            ("slots.version", slots(|s| s.version = "é".into())),
            ("slots.status", slots(|s| s.status = 7)),
            ("slots.security_counter", slots(|s| s.security_counter = u64::MAX)),
        ] {
            assert_eq!(read(&hello).expect_err(field).field, field);
        }
        let most = HelloUp { slots: vec![good().slots[0].clone(); SLOTS_MAX], ..good() };
        assert!(read(&most).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = hello(&bytes);
            let _ = enroll(ClientNonce::new([0; 16]), &bytes);
        }
    }
}
