//! `holdfast debug`: gdb on a device, wherever it is.

mod replay;

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use proto::debug::v1::transcript_record::Event;
use proto::debug::v1::{TranscriptBegin, TranscriptProgram};
use proto::registry::v1::GetDeviceRequest;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use wire::{DeviceId, Digest};

use crate::args::Global;
use crate::command::{logs, parse_duration};
use crate::debug::exec;
use crate::debug::gdbs::{LAST_WORDS_MAX, Server, listen, over_stdio, over_tcp};
use crate::debug::keys::{self, DebugKey};
use crate::debug::link;
use crate::debug::machine::Machine;
use crate::debug::pins::Pins;
use crate::debug::program::Program;
use crate::debug::quiet::{KEEP_ALIVE, Quiet};
use crate::debug::record::{self, Blank, Recorder};
use crate::debug::session::{self, Driver, Limits, Opened, Way};
use crate::debug::target::Debugged;
use crate::failure::input;
use crate::session::Session;
use crate::{image, output, symbols};

/// Debug a device's application with gdb, from anywhere; the relay in between cannot read it.
///
/// Opens a port for gdb on this machine, and a session with the device: encrypted from here to there, with a key of yours that the running bundle
/// names (`bundle create --debug-key`). The application runs on until gdb connects, and again when gdb has left. Whoever can connect to ports of
/// this machine can use it meanwhile: `--stdio` opens none.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  holdfast debug key create                   # once; then have a bundle signed with --debug-key\n  holdfast debug dv… --exec                   # gdb, with the ELF file of what runs\n  holdfast debug dv… --port 3333 --keep       # for an editor: `target remote localhost:3333`\n  holdfast debug dv… --exec --watch           # look on while somebody else debugs it\n  gdb-multiarch app.elf -ex 'target remote | holdfast debug dv… --stdio'\n  holdfast debug dv… --exec --record          # with a transcript that your debug key opens"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    attach: Option<AttachArgs>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the key that bundles name, or print its public half.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Forget the keys a device was known by: after its flash was erased, or it was replaced.
    Forget {
        device: String,
    },
    Replay(replay::Args),
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a debug key (X25519), readable by you alone, and print its public half.
    ///
    /// The public half is also written beside it, as FILE.pub: `bundle create --debug-key` takes either.
    #[command(
        after_help = "Example:\n  holdfast debug key create && holdfast bundle create … --debug-key \"$(holdfast debug key show)\""
    )]
    Create {
        /// Where, instead of the folder of this user's configuration.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the public half of a debug key.
    Show {
        /// Of this key instead of the one in the folder of this user's configuration.
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct AttachArgs {
    /// Device: dv… or its resource name.
    device: String,
    /// Port for gdb on 127.0.0.1; without it, one that is free.
    #[arg(long, value_name = "PORT", conflicts_with = "stdio")]
    port: Option<u16>,
    /// Speak with gdb over stdin and stdout, as in `target remote | holdfast debug … --stdio`.
    #[arg(long, conflicts_with_all = ["exec", "keep"])]
    stdio: bool,
    /// Start gdb: gdb-multiarch or arm-none-eabi-gdb, whichever there is, or the one named.
    #[arg(long, value_name = "GDB", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    exec: Option<String>,
    /// The ELF file of what runs, instead of the one that was uploaded with its bundle.
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// Debug key, instead of the one in the folder of this user's configuration.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// When gdb leaves, keep the session and what is planted, and wait for the next gdb, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Take the place of another `holdfast debug` of yours.
    #[arg(long, conflicts_with = "watch")]
    take_over: bool,
    /// Look on while somebody else debugs it, or nobody does: memory can be read, and each stop is shown; nothing can be changed.
    #[arg(long)]
    watch: bool,
    /// End the session when nothing was said for so long.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    idle: Option<Duration>,
    /// End the session after so long.
    #[arg(long, value_parser = parse_duration, value_name = "TIME")]
    total: Option<Duration>,
    /// Show the device's log lines meanwhile.
    #[arg(long, conflicts_with_all = ["exec", "stdio"])]
    logs: bool,
    /// Write the device's log lines to the end of this file meanwhile.
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// Keep nothing and ask for nothing ahead: each of gdb's requests goes to the device.
    #[arg(long)]
    no_cache: bool,
    /// Keep a transcript of the session in this new file, or in one in the folder of this user's configuration.
    ///
    /// Sealed to your debug key: without its private half nobody reads it, this program included. `holdfast debug replay` shows it. What cannot be
    /// written down is not done: an error of the file ends the session.
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    record: Option<PathBuf>,
    /// Seal the transcript to the debug key of somebody else: its public half as 64 hex digits, or a file with them.
    #[arg(long, value_name = "KEY", requires = "record")]
    record_to: Option<String>,
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<()> {
    match (&args.command, &args.attach) {
        (Some(Command::Key(KeyCommand::Create { out })), _) => {
            let home = global.home()?;
            keys::folder(&home)?;
            let path = out.clone().unwrap_or_else(|| keys::place(&home));
            show_key(global, &path, &DebugKey::create(&path)?)
        }
        (Some(Command::Key(KeyCommand::Show { file })), _) => {
            let path = file.clone().map_or_else(|| global.home().map(|home| keys::place(&home)), Ok)?;
            show_key(global, &path, &DebugKey::load(&path)?)
        }
        (Some(Command::Forget { device }), _) => {
            let known = Pins::of(&global.home()?)?.forget(device_id(device)?)?;
            known.then_some(()).ok_or_else(|| input(format!("nothing is known of {device}")))
        }
        (Some(Command::Replay(args)), _) => replay::run(global, args),
        (None, Some(args)) => debug(global, args).await,
        (None, None) => Err(input("which device?")),
    }
}

/// The public half alone on stdout, so that it can be handed on.
fn show_key(global: &Global, path: &Path, key: &DebugKey) -> Result<()> {
    let public = key.public_hex();
    if global.json {
        return output::document(&json!({ "public_key": public, "file": path }));
    }
    output::line(&public)
}

fn device_id(device: &str) -> Result<DeviceId> {
    let id = output::id(device);
    id.parse().map_err(|_| {
        input(format!("`{device}` is not a device: dv and 32 hex digits, see `holdfast device list`"))
    })
}

async fn debug(global: &Global, args: &AttachArgs) -> Result<()> {
    let gdb = args.exec.as_deref().map(|asked| crate::gdb::find(Some(asked))).transpose()?;
    let home = global.home()?;
    let key = DebugKey::load(&args.key.clone().unwrap_or_else(|| keys::place(&home)))?;
    let session = Session::open(global).await?;
    let name = session.name("devices", &args.device);
    let known =
        session.devices().await?.get_device(GetDeviceRequest { name: name.clone() }).await?.into_inner();
    let id = device_id(&args.device)?;
    // Before there is a session that could not be written down.
    let blank = recording(args, &home, id, &key)?;
    let limits = Limits { idle: args.idle, total: args.total };
    let way = match (args.watch, args.take_over) {
        (true, _) => Way::Watch,
        (false, true) => Way::TakeOver,
        (false, false) => Way::Write,
    };
    let opened = session::open(&session, &name, limits, way).await?;
    let recorder = blank.map(|blank| blank.begin(beginning(&session, &opened, &name)));
    let pins = Pins::of(&home)?;
    let registered = known.public_key_digest;
    let check: session::Check<'_> = Box::new(move |voucher, key| pins.check(id, &registered, voucher, key));
    let ended = async {
        let (near, far) = link::link();
        let near = match &recorder {
            Some(recorder) => recorder.between(near)?,
            None => near,
        };
        let driver = Driver::new(global, &opened, id, key.into_static(), check, far)?;
        let (close, closing) = oneshot::channel();
        let mut driving = Box::pin(driver.run(closing));
        let mut working = pin!(work(global, args, &session, &opened, near, recorder.clone(), gdb));
        let ended = tokio::select! {
            biased;
            ended = &mut driving => {
                // A gdb that waits is told why nothing comes any more.
                let _ = tokio::time::timeout(LAST_WORDS_MAX, working).await;
                return ended;
            }
            ended = &mut working => ended,
            ended = interrupted(args) => ended,
        };
        // The application goes on when the relay has told the device.
        let _ = close.send(());
        driving.await?;
        ended
    };
    let ended = ended.await;
    match recorder {
        Some(recorder) => recorder.finish(ended),
        None => ended,
    }
}

/// The file of the transcript, if there is to be one.
fn recording(args: &AttachArgs, home: &Path, device: DeviceId, key: &DebugKey) -> Result<Option<Blank>> {
    let Some(asked) = &args.record else { return Ok(None) };
    let owner = args.record_to.as_ref().map_or_else(|| Ok(key.public()), |owner| keys::public(owner))?;
    let path = match asked.as_os_str().is_empty() {
        true => record::place(home, device, &SystemTime::now().into())?,
        false => asked.clone(),
    };
    let blank = Blank::create(&path, &owner)?;
    eprintln!("the transcript is {}, sealed to the debug key {}", path.display(), hex::encode(owner));
    Ok(Some(blank))
}

fn beginning(session: &Session, opened: &Opened, device: &str) -> TranscriptBegin {
    TranscriptBegin {
        session: opened.name.clone(),
        device: device.to_owned(),
        who: session.context().key.clone(),
        role: session::wire_role(opened.role).into(),
        began_at: Some(SystemTime::now().into()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Ctrl-C at this terminal, unless gdb has that; or SIGTERM, as editors and service managers end what they began. Neither leaves an application
/// halted behind.
async fn interrupted(args: &AttachArgs) -> Result<()> {
    let is_gdbs = args.stdio || args.exec.is_some();
    let (mut interrupts, mut ends) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            _ = interrupts.recv() => if !is_gdbs {
                return Ok(());
            },
            _ = ends.recv() => return Ok(()),
        }
    }
}

/// From the first call to the last gdb.
async fn work(
    global: &Global,
    args: &AttachArgs,
    session: &Session,
    opened: &Opened,
    link: link::Link,
    recorder: Option<Recorder>,
    gdb: Option<String>,
) -> Result<()> {
    let session_id = output::id(&opened.name);
    let mut machine = Machine::open(link, args.no_cache).await.map_err(link::failure)?;
    machine.set_quiet(Quiet::new(KEEP_ALIVE, Some(opened.idle), Instant::now()));
    let elf = program(global, args, session, &mut machine, recorder.as_ref()).await?;
    let listener = match args.stdio {
        true => None,
        false => Some(listen(args.port.unwrap_or(0)).await?),
    };
    let port = listener.as_ref().map(|listener| listener.local_addr().map(|at| at.port())).transpose()?;
    announce(global, args, &machine, session_id, port, elf.as_deref())?;
    let facts = vec![("device", output::id(&args.device).to_owned()), ("session", session_id.to_owned())];
    let hardware_breakpoints = machine.about().hardware_breakpoints_max;
    let debugged = Debugged { machine, facts, lost: None };
    let server = Server::start(debugged, args.keep, recorder)?;
    let serving = async {
        match (listener, gdb, port) {
            (Some(listener), Some(gdb), Some(port)) => {
                let child = exec::start(&gdb, elf.as_deref(), port, hardware_breakpoints)?;
                with_gdb(server, listener, child).await
            }
            (Some(listener), ..) => over_tcp(server, &listener, args.keep).await,
            (None, ..) => over_stdio(server).await,
        }
    };
    tokio::select! {
        done = serving => done,
        failed = log(global, args) => failed,
    }
}

/// Finds the ELF file of what runs, gives it to the machine, and says where it is.
async fn program(
    global: &Global,
    args: &AttachArgs,
    session: &Session,
    machine: &mut Machine,
    recorder: Option<&Recorder>,
) -> Result<Option<PathBuf>> {
    let (bytes, path) = match &args.elf {
        Some(path) => {
            (std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?, path.clone())
        }
        None => match symbols::fetch(global, session, &machine.about().manifest_digest).await {
            Ok(Some(bytes)) => {
                let path = symbols::cached(global, Digest::of(&bytes))?;
                (bytes, path)
            }
            Ok(None) => {
                eprintln!("no ELF file was uploaded with what runs: give it with --elf FILE");
                return Ok(None);
            }
            // One can debug without names.
            Err(error) => {
                eprintln!("warning: the ELF file of what runs cannot be fetched: {error:#}");
                return Ok(None);
            }
        },
    };
    let program = Program::of(&bytes).with_context(|| path.display().to_string())?;
    machine.set_program(program);
    let is_running = machine.program().is_some_and(Program::is_running);
    if let Some(recorder) = recorder {
        let program = TranscriptProgram { digest: Digest::of(&bytes).to_string(), is_running };
        recorder.record(Event::Program(program)).map_err(link::failure)?;
    }
    if !is_running {
        eprintln!("warning: {} is not what the device runs: names and lines may be wrong", path.display());
    }
    Ok((image::is_elf(&bytes) && path.exists()).then_some(path))
}

fn announce(
    global: &Global,
    args: &AttachArgs,
    machine: &Machine,
    session_id: &str,
    port: Option<u16>,
    elf: Option<&Path>,
) -> Result<()> {
    let about = machine.about();
    let device = output::id(&args.device);
    if global.json && !args.stdio {
        return output::document(&json!({
            "device": device, "session": session_id, "port": port, "elf": elf,
            "version": about.version, "manifest_digest": about.manifest_digest, "read_only": about.read_only,
            "hardware_breakpoints": about.hardware_breakpoints_max,
        }));
    }
    let watching = if about.read_only { ", watching" } else { "" };
    eprintln!("{device} runs {} on {} (session {session_id}{watching})", about.version, about.board);
    if let (Some(port), None) = (port, &args.exec) {
        let file = elf.map(|elf| format!("file {}\n", elf.display())).unwrap_or_default();
        let settings = exec::settings(about.hardware_breakpoints_max).join("\n");
        output::line(&format!("{file}{settings}\ntarget remote 127.0.0.1:{port}"))?;
    }
    Ok(())
}

async fn log(global: &Global, args: &AttachArgs) -> Result<()> {
    match &args.log_file {
        Some(file) => logs::into_file(global, &args.device, file).await,
        None if args.logs => logs::run(global, &logs::Args::following(&args.device)).await,
        None => std::future::pending().await,
    }
}

async fn with_gdb(server: Server, listener: TcpListener, mut child: Child) -> Result<()> {
    let serving = over_tcp(server, &listener, true);
    tokio::select! {
        served = serving => {
            // gdb tells its user in its own words, and is left to them.
            child.wait().await.context("waiting for gdb")?;
            served
        }
        status = child.wait() => status.map(drop).context("waiting for gdb"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, clap::Error> {
        Whole::try_parse_from(std::iter::once("debug").chain(words.split(' '))).map(|whole| whole.args)
    }

    #[test]
    fn a_device_or_a_command_and_nothing_in_between() {
        assert_eq!(parse("dv1").unwrap().attach.unwrap().device, "dv1");
        assert!(matches!(
            parse("key create").unwrap().command,
            Some(Command::Key(KeyCommand::Create { out: None }))
        ));
        assert!(matches!(parse("replay a.hft --data").unwrap().command, Some(Command::Replay(_))));
        assert!(matches!(parse("forget dv1").unwrap().command, Some(Command::Forget { .. })));
        for bad in [
            "--exec",
            "dv1 --watch --take-over",
            "dv1 --stdio --exec",
            "dv1 --exec --logs",
            "dv1 --stdio --port 1",
            "dv1 key create",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let exec = |words| parse(words).unwrap().attach.unwrap().exec;
        assert_eq!(
            (exec("dv1 --exec"), exec("dv1 --exec=my-gdb"), exec("dv1")),
            (Some(String::new()), Some("my-gdb".into()), None)
        );
    }
}
