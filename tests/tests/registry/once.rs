//! Calls that are repeated, calls that only ask, and calls that say what they believe to change (AIP-155, 163, 154).

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use dev::{Service, Stack};
use proto::device::v1::EnrollStatus;
use proto::registry::v1::keyset_service_client::KeysetServiceClient;
use proto::registry::v1::tenant_service_client::TenantServiceClient;
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, CreateClaimRequest, CreateKeyRequest, CreateKeysetRequest,
    CreateTenantRequest, DeleteDeviceRequest, DeleteKeyRequest, Device, GetDeviceRequest, Key,
    ListPendingEnrollmentsRequest, RevokeClaimRequest, RevokeDeviceRequest, Role, UpdateDeviceRequest,
};
use rcgen::{KeyPair, PublicKeyData};
use scenarios::client::twice;
use scenarios::replica::Replica;
use tonic::{Code, Response};

use crate::board::{Board, PATIENCE};
use crate::devices::update;
use crate::fleet::{Fleet, claim_request, keyset, publish, refusal, root};

const ONE: &str = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11";
/// Calls that race under one id.
const RACERS: usize = 24;

fn count(stack: &Stack, what: &str) -> Result<usize> {
    Ok(stack.sql(&format!("SELECT count(*) FROM registry.{what}"))?.trim().parse()?)
}

/// Every row that a call may leave behind.
fn rows(stack: &Stack) -> Result<Vec<String>> {
    let tables = [
        "tenants",
        "intermediates",
        "keys",
        "claims",
        "certificates",
        "devices",
        "pending_enrollments",
        "keysets",
        "disconnects",
        "changes",
        "audit",
        "requests",
    ];
    let digest = |table| {
        stack.sql(&format!(
            "SELECT '{table}', count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM registry.{table} t"
        ))
    };
    tables.into_iter().map(digest).collect()
}

fn new_key(parent: &str, name: &str) -> Result<CreateKeyRequest> {
    let public_key = KeyPair::generate()?.subject_public_key_info();
    let key = Key { display_name: name.into(), role: Role::Viewer.into(), public_key, ..Default::default() };
    Ok(CreateKeyRequest { parent: parent.into(), key: Some(key), ..Default::default() })
}

fn new_tenant(name: &str) -> Result<CreateTenantRequest> {
    let admin_public_key = KeyPair::generate()?.subject_public_key_info();
    Ok(CreateTenantRequest { display_name: name.into(), admin_public_key, ..Default::default() })
}

/// A board that waits under the hardware id of another.
async fn waiting(fleet: &Fleet, hardware_id: &str) -> Result<String> {
    let answer = Board::new(hardware_id)?.enroll(&fleet.stack, &fleet.voucher()).await?;
    ensure!(answer.status() == EnrollStatus::Pending, "{:?}", answer.status());
    let list = ListPendingEnrollmentsRequest { parent: fleet.admin.tenant.clone(), ..Default::default() };
    let mut pending =
        fleet.devices().await?.list_pending_enrollments(list).await?.into_inner().pending_enrollments;
    Ok(pending.remove(0).name)
}

