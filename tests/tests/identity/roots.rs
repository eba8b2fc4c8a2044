//! One device root after another: both are trusted for a while, devices come over by themselves, the old one is retired.

use anyhow::{Context, Result, ensure};
use dev::Service;
use proto::registry::v1::authority_service_client::AuthorityServiceClient;
use proto::registry::v1::device_root::State;
use proto::registry::v1::root_service_client::RootServiceClient;
use proto::registry::v1::{
    CreateDeviceRootRequest, DeviceRoot, GetTrustRequest, ListDeviceRootsRequest, RetireDeviceRootRequest,
    Role,
};
use tokio::time::Instant;
use tonic::Code;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::board::{Enrolled, PATIENCE, Session, hello};
use crate::client::{self, Client, Person};
use crate::fleet::{Fleet, refusal};
use crate::world::World;
use crate::{board_online, field};

/// As if all roots had been made two days ago: the newest issues, and calls every device over.
const TWO_DAYS_AGO: &str = "UPDATE registry.roots SET created_at = created_at - interval '2 days'";

async fn service(fleet: &Fleet, person: &Person) -> Result<RootServiceClient<Client>> {
    Ok(RootServiceClient::new(person.client(&fleet.stack, Service::Registry).await?))
}

async fn roots(fleet: &Fleet) -> Result<Vec<DeviceRoot>> {
    let list = service(fleet, &fleet.admin).await?.list_device_roots(ListDeviceRootsRequest {}).await?;
    Ok(list.into_inner().roots)
}

fn states(roots: &[DeviceRoot]) -> Vec<(State, i64)> {
    roots.iter().map(|root| (root.state(), root.devices)).collect()
}

fn retire(root: &DeviceRoot, force: bool) -> RetireDeviceRootRequest {
    RetireDeviceRootRequest { root: root.root.clone(), force, ..Default::default() }
}

/// As soon as the broker has learnt of the device's root.
async fn connected(fleet: &Fleet, device: &Enrolled) -> Result<Session> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match device.connect(&fleet.stack).await {
            Ok(session) => return Ok(session),
            Err(error) => ensure!(Instant::now() < deadline, "never let in: {error:#}"),
        }
    }
}

/// What a device answers that was told to renew.
async fn renewed(fleet: &Fleet, device: Enrolled) -> Result<Enrolled> {
    let answer = device.board.enroll(&fleet.stack, &device.birth()).await?;
    ensure!(answer.device_id == device.id(), "another device");
    Ok(Enrolled { board: device.board, answer })
}

#[tokio::test]
async fn one_device_root_follows_another_without_a_device_left_out() -> Result<()> {
    let fleet = Fleet::start().await?;
    let (one, two) = (fleet.enroll("serial-1").await?, fleet.enroll("serial-2").await?);
    assert_eq!(states(&roots(&fleet).await?), [(State::Issuing, 2)]);
    let mut service = service(&fleet, &fleet.admin).await?;
    let made = service.create_device_root(CreateDeviceRootRequest::default()).await?.into_inner();
    assert_eq!((made.state(), made.devices), (State::Trusted, 0), "brokers have not learnt of it yet");
    let mut authority = AuthorityServiceClient::new(
        client::service_channel(&fleet.stack, Service::Registry, "svc-broker").await?,
    );
    let trusted = async |authority: &mut AuthorityServiceClient<_>| {
        anyhow::Ok(authority.get_trust(GetTrustRequest {}).await?.into_inner().device_roots)
    };
    let both = trusted(&mut authority).await?;
    assert_eq!(both.len(), 2);

    // Not told to renew before the new root issues.
    let mut session = one.connect(&fleet.stack).await?;
    one.say(&mut session, &hello(1, 1)).await?;
    assert!(!session.hello_down().await?.renew);
    fleet.stack.sql(TWO_DAYS_AGO)?;
    let list = roots(&fleet).await?;
    assert_eq!(states(&list), [(State::Trusted, 2), (State::Issuing, 0)]);
    one.say(&mut session, &hello(1, 2)).await?;
    assert!(session.hello_down().await?.renew);

    let old = Enrolled { board: crate::board::Board::new("unused")?, answer: one.answer.clone() };
    let one = renewed(&fleet, one).await?;
    let parse = |der: &[u8]| X509Certificate::from_der(der).map(|(_, it)| it.public_key().raw.to_vec());
    assert_ne!(parse(&one.answer.intermediate), parse(&old.answer.intermediate));
    let (_, intermediate) = X509Certificate::from_der(&one.answer.intermediate)?;
    let (_, root) = X509Certificate::from_der(&both[1])?;
    intermediate.verify_signature(Some(root.public_key()))?;
    assert_eq!(states(&roots(&fleet).await?), [(State::Trusted, 2), (State::Issuing, 0)], "not shown yet");

    // The overlap: the new certificate as soon as the broker has asked again, without a restart, and the other device's old one.
    let mut session = connected(&fleet, &one).await?;
    one.say(&mut session, &hello(1, 3)).await?;
    assert!(!session.hello_down().await?.renew);
    two.connect(&fleet.stack).await?;
    let list = roots(&fleet).await?;
    assert_eq!(states(&list), [(State::Trusted, 1), (State::Issuing, 1)]);

    let refused = service.retire_device_root(retire(&list[0], false)).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "ROOT_IN_USE".into()));
    let refused = service.retire_device_root(retire(&list[1], true)).await;
    assert_eq!(refusal(refused), (Code::FailedPrecondition, "ROOT_ISSUES".into()));
    let before = Enrolled {
        board: crate::board::Board {
            key: rcgen::KeyPair::try_from(two.board.key.serialize_der().as_slice())?,
            hardware_id: "serial-2".into(),
        },
        answer: two.answer.clone(),
    };
    let two = renewed(&fleet, two).await?;
    connected(&fleet, &two).await?;
    let asked = RetireDeviceRootRequest { validate_only: true, ..retire(&list[0], false) };
    assert_eq!(service.retire_device_root(asked).await?.into_inner().state(), State::Retired);
    assert_eq!(trusted(&mut authority).await?.len(), 2, "it only asked");
    let gone = service.retire_device_root(retire(&list[0], false)).await?.into_inner();
    assert_eq!((gone.state(), gone.devices), (State::Retired, 0));
    assert!(gone.retire_time.is_some());
    assert_eq!(trusted(&mut authority).await?, both[1..]);
    assert!(before.connect(&fleet.stack).await.is_err(), "under the old root nobody comes in");
    connected(&fleet, &two).await?;
    let anew = fleet.enroll("serial-3").await?;
    connected(&fleet, &anew).await?;
    assert_eq!(states(&roots(&fleet).await?), [(State::Retired, 0), (State::Issuing, 3)]);
    Ok(())
}

