//! The broker's process: configuration, logs, build, one line on stdout, run until the signal.

use std::process::ExitCode;

use svc_broker::{App, Config, Ready};

const NAME: &str = "svc-broker";

#[tokio::main]
async fn main() -> ExitCode {
    kit::command_line::run::<Config>(NAME, &[], async |config, _| {
        let app = App::build(config).await?;
        announce(app.ready());
        Ok(app.run().await?)
    })
    .await
}

fn announce(ready: Ready) {
    let Ready { device, enroll, service, grpc, metrics } = ready;
    let listeners =
        [("grpc", grpc), ("metrics", metrics), ("device", device), ("enroll", enroll), ("service", service)];
    kit::serve::ready(NAME, &listeners);
}
