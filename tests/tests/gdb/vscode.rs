//! Visual Studio Code, by the launch configurations that docs/debugging.md shows: the adapter that it runs for `gdbtarget`, over the protocol
//! that it speaks; and for `cppdbg`, whose adapter there is in the extension only, what that says to gdb.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use scenarios::an505::patient::{Debug, Patient};
use scenarios::gdb;
use scenarios::world::{PATIENCE, text};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::cppdbg::Engine;
use crate::dap::Adapter;

const PAGE: &str = include_str!("../../../docs/debugging.md");
const SECTION: &str = "### Visual Studio Code\n";
/// What stands in its configurations for what is a reader's own.
const WORKSPACE: &str = "${workspaceFolder}";
const PORT: &str = "3333";
const DEVICE: &str = "dv…";
/// Lines of the patient that are stopped at.
const IN_WORK: &str = "uint32_t sum = (uint32_t)middle(3, 4);";
const IN_LEAF: &str = "int32_t sum = a + b;";

#[tokio::test]
async fn launch_files_of_the_documentation_debug_a_device() -> Result<()> {
    let patient = Patient::new("vscode").await?;
    let (board, device) = patient.start().await?;
    let scenario = async {
        let workspace = Workspace::of(&patient)?;
        let debug = patient.debug(&device, &["--keep"]).await?;
        let port = debug.port.to_string();
        let by_port = workspace.configured("gdbtarget", "attach", &port, &device)?;
        let adapter = launched(&patient, &workspace, &by_port).await?;
        adapted(adapter, &workspace).await.context("gdbtarget, at a port")?;
        // With --keep it stands where the editor left it, until it comes again.
        let engine = Engine::launch(&workspace.configured("cppdbg", "launch", &port, &device)?).await;
        engined(engine?, &workspace).await.context("cppdbg")?;
        interrupted(debug).await?;
        it_runs(&patient, &device).await?;
        // Without a terminal: the editor starts `holdfast debug`, which ends when the editor leaves; and does so again at once, as by `Restart`.
        let by_itself = workspace.configured("gdbtarget", "launch", PORT, &device)?;
        for _ in 0..2 {
            let adapter = launched(&patient, &workspace, &by_itself).await?;
            adapted(adapter, &workspace).await.context("gdbtarget, which starts holdfast debug")?;
        }
        it_runs(&patient, &device).await
    };
    patient.world.undisturbed(&board, scenario).await?;
    board.cut_power().await
}

/// A developer's folder: the source, and what was built of it where the documentation has it.
#[derive(Debug)]
struct Workspace {
    folder: TempDir,
    source: String,
}

impl Workspace {
    fn of(patient: &Patient) -> Result<Workspace> {
        let folder = TempDir::with_prefix("holdfast-workspace-")?;
        let source = dev::root().join("gateway-firmware/apps").join(patient.image.name()).join("main.c");
        std::fs::copy(&source, folder.path().join("main.c"))?;
        std::fs::create_dir(folder.path().join("build"))?;
        std::fs::copy(patient.image.built()?, folder.path().join("build/app.elf"))?;
        Ok(Workspace { folder, source: std::fs::read_to_string(source)? })
    }

    fn main(&self) -> PathBuf {
        self.folder.path().join("main.c")
    }

    /// The number of the only line that begins so.
    fn line(&self, begins: &str) -> Result<usize> {
        let mut found =
            (1..).zip(self.source.lines()).filter(|(_, line)| line.trim_start().starts_with(begins));
        let (line, more) = (found.next(), found.next());
        let only = line.filter(|_| more.is_none());
        only.map(|(number, _)| number).with_context(|| format!("not one line begins with `{begins}`"))
    }

    /// The configuration of the documentation of this type and request, with this workspace, port and device in it.
    fn configured(&self, of: &str, request: &str, port: &str, device: &str) -> Result<Value> {
        let program = gdb::program();
        let shown = configurations()?
            .replace(WORKSPACE, text(self.folder.path())?)
            .replace(PORT, port)
            .replace(DEVICE, device)
            .replace(gdb::PROGRAM, text(Path::new(&program))?);
        let file: Value = serde_json::from_str(&shown)?;
        let all = file["configurations"].as_array().context("no configurations")?;
        let found = all.iter().find(|one| one["type"] == of && one["request"] == request);
        found.cloned().with_context(|| format!("the documentation shows no {request} of {of}"))
    }
}

