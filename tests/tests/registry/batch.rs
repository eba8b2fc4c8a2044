//! Several devices in one call: all or none, in the order asked for, the one that is in the way named (AIP-231, 234, 235).

use anyhow::{Context, Result};
use dev::Service;
use proto::registry::v1::device_service_client::DeviceServiceClient;
use proto::registry::v1::{
    BatchDeleteDevicesRequest, BatchGetDevicesRequest, BatchUpdateDevicesRequest, GetDeviceRequest,
    RevokeDeviceRequest, UpdateDeviceRequest,
};
use scenarios::client::{self, Client};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::devices::update;
use crate::fleet::{Fleet, refusal};

/// As the service has it (docs and `svc-registry/src/model`).
const BATCH_MAX: usize = 1000;
const ONE: &str = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11";
/// Pairs of batches that name the same devices the other way round.
const CROSSINGS: usize = 20;

fn get(parent: &str, names: &[String]) -> BatchGetDevicesRequest {
    BatchGetDevicesRequest { parent: parent.into(), names: names.to_vec() }
}

fn label(parent: &str, names: &[String], site: &str) -> BatchUpdateDevicesRequest {
    let requests = names.iter().map(|name| update(name, &[("site", site)], "")).collect();
    BatchUpdateDevicesRequest { parent: parent.into(), requests, ..Default::default() }
}

fn delete(parent: &str, names: &[String]) -> BatchDeleteDevicesRequest {
    BatchDeleteDevicesRequest { parent: parent.into(), names: names.to_vec(), ..Default::default() }
}

/// Code, reason, and the name of the one in the way.
fn blamed<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String, String) {
    let status = result.expect_err("was to be refused");
    let resource = status.get_details_resource_info().map(|info| info.resource_name);
    (status.code(), kit::status::reason(&status).unwrap_or_default(), resource.unwrap_or_default())
}

async fn sites(
    devices: &mut DeviceServiceClient<Client>,
    parent: &str,
    names: &[String],
) -> Result<Vec<String>> {
    let found = devices.batch_get_devices(get(parent, names)).await?.into_inner().devices;
    assert!(found.iter().map(|device| &device.name).eq(names), "in the order asked for");
    Ok(found.into_iter().map(|mut device| device.labels.remove("site").unwrap_or_default()).collect())
}

#[tokio::test]
async fn several_devices_are_read_labelled_and_deleted_in_the_order_asked_for() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let mut devices = fleet.devices().await?;
    let mut names = Vec::new();
    for number in 0..3 {
        names.insert(0, fleet.enroll(&format!("serial-{number}")).await?.name());
    }
    let request = BatchUpdateDevicesRequest { request_id: ONE.into(), ..label(&parent, &names, "south") };
    let labelled = devices.batch_update_devices(request.clone()).await?.into_inner().devices;
    assert!(labelled.iter().map(|device| &device.name).eq(&names) && labelled[2].labels["site"] == "south");
    assert_eq!(sites(&mut devices, &parent, &names).await?, ["south", "south", "south"]);

    // The same once more changes nothing, whatever was said meanwhile; asking first changes nothing either.
    devices.update_device(update(&names[1], &[("site", "north")], "")).await?;
    devices.batch_update_devices(request.clone()).await?;
    let asked = BatchUpdateDevicesRequest { validate_only: true, ..label(&parent, &names, "west") };
    assert_eq!(devices.batch_update_devices(asked).await?.into_inner().devices[0].labels["site"], "west");
    assert_eq!(sites(&mut devices, &parent, &names).await?, ["south", "north", "south"]);
    let other = BatchUpdateDevicesRequest { request_id: ONE.into(), ..label(&parent, &names[1..], "south") };
    let reused = devices.batch_update_devices(other).await;
    assert_eq!(refusal(reused), (Code::AlreadyExists, "REQUEST_ID_REUSED".into()));

    for name in &names[1..] {
        devices.revoke_device(RevokeDeviceRequest { name: name.clone(), ..Default::default() }).await?;
    }
    let request_id = ONE.replace('6', "7");
    let gone = BatchDeleteDevicesRequest { request_id, ..delete(&parent, &names[1..]) };
    let asked = BatchDeleteDevicesRequest { validate_only: true, ..gone.clone() };
    devices.batch_delete_devices(asked).await?;
    assert_eq!(sites(&mut devices, &parent, &names).await?.len(), 3, "only asked");
    devices.batch_delete_devices(gone.clone()).await?;
    devices.batch_delete_devices(gone).await?;
    assert_eq!(sites(&mut devices, &parent, &names[..1]).await?, ["south"]);
    let missing = devices.batch_get_devices(get(&parent, &names)).await;
    assert_eq!(blamed(missing), (Code::NotFound, "NOT_FOUND".into(), names[1].clone()));
    Ok(())
}

