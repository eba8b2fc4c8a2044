//! The life of an identity: renewal, one device root after another, copied flash, boards that take another's place. Boards that do as they
//! are told are processes (`world`); those that lie, or speak late, are played by the test (`fleet`).

mod anchors;
mod clones;
mod renewal;
mod replace;
mod roots;

use anyhow::{Context, Result, ensure};
use dev::{Service, Stack};
use scenarios::world::{self, Board, World};
use scenarios::{board, client, fleet};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An application that is content.
const GOOD: &str = "#!holdfast-script\nlog good starts\nhealthy\nlog all is well\nwork 200\nrepeat\n";

/// A field of what a command printed, as text; empty when it is not there.
fn field<'v>(value: &'v Value, key: &str) -> &'v str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The id in a resource name.
fn id(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn is_online(device: &Value) -> bool {
    field(device, "presence") == "PRESENCE_ONLINE"
}

/// A board of its own, and its device's name as soon as it is online.
async fn board_online(world: &World, state: &str, hardware_id: &str) -> Result<(Board, String)> {
    let provision = match world.path("claim/provision.json") {
        made if made.is_file() => made,
        _ => world.provision("claim", 10).await?,
    };
    let board = world.board(&provision, state, &["--hardware-id", hardware_id])?;
    let own = |device: &Value| is_online(device) && field(device, "hardware_id") == hardware_id;
    let device = world.devices(1, own).await?.pop().context("no device")?;
    Ok((board, device))
}

/// The device as soon as it is as wanted.
async fn becomes(world: &World, device: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let deadline = tokio::time::Instant::now() + world::PATIENCE;
    loop {
        let shown = world.one(&["device", "show", device]).await?;
        if wanted(&shown) {
            return Ok(shown);
        }
        ensure!(tokio::time::Instant::now() < deadline, "it never became so: {shown}");
    }
}

/// What a service counts.
async fn metrics(stack: &Stack, service: Service) -> Result<String> {
    let url = stack.metrics_url(service);
    let address = url.trim_start_matches("http://").trim_end_matches("/metrics");
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}
