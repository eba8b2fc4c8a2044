//! One device as a task: the core, its connection and its application, turned by whichever stirs first.
//!
//! The core decides everything; this loop only moves bytes, sleeps, and reports. A device in trouble never disturbs its
//! neighbours, and its memory is fixed: three buffers, one TLS session, and the core.

use std::future::{Future, pending, poll_fn};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context as _;
use aws_lc_rs::signature::EcdsaKeyPair;
use gateway_core::device::{Device, Next};
use gateway_core::gateway::{
    Buffers, Credential, Dial, Gateway, Provisioning, RECEIVE_BYTES_MIN, SEND_BYTES_MIN,
};
use gateway_core::net::link::End;
use gateway_core::ports::{Geometry, NoFirmware, NoProbe, Ports};
use gateway_core::{Facts, Memory};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use wire::msg::LogLevel;

use crate::events::Events;
use crate::flash::FileFlash;
use crate::keys::{FastVerify, FileKeys};
use crate::ports::{FileCounter, Host, NoWatchdog, ProcessClock, ProcessStart, SystemEntropy};
use crate::provision::Provision;
use crate::script::{Line, ScriptApp};
use crate::tls::{self, OsClock};

/// Bytes of the log ring of one device.
const LOG_BYTES: usize = 16 * 1024;
/// From the first SYN to the end of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// The signed build time a release would carry: 2026-01-01.
const BUILD_TIME_S: u64 = 1_767_225_600;

/// What all devices of this process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) provision: Provision,
    pub(crate) claim: Arc<EcdsaKeyPair>,
    pub(crate) geometry: Geometry,
    pub(crate) os_clock: OsClock,
    pub(crate) events: Events,
}

type Connecting = Pin<Box<dyn Future<Output = Result<TlsStream<TcpStream>, End>> + Send>>;

/// Runs one device until `stop` changes.
pub(crate) async fn run(
    shared: Arc<Shared>,
    folder: PathBuf,
    hardware_id: String,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let (mut receive, mut send, mut log) =
        (vec![0; RECEIVE_BYTES_MIN], vec![0; SEND_BYTES_MIN], vec![0; LOG_BYTES]);
    let (mut memory, mut identity) = (Box::default(), Box::new(None));
    let buffers = Buffers {
        receive: &mut receive,
        send: &mut send,
        log: [&mut log, &mut []],
        identity: &mut identity,
        debug: None,
    };
    let clock = ProcessClock::start();
    let (device, key) =
        boot(&shared, &folder, &hardware_id, clock, &mut memory).with_context(|| hardware_id.clone())?;
    let provisioning = Provisioning {
        enroll_address: &shared.provision.enroll_address,
        claim: &shared.provision.claim_certificate,
    };
    let mut gateway = Box::new(Gateway::new(device, provisioning, buffers));

    let mut epoch = 0;
    let mut connecting: Option<Connecting> = None;
    let mut stream: Option<TlsStream<TcpStream>> = None;
    loop {
        let app_ms = run_app(&mut gateway, &shared.events, &hardware_id, clock);
        let next = gateway.poll();
        while let Some(happening) = gateway.take_happening() {
            shared.events.tell(&hardware_id, gateway.device().device_id(), happening);
        }
        let (wished, dial) = gateway.wish();
        if wished != epoch {
            (epoch, stream) = (wished, None);
            connecting = dial
                .map(|dial| connect(&shared, dial, &key, gateway.device().time_bound_s(), anchors(&gateway)));
        }
        let wake = next.min(if app_ms == u64::MAX { Next::Never } else { Next::At(app_ms) });
        tokio::select! {
            biased;
            connected = poll_connecting(&mut connecting) => {
                connecting = None;
                match connected {
                    Ok(connected) => {
                        stream = Some(connected);
                        gateway.opened(epoch);
                    }
                    Err(end) => gateway.ended(epoch, end),
                }
            }
            moved = poll_fn(|context| match &mut stream {
                Some(stream) => turn(stream, &mut gateway, context),
                None => Poll::Pending,
            }) => if let Err(end) = moved {
                stream = None;
                gateway.ended(epoch, end);
            },
            // Behind the stream: while bytes move, every turn would queue for the notice and leave the queue again.
            _ = stop.changed() => return Ok(()),
            () = sleep(wake, clock) => {}
        }
    }
}

fn boot<'m>(
    shared: &Shared,
    folder: &PathBuf,
    hardware_id: &str,
    clock: ProcessClock,
    memory: &'m mut Memory,
) -> anyhow::Result<(Device<'m, Host>, PrivatePkcs8KeyDer<'static>)> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (keys, key) = FileKeys::open(&folder.join("identity.key"), shared.claim.clone())?;
    let ports = Ports {
        flash: FileFlash::open(&folder.join("flash"), shared.geometry).context("flash")?,
        // No debugger can be attached to a script, and no memory of it kept.
        crash_flash: None,
        counter: FileCounter::open(&folder.join("counter")).context("counter")?,
        keys,
        clock,
        entropy: SystemEntropy,
        reset: ProcessStart,
        watchdog: NoWatchdog,
        app: ScriptApp::default(),
        firmware: NoFirmware,
        probe: NoProbe,
        verify: FastVerify,
    };
    let too_long = |_| anyhow::anyhow!("hardware id or board name is too long");
    let facts = Facts {
        hardware_id: heapless::String::try_from(hardware_id).map_err(too_long)?,
        board: heapless::String::try_from(shared.provision.board.as_str()).map_err(too_long)?,
        microvisor: env!("CARGO_PKG_VERSION").parse().context("version")?,
        root_key_hashes: shared.provision.root_key_hashes.iter().copied().collect(),
        root_threshold: shared.provision.root_threshold,
        build_time_s: BUILD_TIME_S,
    };
    let device =
        Device::boot(ports, facts, memory).map_err(|error| anyhow::anyhow!("boot failed: {error:?}"))?;
    Ok((device, key))
}

