//! Debugging that the fleet's owner forbids: what is open ends, nothing is made or attached to, and it is written down who tried.

use anyhow::Result;
use dev::Service;
use proto::debug::v1::debug_session_event::Kind;
use proto::debug::v1::{
    CloseDebugSessionRequest, CreateDebugSessionRequest, DebugSession, DebugSessionEvent, EndReason,
    ListDebugSessionEventsRequest,
};
use proto::registry::v1::debug_scope::Scope;
use proto::registry::v1::debugging_service_client::DebuggingServiceClient;
use proto::registry::v1::{
    AllowDebuggingRequest, DebugScope, Device, DeviceLabel, ForbidDebuggingRequest, Role as TenantRole,
    UpdateDeviceRequest,
};
use scenarios::client::{self, Client};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::developer::{Api, Developer, Stream, at};
use crate::world::{World, frames};

/// The owner's hand.
struct Owner {
    client: DebuggingServiceClient<Client>,
    tenant: String,
}

impl Owner {
    async fn of(world: &World) -> Result<Owner> {
        let admin = &world.fleet.admin;
        let channel = admin.client(&world.fleet.stack, Service::Registry).await?;
        Ok(Owner { client: DebuggingServiceClient::new(channel), tenant: admin.tenant.clone() })
    }

    async fn forbid(&self, scope: &Scope) -> Result<()> {
        let scope = Some(DebugScope { scope: Some(scope.clone()) });
        let request = ForbidDebuggingRequest { parent: self.tenant.clone(), scope, ..Default::default() };
        self.client.clone().forbid_debugging(request).await?;
        Ok(())
    }

    async fn allow(&self, scope: &Scope) -> Result<()> {
        let scope = Some(DebugScope { scope: Some(scope.clone()) });
        let request = AllowDebuggingRequest { parent: self.tenant.clone(), scope, ..Default::default() };
        self.client.clone().allow_debugging(request).await?;
        Ok(())
    }
}

fn label(key: &str, value: &str) -> Scope {
    Scope::Label(DeviceLabel { key: key.into(), value: value.into() })
}

/// Its reason, and what forbids it.
fn refusal(status: &Status) -> (String, String) {
    let info = status.get_details_error_info().expect("an error of ours says its reason");
    (info.reason, info.metadata.get("forbidden_by").cloned().unwrap_or_default())
}

fn forbidden_by(what: &str) -> (String, String) {
    ("DEBUGGING_FORBIDDEN".to_owned(), what.to_owned())
}

async fn create(world: &World, api: &Api, validate_only: bool) -> Result<DebugSession, Status> {
    let wanted = DebugSession { device: world.enrolled.name(), ..Default::default() };
    let request = CreateDebugSessionRequest {
        parent: world.fleet.admin.tenant.clone(),
        debug_session: Some(wanted),
        validate_only,
        ..Default::default()
    };
    Ok(api.clone().create_debug_session(request).await?.into_inner())
}

/// Denials of this device, oldest first.
async fn denials(world: &World, api: &Api) -> Result<Vec<DebugSessionEvent>> {
    let request = ListDebugSessionEventsRequest {
        parent: world.fleet.admin.tenant.clone(),
        device: world.enrolled.name(),
        ..Default::default()
    };
    let events = api.clone().list_debug_session_events(request).await?.into_inner().events;
    Ok(events.into_iter().rev().filter(|event| event.kind() == Kind::Denied).collect())
}

#[tokio::test]
async fn forbidding_debugging_ends_what_is_open_for_everybody_and_the_device_is_told() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let owner = Owner::of(&world).await.unwrap();
    let device = Scope::Device(world.enrolled.name());
    let session = world.session(&api).await.unwrap();
    let mut developer = Developer { frames: frames("down", 1), ..Developer::default() };
    let mut stream = developer.attach(&api, &session).await.unwrap();
    developer.run(&mut stream, |d| d.delivered == 1).await.unwrap();
    let colleague = world.fleet.admin.colleague(&world.fleet.stack, TenantRole::Developer).await.unwrap();
    let theirs = world.api_of(&colleague).await.unwrap();
    let watch = world.watch(&theirs).await.unwrap();
    let mut watching = Stream::open(&theirs, at(&watch, None)).await.unwrap();
    watching.next().await.unwrap();

    owner.forbid(&device).await.unwrap();
    for stream in [&mut stream, &mut watching] {
        let ended = stream.ended().await.unwrap();
        assert_eq!((ended.reason(), ended.resumable), (EndReason::Forbidden, false));
    }
    let told = |d: &crate::device::State| d.told_end && d.watching.values().all(|watched| watched.told_end);
    world.device.until("is told, for each", told).await.unwrap();
    assert_eq!(world.end_of(&api, &watch).await.unwrap(), EndReason::Forbidden);
    assert_eq!(world.end_of(&api, &session).await.unwrap(), EndReason::Forbidden);
    let events = world.events(&api, &session, Kind::Ended, 1).await.unwrap();
    let end = events.iter().find(|event| event.kind() == Kind::Ended).unwrap();
    assert_eq!((end.reason(), end.subject.as_str()), (EndReason::Forbidden, ""), "it came about");

    // Attaching is refused by what forbids it, not by the end that it made; and written down, as the attempt at another session is.
    let refused = Stream::open(&api, at(&session, None)).await.err().unwrap();
    assert_eq!((refused.code(), refusal(&refused)), (Code::FailedPrecondition, forbidden_by("device")));
    assert_eq!(refusal(&create(&world, &theirs, true).await.unwrap_err()), forbidden_by("device"));
    assert_eq!(refusal(&create(&world, &theirs, false).await.unwrap_err()), forbidden_by("device"));
    let denied = denials(&world, &api).await.unwrap();
    let denied: Vec<_> =
        denied.iter().map(|e| (e.denial.as_str(), e.subject.as_str(), e.debug_session.as_str())).collect();
    let (mine, key) = (world.fleet.admin.key.as_str(), colleague.key.as_str());
    assert_eq!(
        denied,
        [("DEBUGGING_FORBIDDEN", mine, session.as_str()), ("DEBUGGING_FORBIDDEN", key, "")],
        "who only asked is not in it"
    );

    owner.allow(&device).await.unwrap();
    for (api, session) in [(&api, &session), (&theirs, &watch)] {
        let refused = Stream::open(api, at(session, None)).await.err().unwrap();
        assert_eq!(kit::status::reason(&refused).as_deref(), Some("SESSION_ENDED"), "an end is for good");
    }
    let session = create(&world, &theirs, false).await.unwrap().name;
    let mut developer = Developer { frames: frames("again", 1), ..Developer::default() };
    let mut stream = developer.attach(&theirs, &session).await.unwrap();
    developer.run(&mut stream, |d| d.delivered == 1).await.unwrap();
}

