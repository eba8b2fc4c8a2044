//! `cargo dev firmware`: builds the images of the emulated board, says what they take of the chip, and fails when that is too much.
//!
//! Each image is a cargo call of its own: what is built together shares features, and the first stage must not carry what the
//! microvisor needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use dev::firmware::{Footprint, HOSTILE, Image};
use tokio::process::Command;

pub(crate) mod compiler;

use compiler::Compiler;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this application.
    #[arg(long, value_enum)]
    app: Option<App>,
    /// Build with this compiler, and no other.
    #[arg(long, value_enum)]
    compiler: Option<Compiler>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum App {
    /// Logs and says that it works; the one that `cargo dev demo` installs.
    First,
    /// Attacks the walls around it; with what tests the walls and the hold of a debugger without a network.
    Probe,
    /// A microvisor that misbehaves as a test tells it to.
    Trial,
    /// Tests a board in the factory: one that finds it good, one that does not, and one that never ends.
    FactoryTest,
    /// The first, but it never rests: for a clock that follows the instructions.
    Busy,
    /// The examples: a blinky and a system of tasks in Rust (embassy), and the same two in C, by make.
    Examples,
    /// They are there to be debugged: one in C, by make, and one in Rust.
    Patient,
    /// Each tries to hurt the device in one way.
    Hostile,
}

impl App {
    fn images(self) -> Vec<Image> {
        match self {
            App::First => FIRST.to_vec(),
            App::FactoryTest => FACTORY_TEST.to_vec(),
            App::Probe => vec![Image::Walls, Image::Hold, Image::Probe],
            App::Trial => vec![Image::Trial],
            App::Busy => vec![Image::Busy("1.0.0")],
            App::Examples => vec![Image::BlinkyRust, Image::BlinkyC, Image::Embassy, Image::RtosC],
            App::Patient => vec![Image::Patient, Image::PatientRust],
            App::Hostile => HOSTILE.iter().copied().map(Image::Hostile).collect(),
        }
    }
}

/// Cargo's name of its release profile.
const RELEASE: &str = "release";
/// The first stage's own profile.
const BOOT: &str = "boot";

/// The versions of the first application: two that work, and one that never says so.
const FIRST: [Image; 3] = [Image::First("1.0.0"), Image::First("2.0.0"), Image::Unwell("3.0.0")];

/// The tests of a board: its verdict is good, a number, or never given.
const FACTORY_TEST: [Image; 3] =
    [Image::FactoryTest, Image::FactoryTestFails("7"), Image::FactoryTestEndless];

impl Arguments {
    /// Everything there is.
    pub(crate) fn everything() -> Arguments {
        Arguments { app: None, compiler: None }
    }

    /// What a demonstration needs.
    pub(crate) fn first() -> Arguments {
        Arguments { app: Some(App::First), compiler: None }
    }

