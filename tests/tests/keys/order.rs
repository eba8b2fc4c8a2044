//! Keysets out of order: a service gone wrong offers a board the one after the next, and those it has left behind.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dev::Service;
use proto::device::v1::HelloDown;
use scenarios::world::{PATIENCE, World, text};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::scene::*;
use crate::thief::Thief;

#[tokio::test]
async fn a_board_three_keysets_behind_takes_each_in_order_and_none_that_is_skipped_or_replayed() -> Result<()>
{
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let board = world.board(&provision, "board", &[])?;
    let device = holds(&world, 1).await?;
    let root = key(&world, "root.pem").await?;
    let mut keysets = Vec::new();
    for version in 1..=4 {
        if version > 1 {
            let release = key(&world, &format!("release-{version}.pem")).await?;
            world.cli(&["keys", "add", "--release", &release, "--sign", &root]).await?;
        }
        let file = world.path(&format!("{version}.keyset"));
        world.cli(&["keyset", "show", &version.to_string(), "--out", text(&file)?]).await?;
        keysets.push(std::fs::read(&file)?);
    }
    // The server takes none a second time, but the newest, and none out of order.
    let replayed = world.path("2.keyset");
    complains(
        &world.try_cli(&["keyset", "upload", text(&replayed)?]).await?,
        "the next keyset is version 5",
    )?;

    world.stack.stop(Service::Registry).await?;
    let mut wrong = Thief::as_service(&world.stack, wire::Service::Registry).await?;
    let id = device.rsplit('/').next().unwrap_or_default().parse()?;
    for version in [3, 4, 1] {
        wrong.say(id, &HelloDown { keyset: keysets[version - 1].clone(), ..HelloDown::default() }).await?;
    }
    // The next in order, which it answers with a hello: what came before was looked at before, and not taken.
    wrong.say(id, &HelloDown { keyset: keysets[1].clone(), ..HelloDown::default() }).await?;
    let (_, hello) = wrong.hello().await?;
    ensure!(hello.keyset_version == 2, "it holds {}", hello.keyset_version);
    for version in [4, 2, 1] {
        wrong.say(id, &HelloDown { keyset: keysets[version - 1].clone(), ..HelloDown::default() }).await?;
    }
    drop(wrong);

    world.stack.start_service(Service::Registry).await?;
    // What it refused it says, now that somebody may ask.
    let follow = ["logs", &device, "--follow", "--last", "500", "--json"];
    let mut follow = world.command(&follow)?.stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follow.stdout.take().context("no stdout")?).lines();
    let told = async {
        while let Some(line) = lines.next_line().await? {
            if line.contains("keyset refused: Keyset(Version)") {
                return Ok(());
            }
        }
        anyhow::bail!("the log ended")
    };
    tokio::time::timeout(PATIENCE, told).await.context("no refusal in the log")??;
    let board = woken(&world, board, &provision, "board").await?;
    holds(&world, 4).await?;
    ensure!(taken(&board) == ["KeysetAccepted(3)", "KeysetAccepted(4)"], "{:?}", taken(&board));
    Ok(())
}