#[tokio::test]
async fn tenant_label_and_device_each_forbid_and_one_is_enough() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let owner = Owner::of(&world).await.unwrap();
    let labelled = Device {
        name: world.enrolled.name(),
        labels: [("ring".to_owned(), "production".to_owned())].into(),
        ..Default::default()
    };
    let request = UpdateDeviceRequest {
        device: Some(labelled),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
        ..Default::default()
    };
    world.fleet.devices().await.unwrap().update_device(request).await.unwrap();
    let (tenant, device) = (Scope::Tenant(true), Scope::Device(world.enrolled.name()));
    let ring = label("ring", "production");

    // What forbids others forbids nothing here.
    let other = world.fleet.enroll("HW-2").await.unwrap();
    for elsewhere in [label("ring", "canary"), Scope::Device(other.name())] {
        owner.forbid(&elsewhere).await.unwrap();
    }
    for (scope, named) in [(&tenant, "tenant"), (&ring, "label ring=production"), (&device, "device")] {
        // Nobody ever attached: no relay holds it.
        let session = create(&world, &api, false).await.unwrap().name;
        owner.forbid(scope).await.unwrap();
        assert_eq!(world.end_of(&api, &session).await.unwrap(), EndReason::Forbidden, "{named}");
        assert_eq!(refusal(&create(&world, &api, false).await.unwrap_err()), forbidden_by(named));
        owner.allow(scope).await.unwrap();
        let session = create(&world, &api, false).await.unwrap().name;
        let close = CloseDebugSessionRequest { name: session, ..Default::default() };
        api.clone().close_debug_session(close).await.unwrap();
    }
    // All three: each that is lifted leaves the others.
    for scope in [&device, &ring, &tenant] {
        owner.forbid(scope).await.unwrap();
    }
    for (scope, named) in [(&tenant, "tenant"), (&ring, "label ring=production"), (&device, "device")] {
        assert_eq!(refusal(&create(&world, &api, false).await.unwrap_err()), forbidden_by(named));
        owner.allow(scope).await.unwrap();
    }
    create(&world, &api, false).await.unwrap();
}

#[tokio::test]
async fn another_tenants_bans_reach_nobody_else_and_its_developers_learn_of_none() {
    let world = World::start().await.unwrap();
    let api = world.api().await.unwrap();
    let stack = &world.fleet.stack;
    let stranger = client::new_tenant(stack, &world.fleet.admin, "Other").await.unwrap();
    let mut theirs = DebuggingServiceClient::new(stranger.client(stack, Service::Registry).await.unwrap());
    let of = |parent: &str, scope: Scope| ForbidDebuggingRequest {
        parent: parent.into(),
        scope: Some(DebugScope { scope: Some(scope) }),
        ..Default::default()
    };
    theirs.forbid_debugging(of(&stranger.tenant, Scope::Tenant(true))).await.unwrap();
    let session = create(&world, &api, false).await.unwrap().name;

    Owner::of(&world).await.unwrap().forbid(&Scope::Device(world.enrolled.name())).await.unwrap();
    assert_eq!(world.end_of(&api, &session).await.unwrap(), EndReason::Forbidden);
    let foreign = world.api_of(&stranger).await.unwrap();
    let moved = session.replace(&world.fleet.admin.tenant, &stranger.tenant);
    for name in [&session, &moved] {
        let refused = Stream::open(&foreign, at(name, None)).await.err().unwrap();
        assert_eq!((refused.code(), refused.message()), (Code::NotFound, "no such resource"));
    }
    assert_eq!(denials(&world, &api).await.unwrap(), []);
}
