//! Where debugging is forbidden: who may say so, what devices show of it, and what does not undo it.

use anyhow::{Result, ensure};
use dev::Service;
use proto::device::v1::EnrollStatus;
use proto::registry::v1::debug_scope::Scope;
use proto::registry::v1::debugging_service_client::DebuggingServiceClient;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::tenant_service_client::TenantServiceClient;
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, AllowDebuggingRequest, DebugScope, Device, DeviceLabel,
    ForbidDebuggingRequest, GetDeviceRequest, GetTenantRequest, ListDebugBansRequest,
    ListPendingEnrollmentsRequest, ReplaceDeviceRequest, Role,
};
use scenarios::client::{self, Client, Person, twice};
use tonic::{Code, Status};

use crate::board::{Board, Enrolled};
use crate::devices::update;
use crate::fleet::{Fleet, refusal};

/// Labels for which a tenant may forbid it.
const LABELS_MAX: usize = 64;

type Debugging = DebuggingServiceClient<Client>;

async fn debugging(fleet: &Fleet, person: &Person) -> Result<Debugging> {
    Ok(DebuggingServiceClient::new(person.client(&fleet.stack, Service::Registry).await?))
}

fn label(key: &str, value: &str) -> Scope {
    Scope::Label(DeviceLabel { key: key.into(), value: value.into() })
}

fn forbid(parent: &str, scope: &Scope) -> ForbidDebuggingRequest {
    let scope = Some(DebugScope { scope: Some(scope.clone()) });
    ForbidDebuggingRequest { parent: parent.into(), scope, ..Default::default() }
}

fn allow(parent: &str, scope: &Scope) -> AllowDebuggingRequest {
    let scope = Some(DebugScope { scope: Some(scope.clone()) });
    AllowDebuggingRequest { parent: parent.into(), scope, ..Default::default() }
}

async fn shown(fleet: &Fleet, name: &str) -> Result<Device> {
    Ok(fleet.devices().await?.get_device(GetDeviceRequest { name: name.into() }).await?.into_inner())
}

fn bans(device: &Device) -> Vec<Scope> {
    device.debugging_forbidden_by.iter().filter_map(|scope| scope.scope.clone()).collect()
}

/// All of them, two a page.
async fn listed(mut client: Debugging, parent: &str) -> Result<Vec<Scope>, Status> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListDebugBansRequest { parent: parent.into(), page_size: 2, page_token };
        let page = client.list_debug_bans(request).await?.into_inner();
        assert!(page.debug_bans.len() <= 2);
        all.extend(page.debug_bans.into_iter().filter_map(|ban| ban.scope?.scope));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// What the relay's own role sees of a device within a scope.
fn seen_by_relay(fleet: &Fleet, device: &Enrolled, scope: &str) -> Result<Vec<String>> {
    let rows = fleet.stack.sql(&format!(
        "SET ROLE holdfast_debug; BEGIN; SET LOCAL app.tenant = '{scope}'; \
         SELECT 'ban ' || concat_ws(' ', forbidden_by, label_key, label_value) FROM registry.debug_ban_v1 \
         WHERE device_id = '{}' ORDER BY 1; COMMIT;",
        device.id()
    ))?;
    Ok(rows.lines().filter_map(|line| line.trim().strip_prefix("ban ")).map(str::to_owned).collect())
}

fn published(fleet: &Fleet, device: &Enrolled) -> Result<Vec<String>> {
    seen_by_relay(fleet, device, "*")
}

