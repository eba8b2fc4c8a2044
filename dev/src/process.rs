//! A child process: started so that it dies with us, watched for the line that says it is ready, stopped by its own handle.
//!
//! All children are started from one thread that never ends: the kernel's parent-death signal fires when the *thread* that
//! forked is gone, and a test's or a runtime's threads come and go (prctl(2), PR_SET_PDEATHSIG).
//! A child is reaped only under the lock that signals are sent under, so a signal never reaches a stranger with a reused pid.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use tokio::sync::watch;

/// Lines of a log that an error quotes.
const TAIL_LINES_MAX: usize = 25;

/// Signals a test or the harness sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Interrupt,
    Quit,
    Kill,
    Stop,
    Continue,
}

/// How a child says that it is ready: a line that contains the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    Stdout(&'static str),
    Stderr(&'static str),
    /// It never says so; it is ready once started.
    Started,
}

/// What to run.
#[derive(Debug)]
pub struct Spec {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<OsString>,
    pub env: Vec<(String, String)>,
    /// Written to the child's standard input, which then ends.
    pub stdin: Option<String>,
    /// Run as this (uid, gid) instead of our own.
    pub user: Option<(u32, u32)>,
    /// Both output streams are appended here.
    pub log: PathBuf,
    pub ready: Ready,
    /// What the kernel sends the child when we die.
    pub on_our_death: Signal,
}

impl Spec {
    /// A program without arguments, ready as soon as it is started.
    pub fn new(name: &str, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Spec {
        Spec {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            stdin: None,
            user: None,
            log: log.into(),
            ready: Ready::Started,
            on_our_death: Signal::Kill,
        }
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Spec {
        self.args.push(arg.into());
        self
    }

    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, args: impl IntoIterator<Item = T>) -> Spec {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn ready(mut self, ready: Ready) -> Spec {
        self.ready = ready;
        self
    }
}

#[derive(Clone, Debug, Default)]
struct Progress {
    ready: Option<String>,
    exit: Option<ExitStatus>,
}

/// A running (or ended) child.
pub struct Process {
    name: String,
    log: PathBuf,
    pid: u32,
    child: Arc<Mutex<Child>>,
    progress: watch::Receiver<Progress>,
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Process {
    /// Starts the child. It has not said that it is ready yet: see [`Process::ready`].
    pub fn spawn(spec: Spec) -> Result<Process> {
        let (stdout, stderr) = match spec.ready {
            Ready::Stdout(_) | Ready::Started => (Stdio::piped(), append(&spec.log)?.into()),
            Ready::Stderr(_) => (append(&spec.log)?.into(), Stdio::piped()),
        };
        let mut command = command(&spec)?;
        command.stdout(stdout).stderr(stderr);
        command.stdin(if spec.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = fork(command).with_context(|| format!("starting {}", spec.name))?;
        let pid = child.id();
        if let (Some(text), Some(mut stdin)) = (&spec.stdin, child.stdin.take()) {
            stdin.write_all(text.as_bytes()).with_context(|| format!("writing to {}", spec.name))?;
        }
        let output: Box<dyn Read + Send> = match spec.ready {
            Ready::Stderr(_) => Box::new(child.stderr.take().context("no stderr")?),
            _ => Box::new(child.stdout.take().context("no stdout")?),
        };
        let mark = match spec.ready {
            Ready::Stdout(mark) | Ready::Stderr(mark) => Some(mark),
            Ready::Started => None,
        };
        let child = Arc::new(Mutex::new(child));
        let (progress_tx, progress) = watch::channel(Progress::default());
        let (ended_tx, ended) = sync_channel(1);
        let log = append(&spec.log)?;
        let watched = Arc::clone(&child);
        std::thread::Builder::new().name(format!("watch-{}", spec.name)).spawn(move || {
            follow(output, log, mark, &progress_tx);
            let exit = reap(pid, &watched);
            progress_tx.send_modify(|p| p.exit = exit);
            let _ = ended_tx.send(());
        })?;
        Ok(Process { name: spec.name, log: spec.log, pid, child, progress, ended: Mutex::new(ended) })
    }

    /// Waits for the ready line and returns it; an error quotes the end of the log.
    pub async fn ready(&self, within: Duration) -> Result<String> {
        let mut progress = self.progress.clone();
        let waited =
            tokio::time::timeout(within, progress.wait_for(|p| p.ready.is_some() || p.exit.is_some())).await;
        match waited {
            Ok(Ok(now)) => match (&now.ready, &now.exit) {
                (Some(line), _) => Ok(line.clone()),
                (None, Some(exit)) => {
                    bail!("{} ended ({exit}) before it was ready\n{}", self.name, self.tail())
                }
                (None, None) => bail!("{} is in no known state", self.name),
            },
            Ok(Err(_)) => bail!("{} is no longer watched", self.name),
            Err(_) => bail!("{} was not ready within {within:?}\n{}", self.name, self.tail()),
        }
    }

    /// Waits for the end of the child and of whatever it started that holds its output open.
    pub async fn ended(&self, within: Duration) -> Result<ExitStatus> {
        let mut progress = self.progress.clone();
        match tokio::time::timeout(within, progress.wait_for(|p| p.exit.is_some())).await {
            Ok(Ok(now)) => now.exit.with_context(|| format!("{} has no exit status", self.name)),
            Ok(Err(_)) => bail!("{} is no longer watched", self.name),
            Err(_) => bail!("{} was still running after {within:?}\n{}", self.name, self.tail()),
        }
    }

    /// Sends the signal and waits for the end; kills it when that takes longer than `within`.
    pub async fn stop(&self, signal: Signal, within: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        if let Ok(status) = self.ended(within).await {
            return Ok(status);
        }
        self.signal(Signal::Kill)?;
        self.ended(within).await
    }

    /// Sends a signal; nothing happens when it has ended already.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.try_wait()?.is_some() {
            return Ok(());
        }
        let pid = Pid::from_child(&child);
        rustix::process::kill_process(pid, native(signal))
            .with_context(|| format!("signalling {}", self.name))
    }

    /// Waits for the end without a runtime, for `Drop`; false when it took longer.
    pub(crate) fn ended_blocking(&self, within: Duration) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress.borrow().exit.is_some() || ended.recv_timeout(within).is_ok()
    }

    /// Whether it still runs.
    pub fn running(&self) -> bool {
        self.progress.borrow().exit.is_none()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The child's process id, for measurements.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The file with all it has said.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines it said.
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES_MAX);
        format!("--- end of {}\n{}", self.log.display(), lines[from..].join("\n"))
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("name", &self.name).field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Best effort: whoever owns it stops it in order first, and the kernel does so when we die.
        let _ = self.signal(Signal::Kill);
    }
}

