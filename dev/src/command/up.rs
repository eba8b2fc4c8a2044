//! `cargo dev up`: an installation of one's own until Ctrl-C.
//!
//! State is kept in `.dev/NAME`: the next `up` goes on with the same data, credentials and (when free) ports.

use std::time::Instant;

use anyhow::{Result, bail};
use dev::{Broker, Options, Service, Stack};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::cargo;
use crate::command::cli::Cli;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Which installation of this checkout; each has its own state.
    #[arg(long, default_value = "main", value_parser = name)]
    name: String,
    /// The MQTT broker that devices and services meet at.
    #[arg(long, value_enum, default_value_t)]
    broker: Broker,
    /// Everything is built already: start at once.
    #[arg(long)]
    built: bool,
}

/// Names become folders of `.dev`, beside those that `cargo dev` uses itself.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    match text {
        "" => Err("a name is needed".to_owned()),
        "run" | "cache" | "python" => Err(format!("`{text}` is used by cargo dev itself")),
        _ if !plain => Err("a name has lower-case letters, digits and dashes".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

pub(crate) async fn run(arguments: &Arguments) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let started = Instant::now();
    if !arguments.built {
        println!("building (seconds when nothing changed)");
        cargo::build_installation(false).await?;
    }
    println!("starting");
    let options = Options::all().broker(arguments.broker).keep(dev::dot_dev().join(&arguments.name));
    let starting = async {
        let stack = Stack::start(options).await?;
        let cli = Cli::new(&stack)?;
        cli.bootstrap(&stack, "demo").await?;
        anyhow::Ok((stack, cli))
    };
    let (stack, cli) = tokio::select! {
        started = starting => started?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("terminated"),
    };
    print_endpoints(&stack, &cli, &arguments.name).await?;
    println!("\nup after {:.1} s; Ctrl-C stops everything", started.elapsed().as_secs_f64());

    let fallen = tokio::select! {
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
        process = stack.first_ended() => Some(process),
    };
    println!("\nstopping");
    if let Some(process) = fallen {
        let tail = process.tail();
        drop(stack);
        bail!("{} ended by itself\n{tail}", process.name());
    }
    stack.shutdown().await
}

async fn print_endpoints(stack: &Stack, cli: &Cli, name: &str) -> Result<()> {
    for service in [Service::Registry, Service::Ota, Service::Logs, Service::DebugRelay] {
        println!(
            "{:<16} {}   (metrics {})",
            service.name(),
            stack.grpc_url(service),
            stack.metrics_url(service)
        );
    }
    println!("{:<16} devices {}, enrolment {}", "broker", stack.device_address(), stack.enroll_address());
    println!("{:<16} {}", "server CA", stack.server_ca_file().display());
    println!("{:<16} {}", "logs", stack.dir().join("logs").display());
    println!("\ntoken (15 minutes)\n{}", cli.run(&["token"]).await?);

    let name = match name {
        "main" => String::new(),
        other => format!(" --name {other}"),
    };
    println!("\ntry, in another terminal (docs/tutorial.md goes on from there)");
    println!("  eval \"$(cargo dev env{name})\"");
    println!("  holdfast keyset init --dir keys");
    println!("  holdfast claim create --devices 10 --out claim");
    println!("  board-host --provision claim/provision.json --state device --log-echo");
    println!("or an emulated Cortex-M33\n  cargo dev board{name}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn a_name_is_a_plain_folder_that_nothing_else_uses() {
        assert!(name("two-2").is_ok());
        for bad in ["", "run", "python", "../x", "A", "a/b", "."] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
