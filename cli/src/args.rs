//! The command line: every command, its flags, its help.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args as ClapArgs, Parser, Subcommand};

use crate::command::{
    bootstrap, broker, bundle, claim, completion, context, crash, debug, debug_session, debugging, deploy,
    device, doctor, factory, key, keys, keyset, logs, manual, new, root, run, telemetry, tenant, token,
};

/// Update, watch and read a fleet of microcontrollers.
///
/// Sign in once with `bootstrap` (first administrator) or `context add`; every other command then acts in the
/// current context. Ids may be given short (`dv…`) or as full resource names (`tenants/…/devices/dv…`).
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, max_term_width = 110)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Global {
    /// Print JSON on stdout: one document, or one a line for streams.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Act in this context instead of the current one.
    #[arg(long, global = true, value_name = "NAME", env = "HOLDFAST_CONTEXT")]
    pub(crate) context: Option<String>,
    /// Folder of config.toml and sign-in keys.
    #[arg(long, global = true, value_name = "DIR", env = "HOLDFAST_HOME")]
    home: Option<PathBuf>,
    /// Be a part of this trace (W3C Trace Context) instead of beginning one.
    #[arg(long, global = true, value_name = "TRACE", env = "TRACEPARENT")]
    traceparent: Option<String>,
}

impl Global {
    /// What was handed down to us, whatever it says.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    pub(crate) fn home(&self) -> Result<PathBuf> {
        crate::config::home(self.home.as_deref())
    }

    pub(crate) fn cache(&self) -> Result<PathBuf> {
        crate::config::cache(self.home.as_deref())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Become the first administrator of a new installation.
    Bootstrap(bootstrap::Args),
    /// List, add, choose and show contexts.
    #[command(subcommand)]
    Context(context::Command),
    /// Print an access token for other tools (grpcurl, curl).
    Token(token::Args),
    /// Create and list tenants.
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// List, make and retire what brokers trust for devices.
    #[command(subcommand)]
    Root(root::Command),
    /// Make key files; register and list sign-in keys.
    #[command(subcommand)]
    Key(key::Command),
    /// Add, revoke and rotate the keys that devices believe, and see which devices know.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Make, sign and publish keysets step by step.
    #[command(subcommand)]
    Keyset(keyset::Command),
    /// Create claims with which boards enrol.
    #[command(subcommand)]
    Claim(claim::Command),
    /// List, watch, label, accept and revoke devices.
    #[command(subcommand)]
    Device(device::Command),
    /// Make a project for an application.
    #[command(subcommand)]
    New(new::Command),
    Run(run::Args),
    /// Create, inspect, verify and upload bundles.
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Tell one device what to run, and watch it happen.
    Deploy(deploy::Args),
    /// List, show, watch and cancel deployments.
    #[command(subcommand)]
    Deployment(deploy::Command),
    /// Read a device's log.
    Logs(logs::Args),
    /// List crash reports, and show one with the lines of the program it happened at.
    #[command(subcommand)]
    Crash(crash::Command),
    /// Read what a device's application published.
    #[command(subcommand)]
    Telemetry(telemetry::Command),
    /// Check that this machine, its context and the installation work together.
    Doctor(doctor::Args),
    Debug(Box<debug::Args>),
    /// List, show and close debug sessions, and see what happened to them.
    #[command(subcommand)]
    DebugSession(debug_session::Command),
    /// Say where debugging is forbidden: for devices, labels, or the whole tenant.
    #[command(subcommand)]
    Debugging(debugging::Command),
    /// Make the flash files of boards before their first power on, and look into one.
    #[command(subcommand)]
    Factory(factory::Command),
    /// Print rules for another MQTT broker.
    #[command(subcommand)]
    Broker(broker::Command),
    /// Print a completion script for a shell.
    Completion(completion::Args),
    /// Write man pages, or the whole reference as Markdown.
    #[command(subcommand)]
    Manual(manual::Command),
}

/// Flags of every `list` command.
#[derive(Debug, ClapArgs)]
pub(crate) struct Page {
    /// Stop after so many; 0 means all.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) limit: usize,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
