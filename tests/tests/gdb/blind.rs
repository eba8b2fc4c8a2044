//! What a debug session holds is nowhere but at its two ends: not in the memory of relay and broker, not in Redis, not in the database, not in
//! what any of them wrote down, and not on the wires to either end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dev::{Part, Service};
use scenarios::an505::patient::Patient;
use scenarios::an505::wire::{Network, Wire};
use scenarios::client::unique;
use scenarios::tap::{Tap, Tape};
use scenarios::world::name;
use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// Memory of a process that is read at once.
const PIECE_BYTES: usize = 1 << 20;
/// A context of the command line's that reaches the relay through a tap.
const TAPPED: &str = "tapped";
/// What every server here is called by: in the clear, in the first message of TLS (RFC 6066 §3).
const SERVER_NAME: &[u8] = b"localhost";
/// All rows of all tables, as XML: bytes are base64 in it.
const EVERY_ROW: &str = "SELECT table_to_xml(format('%I.%I', schemaname, tablename)::regclass, true, false, '') \
    FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";

#[tokio::test]
async fn what_is_said_in_a_session_is_found_nowhere_between_its_ends() -> Result<()> {
    let patient = Patient::new("blind").await?;
    let (wire, of_board) = Wire::taped(1, Network::default())?;
    let machine = patient.world.machine(&patient.flash)?.net(wire.net());
    let (board, device) = patient.switched_on(&machine).await?;
    let stack = &patient.world.stack;
    let relay = stack.grpc_url(Service::DebugRelay);
    let (head, port) = relay.rsplit_once(':').context("a port")?;
    let tap = Tap::to(&format!("localhost:{port}")).await?;
    patient.context(TAPPED, &format!("{head}:{}", tap.port())).await?;
    // Thirty-two letters that nobody else has.
    let secret = unique();
    ensure!(secret.len() == 32, "{secret}");
    let mut monitor = redis_monitor(&patient)?;

    let (debug, mut gdb) = patient.debugged(&device, &["--context", TAPPED]).await?;
    // Down it goes, and up it comes: as memory, on the stack of a call, and as a register's four bytes.
    gdb.mi(&format!("-data-write-memory-bytes log_memory {}", hex::encode(&secret))).await?;
    for _ in 0..8 {
        gdb.mi("-break-insert -t work").await?;
        gdb.until_stopped("-exec-continue").await?;
        let read = gdb.mi("-data-read-memory-bytes log_memory 32").await?;
        ensure!(read["memory"][0]["contents"] == hex::encode(&secret), "{read}");
    }

    let forms = Forms::of(secret.as_bytes());
    let own = debug.pid().context("holdfast debug has ended")?;
    ensure!(forms.in_memory(own)?, "it is not even found where it must be");
    for service in [Service::DebugRelay, Service::Broker] {
        let process = stack.process(service).context("it runs")?;
        ensure!(!forms.in_memory(process.pid())?, "{service:?} has it in its memory");
    }
    let redis = stack.process(Part::Redis).context("it runs")?;
    ensure!(!forms.in_memory(redis.pid())?, "Redis has it in its memory");
    gdb.quit().await?;
    debug.ended().await?;

    monitor.start_kill()?;
    let mut commands = Vec::new();
    monitor.stdout.take().context("no output")?.read_to_end(&mut commands).await?;
    ensure!(!commands.is_empty(), "the monitor saw nothing at all");
    ensure!(!forms.within(&commands), "it went through Redis");
    let tables = stack.sql(EVERY_ROW)?;
    ensure!(tables.contains("sessions"), "no rows of the relay's: {tables}");
    ensure!(!forms.within(tables.as_bytes()), "it is in the database");
    nowhere_in(&stack.dir().join("logs"), &forms)?;
    board.cut_power().await?;
    let sessions = patient.world.json(&["debug-session", "list"]).await?;
    let session = sessions.first().context("no session")?;
    let shown = patient.world.one(&["debug-session", "show", &name(session)?]).await?;
    passed_unread(&of_board, &forms, said(&shown, "bytes_up")?, said(&shown, "bytes_down")?)?;
    passed_unread(tap.tape(), &forms, said(&shown, "bytes_down")?, said(&shown, "bytes_up")?)
}

