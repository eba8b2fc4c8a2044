//! A board takes the place of another: the broken one's identity ends, and the new one has its labels. Each keeps its own id, key and
//! past (docs/decisions/0019-a-replacement-is-another-device.md).

use std::time::SystemTime;

use kit::once::{Call, Known};
use wire::{DeviceId, TenantId};

use super::devices::{note, revoke, still};
use super::{Actor, App, Effect, Shown, found};
use crate::error::Error;
use crate::model::Invalid;
use crate::model::debugging::succeed;
use crate::model::device::{self, check_replacement};
use crate::store::devices::{self, Change};
use crate::store::{Tx, debugging};

impl App {
    /// Repeating it is no error: the old connection is ended again.
    pub(crate) async fn replace_device(
        &self,
        actor: &Actor,
        call: &Call,
        tenant: TenantId,
        (old, new): (DeviceId, DeviceId),
        etag: &str,
        now: SystemTime,
    ) -> Result<(Shown, Vec<Effect>), Error> {
        if old == new {
            return Err(Invalid::new("replacement", "is the device itself").into());
        }
        let tx = self.store.tx(tenant).await?;
        let mut effects = Vec::new();
        if call.begin(&tx, now).await? == Known::New {
            let locked = devices::lock_many(&tx, tenant, &[old, new]).await?;
            let before = still(locked.get(&old), etag)?;
            let after = still(locked.get(&new), "")?;
            check_replacement(before, after).map_err(|(reason, why)| Error::precondition(reason, why))?;
            effects = revoke(&tx, actor, tenant, old, now).await?;
            if after.replaces != Some(old) {
                take_place(&tx, actor, before, after).await?;
            }
        }
        let device = found(devices::get_device(&tx, tenant, new).await?)?;
        let effects = if call.end(tx, "").await? { effects } else { Vec::new() };
        Ok((self.show_one(device, now).await?, effects))
    }
}

/// Within a transaction that holds both: `new` has the labels of `old` from now on, and those it was given itself; what forbids to debug
/// `old` forbids it.
pub(super) async fn take_place(
    tx: &Tx,
    actor: &Actor,
    old: &device::Device,
    new: &device::Device,
) -> Result<(), Error> {
    let labels = succeed(&debugging::labels(tx, new.tenant).await?, &old.labels, &new.labels);
    device::check_labels(&labels)?;
    debugging::inherit(tx, new.tenant, old.id, new.id).await?;
    devices::replace(tx, new.tenant, old.id, new.id, &labels).await?;
    note(tx, actor, new.tenant, &[new.id], (Change::Replaced, "replace_device")).await
}

/// Within a transaction that holds both: a board that comes back as `new`, when another has the place of what it was, is still not
/// debugged where `old` was not.
pub(super) async fn keep_bans(tx: &Tx, old: &device::Device, new: &device::Device) -> Result<(), Error> {
    let bans = debugging::labels(tx, new.tenant).await?;
    let labels = bans.into_iter().filter(|(key, value)| old.labels.get(key) == Some(value)).collect();
    debugging::inherit(tx, new.tenant, old.id, new.id).await?;
    let labelled = device::Relabel { device: new.id, labels, etag: String::new() };
    devices::set_labels(tx, new.tenant, &[labelled]).await
}
