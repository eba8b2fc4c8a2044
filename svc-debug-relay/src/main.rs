//! Starts svc-debug-relay: configuration, logs, listeners, and runs until a signal.

use anyhow::Context;

const NAME: &str = "svc-debug-relay";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    kit::start(NAME);
    let config: svc_debug_relay::Config = kit::config::load()?;
    let server = svc_debug_relay::Server::build(config).await.context("svc-debug-relay cannot start")?;
    kit::serve::ready(NAME, &server.listeners());
    server.run().await.context("svc-debug-relay ended")
}
