//! svc-ota: configuration, then the service, until a signal.

use std::process::ExitCode;

use kit::command_line::{MIGRATE, run};
use svc_ota::{Config, Service};

const NAME: &str = "svc-ota";

#[tokio::main]
async fn main() -> ExitCode {
    run::<Config>(NAME, &[MIGRATE], async |config, typed| {
        if typed == ["migrate"] {
            return Ok(svc_ota::migrate(&config).await?);
        }
        let service = Service::build(config).await?;
        kit::serve::ready(NAME, &service.listeners());
        Ok(service.run().await?)
    })
    .await
}
