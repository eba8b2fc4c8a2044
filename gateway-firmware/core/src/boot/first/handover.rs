//! What the first stage tells the microvisor, and what a microvisor tells the next start: both in RAM that survives a
//! warm reset. The layouts are frozen, as the record's is.
//!
//! The reset cause is two words, a code and its complement. The first stage arms it before it jumps; a microvisor that
//! resets on purpose says why first. Found armed, nobody said so: the watchdog. Found as noise: power was off.

use heapless::String;
use wire::Digest;
use wire::limits::VERSION_BYTES_MAX;

use super::record::Slot;
use super::verify::Refused;
use super::{Chosen, Outcome, Verdict};
use crate::crc::Crc;
use crate::pair::Health;
use crate::ports::BootReason;

/// Bytes of a handover.
pub const HANDOVER_BYTES: usize = 128;
/// Words of the reset cause.
pub const CAUSE_WORDS: usize = 2;
const MAGIC: [u8; 4] = *b"HFH1";
const CAUSE_BASE: u32 = 0x4846_5200;
const UNSEEN: u8 = 0;
const RUNS: u8 = 1;

/// The cause as the first stage leaves it.
pub const ARMED: [u32; CAUSE_WORDS] = words(0);

/// What a reset cause says at the start after it.
pub fn cause(found: [u32; CAUSE_WORDS]) -> BootReason {
    match found {
        _ if found == ARMED || found == cause_words(BootReason::Watchdog) => BootReason::Watchdog,
        _ if found == cause_words(BootReason::Software) => BootReason::Software,
        _ if found == cause_words(BootReason::Fault) => BootReason::Fault,
        _ if found == cause_words(BootReason::Update) => BootReason::Update,
        _ => BootReason::PowerOn,
    }
}

/// A reason for a console and for tools.
pub const fn reason_name(reason: BootReason) -> &'static str {
    match reason {
        BootReason::PowerOn => "power_on",
        BootReason::Watchdog => "watchdog",
        BootReason::Software => "software",
        BootReason::Fault => "fault",
        BootReason::Update => "update",
    }
}

/// What to leave before a reset for this reason.
pub const fn cause_words(reason: BootReason) -> [u32; CAUSE_WORDS] {
    words(reason_byte(reason))
}

const fn words(code: u8) -> [u32; CAUSE_WORDS] {
    let word = CAUSE_BASE | code as u32;
    [word, !word]
}

const fn reason_byte(reason: BootReason) -> u8 {
    match reason {
        BootReason::PowerOn => 1,
        BootReason::Watchdog => 2,
        BootReason::Software => 3,
        BootReason::Fault => 4,
        BootReason::Update => 5,
    }
}

/// What the first stage found and chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handover {
    pub slot: Slot,
    /// Which start of its trial this is; 0: it is not on trial.
    pub attempt: u8,
    pub attempts_max: u8,
    pub reason: BootReason,
    pub verdicts: [Verdict; 2],
    pub record_health: Health,
    /// Bit n: root key hash n is revoked.
    pub revoked: u8,
    pub keyset_version: u32,
    pub security_counter: u64,
    pub floor: u64,
    pub build_time_s: u64,
    pub version: String<VERSION_BYTES_MAX>,
    /// Of the microvisor's manifest.
    pub manifest: Digest,
}

impl Handover {
    pub fn new(chosen: &Chosen, outcome: &Outcome, reason: BootReason) -> Handover {
        let microvisor = &chosen.microvisor;
        Handover {
            slot: chosen.slot,
            attempt: chosen.attempt,
            attempts_max: microvisor.attempts_max,
            reason,
            verdicts: outcome.verdicts,
            record_health: outcome.record_health,
            revoked: outcome.record.revoked,
            keyset_version: microvisor.keyset_version,
            security_counter: microvisor.security_counter,
            floor: outcome.record.floor,
            build_time_s: microvisor.build_time_s,
            version: microvisor.version.clone(),
            manifest: microvisor.digest,
        }
    }

