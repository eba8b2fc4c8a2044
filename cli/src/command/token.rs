//! `holdfast token`: an access token for tools that speak gRPC themselves.

use anyhow::Result;

use crate::args::Global;
use crate::config::Config;
use crate::{output, session};

/// Print an access token; it is good for at most 15 minutes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  grpcurl -cacert ca.pem -H \"authorization: Bearer $(holdfast token)\" \\\n    localhost:4000 holdfast.registry.v1.DeviceService/ListDevices"
)]
pub(crate) struct Args {}

pub(crate) async fn run(global: &Global, _: &Args) -> Result<()> {
    let config = Config::load(&global.home()?)?;
    let (_, context) = config.context(global.context.as_deref())?;
    let token = session::exchange(context).await?;
    if global.json {
        return output::json("holdfast.registry.v1.ExchangeTokenResponse", &token);
    }
    output::line(&token.access_token)
}
