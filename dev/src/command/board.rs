//! `cargo dev board`: one emulated board against an installation that `cargo dev up` runs, its consoles on ours, until Ctrl-C. It comes
//! as from a factory: with a first application, and with `--test` it tests its hardware before that.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use dev::factory::Parts;
use dev::firmware::Image;
use dev::qemu::{self, Board, Console, Machine, Pace};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::cli::Cli;
use crate::command::{cargo, firmware, up};

/// The version it comes with.
const FIRST_VERSION: &str = "1.0.0";
/// The version of the test.
const TEST_VERSION: &str = "0.1.0";
/// Nanoseconds an instruction takes with `--icount` are two to this power: 64, near the 50 of the board's 20 MHz.
const ICOUNT_SHIFT: u8 = 5;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The installation, as named to `cargo dev up`.
    #[arg(long, default_value = "main", value_parser = up::name)]
    name: String,
    /// Flash file, kept: made when it is not there, gone on with when it is. Otherwise a new board each time.
    #[arg(long, value_name = "FILE")]
    flash: Option<PathBuf>,
    /// Folder with the release.pem that signs the microvisor; made with the tenant's first keyset when it has none.
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// Let it test its hardware first, as in a factory.
    #[arg(long)]
    test: bool,
    /// A debugger of the whole machine may attach to this port of the loopback.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "3333")]
    gdb: Option<u16>,
    /// Let the board's clock follow its instructions instead of the wall.
    #[arg(long)]
    icount: bool,
    /// Everything is built already: start at once.
    #[arg(long)]
    built: bool,
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    if let Err(error) = dev::program(qemu::PROGRAM) {
        bail!("{error:#} (or `apt-get install qemu-system-arm`)");
    }
    let home = dev::dot_dev().join(&arguments.name).join("home");
    let name = &arguments.name;
    ensure!(home.is_dir(), "no installation is called {name}: start it with `cargo dev up --name {name}`");
    let (board, _scratch) = tokio::select! {
        started = start(arguments, &home) => started?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    tokio::select! {
        shown = follow(&board) => shown?,
        _ = interrupt.recv() => println!("\npower off"),
        _ = terminate.recv() => println!("\npower off"),
    }
    board.cut_power().await
}

async fn start(arguments: &Arguments, home: &Path) -> Result<(Board, Scratch)> {
    if !arguments.built {
        println!("building (a minute the first time, then seconds)");
        cargo::build_cli().await?;
        firmware::run(&firmware::Arguments::everything()).await?;
    }
    let folder = Scratch(home.with_file_name("boards").join(hardware_id()?));
    std::fs::create_dir_all(&folder.0)?;
    let flash = match &arguments.flash {
        Some(file) => std::path::absolute(file)?,
        None => folder.0.join("flash"),
    };
    if flash.is_file() {
        println!("going on with {}", flash.display());
    } else {
        make(arguments, home, &folder, &flash).await?;
        println!("made {}", flash.display());
    }
    let pace = match arguments.icount {
        true => Pace::Instructions { shift: ICOUNT_SHIFT, sleep: true },
        false => Pace::Wall,
    };
    let machine = Machine::new("board", Image::Boot.built()?, &flash, home.with_file_name("logs"));
    let board = machine.pace(pace).gdb(arguments.gdb).start().await?;
    println!("{}", next(arguments));
    Ok((board, folder))
}

/// What is gone when the board is: the claim, and the flash that nobody asked to keep.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It lies in `.dev`, which `cargo dev reset` removes.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// No two boards have the same.
fn hardware_id() -> Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    Ok(format!("qemu-{:x}", now.as_micros()))
}

