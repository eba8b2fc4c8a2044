//! Proto to domain: names, timeouts, roles, and what a caller says on its stream.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use kit::status;
use proto::debug::v1::attach_debug_session_request::Message;
use proto::debug::v1::{self as api, Attach, AttachDebugSessionRequest, DebugSession, debug_session};
use tonic::{Status, Streaming};

use crate::model::session::Said;
use crate::model::timeouts::Timeouts;
use crate::model::{Frame, Position, Role};

/// How long a caller may take to say what it attaches to.
const FIRST_MAX: Duration = Duration::from_secs(10);

/// A resource name.
pub(super) fn name<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error| status::invalid(field, format!("{error}")))
}

pub(super) fn timeouts(wanted: &DebugSession) -> Result<Timeouts, Status> {
    let idle = duration("debug_session.idle_timeout", wanted.idle_timeout)?;
    let total = duration("debug_session.total_timeout", wanted.total_timeout)?;
    Timeouts::new(idle, total).map_err(|error| crate::error::Error::from(error).into())
}

fn duration(field: &str, given: Option<prost_types::Duration>) -> Result<Option<Duration>, Status> {
    let Some(given) = given else { return Ok(None) };
    Duration::try_from(given).map(Some).map_err(|_| status::invalid(field, "must not be negative"))
}

/// Whether open ones are wanted, or closed ones; none: all.
pub(super) fn state(number: i32) -> Result<Option<bool>, Status> {
    match debug_session::State::try_from(number) {
        Ok(debug_session::State::Unspecified) => Ok(None),
        Ok(debug_session::State::Open) => Ok(Some(true)),
        Ok(debug_session::State::Closed) => Ok(Some(false)),
        Err(_) => Err(status::invalid("state", "must be STATE_OPEN or STATE_CLOSED")),
    }
}

/// Who says nothing writes, as all did before there was a choice.
pub(super) fn role(number: i32) -> Result<Role, Status> {
    match api::Role::try_from(number) {
        Ok(api::Role::Unspecified | api::Role::Writer) => Ok(Role::Writer),
        Ok(api::Role::Watcher) => Ok(Role::Watcher),
        Err(_) => Err(status::invalid("debug_session.role", "must be ROLE_WRITER or ROLE_WATCHER")),
    }
}

pub(super) fn position(given: Option<api::Position>) -> Result<Option<Position>, Status> {
    let Some(given) = given else { return Ok(None) };
    let number = |field: &str, number: i64| {
        u64::try_from(number)
            .map_err(|_| status::invalid(&format!("attach.position.{field}"), "must not be negative"))
    };
    Ok(Some(Position {
        received_up_to: number("received_up_to", given.received_up_to)?,
        delivered_up_to: number("delivered_up_to", given.delivered_up_to)?,
    }))
}

/// What a stream begins with.
pub(super) async fn first(said: &mut Streaming<AttachDebugSessionRequest>) -> Result<Attach, Status> {
    let first = tokio::time::timeout(FIRST_MAX, said.message()).await;
    let late = || status::invalid("attach", format!("did not come within {} s", FIRST_MAX.as_secs()));
    match first.map_err(|_| late())??.and_then(|first| first.message) {
        Some(Message::Attach(attach)) => Ok(attach),
        _ => Err(status::invalid("attach", "must be the first message")),
    }
}

/// What is said after that; none: it cannot be.
pub(super) fn said(request: AttachDebugSessionRequest) -> Option<Said> {
    let number = |number: i64| u64::try_from(number).ok();
    match request.message? {
        Message::Attach(_) => None,
        Message::Frame(frame) => {
            Some(Said::Frame(Frame { number: number(frame.number).filter(|n| *n > 0)?, data: frame.data }))
        }
        Message::Progress(progress) => Some(Said::Progress {
            delivered_up_to: number(progress.delivered_up_to)?,
            credit_up_to: number(progress.credit_up_to)?,
        }),
        Message::Close(_) => Some(Said::Close),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use prost::Message as _;
    use tonic::Code;

    #[test]
    fn roles_states_and_positions_are_what_the_api_names_and_nothing_else() {
        assert_eq!([0, 1, 2].map(|n| role(n).unwrap()), [Role::Writer, Role::Writer, Role::Watcher]);
        assert_eq!(
            [state(0).unwrap(), state(1).unwrap(), state(2).unwrap()],
            [None, Some(true), Some(false)]
        );
        for refused in [role(3).unwrap_err(), role(-1).unwrap_err(), state(3).unwrap_err()] {
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
        let negative = api::Position { received_up_to: 0, delivered_up_to: -1 };
        let refused = position(Some(negative)).unwrap_err();
        assert!(refused.message().starts_with("attach.position.delivered_up_to"), "{refused:?}");
        assert_eq!(position(None).unwrap(), None);
    }

    #[test]
    fn timeouts_out_of_their_bounds_are_named() {
        let session = |idle: i64, total: i64| DebugSession {
            idle_timeout: Some(prost_types::Duration { seconds: idle, nanos: 0 }),
            total_timeout: Some(prost_types::Duration { seconds: total, nanos: 0 }),
            ..DebugSession::default()
        };
        assert!(timeouts(&session(60, 600)).is_ok());
        for (session, field) in
            [(session(0, 600), "idle"), (session(-1, 600), "idle"), (session(60, 86_401), "total")]
        {
            let refused = timeouts(&session).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            assert!(refused.message().starts_with(&format!("debug_session.{field}_timeout")), "{refused:?}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_nothing() {
        let request = |message| AttachDebugSessionRequest { message };
        let frame = |number| Message::Frame(api::DebugFrame { number, data: Bytes::from_static(b"x") });
        assert!(matches!(said(request(Some(frame(1)))), Some(Said::Frame(_))));
        for message in [
            None,
            Some(Message::Attach(Attach::default())),
            Some(frame(0)),
            Some(frame(-1)),
            Some(Message::Progress(api::Progress { delivered_up_to: -1, credit_up_to: 0 })),
        ] {
            assert!(said(request(message)).is_none());
        }
    }

    proptest! {
        /// Of any bytes, and of any numbers: what is let through is within what the session counts with.
        #[test]
        fn whatever_a_stream_says_is_in_bounds_or_nothing(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            (number, delivered_up_to, credit_up_to) in (any::<i64>(), any::<i64>(), any::<i64>()),
        ) {
            let frame = Message::Frame(api::DebugFrame { number, data: Bytes::from(bytes.clone()) });
            let progress = Message::Progress(api::Progress { delivered_up_to, credit_up_to });
            let noise = AttachDebugSessionRequest::decode(&bytes[..]).ok().and_then(|request| request.message);
            for message in [Some(frame), Some(progress), noise] {
                match said(AttachDebugSessionRequest { message }) {
                    Some(Said::Frame(frame)) => {
                        prop_assert!((1..=crate::model::NUMBER_MAX).contains(&frame.number));
                    }
                    Some(Said::Progress { delivered_up_to, credit_up_to }) => {
                        prop_assert!(delivered_up_to.max(credit_up_to) <= crate::model::NUMBER_MAX);
                    }
                    Some(Said::Close) | None => {}
                }
            }
            let given = api::Position { received_up_to: number, delivered_up_to };
            prop_assert_eq!(position(Some(given)).is_ok(), number >= 0 && delivered_up_to >= 0);
        }
    }
}
