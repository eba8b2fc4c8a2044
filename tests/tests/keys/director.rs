//! The director key: stolen and replaced while devices are away, each device directed by the key of the keyset it holds, the old
//! one gone when nobody obeys it.

use anyhow::{Result, ensure};
use dev::{Options, Service, Stack};
use proto::ota::v1::deployment_service_client::DeploymentServiceClient;
use proto::ota::v1::{ForgetDirectorKeysRequest, RotateDirectorKeyRequest};
use scenarios::world::World;
use tonic::Code;
use wire::PublicKey;
use wire::directive::Order;
use wire::sign::Signer;

use crate::device::Device;
use crate::played::Estate;
use crate::scene::*;
use crate::tenant::{eventually, refusal};
use crate::thief::{self, Thief};

fn directors(stack: &Stack) -> Result<usize> {
    Ok(stack.sql("SELECT count(*) FROM ota.director_keys")?.trim().parse()?)
}

async fn directors_become(stack: &Stack, count: usize) -> Result<()> {
    eventually("director keys", async || {
        let found = directors(stack)?;
        ensure!(found == count, "{found} director keys");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_stolen_director_is_replaced_while_boards_are_away_and_then_obeyed_by_none() -> Result<()> {
    let options = Options::all().env(Service::Ota, "HOLDFAST_SWEEP_MS", "50");
    let world = World::start_with(options).await?;
    let provision = world.provision("claim", 1).await?;
    let board = world.board(&provision, "board", &[])?;
    let device = holds(&world, 1).await?;
    let (root, release) = (key(&world, "root.pem").await?, key(&world, "release.pem").await?);
    let one = uploaded(&world, &release, "1.0.0", 1).await?;
    ensure!(world.deploy(&device, &one).await?.0 == "STATE_CONFIRMED");

    board.cut_power().await?;
    let stolen = thief::director(&world.stack)?;
    let rotated = world.cli(&["keys", "rotate", "--director", "--sign", &root]).await?;
    ensure!(
        rotated.contains("director key") && rotated.contains("The old one directs the others"),
        "{rotated}"
    );
    let status = world.one(&["keys", "status", "--devices"]).await?;
    ensure!(status["newest"] == 2 && status["director_key_held"] == true, "{status}");
    let older = &status["versions"][0];
    ensure!(older["standing"] == "older" && older["names"][0] == device.as_str(), "{status}");
    ensure!(directors(&world.stack)? == 2, "a board obeys the old one still");

    // It comes back, takes the keyset, and obeys the new key.
    let board = world.board(&provision, "board", &[])?;
    holds(&world, 2).await?;
    let two = uploaded(&world, &release, "2.0.0", 2).await?;
    ensure!(world.deploy(&device, &two).await?.0 == "STATE_CONFIRMED");
    directors_become(&world.stack, 1).await?;

    // The thief has svc-ota's place as well, and the nonce of the newest hello: all that the old key is good for is to be counted.
    world.stack.stop(Service::Ota).await?;
    let mut thief = Thief::as_service(&world.stack, wire::Service::Ota).await?;
    let board = woken(&world, board, &provision, "board").await?;
    let (id, hello) = thief.hello().await?;
    let refused = |hello: &proto::device::v1::HelloUp| hello.counters.map(|it| it.directives_refused);
    ensure!(refused(&hello) == Some(0), "{hello:?}");
    let far = hello.time_bound_s + 10_000_000;
    thief.say(id, &thief::time(&stolen, id, &hello, far)?).await?;
    let new = thief::director(&world.stack)?;
    thief.say(id, &thief::time(&new, id, &hello, hello.time_bound_s + 1)?).await?;
    drop(thief);
    // A new connection of the same boot brings another hello.
    world.stack.restart(Service::Broker).await?;
    let mut thief = Thief::as_service(&world.stack, wire::Service::Ota).await?;
    let (_, again) = thief.hello().await?;
    ensure!(again.boot == hello.boot && refused(&again) == Some(1), "{again:?}");
    ensure!(again.time_bound_s < far, "the stolen key moved the time");
    drop(board);
    Ok(())
}

#[tokio::test]
async fn each_device_is_directed_by_the_key_its_keyset_names_until_nobody_holds_the_old_one() -> Result<()> {
    let mut estate = Estate::set().await?;
    let old = estate.tenant.director;
    estate.obeys(1, old).await?;
    let asked = RotateDirectorKeyRequest { validate_only: true, ..estate.rotation() };
    ensure!(estate.ota.rotate_director_key(asked.clone()).await?.into_inner().public_key.is_empty());
    ensure!(directors(&estate.stack)? == 1, "asking made a key");
    let new = estate.rotated().await?;
    ensure!(new != old && estate.rotated().await? == new, "one waits for its keyset: no other is made");
    let waiting = estate.ota.rotate_director_key(asked).await?.into_inner().public_key;
    ensure!(PublicKey::from_spki_der(&waiting)? == new);
    ensure!(estate.current().await? == old, "it is in no keyset yet");

    estate.publish(2, new).await?;
    ensure!(estate.current().await? == new);
    estate.obeys(1, old).await?;
    estate.deploy("1.0.0", 1).await?;
    ensure!(matches!(estate.device.directive().await?.order, Order::Install(_)), "by the old key");
    ensure!(directors(&estate.stack)? == 2, "forgotten while it is obeyed");
    estate.obeys(2, new).await?;
    ensure!(matches!(estate.device.directive().await?.order, Order::Install(_)), "by the new key");
    directors_become(&estate.stack, 1).await?;
    // Back at the old keyset, as a board whose store was restored would be: nothing signs for it, and it is given the next one.
    estate.device.keyset = 1;
    estate.device.say_hello().await?;
    estate.obeys(2, new).await
}

#[tokio::test]
async fn a_device_away_keeps_the_old_key_until_it_is_revoked() -> Result<()> {
    let mut estate = Estate::set().await?;
    let old = estate.tenant.director;
    estate.obeys(1, old).await?;
    let away = Device::enroll(&estate.stack, &estate.tenant).await?;
    let new = estate.rotated().await?;
    estate.publish(2, new).await?;
    estate.obeys(2, new).await?;
    let third = estate.rotated().await?;
    estate.publish(3, third).await?;
    estate.obeys(3, third).await?;
    // It never said what it holds. The sweeps that went by meanwhile kept both for it.
    ensure!(directors(&estate.stack)? == 3);
    let devices = estate.tenant.person.client(&estate.stack, Service::Registry).await?;
    let request = proto::registry::v1::RevokeDeviceRequest { name: away.name.clone(), ..Default::default() };
    proto::registry::v1::device_service_client::DeviceServiceClient::new(devices)
        .revoke_device(request)
        .await?;
    directors_become(&estate.stack, 1).await
}

#[tokio::test]
async fn old_directors_are_forgotten_at_once_when_it_is_asked_and_never_the_one_that_governs() -> Result<()> {
    let mut estate = Estate::set().await?;
    let old = estate.tenant.director;
    estate.obeys(1, old).await?;
    let new = estate.rotated().await?;
    // Its keyset is being signed somewhere: deleted, it would be a keyset that nobody can direct by.
    let early = estate.ota.forget_director_keys(estate.forgetting()).await?.into_inner();
    ensure!(early.forgotten == 0 && early.public_keys.is_empty(), "{early:?}");
    ensure!(PublicKey::from_spki_der(&early.waiting_public_key)? == new && directors(&estate.stack)? == 2);
    estate.publish(2, new).await?;
    let asked = ForgetDirectorKeysRequest { validate_only: true, ..estate.forgetting() };
    let forgotten = estate.ota.forget_director_keys(asked).await?.into_inner().forgotten;
    ensure!(forgotten == 1 && directors(&estate.stack)? == 2, "asking deleted something");
    let id = "6f1f9f6e-4f0a-4b1c-8c59-0b0a4a0f1d11".to_owned();
    let named = ForgetDirectorKeysRequest { request_id: id, ..estate.forgetting() };
    for _ in 0..2 {
        let done = estate.ota.forget_director_keys(named.clone()).await?.into_inner();
        ensure!(done.forgotten == 1 && done.public_keys == [old.spki_der()?.to_vec()], "{done:?}");
        ensure!(done.waiting_public_key.is_empty(), "{done:?}");
    }
    ensure!(directors(&estate.stack)? == 1);

    // Who holds the old keyset is directed by nobody, but given the next keyset; then by the new key.
    (estate.device.keyset, estate.device.director) = (1, old);
    estate.device.say_hello().await?;
    estate.obeys(2, new).await?;
    ensure!(estate.ota.forget_director_keys(estate.forgetting()).await?.into_inner().forgotten == 0);

    // A keyset that names a key which is not ours: nothing may be forgotten, and a successor is made.
    estate.publish(3, crate::tenant::key(99).public_key()).await?;
    let refused = refusal(estate.ota.forget_director_keys(estate.forgetting()).await);
    ensure!(refused == (Code::FailedPrecondition, "DIRECTOR_KEY_NOT_IN_KEYSET".into()), "{refused:?}");
    let third = estate.rotated().await?;
    ensure!(third != new);
    estate.publish(4, third).await?;
    estate.obeys(4, third).await
}

#[tokio::test]
async fn replicas_that_rotate_at_once_make_one_key() -> Result<()> {
    let estate = Estate::set().await?;
    let replica = estate.tenant.person.client(&estate.stack, Service::Ota).await?;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (mut ota, request) = (DeploymentServiceClient::new(replica.clone()), estate.rotation());
            tokio::spawn(async move { ota.rotate_director_key(request).await })
        })
        .collect();
    let mut keys = std::collections::BTreeSet::new();
    for call in calls {
        keys.insert(call.await??.into_inner().public_key);
    }
    ensure!(keys.len() == 1 && directors(&estate.stack)? == 2, "{} keys", keys.len());
    Ok(())
}