#[tokio::test]
async fn tenants_keys_claims_and_keysets_are_made_and_ended_once_a_request_id() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let registry = fleet.admin.client(&fleet.stack, Service::Registry).await?;
    let tenants = TenantServiceClient::new(registry.clone());
    let with_id = |n: u32| format!("6f1f9f6e-4f0a-4b1c-8c59-{n:012}");

    let create =
        async |request: CreateTenantRequest| Ok(tenants.clone().create_tenant(request).await?.into_inner());
    let request = CreateTenantRequest { request_id: with_id(1), ..new_tenant("Second")? };
    let other = CreateTenantRequest { display_name: "Third".into(), ..request.clone() };
    let (first, again) = twice(create, request.clone(), other).await?;
    assert_eq!((&first.name, &first.admin_key), (&again.name, &again.admin_key));
    assert_eq!(count(&fleet.stack, "tenants")?, 2);

    let create =
        async |request: CreateKeyRequest| Ok(tenants.clone().create_key(request).await?.into_inner());
    let request = CreateKeyRequest { request_id: with_id(2), ..new_key(&parent, "k")? };
    let other = CreateKeyRequest { key: new_key(&parent, "l")?.key, ..request.clone() };
    let (key, again) = twice(create, request, other).await?;
    assert_eq!(key, again);

    // Deleted already, and the one who asks again is told the same.
    let delete =
        async |request: DeleteKeyRequest| tenants.clone().delete_key(request).await.map(Response::into_inner);
    let request = DeleteKeyRequest { name: key.name, request_id: with_id(3), ..Default::default() };
    let other = DeleteKeyRequest { name: fleet.admin.key.clone(), ..request.clone() };
    twice(delete, request.clone(), other).await?;
    let unnamed = DeleteKeyRequest { request_id: String::new(), ..request };
    assert_eq!(refusal(delete(unnamed).await).0, Code::NotFound);

    let claims = fleet.claims().await?;
    let create =
        async |request: CreateClaimRequest| Ok(claims.clone().create_claim(request).await?.into_inner());
    let request = CreateClaimRequest {
        request_id: with_id(4),
        ..claim_request(&fleet.admin, &KeyPair::generate()?, 1)
    };
    let (claim, again) =
        twice(create, request.clone(), CreateClaimRequest { devices_max: 2, ..request }).await?;
    assert_eq!(claim, again);
    assert_eq!(count(&fleet.stack, "claims")?, 2);

    let revoke =
        async |request: RevokeClaimRequest| Ok(claims.clone().revoke_claim(request).await?.into_inner());
    let request = RevokeClaimRequest { name: claim.name, request_id: with_id(5), ..Default::default() };
    let other = RevokeClaimRequest { name: fleet.claim.name.clone(), ..request.clone() };
    let (claim, again) = twice(revoke, request, other).await?;
    assert_eq!(claim.revoke_time, again.revoke_time);
    assert_eq!(count(&fleet.stack, "audit WHERE action = 'revoke_claim'")?, 1);

    // Version 3 is the newest by the time the call for version 2 comes again.
    let keysets = KeysetServiceClient::new(registry);
    let create =
        async |request: CreateKeysetRequest| Ok(keysets.clone().create_keyset(request).await?.into_inner());
    let signed = |version| anyhow::Ok(keyset(&fleet.stack, &fleet.admin, version)?.sign(&[&root(1)])?);
    let request =
        CreateKeysetRequest { parent, signed: signed(2)?, request_id: with_id(6), ..Default::default() };
    let first = create(request.clone()).await?;
    publish(&fleet.stack, &fleet.admin, &keyset(&fleet.stack, &fleet.admin, 3)?, &[&root(1)]).await?;
    let (again, _) =
        twice(create, request.clone(), CreateKeysetRequest { signed: signed(4)?, ..request.clone() }).await?;
    assert_eq!(again, first);
    let unnamed = CreateKeysetRequest { request_id: String::new(), ..request };
    assert_eq!(refusal(create(unnamed).await), (Code::FailedPrecondition, "KEYSET_VERSION".into()));
    Ok(())
}

#[tokio::test]
async fn devices_are_labelled_accepted_and_deleted_once_a_request_id() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (one, two) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let devices = fleet.devices().await?;
    let with_id = |n: u32| format!("6f1f9f6e-4f0a-4b1c-8c59-{n:012}");

    // What another set meanwhile is not undone by a call that comes again, its etag of then in it.
    let before = devices.clone().get_device(GetDeviceRequest { name: one.name() }).await?.into_inner();
    let label =
        async |request: UpdateDeviceRequest| Ok(devices.clone().update_device(request).await?.into_inner());
    let named = |labels: &[(&str, &str)]| UpdateDeviceRequest {
        request_id: with_id(1),
        ..update(&one.name(), labels, &before.etag)
    };
    let many: Vec<(String, String)> = (0..64).map(|n| (format!("k{n}"), n.to_string())).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let first = label(named(&many)).await?;
    assert_eq!(first.labels.len(), 64);
    let another = label(update(&one.name(), &[("site", "south")], "")).await?;
    let (again, _) = twice(label, named(&many), named(&[])).await?;
    assert_eq!(again, another, "as it is by now");

    let accept = async |request: AcceptPendingEnrollmentRequest| {
        Ok(devices.clone().accept_pending_enrollment(request).await?.into_inner())
    };
    let request = AcceptPendingEnrollmentRequest {
        name: waiting(&fleet, "serial-2").await?,
        request_id: with_id(2),
        ..Default::default()
    };
    let elsewhere = format!("{}/pendingEnrollments/pn{}", fleet.admin.tenant, "0".repeat(32));
    let other = AcceptPendingEnrollmentRequest { name: elsewhere, ..request.clone() };
    let (accepted, again) = twice(accept, request, other).await?;
    assert_eq!((&accepted.name, &accepted.hardware_id), (&again.name, &again.hardware_id));
    assert_eq!(count(&fleet.stack, "devices")?, 3);

    let delete = async |request: DeleteDeviceRequest| {
        devices.clone().delete_device(request).await.map(Response::into_inner)
    };
    let request = DeleteDeviceRequest { name: two.name(), request_id: with_id(3), ..Default::default() };
    twice(delete, request.clone(), DeleteDeviceRequest { name: one.name(), ..request.clone() }).await?;
    let unnamed = DeleteDeviceRequest { request_id: String::new(), ..request };
    assert_eq!(refusal(delete(unnamed).await).0, Code::NotFound);
    assert_eq!(count(&fleet.stack, "devices")?, 2);
    Ok(())
}