#[tokio::test]
async fn the_one_that_is_in_the_way_is_named_and_nothing_changes() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let names = [fleet.enroll("serial-1").await?.name(), fleet.enroll("serial-2").await?.name()];
    let other = client::new_tenant(&fleet.stack, &fleet.admin, "Other").await?;
    let mut devices = fleet.devices().await?;
    devices.revoke_device(RevokeDeviceRequest { name: names[0].clone(), ..Default::default() }).await?;
    let before = devices.get_device(GetDeviceRequest { name: names[1].clone() }).await?.into_inner();
    let rows =
        || fleet.stack.sql("SELECT string_agg(d::text, '' ORDER BY device_id) FROM registry.devices d");
    let untouched = rows()?;

    // One that is not there, and one that is another tenant's: as far as can be told, the same.
    let nowhere = format!("{parent}/devices/dv{}", "0".repeat(32));
    let not_found = |name: &str| (Code::NotFound, "NOT_FOUND".to_owned(), name.to_owned());
    let mut theirs = DeviceServiceClient::new(other.client(&fleet.stack, Service::Registry).await?);
    let imagined = format!("{}/devices/dv{}", other.tenant, "0".repeat(32));
    for (mut at, parent, missing) in [
        (devices.clone(), &parent, &nowhere),
        (devices.clone(), &parent, &imagined),
        (theirs.clone(), &other.tenant, &names[0]),
    ] {
        let list = if *parent == other.tenant {
            vec![missing.clone()]
        } else {
            vec![names[0].clone(), missing.clone()]
        };
        assert_eq!(blamed(at.batch_get_devices(get(parent, &list)).await), not_found(missing));
        assert_eq!(blamed(at.batch_update_devices(label(parent, &list, "x")).await), not_found(missing));
        assert_eq!(blamed(at.batch_delete_devices(delete(parent, &list)).await), not_found(missing));
    }
    let foreign_parent = theirs.batch_get_devices(get(&parent, &names)).await;
    assert_eq!(blamed(foreign_parent), not_found(""), "nothing is said of what is in it");

    let alive = devices.batch_delete_devices(delete(&parent, &names)).await;
    assert_eq!(blamed(alive), (Code::FailedPrecondition, "NOT_REVOKED".into(), names[1].clone()));
    let mut stale = label(&parent, &names, "x");
    stale.requests[1].device.as_mut().context("a device")?.etag = format!("{}0", before.etag);
    let stale = devices.batch_update_devices(stale).await;
    assert_eq!(blamed(stale), (Code::Aborted, "ETAG_MISMATCH".into(), names[1].clone()));

    let one = |change: &dyn Fn(&mut UpdateDeviceRequest)| {
        let mut batch = label(&parent, &names, "x");
        change(&mut batch.requests[1]);
        batch
    };
    for (field, request) in [
        ("requests", label(&parent, &[], "x")),
        ("requests[1].device.name", label(&parent, &[names[0].clone(), "x".into()], "x")),
        ("requests[1].device.name", label(&parent, &[names[0].clone(), names[0].clone()], "x")),
        ("requests[1].device.name", one(&|r| r.device = None)),
        (
            "requests[1].device.labels",
            one(&|r| drop(r.device.as_mut().unwrap().labels.insert("K".into(), String::new()))),
        ),
        ("requests[1].update_mask", one(&|r| r.update_mask = None)),
        ("requests[1].request_id", one(&|r| r.request_id = ONE.into())),
        ("requests[1].validate_only", one(&|r| r.validate_only = true)),
    ] {
        let refused = refusal(devices.batch_update_devices(request).await);
        assert_eq!(refused, (Code::InvalidArgument, field.into()));
    }
    let twice = [names[0].clone(), names[0].clone()];
    let refused = refusal(devices.batch_delete_devices(delete(&parent, &twice)).await);
    assert_eq!(refused, (Code::InvalidArgument, "names[1]".into()));
    assert_eq!(rows()?, untouched);
    Ok(())
}

