//! The device's own end of a handshake: its static key, and its identity key's word for it.

use noise::{StaticKey, Voucher, statement};
use wire::DeviceId;
use zeroize::Zeroize as _;

use crate::device::{Device, Notice};
use crate::ports::{Board, Entropy as _, Keys as _};
use crate::store::Key;

/// This device's static key, and its identity key's word for it.
#[derive(Debug)]
pub(super) struct Own {
    /// Who it vouches for: a device that enrols anew may be another.
    pub(super) id: DeviceId,
    pub(super) key: StaticKey,
    pub(super) voucher: Voucher,
}

/// The key of this device, made at first need, and vouched for once a boot. If it cannot be kept it is good for this boot.
#[inline(never)]
pub(super) fn own_of<B: Board>(id: DeviceId, device: &mut Device<'_, B>) -> Option<Own> {
    let mut secret = [0; noise::KEY_BYTES];
    // One that cannot be read just now may be there all the same: another one would look like another device's.
    let kept = device.store.read(&mut device.ports.flash, Key::Debug, &mut secret).ok()?;
    if kept.is_none_or(|kept| kept.len() != noise::KEY_BYTES) {
        device.ports.entropy.fill(&mut secret).ok()?;
        if let Err(error) = device.store.put(&mut device.ports.flash, Key::Debug, &secret) {
            device.note(Notice::StoreFailed(error));
        }
    }
    let key = StaticKey::new(secret);
    secret.zeroize();
    let identity = device.ports.keys.public_key().ok()?;
    let signature = device.ports.keys.sign(&statement(id, &key.public())).ok()?;
    Some(Own { id, key, voucher: Voucher { identity, signature } })
}
