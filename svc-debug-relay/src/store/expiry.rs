//! Sessions that nobody holds and whose time is over, and rows that are too old.

use std::time::Duration;

use kit::pg::{Error, Tx};
use wire::DebugSessionId;

use super::signed;
use crate::model::EndReason;

/// Rows looked at in one step.
const STEP: i64 = 500;

/// Whether this process may sweep now; one does at a time.
pub(crate) async fn take_turn(tx: &Tx) -> Result<bool, Error> {
    let row = tx
        .query_one("SELECT pg_try_advisory_xact_lock(hashtextextended('holdfast debug expiry', 0))", &[])
        .await?;
    Ok(row.get(0))
}

/// Open sessions without a holder that are over, locked, and why. A session's holder ends it itself.
pub(crate) async fn over(tx: &Tx) -> Result<Vec<(DebugSessionId, EndReason)>, Error> {
    let rows = tx
        .query(
            "SELECT s.session_id, CASE \
                 WHEN d.device_id IS NULL THEN 'device_revoked' \
                 WHEN f.forbidden THEN 'forbidden' \
                 WHEN s.expire_time <= now() THEN 'expired' ELSE 'idle' END \
             FROM debug.sessions s \
             LEFT JOIN registry.device_v1 d ON d.device_id = s.device_id AND d.revoked_at IS NULL \
             CROSS JOIN LATERAL (SELECT EXISTS (SELECT 1 FROM registry.debug_ban_v1 b \
                 WHERE b.tenant_id = s.tenant_id AND b.device_id = s.device_id) AS forbidden) f \
             WHERE s.state = 'open' AND (s.lease_until IS NULL OR s.lease_until < now()) \
               AND (d.device_id IS NULL OR f.forbidden OR s.expire_time <= now() \
                 OR s.last_frame_time + s.idle_ms * interval '1 millisecond' <= now()) \
             LIMIT $1 FOR UPDATE OF s SKIP LOCKED",
            &[&STEP],
        )
        .await?;
    let pair = |row: &kit::pg::Row| {
        let (id, reason): (&str, &str) = (row.get(0), row.get(1));
        Some((id.parse().ok()?, EndReason::from_name(reason)?))
    };
    Ok(rows.iter().filter_map(pair).collect())
}

/// Deletes what is older; how many rows went.
pub(crate) async fn older_than(tx: &Tx, age: Duration) -> Result<u64, Error> {
    let age = signed(age.as_secs());
    let sessions = tx
        .execute(
            "DELETE FROM debug.sessions WHERE session_id IN (SELECT session_id FROM debug.sessions \
             WHERE state = 'closed' AND end_time < now() - $1::bigint * interval '1 second' LIMIT $2)",
            &[&age, &STEP],
        )
        .await?;
    let events = tx
        .execute(
            "DELETE FROM debug.events WHERE event_id IN (SELECT event_id FROM debug.events \
             WHERE time < now() - $1::bigint * interval '1 second' LIMIT $2)",
            &[&age, &STEP],
        )
        .await?;
    Ok(sessions + events)
}

/// Sessions that ended a while ago and still have somebody attached: who served them died.
pub(crate) async fn stranded(tx: &Tx, after: Duration) -> Result<Vec<DebugSessionId>, Error> {
    let rows = tx
        .query(
            "SELECT DISTINCT a.session_id FROM debug.attachments a JOIN debug.sessions s USING (session_id) \
             WHERE s.state = 'closed' AND s.end_time < now() - $1::bigint * interval '1 second' LIMIT $2",
            &[&signed(after.as_secs()), &STEP],
        )
        .await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
}
