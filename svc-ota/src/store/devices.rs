//! Devices as the registry publishes them (`registry.device_v1`, `registry.life_v1`, `registry.keyset_v1`: read only), and what their
//! hellos told this service.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use kit::pg::Row;
use wire::manifest::Component;
use wire::{DeviceId, Digest, Nonce, TenantId};

use super::{Tx, digest, parsed, unsigned};
use crate::error::Error;
use crate::model::device::{Device, Facts, Floors, Hello, Link};
use crate::model::life::Life;
use crate::model::report::{Boot, Moment};

pub(crate) async fn find(tx: &Tx, id: DeviceId) -> Result<Option<Device>, Error> {
    let sql = "SELECT d.tenant_id, d.device_id, d.board, d.revoked_at IS NOT NULL AS revoked, \
               d.quarantined_at IS NOT NULL AS quarantined, d.key_digest, v.boot, v.over \
               FROM registry.device_v1 d LEFT JOIN registry.life_v1 v ON v.device_id = d.device_id \
               WHERE d.device_id = $1";
    tx.query_opt(sql, &[&id.text().as_str()]).await?.map(|row| device(&row)).transpose()
}

/// Those of these devices that exist, each with what was kept of it as long as its key is the same.
pub(crate) async fn find_all(tx: &Tx, ids: &[String]) -> Result<Vec<(Device, Option<Link>)>, Error> {
    let sql = "SELECT d.tenant_id, d.device_id, d.board, d.revoked_at IS NOT NULL AS revoked, \
               d.quarantined_at IS NOT NULL AS quarantined, d.key_digest, l.nonce, \
               l.boot_count, l.boot_random, l.sequence, l.heard_at, l.app_floor, l.confirmed, \
               l.microvisor_floor, l.microvisor, l.keyset_version, v.boot, v.over \
               FROM registry.device_v1 d LEFT JOIN device_links l ON l.device_id = d.device_id AND l.key_digest = d.key_digest \
               LEFT JOIN registry.life_v1 v ON v.device_id = d.device_id \
               WHERE d.device_id = ANY ($1)";
    let row = |row: &Row| {
        let linked = row.try_get::<_, Option<&[u8]>>("nonce")?.is_some();
        Ok((device(row)?, linked.then(|| link_of(row)).transpose()?))
    };
    tx.query(sql, &[&ids]).await?.iter().map(row).collect()
}

