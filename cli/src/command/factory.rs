//! `holdfast factory`: the flash files of boards, made and read. It asks no server: everything it needs is in files that were signed
//! before. What a factory may be trusted with is in docs/manufacturing.md.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use factory::image::{Run, Spec};
use factory::provision::{Host, Provision};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::args::Global;
use crate::failure::input;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the flash file of a board, or of a run of boards. Offline: every input was signed before.
    ///
    /// Everything is checked first, by the code of the first stage and of the device: what a board would refuse is not written. A flash file
    /// holds the claim's private key: treat it as a secret.
    #[command(
        after_help = "Examples:\n  holdfast factory image --provision claim/provision.json --hardware-id lamp-1 --keyset keyset-1.cose \\\n    --microvisor microvisor.hfb --app lamp-1.0.0.hfb --test lamp-test.hfb --out lamp-1.flash\n  holdfast factory image --provision claim/provision.json --hardware-ids ids.txt --keyset keyset-1.cose \\\n    --microvisor microvisor.hfb --app lamp-1.0.0.hfb --test lamp-test.hfb --out-dir line-3/"
    )]
    Image(Box<Image>),
    /// Show what a flash file holds, but for secrets, and what a board would make of it.
    Inspect { file: PathBuf },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    /// What `holdfast claim create --board an505 --out DIR` wrote.
    #[arg(long, value_name = "FILE")]
    provision: PathBuf,
    /// Names the board.
    #[arg(long, value_name = "ID", requires = "out", required_unless_present = "hardware_ids")]
    hardware_id: Option<String>,
    /// Names a run of boards: a file with one id a line, each a board, at most 1000.
    #[arg(long, value_name = "FILE", requires = "out_dir", conflicts_with = "hardware_id")]
    hardware_ids: Option<PathBuf>,
    /// The tenant's first signed keyset: `holdfast keyset show 1 --out FILE`.
    #[arg(long, value_name = "FILE")]
    keyset: PathBuf,
    /// Bundle file of the microvisor.
    #[arg(long, value_name = "BUNDLE")]
    microvisor: PathBuf,
    /// Bundle file of the first application: confirmed, it runs from the first start on, or after the test.
    #[arg(long, value_name = "BUNDLE")]
    app: Option<PathBuf>,
    /// Bundle file of an application that tests the hardware: it alone runs, without a network, until it says how that went.
    #[arg(long, value_name = "BUNDLE")]
    test: Option<PathBuf>,
    /// An address that the board takes for a name without asking DNS; at most 4.
    #[arg(long, value_name = "NAME=IP", value_parser = host)]
    host: Vec<Host>,
    /// Flash file to write.
    #[arg(long, value_name = "FILE", conflicts_with = "out_dir")]
    out: Option<PathBuf>,
    /// Folder for the flash files of a run, each called as its board: ID.flash.
    #[arg(long, value_name = "DIR", requires = "hardware_ids")]
    out_dir: Option<PathBuf>,
    /// Write over flash files that are there.
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<()> {
    match command {
        Command::Image(image) => make(global, image),
        Command::Inspect { file } => show(global, file),
    }
}

fn make(global: &Global, image: &Image) -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let read_if = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
    let provision = Provision::read(&image.provision).map_err(refused)?;
    let (keyset, microvisor) = (read(&image.keyset)?, read(&image.microvisor)?);
    let (app, test) = (read_if(&image.app)?, read_if(&image.test)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let spec = Spec {
        provision: &provision,
        hosts: &image.host,
        keyset: &keyset,
        microvisor: &microvisor,
        app: app.as_deref(),
        test: test.as_deref(),
        now_s: now.as_secs(),
    };
    let run = spec.prepare().map_err(refused)?;
    match (&image.hardware_id, &image.out, &image.hardware_ids, &image.out_dir) {
        (Some(id), Some(out), _, _) => {
            run.board(id).and_then(|board| board.write(out, image.force)).map_err(refused)?;
            show(global, out)
        }
        (_, _, Some(ids), Some(folder)) => {
            let text = read(ids)?;
            let text =
                std::str::from_utf8(&text).map_err(|_| input(format!("{} is no text", ids.display())))?;
            let ids = factory::names::read(text).map_err(refused)?;
            make_all(global, &run, &ids, folder, image.force)
        }
        // clap has seen to it.
        _ => {
            Err(input("name a board with --hardware-id and --out, or many with --hardware-ids and --out-dir"))
        }
    }
}

/// One file a board. Before the first is written it is known that none is there.
fn make_all(global: &Global, run: &Run<'_>, ids: &[String], folder: &Path, force: bool) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let files: Vec<PathBuf> = ids.iter().map(|id| folder.join(format!("{id}.flash"))).collect();
    if let Some(path) = files.iter().find(|file| !force && file.exists()) {
        return Err(refused(factory::Error::Exists { path: path.clone() }));
    }
    let bar = if global.json { ProgressBar::hidden() } else { bar(ids.len())? };
    for (id, file) in ids.iter().zip(&files) {
        run.board(id).and_then(|board| board.write(file, force)).map_err(refused)?;
        bar.inc(1);
        if global.json {
            output::document(&json!({ "hardware_id": id, "file": file }))?;
        }
    }
    bar.finish_and_clear();
    match global.json {
        true => Ok(()),
        false => output::line(&format!("{} flash files in {}", ids.len(), folder.display())),
    }
}

fn bar(boards: usize) -> Result<ProgressBar> {
    let style = ProgressStyle::with_template("boards [{bar:40}] {pos}/{len} {eta}")?;
    Ok(ProgressBar::new(boards as u64).with_style(style.progress_chars("=> ")))
}

fn show(global: &Global, file: &Path) -> Result<()> {
    let value = factory::inspect::inspect(file).map_err(refused)?;
    if global.json {
        return output::document(&value);
    }
    let mut lines = Vec::new();
    flatten("", &value, &mut lines);
    lines.iter().try_for_each(|line| output::line(line))
}

/// One line a value, named by its path. What a flash says of itself may have been written by anybody.
fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    let within = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(&within(name), value, lines));
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(at, item)| flatten(&within(&at.to_string()), item, lines));
        }
        Value::String(text) => lines.push(format!("{path:<36} {}", output::printable(text))),
        _ => lines.push(format!("{path:<36} {}", output::printable(&value.to_string()))),
    }
}

fn host(text: &str) -> Result<Host, String> {
    text.parse().map_err(|error: factory::Error| error.to_string())
}

/// What cannot be read or written is the machine's affair; everything else is an input to change.
fn refused(error: factory::Error) -> anyhow::Error {
    match error {
        factory::Error::Read { .. } | factory::Error::Write { .. } => error.into(),
        _ => input(format!("{:#}", anyhow::Error::from(error))),
    }
}