#[tokio::test]
async fn a_repeated_revocation_ends_the_connection_again() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let devices = fleet.devices().await?;
    let before = devices.clone().get_device(GetDeviceRequest { name: device.name() }).await?.into_inner();
    // What was read before it was revoked is no obstacle to saying it again.
    let request = RevokeDeviceRequest {
        name: device.name(),
        request_id: ONE.into(),
        etag: before.etag,
        ..Default::default()
    };
    let revoke =
        async |request: RevokeDeviceRequest| Ok(devices.clone().revoke_device(request).await?.into_inner());
    let (first, again) =
        twice(revoke, request.clone(), RevokeDeviceRequest { etag: String::new(), ..request.clone() })
            .await?;
    assert_eq!(first.revoke_time, again.revoke_time);

    // A connection that should not be: made while the row said otherwise.
    fleet.stack.sql("UPDATE registry.devices SET revoked_at = NULL")?;
    let session = device.connect(&fleet.stack).await?;
    fleet.stack.sql("UPDATE registry.devices SET revoked_at = now()")?;
    revoke(request.clone()).await?;
    session.closed().await?;

    // Nobody confirms: the one who asks again is not told that it is done.
    fleet.stack.stop(Service::Broker).await?;
    let unconfirmed = (Code::Unavailable, "UNAVAILABLE".to_owned());
    assert_eq!(refusal(revoke(request.clone()).await), unconfirmed);
    assert_eq!(refusal(revoke(request.clone()).await), unconfirmed);
    assert_eq!(count(&fleet.stack, "disconnects")?, 1);
    fleet.stack.start_service(Service::Broker).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while revoke(request.clone()).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the broker is back");
    }
    assert_eq!(count(&fleet.stack, "disconnects")?, 0);
    assert_eq!(count(&fleet.stack, "audit WHERE action = 'revoke_device'")?, 1);
    Ok(())
}

#[tokio::test]
async fn replicas_that_race_under_one_request_id_make_one_tenant_and_delete_one_key() -> Result<()> {
    let fleet = Fleet::start().await?;
    let second = Replica::start(&fleet.stack, Service::Registry).await?;
    let at = [
        TenantServiceClient::new(fleet.admin.client(&fleet.stack, Service::Registry).await?),
        TenantServiceClient::new(second.client(&fleet.stack, &fleet.admin).await?),
    ];
    let request = CreateTenantRequest { request_id: ONE.into(), ..new_tenant("Second")? };
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..RACERS {
        let (mut at, request) = (at[number % 2].clone(), request.clone());
        racing.spawn(async move { at.create_tenant(request).await.map(|made| made.into_inner().name) });
    }
    let names: BTreeSet<String> = racing.join_all().await.into_iter().collect::<Result<_, _>>()?;
    assert_eq!((names.len(), count(&fleet.stack, "tenants")?), (1, 2));

    let key = at[0].clone().create_key(new_key(&fleet.admin.tenant, "k")?).await?.into_inner().name;
    let request = DeleteKeyRequest { name: key, request_id: ONE.replace('6', "7"), ..Default::default() };
    let mut racing = tokio::task::JoinSet::new();
    for number in 0..RACERS {
        let (mut at, request) = (at[number % 2].clone(), request.clone());
        racing.spawn(async move { at.delete_key(request).await });
    }
    for deleted in racing.join_all().await {
        deleted?;
    }
    assert_eq!(count(&fleet.stack, "audit WHERE action = 'delete_key'")?, 1);
    Ok(())
}

