//! The gRPC server: TLS, explicit HTTP/2 limits, the gate, health, reflection, graceful end.
//!
//! The listener is bound before anything is served, so port 0 works and the ready line tells the truth.

mod idle;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use tokio::net::TcpListener;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::auth::Authenticator;
use crate::auth::layer::GuardLayer;
use crate::run::Shutdown;
use crate::tls::Tls;

/// Calls one connection may have open.
pub const STREAMS_MAX: u32 = 256;
/// Bytes of one call's headers.
pub const HEADERS_BYTES_MAX: u32 = 16 * 1024;
/// Flow-control window of one call: what a sender may have on the way. Below the 256 KiB that bundle.proto lets a
/// killed upload send twice: what was on the way to a call that never began is lost.
pub const STREAM_WINDOW_BYTES: u32 = 192 * 1024;
/// The same of one connection.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// Resets that may wait to be accepted (rapid reset, CVE-2023-44487).
pub const RESETS_MAX: usize = 64;
/// A connection that does not answer pings is closed after the two together.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection over which nothing comes, not even the answer to a ping, is closed after this.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long open calls may take to end once the process is to stop; below [`crate::run::DRAIN_MAX`].
pub const CALLS_MAX: Duration = Duration::from_secs(6);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("gRPC cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("gRPC server cannot start")]
    Start(#[from] tonic::transport::Error),
    #[error("descriptors cannot be served")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A bound gRPC server.
#[derive(Debug)]
pub struct Grpc {
    listener: TcpListener,
    address: SocketAddr,
}

impl Grpc {
    /// Binds; port 0 chooses.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServeError> {
        let listen = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes` behind the gate until shutdown; open calls are then given time by whoever drains.
    ///
    /// Handlers of endless streams end them when the shutdown begins; it is handed to them by the service.
    pub async fn run(
        self,
        tls: &Tls,
        authenticator: Arc<Authenticator>,
        routes: Routes,
        shutdown: Shutdown,
    ) -> Result<(), ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_service_status("", tonic_health::ServingStatus::Serving).await;
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .build_v1()?;
        let incoming = TcpIncoming::from(self.listener)
            .with_nodelay(Some(true))
            .map_ok(|stream| idle::Idle::new(stream, SILENCE_MAX));
        let cut = {
            let shutdown = shutdown.clone();
            async move {
                shutdown.wait().await;
                tokio::time::sleep(CALLS_MAX).await;
            }
        };
        let served = Server::builder()
            .tls_config(tls.grpc_server())?
            .max_concurrent_streams(STREAMS_MAX)
            .http2_max_header_list_size(HEADERS_BYTES_MAX)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_pending_accept_reset_streams(Some(RESETS_MAX))
            .http2_max_local_error_reset_streams(Some(RESETS_MAX))
            .http2_keepalive_interval(Some(PING_INTERVAL))
            .http2_keepalive_timeout(Some(PING_TIMEOUT))
            .layer(GuardLayer::new(authenticator))
            .add_routes(routes)
            .add_service(health_service)
            .add_service(reflection)
            .serve_with_incoming_shutdown(incoming, async move {
                shutdown.wait().await;
                health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
            });
        tokio::select! {
            served = served => served?,
            // A client that does not read does not even hear that it is to go.
            () = cut => tracing::warn!("open calls were cut: their time to end is over"),
        }
        Ok(())
    }
}

/// Says on stdout, in one JSON line, that the service listens: `{"ready":"svc-ota","grpc":"127.0.0.1:1234"}`.
#[expect(clippy::print_stdout, reason = "whoever started the process reads this one line")]
pub fn ready(service: &str, listeners: &[(&str, SocketAddr)]) {
    println!("{}", ready_line(service, listeners));
}

fn ready_line(service: &str, listeners: &[(&str, SocketAddr)]) -> String {
    let mut line = serde_json::Map::new();
    line.insert("ready".into(), service.into());
    for (name, address) in listeners {
        line.insert((*name).into(), address.to_string().into());
    }
    serde_json::Value::Object(line).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_one_json_object_with_every_listener() {
        let line = ready_line(
            "svc-x",
            &[("grpc", ([127, 0, 0, 1], 12).into()), ("metrics", ([0, 0, 0, 0], 13).into())],
        );
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            read,
            serde_json::json!({"ready": "svc-x", "grpc": "127.0.0.1:12", "metrics": "0.0.0.0:13"})
        );
        assert!(!line.contains('\n'));
    }
}
