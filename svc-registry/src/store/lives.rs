//! What is kept to notice two boards that are one device. Written when a boot begins, and only if it still follows what was read.

use std::collections::BTreeSet;
use std::time::SystemTime;

use kit::pg::Row;
use wire::{DeviceId, TenantId};

use super::Tx;
use super::rows::{get, id};
use crate::error::Error;
use crate::model::lives::{Boot, Challenge, Lives};

/// Bytes of one boot: counter and randomness, big-endian.
const BOOT_BYTES: usize = 12;

/// What is to be kept of a device, and the challenge of what it was made from; none: nothing was kept.
#[derive(Debug, Clone)]
pub(crate) struct Following {
    pub device: DeviceId,
    pub tenant: TenantId,
    pub lives: Lives,
    pub before: Option<Challenge>,
}

/// Keeps them, each unless another was kept meanwhile; whose were. In the order of device ids, as every batch.
pub(crate) async fn save(tx: &Tx, all: &[Following]) -> Result<BTreeSet<DeviceId>, Error> {
    let sql = "INSERT INTO registry.lives AS l (device_id, tenant_id, challenge, before, boots, heard)
               SELECT h.* FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[])
                   AS h(device_id, tenant_id, c3, c4, c5, c6)
               WHERE EXISTS (SELECT 1 FROM registry.devices d WHERE d.device_id = h.device_id)
               ON CONFLICT (device_id) DO UPDATE SET challenge = excluded.challenge, before = excluded.before,
                   boots = excluded.boots, heard = excluded.heard
               WHERE l.challenge = excluded.before
               RETURNING device_id";
    let ids: Vec<String> = all.iter().map(|one| one.device.to_string()).collect();
    let tenants: Vec<String> = all.iter().map(|one| one.tenant.to_string()).collect();
    let challenges: Vec<&[u8]> = all.iter().map(|one| one.lives.challenge.as_slice()).collect();
    let before: Vec<&[u8]> =
        all.iter().map(|one| one.before.as_ref().map_or(&[][..], Challenge::as_slice)).collect();
    let boots = all.iter().map(|one| written(std::iter::once(&one.lives.now).chain(&one.lives.over)));
    let boots: Vec<Vec<u8>> = boots.collect();
    let heard: Vec<Vec<u8>> = all.iter().map(|one| written(&one.lives.heard)).collect();
    let rows = tx.query(sql, &[&ids, &tenants, &challenges, &before, &boots, &heard]).await?;
    rows.iter().map(|row| id(row, "device_id")).collect()
}

/// Puts a device into quarantine, if what shows two boards is still what is kept.
pub(crate) async fn quarantine(
    tx: &Tx,
    device: DeviceId,
    challenge: &Challenge,
    now: SystemTime,
) -> Result<bool, Error> {
    let sql = "UPDATE registry.devices d SET quarantined_at = $3, revision = revision + 1
               WHERE device_id = $1 AND quarantined_at IS NULL AND revoked_at IS NULL
               AND EXISTS (SELECT 1 FROM registry.lives l WHERE l.device_id = d.device_id AND l.challenge = $2)";
    Ok(tx.execute(sql, &[&device.to_string(), &challenge.as_slice(), &now]).await? == 1)
}

/// No boot is over any more, and nothing that was said before proves anything. What was read before is not written after it.
pub(crate) async fn begin_anew(tx: &Tx, device: DeviceId, fresh: &Challenge) -> Result<(), Error> {
    let sql =
        "UPDATE registry.lives SET before = challenge, challenge = $2, boots = substring(boots FROM 1 FOR 12), heard = ''
               WHERE device_id = $1";
    tx.execute(sql, &[&device.to_string(), &fresh.as_slice()]).await?;
    Ok(())
}

/// Nothing is known any more: of a device under another key.
pub(crate) async fn forget(tx: &Tx, device: DeviceId) -> Result<(), Error> {
    tx.execute("DELETE FROM registry.lives WHERE device_id = $1", &[&device.to_string()]).await?;
    Ok(())
}

/// Columns `challenge`, `boots` and `heard`, if anything is kept.
pub(super) fn read(row: &Row) -> Result<Option<Lives>, Error> {
    let Some(challenge) = get::<Option<&[u8]>>(row, "challenge")? else { return Ok(None) };
    let challenge = challenge.try_into().map_err(|_| Error::Corrupt { column: "challenge" })?;
    let boots = boots(row, "boots")?;
    let (now, over) = boots.split_first().ok_or(Error::Corrupt { column: "boots" })?;
    Ok(Some(Lives { now: *now, over: over.to_vec(), heard: self::boots(row, "heard")?, challenge }))
}

fn boots(row: &Row, column: &'static str) -> Result<Vec<Boot>, Error> {
    match get::<&[u8]>(row, column)?.as_chunks::<BOOT_BYTES>() {
        (boots, []) => Ok(boots.iter().map(boot).collect()),
        _ => Err(Error::Corrupt { column }),
    }
}

fn boot(bytes: &[u8; BOOT_BYTES]) -> Boot {
    let [c0, c1, c2, c3, random @ ..] = *bytes;
    Boot { count: u32::from_be_bytes([c0, c1, c2, c3]), random: u64::from_be_bytes(random) }
}

fn written<'a>(boots: impl IntoIterator<Item = &'a Boot>) -> Vec<u8> {
    let boots = boots.into_iter();
    boots.flat_map(|boot| boot.count.to_be_bytes().into_iter().chain(boot.random.to_be_bytes())).collect()
}
