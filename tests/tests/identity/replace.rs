//! A board takes the place of one that is broken.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use proto::registry::v1::{
    AcceptPendingEnrollmentRequest, Device, GetDeviceRequest, ListPendingEnrollmentsRequest,
    ReplaceDeviceRequest, UpdateDeviceRequest,
};
use tonic::Code;

use crate::board::{Board, Enrolled, Voucher};
use crate::client::{self, twice};
use crate::fleet::{Fleet, keyset, new_claim, publish, refusal, root};
use crate::world::World;
use crate::{GOOD, becomes, board_online, field, id};

#[tokio::test]
async fn a_new_board_takes_the_place_of_a_broken_one_with_its_labels_and_what_it_was_to_run() -> Result<()> {
    let world = World::start().await?;
    let (mut broken, old) = board_online(&world, "old", "serial-1").await?;
    let bundle = world.bundle(GOOD, "1.0.0", 1, &["--trial", "4s", "--stable", "0s"]).await?;
    world.cli(&["device", "label", &old, "site=berlin", "ring=canary"]).await?;
    let (state, reason) = world.deploy(&old, &bundle).await?;
    ensure!(state == "STATE_CONFIRMED", "{state} {reason}");
    let (_spare, new) = board_online(&world, "new", "serial-2").await?;
    world.cli(&["device", "label", &new, "ring=slow"]).await?;

    let said = world.cli(&["device", "replace", &old, &new]).await?;
    ensure!(said.contains("ring=slow,site=berlin") && said.contains("is to run 1.0.0"), "{said}");
    broken.event("refused", 1).await?;
    let runs = |device: &serde_json::Value| {
        let slots = device["slots"].as_array().cloned().unwrap_or_default();
        slots.iter().any(|slot| slot["running"] == true && field(slot, "version") == "1.0.0")
    };
    let shown = becomes(&world, &new, runs).await?;
    ensure!(field(&shown, "replaces") == old, "{shown}");
    let gone = world.one(&["device", "show", &old]).await?;
    ensure!(field(&gone, "replaced_by") == new && !field(&gone, "revoke_time").is_empty(), "{gone}");
    ensure!(
        world.json(&["device", "list", "--filter", "labels.site=berlin AND revoked=false"]).await?.len() == 1
    );

    // Again: nothing more is done.
    let again = world.cli(&["device", "replace", id(&old), id(&new)]).await?;
    ensure!(!again.contains("is to run"), "{again}");
    ensure!(world.json(&["deployment", "list", "--device", &new]).await?.len() == 1);
    let other = world.try_cli(&["device", "replace", &new, &old]).await?;
    ensure!(other.code != 0 && other.stderr.contains("revoked"), "{other:?}");
    Ok(())
}