/// The launch file, as it stands there.
fn configurations() -> Result<&'static str> {
    let (_, section) = PAGE.split_once(SECTION).context("the documentation has no such section")?;
    let (_, block) = section.split_once("```json\n").context("it shows no launch file")?;
    let (block, _) = block.split_once("```").context("a block without an end")?;
    Ok(block)
}

/// The adapter, with the configuration that the editor would give it.
async fn launched(patient: &Patient, workspace: &Workspace, configuration: &Value) -> Result<Adapter> {
    let holdfast = dev::binary("holdfast")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = holdfast.parent().map(PathBuf::from).into_iter().chain(std::env::split_paths(&path));
    let mut command = Command::new(dev::program("node")?);
    command
        .arg(dev::debug_adapter()?)
        .current_dir(workspace.folder.path())
        .env("PATH", std::env::join_paths(folders)?)
        .env("HOLDFAST_HOME", patient.world.path(""));
    let mut adapter = Adapter::start(command).await?;
    let request = configuration["request"].as_str().context("no request")?;
    adapter.ask(request, configuration.clone()).await?;
    adapter.event("initialized").await?;
    Ok(adapter)
}

/// What an editor's user does, from the first breakpoint to the end of debugging.
async fn adapted(mut adapter: Adapter, workspace: &Workspace) -> Result<()> {
    let main = workspace.main();
    breakpoints(&mut adapter, &main, &[(workspace.line(IN_WORK)?, None)]).await?;
    adapter.ask("configurationDone", json!({})).await?;
    loop {
        // Connecting halts it, which is told as well.
        let stop = adapter.event("stopped").await?;
        if stop["reason"] == "breakpoint" {
            break;
        }
    }
    let threads = adapter.ask("threads", json!({})).await?;
    ensure!(threads["threads"].as_array().is_some_and(|threads| threads.len() == 1), "{threads}");
    let frame = innermost(&mut adapter, &main, &["work", "main"]).await?;
    looked_at(&mut adapter, &frame).await?;
    stepped(&mut adapter, workspace).await?;
    while_it_runs(&mut adapter, workspace).await?;
    adapter.disconnect().await
}

/// Each a line, and on which condition.
async fn breakpoints(adapter: &mut Adapter, source: &Path, lines: &[(usize, Option<&str>)]) -> Result<()> {
    let wanted: Vec<_> = lines
        .iter()
        .map(|(line, condition)| match condition {
            Some(condition) => json!({ "line": line, "condition": condition }),
            None => json!({ "line": line }),
        })
        .collect();
    let asked = json!({ "source": { "path": source, "name": "main.c" }, "breakpoints": wanted });
    let set = adapter.ask("setBreakpoints", asked).await?;
    let set = set["breakpoints"].as_array().context("no breakpoints")?;
    ensure!(set.len() == lines.len(), "{set:?}");
    for (set, (line, _)) in set.iter().zip(lines) {
        ensure!(set["verified"] == true && set["line"] == *line, "{set}, not line {line}");
    }
    Ok(())
}

/// The innermost frame, which must be of these functions, and in a file that the editor can open.
async fn innermost(adapter: &mut Adapter, source: &Path, functions: &[&str]) -> Result<Value> {
    let stack = adapter.stack().await?;
    let names: Vec<_> = stack.iter().map(|frame| frame["name"].as_str().unwrap_or_default()).collect();
    ensure!(names == functions, "{names:?}, not {functions:?}");
    ensure!(stack[0]["source"]["path"] == text(source)?, "{}", stack[0]);
    Ok(stack[0].clone())
}

/// Variables, registers, watches, memory and code.
async fn looked_at(adapter: &mut Adapter, frame: &Value) -> Result<()> {
    let locals = adapter.variables(frame, "Local").await?;
    let round = named(&locals, "round")?["value"].clone();
    for (expression, value) in [
        ("rounds", &round),
        ("links[1].sample.value", &json!("50")),
        ("table[7] * 2", &json!("42")),
        ("mode", &json!("MODE_WORK")),
    ] {
        let found = adapter.evaluate(frame, expression).await?;
        ensure!(found["result"] == *value, "{expression}: {found}, not {value}");
    }
    let link = adapter.evaluate(frame, "links[2]").await?;
    let link = adapter.children(&link).await?;
    ensure!(named(&link, "next")?["value"] == "0x0", "{link:?}");
    let sample = adapter.children(named(&link, "sample")?).await?;
    ensure!(named(&sample, "value")?["value"] == "150", "{sample:?}");
    let registers = adapter.variables(frame, "Registers").await?;
    let pc = adapter.evaluate(frame, "(unsigned)$pc").await?;
    let pc: u32 = pc["result"].as_str().context("no pc")?.parse()?;
    let shown = named(&registers, "pc")?["value"].as_str().context("no pc")?;
    ensure!(shown.starts_with(&format!("{pc:#x}")), "{shown}, not {pc:#x}");
    let read =
        adapter.ask("readMemory", json!({ "memoryReference": "&table", "offset": 8, "count": 8 })).await?;
    let bytes = BASE64_STANDARD.decode(read["data"].as_str().context("no data")?)?;
    ensure!(bytes == [2, 0, 0, 0, 3, 0, 0, 0], "{bytes:?}");
    let code =
        json!({ "memoryReference": format!("{pc:#x}"), "instructionOffset": 0, "instructionCount": 4 });
    let code = adapter.ask("disassemble", code).await?;
    let first = &code["instructions"][0];
    ensure!(first["address"] == format!("0x{pc:08x}") && !first["instruction"].is_null(), "{code}");
    Ok(())
}

