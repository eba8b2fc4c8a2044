//! A gdb, driven through its machine interface (GDB manual, "GDB/MI").

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::world::PATIENCE;

/// The gdb that knows an Arm processor, if no other is asked for.
pub const PROGRAM: &str = "gdb-multiarch";
/// Another gdb to run every scenario with (docs/debugging.md, "Which gdb").
const PROGRAM_ASKED: &str = "HOLDFAST_TEST_GDB";

/// One gdb.
#[derive(Debug)]
pub struct Gdb {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    token: u32,
    /// `*stopped` that nobody asked for yet.
    stops: VecDeque<Value>,
    /// What it said to people since it was last asked.
    said: String,
    /// Where it stands: what it is told to write is there, and goes with it.
    _folder: TempDir,
}

/// The gdb that scenarios run.
pub fn program() -> OsString {
    std::env::var_os(PROGRAM_ASKED).filter(|asked| !asked.is_empty()).unwrap_or_else(|| PROGRAM.into())
}

impl Gdb {
    /// With this program's ELF file, and nothing of the user's.
    pub async fn start(elf: &Path) -> Result<Gdb> {
        let safe = ["-nx", "-q", "--interpreter=mi3", "-iex", "set auto-load off"].map(OsString::from);
        let mut gdb = Gdb::started_with(safe.into_iter().chain([elf.into()]))?;
        for setting in ["confirm off", "pagination off", "mi-async on", "width 0"] {
            gdb.mi(&format!("-gdb-set {setting}")).await?;
        }
        Ok(gdb)
    }

    /// With these arguments, and told nothing yet.
    pub fn started_with(arguments: impl IntoIterator<Item = OsString>) -> Result<Gdb> {
        let folder = TempDir::with_prefix("holdfast-gdb-")?;
        let program = program();
        let mut command = Command::new(&program);
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = command.kill_on_drop(true).spawn();
        let mut child = started.with_context(|| format!("starting {}", program.display()))?;
        let input = child.stdin.take().context("no stdin")?;
        let output = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Gdb {
            child,
            input,
            output,
            token: 0,
            stops: VecDeque::new(),
            said: String::new(),
            _folder: folder,
        })
    }

    /// One command of the machine interface: what it answers, or its error.
    pub async fn try_mi(&mut self, command: &str) -> Result<Result<Value, String>> {
        self.token += 1;
        let token = self.token.to_string();
        self.input.write_all(format!("{token}{command}\n").as_bytes()).await?;
        let answer = async {
            loop {
                let line = self.output.next_line().await?.context("gdb ended")?;
                if let Some(record) = line.strip_prefix(&token)
                    && let Some(result) = record.strip_prefix('^')
                {
                    return Ok(result.to_owned());
                }
                self.note(&line)?;
            }
        };
        let result: Result<String> = timeout(PATIENCE, answer).await.with_context(|| command.to_owned())?;
        let result = result?;
        let (class, rest) = result.split_once(',').unwrap_or((&result, ""));
        let value = Reader { text: rest }.results()?;
        Ok(match class {
            "done" | "running" | "connected" | "exit" => Ok(value),
            _ => Err(value["msg"].as_str().unwrap_or(class).to_owned()),
        })
    }

    /// The same, for one that works.
    pub async fn mi(&mut self, command: &str) -> Result<Value> {
        match self.try_mi(command).await? {
            Ok(value) => Ok(value),
            Err(message) => bail!("gdb, asked {command}: {message}"),
        }
    }

    /// A command as people type it; what it prints.
    pub async fn console(&mut self, command: &str) -> Result<String> {
        self.said.clear();
        let quoted = serde_json::to_string(command)?;
        self.mi(&format!("-interpreter-exec console {quoted}")).await?;
        Ok(std::mem::take(&mut self.said))
    }

    /// The same of one that fails; what it says.
    pub async fn refused(&mut self, command: &str) -> Result<String> {
        let quoted = serde_json::to_string(command)?;
        match self.try_mi(&format!("-interpreter-exec console {quoted}")).await? {
            Ok(_) => bail!("gdb did {command}"),
            Err(message) => Ok(message),
        }
    }

    /// What it said to people since it was last asked: of its own accord, while the application ran.
    pub fn heard(&mut self) -> String {
        std::mem::take(&mut self.said)
    }

    /// The value of an expression, as gdb prints it.
    pub async fn value(&mut self, expression: &str) -> Result<String> {
        let quoted = serde_json::to_string(expression)?;
        let answer = self.mi(&format!("-data-evaluate-expression {quoted}")).await?;
        let value = answer["value"].as_str().with_context(|| format!("{expression}: {answer}"))?;
        Ok(value.to_owned())
    }

    /// The next time it stopped.
    pub async fn stopped(&mut self) -> Result<Value> {
        let stopped = async {
            loop {
                if let Some(stop) = self.stops.pop_front() {
                    return Ok(stop);
                }
                let line = self.output.next_line().await?.context("gdb ended")?;
                self.note(&line)?;
            }
        };
        timeout(PATIENCE, stopped).await.context("it does not stop")?
    }

    /// Lets it go on, and waits until it stops.
    pub async fn until_stopped(&mut self, command: &str) -> Result<Value> {
        ensure!(self.stops.is_empty(), "it stopped before: {:?}", self.stops);
        self.mi(command).await?;
        self.stopped().await
    }

    /// Ends it, as its user would.
    pub async fn quit(mut self) -> Result<()> {
        self.input.write_all(b"-gdb-exit\n").await?;
        timeout(PATIENCE, self.child.wait()).await.context("gdb does not end")??;
        Ok(())
    }

    fn note(&mut self, line: &str) -> Result<()> {
        if let Some(stop) = line.strip_prefix("*stopped") {
            self.stops.push_back(Reader { text: stop.strip_prefix(',').unwrap_or("") }.results()?);
        } else if let Some(text) = line.strip_prefix('~').or_else(|| line.strip_prefix('@')) {
            let mut reader = Reader { text };
            self.said += reader.string()?.as_str();
        }
        Ok(())
    }
}

