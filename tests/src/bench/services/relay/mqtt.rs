//! The MQTT half alone: this process speaks to the device as a relay would, and keeps nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use dev::{Service, Stack};
use kit::Shutdown;
use kit::config::TlsFiles;
use kit::mqtt::LinkSetup;
use kit::tls::Tls;
use prost::Message;
use proto::device::v1::{DebugDown, DebugUp};
use tokio::time::timeout;
use wire::{Channel, DebugSessionId, RelayId, Topic};

use super::{PATIENCE, US};
use crate::board::Enrolled;

/// Bytes that may wait here.
const INCOMING_BYTES_MAX: usize = 1 << 20;
/// Names nobody else has in a stack of this bench's own.
const RELAY: RelayId = RelayId::new([0x5e; 16]);
const SESSION: DebugSessionId = DebugSessionId::new([0x5e; 16]);

/// Microseconds of each of `count` rounds, after some that do not count.
pub(super) async fn rounds(
    stack: &Stack,
    enrolled: &Enrolled,
    warm_up: usize,
    count: usize,
    bytes: usize,
) -> Result<Vec<f64>> {
    let environment: BTreeMap<_, _> = stack.environment(Service::DebugRelay).into_iter().collect();
    let tls = Tls::load(&files(&environment)?)?;
    let broker = environment.get("HOLDFAST_BROKER_URL").context("no broker")?;
    let shutdown = Shutdown::new();
    let mut setup = LinkSetup::new(wire::Service::Relay, broker, &tls)?;
    let mut incoming = setup.subscribe_debug(RELAY, INCOMING_BYTES_MAX);
    let (link, keep_connected) = setup.start(shutdown.clone());
    let connected = tokio::spawn(keep_connected);
    let mut state = link.connected();
    timeout(PATIENCE, state.wait_for(|up| *up)).await.context("the broker is not reached")??;

    let topic = Topic::down(enrolled.id().parse()?, Channel::Debug(RELAY));
    let mut times = Vec::with_capacity(count);
    let mut known = 0;
    for round in 1..=(warm_up + count) as u64 {
        let began = Instant::now();
        let down = DebugDown {
            session: SESSION.to_string(),
            epoch: 1,
            open: round == 1,
            number: round,
            data: vec![b'x'; bytes].into(),
            received_up_to: known,
            delivered_up_to: known,
            credit_up_to: known + 32,
            ..DebugDown::default()
        };
        link.send(&topic, down.encode_to_vec()).await?;
        while known < round {
            let message = timeout(PATIENCE, incoming.recv()).await.context("the device is silent")?;
            known = known.max(DebugUp::decode(message.context("the link ended")?.payload)?.number);
        }
        if round > warm_up as u64 {
            times.push(began.elapsed().as_secs_f64() * US);
        }
    }
    shutdown.begin();
    connected.await?;
    Ok(times)
}

fn files(environment: &BTreeMap<String, String>) -> Result<TlsFiles> {
    let file = |key: &str| environment.get(key).map(PathBuf::from).with_context(|| format!("no {key}"));
    Ok(TlsFiles {
        cert: file("HOLDFAST_TLS_CERT")?,
        key: file("HOLDFAST_TLS_KEY")?,
        service_ca: file("HOLDFAST_SERVICE_CA")?,
        service_cert: file("HOLDFAST_SERVICE_CERT")?,
        service_key: file("HOLDFAST_SERVICE_KEY")?,
        server_ca: file("HOLDFAST_SERVER_CA")?,
    })
}
