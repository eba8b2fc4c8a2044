//! Enrolment: one question on `up/enroll`, one answer on `dn/enroll`, over a connection of its own.
//!
//! The question proves itself from end to end: a CSR signed by the device's key, the certificate that vouches for the
//! board, and a signature by that certificate's key. The answer is judged by `Identity::accept`. A lost answer costs
//! nothing: the same question gets the same device id again, under a new client id.

use wire::limits::HARDWARE_ID_BYTES_MAX;
use wire::msg::{EnrollDown, EnrollReason, EnrollStatus, EnrollUp, EnumValue, Message as _};
use wire::{ClientNonce, Digest, Direction, PublicKey, Topic};

use super::csr::{self, CSR_BYTES_MAX};
use super::der::{ECDSA_DER_MAX, ecdsa_der};
use super::mqtt::{Full, Mqtt, Qos};
use crate::ports::{Keys, KeysError};

/// Wait for the answer before the question is asked again.
pub const ENROLL_RETRY_MS: u64 = 10_000;
/// Questions on one connection.
pub const ENROLL_ASKS_MAX: u32 = 3;
/// Bounds of what a service may have us wait.
pub const ENROLL_WAIT_MIN_S: u32 = 5;
pub const ENROLL_WAIT_MAX_S: u32 = 60 * 60;

const VOUCHING_CONTEXT: &[u8; 16] = b"holdfast enroll\0";

/// Which certificate the connection is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voucher {
    /// The tenant's claim the board was provisioned with.
    Claim,
    /// The birth certificate of an earlier enrolment: the device's own key.
    Birth,
}

/// What the board says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    pub hardware_id: &'a str,
    pub board: &'a str,
    pub voucher: Voucher,
    /// DER of the vouching certificate.
    pub certificate: &'a [u8],
}

/// What the service answered.
#[derive(Clone)]
#[expect(missing_debug_implementations, reason = "the generated message has none")]
pub enum Answer<'p> {
    Issued(EnrollDown<'p>),
    Pending { retry_after_s: u32 },
    Refused { reason: EnrollReason, retry_after_s: u32 },
}

/// One enrolment connection.
#[derive(Debug, Clone, Copy)]
pub struct Enroll {
    client: ClientNonce,
    asks: u32,
    ask_at_ms: u64,
}

impl Enroll {
    /// `client` is fresh randomness for every connection.
    pub fn new(client: ClientNonce) -> Self {
        Self { client, asks: 0, ask_at_ms: 0 }
    }

    pub fn client(&self) -> ClientNonce {
        self.client
    }

    pub fn is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.ask_at_ms
    }

    /// Asked often enough without an answer: the connection is of no use.
    pub fn is_exhausted(&self) -> bool {
        self.asks >= ENROLL_ASKS_MAX
    }

    pub fn deadline_ms(&self) -> u64 {
        self.ask_at_ms
    }

    /// Asks. `Ok(Err(Full))` when there is no room yet.
    pub fn ask(
        &mut self,
        now_ms: u64,
        mqtt: &mut Mqtt<'_>,
        keys: &mut impl Keys,
        applicant: &Applicant<'_>,
    ) -> Result<Result<(), Full>, KeysError> {
        let key = public_key(keys)?;
        let mut csr = [0; CSR_BYTES_MAX];
        let csr_bytes =
            csr::write(&key.spki_der().map_err(|_| KeysError)?, &mut csr, |info| keys.sign(info))?;
        let csr = &csr[..csr_bytes];

        let client = self.client.text();
        let digest = Digest::of_parts(&[csr, client.as_bytes(), applicant.hardware_id.as_bytes()]);
        let mut message = [0; VOUCHING_CONTEXT.len() + 32];
        message[..VOUCHING_CONTEXT.len()].copy_from_slice(VOUCHING_CONTEXT);
        message[VOUCHING_CONTEXT.len()..].copy_from_slice(&digest.0);
        let raw = match applicant.voucher {
            Voucher::Claim => keys.sign_as_claim(&message)?,
            Voucher::Birth => keys.sign(&message)?,
        };
        let mut signature = [0; ECDSA_DER_MAX];
        let signature_bytes = ecdsa_der(&raw, &mut signature);

        let question = EnrollUp {
            csr,
            hardware_id: applicant.hardware_id,
            board: applicant.board,
            vouching_certificate: applicant.certificate,
            vouching_signature: &signature[..signature_bytes],
            ..Default::default()
        };
        let topic = Topic::enroll(self.client, Direction::Up).text();
        let published = mqtt.publish(&topic, Qos::AtLeastOnce, &question);
        if published.is_ok() {
            self.asks += 1;
            self.ask_at_ms = now_ms + ENROLL_RETRY_MS;
        }
        Ok(published)
    }

    /// Reads what came on a topic; nothing when it is not an answer to this enrolment.
    pub fn answer<'p>(&self, topic: &str, payload: &'p [u8]) -> Option<Answer<'p>> {
        if Topic::parse(topic) != Ok(Topic::enroll(self.client, Direction::Down)) {
            return None;
        }
        let answer = EnrollDown::decode(payload).ok()?;
        let retry_after_s = answer.retry_after_s.clamp(ENROLL_WAIT_MIN_S, ENROLL_WAIT_MAX_S);
        match answer.status {
            EnumValue::Known(EnrollStatus::Issued) => Some(Answer::Issued(answer)),
            EnumValue::Known(EnrollStatus::Pending) => Some(Answer::Pending { retry_after_s }),
            EnumValue::Known(EnrollStatus::Refused) => {
                let reason = match answer.reason {
                    EnumValue::Known(reason) => reason,
                    EnumValue::Unknown(_) => EnrollReason::Unspecified,
                };
                Some(Answer::Refused { reason, retry_after_s })
            }
            EnumValue::Known(EnrollStatus::Unspecified) | EnumValue::Unknown(_) => None,
        }
    }
}

/// The device's public key.
pub fn public_key(keys: &mut impl Keys) -> Result<PublicKey, KeysError> {
    PublicKey::from_sec1(&keys.public_key()?).map_err(|_| KeysError)
}

/// 1 to 64 of `[A-Za-z0-9._-]`.
pub fn is_hardware_id(text: &str) -> bool {
    (1..=HARDWARE_ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}
