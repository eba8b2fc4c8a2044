//! A private Postgres cluster per stack.
//!
//! `initdb` runs once per checkout; every stack starts from a copy of that pristine cluster, takes a password of its own and makes
//! its own database, roles and schemas (dev/sql/roles.sql). So a test may stop or kill its Postgres without another noticing.
//! `initdb` and `postgres` refuse to run as root: they get the user `postgres` then, and, when the checkout lies where that user
//! cannot go (/root), a folder in /var/tmp. Debian's own cluster is never looked at.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::process::{Ready, Signal, Spec, is_root};
use crate::{places, secret};

/// The database of an installation.
pub(crate) const DATABASE: &str = "holdfast";
const ROLES_SQL: &str = include_str!("../sql/roles.sql");

/// Settings of every cluster of ours. Nothing here weakens what a transaction promises when a process dies; `fsync` is about the
/// machine losing power, which no test does.
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "max_connections=100",
    "shared_buffers=32MB",
    "max_wal_size=256MB",
    "jit=off",
    "timezone=UTC",
    "log_timezone=UTC",
];
const UNSAFE_AT_POWER_LOSS: &[&str] = &["fsync=off", "full_page_writes=off"];

/// One cluster on disk.
#[derive(Debug)]
pub(crate) struct Cluster {
    data: PathBuf,
    log: PathBuf,
    durable: bool,
}

impl Cluster {
    /// Where a stack's cluster lies. A durable one survives the machine's power loss.
    pub(crate) fn new(state: &Path, log: PathBuf, durable: bool) -> Cluster {
        Cluster { data: reachable(state).join("postgres"), log, durable }
    }

    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Whether an earlier run made it completely.
    pub(crate) fn is_complete(&self) -> bool {
        self.data.join("holdfast.complete").is_file()
    }

    /// Copies the pristine cluster here and returns its superuser's password, to be changed at once. Blocks.
    pub(crate) fn create(&self) -> Result<String> {
        let (pristine, password) = pristine()?;
        if self.data.exists() {
            std::fs::remove_dir_all(&self.data)
                .with_context(|| format!("removing {}", self.data.display()))?;
        }
        let parent = self.data.parent().context("the data folder has no parent")?;
        open_folder(parent)?;
        run(Command::new("cp").arg("-a").arg(&pristine).arg(&self.data), None)?;
        Ok(password)
    }

    /// Changes the password, makes the database, its roles and schemas. Blocks; the cluster runs on `port`.
    pub(crate) fn furnish(&self, port: u16, old: &str, new: &str, roles: &[(&str, &str)]) -> Result<()> {
        psql(
            port,
            "postgres",
            old,
            &format!("ALTER ROLE postgres PASSWORD '{new}';\nCREATE DATABASE {DATABASE};"),
        )?;
        let mut script = format!("\\set database {DATABASE}\n");
        for (role, password) in roles {
            let short = role.trim_start_matches("holdfast_");
            script += &format!("\\set {short}_password '{password}'\n");
        }
        psql(port, DATABASE, new, &(script + ROLES_SQL))?;
        File::create(self.data.join("holdfast.complete")).context("marking the cluster complete")?;
        Ok(())
    }

    /// How to run it.
    pub(crate) fn spec(&self, port: u16) -> Result<Spec> {
        let program = places::program("postgres")?;
        let mut spec = Spec::new("postgres", program, &self.log)
            .ready(Ready::Stderr("ready to accept connections"))
            .arg("-D")
            .arg(&self.data)
            .arg("-p")
            .arg(port.to_string());
        let unsafe_at_power_loss = if self.durable { &[] } else { UNSAFE_AT_POWER_LOSS };
        for setting in SETTINGS.iter().chain(unsafe_at_power_loss) {
            spec = spec.arg("-c").arg(setting);
        }
        spec.user = server_user()?;
        spec.on_our_death = Signal::Quit;
        Ok(spec)
    }
}

/// Runs a script as the superuser and returns the rows, unaligned. Blocks.
pub(crate) fn psql(port: u16, database: &str, password: &str, script: &str) -> Result<String> {
    let mut command = Command::new(places::program("psql")?);
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"]);
    command.args(["-p", &port.to_string(), "-d", database]).env("PGPASSWORD", password);
    run(&mut command, Some(script))
}

