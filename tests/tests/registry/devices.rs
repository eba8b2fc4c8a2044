//! Devices as operators see them: lists, labels, watching, revoking, deleting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use dev::{Options, Part, Service};
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::watch_devices_response::Kind;
use proto::registry::v1::{
    DeleteDeviceRequest, Device, GetDeviceRequest, ListDevicesRequest, RevokeDeviceRequest,
    UpdateDeviceRequest, WatchDevicesRequest, WatchDevicesResponse,
};
use scenarios::client::Client;
use tonic::{Code, Streaming};

use crate::board::{PATIENCE, hello, slot};
use crate::fleet::{Fleet, refusal};

pub(crate) fn update(name: &str, labels: &[(&str, &str)], etag: &str) -> UpdateDeviceRequest {
    let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    UpdateDeviceRequest {
        device: Some(Device { name: name.into(), labels, etag: etag.into(), ..Device::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
        ..Default::default()
    }
}

async fn list(devices: &mut DeviceServiceClient<Client>, parent: &str, filter: &str) -> Result<Vec<String>> {
    let (mut found, mut page_token) = (Vec::new(), String::new());
    loop {
        let request =
            ListDevicesRequest { parent: parent.into(), page_size: 2, page_token, filter: filter.into() };
        let page = devices.list_devices(request).await?.into_inner();
        assert!(page.devices.len() <= 2);
        found.extend(page.devices.into_iter().map(|device| device.hardware_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(found);
        }
    }
}

#[tokio::test]
async fn devices_are_listed_by_filter_page_by_page_and_labelled() -> Result<()> {
    let fleet = Fleet::start().await?;
    let mut devices = fleet.devices().await?;
    let parent = fleet.admin.tenant.clone();
    let mut enrolled = Vec::new();
    for number in 0..5 {
        enrolled.push(fleet.enroll(&format!("serial-{number}")).await?);
    }
    for (number, device) in enrolled.iter().enumerate() {
        let site = if number % 2 == 0 { "north wing" } else { "south" };
        devices.update_device(update(&device.name(), &[("site", site), ("floor", "1")], "")).await?;
    }
    let mut session = enrolled[1].connect(&fleet.stack).await?;
    enrolled[1]
        .say(&mut session, &proto::device::v1::HelloUp { slots: vec![slot("2.5.0")], ..hello(1, 1) })
        .await?;
    fleet.device_becomes(&enrolled[1].name(), |d| d.boot_count == 1).await?;
    devices.revoke_device(RevokeDeviceRequest { name: enrolled[4].name(), ..Default::default() }).await?;

    let all = ["serial-0", "serial-1", "serial-2", "serial-3", "serial-4"];
    for (filter, expected) in [
        ("", all.as_slice()),
        ("board=bench", &all),
        ("board=other", &[]),
        ("labels.site=\"north wing\"", &["serial-0", "serial-2", "serial-4"]),
        ("labels.site=\"north wing\" AND revoked=false", &["serial-0", "serial-2"]),
        ("revoked=true", &["serial-4"]),
        ("hardware_id=serial-3 AND labels.floor=1", &["serial-3"]),
        ("version=2.5.0", &["serial-1"]),
    ] {
        assert_eq!(list(&mut devices, &parent, filter).await?, expected, "{filter}");
    }
    let request = |filter: &str, page_token: &str| ListDevicesRequest {
        parent: parent.clone(),
        page_size: 2,
        page_token: page_token.into(),
        filter: filter.into(),
    };
    let bad = devices.list_devices(request("colour=red", "")).await;
    assert_eq!(refusal(bad), (Code::InvalidArgument, "filter".into()));
    let token = devices.list_devices(request("", "")).await?.into_inner().next_page_token;
    let other_filter = devices.list_devices(request("board=bench", &token)).await;
    assert_eq!(refusal(other_filter), (Code::InvalidArgument, "page_token".into()));
    // A page token stays right while devices come: none twice, none left out.
    fleet.enroll("serial-5").await?;
    let rest = devices.list_devices(request("", &token)).await?.into_inner();
    assert_eq!(rest.devices[0].hardware_id, "serial-2");
    Ok(())
}

#[tokio::test]
async fn labels_are_changed_under_a_mask_and_an_etag() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let mut devices = fleet.devices().await?;
    let name = device.name();
    let before = devices.get_device(GetDeviceRequest { name: name.clone() }).await?.into_inner();
    let after = devices.update_device(update(&name, &[("site", "é")], &before.etag)).await?.into_inner();
    assert_eq!(after.labels, BTreeMap::from([("site".into(), "é".into())]));
    assert_ne!(after.etag, before.etag);
    let stale = devices.update_device(update(&name, &[], &before.etag)).await;
    assert_eq!(refusal(stale), (Code::Aborted, "ETAG_MISMATCH".into()));

    let good = update(&name, &[], "");
    let mask = |paths: &[&str]| {
        Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() })
    };
    for (field, request) in [
        ("device", UpdateDeviceRequest { device: None, ..good.clone() }),
        ("device.name", update("tenants/x", &[], "")),
        ("update_mask", UpdateDeviceRequest { update_mask: None, ..good.clone() }),
        ("update_mask", UpdateDeviceRequest { update_mask: mask(&["labels", "board"]), ..good.clone() }),
        ("device.labels", update(&name, &[("UPPER", "x")], "")),
        ("device.labels", update(&name, &[("k", &"x".repeat(256))], "")),
        ("device.labels", update(&name, &[("k", "\0")], "")),
    ] {
        assert_eq!(refusal(devices.update_device(request).await), (Code::InvalidArgument, field.into()));
    }
    devices.update_device(good).await?;
    let request = GetDeviceRequest { name: name.replace("/devices/", "/device/") };
    assert_eq!(refusal(devices.get_device(request).await), (Code::InvalidArgument, "name".into()));
    Ok(())
}

