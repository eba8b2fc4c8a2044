//! Starts svc-logs: configuration, logs, listeners, and runs until a signal.

use anyhow::Context;

const NAME: &str = "svc-logs";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::start(NAME);
    let config: svc_logs::Config = kit::config::load()?;
    let server = svc_logs::Server::build(config).await.context("svc-logs cannot start")?;
    kit::serve::ready(NAME, &server.listeners());
    server.run().await.context("svc-logs ended")
}
