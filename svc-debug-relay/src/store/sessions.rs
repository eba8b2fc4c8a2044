//! Sessions: made, read, ended. Who holds one is in [`super::leases`].

use std::time::{Duration, SystemTime};

use kit::pg::{Error, Row, ToSql, Tx};
use wire::{DebugSessionId, DeviceId, TenantId};

use super::{signed, traffic, unsigned};
use crate::model::timeouts::Timeouts;
use crate::model::{EndReason, Role, Traffic};

/// A session as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: DebugSessionId,
    pub(crate) device: DeviceId,
    pub(crate) role: Role,
    pub(crate) creator: String,
    pub(crate) timeouts: Timeouts,
    /// Why it ended; none: it is open.
    pub(crate) ended: Option<EndReason>,
    pub(crate) create_time: SystemTime,
    pub(crate) expire_time: SystemTime,
    pub(crate) last_frame_time: SystemTime,
    pub(crate) end_time: Option<SystemTime>,
    pub(crate) is_attached: bool,
    pub(crate) traffic: Traffic,
}

/// A session somebody wants to have.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) tenant: TenantId,
    pub(crate) device: DeviceId,
    pub(crate) role: Role,
    pub(crate) creator: &'a str,
    pub(crate) timeouts: Timeouts,
}

/// How many sessions are open: of a tenant, and of one device's by role.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open {
    pub(crate) of_tenant: u64,
    pub(crate) writers: u64,
    pub(crate) watchers: u64,
}

/// Which sessions are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) device: Option<DeviceId>,
    pub(crate) open: Option<bool>,
    /// Only those made before this one.
    pub(crate) before: Option<DebugSessionId>,
}

const SHOWN: &str = "s.session_id, s.device_id, s.creator, s.idle_ms, s.total_ms, s.end_reason, s.create_time, s.expire_time, \
     s.last_frame_time, s.end_time, \
     EXISTS (SELECT 1 FROM debug.attachments a WHERE a.session_id = s.session_id), \
     s.role, s.frames_up, s.bytes_up, s.frames_down, s.bytes_down";

/// Makes it, unless it is a writer's and the device has an open one of such; how many watchers there may be is for who has
/// counted them ([`count_open`]) in the same transaction.
pub(crate) async fn create(tx: &Tx, id: DebugSessionId, new: &Wanted<'_>) -> Result<bool, Error> {
    let values: [&(dyn ToSql + Sync); 7] = [
        &id.to_string(),
        &new.tenant.to_string(),
        &new.device.to_string(),
        &new.creator,
        &millis(new.timeouts.idle),
        &millis(new.timeouts.total),
        &new.role.name(),
    ];
    let made = tx
        .execute(
            "INSERT INTO debug.sessions (session_id, tenant_id, device_id, creator, idle_ms, total_ms, create_time, \
                 expire_time, last_frame_time, role) \
             VALUES ($1, $2, $3, $4, $5, $6::bigint, now(), now() + $6::bigint * interval '1 millisecond', now(), $7) \
             ON CONFLICT (device_id) WHERE state = 'open' AND role = 'writer' DO NOTHING",
            &values,
        )
        .await?;
    Ok(made > 0)
}

/// How many are open. Until the transaction ends no other one of the tenant's is made: a device is one tenant's.
pub(crate) async fn count_open(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<Open, Error> {
    let tenant = tenant.to_string();
    tx.query_one(
        "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended('holdfast debug create ' || $1, 0))",
        &[&tenant],
    )
    .await?;
    let row = tx
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE device_id = $2 AND role = 'writer'), \
                 count(*) FILTER (WHERE device_id = $2 AND role = 'watcher') \
             FROM debug.sessions WHERE tenant_id = $1 AND state = 'open'",
            &[&tenant, &device.to_string()],
        )
        .await?;
    let [of_tenant, writers, watchers] = [0, 1, 2].map(|index| unsigned(row.get(index)));
    Ok(Open { of_tenant, writers, watchers })
}

pub(crate) async fn get(tx: &Tx, id: DebugSessionId) -> Result<Option<Stored>, Error> {
    let sql = format!("SELECT {SHOWN} FROM debug.sessions s WHERE s.session_id = $1");
    Ok(tx.query_opt(&sql, &[&id.to_string()]).await?.as_ref().map(shown))
}

/// Newest first.
pub(crate) async fn list(tx: &Tx, filter: Filter, limit: usize) -> Result<Vec<Stored>, Error> {
    let sql = format!(
        "SELECT {SHOWN} FROM debug.sessions s \
         WHERE ($1::text IS NULL OR s.device_id = $1) AND ($2::boolean IS NULL OR (s.state = 'open') = $2) \
           AND ($3::text IS NULL OR s.session_id < $3) \
         ORDER BY s.session_id DESC LIMIT $4"
    );
    let device = filter.device.map(|id| id.to_string());
    let before = filter.before.map(|id| id.to_string());
    let values: [&(dyn ToSql + Sync); 4] = [&device, &filter.open, &before, &signed(limit as u64)];
    Ok(tx.query(&sql, &values).await?.iter().map(shown).collect())
}

/// Ends an open session; false: it was not open, or (with an epoch) is another process's now. Nothing that a holder writes
/// later counts: it writes to open ones.
pub(crate) async fn end(
    tx: &Tx,
    id: DebugSessionId,
    epoch: Option<u32>,
    reason: EndReason,
    subject: &str,
) -> Result<bool, Error> {
    let epoch = epoch.map(i64::from);
    let ended = tx
        .query_opt(
            "UPDATE debug.sessions SET state = 'closed', end_reason = $3, end_time = now(), lease_until = NULL \
             WHERE session_id = $1 AND state = 'open' AND ($2::bigint IS NULL OR epoch = $2) RETURNING 1",
            &[&id.to_string(), &epoch, &reason.name()],
        )
        .await?;
    if ended.is_some() {
        super::events::ended(tx, id, reason, subject).await?;
    }
    Ok(ended.is_some())
}

fn shown(row: &Row) -> Stored {
    let id = |index| row.get::<_, &str>(index);
    let reason: Option<&str> = row.get(5);
    Stored {
        id: id(0).parse().expect("only ids are stored"),
        device: id(1).parse().expect("only ids are stored"),
        creator: row.get(2),
        timeouts: Timeouts {
            idle: Duration::from_millis(unsigned(row.get(3))),
            total: Duration::from_millis(unsigned(row.get(4))),
        },
        ended: reason.map(|name| EndReason::from_name(name).unwrap_or(EndReason::Closed)),
        create_time: row.get(6),
        expire_time: row.get(7),
        last_frame_time: row.get(8),
        end_time: row.get(9),
        is_attached: row.get(10),
        role: super::role(row.get(11)),
        traffic: traffic(row, 12),
    }
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