/// The tenant's newest keyset, as signed.
pub(crate) async fn keyset(tx: &Tx, tenant: TenantId) -> Result<Option<Vec<u8>>, Error> {
    let sql = "SELECT signed FROM registry.keyset_v1 WHERE tenant_id = $1 ORDER BY version DESC LIMIT 1";
    let row = tx.query_opt(sql, &[&tenant.text().as_str()]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Keeps what devices said; in the order of their ids, so that replicas never wait in a circle. `followed`: those whose boot is later than any
/// other whatever they count.
pub(crate) async fn save_links(
    tx: &Tx,
    links: &BTreeMap<DeviceId, (TenantId, Link)>,
    followed: &BTreeSet<DeviceId>,
) -> Result<(), Error> {
    let ids: Vec<String> = links.keys().map(DeviceId::to_string).collect();
    let tenants: Vec<String> = links.values().map(|(tenant, _)| tenant.to_string()).collect();
    let links: Vec<&Link> = links.values().map(|(_, link)| link).collect();
    let moments = || links.iter().map(|link| link.hello.moment);
    let nonces: Vec<&[u8]> = links.iter().map(|link| link.hello.nonce.0.as_slice()).collect();
    let counts: Vec<i64> = moments().map(|moment| i64::from(moment.boot.count)).collect();
    let randoms: Vec<i64> = moments().map(|moment| moment.boot.random.cast_signed()).collect();
    let sequences: Vec<i64> = moments().map(|moment| i64::from(moment.sequence)).collect();
    let heard: Vec<SystemTime> = links.iter().map(|link| link.hello.heard_at).collect();
    let facts = || links.iter().map(|link| &link.facts);
    let floors = |of| facts().map(|facts| i64::try_from(facts.floors.of(of)).unwrap_or(i64::MAX)).collect();
    let app_floors: Vec<i64> = floors(Component::App);
    let floors: Vec<i64> = floors(Component::Microvisor);
    let microvisors: Vec<String> = facts()
        .map(|facts| facts.microvisor.map(|version| version.to_string()).unwrap_or_default())
        .collect();
    let confirmed: Vec<String> = facts().map(|facts| array(&facts.confirmed)).collect();
    let keys: Vec<&[u8]> = links.iter().map(|link| link.hello.key.0.as_slice()).collect();
    let keysets: Vec<i64> = links.iter().map(|link| i64::from(link.hello.keyset)).collect();
    let followed: Vec<String> = followed.iter().map(DeviceId::to_string).collect();
    // A replica that heard an older hello meanwhile must not undo a newer one.
    tx.execute(
        "INSERT INTO device_links AS l (device_id, tenant_id, nonce, boot_count, boot_random, sequence, heard_at, \
         app_floor, confirmed, key_digest, microvisor_floor, microvisor, keyset_version) \
         SELECT id, tenant, nonce, count, random, seq, heard, app_floor, confirmed::bytea[], key, floor, microvisor, keyset \
         FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bigint[], $7::timestamptz[], \
         $8::bigint[], $9::text[], $10::bytea[], $11::bigint[], $12::text[], $13::bigint[]) \
         AS k(id, tenant, nonce, count, random, seq, heard, app_floor, confirmed, key, floor, microvisor, keyset) \
         ON CONFLICT (device_id) DO UPDATE SET nonce = excluded.nonce, boot_count = excluded.boot_count, \
         boot_random = excluded.boot_random, sequence = excluded.sequence, heard_at = excluded.heard_at, \
         app_floor = excluded.app_floor, confirmed = excluded.confirmed, key_digest = excluded.key_digest, \
         microvisor_floor = excluded.microvisor_floor, microvisor = excluded.microvisor, \
         keyset_version = excluded.keyset_version \
         WHERE (l.boot_count, l.sequence) < (excluded.boot_count, excluded.sequence) \
         OR (l.boot_count = excluded.boot_count AND l.boot_random <> excluded.boot_random) \
         OR (l.device_id = ANY ($14) AND l.boot_random <> excluded.boot_random) \
         OR l.key_digest <> excluded.key_digest",
        &[
            &ids, &tenants, &nonces, &counts, &randoms, &sequences, &heard, &app_floors, &confirmed, &keys, &floors,
            &microvisors, &keysets, &followed,
        ],
    )
    .await?;
    Ok(())
}

/// Forgets up to `limit` links of devices that are revoked or no longer there.
pub(crate) async fn forget_gone(tx: &Tx, limit: i64) -> Result<u64, Error> {
    let sql = "DELETE FROM device_links WHERE device_id IN (SELECT l.device_id FROM device_links l \
               LEFT JOIN registry.device_v1 v ON v.device_id = l.device_id AND v.revoked_at IS NULL \
               WHERE v.device_id IS NULL LIMIT $1 FOR UPDATE OF l SKIP LOCKED)";
    Ok(tx.execute(sql, &[&limit]).await?)
}

/// Digests as Postgres reads a `bytea[]`: arrays of arrays of different lengths cannot be unnested.
fn array(digests: &[Digest]) -> String {
    let quoted: Vec<String> = digests.iter().map(|digest| format!(r#""\\x{digest}""#)).collect();
    format!("{{{}}}", quoted.join(","))
}

fn device(row: &Row) -> Result<Device, Error> {
    Ok(Device {
        tenant: parsed(row, "tenant_id")?,
        id: parsed(row, "device_id")?,
        board: row.try_get("board")?,
        key: digest(row, "key_digest")?,
        revoked: row.try_get("revoked")?,
        quarantined: row.try_get("quarantined")?,
        life: life(row)?,
    })
}

/// Columns `boot` and `over` of `registry.life_v1`, where there is a row.
fn life(row: &Row) -> Result<Option<Life>, Error> {
    let Some(boot) = row.try_get::<_, Option<&[u8]>>("boot")? else { return Ok(None) };
    let now = boots(boot).and_then(|boots| boots.first().copied()).ok_or(Error::Corrupt("boot"))?;
    let over = boots(row.try_get("over")?).ok_or(Error::Corrupt("over"))?;
    Ok(Some(Life { now, over }))
}

/// Boots as the registry writes them: 4 bytes of counter and 8 random ones of each.
fn boots(bytes: &[u8]) -> Option<Vec<Boot>> {
    let (boots, rest) = bytes.as_chunks::<12>();
    let boot = |[c0, c1, c2, c3, random @ ..]: [u8; 12]| Boot {
        count: u32::from_be_bytes([c0, c1, c2, c3]),
        random: u64::from_be_bytes(random),
    };
    rest.is_empty().then(|| boots.iter().copied().map(boot).collect())
}

fn link_of(row: &Row) -> Result<Link, Error> {
    let nonce = Nonce::try_from(row.try_get::<_, &[u8]>("nonce")?).map_err(|_| Error::Corrupt("nonce"))?;
    let random: i64 = row.try_get("boot_random")?;
    let boot = Boot { count: unsigned(row, "boot_count")?, random: random.cast_unsigned() };
    let confirmed: Vec<&[u8]> = row.try_get("confirmed")?;
    let confirmed =
        confirmed.into_iter().map(|d| Digest::try_from(d).map_err(|_| Error::Corrupt("confirmed")));
    Ok(Link {
        hello: Hello {
            nonce,
            moment: Moment { boot, sequence: unsigned(row, "sequence")? },
            heard_at: row.try_get("heard_at")?,
            // Only links of the device's own key are read.
            key: digest(row, "key_digest")?,
            keyset: unsigned(row, "keyset_version")?,
        },
        facts: Facts {
            floors: Floors {
                app: unsigned(row, "app_floor")?,
                microvisor: unsigned(row, "microvisor_floor")?,
            },
            // Empty: unknown.
            microvisor: row.try_get::<_, &str>("microvisor")?.parse().ok(),
            confirmed: confirmed.collect::<Result<_, _>>()?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boots_are_read_as_the_registry_writes_them() {
        let bytes =
            [[0, 0, 0, 7], [0, 0, 0, 0], [0, 0, 1, 2], [0, 0, 0, 1], [1, 0, 0, 0], [0, 0, 0, 3]].concat();
        let read = vec![Boot { count: 7, random: 0x0102 }, Boot { count: 1, random: 0x0100_0000_0000_0003 }];
        assert_eq!(boots(&bytes), Some(read));
        assert_eq!(boots(&[]), Some(Vec::new()));
        assert_eq!(boots(&bytes[1..]), None);
    }

    #[test]
    fn digests_are_written_as_an_array_of_bytea() {
        assert_eq!(array(&[]), "{}");
        let (one, two) = ("01".repeat(32), "ff".repeat(32));
        assert_eq!(array(&[Digest([1; 32]), Digest([255; 32])]), format!(r#"{{"\\x{one}","\\x{two}"}}"#));
    }
}
