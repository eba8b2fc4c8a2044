//! Postgres and Redis: rows in, domain types out. The only place with SQL.
//!
//! Every function takes the transaction it runs in, and a transaction carries its scope: one tenant, or the service's
//! own work across tenants (enrolment, hello, brokers' questions, sweeps). Row-level security holds it to that; a
//! query of one tenant's rows names the tenant as well.

pub(crate) mod authority;
pub(crate) mod changes;
pub(crate) mod claims;
pub(crate) mod debugging;
pub(crate) mod devices;
pub(crate) mod enroll;
pub(crate) mod hello;
pub(crate) mod keysets;
pub(crate) mod lives;
pub(crate) mod presence;
mod rows;
pub(crate) mod tenants;
pub(crate) mod upkeep;

use kit::pg::{Pg, Scope};

pub(crate) use kit::pg::Tx;

use crate::error::Error;

mod migrations {
    refinery::embed_migrations!("src/store/migrations");
}

/// The schema's name.
const SCHEMA: &str = "registry";

/// Transactions within a scope.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pg: Pg,
}

impl Store {
    pub(crate) fn new(pg: Pg) -> Self {
        Self { pg }
    }

    /// Brings the schema to the newest migration.
    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        Ok(self.pg.migrate(SCHEMA, migrations::migrations::runner()).await?)
    }

    pub(crate) async fn tx(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        Ok(self.pg.tx(scope).await?)
    }

    /// A transaction of one statement, which it ends with.
    pub(crate) async fn one(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        Ok(self.pg.one(scope).await?)
    }

    /// Across tenants.
    pub(crate) async fn every(&self) -> Result<Tx, Error> {
        self.tx(Scope::Every).await
    }
}
