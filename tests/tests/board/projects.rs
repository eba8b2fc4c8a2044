//! `holdfast new app` and `holdfast run`: from nothing to a board that runs one's own application, in C and in Rust.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use scenarios::an505::board::{is_online, runs};
use scenarios::world::{World, text};
use tempfile::TempDir;

/// A build of the whole SDK, and a deployment.
const RUN_MAX: Duration = Duration::from_secs(240);

#[tokio::test]
async fn a_new_project_in_c_or_rust_is_built_and_deployed_by_one_command() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("projects").await?;
    let board = world.machine(&flash)?.start().await?;
    world.undisturbed(&board, make_and_run(&world)).await?;
    board.cut_power().await
}

async fn make_and_run(world: &World) -> Result<()> {
    world.devices(1, is_online).await?;
    // Not in this checkout: a project has a configuration of its own.
    let folder = TempDir::new()?;
    let key = world.path("keys/release.pem");
    for (lang, version) in [("c", "0.1.0"), ("rust", "0.2.0")] {
        let name = format!("mine-{lang}");
        let project = folder.path().join(&name);
        let dir = text(&project)?;
        world.cli(&["new", "app", &name, "--lang", lang, "--dir", dir, "--key", text(&key)?]).await?;
        let file = project.join("holdfast.toml");
        std::fs::write(&file, std::fs::read_to_string(&file)?.replace("0.1.0", version))?;

        let mut run = world.command(&["run", "--dir", dir])?;
        // Nothing is fetched: all that a project is made of lies in it.
        run.env("CARGO_NET_OFFLINE", "true").env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS");
        let output =
            tokio::time::timeout(RUN_MAX, run.output()).await.with_context(|| format!("{name} hangs"))??;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {said}{errors}");
        ensure!(said.contains("confirmed") && said.contains(&format!("{name} is here")), "{said}{errors}");
        world.devices(1, |device| runs(device, version)).await?;
    }
    let dir = folder.path().join("mine-c");
    let again = world.try_cli(&["new", "app", "mine-c", "--lang", "c", "--dir", text(&dir)?]).await?;
    ensure!(again.code == 6 && again.stderr.contains("is there already"), "{}", again.stderr);
    Ok(())
}
