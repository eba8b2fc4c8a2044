//! What applications published: stored once, in positions that count without a gap, listed, and followed as it is stored.
//!
//! Positions are given under the device's row lock, so that they are seen in their order whichever replica stores: a tail is where its last
//! position is, and what lies between two positions and is not there was forgotten, or skipped because the reader was too slow.

use std::collections::BTreeMap;
use std::time::SystemTime;

use kit::pg::{Scope, Tx};
use kit::places::Place;
use wire::{DeviceId, TenantId};

use super::look::Look;
use super::tail::TAIL_BATCH_MAX;
use super::{App, TELEMETRY_PER_DEVICE_MAX, count};
use crate::error::Error;
use crate::model::{StoredTelemetry, Telemetry, TelemetryRange};
use crate::store::devices;
use crate::store::telemetry::{self, NewTelemetry, Of};

/// Where a tail begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Begin {
    /// With this many stored messages.
    Last(usize),
    /// After this position.
    After(u64),
}

/// A tail under way; holds its place among [`super::TAILS_MAX`].
#[derive(Debug)]
pub(crate) struct TelemetryTail {
    tenant: TenantId,
    device: DeviceId,
    position: u64,
    look: Look,
    _place: Place,
}

/// A message, and how many were missed just before it.
#[derive(Debug)]
pub(crate) struct Tailed {
    pub(crate) stored: StoredTelemetry,
    pub(crate) missed: u64,
}

impl App {
    /// Stores what is new of these messages. Those of unknown and revoked devices are dropped and counted.
    pub(crate) async fn ingest_telemetry(
        &self,
        messages: Vec<(DeviceId, Telemetry)>,
        now: SystemTime,
    ) -> Result<(), Error> {
        let all = messages.len();
        // Of a number sent twice the first counts, as it would have in two transactions.
        let mut offered: BTreeMap<Of, Telemetry> = BTreeMap::new();
        for (device, message) in messages {
            offered.entry((device, message.boot, message.sequence)).or_insert(message);
        }
        let tx = self.store.tx(Scope::Every).await?;
        let stored = store(&tx, &offered, now).await?;
        tx.commit().await?;
        metrics::counter!("telemetry_stored_total").increment(stored.new.len() as u64);
        let repeated = all - stored.new.len() - stored.unknown;
        metrics::counter!("telemetry_repeated_total").increment(repeated as u64);
        metrics::counter!("telemetry_displaced_total").increment(stored.displaced);
        count::refused(count::TELEMETRY, "unknown_device", stored.unknown);
        for device in stored.new {
            // Nobody may be listening.
            let _ = self.telemetry_stored.send(device);
        }
        Ok(())
    }

    /// At most `limit` messages, oldest first, and whether there are more.
    pub(crate) async fn list_telemetry(
        &self,
        tenant: TenantId,
        range: &TelemetryRange,
        limit: usize,
    ) -> Result<(Vec<StoredTelemetry>, bool), Error> {
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, range.device).await? {
            return Err(Error::NotFound);
        }
        let mut page = telemetry::list(&tx, tenant, range, limit + 1).await?;
        tx.commit().await?;
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    /// Begins a tail, with what there is to tell at once.
    pub(crate) async fn tail_telemetry(
        &self,
        tenant: TenantId,
        device: DeviceId,
        begin: Begin,
    ) -> Result<(TelemetryTail, Vec<Tailed>), Error> {
        let place = self.tails.take(tenant)?;
        // Before the first look, so that nothing falls between.
        let look = Look::new(device, self.telemetry_stored.subscribe());
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, device).await? {
            return Err(Error::NotFound);
        }
        let newest = telemetry::newest(&tx, tenant, device).await?;
        let position = match begin {
            Begin::Last(last) => newest.saturating_sub(last as u64),
            // A database that was put back knows less than its tokens.
            Begin::After(position) => position.min(newest),
        };
        let mut tail = TelemetryTail { tenant, device, position, look, _place: place };
        let mut first = tail.since(&tx).await?;
        tx.commit().await?;
        if let (Begin::Last(_), Some(first)) = (begin, first.first_mut()) {
            // What was forgotten before the tail began is nothing it missed.
            first.missed = 0;
        }
        Ok((tail, first))
    }

    /// What was stored since the last look; waits until there may be something.
    pub(crate) async fn follow_telemetry(&self, tail: &mut TelemetryTail) -> Result<Vec<Tailed>, Error> {
        tail.look.wait().await;
        let tx = self.store.tx(tail.tenant).await?;
        let tailed = tail.since(&tx).await?;
        tx.commit().await?;
        Ok(tailed)
    }
}

impl TelemetryTail {
    /// Where it stands now.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    async fn since(&mut self, tx: &Tx) -> Result<Vec<Tailed>, Error> {
        let newest =
            telemetry::newest_after(tx, self.tenant, self.device, self.position, TAIL_BATCH_MAX).await?;
        let mut tailed = Vec::with_capacity(newest.len());
        for stored in newest {
            let missed = stored.position.saturating_sub(self.position).saturating_sub(1);
            self.position = stored.position;
            tailed.push(Tailed { stored, missed });
        }
        Ok(tailed)
    }
}

/// Whose messages were new, one entry a message, and how many were of nobody.
struct Stored {
    new: Vec<DeviceId>,
    unknown: usize,
    /// Older ones that made room.
    displaced: u64,
}

async fn store(tx: &Tx, offered: &BTreeMap<Of, Telemetry>, now: SystemTime) -> Result<Stored, Error> {
    let ids: Vec<String> = offered.keys().map(|(device, ..)| device.to_string()).collect();
    let tenants = devices::tenants(tx, &ids).await?;
    let unknown = offered.keys().filter(|(device, ..)| !tenants.contains_key(device)).count();
    if tenants.is_empty() {
        return Ok(Stored { new: Vec::new(), unknown, displaced: 0 });
    }
    let heard: Vec<(DeviceId, TenantId)> =
        tenants.iter().map(|(device, tenant)| (*device, *tenant)).collect();
    let mut positions = telemetry::lock(tx, &heard, now).await?;
    // Under the locks: what another replica stored is seen.
    let all: Vec<Of> = offered.keys().copied().collect();
    let known = telemetry::known(tx, &all).await?;
    let mut new = Vec::new();
    for (of, message) in offered.iter().filter(|(of, _)| !known.contains(of)) {
        let device = of.0;
        let (Some(tenant), Some(position)) = (tenants.get(&device), positions.get_mut(&device)) else {
            continue;
        };
        *position += 1;
        new.push(NewTelemetry { tenant: *tenant, device, position: *position, message });
    }
    let mut displaced = 0;
    if !new.is_empty() {
        displaced = telemetry::insert(tx, &new, now, TELEMETRY_PER_DEVICE_MAX).await?;
    }
    Ok(Stored { new: new.iter().map(|new| new.device).collect(), unknown, displaced })
}
