//! Why a board starts is said in its hello and its log; what it had said before a reset, and nobody had heard, is told after it.

use std::time::Duration;

use anyhow::{Context, Result};
use dev::firmware::Image;
use dev::qemu::{Board, Probe};
use factory::secure::{KEPT_CAUSE_AT, MICROVISOR_AT};
use gateway_core::boot::first::cause_words;
use gateway_core::ports::BootReason;
use scenarios::an505::board::{is_online, runs};
use scenarios::an505::log::Log;
use scenarios::an505::wire::{Network, Weather, Wire};
use scenarios::world::World;

const QUICK: [&str; 4] = ["--trial", "20s", "--stable", "1s"];
const SOON: Duration = Duration::from_secs(60);
/// Exception number of the secure SysTick: the scheduler's.
const SYS_TICK: u32 = 15;
/// `udf #0` and `b .` (Armv8-M ARM C2.4).
const UNDEFINED: [u8; 2] = [0x00, 0xde];
const FOR_EVER: [u8; 2] = [0xfe, 0xe7];

#[tokio::test]
async fn a_board_says_why_it_starts_and_tells_what_it_said_before_a_reset() -> Result<()> {
    let world = World::start().await?;
    let flash = world.flash("resets").await?;
    let wire = Wire::new(6, Network::default())?;
    let board = world.machine(&flash)?.net(wire.net()).probed().start().await?;
    let scenario = async {
        let device = world.devices(1, is_online).await?.remove(0);
        let mut log = Log::of(&world, &device);
        says(&world, "power_on").await?;
        log.next_boot(&["boot 1: PowerOn", "connected"]).await?;

        // An instruction of the microvisor's that is none; the first stage puts a whole image there again.
        spoil_scheduler(&board, UNDEFINED).await?;
        says(&world, "fault").await?;
        log.next_boot(&["boot 2: Fault", "died before: Fault { exception: 6", "connected"]).await?;

        // What a microvisor leaves that resets on purpose.
        let mut probe = board.probe().await?;
        let words = cause_words(BootReason::Software).map(u32::to_le_bytes).concat();
        probe.write(KEPT_CAUSE_AT, &words).await?;
        probe.detach().await?;
        board.reset().await?;
        says(&world, "software").await?;
        log.next_boot(&["boot 3: Software", "connected"]).await?;

        // It never comes to rest again.
        spoil_scheduler(&board, FOR_EVER).await?;
        says(&world, "watchdog").await?;
        let fourth = log.next_boot(&["boot 4: Watchdog", "died before: Watchdog", "connected"]).await?;

        let said = say_unheard(&world, &board, &wire, &device).await?;
        board.reset().await?;
        wire.set_weather(Weather::FAIR);
        log.next_boot(&["boot 5: Watchdog", "connected", "first 1.0.0: 1 s"]).await?;
        log.boot(&fourth.name, &[&said]).await
    };
    scenario.await.with_context(|| board.tail())?;
    board.cut_power().await
}

/// Waits for a hello with this reason.
async fn says(world: &World, reason: &str) -> Result<()> {
    world.devices(1, |device| device["boot_reason"] == reason).await.map(drop)
}

/// Puts an instruction where the scheduler begins. No application runs: the processor rests in the secure world.
async fn spoil_scheduler(board: &Board, instruction: [u8; 2]) -> Result<()> {
    let mut probe = board.probe().await?;
    let vector = read_word(&mut probe, MICROVISOR_AT + 4 * SYS_TICK).await?;
    probe.write(vector & !1, &instruction).await?;
    probe.detach().await?;
    board.reset_seen(board.resets() + 1, SOON).await
}

async fn read_word(probe: &mut Probe, at: u32) -> Result<u32> {
    let bytes = probe.read(at, 4).await?;
    Ok(u32::from_le_bytes(bytes.try_into().ok().context("four bytes")?))
}

/// What an application said that is in the log, and that nobody outside has heard.
async fn say_unheard(world: &World, board: &Board, wire: &Wire, device: &str) -> Result<String> {
    let bundle = world.app(Image::First("1.0.0"), "1.0.0", 1, &QUICK).await?;
    world.deploy(device, &bundle).await?;
    world.devices(1, |device| runs(device, "1.0.0")).await?;
    wire.set_weather(Weather::CUT);
    let from = board.app().count();
    let line = board.app().line_after(from + 1, "first 1.0.0: ", SOON).await?;
    // It is logged after it was said here: when the next one is said.
    board.app().line_after(line.number + 1, "first 1.0.0: ", SOON).await?;
    Ok(line.text)
}
