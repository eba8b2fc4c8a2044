//! What goes wrong, said so that a person knows what to do, and as an exit code that a script can branch on.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done |
//! | 1 | anything not below |
//! | 2 | the command line is wrong (clap) |
//! | 3 | a server cannot be reached |
//! | 4 | not signed in, or not allowed |
//! | 5 | no such thing |
//! | 6 | the input was refused |
//! | 7 | the update ended, but not confirmed (reverted, refused, cancelled, superseded) |
//! | 8 | what was waited for did not come in time |

use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::output::printable;
use crate::trace;

/// A failure with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{0}")]
    Input(String),
    #[error("{0}")]
    Update(String),
    #[error("{0}")]
    Late(String),
    #[error("{0}")]
    Unwell(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Over(String),
    #[error("cannot reach {url}: {why}")]
    Unreachable { url: String, why: String },
}

/// An input the caller must change.
pub(crate) fn input(why: impl Into<String>) -> anyhow::Error {
    Failure::Input(why.into()).into()
}

/// The resource changed between our reading it and our writing.
pub(crate) fn is_stale(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == "ETAG_MISMATCH")
}

/// A stream ended because the token it was opened with has expired: it may be opened again.
pub(crate) fn is_token_expired(status: &Status) -> bool {
    status.code() == Code::Unauthenticated
        && status.get_details_error_info().is_some_and(|info| info.reason == "TOKEN_EXPIRED")
}

/// Nothing is wrong with what was asked: the server or the way to it is away, and may come back.
pub(crate) fn is_passing(error: &anyhow::Error) -> bool {
    if let Some(Failure::Unreachable { .. }) = error.downcast_ref::<Failure>() {
        return true;
    }
    status(error).is_some_and(|status| match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        // Our services give every error a reason: one without is of the connection.
        Code::Unknown | Code::Internal | Code::Cancelled => status.get_details_error_info().is_none(),
        _ => false,
    })
}

/// The filter that a call was made with, to be shown with the place at which it is wrong.
#[derive(Debug)]
struct InFilter(String);

impl std::fmt::Display for InFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the filter cannot be read")
    }
}

/// The error of a call with this filter, which points into the filter if that is what is wrong.
pub(crate) fn in_filter(filter: &str, status: Status) -> anyhow::Error {
    match position(&status) {
        Some(_) => anyhow::Error::from(status).context(InFilter(filter.to_owned())),
        None => status.into(),
    }
}

/// How many characters of a filter stand before the fault.
fn position(status: &Status) -> Option<usize> {
    let info = status.get_details_error_info().filter(|info| info.reason == "INVALID_FILTER")?;
    info.metadata.get("position")?.parse().ok()
}

/// The filter with a caret under the fault.
fn caret(error: &anyhow::Error) -> Option<String> {
    let InFilter(filter) = error.downcast_ref()?;
    let position = position(status(error)?)?.min(filter.chars().count());
    Some(format!("\n  {}\n  {}^", printable(filter), " ".repeat(position)))
}

/// Prints the error with its advice on stderr and gives the exit code.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    let code = exit_code(error);
    let text = explain(error);
    if json {
        let trace_id = status(error).map(|_| trace::id());
        let body = serde_json::json!({
            "error": { "message": text, "exit_code": code, "reason": reason(error), "trace_id": trace_id,
                "position": status(error).and_then(position) }
        });
        eprintln!("{body}");
    } else {
        eprintln!("error: {text}{}", caret(error).unwrap_or_default());
        if let Some(advice) = advice(error) {
            eprintln!("  {advice}");
        }
        // What to look for in the servers' logs.
        if status(error).is_some() {
            eprintln!("  trace {}", trace::id());
        }
    }
    ExitCode::from(code)
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return match failure {
            Failure::Input(_) => 6,
            Failure::Update(_) => 7,
            Failure::Late(_) => 8,
            Failure::Refused(_) => 4,
            Failure::Unwell(_) | Failure::Over(_) => 1,
            Failure::Unreachable { .. } => 3,
        };
    }
    match status(error).map(Status::code) {
        Some(Code::Unavailable | Code::DeadlineExceeded) => 3,
        Some(Code::Unauthenticated | Code::PermissionDenied) => 4,
        Some(Code::NotFound) => 5,
        Some(
            Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::AlreadyExists
            | Code::OutOfRange
            | Code::ResourceExhausted,
        ) => 6,
        _ => 1,
    }
}

fn status(error: &anyhow::Error) -> Option<&Status> {
    error.chain().find_map(|cause| cause.downcast_ref::<Status>())
}

