//! Everything that can go wrong in this service, and the one conversion to what a caller is told.

use std::collections::HashMap;

use kit::status;
use tonic::{Code, Status};
use wire::manifest::Version;
use wire::{DeploymentId, Digest};

use crate::model::bundle::{Mismatch, Refusal};
use crate::model::state::State;
use crate::model::symbols::SymbolsError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("no such resource")]
    NotFound,
    #[error("the resource changed since it was read")]
    Changed,
    #[error("the bundle is refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the upload has no layer {0}")]
    NoSuchLayer(Digest),
    #[error("the layer is committed up to {committed}: write on from there")]
    Offset { committed: u64 },
    #[error("more bytes than the layer's {bytes}")]
    OverSize { bytes: u64 },
    #[error("layer {layer} is incomplete: {committed} of {bytes} bytes")]
    Incomplete { layer: Digest, committed: u64, bytes: u64 },
    #[error("{0}; send the layer again from 0")]
    Mismatch(#[from] Mismatch),
    #[error("{0}")]
    Symbols(#[from] SymbolsError),
    #[error("{0}")]
    InUse(&'static str),
    #[error("the device is revoked")]
    DeviceRevoked,
    #[error("the device is in quarantine: two boards use its identity")]
    DeviceQuarantined,
    #[error("the bundle is for board {bundle}, the device is a {device}")]
    OtherBoard { device: String, bundle: String },
    #[error(
        "the bundle needs microvisor {needed} or newer, the device runs {running}: deploy that microvisor first"
    )]
    MicrovisorTooOld { needed: Version, running: Version },
    #[error(
        "the tenant's newest keyset does not name a director key that is ours: publish one that does \
         (holdfast keys rotate --director)"
    )]
    DirectorUnknown,
    #[error("deployment {deployment} was granted go and is being installed")]
    Started { deployment: DeploymentId },
    #[error("deployment {deployment} is over: {state}")]
    Over { deployment: DeploymentId, state: State },
    #[error("limit {what} of {limit} is reached")]
    Limit { what: &'static str, limit: u64 },
    #[error("another change was in the way")]
    Conflict,
    #[error("shutting down")]
    Draining,
    #[error("stored {0} cannot be read")]
    Corrupt(&'static str),
    #[error("a directive cannot be signed")]
    Signing,
    #[error(transparent)]
    Once(#[from] kit::once::OnceError),
    #[error(transparent)]
    Database(#[from] kit::pg::Error),
    #[error("the object store failed")]
    Objects(#[source] s3::error::S3Error),
    #[error("the object store refused: it may be full")]
    ObjectsRefused(#[source] s3::error::S3Error),
    #[error(transparent)]
    Seal(#[from] kit::seal::SealError),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::Database(error.into())
    }
}

impl From<s3::error::S3Error> for Error {
    fn from(error: s3::error::S3Error) -> Self {
        match error {
            s3::error::S3Error::HttpFailWithBody(404, _) => Error::Corrupt("object"),
            // An answer, and not a good one: a full disk, a missing bucket, wrong credentials.
            s3::error::S3Error::HttpFailWithBody(..) => Error::ObjectsRefused(error),
            error => Error::Objects(error),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::NotFound => status::not_found(),
            Error::Changed => status::etag_mismatch(),
            Error::Refused(Refusal::NoKeyset) => status::precondition("KEYSET_MISSING", message),
            Error::Refused(refusal) => refused(refusal, message),
            Error::NoSuchLayer(_) => status::invalid("digest", "is not a layer of the upload's manifest"),
            Error::Offset { committed } => {
                let committed = HashMap::from([("committed".to_owned(), committed.to_string())]);
                status::with_metadata(Code::FailedPrecondition, "OFFSET_MISMATCH", message, committed)
            }
            Error::OverSize { .. } => status::invalid("data", format!("has {message}")),
            Error::Incomplete { layer, committed, .. } => {
                let at = [
                    ("layer".to_owned(), layer.to_string()),
                    ("committed".to_owned(), committed.to_string()),
                ];
                status::with_metadata(
                    Code::FailedPrecondition,
                    "LAYER_INCOMPLETE",
                    message,
                    HashMap::from(at),
                )
            }
            Error::Mismatch(mismatch) => {
                let (Mismatch::Block { layer, .. }
                | Mismatch::Layer { layer, .. }
                | Mismatch::Length { layer, .. }) = mismatch;
                let at = HashMap::from([("layer".to_owned(), layer.to_string())]);
                status::with_metadata(Code::FailedPrecondition, "LAYER_MISMATCH", message, at)
            }
            Error::Symbols(SymbolsError::Size { .. }) => status::invalid("size", message),
            Error::Symbols(SymbolsError::Digest) => status::invalid("digest", message),
            Error::Symbols(_) => status::invalid("data", message),
            Error::InUse(_) => status::precondition("BUNDLE_IN_USE", message),
            Error::DeviceRevoked => status::precondition("DEVICE_REVOKED", message),
            Error::DeviceQuarantined => status::precondition("DEVICE_QUARANTINED", message),
            Error::OtherBoard { .. } => status::precondition("OTHER_BOARD", message),
            Error::MicrovisorTooOld { needed, running } => {
                let versions = [("needed", needed), ("running", running)];
                let versions = versions.map(|(name, version)| (name.to_owned(), version.to_string()));
                let code = Code::FailedPrecondition;
                status::with_metadata(code, "MICROVISOR_TOO_OLD", message, HashMap::from(versions))
            }
            Error::DirectorUnknown => status::precondition("DIRECTOR_KEY_NOT_IN_KEYSET", message),
            Error::Started { .. } => status::precondition("DEPLOYMENT_STARTED", message),
            Error::Over { .. } => status::precondition("DEPLOYMENT_OVER", message),
            Error::Limit { what, .. } => status::exhausted(what, message),
            Error::Conflict | Error::Draining => status::unavailable(format!("{message}; try again")),
            Error::Objects(ref source) => {
                tracing::warn!(error = status::chain(source), "object store failed");
                status::unavailable("the object store is away; try again")
            }
            Error::ObjectsRefused(ref source) => {
                tracing::error!(error = status::chain(source), "object store refuses");
                status::unavailable(
                    "the object store refuses to work (full disk?); nothing is lost, try again",
                )
            }
            Error::Once(error) => error.into(),
            Error::Database(error) => error.into(),
            other @ (Error::Corrupt(_) | Error::Signing | Error::Seal(_)) => status::internal(&other),
        }
    }
}

fn refused(refusal: Refusal, message: String) -> Status {
    let reason = HashMap::from([("refusal".to_owned(), refusal.reason().to_owned())]);
    status::with_metadata(Code::InvalidArgument, "BUNDLE_REFUSED", message, reason)
}
