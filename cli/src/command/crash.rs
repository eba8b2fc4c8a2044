//! `holdfast crash`: how applications ended, and where in the program.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use proto::logs::v1::{Crash, CrashMemory, GetCrashMemoryRequest, GetCrashRequest, ListCrashesRequest};
use serde_json::json;

use crate::args::{Global, Page};
use crate::command::{PAGE_SIZE, collect};
use crate::crash::{self, Backtrace, Frame};
use crate::keyfile::write_private;
use crate::session::Session;
use crate::{gdb, output, symbols};

const CRASH: &str = "holdfast.logs.v1.Crash";
/// Bytes of the stack in a line.
const LINE_BYTES: usize = 16;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List crash reports, newest first.
    #[command(
        after_help = "Examples:\n  holdfast crash list --limit 20\n  holdfast crash list --device dv… --json\n  holdfast crash list --manifest 5f3c…"
    )]
    List(List),
    /// Show one crash report: what the fault was, the calls that led to it, registers and stack.
    ///
    /// The ELF file that was uploaded with the bundle tells functions and lines; it is fetched once and kept in the user's cache folder.
    /// Frames with a `?` are guesses: words of the stack that look like return addresses.
    #[command(
        after_help = "Examples:\n  holdfast crash show dv…/7-00000000000000ab-1\n  holdfast crash show dv…/7-00000000000000ab-1 --elf build/app.elf --json"
    )]
    Show(Show),
    /// Open one crash report in gdb, as a core file: registers, stack and memory as they were, without the device.
    ///
    /// Memory beyond a piece of the stack is there if the bundle was made with --crash-memory, as far as the device has sent it. What gdb is asked of other
    /// memory, it answers from the ELF file or not at all. The core file holds memory of the application: it is
    /// private to you, and gone when gdb ends, unless --out names it.
    #[command(
        after_help = "Examples:\n  holdfast crash gdb dv…/7-00000000000000ab-1\n  holdfast crash gdb dv…/7-00000000000000ab-1 -- -batch -ex bt -ex 'info registers'\n  holdfast crash gdb dv…/7-00000000000000ab-1 --out crash.core"
    )]
    Gdb(Gdb),
}

