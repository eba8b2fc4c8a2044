//! Root keys: one of two is lost; two must sign, and one that signs twice is not two.

use anyhow::{Result, ensure};
use scenarios::world::{World, text};

use crate::scene::*;

#[tokio::test]
async fn the_other_root_key_replaces_one_that_is_lost_and_devices_follow() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let board = world.board(&provision, "board", &[])?;
    holds(&world, 1).await?;
    let (lost, other) = (key(&world, "root.pem").await?, key(&world, "other-root.pem").await?);
    let new = key(&world, "new-root.pem").await?;
    world.cli(&["keys", "add", "--root", &other, "--sign", &lost]).await?;
    let before = roots(&world).await?;
    ensure!(before.len() == 2, "{before:?}");

    // Its id is all that is left of it. It was the one boards were provisioned with: that must be meant.
    let pair = format!("{}={new}", &before[0][..16]);
    let rotate = ["keys", "rotate", "--root", &pair, "--sign", &other];
    let refused = world.try_cli(&rotate).await?;
    complains(&refused, "--yes if it is meant")?;
    ensure!(refused.stderr.contains("a first stage believes no other"), "{}", refused.stderr);
    ensure!(newest(&world).await?["version"] == 2, "not meant, and done");
    world.cli(&[&rotate[..], &["--yes"]].concat()).await?;
    let after = roots(&world).await?;
    ensure!(after[1] == before[1] && !after.contains(&before[0]) && after.len() == 2, "{after:?}");

    complains(
        &world.try_cli(&["keys", "add", "--root", &lost, "--sign", &lost]).await?,
        "is no root key of keyset 3",
    )?;
    let board = woken(&world, board, &provision, "board").await?;
    holds(&world, 3).await?;
    ensure!(taken(&board) == ["KeysetAccepted(2)", "KeysetAccepted(3)"], "{:?}", taken(&board));
    Ok(())
}

#[tokio::test]
async fn two_of_two_root_keys_must_sign_and_one_that_signs_twice_is_refused() -> Result<()> {
    let world = World::start().await?;
    let (first, second) = (key(&world, "root.pem").await?, key(&world, "second-root.pem").await?);
    let release = key(&world, "ci.pem").await?;
    let raise = ["keys", "add", "--root", &second, "--sign", &first, "--threshold"];
    complains(
        &world.try_cli(&[&raise[..], &["3"]].concat()).await?,
        "2 root keys would be left, and 3 must sign",
    )?;
    world.cli(&[&raise[..], &["2"]].concat()).await?;

    let add = ["keys", "add", "--release", &release, "--sign", &first];
    complains(&world.try_cli(&add).await?, "1 of 2 root keys signed")?;
    complains(
        &world.try_cli(&[&add[..], &["--sign", &first]].concat()).await?,
        "keys are counted, not signatures",
    )?;

    // The holders sit apart: one signs at once, the other what was written for them.
    let (payload, signed) = (world.path("next.payload"), world.path("next.keyset"));
    let payload = text(&payload)?;
    world.cli(&[&add[..], &["--out", payload]].concat()).await?;
    let own = std::fs::read_dir(world.path(""))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "sig"));
    let own = own.ok_or_else(|| anyhow::anyhow!("no signature beside the payload"))?;
    let parts = [text(&own)?, &format!("{payload}.first"), &format!("{payload}.second")].map(str::to_owned);
    world.cli(&["keyset", "sign", payload, "--key", &first, "--out", &parts[1]]).await?;
    world.cli(&["keyset", "sign", payload, "--key", &second, "--out", &parts[2]]).await?;
    for (others, good) in [(&parts[1], false), (&parts[2], true)] {
        let _ = std::fs::remove_file(&signed);
        let mut assemble = vec!["keyset", "assemble", payload, "--out", text(&signed)?];
        assemble.extend(["--signature", &parts[0], "--signature", others]);
        world.cli(&assemble).await?;
        let uploaded = world.try_cli(&["keyset", "upload", text(&signed)?]).await?;
        match good {
            true => ensure!(uploaded.code == 0, "{uploaded:?}"),
            false => complains(&uploaded, "too few distinct root keys")?,
        }
    }
    ensure!(newest(&world).await?["version"] == 3);
    world
        .cli(&[
            "keys",
            "revoke",
            &roots(&world).await?[1][..12],
            "--threshold",
            "1",
            "--sign",
            &first,
            "--sign",
            &second,
        ])
        .await?;
    ensure!(roots(&world).await?.len() == 1);
    Ok(())
}
