//! Which devices there are, by the registry's published view.

use kit::pg::{Error, Tx};
use wire::{DeviceId, TenantId};

/// What is known of a device in the transaction's scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Unknown,
    Good,
    Revoked,
}

pub(crate) async fn standing(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<Standing, Error> {
    let row = tx
        .query_opt(
            "SELECT revoked_at IS NULL FROM registry.device_v1 WHERE tenant_id = $1 AND device_id = $2",
            &[&tenant.to_string(), &device.to_string()],
        )
        .await?;
    Ok(match row.map(|row| row.get(0)) {
        None => Standing::Unknown,
        Some(true) => Standing::Good,
        Some(false) => Standing::Revoked,
    })
}

/// Those of the devices that are revoked or gone.
pub(crate) async fn bad(tx: &Tx, devices: &[String]) -> Result<Vec<DeviceId>, Error> {
    let rows = tx
        .query(
            "SELECT k.device_id FROM unnest($1::text[]) AS k(device_id) WHERE NOT EXISTS \
             (SELECT 1 FROM registry.device_v1 d WHERE d.device_id = k.device_id AND d.revoked_at IS NULL)",
            &[&devices],
        )
        .await?;
    Ok(rows.iter().filter_map(|row| row.get::<_, &str>(0).parse().ok()).collect())
}