fn reason(error: &anyhow::Error) -> Option<String> {
    let info = status(error)?.get_details_error_info()?;
    Some(info.reason)
}

/// The chain of contexts, with a gRPC status shown as its message and fields rather than as its debug form.
fn explain(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        match cause.downcast_ref::<Status>() {
            Some(status) => {
                parts.push(status_text(status));
                break;
            }
            None => parts.push(cause.to_string()),
        }
    }
    parts.dedup();
    parts.join(": ")
}

fn status_text(status: &Status) -> String {
    let mut text = status.message().to_owned();
    // Of a filter the message says it all.
    if let Some(bad) = status.get_details_bad_request().filter(|_| position(status).is_none()) {
        for field in bad.field_violations {
            text.push_str(&format!("\n  {}: {}", field.field, field.description));
        }
    }
    if text.is_empty() { format!("{:?}", status.code()) } else { text }
}

fn advice(error: &anyhow::Error) -> Option<&'static str> {
    if let Some(Failure::Unreachable { .. }) = error.downcast_ref::<Failure>() {
        return Some(
            "is the server up, and are the addresses of this context right? see `holdfast context show`",
        );
    }
    match status(error)?.code() {
        Code::Unauthenticated => {
            Some("sign in with a registered key: see `holdfast context show` and `holdfast key list`")
        }
        Code::PermissionDenied => Some(
            "your key's role does not allow this; an admin can register another with `holdfast key create`",
        ),
        Code::NotFound => Some("check the id, and the tenant of this context (`holdfast context show`)"),
        Code::Unavailable | Code::DeadlineExceeded => Some("the service cannot answer now; try again"),
        _ => Some(proto::errors::find(&reason(error)?)?.advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn each_kind_of_failure_has_its_exit_code() {
        let cases = [
            (anyhow::Error::from(Status::not_found("x")), 5),
            (Status::permission_denied("x").into(), 4),
            (Status::unavailable("x").into(), 3),
            (Status::invalid_argument("x").into(), 6),
            (Status::aborted("x").into(), 6),
            (input("x"), 6),
            (Failure::Update("x".into()).into(), 7),
            (Failure::Refused("x".into()).into(), 4),
            (Failure::Over("x".into()).into(), 1),
            (anyhow::anyhow!("x"), 1),
        ];
        for (error, code) in cases {
            assert_eq!(exit_code(&error), code, "{error}");
        }
    }

    #[test]
    fn a_status_under_context_still_gives_its_code_and_one_line() {
        let error = anyhow::Error::from(Status::not_found("no such device")).context("device dv1");
        assert_eq!(exit_code(&error), 5);
        assert_eq!(explain(&error), "device dv1: no such device");
    }

    #[test]
    fn a_filter_is_shown_with_a_caret_under_its_fault() {
        let wrong = |position: &str| {
            let metadata: HashMap<_, _> = [("position".to_owned(), position.to_owned())].into();
            let details = tonic_types::ErrorDetails::with_error_info("INVALID_FILTER", "holdfast", metadata);
            Status::with_error_details(Code::InvalidArgument, "filter: unknown field", details)
        };
        let error = in_filter("größe=1", wrong("0"));
        assert_eq!(exit_code(&error), 6);
        assert_eq!(caret(&error).as_deref(), Some("\n  größe=1\n  ^"));
        assert_eq!(caret(&in_filter("é=\u{1b}", wrong("2"))).as_deref(), Some("\n  é=\u{fffd}\n    ^"));
        assert_eq!(
            caret(&in_filter("a", wrong("99"))).as_deref(),
            Some("\n  a\n   ^"),
            "never beyond its end"
        );
        assert_eq!(explain(&error), "the filter cannot be read: filter: unknown field");
        assert!(caret(&in_filter("a", Status::not_found("x"))).is_none());
    }

    #[test]
    fn what_may_come_back_is_waited_for_and_what_is_wrong_is_not() {
        let passing = |status: Status| is_passing(&status.into());
        assert!(passing(Status::unavailable("x")) && passing(Status::unknown("transport error")));
        assert!(!passing(Status::invalid_argument("x")) && !passing(Status::permission_denied("x")));
        let details = tonic_types::ErrorDetails::with_error_info("INTERNAL", "holdfast", HashMap::new());
        assert!(!passing(Status::with_error_details(Code::Internal, "internal error", details)));
        assert!(is_passing(&Failure::Unreachable { url: "u".into(), why: "w".into() }.into()));
    }
}
