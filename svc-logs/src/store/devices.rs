//! Which devices there are, by the registry's published view. The registry may not have migrated yet: then there are
//! none, and the statement's error says so.

use std::collections::HashMap;

use kit::pg::{Error, Tx};
use wire::{DeviceId, TenantId};

/// The tenants of those devices that exist and are neither revoked nor in quarantine: what they have to say they keep until it is taken.
pub(crate) async fn tenants(tx: &Tx, devices: &[String]) -> Result<HashMap<DeviceId, TenantId>, Error> {
    let rows = tx
        .query(
            "SELECT device_id::text, tenant_id::text FROM registry.device_v1 \
             WHERE device_id = ANY($1) AND revoked_at IS NULL AND quarantined_at IS NULL",
            &[&devices],
        )
        .await?;
    let pairs = rows.iter().filter_map(|row| {
        let (device, tenant): (&str, &str) = (row.get(0), row.get(1));
        Some((device.parse().ok()?, tenant.parse().ok()?))
    });
    Ok(pairs.collect())
}

/// Whether the device exists in the transaction's scope, revoked or not.
pub(crate) async fn exists(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<bool, Error> {
    let row = tx
        .query_opt(
            "SELECT 1 FROM registry.device_v1 WHERE tenant_id = $1 AND device_id = $2",
            &[&tenant.to_string(), &device.to_string()],
        )
        .await?;
    Ok(row.is_some())
}
