//! Starts svc-debug-relay: configuration, logs, listeners, and runs until a signal.

use std::process::ExitCode;

use kit::command_line::{MIGRATE, run};
use svc_debug_relay::{Config, Server};

const NAME: &str = "svc-debug-relay";

#[tokio::main]
async fn main() -> ExitCode {
    run::<Config>(NAME, &[MIGRATE], async |config, typed| {
        if typed == ["migrate"] {
            return Ok(svc_debug_relay::migrate(&config).await?);
        }
        let server = Server::build(config).await?;
        kit::serve::ready(NAME, &server.listeners());
        Ok(server.run().await?)
    })
    .await
}
