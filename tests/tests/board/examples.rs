//! The example applications over the whole path, one after the other on one board: each says in the log what it does, and is confirmed.

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use dev::qemu::Board;
use scenarios::an505::board::is_online;
use scenarios::an505::log::Log;
use scenarios::world::{PATIENCE, World};

/// Short periods, so that a trial takes seconds.
const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];
/// Whom the next update has to ask, for longer than anybody here waits.
const POLITE: Image = Image::BlinkyRust;
const ASKS: [&str; 2] = ["--polite", "10m"];

/// An application, and what is in the log then.
const EXAMPLES: [(Image, &str, &[&str]); 4] = [
    (Image::BlinkyC, "1.0.0", &["blinky-c 1.0.0 starts", "blinky-c: on", "blinky-c: off"]),
    (Image::BlinkyRust, "2.0.0", &["blinky-rust 1.0.0: on", "blinky-rust 1.0.0: off"]),
    (
        Image::RtosC,
        "3.0.0",
        &[
            "blinky-rust: an update waits, and may be installed",
            "rtos-c 1.0.0: sample 10 of tick ",
            "rtos-c 1.0.0: sample 20 of tick ",
        ],
    ),
    (Image::Embassy, "4.0.0", &["embassy 1.0.0: 1 s, ", "embassy 1.0.0: 2 s, "]),
];
const TYPED: &str = "what is typed comes back";

#[tokio::test]
async fn applications_in_rust_and_c_are_installed_log_and_are_confirmed() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("examples").await?;
    let board = world.machine(&flash)?.start().await?;
    world.undisturbed(&board, install_each(&world, &board)).await?;
    board.cut_power().await
}

async fn install_each(world: &World, board: &Board) -> Result<()> {
    let device = world.devices(1, is_online).await?.remove(0);
    for (counter, (image, version, said)) in (1..).zip(EXAMPLES) {
        let mut flags = QUICK.to_vec();
        if image == POLITE {
            flags.extend(ASKS);
        }
        let bundle = world.app(image, version, counter, &flags).await?;
        let end = world.deploy(&device, &bundle).await?;
        ensure!(end == ("STATE_CONFIRMED".into(), String::new()), "{} ended {end:?}", image.name());
        // Nothing restarted the board: it is the same boot for all.
        Log::of(world, &device).next_boot(said).await.with_context(|| image.name())?;
    }
    let published = world.json(&["telemetry", "list", &device]).await?;
    ensure!(published.iter().any(|one| one["content_type"] == "text/plain"), "{published:?}");
    board.app().send(format!("{TYPED}\n").as_bytes()).await?;
    board.app().line(TYPED, PATIENCE).await.map(drop)
}
