//! Every way in which a session or an attachment ends, and what is told and written then.

use anyhow::{Context, Result};
use proto::debug::v1::attach_debug_session_request::Message as Say;
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{
    CloseDebugSessionRequest, DebugFrame, DebugSession, EndReason, ListDebugSessionsRequest, Role,
};
use proto::device::v1::DebugEnd;
use proto::registry::v1::{RevokeDeviceRequest, Role as TenantRole};

use crate::developer::{Api, Developer, Stream, at};
use crate::device::Faults;
use crate::world::{World, frames, reason_of};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

/// Why it ended, and by whom, as it is written down.
async fn ender(world: &World, api: &Api, session: &str) -> Result<(EndReason, String)> {
    let events = world.events(api, session, Kind::Ended, 1).await?;
    let end = events.into_iter().find(|event| event.kind() == Kind::Ended).context("it has ended")?;
    Ok((end.reason(), end.subject))
}

#[tokio::test]
async fn a_session_ends_as_its_device_says() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    for (faults, reason) in [
        (Faults { end: Some(DebugEnd::Refused), ..Faults::default() }, EndReason::DeviceRefused),
        (Faults { end: Some(DebugEnd::Busy), ..Faults::default() }, EndReason::DeviceBusy),
        (Faults { end: Some(DebugEnd::Restarted), ..Faults::default() }, EndReason::DeviceRestarted),
        (Faults { end: Some(DebugEnd::Done), ..Faults::default() }, EndReason::DeviceClosed),
        (Faults { end: Some(DebugEnd::Protocol), ..Faults::default() }, EndReason::ProtocolError),
        (Faults { rebooted: true, ..Faults::default() }, EndReason::DeviceRestarted),
        (Faults { lie: true, ..Faults::default() }, EndReason::ProtocolError),
    ] {
        world.device.faults(Faults::default());
        let session = world.session(&api).await.unwrap();
        let mut developer = Developer { frames: frames("down", 1), ..Developer::default() };
        let mut stream = developer.attach(&api, &session).await.unwrap();
        developer.run(&mut stream, |d| d.delivered == 1).await.unwrap();
        world.device.faults(faults);
        developer.frames.extend(frames("down", 1));
        developer.credit_now(&stream).await;
        assert_eq!(stream.reason().await.unwrap(), reason);
        assert_eq!(world.show(&api, &session).await.unwrap().end_reason(), reason);
        let refused = Stream::open(&api, at(&session, None)).await.err().unwrap();
        assert_eq!(kit::status::reason(&refused).as_deref(), Some("SESSION_ENDED"));
    }
}

#[tokio::test]
async fn a_session_ends_by_its_deadlines_and_by_a_device_that_is_gone() {
    let world = World::impatient(2).await.unwrap();
    let api = world.api().await.unwrap();
    for role in [Role::Writer, Role::Watcher] {
        // Nobody ever attached: no relay holds it.
        let of_role = DebugSession { role: role.into(), ..DebugSession::default() };
        let wanted = DebugSession { idle_timeout: seconds(1), ..of_role.clone() };
        let session = world.session_with(&api, wanted.clone()).await.unwrap();
        assert_eq!(world.end_of(&api, &session).await.unwrap(), EndReason::Idle);
        // Held.
        let session = world.session_with(&api, wanted).await.unwrap();
        let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
        assert_eq!(stream.reason().await.unwrap(), EndReason::Idle);
        let wanted = DebugSession { total_timeout: seconds(1), ..of_role };
        let session = world.session_with(&api, wanted).await.unwrap();
        let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
        assert_eq!(stream.reason().await.unwrap(), EndReason::Expired);
    }
    // Silent from the beginning.
    world.device.faults(Faults { silent: true, ..Faults::default() });
    let watching = world.watch(&api).await.unwrap();
    let mut watched = Stream::open(&api, at(&watching, None)).await.unwrap();
    let session = world.session(&api).await.unwrap();
    let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
    assert_eq!(stream.reason().await.unwrap(), EndReason::DeviceUnreachable);
    assert_eq!(watched.reason().await.unwrap(), EndReason::DeviceUnreachable);
    assert_eq!(ender(&world, &api, &session).await.unwrap(), (EndReason::DeviceUnreachable, String::new()));
}

