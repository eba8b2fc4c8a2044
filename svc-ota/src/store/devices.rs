//! Devices as the registry publishes them (`registry.device_v1`, `registry.keyset_v1`: read only), and what their
//! hellos told this service.

use std::time::SystemTime;

use kit::pg::Row;
use wire::{DeviceId, Digest, Nonce, TenantId};

use super::{Tx, parsed, unsigned};
use crate::error::Error;
use crate::model::report::{Boot, Moment};

/// A device that exists.
#[derive(Clone, Debug)]
pub(crate) struct Device {
    pub(crate) tenant: TenantId,
    pub(crate) id: DeviceId,
    pub(crate) board: String,
    pub(crate) revoked: bool,
}

/// The newest hello of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: Nonce,
    pub(crate) moment: Moment,
    pub(crate) heard_at: SystemTime,
}

/// The newest hello there was something to answer or record about, and the facts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) hello: Hello,
    /// Lowest security counter it accepts for an application.
    pub(crate) app_floor: u64,
    /// Manifests of its confirmed slots.
    pub(crate) confirmed: Vec<Digest>,
}

pub(crate) async fn find(tx: &Tx, id: DeviceId) -> Result<Option<Device>, Error> {
    let sql = "SELECT tenant_id, device_id, board, revoked_at IS NOT NULL AS revoked FROM registry.device_v1 \
               WHERE device_id = $1";
    tx.query_opt(sql, &[&id.text().as_str()]).await?.map(|row| device(&row)).transpose()
}

/// The tenant's newest keyset, as signed.
pub(crate) async fn keyset(tx: &Tx, tenant: TenantId) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT signed FROM registry.keyset_v1 WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1";
    let row = tx.query_opt(sql, &[&tenant.text().as_str()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

pub(crate) async fn link(tx: &Tx, id: DeviceId) -> Result<Option<Link>, Error> {
    let sql = "SELECT nonce, boot_count, boot_random, sequence, heard_at, app_floor, confirmed FROM device_links \
               WHERE device_id = $1";
    tx.query_opt(sql, &[&id.text().as_str()]).await?.map(|row| link_of(&row)).transpose()
}

pub(crate) async fn save_link(tx: &Tx, tenant: TenantId, id: DeviceId, link: &Link) -> Result<(), Error> {
    let confirmed: Vec<&[u8]> = link.confirmed.iter().map(|d| d.0.as_slice()).collect();
    // A replica that heard an older hello meanwhile must not undo a newer one.
    tx.execute(
        "INSERT INTO device_links (device_id, tenant_id, nonce, boot_count, boot_random, sequence, heard_at, app_floor, \
         confirmed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (device_id) DO UPDATE SET \
         nonce = $3, boot_count = $4, boot_random = $5, sequence = $6, heard_at = $7, app_floor = $8, confirmed = $9 \
         WHERE (device_links.boot_count, device_links.sequence) < ($4, $6) \
         OR (device_links.boot_count = $4 AND device_links.boot_random <> $5)",
        &[
            &id.text().as_str(),
            &tenant.text().as_str(),
            &link.hello.nonce.0.as_slice(),
            &i64::from(link.hello.moment.boot.count),
            &link.hello.moment.boot.random.cast_signed(),
            &i64::from(link.hello.moment.sequence),
            &link.hello.heard_at,
            &i64::try_from(link.app_floor).unwrap_or(i64::MAX),
            &confirmed,
        ],
    )
    .await?;
    Ok(())
}

fn device(row: &Row) -> Result<Device, Error> {
    Ok(Device {
        tenant: parsed(row, "tenant_id")?,
        id: parsed(row, "device_id")?,
        board: row.try_get("board")?,
        revoked: row.try_get("revoked")?,
    })
}

fn link_of(row: &Row) -> Result<Link, Error> {
    let nonce = Nonce::try_from(row.try_get::<_, &[u8]>("nonce")?).map_err(|_| Error::Corrupt("nonce"))?;
    let random: i64 = row.try_get("boot_random")?;
    let boot = Boot { count: unsigned(row, "boot_count")?, random: random.cast_unsigned() };
    let confirmed: Vec<&[u8]> = row.try_get("confirmed")?;
    let confirmed =
        confirmed.into_iter().map(|d| Digest::try_from(d).map_err(|_| Error::Corrupt("confirmed")));
    Ok(Link {
        hello: Hello {
            nonce,
            moment: Moment { boot, sequence: unsigned(row, "sequence")? },
            heard_at: row.try_get("heard_at")?,
        },
        app_floor: unsigned(row, "app_floor")?,
        confirmed: confirmed.collect::<Result<_, _>>()?,
    })
}
