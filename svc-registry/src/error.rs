//! What can go wrong here, and what a caller is told of it. Faults of ours are logged and told as nothing more.

use kit::status;
use tonic::{Code, Status};

use crate::ca;
use crate::model::Invalid;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("no such resource")]
    NotFound,
    #[error("{0}")]
    AlreadyExists(&'static str),
    /// Not what its etag says any more.
    #[error("the resource changed since it was read")]
    Changed,
    /// Of one of several: the place of it.
    #[error("number {at}: {error}")]
    One { at: usize, error: Box<Error> },
    /// Right request, wrong state.
    #[error("{message}")]
    Precondition { reason: &'static str, message: String },
    /// A limit is reached.
    #[error("{message}")]
    Exhausted { reason: &'static str, message: &'static str },
    #[error(transparent)]
    NoPlace(#[from] kit::places::NoPlace),
    #[error("{message}")]
    Unauthenticated { reason: &'static str, message: String },
    #[error("{0}")]
    Forbidden(&'static str),
    /// Done, and not yet everywhere.
    #[error("{0}")]
    Unconfirmed(&'static str),
    #[error(transparent)]
    Once(#[from] kit::once::OnceError),
    #[error("database")]
    Database(#[from] kit::pg::Error),
    #[error("column {column} holds what it never should")]
    Corrupt { column: &'static str },
    #[error("certificates")]
    Ca(#[from] ca::Error),
    #[error("stored key does not open")]
    Seal(#[from] kit::seal::SealError),
    #[error("token cannot be signed")]
    Token(#[source] jsonwebtoken::errors::Error),
    #[error("installation keys are missing")]
    NoKeys,
}

impl Error {
    pub(crate) fn precondition(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Precondition { reason, message: message.into() }
    }

    /// What is in the way is the one at this place.
    pub(crate) fn of(self, at: usize) -> Self {
        Self::One { at, error: Box::new(self) }
    }

    /// For a caller that spoke of one only.
    pub(crate) fn alone(self) -> Self {
        match self {
            Self::One { error, .. } => *error,
            other => other,
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::Invalid(Invalid { field, reason }) => status::invalid(field, reason),
            Error::NotFound => status::not_found(),
            Error::AlreadyExists(message) => status::already_exists(message),
            Error::Changed => status::etag_mismatch(),
            Error::One { error, .. } => (*error).into(),
            Error::Precondition { reason, message } => status::precondition(reason, message),
            Error::Exhausted { reason, message } => status::exhausted(reason, message),
            Error::NoPlace(full) => full.into(),
            Error::Unauthenticated { reason, message } => {
                status::status(Code::Unauthenticated, reason, message)
            }
            Error::Forbidden(message) => status::status(Code::PermissionDenied, "FORBIDDEN", message),
            Error::Unconfirmed(message) => status::unavailable(message),
            Error::Once(error) => error.into(),
            Error::Database(error) => error.into(),
            fault => status::internal(&fault),
        }
    }
}