#[tokio::test]
async fn a_stolen_root_is_retired_at_once_and_its_devices_come_back_by_their_birth_certificates() -> Result<()>
{
    let fleet = Fleet::start().await?;
    let device = fleet.enroll("serial-1").await?;
    let session = device.connect(&fleet.stack).await?;
    let mut service = service(&fleet, &fleet.admin).await?;
    service.create_device_root(CreateDeviceRootRequest::default()).await?;
    fleet.stack.sql(TWO_DAYS_AGO)?;
    let list = roots(&fleet).await?;
    service.retire_device_root(retire(&list[0], true)).await?;
    session.closed().await?;
    assert!(device.connect(&fleet.stack).await.is_err());
    let device = renewed(&fleet, device).await?;
    connected(&fleet, &device).await?;
    Ok(())
}

#[tokio::test]
async fn device_roots_are_the_installations_and_bounded() -> Result<()> {
    let fleet = Fleet::start().await?;
    let plain = fleet.admin.colleague(&fleet.stack, Role::Admin).await?;
    let refused = service(&fleet, &plain).await?.list_device_roots(ListDeviceRootsRequest {}).await;
    assert_eq!(refusal(refused).0, Code::PermissionDenied);
    let mut service = service(&fleet, &fleet.admin).await?;
    let asked = CreateDeviceRootRequest { validate_only: true, ..Default::default() };
    assert_eq!(service.create_device_root(asked).await?.into_inner().root, "");
    assert_eq!(roots(&fleet).await?.len(), 1);
    for _ in 0..3 {
        service.create_device_root(CreateDeviceRootRequest::default()).await?;
    }
    let refused = service.create_device_root(CreateDeviceRootRequest::default()).await;
    assert_eq!(refusal(refused), (Code::ResourceExhausted, "DEVICE_ROOTS_MAX".into()));
    let list = roots(&fleet).await?;
    for bad in ["", "x", &list[0].root.to_uppercase(), &list[0].root[2..]] {
        let request = RetireDeviceRootRequest { root: bad.into(), ..Default::default() };
        assert_eq!(
            refusal(service.retire_device_root(request).await),
            (Code::InvalidArgument, "root".into())
        );
    }
    let nobodys = RetireDeviceRootRequest { root: "0".repeat(64), ..Default::default() };
    assert_eq!(refusal(service.retire_device_root(nobodys).await).0, Code::NotFound);
    // One that never issued is given up without a word.
    service.retire_device_root(retire(list.last().context("roots")?, false)).await?;
    service.create_device_root(CreateDeviceRootRequest::default()).await?;
    Ok(())
}

#[tokio::test]
async fn a_board_comes_over_to_a_new_device_root_by_itself_and_the_operator_sees_it() -> Result<()> {
    let world = World::start().await?;
    let (board, device) = board_online(&world, "board", "serial-1").await?;
    board.cut_power().await?;
    world.cli(&["root", "create"]).await?;
    world.stack.sql(TWO_DAYS_AGO)?;
    let list = world.json(&["root", "list"]).await?;
    ensure!(list.len() == 2 && field(&list[1], "state") == "STATE_ISSUING", "{list:?}");
    let old = field(&list[0], "root").to_owned();
    let refused = world.try_cli(&["root", "retire", &old]).await?;
    ensure!(refused.code != 0 && refused.stderr.contains("1 devices"), "{refused:?}");

    let (mut board, again) = board_online(&world, "board", "serial-1").await?;
    ensure!(again == device, "{again}");
    board.event("enrolled", 1).await?;
    let deadline = Instant::now() + crate::world::PATIENCE;
    loop {
        let retired = world.try_cli(&["root", "retire", &old]).await?;
        if retired.code == 0 {
            break;
        }
        ensure!(Instant::now() < deadline, "{retired:?}");
    }
    let table = world.cli(&["root", "list"]).await?;
    ensure!(table.contains("retired") && table.contains("issuing"), "{table}");
    ensure!(
        world
            .one(&["device", "show", &device])
            .await?
            .get("revoke_time")
            .is_none_or(serde_json::Value::is_null)
    );
    Ok(())
}