/// Reads results of the machine interface: `a="1",b={c="2"},d=["3"]`.
struct Reader<'a> {
    text: &'a str,
}

impl Reader<'_> {
    fn results(&mut self) -> Result<Value> {
        let mut all = Map::new();
        while !self.text.is_empty() && !self.text.starts_with(['}', ']']) {
            let (name, rest) = self.text.split_once('=').context("a result without a name")?;
            let name = name.to_owned();
            self.text = rest;
            let value = self.value()?;
            // A breakpoint at several places comes as several values.
            all.entry(name).or_insert(value);
            self.text = self.text.strip_prefix(',').unwrap_or(self.text);
        }
        Ok(Value::Object(all))
    }

    fn value(&mut self) -> Result<Value> {
        match self.text.as_bytes().first() {
            Some(b'"') => Ok(Value::String(self.string()?)),
            Some(b'{') => {
                self.text = &self.text[1..];
                let tuple = self.results()?;
                self.text = self.text.strip_prefix('}').context("a tuple without an end")?;
                Ok(tuple)
            }
            Some(b'[') => self.list(),
            _ => bail!("no value: {}", self.text),
        }
    }

    fn list(&mut self) -> Result<Value> {
        self.text = &self.text[1..];
        let mut all = Vec::new();
        while !self.text.starts_with(']') {
            ensure!(!self.text.is_empty(), "a list without an end");
            if !self.text.starts_with(['"', '{', '[']) {
                // A list of results: the names are all the same and say nothing.
                self.text = self.text.split_once('=').context("a result without a name")?.1;
            }
            all.push(self.value()?);
            self.text = self.text.strip_prefix(',').unwrap_or(self.text);
        }
        self.text = &self.text[1..];
        Ok(Value::Array(all))
    }

    fn string(&mut self) -> Result<String> {
        let mut string = Vec::new();
        let mut bytes = self.text.bytes().enumerate().skip(1);
        while let Some((at, byte)) = bytes.next() {
            match byte {
                b'"' => {
                    self.text = &self.text[at + 1..];
                    return Ok(String::from_utf8_lossy(&string).into_owned());
                }
                b'\\' => match bytes.next().context("a string without an end")?.1 {
                    b'n' => string.push(b'\n'),
                    b't' => string.push(b'\t'),
                    octal @ b'0'..=b'7' => {
                        let digits = [Some(octal), bytes.next().map(|d| d.1), bytes.next().map(|d| d.1)];
                        let value = digits.iter().flatten().fold(0u32, |sum, d| sum * 8 + u32::from(d & 7));
                        string.push(value as u8);
                    }
                    other => string.push(other),
                },
                byte => string.push(byte),
            }
        }
        bail!("a string without an end: {}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn results_are_read_with_tuples_lists_and_escapes() {
        let text = r#"reason="breakpoint-hit",frame={func="a\"b",args=[{name="x",value="1"}]},stack=[frame={level="0"},frame={level="1"}],e=[],t="\303\244\n""#;
        let wanted = json!({
            "reason": "breakpoint-hit",
            "frame": {"func": "a\"b", "args": [{"name": "x", "value": "1"}]},
            "stack": [{"level": "0"}, {"level": "1"}],
            "e": [],
            "t": "ä\n",
        });
        assert_eq!(Reader { text }.results().unwrap(), wanted);
        for bad in ["a", "a=", "a={", "a=[", "a=\"x", "a=\"\\"] {
            assert!(Reader { text: bad }.results().is_err(), "{bad}");
        }
    }
}
