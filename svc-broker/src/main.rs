//! The broker's process: configuration, logs, build, one line on stdout, run until the signal.

use std::process::ExitCode;

use svc_broker::{App, Config, Error, Ready};

const NAME: &str = "svc-broker";

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
            tracing::error!(error = kit::status::chain(&error), "cannot run");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Error> {
    let app = App::build(config).await?;
    announce(app.ready());
    app.run().await
}

fn announce(ready: Ready) {
    let Ready { device, enroll, service, grpc, metrics } = ready;
    let listeners =
        [("grpc", grpc), ("metrics", metrics), ("device", device), ("enroll", enroll), ("service", service)];
    kit::serve::ready(NAME, &listeners);
}