    /// What is debugged.
    pub(crate) fn patient() -> Arguments {
        Arguments { app: Some(App::Patient), compiler: None }
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let compiler = Compiler::choose(arguments.compiler).await?;
    let apps = arguments.app.map_or_else(
        || {
            vec![
                App::First,
                App::FactoryTest,
                App::Probe,
                App::Trial,
                App::Busy,
                App::Examples,
                App::Patient,
                App::Hostile,
            ]
        },
        |app| vec![app],
    );
    let mut images = vec![Image::Boot, Image::Microvisor];
    images.extend(apps.iter().flat_map(|app| app.images()));
    std::fs::create_dir_all(dev::firmware::folder())?;
    for image in &images {
        build(compiler, *image).await?;
    }
    let mut table = format!("{:<20} {:>22} {:>22}\n", "image", "flash KiB (limit)", "RAM KiB (limit)");
    let mut too_big = Vec::new();
    for image in images {
        let footprint = image.footprint()?;
        let in_table = !matches!(image, Image::Hostile(_));
        ensure!(footprint.flash_bytes > 0, "nothing of {} lies where it should", image.name());
        // Forty small ones would hide the others.
        if in_table {
            table += &row(&image.name(), &footprint);
        }
        if !footprint.fits() {
            too_big.push(image.name());
        }
    }
    println!("{table}in {}", dev::firmware::folder().display());
    ensure!(too_big.is_empty(), "beyond a limit: {}", too_big.join(", "));
    Ok(())
}

async fn build(compiler: Compiler, image: Image) -> Result<()> {
    let artefact = match image {
        Image::BlinkyC | Image::RtosC | Image::Patient => make(&image.name()).await?,
        // The first of them builds them all, in one call.
        Image::Hostile(name) if name != HOSTILE[0] => compiler.artefacts(RELEASE).join(name),
        _ => cargo(compiler, image).await?,
    };
    std::fs::copy(&artefact, image.file()).with_context(|| format!("copying {}", artefact.display()))?;
    Ok(())
}

/// An application in C; where its ELF file is.
async fn make(app: &str) -> Result<PathBuf> {
    let folder = dev::root().join("gateway-firmware/apps").join(app);
    let out = compiler::workspace().join("target/c").join(app);
    let mut command = Command::new("make");
    command.arg("--silent").arg("--directory").arg(&folder).arg(format!("OUT={}", text(&out)?));
    run_command(command, &format!("building {app}")).await?;
    Ok(out.join(app).with_extension("elf"))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

async fn cargo(compiler: Compiler, image: Image) -> Result<PathBuf> {
    // The first stage has a profile of its own: smaller, slower.
    let (package, program, profile) = match image {
        Image::Boot => ("boot", "boot", BOOT),
        Image::Microvisor => ("microvisor", "microvisor", RELEASE),
        Image::Trial => ("microvisor", "trial", RELEASE),
        Image::Walls => ("microvisor", "walls", RELEASE),
        Image::Hold => ("microvisor", "hold", RELEASE),
        Image::First(_) | Image::Unwell(_) | Image::Busy(_) => ("first", "first", RELEASE),
        Image::FactoryTest | Image::FactoryTestFails(_) | Image::FactoryTestEndless => {
            ("factory-test", "factory-test", RELEASE)
        }
        Image::Probe => ("probe", "probe", RELEASE),
        Image::BlinkyRust => ("blinky-rust", "blinky-rust", RELEASE),
        Image::Embassy => ("embassy", "embassy", RELEASE),
        Image::PatientRust => ("patient-rust", "patient-rust", RELEASE),
        Image::BlinkyC | Image::RtosC | Image::Patient => bail!("{} is built by make", image.name()),
        Image::Hostile(name) => ("hostile", name, RELEASE),
    };
    let mut command = compiler.command("build", profile);
    command.args(["--quiet", "--package", package]);
    match image {
        Image::Hostile(_) => command.arg("--bins"),
        _ => command.args(["--bin", program]),
    };
    // What `apps/first` and `apps/factory-test` are told when they are built.
    match image {
        Image::First(version) => drop(command.env("HOLDFAST_APP_VERSION", version)),
        Image::Unwell(version) => {
            command.env("HOLDFAST_APP_VERSION", version).env("HOLDFAST_APP_UNWELL", "1");
        }
        Image::Busy(version) => {
            command.env("HOLDFAST_APP_VERSION", version).env("HOLDFAST_APP_BUSY", "1");
        }
        Image::FactoryTestFails(verdict) => drop(command.env("HOLDFAST_TEST_FAILS", verdict)),
        Image::FactoryTestEndless => drop(command.env("HOLDFAST_TEST_ENDLESS", "1")),
        _ => {}
    }
    run_command(command, &format!("building {}", image.name())).await?;
    Ok(compiler.artefacts(profile).join(program))
}

/// The board's lints: with rustup's compiler, which brings clippy. Where its target cannot be had the images are Debian's
/// compiler's, and nobody lints them.
pub(crate) async fn clippy() -> Result<()> {
    if let Err(error) = compiler::add_target().await {
        println!("no lints of the board: {error:#}");
        return Ok(());
    }
    // The first stage by itself: in one call with the rest it would be given what they need of its dependencies.
    for (profile, selection) in [(BOOT, ["--package", "boot"]), (RELEASE, ["--workspace", "--exclude=boot"])]
    {
        let mut command = Compiler::Rustup.command("clippy", profile);
        command.args(selection).args(["--", "-D", "warnings"]);
        run_command(command, "lints of the board").await?;
    }
    Ok(())
}

pub(crate) async fn fmt() -> Result<()> {
    let mut command = crate::command::cargo::command(&["fmt", "--all", "--check"]);
    command.current_dir(compiler::workspace());
    run_command(command, "format of the board").await
}

async fn run_command(mut command: Command, what: &str) -> Result<()> {
    let status = command.status().await.with_context(|| format!("starting: {what}"))?;
    if !status.success() {
        bail!("{what} failed ({status})");
    }
    Ok(())
}

fn row(name: &str, footprint: &Footprint) -> String {
    let kib = |bytes: u32, max: u32| format!("{:.1} ({})", f64::from(bytes) / 1024.0, max / 1024);
    let flash = kib(footprint.flash_bytes, footprint.flash_bytes_max);
    let ram = kib(footprint.ram_bytes, footprint.ram_bytes_max);
    format!("{name:<20} {flash:>22} {ram:>22}\n")
}