#[tokio::test]
async fn a_call_that_only_asks_is_answered_and_leaves_nothing_behind() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let (one, two) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let mut devices = fleet.devices().await?;
    devices.revoke_device(RevokeDeviceRequest { name: two.name(), ..Default::default() }).await?;
    let pending = waiting(&fleet, "serial-1").await?;
    let key = new_key(&parent, "k")?;
    let registry = fleet.admin.client(&fleet.stack, Service::Registry).await?;
    let mut tenants = TenantServiceClient::new(registry.clone());
    let made = tenants.create_key(key.clone()).await?.into_inner();
    let mut claims = fleet.claims().await?;
    let (validate_only, request_id) = (true, ONE.to_owned());

    let before = rows(&fleet.stack)?;
    let asked = update(&one.name(), &[("site", "south")], "");
    let asked = UpdateDeviceRequest { validate_only, request_id: request_id.clone(), ..asked };
    let answer = devices.update_device(asked.clone()).await?.into_inner();
    assert_eq!(answer.labels["site"], "south", "as if it were done");
    let revoke = RevokeDeviceRequest { name: one.name(), validate_only, ..Default::default() };
    assert!(devices.revoke_device(revoke).await?.into_inner().revoke_time.is_some());
    let delete = |name: String| DeleteDeviceRequest { name, validate_only, ..Default::default() };
    devices.delete_device(delete(two.name())).await?;
    let refused = devices.delete_device(delete(one.name())).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "NOT_REVOKED".into()), "what is wrong is told");
    let accept = AcceptPendingEnrollmentRequest { name: pending, validate_only, ..Default::default() };
    let accepted = devices.accept_pending_enrollment(accept).await?.into_inner();
    assert_eq!((accepted.hardware_id.as_str(), accepted.name.as_str()), ("serial-1", ""));

    let tenant = CreateTenantRequest { validate_only, ..new_tenant("Second")? };
    let tenant = tenants.create_tenant(tenant).await?.into_inner();
    assert_eq!((tenant.name.as_str(), tenant.admin_key.as_str()), ("", ""));
    let again = tenants.create_key(CreateKeyRequest { validate_only, ..key }).await;
    assert_eq!(refusal(again).0, Code::AlreadyExists);
    let new = CreateKeyRequest { validate_only, ..new_key(&parent, "l")? };
    assert_eq!(tenants.create_key(new).await?.into_inner().name, "");
    let delete = DeleteKeyRequest { name: made.name, validate_only, ..Default::default() };
    tenants.delete_key(delete).await?;
    let claim = claim_request(&fleet.admin, &KeyPair::generate()?, 1);
    let claim = claims.create_claim(CreateClaimRequest { validate_only, ..claim }).await?.into_inner();
    assert!(claim.name.is_empty() && claim.certificate.is_empty(), "no certificate leaves the house");
    let revoke = RevokeClaimRequest { name: fleet.claim.name.clone(), validate_only, ..Default::default() };
    claims.revoke_claim(revoke).await?;
    let signed = keyset(&fleet.stack, &fleet.admin, 2)?.sign(&[&root(1)])?;
    let keyset = CreateKeysetRequest { parent, signed, validate_only, ..Default::default() };
    assert_eq!(KeysetServiceClient::new(registry).create_keyset(keyset).await?.into_inner().version, 2);
    assert_eq!(rows(&fleet.stack)?, before);

    // The same call, meant: its id was not used up.
    let meant = UpdateDeviceRequest { validate_only: false, ..asked };
    assert_eq!(devices.update_device(meant).await?.into_inner().labels["site"], "south");
    assert_ne!(rows(&fleet.stack)?, before);
    Ok(())
}

#[tokio::test]
async fn a_device_that_changed_since_it_was_read_is_neither_revoked_nor_deleted() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let mut devices = fleet.devices().await?;
    let stale = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    let before = devices.get_device(GetDeviceRequest { name: device.name() }).await?.into_inner();
    let labelled =
        devices.update_device(update(&device.name(), &[("site", "south")], "")).await?.into_inner();

    let revoke = |of: &Device| RevokeDeviceRequest {
        name: device.name(),
        etag: of.etag.clone(),
        ..Default::default()
    };
    assert_eq!(refusal(devices.revoke_device(revoke(&before)).await), stale);
    let revoked = devices.revoke_device(revoke(&labelled)).await?.into_inner();

    let delete = |of: &Device| DeleteDeviceRequest {
        name: device.name(),
        etag: of.etag.clone(),
        ..Default::default()
    };
    assert_eq!(refusal(devices.delete_device(delete(&labelled)).await), stale);
    devices.delete_device(delete(&revoked)).await?;
    assert_eq!(refusal(devices.delete_device(delete(&revoked)).await).0, Code::NotFound);
    Ok(())
}
