//! Renewal: the same device under a newer certificate, and the older one's end.

use anyhow::{Result, ensure};
use dev::{Options, Service};
use proto::device::v1::{EnrollReason, EnrollStatus};
use proto::registry::v1::RevokeDeviceRequest;

use crate::board::Enrolled;
use crate::fleet::Fleet;
use crate::world::{self, World};
use crate::{becomes, board_online, field, is_online};

/// As if every certificate had been issued two days ago: it is not sent once more, but renewed.
const TWO_DAYS_AGO: &str = "UPDATE registry.devices SET leaf_issued_at = leaf_issued_at - interval '2 days'";

#[tokio::test]
async fn a_certificate_ends_when_its_successor_is_shown_and_not_before() -> Result<()> {
    let fleet = Fleet::start().await?;
    let first = fleet.enroll("serial-1").await?;
    let renew = async |device: &Enrolled| {
        fleet.stack.sql(TWO_DAYS_AGO)?;
        let answer = device.board.enroll(&fleet.stack, &device.birth()).await?;
        ensure!(answer.status() == EnrollStatus::Issued, "{:?}", answer.reason());
        ensure!(answer.device_id == first.id() && answer.birth == first.answer.birth, "another device");
        anyhow::Ok(answer)
    };
    let with = |leaf: &[u8]| {
        let key = rcgen::KeyPair::try_from(first.board.key.serialize_der().as_slice())?;
        let board = crate::board::Board { key, hardware_id: "serial-1".into() };
        let answer = proto::device::v1::EnrollDown { leaf: leaf.to_vec(), ..first.answer.clone() };
        anyhow::Ok(Enrolled { board, answer })
    };
    let lost = renew(&first).await?;
    assert_ne!(lost.leaf, first.answer.leaf);
    first.connect(&fleet.stack).await?;
    // The answer was lost twice: what the device holds is good still, and what it never had is not.
    let second = with(&renew(&first).await?.leaf)?;
    first.connect(&fleet.stack).await?;
    assert!(with(&lost.leaf)?.connect(&fleet.stack).await.is_err());

    second.connect(&fleet.stack).await?;
    assert!(first.connect(&fleet.stack).await.is_err(), "the successor was shown");
    second.connect(&fleet.stack).await?;
    // Whoever holds the older one has the birth certificate and renews.
    let again = renew(&first).await?;
    with(&again.leaf)?.connect(&fleet.stack).await?;

    fleet
        .devices()
        .await?
        .revoke_device(RevokeDeviceRequest { name: first.name(), ..Default::default() })
        .await?;
    fleet.stack.sql(TWO_DAYS_AGO)?;
    let revoked = first.board.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!((revoked.status(), revoked.reason()), (EnrollStatus::Refused, EnrollReason::DeviceRevoked));
    assert!(
        first.board.enroll(&fleet.stack, &first.birth()).await.is_err(),
        "the listener refuses it before"
    );
    Ok(())
}

#[tokio::test]
async fn a_board_renews_a_certificate_in_the_last_third_of_its_life_and_stays_the_device_it_was() -> Result<()>
{
    // Backdated by a day, a certificate for an hour is in the last third of its life from the start.
    let world =
        World::start_with(Options::all().env(Service::Registry, "HOLDFAST_DEVICE_CERTIFICATE_S", "3600"))
            .await?;
    let (board, device) = board_online(&world, "board", "serial-1").await?;
    let before = world.one(&["device", "show", &device]).await?;
    board.cut_power().await?;
    world.stack.sql(TWO_DAYS_AGO)?;
    let leaf = || world.stack.sql("SELECT encode(sha256(leaf), 'hex') FROM registry.devices");
    let held = leaf()?;

    let (mut board, again) = board_online(&world, "board", "serial-1").await?;
    let enrolled = board.event("enrolled", 1).await?;
    ensure!(again == device && device.ends_with(field(&enrolled[0], "device")), "{again} {enrolled:?}");
    board.event("connected", 1).await?;
    ensure!(leaf()? != held, "no other certificate");
    let after = becomes(&world, &device, is_online).await?;
    ensure!(field(&after, "certificate_expire_time") > field(&before, "certificate_expire_time"), "{after}");
    Ok(())
}

#[tokio::test]
async fn a_board_that_lay_in_a_warehouse_beyond_its_certificate_comes_back_by_itself() -> Result<()> {
    let world =
        World::start_with(Options::all().env(Service::Registry, "HOLDFAST_DEVICE_CERTIFICATE_S", "5"))
            .await?;
    let (board, device) = board_online(&world, "board", "serial-1").await?;
    board.cut_power().await?;
    // Its claim has long ended; its certificate ends while it lies there.
    let claims = world.json(&["claim", "list"]).await?;
    world.cli(&["claim", "revoke", field(&claims[0], "name")]).await?;
    let deadline = tokio::time::Instant::now() + world::PATIENCE;
    while world.stack.sql("SELECT leaf_expires_at > now() FROM registry.devices")?.trim() != "f" {
        ensure!(tokio::time::Instant::now() < deadline, "a certificate that never ends");
    }
    let (mut board, again) = board_online(&world, "board", "serial-1").await?;
    ensure!(again == device, "{again}");
    let enrolled = board.event("enrolled", 1).await?;
    ensure!(device.ends_with(field(&enrolled[0], "device")), "{enrolled:?}");
    Ok(())
}
