//! Two boards that are one device, because a flash image was copied.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use dev::Service;
use proto::device::v1::{BootId, EnrollReason, EnrollStatus, HelloUp};
use proto::registry::v1::{GetDeviceRequest, Presence, ReleaseDeviceRequest, RevokeDeviceRequest};
use tonic::Code;

use crate::board::{Enrolled, Session, hello};
use crate::client::{twice, unique};
use crate::fleet::{Fleet, refusal};
use crate::world::World;
use crate::{GOOD, becomes, board_online, field, id, is_online, metrics};

/// One boot of a board that the test plays, and the challenge it heard.
struct Boot {
    id: BootId,
    sequence: u32,
    heard: Vec<u8>,
}

impl Boot {
    fn new(counter: u32, random: u64) -> Boot {
        Boot { id: BootId { counter, random }, sequence: 0, heard: Vec::new() }
    }

    fn next(&mut self) -> HelloUp {
        self.sequence += 1;
        HelloUp { boot: Some(self.id), challenge: self.heard.clone(), ..hello(0, self.sequence) }
    }

    /// Says hello and hears the challenge it is asked.
    async fn talk(&mut self, device: &Enrolled, session: &mut Session) -> Result<HelloUp> {
        let said = self.next();
        device.say(session, &said).await?;
        self.heard = session.hello_down().await?.challenge;
        ensure!(self.heard.len() == 16, "no challenge");
        Ok(said)
    }
}

#[tokio::test]
async fn copied_flash_is_noticed_and_both_boards_stay_out_until_an_operator_decides() -> Result<()> {
    let world = World::start().await?;
    let (board, device) = board_online(&world, "original", "serial-1").await?;
    let bundle = world.bundle(GOOD, "1.0.0", 1, &[]).await?;
    board.cut_power().await?;
    copy(&world.path("original"), &world.path("copy"))?;

    let provision = world.path("claim/provision.json");
    let started = std::time::Instant::now();
    let original = world.board(&provision, "original", &["--hardware-id", "serial-1"])?;
    let copied = world.board(&provision, "copy", &["--hardware-id", "serial-1"])?;
    let shown = becomes(&world, &device, |d| !field(d, "quarantine_time").is_empty()).await?;
    println!("noticed after {:?}", started.elapsed());
    ensure!(!is_online(&shown), "{shown}");
    // Started again, either tries everything it has: certificate, birth certificate, claim.
    for (board, state) in [(original, "original"), (copied, "copy")] {
        board.cut_power().await?;
        let mut again = world.board(&provision, state, &["--hardware-id", "serial-1"])?;
        let refused = again.event("refused", 1).await?;
        ensure!(field(&refused[0], "reason") == "device_quarantined", "{refused:?}");
        let connected = again.said().iter().any(|event| event["event"] == "connected");
        ensure!(!connected, "let in: {:?}", again.said());
        again.cut_power().await?;
    }
    let text = world.cli(&["device", "show", &device]).await?;
    ensure!(text.contains("quarantined"), "{text}");
    let listed = world.cli(&["device", "list", "--filter", "quarantined=true"]).await?;
    ensure!(listed.contains(id(&device)) && listed.contains("quarantined"), "{listed}");
    let refused = world.try_cli(&["deploy", &device, &bundle, "--no-wait"]).await?;
    ensure!(refused.code != 0 && refused.stderr.contains("quarantine"), "{refused:?}");
    let audited = world
        .stack
        .sql("SELECT actor || ' ' || action FROM registry.audit WHERE action LIKE 'quarantine%'")?;
    ensure!(audited.trim() == "svc-registry quarantine_device", "{audited}");
    let metrics = metrics(&world.stack, Service::Registry).await?;
    ensure!(metrics.contains("registry_clones_noticed_total 1"), "not counted");

    // The copy is destroyed; the original comes back, as the device it was.
    let released = world.one(&["device", "release", &device]).await?;
    ensure!(field(&released, "quarantine_time").is_empty(), "{released}");
    let again = world.try_cli(&["device", "release", &device]).await?;
    ensure!(again.code != 0 && again.stderr.contains("not in quarantine"), "{again:?}");
    let (_original, back) = board_online(&world, "original", "serial-1").await?;
    ensure!(back == device, "{back}");
    ensure!(field(&world.one(&["deploy", &device, &bundle, "--no-wait"]).await?, "device") == device);

    // It was not the last one: noticed again.
    let _copied = world.board(&provision, "copy", &["--hardware-id", "serial-1"])?;
    becomes(&world, &device, |d| !field(d, "quarantine_time").is_empty()).await?;
    Ok(())
}

