//! Applications that were linked before today's SDK was: their binaries are checked in, and run on the microvisor as it is now.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use scenarios::an505::board::is_online;
use scenarios::an505::log::Log;
use scenarios::world::{World, name, text};

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];

#[tokio::test]
async fn binaries_linked_against_older_stubs_run_on_todays_microvisor() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("older").await?;
    let board = world.machine(&flash)?.start().await?;
    world.undisturbed(&board, install_each(&world)).await?;
    board.cut_power().await
}

async fn install_each(world: &World) -> Result<()> {
    let device = world.devices(1, is_online).await?.remove(0);
    let binaries = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/older");
    for (counter, sdk) in (1..).zip(["0.6", "0.7"]) {
        let file = world
            .app_file(&binaries.join(format!("app-{sdk}.elf")), &format!("1.{counter}.0"), counter, &QUICK)
            .await?;
        let bundle = name(&world.one(&["bundle", "upload", text(&file)?]).await?)?;
        let end = world.deploy(&device, &bundle).await?;
        ensure!(end == ("STATE_CONFIRMED".into(), String::new()), "linked against {sdk}, it ended {end:?}");
        let said = format!("linked against {sdk}: every call answers");
        Log::of(world, &device).next_boot(&[&said]).await.with_context(|| said.clone())?;
    }
    Ok(())
}
