//! A board whose clock follows its instructions: what the application loses while the device connects and updates is counted, and
//! it is nothing, however busy this machine is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::{Board, Pace};
use scenarios::an505::board::{is_online, runs};
use scenarios::world::World;

const QUICK: [&str; 4] = ["--trial", "30s", "--stable", "1s"];
const SOON: Duration = Duration::from_secs(120);
/// 32 ns an instruction; while the processor rests, which it does when no application is there, a network has the wall's time.
const PACE: Pace = Pace::Instructions { shift: 5, sleep: true };
/// Issue 5: the application is never paused for longer, and an interrupt of its never waits longer.
const PAUSE_MAX_US: u64 = 1000;
/// Large enough that fetching, writing and hashing it takes a while.
const IMAGE_BYTES: usize = 256 * 1024;

#[tokio::test]
async fn an_application_loses_no_tick_while_its_device_connects_and_updates() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("pace").await?;
    let board = world.machine(&flash)?.start().await?;
    let device = world.undisturbed(&board, installed(&world)).await?;
    board.cut_power().await?;

    // It runs before the device is connected: TLS is beside it.
    let board = world.machine(&flash)?.pace(PACE).start().await?;
    world.undisturbed(&board, update(&world, &board, &device)).await?;
    let lines = board.app().lines();
    let lines: Vec<&str> =
        lines.iter().map(|line| line.text.as_str()).filter(|it| it.starts_with("first 1.0.0: ")).collect();
    ensure!(lines.len() > 3, "the application said {lines:?}");
    ensure!(lines.iter().all(|line| line.contains(", 0 ticks lost, ")), "{}", lines.join("\n"));
    for figure in ["bench app_pause_max_us ", "bench ns_irq_wait_max_us "] {
        let longest = longest(&board, figure)?;
        ensure!(longest <= PAUSE_MAX_US, "{figure}{longest}");
    }
    board.cut_power().await
}

async fn installed(world: &World) -> Result<String> {
    let device = world.devices(1, is_online).await?.remove(0);
    let bundle = world.app(Image::Busy("1.0.0"), "1.0.0", 1, &QUICK).await?;
    ensure!(world.deploy(&device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |device| runs(device, "1.0.0")).await?;
    Ok(device)
}

async fn update(world: &World, board: &Board, device: &str) -> Result<()> {
    board.console().line("connected", SOON).await?;
    let image = world.path("large.image");
    std::fs::write(&image, large(Image::First("2.0.0"))?)?;
    let file = world.app_file(&image, "2.0.0", 2, &QUICK).await?;
    let bundle = scenarios::world::name(
        &world.one(&["bundle", "upload", file.to_str().context("a path that is UTF-8")?]).await?,
    )?;
    ensure!(world.deploy(device, &bundle).await? == ("STATE_CONFIRMED".into(), String::new()));
    world.devices(1, |device| runs(device, "2.0.0")).await.map(drop)
}

/// The application, and behind it bytes of which no two blocks are alike.
fn large(application: Image) -> Result<Vec<u8>> {
    let mut image = application.flat()?;
    image.extend((image.len() / 4..IMAGE_BYTES / 4).flat_map(|word| (word as u32).to_le_bytes()));
    Ok(image)
}

fn longest(board: &Board, figure: &str) -> Result<u64> {
    let lines = board.console().lines();
    let told = lines.iter().filter_map(|line| line.text.strip_prefix(figure)?.parse().ok());
    told.max().with_context(|| format!("no `{figure}`\n{}", board.tail()))
}
