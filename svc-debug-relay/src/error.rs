//! What can go wrong in a use case, and what a caller is told of it.

use kit::once::OnceError;
use kit::places::NoPlace;
use kit::{pg, status};
use tonic::{Code, Status};

use crate::model::session::Refusal;
use crate::model::timeouts::TimeoutError;
use crate::model::{Ban, EndReason};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No such session or device, or not the caller's.
    #[error("does not exist")]
    NotFound,
    #[error(transparent)]
    Timeout(#[from] TimeoutError),
    #[error("the device is revoked")]
    DeviceRevoked,
    /// Its fleet's owner does.
    #[error("debugging this device is forbidden: {}", forbidden(by))]
    DebuggingForbidden { by: Ban },
    #[error("the device has an open debug session of a writer: close it, attach to it, or watch")]
    DeviceHasSession,
    #[error("the device has {max} open debug sessions of watchers: close one")]
    DeviceHasWatchers { max: u64 },
    /// A session has one person at its near end, for good.
    #[error("somebody else made this debug session: make one of your own")]
    SessionOfAnother,
    #[error("your tenant has {max} open debug sessions: close some")]
    TooManySessions { max: u64 },
    #[error("this relay holds {max} debug sessions")]
    RelayFull { max: usize },
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("this relay is stopping: attach again")]
    Draining,
    #[error(transparent)]
    Once(#[from] OnceError),
    #[error("database")]
    Database(#[from] pg::Error),
}

impl Error {
    /// The reason a caller is given, and an audit of denials keeps.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Error::NotFound => "NOT_FOUND",
            Error::Timeout(_) => "INVALID_FIELD",
            Error::DeviceRevoked => "DEVICE_REVOKED",
            Error::DebuggingForbidden { .. } => "DEBUGGING_FORBIDDEN",
            Error::DeviceHasSession => "DEVICE_HAS_SESSION",
            Error::DeviceHasWatchers { .. } => "DEVICE_HAS_WATCHERS",
            Error::SessionOfAnother => "SESSION_OF_ANOTHER",
            Error::TooManySessions { .. } => "DEBUG_SESSIONS_OF_TENANT_MAX",
            Error::RelayFull { .. } => "DEBUG_SESSIONS_OF_RELAY_MAX",
            Error::NoPlace(NoPlace::Server { .. }) => "ATTACHMENTS_MAX",
            Error::NoPlace(NoPlace::Tenant { .. }) => "ATTACHMENTS_OF_TENANT_MAX",
            Error::Refused(refusal) => refused(*refusal).0,
            Error::Once(OnceError::Other) => "REQUEST_ID_REUSED",
            Error::Draining | Error::Database(_) | Error::Once(OnceError::Database(_)) => "UNAVAILABLE",
        }
    }
}

fn forbidden(by: &Ban) -> String {
    match by {
        Ban::Tenant => "for the whole tenant".to_owned(),
        Ban::Label { .. } => format!("for every device with the {by}"),
        Ban::Device => "for this one by itself".to_owned(),
    }
}

fn refused(refusal: Refusal) -> (&'static str, Code) {
    match refusal {
        Refusal::Leaving => ("ATTACHMENTS_LEAVING_MAX", Code::ResourceExhausted),
        Refusal::NotResumable => ("POSITION_NOT_RESUMABLE", Code::FailedPrecondition),
        Refusal::PositionAhead => ("POSITION_AHEAD", Code::InvalidArgument),
        Refusal::Ended(_) => ("SESSION_ENDED", Code::FailedPrecondition),
        Refusal::Moving => ("SESSION_MOVING", Code::Unavailable),
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let (reason, text) = (error.reason(), error.to_string());
        match error {
            Error::NotFound => status::not_found(),
            Error::Timeout(TimeoutError::Idle) => status::invalid("debug_session.idle_timeout", text),
            Error::Timeout(TimeoutError::Total) => status::invalid("debug_session.total_timeout", text),
            Error::DeviceRevoked | Error::DeviceHasSession => status::precondition(reason, text),
            Error::DebuggingForbidden { by } => {
                let metadata = [("forbidden_by".to_owned(), by.to_string())].into();
                status::with_metadata(Code::FailedPrecondition, reason, text, metadata)
            }
            Error::SessionOfAnother => status::status(Code::PermissionDenied, reason, text),
            Error::DeviceHasWatchers { .. } | Error::TooManySessions { .. } | Error::RelayFull { .. } => {
                status::exhausted(reason, text)
            }
            Error::NoPlace(full) => full.into(),
            Error::Refused(Refusal::Ended(why)) => ended(why),
            Error::Refused(refusal) => status::status(refused(refusal).1, reason, text),
            Error::Draining => status::unavailable(text),
            Error::Once(error) => error.into(),
            Error::Database(error) => error.into(),
        }
    }
}

/// FAILED_PRECONDITION that says how the session ended.
fn ended(why: EndReason) -> Status {
    let metadata = [("end_reason".to_owned(), why.name().to_owned())].into();
    let text = format!("the session has ended: {}", why.name());
    status::with_metadata(Code::FailedPrecondition, "SESSION_ENDED", text, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason_of_its_own() {
        let refusals = [
            Refusal::Leaving,
            Refusal::NotResumable,
            Refusal::PositionAhead,
            Refusal::Ended(EndReason::Idle),
            Refusal::Moving,
        ];
        let mut reasons: Vec<_> = refusals
            .into_iter()
            .map(|refusal| {
                let status = Status::from(Error::from(refusal));
                assert_eq!(status::reason(&status).as_deref(), Some(Error::from(refusal).reason()));
                Error::from(refusal).reason()
            })
            .collect();
        reasons.dedup();
        assert_eq!(reasons.len(), refusals.len());
    }

    #[test]
    fn what_forbids_debugging_is_named() {
        let label = Ban::from_parts("label", Some("site"), Some("berlin"));
        for (by, named) in
            [(Ban::Tenant, "the whole tenant"), (label, "label site=berlin"), (Ban::Device, "this one")]
        {
            let status = Status::from(Error::DebuggingForbidden { by });
            assert_eq!(status::reason(&status).as_deref(), Some("DEBUGGING_FORBIDDEN"));
            assert!(status.message().contains(named), "{status:?}");
        }
    }

    #[test]
    fn an_ended_session_says_how_it_ended() {
        let status = Status::from(Error::from(Refusal::Ended(EndReason::Idle)));
        assert!(status.message().ends_with("idle"), "{status:?}");
    }
}
