//! The walls around an application, from both sides, where every run is the same: the clock follows the instructions, nothing comes
//! from a network, and the supervisor computes all the time.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::{Image, bare_flash};
use dev::qemu::{Board, Machine, Net, Pace};
use tempfile::TempDir;

/// How long the whole matrix may take on a busy machine.
const MATRIX_MAX: Duration = Duration::from_secs(180);
const PACE: Pace = Pace::Instructions { shift: 6, sleep: false };
/// Issue 5: the application is never paused for longer, and a non-secure interrupt never waits longer.
const PAUSE_MAX_US: u64 = 1000;

/// Power on, with this application beside a supervisor that computes.
async fn walls(application: Image, folder: &TempDir) -> Result<Board> {
    let flash = folder.path().join("flash");
    bare_flash(application, &flash)?;
    let machine = Machine::new("walls", Image::Walls.built()?, flash, folder.path());
    machine.vectors(Image::Walls.vectors()?).pace(PACE).net(Net::Unplugged).start().await
}

#[tokio::test]
async fn whatever_an_application_tries_ends_at_the_walls() -> Result<()> {
    let folder = TempDir::new()?;
    let board = walls(Image::Probe, &folder).await?;
    let done = board.app().line("probe done: ", MATRIX_MAX).await.with_context(|| board.console().tail())?;
    let lines = board.app().lines();
    let wrong: Vec<&str> =
        lines.iter().map(|line| line.text.as_str()).filter(|line| line.contains("WRONG")).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let right = number_before(&done.text, " right")?;
    ensure!(right > 0 && number_before(&done.text, " wrong")? == 0, "{}", done.text);
    ensure!(board.resets() == 0, "an attempt reset the machine");
    board.cut_power().await
}

#[tokio::test]
async fn an_application_loses_no_tick_of_1_khz_beside_a_supervisor_that_computes() -> Result<()> {
    let folder = TempDir::new()?;
    let board = walls(Image::First("1.0.0"), &folder).await?;
    let line = board.app().line(": 10 s, ", MATRIX_MAX).await.with_context(|| board.console().tail())?;
    ensure!(number_before(&line.text, " ticks lost")? == 0, "{}", line.text);
    ensure!(number_before(&line.text, " us")? <= PAUSE_MAX_US, "{}", line.text);
    let shared = board.console().line("app_pause_max_us: ", MATRIX_MAX).await?;
    for figure in ["app_pause_max_us: ", "ns_irq_wait_max_us: "] {
        let after = shared.text.split(figure).nth(1).with_context(|| shared.text.clone())?;
        let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        ensure!(digits.parse::<u64>()? <= PAUSE_MAX_US, "{}", shared.text);
    }
    board.cut_power().await
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_ended_and_told_from_one_that_is_flooded() -> Result<()> {
    let ends = [
        ("primask-spin", "walls: crash Hung "),
        ("handler-spin", "walls: crash Hung "),
        ("pendsv-storm", "walls: crash InterruptFlood "),
    ];
    for (name, end) in ends {
        let folder = TempDir::new()?;
        let board = walls(Image::Hostile(name), &folder).await?;
        board.app().line(&format!("hostile {name} ready"), MATRIX_MAX).await?;
        board.app().send(&[name.bytes().fold(0, u8::wrapping_add)]).await?;
        board.console().line(end, MATRIX_MAX).await.with_context(|| format!("{name}: {}", board.tail()))?;
        board.app().line("woken by 8", MATRIX_MAX).await.with_context(|| name)?;
        board.cut_power().await?;
    }
    Ok(())
}

/// The number that stands before this text.
fn number_before(line: &str, text: &str) -> Result<u64> {
    let before = line.split(text).next().unwrap_or_default();
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().with_context(|| format!("no number before `{text}` in {line}"))
}
