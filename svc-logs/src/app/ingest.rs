//! Stores batches of many devices in one transaction and says what each device may forget.
//!
//! Under the row lock of each (device, boot), so that two replicas with batches of one boot follow each other: what is
//! acknowledged is contiguous whatever the order of commits, and a transaction that fails acknowledges nothing.

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use kit::pg::Scope;
use kit::pg::Tx;
use wire::{DeviceId, TenantId};

use super::App;
use super::count::{LOGS, refused};
use crate::error::Error;
use crate::model::prefix::{self, Placement};
use crate::model::{Batch, Boot, Record};
use crate::store::boots::{self, Advance, BootOf, BootRow};
use crate::store::devices;
use crate::store::records::{self, NewRecord};

/// To be told to a device: everything up to there is stored or known lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) device: DeviceId,
    pub(crate) boot: Boot,
    pub(crate) stored_up_to: u64,
}

/// All that was sent for one boot, of all messages of a turn.
#[derive(Debug, Default)]
pub(super) struct Offer {
    records: BTreeMap<u64, Record>,
    lost_up_to: u64,
    dropped: u64,
}

/// What one boot's rows become.
struct Decision<'a> {
    of: BootOf,
    tenant: TenantId,
    row: BootRow,
    offer: &'a Offer,
    placement: Placement,
}

impl App {
    /// Stores what is new of these batches. Batches of unknown and revoked devices are dropped and counted.
    pub(crate) async fn ingest(
        &self,
        batches: Vec<(DeviceId, Batch)>,
        now: SystemTime,
    ) -> Result<Vec<Ack>, Error> {
        let offers = gather(batches);
        let tx = self.store.tx(Scope::Every).await?;
        let acks = store_offers(&tx, &offers, now).await?;
        tx.commit().await?;
        for ack in &acks {
            // Nobody may be listening.
            let _ = self.stored.send(ack.device);
        }
        Ok(acks)
    }
}

pub(super) async fn store_offers(
    tx: &Tx,
    offers: &HashMap<BootOf, Offer>,
    now: SystemTime,
) -> Result<Vec<Ack>, Error> {
    let ids: Vec<String> = offers.keys().map(|of| of.device.to_string()).collect();
    let tenants = devices::tenants(tx, &ids).await?;
    let known: Vec<(BootOf, TenantId)> =
        offers.keys().filter_map(|of| Some((*of, *tenants.get(&of.device)?))).collect();
    refused(LOGS, "unknown_device", offers.len() - known.len());
    if known.is_empty() {
        return Ok(Vec::new());
    }

    let rows = boots::lock(tx, &known, now).await?;
    let prefixes: Vec<(i64, u64)> = rows.values().map(|row| (row.key, row.prefix.stored_up_to)).collect();
    let ahead = records::ahead(tx, &prefixes).await?;
    let decisions: Vec<Decision<'_>> = known
        .iter()
        .filter_map(|(of, tenant)| {
            let (row, offer) = (*rows.get(of)?, offers.get(of)?);
            let numbers: Vec<u64> = offer.records.keys().copied().collect();
            let held = ahead.get(&row.key).map_or(&[][..], Vec::as_slice);
            let placement = prefix::place(row.prefix, offer.lost_up_to, held, &numbers);
            Some(Decision { of: *of, tenant: *tenant, row, offer, placement })
        })
        .collect();
    write(tx, &decisions, now).await?;
    count(&decisions);
    Ok(decisions.iter().map(Decision::ack).collect())
}

async fn write(tx: &Tx, decisions: &[Decision<'_>], now: SystemTime) -> Result<(), Error> {
    let new: Vec<NewRecord<'_>> = decisions.iter().flat_map(Decision::new_records).collect();
    if !new.is_empty() {
        records::insert(tx, &new, now).await?;
    }
    let fixes: Vec<_> =
        decisions.iter().flat_map(|d| d.placement.fixes.iter().map(|placed| (d.row.key, *placed))).collect();
    if !fixes.is_empty() {
        records::fix_gaps(tx, &fixes).await?;
    }
    let changed: Vec<Advance> = decisions.iter().filter_map(Decision::advance).collect();
    if !changed.is_empty() {
        boots::advance(tx, &changed, now).await?;
    }
    Ok(())
}

impl<'a> Decision<'a> {
    fn version(&self) -> i64 {
        self.row.version + 1
    }

    fn new_records(&self) -> impl Iterator<Item = NewRecord<'a>> {
        let (boot_key, version, tenant, offer) = (self.row.key, self.version(), self.tenant, self.offer);
        self.placement.inserts.iter().filter_map(move |placed| {
            let record = offer.records.get(&placed.sequence)?;
            Some(NewRecord { boot_key, version, tenant, gap_before: placed.gap_before, record })
        })
    }

    /// None when the batch said nothing new: an ack that was lost writes nothing.
    fn advance(&self) -> Option<Advance> {
        let placement = &self.placement;
        if placement.prefix == self.row.prefix && placement.inserts.is_empty() {
            return None;
        }
        Some(Advance {
            key: self.row.key,
            prefix: placement.prefix,
            version: self.version(),
            stored: placement.inserts.len(),
            dropped: self.offer.dropped,
        })
    }

    fn ack(&self) -> Ack {
        let stored_up_to = self.placement.prefix.stored_up_to;
        Ack { device: self.of.device, boot: self.of.boot, stored_up_to }
    }
}

/// One offer a boot. Of a number sent twice the first counts, as it would have in two transactions.
pub(super) fn gather(batches: Vec<(DeviceId, Batch)>) -> HashMap<BootOf, Offer> {
    let mut offers: HashMap<BootOf, Offer> = HashMap::new();
    for (device, batch) in batches {
        let offer = offers.entry(BootOf { device, boot: batch.boot }).or_default();
        for record in batch.records {
            offer.records.entry(record.sequence).or_insert(record);
        }
        offer.lost_up_to = offer.lost_up_to.max(batch.lost_up_to);
        offer.dropped = offer.dropped.max(batch.dropped);
    }
    offers
}

fn count(decisions: &[Decision<'_>]) {
    let sum = |of: fn(&Placement) -> usize| decisions.iter().map(|d| of(&d.placement) as u64).sum::<u64>();
    metrics::counter!("logs_records_stored_total").increment(sum(|p| p.inserts.len()));
    metrics::counter!("logs_records_repeated_total").increment(sum(|p| p.known));
    refused(LOGS, "far_ahead", usize::try_from(sum(|p| p.far)).unwrap_or(usize::MAX));
}