struct Watch(Streaming<WatchDevicesResponse>);

impl Watch {
    async fn next(&mut self) -> Result<(Kind, Device)> {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await.context("nothing came")??;
        let next = next.context("the watch ended")?;
        Ok((next.kind(), next.device.unwrap_or_default()))
    }

    /// The next change that is as wanted; changes may be told more than once.
    async fn until(&mut self, wanted: impl Fn(Kind, &Device) -> bool) -> Result<Device> {
        loop {
            let (kind, device) = self.next().await?;
            if wanted(kind, &device) {
                return Ok(device);
            }
        }
    }
}

#[tokio::test]
async fn a_watch_gives_a_snapshot_and_then_every_change() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (one, two) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let mut devices = fleet.devices().await?;
    let request = |filter: &str| WatchDevicesRequest {
        parent: fleet.admin.tenant.clone(),
        filter: filter.into(),
        ..Default::default()
    };
    assert_eq!(refusal(devices.watch_devices(request("x")).await), (Code::InvalidArgument, "filter".into()));
    let mut all = Watch(devices.watch_devices(request("")).await?.into_inner());
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let (kind, device) = all.next().await?;
        assert_eq!(kind, Kind::Snapshot);
        seen.insert(device.name);
    }
    assert_eq!(seen, BTreeSet::from([one.name(), two.name()]));
    assert_eq!(all.next().await?, (Kind::Synced, Device::default()));
    let mut south = Watch(devices.watch_devices(request("labels.site=south")).await?.into_inner());
    assert_eq!(south.next().await?.0, Kind::Synced);

    devices.update_device(update(&one.name(), &[("site", "south")], "")).await?;
    all.until(|kind, d| kind == Kind::Changed && d.name == one.name() && d.labels["site"] == "south").await?;
    south.until(|kind, d| kind == Kind::Changed && d.name == one.name()).await?;
    devices.update_device(update(&one.name(), &[], "")).await?;
    south.until(|kind, d| kind == Kind::Deleted && d.name == one.name()).await?;

    let three = fleet.enroll("serial-3").await?;
    all.until(|kind, d| kind == Kind::Changed && d.name == three.name()).await?;
    let mut session = three.connect(&fleet.stack).await?;
    three.say(&mut session, &hello(1, 1)).await?;
    let online = proto::registry::v1::Presence::Online;
    let said =
        all.until(|kind, d| kind == Kind::Changed && d.boot_count == 1 && d.presence() == online).await?;
    assert_eq!(said.slots[0].version, "1.0.0");
    devices.revoke_device(RevokeDeviceRequest { name: two.name(), ..Default::default() }).await?;
    all.until(|_, d| d.name == two.name() && d.revoke_time.is_some()).await?;
    devices.delete_device(DeleteDeviceRequest { name: two.name(), ..Default::default() }).await?;
    all.until(|kind, d| kind == Kind::Deleted && d.name == two.name()).await?;
    Ok(())
}

