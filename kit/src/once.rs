//! Calls that may be repeated (AIP-155): the caller's name for one call, kept with what came of it in the transaction that did it.
//!
//! Holds: however often a call with one request id comes, at once or later, at whichever replica, it is done once; the same id
//! with another request is refused. An id is the tenant's; it is kept for [`KEPT`], and after that it is a new one.
//!
//! Each schema has the table `requests` (tenant_id, request_id, digest, outcome, created_at), with row-level security.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use tonic::{Code, Status};
use uuid::Uuid;
use wire::TenantId;

use crate::pg::{self, Tx};
use crate::status;

/// How long a call's outcome is known.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Rows forgotten in one round.
pub const FORGOTTEN_MAX: i64 = 1000;

/// One call, by the caller's name for it, and what it asks for.
#[derive(Clone, Debug)]
pub struct Once {
    id: Uuid,
    digest: Vec<u8>,
}

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is to be done, and [`finish`]ed in the same transaction.
    New,
    /// It was done; this is what [`finish`] was told.
    Done(String),
}

#[derive(Debug, thiserror::Error)]
pub enum OnceError {
    #[error("this request_id was used for another request")]
    Other,
    #[error(transparent)]
    Database(#[from] pg::Error),
}

impl From<OnceError> for Status {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::Other => status::status(Code::AlreadyExists, "REQUEST_ID_REUSED", error.to_string()),
            OnceError::Database(error) => error.into(),
        }
    }
}

impl Once {
    /// `request_id` as it came, empty for a caller that names no call; `method` and `request`, encoded without the id, are
    /// what must be the same when it comes again.
    pub fn read(request_id: &str, method: &str, request: &[u8]) -> Result<Option<Once>, Status> {
        if request_id.is_empty() {
            return Ok(None);
        }
        let id = Uuid::try_parse(request_id).ok().filter(|id| !id.is_nil());
        let id = id.ok_or_else(|| status::invalid("request_id", "must be a UUID, and not the nil one"))?;
        let whole = [method.as_bytes(), b"\0", request].concat();
        Ok(Some(Once { id, digest: digest(&SHA256, &whole).as_ref().to_vec() }))
    }
}

/// Whether the call was done before. One that is being done elsewhere is waited for: the unique index does.
pub async fn begin(
    tx: &Tx,
    tenant: TenantId,
    once: Option<&Once>,
    now: SystemTime,
) -> Result<Known, OnceError> {
    let Some(once) = once else { return Ok(Known::New) };
    let (tenant, id) = (tenant.to_string(), once.id.to_string());
    let insert = "INSERT INTO requests (tenant_id, request_id, digest, outcome, created_at) VALUES ($1, $2, $3, '', $4) \
                  ON CONFLICT (tenant_id, request_id) DO NOTHING";
    if tx.execute(insert, &[&tenant, &id, &once.digest, &now]).await? == 1 {
        return Ok(Known::New);
    }
    let select = "SELECT digest, outcome FROM requests WHERE tenant_id = $1 AND request_id = $2";
    match tx.query_opt(select, &[&tenant, &id]).await? {
        Some(row) if row.get::<_, &[u8]>(0) == once.digest => Ok(Known::Done(row.get(1))),
        // Another request; or it was forgotten between the two statements, which a client that waits a day may hear once.
        _ => Err(OnceError::Other),
    }
}

/// Keeps what came of it; `outcome` is what the answer can be found by.
pub async fn finish(tx: &Tx, tenant: TenantId, once: Option<&Once>, outcome: &str) -> Result<(), OnceError> {
    let Some(once) = once else { return Ok(()) };
    let update = "UPDATE requests SET outcome = $3 WHERE tenant_id = $1 AND request_id = $2";
    tx.execute(update, &[&tenant.to_string(), &once.id.to_string(), &outcome]).await?;
    Ok(())
}

/// Forgets calls that had their time; in a transaction across tenants.
pub async fn forget(tx: &Tx, now: SystemTime) -> Result<u64, pg::Error> {
    let delete = "DELETE FROM requests WHERE ctid = ANY (ARRAY (SELECT ctid FROM requests WHERE created_at < $1 LIMIT $2))";
    let before = now.checked_sub(KEPT).unwrap_or(SystemTime::UNIX_EPOCH);
    tx.execute(delete, &[&before, &FORGOTTEN_MAX]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_is_a_uuid_or_absent() {
        let read = |id: &str| Once::read(id, "/m", b"r").map(|once| once.is_some());
        assert!(!read("").unwrap());
        assert!(read("6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11").unwrap());
        for bad in ["x", "00000000-0000-0000-0000-000000000000", "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d1", "\0"]
        {
            assert_eq!(read(bad).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn another_method_or_request_is_another_call() {
        let id = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11";
        let digest = |method, request| Once::read(id, method, request).unwrap().unwrap().digest;
        assert_eq!(digest("/m", b"r"), digest("/m", b"r"));
        assert_ne!(digest("/m", b"r"), digest("/n", b"r"));
        assert_ne!(digest("/m", b"r"), digest("/m", b"s"));
    }
}
