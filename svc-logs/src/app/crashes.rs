//! Crash reports: each stored once, however often it is sent, and told of only after the commit.

use std::time::SystemTime;

use kit::pg::Scope;
use wire::{DeviceId, TenantId};

use super::{App, CRASHES_PER_DEVICE_MAX, count};
use crate::error::Error;
use crate::model::{Boot, Crash, CrashRange, StoredCrash};
use crate::store::{crash_memory, crashes, devices};

/// To be told to a device: it may forget this report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CrashAck {
    pub(crate) device: DeviceId,
    pub(crate) boot: Boot,
    pub(crate) sequence: u32,
}

impl App {
    /// Stores what is new of these reports; the oldest of a device make room. Those of unknown and revoked devices are dropped and counted.
    pub(crate) async fn ingest_crashes(
        &self,
        mut reports: Vec<(DeviceId, Crash)>,
        now: SystemTime,
    ) -> Result<Vec<CrashAck>, Error> {
        reports.sort_by_key(|(device, crash)| (*device, crash.boot, crash.sequence));
        let tx = self.store.tx(Scope::Every).await?;
        crash_memory::lock(&tx, reports.iter().map(|(device, _)| *device)).await?;
        let ids: Vec<String> = reports.iter().map(|(device, _)| device.to_string()).collect();
        let tenants = devices::tenants(&tx, &ids).await?;
        let (mut acks, mut stored, mut displaced) = (Vec::new(), 0, 0);
        for (device, crash) in &reports {
            let Some(tenant) = tenants.get(device) else { continue };
            if crashes::insert(&tx, *tenant, *device, crash, now).await? {
                stored += 1;
                displaced += crashes::keep_newest(&tx, *tenant, *device, CRASHES_PER_DEVICE_MAX).await?;
            }
            acks.push(CrashAck { device: *device, boot: crash.boot, sequence: crash.sequence });
        }
        tx.commit().await?;
        count::refused(count::CRASHES, "unknown_device", reports.len() - acks.len());
        metrics::counter!("crashes_stored_total").increment(stored);
        metrics::counter!("crashes_repeated_total").increment(acks.len() as u64 - stored);
        metrics::counter!("crashes_displaced_total").increment(displaced);
        Ok(acks)
    }

    /// At most `limit` reports, newest first, and whether there are more.
    pub(crate) async fn list_crashes(
        &self,
        tenant: TenantId,
        range: &CrashRange,
        limit: usize,
    ) -> Result<(Vec<StoredCrash>, bool), Error> {
        let tx = self.store.tx(tenant).await?;
        if let Some(device) = range.device
            && !devices::exists(&tx, tenant, device).await?
        {
            return Err(Error::NotFound);
        }
        let mut page = crashes::list(&tx, tenant, range, limit + 1).await?;
        tx.commit().await?;
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    /// One report.
    pub(crate) async fn crash(
        &self,
        tenant: TenantId,
        device: DeviceId,
        boot: Boot,
        sequence: u32,
    ) -> Result<StoredCrash, Error> {
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, device).await? {
            return Err(Error::NotFound);
        }
        let found = crashes::find(&tx, tenant, device, boot, sequence).await?;
        tx.commit().await?;
        found.ok_or(Error::NotFound)
    }
}