#[tokio::test]
async fn a_revoked_device_loses_its_connection_and_does_not_come_back() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (one, two) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    let mut devices = fleet.devices().await?;
    let early = devices.delete_device(DeleteDeviceRequest { name: one.name(), ..Default::default() }).await;
    assert_eq!(refusal(early), (Code::FailedPrecondition, "NOT_REVOKED".into()));

    let session = one.connect(&fleet.stack).await?;
    let revoked = devices
        .revoke_device(RevokeDeviceRequest { name: one.name(), ..Default::default() })
        .await?
        .into_inner();
    assert!(revoked.revoke_time.is_some());
    session.closed().await?;
    assert!(one.connect(&fleet.stack).await.is_err());
    let again = devices
        .revoke_device(RevokeDeviceRequest { name: one.name(), ..Default::default() })
        .await?
        .into_inner();
    assert_eq!(again.revoke_time, revoked.revoke_time);
    let late = fleet.stack.sql("SELECT count(*) FROM registry.disconnects")?;
    assert_eq!(late.trim(), "0", "every node confirmed");

    fleet.stack.stop(Part::Redis).await?;
    let session = two.connect(&fleet.stack).await?;
    devices.revoke_device(RevokeDeviceRequest { name: two.name(), ..Default::default() }).await?;
    session.closed().await?;
    assert!(two.connect(&fleet.stack).await.is_err(), "without Redis too");
    devices.delete_device(DeleteDeviceRequest { name: two.name(), ..Default::default() }).await?;
    let gone = devices.get_device(GetDeviceRequest { name: two.name() }).await;
    assert_eq!(refusal(gone).0, Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_revocation_while_the_broker_is_away_is_kept_and_carried_out_later() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let mut devices = fleet.devices().await?;
    fleet.stack.stop(Service::Broker).await?;
    let unconfirmed =
        devices.revoke_device(RevokeDeviceRequest { name: device.name(), ..Default::default() }).await;
    assert_eq!(
        refusal(unconfirmed),
        (Code::Unavailable, "UNAVAILABLE".into()),
        "it says that it is not done"
    );
    let shown = devices.get_device(GetDeviceRequest { name: device.name() }).await?.into_inner();
    assert!(shown.revoke_time.is_some(), "and yet it is revoked");
    fleet.stack.start_service(Service::Broker).await?;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while fleet.stack.sql("SELECT count(*) FROM registry.disconnects")?.trim() != "0" {
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert!(device.connect(&fleet.stack).await.is_err());
    Ok(())
}

#[tokio::test]
async fn presence_is_a_lease_that_a_will_or_time_ends_and_nothing_without_redis() -> Result<()> {
    use proto::registry::v1::Presence;
    let options = crate::fleet::both().env(Service::Registry, "HOLDFAST_PRESENCE_LEASE_S", "4");
    let fleet = Fleet::start_with(options).await?;
    let device = fleet.enroll("serial-1").await?;
    let name = device.name();
    let shown = fleet.device_becomes(&name, |_| true).await?;
    assert_eq!(shown.presence(), Presence::Unspecified, "nothing was ever heard");

    let will = proto::device::v1::HelloUp { nonce: vec![], ..hello(1, 0) };
    let mut session = device.connect_with_will(&fleet.stack, Some(&will)).await?;
    device.say(&mut session, &hello(1, 1)).await?;
    let online = fleet.device_becomes(&name, |d| d.presence() == Presence::Online).await?;
    assert!(online.last_hello_time.is_some());
    drop(session);
    fleet.device_becomes(&name, |d| d.presence() == Presence::Offline).await?;

    // The will of an older connection says nothing of this one.
    let second = proto::device::v1::HelloUp { connection: 2, ..hello(1, 2) };
    let mut session = device.connect(&fleet.stack).await?;
    device.say(&mut session, &second).await?;
    fleet.device_becomes(&name, |d| d.presence() == Presence::Online).await?;
    device.say(&mut session, &will).await?;
    device
        .say(&mut session, &proto::device::v1::HelloUp { connection: 2, app_floor: 77, ..hello(1, 3) })
        .await?;
    let still = fleet.device_becomes(&name, |d| d.app_floor == 77).await?;
    assert_eq!(still.presence(), Presence::Online);
    // Silence ends a lease.
    fleet.device_becomes(&name, |d| d.presence() == Presence::Offline).await?;

    fleet.stack.stop(Part::Redis).await?;
    fleet.device_becomes(&name, |d| d.presence() == Presence::Unspecified).await?;
    device
        .say(&mut session, &proto::device::v1::HelloUp { connection: 2, app_floor: 78, ..hello(1, 4) })
        .await?;
    fleet.device_becomes(&name, |d| d.app_floor == 78).await?;
    fleet.stack.start_service(Part::Redis).await?;
    device.say(&mut session, &proto::device::v1::HelloUp { connection: 2, ..hello(1, 5) }).await?;
    fleet.device_becomes(&name, |d| d.presence() == Presence::Online).await?;
    Ok(())
}

/// Measures, never gates: how long a revocation takes from the call to the closed connection.
#[tokio::test]
async fn a_revocation_is_told_when_the_connection_is_closed() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let session = device.connect(&fleet.stack).await?;
    let mut devices = fleet.devices().await?;
    let started = std::time::Instant::now();
    devices.revoke_device(RevokeDeviceRequest { name: device.name(), ..Default::default() }).await?;
    let answered = started.elapsed();
    session.closed().await?;
    let closed = started.elapsed().saturating_sub(answered);
    println!("revoke answered after {answered:?}, connection seen closed {closed:?} later");
    assert!(closed < PATIENCE.min(Duration::from_secs(30)));
    Ok(())
}

