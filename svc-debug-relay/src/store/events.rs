//! The audit: what happened, by whom, how much. Never what was said.

use std::time::SystemTime;

use kit::pg::{Error, ToSql, Tx};
use wire::{DebugSessionId, DeviceId};

use super::sessions::Wanted;
use super::{signed, traffic, unsigned};
use crate::model::{EndReason, Role, Traffic};

/// One event, as it is shown.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) id: u64,
    /// None: a denial, and none was made.
    pub(crate) session: Option<DebugSessionId>,
    pub(crate) device: DeviceId,
    pub(crate) time: SystemTime,
    pub(crate) kind: Kind,
    pub(crate) subject: String,
    /// None: of the time before roles were written down with it.
    pub(crate) role: Option<Role>,
    pub(crate) start_time: Option<SystemTime>,
    pub(crate) reason: Option<EndReason>,
    pub(crate) denial: String,
    pub(crate) traffic: Traffic,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Created,
    Attached,
    Detached,
    Denied,
    Ended,
}

/// Which events are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) session: Option<DebugSessionId>,
    pub(crate) device: Option<DeviceId>,
    /// Only earlier ones than this.
    pub(crate) before: Option<u64>,
}

impl Kind {
    fn from_name(name: &str) -> Self {
        match name {
            "created" => Kind::Created,
            "attached" => Kind::Attached,
            "detached" => Kind::Detached,
            "denied" => Kind::Denied,
            _ => Kind::Ended,
        }
    }
}

pub(crate) async fn created(tx: &Tx, session: DebugSessionId, subject: &str) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role) \
         SELECT tenant_id, session_id, device_id, now(), 'created', $2, role FROM debug.sessions WHERE session_id = $1",
        &[&session.to_string(), &subject],
    )
    .await?;
    Ok(())
}

pub(crate) async fn denied(
    tx: &Tx,
    session: DebugSessionId,
    subject: &str,
    denial: &str,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role, denial) \
         SELECT tenant_id, session_id, device_id, now(), 'denied', $2, role, $3 FROM debug.sessions WHERE session_id = $1",
        &[&session.to_string(), &subject, &denial],
    )
    .await?;
    Ok(())
}

/// A session with this device was refused: there is none to name.
pub(crate) async fn refused(tx: &Tx, wanted: &Wanted<'_>, denial: &str) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role, denial) \
         VALUES ($1, '', $2, now(), 'denied', $3, $4, $5)",
        &[
            &wanted.tenant.to_string(),
            &wanted.device.to_string(),
            &wanted.creator,
            &wanted.role.name(),
            &denial,
        ],
    )
    .await?;
    Ok(())
}

/// By nobody where `subject` is empty, unless its creator said so: on its stream, there is no other.
pub(super) async fn ended(
    tx: &Tx,
    session: DebugSessionId,
    reason: EndReason,
    subject: &str,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO debug.events (tenant_id, session_id, device_id, time, kind, subject, role, start_time, reason, frames_up, \
             bytes_up, frames_down, bytes_down) \
         SELECT tenant_id, session_id, device_id, now(), 'ended', CASE WHEN $2 = 'closed' THEN creator ELSE $3 END, role, \
             create_time, $2, frames_up, bytes_up, frames_down, \
             bytes_down \
         FROM debug.sessions WHERE session_id = $1",
        &[&session.to_string(), &reason.name(), &subject],
    )
    .await?;
    Ok(())
}

/// Newest first.
pub(crate) async fn list(tx: &Tx, filter: Filter, limit: usize) -> Result<Vec<Event>, Error> {
    let session = filter.session.map(|id| id.to_string());
    let device = filter.device.map(|id| id.to_string());
    let before = filter.before.map(signed);
    let values: [&(dyn ToSql + Sync); 4] = [&session, &device, &before, &signed(limit as u64)];
    let rows = tx
        .query(
            "SELECT event_id, session_id, device_id, time, kind, subject, role, start_time, reason, denial, frames_up, \
                 bytes_up, frames_down, bytes_down \
             FROM debug.events WHERE ($1::text IS NULL OR session_id = $1) AND ($2::text IS NULL OR device_id = $2) \
               AND ($3::bigint IS NULL OR event_id < $3) \
             ORDER BY event_id DESC LIMIT $4",
            &values,
        )
        .await?;
    let event = |row: &kit::pg::Row| {
        let (role, reason): (Option<&str>, Option<&str>) = (row.get(6), row.get(8));
        Event {
            id: unsigned(row.get(0)),
            session: row.get::<_, &str>(1).parse().ok(),
            device: row.get::<_, &str>(2).parse().expect("only ids are stored"),
            time: row.get(3),
            kind: Kind::from_name(row.get(4)),
            subject: row.get(5),
            role: role.and_then(Role::from_name),
            start_time: row.get(7),
            reason: reason.and_then(EndReason::from_name),
            denial: row.get(9),
            traffic: traffic(row, 10),
        }
    };
    Ok(rows.iter().map(event).collect())
}
