//! Records: inserted many boots at once, read by device in order.

use std::collections::HashMap;
use std::time::SystemTime;

use kit::pg::{Error, Row, Tx};
use wire::{DeviceId, TenantId};

use super::boots::{Mark, boot};
use super::{signed, unsigned};
use crate::model::prefix::Placed;
use crate::model::{Level, Range, Record, Source, StoredRecord};

/// A record to insert.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRecord<'a> {
    pub(crate) boot_key: i64,
    pub(crate) version: i64,
    pub(crate) tenant: TenantId,
    pub(crate) gap_before: u64,
    pub(crate) record: &'a Record,
}

const SHOWN: &str =
    "b.counter, b.random, r.sequence, r.uptime_us, r.level, r.source, r.text, r.receive_time, r.gap_before";

/// What is stored beyond each boot's prefix.
pub(crate) async fn ahead(tx: &Tx, boots: &[(i64, u64)]) -> Result<HashMap<i64, Vec<Placed>>, Error> {
    let keys: Vec<i64> = boots.iter().map(|(key, _)| *key).collect();
    let after: Vec<i64> = boots.iter().map(|(_, prefix)| signed(*prefix)).collect();
    let rows = tx
        .query(
            // A fence: however little is known of the table, each boot is looked up in the index.
            "SELECT k.boot_key, r.sequence, r.gap_before FROM unnest($1::bigint[], $2::bigint[]) AS k(boot_key, after) \
             CROSS JOIN LATERAL (SELECT sequence, gap_before FROM logs.records \
               WHERE boot_key = k.boot_key AND sequence > k.after ORDER BY sequence OFFSET 0) r \
             ORDER BY k.boot_key, r.sequence",
            &[&keys, &after],
        )
        .await?;
    let mut ahead: HashMap<i64, Vec<Placed>> = HashMap::new();
    for row in &rows {
        let placed = Placed { sequence: unsigned(row.get(1)), gap_before: unsigned(row.get(2)) };
        ahead.entry(row.get(0)).or_default().push(placed);
    }
    Ok(ahead)
}

