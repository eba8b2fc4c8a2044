//! Reports in batches: one read and one write for all hellos that came together, so that hundreds a second cost a
//! handful of transactions. A write is conditional on the order, so replicas need no lock between them.

use std::collections::HashMap;
use std::time::SystemTime;

use tokio_postgres::types::Json;
use wire::{DeviceId, TenantId};

use super::devices::{Change, SlotJson, read_reported};
use super::rows::{digest_option, get, id};
use super::{Tx, lives};
use crate::error::Error;
use crate::model::hello::Report;
use crate::model::lives::{Lives, Place};

/// What is known of a device that says hello.
#[derive(Debug, Clone)]
pub(crate) struct Greeted {
    pub tenant: TenantId,
    pub revoked: bool,
    pub quarantined: bool,
    pub lives: Option<Lives>,
    /// The device root its certificate is under.
    pub root: Option<[u8; 32]>,
    pub report: Option<Report>,
    /// The keyset after the one the device holds.
    pub next_keyset: Option<Vec<u8>>,
}

/// A report that says something new, and how its boot stands to others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News<'a> {
    pub device: DeviceId,
    pub tenant: TenantId,
    pub report: &'a Report,
    pub place: Place,
}

/// Known devices among those named; each with the version of the keyset it says it holds.
pub(crate) async fn greeted(tx: &Tx, held: &[(DeviceId, i32)]) -> Result<HashMap<DeviceId, Greeted>, Error> {
    let ids: Vec<String> = held.iter().map(|(device, _)| device.to_string()).collect();
    let versions: Vec<i32> = held.iter().map(|(_, version)| version.saturating_add(1)).collect();
    let sql = "SELECT d.device_id, d.tenant_id, d.revoked_at IS NOT NULL AS revoked,
               d.quarantined_at IS NOT NULL AS quarantined, l.challenge, l.boots, l.heard, i.root, k.signed, r.boot_count,
               r.boot_random, r.connection, r.sequence, r.boot_reason, r.board AS reported_board,
               r.microvisor_version, r.slots, r.app_floor, r.keyset_version, r.reported_at
               FROM unnest($1::text[], $2::int4[]) AS h(device_id, wanted)
               JOIN registry.devices d ON d.device_id = h.device_id
               LEFT JOIN registry.reports r ON r.device_id = d.device_id
               LEFT JOIN registry.lives l ON l.device_id = d.device_id
               LEFT JOIN registry.intermediates i ON i.key_digest = d.leaf_issuer
               LEFT JOIN registry.keysets k ON k.tenant_id = d.tenant_id AND k.version = h.wanted";
    let mut known = HashMap::with_capacity(held.len());
    for row in tx.query(sql, &[&ids, &versions]).await? {
        let greeted = Greeted {
            tenant: id(&row, "tenant_id")?,
            revoked: get(&row, "revoked")?,
            quarantined: get(&row, "quarantined")?,
            lives: lives::read(&row)?,
            root: digest_option(&row, "root")?,
            report: read_reported(&row)?.map(|reported| reported.report),
            next_keyset: get(&row, "signed")?,
        };
        known.insert(id(&row, "device_id")?, greeted);
    }
    Ok(known)
}