async fn make(arguments: &Arguments, home: &Path, folder: &Scratch, flash: &Path) -> Result<()> {
    let cli = Cli::at(home)?;
    let release_key = release_key(&cli, arguments.keys.as_deref()).await?;
    let claim = folder.0.join("claim");
    let out = claim.to_str().context("a path that is not UTF-8")?;
    cli.run(&["claim", "create", "--devices", "1", "--board", qemu::BOARD, "--out", out]).await?;
    let parts = Parts {
        provision: claim.join("provision.json"),
        hardware_id: hardware_id()?,
        app: Some(bundle(&cli, &release_key, folder, Image::First(FIRST_VERSION), FIRST_VERSION).await?),
        test: match arguments.test {
            true => Some(bundle(&cli, &release_key, folder, Image::FactoryTest, TEST_VERSION).await?),
            false => None,
        },
        release_key,
        knows_host: true,
    };
    parts.flash(async |words: &[&str]| cli.run(words).await, flash).await
}

/// Signs an application for it; where the bundle is.
async fn bundle(
    cli: &Cli,
    release_key: &Path,
    folder: &Scratch,
    image: Image,
    version: &str,
) -> Result<PathBuf> {
    let file = folder.0.join(format!("{}.hfb", image.name()));
    let (image, path) = (image.built()?, |path: &Path| path.to_str().map(str::to_owned));
    let [image, key, out] =
        [&image, release_key, &file].map(|it| path(it).context("a path that is not UTF-8"));
    let (image, key, out) = (image?, key?, out?);
    let mut create = vec!["bundle", "create", "--board", qemu::BOARD, "--version", version, "--counter", "1"];
    create.extend(["--image", &image, "--key", &key, "--out", &out]);
    cli.run(&create).await?;
    Ok(file)
}

/// The release key of the tenant's keysets: the caller's, or ours, for whom the first keyset is made when there is none.
async fn release_key(cli: &Cli, keys: Option<&Path>) -> Result<PathBuf> {
    let folder = match keys {
        Some(folder) => std::path::absolute(folder)?,
        None => cli.home.join("keys"),
    };
    let key = folder.join("release.pem");
    let dir = folder.to_str().context("a path that is not UTF-8")?;
    if cli.run(&["keyset", "list", "--json"]).await?.is_empty() {
        cli.run(&["keyset", "init", "--dir", dir]).await?;
    }
    ensure!(
        key.is_file(),
        "no {}: the tenant's keys are kept elsewhere; say where with --keys DIR",
        key.display()
    );
    Ok(key)
}

/// What one types next.
fn next(arguments: &Arguments) -> String {
    let app = Image::First("2.0.0").file();
    let keys = arguments
        .keys
        .as_ref()
        .map_or_else(|| "$HOLDFAST_HOME/keys".to_owned(), |it| it.display().to_string());
    let name = match arguments.name.as_str() {
        "main" => String::new(),
        other => format!(" --name {other}"),
    };
    let mut text = format!(
        "
it runs {FIRST_VERSION}; its successor, in another terminal
  eval \"$(cargo dev env{name})\"
  holdfast bundle create --image {} --board {} --version 2.0.0 --counter 2 --key {keys}/release.pem --out first.hfb
  holdfast deploy \"$(holdfast device wait)\" first.hfb\n",
        app.display(),
        qemu::BOARD,
    );
    if let Some(port) = arguments.gdb {
        let symbols = Image::Microvisor.file();
        text += &format!("a debugger of the whole machine\n  gdb-multiarch {} ", symbols.display());
        text += &format!("-ex 'target remote localhost:{port}'\n");
    }
    text + "Ctrl-C is the power switch\n"
}

/// Both consoles, until the machine ends.
async fn follow(board: &Board) -> Result<()> {
    tokio::try_join!(print("[microvisor]", board.console()), print("[app]       ", board.app()))?;
    bail!("QEMU ended by itself\n{}", board.process().tail())
}

async fn print(prefix: &str, console: &Console) -> Result<()> {
    let mut number = 0;
    while let Some(line) = console.next(number).await? {
        println!("{prefix} {}", line.text);
        number = line.number + 1;
    }
    Ok(())
}
