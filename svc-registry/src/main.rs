//! The registry's process: configuration, logs, build, one line on stdout, run until the signal.
//!
//! `svc-registry bootstrap-code` prints a one-time code for the first administrator instead, and ends; `svc-registry trust DIR` writes
//! the roots that another broker is to trust.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use kit::command_line::{Extra, MIGRATE, configured};
use svc_registry::{Config, Service, StartError};

const NAME: &str = "svc-registry";
const EXTRAS: &[Extra] = &[
    Extra { usage: "bootstrap-code", about: "Print a one-time code for the first administrator" },
    MIGRATE,
    Extra { usage: "trust DIR", about: "Write the roots that a broker other than svc-broker is to trust" },
];

#[tokio::main]
async fn main() -> ExitCode {
    kit::start(NAME);
    let (config, typed) = match configured::<Config>(NAME, EXTRAS) {
        Ok(configured) => configured,
        Err(code) => return code,
    };
    let result = match typed.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["bootstrap-code"] => return bootstrap_code(&config).await,
        ["migrate"] => svc_registry::migrate(&config).await,
        ["trust", dir] => svc_registry::write_trust(&config, Path::new(dir)).await,
        _ => serve(config).await,
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
