//! Postgres, S3 and Redis: rows in, domain types out. The only place with SQL.
//!
//! Every function takes the transaction it runs in; the transaction carries the scope (a tenant, or the service's own
//! work across tenants) that row-level security holds it to.

pub(crate) mod bundles;
pub(crate) mod deployments;
pub(crate) mod devices;
pub(crate) mod directors;
pub(crate) mod hellos;
pub(crate) mod objects;
pub(crate) mod pages;
pub(crate) mod symbols;
pub(crate) mod uploads;

use std::str::FromStr;

pub(crate) use kit::pg::{Row, Scope, Tx};
use wire::Digest;

use crate::error::Error;

/// A column as a type that parses.
fn parsed<T: FromStr>(row: &Row, column: &'static str) -> Result<T, Error> {
    row.try_get::<_, &str>(column)?.parse().map_err(|_| Error::Corrupt(column))
}

fn digest(row: &Row, column: &'static str) -> Result<Digest, Error> {
    Digest::try_from(row.try_get::<_, &[u8]>(column)?).map_err(|_| Error::Corrupt(column))
}

/// A column that is never negative.
fn unsigned<T: TryFrom<i64>>(row: &Row, column: &'static str) -> Result<T, Error> {
    T::try_from(row.try_get::<_, i64>(column)?).map_err(|_| Error::Corrupt(column))
}

/// The schema's history.
pub(crate) fn migrations() -> refinery::Runner {
    embedded::migrations::runner()
}

mod embedded {
    refinery::embed_migrations!("src/store/migrations");
}
