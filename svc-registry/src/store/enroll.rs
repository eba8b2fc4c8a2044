//! Identities as enrolment and brokers compare them; making devices, giving them keys and certificates; boards that
//! wait for an operator.

use std::time::SystemTime;

use kit::pg::Row;
use wire::{ClaimId, DeviceId, PendingId, TenantId};

use super::Tx;
use super::rows::{digest, digest_option, get, id, id_option};
use crate::ca::Issued;
use crate::error::Error;
use crate::model::Pending;
use crate::model::enroll::Known;

const IDENTITY: &str = "device_id, tenant_id, hardware_id, key_digest, public_key, revoked_at, quarantined_at, leaf, \
                        leaf_issued_at, leaf_expires_at, leaf_issuer, leaf_before, birth, birth_digest";

/// A device's identity and the certificates it has.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub known: Known,
    pub tenant: TenantId,
    /// SubjectPublicKeyInfo DER.
    pub public_key: Vec<u8>,
    pub leaf: Option<Leaf>,
    /// SHA-256 of the certificate before it, until the device has shown the new one.
    pub leaf_before: Option<[u8; 32]>,
    pub birth: Option<Vec<u8>>,
    pub birth_digest: Option<[u8; 32]>,
}

#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub der: Vec<u8>,
    pub issued_at: SystemTime,
    pub expires_at: SystemTime,
    /// Key digest of the intermediate.
    pub issuer: Option<[u8; 32]>,
}

/// A device to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewDevice<'a> {
    pub id: DeviceId,
    pub tenant: TenantId,
    pub hardware_id: &'a str,
    pub board: &'a str,
    pub key_digest: [u8; 32],
    pub public_key: &'a [u8],
    pub claim: Option<ClaimId>,
    pub now: SystemTime,
}

/// A board that asks and must wait, with what is needed to accept it.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub pending: Pending,
    pub public_key: Vec<u8>,
    pub claim: ClaimId,
}

/// Whichever tenant's: for certificates, which name no tenant.
pub(crate) async fn by_id(tx: &Tx, device: DeviceId) -> Result<Option<Identity>, Error> {
    let sql = format!("SELECT {IDENTITY} FROM registry.devices WHERE device_id = $1");
    tx.query_opt(&sql, &[&device.to_string()]).await?.map(|row| read(&row)).transpose()
}

/// Who holds a hardware id.
pub(crate) async fn holder(tx: &Tx, tenant: TenantId, hardware_id: &str) -> Result<Option<Identity>, Error> {
    let sql = format!(
        "SELECT {IDENTITY} FROM registry.devices WHERE tenant_id = $1 AND hardware_id = $2 AND current"
    );
    tx.query_opt(&sql, &[&tenant.to_string(), &hardware_id]).await?.map(|row| read(&row)).transpose()
}

/// Who has a key.
pub(crate) async fn owner(
    tx: &Tx,
    tenant: TenantId,
    key_digest: &[u8; 32],
) -> Result<Option<Identity>, Error> {
    let sql = format!("SELECT {IDENTITY} FROM registry.devices WHERE tenant_id = $1 AND key_digest = $2");
    let row = tx.query_opt(&sql, &[&tenant.to_string(), &key_digest.as_slice()]).await?;
    row.map(|row| read(&row)).transpose()
}

