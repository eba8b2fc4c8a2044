//! What is asked of a gdb, and what it answered: the same script for every server.

use anyhow::{Context, Result, bail};
use scenarios::gdb::Gdb;
use serde_json::{Map, Value, json};

/// gdb's name of the newest breakpoint, which its machine interface does not know.
const NEWEST: &str = "$bpnum";

/// One thing that is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Do {
    /// A command of the machine interface; what it answers counts.
    Mi(&'static str),
    /// A command as people type it; what it prints counts.
    Say(&'static str),
    /// An expression's value.
    Print(&'static str),
    /// A command after which it runs; how it stops counts.
    Run(&'static str),
    /// The same, but where it stops is another time than with another server: why counts.
    Arrive(&'static str),
    /// It goes on to the one line of this source, a `main.rs`, that begins so; how it stops there counts.
    Reach(&'static str, &'static str),
    /// It goes on, and is halted wherever it is then; that it is counts.
    Interrupt,
    /// A command that is refused; that it is counts.
    Refused(&'static str),
    /// What only has to work.
    Quietly(&'static str),
}

/// Does all of it: each with what came of it.
pub(crate) async fn examine(gdb: &mut Gdb, script: &[Do]) -> Result<Vec<(String, Value)>> {
    let mut answers = Vec::new();
    for (number, step) in script.iter().enumerate() {
        let done = step.done(gdb).await.with_context(|| format!("step {number}, {step:?}"))?;
        answers.extend(done.map(|(asked, answer)| (format!("{number}: {asked}"), answer)));
    }
    Ok(answers)
}

impl Do {
    /// What was asked, and what came of it; nothing, where that does not count.
    async fn done(self, gdb: &mut Gdb) -> Result<Option<(&'static str, Value)>> {
        Ok(Some(match self {
            Do::Mi(command) if command.contains(NEWEST) => {
                let number = gdb.value(NEWEST).await?;
                (command, essence(gdb.mi(&command.replace(NEWEST, &number)).await?))
            }
            Do::Mi(command) => (command, essence(gdb.mi(command).await?)),
            Do::Say(command) => (command, json!(said(&gdb.console(command).await?))),
            Do::Print(expression) => {
                // That there is no value to be had, where the compiler left none, is an answer too.
                let value = gdb.value(expression).await.unwrap_or_else(|error| error.to_string());
                (expression, json!(value))
            }
            Do::Run(command) => (command, essence(gdb.until_stopped(command).await?)),
            Do::Arrive(command) => (command, gdb.until_stopped(command).await?["reason"].clone()),
            Do::Reach(source, line) => {
                gdb.mi(&format!("-break-insert -t main.rs:{}", number_of(source, line)?)).await?;
                (line, essence(gdb.until_stopped("-exec-continue").await?))
            }
            Do::Interrupt => {
                gdb.mi("-exec-continue").await?;
                gdb.mi("-exec-interrupt").await?;
                ("Ctrl-C", gdb.stopped().await?["signal-name"].clone())
            }
            Do::Refused(command) => (command, json!(gdb.refused(command).await.is_ok())),
            Do::Quietly(command) => {
                gdb.console(command).await?;
                return Ok(None);
            }
        }))
    }
}

/// The number of the only line that begins so.
fn number_of(source: &str, begins: &str) -> Result<usize> {
    let mut found = (1..).zip(source.lines()).filter(|(_, line)| line.trim_start().starts_with(begins));
    match (found.next(), found.next()) {
        (Some((number, _)), None) => Ok(number),
        _ => bail!("not one line begins with `{begins}`"),
    }
}

/// What it printed, but for how fast something was.
fn said(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("Transfer rate")).map(|line| format!("{line}\n")).collect()
}

/// What says something of the application, and not of this gdb's threads and counts.
fn essence(answer: Value) -> Value {
    const NOT: [&str; 7] =
        ["thread-id", "stopped-threads", "core", "times", "bkptno", "thread-groups", "fullname"];
    match answer {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(name, _)| !NOT.contains(&name.as_str()));
            Value::Object(kept.map(|(name, value)| (name, essence(value))).collect::<Map<_, _>>())
        }
        Value::Array(all) => Value::Array(all.into_iter().map(essence).collect()),
        other => other,
    }
}
