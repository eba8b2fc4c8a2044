//! The sample clients, as somebody runs who copies from them.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use scenarios::world::{PATIENCE, World, text};
use tokio::process::Command;

const GOOD: &str = "#!holdfast-script\nhealthy\nwork 200\nrepeat\n";
const BAD: &str = "#!holdfast-script\nwork 200\nrepeat\n";
/// The sample ends with this when the device did not keep the version, as `holdfast deploy` does.
const NOT_CONFIRMED: i32 = 7;

async fn python(world: &World, args: &[&str]) -> Result<(i32, String, String)> {
    let mut command = Command::new(dev::python());
    command.arg(dev::root().join("clients/python/fleet.py")).args(args);
    ended(world, command).await
}

async fn shell(world: &World, schema: Option<&Path>, args: &[&str]) -> Result<(i32, String, String)> {
    let mut command = Command::new(dev::root().join("clients/shell/fleet.sh"));
    command.args(args).env("BUF", dev::buf()?).env("BUF_CACHE_DIR", world.path("buf"));
    command.envs(schema.map(|file| ("HOLDFAST_SCHEMA", file)));
    ended(world, command).await
}

/// Exit code, stdout, stderr.
async fn ended(world: &World, mut command: Command) -> Result<(i32, String, String)> {
    command.env("HOLDFAST_HOME", text(&world.path(""))?).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.context("the client hangs")??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
}

#[tokio::test]
async fn the_python_client_signs_in_lists_watches_and_deploys() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 2).await?;
    let _boards = world.board(&provision, "boards", &["--count", "2"])?;
    let devices = world.devices(2, |device| device["presence"] == "PRESENCE_ONLINE").await?;
    let id = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
    let (one, two) = (id(&devices[0]), id(&devices[1]));

    let (code, said, error) = python(&world, &["list"]).await?;
    ensure!(
        code == 0 && said.lines().count() == 2 && said.contains(&one) && said.contains(&two),
        "{said}{error}"
    );
    let (code, said, error) = python(&world, &["list", "--filter", "board=other"]).await?;
    ensure!(code == 0 && said.is_empty(), "{said}{error}");
    let (code, said, error) = python(&world, &["watch", "--count", "3"]).await?;
    let kinds: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(code == 0 && kinds == ["snapshot", "snapshot", "synced"], "{said}{error}");

    let quick = ["--trial", "3s", "--stable", "0s"];
    let bundle = id(&world.bundle(GOOD, "1.0.0", 1, &quick).await?);
    let (code, said, error) = python(&world, &["deploy", &one, &bundle]).await?;
    ensure!(
        code == 0 && said.lines().last().is_some_and(|line| line.starts_with("confirmed")),
        "{said}{error}"
    );
    let bundle = id(&world.bundle(BAD, "2.0.0", 2, &quick).await?);
    let (code, said, error) = python(&world, &["deploy", &one, &bundle]).await?;
    ensure!(code == NOT_CONFIRMED && said.contains("reverted never_healthy"), "{said}{error}");

    let (code, _, error) = python(&world, &["deploy", "dv00000000000000000000000000000000", &bundle]).await?;
    ensure!(code == 1 && error.contains("NOT_FOUND") && error.contains("(NOT_FOUND)"), "{error}");
    let (code, _, error) = python(&world, &["list", "--filter", "board="]).await?;
    ensure!(code == 1 && error.contains("(INVALID_FILTER)"), "{error}");
    Ok(())
}

#[tokio::test]
async fn the_shell_client_signs_in_lists_watches_and_deploys_with_and_without_reflection() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 2).await?;
    let _boards = world.board(&provision, "boards", &["--count", "2"])?;
    let devices = world.devices(2, |device| device["presence"] == "PRESENCE_ONLINE").await?;
    let id = |name: &String| name.rsplit('/').next().unwrap_or_default().to_owned();
    let (one, two) = (id(&devices[0]), id(&devices[1]));

    // By reflection; by the descriptor set the command line brings; by the .proto files.
    let descriptors = world.path("holdfast.binpb");
    world.cli(&["manual", "descriptors", text(&descriptors)?]).await?;
    for schema in [None, Some(descriptors), Some(dev::root().join("proto"))] {
        let schema = schema.as_deref();
        let (code, said, error) = shell(&world, schema, &["list"]).await?;
        ensure!(
            code == 0 && said.lines().count() == 2 && said.contains(&one) && said.contains(&two),
            "{schema:?}: {said}{error}"
        );
    }
    let (code, said, error) = shell(&world, None, &["list", "board=other"]).await?;
    ensure!(code == 0 && said.is_empty(), "{said}{error}");
    let (code, said, error) = shell(&world, None, &["watch", "3"]).await?;
    let kinds: Vec<&str> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    ensure!(code == 0 && kinds == ["snapshot", "snapshot", "synced"], "{said}{error}");

    let quick = ["--trial", "3s", "--stable", "0s"];
    let bundle = id(&world.bundle(GOOD, "1.0.0", 1, &quick).await?);
    let (code, said, error) = shell(&world, None, &["deploy", &one, &bundle]).await?;
    ensure!(code == 0 && said.starts_with("confirmed"), "{said}{error}");
    let bundle = id(&world.bundle(BAD, "2.0.0", 2, &quick).await?);
    let (code, said, error) = shell(&world, None, &["deploy", &one, &bundle]).await?;
    ensure!(code == NOT_CONFIRMED && said.starts_with("reverted never_healthy"), "{said}{error}");

    let (code, _, error) =
        shell(&world, None, &["deploy", "dv00000000000000000000000000000000", &bundle]).await?;
    ensure!(code != 0 && error.contains("not_found: no such resource (NOT_FOUND)"), "{error}");
    let (code, _, error) = shell(&world, None, &["list", "board="]).await?;
    ensure!(code != 0 && error.contains("(INVALID_FILTER)"), "{error}");
    Ok(())
}
