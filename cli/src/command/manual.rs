//! `holdfast manual`: the commands' own words as man pages, and as the Markdown of docs/cli.md. Asks no server.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{CommandFactory, Subcommand};

use crate::args::Args;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write one man page a command into a folder.
    #[command(after_help = "Example:\n  holdfast manual man /usr/local/share/man/man1")]
    Man {
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Print every command with its flags, as Markdown.
    Markdown,
    /// Print what each error of the servers means, as Markdown.
    Errors,
    /// Write the FileDescriptorSet of the APIs, comments included, for grpcurl, buf and generators of code.
    #[command(
        after_help = "Example:\n  holdfast manual descriptors holdfast.binpb && grpcurl -protoset holdfast.binpb describe"
    )]
    Descriptors {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Man { dir } => {
            std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
            let written = clap_mangen::generate_to(whole(), dir);
            written.with_context(|| format!("cannot write to {}", dir.display()))
        }
        Command::Markdown => output::line(markdown().trim_end()),
        Command::Descriptors { file } => std::fs::write(file, proto::DESCRIPTORS)
            .with_context(|| format!("cannot write {}", file.display())),
        Command::Errors => output::line(proto::errors::page().trim_end()),
    }
}

/// Every command, with flags of all handed down, whatever this process's environment says.
fn whole() -> clap::Command {
    let mut command = Args::command().mut_args(|arg| arg.hide_env_values(true)).disable_help_subcommand(true);
    command.build();
    command
}

fn markdown() -> String {
    let mut text = String::from(
        "# `holdfast`, command by command\n\n\
         Printed by `holdfast manual markdown`; `holdfast manual man DIR` writes the same as man pages, `holdfast completion SHELL` a completion\n\
         script. Exit codes: 0 done, 1 anything else, 2 wrong command line, 3 server not reached, 4 not signed in or not allowed, 5 no such thing,\n\
         6 input refused, 7 update not confirmed, 8 waited in vain.\n",
    );
    describe(&whole(), "", &mut text);
    text
}

fn describe(command: &clap::Command, parent: &str, text: &mut String) {
    let name = format!("{parent}{}", command.get_name());
    // Flags of all commands are told once, at the root.
    let told = |arg: clap::Arg| {
        let hide = !parent.is_empty() && (arg.is_global_set() || arg.get_id() == "help");
        if hide { arg.hide(true) } else { arg }
    };
    let help = command.clone().mut_args(told).term_width(100).render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    text.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        describe(sub, &format!("{name} "), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_what_the_commands_say() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
        let committed = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(
            committed.trim_end(),
            markdown().trim_end(),
            "run `cargo run -p holdfast -- manual markdown > docs/cli.md`"
        );
    }

    #[test]
    fn every_command_has_a_man_page_with_its_flags() {
        let dir = tempfile::tempdir().unwrap();
        run(&Command::Man { dir: dir.path().join("man1") }).unwrap();
        let page = |name: &str| std::fs::read_to_string(dir.path().join("man1").join(name)).unwrap();
        assert!(page("holdfast.1").contains(".TH"));
        assert!(
            page("holdfast-bundle-create.1").contains("security counter")
                || page("holdfast-bundle-create.1").contains("Security counter")
        );
        fn count(command: &clap::Command) -> usize {
            1 + command.get_subcommands().map(count).sum::<usize>()
        }
        assert_eq!(std::fs::read_dir(dir.path().join("man1")).unwrap().count(), count(&whole()));
    }
}
