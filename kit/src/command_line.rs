//! What every service understands when it is started: nothing, `--check-config`, `--help`, `--version`, and commands of its own.

use std::error::Error;
use std::process::ExitCode;

use crate::config::{self, Config};

/// The command line or the configuration is wrong (as for `holdfast`).
const WRONG: u8 = 2;

/// A command of one service, beside serving.
#[derive(Clone, Copy, Debug)]
pub struct Extra {
    /// As typed: `trust DIR`.
    pub usage: &'static str,
    pub about: &'static str,
}

/// Of services that keep anything in Postgres.
pub const MIGRATE: Extra =
    Extra { usage: "migrate", about: "Bring its database schema up to date, and end; serving does so too" };

/// A service's whole main: provider, logs, configuration, then `serve` with that and with what was typed of `extras` (nothing: it is
/// to serve); its error is logged.
pub async fn run<C: Config>(
    service: &'static str,
    extras: &[Extra],
    serve: impl AsyncFnOnce(C, &[&str]) -> Result<(), Box<dyn Error>>,
) -> ExitCode {
    crate::start(service);
    let (config, typed) = match configured::<C>(service, extras) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
    match serve(config, &typed).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = crate::status::chain(error.as_ref()), "cannot run");
            ExitCode::FAILURE
        }
    }
}

/// The configuration, and what else was typed: a command of `extras`, or nothing. An exit code when that was all.
#[expect(clippy::print_stdout, reason = "what was asked for is the output")]
fn configured<C: Config>(service: &str, extras: &[Extra]) -> Result<(C, Vec<String>), ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--help" | "-h"] => {
            println!("{}", help::<C>(service, extras));
            Err(ExitCode::SUCCESS)
        }
        ["--version" | "-V"] => {
            println!("{service} {}", env!("CARGO_PKG_VERSION"));
            Err(ExitCode::SUCCESS)
        }
        ["--check-config"] => {
            let report = config::check::<C>(config::variables());
            println!("{report}");
            Err(if report.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(WRONG) })
        }
        typed if typed.is_empty() || extras.iter().any(|extra| fits(extra.usage, typed)) => {
            let config = config::load().map_err(|error| {
                tracing::error!(error = crate::status::chain(&error), "cannot run");
                ExitCode::from(WRONG)
            })?;
            Ok((config, arguments))
        }
        _ => {
            eprintln!("{}", help::<C>(service, extras));
            Err(ExitCode::from(WRONG))
        }
    }
}

/// `trust DIR` is a word and any one argument.
fn fits(usage: &str, typed: &[&str]) -> bool {
    let words: Vec<&str> = usage.split(' ').collect();
    let is = |word: &str| word.chars().any(char::is_lowercase);
    words.len() == typed.len() && words.iter().zip(typed).all(|(word, typed)| !is(word) || word == typed)
}

fn help<C: Config>(service: &str, extras: &[Extra]) -> String {
    let mut text = format!(
        "Usage: {service} [COMMAND]\n\nWithout a command it serves until SIGTERM or SIGINT.\n\nCommands:\n  \
         --check-config   Show what it would run with, secrets elided, and all that is wrong; exit 2 if anything is\n  \
         --help           This\n  --version        Its version\n"
    );
    for Extra { usage, about } in extras {
        text += &format!("  {usage:<15}  {about}\n");
    }
    text += &format!(
        "\nVariables, or lower-case keys without HOLDFAST_ of the TOML file that {} names:\n",
        config::FILE
    );
    config::keys::<C>().iter().for_each(|key| text += &format!("  {key}\n"));
    text += "\nExit codes: 0 done, 1 it failed, 2 command line or configuration are wrong.";
    text
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn a_command_is_its_words_and_as_many_arguments() {
        assert!(fits("trust DIR", &["trust", "/x"]) && fits("bootstrap-code", &["bootstrap-code"]));
        assert!(
            !fits("trust DIR", &["trust"]) && !fits("trust DIR", &["other", "/x"]) && !fits("a", &["a", "b"])
        );
    }
}
