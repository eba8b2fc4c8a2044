//! svc-ota: configuration, then the service, until a signal.

use std::process::ExitCode;

use kit::status::chain;
use svc_ota::{Config, Service};

const NAME: &str = "svc-ota";

#[tokio::main]
async fn main() -> ExitCode {
    kit::start(NAME);
    let config = match kit::command_line::configured::<Config>(NAME, &[]) {
        Ok((config, _)) => config,
        Err(code) => return code,
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(error.as_ref()), "cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let service = Service::build(config).await?;
    kit::serve::ready(NAME, &service.listeners());
    Ok(service.run().await?)
}
