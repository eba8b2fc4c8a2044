//! `holdfast context`: installations and identities this machine knows.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use crate::args::Global;
use crate::config::{Config, Context};
use crate::failure::input;
use crate::{keyfile::KeyFile, output};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List contexts; the current one is marked.
    List,
    /// Make a context the current one.
    Use { name: String },
    /// Show one context.
    Show { name: Option<String> },
    /// Add a context for a key that an administrator registered.
    #[command(
        after_help = "Example:\n  holdfast key generate me.pem            # send the printed public key to an administrator\n  holdfast context add acme --registry https://… --ota https://… --logs https://… --ca ca.pem \\\n    --key tenants/tn…/keys/ky… --key-file me.pem"
    )]
    Add(Add),
    /// Forget a context. Its key file stays.
    Remove { name: String },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    name: String,
    #[arg(long, value_name = "URL")]
    registry: String,
    #[arg(long, value_name = "URL")]
    ota: String,
    #[arg(long, value_name = "URL")]
    logs: String,
    /// Address of svc-debug-relay; without it there are no debug sessions.
    #[arg(long, value_name = "URL")]
    debug: Option<String>,
    /// PEM of the CA that signs the servers' certificates.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Resource name of the registered key: tenants/…/keys/…
    #[arg(long, value_name = "NAME")]
    key: String,
    /// Its private half, PKCS#8 PEM.
    #[arg(long, value_name = "FILE")]
    key_file: PathBuf,
}

pub(crate) fn run(global: &Global, command: &Command) -> Result<()> {
    let home = global.home()?;
    let mut config = Config::load(&home)?;
    match command {
        Command::List => return list(global, &config),
        Command::Show { name } => return show(global, &config, name.as_deref()),
        Command::Use { name } => {
            config.context(Some(name))?;
            config.current = Some(name.clone());
        }
        Command::Add(add) => insert(&mut config, add)?,
        Command::Remove { name } => {
            config.context(Some(name))?;
            config.contexts.remove(name);
            config.current = config.current.take().filter(|current| current != name);
        }
    }
    config.save(&home)
}

fn insert(config: &mut Config, add: &Add) -> Result<()> {
    if config.contexts.contains_key(&add.name) {
        return Err(input(format!("there is a context `{}` already", add.name)));
    }
    let Some((tenant, _)) = add.key.split_once("/keys/").filter(|(tenant, _)| tenant.starts_with("tenants/"))
    else {
        return Err(input(format!("`{}` is not the resource name of a key: tenants/…/keys/…", add.key)));
    };
    KeyFile::load(&add.key_file)?;
    let context = Context {
        registry: add.registry.clone(),
        ota: add.ota.clone(),
        logs: add.logs.clone(),
        debug: add.debug.clone(),
        ca: std::path::absolute(&add.ca)?,
        tenant: tenant.to_owned(),
        key: add.key.clone(),
        key_file: std::path::absolute(&add.key_file)?,
    };
    config.contexts.insert(add.name.clone(), context);
    config.current.get_or_insert_with(|| add.name.clone());
    Ok(())
}

fn list(global: &Global, config: &Config) -> Result<()> {
    if global.json {
        return output::line(&serde_json::to_string(config)?);
    }
    let mark = |name: &str| if config.current.as_deref() == Some(name) { "*" } else { "" };
    let rows: Vec<Vec<String>> = config
        .contexts
        .iter()
        .map(|(name, context)| {
            vec![mark(name).to_owned(), name.clone(), context.tenant.clone(), context.registry.clone()]
        })
        .collect();
    output::table(&["", "NAME", "TENANT", "REGISTRY"], &rows)
}

fn show(global: &Global, config: &Config, name: Option<&str>) -> Result<()> {
    let (name, context) = config.context(name.or(global.context.as_deref()))?;
    if global.json {
        return output::line(&serde_json::to_string(context)?);
    }
    output::fields(&[
        ("name", name.to_owned()),
        ("tenant", context.tenant.clone()),
        ("key", context.key.clone()),
        ("key file", context.key_file.display().to_string()),
        ("registry", context.registry.clone()),
        ("ota", context.ota.clone()),
        ("logs", context.logs.clone()),
        ("debug", context.debug.clone().unwrap_or_default()),
        ("ca", context.ca.display().to_string()),
    ])
}
