//! The same with a real board: a process that runs the core, and an application that ends.

use anyhow::{Context, Result, ensure};
use dev::Service;
use proto::logs::v1::log_service_client::LogServiceClient;
use proto::logs::v1::{ListCrashesRequest, ListTelemetryRequest};
use scenarios::client;
use scenarios::world::{PATIENCE, World};
use tokio::time::Instant;

/// Confirmed at once; then it publishes, and crashes for as long as it is started.
const CRASHES: &str = "#!holdfast-script\nhealthy\ntelemetry 21.5\nwork 3000\ncrash\n";
const QUICK: [&str; 4] = ["--trial", "4s", "--stable", "0s"];

/// The answer as soon as it is not empty.
async fn first<T>(ask: impl AsyncFn() -> Result<Vec<T>>) -> Result<Vec<T>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = ask().await?;
        if !found.is_empty() {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "nothing came");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_application_that_crashes_is_reported_with_what_ran_and_its_telemetry_is_there() -> Result<()> {
    let world = World::start().await?;
    let provision = world.provision("claim", 1).await?;
    let _board = world.board(&provision, "board", &[])?;
    let device = world.devices(1, |_| true).await?.remove(0);
    let bundle = world.bundle(CRASHES, "1.0.0", 1, &QUICK).await?;
    ensure!(world.deploy(&device, &bundle).await?.0 == "STATE_CONFIRMED");

    let token = world.cli(&["token"]).await?;
    let channel = client::channel(&world.stack, Service::Logs).await?;
    let logs = LogServiceClient::new(client::with_token(channel, token.trim())?);
    let request = ListCrashesRequest { parent: device.clone(), ..Default::default() };
    let crashes =
        first(async || Ok(logs.clone().list_crashes(request.clone()).await?.into_inner().crashes)).await?;
    let crash = crashes.last().context("the first of them")?;
    let bundle = world.one(&["bundle", "show", &bundle]).await?;
    ensure!(bundle["manifest_digest"] == crash.manifest_digest.as_str(), "{crash:?} is not of {bundle}");
    ensure!((crash.version.as_str(), crash.kind.as_str()) == ("1.0.0", "other"), "{crash:?}");
    ensure!(crash.device == device && crash.sequence == 1 && crash.uptime_us > 0, "{crash:?}");

    let request = ListTelemetryRequest { parent: device.clone(), ..Default::default() };
    let messages =
        first(async || Ok(logs.clone().list_telemetry(request.clone()).await?.into_inner().messages)).await?;
    let message = &messages[0];
    ensure!((message.content_type.as_str(), &message.data[..]) == ("text/plain", b"21.5"), "{message:?}");
    ensure!(message.sequence == 1 && message.boot == crash.boot, "{message:?}");
    Ok(())
}