/// Those that hold a later keyset than their tenant's newest, and that one's version.
pub(crate) async fn ahead_of_keysets(tx: &Tx, news: &[News<'_>]) -> Result<Vec<(DeviceId, i32)>, Error> {
    let ids: Vec<String> = news.iter().map(|one| one.device.to_string()).collect();
    let tenants: Vec<String> = news.iter().map(|one| one.tenant.to_string()).collect();
    let held: Vec<i32> = news.iter().map(|one| one.report.keyset_version).collect();
    let sql = "SELECT h.device_id, k.newest FROM unnest($1::text[], $2::text[], $3::int4[]) AS h(device_id, tenant_id, held)
               CROSS JOIN LATERAL (SELECT coalesce(max(version), 0) AS newest FROM registry.keysets
                   WHERE tenant_id = h.tenant_id) k
               WHERE h.held > k.newest";
    let rows = tx.query(sql, &[&ids, &tenants, &held]).await?;
    rows.iter().map(|row| Ok((id(row, "device_id")?, get(row, "newest")?))).collect()
}

/// Writes reports, each unless a newer one is there, and tells the feed of those written. `news` is in the order of
/// device ids, as every batch, so that two batches cannot wait for each other.
pub(crate) async fn save(tx: &Tx, news: &[News<'_>], now: SystemTime) -> Result<u64, Error> {
    let sql = "WITH written AS (
                   INSERT INTO registry.reports AS r (device_id, tenant_id, boot_count, boot_random, connection,
                       sequence, boot_reason, board, microvisor_version, slots, app_version, app_floor,
                       keyset_version, reported_at)
                   SELECT h.*, $14::timestamptz FROM unnest($1::text[], $2::text[], $3::int8[], $4::bytea[],
                       $5::int8[], $6::int8[], $7::text[], $8::text[], $9::text[], $10::jsonb[], $11::text[],
                       $12::int8[], $13::int4[]) AS h(device_id, tenant_id, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13)
                   WHERE EXISTS (SELECT 1 FROM registry.devices d WHERE d.device_id = h.device_id)
                   ON CONFLICT (device_id) DO UPDATE SET boot_count = excluded.boot_count,
                       boot_random = excluded.boot_random, connection = excluded.connection,
                       sequence = excluded.sequence, boot_reason = excluded.boot_reason, board = excluded.board,
                       microvisor_version = excluded.microvisor_version, slots = excluded.slots,
                       app_version = excluded.app_version, app_floor = excluded.app_floor,
                       keyset_version = excluded.keyset_version, reported_at = excluded.reported_at
                   WHERE (r.boot_count, r.sequence) < (excluded.boot_count, excluded.sequence)
                       OR (r.device_id = ANY ($16) AND r.boot_random <> excluded.boot_random)
                   RETURNING tenant_id, device_id)
               INSERT INTO registry.changes (tenant_id, device, kind) SELECT tenant_id, device_id, $15
               FROM written";
    let column =
        |read: &dyn Fn(&Report) -> String| news.iter().map(|one| read(one.report)).collect::<Vec<_>>();
    let number = |read: &dyn Fn(&Report) -> i64| news.iter().map(|one| read(one.report)).collect::<Vec<_>>();
    let ids: Vec<String> = news.iter().map(|one| one.device.to_string()).collect();
    let tenants: Vec<String> = news.iter().map(|one| one.tenant.to_string()).collect();
    let reports = || news.iter().map(|one| one.report);
    let randoms: Vec<Vec<u8>> = reports().map(|r| r.order.boot_random.to_be_bytes().to_vec()).collect();
    let slots: Vec<Json<Vec<SlotJson>>> =
        reports().map(|r| Json(r.slots.iter().map(SlotJson::new).collect())).collect();
    let app_versions: Vec<Option<&str>> = reports().map(Report::app_version).collect();
    let keysets: Vec<i32> = reports().map(|r| r.keyset_version).collect();
    // Whatever these count, theirs is the boot there is.
    let newest = news.iter().filter(|one| one.place == Place::Newest);
    let newest: Vec<String> = newest.map(|one| one.device.to_string()).collect();
    let written = tx
        .execute(
            sql,
            &[
                &ids,
                &tenants,
                &number(&|r| r.order.boot_count.into()),
                &randoms,
                &number(&|r| r.order.connection.into()),
                &number(&|r| r.order.sequence.into()),
                &column(&|r| r.boot_reason.to_owned()),
                &column(&|r| r.board.clone()),
                &column(&|r| r.microvisor_version.clone()),
                &slots,
                &app_versions,
                &number(&|r| r.app_floor),
                &keysets,
                &now,
                &Change::Reported.as_str(),
                &newest,
            ],
        )
        .await?;
    Ok(written)
}