#[tokio::test]
async fn a_batch_has_a_thousand_devices_and_not_one_more() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    fleet.enroll("serial-0").await?;
    fleet.stack.sql(&format!(
        "INSERT INTO registry.devices (device_id, tenant_id, hardware_id, board, key_digest, public_key, created_at)
         SELECT 'dv' || lpad(to_hex(n), 32, '0'), tenant_id, 'many-' || n, board, sha256(int8send(n)), public_key, now()
         FROM registry.devices, generate_series(1, {}) n",
        BATCH_MAX + 1,
    ))?;
    let names: Vec<String> = (1..=BATCH_MAX + 1).map(|n| format!("{parent}/devices/dv{n:032x}")).collect();
    let (fits, many) = (&names[..BATCH_MAX], &names[..]);
    let mut devices = fleet.devices().await?;
    let too_many = |field: &str| (Code::InvalidArgument, field.to_owned());
    assert_eq!(refusal(devices.batch_get_devices(get(&parent, &[])).await), too_many("names"));
    assert_eq!(refusal(devices.batch_get_devices(get(&parent, many)).await), too_many("names"));
    assert_eq!(sites(&mut devices, &parent, fits).await?.len(), BATCH_MAX);
    assert_eq!(refusal(devices.batch_update_devices(label(&parent, many, "x")).await), too_many("requests"));
    devices.batch_update_devices(label(&parent, fits, "x")).await?;
    assert!(sites(&mut devices, &parent, fits).await?.iter().all(|site| site == "x"));
    fleet.stack.sql("UPDATE registry.devices SET revoked_at = now()")?;
    assert_eq!(refusal(devices.batch_delete_devices(delete(&parent, many)).await), too_many("names"));
    devices.batch_delete_devices(delete(&parent, fits)).await?;
    assert_eq!(fleet.stack.sql("SELECT count(*) FROM registry.devices")?.trim(), "2");
    Ok(())
}

#[tokio::test]
async fn batches_that_name_the_same_devices_the_other_way_round_do_not_block_each_other() -> Result<()> {
    let fleet = Fleet::start().await?;
    let parent = fleet.admin.tenant.clone();
    let mut names = Vec::new();
    for number in 0..4 {
        names.push(fleet.enroll(&format!("serial-{number}")).await?.name());
    }
    let devices = fleet.devices().await?;
    let backwards: Vec<String> = names.iter().rev().cloned().collect();
    let mut crossing = tokio::task::JoinSet::new();
    for number in 0..CROSSINGS {
        for names in [&names, &backwards] {
            let (mut at, request) = (devices.clone(), label(&parent, names, &number.to_string()));
            crossing.spawn(async move { at.batch_update_devices(request).await });
        }
    }
    for done in crossing.join_all().await {
        done?;
    }
    // Each batch as a whole, whichever was last.
    let sites = sites(&mut devices.clone(), &parent, &names).await?;
    assert!(sites.iter().all(|site| *site == sites[0]), "{sites:?}");
    Ok(())
}
