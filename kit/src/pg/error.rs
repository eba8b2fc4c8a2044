//! What went wrong in the database, as far as a caller can act on it.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::status;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("POSTGRES_URL is not a connection string")]
    Url,
    /// The database is away, or has no connection left.
    #[error("database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Another transaction was in the way; the same one may succeed when repeated.
    #[error("transaction conflicts with another")]
    Conflict(#[source] tokio_postgres::Error),
    #[error("statement took too long")]
    Timeout(#[source] tokio_postgres::Error),
    /// A constraint said no.
    #[error("constraint {constraint} is violated")]
    Constraint { constraint: String, source: tokio_postgres::Error },
    #[error("statement failed")]
    Statement(#[source] tokio_postgres::Error),
    /// A fault of ours: a transaction of one statement ([`super::Pg::one`]) was given another.
    #[error("a transaction of one statement was given another")]
    Ended,
    #[error("migration failed")]
    Migration(#[source] Box<refinery::Error>),
}

impl Error {
    /// The violated constraint, if that is what went wrong.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Error::Constraint { constraint, .. } => Some(constraint),
            _ => None,
        }
    }

    /// Whether the same transaction may succeed when repeated.
    pub fn is_transient(&self) -> bool {
        matches!(self, Error::Unavailable(_) | Error::Conflict(_) | Error::Timeout(_))
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(database) = error.as_db_error() else {
            // Closed connections and IO have no SQL state; a value of the wrong type has none either.
            return if error.is_closed() || has_io_source(&error) {
                Error::Unavailable(Box::new(error))
            } else {
                Error::Statement(error)
            };
        };
        let state = database.code();
        if *state == SqlState::T_R_SERIALIZATION_FAILURE || *state == SqlState::T_R_DEADLOCK_DETECTED {
            Error::Conflict(error)
        } else if *state == SqlState::QUERY_CANCELED || *state == SqlState::LOCK_NOT_AVAILABLE {
            Error::Timeout(error)
        } else if is_away(state) {
            Error::Unavailable(Box::new(error))
        } else if let (Some(constraint), "23") = (database.constraint(), &state.code()[..2]) {
            Error::Constraint { constraint: constraint.to_owned(), source: error }
        } else {
            Error::Statement(error)
        }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => match Error::from(error) {
                // Whatever kept a connection from opening, there is none.
                Error::Statement(error) => Error::Unavailable(Box::new(error)),
                other => other,
            },
            other => Error::Unavailable(Box::new(other)),
        }
    }
}

impl From<Error> for tonic::Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Unavailable(_) | Error::Timeout(_) => {
                tracing::warn!(error = status::chain(&error), "request failed: database");
                status::unavailable("the database is away; try again")
            }
            Error::Conflict(_) => status::unavailable("another change was in the way; try again"),
            other => status::internal(&other),
        }
    }
}

/// Classes 08 (connection), 53 (resources), 57P (shutting down or not yet up), and a full disk's 58030.
fn is_away(state: &SqlState) -> bool {
    let code = state.code();
    code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") || code == "58030"
}

fn has_io_source(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
        || error.to_string().starts_with("timeout")
}