/// Lets the application run; returns when it wants to run again.
fn run_app(gateway: &mut Gateway<'_, Host>, events: &Events, hardware_id: &str, clock: ProcessClock) -> u64 {
    use gateway_core::ports::Clock as _;
    let mut app = std::mem::take(&mut gateway.device_mut().ports_mut().app);
    app.run(clock.now_ms(), |line| match line {
        Line::Log(text) => {
            events.app_log(hardware_id, text);
            gateway.app_log(LogLevel::Info, text);
        }
        Line::Telemetry(text) => {
            // What has no room is counted, and told with the next.
            gateway.telemetry("text/plain", text.as_bytes());
        }
        Line::Healthy => {}
    });
    let deadline_ms = app.deadline_ms();
    gateway.device_mut().ports_mut().app = app;
    deadline_ms
}

/// The trust anchors of the keyset, beside the provisioned ones.
fn anchors(gateway: &Gateway<'_, Host>) -> Vec<CertificateDer<'static>> {
    let keyset = gateway.device().keyset();
    keyset
        .iter()
        .flat_map(|keyset| &keyset.broker_anchors)
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect()
}

fn connect(
    shared: &Arc<Shared>,
    dial: Dial<'_>,
    key: &PrivatePkcs8KeyDer<'static>,
    time_bound_s: u64,
    anchors: Vec<CertificateDer<'static>>,
) -> Connecting {
    let own = |key: &PrivatePkcs8KeyDer<'static>| PrivateKeyDer::from(key.clone_key());
    let der = |bytes: &[u8]| CertificateDer::from(bytes.to_vec());
    let credential = match dial.credential {
        Credential::Claim(claim) => {
            tls::Credential { chain: vec![der(claim)], key: own(&shared.provision.claim_key) }
        }
        Credential::Birth(birth) => tls::Credential { chain: vec![der(birth)], key: own(key) },
        Credential::Chain(chain) => {
            tls::Credential { chain: chain.into_iter().map(der).collect(), key: own(key) }
        }
    };
    let anchors = shared.provision.server_ca.iter().cloned().chain(anchors);
    let config = tls::config(anchors, credential, time_bound_s, shared.os_clock);
    let address = dial.address.to_owned();
    Box::pin(async move {
        let config = config.map_err(|_| End::Unreachable)?;
        let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
        let name =
            ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).map_err(|_| End::Unreachable)?;
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, async {
            let tcp = TcpStream::connect(&address).await?;
            tcp.set_nodelay(true)?;
            TlsConnector::from(config).connect(name, tcp).await
        });
        connected.await.map_err(|_| End::Unreachable)?.map_err(|error| tls::end_of(&error, true))
    })
}

async fn poll_connecting(connecting: &mut Option<Connecting>) -> Result<TlsStream<TcpStream>, End> {
    match connecting {
        Some(connecting) => connecting.await,
        None => pending().await,
    }
}

async fn sleep(until: Next, clock: ProcessClock) {
    match until {
        Next::Now => tokio::task::yield_now().await,
        Next::At(ms) => match clock.instant(ms) {
            Some(instant) => tokio::time::sleep_until(instant.into()).await,
            None => pending().await,
        },
        Next::Never => pending().await,
    }
}

/// Moves what can be moved; ready once something was, or the stream has ended.
fn turn(
    stream: &mut TlsStream<TcpStream>,
    gateway: &mut Gateway<'_, Host>,
    context: &mut TaskContext<'_>,
) -> Poll<Result<(), End>> {
    let written = write(stream, gateway, context)?;
    let read = read(stream, gateway, context)?;
    if written || read { Poll::Ready(Ok(())) } else { Poll::Pending }
}

fn write(
    stream: &mut TlsStream<TcpStream>,
    gateway: &mut Gateway<'_, Host>,
    context: &mut TaskContext<'_>,
) -> Result<bool, End> {
    let mut moved = false;
    while !gateway.pending().is_empty() {
        match Pin::new(&mut *stream).poll_write(context, gateway.pending()) {
            Poll::Ready(Ok(0)) => return Err(End::Lost),
            Poll::Ready(Ok(count)) => gateway.sent(count),
            Poll::Ready(Err(error)) => return Err(tls::end_of(&error, false)),
            Poll::Pending => break,
        }
        moved = true;
    }
    match Pin::new(stream).poll_flush(context) {
        Poll::Ready(Err(error)) => Err(tls::end_of(&error, false)),
        _ => Ok(moved),
    }
}

/// One read a turn: an answer or a new request may be due before the next.
fn read(
    stream: &mut TlsStream<TcpStream>,
    gateway: &mut Gateway<'_, Host>,
    context: &mut TaskContext<'_>,
) -> Result<bool, End> {
    let mut buffer = ReadBuf::new(gateway.spare());
    if buffer.capacity() == 0 {
        return Ok(false);
    }
    let Poll::Ready(read) = Pin::new(stream).poll_read(context, &mut buffer) else { return Ok(false) };
    let count = buffer.filled().len();
    match read {
        Err(error) => Err(tls::end_of(&error, false)),
        Ok(()) if count == 0 => Err(End::Lost),
        Ok(()) => {
            gateway.received(count);
            Ok(true)
        }
    }
}
