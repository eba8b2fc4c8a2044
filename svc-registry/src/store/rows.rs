//! Columns into domain types. What cannot be read is a fault of ours, named by its column, never a panic.

use std::str::FromStr;

use kit::pg::Row;
use tokio_postgres::types::FromSql;

use crate::error::Error;

/// A column of any type Postgres can give.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: &'static str) -> Result<T, Error> {
    row.try_get(column).map_err(|_| Error::Corrupt { column })
}

/// A text column that is an id.
pub(super) fn id<T: FromStr>(row: &Row, column: &'static str) -> Result<T, Error> {
    get::<&str>(row, column)?.parse().map_err(|_| Error::Corrupt { column })
}

/// A text column that is an id, or null.
pub(super) fn id_option<T: FromStr>(row: &Row, column: &'static str) -> Result<Option<T>, Error> {
    let text = get::<Option<&str>>(row, column)?;
    text.map(str::parse).transpose().map_err(|_| Error::Corrupt { column })
}

/// A bytea column of 32 bytes.
pub(super) fn digest(row: &Row, column: &'static str) -> Result<[u8; 32], Error> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| Error::Corrupt { column })
}

/// A bytea column of 32 bytes, or null.
pub(super) fn digest_option(row: &Row, column: &'static str) -> Result<Option<[u8; 32]>, Error> {
    let bytes = get::<Option<&[u8]>>(row, column)?;
    bytes.map(TryInto::try_into).transpose().map_err(|_| Error::Corrupt { column })
}

/// A jsonb column.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, Error> {
    serde_json::from_value(get(row, column)?).map_err(|_| Error::Corrupt { column })
}