#[tokio::test]
async fn a_session_is_closed_by_an_operator_and_by_revocation() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    let mut developer = Developer { frames: frames("down", 1), ..Developer::default() };
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.delivered == 1).await.unwrap();
    let close = CloseDebugSessionRequest { name: session.clone(), ..Default::default() };
    let operator = world.fleet.admin.colleague(&world.fleet.stack, TenantRole::Developer).await.unwrap();
    let theirs = world.api_of(&operator).await.unwrap();
    let closed = theirs.clone().close_debug_session(close.clone()).await.unwrap().into_inner();
    assert_eq!(closed.end_reason(), EndReason::ClosedByOperator);
    let again = api.clone().close_debug_session(close).await.unwrap().into_inner();
    assert_eq!(again.end_time, closed.end_time, "closing twice changes nothing");
    let ended = stream.ended().await.unwrap();
    assert_eq!((ended.reason(), ended.resumable), (EndReason::ClosedByOperator, false));
    world.device.until("is told", |d| d.told_end).await.unwrap();
    assert_eq!(ender(&world, &api, &session).await.unwrap(), (EndReason::ClosedByOperator, operator.key));

    let session = world.session(&api).await.unwrap();
    let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
    let watching = world.watch(&theirs).await.unwrap();
    let mut watched = Stream::open(&theirs, at(&watching, None)).await.unwrap();
    let revoke = RevokeDeviceRequest { name: world.enrolled.name(), ..Default::default() };
    world.fleet.devices().await.unwrap().revoke_device(revoke).await.unwrap();
    assert_eq!(stream.reason().await.unwrap(), EndReason::DeviceRevoked);
    assert_eq!(watched.reason().await.unwrap(), EndReason::DeviceRevoked);
    let refused = world.session(&api).await.unwrap_err();
    assert_eq!(reason_of(&refused).as_deref(), Some("DEVICE_REVOKED"), "{refused:?}");

    let list = async |state: i32, page_size: i32, page_token: String| {
        let request = ListDebugSessionsRequest {
            parent: world.fleet.admin.tenant.clone(),
            page_size,
            page_token,
            device: world.enrolled.name(),
            state,
        };
        api.clone().list_debug_sessions(request).await.unwrap().into_inner()
    };
    assert!(list(1, 0, String::new()).await.debug_sessions.is_empty());
    let first = list(2, 1, String::new()).await;
    assert_eq!(first.debug_sessions[0].end_reason(), EndReason::DeviceRevoked, "newest first");
    let second = list(2, 1, first.next_page_token).await;
    assert_eq!(second.debug_sessions[0].end_reason(), EndReason::DeviceRevoked);
    let third = list(2, 1, second.next_page_token).await;
    assert_eq!(third.debug_sessions[0].end_reason(), EndReason::ClosedByOperator);
    assert!(third.next_page_token.is_empty());
}

#[tokio::test]
async fn a_session_that_its_creator_closes_says_so_by_whichever_way() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let me = (EndReason::Closed, world.fleet.admin.key.clone());
    for session in [world.session(&api).await.unwrap(), world.watch(&api).await.unwrap()] {
        let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
        stream.next().await.unwrap();
        stream.close().await;
        assert_eq!(stream.reason().await.unwrap(), EndReason::Closed);
        assert_eq!(ender(&world, &api, &session).await.unwrap(), me);
    }
    let session = world.session(&api).await.unwrap();
    let close = CloseDebugSessionRequest { name: session.clone(), ..Default::default() };
    let closed = api.clone().close_debug_session(close).await.unwrap().into_inner();
    assert_eq!(closed.end_reason(), EndReason::Closed);
    assert_eq!(ender(&world, &api, &session).await.unwrap(), me);
}

#[tokio::test]
async fn a_caller_that_breaks_the_rules_or_leaves_ends_its_own_attachment() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let session = world.session(&api).await.unwrap();
    let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
    stream.next().await.unwrap();
    stream.say(Say::Frame(DebugFrame { number: 5, data: "x".into() })).await;
    let ended = stream.ended().await.unwrap();
    assert_eq!((ended.reason(), ended.resumable), (EndReason::CallerError, true));
    let mut stream = Stream::open(&api, at(&session, None)).await.unwrap();
    stream.next().await.unwrap();
    drop(stream);
    let events = world.events(&api, &session, Kind::Detached, 2).await.unwrap();
    let reasons: Vec<_> = events.iter().filter(|e| e.kind() == Kind::Detached).map(|e| e.reason()).collect();
    assert_eq!(reasons, [EndReason::CallerError, EndReason::Left]);
}