#[tokio::test]
async fn what_forbids_debugging_is_shown_listed_published_and_taken_back() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let mut client = debugging(&fleet, &fleet.admin).await?;
    let (one, other) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let mut devices = fleet.devices().await?;
    devices.update_device(update(&one.name(), &[("site", "new york"), ("ring", "a")], "")).await?;
    let before = shown(&fleet, &one.name()).await?;
    assert_eq!((bans(&before), published(&fleet, &one)?), (Vec::new(), Vec::new()), "allowed by default");

    let scopes =
        [Scope::Tenant(true), label("ring", "a"), label("site", "new york"), Scope::Device(one.name())];
    for scope in scopes.iter().rev().chain([&label("ring", "b")]) {
        let ban = client.forbid_debugging(forbid(&parent, scope)).await?.into_inner();
        assert_eq!(ban.creator, fleet.admin.key);
        let again = client.forbid_debugging(forbid(&parent, scope)).await?.into_inner();
        assert_eq!(ban, again, "who forbade it first stays");
    }
    let after = shown(&fleet, &one.name()).await?;
    assert_eq!(bans(&after), scopes);
    assert_ne!(after.etag, before.etag);
    assert_eq!(published(&fleet, &one)?, ["device", "label ring a", "label site new york", "tenant"]);
    let tenant_id = parent.trim_start_matches("tenants/");
    assert_eq!(seen_by_relay(&fleet, &one, tenant_id)?.len(), 4);
    assert_eq!(seen_by_relay(&fleet, &one, &format!("tn{}", "0".repeat(32)))?, Vec::<String>::new());
    assert_eq!(bans(&shown(&fleet, &other.name()).await?), [Scope::Tenant(true)]);
    let mut all = scopes.to_vec();
    all.insert(2, label("ring", "b"));
    assert_eq!(listed(client.clone(), &parent).await?, all);
    let mut tenants = TenantServiceClient::new(fleet.admin.client(&fleet.stack, Service::Registry).await?);
    let tenant = async |tenants: &mut TenantServiceClient<Client>| {
        tenants.get_tenant(GetTenantRequest { name: parent.clone() }).await
    };
    assert!(tenant(&mut tenants).await?.into_inner().debugging_forbidden);

    for (at, scope) in scopes.iter().enumerate() {
        client.allow_debugging(allow(&parent, scope)).await?;
        client.allow_debugging(allow(&parent, scope)).await?;
        assert_eq!(bans(&shown(&fleet, &one.name()).await?), scopes[at + 1..]);
    }
    assert!(!tenant(&mut tenants).await?.into_inner().debugging_forbidden);
    assert_eq!(published(&fleet, &one)?, Vec::<String>::new());
    assert_eq!(listed(client, &parent).await?, [label("ring", "b")]);
    let audit = fleet.stack.sql(
        "SELECT action, count(*) FROM registry.audit WHERE action LIKE '%debugging' GROUP BY 1 ORDER BY 1",
    )?;
    let audit: Vec<_> = audit.lines().map(|line| line.replace(['|', '\t'], " ")).collect();
    assert_eq!(audit, ["allow_debugging 4", "forbid_debugging 5"], "each once");
    Ok(())
}

#[tokio::test]
async fn a_ban_is_made_once_a_request_id_by_an_administrator_of_what_is_there() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let client = debugging(&fleet, &fleet.admin).await?;
    let device = fleet.enroll("serial-1").await?;
    let asks = ForbidDebuggingRequest { validate_only: true, ..forbid(&parent, &Scope::Tenant(true)) };
    client.clone().forbid_debugging(asks).await?;
    assert_eq!(listed(client.clone(), &parent).await?, [], "it only asked");

    let request_id = "0b6ec2a8-8f0c-4c3f-9a25-5d9f2f3f4b11".to_owned();
    let named = ForbidDebuggingRequest {
        request_id: request_id.clone(),
        ..forbid(&parent, &Scope::Device(device.name()))
    };
    let other = ForbidDebuggingRequest { request_id, ..forbid(&parent, &Scope::Tenant(true)) };
    let call = async |request: ForbidDebuggingRequest| {
        Ok(client.clone().forbid_debugging(request).await?.into_inner())
    };
    let (first, again) = twice(call, named, other).await?;
    assert_eq!(first, again);

    for role in [Role::Viewer, Role::Operator, Role::Developer] {
        let colleague = fleet.admin.colleague(&fleet.stack, role).await?;
        let mut theirs = debugging(&fleet, &colleague).await?;
        let scope = Scope::Device(device.name());
        assert_eq!(refusal(theirs.allow_debugging(allow(&parent, &scope)).await).0, Code::PermissionDenied);
        assert_eq!(refusal(theirs.forbid_debugging(forbid(&parent, &scope)).await).0, Code::PermissionDenied);
        assert_eq!(listed(theirs, &parent).await?, [scope], "everybody may know");
    }
    let stranger = client::new_tenant(&fleet.stack, &fleet.admin, "Other").await?;
    let mut theirs = debugging(&fleet, &stranger).await?;
    let nobody = format!("{}/devices/dv{}", stranger.tenant, "0".repeat(32));
    let moved = device.name().replace(&parent, &stranger.tenant);
    for name in [device.name(), moved, nobody] {
        let forbidden = theirs.forbid_debugging(forbid(&stranger.tenant, &Scope::Device(name.clone()))).await;
        let allowed = theirs.allow_debugging(allow(&stranger.tenant, &Scope::Device(name))).await;
        assert_eq!((refusal(forbidden).0, refusal(allowed).0), (Code::NotFound, Code::NotFound));
    }
    for bad in [label("Site", "x"), label("site", "\0"), Scope::Tenant(false), Scope::Device("x".into())] {
        let refused = client.clone().forbid_debugging(forbid(&parent, &bad)).await;
        assert_eq!(refusal(refused).0, Code::InvalidArgument, "{bad:?}");
    }
    for number in 0..LABELS_MAX {
        client.clone().forbid_debugging(forbid(&parent, &label("n", &number.to_string()))).await?;
    }
    let more = client.clone().forbid_debugging(forbid(&parent, &label("n", "more"))).await;
    assert_eq!(refusal(more), (Code::ResourceExhausted, "DEBUG_LABEL_BANS_MAX".into()));
    client.clone().forbid_debugging(forbid(&parent, &label("n", "0"))).await?;
    Ok(())
}

