//! What can go wrong in a use case, and what a caller is told of it.

use kit::places::NoPlace;
use kit::{pg, status};
use tonic::Status;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such device or report, or not the caller's.
    #[error("does not exist")]
    NotFound,
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error("database")]
    Database(#[from] pg::Error),
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound => status::not_found(),
            Error::NoPlace(full) => full.into(),
            Error::Database(error) => error.into(),
        }
    }
}

impl Error {
    /// Whether the same work may succeed when repeated as it is.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Error::Database(error) if error.is_transient())
    }
}