fn named<'a>(all: &'a [Value], name: &str) -> Result<&'a Value> {
    all.iter().find(|one| one["name"] == name).with_context(|| format!("no {name}: {all:?}"))
}

/// Into a function, out of it, over a line, and into it once more.
async fn stepped(adapter: &mut Adapter, workspace: &Workspace) -> Result<()> {
    let main = workspace.main();
    breakpoints(adapter, &main, &[(workspace.line(IN_LEAF)?, Some("a == 3"))]).await?;
    let stop = adapter.until_stopped("continue").await?;
    ensure!(stop["reason"] == "breakpoint", "{stop}");
    let frame = innermost(adapter, &main, &["leaf", "middle", "work", "main"]).await?;
    arguments(adapter, &frame, ["3", "1"]).await?;
    let stop = adapter.until_stopped("stepOut").await?;
    ensure!(stop["reason"] == "step", "{stop}");
    innermost(adapter, &main, &["middle", "work", "main"]).await?;
    adapter.until_stopped("next").await?;
    let frame = innermost(adapter, &main, &["middle", "work", "main"]).await?;
    let locals = adapter.variables(&frame, "Local").await?;
    ensure!(named(&locals, "total")?["value"] == "11" && named(&locals, "i")?["value"] == "0", "{locals:?}");
    // What is written is so: of a variable, and by an expression.
    adapter.evaluate(&frame, "links[1].sample.value = 51").await?;
    let read = adapter.evaluate(&frame, "links[0].next->sample.value").await?;
    ensure!(read["result"] == "51", "{read}");
    adapter.evaluate(&frame, "links[1].sample.value = 50").await?;
    for _ in 0..4 {
        adapter.until_stopped("stepIn").await?;
        if adapter.stack().await?[0]["name"] == "leaf" {
            break;
        }
    }
    let frame = innermost(adapter, &main, &["leaf", "middle", "work", "main"]).await?;
    arguments(adapter, &frame, ["11", "1"]).await
}

/// Of `leaf`.
async fn arguments(adapter: &mut Adapter, frame: &Value, wanted: [&str; 2]) -> Result<()> {
    let locals = adapter.variables(frame, "Local").await?;
    for (name, value) in ["a", "b"].iter().zip(wanted) {
        ensure!(named(&locals, name)?["value"] == value, "{name} is not {value}: {locals:?}");
    }
    Ok(())
}

/// It is halted, and breakpoints come to one that runs.
async fn while_it_runs(adapter: &mut Adapter, workspace: &Workspace) -> Result<()> {
    let main = workspace.main();
    breakpoints(adapter, &main, &[]).await?;
    adapter.ask("continue", json!({ "threadId": 1 })).await?;
    let stop = adapter.until_stopped("pause").await?;
    ensure!(stop["reason"] == "SIGINT", "{stop}");
    adapter.stack().await?;
    adapter.ask("continue", json!({ "threadId": 1 })).await?;
    breakpoints(adapter, &main, &[(workspace.line(IN_WORK)?, None)]).await?;
    let stop = adapter.event("stopped").await?;
    ensure!(stop["reason"] == "breakpoint", "{stop}");
    innermost(adapter, &main, &["work", "main"]).await?;
    breakpoints(adapter, &main, &[]).await?;
    adapter.ask("continue", json!({ "threadId": 1 })).await.map(drop)
}

