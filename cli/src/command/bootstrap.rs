//! `holdfast bootstrap`: the first administrator, from the one-time code.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use proto::registry::v1::{BootstrapRequest, token_service_client::TokenServiceClient};

use crate::args::Global;
use crate::config::{Config, Context};
use crate::failure::input;
use crate::keyfile::KeyFile;
use crate::{output, session};

/// Become the first administrator of a new installation.
///
/// Makes a sign-in key, registers its public half with the one-time code that `svc-registry bootstrap-code` printed,
/// creates the first tenant, and saves a context.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  holdfast bootstrap --registry https://registry.example.com --ota https://ota.example.com \\\n    --logs https://logs.example.com --ca ca.pem --code 7Q2X-… --tenant acme"
)]
pub(crate) struct Args {
    /// Address of svc-registry.
    #[arg(long, value_name = "URL")]
    registry: String,
    /// Address of svc-ota.
    #[arg(long, value_name = "URL")]
    ota: String,
    /// Address of svc-logs.
    #[arg(long, value_name = "URL")]
    logs: String,
    /// Address of svc-debug-relay; without it there are no debug sessions.
    #[arg(long, value_name = "URL")]
    debug: Option<String>,
    /// PEM of the CA that signs the servers' certificates.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The one-time code.
    #[arg(long, env = "HOLDFAST_BOOTSTRAP_CODE", hide_env_values = true)]
    code: String,
    /// Display name of the first tenant; also names the context.
    #[arg(long, value_name = "NAME")]
    tenant: String,
}

pub(crate) async fn run(global: &Global, args: &Args) -> Result<()> {
    let home = global.home()?;
    let mut config = Config::load(&home)?;
    let name = global.context.clone().unwrap_or_else(|| args.tenant.clone());
    if config.contexts.contains_key(&name) {
        return Err(input(format!(
            "there is a context `{name}` already: choose another with --context NAME"
        )));
    }
    let ca = std::path::absolute(&args.ca)?;
    let channel = session::connect(&args.registry, &ca).await?;
    let key_file = home.join(format!("{name}.key.pem"));
    let key = KeyFile::load_or_create(&key_file)?;
    let request = BootstrapRequest {
        code: args.code.clone(),
        tenant_display_name: args.tenant.clone(),
        public_key: key.public_der()?,
    };
    let reply =
        TokenServiceClient::new(channel).bootstrap(request).await.context("cannot bootstrap")?.into_inner();
    let context = Context {
        registry: args.registry.clone(),
        ota: args.ota.clone(),
        logs: args.logs.clone(),
        debug: args.debug.clone(),
        ca,
        tenant: reply.tenant.clone(),
        key: reply.key.clone(),
        key_file,
    };
    config.contexts.insert(name.clone(), context);
    config.current = Some(name.clone());
    config.save(&home)?;
    if global.json {
        return output::json("holdfast.registry.v1.BootstrapResponse", &reply);
    }
    output::fields(&[("tenant", reply.tenant), ("key", reply.key), ("context", name)])
}
