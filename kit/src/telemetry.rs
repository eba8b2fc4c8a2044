//! Logs and metrics: JSON lines on stderr, Prometheus text over HTTP. The logs' filter, `HOLDFAST_LOG` (default
//! `info`), is read here: logs begin before the configuration is read.
//!
//! The metrics port answers `GET /metrics`, `GET /livez` (200 while the process can answer) and nothing else, to a bounded number of connections at once, each with a
//! deadline; whatever is sent to it, it cannot hurt the service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

use crate::run::Shutdown;

/// Upper edges of every histogram of times (`..._seconds`): a hundred microseconds to half a minute.
const SECONDS_BUCKETS: [f64; 12] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// Connections to the metrics port served at once; more are closed.
pub const SCRAPES_MAX: usize = 8;
/// How long one scrape may take.
pub const SCRAPE_MAX: Duration = Duration::from_secs(5);
/// Longest request head that is read.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// How often histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(5);
const LOG_KEY: &str = "HOLDFAST_LOG";

/// The bound metrics port; [`Metrics::run`] serves it.
#[derive(Debug)]
pub struct Metrics {
    listener: TcpListener,
    handle: PrometheusHandle,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("metrics cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("metrics recorder is installed already")]
    Recorder,
    #[error("OTLP_ENDPOINT cannot be used")]
    Collector(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("OTLP_ENDPOINT {endpoint} begins with neither http:// nor https://")]
    CollectorScheme { endpoint: String },
}

/// Whether this is what `HOLDFAST_LOG` may be.
pub(crate) fn is_filter(text: &str) -> bool {
    EnvFilter::try_new(text).is_ok()
}

/// JSON logs on stderr. A second call changes nothing.
pub fn logs(service: &'static str) {
    let filter = EnvFilter::try_from_env(LOG_KEY).unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        tracing::info!(service, version = env!("CARGO_PKG_VERSION"), "starting");
    }
}

impl Metrics {
    /// Installs the recorder and binds; port 0 chooses.
    pub async fn bind(address: SocketAddr) -> Result<Self, TelemetryError> {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|_| TelemetryError::Recorder)?;
        Self::bind_with(address, handle).await
    }

    async fn bind_with(address: SocketAddr, handle: PrometheusHandle) -> Result<Self, TelemetryError> {
        let listener =
            TcpListener::bind(address).await.map_err(|source| TelemetryError::Listen { address, source })?;
        Ok(Self { listener, handle })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves scrapes until shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let slots = Arc::new(Semaphore::new(SCRAPES_MAX));
        let mut upkeep = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                _ = upkeep.tick() => self.handle.run_upkeep(),
                accepted = self.listener.accept() => {
                    // A full table of files is met here; the next turn of the loop tries again.
                    let Ok((stream, _)) = accepted else { tokio::task::yield_now().await; continue };
                    let Ok(slot) = slots.clone().try_acquire_owned() else { continue };
                    let handle = self.handle.clone();
                    tokio::spawn(async move {
                        let _ = timeout(SCRAPE_MAX, scrape(stream, &handle)).await;
                        drop(slot);
                    });
                }
            }
        }
    }
}

async fn scrape(mut stream: TcpStream, handle: &PrometheusHandle) -> io::Result<()> {
    let mut head = Vec::with_capacity(512);
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        if head.len() >= REQUEST_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = if head.starts_with(b"GET /metrics ") {
        ("200 OK", handle.render())
    } else if head.starts_with(b"GET /livez ") {
        ("200 OK", "ok\n".to_owned())
    } else {
        ("404 Not Found", String::new())
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        // A reset after an oversize request is as good as an end.
        let _ = timeout(SCRAPE_MAX, stream.read_to_string(&mut answer)).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_port_answers_get_metrics_and_livez_and_nothing_else() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || metrics::counter!("probe_total").increment(3));
        let metrics = Metrics::bind_with(([127, 0, 0, 1], 0).into(), handle).await.unwrap();
        let (address, shutdown) = (metrics.address().unwrap(), Shutdown::new());
        let task = tokio::spawn(metrics.run(shutdown.clone()));

        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("probe_total 3"), "{answer}");
        assert!(ask(address, b"GET /livez HTTP/1.1\r\n\r\n").await.ends_with("\r\n\r\nok\n"));
        assert!(ask(address, b"GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert_eq!(ask(address, &[b'x'; REQUEST_BYTES_MAX + 1]).await, "");

        shutdown.begin();
        task.await.unwrap();
    }
}