pub(crate) async fn insert(tx: &Tx, records: &[NewRecord<'_>], now: SystemTime) -> Result<(), Error> {
    let keys: Vec<i64> = records.iter().map(|r| r.boot_key).collect();
    let sequences: Vec<i64> = records.iter().map(|r| signed(r.record.sequence)).collect();
    let tenants: Vec<String> = records.iter().map(|r| r.tenant.to_string()).collect();
    let versions: Vec<i64> = records.iter().map(|r| r.version).collect();
    let uptimes: Vec<i64> = records.iter().map(|r| signed(r.record.uptime_us)).collect();
    let levels: Vec<i16> = records.iter().map(|r| r.record.level as i16).collect();
    let sources: Vec<i16> = records.iter().map(|r| r.record.source as i16).collect();
    let gaps: Vec<i64> = records.iter().map(|r| signed(r.gap_before)).collect();
    let texts: Vec<&str> = records.iter().map(|r| r.record.text.as_str()).collect();
    tx.execute(
        "INSERT INTO logs.records \
             (boot_key, sequence, tenant_id, version, uptime_us, level, source, gap_before, text, receive_time) \
         SELECT k.*, $10 FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[], $5::bigint[], \
             $6::smallint[], $7::smallint[], $8::bigint[], $9::text[]) AS k",
        &[&keys, &sequences, &tenants, &versions, &uptimes, &levels, &sources, &gaps, &texts, &now],
    )
    .await?;
    Ok(())
}

/// Corrects gaps that were partly filled.
pub(crate) async fn fix_gaps(tx: &Tx, fixes: &[(i64, Placed)]) -> Result<(), Error> {
    let keys: Vec<i64> = fixes.iter().map(|(key, _)| *key).collect();
    let sequences: Vec<i64> = fixes.iter().map(|(_, placed)| signed(placed.sequence)).collect();
    let gaps: Vec<i64> = fixes.iter().map(|(_, placed)| signed(placed.gap_before)).collect();
    tx.execute(
        "UPDATE logs.records r SET gap_before = k.gap_before \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS k(boot_key, sequence, gap_before) \
         WHERE r.boot_key = k.boot_key AND r.sequence = k.sequence",
        &[&keys, &sequences, &gaps],
    )
    .await?;
    Ok(())
}

/// Oldest first, by (boot, sequence).
pub(crate) async fn list(tx: &Tx, range: &Range, limit: usize) -> Result<Vec<StoredRecord>, Error> {
    // Counters are never negative: without a cursor, everything is after this.
    let (counter, random, sequence) = match range.after {
        Some((boot, sequence)) => (i64::from(boot.counter), boot.random.cast_signed(), signed(sequence)),
        None => (-1, 0, 0),
    };
    // The boots' own times keep whole boots out of a search by time.
    let sql = format!(
        "SELECT {SHOWN} FROM logs.boots b JOIN logs.records r ON r.boot_key = b.boot_key \
         WHERE b.device_id = $1 AND (b.counter, b.random) >= ($2, $3) \
           AND (b.counter, b.random, r.sequence) > ($2, $3, $4) AND r.level <= $5 \
           AND ($6::timestamptz IS NULL OR (b.last_receive_time >= $6 AND r.receive_time >= $6)) \
           AND ($7::timestamptz IS NULL OR (b.first_receive_time < $7 AND r.receive_time < $7)) \
         ORDER BY b.counter, b.random, r.sequence LIMIT $8"
    );
    let limit = signed(limit as u64);
    let device = range.device.to_string();
    let level = range.level as i16;
    let values: [&(dyn kit::pg::ToSql + Sync); 8] =
        [&device, &counter, &random, &sequence, &level, &range.start, &range.end, &limit];
    Ok(tx.query(&sql, &values).await?.iter().map(shown).collect())
}

/// The last records stored up to these marks, oldest of them first: a tail goes on exactly from there.
pub(crate) async fn last_up_to(
    tx: &Tx,
    device: DeviceId,
    level: Level,
    marks: &HashMap<i64, Mark>,
    limit: usize,
) -> Result<Vec<StoredRecord>, Error> {
    let (keys, versions): (Vec<i64>, Vec<i64>) = marks.iter().map(|(key, mark)| (*key, mark.version)).unzip();
    let sql = format!(
        "SELECT {SHOWN} FROM logs.boots b JOIN logs.records r ON r.boot_key = b.boot_key \
         JOIN unnest($3::bigint[], $4::bigint[]) AS k(boot_key, version) \
           ON k.boot_key = b.boot_key AND r.version <= k.version \
         WHERE b.device_id = $1 AND r.level <= $2 \
         ORDER BY b.counter DESC, b.random DESC, r.sequence DESC LIMIT $5"
    );
    let limit = signed(limit as u64);
    let values: [&(dyn kit::pg::ToSql + Sync); 5] =
        [&device.to_string(), &(level as i16), &keys, &versions, &limit];
    Ok(tx.query(&sql, &values).await?.iter().rev().map(shown).collect())
}

/// Records of one boot stored since `from`, up to `to`: the newest `limit` of them, and how many there are in all.
pub(crate) async fn since(
    tx: &Tx,
    boot_key: i64,
    from: Mark,
    to: Mark,
    level: Level,
    limit: usize,
) -> Result<(Vec<StoredRecord>, usize), Error> {
    // What is stored later is always beyond the prefix: a range of the primary key finds it.
    let sql = format!(
        "SELECT {SHOWN}, count(*) OVER () FROM logs.boots b JOIN logs.records r ON r.boot_key = b.boot_key \
         WHERE b.boot_key = $1 AND r.sequence > $2 AND r.version > $3 AND r.version <= $4 AND r.level <= $5 \
         ORDER BY r.sequence DESC LIMIT $6"
    );
    let limit = signed(limit as u64);
    let values: [&(dyn kit::pg::ToSql + Sync); 6] =
        [&boot_key, &from.stored_up_to, &from.version, &to.version, &(level as i16), &limit];
    let rows = tx.query(&sql, &values).await?;
    let all = rows.first().map_or(0, |row| row.get::<_, i64>(9));
    Ok((rows.iter().rev().map(shown).collect(), usize::try_from(all).unwrap_or(usize::MAX)))
}

fn shown(row: &Row) -> StoredRecord {
    StoredRecord {
        boot: boot(row.get(0), row.get(1)),
        record: Record {
            sequence: unsigned(row.get(2)),
            uptime_us: unsigned(row.get(3)),
            level: Level::from_number(row.get(4)),
            source: Source::from_number(row.get(5)),
            text: row.get(6),
        },
        receive_time: row.get(7),
        gap_before: unsigned(row.get(8)),
    }
}