#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only of this device.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Only of the bundle with this manifest digest.
    #[arg(long, value_name = "DIGEST")]
    manifest: Option<String>,
    #[command(flatten)]
    page: Page,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Show {
    /// As `crash list` shows it, `DEVICE/CRASH`, or the full resource name.
    name: String,
    /// Read the program from this ELF file instead of the one that was uploaded with its bundle.
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Gdb {
    /// As `crash list` shows it, `DEVICE/CRASH`, or the full resource name.
    name: String,
    /// Read the program from this ELF file instead of the one that was uploaded with its bundle.
    #[arg(long, value_name = "FILE")]
    elf: Option<PathBuf>,
    /// Write the core file here, and start no gdb.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["gdb", "arguments"])]
    out: Option<PathBuf>,
    /// The gdb to start; by default the first there is of gdb-multiarch and arm-none-eabi-gdb.
    #[arg(long, value_name = "PROGRAM")]
    gdb: Option<String>,
    /// What gdb is given beside ELF and core file.
    #[arg(last = true, value_name = "ARGUMENT")]
    arguments: Vec<OsString>,
}

pub(crate) async fn run(global: &Global, command: &Command) -> Result<()> {
    let session = Session::open(global).await?;
    match command {
        Command::List(args) => list(global, &session, args).await,
        Command::Show(args) => show(global, &session, args).await,
        Command::Gdb(args) => open(global, &session, args).await,
    }
}

async fn list(global: &Global, session: &Session, args: &List) -> Result<()> {
    let mut client = session.logs().await?;
    let parent = session.name("devices", args.device.as_deref().unwrap_or("-"));
    let crashes = collect(args.page.limit, async |page_token| {
        let request = ListCrashesRequest {
            parent: parent.clone(),
            page_size: PAGE_SIZE,
            page_token,
            manifest_digest: args.manifest.clone().unwrap_or_default(),
            ..Default::default()
        };
        let reply = client.list_crashes(request).await?.into_inner();
        Ok((reply.crashes, reply.next_page_token))
    });
    let crashes = crashes.await?;
    if global.json {
        return crashes.iter().try_for_each(|crash| output::json(CRASH, crash));
    }
    let row = |crash: &Crash| {
        vec![
            short(&crash.name),
            crash.kind.clone(),
            crash.version.clone(),
            crash.registers.get("pc").map(|pc| format!("{pc:#010x}")).unwrap_or_default(),
            memory_text(crash),
            crash.manifest_digest.chars().take(12).collect(),
            output::time(crash.receive_time.as_ref()),
        ]
    };
    let rows: Vec<_> = crashes.iter().map(row).collect();
    output::table(&["NAME", "KIND", "VERSION", "PC", "MEMORY", "MANIFEST", "RECEIVED"], &rows)
}

async fn get(session: &Session, name: &str) -> Result<Crash> {
    let request = GetCrashRequest { name: full(&session.tenant(), name) };
    Ok(session.logs().await?.get_crash(request).await?.into_inner())
}

/// As much of its memory as is stored; nothing where there is none.
async fn memory(session: &Session, crash: &Crash) -> Result<Option<CrashMemory>> {
    if crash.memory_stored_bytes == 0 {
        return Ok(None);
    }
    let request = GetCrashMemoryRequest { name: crash.name.clone() };
    Ok(Some(session.logs().await?.get_crash_memory(request).await?.into_inner()))
}

async fn show(global: &Global, session: &Session, args: &Show) -> Result<()> {
    let crash = get(session, &args.name).await?;
    let elf = match &args.elf {
        Some(path) => {
            let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            // What was asked for must work.
            (Some(crash::of(bytes, &crash).with_context(|| path.display().to_string())?), None)
        }
        None => match uploaded(global, session, &crash).await {
            Ok(backtrace) => (Some(backtrace), None),
            // The report itself is worth showing.
            Err(error) => (None, Some(format!("{error:#}"))),
        },
    };
    let (found, why_not) = elf;
    let backtrace = found.unwrap_or_else(|| crash::without_symbols(&crash));
    if global.json {
        return output::document(&json!({
            "crash": output::to_json(CRASH, &crash)?,
            "faults": crash::fault_words(&crash),
            "backtrace": backtrace.frames,
            "no_symbols_because": why_not,
        }));
    }
    print(&crash, &backtrace, why_not.as_deref())
}

async fn open(global: &Global, session: &Session, args: &Gdb) -> Result<()> {
    let crash = get(session, &args.name).await?;
    let memory = memory(session, &crash).await?;
    if let Some(why) = memory_warning(&crash, memory.as_ref()) {
        eprintln!("warning: {why}");
    }
    let core = crash::core_file(&crash, memory.as_ref());
    if let Some(out) = &args.out {
        write_private(out, &core, false)?;
        return match global.json {
            true => output::document(&json!({ "core_file": out.display().to_string(), "bytes": core.len() })),
            false => output::line(&format!("wrote {}, {} bytes", out.display(), core.len())),
        };
    }
    let gdb = gdb::find(args.gdb.as_deref())?;
    // Both gone with this process: the memory of an application is nobody else's.
    let folder = tempfile::tempdir().context("cannot make a folder for the core file")?;
    let (core_path, elf_path) = (folder.path().join("crash.core"), folder.path().join("program.elf"));
    write_private(&core_path, &core, false)?;
    let elf = match &args.elf {
        Some(path) => {
            Some(std::fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?)
        }
        None => match fetched(global, session, &crash).await {
            Ok(elf) => {
                write_private(&elf_path, &elf, false)?;
                Some(elf_path)
            }
            Err(error) => {
                eprintln!("warning: gdb has no program to go with it: {error:#}");
                None
            }
        },
    };
    gdb::run(&gdb, elf.as_deref(), &core_path, &args.arguments).await
}

async fn fetched(global: &Global, session: &Session, crash: &Crash) -> Result<Vec<u8>> {
    anyhow::ensure!(!crash.manifest_digest.is_empty(), "the report names no bundle");
    let elf = symbols::fetch(global, session, &crash.manifest_digest).await?;
    elf.context("no ELF file was uploaded with its bundle; give it with --elf FILE")
}

async fn uploaded(global: &Global, session: &Session, crash: &Crash) -> Result<Backtrace> {
    crash::of(fetched(global, session, crash).await?, crash)
}

fn print(crash: &Crash, backtrace: &Backtrace, why_not: Option<&str>) -> Result<()> {
    let dropped = if crash.dropped_before > 0 { crash.dropped_before.to_string() } else { String::new() };
    let missed = match crash.memory_missed_before {
        0 => String::new(),
        missed => missed.to_string(),
    };
    output::fields(&[
        ("crash", short(&crash.name)),
        ("kind", crash.kind.clone()),
        ("version", crash.version.clone()),
        ("manifest", crash.manifest_digest.clone()),
        ("uptime", format!("{}.{:06} s", crash.uptime_us / 1_000_000, crash.uptime_us % 1_000_000)),
        ("received", output::time(crash.receive_time.as_ref())),
        ("dropped", dropped),
        ("memory", memory_text(crash)),
        ("memory missed", missed),
    ])?;
    for words in crash::fault_words(crash) {
        output::line(&words)?;
    }
    output::line("\nbacktrace")?;
    if let Some(why_not) = why_not {
        output::line(&format!("  without names and lines: {}", output::printable(why_not)))?;
    }
    for (number, frame) in backtrace.frames.iter().enumerate() {
        print_frame(number, frame)?;
    }
    output::line("\nregisters")?;
    let mut registers: Vec<_> = crash.registers.iter().collect();
    registers.sort_by_key(|(name, _)| place_of(name));
    for line in registers.chunks(4) {
        let cells = line.iter().map(|(name, value)| format!("{name:>4} {value:#010x}"));
        output::line(&output::printable(&format!("  {}", cells.collect::<Vec<_>>().join("  "))))?;
    }
    output::line(&format!(
        "  cfsr {:#010x}  hfsr {:#010x}  sfsr {:#010x}  exc_return {:#010x}",
        crash.cfsr, crash.hfsr, crash.sfsr, crash.exc_return
    ))?;
    if !crash.stack.is_empty() {
        output::line("\nstack")?;
    }
    for (number, line) in crash.stack.chunks(LINE_BYTES).enumerate() {
        let at = crash.stack_at.wrapping_add((number * LINE_BYTES) as u32);
        let words: Vec<_> = line.chunks(4).map(word).collect();
        output::line(&format!("  {at:#010x}  {}", words.join(" ")))?;
    }
    Ok(())
}

fn print_frame(number: usize, frame: &Frame) -> Result<()> {
    let guess = if frame.guessed { "?" } else { " " };
    let head = format!("  #{number:<2}{guess} {:#010x}", frame.address);
    if frame.places.is_empty() {
        return output::line(&format!("{head}  not in the program, or nothing is known of it"));
    }
    for (depth, place) in frame.places.iter().enumerate() {
        let head = if depth == 0 { head.clone() } else { " ".repeat(head.len()) };
        let function = if place.function.is_empty() { "?" } else { &place.function };
        let at = match (&place.file, place.line) {
            (Some(file), Some(line)) => format!(" at {file}:{line}"),
            (Some(file), None) => format!(" in {file}"),
            _ => String::new(),
        };
        let inlined = if place.inlined { " (inlined)" } else { "" };
        output::line(&output::printable(&format!("{head}  {function}{at}{inlined}")))?;
    }
    Ok(())
}

/// Words as the processor has them; what is left of one byte for byte.
fn word(bytes: &[u8]) -> String {
    match <[u8; 4]>::try_from(bytes) {
        Ok(word) => format!("{:08x}", u32::from_le_bytes(word)),
        Err(_) => hex::encode(bytes),
    }
}

/// Registers in their own order; what the device calls otherwise comes last.
fn place_of(name: &str) -> (usize, String) {
    const LAST: [&str; 4] = ["sp", "lr", "pc", "xpsr"];
    let number = name.strip_prefix('r').and_then(|digits| digits.parse::<usize>().ok());
    let last = LAST.iter().position(|last| *last == name).map(|at| 13 + at);
    (number.or(last).unwrap_or(usize::MAX), name.to_owned())
}

/// How much of its memory there is; nothing where none was kept.
fn memory_text(crash: &Crash) -> String {
    let kept = crash.memory_bytes.max(crash.memory_stored_bytes);
    if kept == 0 {
        String::new()
    } else {
        format!("{} of {} KiB stored", kib(crash.memory_stored_bytes), kib(kept))
    }
}

/// What gdb will not have of memory that was kept.
fn memory_warning(crash: &Crash, memory: Option<&CrashMemory>) -> Option<String> {
    let total = memory.map_or(crash.memory_bytes, |memory| memory.total_bytes);
    let there = memory.map_or(0, |memory| memory.data.len() as i64);
    (there < total).then(|| {
        format!(
            "{} of {} KiB of its memory are stored so far: the rest is not in the core file",
            kib(there),
            kib(total)
        )
    })
}

/// Tenths of a KiB.
fn kib(bytes: i64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0)
}

