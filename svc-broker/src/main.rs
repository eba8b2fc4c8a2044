//! The broker's process: configuration, logs, build, one line on stdout, run until the signal.

use std::process::ExitCode;

use svc_broker::{App, Config, Error, Ready};

#[tokio::main]
async fn main() -> ExitCode {
    kit::start("svc-broker");
    let config = match kit::config::load::<Config>() {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
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
    kit::serve::ready("svc-broker", &listeners);
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    let mut causes = String::new();
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push_str(": ");
        causes.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!("{error}{causes}");
    ExitCode::FAILURE
}