fn replace(old: &Enrolled, new: &Enrolled) -> ReplaceDeviceRequest {
    ReplaceDeviceRequest { name: old.name(), replacement: new.name(), ..Default::default() }
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> UpdateDeviceRequest {
    let labels: BTreeMap<_, _> = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    UpdateDeviceRequest {
        device: Some(Device { name: name.into(), labels, ..Device::default() }),
        update_mask: Some(prost_types::FieldMask { paths: vec!["labels".into()] }),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_place_is_taken_once_by_a_good_device_of_the_tenants_own() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (old, new, third) =
        (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?, fleet.enroll("serial-3").await?);
    let mut devices = fleet.devices().await?;
    let session = old.connect(&fleet.stack).await?;

    let other = client::new_tenant(&fleet.stack, &fleet.admin, "Other").await?;
    publish(&fleet.stack, &other, &keyset(&fleet.stack, &other, 1)?, &[&root(1)]).await?;
    let (claim, key) = new_claim(&fleet.stack, &other, 1).await?;
    let board = Board::new("serial-2")?;
    let answer = board.enroll(&fleet.stack, &Voucher { certificate: &claim.certificate, key: &key }).await?;
    let theirs = Enrolled { board, answer };
    assert_eq!(refusal(devices.replace_device(replace(&old, &theirs)).await).0, Code::NotFound);
    assert_eq!(refusal(devices.replace_device(replace(&theirs, &new)).await).0, Code::NotFound);
    let itself = devices.replace_device(replace(&old, &old)).await;
    assert_eq!(refusal(itself), (Code::InvalidArgument, "replacement".into()));
    let board = Board::new("serial-9")?;
    let answer = board
        .enroll_with(&fleet.stack, &fleet.voucher(), |request| proto::device::v1::EnrollUp {
            board: "another".into(),
            ..request
        })
        .await?;
    let another = devices.replace_device(replace(&old, &Enrolled { board, answer })).await;
    assert_eq!(refusal(another), (Code::FailedPrecondition, "OTHER_BOARD".into()));

    let stale = ReplaceDeviceRequest { etag: "0".into(), ..replace(&old, &new) };
    assert_eq!(refusal(devices.replace_device(stale).await), (Code::Aborted, "ETAG_MISMATCH".into()));
    let asked = ReplaceDeviceRequest { validate_only: true, ..replace(&old, &new) };
    assert_eq!(devices.replace_device(asked).await?.into_inner().replaces, old.name());
    let shown = devices.get_device(GetDeviceRequest { name: old.name() }).await?.into_inner();
    assert!(shown.revoke_time.is_none(), "it only asked");

    devices.update_device(labelled(&old.name(), &[("site", "berlin"), ("ring", "canary")])).await?;
    devices.update_device(labelled(&new.name(), &[("ring", "slow")])).await?;
    let request_id = "0b6ec2a8-8f0c-4c3f-9a25-5d9f2f3f4b11".to_owned();
    let named = ReplaceDeviceRequest { request_id: request_id.clone(), ..replace(&old, &new) };
    let other = ReplaceDeviceRequest { request_id, ..replace(&old, &third) };
    let call = async |request: ReplaceDeviceRequest| {
        Ok(fleet.devices().await.expect("a client").replace_device(request).await?.into_inner())
    };
    let (first, again) = twice(call, named, other).await?;
    assert_eq!(first, again);
    assert_eq!((first.name.as_str(), first.replaces.as_str()), (new.name().as_str(), old.name().as_str()));
    let labels = [("ring", "slow"), ("site", "berlin")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(first.labels, BTreeMap::from(labels), "what it was given itself stays");
    session.closed().await?;
    assert!(old.connect(&fleet.stack).await.is_err());
    new.connect(&fleet.stack).await?;
    let back = old.board.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!(back.reason(), proto::device::v1::EnrollReason::DeviceRevoked, "the old key stays out");

    for (old, new, reason) in [
        (&old, &third, "ALREADY_REPLACED"),
        (&third, &new, "ALREADY_REPLACED"),
        (&third, &old, "DEVICE_REVOKED"),
    ] {
        let refused = devices.replace_device(replace(old, new)).await;
        assert_eq!(refusal(refused), (Code::FailedPrecondition, reason.into()));
    }
    // Who took a place may be replaced in turn.
    let next = devices.replace_device(replace(&new, &third)).await?.into_inner();
    assert_eq!((next.replaces, next.labels["site"].as_str()), (new.name(), "berlin"));
    Ok(())
}

#[tokio::test]
async fn a_board_whose_flash_was_erased_waits_and_then_takes_its_own_old_place() -> Result<()> {
    let fleet = Fleet::start().await?;
    let old = fleet.enroll("serial-1").await?;
    let mut devices = fleet.devices().await?;
    devices.update_device(labelled(&old.name(), &[("site", "berlin")])).await?;
    let erased = Board::new("serial-1")?;
    let answer = erased.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!(answer.status(), proto::device::v1::EnrollStatus::Pending);
    let list = ListPendingEnrollmentsRequest { parent: fleet.admin.tenant.clone(), ..Default::default() };
    let pending = devices.list_pending_enrollments(list).await?.into_inner().pending_enrollments.remove(0);
    let accept = AcceptPendingEnrollmentRequest { name: pending.name, ..Default::default() };
    let made = devices.accept_pending_enrollment(accept).await?.into_inner();
    assert_eq!((made.public_key_digest.len(), made.public_key_digest), (64, pending.public_key_digest));
    assert_eq!((made.replaces.as_str(), made.labels["site"].as_str()), (old.name().as_str(), "berlin"));
    let gone = devices.get_device(GetDeviceRequest { name: old.name() }).await?.into_inner();
    assert_eq!((gone.replaced_by, gone.revoke_time.is_some()), (made.name, true));
    let answer = erased.enroll(&fleet.stack, &fleet.voucher()).await?;
    Enrolled { board: erased, answer }.connect(&fleet.stack).await?;
    assert!(old.connect(&fleet.stack).await.is_err());
    Ok(())
}