/// Asks a process that is not our child to end; the caller knows that the pid is still its.
pub fn terminate(pid: i32) -> Result<()> {
    signal(pid, Signal::Terminate)
}

/// Sends a signal to a process that was not started here; the caller knows that the pid is still its.
pub fn signal(pid: i32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid).context("not a process id")?;
    rustix::process::kill_process(pid, native(signal)).context("signalling")
}

/// Whether we run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `setpriv` drops privileges and arms the parent-death signal just before it becomes the program: no unsafe code of ours.
fn command(spec: &Spec) -> Result<Command> {
    if !spec.program.is_file() {
        bail!("{} does not exist", spec.program.display());
    }
    let mut command = Command::new(crate::places::program("setpriv")?);
    command.arg("--pdeathsig").arg(match spec.on_our_death {
        Signal::Quit => "QUIT",
        Signal::Terminate => "TERM",
        _ => "KILL",
    });
    if let Some((uid, gid)) = spec.user {
        command.arg(format!("--reuid={uid}")).arg(format!("--regid={gid}")).arg("--clear-groups");
    }
    // A group of its own: Ctrl-C in a terminal is for us, who then stop the parts in order.
    command.process_group(0);
    command.arg("--").arg(&spec.program).args(&spec.args);
    // What the caller's shell says about another installation must not leak into this one.
    for (key, _) in std::env::vars_os() {
        let key_text = key.to_string_lossy();
        if key_text.starts_with("HOLDFAST_") || key_text.starts_with("PG") {
            command.env_remove(&key);
        }
    }
    command.envs(spec.env.iter().map(|(k, v)| (k, v)));
    Ok(command)
}

type Order = (Command, SyncSender<std::io::Result<Child>>);

/// Forks on the one thread that lives as long as the process.
fn fork(command: Command) -> Result<Child> {
    static FORKER: OnceLock<SyncSender<Order>> = OnceLock::new();
    let orders = FORKER.get_or_init(|| {
        let (orders, inbox) = sync_channel::<Order>(1);
        std::thread::Builder::new()
            .name("forker".to_owned())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a process can start one thread");
        orders
    });
    let (answer, spawned) = sync_channel(1);
    orders.send((command, answer)).context("the forking thread is gone")?;
    Ok(spawned.recv().context("the forking thread is gone")??)
}

/// Copies the output to the log until it ends, and reports the first line that carries the mark.
fn follow(
    output: Box<dyn Read + Send>,
    mut log: File,
    mark: Option<&str>,
    progress: &watch::Sender<Progress>,
) {
    if mark.is_none() {
        progress.send_modify(|p| p.ready = Some(String::new()));
    }
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    while matches!(output.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        let _ = log.write_all(&line);
        let text = String::from_utf8_lossy(&line);
        if mark.is_some_and(|mark| text.contains(mark)) {
            progress.send_if_modified(|p| {
                let first = p.ready.is_none();
                p.ready.get_or_insert_with(|| text.trim_end().to_owned());
                first
            });
        }
        line.clear();
    }
}

/// Waits without reaping (so that no signal can meet a reused pid), then reaps under the lock.
fn reap(pid: u32, child: &Mutex<Child>) -> Option<ExitStatus> {
    let id = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let _ = rustix::process::waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
    child.lock().unwrap_or_else(PoisonError::into_inner).wait().ok()
}

fn append(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).open(path);
    file.with_context(|| format!("opening {}", path.display()))
}

fn native(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Terminate => rustix::process::Signal::TERM,
        Signal::Interrupt => rustix::process::Signal::INT,
        Signal::Quit => rustix::process::Signal::QUIT,
        Signal::Kill => rustix::process::Signal::KILL,
        Signal::Stop => rustix::process::Signal::STOP,
        Signal::Continue => rustix::process::Signal::CONT,
    }
}
