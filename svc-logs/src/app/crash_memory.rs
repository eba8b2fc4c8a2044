//! Memory of crashes: stored from its first byte on, and told of only after the commit.

use std::time::SystemTime;

use kit::pg::Scope;
use wire::{DeviceId, TenantId};

use super::{App, CRASH_MEMORIES_PER_DEVICE_MAX, count};
use crate::error::Error;
use crate::model::crash_memory::Fit;
use crate::model::{Boot, MemoryChunk, StoredMemory};
use crate::store::{crash_memory, devices};

/// To be told to a device: this service has so much of that memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryAck {
    pub(crate) device: DeviceId,
    pub(crate) boot: Boot,
    pub(crate) sequence: u32,
    pub(crate) stored_up_to: u32,
}

impl App {
    /// Stores what comes next of these memories; the oldest of a device make room. Those of unknown and revoked devices are dropped and
    /// counted, as is what contradicts what the device said before.
    pub(crate) async fn ingest_crash_memory(
        &self,
        mut chunks: Vec<(DeviceId, MemoryChunk)>,
        now: SystemTime,
    ) -> Result<Vec<MemoryAck>, Error> {
        chunks.sort_by_key(|(device, chunk)| (*device, chunk.boot, chunk.sequence, chunk.offset));
        let tx = self.store.tx(Scope::Every).await?;
        crash_memory::lock(&tx, chunks.iter().map(|(device, _)| *device)).await?;
        let ids: Vec<String> = chunks.iter().map(|(device, _)| device.to_string()).collect();
        let tenants = devices::tenants(&tx, &ids).await?;
        let (mut acks, mut bytes, mut strangers, mut contradicted) = (Vec::<MemoryAck>::new(), 0, 0, 0);
        for (device, chunk) in &chunks {
            let Some(tenant) = tenants.get(device) else {
                strangers += 1;
                continue;
            };
            // One that has been given up is begun by what the device says next.
            let Some(begun) = crash_memory::begin(&tx, *tenant, *device, chunk, now).await? else { continue };
            if begun.is_new {
                crash_memory::keep_newest(&tx, *tenant, *device, CRASH_MEMORIES_PER_DEVICE_MAX).await?;
            }
            let stored_up_to = match chunk.fits(begun.total, &begun.pieces, begun.stored) {
                Fit::Next => {
                    bytes += chunk.data.len() as u64;
                    crash_memory::append(&tx, *tenant, &begun, &chunk.data).await?
                }
                Fit::Elsewhere => begun.stored,
                Fit::Other => {
                    contradicted += 1;
                    continue;
                }
            };
            acks.retain(|ack| (ack.device, ack.boot, ack.sequence) != (*device, chunk.boot, chunk.sequence));
            acks.push(MemoryAck {
                device: *device,
                boot: chunk.boot,
                sequence: chunk.sequence,
                stored_up_to,
            });
        }
        tx.commit().await?;
        count::refused(count::CRASH_MEMORY, "unknown_device", strangers);
        count::refused(count::CRASH_MEMORY, "contradiction", contradicted);
        metrics::counter!("crash_memory_stored_bytes_total").increment(bytes);
        Ok(acks)
    }

    /// What is stored of the memory of one report, which there is.
    pub(crate) async fn crash_memory(
        &self,
        tenant: TenantId,
        device: DeviceId,
        boot: Boot,
        sequence: u32,
    ) -> Result<StoredMemory, Error> {
        let tx = self.store.tx(tenant).await?;
        if !devices::exists(&tx, tenant, device).await? {
            return Err(Error::NotFound);
        }
        let found = crash_memory::find(&tx, tenant, device, boot, sequence).await?;
        tx.commit().await?;
        found.ok_or(Error::NotFound)
    }
}