#[tokio::test]
async fn a_boot_that_speaks_after_its_successor_is_two_boards_and_late_hellos_are_not() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let name = device.name();
    let quarantined = async || {
        let shown = fleet.devices().await?.get_device(GetDeviceRequest { name: name.clone() }).await?;
        anyhow::Ok(shown.into_inner().quarantine_time.is_some())
    };
    let mut session = device.connect(&fleet.stack).await?;
    let mut first = Boot::new(7, 1);
    let mut said = vec![first.talk(&device, &mut session).await?, first.next()];
    device.say(&mut session, &said[1]).await?;
    // The power failed before the counter was stored: the same count, other randomness.
    let mut second = Boot::new(7, 2);
    said.push(second.talk(&device, &mut session).await?);
    said.push(second.talk(&device, &mut session).await?);

    // Whatever the first boot said before comes late, repeatedly, in any order; and so does all the second said.
    for late in said.iter().chain(said.iter().rev()) {
        device.say(&mut session, late).await?;
    }
    let kept = || fleet.stack.sql("SELECT xmin, challenge, boots FROM registry.lives");
    let before = kept()?;
    // Settled: an answered hello of the boot there is writes nothing and is told nothing.
    device.say(&mut session, &second.next()).await?;
    let end = HelloUp { app_floor: 88, ..second.next() };
    device.say(&mut session, &end).await?;
    fleet.device_becomes(&name, |d| d.app_floor == 88).await?;
    assert_eq!(kept()?, before);
    assert!(!quarantined().await?);

    // The first boot once more, having heard what the second was asked: nobody lawful can do that.
    let mut other = device.connect(&fleet.stack).await?;
    first.talk(&device, &mut other).await?;
    assert!(!quarantined().await?, "it may be late still");
    device.say(&mut other, &first.next()).await?;
    let said = std::time::Instant::now();
    other.closed().await?;
    println!("the connection ended {:?} after the hello that gave it away", said.elapsed());
    fleet.device_becomes(&name, |d| d.quarantine_time.is_some()).await?;
    assert!(device.connect(&fleet.stack).await.is_err(), "the broker refuses it");
    let birth = Session::enrolling(&fleet.stack, &device.birth(), &unique()).await;
    assert!(birth.is_err(), "on the enrolment listener too");
    let answer = device.board.enroll(&fleet.stack, &fleet.voucher()).await?;
    assert_eq!(
        (answer.status(), answer.reason()),
        (EnrollStatus::Refused, EnrollReason::DeviceQuarantined),
        "and its claim gives it nothing"
    );
    Ok(())
}

