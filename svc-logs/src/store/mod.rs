//! SQL of schema `logs`: rows in, domain types out. Every function runs within a transaction it is given.

pub(crate) mod boots;
pub(crate) mod crash_memory;
pub(crate) mod crashes;
pub(crate) mod devices;
pub(crate) mod expiry;
pub(crate) mod records;
pub(crate) mod telemetry;

use kit::pg::{Error, Pg, Scope, Tx};

refinery::embed_migrations!("src/store/migrations");

const SCHEMA: &str = "logs";

#[derive(Debug, Clone)]
pub(crate) struct Store {
    pg: Pg,
}

impl Store {
    pub(crate) fn new(pg: Pg) -> Self {
        Self { pg }
    }

    pub(crate) async fn migrate(&self) -> Result<(), Error> {
        self.pg.migrate(SCHEMA, migrations::runner()).await
    }

    pub(crate) async fn tx(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        self.pg.tx(scope).await
    }
}

/// A number the model keeps within the database's range.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number the database keeps from being negative.
pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
