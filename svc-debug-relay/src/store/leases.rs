//! Who holds a session: a lease and a fencing epoch. Times are the database's own.

use std::time::Duration;

use kit::pg::{Error, ToSql, Tx};
use wire::{DebugSessionId, DeviceId, RelayId};

use super::{columns, signed, traffic, unsigned};
use crate::model::{Boot, EndReason, Role, Traffic};

/// A session's row, locked.
#[derive(Clone, Debug)]
pub(crate) struct Locked {
    pub(crate) device: DeviceId,
    pub(crate) creator: String,
    pub(crate) role: Role,
    pub(crate) ended: Option<EndReason>,
    pub(crate) epoch: u32,
    pub(crate) relay: Option<RelayId>,
    pub(crate) relay_url: String,
    /// The holder's lease has not run out.
    pub(crate) is_leased: bool,
    pub(crate) idle: Duration,
    /// Until total_timeout is over.
    pub(crate) expires_in: Duration,
    pub(crate) silent_for: Duration,
    pub(crate) boot: Option<Boot>,
    pub(crate) traffic: Traffic,
}

/// What the holder knows of a session, written with each renewal.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    pub(crate) id: DebugSessionId,
    pub(crate) epoch: u32,
    pub(crate) silent_for: Duration,
    pub(crate) boot: Option<Boot>,
    pub(crate) traffic: Traffic,
}

/// The row, if the transaction's scope has it; nobody else changes it until the transaction ends.
pub(crate) async fn lock(tx: &Tx, id: DebugSessionId) -> Result<Option<Locked>, Error> {
    let row = tx
        .query_opt(
            "SELECT device_id, end_reason, epoch, relay_id, coalesce(relay_url, ''), coalesce(lease_until > now(), false), \
                 idle_ms, (extract(epoch FROM expire_time - now()) * 1000)::bigint, \
                 (extract(epoch FROM now() - last_frame_time) * 1000)::bigint, boot_counter, boot_random, \
                 frames_up, bytes_up, frames_down, bytes_down, creator, role \
             FROM debug.sessions WHERE session_id = $1 FOR UPDATE",
            &[&id.to_string()],
        )
        .await?;
    Ok(row.map(|row| {
        let millis = |index| Duration::from_millis(unsigned(row.get(index)));
        let reason: Option<&str> = row.get(1);
        let relay: Option<&str> = row.get(3);
        let boot: (Option<i64>, Option<i64>) = (row.get(9), row.get(10));
        Locked {
            device: row.get::<_, &str>(0).parse().expect("only ids are stored"),
            creator: row.get(15),
            role: super::role(row.get(16)),
            ended: reason.map(|name| EndReason::from_name(name).unwrap_or(EndReason::Closed)),
            epoch: epoch(row.get(2)),
            relay: relay.and_then(|relay| relay.parse().ok()),
            relay_url: row.get(4),
            is_leased: row.get(5),
            idle: millis(6),
            expires_in: millis(7),
            silent_for: millis(8),
            boot: boot.0.zip(boot.1).map(|(counter, random)| Boot {
                counter: u32::try_from(counter).unwrap_or_default(),
                random: random.cast_unsigned(),
            }),
            traffic: traffic(&row, 11),
        }
    }))
}

/// Takes a locked session: its epoch from now on.
pub(crate) async fn take(
    tx: &Tx,
    id: DebugSessionId,
    relay: RelayId,
    url: &str,
    lease: Duration,
) -> Result<u32, Error> {
    let row = tx
        .query_one(
            "UPDATE debug.sessions SET epoch = epoch + 1, relay_id = $2, relay_url = $3, \
                 lease_until = now() + $4::bigint * interval '1 millisecond' WHERE session_id = $1 RETURNING epoch",
            &[&id.to_string(), &relay.to_string(), &url, &signed(lease.as_millis() as u64)],
        )
        .await?;
    Ok(epoch(row.get(0)))
}

/// Renews what is still this relay's; those it is not are missing from the answer.
pub(crate) async fn renew(
    tx: &Tx,
    relay: RelayId,
    lease: Duration,
    renewals: &[Renewal],
) -> Result<Vec<DebugSessionId>, Error> {
    let ids: Vec<String> = renewals.iter().map(|r| r.id.to_string()).collect();
    let epochs: Vec<i64> = renewals.iter().map(|r| r.epoch.into()).collect();
    let silent: Vec<i64> = renewals.iter().map(|r| signed(r.silent_for.as_millis() as u64)).collect();
    let counters: Vec<Option<i64>> = renewals.iter().map(|r| r.boot.map(|b| b.counter.into())).collect();
    let randoms: Vec<Option<i64>> = renewals.iter().map(|r| r.boot.map(|b| b.random.cast_signed())).collect();
    let [frames_up, bytes_up, frames_down, bytes_down] = columns(renewals.iter().map(|r| r.traffic));
    let lease = signed(lease.as_millis() as u64);
    let values: [&(dyn ToSql + Sync); 11] = [
        &relay.to_string(),
        &lease,
        &ids,
        &epochs,
        &silent,
        &counters,
        &randoms,
        &frames_up,
        &bytes_up,
        &frames_down,
        &bytes_down,
    ];
    let rows = tx
        .query(
            "UPDATE debug.sessions s SET lease_until = now() + $2::bigint * interval '1 millisecond', \
                 last_frame_time = greatest(s.last_frame_time, now() - k.silent * interval '1 millisecond'), \
                 boot_counter = coalesce(k.counter, s.boot_counter), boot_random = coalesce(k.random, s.boot_random), \
                 frames_up = k.frames_up, bytes_up = k.bytes_up, frames_down = k.frames_down, bytes_down = k.bytes_down \
             FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], \
                 $10::bigint[], $11::bigint[]) \
                 AS k(id, epoch, silent, counter, random, frames_up, bytes_up, frames_down, bytes_down) \
             WHERE s.session_id = k.id AND s.epoch = k.epoch AND s.relay_id = $1 AND s.state = 'open' \
             RETURNING s.session_id",
            &values,
        )
        .await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
}

/// Why sessions ended that have; open ones are missing.
pub(crate) async fn ends(tx: &Tx, ids: &[DebugSessionId]) -> Result<Vec<(DebugSessionId, EndReason)>, Error> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let rows = tx
        .query(
            "SELECT session_id, end_reason FROM debug.sessions WHERE session_id = ANY($1) AND state = 'closed'",
            &[&ids],
        )
        .await?;
    let pair = |row: &kit::pg::Row| {
        let (id, reason): (&str, &str) = (row.get(0), row.get(1));
        Some((id.parse().ok()?, EndReason::from_name(reason)?))
    };
    Ok(rows.iter().filter_map(pair).collect())
}

/// Gives back what this relay still holds, so that another may take it at once.
pub(crate) async fn release(tx: &Tx, relay: RelayId, held: &[(DebugSessionId, u32)]) -> Result<(), Error> {
    let ids: Vec<String> = held.iter().map(|(id, _)| id.to_string()).collect();
    let epochs: Vec<i64> = held.iter().map(|(_, epoch)| (*epoch).into()).collect();
    tx.execute(
        "UPDATE debug.sessions s SET lease_until = NULL FROM unnest($2::text[], $3::bigint[]) AS k(id, epoch) \
         WHERE s.session_id = k.id AND s.epoch = k.epoch AND s.relay_id = $1",
        &[&relay.to_string(), &ids, &epochs],
    )
    .await?;
    Ok(())
}

fn epoch(stored: i64) -> u32 {
    u32::try_from(stored).unwrap_or(u32::MAX)
}
