//! What is asked of a gdb, and what it answered: the same script for every server.

use anyhow::Result;
use scenarios::gdb::Gdb;
use serde_json::{Map, Value, json};

/// One thing that is done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Do {
    /// A command of the machine interface; what it answers counts.
    Mi(&'static str),
    /// A command as people type it; what it prints counts.
    Say(&'static str),
    /// An expression's value.
    Value(&'static str),
    /// A command after which it runs; how it stops counts.
    Run(&'static str),
    /// The same, but where it stops is another time than with another server: why counts.
    Arrive(&'static str),
    /// A command that is refused; that it is counts.
    Refused(&'static str),
    /// What only has to work.
    Quietly(&'static str),
}

use Do::{Arrive, Mi, Quietly, Refused, Run, Say, Value as Print};

/// From any moment of the patient's. Nothing in here may depend on when that is, but for what `differences` names.
pub(crate) const SCRIPT: &[Do] = &[
    Mi("-break-insert work"),
    Arrive("-exec-continue"),
    Mi("-break-delete 1"),
    // From here on every round is the same.
    Quietly("set var rounds = 7"),
    Quietly("set var result = 0"),
    Quietly("set var changing[0] = 0x2007"),
    Quietly("set var round = 7"),
    Quietly("up"),
    Quietly("set var round = 7"),
    Quietly("down"),
    Print("rounds"),
    Print("mode"),
    Print("links[1]"),
    Print("links[0].next->sample.name"),
    Print("*links[2].sample.raw@2"),
    Print("&links[2] == links[1].next"),
    Print("table"),
    Print("table[3] + table[4]"),
    Print("sizeof(struct link)"),
    Print("&links"),
    Print("changing"),
    Print("(enum mode) 3"),
    Print("MODE_EXCLUSIVE"),
    Print("$pc"),
    Print("$sp"),
    Print("$lr"),
    Print("$r7"),
    Print("$xpsr & 0xff"),
    Say("backtrace"),
    Say("info args"),
    Say("info frame"),
    Say("info source"),
    Say("info line work"),
    Say("info symbol middle"),
    Say("info registers pc sp lr"),
    Say("ptype struct link"),
    Say("whatis links[0].sample.value"),
    Say("list leaf"),
    Say("x/8xw table"),
    Say("x/4dh changing"),
    Say("x/s links[1].sample.name"),
    Say("x/5i work"),
    Say("disassemble /r leaf"),
    Mi("-stack-list-frames"),
    Mi("-stack-info-depth"),
    Mi("-data-read-memory-bytes table 32"),
    Run("-exec-step"),
    Say("info locals"),
    Say("info args"),
    Run("-exec-next"),
    Run("-exec-next"),
    Say("info locals"),
    Run("-exec-next"),
    Say("backtrace"),
    Mi("-break-insert leaf"),
    Run("-exec-continue"),
    Say("backtrace"),
    Say("up"),
    Say("info locals"),
    Say("down"),
    Print("a + b"),
    Run("-exec-finish"),
    Say("info breakpoints"),
    Mi("-break-disable 2"),
    Mi("-break-insert -c \"n == 2\" depth"),
    Run("-exec-continue"),
    Print("n"),
    Say("backtrace"),
    Run("-exec-next"),
    Print("&kept"),
    Mi("-break-delete 3"),
    Run("-exec-finish"),
    Run("-exec-finish"),
    Mi("-break-insert -t chosen"),
    Run("-exec-continue"),
    Print("which"),
    Run("-exec-next"),
    Run("-exec-next"),
    Run("-exec-until"),
    Mi("-break-insert -t walked"),
    Run("-exec-continue"),
    Print("*first"),
    Print("first->next->next->sample.value"),
    Run("-exec-next-instruction"),
    Print("$pc"),
    Run("-exec-step-instruction"),
    Print("$pc"),
    Run("-exec-step-instruction"),
    Print("$pc"),
    Run("-exec-step-instruction"),
    Print("$pc"),
    Say("x/2i $pc"),
    // Writing.
    Quietly("set var links[1].sample.value = 1234"),
    Print("links[1].sample"),
    Quietly("set var links[1].sample.value = 50"),
    Mi("-data-write-memory-bytes &links[2].sample.raw 0a0b0c0d"),
    Print("links[2].sample.raw"),
    Quietly("set var links[2].sample.raw = {1, 2, 3, 4}"),
    Quietly("set $r12 = 0x55"),
    Print("$r12"),
    Print("leaf(2, 3)"),
    Print("depth(4)"),
    Print("table[7] * 2"),
    // What it rewrites itself is read anew.
    Mi("-break-insert -t changed"),
    Run("-exec-continue"),
    Print("changing"),
    Run("-exec-finish"),
    Print("changing"),
    Print("result"),
    // What there is not.
    Refused("print nothing_of_that_name"),
    Refused("x/1xw 0x10000000"),
    Refused("x/1xw 0x38000000"),
    Refused("set {int}0x38000000 = 1"),
    // And round again.
    Mi("-break-insert -t work"),
    Run("-exec-continue"),
    Print("result"),
    Print("rounds"),
];

/// Does all of it: each with what came of it.
pub(crate) async fn examine(gdb: &mut Gdb, script: &[Do]) -> Result<Vec<(String, Value)>> {
    let mut answers = Vec::new();
    for (number, step) in script.iter().enumerate() {
        let (asked, answer) = match *step {
            Mi(command) => (command, essence(gdb.mi(command).await?)),
            Say(command) => (command, json!(gdb.console(command).await?)),
            Print(expression) => (expression, json!(gdb.value(expression).await?)),
            Run(command) => (command, essence(gdb.until_stopped(command).await?)),
            Arrive(command) => (command, gdb.until_stopped(command).await?["reason"].clone()),
            Refused(command) => (command, json!(gdb.refused(command).await.is_ok())),
            Quietly(command) => {
                gdb.console(command).await?;
                continue;
            }
        };
        answers.push((format!("{number}: {asked}"), answer));
    }
    Ok(answers)
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
