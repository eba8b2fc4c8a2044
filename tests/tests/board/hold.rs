//! A debugger's hand on an application, by the port the core has for it, where every run is the same: the clock follows the instructions,
//! and nothing comes from a network.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dev::firmware::{Image, blank_flash};
use dev::qemu::{Machine, Net, Pace};
use tempfile::TempDir;

/// How long all of it may take on a busy machine.
const ALL_MAX: Duration = Duration::from_secs(180);
const PACE: Pace = Pace::Instructions { shift: 6, sleep: false };
/// Issue 8 promises 5 ms, whatever an application does. Beside an idle supervisor it is a call and a few switches.
const HALT_MAX_US: u64 = 1_000;
/// Ways to run in which it is held, 200 times each.
const KINDS: [&str; 12] = [
    "thread",
    "primask",
    "faultmask",
    "basepri",
    "process-stack",
    "handler",
    "unprivileged",
    "ticks",
    "waits",
    "calls",
    "handler-calls",
    "storm",
];

#[tokio::test]
async fn an_application_is_held_whatever_it_does_and_goes_on_as_if_it_had_not_been() -> Result<()> {
    let folder = TempDir::new()?;
    let flash = folder.path().join("flash");
    blank_flash(&flash)?;
    let machine = Machine::new("hold", Image::Hold.built()?, flash, folder.path());
    let board = machine.vectors(Image::Hold.vectors()?).pace(PACE).net(Net::Unplugged).start().await?;
    let done = board.console().line("hold done: ", ALL_MAX).await.with_context(|| board.tail())?;
    let lines = board.console().lines();
    let wrong: Vec<&str> =
        lines.iter().map(|line| line.text.as_str()).filter(|line| line.contains("WRONG")).collect();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    ensure!(done.text.ends_with(" right, 0 wrong"), "{}", done.text);
    for kind in KINDS {
        let took = format!("hold took {kind}: ");
        let line = lines.iter().find_map(|line| line.text.strip_prefix(&took));
        let line = line.with_context(|| format!("no halts of {kind}"))?;
        let max = line.split(" max ").nth(1).and_then(|rest| rest.split(' ').next());
        let max_us: u64 = max.with_context(|| line.to_owned())?.parse()?;
        ensure!(max_us < HALT_MAX_US, "{kind}: {line}");
    }
    ensure!(board.resets() == 0, "something reset the machine");
    board.cut_power().await
}
