//! Hellos, in batches: the newest of each device counts; one that says nothing new writes nothing; a device behind in
//! keysets gets the next.

use std::collections::BTreeMap;
use std::time::SystemTime;

use wire::{DeviceId, TenantId};

use super::{App, micros};
use crate::error::Error;
use crate::model::hello::{Heard, Order, Report};
use crate::store::hello as rows;
use crate::store::presence::Renewal;

/// Hellos taken together.
pub(crate) const HELLO_BATCH_MAX: usize = 128;

/// The next keyset for a device that is behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeysetDue {
    pub device: DeviceId,
    pub signed: Vec<u8>,
}

/// The newest of each in a batch; ordered by id, as every transaction of theirs.
#[derive(Debug, Default)]
struct Batch {
    reports: BTreeMap<DeviceId, Report>,
    wills: BTreeMap<DeviceId, Order>,
}

impl App {
    pub(crate) async fn hello(
        &self,
        heard: Vec<(DeviceId, Heard)>,
        now: SystemTime,
    ) -> Result<Vec<KeysetDue>, Error> {
        let now = micros(now);
        let batch = Batch::of(heard);
        let held: Vec<(DeviceId, i32)> = batch
            .wills
            .keys()
            .filter(|device| !batch.reports.contains_key(device))
            .map(|device| (*device, i32::MAX))
            .chain(batch.reports.iter().map(|(device, report)| (*device, report.keyset_version)))
            .collect();
        let tx = self.store.every().await?;
        let known = rows::greeted(&tx, &held).await?;
        tx.commit().await?;

        let tenant_of = |device: &DeviceId| known.get(device).filter(|k| !k.revoked).map(|k| k.tenant);
        let welcome: Vec<(DeviceId, TenantId, &Report)> = batch
            .reports
            .iter()
            .filter_map(|(device, report)| Some((*device, tenant_of(device)?, report)))
            .collect();
        let renewals: Vec<Renewal> = welcome
            .iter()
            .map(|(device, tenant, r)| Renewal { tenant: *tenant, device: *device, order: r.order })
            .collect();
        let older = if renewals.is_empty() { vec![] } else { self.leases.renew(&renewals, now).await };

        let news: Vec<(DeviceId, TenantId, &Report)> = welcome
            .iter()
            .zip(&older)
            .filter(|((device, _, report), older)| {
                let stored = known.get(device).and_then(|k| k.report.as_ref());
                !**older
                    && stored.is_none_or(|s| report.order.newer_than(&s.order) && !report.says_the_same_as(s))
            })
            .map(|(row, _)| *row)
            .collect();
        if !news.is_empty() {
            let tx = self.store.every().await?;
            let written = rows::save(&tx, &news, now).await?;
            let ahead = rows::ahead_of_keysets(&tx, &news).await?;
            tx.commit().await?;
            tell_ahead(&ahead);
            metrics::counter!("registry_reports_written_total").increment(written);
        }
        for (device, order) in &batch.wills {
            if let Some(tenant) = tenant_of(device) {
                self.leases.will(tenant, *device, order).await;
            }
        }
        let due = welcome.iter().filter_map(|(device, ..)| {
            let signed = known.get(device)?.next_keyset.clone()?;
            Some(KeysetDue { device: *device, signed })
        });
        Ok(due.collect())
    }
}

/// Keysets that devices hold and the database has lost: an older backup was restored.
fn tell_ahead(ahead: &[(DeviceId, i32)]) {
    metrics::counter!("registry_keysets_ahead_total").increment(ahead.len() as u64);
    for (device, newest) in ahead {
        tracing::warn!(%device, newest, "the device holds a keyset that is not known here: upload it again");
    }
}

impl Batch {
    fn of(heard: Vec<(DeviceId, Heard)>) -> Self {
        let mut batch = Self::default();
        for (device, heard) in heard {
            match heard {
                Heard::Will(order) => {
                    batch.wills.insert(device, order);
                }
                Heard::Hello(report) => {
                    let newer =
                        batch.reports.get(&device).is_none_or(|old| report.order.newer_than(&old.order));
                    if newer {
                        batch.reports.insert(device, report);
                    }
                }
            }
        }
        batch
    }
}
