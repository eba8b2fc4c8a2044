//! Who is attached now. A row that goes leaves an event behind, once, whoever removes it: the process that served the
//! attachment, or the one that took the session when that process was gone.

use kit::pg::{Error, ToSql, Tx};
use wire::{DebugSessionId, TenantId};

use super::{columns, signed};
use crate::model::{EndReason, Traffic};

/// An attachment that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(crate) attachment: i64,
    pub(crate) reason: EndReason,
    pub(crate) traffic: Traffic,
}

/// Somebody attached: the row, and the event.
pub(crate) async fn add(
    tx: &Tx,
    tenant: TenantId,
    session: DebugSessionId,
    epoch: u32,
    subject: &str,
) -> Result<i64, Error> {
    let values: [&(dyn ToSql + Sync); 4] =
        [&tenant.to_string(), &session.to_string(), &i64::from(epoch), &subject];
    let row = tx
        .query_one(
            "WITH event AS (INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role) \
                 SELECT tenant_id, session_id, device_id, now(), 'attached', $4, role FROM debug.sessions WHERE session_id = $2) \
             INSERT INTO debug.attachments (tenant_id, session_id, epoch, subject, start_time) \
             VALUES ($1, $2, $3, $4, now()) RETURNING attachment_id",
            &values,
        )
        .await?;
    Ok(row.get(0))
}

/// How much went through those that are still attached.
pub(crate) async fn count(tx: &Tx, attached: &[(i64, Traffic)]) -> Result<(), Error> {
    let ids: Vec<i64> = attached.iter().map(|(id, _)| *id).collect();
    let [frames_up, bytes_up, frames_down, bytes_down] =
        columns(attached.iter().map(|(_, traffic)| *traffic));
    tx.execute(
        "UPDATE debug.attachments a SET frames_up = k.frames_up, bytes_up = k.bytes_up, frames_down = k.frames_down, \
             bytes_down = k.bytes_down \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[]) \
             AS k(id, frames_up, bytes_up, frames_down, bytes_down) WHERE a.attachment_id = k.id \
             AND (a.frames_up, a.frames_down) IS DISTINCT FROM (k.frames_up, k.frames_down)",
        &[&ids, &frames_up, &bytes_up, &frames_down, &bytes_down],
    )
    .await?;
    Ok(())
}

/// These are no longer attached.
pub(crate) async fn remove(tx: &Tx, gone: &[Gone]) -> Result<(), Error> {
    let ids: Vec<i64> = gone.iter().map(|g| g.attachment).collect();
    let reasons: Vec<&str> = gone.iter().map(|g| g.reason.name()).collect();
    let [frames_up, bytes_up, frames_down, bytes_down] = columns(gone.iter().map(|g| g.traffic));
    tx.execute(
        "WITH k AS (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
                 AS k(id, reason, frames_up, bytes_up, frames_down, bytes_down)), \
             gone AS (DELETE FROM debug.attachments a USING k WHERE a.attachment_id = k.id \
                 RETURNING a.tenant_id, a.session_id, a.subject, a.start_time, k.reason, k.frames_up, k.bytes_up, \
                     k.frames_down, k.bytes_down) \
         INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role, start_time, reason, \
             frames_up, bytes_up, frames_down, bytes_down) \
         SELECT g.tenant_id, g.session_id, s.device_id, now(), 'detached', g.subject, s.role, g.start_time, g.reason, \
             g.frames_up, g.bytes_up, g.frames_down, g.bytes_down \
         FROM gone g JOIN debug.sessions s USING (session_id)",
        &[&ids, &reasons, &frames_up, &bytes_up, &frames_down, &bytes_down],
    )
    .await?;
    Ok(())
}

/// Those of a session that an earlier holder served and did not say the end of; as far as it was last counted.
pub(crate) async fn remove_orphans(
    tx: &Tx,
    session: DebugSessionId,
    before_epoch: u32,
    reason: EndReason,
) -> Result<(), Error> {
    tx.execute(
        "WITH gone AS (DELETE FROM debug.attachments WHERE session_id = $1 AND epoch < $2 RETURNING *) \
         INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role, start_time, reason, \
             frames_up, bytes_up, frames_down, bytes_down) \
         SELECT g.tenant_id, g.session_id, s.device_id, now(), 'detached', g.subject, s.role, g.start_time, $3, \
             g.frames_up, g.bytes_up, g.frames_down, g.bytes_down \
         FROM gone g JOIN debug.sessions s USING (session_id)",
        &[&session.to_string(), &signed(before_epoch.into()), &reason.name()],
    )
    .await?;
    Ok(())
}
