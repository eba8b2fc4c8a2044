//! What keeps the rest honest: the audit trail, connections that must end, the change feed's reading, and forgetting
//! what has had its time.

use std::time::{Duration, SystemTime};

use wire::TenantId;

use super::Tx;
use super::rows::{get, id};
use crate::error::Error;

/// Changes read at once.
pub(crate) const CHANGES_READ_MAX: i64 = 1000;
/// Identities whose connections are ended in one round.
pub(crate) const DISCONNECTS_READ_MAX: i64 = 100;
/// How long a change stays in the feed; tokens of watches end before (`model::position::TOKEN_LIFE_S`).
const CHANGES_KEPT: Duration = Duration::from_secs(24 * 3600);
/// How long a board waits for an operator after it last asked.
const PENDING_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an assertion's use is remembered after it expired: more than the clocks may differ.
const ASSERTIONS_KEPT: Duration = Duration::from_secs(120);
/// How long an expired certificate is remembered.
const CERTIFICATES_KEPT: Duration = Duration::from_secs(365 * 24 * 3600);

/// A row of the change feed.
#[derive(Debug, Clone)]
pub(crate) struct ChangeRow {
    pub seq: i64,
    pub tenant: TenantId,
}

/// Who did what.
pub(crate) async fn audit(
    tx: &Tx,
    tenant: TenantId,
    actor: &str,
    action: &str,
    target: &str,
) -> Result<(), Error> {
    audit_all(tx, tenant, actor, action, &[target.to_owned()]).await
}

/// Who did what, to each of these.
pub(crate) async fn audit_all(
    tx: &Tx,
    tenant: TenantId,
    actor: &str,
    action: &str,
    targets: &[String],
) -> Result<(), Error> {
    let sql =
        "INSERT INTO registry.audit (tenant_id, actor, action, target) SELECT $1, $2, $3, unnest($4::text[])";
    tx.execute(sql, &[&tenant.to_string(), &actor, &action, &targets]).await?;
    Ok(())
}

/// Connections of this identity must end, whoever sees to it.
pub(crate) async fn request_disconnect(tx: &Tx, tenant: TenantId, identity: &str) -> Result<(), Error> {
    let sql = "INSERT INTO registry.disconnects (identity, tenant_id) VALUES ($1, $2)
               ON CONFLICT (identity) DO UPDATE SET requested_at = now()";
    tx.execute(sql, &[&identity, &tenant.to_string()]).await?;
    Ok(())
}

/// Every broker node has confirmed it. The tenant, if it was due.
pub(crate) async fn disconnected(tx: &Tx, identity: &str) -> Result<Option<TenantId>, Error> {
    let sql = "DELETE FROM registry.disconnects WHERE identity = $1 RETURNING tenant_id";
    tx.query_opt(sql, &[&identity]).await?.map(|row| id(&row, "tenant_id")).transpose()
}

pub(crate) async fn disconnects_due(tx: &Tx) -> Result<Vec<String>, Error> {
    let sql = "SELECT identity FROM registry.disconnects ORDER BY requested_at LIMIT $1";
    tx.query(sql, &[&DISCONNECTS_READ_MAX]).await?.iter().map(|row| get(row, "identity")).collect()
}

/// The highest number in the feed.
pub(crate) async fn last_change(tx: &Tx) -> Result<i64, Error> {
    Ok(tx.query_one("SELECT coalesce(max(seq), 0) FROM registry.changes", &[]).await?.get(0))
}

/// What came after `last`, and those of `holes` that are there by now, ascending.
pub(crate) async fn changes(tx: &Tx, last: i64, holes: &[i64]) -> Result<Vec<ChangeRow>, Error> {
    // Two ways into the index: one OR over both would look at every change of the day.
    let sql = "(SELECT seq, tenant_id FROM registry.changes WHERE seq > $1 ORDER BY seq LIMIT $3)
               UNION ALL SELECT c.* FROM unnest($2::bigint[]) AS k(hole) CROSS JOIN LATERAL (
                 SELECT seq, tenant_id FROM registry.changes WHERE seq = k.hole OFFSET 0) c
               ORDER BY seq";
    let rows = tx.query(sql, &[&last, &holes, &CHANGES_READ_MAX]).await?;
    let read = |row: &kit::pg::Row| Ok(ChangeRow { seq: get(row, "seq")?, tenant: id(row, "tenant_id")? });
    rows.iter().map(read).collect()
}

/// Forgets what has had its time. Any number of replicas may do so at once.
pub(crate) async fn sweep(tx: &Tx, now: SystemTime) -> Result<(), Error> {
    for (sql, kept) in [
        ("DELETE FROM registry.assertions WHERE expires_at < $1", ASSERTIONS_KEPT),
        ("DELETE FROM registry.changes WHERE at < $1", CHANGES_KEPT),
        ("DELETE FROM registry.pending_enrollments WHERE asked_at < $1", PENDING_KEPT),
        ("DELETE FROM registry.certificates WHERE expires_at < $1", CERTIFICATES_KEPT),
    ] {
        let before = now.checked_sub(kept).unwrap_or(SystemTime::UNIX_EPOCH);
        tx.execute(sql, &[&before]).await?;
    }
    Ok(())
}
