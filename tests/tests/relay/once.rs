//! Calls that come again, and calls that only ask.

use dev::Service;
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{CloseDebugSessionRequest, CreateDebugSessionRequest, DebugSession, EndReason};

use crate::world::World;

#[tokio::test]
async fn a_session_is_made_and_closed_once_however_often_and_wherever_the_call_comes() {
    let world = World::start().await.unwrap();
    let second = world.replica().await.unwrap();
    let (mut here, mut there) = (world.api().await.unwrap(), world.api_at(&second).await.unwrap());
    let wanted = DebugSession { device: world.enrolled.name(), ..Default::default() };
    let create = |request_id: &str| CreateDebugSessionRequest {
        parent: world.fleet.admin.tenant.clone(),
        debug_session: Some(wanted.clone()),
        request_id: request_id.into(),
        ..Default::default()
    };
    let asks = CreateDebugSessionRequest { validate_only: true, ..create("") };
    assert_eq!(here.create_debug_session(asks).await.unwrap().into_inner().name, "");

    // Two replicas at once: one makes it, the other waits and answers the same.
    let id = "0f8a2c1e-58d4-4a6b-9a3e-6f0f5d7c2b11";
    let (one, other) =
        tokio::join!(here.create_debug_session(create(id)), there.create_debug_session(create(id)));
    let (one, other) = (one.unwrap().into_inner(), other.unwrap().into_inner());
    assert_eq!(one.name, other.name);
    let refused = here.create_debug_session(create("")).await.unwrap_err();
    assert_eq!(kit::status::reason(&refused).as_deref(), Some("DEVICE_HAS_SESSION"));

    let close = CloseDebugSessionRequest { name: one.name.clone(), ..Default::default() };
    let asks = CloseDebugSessionRequest { validate_only: true, ..close.clone() };
    let would = there.close_debug_session(asks).await.unwrap().into_inner();
    assert_eq!(would.end_reason(), EndReason::Closed);
    assert_eq!(world.show(&here, &one.name).await.unwrap().end_reason(), EndReason::Unspecified, "it asked");
    let reused = CloseDebugSessionRequest { request_id: id.into(), ..close.clone() };
    let refused = there.close_debug_session(reused).await.unwrap_err();
    assert_eq!(kit::status::reason(&refused).as_deref(), Some("REQUEST_ID_REUSED"));
    let named =
        CloseDebugSessionRequest { request_id: "0f8a2c1e-58d4-4a6b-9a3e-6f0f5d7c2b12".into(), ..close };
    let closed = there.close_debug_session(named.clone()).await.unwrap().into_inner();
    // After a restart too: nothing of it is a process's.
    world.fleet.stack.restart(Service::DebugRelay).await.unwrap();
    let mut here = world.api().await.unwrap();
    assert_eq!(here.close_debug_session(named).await.unwrap().into_inner(), closed);
    let again = here.create_debug_session(create(id)).await.unwrap().into_inner();
    assert_eq!((again.end_reason(), &again.name), (EndReason::Closed, &one.name));
    let events = world.events(&here, &one.name, Kind::Ended, 1).await.unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.kind()).collect();
    assert_eq!(kinds, [Kind::Created, Kind::Ended], "each once");
}
