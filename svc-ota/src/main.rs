//! svc-ota: configuration, then the service, until a signal.

use std::process::ExitCode;

use kit::command_line::{MIGRATE, configured};
use kit::status::chain;
use svc_ota::{Config, Service};

const NAME: &str = "svc-ota";

#[tokio::main]
async fn main() -> ExitCode {
    kit::start(NAME);
    let (config, typed) = match configured::<Config>(NAME, &[MIGRATE]) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    let result = match typed.is_empty() {
        true => run(config).await,
        false => svc_ota::migrate_only(&config).await.map_err(Into::into),
    };
    match result {
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
