//! Where things are: the checkout, its `.dev` folder, the binaries built beside us.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of this checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies one folder below the root")
}

/// The one ignored folder in which `cargo dev` and every stack keep their state.
pub fn dot_dev() -> PathBuf {
    root().join(".dev")
}

/// The Python with cbor2 and pycose that `cargo dev setup` makes, for tests against an independent implementation.
pub fn python() -> PathBuf {
    dot_dev().join("python/bin/python")
}

/// The buf that `cargo dev setup` installs: lint and compatibility of the .proto files, and gRPC from a shell.
///
/// The program itself, not npm's wrapper: who ends it ends no Node that leaves it behind.
pub fn buf() -> Result<PathBuf> {
    // npm takes the package of this platform alone: `buf-linux-x64`.
    let packages = dot_dev().join("node/node_modules/@bufbuild");
    let entries = std::fs::read_dir(&packages).into_iter().flatten().flatten();
    let mut programs = entries.map(|entry| entry.path()).filter(|dir| !dir.ends_with("buf"));
    let program = programs.find_map(|dir| Some(dir.join("bin/buf")).filter(|program| program.is_file()));
    program.with_context(|| format!("no buf in {}: run `cargo dev setup`", packages.display()))
}

/// What Visual Studio Code runs to debug by a `gdbtarget` launch file, as `cargo dev setup` installs it: a script of Node's.
pub fn debug_adapter() -> Result<PathBuf> {
    let script = dot_dev().join("node/node_modules/cdt-gdb-adapter/dist/debugTargetAdapter.js");
    if !script.is_file() {
        bail!("no {}: run `cargo dev setup`", script.display());
    }
    Ok(script)
}

/// The folder of the binaries of the profile this process was built with (`target/debug` or `target/release`).
pub fn binary_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("finding the running program")?;
    let dir = exe.parent().context("the running program has no folder")?;
    let above_deps = if dir.ends_with("deps") || dir.ends_with("examples") { dir.parent() } else { None };
    Ok(above_deps.unwrap_or(dir).to_path_buf())
}

/// Where tests leave tables for people, which `cargo dev test` prints at its end.
pub fn reports_dir() -> Result<PathBuf> {
    Ok(binary_dir()?.with_file_name("reports"))
}

/// Leaves a table there, in place of the last one of this name.
pub fn leave_report(name: &str, text: &str) -> Result<()> {
    let dir = reports_dir()?;
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let file = dir.join(format!("{name}.txt"));
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// A built binary of this workspace by name; the error says how to build it.
pub fn binary(name: &str) -> Result<PathBuf> {
    let path = binary_dir()?.join(name);
    if !path.is_file() {
        let profile = if path.parent().is_some_and(|p| p.ends_with("release")) { "--release " } else { "" };
        bail!("{} is not built: run `cargo build {profile}--bin {name}` first", path.display());
    }
    Ok(path)
}

/// Finds a program of the system: Postgres's own folders on Debian first, then PATH.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    postgres_dirs()
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| format!("{name} is not installed: run `cargo dev setup`"))
}

/// Debian keeps `initdb` and `postgres` off PATH, one folder a version: the newest first.
fn postgres_dirs() -> Vec<PathBuf> {
    let version =
        |dir: &PathBuf| dir.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse::<u32>().ok());
    let mut dirs: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    dirs.retain(|dir| version(dir).is_some() && dir.join("bin/initdb").is_file());
    dirs.sort_by_key(|dir| std::cmp::Reverse(version(dir)));
    dirs.into_iter().map(|dir| dir.join("bin")).collect()
}
