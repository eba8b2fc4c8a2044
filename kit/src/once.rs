//! Calls that may be repeated (AIP-155), and calls that only ask (AIP-163): what a request says of itself beside what it asks for.
//!
//! Holds: however often a call with one request id comes, at once or later, at whichever replica, it is done once; the same id
//! with another request is refused. What came of it is kept in the transaction that did it. An id is the tenant's; it is kept
//! for [`KEPT`], and after that it is a new one. A call that only asks leaves nothing behind: its transaction does all of it and is
//! rolled back.
//!
//! A use case begins with [`Call::begin`], and ends its transaction by [`Call::end`] instead of a commit. Each schema has the table
//! `requests` (tenant_id, request_id, digest, outcome, created_at), with row-level security.

use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use proto::Mutation;
use tonic::{Code, Status};
use uuid::Uuid;
use wire::TenantId;

use crate::pg::{self, Tx};
use crate::status;

/// How long a call's outcome is known.
pub const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Rows forgotten in one round.
pub const FORGOTTEN_MAX: i64 = 1000;

/// One call: whose, under which name, and whether it is meant.
#[derive(Clone, Debug)]
pub struct Call {
    tenant: TenantId,
    /// None: the caller gave it no name.
    named: Option<Named>,
    validate_only: bool,
}

#[derive(Clone, Debug)]
struct Named {
    id: Uuid,
    /// Of the method and all it asks for.
    digest: Vec<u8>,
}

/// What is known of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// Nothing: it is to be done.
    New,
    /// It was done; this is what [`Call::end`] was told.
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

impl Call {
    /// Takes out of a request what it says of itself; what stays is what it asks for. `tenant` is the caller's.
    pub fn take<M: Mutation>(request: &mut M, tenant: TenantId) -> Result<Call, Status> {
        let (id, validate_only) = (request.take_request_id(), request.take_validate_only());
        if id.is_empty() {
            return Ok(Call { tenant, named: None, validate_only });
        }
        let id = Uuid::try_parse(&id).ok().filter(|id| !id.is_nil());
        let id = id.ok_or_else(|| status::invalid("request_id", "must be a UUID, and not the nil one"))?;
        let whole = [M::METHOD.as_bytes(), b"\0", &request.encode_to_vec()].concat();
        let named = Named { id, digest: digest(&SHA256, &whole).as_ref().to_vec() };
        Ok(Call { tenant, named: Some(named), validate_only })
    }

    /// The caller's.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Nothing will come of it.
    pub fn validates_only(&self) -> bool {
        self.validate_only
    }

    /// Whether the call was done before. One that is being done elsewhere is waited for: the unique index does.
    pub async fn begin(&self, tx: &Tx, now: SystemTime) -> Result<Known, OnceError> {
        let Some(Named { id, digest }) = &self.named else { return Ok(Known::New) };
        let (tenant, id) = (self.tenant.to_string(), id.to_string());
        let insert = "INSERT INTO requests (tenant_id, request_id, digest, outcome, created_at) VALUES ($1, $2, $3, '', $4) \
                      ON CONFLICT (tenant_id, request_id) DO NOTHING";
        if tx.execute(insert, &[&tenant, &id, digest, &now]).await? == 1 {
            return Ok(Known::New);
        }
        let select = "SELECT digest, outcome FROM requests WHERE tenant_id = $1 AND request_id = $2";
        match tx.query_opt(select, &[&tenant, &id]).await? {
            Some(row) if row.get::<_, &[u8]>(0) == digest.as_slice() => Ok(Known::Done(row.get(1))),
            // Another request; or it was forgotten between the two statements, which a client that waits a day may hear once.
            _ => Err(OnceError::Other),
        }
    }

    /// Ends the transaction: keeps what the answer can be found by, and commits. False: the call only asked, and nothing was done.
    pub async fn end(&self, tx: Tx, outcome: &str) -> Result<bool, OnceError> {
        if self.validate_only {
            tx.rollback().await?;
            return Ok(false);
        }
        if let Some(Named { id, .. }) = self.named.as_ref().filter(|_| !outcome.is_empty()) {
            let update = "UPDATE requests SET outcome = $3 WHERE tenant_id = $1 AND request_id = $2";
            tx.execute(update, &[&self.tenant.to_string(), &id.to_string(), &outcome]).await?;
        }
        tx.commit().await?;
        Ok(true)
    }
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
    use proto::registry::v1::{DeleteDeviceRequest, Device, RevokeDeviceRequest, UpdateDeviceRequest};

    const ID: &str = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11";

    fn take<M: Mutation>(mut request: M) -> Result<Call, Status> {
        Call::take(&mut request, TenantId::new([1; 16]))
    }

    fn digest_of<M: Mutation>(request: M) -> Vec<u8> {
        take(request).unwrap().named.unwrap().digest
    }

    fn delete(request_id: &str, name: &str) -> DeleteDeviceRequest {
        DeleteDeviceRequest { request_id: request_id.into(), name: name.into(), ..Default::default() }
    }

    #[test]
    fn a_request_id_is_a_uuid_or_absent() {
        assert!(take(delete("", "n")).unwrap().named.is_none());
        assert!(take(delete(ID, "n")).unwrap().named.is_some());
        for bad in ["x", "00000000-0000-0000-0000-000000000000", &ID[1..], "\0"] {
            assert_eq!(take(delete(bad, "n")).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }

    #[test]
    fn another_method_or_request_is_another_call() {
        assert_eq!(digest_of(delete(ID, "n")), digest_of(delete(ID, "n")));
        assert_ne!(digest_of(delete(ID, "n")), digest_of(delete(ID, "m")));
        let revoke = RevokeDeviceRequest { request_id: ID.into(), name: "n".into(), ..Default::default() };
        assert_ne!(digest_of(delete(ID, "n")), digest_of(revoke));
    }

    #[test]
    fn to_ask_first_is_the_same_call() {
        let asks = DeleteDeviceRequest { validate_only: true, ..delete(ID, "n") };
        assert!(take(asks.clone()).unwrap().validates_only());
        assert_eq!(digest_of(asks), digest_of(delete(ID, "n")));
    }

    #[test]
    fn a_map_says_the_same_in_whatever_order_it_was_filled() {
        let request = |order: &mut dyn Iterator<Item = u32>| {
            let labels = order.map(|n| (format!("k{n}"), n.to_string())).collect();
            let device = Some(Device { labels, ..Default::default() });
            digest_of(UpdateDeviceRequest { device, request_id: ID.into(), ..Default::default() })
        };
        assert_eq!(request(&mut (0..64)), request(&mut (0..64).rev()));
    }
}
