//! What the extension "C/C++" says to gdb for `cppdbg`, in its order: the engine is microsoft/MIEngine (`src/MIDebugEngine/Engine.Impl/
//! DebuggedProcess.cs`, `src/MICore/Debugger.cs`, `src/MICore/CommandFactories`), which runs only in the editor's extension, so that its commands
//! are said here in its place.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use scenarios::gdb::Gdb;
use scenarios::world::text;
use serde_json::Value;

/// The engine's end of a gdb.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) gdb: Gdb,
}

impl Engine {
    /// Does what a launch configuration says, up to where the editor sets its breakpoints.
    pub(crate) async fn launch(configuration: &Value) -> Result<Engine> {
        let of =
            |name: &str| configuration[name].as_str().with_context(|| format!("no {name}: {configuration}"));
        ensure!((of("request")?, of("MIMode")?) == ("launch", "gdb"), "{configuration}");
        ensure!(Path::new(of("miDebuggerPath")?).file_name().is_some(), "{configuration}");
        let mut gdb = Gdb::started_with(["--interpreter=mi".into()])?;
        gdb.mi("-gdb-set mi-async on").await?;
        for command in configuration["setupCommands"].as_array().context("no setupCommands")? {
            let command = command["text"].as_str().context("a command without its text")?;
            gdb.console(command).await?;
        }
        gdb.console("set pagination off").await?;
        gdb.mi(&format!("-environment-cd {}", of("cwd")?)).await?;
        gdb.mi(&format!("-file-exec-and-symbols {}", of("program")?)).await?;
        // Of another architecture it would take sizes of instructions and of addresses that are wrong here.
        let architecture = gdb.console("show architecture").await?.to_lowercase();
        let is_arm = architecture.contains("arm");
        ensure!(
            is_arm && !["x86-64", "i386", "arm64", "aarch64"].iter().any(|not| architecture.contains(not)),
            "{architecture}"
        );
        gdb.mi("-break-insert main").await?;
        gdb.mi(&format!("-target-select remote {}", of("miDebuggerServerAddress")?)).await?;
        Ok(Engine { gdb })
    }

    /// A breakpoint of the editor's, while the application stands.
    pub(crate) async fn breakpoint(&mut self, source: &Path, line: usize) -> Result<Value> {
        let set = self.gdb.mi(&format!("-break-insert -f {}:{line}", text(source)?)).await?;
        let at = set["bkpt"]["line"].as_str().and_then(|at| at.parse().ok());
        ensure!(at == Some(line) && set["bkpt"]["pending"].is_null(), "{set}");
        Ok(set["bkpt"]["number"].clone())
    }

    /// The same while it runs: it is halted for that, and goes on.
    pub(crate) async fn breakpoint_while_it_runs(&mut self, source: &Path, line: usize) -> Result<Value> {
        self.pause().await?;
        let number = self.breakpoint(source, line).await?;
        self.gdb.mi("-exec-continue").await?;
        Ok(number)
    }

    /// The editor has set its breakpoints: the stop that came of connecting is passed, if it is the nameless one that the engine awaits.
    pub(crate) async fn resume_from_launch(&mut self) -> Result<Value> {
        let first = self.gdb.stopped().await?;
        ensure!(first["reason"].is_null() && first["frame"].is_object(), "{first}");
        self.gdb.console("info sharedlibrary").await?;
        self.shown(&first).await?;
        self.stopped_after("-exec-continue").await
    }

    /// Lets it go on, and asks at its stop what the engine asks before it tells the editor.
    pub(crate) async fn stopped_after(&mut self, command: &str) -> Result<Value> {
        let stop = self.gdb.until_stopped(command).await?;
        self.shown(&stop).await?;
        Ok(stop)
    }

    /// `Pause`.
    pub(crate) async fn pause(&mut self) -> Result<Value> {
        self.gdb.mi("-exec-interrupt").await?;
        let stop = self.gdb.stopped().await?;
        ensure!(stop["reason"] == "signal-received" && stop["signal-name"] == "SIGINT", "{stop}");
        self.shown(&stop).await?;
        Ok(stop)
    }

    /// The threads, and the stack of the one that stopped: without either the engine gives up.
    async fn shown(&mut self, stop: &Value) -> Result<()> {
        let thread = stop["thread-id"].as_str().with_context(|| format!("a stop of no thread: {stop}"))?;
        let threads = self.gdb.mi("-thread-info").await?;
        let there = threads["threads"].as_array().context("no threads")?;
        ensure!(there.len() == 1 && there[0]["id"] == *thread && there[0]["state"] == "stopped", "{threads}");
        self.stack().await.map(drop)
    }

    pub(crate) async fn stack(&mut self) -> Result<Vec<Value>> {
        let stack = self.gdb.mi("-stack-list-frames 0 1000").await?;
        let frames = stack["stack"].as_array().with_context(|| format!("no frames: {stack}"))?;
        ensure!(!frames.is_empty(), "an empty stack");
        Ok(frames.clone())
    }

    /// The variables of a frame: each a variable object, as the engine makes them, with its value.
    pub(crate) async fn variables(&mut self, frame: u32) -> Result<Vec<(String, Value)>> {
        self.gdb.mi(&format!("-stack-select-frame {frame}")).await?;
        let listed = self.gdb.mi("-stack-list-variables 0").await?;
        let mut variables = Vec::new();
        for variable in listed["variables"].as_array().context("no variables")? {
            let name = variable["name"].as_str().context("a variable without a name")?.to_owned();
            let value = self.evaluate(&name).await?;
            variables.push((name, value["value"].clone()));
        }
        self.gdb.mi("-stack-select-frame 0").await?;
        Ok(variables)
    }

    /// An expression, as a variable object.
    pub(crate) async fn evaluate(&mut self, expression: &str) -> Result<Value> {
        self.gdb.mi(&format!("-var-create - * \"{expression}\"")).await
    }

    /// What is in a variable object.
    pub(crate) async fn children(&mut self, of: &Value) -> Result<Vec<Value>> {
        let name = of["name"].as_str().with_context(|| format!("no name: {of}"))?;
        let listed = self.gdb.mi(&format!("-var-list-children --simple-values \"{name}\" 0 1000")).await?;
        Ok(listed["children"].as_array().with_context(|| format!("no children: {listed}"))?.clone())
    }

    /// `Stop`, while it runs: it is halted, or at a breakpoint before that, and what was launched is to end; a device's application is let go of.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.gdb.mi("-exec-interrupt").await?;
        self.gdb.stopped().await?;
        self.gdb.mi("kill").await?;
        self.gdb.quit().await
    }
}
