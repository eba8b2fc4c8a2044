//! SQL of schema `debug`: rows in, domain types out. Every function runs within a transaction it is given.

pub(crate) mod attachments;
pub(crate) mod devices;
pub(crate) mod events;
pub(crate) mod expiry;
pub(crate) mod leases;
pub(crate) mod sessions;

use kit::Shutdown;
use kit::pg::{Error, Hint, Pg, Scope, Tx};
use tokio::sync::mpsc;

use crate::model::{Role, Traffic};

refinery::embed_migrations!("src/store/migrations");

const SCHEMA: &str = "debug";

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

    /// Hints that a session ended or was taken, and the future that listens for them.
    pub(crate) fn hints(
        &self,
        shutdown: Shutdown,
    ) -> (mpsc::Receiver<Hint>, impl Future<Output = ()> + Send + 'static) {
        self.pg.listen("debug_session", shutdown)
    }

    pub(crate) async fn tx(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        self.pg.tx(scope).await
    }

    /// A transaction of one statement, which it ends with.
    pub(crate) async fn one(&self, scope: impl Into<Scope>) -> Result<Tx, Error> {
        self.pg.one(scope).await
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

/// A session's role; one that this process does not know is none that writes.
pub(crate) fn role(name: &str) -> Role {
    Role::from_name(name).unwrap_or(Role::Watcher)
}

/// The four numbers of a traffic, in the order of the tables' columns.
pub(crate) fn traffic(row: &kit::pg::Row, first: usize) -> Traffic {
    Traffic {
        frames_up: unsigned(row.get(first)),
        bytes_up: unsigned(row.get(first + 1)),
        frames_down: unsigned(row.get(first + 2)),
        bytes_down: unsigned(row.get(first + 3)),
    }
}

/// The same of many, as columns.
pub(crate) fn columns(traffic: impl Iterator<Item = Traffic>) -> [Vec<i64>; 4] {
    let mut columns = [const { Vec::new() }; 4];
    for traffic in traffic {
        let numbers = [traffic.frames_up, traffic.bytes_up, traffic.frames_down, traffic.bytes_down];
        for (column, number) in columns.iter_mut().zip(numbers) {
            column.push(signed(number));
        }
    }
    columns
}
