//! Who the device is: what an enrolment's answer is worth, and what the store kept of it.

use wire::msg::{EnrollReason, LogLevel};

use crate::device::Device;
use crate::logs::Logs;
use crate::net::enroll::{self, Answer, Voucher};
use crate::net::identity::{Checked, IDENTITY_BYTES_MAX, Identity, IdentityError};
use crate::ports::{Board, Keys as _};

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

/// A renewal is of the device `held` was. A claim is asked only when nobody knows that one any more, and gives
/// whatever identity the registry has for the board now.
// Kept out of its caller: once in a device's life it needs a large frame.
#[inline(never)]
pub(super) fn judge<B: Board>(
    answer: Answer<'_>,
    voucher: Voucher,
    held: &mut Option<Identity>,
    device: &mut Device<'_, B>,
    logs: &mut Logs<'_>,
) -> Result<(), Declined> {
    let issued = match answer {
        Answer::Pending { retry_after_s } => return Err(Declined::Wait { retry_after_s }),
        Answer::Refused { reason, retry_after_s } => return Err(Declined::Refused { reason, retry_after_s }),
        Answer::Issued(issued) => issued,
    };
    let now_ms = device.now_ms();
    let key = enroll::public_key(&mut device.ports.keys).ok().and_then(|key| key.spki_der().ok());
    let before = held.as_ref().filter(|_| voucher == Voucher::Birth).map(Identity::device);
    let mut record = [0; IDENTITY_BYTES_MAX];
    let checked = Checked::accept(&issued, &key.ok_or(Declined::Wrong)?, before, &mut record);
    let checked = checked.map_err(|error| {
        logs.note(now_ms, LogLevel::Error, format_args!("issued identity not taken: {error:?}"));
        Declined::Wrong
    })?;
    let stored = device.enrolled(checked.device, checked.tenant, checked.bytes, issued.keyset);
    stored.map_err(|refused| {
        logs.note(now_ms, LogLevel::Error, format_args!("issued identity not taken: {refused:?}"));
        Declined::Wrong
    })?;
    Identity::put(held, checked);
    Ok(())
}

/// Puts the stored identity, if it can be read and is of the key there is, where it is held.
#[inline(never)]
pub(super) fn load_identity<B: Board>(
    held: &mut Option<Identity>,
    device: &mut Device<'_, B>,
    logs: &mut Logs<'_>,
) {
    let mut record = [0; _];
    let now_ms = device.now_ms();
    let key = device.ports.keys.public_key();
    // Nothing can be done with a certificate of a key that is lost.
    let ours = |record| Checked::load(record)?.of_key(key.as_ref().map_err(|_| IdentityError::NotOurs)?);
    match device.identity_record(&mut record).map(|record| record.map(ours)) {
        Ok(Some(Ok(checked))) => Identity::put(held, checked),
        Ok(Some(Err(error))) => {
            logs.note(now_ms, LogLevel::Error, format_args!("stored identity cannot be used: {error:?}"));
        }
        Ok(None) => {}
        Err(error) => {
            logs.note(now_ms, LogLevel::Error, format_args!("stored identity cannot be read: {error:?}"));
        }
    }
}
