//! Which devices there are, and which may be debugged, by the registry's published views.

use kit::pg::{Error, Row, Tx};
use wire::{DeviceId, TenantId};

use crate::model::{Ban, EndReason};

/// What is known of a device in the transaction's scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Unknown,
    Good,
    Revoked,
    /// Whether it is revoked or not.
    Forbidden(Ban),
}

pub(crate) async fn standing(tx: &Tx, tenant: TenantId, device: DeviceId) -> Result<Standing, Error> {
    let rows = tx
        .query(
            "SELECT d.revoked_at IS NULL, f.forbidden_by, f.label_key, f.label_value FROM registry.device_v1 d \
             LEFT JOIN registry.debug_ban_v1 f ON f.tenant_id = d.tenant_id AND f.device_id = d.device_id \
             WHERE d.tenant_id = $1 AND d.device_id = $2",
            &[&tenant.to_string(), &device.to_string()],
        )
        .await?;
    if let Some(ban) = Ban::widest(rows.iter().filter_map(ban)) {
        return Ok(Standing::Forbidden(ban));
    }
    Ok(match rows.first().map(|row| row.get(0)) {
        None => Standing::Unknown,
        Some(true) => Standing::Good,
        Some(false) => Standing::Revoked,
    })
}

fn ban(row: &Row) -> Option<Ban> {
    let by: Option<&str> = row.get(1);
    by.map(|by| Ban::from_parts(by, row.get(2), row.get(3)))
}

/// Those of the devices whose sessions must end, and why.
pub(crate) async fn bad(tx: &Tx, devices: &[String]) -> Result<Vec<(DeviceId, EndReason)>, Error> {
    let rows = tx
        .query(
            "SELECT k.device_id, g.device_id IS NULL FROM unnest($1::text[]) AS k(device_id) \
             LEFT JOIN registry.device_v1 g ON g.device_id = k.device_id AND g.revoked_at IS NULL \
             WHERE g.device_id IS NULL OR EXISTS (SELECT 1 FROM registry.debug_ban_v1 f WHERE f.device_id = k.device_id)",
            &[&devices],
        )
        .await?;
    let pair = |row: &Row| {
        let reason = if row.get(1) { EndReason::DeviceRevoked } else { EndReason::Forbidden };
        Some((row.get::<_, &str>(0).parse().ok()?, reason))
    };
    Ok(rows.iter().filter_map(pair).collect())
}
