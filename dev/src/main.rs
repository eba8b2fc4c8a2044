//! `cargo dev`: set up the machine, run a whole installation, show it, test it, measure it, clean up.
//!
//! It runs binaries and cargo; it contains nothing of the product. All state is in `.dev/` of this checkout, so two copies of the
//! repository run side by side.

#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod command;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use command::{bench, board, ci, demo, env, firmware, proto, reset, setup, soak, test, up};

/// Everything one does in this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find what this machine lacks, and install it where that is allowed.
    #[command(
        after_help = "Examples:\n  cargo dev setup          # installs with apt when root or with passwordless sudo, else prints the command\n  cargo dev setup --check  # only says what is missing; exit 1 when anything is"
    )]
    Setup(setup::Arguments),
    /// Start an installation of your own and keep it until Ctrl-C.
    #[command(
        after_help = "Examples:\n  cargo dev up              # state in .dev/main, kept: the next `up` goes on with the same data\n  cargo dev up --name two   # a second one beside it\n  cargo dev up --name other --broker mosquitto   # mosquitto instead of svc-broker"
    )]
    Up(up::Arguments),
    /// Print what makes a shell speak to an installation that `up` runs.
    #[command(
        after_help = "Examples:\n  eval \"$(cargo dev env)\" && holdfast device list\n  eval \"$(cargo dev env --name two)\""
    )]
    Env(env::Arguments),
    /// Build the firmware of the emulated board, and say what it takes of the chip.
    #[command(
        after_help = "Examples:\n  cargo dev firmware\n  cargo dev firmware --app first --compiler debian   # without rustup's target"
    )]
    Firmware(firmware::Arguments),
    /// Run one emulated board against an installation that `up` runs, until Ctrl-C.
    #[command(
        after_help = "Examples (with `cargo dev up` in another terminal):\n  cargo dev board                     # a new board each time\n  cargo dev board --flash one.flash   # the same board again\n  cargo dev board --name two --gdb    # gdb-multiarch may attach to localhost:3333\n  cargo dev board --icount            # its clock follows its instructions"
    )]
    Board(board::Arguments),
    /// Show the main job on real parts: enrol, update, and a bad update taken back.
    #[command(
        after_help = "Example:\n  cargo dev demo   # sets up, builds, runs; ends with a table, and exit 0 when all of it worked"
    )]
    Demo(demo::Arguments),
    /// Build everything once and run the tests, all or those whose name contains the filter.
    #[command(
        after_help = "Examples:\n  cargo dev test\n  cargo dev test revoked   # every test with `revoked` in its name\n  cargo dev test -p wire   # one package\n  cargo dev test soak-power   # a soak, as `cargo dev soak power`"
    )]
    Test(test::Arguments),
    /// Measure, all benchmarks or one.
    #[command(
        after_help = "Examples:\n  cargo dev bench\n  cargo dev bench update --json   # one JSON object a line\n  cargo dev bench --check         # fails below tests/bench-thresholds.toml"
    )]
    Bench(bench::Arguments),
    /// Attack a part for a long time with what follows from a seed, and see that it holds.
    #[command(
        after_help = "Examples:\n  cargo dev soak broker                             # 50,000 hostile connections, another seed each time\n  cargo dev soak broker --connections 2000 --seed 7\n  cargo dev soak broker --seed 7 --first 1234 --connections 1   # one conversation again, alone\n  cargo dev soak power                              # every flash operation of an update cut in every way"
    )]
    Soak(soak::Arguments),
    /// Check the .proto files with buf, or renew the baseline they are compared with.
    #[command(
        after_help = "Examples:\n  cargo dev proto check      # lint, and what would break a client\n  cargo dev proto baseline   # a break that is meant; commit proto/baseline.binpb"
    )]
    Proto(proto::Arguments),
    /// Stop what still runs from this checkout and remove `.dev`.
    #[command(after_help = "Example:\n  cargo dev reset")]
    Reset(reset::Arguments),
    /// What continuous integration checks: format, lints, licences and sources, build, tests; seconds for each.
    #[command(after_help = "Examples:\n  cargo dev ci\n  cargo dev ci --only clippy")]
    Ci(ci::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse().command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of reasons; a backtrace says nothing about a missing program.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Setup(arguments) => setup::run(&arguments).await,
        Command::Up(arguments) => up::run(&arguments).await,
        Command::Env(arguments) => env::run(&arguments),
        Command::Firmware(arguments) => firmware::run(&arguments).await,
        Command::Board(arguments) => board::run(&arguments).await,
        Command::Demo(arguments) => demo::run(&arguments).await,
        Command::Test(arguments) => test::run(&arguments).await,
        Command::Bench(arguments) => bench::run(&arguments).await,
        Command::Soak(arguments) => soak::run(&arguments).await,
        Command::Proto(arguments) => proto::run(&arguments),
        Command::Reset(arguments) => reset::run(&arguments).await,
        Command::Ci(arguments) => ci::run(&arguments).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