#[tokio::test]
async fn a_board_that_counts_its_boots_from_a_lower_number_is_shown_as_it_is() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let name = device.name();
    let mut session = device.connect(&fleet.stack).await?;
    let mut before = Boot::new(40, 1);
    before.talk(&device, &mut session).await?;
    let late = HelloUp { app_floor: 40, ..before.next() };
    device.say(&mut session, &late).await?;
    fleet.device_becomes(&name, |d| d.app_floor == 40).await?;

    for (floor, boot) in [(3, (3, 2)), (4, (4, 3)), (5, (4, 4)), (6, (1, 5))] {
        let mut session = device.connect(&fleet.stack).await?;
        let mut now = Boot::new(boot.0, boot.1);
        now.talk(&device, &mut session).await?;
        now.talk(&device, &mut session).await?;
        let here = |d: &proto::registry::v1::Device| d.app_floor == floor && d.presence() == Presence::Online;
        device.say(&mut session, &HelloUp { app_floor: floor as u64, ..now.next() }).await?;
        fleet.device_becomes(&name, here).await?;
        // What is over comes late, and undoes nothing; nor does its will, whatever it counts.
        device.say(&mut session, &HelloUp { connection: 9, sequence: 99, ..late.clone() }).await?;
        device.say(&mut session, &HelloUp { nonce: Vec::new(), ..late.clone() }).await?;
        device.say(&mut session, &HelloUp { app_floor: floor as u64 + 100, ..now.next() }).await?;
        fleet
            .device_becomes(&name, |d| d.app_floor == floor + 100 && d.presence() == Presence::Online)
            .await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_release_is_done_once_under_an_etag_and_begins_anew() -> Result<()> {
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let mut devices = fleet.devices().await?;
    let release =
        |etag: &str| ReleaseDeviceRequest { name: device.name(), etag: etag.into(), ..Default::default() };
    let refused = devices.release_device(release("")).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "NOT_QUARANTINED".into()));

    // `one` was heard before.
    let meet = async |session: &mut Session, one: &mut Boot, two: &mut Boot| {
        two.talk(&device, session).await?;
        two.talk(&device, session).await?;
        one.talk(&device, session).await?;
        device.say(session, &one.next()).await?;
        fleet.device_becomes(&device.name(), |d| d.quarantine_time.is_some()).await
    };
    let mut session = device.connect(&fleet.stack).await?;
    let mut one = Boot::new(1, 1);
    one.talk(&device, &mut session).await?;
    let shown = meet(&mut session, &mut one, &mut Boot::new(1, 2)).await?;
    assert_eq!(refusal(devices.release_device(release("1-0-0")).await).0, Code::Aborted);
    let asked = ReleaseDeviceRequest { validate_only: true, ..release(&shown.etag) };
    assert!(devices.release_device(asked).await?.into_inner().quarantine_time.is_none());
    assert!(device.connect(&fleet.stack).await.is_err(), "it only asked");
    let request_id = "6f1d8a3e-54cc-4a86-8b7e-0f5a51ab5b10".to_owned();
    let named = ReleaseDeviceRequest { request_id: request_id.clone(), ..release(&shown.etag) };
    let other = ReleaseDeviceRequest { request_id, ..release("") };
    let call = async |request: ReleaseDeviceRequest| {
        Ok(fleet.devices().await.expect("a client").release_device(request).await?.into_inner())
    };
    let (first, again) = twice(call, named, other).await?;
    assert!(first.quarantine_time.is_none() && again.quarantine_time.is_none());

    // Whichever comes alone is the device, also the boot that was over; both together are noticed again.
    let mut session = device.connect(&fleet.stack).await?;
    one.talk(&device, &mut session).await?;
    device.say(&mut session, &HelloUp { app_floor: 9, ..one.next() }).await?;
    one.heard = session.hello_down().await?.challenge;
    let alone = fleet.device_becomes(&device.name(), |d| d.app_floor == 9).await?;
    assert!(alone.quarantine_time.is_none());
    meet(&mut session, &mut one, &mut Boot::new(1, 3)).await?;
    devices.revoke_device(RevokeDeviceRequest { name: device.name(), ..Default::default() }).await?;
    let refused = devices.release_device(release("")).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "DEVICE_REVOKED".into()));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let (entry, to) = (entry?.path(), to.to_path_buf());
        let to = to.join(entry.file_name().context("a name")?);
        if entry.is_dir() { copy(&entry, &to)? } else { std::fs::copy(&entry, &to).map(drop)? }
    }
    Ok(())
}
