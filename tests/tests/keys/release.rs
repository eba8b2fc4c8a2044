//! Release keys of a fleet that runs: rotated, added, revoked.

use anyhow::{Result, ensure};
use scenarios::world::{World, name, text};

use crate::scene::*;

#[tokio::test]
async fn a_rotated_release_key_signs_and_the_old_one_is_refused_at_upload_and_by_the_device() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let board = world.board(&provision, "board", &[])?;
    let device = holds(&world, 1).await?;
    let (root, old) = (key(&world, "root.pem").await?, key(&world, "release.pem").await?);
    let new = key(&world, "new-release.pem").await?;
    let first = uploaded(&world, &old, "1.0.0", 1).await?;
    ensure!(world.deploy(&device, &first).await?.0 == "STATE_CONFIRMED");
    // Both were signed in time; one is uploaded in time.
    let second = uploaded(&world, &old, "2.0.0", 2).await?;
    let late = bundle_by(&world, &old, "2.0.1", 2).await?;

    let pair = format!("{old}={new}");
    let rotate = ["keys", "rotate", "--release", &pair, "--sign", &root];
    let dry = world.cli(&[&rotate[..], &["--dry-run"]].concat()).await?;
    ensure!(dry.contains("leaves") && dry.contains("comes") && dry.contains("nothing was changed"), "{dry}");
    ensure!(newest(&world).await?["version"] == 1, "asking changed something");
    world.cli(&rotate).await?;

    complains(&world.try_cli(&["bundle", "upload", text(&late)?]).await?, "signed by an unknown key")?;
    let board = woken(&world, board, &provision, "board").await?;
    holds(&world, 2).await?;
    world.devices(1, |device| runs(device, "1.0.0")).await?;
    let end = world.deploy(&device, &second).await?;
    ensure!(end == ("STATE_REFUSED".into(), "unknown_key".into()), "it ended {end:?}");

    let third = uploaded(&world, &new, "3.0.0", 3).await?;
    ensure!(world.deploy(&device, &third).await?.0 == "STATE_CONFIRMED");
    ensure!(taken(&board) == ["KeysetAccepted(2)"], "{:?}", taken(&board));
    // The floor rose with the commit, whoever signed; what is below it is refused though its signature is good.
    world.devices(1, |device| device["app_floor"] == 3).await?;
    let below = uploaded(&world, &new, "2.5.0", 2).await?;
    ensure!(world.deploy(&device, &below).await? == ("STATE_REFUSED".into(), "below_floor".into()));
    Ok(())
}

#[tokio::test]
async fn a_release_key_is_added_and_revoked_by_the_beginning_of_its_id_but_never_the_last_one() -> Result<()>
{
    let world = World::start().await?;
    let (root, first) = (key(&world, "root.pem").await?, key(&world, "release.pem").await?);
    let second = key(&world, "ci.pem").await?;
    let ids = async |world: &World| -> Result<Vec<String>> {
        let keyset = newest(world).await?;
        let all = keyset["release_keys"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().filter_map(|it| it.as_str()).map(str::to_owned).collect())
    };
    let before = ids(&world).await?;
    world.cli(&["keys", "add", "--release", &format!("{second}:app:host"), "--sign", &root]).await?;
    let both = ids(&world).await?;
    ensure!(both.len() == 2 && both[1].ends_with("for app on host"), "{both:?}");
    let by_second = bundle_by(&world, &second, "1.0.0", 1).await?;
    name(&world.one(&["bundle", "upload", text(&by_second)?]).await?)?;

    let (short, long) = (&before[0][..5], &before[0][..8]);
    complains(&world.try_cli(&["keys", "revoke", short, "--sign", &root]).await?, "6 of its hex digits")?;
    let stranger = "0123456789abcdef";
    complains(
        &world.try_cli(&["keys", "revoke", stranger, "--sign", &root]).await?,
        "has no root or release key",
    )?;
    let by_release = ["keys", "revoke", long, "--sign", &first];
    complains(&world.try_cli(&by_release).await?, "is no root key of keyset 2")?;
    complains(&world.try_cli(&["keys", "revoke", long]).await?, "0 of 1 root keys signed")?;
    world.cli(&["keys", "revoke", long, "--sign", &root]).await?;
    ensure!(ids(&world).await? == both[1..], "not the one that was named");

    let by_first = bundle_by(&world, &first, "1.0.1", 1).await?;
    complains(&world.try_cli(&["bundle", "upload", text(&by_first)?]).await?, "signed by an unknown key")?;
    let last = ["keys", "revoke", &both[1][..8], "--sign", &root];
    complains(&world.try_cli(&last).await?, "no release key would be left")
}

#[tokio::test]
async fn another_broker_ca_is_believed_beside_the_old_one_and_then_alone_but_not_all_at_once() -> Result<()> {
    let world = World::start().await?;
    let root = key(&world, "root.pem").await?;
    let (old, new) = (world.stack.server_ca_file(), world.path("new-ca.pem"));
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    std::fs::write(&new, params.self_signed(&rcgen::KeyPair::generate()?)?.pem())?;
    let (old, new) = (text(&old)?, text(&new)?);
    let alone = async |ca: &str, yes: &[&str]| {
        world.try_cli(&[&["keys", "rotate", "--broker-ca", ca, "--sign", &root], yes].concat()).await
    };
    let anchors = async || anyhow::Ok(newest(&world).await?["broker_anchors"].clone());

    let refused = alone(new, &[]).await?;
    complains(&refused, "no broker CA stays")?;
    ensure!(anchors().await? == 1 && newest(&world).await?["version"] == 1, "not meant, and done");
    world.cli(&["keys", "add", "--broker-ca", new, "--sign", &root]).await?;
    ensure!(anchors().await? == 2);
    ensure!(alone(new, &[]).await?.code == 0 && anchors().await? == 1, "both were believed");
    complains(&alone(old, &[]).await?, "--yes if it is meant")?;
    ensure!(alone(old, &["--yes"]).await?.code == 0 && newest(&world).await?["version"] == 4);
    Ok(())
}
