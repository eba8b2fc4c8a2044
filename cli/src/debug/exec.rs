//! Starting gdb with what it needs to know.

use std::path::Path;

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};

use crate::gdb::SAFE;

/// Seconds gdb waits for an answer; its own 2 are too few for a device that is far away, or comes back.
const TIMEOUT_S: u32 = 120;

/// What gdb cannot know by itself: it believes that there is as much hardware as it likes, and finds out when the application is to go on.
pub(crate) fn settings(hardware_breakpoints: usize) -> [String; 3] {
    [
        format!("set remotetimeout {TIMEOUT_S}"),
        format!("set remote hardware-breakpoint-limit {hardware_breakpoints}"),
        "set remote hardware-watchpoint-limit 0".to_owned(),
    ]
}

/// What to tell gdb, as its arguments.
pub(crate) fn arguments(elf: Option<&Path>, port: u16, hardware_breakpoints: usize) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-q"].iter().chain(&SAFE).map(|&argument| argument.to_owned()).collect();
    let connect = format!("target extended-remote 127.0.0.1:{port}");
    for command in settings(hardware_breakpoints).into_iter().chain([connect]) {
        arguments.extend(["-ex".to_owned(), command]);
    }
    if let Some(elf) = elf {
        arguments.push(elf.display().to_string());
    }
    arguments
}

/// Starts it on this terminal.
pub(crate) fn start(
    program: &str,
    elf: Option<&Path>,
    port: u16,
    hardware_breakpoints: usize,
) -> Result<Child> {
    let mut command = Command::new(program);
    command.args(arguments(elf, port, hardware_breakpoints)).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot start {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gdb_is_told_where_to_connect_and_which_file_it_is() {
        let arguments = arguments(Some(Path::new("a b.elf")), 1234, 4);
        assert!(arguments.contains(&"target extended-remote 127.0.0.1:1234".to_owned()));
        assert!(arguments.contains(&"set remote hardware-breakpoint-limit 4".to_owned()));
        assert_eq!(arguments.last().unwrap(), "a b.elf");
        let (safe, elf) = (arguments.iter().position(|argument| argument == SAFE[1]), arguments.len() - 1);
        assert!(safe.is_some_and(|safe| safe < elf), "scripts of the file are run: {arguments:?}");
    }
}
