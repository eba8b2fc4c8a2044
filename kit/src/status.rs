//! Errors as gRPC statuses: each with a stable reason (`google.rpc.ErrorInfo`, domain `holdfast`), fields by name
//! where a field is wrong, and a delay where trying again helps.
//!
//! What happened inside (SQL, addresses, other tenants) is logged here and never told to the caller.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// `ErrorInfo.domain` of every error of ours.
pub const DOMAIN: &str = "holdfast";
/// When to try again after something we need was away.
pub const RETRY_DELAY: Duration = Duration::from_secs(1);

/// A status with a reason in UPPER_SNAKE_CASE.
pub fn status(code: Code, reason: &str, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, info(reason))
}

/// A status whose reason has values beside it (`ErrorInfo.metadata`), for programs that act on them.
pub fn with_metadata(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    metadata: HashMap<String, String>,
) -> Status {
    let details = explained(reason, metadata);
    Status::with_error_details(code, message, details)
}

/// INVALID_ARGUMENT naming the field: `invalid("page_size", "must not be negative")`.
pub fn invalid(field: &str, description: impl Into<String>) -> Status {
    let description = description.into();
    let mut details = info("INVALID_FIELD");
    details.add_bad_request_violation(field, &description);
    Status::with_error_details(Code::InvalidArgument, format!("{field} {description}"), details)
}

/// INVALID_ARGUMENT of a filter: the field, how many characters of it stand before the fault, and what is wrong there.
pub fn invalid_filter(field: &str, position: usize, description: impl Into<String>) -> Status {
    let description = description.into();
    let metadata = HashMap::from([("position".to_owned(), position.to_string())]);
    let mut details = explained("INVALID_FILTER", metadata);
    details.add_bad_request_violation(field, &description);
    Status::with_error_details(Code::InvalidArgument, format!("{field}: {description}"), details)
}

/// NOT_FOUND, for what does not exist and for what the caller may not know exists.
pub fn not_found() -> Status {
    status(Code::NotFound, "NOT_FOUND", "no such resource")
}

/// ALREADY_EXISTS.
pub fn already_exists(message: impl Into<String>) -> Status {
    status(Code::AlreadyExists, "ALREADY_EXISTS", message)
}

/// FAILED_PRECONDITION: right request, wrong state; trying again alone does not help.
pub fn precondition(reason: &str, message: impl Into<String>) -> Status {
    status(Code::FailedPrecondition, reason, message)
}

/// ABORTED (AIP-154): the resource is not what the caller read any more.
pub fn etag_mismatch() -> Status {
    status(Code::Aborted, "ETAG_MISMATCH", "it changed since it was read; read it again")
}

/// The same error, of one of several: `place` (`requests[3]`) is where it stands in the request, `name` which resource it is.
pub fn of_one(status: &Status, place: &str, kind: &str, name: &str) -> Status {
    let mut details = status.get_error_details();
    if let Some(bad) = details.bad_request().cloned() {
        details.set_bad_request(Vec::new());
        for wrong in bad.field_violations {
            details.add_bad_request_violation(format!("{place}.{}", wrong.field), wrong.description);
        }
    }
    details.set_resource_info(kind, name, "", "");
    Status::with_error_details(status.code(), format!("{name}: {}", status.message()), details)
}

/// UNAVAILABLE with a delay: something we need is away.
pub fn unavailable(message: impl Into<String>) -> Status {
    let mut details = info("UNAVAILABLE");
    details.set_retry_info(Some(RETRY_DELAY));
    Status::with_error_details(Code::Unavailable, message, details)
}

/// RESOURCE_EXHAUSTED: a limit, named by its reason.
pub fn exhausted(reason: &str, message: impl Into<String>) -> Status {
    status(Code::ResourceExhausted, reason, message)
}

/// INTERNAL: a fault of ours. The cause is logged here; the caller learns only that.
pub fn internal(error: &(dyn Error + 'static)) -> Status {
    tracing::error!(error = chain(error), "request failed by a fault of ours");
    status(Code::Internal, "INTERNAL", "internal error")
}

/// An error and its sources on one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// The reason a status of ours carries.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

fn info(reason: &str) -> ErrorDetails {
    explained(reason, HashMap::new())
}

/// With the way to what docs/errors.md says of the reason.
fn explained(reason: &str, metadata: HashMap<String, String>) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, metadata);
    let known = proto::errors::find(reason);
    debug_assert!(known.is_some() || cfg!(test), "{reason} is not in proto::errors::REASONS");
    if let Some(known) = known {
        details.add_help_link(known.advice, known.link());
    }
    details
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_field_is_named_in_the_details() {
        let status = invalid("page_size", "must not be negative");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "page_size must not be negative");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!((violations[0].field.as_str(), violations.len()), ("page_size", 1));
        assert_eq!(status.get_details_error_info().unwrap().domain, DOMAIN);
        assert_eq!(status.get_details_help().unwrap().links[0].url, "docs/errors.md#invalid_field");
    }

    #[test]
    fn an_error_of_one_of_several_names_it_and_keeps_its_reason() {
        let one = |status: Status| {
            of_one(&status, "requests[3]", "holdfast.registry.v1.Device", "tenants/t/devices/d")
        };
        let missing = one(not_found());
        assert_eq!((missing.code(), reason(&missing).as_deref()), (Code::NotFound, Some("NOT_FOUND")));
        assert_eq!(missing.message(), "tenants/t/devices/d: no such resource");
        let named = missing.get_details_resource_info().unwrap();
        assert_eq!(
            (named.resource_type.as_str(), named.resource_name.as_str()),
            ("holdfast.registry.v1.Device", "tenants/t/devices/d")
        );
        assert!(missing.get_details_help().is_some() && missing.get_details_bad_request().is_none());
        let wrong = one(invalid("device.labels", "at most 64 labels"));
        let violations = wrong.get_details_bad_request().unwrap().field_violations;
        assert_eq!((violations[0].field.as_str(), violations.len()), ("requests[3].device.labels", 1));
    }

    #[test]
    fn unavailable_says_when_to_try_again() {
        let status = unavailable("the database is away");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_DELAY));
        assert_eq!(reason(&status).as_deref(), Some("UNAVAILABLE"));
    }

    #[test]
    fn an_internal_error_tells_the_caller_nothing() {
        let status = internal(&std::io::Error::other("password authentication failed for 10.0.0.7"));
        assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
        assert!(!format!("{status:?}").contains("10.0.0.7"));
    }
}