/// What the relay counted of the session.
fn said(session: &Value, direction: &str) -> Result<usize> {
    let count = &session["traffic"][direction];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok());
    Ok(usize::try_from(count.with_context(|| format!("no {direction}: {session}"))?)?)
}

/// A tape heard the whole session, from the names of the servers on, and nothing of what it held. Even lanes are the end's own.
fn passed_unread(tape: &Tape, forms: &Forms, own: usize, others: usize) -> Result<()> {
    let lanes = tape.lanes();
    let bytes = |odd| lanes.iter().skip(odd).step_by(2).map(Vec::len).sum::<usize>();
    ensure!(own > 0 && others > 0, "nothing was said");
    ensure!(bytes(0) > own && bytes(1) > others, "{} and {} of {own} and {others} bytes", bytes(0), bytes(1));
    let named = Forms(vec![SERVER_NAME.to_vec()]);
    ensure!(lanes.iter().any(|lane| named.within(lane)), "not even the server's name was heard");
    ensure!(!lanes.iter().any(|lane| forms.within(lane)), "it passed in the clear");
    Ok(())
}

fn redis_monitor(patient: &Patient) -> Result<tokio::process::Child> {
    let url = patient.world.stack.redis_url();
    let mut command = Command::new("redis-cli");
    command.args(["--no-auth-warning", "-u", &url, "monitor"]).stdout(std::process::Stdio::piped());
    command.kill_on_drop(true).spawn().context("starting redis-cli")
}

fn nowhere_in(folder: &Path, forms: &Forms) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            nowhere_in(&path, forms)?;
        } else {
            ensure!(!forms.within(&std::fs::read(&path)?), "{} has it", path.display());
        }
    }
    Ok(())
}

/// As it is, in hex of both cases, and in base64 wherever it begins in three bytes.
struct Forms(Vec<Vec<u8>>);

impl Forms {
    fn of(secret: &[u8]) -> Forms {
        let hex = hex::encode(secret);
        let mut forms = vec![secret.to_vec(), hex.to_uppercase().into_bytes(), hex.into_bytes()];
        for before in 0..3 {
            let shifted = [&vec![0; before], secret].concat();
            let text = STANDARD.encode(shifted).into_bytes();
            // What depends on its neighbours is left out.
            forms.push(text[4..text.len() - 4].to_vec());
        }
        Forms(forms)
    }

    fn within(&self, bytes: &[u8]) -> bool {
        self.0.iter().any(|form| {
            let mut rest = bytes;
            while let Some(at) = rest.iter().position(|byte| *byte == form[0]) {
                if rest[at..].starts_with(form) {
                    return true;
                }
                rest = &rest[at + 1..];
            }
            false
        })
    }

    /// In anything that a process has mapped and may write.
    fn in_memory(&self, pid: u32) -> Result<bool> {
        let memory = File::open(format!("/proc/{pid}/mem")).context("reading another process's memory")?;
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let (mut piece, mut found) = (vec![0; PIECE_BYTES + 64], false);
        for line in
            maps.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|m| m.starts_with("rw")))
        {
            let range = line.split_whitespace().next().and_then(|range| range.split_once('-'));
            let Some((from, to)) = range else { continue };
            let (from, to) = (u64::from_str_radix(from, 16)?, u64::from_str_radix(to, 16)?);
            let mut at = from;
            while at < to && !found {
                let wanted = piece.len().min(usize::try_from(to - at)?);
                // What went away meanwhile, or is a device's, cannot be read.
                let Ok(read) = memory.read_at(&mut piece[..wanted], at) else { break };
                found = self.within(&piece[..read]);
                at += PIECE_BYTES as u64;
            }
        }
        Ok(found)
    }
}