/// The same by what the other extension says to gdb.
async fn engined(mut engine: Engine, workspace: &Workspace) -> Result<()> {
    let main = workspace.main();
    let (in_work, in_leaf) = (workspace.line(IN_WORK)?, workspace.line(IN_LEAF)?);
    let number = engine.breakpoint(&main, in_work).await?;
    let stop = engine.resume_from_launch().await?;
    ensure!(stop["reason"] == "breakpoint-hit" && stop["bkptno"] == number, "{stop}");
    let stack = engine.stack().await?;
    ensure!(stack.len() == 2 && stack[0]["func"] == "work" && stack[1]["func"] == "main", "{stack:?}");
    ensure!(stack[0]["fullname"] == text(&main)?, "{}", stack[0]);
    let of_main = engine.variables(1).await?;
    let of_work = engine.variables(0).await?;
    let value = |of: &[(String, Value)], name: &str| {
        of.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
    };
    let round = value(&of_work, "round").context("no round")?;
    ensure!(value(&of_main, "round").as_ref() == Some(&round), "{of_main:?}, {of_work:?}");
    ensure!(engine.evaluate("rounds").await?["value"] == round);
    let link = engine.evaluate("links[1]").await?;
    let link = engine.children(&link).await?;
    ensure!(link.len() == 2 && link[0]["exp"] == "sample", "{link:?}");
    let sample = engine.children(&link[0]).await?;
    ensure!(sample[1]["exp"] == "value" && sample[1]["value"] == "50", "{sample:?}");
    let names = engine.gdb.mi("-data-list-register-names").await?;
    let values = engine.gdb.mi("-data-list-register-values x").await?;
    let count = |of: &Value| of.as_array().map(|all| all.iter().filter(|one| **one != "").count());
    ensure!(count(&names["register-names"]) == count(&values["register-values"]), "{names}: {values}");
    let read = engine.gdb.mi("-data-read-memory-bytes &table 16").await?;
    ensure!(read["memory"][0]["contents"] == "01000000010000000200000003000000", "{read}");

    engine.gdb.mi("-break-delete").await?;
    engine.breakpoint(&main, in_leaf).await?;
    engine.stopped_after("-exec-continue").await?;
    let arguments = engine.variables(0).await?;
    ensure!(
        value(&arguments, "a") == Some(json!("3")) && value(&arguments, "b") == Some(json!("1")),
        "{arguments:?}"
    );
    let stop = engine.stopped_after("-exec-finish").await?;
    ensure!(stop["reason"] == "function-finished" && stop["frame"]["func"] == "middle", "{stop}");
    let stop = engine.stopped_after("-exec-next").await?;
    ensure!(stop["reason"] == "end-stepping-range", "{stop}");
    ensure!(value(&engine.variables(0).await?, "total") == Some(json!("11")));
    engine.gdb.mi("-break-delete").await?;
    for _ in 0..4 {
        let stop = engine.stopped_after("-exec-step").await?;
        if stop["frame"]["func"] == "leaf" {
            break;
        }
    }
    let arguments = engine.variables(0).await?;
    ensure!(value(&arguments, "a") == Some(json!("11")), "{arguments:?}");

    engine.gdb.mi("-exec-continue").await?;
    engine.pause().await?;
    engine.gdb.mi("-exec-continue").await?;
    let number = engine.breakpoint_while_it_runs(&main, in_work).await?;
    let stop = engine.gdb.stopped().await?;
    ensure!(stop["bkptno"] == number && stop["frame"]["func"] == "work", "{stop}");
    engine.gdb.mi("-exec-continue").await?;
    engine.stop().await
}

/// Ctrl-C at the terminal of `holdfast debug`.
async fn interrupted(debug: Debug) -> Result<()> {
    let pid = debug.pid().context("it has ended")?;
    dev::signal(i32::try_from(pid)?, dev::Signal::Interrupt)?;
    debug.ended().await
}

/// It works on, and nothing that was planted is left.
async fn it_runs(patient: &Patient, device: &str) -> Result<()> {
    let (debug, mut gdb) = patient.debugged(device, &[]).await?;
    let rounds: u32 = gdb.value("rounds").await?.parse()?;
    let goes_on = async {
        loop {
            gdb.mi("-exec-continue").await?;
            gdb.mi("-exec-interrupt").await?;
            let stop = gdb.stopped().await?;
            ensure!(stop["signal-name"] == "SIGINT", "{stop}");
            if gdb.value("rounds").await?.parse::<u32>()? > rounds + 3 {
                return anyhow::Ok(());
            }
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.context("it does not work")??;
    gdb.quit().await?;
    debug.ended().await
}
