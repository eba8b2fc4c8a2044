//! Who the device is: what an enrolment's answer is worth, and what the store kept of it.

use wire::msg::{EnrollReason, LogLevel};

use crate::device::Device;
use crate::logs::Logs;
use crate::net::enroll::{self, Answer, Voucher};
use crate::net::identity::Identity;
use crate::ports::Board;

/// Why an enrolment's answer gave no identity.
pub(super) enum Declined {
    Wait {
        retry_after_s: u32,
    },
    Refused {
        reason: EnrollReason,
        retry_after_s: u32,
    },
    /// Issued, and not for us.
    Wrong,
}

/// A renewal is of the device `before` was. A claim is asked only when nobody knows that one any more, and gives
/// whatever identity the registry has for the board now.
pub(super) fn judge<B: Board>(
    answer: Answer<'_>,
    voucher: Voucher,
    before: Option<&Identity>,
    device: &mut Device<B>,
    logs: &mut Logs<'_>,
) -> Result<Identity, Declined> {
    let issued = match answer {
        Answer::Pending { retry_after_s } => return Err(Declined::Wait { retry_after_s }),
        Answer::Refused { reason, retry_after_s } => return Err(Declined::Refused { reason, retry_after_s }),
        Answer::Issued(issued) => issued,
    };
    let now_ms = device.now_ms();
    let key = enroll::public_key(&mut device.ports.keys).ok().and_then(|key| key.spki_der().ok());
    let before = before.filter(|_| voucher == Voucher::Birth).map(Identity::device);
    let identity = Identity::accept(&issued, &key.ok_or(Declined::Wrong)?, before);
    let identity = identity.map_err(|error| {
        logs.note(now_ms, LogLevel::Error, format_args!("issued identity not taken: {error:?}"));
        Declined::Wrong
    })?;
    let stored = device.enrolled(identity.device(), identity.tenant(), identity.bytes(), issued.keyset);
    stored.map_err(|refused| {
        logs.note(now_ms, LogLevel::Error, format_args!("issued identity not taken: {refused:?}"));
        Declined::Wrong
    })?;
    Ok(identity)
}

pub(super) fn load_identity<B: Board>(device: &mut Device<B>, logs: &mut Logs<'_>) -> Option<Identity> {
    let mut record = [0; _];
    let now_ms = device.now_ms();
    match device.identity_record(&mut record) {
        Ok(Some(bytes)) => match Identity::load(bytes) {
            Ok(identity) => Some(identity),
            Err(error) => {
                logs.note(now_ms, LogLevel::Error, format_args!("stored identity cannot be read: {error:?}"));
                None
            }
        },
        Ok(None) => None,
        Err(error) => {
            logs.note(now_ms, LogLevel::Error, format_args!("stored identity cannot be read: {error:?}"));
            None
        }
    }
}
