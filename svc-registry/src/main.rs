//! The registry's process: configuration, logs, build, one line on stdout, run until the signal.
//!
//! `svc-registry bootstrap-code` prints a one-time code for the first administrator instead, and ends; `svc-registry trust DIR` writes
//! the roots that another broker is to trust.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use svc_registry::{Config, Service, StartError};

const NAME: &str = "svc-registry";

#[tokio::main]
async fn main() -> ExitCode {
    kit::start(NAME);
    let config = match kit::config::load::<Config>() {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => serve(config).await,
        [command] if command == "bootstrap-code" => return bootstrap_code(&config).await,
        [command, dir] if command == "trust" => svc_registry::write_trust(&config, Path::new(dir)).await,
        _ => {
            tracing::error!("usage: {NAME} [bootstrap-code | trust DIR]");
            return ExitCode::from(2);
        }
    };
    result.map_or_else(|error| failed(&error), |()| ExitCode::SUCCESS)
}

async fn serve(config: Config) -> Result<(), StartError> {
    let service = Service::build(config).await?;
    kit::serve::ready(NAME, &[("grpc", service.grpc_address()), ("metrics", service.metrics_address()?)]);
    service.run().await
}

#[expect(clippy::print_stdout, reason = "the code is the command's output, and nowhere else")]
async fn bootstrap_code(config: &Config) -> ExitCode {
    match svc_registry::bootstrap_code(config).await {
        Ok(Some(code)) => {
            println!("{code}");
            ExitCode::SUCCESS
        }
        Ok(None) => {
            tracing::error!("the installation has its administrator: sign in with that key");
            ExitCode::FAILURE
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    tracing::error!(error = kit::status::chain(error), "cannot run");
    ExitCode::FAILURE
}