    pub fn encode(&self) -> [u8; HANDOVER_BYTES] {
        let mut bytes = [0; HANDOVER_BYTES];
        let [v0, v1] = self.verdicts.map(verdict_byte);
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..12].copy_from_slice(&[
            self.slot as u8,
            self.attempt,
            self.attempts_max,
            reason_byte(self.reason),
            v0,
            v1,
            self.record_health as u8,
            self.revoked,
        ]);
        bytes[12..16].copy_from_slice(&self.keyset_version.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.security_counter.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.floor.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.build_time_s.to_le_bytes());
        // At most VERSION_BYTES_MAX, 32.
        bytes[40] = self.version.len() as u8;
        bytes[48..48 + self.version.len()].copy_from_slice(self.version.as_bytes());
        bytes[80..112].copy_from_slice(&self.manifest.0);
        let crc = checksum(&bytes);
        bytes[124..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Nothing, if no first stage wrote it.
    pub fn decode(bytes: &[u8; HANDOVER_BYTES]) -> Option<Handover> {
        let [m0, m1, m2, m3, slot, attempt, attempts_max, reason, v0, v1, health, revoked, ..] = *bytes;
        if [m0, m1, m2, m3] != MAGIC || checksum(bytes).to_le_bytes() != bytes[124..] {
            return None;
        }
        let version = bytes.get(48..48 + usize::from(bytes[40]).min(VERSION_BYTES_MAX))?;
        Some(Handover {
            slot: Slot::from_byte(slot)?,
            attempt,
            attempts_max,
            reason: REASONS.into_iter().find(|it| reason_byte(*it) == reason)?,
            verdicts: [verdict(v0)?, verdict(v1)?],
            record_health: HEALTHS.into_iter().find(|it| *it as u8 == health)?,
            revoked,
            keyset_version: u32::from_le_bytes(*bytes.get(12..)?.first_chunk()?),
            security_counter: u64::from_le_bytes(*bytes.get(16..)?.first_chunk()?),
            floor: u64::from_le_bytes(*bytes.get(24..)?.first_chunk()?),
            build_time_s: u64::from_le_bytes(*bytes.get(32..)?.first_chunk()?),
            version: String::try_from(core::str::from_utf8(version).ok()?).ok()?,
            manifest: Digest(*bytes.get(80..)?.first_chunk()?),
        })
    }
}

const REASONS: [BootReason; 5] =
    [BootReason::PowerOn, BootReason::Watchdog, BootReason::Software, BootReason::Fault, BootReason::Update];
const HEALTHS: [Health; 4] = [Health::Blank, Health::Sound, Health::Damaged, Health::Lost];

fn verdict_byte(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Unseen => UNSEEN,
        Verdict::Runs => RUNS,
        Verdict::Refused(reason) => reason as u8,
    }
}

fn verdict(byte: u8) -> Option<Verdict> {
    match byte {
        UNSEEN => Some(Verdict::Unseen),
        RUNS => Some(Verdict::Runs),
        _ => Refused::ALL.into_iter().find(|it| *it as u8 == byte).map(Verdict::Refused),
    }
}

fn checksum(bytes: &[u8; HANDOVER_BYTES]) -> u32 {
    let mut crc = Crc::new(0);
    crc.update(&bytes[..124]);
    crc.finish()
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;
    use proptest::prelude::*;

    fn full() -> Handover {
        Handover {
            slot: Slot::B,
            attempt: 2,
            attempts_max: 3,
            reason: BootReason::Update,
            verdicts: [Verdict::Refused(Refused::DigestMismatch), Verdict::Runs],
            record_health: Health::Damaged,
            revoked: 1,
            keyset_version: 0x0102_0304,
            security_counter: 0x1112_1314_1516_1718,
            floor: 0x2122_2324_2526_2728,
            build_time_s: 0x3132_3334_3536_3738,
            version: String::try_from("1.2.3").unwrap(),
            manifest: Digest([0xab; 32]),
        }
    }

    #[test]
    fn the_layout_is_frozen() {
        let bytes = full().encode();
        assert_eq!(
            bytes[..56],
            *b"HFH1\x01\x02\x03\x05\x0d\x01\x02\x01\x04\x03\x02\x01\x18\x17\x16\x15\x14\x13\x12\x11\
               \x28\x27\x26\x25\x24\x23\x22\x21\x38\x37\x36\x35\x34\x33\x32\x31\x05\0\0\0\0\0\0\x001.2.3\0\0\0"
        );
        assert_eq!((&bytes[56..80], &bytes[80..112]), (&[0; 24][..], &[0xab; 32][..]));
        assert_eq!(bytes[112..124], [0; 12]);
        assert_eq!(Handover::decode(&bytes), Some(full()));
    }

    #[test]
    fn every_verdict_has_a_number_of_its_own() {
        for reason in Refused::ALL {
            assert_eq!(verdict(verdict_byte(Verdict::Refused(reason))), Some(Verdict::Refused(reason)));
        }
        assert_eq!(verdict(Refused::ALL.len() as u8 + 2), None);
    }

    #[test]
    fn a_cause_is_what_was_left_and_noise_is_a_power_on() {
        for reason in [BootReason::Software, BootReason::Fault, BootReason::Update, BootReason::Watchdog] {
            assert_eq!(cause(cause_words(reason)), reason);
        }
        assert_eq!(cause(ARMED), BootReason::Watchdog);
        for noise in [[0, 0], [u32::MAX; 2], [ARMED[0], 0], [CAUSE_BASE | 9, !(CAUSE_BASE | 9)]] {
            assert_eq!(cause(noise), BootReason::PowerOn);
        }
    }

    proptest! {
        #[test]
        fn no_flipped_bit_passes(at in 0..HANDOVER_BYTES, bit in 0..8_u8) {
            let mut bytes = full().encode();
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Handover::decode(&bytes), None);
        }

        #[test]
        fn no_bytes_make_it_panic(body: Vec<u8>) {
            let mut bytes = [0; HANDOVER_BYTES];
            let length = body.len().min(124);
            bytes[..length].copy_from_slice(&body[..length]);
            bytes[..4].copy_from_slice(&MAGIC);
            let crc = checksum(&bytes);
            bytes[124..].copy_from_slice(&crc.to_le_bytes());
            let _ = Handover::decode(&bytes);
        }
    }
}