#[tokio::test]
async fn rows_of_another_tenant_are_invisible_to_the_database_role_itself() -> Result<()> {
    let stack = dev::Stack::start(Options::only([Service::Registry])).await?;
    let admin = scenarios::client::bootstrap(&stack).await?;
    let other = scenarios::client::new_tenant(&stack, &admin, "Other").await?;
    let id = |person: &scenarios::client::Person| person.tenant.trim_start_matches("tenants/").to_owned();
    let as_registry = |scope: &str, sql: &str| {
        stack.sql(&format!("SET ROLE holdfast_registry; BEGIN; {scope} {sql} COMMIT;"))
    };
    let count = "SELECT count(*) FROM registry.keys;";
    let last = |text: String| text.split_whitespace().rfind(|w| w.parse::<i64>().is_ok()).map(str::to_owned);
    assert_eq!(last(as_registry("", count)?).as_deref(), Some("0"), "no scope, no rows");
    let own = format!("SET LOCAL app.tenant = '{}';", id(&admin));
    assert_eq!(last(as_registry(&own, count)?).as_deref(), Some("1"));
    assert_eq!(last(as_registry("SET LOCAL app.tenant = '*';", count)?).as_deref(), Some("2"));
    let steal = format!("UPDATE registry.keys SET tenant_id = '{0}' WHERE tenant_id = '{0}';", id(&other));
    as_registry(&own, &steal)?;
    let into = format!("UPDATE registry.keys SET tenant_id = '{}';", id(&other));
    assert!(as_registry(&own, &into).is_err(), "a row is not written into another tenant");
    // Every table that has a tenant has the lock.
    let unlocked =
        "SELECT string_agg(c.relname, ',') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'registry' AND c.relkind = 'r' AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
        AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')";
    assert_eq!(stack.sql(unlocked)?.trim(), "");
    // Other services read the views and nothing else.
    let ota = stack.sql("SET ROLE holdfast_ota; BEGIN; SET LOCAL app.tenant = '*'; SELECT count(*) FROM registry.device_v1; COMMIT;");
    assert!(ota.is_ok());
    assert!(stack.sql("SET ROLE holdfast_ota; SELECT count(*) FROM registry.devices;").is_err());
    Ok(())
}
