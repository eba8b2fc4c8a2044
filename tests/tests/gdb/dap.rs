//! The debug adapter that Visual Studio Code runs for `gdbtarget`, spoken to as the editor does: messages of the Debug Adapter Protocol
//! (microsoft.github.io/debug-adapter-protocol), each behind its length, over stdin and stdout.

use std::collections::VecDeque;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use scenarios::world::PATIENCE;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Bytes of a message: a stack or memory is a few thousand.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The adapter knows only one.
const THREAD: u32 = 1;

/// A debug adapter, and what it said that nobody asked for yet.
#[derive(Debug)]
pub(crate) struct Adapter {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    sequence: u64,
    events: VecDeque<Value>,
    /// What it showed in the editor's console.
    console: String,
}

impl Adapter {
    /// Started by this command, and told who asks.
    pub(crate) async fn start(mut command: Command) -> Result<Adapter> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?);
        let (events, console) = (VecDeque::new(), String::new());
        let mut adapter = Adapter { child, input, output, sequence: 0, events, console };
        let client = json!({
            "clientID": "vscode", "clientName": "Visual Studio Code", "adapterID": "gdbtarget", "locale": "en",
            "pathFormat": "path", "linesStartAt1": true, "columnsStartAt1": true, "supportsVariableType": true,
            "supportsVariablePaging": true, "supportsRunInTerminalRequest": false,
        });
        let can = adapter.ask("initialize", client).await?;
        ensure!(can["supportsConfigurationDoneRequest"] == true, "{can}");
        Ok(adapter)
    }

    /// One request: what it answers, or its error.
    pub(crate) async fn ask(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.sequence += 1;
        let sequence = self.sequence;
        let request =
            json!({ "seq": sequence, "type": "request", "command": command, "arguments": arguments });
        let text = request.to_string();
        self.input.write_all(format!("Content-Length: {}\r\n\r\n{text}", text.len()).as_bytes()).await?;
        let answer = async {
            loop {
                let message = self.message().await?;
                if message["type"] == "response" && message["request_seq"] == sequence {
                    return anyhow::Ok(message);
                }
                self.note(message)?;
            }
        };
        let answer = timeout(PATIENCE, answer).await;
        let mut answer = answer.with_context(|| format!("{command} is not answered: {}", self.console))??;
        ensure!(answer["success"] == true, "{command}, asked {arguments}: {answer}; {}", self.console);
        Ok(answer["body"].take())
    }

    /// The next event of this name.
    pub(crate) async fn event(&mut self, name: &str) -> Result<Value> {
        let event = async {
            loop {
                if let Some(at) = self.events.iter().position(|event| event["event"] == name) {
                    let event = self.events.remove(at).context("it was there")?;
                    return anyhow::Ok(event["body"].clone());
                }
                let message = self.message().await?;
                self.note(message)?;
            }
        };
        let event = timeout(PATIENCE, event).await;
        event.with_context(|| format!("no event `{name}`: {}", self.console))?
    }

    /// A request that lets the application run, and why it stopped then. What was said of stops before is forgotten.
    pub(crate) async fn until_stopped(&mut self, command: &str) -> Result<Value> {
        self.events.retain(|event| event["event"] != "stopped");
        self.ask(command, json!({ "threadId": THREAD, "granularity": "line" })).await?;
        self.event("stopped").await
    }

    /// The stack, innermost frame first.
    pub(crate) async fn stack(&mut self) -> Result<Vec<Value>> {
        let all = json!({ "threadId": THREAD, "startFrame": 0, "levels": 20 });
        let stack = self.ask("stackTrace", all).await?;
        let frames = stack["stackFrames"].as_array().with_context(|| format!("no frames: {stack}"))?;
        ensure!(!frames.is_empty(), "an empty stack");
        Ok(frames.clone())
    }

    /// What the editor shows below `Variables` in one of its groups, as the frame has them.
    pub(crate) async fn variables(&mut self, frame: &Value, scope: &str) -> Result<Vec<Value>> {
        let scopes = self.ask("scopes", json!({ "frameId": frame["id"] })).await?;
        let scopes = scopes["scopes"].as_array().context("no scopes")?;
        let found = scopes.iter().find(|of| of["name"] == scope).with_context(|| format!("no {scope}"))?;
        self.children(found).await
    }

    /// What is in a variable, or in a group of them.
    pub(crate) async fn children(&mut self, of: &Value) -> Result<Vec<Value>> {
        let reference = &of["variablesReference"];
        ensure!(reference.as_u64().is_some_and(|reference| reference > 0), "{of} has nothing in it");
        let shown = self.ask("variables", json!({ "variablesReference": reference })).await?;
        Ok(shown["variables"].as_array().context("no variables")?.clone())
    }

    /// An expression, as the editor's watches ask for it.
    pub(crate) async fn evaluate(&mut self, frame: &Value, expression: &str) -> Result<Value> {
        let asked = json!({ "expression": expression, "frameId": frame["id"], "context": "watch" });
        self.ask("evaluate", asked).await
    }

    /// Ends it, as the editor does when its user stops debugging.
    pub(crate) async fn disconnect(mut self) -> Result<()> {
        self.ask("disconnect", json!({ "restart": false, "terminateDebuggee": false })).await?;
        drop(self.input);
        timeout(PATIENCE, self.child.wait()).await.context("the adapter does not end")??;
        Ok(())
    }

    async fn message(&mut self) -> Result<Value> {
        let mut length = None;
        loop {
            let mut line = String::new();
            ensure!(self.output.read_line(&mut line).await? > 0, "the adapter ended: {}", self.console);
            match line.trim_end().split_once(": ") {
                Some(("Content-Length", bytes)) => length = Some(bytes.parse::<usize>()?),
                Some(_) => {}
                None => break,
            }
        }
        let length =
            length.filter(|length| *length <= MESSAGE_BYTES_MAX).context("a message without a length")?;
        let mut text = vec![0; length];
        self.output.read_exact(&mut text).await?;
        serde_json::from_slice(&text).context("a message that is no JSON")
    }

    fn note(&mut self, message: Value) -> Result<()> {
        match message["event"].as_str() {
            Some("output") => self.console += message["body"]["output"].as_str().unwrap_or_default(),
            Some(_) => self.events.push_back(message),
            None => bail!("nobody asked for it: {message}"),
        }
        Ok(())
    }
}