/// The pristine cluster of this checkout and its password; made by the first who needs it.
fn pristine() -> Result<(PathBuf, String)> {
    let initdb = places::program("initdb")?;
    let version = run(Command::new(&initdb).arg("--version"), None)?;
    let version: String = version.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
    let cache = reachable(&places::dot_dev()).join("cache");
    open_folder(&cache)?;
    let lock = File::create(cache.join("lock")).context("creating the cache's lock")?;
    lock.lock().context("waiting for the pristine cluster")?;

    let dir = cache.join(format!("postgres-{version}"));
    let password_file = cache.join(format!("postgres-{version}.password"));
    if !dir.join("PG_VERSION").is_file() || !password_file.is_file() {
        let _ = std::fs::remove_dir_all(&dir);
        let partial = cache.join("partial");
        let _ = std::fs::remove_dir_all(&partial);
        let password = secret::hex(16)?;
        initialise(&initdb, &partial, &password)?;
        std::fs::rename(&partial, &dir).context("keeping the pristine cluster")?;
        secret::write(&password_file, &password)?;
    }
    let password =
        std::fs::read_to_string(&password_file).context("reading the pristine cluster's password")?;
    Ok((dir, password))
}

fn initialise(initdb: &Path, dir: &Path, password: &str) -> Result<()> {
    let user = server_user()?;
    let password_file = dir.with_extension("password");
    secret::write(&password_file, password)?;
    std::fs::create_dir(dir).with_context(|| format!("making {}", dir.display()))?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    let mut command = match user {
        None => Command::new(initdb),
        Some((uid, gid)) => {
            chown(dir, Some(uid), Some(gid))?;
            chown(&password_file, Some(uid), Some(gid))?;
            let mut command = Command::new(places::program("setpriv")?);
            command
                .arg(format!("--reuid={uid}"))
                .arg(format!("--regid={gid}"))
                .args(["--clear-groups", "--"])
                .arg(initdb);
            command
        }
    };
    command.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]);
    command.args(["--no-sync", "--no-instructions", "--wal-segsize=4", "-D"]).arg(dir);
    command.arg("--pwfile").arg(&password_file).current_dir("/");
    let made = run(&mut command, None);
    let _ = std::fs::remove_file(&password_file);
    made.map(drop)
}

/// The (uid, gid) Postgres must run as: none unless we are root.
fn server_user() -> Result<Option<(u32, u32)>> {
    if !is_root() {
        return Ok(None);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").context("reading /etc/passwd")?;
    let find = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map_while(|field| field.parse().ok());
        Some((ids.next()?, ids.next()?))
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .map(Some)
        .context("no user `postgres` or `nobody` to run Postgres as")
}

/// The folder itself, or one in /var/tmp when the user Postgres runs as could not reach it.
fn reachable(dir: &Path) -> PathBuf {
    let open = |d: &Path| std::fs::metadata(d).map_or(true, |m| m.mode() & 0o001 != 0);
    // Folders below the checkout are made by us and opened; only what lies above can be closed.
    if !is_root() || places::root().ancestors().chain(dir.ancestors().skip(1)).all(open) {
        return dir.to_path_buf();
    }
    elsewhere().join(format!("{:016x}", fnv(dir)))
}

/// Where this checkout keeps clusters that cannot lie in it; `cargo dev reset` removes it.
pub fn elsewhere() -> PathBuf {
    Path::new("/var/tmp").join(format!("holdfast-dev-{:016x}", fnv(places::root())))
}

/// FNV-1a: a short name for a path, nothing that needs strength.
fn fnv(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Makes a folder (and those above it that are missing) that others may pass through but not list.
pub(crate) fn open_folder(dir: &Path) -> Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|d| !d.exists()).collect();
    std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    for made in missing {
        std::fs::set_permissions(made, Permissions::from_mode(0o711))?;
    }
    Ok(())
}

/// Copies the database as it is at one moment into a file; whoever uses it goes on. Blocks.
pub(crate) fn dump(port: u16, password: &str, to: &Path) -> Result<()> {
    let mut command = client("pg_dump", port, password)?;
    command.args(["--format=custom", "--dbname", DATABASE]).arg("--file").arg(to);
    run(&mut command, None).map(drop)
}

/// Puts the database back as a dump has it; nobody may be connected. Blocks.
pub(crate) fn restore(port: u16, password: &str, from: &Path) -> Result<()> {
    psql(port, "postgres", password, &format!("DROP DATABASE {DATABASE} WITH (FORCE);"))?;
    let mut command = client("pg_restore", port, password)?;
    command.args(["--create", "--exit-on-error", "--dbname", "postgres"]).arg(from);
    run(&mut command, None).map(drop)
}

/// A program that speaks to the cluster as its superuser.
fn client(program: &str, port: u16, password: &str) -> Result<Command> {
    let mut command = Command::new(places::program(program)?);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]).env("PGPASSWORD", password);
    Ok(command)
}

/// Runs a short command and returns what it printed; an error quotes what it complained about.
fn run(command: &mut Command, stdin: Option<&str>) -> Result<String> {
    use std::io::Write;
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
    if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
        pipe.write_all(text.as_bytes()).with_context(|| format!("writing to {name}"))?;
    }
    let output = child.wait_with_output().with_context(|| format!("waiting for {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