#[tokio::test]
async fn an_operator_lifts_no_ban_by_labelling_replacing_or_accepting() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let mut client = debugging(&fleet, &fleet.admin).await?;
    let (old, new) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let mut devices = fleet.devices().await?;
    let operator = fleet.admin.colleague(&fleet.stack, Role::Operator).await?;
    let mut theirs = DeviceServiceClient::new(operator.client(&fleet.stack, Service::Registry).await?);
    let ring = label("ring", "production");
    client.forbid_debugging(forbid(&parent, &ring)).await?;

    theirs.update_device(update(&old.name(), &[("ring", "production"), ("site", "a")], "")).await?;
    for labels in [&[("site", "a")][..], &[("ring", "canary")]] {
        let refused = theirs.update_device(update(&old.name(), labels, "")).await;
        assert_eq!(refusal(refused), (Code::PermissionDenied, "FORBIDDEN".into()), "{labels:?}");
    }
    theirs.update_device(update(&old.name(), &[("ring", "production"), ("site", "b")], "")).await?;
    devices.update_device(update(&old.name(), &[], "")).await?;
    assert_eq!(bans(&shown(&fleet, &old.name()).await?), [], "an administrator may");
    theirs.update_device(update(&old.name(), &[("ring", "production")], "")).await?;

    // What takes the device's place takes its bans.
    client.forbid_debugging(forbid(&parent, &Scope::Device(old.name()))).await?;
    theirs.update_device(update(&new.name(), &[("ring", "canary")], "")).await?;
    let replace = ReplaceDeviceRequest { name: old.name(), replacement: new.name(), ..Default::default() };
    let placed = theirs.replace_device(replace).await?.into_inner();
    assert_eq!(bans(&placed), [ring.clone(), Scope::Device(new.name())]);

    // The replaced board comes back, and the one that replaced it after its flash was erased.
    for hardware_id in ["serial-1", "serial-2"] {
        let answer = Board::new(hardware_id)?.enroll(&fleet.stack, &fleet.voucher()).await?;
        ensure!(answer.status() == EnrollStatus::Pending, "{:?}", answer.status());
        let list = ListPendingEnrollmentsRequest { parent: parent.clone(), ..Default::default() };
        let pending = theirs.list_pending_enrollments(list).await?.into_inner().pending_enrollments.remove(0);
        let accept = AcceptPendingEnrollmentRequest { name: pending.name, ..Default::default() };
        let made = theirs.accept_pending_enrollment(accept).await?.into_inner();
        assert_eq!(bans(&made), [ring.clone(), Scope::Device(made.name.clone())], "{hardware_id}");
    }
    Ok(())
}
