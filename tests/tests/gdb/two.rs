//! Two developers at once, and one whom the application's manifest does not name.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use dev::firmware::Image;
use scenarios::an505::patient::{HELD, Patient};
use scenarios::world::{Output, PATIENCE, text};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

/// A context of the command line's: somebody else's.
const COLLEAGUE: &str = "colleague";
/// How a command ends that the device refused, and one that cannot be done as things are (docs/cli.md).
const REFUSED: i32 = 4;
const NOT_NOW: i32 = 6;

#[tokio::test]
async fn one_developer_at_a_time_and_nobody_whom_the_manifest_does_not_name() -> Result<()> {
    let patient = Patient::of(Image::BlinkyRust, "two", &HELD).await?;
    colleague(&patient).await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        a_stranger_is_refused_and_it_is_not_even_halted(&patient, &device).await?;
        one_at_a_time(&patient, &device).await
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}

/// Somebody with a sign-in key of their own, who may debug, and a debug key that no bundle names.
async fn colleague(patient: &Patient) -> Result<()> {
    let world = &patient.world;
    let (sign_in, debug) = (world.path("colleague.pem"), world.path("colleague-debug.pem"));
    let public = world.cli(&["key", "generate", text(&sign_in)?]).await?;
    let public = public.split_whitespace().nth(2).with_context(|| format!("no public half: {public}"))?;
    let create = ["key", "create", "Ada", "--role", "developer", "--public", public];
    let key = world.one(&create).await?;
    let name = key["name"].as_str().with_context(|| format!("no name: {key}"))?;
    patient.context_of(COLLEAGUE, None, Some((name, text(&sign_in)?))).await?;
    world.cli(&["debug", "key", "create", "--out", text(&debug)?]).await.map(drop)
}

/// The colleague tries, with their own debug key or with ours.
async fn tries(patient: &Patient, device: &str, own_key: bool) -> Result<Output> {
    let debug = patient.world.path("colleague-debug.pem");
    let mut args = vec!["--context", COLLEAGUE, "debug", device];
    if own_key {
        args.extend(["--key", text(&debug)?]);
    }
    patient.world.try_cli(&args).await
}

async fn a_stranger_is_refused_and_it_is_not_even_halted(patient: &Patient, device: &str) -> Result<()> {
    let mut blinks = Blinks::follow(patient, device).await?;
    blinks.seen(2).await?;
    let tried = tries(patient, device, true).await?;
    ensure!(tried.code == REFUSED && tried.stderr.contains("refuses to be debugged"), "{tried:?}");
    // It says the next thing, and the one after that: on and off in turn, as if nothing was.
    blinks.seen(4).await
}

async fn one_at_a_time(patient: &Patient, device: &str) -> Result<()> {
    let (first, mut gdb) = patient.debugged(device, &[]).await?;
    gdb.mi("-break-insert blinky_rust::change").await?;
    gdb.until_stopped("-exec-continue").await?;
    let before = gdb.value("*(&blinky_rust::CHANGES as *mut u32)").await?;

    // The same key in somebody else's hands waits, and says for whom; there is nothing to take over.
    let tried = tries(patient, device, false).await?;
    ensure!(tried.code == NOT_NOW && tried.stderr.contains("is debugged by"), "{tried:?}");
    let taking = ["--context", COLLEAGUE, "debug", device, "--take-over"];
    let tried = patient.world.try_cli(&taking).await?;
    ensure!(tried.code == NOT_NOW && tried.stderr.contains("is debugged by"), "{tried:?}");
    // So does another process of the same person, unless it says that it takes over.
    let tried = patient.world.try_cli(&["debug", device]).await?;
    ensure!(tried.code == NOT_NOW && tried.stderr.contains("--take-over"), "{tried:?}");
    // Of all that the one who debugs notices nothing: it stands where it stood.
    ensure!(gdb.value("*(&blinky_rust::CHANGES as *mut u32)").await? == before);

    let (second, mut other) = patient.debugged(device, &["--take-over"]).await?;
    let ended = first.end().await?;
    ensure!(!ended.success(), "the first goes on: {ended}");
    gdb.quit().await?;
    // What the first planted is gone, and the second debugs.
    other.mi("-break-insert -t blinky_rust::change").await?;
    let stop = other.until_stopped("-exec-continue").await?;
    ensure!(stop["frame"]["func"] == "blinky_rust::change", "{stop}");
    other.quit().await?;
    second.ended().await
}

/// What the application's log says: `on` and `off`, in turn.
struct Blinks {
    _follow: Child,
    lines: Lines<BufReader<ChildStdout>>,
    last: Option<bool>,
}

impl Blinks {
    async fn follow(patient: &Patient, device: &str) -> Result<Blinks> {
        let args = ["logs", device, "--follow", "--last", "1"];
        let mut follow = patient.world.command(&args)?.stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(follow.stdout.take().context("no stdout")?).lines();
        Ok(Blinks { _follow: follow, lines, last: None })
    }

    /// Waits for so many more.
    async fn seen(&mut self, count: usize) -> Result<()> {
        let more = async {
            let mut seen = 0;
            while seen < count {
                let line = self.lines.next_line().await?.context("the log ended")?;
                let on = [("blinky-rust 1.0.0: on", true), ("blinky-rust 1.0.0: off", false)];
                let Some((_, on)) = on.into_iter().find(|(text, _)| line.contains(text)) else { continue };
                ensure!(self.last != Some(on), "twice the same: {line}");
                self.last = Some(on);
                seen += 1;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, more).await.context("it says nothing more")?
    }
}
