//! Postgres: a pool, and transactions that carry whose rows they may see.
//!
//! Nothing is left on a connection between transactions: the statement timeout and the scope are `SET LOCAL`, so a
//! pooler in transaction mode may sit between. Statements are prepared once a connection; the pooler must track
//! prepared statements (PgBouncer 1.21 and later do, with `max_prepared_statements`).
//!
//! Row-level security reads `app.tenant`: a tenant's id, or `*` for work that spans tenants ([`Scope::Every`]). A
//! policy is `USING ((SELECT current_setting('app.tenant', true)) IN (tenant_id, '*'))`, read once a statement; without a
//! scope it shows nothing.

mod error;
mod listen;
mod migrate;
mod tx;

use std::time::{Duration, SystemTime};

use deadpool_postgres::{Manager, ManagerConfig, Pool, QueueMode, RecyclingMethod, Runtime, Timeouts};
use tokio_postgres_rustls::MakeRustlsConnect;
use wire::TenantId;

pub use error::Error;
pub use listen::{HINTS_MAX, Hint};
pub use tokio_postgres::Row;
pub use tokio_postgres::types::{ToSql, Type};
pub use tx::Tx;

use crate::tls::Tls;

/// Connections of one process.
pub const CONNECTIONS_MAX: usize = 16;
/// How long to wait for a connection from the pool, or for a new one to open.
pub const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long one statement may run; the server ends it then.
pub const STATEMENT_MAX: Duration = Duration::from_secs(10);

/// Whose rows a transaction may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Tenant(TenantId),
    /// All: ingest, sweeps.
    Every,
}

impl From<TenantId> for Scope {
    fn from(tenant: TenantId) -> Self {
        Self::Tenant(tenant)
    }
}

/// A pool of connections.
#[derive(Clone)]
pub struct Pg {
    pool: Pool,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
}

impl std::fmt::Debug for Pg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The configuration holds a password.
        f.debug_struct("Pg").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Pg {
    /// Opens connections when first used: an absent server is no error here. `sslmode` in the URL decides on TLS;
    /// servers are verified by SERVER_CA.
    pub fn new(url: &str, tls: &Tls) -> Result<Self, Error> {
        let mut config: tokio_postgres::Config = url.parse().map_err(|_| Error::Url)?;
        config.connect_timeout(CONNECT_MAX);
        let tls = MakeRustlsConnect::new(tls.anonymous_client_config().map_err(|_| Error::Url)?);
        let manager = Manager::from_config(
            config.clone(),
            tls.clone(),
            ManagerConfig { recycling_method: RecyclingMethod::Fast },
        );
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS_MAX)
            // The one used last has its statements planned and its caches warm.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts {
                wait: Some(CONNECT_MAX),
                create: Some(CONNECT_MAX),
                recycle: Some(CONNECT_MAX),
            })
            .build()
            .expect("a runtime is given");
        Ok(Self { pool, config, tls })
    }

    /// A transaction within a scope; it begins with its first statement.
    pub async fn tx(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        Ok(Tx::new(self.pool.get().await?, scope.into(), false))
    }

    /// A transaction of one statement, which it ends with: one answer of the server is waited for. A second statement is refused ([`Error::Ended`]).
    pub async fn one(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        Ok(Tx::new(self.pool.get().await?, scope.into(), true))
    }
}

/// Microseconds are what Postgres keeps: a time compares equal after a round trip.
pub fn micros(now: SystemTime) -> SystemTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