/// False: another transaction made a device with this hardware id or key first; this one must be rolled back.
pub(crate) async fn insert(tx: &Tx, device: &NewDevice<'_>) -> Result<bool, Error> {
    let sql = "INSERT INTO registry.devices
               (device_id, tenant_id, hardware_id, board, key_digest, public_key, claim_id, created_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING";
    let claim = device.claim.map(|claim| claim.to_string());
    let inserted = tx
        .execute(
            sql,
            &[
                &device.id.to_string(),
                &device.tenant.to_string(),
                &device.hardware_id,
                &device.board,
                &device.key_digest.as_slice(),
                &device.public_key,
                &claim,
                &device.now,
            ],
        )
        .await?;
    Ok(inserted == 1)
}

/// Gives a device another key; its reports begin anew. False: its key changed meanwhile, or it was revoked, or the new
/// key is another device's.
pub(crate) async fn rekey(
    tx: &Tx,
    device: DeviceId,
    old: &[u8; 32],
    new: &[u8; 32],
    public_key: &[u8],
) -> Result<bool, Error> {
    let sql =
        "UPDATE registry.devices SET key_digest = $3, public_key = $4, leaf = NULL, leaf_issued_at = NULL,
               leaf_expires_at = NULL, leaf_issuer = NULL, leaf_before = NULL, leaf_before_issuer = NULL, birth = NULL, birth_digest = NULL, revision = revision + 1
               WHERE device_id = $1 AND key_digest = $2 AND revoked_at IS NULL";
    let id = device.to_string();
    match tx.execute(sql, &[&id, &old.as_slice(), &new.as_slice(), &public_key]).await {
        Ok(0) => Ok(false),
        Ok(_) => {
            tx.execute("DELETE FROM registry.reports WHERE device_id = $1", &[&id]).await?;
            super::lives::forget(tx, device).await?;
            Ok(true)
        }
        Err(error) if error.constraint().is_some() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Keeps what was issued, for the board that did not get the answer; the certificate before it is good until the new one is
/// shown. False: revoked, in quarantine or given another key meanwhile.
pub(crate) async fn set_certificates(
    tx: &Tx,
    device: DeviceId,
    key_digest: &[u8; 32],
    (leaf, issuer): (&Issued, &[u8; 32]),
    birth: Option<&Issued>,
) -> Result<bool, Error> {
    let sql =
        "UPDATE registry.devices SET leaf = $3, leaf_issued_at = $4, leaf_expires_at = $5, leaf_issuer = $8,
               leaf_before = coalesce(leaf_before, sha256(leaf)),
               leaf_before_issuer = coalesce(leaf_before_issuer, leaf_issuer),
               birth = coalesce($6, birth), birth_digest = coalesce($7, birth_digest), revision = revision + 1
               WHERE device_id = $1 AND key_digest = $2 AND revoked_at IS NULL AND quarantined_at IS NULL";
    let birth_der = birth.map(|birth| birth.der.as_slice());
    let birth_digest = birth.map(|birth| birth.digest.as_slice());
    let (id, key) = (device.to_string(), key_digest.as_slice());
    let set = tx
        .execute(
            sql,
            &[
                &id,
                &key,
                &leaf.der,
                &leaf.issued_at,
                &leaf.expires_at,
                &birth_der,
                &birth_digest,
                &issuer.as_slice(),
            ],
        )
        .await?;
    Ok(set == 1)
}

/// The device has shown its newest certificate: the one before it ends.
pub(crate) async fn end_leaf_before(tx: &Tx, device: DeviceId, newest: &[u8; 32]) -> Result<(), Error> {
    let sql = "UPDATE registry.devices SET leaf_before = NULL, leaf_before_issuer = NULL
               WHERE device_id = $1 AND sha256(leaf) = $2";
    tx.execute(sql, &[&device.to_string(), &newest.as_slice()]).await?;
    Ok(())
}

/// The hardware id is free for another identity; the old one stays, to be shown and deleted.
pub(crate) async fn release_hardware_id(tx: &Tx, device: DeviceId) -> Result<(), Error> {
    let sql = "UPDATE registry.devices SET current = false, revision = revision + 1 WHERE device_id = $1";
    tx.execute(sql, &[&device.to_string()]).await?;
    Ok(())
}

/// Notes that a board asks (again). False: too many boards of the tenant wait. The caller holds the tenant's lock.
pub(crate) async fn note_pending(tx: &Tx, waiting: &Waiting, max: i64) -> Result<bool, Error> {
    let pending = &waiting.pending;
    let (tenant, key) = (pending.tenant.to_string(), pending.key_digest.as_slice());
    let sql = "UPDATE registry.pending_enrollments SET asked_at = $4, board = $5, claim_id = $6
               WHERE tenant_id = $1 AND hardware_id = $2 AND key_digest = $3";
    let (at, board, claim) = (pending.created_at, &pending.board, waiting.claim.to_string());
    if tx.execute(sql, &[&tenant, &pending.hardware_id, &key, &at, board, &claim]).await? == 1 {
        return Ok(true);
    }
    let sql = "SELECT count(*) FROM registry.pending_enrollments WHERE tenant_id = $1";
    let count: i64 = tx.query_one(sql, &[&tenant]).await?.get(0);
    if count >= max {
        return Ok(false);
    }
    let sql = "INSERT INTO registry.pending_enrollments
               (pending_id, tenant_id, hardware_id, board, key_digest, public_key, claim_id, created_at, asked_at)
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
    let id = pending.id.to_string();
    tx.execute(sql, &[&id, &tenant, &pending.hardware_id, board, &key, &waiting.public_key, &claim, &at])
        .await?;
    Ok(true)
}

/// The row, locked.
pub(crate) async fn waiting(tx: &Tx, tenant: TenantId, pending: PendingId) -> Result<Option<Waiting>, Error> {
    let sql = "SELECT p.*, d.device_id FROM registry.pending_enrollments p
               LEFT JOIN registry.devices d ON d.tenant_id = p.tenant_id AND d.hardware_id = p.hardware_id AND d.current
               WHERE p.tenant_id = $1 AND p.pending_id = $2 FOR UPDATE OF p";
    let row = tx.query_opt(sql, &[&tenant.to_string(), &pending.to_string()]).await?;
    row.map(|row| read_waiting(&row)).transpose()
}

pub(crate) async fn list_pending(
    tx: &Tx,
    tenant: TenantId,
    after: &str,
    limit: i64,
) -> Result<Vec<Pending>, Error> {
    let sql = "SELECT p.*, d.device_id FROM registry.pending_enrollments p
               LEFT JOIN registry.devices d ON d.tenant_id = p.tenant_id AND d.hardware_id = p.hardware_id AND d.current
               WHERE p.tenant_id = $1 AND p.pending_id > $2 ORDER BY p.pending_id LIMIT $3";
    let rows = tx.query(sql, &[&tenant.to_string(), &after, &limit]).await?;
    rows.iter().map(|row| read_waiting(row).map(|waiting| waiting.pending)).collect()
}

pub(crate) async fn delete_pending(tx: &Tx, tenant: TenantId, pending: PendingId) -> Result<(), Error> {
    let sql = "DELETE FROM registry.pending_enrollments WHERE tenant_id = $1 AND pending_id = $2";
    tx.execute(sql, &[&tenant.to_string(), &pending.to_string()]).await?;
    Ok(())
}

fn read(row: &Row) -> Result<Identity, Error> {
    let revoked_at: Option<SystemTime> = get(row, "revoked_at")?;
    let quarantined_at: Option<SystemTime> = get(row, "quarantined_at")?;
    let known = Known {
        id: id(row, "device_id")?,
        hardware_id: get(row, "hardware_id")?,
        key: digest(row, "key_digest")?,
        revoked: revoked_at.is_some(),
        quarantined: quarantined_at.is_some(),
    };
    let leaf = match (get(row, "leaf")?, get(row, "leaf_issued_at")?, get(row, "leaf_expires_at")?) {
        (Some(der), Some(issued_at), Some(expires_at)) => {
            Some(Leaf { der, issued_at, expires_at, issuer: digest_option(row, "leaf_issuer")? })
        }
        _ => None,
    };
    Ok(Identity {
        known,
        tenant: id(row, "tenant_id")?,
        public_key: get(row, "public_key")?,
        leaf,
        leaf_before: digest_option(row, "leaf_before")?,
        birth: get(row, "birth")?,
        birth_digest: digest_option(row, "birth_digest")?,
    })
}

fn read_waiting(row: &Row) -> Result<Waiting, Error> {
    let pending = Pending {
        id: id(row, "pending_id")?,
        tenant: id(row, "tenant_id")?,
        hardware_id: get(row, "hardware_id")?,
        board: get(row, "board")?,
        key_digest: digest(row, "key_digest")?,
        created_at: get(row, "created_at")?,
        holder: id_option(row, "device_id")?,
    };
    Ok(Waiting { pending, public_key: get(row, "public_key")?, claim: id(row, "claim_id")? })
}