/// `DEVICE/CRASH`, as people type it.
fn short(name: &str) -> String {
    match name.split_once("/devices/").and_then(|(_, rest)| rest.split_once("/crashes/")) {
        Some((device, crash)) => format!("{device}/{crash}"),
        None => name.to_owned(),
    }
}

fn full(tenant: &str, name: &str) -> String {
    match name.split_once('/') {
        Some((device, crash)) if device != "tenants" => format!("{tenant}/devices/{device}/crashes/{crash}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_as_good_short_as_in_full() {
        let name = "tenants/tn1/devices/dv1/crashes/7-ab-1";
        assert_eq!(short(name), "dv1/7-ab-1");
        assert_eq!(full("tenants/tn1", &short(name)), name);
        assert_eq!(full("tenants/tn1", name), name);
        assert_eq!(full("tenants/tn1", "nonsense"), "nonsense");
    }

    #[test]
    fn memory_that_is_kept_is_told_with_what_is_stored_of_it() {
        let crash = |memory_bytes, memory_stored_bytes| Crash {
            memory_bytes,
            memory_stored_bytes,
            ..Crash::default()
        };
        assert_eq!(memory_text(&crash(65_536, 12_288)), "12.0 of 64.0 KiB stored");
        assert_eq!(memory_text(&crash(65_536, 0)), "0.0 of 64.0 KiB stored");
        // Its report is yet to say so, or comes from a device that lost what it knew.
        assert_eq!(memory_text(&crash(0, 512)), "0.5 of 0.5 KiB stored");
        assert_eq!(memory_text(&crash(0, 0)), "");
        let memory =
            |total_bytes, bytes| CrashMemory { total_bytes, data: vec![0; bytes], ..CrashMemory::default() };
        assert_eq!(memory_warning(&crash(0, 0), None), None);
        assert_eq!(memory_warning(&crash(1024, 1024), Some(&memory(1024, 1024))), None);
        assert!(memory_warning(&crash(1024, 0), None).unwrap().starts_with("0.0 of 1.0 KiB"));
        assert!(
            memory_warning(&crash(1024, 512), Some(&memory(1024, 512)))
                .unwrap()
                .starts_with("0.5 of 1.0 KiB")
        );
    }

    #[test]
    fn registers_come_in_their_own_order() {
        let mut names = ["xpsr", "r10", "lr", "r2", "odd", "pc", "sp"];
        names.sort_by_key(|name| place_of(name));
        assert_eq!(names, ["r2", "r10", "sp", "lr", "pc", "xpsr", "odd"]);
        assert_eq!((word(&[1, 2, 3, 4]), word(&[1, 2])), ("04030201".into(), "0102".into()));
    }
}
