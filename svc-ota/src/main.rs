//! svc-ota: configuration, then the service, until a signal.

use std::process::ExitCode;

use kit::status::chain;
use svc_ota::{Config, Service};

const NAME: &str = "svc-ota";

#[tokio::main]
async fn main() -> ExitCode {
    kit::start(NAME);
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(error.as_ref()), "stopped");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let config: Config = kit::config::load()?;
    let service = Service::build(config).await?;
    kit::serve::ready(NAME, &service.listeners());
    Ok(service.run().await?)
}
