//! The registry's process: configuration, logs, build, one line on stdout, run until the signal.
//!
//! `svc-registry bootstrap-code` prints a one-time code for the first administrator instead, and ends; `svc-registry trust DIR` writes
//! the roots that another broker is to trust.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use kit::command_line::{Extra, MIGRATE, run};
use svc_registry::{Config, Service};

const NAME: &str = "svc-registry";
const EXTRAS: &[Extra] = &[
    Extra { usage: "bootstrap-code", about: "Print a one-time code for the first administrator" },
    MIGRATE,
    Extra { usage: "trust DIR", about: "Write the roots that a broker other than svc-broker is to trust" },
];

#[tokio::main]
async fn main() -> ExitCode {
    run::<Config>(NAME, EXTRAS, async |config, typed| match typed {
        ["bootstrap-code"] => bootstrap_code(&config).await,
        ["migrate"] => Ok(svc_registry::migrate(&config).await?),
        ["trust", dir] => Ok(svc_registry::write_trust(&config, Path::new(dir)).await?),
        _ => serve(config).await,
    })
    .await
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let service = Service::build(config).await?;
    kit::serve::ready(NAME, &[("grpc", service.grpc_address()), ("metrics", service.metrics_address()?)]);
    Ok(service.run().await?)
}

#[expect(clippy::print_stdout, reason = "the code is the command's output, and nowhere else")]
async fn bootstrap_code(config: &Config) -> Result<(), Box<dyn Error>> {
    let code = svc_registry::bootstrap_code(config).await?;
    println!("{}", code.ok_or("the installation has its administrator: sign in with that key")?);
    Ok(())
}
